"""What a theorem promises, when it does not apply, and the verdict of a comparison."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Numbers
from gaunlearn_jax.base.codes import Reason, Status, Verdict
from gaunlearn_jax.base.show import Shown


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class Bound(Shown):
    """(epsilon, delta, tau) that a theorem promises; `reason` is a `Reason` code, APPLIES where it promises them."""

    epsilon: Float[Array, "..."]
    delta: Float[Array, "..."]
    tau: Float[Array, "..."]
    reason: Int[Array, "..."]

    @property
    def applicable(self) -> Any:
        """Whether every hypothesis of the bound holds."""
        return self.reason == Reason.APPLIES


def first_failing(*conditions: tuple[Any, Reason]) -> Any:
    """The reason of the first condition that is false, APPLIES if none is."""
    xp = numerics.array_namespace(*(holds for holds, _ in conditions))
    reason = xp.asarray(int(Reason.APPLIES))
    for holds, code in reversed(conditions):
        reason = xp.where(holds, reason, int(code))
    return reason


def bound_of(epsilon: Any, delta: Any, tau: Any, reason: Any) -> Bound:
    """A Bound whose parts have one common shape."""
    xp = numerics.array_namespace(epsilon, delta, tau, reason)
    return Bound(*xp.broadcast_arrays(*map(xp.asarray, (epsilon, delta, tau, reason))))


def mark_empty(bound: Bound, trivial_epsilon: Array) -> Bound:
    """EMPTY where the bound allows what a feasible point without multipliers attains (||theta_tilde||), or tau >= 2."""
    says = (bound.epsilon < trivial_epsilon) & (bound.tau < 2)
    return dataclasses.replace(bound, reason=jnp.where(bound.applicable & ~says, int(Reason.EMPTY), bound.reason))


def judge(lhs: Numbers, rhs: Numbers, error: Numbers, applicable: Any, converged: Any) -> Int[Array, "..."]:
    """Verdict code of lhs <= rhs given the error of the difference; NaN counts as unconverged."""
    lhs, rhs = jnp.asarray(lhs), jnp.asarray(rhs)
    verdict = jnp.where(
        lhs <= rhs - error,
        int(Verdict.HOLDS),
        jnp.where(lhs > rhs + error, int(Verdict.VIOLATED), int(Verdict.INCONCLUSIVE)),
    )
    solved = jnp.asarray(converged) & ~(jnp.isnan(lhs) | jnp.isnan(rhs))
    verdict = jnp.where(solved, verdict, int(Verdict.UNCONVERGED))
    return jnp.where(applicable, verdict, jnp.where(converged, int(Verdict.NOT_APPLICABLE), int(Verdict.UNCONVERGED)))


def converged(*statuses: Array) -> Bool[Array, "..."]:
    """Whether every status is OK (a trained network's own NOT_SEPARATED is reported by its suite)."""
    good = jnp.asarray(True)
    for status in statuses:
        good = good & (status == int(Status.OK))
    return good
