"""Elliptical draws: means plus a mixed Gaussian sample of any covariance, exactly, at any dimension.

X = M + diag(r) B G S^(1/2), G [q, d] standard normal, S with few different eigenvalues. Source: docs/theory, Elliptical
draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gaunlearn_jax.base import checks, draws, numerics
from gaunlearn_jax.base.arrays import Points, Scalar
from gaunlearn_jax.base.codes import Status
from gaunlearn_jax.data.dataset import Dataset, check_labels, good_labels
from gaunlearn_jax.data.distributions import MAX_DIM, alternating

#: coordinates beyond the number of points that are cheaper to carry than to rotate away
SPARE = 1


def elliptical(
    key: Array,
    num_points: int,
    spectrum: Sequence[tuple[Scalar, Scalar]],
    *,
    mixing: Any = None,
    scales: Any = None,
    means: Sequence[Any] | None = None,
    unit: bool = False,
    labels: Any = None,
) -> Dataset:
    """Rows of X = M + diag(r) B G S^(1/2) in m or m + 1 coordinates, exactly in distribution.

    `spectrum` lists the eigenvalues of S with their multiplicities d_b: ((value, multiplicity), ..), d = sum d_b <=
    1e15. `mixing` is B [m, q] (default: the identity), `scales` r [m] (default: ones). `means` holds, per eigenspace,
    None or the coordinates [m, p_b] of M along p_b orthonormal directions of it. `unit` divides every row by its norm
    at the end; labels alternate unless given. All numbers may be traced, B, r, M and labels random if independent of
    `key`. d_b - p_b must exceed q - 1 or be a whole number >= 0: ValueError where concrete, a bad status otherwise.
    Source: docs/theory, Elliptical draws.

    >>> data = elliptical(jax.random.key(0), 4, [(0.5, 1), (0.5e-6, 1e6)])
    >>> data.points.shape, float(data.dim)
    ((4, 4), 1000001.0)
    """
    m = checks.whole("num_points", num_points, 2, "an integer of at least 2")
    x, dim, good = coordinates(key, m, spectrum, mixing=mixing, scales=scales, means=means)
    return assembled(x, alternating(m) if labels is None else labels, dim, good, unit=unit)


def coordinates(
    key: Array,
    num_points: int,
    spectrum: Sequence[tuple[Scalar, Scalar]],
    *,
    mixing: Any = None,
    scales: Any = None,
    means: Sequence[Any] | None = None,
) -> tuple[Points, Float[Array, ""], Bool[Array, ""]]:
    """(points, dimension, whether it may be drawn): `elliptical` before its coordinates are rotated into the span.

    Per eigenspace the columns are the p_b directions of `means`, then the q Bartlett columns; labels may be read off
    the former alone.
    """
    numerics.require_x64()
    m = num_points
    b = jnp.eye(m) if mixing is None else _matrix("mixing", mixing, m)
    q = b.shape[1]
    r = jnp.ones(m) if scales is None else _matrix("scales", scales, m, ndim=1)
    b = r[:, None] * b
    placed = [None] * len(spectrum) if means is None else list(means)
    if not spectrum or len(placed) != len(spectrum):
        raise ValueError(f"spectrum has {len(spectrum)} eigenspaces, means {len(placed)}; give one of each per space")
    parts, dim, good = [], jnp.zeros(()), jnp.asarray(True)
    for (value, multiplicity), mean, one in zip(spectrum, placed, jax.random.split(key, len(spectrum)), strict=True):
        centre = jnp.zeros((m, 0)) if mean is None else _matrix("means", mean, m)
        along = centre.shape[1]
        _check_space(value, multiplicity, along, q)
        key_along, key_rest = jax.random.split(one)
        freedom = jnp.asarray(multiplicity, jnp.float64) - along
        root = jnp.sqrt(jnp.asarray(value, jnp.float64))
        if along:
            normal = draws.normal(key_along, shape=(q, along))
            parts.append(centre + root * numerics.matmul(b, normal))
        if checks.is_traced(multiplicity) or float(multiplicity) > along:
            rest = trapezoid(key_rest, q, freedom)
            parts.append(root * (r[:, None] * rest if mixing is None else numerics.matmul(b, rest)))
        dim = dim + jnp.asarray(multiplicity, jnp.float64)
        # a Bartlett factor of q points exists for more than q - 1 degrees of freedom, or a whole number of them
        good = good & (root >= 0) & ((freedom > q - 1) | ((freedom >= 0) & (freedom == jnp.floor(freedom))))
    return jnp.concatenate(parts, axis=1), dim, good


def assembled(points: Points, labels: Any, dim: Any, good: Any, *, unit: bool = False) -> Dataset:
    """A `Dataset` of these points, rotated into at most m + 1 coordinates; `good` is whether they could be drawn."""
    m = points.shape[0]
    if checks.is_traced(labels) or isinstance(labels, jax.Array):
        y = jnp.asarray(labels, jnp.float64)
    else:
        y = jnp.asarray(check_labels(labels, m))
    if unit:
        size = jnp.sqrt(jnp.sum(points**2, axis=1, keepdims=True))
        points = points / jnp.where(size > 0, size, 1.0)
    if points.shape[1] > m + SPARE:
        points = in_span(points)
    d = jnp.asarray(dim, jnp.float64)
    sound = jnp.all(jnp.isfinite(points)) & jnp.all(jnp.any(points != 0, axis=1)) & good_labels(y)
    fine = jnp.asarray(good) & (d <= MAX_DIM) & sound
    return Dataset(points, y, d, jnp.zeros(()), jnp.where(fine, Status.OK, Status.BAD_INPUT))


def in_span(points: Points) -> Float[Array, "m m"]:
    """L with L L^T = X X^T: the coordinates along an orthonormal basis of the points, so that small inner products keep
    their relative accuracy (a basis vector of points that are nearly orthogonal has few large entries)."""
    basis = numerics.orthonormal_basis(points, jnp.ones(points.shape[0], bool))
    lower = jnp.tril(numerics.matmul(points, basis.T))
    return lower


def trapezoid(key: Array, q: int, freedom: Array) -> Float[Array, "q q"]:
    """q standard normal points in R^freedom, up to an isometry: Bartlett's triangle, its columns from `freedom` on zero
    where there are fewer dimensions than points."""
    key_normal, key_chi = jax.random.split(key)
    left = freedom - jnp.arange(q)
    diagonal = draws.chi(key_chi, jnp.maximum(left, 0.5))
    below = jnp.tril(draws.normal(key_normal, shape=(q, q)), -1)
    return jnp.where(left > 0, below + jnp.diag(diagonal), 0.0)


def _check_space(value: Any, multiplicity: Any, along: int, q: int) -> None:
    checks.number("an eigenvalue of the spectrum", value, "one finite number >= 0", 0.0)
    checks.number("a multiplicity of the spectrum", multiplicity, f"one number <= {MAX_DIM:g}", 0.0, MAX_DIM)
    if checks.is_traced(multiplicity):
        return
    freedom = float(multiplicity) - along
    if not (freedom > q - 1 or (freedom >= 0 and freedom.is_integer())):
        raise ValueError(
            f"a multiplicity of the spectrum is {float(multiplicity):g}, with {along} directions of means and {q} "
            f"mixed samples: expected more than {q - 1 + along}, or a whole number >= {along}"
        )


def _matrix(name: str, value: Any, m: int, ndim: int = 2) -> Array:
    array = value if checks.is_traced(value) or isinstance(value, jax.Array) else checks.real_array(name, value, ndim)
    if array.ndim != ndim or array.shape[0] != m:
        raise ValueError(f"{name} has shape {tuple(array.shape)}, expected {ndim} axes, the first of {m} points")
    return jnp.asarray(array, jnp.float64)
