"""One comparison of a claim, and tallies over lanes.

A `Check` is lhs <= rhs with what is needed to judge it; the verdict itself is `gaunlearn_jax.bounds.judge`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.codes import Reason
from gaunlearn_jax.base.rounding import arithmetic
from gaunlearn_jax.theory import bounds
from gaunlearn_jax.theory.worthwhile import TIE


def exactness() -> float:
    """The part of a norm by which an exact statement may be off: 225 roundings, far below anything a theorem says."""
    return 225 * arithmetic().unit


class Check(NamedTuple):
    """lhs <= rhs, the error of the difference, the failing hypothesis (`Reason`, APPLIES if none), whether the solvers
    converged, and whether the bound discriminates here (1, 0, or NaN where the question has no meaning)."""

    lhs: Array
    rhs: Array
    error: Array
    reason: Array
    converged: Array
    discriminating: Array

    def verdict(self) -> Array:
        return bounds.judge(self.lhs, self.rhs, self.error, self.reason == int(Reason.APPLIES), self.converged)


def check(
    lhs: Any, rhs: Any, error: Any = 0.0, *, reason: Any = 0, converged: Any = True, discriminating: Any = jnp.nan
) -> Check:
    """A Check of float64 scalars from numbers or arrays; where both sides may have vanished it is inconclusive."""
    floor = arithmetic().floor
    error = jnp.asarray(error, jnp.float64)
    return Check(
        lhs=jnp.asarray(lhs, jnp.float64),
        rhs=jnp.asarray(rhs, jnp.float64),
        error=error + floor if floor else error,
        reason=jnp.asarray(reason, jnp.int32),
        converged=jnp.asarray(converged, bool),
        discriminating=jnp.asarray(discriminating, jnp.float64),
    )


def gaps_in_order(step: Any, nothing: Any, **judged: Any) -> Check:
    """1 - cos of an angle against that of another; angles are not told apart within `worthwhile.TIE`."""
    low, high = (numerics.gap_of_angle(jnp.asarray(angle)) for angle in (step, nothing))
    return check(low, high, TIE * jnp.sqrt(2 * high) + TIE**2, **judged)


def worst(lhs: Array, rhs: Array, error: Array, where: Array) -> tuple[Array, Array, Array]:
    """(lhs, rhs, error) of the comparison nearest to violation among many; (0, 1, 0) if there is none."""
    room = jnp.where(where, rhs - lhs - error, jnp.inf)
    at = jnp.argmin(room)
    some = jnp.any(where)
    pick = [jnp.ravel(jnp.broadcast_to(v, room.shape))[at] for v in (lhs, rhs, error)]
    return jnp.where(some, pick[0], 0.0), jnp.where(some, pick[1], 1.0), jnp.where(some, pick[2], 0.0)


def ratio(lhs: Any, rhs: Any) -> np.ndarray:
    """lhs / rhs, with 0/0 = 0 and anything else over 0 infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(lhs == 0, 0.0, np.where(rhs == 0, np.inf, lhs / rhs))
