"""Families of distributions on top of `elliptical`: each is x with E ||x||^2 = 1 or as its sentence says.

Source: docs/theory, Families.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gaunlearn_jax.base.arrays import Labels, Numbers, Scalar
from gaunlearn_jax.data.dataset import Dataset
from gaunlearn_jax.data.distributions import alternating
from gaunlearn_jax.data.ellipses import assembled, coordinates, elliptical

#: eigenspaces of the power law
BLOCKS = 8


def student(key: Array, num_points: int, dim: Numbers, nu: Scalar) -> Dataset:
    """x = sqrt(nu / chi^2_nu) g, g ~ N(0, I/d): heavy tails, one chi^2 per point."""
    key_scale, key_rest = jax.random.split(key)
    half = jnp.asarray(nu, jnp.float64) / 2
    scales = jnp.sqrt(half / gamma(key_scale, half, num_points))
    return elliptical(key_rest, num_points, isotropic(dim), scales=scales)


def lognormal(key: Array, num_points: int, dim: Numbers, spread: Scalar) -> Dataset:
    """x = exp(spread z) g, z ~ N(0, 1) per point, g ~ N(0, I/d)."""
    key_scale, key_rest = jax.random.split(key)
    scales = jnp.exp(spread * jax.random.normal(key_scale, (num_points,), jnp.float64))
    return elliptical(key_rest, num_points, isotropic(dim), scales=scales)


def sphere(key: Array, num_points: int, dim: Numbers) -> Dataset:
    """x uniform on the unit sphere of R^d."""
    return elliptical(key, num_points, isotropic(dim), unit=True)


def equicorrelated(key: Array, num_points: int, dim: Numbers, c: Scalar) -> Dataset:
    """x = sqrt(c) e + sqrt(1 - c) g with one fixed unit vector e: a common mean, all pairs at cosine about c."""
    mean = jnp.sqrt(jnp.asarray(c, jnp.float64)) * jnp.ones((num_points, 1))
    return elliptical(key, num_points, isotropic(dim, 1 - jnp.asarray(c)), means=[mean])


def clusters(key: Array, num_points: int, dim: Numbers, number: Scalar, c: Scalar, flip: Scalar) -> Dataset:
    """x_i = sqrt(1 - c) g_i + sqrt(c) h, h the centre of cluster i mod number, g and h ~ N(0, I/d); labels alternate
    over the clusters and are flipped with this chance."""
    key_flip, key_rest = jax.random.split(key)
    member = jnp.mod(jnp.arange(num_points), jnp.floor(number))
    labels = flipped(key_flip, _signs(member), flip)
    return elliptical(key_rest, num_points, isotropic(dim), mixing=_around(member, c), labels=labels)


def near_duplicates(key: Array, num_points: int, dim: Numbers, copies: Scalar, c: Scalar) -> Dataset:
    """Groups of 1 + copies neighbouring points of one label, at mutual cosine about c: x_i = sqrt(1 - c) g_i +
    sqrt(c) h with h of the group."""
    member = jnp.floor(jnp.arange(num_points) / (1 + jnp.floor(copies)))
    return elliptical(key, num_points, isotropic(dim), mixing=_around(member, c), labels=both_classes(_signs(member)))


def ar1(key: Array, num_points: int, dim: Numbers, rho: Scalar) -> Dataset:
    """x_0 = g_0, x_i = rho x_(i-1) + sqrt(1 - rho^2) g_i: serial correlation, cosines about rho^|i-j|."""
    rho = jnp.asarray(rho, jnp.float64)
    i = jnp.arange(num_points)
    lag = i[:, None] - i
    own = jnp.where(i == 0, 1.0, jnp.sqrt(1 - rho**2))
    mixing = jnp.where(lag >= 0, rho ** jnp.maximum(lag, 0), 0.0) * own
    return elliptical(key, num_points, isotropic(dim), mixing=mixing)


def spiked(key: Array, num_points: int, dim: Numbers, share: Scalar) -> Dataset:
    """x ~ N(0, S), tr S = 1, one eigenvalue `share`, the others equal."""
    d, share = jnp.asarray(dim, jnp.float64), jnp.asarray(share, jnp.float64)
    spectrum: list[tuple[Any, Any]] = [(share, 1), ((1 - share) / (d - 1), d - 1)]
    return elliptical(key, num_points, spectrum, means=[jnp.zeros((num_points, 1)), None])


def power_law(key: Array, num_points: int, dim: Numbers, exponent: Scalar) -> Dataset:
    """x ~ N(0, S), tr S = 1, eigenvalues that fall as rank^(-exponent) in eight steps: see `power_spectrum`."""
    return elliptical(key, num_points, power_spectrum(dim, exponent))


def unbalanced(key: Array, num_points: int, dim: Numbers, positive: Scalar, share: Scalar) -> Dataset:
    """x = y mu + g, ||mu||^2 = share, g ~ N(0, I/d); a fraction `positive` of the points, at least one of each class,
    has label +1."""
    count = jnp.clip(jnp.round(positive * num_points), 1, num_points - 1)
    labels = jnp.where(jnp.arange(num_points) < count, 1.0, -1.0)
    return _with_means(key, num_points, dim, labels, labels, share, 0.0)


def shifted(key: Array, num_points: int, dim: Numbers, common: Scalar, share: Scalar) -> Dataset:
    """x = sqrt(common) e + sqrt(1 - common) (y mu + g), ||mu||^2 = share, e a unit vector orthogonal to mu: classes
    around a common mean."""
    labels = alternating(num_points)
    return _with_means(key, num_points, dim, labels, labels, share, common)


def label_noise(key: Array, num_points: int, dim: Numbers, flip: Scalar, share: Scalar) -> Dataset:
    """x = y mu + g, ||mu||^2 = share, with alternating y; then each label is flipped with this chance."""
    key_flip, key_rest = jax.random.split(key)
    truth = alternating(num_points)
    return _with_means(key_rest, num_points, dim, flipped(key_flip, truth, flip), truth, share, 0.0)


def teacher(key: Array, num_points: int, dim: Numbers, flip: Scalar) -> Dataset:
    """x ~ N(0, I/d), y = sign of <x, e> for a fixed direction e, flipped with this chance."""
    key_flip, key_rest = jax.random.split(key)
    x, d, good = coordinates(key_rest, num_points, isotropic(dim), means=[jnp.zeros((num_points, 1))])
    labels = flipped(key_flip, jnp.where(x[:, 0] >= 0, 1.0, -1.0), flip)
    return assembled(x, labels, d, good)


def gamma(key: Array, shape: Array, count: int) -> Array:
    """Gamma variates [count] of one traced shape > 0, by Marsaglia and Tsang (2000): all of a lane are proposed at
    once, which is twice as fast as one after another."""
    below = shape < 1
    d = jnp.where(below, shape + 1, shape) - 1 / 3
    key_boost, key_loop = jax.random.split(key)

    def propose(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        key, value, done = carry
        key, key_normal, key_uniform = jax.random.split(key, 3)
        x = jax.random.normal(key_normal, (count,), jnp.float64)
        v = (1 + x / jnp.sqrt(9 * d)) ** 3
        safe = jnp.where(v > 0, v, 1.0)
        log_u = jnp.log(jax.random.uniform(key_uniform, (count,), jnp.float64))
        accepted = (v > 0) & (log_u < x**2 / 2 + d * (1 - safe + jnp.log(safe)))
        return key, jnp.where(done, value, d * safe), done | accepted

    start = key_loop, jnp.ones(count), jnp.zeros(count, bool)
    value = jax.lax.while_loop(lambda carry: jnp.any(~carry[2]), propose, start)[1]
    # gamma(a) = gamma(a + 1) u^(1/a)
    boost = jax.random.uniform(key_boost, (count,), jnp.float64) ** (1 / shape)
    return jnp.where(below, value * boost, value)


def isotropic(dim: Numbers, size: Scalar = 1.0) -> list[tuple[Any, Any]]:
    """The spectrum of N(0, size I/d)."""
    d = jnp.asarray(dim, jnp.float64)
    return [(size / d, d)]


def power_spectrum(dim: Numbers, exponent: Scalar) -> list[tuple[Array, Array]]:
    """Eight eigenspaces between the ranks floor(d^(b/8)), b = 0..8 (the first from 0, the last to d), of eigenvalues
    proportional to (middle rank)^(-exponent), with trace 1."""
    d = jnp.asarray(dim, jnp.float64)
    edges = jnp.floor(d ** (jnp.arange(1, BLOCKS) / BLOCKS) + 1e-9)
    edges = jnp.concatenate([jnp.zeros(1), edges, d[None]])
    sizes = edges[1:] - edges[:-1]
    values = ((edges[1:] + edges[:-1] + 1) / 2) ** -jnp.asarray(exponent, jnp.float64)
    values = values / jnp.sum(values * sizes)
    return [(values[b], sizes[b]) for b in range(BLOCKS)]


def flipped(key: Array, labels: Labels, chance: Scalar) -> Labels:
    """Every label flipped with this chance; see `both_classes`."""
    flips = jax.random.uniform(key, labels.shape, jnp.float64) < chance
    return both_classes(jnp.where(flips, -labels, labels))


def both_classes(labels: Labels) -> Labels:
    """The labels, the last one flipped where all agree: the margin problem needs two classes."""
    return labels.at[-1].multiply(jnp.where(jnp.all(labels == labels[0]), -1.0, 1.0))


def _signs(member: Array) -> Labels:
    return jnp.where(jnp.mod(member, 2) == 0, 1.0, -1.0)


def _around(member: Array, c: Scalar) -> Array:
    """B = [sqrt(1 - c) I, sqrt(c) Z], Z the membership of points in groups."""
    m, c = member.shape[0], jnp.asarray(c, jnp.float64)
    return jnp.concatenate([jnp.sqrt(1 - c) * jnp.eye(m), jnp.sqrt(c) * (member[:, None] == jnp.arange(m))], axis=1)


def _with_means(
    key: Array, m: int, dim: Numbers, labels: Labels, truth: Labels, share: Scalar, common: Scalar
) -> Dataset:
    """x = sqrt(common) e + sqrt(1 - common) (truth mu + g)."""
    rest = 1 - jnp.asarray(common, jnp.float64)
    means = jnp.stack([jnp.sqrt(rest * share) * truth, jnp.sqrt(1 - rest) * jnp.ones(m)], axis=1)
    return elliptical(key, m, isotropic(dim, rest), means=[means], labels=labels)
