"""Projected (semismooth) Newton for the dual programme.

It guesses the sets, eliminates the kinks of each neuron by a sweep, solves an A x A Schur complement for lambda, and
moves what fails its sign condition to the neighbouring set; the repeated step with unchanged sets is iterative
refinement. Source: docs/theory, Dual programme.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import ConstraintMask, PerConstraint, Turned, TurnedMask, TurnedPlaces
from gaunlearn_jax.kkt.programme import (
    KINK,
    LOWER,
    TOL,
    UPPER,
    Best,
    Programme,
    State,
    better,
    concave_margins,
    gradient,
    improved,
    magnitudes,
    optimality,
    size_of,
)

#: steps after which guesses that have not settled are taken to cycle (trained networks need 3 to 8)
NEWTON_STEPS = 15
#: the same without kinks, where they cannot cycle, and the steps without progress after which one constraint moves
PIVOT_STEPS, PATIENCE = 200, 3
#: steps by conjugate gradients before that, the most products of each (ten Gaussian points need 3 at d = 1e12, 9 at
#: 1e4, 18 at 100), the share of the squared residual at which they have solved the linear system, and what every
#: product after the second has to leave of it at most: slower ones cost more than the direct solution
QUICK_STEPS, GRADIENT_STEPS, SOLVED, PACE = 6, 20, 1e-31, 10**-1.5
#: steps with the sets unchanged, of iterative refinement, after which nothing gets better
CALM = 4
#: a kink whose c leaves its interval by this share of the largest lambda moves; less is rounding
OUTSIDE = 1e-13
HIGHEST = lax.Precision.HIGHEST


def start(p: Programme, pairs: TurnedPlaces) -> State:
    """Every constraint in the support, every free pair in its place of `pairs`, lambda = 0."""
    zero, c = jnp.zeros_like(p.target), jnp.zeros_like(p.fixed)
    count = jnp.asarray(0, jnp.int32)
    best = Best(jnp.asarray(jnp.inf), zero, c, pairs)
    return State(zero, c, p.valid, jnp.zeros_like(p.valid), pairs, count, best, count, count, count)


def newton(p: Programme, state: State) -> State:
    """Steps until the sets stand still and the residual is at rounding level, or the limit."""
    last = state.step + (NEWTON_STEPS if p.kinked else PIVOT_STEPS)
    state = state._replace(
        calm=jnp.zeros_like(state.calm),
        fewest=jnp.full_like(state.fewest, p.target.shape[0] + 1),
        patience=jnp.zeros_like(state.patience),
    )
    return lax.while_loop(
        lambda s: _unfinished(s) & (s.step < last), lambda s: _newton_step(p, s, solve_on_sets)[0], state
    )


def quick_newton(p: Programme, state: State) -> State:
    """The same from a start, by conjugate gradients: it solves what is well conditioned; of the rest it returns the
    start, and the best point."""

    def unfinished(carry: tuple[State, Array]) -> Array:
        return _unfinished(carry[0]) & (carry[0].step < QUICK_STEPS) & carry[1]

    tried, _ = lax.while_loop(
        unfinished, lambda carry: _newton_step(p, carry[0], gradient_solve), (state, jnp.asarray(True))
    )
    done = tried.best.violation <= TOL
    return jax.tree.map(lambda a, b: jnp.where(done, a, b), tried, state._replace(best=tried.best, step=tried.step))


def _unfinished(s: State) -> Array:
    return (s.best.violation > TOL) & (s.calm < CALM)


def _newton_step(
    p: Programme, s: State, solve: Callable[..., tuple[PerConstraint, Turned, Array]]
) -> tuple[State, Array]:
    """The next guess, and whether `solve` solved the linear system."""
    live = p.beside(s.support | s.capped)
    kink = (s.pairs == KINK) & p.free & live
    slopes = jnp.where(p.free, jnp.where(s.pairs == UPPER, 1.0, p.slope), p.fixed)
    slopes = jnp.where(kink, 0.0, slopes)
    lam = jnp.where(s.capped, p.cap, jnp.where(s.support, s.lam, 0.0))
    c = jnp.where(kink, s.c, slopes * p.beside(lam))
    lam, c, solved = solve(p, lam, c, slopes, kink, s.support)
    return _moved(p, s, lam, c, kink, solved), solved


def gradient_solve(
    p: Programme, lam: PerConstraint, c: Turned, slopes: Turned, kink: TurnedMask, support: ConstraintMask
) -> tuple[PerConstraint, Turned, Array]:
    """`solve_on_sets` by conjugate gradients with the diagonal as preconditioner (Hestenes and Stiefel 1952), and
    whether they got to rounding level: a few products of matrices where the points are nearly orthogonal. The variables
    are (lambda on the support, v c on the kinks), the latter only where there may be any."""
    weighted, own = p.amplitudes * slopes, p.squares[:, None]

    def variables(of_support: PerConstraint, of_kinks: Turned) -> tuple[Array, ...]:
        return (of_support, of_kinks) if p.kinked else (of_support,)

    def slopes_at(z: Turned) -> tuple[Array, ...]:
        """Pre-activations as a gradient in the variables."""
        of_support = p.gather(jnp.sum(weighted * z, axis=1))
        return variables(jnp.where(support, of_support, 0.0), jnp.where(kink, z, 0.0))

    def inner(x: tuple[Array, ...], y: tuple[Array, ...]) -> Array:
        return jnp.asarray(sum(jnp.sum(a * b) for a, b in zip(x, y, strict=True)))

    target = variables(jnp.where(support, p.target, 0.0), jnp.zeros_like(c))
    residual = _plus(target, -1.0, slopes_at(p.products(p.gram, p.amplitudes * c)))
    by = variables(p.gather(jnp.sum(weighted**2 * own, axis=1)), own)
    by = jax.tree.map(lambda d: 1.0 / jnp.where(d > 0, d, 1.0), by)
    start = jax.tree.map(jnp.multiply, by, residual)
    size = inner(start, residual)

    def iterate(carry: Any) -> Any:
        x, r, d, rz, step = carry
        made = weighted * p.beside(d[0])
        hd = slopes_at(p.products(p.gram, made + d[1] if p.kinked else made))
        length = rz / jnp.where(rz > 0, inner(d, hd), 1.0)
        x, r = _plus(x, length, d), _plus(r, -length, hd)
        z = jax.tree.map(jnp.multiply, by, r)
        new = inner(z, r)
        return x, r, _plus(z, new / jnp.where(rz > 0, rz, 1.0), d), new, step + 1

    def unfinished(carry: Any) -> Array:
        slow = (carry[4] > 2) & (carry[3] > size * PACE ** (carry[4] - 1.0))
        return (carry[3] > SOLVED * size) & (carry[4] < GRADIENT_STEPS) & ~slow

    zero = jax.tree.map(jnp.zeros_like, target)
    move, _, _, left, _ = lax.while_loop(unfinished, iterate, (zero, residual, start, size, jnp.asarray(0, jnp.int32)))
    lam = lam + move[0]
    c = c + move[1] / jnp.where(kink, p.amplitudes, 1.0) if p.kinked else c
    return lam, jnp.where(kink, c, slopes * p.beside(lam)), left <= SOLVED * size


def _plus(x: Any, t: Array | float, d: Any) -> Any:
    return jax.tree.map(lambda a, b: a + t * b, x, d)


def solve_on_sets(
    p: Programme, lam: PerConstraint, c: Turned, slopes: Turned, kink: TurnedMask, support: ConstraintMask
) -> tuple[PerConstraint, Turned, Array]:
    """One Newton step on given sets, which solves their linear system: F_a = b_a on `support`, a zero pre-activation on
    `kink`, c = slopes lambda elsewhere (slopes are 0 on kinks). Inverses are constants to automatic differentiation, so
    a step from the solution has the solution's derivatives (implicit function theorem; residuals carry them)."""
    v = p.amplitudes
    # [E, E, n]: the neurons as the batch axis of the sweep; a model without kinks needs none
    swept = jnp.broadcast_to(p.entry_gram[:, :, None], (len(kink), *kink.shape))
    if p.kinked:
        swept = lax.stop_gradient(numerics.sweep(swept, kink))
    weighted = v * slopes
    residual = jnp.where(kink, -p.products(p.gram, v * c), 0.0)
    schur = jnp.einsum("ij,ikj,kj->ik", weighted, swept, weighted, precision=HIGHEST)
    through = jnp.einsum("ikj,kj->ij", swept, residual, precision=HIGHEST)
    right = p.target - p.gather(jnp.sum(slopes * (gradient(p, c) + v * through), axis=1))
    inverse = lax.stop_gradient(numerics.sweep(p.gather(p.gather(schur).T).T, support))
    move = jnp.where(support, -numerics.matmul(inverse, jnp.where(support, right, 0.0)), 0.0)
    spread = jnp.einsum("ikj,kj->ij", swept, weighted * p.beside(move), precision=HIGHEST)
    lam = lam + move
    at_kink = c - (through + spread) / jnp.where(kink, v, 1.0)
    return lam, jnp.where(kink, at_kink, slopes * p.beside(lam)), jnp.asarray(True)


def _moved(p: Programme, s: State, lam: PerConstraint, c: Turned, kink: TurnedMask, solved: Array) -> State:
    """Move what violates its sign condition to the neighbouring set, and keep the point if it is the best. One that
    does not solve its linear system is none: on a singular one it may be so large that rounding hides what it
    violates."""
    g = gradient(p, c)
    pairs = _pairs_moved(p, s, lam, c, g, kink) if p.kinked else s.pairs
    gap, size = concave_margins(p, g) - p.target, size_of(p, c)
    floor = TOL * size
    support = jnp.where(s.support, (lam > 0) & (lam <= p.cap), p.valid & ~s.capped & (gap < -floor))
    capped = jnp.where(s.capped, gap <= floor, s.support & (lam > p.cap))
    support = support | (s.capped & ~capped)
    fewest, patience = s.fewest, s.patience
    if p.kinked:
        best = improved(p, s.best, lam, c, jnp.where(kink, KINK, s.pairs), solved)
    else:  # a point that is not feasible has a next support, and nobody measures it again
        feasible = solved & jnp.all((lam >= 0) & (lam <= p.cap))
        violation = jnp.where(feasible, optimality(p, lam, c, kink, g, size), jnp.inf)
        best = better(s.best, Best(violation, lam, c, s.pairs))
        support, fewest, patience = _one_at_a_time(s, support)
    still = jnp.all(pairs == s.pairs) & jnp.all(support == s.support) & jnp.all(capped == s.capped)
    return State(
        lam=lam,
        c=c,
        support=support,
        capped=capped,
        pairs=pairs,
        calm=jnp.where(still, s.calm + 1, 0),
        best=best,
        step=s.step + 1,
        fewest=fewest,
        patience=patience,
    )


def _pairs_moved(p: Programme, s: State, lam: PerConstraint, c: Turned, g: Turned, kink: TurnedMask) -> TurnedPlaces:
    """The places of pairs, with those moved that violate their sign condition by more than rounding."""
    at, top = p.beside(lam), jnp.max(jnp.abs(lam))
    noise = 64 * numerics.unit() * magnitudes(p, c)
    pairs = jnp.where(kink & (c < p.slope * at - OUTSIDE * top), LOWER, s.pairs)
    pairs = jnp.where(kink & (c > at + OUTSIDE * top), UPPER, pairs)
    lower, upper = p.free & ~kink & (s.pairs == LOWER), p.free & ~kink & (s.pairs == UPPER)
    pairs = jnp.where((lower & (g < -noise)) | (upper & (g > noise)), KINK, pairs)
    return jnp.where(kink & (at <= 0), jnp.where(g < 0, UPPER, LOWER), pairs)


def _one_at_a_time(s: State, support: ConstraintMask) -> tuple[ConstraintMask, Array, Array]:
    """The next support, the fewest constraints that wanted to move, and the patience left: once that is used up only
    the last of them moves, which cannot go on for ever (Murty 1974; Kim and Park 2011)."""
    moves = support != s.support
    count = jnp.sum(moves).astype(s.fewest.dtype)
    patience = jnp.where(count < s.fewest, PATIENCE, s.patience - 1)
    index = jnp.arange(len(moves))
    last = index == jnp.max(jnp.where(moves, index, -1))
    support = jnp.where(patience < 0, s.support ^ (moves & last), support)
    return support, jnp.minimum(count, s.fewest), patience
