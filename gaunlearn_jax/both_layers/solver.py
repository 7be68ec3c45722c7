"""Exact KKT points of networks with both layers trained, from a pattern of same-sign activations.

Interior point for the sets, Newton's method on them to rounding level, then the pattern loop. Source: docs/theory, The
programme of both layers.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from gaunlearn_jax.base import checks, numerics
from gaunlearn_jax.base.arrays import Mask, PairMask, PerPair, PerPoint
from gaunlearn_jax.base.codes import Status
from gaunlearn_jax.base.staging import staged
from gaunlearn_jax.both_layers import interior
from gaunlearn_jax.both_layers.point import OutputWeights, Point, Weights, measured
from gaunlearn_jax.both_layers.programme import (
    KINK,
    LOWER,
    UPPER,
    Directions,
    Programme,
    Sets,
    directions,
    moved,
    programme_of,
    same_pattern,
    system,
)
from gaunlearn_jax.data import Dataset

#: rounds of the pattern loop, which ends by itself since the norm falls; trained networks need 0 to 3
MAX_REPEATS = 12
#: steps of Newton's method on the sets: each gains about as many digits as DAMPING has
NEWTON_STEPS = 8
#: what stands for the room of a norm that is 1: a step of t is shortened by it, so redundant patterns do no harm
DAMPING = 1e-8
#: largest violation of the optimality conditions of a solved programme, in units where the Gram diagonal is about 1
TOL = 1e-12


class Optimum(NamedTuple):
    """(lambda, c, t) of a programme, the places of its free pairs, and what is left of the optimality conditions."""

    lam: PerPoint
    c: PerPair
    t: Float[Array, "n"]
    z: PerPair
    sets: Sets
    violation: Float[Array, ""]


class Loop(NamedTuple):
    """The last programme's active pairs and optimum, the pairs that contradict it, the rounds after the first."""

    active: PairMask
    stands: Bool[Array, "n"]
    optimum: Optimum
    mismatch: PairMask
    repeats: Int[Array, ""]


def _pairs(p: Programme, sets: Sets) -> tuple[PairMask, PairMask]:
    """The free pairs of living patterns at a kink, and those whose c is lambda."""
    here = p.free & sets.alive[:, None] & sets.support
    return here & (sets.places == KINK), here & (sets.places == UPPER)


def _margins(p: Programme, t: Array, z: PerPair) -> PerPoint:
    """The margins of the programme, where a same-sign pair keeps its slope whatever its sign."""
    return jnp.sum(t[:, None] * (jnp.where(p.fixed, z, 0.0) - jnp.where(p.free, jnp.maximum(z, 0.0), 0.0)), axis=0)


def _placed(p: Programme, lam: PerPoint, c: PerPair, t: Array, alive: Array) -> Optimum:
    """The iterate with the sets that it names (of patterns, those `alive` with mass), what lies on a bound put there.

    A pair is placed by c + z (its own best c, were the points orthogonal), a multiplier by its sign and its margin."""
    z = directions(p, lam, c).z
    aim = c + z
    places = jnp.where(aim <= 0, LOWER, jnp.where(aim >= lam, UPPER, KINK)).astype(jnp.int32)
    q = _margins(p, t, z)
    alive = alive & (t > 0)
    sets = Sets(p.valid & (lam + 1 - q > 0), alive, places)
    kink, upper = _pairs(p, sets)
    lam, t = jnp.where(sets.support, lam, 0.0), jnp.where(alive, t, 0.0)
    c = jnp.where(upper, lam, jnp.where(kink, c, 0.0))
    new = Optimum(lam, c, t, z, sets, jnp.asarray(jnp.inf))
    at, *left = _left(p, new)
    worst = jnp.max(jnp.stack([jnp.max(jnp.abs(x)) for x in left]))
    return new._replace(z=at.z, violation=jnp.maximum(worst, _outside(p, new)))


def _outside(p: Programme, o: Optimum) -> Array:
    """By how much the iterate leaves its sets: signs of multipliers, 0 <= c <= lambda, margins of other points."""
    kink, upper = _pairs(p, o.sets)
    low = p.free & o.sets.alive[:, None] & o.sets.support & ~kink & ~upper
    q = _margins(p, o.t, o.z)
    wrong = (
        -o.lam,
        -o.t,
        jnp.where(kink, jnp.maximum(-o.c, o.c - o.lam), 0.0),
        jnp.where(low, o.z, jnp.where(upper, -o.z, 0.0)),
        jnp.where(p.valid & ~o.sets.support, 1 - q, 0.0),
    )
    return jnp.max(jnp.stack([jnp.max(x) for x in wrong]))


def _left(p: Programme, o: Optimum) -> tuple[Directions, PerPoint, PerPair, Array]:
    """G_j, and what is left of q_i = 1 on the support, z = 0 at kinks, ||G_j|| = 1 of living patterns."""
    kink, upper = _pairs(p, o.sets)
    at = directions(p, o.lam, o.c)
    pull = p.sides * at.z
    q = jnp.sum(jnp.where(p.fixed | upper, o.t[:, None] * pull, 0.0), axis=0)
    return (
        at,
        jnp.where(o.sets.support, 1 - q, 0.0),
        jnp.where(kink, -pull, 0.0),
        jnp.where(o.sets.alive, 0.5 * (1 - at.square), 0.0),
    )


def optimum(p: Programme) -> Optimum:
    """Solve one programme: Newton's method on the equations of the sets, which follow the iterate, from where the
    interior-point method ends; the best iterate."""

    def step(_: Array, carry: tuple[Optimum, Optimum]) -> tuple[Optimum, Optimum]:
        now, best = carry
        kink, upper = _pairs(p, now.sets)
        tied = jnp.where(p.fixed | upper, 1.0, 0.0)
        room = jnp.where(now.sets.alive, DAMPING, jnp.inf)
        none = jnp.zeros_like(tied)
        at, right_lam, right_c, right_t = _left(p, now)
        s = system(p, now.t, at.z, tied, kink, now.sets.support, room, (none, none, jnp.zeros(p.gram.shape[0])))
        d_lam, d_c, d_t = moved(s, right_lam, now.t[:, None] * right_c, right_t)
        d_t = jnp.where(now.sets.alive, d_t, 0.0)
        new = _placed(p, now.lam + d_lam, jnp.where(upper, now.c + d_lam, now.c + d_c), now.t + d_t, now.sets.alive)
        return new, jax.tree.map(lambda a, b: jnp.where(new.violation < best.violation, a, b), new, best)

    inner = interior.solve(p)
    first = _placed(p, inner.lam, interior.coefficients(p, inner), inner.t, interior.living(p, inner))
    best = lax.fori_loop(0, NEWTON_STEPS, step, (first, first))[1]
    return best._replace(z=jnp.where(_pairs(p, best.sets)[0], 0.0, best.z))


@staged
def pattern_loop(
    gram: Float[Array, "m m"], labels: PerPoint, signs: OutputWeights, active: PairMask, valid: Mask
) -> Loop:
    """Solve, flip the same-sign pairs of living neurons that contradict the solution, solve again."""

    def attempt(loop: Loop) -> Loop:
        flipped = jnp.where(loop.mismatch, ~loop.active, loop.active)
        p = programme_of(gram, labels, signs, flipped, valid)
        found = optimum(p)
        alive = found.sets.alive[:, None] & valid & (p.sides > 0)
        wrong = alive & (((found.z > 0) & ~p.active) | ((found.z < 0) & p.active))
        mine = jnp.argmax(same_pattern(signs, p.active, valid) & p.stands, axis=1)
        return Loop(p.active, p.stands, found, wrong[mine] & p.stands[mine][:, None], loop.repeats + 1)

    def again(loop: Loop) -> Array:
        more = jnp.any(loop.mismatch) & (loop.repeats < MAX_REPEATS) & jnp.isfinite(loop.optimum.violation)
        return (loop.repeats < 0) | more

    n, m = active.shape
    off = jnp.zeros((n, m), bool)
    nothing = Sets(jnp.zeros(m, bool), jnp.zeros(n, bool), jnp.zeros((n, m), jnp.int32))
    pairs, per_neuron = jnp.zeros((n, m)), jnp.zeros(n)
    start = Optimum(jnp.zeros(m), pairs, per_neuron, pairs, nothing, jnp.asarray(jnp.inf))
    first = Loop(active, jnp.zeros(n, bool), start, off, jnp.asarray(-1, jnp.int32))
    return lax.while_loop(again, attempt, first)


def solve_pattern(
    data: Dataset, signs: OutputWeights, active: PairMask, valid: Mask, masses: Float[Array, "n"]
) -> Point:
    """The exact KKT point on the marked points from the same-sign pairs `active` [n, m] (others are ignored).

    signs [n] are those of the output weights; the mass t of a pattern is shared among its neurons like `masses` [n]
    (any split is a KKT point; evenly where they are zero). INFEASIBLE where some point has no active same-sign pair,
    UNCONVERGED where the optimality conditions are not met to TOL. ValueError for arrays of other shapes, or signs
    other than +-1. Source: docs/theory, The programme of both layers.
    """
    _check(data, signs=signs, active=active, valid=valid, masses=masses)
    gram = numerics.gram(data.points)
    unit = jnp.trace(gram) / data.num_points
    sides = signs[:, None] * data.labels
    reachable = jnp.all(~valid | jnp.any(active & (sides > 0), axis=0))
    # without a feasible point no round would end: such a lane has nothing to solve
    loop = pattern_loop(gram / unit, data.labels, signs, active & (sides > 0), valid & reachable)
    best, root = loop.optimum, unit**0.25
    alike = same_pattern(signs, loop.active, valid)
    mine = jnp.argmax(alike & loop.stands, axis=1)
    own = jnp.any(alike & loop.stands, axis=1)
    given = numerics.matmul(jnp.where(alike, 1.0, 0.0), masses)
    share = jnp.where(given > 0, masses / jnp.where(given > 0, given, 1.0), 1.0 / jnp.sum(alike, axis=1))
    size = jnp.sqrt(jnp.where(own, best.t[mine] * share, 0.0)) * numerics.outward()
    lam = best.lam / jnp.sqrt(unit)
    # a living pattern's coefficients; those of others are without mass
    made = sides * jnp.where(loop.active & valid, best.lam, jnp.where((sides < 0) & valid, best.c[mine], 0.0))
    z = jnp.where(own[:, None], best.z[mine], 0.0)
    theta = Weights(
        params=numerics.matmul((size / root)[:, None] * made, data.points) / jnp.sqrt(unit),
        output_weights=signs * size / root,
        preactivations=(size / root)[:, None] * z * jnp.sqrt(unit),
    )
    fraction = jnp.where(best.lam > 0, best.c[mine] / jnp.where(best.lam > 0, best.lam, 1.0), 0.0)
    at_kink = jnp.where(sides > 0, loop.active, jnp.clip(fraction, 0.0, 1.0))
    s = jnp.where(theta.preactivations > 0, 1.0, jnp.where(theta.preactivations < 0, 0.0, at_kink))
    solved = (best.violation < TOL) & ~jnp.any(loop.mismatch)
    status = jnp.where(reachable, jnp.where(solved, Status.OK, Status.UNCONVERGED), Status.INFEASIBLE)
    return measured(data, theta, lam, s, valid, repeats=loop.repeats, status=status)


def limit_point(data: Dataset, run: Any, *, retained: Mask | None = None) -> Point:
    """The exact KKT point with the same-sign activations of a trained network (anything with `weights`).

    It is *a* KKT point of the trained pattern, not provably the limit of gradient flow.
    """
    numerics.require_x64()
    theta = run.weights
    valid = jnp.ones(data.num_points, bool) if retained is None else jnp.asarray(retained)
    signs = jnp.where(theta.output_weights < 0, -1.0, 1.0)
    found = solve_pattern(data, signs, theta.preactivations > 0, valid, theta.output_weights**2)
    status = jnp.maximum(found.status, jnp.maximum(data.status, run.status))
    return dataclasses.replace(found, status=status)


def _check(data: Dataset, **given: Any) -> None:
    """ValueError unless the arrays of `solve_pattern` have their shapes, and signs (if concrete) are +-1."""
    n = jnp.shape(given["signs"])[0] if jnp.ndim(given["signs"]) == 1 else 0
    wanted = {"signs": (n,), "active": (n, data.num_points), "valid": (data.num_points,), "masses": (n,)}
    for name, value in given.items():
        if jnp.shape(value) != wanted[name]:
            raise ValueError(
                f"{name} has shape {jnp.shape(value)}, expected {wanted[name]}: n signs, m = {data.num_points} points"
            )
    if not checks.is_traced(given["signs"]) and not np.all(np.abs(np.asarray(given["signs"])) == 1):
        raise ValueError("signs has entries other than 1 and -1; give the signs of the output weights")
