"""A predictor-corrector interior-point method for the programme of both layers: it needs no guess.

Strictly feasible from the start: the norms are kept below 1 by the exact root along each step, the other slacks are
kept on their own. Source: docs/theory, The programme of both layers.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import PerPair, PerPoint
from gaunlearn_jax.both_layers.programme import Programme, directions, moved, system

#: steps after which the method gives up; it needs 15 to 30
STEPS = 60
#: mean product of slack and price at which the method ends: Newton's does what is left
ENOUGH = 1e-11
#: the share of the way to the boundary that a step may take
SHORT_OF = 0.99


class Iterate(NamedTuple):
    """(lambda, c) by the slacks lambda, c (`low`), lambda - c (`up`), their prices, and t [n]; `left` is the largest
    residual of stationarity."""

    lam: PerPoint
    low: PerPair
    up: PerPair
    price_lam: PerPoint
    price_low: PerPair
    price_up: PerPair
    t: Float[Array, "n"]
    mean: Float[Array, ""]
    left: Float[Array, ""]
    step: Int[Array, ""]


class _Change(NamedTuple):
    """Changes of lambda, c and t, and those of the prices."""

    lam: PerPoint
    c: PerPair
    t: Float[Array, "n"]
    price_lam: PerPoint
    price_low: PerPair
    price_up: PerPair


def solve(p: Programme) -> Iterate:
    """The iterate at which the products of slack and price have fallen to ENOUGH, or the last of STEPS."""

    def unfinished(i: Iterate) -> Array:
        return ((i.mean > ENOUGH) | (i.left > 1e2 * ENOUGH)) & (i.step < STEPS)

    return lax.while_loop(unfinished, lambda i: _step(p, i), _start(p))


def living(p: Programme, i: Iterate) -> Bool[Array, "n"]:
    """The patterns with mass at the optimum: t is larger than its room."""
    return p.stands & (i.t > _room(p, i))


def coefficients(p: Programme, i: Iterate) -> PerPair:
    """c, from its nearer end."""
    return jnp.where(p.free, jnp.where(i.up < i.low, i.lam - i.up, i.low), 0.0)


def _room(p: Programme, i: Iterate) -> Float[Array, "n"]:
    """h_j = (1 - ||G_j||^2) / 2."""
    return jnp.where(p.stands, 0.5 * (1 - directions(p, i.lam, coefficients(p, i)).square), 1.0)


def _start(p: Programme) -> Iterate:
    """lambda = s, c = s / 2 with s such that every ||G_j||^2 is at most 1/2; all products of slack and price are 1."""
    ones = jnp.where(p.valid, 1.0, 0.0)
    half = jnp.where(p.free, 0.5, 0.0)
    most = jnp.max(jnp.where(p.stands, directions(p, ones, half).square, 0.0))
    s = jnp.sqrt(0.5 / jnp.where(most > 0, most, 1.0))
    one, pair = jnp.where(p.valid, s, 1.0), jnp.where(p.free, 0.5 * s, 1.0)
    price, pair_price = jnp.where(p.valid, 1 / one, 0.0), jnp.where(p.free, 1 / pair, 0.0)
    big = jnp.asarray(jnp.inf)
    first = Iterate(one, pair, pair, price, pair_price, pair_price, jnp.zeros(p.stands.shape), big, big, jnp.asarray(0))
    return first._replace(t=jnp.where(p.stands, 1 / _room(p, first), 0.0))


def _step(p: Programme, i: Iterate) -> Iterate:
    """Two solves of one matrix: straight to the optimum, to see how far that goes, then to a centre chosen by it."""
    free, valid, stands = p.free, p.valid, p.stands
    at = directions(p, i.lam, coefficients(p, i))
    h = jnp.where(stands, 0.5 * (1 - at.square), 1.0)
    t = jnp.where(stands, i.t, 1.0)
    count = jnp.sum(valid) + 2 * jnp.sum(free) + jnp.sum(stands)
    tied = jnp.where(p.fixed, 1.0, 0.0)
    rates = (i.price_low / i.low, i.price_up / i.up, i.price_lam / i.lam)
    room = jnp.where(stands, h / t, jnp.inf)
    s = system(p, i.t, at.z, tied, free, valid, room, rates)
    pull = p.sides * at.z
    lam_left = jnp.where(valid, 1 - jnp.sum(i.t[:, None] * tied * pull, axis=0), 0.0)
    c_left = jnp.where(free, -i.t[:, None] * pull, 0.0)
    mean = _mean(p, i.lam, i.low, i.up, i.price_lam, i.price_low, i.price_up, i.t, h, count)

    def aimed(_: Array, carry: tuple[Array, _Change, Array]) -> tuple[Array, _Change, Array]:
        centre, d, _ = carry
        d_made = p.sides * jnp.where(p.fixed, d.lam, jnp.where(free, d.c, 0.0))
        d_z = numerics.matmul(d_made, p.gram)
        bend = d.t[:, None] * p.sides * d_z
        aim_lam = (centre - d.lam * d.price_lam) / i.lam
        aim_low = (centre - d.c * d.price_low) / i.low
        aim_up = (centre - (d.lam - d.c) * d.price_up) / i.up
        curve = d.t * jnp.sum(d_made * at.z, axis=1) + 0.5 * t * jnp.sum(d_made * d_z, axis=1)
        right_lam = lam_left + aim_lam + jnp.sum(jnp.where(free, aim_up, 0.0), axis=0) - jnp.sum(tied * bend, axis=0)
        right_c = jnp.where(free, c_left + aim_low - aim_up - bend, 0.0)
        right_t = jnp.where(stands, h - (centre + curve) / t, 0.0)
        d_lam, d_c, d_t = moved(s, jnp.where(valid, right_lam, 0.0), right_c, right_t)
        new = _Change(
            d_lam, d_c, d_t,
            price_lam=jnp.where(valid, aim_lam - i.price_lam - rates[2] * d_lam, 0.0),
            price_low=jnp.where(free, aim_low - i.price_low - rates[0] * d_c, 0.0),
            price_up=jnp.where(free, aim_up - i.price_up - rates[1] * (d_lam - d_c), 0.0),
        )  # fmt: skip
        reach = _reach(p, i, new, at.square)
        ahead = _moved(p, i, new, reach)
        h_ahead = jnp.where(stands, 0.5 * (1 - directions(p, ahead.lam, coefficients(p, ahead)).square), 1.0)
        there = _mean(p, *ahead[:7], h_ahead, count)
        return jnp.maximum(mean * jnp.clip(there / mean, 0.0, 1.0) ** 3, 0.1 * ENOUGH), new, reach

    zero, pairs, n = jnp.zeros_like(i.lam), jnp.zeros_like(i.low), jnp.zeros_like(i.t)
    nothing = _Change(zero, pairs, n, zero, pairs, pairs)
    _, change, reach = lax.fori_loop(0, 2, aimed, (jnp.zeros(()), nothing, jnp.zeros(())))
    out = _moved(p, i, change, reach)
    left = jnp.maximum(
        jnp.max(jnp.abs(jnp.where(valid, lam_left + i.price_lam + jnp.sum(i.price_up, axis=0), 0.0))),
        jnp.max(jnp.abs(jnp.where(free, c_left + i.price_low - i.price_up, 0.0))),
    )
    return out._replace(mean=mean, left=left, step=i.step + 1)


def _mean(p: Programme, lam: Array, low: Array, up: Array, a: Array, b: Array, c: Array, t: Array, h: Array,
          count: Array) -> Array:  # fmt: skip
    """The mean product of slack and price."""
    pairs = jnp.sum(jnp.where(p.free, low * b + up * c, 0.0))
    return (jnp.sum(jnp.where(p.valid, lam * a, 0.0)) + pairs + jnp.sum(jnp.where(p.stands, t * h, 0.0))) / count


def _moved(p: Programme, i: Iterate, d: _Change, reach: Array) -> Iterate:
    return i._replace(
        lam=i.lam + reach * d.lam,
        low=jnp.where(p.free, i.low + reach * d.c, 1.0),
        up=jnp.where(p.free, i.up + reach * (d.lam - d.c), 1.0),
        price_lam=i.price_lam + reach * d.price_lam,
        price_low=i.price_low + reach * d.price_low,
        price_up=i.price_up + reach * d.price_up,
        t=i.t + reach * d.t,
    )


def _reach(p: Programme, i: Iterate, d: _Change, square: Array) -> Array:
    """The longest step, at most the whole one, that keeps every slack and price positive and every norm below 1."""

    def of(x: Array, dx: Array) -> Array:
        return jnp.min(jnp.where(dx < 0, -x / jnp.where(dx < 0, dx, -1.0), jnp.inf))

    pairs = [(i.lam, d.lam), (i.low, jnp.where(p.free, d.c, 0.0)), (i.up, jnp.where(p.free, d.lam - d.c, 0.0))]
    pairs += [(i.price_lam, d.price_lam), (i.price_low, d.price_low), (i.price_up, d.price_up), (i.t, d.t)]
    d_made = p.sides * jnp.where(p.fixed, d.lam, jnp.where(p.free, d.c, 0.0))
    d_z = numerics.matmul(d_made, p.gram)
    along = jnp.sum(directions(p, i.lam, coefficients(p, i)).coefficients * d_z, axis=1)
    speed = jnp.sum(d_made * d_z, axis=1)
    below = along + jnp.sqrt(along**2 + speed * jnp.maximum(1 - square, 0.0))
    root = jnp.where(p.stands & (below > 0), (1 - square) / jnp.where(below > 0, below, 1.0), jnp.inf)
    return jnp.minimum(1.0, SHORT_OF * jnp.min(jnp.stack([*(of(x, dx) for x, dx in pairs), jnp.min(root)])))
