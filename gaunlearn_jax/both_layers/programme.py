"""The quadratically constrained programme of a network whose two layers are both trained, and its Newton system.

    max sum_i lambda_i  over  lambda >= 0, 0 <= c_ji <= lambda_i (opposite-sign pairs)  subject to  ||G_j||^2 <= 1,
    G_j = sgn_j sum_i y_i (lambda_i S_ji or c_ji) x_i,  one j for each pattern.

t_j, the multiplier of 1/2 ||G_j||^2 <= 1/2, is the squared output weight of the neurons of pattern j, and G_j their
direction. Source: docs/theory, The programme of both layers.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Mask, PairMask, PerPair, PerPoint

HIGHEST = lax.Precision.HIGHEST


class Programme(NamedTuple):
    """Gram matrix [m, m] (diagonal about 1), sides sgn_j y_i [n, m], the same-sign active pairs [n, m], the neurons
    that stand for a pattern [n], and the points [m] with a constraint."""

    gram: Float[Array, "m m"]
    sides: PerPair
    active: PairMask
    stands: Bool[Array, "n"]
    valid: Mask

    @property
    def free(self) -> PairMask:
        """Opposite-sign pairs, whose c is a variable."""
        return (self.sides < 0) & self.stands[:, None] & self.valid

    @property
    def fixed(self) -> PairMask:
        """Same-sign active pairs, whose coefficient is lambda."""
        return self.active & self.stands[:, None] & self.valid


def same_pattern(signs: Float[Array, "n"], active: PairMask, valid: Mask) -> Bool[Array, "n n"]:
    """Neurons of one sign that are active at the same same-sign points."""
    seen = active & valid
    alike = jnp.all(seen[:, None] == seen, axis=-1)
    return alike & (signs[:, None] == signs)


def programme_of(gram: Array, labels: PerPoint, signs: Float[Array, "n"], active: PairMask, valid: Mask) -> Programme:
    """The programme of the neurons' patterns; the first neuron of each pattern stands for it."""
    sides = signs[:, None] * labels
    active = active & (sides > 0)
    first = jnp.argmax(same_pattern(signs, active, valid), axis=1) == jnp.arange(signs.shape[0])
    return Programme(gram, sides, active, first & jnp.any(active & valid, axis=1), valid)


class Directions(NamedTuple):
    """Of G_j: its coefficients [n, m], its inner products z_ji with the points, and its squared norm [n]."""

    coefficients: PerPair
    z: PerPair
    square: Float[Array, "n"]


def directions(p: Programme, lam: PerPoint, c: PerPair) -> Directions:
    """G_j at (lambda, c)."""
    made = p.sides * jnp.where(p.fixed, lam, jnp.where(p.free, c, 0.0))
    z = numerics.matmul(made, p.gram)
    return Directions(made, z, jnp.sum(made * z, axis=1))


class System(NamedTuple):
    """The Newton matrix of (lambda, c, t) with c and then t eliminated."""

    inverse: Float[Array, "m m n"]
    couple: Float[Array, "m m n"]
    solved: Float[Array, "m m n"]
    own: PerPair
    solved_own: PerPair
    slopes: PerPair
    weight: Float[Array, "n"]
    schur_inverse: Float[Array, "m m"]


def system(
    p: Programme,
    t: Float[Array, "n"],
    z: PerPair,
    tied: PerPair,
    pivots: PairMask,
    support: Mask,
    room: Float[Array, "n"],
    rates: tuple[PerPair, PerPair, PerPoint],
) -> System:
    """The matrix [H, g; g^T, -room] at G_j, t.

    tied [n, m] is the part of lambda in each coefficient, pivots are the pairs whose c moves on its own, support the
    points whose lambda moves; room [n] > 0 is h_j / t_j (h_j = (1 - ||G_j||^2) / 2), infinite where t_j does not move;
    rates are those of c >= 0, lambda >= c and lambda >= 0 (multiplier over slack).
    """
    low, up, lam = rates
    eye = jnp.eye(p.gram.shape[0])[:, :, None]
    v = p.sides.T
    hessian = p.gram[:, :, None] * (t * v)[:, None] * v
    inverse = -numerics.sweep(hessian + (low + up).T * eye, pivots.T)
    inverse = jnp.where(pivots.T[:, None] & pivots.T, inverse, 0.0)
    couple = jnp.where(pivots.T[:, None], hessian * tied.T - up.T * eye, 0.0)
    solved = jnp.einsum("abj,bij->aij", inverse, couple, precision=HIGHEST)
    own = jnp.where(pivots, p.sides * z, 0.0)
    solved_own = jnp.einsum("abj,jb->ja", inverse, own, precision=HIGHEST)
    slopes = p.sides * tied * z - jnp.einsum("aij,ja->ji", couple, solved_own, precision=HIGHEST)
    weight = 1.0 / (room + jnp.sum(own * solved_own, axis=1))
    schur = jnp.einsum("ji,ikj,jk->ik", tied, hessian, tied, precision=HIGHEST)
    schur = schur + jnp.diag(lam + jnp.sum(up, axis=0))
    schur = schur - jnp.einsum("aij,akj->ik", couple, solved, precision=HIGHEST)
    schur = schur + jnp.einsum("ji,j,jk->ik", slopes, weight, slopes, precision=HIGHEST)
    swept = -numerics.sweep(schur, support)
    return System(
        inverse, couple, solved, own, solved_own, slopes, weight,
        schur_inverse=jnp.where(support[:, None] & support, swept, 0.0),
    )  # fmt: skip


def moved(
    s: System, right_lam: PerPoint, right_c: PerPair, right_t: Float[Array, "n"]
) -> tuple[PerPoint, PerPair, Float[Array, "n"]]:
    """The changes of lambda, c and t that meet these right-hand sides."""
    first = jnp.einsum("abj,jb->ja", s.inverse, right_c, precision=HIGHEST)
    right_t = right_t - jnp.sum(s.own * first, axis=1)
    right = right_lam - jnp.einsum("aij,ja->i", s.couple, first, precision=HIGHEST)
    right = right + numerics.matmul(s.weight * right_t, s.slopes)
    d_lam = numerics.matmul(s.schur_inverse, right)
    d_t = s.weight * (numerics.matmul(s.slopes, d_lam) - right_t)
    rest = jnp.einsum("aij,i->ja", s.solved, d_lam, precision=HIGHEST)
    return d_lam, first - rest - s.solved_own * d_t[:, None], d_t


#: where the c of a free pair lies
LOWER, KINK, UPPER = 0, 1, 2


class Sets(NamedTuple):
    """What an optimum is known by: the points with multipliers, the patterns with mass, the place of each free pair."""

    support: Mask
    alive: Bool[Array, "n"]
    places: Int[Array, "n m"]
