"""One comparison of a claim, and tallies over lanes.

A `Check` is lhs <= rhs with what is needed to judge it; the verdict itself is `gaunlearn_jax.bounds.judge`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gaunlearn_jax import bounds
from gaunlearn_jax._types import Reason, Verdict


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
    """A Check of float64 scalars from numbers or arrays."""
    return Check(
        lhs=jnp.asarray(lhs, jnp.float64),
        rhs=jnp.asarray(rhs, jnp.float64),
        error=jnp.asarray(error, jnp.float64),
        reason=jnp.asarray(reason, jnp.int32),
        converged=jnp.asarray(converged, bool),
        discriminating=jnp.asarray(discriminating, jnp.float64),
    )


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


def tally(values: Check, seeds: np.ndarray) -> dict[str, Any]:
    """Counts per verdict over lanes, the failing hypotheses, the share discriminating, and the worst ratio with its
    seed and sides."""
    arrays = Check(*np.broadcast_arrays(*values))  # type: ignore[arg-type]
    verdict = np.asarray(arrays.verdict())
    judged = np.isin(verdict, [Verdict.HOLDS, Verdict.VIOLATED, Verdict.INCONCLUSIVE])
    row: dict[str, Any] = {v.name.lower(): int(np.sum(verdict == v)) for v in Verdict}
    row["reasons"] = {
        Reason(code).text: int(np.sum((verdict == Verdict.NOT_APPLICABLE) & (arrays.reason == code)))
        for code in np.unique(arrays.reason[verdict == Verdict.NOT_APPLICABLE])
    }
    meaningful = judged & np.isfinite(arrays.discriminating)
    row["discriminating"] = float(np.mean(arrays.discriminating[meaningful])) if meaningful.any() else None
    row |= dict.fromkeys(("worst_ratio", "worst_seed", "worst_lhs", "worst_rhs"))
    if judged.any():
        ratios = np.where(judged, ratio(arrays.lhs, arrays.rhs), -np.inf)
        bad = verdict == Verdict.VIOLATED
        at = int(np.argmax(np.where(bad, ratios, -np.inf) if bad.any() else ratios))
        row |= {"worst_ratio": float(ratios[at]), "worst_seed": int(seeds[at])}
        row |= {"worst_lhs": float(arrays.lhs[at]), "worst_rhs": float(arrays.rhs[at])}
    return row
