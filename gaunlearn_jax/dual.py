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
TOL = 1e-12
NEWTON_STEPS = 25
INTERIOR_STEPS = 60


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
    optimality conditions relative to b, whether it is below tolerance, and Newton steps taken."""

    multipliers: PerPoint
    c: PerPair
    kinks: PairMask
    violation: Float[Array, ""]
    converged: Bool[Array, ""]
    steps: Int[Array, ""]


class _State(NamedTuple):
    lam: PerPoint
    c: PerPair
    support: Mask
    capped: Mask
    pairs: Int[Array, "n m"]
    calm: Int[Array, ""]
    violation: Float[Array, ""]
    best: Float[Array, ""]
    best_lam: PerPoint
    best_c: PerPair
    best_pairs: Int[Array, "n m"]
    step: Int[Array, ""]


def solve(programme: Programme) -> Solution:
    """Solve one programme; under vmap, lanes that are done cost nothing but their place in the batch."""
    unit = jnp.max(jnp.diagonal(programme.gram)) * jnp.sum(programme.weights)
    unit = jnp.where(unit > 0, unit, 1.0)
    scaled = programme._replace(
        gram=programme.gram / unit,
        cap=programme.cap * unit,
        target=jnp.where(programme.valid, programme.target, 0.0),
    )
    state = _newton(scaled, _start(scaled))
    state = _newton(scaled, _interior(scaled, state))
    kinks = (state.best_pairs == KINK) & scaled.free & (state.best_lam > 0)
    return Solution(
        multipliers=state.best_lam / unit,
        c=state.best_c / unit,
        kinks=kinks,
        violation=state.best,
        converged=state.best <= 1e-9,
        steps=state.step,
    )


def gradient(p: Programme, c: PerPair) -> PerPair:
    """g_ji = u_j^2 (K_y c_j)_i = u_j y_i z_ji of the network that c makes."""
    return p.weights[:, None] * numerics.matmul(c, p.gram)


def concave_margins(p: Programme, g: PerPair) -> PerPoint:
    """F_i: fixed pairs at their slope, free pairs at the worse of their two slopes (docs/theory, Closeness)."""
    return jnp.sum(jnp.where(p.free, jnp.minimum(p.slope * g, g), p.fixed * g), axis=0)


def _start(p: Programme) -> _State:
    zero = jnp.zeros_like(p.target)
    pairs = jnp.zeros(p.free.shape, jnp.int32)
    c = jnp.zeros_like(p.fixed)
    inf = jnp.asarray(jnp.inf)
    count = jnp.asarray(0, jnp.int32)
    return _State(zero, c, p.valid, jnp.zeros_like(p.valid), pairs, count, inf, inf, zero, c, pairs, count)


def _newton(p: Programme, state: _State) -> _State:
    """Projected Newton until the sets stand still and the residual is at rounding level, or the limit."""

    def unfinished(s: _State) -> Array:
        return (s.best > TOL) & (s.calm < 4) & (s.step < NEWTON_STEPS)

    state = state._replace(step=jnp.zeros_like(state.step), calm=jnp.zeros_like(state.calm))
    return lax.while_loop(unfinished, lambda s: _newton_step(p, s), state)


def _newton_step(p: Programme, s: _State) -> _State:
    live = s.support | s.capped
    kink = (s.pairs == KINK) & p.free & live
    slopes = jnp.where(p.free, jnp.where(s.pairs == UPPER, 1.0, p.slope), p.fixed)
    slopes = jnp.where(kink, 0.0, slopes)
    lam = jnp.where(s.capped, p.cap, jnp.where(s.support, s.lam, 0.0))
    c = jnp.where(kink, s.c, slopes * lam)

    swept = jax.vmap(numerics.sweep, in_axes=(None, 0))(p.gram, kink)
    residual = jnp.where(kink, -numerics.matmul(c, p.gram), 0.0)
    schur = jnp.einsum("j,ji,jik,jk->ik", p.weights, slopes, swept, slopes, precision=lax.Precision.HIGHEST)
    through = jnp.einsum("jik,jk->ji", swept, residual, precision=lax.Precision.HIGHEST)
    right = p.target - jnp.sum(slopes * (gradient(p, c) + p.weights[:, None] * through), axis=0)
    inverse = numerics.sweep(schur, s.support)
    move = jnp.where(s.support, -numerics.matmul(inverse, jnp.where(s.support, right, 0.0)), 0.0)
    spread = jnp.einsum("jik,jk->ji", swept, slopes * move, precision=lax.Precision.HIGHEST)
    lam = lam + move
    c = jnp.where(kink, c - through - spread, slopes * lam)
    return _judge(p, s, lam, c, kink)


def _judge(p: Programme, s: _State, lam: PerPoint, c: PerPair, kink: PairMask) -> _State:
    """Move what violates its sign condition to the neighbouring set, and score the point made feasible."""
    g = gradient(p, c)
    noise = 64 * numerics.EPS * p.weights[:, None] * numerics.matmul(jnp.abs(c), jnp.abs(p.gram))
    top = jnp.max(jnp.abs(lam))
    pairs = jnp.where(kink & (c < p.slope * lam - 1e-13 * top), LOWER, s.pairs)
    pairs = jnp.where(kink & (c > lam + 1e-13 * top), UPPER, pairs)
    lower, upper = p.free & ~kink & (s.pairs == LOWER), p.free & ~kink & (s.pairs == UPPER)
    stuck = kink & (lam <= 0)
    pairs = jnp.where((lower & (g < -noise)) | (upper & (g > noise)), KINK, pairs)
    pairs = jnp.where(stuck, jnp.where(g < 0, UPPER, LOWER), pairs)

    concave = concave_margins(p, g)
    gap = concave - p.target
    floor = TOL * jnp.maximum(1.0, p.target)
    support = jnp.where(s.support, (lam > 0) & (lam <= p.cap), p.valid & ~s.capped & (gap < -floor))
    capped = jnp.where(s.capped, gap <= floor, s.support & (lam > p.cap))
    support = support | (s.capped & ~capped)

    feasible_lam = jnp.where(p.valid, jnp.clip(lam, 0.0, p.cap), 0.0)
    slopes = jnp.where(p.free, jnp.clip(c, p.slope * feasible_lam, feasible_lam), p.fixed * feasible_lam)
    violation = optimality(p, feasible_lam, slopes)
    still = jnp.all(pairs == s.pairs) & jnp.all(support == s.support) & jnp.all(capped == s.capped)
    better = violation < s.best
    return _State(
        lam=lam,
        c=c,
        support=support,
        capped=capped,
        pairs=pairs,
        calm=jnp.where(still, s.calm + 1, 0),
        violation=violation,
        best=jnp.where(better, violation, s.best),
        best_lam=jnp.where(better, feasible_lam, s.best_lam),
        best_c=jnp.where(better, slopes, s.best_c),
        best_pairs=jnp.where(better, jnp.where(kink, KINK, s.pairs), s.best_pairs),
        step=s.step + 1,
    )


def optimality(p: Programme, lam: PerPoint, c: PerPair) -> Float[Array, ""]:
    """Largest violation of the optimality conditions of a feasible (lambda, c), relative to b.

    Per point: F_i >= b_i unless capped, and lambda_i |F_i - b_i| = 0; per free pair:
    (c - slope lambda) max(g, 0) + (lambda - c) max(-g, 0) = 0. Products are relative to lambda_i.
    """
    g = gradient(p, c)
    gap = concave_margins(p, g) - p.target
    top = jnp.max(lam)
    safe = jnp.where(top > 0, top, 1.0)
    short = jnp.where(lam < p.cap, jnp.maximum(-gap, 0.0), 0.0)
    slack = jnp.maximum(gap, 0.0) * lam / safe
    pair = (c - p.slope * lam) * jnp.maximum(g, 0.0) + (lam - c) * jnp.maximum(-g, 0.0)
    pair = jnp.sum(jnp.where(p.free, pair, 0.0), axis=0) / safe
    worst = jnp.maximum(jnp.maximum(short, slack), pair) / jnp.maximum(1.0, p.target)
    worst = jnp.max(jnp.where(p.valid, worst, 0.0))
    return jnp.where(jnp.isfinite(worst) & jnp.all(jnp.isfinite(c)), worst, jnp.inf)


class _Interior(NamedTuple):
    lam: PerPoint
    mu: PerPair
    at_lam: PerPoint
    at_cap: PerPoint
    upper: PerPair
    lower: PerPair
    gap: Float[Array, ""]
    infeasibility: Float[Array, ""]
    step: Int[Array, ""]


def _interior(p: Programme, s: _State) -> _State:
    """Primal-dual interior-point pass, entered only where Newton has not finished; returns its guess of the sets."""
    free = p.free & p.valid
    ones = jnp.ones_like(p.fixed)
    has_cap = jnp.isfinite(p.cap) & p.valid
    lam0 = jnp.where(p.valid, jnp.where(has_cap, jnp.minimum(1.0, 0.5 * p.cap), 1.0), 0.0)
    done = s.best <= TOL
    gap = jnp.where(done, 0.0, 1.0)
    start = _Interior(lam0, 0.5 * (1 + p.slope) * ones * lam0, ones[0], ones[0], ones, ones, gap, gap, s.step * 0)

    def unfinished(i: _Interior) -> Array:
        return (jnp.maximum(i.gap, i.infeasibility) > 1e-12) & (i.step < INTERIOR_STEPS)

    out = lax.while_loop(unfinished, lambda i: _interior_step(p, free, has_cap, i), start)
    g = gradient(p, jnp.where(p.free, jnp.where(free, out.mu, 0.0), p.fixed * out.lam))
    room_up, room_low = out.lam - out.mu, out.mu - p.slope * out.lam
    pairs = jnp.where(room_up < out.upper, UPPER, jnp.where(room_low < out.lower, LOWER, KINK))
    support = p.valid & (out.lam > out.at_lam)
    capped = has_cap & (p.cap - out.lam < out.at_cap)
    usable = ~done & jnp.all(jnp.isfinite(g))
    pick = lambda new, old: jnp.where(usable, new, old)  # noqa: E731
    return s._replace(
        lam=pick(out.lam, s.lam),
        c=pick(jnp.where(p.free, out.mu, p.fixed * out.lam), s.c),
        support=pick(support & ~capped, s.support),
        capped=pick(capped, s.capped),
        pairs=pick(pairs.astype(jnp.int32), s.pairs),
    )


def _interior_step(p: Programme, free: PairMask, has_cap: Mask, i: _Interior) -> _Interior:
    a = p.slope
    one = lambda x, where: jnp.where(where, x, 1.0)  # noqa: E731
    v, w = one(i.lam - i.mu, free), one(i.mu - a * i.lam, free)
    lam, room = one(i.lam, p.valid), one(p.cap - i.lam, has_cap)
    products = (
        jnp.sum(jnp.where(free, i.upper * v + i.lower * w, 0.0))
        + jnp.sum(jnp.where(p.valid, i.at_lam * lam, 0.0))
        + jnp.sum(jnp.where(has_cap, i.at_cap * room, 0.0))
    )
    count = 2 * jnp.sum(free) + jnp.sum(p.valid) + jnp.sum(has_cap)
    centre = 0.1 * products / count

    fixed = jnp.where(p.free | ~p.valid, 0.0, p.fixed)
    c = jnp.where(free, i.mu, fixed * i.lam)
    g = gradient(p, c)
    up, low = jnp.where(free, i.upper / v, 0.0), jnp.where(free, i.lower / w, 0.0)
    barrier, edge = up + low, up + a * low
    pull_v, pull_w = jnp.where(free, centre / v, 0.0), jnp.where(free, centre / w, 0.0)
    right_mu = jnp.where(free, -g - pull_v + pull_w, 0.0)
    right_lam = -jnp.sum(fixed * g, 0) + p.target + jnp.sum(pull_v - a * pull_w, 0) + centre / lam
    right_lam = right_lam - jnp.where(has_cap, centre / room, 0.0)
    own = jnp.sum(up + a * a * low, 0) + i.at_lam / lam + jnp.where(has_cap, i.at_cap / room, 0.0)

    eye = jnp.eye(p.gram.shape[0])
    hessian = p.weights[:, None, None] * p.gram
    block = hessian + barrier[:, :, None] * eye
    minus_inverse = jax.vmap(numerics.sweep)(block, free)
    inverse = jnp.where(free[:, :, None] & free[:, None, :], -minus_inverse, 0.0)
    couple = jnp.where(free[:, :, None], hessian * fixed[:, None, :] - edge[:, :, None] * eye, 0.0)
    hp = lax.Precision.HIGHEST
    solved = jnp.einsum("jab,jbi->jai", inverse, couple, precision=hp)
    schur = jnp.einsum("ji,jik,jk->ik", fixed, hessian, fixed, precision=hp)
    schur = schur + jnp.diag(own) - jnp.einsum("jai,jak->ik", couple, solved, precision=hp)
    rhs = right_lam - jnp.einsum("jai,ja->i", solved, right_mu, precision=hp)
    d_lam = -numerics.matmul(numerics.sweep(schur, p.valid), jnp.where(p.valid, rhs, 0.0))
    d_lam = jnp.where(p.valid, d_lam, 0.0)
    d_mu = jnp.einsum("jab,jb->ja", inverse, right_mu - jnp.einsum("jai,i->ja", couple, d_lam, precision=hp))

    d_v, d_w = jnp.where(free, d_lam - d_mu, 0.0), jnp.where(free, d_mu - a * d_lam, 0.0)
    d_up = jnp.where(free, centre / v - i.upper - up * d_v, 0.0)
    d_low = jnp.where(free, centre / w - i.lower - low * d_w, 0.0)
    d_at = jnp.where(p.valid, centre / lam - i.at_lam - i.at_lam / lam * d_lam, 0.0)
    d_cap = jnp.where(has_cap, centre / room - i.at_cap + i.at_cap / room * d_lam, 0.0)

    def reach(*pairs: tuple[Array, Array]) -> Array:
        ratios = [jnp.min(jnp.where(dx < 0, -x / jnp.where(dx < 0, dx, -1.0), jnp.inf)) for x, dx in pairs]
        return jnp.minimum(1.0, 0.99 * jnp.min(jnp.stack(ratios)))

    primal = reach((v, d_v), (w, d_w), (lam, d_lam), (room, jnp.where(has_cap, -d_lam, 0.0)))
    dual = reach((i.upper, d_up), (i.lower, d_low), (i.at_lam, d_at), (i.at_cap, d_cap))
    t = jnp.minimum(primal, dual)
    return _Interior(
        lam=i.lam + t * d_lam,
        mu=i.mu + t * d_mu,
        at_lam=i.at_lam + t * d_at,
        at_cap=i.at_cap + t * d_cap,
        upper=i.upper + t * d_up,
        lower=i.lower + t * d_low,
        gap=products / count,
        infeasibility=(1 - t) * i.infeasibility,
        step=i.step + 1,
    )
