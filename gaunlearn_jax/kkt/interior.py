"""A predictor-corrector interior-point pass for the dual programme, where Newton's guesses cycle.

Mehrotra's method in lambda and e, with c = ref lambda + e on a free pair and ref the slope of its nearer end: in c
itself the pairs near slope 1 would cancel in the Schur complement. Source: docs/theory, Dual programme.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import PerConstraint, Turned, TurnedMask, TurnedPlaces
from gaunlearn_jax.kkt.programme import KINK, LOWER, TOL, UPPER, Best, Programme, State, gradient, improved

#: steps after which the pass gives up; it needs 15 to 40
INTERIOR_STEPS = 80
#: relative shift of the Newton matrix: below what its own rounding moves, above what a singular one needs
REGULARISATION = 1e-13
#: the share of the way to the boundary that a step may take
SHORT_OF = 0.995
HIGHEST = lax.Precision.HIGHEST


class _Room(NamedTuple):
    """One array per kind of inequality: c - slope lambda, lambda - c, lambda, cap - lambda. Used for the slacks (1
    where there is no such inequality), for their multipliers and for changes of either."""

    low: Turned
    up: Turned
    lam: PerConstraint
    cap: PerConstraint


class _Interior(NamedTuple):
    """Slacks are kept on their own: as differences, small ones would be lost in the rounding of large lambda."""

    slack: _Room
    price: _Room
    best: Best
    step: Int[Array, ""]


class _System(NamedTuple):
    """The Newton matrix [w K + D, B; B^T, S] with the pairs eliminated neuron by neuron, and the residuals it meets."""

    free: TurnedMask
    below: Turned
    above: Turned
    rate: _Room
    inverse: Float[Array, "e e n"]
    couple: Float[Array, "e a n"]
    solved: Float[Array, "e a n"]
    schur_inverse: Float[Array, "a a"]
    off_e: Turned
    off_lam: PerConstraint


def interior(p: Programme, s: State, enter: Array) -> State:
    """A pass from scratch where `enter` is true: returns a state with its guess of the sets, and with its best point if
    that beats the state's."""
    free = p.free & p.beside(p.valid)
    has_cap = jnp.isfinite(p.cap) & p.valid
    exists = _Room(free, free, p.valid, has_cap)
    lam = jnp.where(has_cap, jnp.minimum(1.0, 0.5 * p.cap), 1.0)
    half = 0.5 * (1 - p.slope) * p.beside(lam) * jnp.ones_like(p.fixed)
    slack = _where(exists, _Room(half, half, lam, p.cap - lam), 1.0)
    price = _where(exists, jax.tree.map(lambda x: 1.0 / x, slack), 0.0)
    last = s.step + INTERIOR_STEPS

    def unfinished(i: _Interior) -> Array:
        return enter & (i.best.violation > TOL) & (i.step < last)

    out = lax.while_loop(unfinished, lambda i: _interior_step(p, exists, i), _Interior(slack, price, s.best, s.step))
    lam, c = _point_of(p, exists, out.slack)
    support = p.valid & (out.slack.lam > out.price.lam)
    capped = has_cap & (out.slack.cap < out.price.cap)
    new = State(lam, c, support & ~capped, capped, _sets(out), s.calm, out.best, out.step, s.fewest, s.patience)
    usable = enter & jnp.all(jnp.isfinite(c))
    return jax.tree.map(lambda a, b: jnp.where(usable, a, b), new, s)


def _sets(i: _Interior) -> TurnedPlaces:
    upper, lower = i.slack.up < i.price.up, i.slack.low < i.price.low
    return jnp.where(upper, UPPER, jnp.where(lower, LOWER, KINK)).astype(jnp.int32)


def _where(exists: _Room, room: _Room, otherwise: float) -> _Room:
    return jax.tree.map(lambda e, x: jnp.where(e, x, otherwise), exists, room)


def _point_of(p: Programme, exists: _Room, slack: _Room) -> tuple[PerConstraint, Turned]:
    """(lambda, c), c from its nearer end."""
    lam = jnp.where(exists.lam, slack.lam, 0.0)
    at = p.beside(lam)
    c = jnp.where(slack.up < slack.low, at - slack.up, p.slope * at + slack.low)
    return lam, jnp.where(exists.low, c, jnp.where(p.free, 0.0, p.fixed) * at)


def _system(p: Programme, exists: _Room, slack: _Room, price: _Room) -> _System:
    """The Newton matrix at (slack, price), eliminated."""
    free: TurnedMask = exists.low
    _, c = _point_of(p, exists, slack)
    g = gradient(p, c)
    at_top = free & (slack.up < slack.low)
    ref = jnp.where(free, jnp.where(at_top, 1.0, p.slope), jnp.where(p.free, 0.0, p.fixed))
    below, above = jnp.where(free, ref - p.slope, 0.0), jnp.where(free, 1.0 - ref, 0.0)
    rate = _where(exists, jax.tree.map(jnp.divide, price, slack), 0.0)

    gram = p.entry_gram
    eye = jnp.eye(len(gram))[:, :, None]
    v = p.amplitudes
    hessian = gram[:, :, None] * v[:, None] * v
    diagonal = p.squares[:, None] * v**2
    own = rate.low + rate.up + REGULARISATION * diagonal
    inverse = -numerics.sweep(hessian + own * eye, free)
    inverse = jnp.where(free[:, None] & free, inverse, 0.0)
    couple = hessian * ref + (below * rate.low - above * rate.up) * eye
    couple = _gathered(p, jnp.where(free[:, None], couple, 0.0))
    solved = jnp.einsum("abj,bij->aij", inverse, couple, precision=HIGHEST)
    schur = jnp.einsum("ij,ikj,kj->ik", ref, hessian, ref, precision=HIGHEST)
    edge = rate.lam + rate.cap + p.gather(jnp.sum(below**2 * rate.low + above**2 * rate.up, axis=1))
    schur = p.gather(p.gather(schur).T).T + jnp.diag(edge)
    schur = schur - jnp.einsum("aij,akj->ik", couple, solved, precision=HIGHEST)
    schur = schur + jnp.diag(REGULARISATION * jnp.diagonal(schur))
    return _System(
        free, below, above, rate, inverse, couple, solved, numerics.sweep(schur, p.valid),
        off_e=jnp.where(free, g - price.low + price.up, 0.0),
        off_lam=p.gather(jnp.sum(ref * g - below * price.low - above * price.up, axis=1))
        - p.target - price.lam + price.cap,
    )  # fmt: skip


def _gathered(p: Programme, couple: Float[Array, "e e n"]) -> Float[Array, "e a n"]:
    """The second index summed over the entries of each constraint."""
    return couple if p.layout is None else jnp.moveaxis(p.gather(jnp.moveaxis(couple, 1, -1)), -1, 1)


def _direction(p: Programme, exists: _Room, s: _System, slack: _Room, price: _Room, aim: _Room) -> tuple[_Room, _Room]:
    """Changes of slacks and prices that bring slack * price to `aim`, to first order."""
    pull = _where(exists, jax.tree.map(lambda a, x, t: a / x - t, aim, slack, price), 0.0)
    right_e = jnp.where(s.free, -s.off_e + pull.low - pull.up, 0.0)
    ends = p.gather(jnp.sum(s.below * pull.low + s.above * pull.up, axis=1))
    right = -s.off_lam + pull.lam - pull.cap + ends
    right = right - jnp.einsum("aij,aj->i", s.solved, right_e, precision=HIGHEST)
    d_lam = jnp.where(p.valid, -numerics.matmul(s.schur_inverse, jnp.where(p.valid, right, 0.0)), 0.0)
    rest = right_e - jnp.einsum("aij,i->aj", s.couple, d_lam, precision=HIGHEST)
    d_e = jnp.einsum("abj,bj->aj", s.inverse, rest, precision=HIGHEST)
    at = p.beside(d_lam)
    d_slack = _where(exists, _Room(d_e + s.below * at, s.above * at - d_e, d_lam, -d_lam), 0.0)
    d_price = _where(exists, jax.tree.map(lambda q, r, d: q - r * d, pull, s.rate, d_slack), 0.0)
    return d_slack, d_price


def _interior_step(p: Programme, exists: _Room, i: _Interior) -> _Interior:
    """Two solves of one Newton matrix: straight to the optimum, to see how far that goes, then to a centre chosen by
    it, with curvature."""
    slack, price = i.slack, i.price
    system = _system(p, exists, slack, price)
    count = sum(jnp.sum(e) for e in jax.tree.leaves(exists))
    mean = _product(slack, price) / count

    def aimed(_: Array, carry: tuple[_Room, _Room, _Room, Array]) -> tuple[_Room, _Room, _Room, Array]:
        d_slack, d_price = _direction(p, exists, system, slack, price, carry[0])
        t = jnp.minimum(_reach(slack, d_slack), _reach(price, d_price))
        ahead = _product(_step(slack, d_slack, t), _step(price, d_price, t)) / count
        centre = mean * jnp.clip(ahead / mean, 0.0, 1.0) ** 3
        return jax.tree.map(lambda a, b: centre - a * b, d_slack, d_price), d_slack, d_price, t

    zero = jax.tree.map(jnp.zeros_like, slack)
    _, d_slack, d_price, t = lax.fori_loop(0, 2, aimed, (zero, zero, zero, jnp.zeros_like(mean)))
    slack, price = _step(slack, d_slack, t), _step(price, d_price, t)
    room = (1 - p.slope) * p.beside(slack.lam)
    top = system.free & (slack.up < slack.low)
    slack = slack._replace(
        low=jnp.where(top, room - slack.up, slack.low), up=jnp.where(system.free & ~top, room - slack.low, slack.up)
    )
    out = _Interior(slack, price, i.best, i.step + 1)
    lam, c = _point_of(p, exists, slack)
    return out._replace(best=improved(p, i.best, lam, c, _sets(out)))


def _step(x: _Room, d: _Room, t: Array) -> _Room:
    return jax.tree.map(lambda v, w: v + t * w, x, d)


def _reach(x: _Room, d: _Room) -> Array:
    """The longest step that keeps every number positive, or the whole one."""
    ratios = jax.tree.map(lambda v, t: jnp.min(jnp.where(t < 0, -v / jnp.where(t < 0, t, -1.0), jnp.inf)), x, d)
    return jnp.minimum(1.0, SHORT_OF * jnp.min(jnp.stack(jax.tree.leaves(ratios))))


def _product(x: _Room, y: _Room) -> Array:
    return sum(jnp.sum(v) for v in jax.tree.leaves(jax.tree.map(jnp.multiply, x, y)))  # type: ignore[return-value]
