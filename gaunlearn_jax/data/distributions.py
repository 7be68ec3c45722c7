"""Random data sets, drawn exactly in distribution in reduced coordinates (docs/theory, Exact isometric reduction)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gaunlearn_jax.base import checks, draws, numerics
from gaunlearn_jax.base.arrays import Code, Labels, Numbers, Points, Scalar, Whole
from gaunlearn_jax.base.codes import Status
from gaunlearn_jax.data.dataset import Dataset, check_labels, good_labels

MAX_DIM = 1e15


def gaussian(key: Array, num_points: int, dim: Numbers | Whole, labels: Any = None, *, patches: int = 1) -> Dataset:
    """x_i ~ N(0, I_d / d), i < m, exactly in distribution for any real d with m <= d <= 1e15.

    Bartlett: X = L / sqrt(d), L lower triangular, N(0, 1) below and sqrt(chi^2_{d-i}) on the diagonal. `dim` may
    be traced. Labels alternate unless given. With `patches` P the point is cut into P equal ones, which are m P
    independent samples of N(0, I_{d/P} / d): d >= m P^2. ValueError if d is smaller (when concrete; a bad status
    otherwise). Source: docs/theory, Exact isometric reduction; Bartlett 1933.
    """
    count = checks.whole("patches", patches, 1, "a whole number of at least 1")
    m, y = _check_draw(num_points, dim, labels, times=count**2)
    d = jnp.asarray(dim, jnp.float64)
    points = (bartlett(key, m * count, d / count) / jnp.sqrt(d)).reshape(m, -1)
    return Dataset(points, y, d, jnp.zeros(()), _draw_status(points, y, d, m * count**2), patches=count)


def mixture(key: Array, num_points: int, dim: Numbers | Whole, signal: Scalar, labels: Any = None) -> Dataset:
    """x_i = y_i mu + xi_i with xi_i ~ N(0, I_d / d) and ||mu|| = d^(-1/4 + signal), exactly in distribution.

    p = m + 1 coordinates, the first along mu. `dim` (m + 1 <= d <= 1e15) and `signal` may be traced.
    Source: docs/theory, Exact isometric reduction.
    """
    m, y = _check_draw(num_points, dim, labels, extra=1)
    checks.number("signal", signal, "a finite number (0 < signal < 1/4 in the theory)")
    d = jnp.asarray(dim, jnp.float64)
    mean_norm = d ** (-0.25 + jnp.asarray(signal, jnp.float64))
    key_along, key_rest = jax.random.split(key)
    along = y * mean_norm + draws.normal(key_along, shape=(m,)) / jnp.sqrt(d)
    rest = bartlett(key_rest, m, d - 1) / jnp.sqrt(d)
    points = jnp.concatenate([along[:, None], rest], axis=1)
    return Dataset(points, y, d, mean_norm, _draw_status(points, y, d, m + 1))


def _check_draw(
    num_points: int, dim: Numbers | Whole, labels: Any, *, times: int = 1, extra: int = 0
) -> tuple[int, Array]:
    numerics.require_x64()
    m = checks.whole("num_points", num_points, 2, "an integer of at least 2")
    least = m * times + extra
    checks.number("dim", dim, f"one number with {least} <= dim <= {MAX_DIM:g}", least, MAX_DIM)
    if labels is None:
        return m, alternating(m)
    if checks.is_traced(labels):
        return m, jnp.asarray(labels, jnp.float64)
    return m, jnp.asarray(check_labels(labels, m))


def alternating(m: int) -> Labels:
    """+1, -1, +1, .. [m]."""
    return jnp.where(jnp.arange(m) % 2 == 0, 1.0, -1.0)


def bartlett(key: Array, m: int, dim: Array) -> Float[Array, "m m"]:
    """m standard normal points in R^dim, up to an isometry: a triangle of normals with chi-distributed diagonal."""
    key_normal, key_chi = jax.random.split(key)
    freedom = dim - jnp.arange(m)
    diagonal = draws.chi(key_chi, jnp.maximum(freedom, 0.5))
    below = jnp.tril(draws.normal(key_normal, shape=(m, m)), -1)
    return below + jnp.diag(diagonal)


def _draw_status(points: Points, labels: Labels, dim: Array, least: int) -> Code:
    good = (dim >= least) & (dim <= MAX_DIM) & jnp.all(jnp.isfinite(points)) & good_labels(labels)
    return jnp.where(good, Status.OK, Status.BAD_INPUT)
