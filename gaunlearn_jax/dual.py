"""The dual programme behind exact KKT points and multiplier fits, and its solver.

    minimise  1/2 sum_j u_j^2 || sum_i y_i c_ji x_i ||^2 - sum_i b_i lambda_i
    over      0 <= lambda_i <= cap_i,   c_ji = S_ji lambda_i on fixed pairs,
              slope * lambda_i <= c_ji <= lambda_i on free pairs (j, i).

A free pair rests at its lower slope, at slope 1, or strictly between (a kink: <sum_k y_k c_jk x_k, x_i> = 0). Projected
(semismooth) Newton guesses the three sets, eliminates the kinks of each neuron by a sweep, solves an m x m Schur
complement for lambda, and moves the pairs whose sign condition fails; the repeated step with unchanged sets is
iterative refinement. Where the guesses cycle, an interior-point pass supplies the sets and Newton finishes
(docs/theory, Dual programme). Every answer is re-measured by the caller.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from gaunlearn_jax import numerics
from gaunlearn_jax._types import Mask, PairMask, PerPair, PerPoint

LOWER, KINK, UPPER = 0, 1, 2
TOL = 5e-14
ACCEPT = 1e-11
ROUNDING_SHARE = 2.0**-4
NEWTON_STEPS = 15
INTERIOR_STEPS = 80
REGULARISATION = 1e-13


class Programme(NamedTuple):
    """K_y = y y^T o K [m, m], u^2 [n], slopes S [n, m] of the fixed pairs, free pairs [n, m], b [m], the points
    that may carry a multiplier [m], caps [m] (inf: none), and the lower slope of free pairs."""

    gram: Float[Array, "m m"]
    weights: Float[Array, "n"]
    fixed: PerPair
    free: PairMask
    target: PerPoint
    valid: Mask
    cap: PerPoint
    slope: float


class Solution(NamedTuple):
    """lambda [m], c [n, m] (both feasible), the free pairs strictly at a kink, the violation of the
    optimality conditions (see `optimality`), whether it is below tolerance, and the steps taken in all."""

    multipliers: PerPoint
    c: PerPair
    kinks: PairMask
    violation: Float[Array, ""]
    converged: Bool[Array, ""]
    steps: Int[Array, ""]


class _Best(NamedTuple):
    """The feasible point of least violation met so far, and the sets it was made with."""

    violation: Float[Array, ""]
    lam: PerPoint
    c: PerPair
    pairs: Int[Array, "n m"]


class _State(NamedTuple):
    lam: PerPoint
    c: PerPair
    support: Mask
    capped: Mask
    pairs: Int[Array, "n m"]
    calm: Int[Array, ""]
    best: _Best
    step: Int[Array, ""]


def solve(programme: Programme) -> Solution:
    """Solve one programme: a round of Newton, then if need be a round of interior point and Newton.

    Under vmap, lanes that are done cost nothing but their place in the batch.
    """
    scaled, unit = _unit_scaled(programme)

    def unfinished(carry: tuple[_State, Array]) -> Array:
        return (carry[0].best.violation > TOL) & (carry[1] < 2)

    def attempt(carry: tuple[_State, Array]) -> tuple[_State, Array]:
        state, rounds = carry
        inner = _interior(scaled, state, rounds > 0)
        nothing = inner.best._replace(violation=jnp.asarray(jnp.inf))
        last = _newton(scaled, inner._replace(best=nothing))
        # Newton's point has its sets exactly, so that nothing but rounding is left: it is preferred
        exact = last.best.violation <= jnp.maximum(inner.best.violation, TOL)
        best = jax.tree.map(lambda a, b: jnp.where(exact, a, b), last.best, inner.best)
        return last._replace(best=best), rounds + 1

    state, _ = lax.while_loop(unfinished, attempt, (_start(scaled), jnp.asarray(0, jnp.int32)))
    best = state.best
    return Solution(
        multipliers=best.lam * unit,
        c=best.c * unit,
        kinks=(best.pairs == KINK) & scaled.free & (best.lam > 0),
        violation=best.violation,
        converged=best.violation <= ACCEPT,
        steps=state.step,
    )


def _unit_scaled(p: Programme) -> tuple[Programme, PerPoint]:
    """The programme in units in which every x_i and the largest b_i are near 1, and the units of lambda.

    Both units are powers of two, so nothing is rounded; a factor per point leaves slopes and cones as they are.
    """
    size = jnp.where(p.valid, jnp.diagonal(p.gram) * jnp.sum(p.weights), 1.0)
    per_point = jnp.ldexp(1.0, -(jnp.frexp(jnp.where(size > 0, size, 1.0))[1] // 2))
    target = jnp.where(p.valid, p.target, 0.0) * per_point
    top = jnp.max(jnp.abs(target))
    common = jnp.ldexp(1.0, jnp.frexp(jnp.where(top > 0, top, 1.0))[1])
    unit = per_point * common
    gram = jnp.where(p.valid[:, None] & p.valid, p.gram * per_point[:, None] * per_point, 0.0)
    return p._replace(gram=gram, target=target / common, cap=p.cap / unit), unit


def gradient(p: Programme, c: PerPair) -> PerPair:
    """g_ji = u_j^2 (K_y c_j)_i = u_j y_i z_ji of the network that c makes."""
    return p.weights[:, None] * numerics.matmul(c, p.gram)


def concave_margins(p: Programme, g: PerPair) -> PerPoint:
    """F_i: fixed pairs at their slope, free pairs at the worse of their two slopes (docs/theory, Closeness)."""
    return jnp.sum(jnp.where(p.free, jnp.minimum(p.slope * g, g), p.fixed * g), axis=0)


def magnitudes(p: Programme, c: PerPair) -> PerPair:
    """The sums of the moduli of the terms that make g: rounding leaves an error of some eps times this."""
    return p.weights[:, None] * numerics.matmul(jnp.abs(c), jnp.abs(p.gram))


def optimality(p: Programme, lam: PerPoint, c: PerPair) -> Float[Array, ""]:
    """Largest violation of the optimality conditions of a feasible (lambda, c), in units of |b_i| and of what rounding
    can leave (TOL times the second part of `size` is some eps times the terms of F_i).

    Per point: F_i >= b_i unless capped, and lambda_i |F_i - b_i| = 0; per free pair:
    (c - slope lambda) max(g, 0) + (lambda - c) max(-g, 0) = 0. Products are relative to the largest lambda.
    """
    g = gradient(p, c)
    gap = concave_margins(p, g) - p.target
    size = _size(p, c)
    top = jnp.max(lam)
    safe = jnp.where(top > 0, top, 1.0)
    short = jnp.where(lam < p.cap, jnp.maximum(-gap, 0.0), 0.0)
    slack = jnp.maximum(gap, 0.0) * lam / safe
    pair = (c - p.slope * lam) * jnp.maximum(g, 0.0) + (lam - c) * jnp.maximum(-g, 0.0)
    pair = jnp.sum(jnp.where(p.free, pair, 0.0), axis=0) / safe
    worst = jnp.maximum(jnp.maximum(short, slack), pair) / jnp.where(size > 0, size, 1.0)
    worst = jnp.max(jnp.where(p.valid, worst, 0.0))
    return jnp.where(jnp.isfinite(worst) & jnp.all(jnp.isfinite(c)), worst, jnp.inf)


def _size(p: Programme, c: PerPair) -> PerPoint:
    terms = jnp.sum(jnp.where(p.free, 1.0, p.fixed) * magnitudes(p, c), axis=0)
    return jnp.abs(p.target) + ROUNDING_SHARE * terms


def _improved(p: Programme, best: _Best, lam: PerPoint, c: PerPair, pairs: Array) -> _Best:
    """The better of `best` and (lam, c) made feasible."""
    lam = jnp.where(p.valid, jnp.clip(lam, 0.0, p.cap), 0.0)
    c = jnp.where(p.free, jnp.clip(c, p.slope * lam, lam), p.fixed * lam)
    new = _Best(optimality(p, lam, c), lam, c, pairs)
    return jax.tree.map(lambda a, b: jnp.where(new.violation < best.violation, a, b), new, best)


# --- projected Newton ---------------------------------------------------------------------------------


def _start(p: Programme) -> _State:
    zero, c = jnp.zeros_like(p.target), jnp.zeros_like(p.fixed)
    pairs = jnp.zeros(p.free.shape, jnp.int32)
    count = jnp.asarray(0, jnp.int32)
    best = _Best(jnp.asarray(jnp.inf), zero, c, pairs)
    return _State(zero, c, p.valid, jnp.zeros_like(p.valid), pairs, count, best, count)


def _newton(p: Programme, state: _State) -> _State:
    """Projected Newton until the sets stand still and the residual is at rounding level, or the limit."""

    last = state.step + NEWTON_STEPS

    def unfinished(s: _State) -> Array:
        return (s.best.violation > TOL) & (s.calm < 4) & (s.step < last)

    state = state._replace(calm=jnp.zeros_like(state.calm))
    return lax.while_loop(unfinished, lambda s: _newton_step(p, s), state)


def _newton_step(p: Programme, s: _State) -> _State:
    live = s.support | s.capped
    kink = (s.pairs == KINK) & p.free & live
    slopes = jnp.where(p.free, jnp.where(s.pairs == UPPER, 1.0, p.slope), p.fixed)
    slopes = jnp.where(kink, 0.0, slopes)
    lam = jnp.where(s.capped, p.cap, jnp.where(s.support, s.lam, 0.0))
    c = jnp.where(kink, s.c, slopes * lam)
    lam, c = solve_on_sets(p, lam, c, slopes, kink, s.support)
    return _moved(p, s, lam, c, kink)


def solve_on_sets(
    p: Programme, lam: PerPoint, c: PerPair, slopes: PerPair, kink: PairMask, support: Mask
) -> tuple[PerPoint, PerPair]:
    """One Newton step on given sets, which solves their linear system: F_i = b_i on `support`, a zero gradient on
    `kink`, c = slopes lambda elsewhere (slopes are 0 on kinks). Inverses are constants to automatic differentiation, so
    a step from the solution has the solution's derivatives (implicit function theorem; residuals carry them)."""
    # [m, m, n]: the neurons as the batch axis of the sweep; a linear model has no kinks
    swept = jnp.broadcast_to(p.gram[:, :, None], (*p.gram.shape, kink.shape[0]))
    if p.slope != 1:
        swept = lax.stop_gradient(numerics.sweep(swept, kink.T))
    residual = jnp.where(kink, -numerics.matmul(c, p.gram), 0.0)
    schur = jnp.einsum("j,ji,ikj,jk->ik", p.weights, slopes, swept, slopes, precision=lax.Precision.HIGHEST)
    through = jnp.einsum("ikj,jk->ji", swept, residual, precision=lax.Precision.HIGHEST)
    right = p.target - jnp.sum(slopes * (gradient(p, c) + p.weights[:, None] * through), axis=0)
    inverse = lax.stop_gradient(numerics.sweep(schur, support))
    move = jnp.where(support, -numerics.matmul(inverse, jnp.where(support, right, 0.0)), 0.0)
    spread = jnp.einsum("ikj,jk->ji", swept, slopes * move, precision=lax.Precision.HIGHEST)
    lam = lam + move
    return lam, jnp.where(kink, c - through - spread, slopes * lam)


def _moved(p: Programme, s: _State, lam: PerPoint, c: PerPair, kink: PairMask) -> _State:
    """Move what violates its sign condition to the neighbouring set, and keep the point if it is the best."""
    g = gradient(p, c)
    noise = 64 * numerics.EPS * magnitudes(p, c)
    top = jnp.max(jnp.abs(lam))
    pairs = jnp.where(kink & (c < p.slope * lam - 1e-13 * top), LOWER, s.pairs)
    pairs = jnp.where(kink & (c > lam + 1e-13 * top), UPPER, pairs)
    lower, upper = p.free & ~kink & (s.pairs == LOWER), p.free & ~kink & (s.pairs == UPPER)
    pairs = jnp.where((lower & (g < -noise)) | (upper & (g > noise)), KINK, pairs)
    pairs = jnp.where(kink & (lam <= 0), jnp.where(g < 0, UPPER, LOWER), pairs)

    gap = concave_margins(p, g) - p.target
    floor = TOL * _size(p, c)
    support = jnp.where(s.support, (lam > 0) & (lam <= p.cap), p.valid & ~s.capped & (gap < -floor))
    capped = jnp.where(s.capped, gap <= floor, s.support & (lam > p.cap))
    support = support | (s.capped & ~capped)
    still = jnp.all(pairs == s.pairs) & jnp.all(support == s.support) & jnp.all(capped == s.capped)
    return _State(
        lam=lam,
        c=c,
        support=support,
        capped=capped,
        pairs=pairs,
        calm=jnp.where(still, s.calm + 1, 0),
        best=_improved(p, s.best, lam, c, jnp.where(kink, KINK, s.pairs)),
        step=s.step + 1,
    )


# --- interior point -----------------------------------------------------------------------------------


class _Room(NamedTuple):
    """One array per kind of inequality: c - slope lambda, lambda - c, lambda, cap - lambda. Used for the slacks (1
    where there is no such inequality), for their multipliers and for changes of either."""

    low: PerPair
    up: PerPair
    lam: PerPoint
    cap: PerPoint


class _Interior(NamedTuple):
    """Slacks are kept on their own: as differences, small ones would be lost in the rounding of large lambda."""

    slack: _Room
    price: _Room
    best: _Best
    step: Int[Array, ""]


def _interior(p: Programme, s: _State, enter: Array) -> _State:
    """Predictor-corrector interior-point pass from scratch where `enter` is true: returns a state with its guess of the
    sets, and with its best point if that beats the state's."""
    free = p.free & p.valid
    has_cap = jnp.isfinite(p.cap) & p.valid
    exists = _Room(free, free, p.valid, has_cap)
    lam = jnp.where(has_cap, jnp.minimum(1.0, 0.5 * p.cap), 1.0)
    half = 0.5 * (1 - p.slope) * lam * jnp.ones_like(p.fixed)
    slack = _where(exists, _Room(half, half, lam, p.cap - lam), 1.0)
    price = _where(exists, jax.tree.map(lambda x: 1.0 / x, slack), 0.0)
    last = s.step + INTERIOR_STEPS

    def unfinished(i: _Interior) -> Array:
        return enter & (i.best.violation > TOL) & (i.step < last)

    out = lax.while_loop(unfinished, lambda i: _interior_step(p, exists, i), _Interior(slack, price, s.best, s.step))
    lam, c = _point_of(p, exists, out.slack)
    support = p.valid & (out.slack.lam > out.price.lam)
    capped = has_cap & (out.slack.cap < out.price.cap)
    new = _State(lam, c, support & ~capped, capped, _sets(out), s.calm, out.best, out.step)
    usable = enter & jnp.all(jnp.isfinite(c))
    return jax.tree.map(lambda a, b: jnp.where(usable, a, b), new, s)


def _sets(i: _Interior) -> Int[Array, "n m"]:
    upper, lower = i.slack.up < i.price.up, i.slack.low < i.price.low
    return jnp.where(upper, UPPER, jnp.where(lower, LOWER, KINK)).astype(jnp.int32)


def _where(exists: _Room, room: _Room, otherwise: float) -> _Room:
    return jax.tree.map(lambda e, x: jnp.where(e, x, otherwise), exists, room)


def _point_of(p: Programme, exists: _Room, slack: _Room) -> tuple[PerPoint, PerPair]:
    """(lambda, c), c from its nearer end."""
    lam = jnp.where(exists.lam, slack.lam, 0.0)
    c = jnp.where(slack.up < slack.low, lam - slack.up, p.slope * lam + slack.low)
    return lam, jnp.where(exists.low, c, jnp.where(p.free, 0.0, p.fixed) * lam)


def _interior_step(p: Programme, exists: _Room, i: _Interior) -> _Interior:
    """One step in lambda and e, where c = ref lambda + e on a free pair and ref is the slope of its nearer end: with
    c itself, the pairs near slope 1 would cancel in the Schur complement."""
    hp = lax.Precision.HIGHEST
    slack, price = i.slack, i.price
    free = exists.low
    lam, c = _point_of(p, exists, slack)
    g = gradient(p, c)
    at_top = free & (slack.up < slack.low)
    ref = jnp.where(free, jnp.where(at_top, 1.0, p.slope), jnp.where(p.free, 0.0, p.fixed))
    below, above = jnp.where(free, ref - p.slope, 0.0), jnp.where(free, 1.0 - ref, 0.0)
    rate = _where(exists, jax.tree.map(jnp.divide, price, slack), 0.0)

    # the Newton matrix, [w K + D, B; B^T, S] with the pairs eliminated neuron by neuron
    eye = jnp.eye(p.gram.shape[0])[:, :, None]
    hessian = p.gram[:, :, None] * p.weights
    diagonal = jnp.diagonal(p.gram)[:, None] * p.weights
    own = (rate.low + rate.up).T + REGULARISATION * diagonal
    inverse = -numerics.sweep(hessian + own * eye, free.T)
    inverse = jnp.where(free.T[:, None] & free.T, inverse, 0.0)
    couple = hessian * ref.T + (below * rate.low - above * rate.up).T * eye
    couple = jnp.where(free.T[:, None], couple, 0.0)
    solved = jnp.einsum("abj,bij->aij", inverse, couple, precision=hp)
    schur = jnp.einsum("ji,ikj,jk->ik", ref, hessian, ref, precision=hp)
    edge = rate.lam + rate.cap + jnp.sum(below**2 * rate.low + above**2 * rate.up, axis=0)
    schur = schur + jnp.diag(edge) - jnp.einsum("aij,akj->ik", couple, solved, precision=hp)
    schur = schur + jnp.diag(REGULARISATION * jnp.diagonal(schur))
    schur_inverse = numerics.sweep(schur, p.valid)

    off_e = jnp.where(free, g - price.low + price.up, 0.0)
    off_lam = jnp.sum(ref * g - below * price.low - above * price.up, axis=0) - p.target - price.lam + price.cap

    def direction(aim: _Room) -> tuple[_Room, _Room]:
        """Changes of slacks and prices that bring slack * price to `aim`, to first order."""
        pull = _where(exists, jax.tree.map(lambda a, x, t: a / x - t, aim, slack, price), 0.0)
        right_e = jnp.where(free, -off_e + pull.low - pull.up, 0.0)
        right = -off_lam + pull.lam - pull.cap + jnp.sum(below * pull.low + above * pull.up, axis=0)
        right = right - jnp.einsum("aij,ja->i", solved, right_e, precision=hp)
        d_lam = jnp.where(p.valid, -numerics.matmul(schur_inverse, jnp.where(p.valid, right, 0.0)), 0.0)
        rest = right_e - jnp.einsum("aij,i->ja", couple, d_lam, precision=hp)
        d_e = jnp.einsum("abj,jb->ja", inverse, rest, precision=hp)
        d_slack = _where(exists, _Room(d_e + below * d_lam, above * d_lam - d_e, d_lam, -d_lam), 0.0)
        d_price = _where(exists, jax.tree.map(lambda q, r, d: q - r * d, pull, rate, d_slack), 0.0)
        return d_slack, d_price

    def reach(x: _Room, d: _Room) -> Array:
        ratios = jax.tree.map(lambda v, t: jnp.min(jnp.where(t < 0, -v / jnp.where(t < 0, t, -1.0), jnp.inf)), x, d)
        return jnp.minimum(1.0, 0.995 * jnp.min(jnp.stack(jax.tree.leaves(ratios))))

    def product(x: _Room, y: _Room) -> Array:
        return sum(jnp.sum(v) for v in jax.tree.leaves(jax.tree.map(jnp.multiply, x, y)))  # type: ignore[return-value]

    count = sum(jnp.sum(e) for e in jax.tree.leaves(exists))
    mean = product(slack, price) / count

    def aimed(_: Array, carry: tuple[_Room, _Room, _Room, Array]) -> tuple[_Room, _Room, _Room, Array]:
        d_slack, d_price = direction(carry[0])
        t = jnp.minimum(reach(slack, d_slack), reach(price, d_price))
        ahead = product(_step(slack, d_slack, t), _step(price, d_price, t)) / count
        centre = mean * jnp.clip(ahead / mean, 0.0, 1.0) ** 3
        return jax.tree.map(lambda a, b: centre - a * b, d_slack, d_price), d_slack, d_price, t

    # twice: straight to the optimum to see how far that goes, then to a centre chosen by it, with curvature
    zero = jax.tree.map(jnp.zeros_like, slack)
    _, d_slack, d_price, t = lax.fori_loop(0, 2, aimed, (zero, zero, zero, jnp.zeros_like(mean)))
    slack, price = _step(slack, d_slack, t), _step(price, d_price, t)
    room = (1 - p.slope) * slack.lam
    top = free & (slack.up < slack.low)
    slack = slack._replace(
        low=jnp.where(top, room - slack.up, slack.low), up=jnp.where(free & ~top, room - slack.low, slack.up)
    )
    out = _Interior(slack, price, i.best, i.step + 1)
    lam, c = _point_of(p, exists, slack)
    return out._replace(best=_improved(p, i.best, lam, c, _sets(out)))


def _step(x: _Room, d: _Room, t: Array) -> _Room:
    return jax.tree.map(lambda v, w: v + t * w, x, d)
