"""The solver of the dual programme: Newton guesses the sets; where its guesses cycle, an interior-point pass supplies
them and Newton finishes. Every answer is re-measured by the caller (docs/theory, Dual programme)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int

from gaunlearn_jax.base.arrays import PerConstraint
from gaunlearn_jax.kkt.interior import interior
from gaunlearn_jax.kkt.newton import CALM, newton, quick_newton, start
from gaunlearn_jax.kkt.programme import FAR, LOWER, TOL, Programme, Solution, State, unbounded, unit_scaled

#: violation up to which an answer counts as solved; callers measure what it leaves in epsilon
ACCEPT = 1e-11


def solve(programme: Programme, pairs: Int[Array, "n e"]) -> Solution:
    """Solve one programme: quick Newton steps that begin with every free pair in its place of `pairs` (see
    `programme.places`), then if need be a round of Newton and one of interior point and Newton.

    Under vmap, lanes that are done cost nothing but their place in the batch, and what no lane needs costs nothing.
    """
    scaled, unit = unit_scaled(programme)

    def unfinished(carry: tuple[State, Array]) -> Array:
        # sets that stand still solve it: more rounds would not bring what rounding leaves below TOL
        settled = (carry[0].calm >= CALM) & (carry[0].best.violation <= ACCEPT)
        return (carry[0].best.violation > TOL) & (carry[1] < 2) & ~settled

    def attempt(carry: tuple[State, Array]) -> tuple[State, Array]:
        state, rounds = carry
        inner = interior(scaled, state, rounds > 0)
        nothing = inner.best._replace(violation=jnp.asarray(jnp.inf))
        last = newton(scaled, inner._replace(best=nothing))
        # Newton's point has its sets exactly, so that nothing but rounding is left: it is preferred
        exact = last.best.violation <= jnp.maximum(inner.best.violation, TOL)
        best = jax.tree.map(lambda a, b: jnp.where(exact, a, b), last.best, inner.best)
        return last._replace(best=best), rounds + 1

    state, _ = lax.while_loop(
        unfinished, attempt, (quick_newton(scaled, start(scaled, pairs.T)), jnp.asarray(0, jnp.int32))
    )
    ray = unbounded(scaled, state.best.lam, state.best.c) | unbounded(scaled, state.lam, state.c)
    return _solution(scaled, unit, state, ray)


def quick_solve(programme: Programme, pairs: Int[Array, "n e"]) -> tuple[Solution, Bool[Array, ""]]:
    """What the quick steps of `solve` find, and whether they solve it. A solution has norm sqrt(sum_a b_a lambda_a):
    one of a large norm may be a ray."""
    scaled, unit = unit_scaled(programme)
    state = quick_newton(scaled, start(scaled, pairs.T))
    near = jnp.sum(scaled.target * state.best.lam) <= FAR**2
    return _solution(scaled, unit, state, ~near), (state.best.violation <= TOL) & near


def _solution(scaled: Programme, unit: PerConstraint, state: State, infeasible: Bool[Array, ""]) -> Solution:
    best = state.best
    return Solution(
        multipliers=best.lam * unit,
        c=best.c.T * scaled.spread(unit),
        pairs=jnp.where(scaled.free & (scaled.beside(best.lam) > 0), best.pairs, LOWER).T,
        violation=best.violation,
        converged=(best.violation <= ACCEPT) & ~infeasible,
        infeasible=infeasible,
        steps=state.step,
    )
