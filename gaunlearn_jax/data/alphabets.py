"""Entries from a few values: the Gram matrix is a multinomial sum over the types of columns.

Source: docs/theory, Finite alphabets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gaunlearn_jax.base import checks, numerics
from gaunlearn_jax.base.arrays import Numbers, Scalar
from gaunlearn_jax.base.codes import Status
from gaunlearn_jax.data.dataset import Dataset, check_labels
from gaunlearn_jax.data.distributions import MAX_DIM, alternating
from gaunlearn_jax.data.grams import factored

#: how far chances may be from summing to 1
SUM_ERROR = 1e-9
#: types of columns that are counted at most
MOST_TYPES = 2**17


def discrete(
    key: Array,
    num_points: int,
    dim: Numbers,
    values: Sequence[float] = (1.0, -1.0),
    chances: Sequence[Scalar] | None = None,
    labels: Any = None,
) -> Dataset:
    """x_i with d independent entries v / sqrt(d), v one of `values` (static) with these chances (default: equal).

    The d columns of m entries are of |values|^m types, whose numbers n_c are multinomial: K = sum_c (n_c / d) c c^T,
    exact in whole numbers for whole values. `dim` (rounded down to a whole number, 1 <= d <= 1e15) and `chances` may be
    traced. ValueError beyond 2^17 types (m = 16 for two values, 10 for three). Source: docs/theory, Finite alphabets.

    >>> data = discrete(jax.random.key(0), 4, 1e6)
    >>> jnp.diagonal(numerics.gram(data.points))
    Array([1., 1., 1., 1.], dtype=float64)
    """
    numerics.require_x64()
    m = checks.whole("num_points", num_points, 2, "an integer of at least 2")
    checks.number("dim", dim, f"one number with 1 <= dim <= {MAX_DIM:g}", 1.0, MAX_DIM)
    v = checks.real_array("values", values, 1)
    if v.size < 2 or v.size**m > MOST_TYPES:
        raise ValueError(f"{v.size} values and {m} points make {v.size}^{m} types of columns, expected at most 2^17")
    p = jnp.full(v.size, 1 / v.size) if chances is None else jnp.stack([jnp.asarray(c, jnp.float64) for c in chances])
    if p.shape != v.shape:
        raise ValueError(f"chances has {p.shape[0]} entries, expected {v.size}: one per value")
    columns = jnp.floor(jnp.asarray(dim, jnp.float64))
    counts = type_counts(key, m, columns, p)
    types = v[np.stack(np.unravel_index(np.arange(v.size**m), (v.size,) * m))]
    # each product is summed as a whole number before it is divided: nothing is rounded
    gram = jnp.stack([jnp.sum(counts * (types * row), axis=1) for row in types]) / columns
    y = jnp.asarray(alternating(m) if labels is None else _labels(labels, m), jnp.float64)
    data = factored(gram, y, columns)
    good = (columns >= 1) & (columns <= MAX_DIM) & jnp.all(p >= 0) & (jnp.abs(jnp.sum(p) - 1) < SUM_ERROR)
    return dataclasses.replace(data, status=jnp.where(good, data.status, Status.BAD_INPUT))


def type_counts(key: Array, m: int, columns: Array, chances: Float[Array, "v"]) -> Float[Array, "c"]:
    """How many of the columns are of each of the v^m types (first entry slowest): every count is split by the value of
    the next entry, one binomial after another."""
    counts = jnp.reshape(columns, (1,))
    # the chance of a value among those that are left
    left = jnp.cumsum(chances[::-1])[::-1]
    share = jnp.clip(jnp.where(left > 0, chances / jnp.where(left > 0, left, 1.0), 0.0), 0.0, 1.0)
    for level in jax.random.split(key, m):
        rest, parts = counts, list[Array]()
        for one, part in zip(jax.random.split(level, chances.shape[0] - 1), share[:-1], strict=True):
            taken = jax.random.binomial(one, rest, part, dtype=jnp.float64)
            parts, rest = [*parts, taken], rest - taken
        counts = jnp.stack([*parts, rest], axis=1).ravel()
    return counts


def rademacher(key: Array, num_points: int, dim: Numbers) -> Dataset:
    """Entries +-1/sqrt(d): every squared norm is exactly 1. Dimensions are rounded down to whole numbers."""
    return discrete(key, num_points, dim)


def ternary(key: Array, num_points: int, dim: Numbers, density: Scalar) -> Dataset:
    """Entries 0 with chance 1 - density, else +-1/sqrt(density d): sparse."""
    p = jnp.asarray(density, jnp.float64)
    data = discrete(key, num_points, dim, (1.0, -1.0, 0.0), (p / 2, p / 2, 1 - p))
    return dataclasses.replace(data, points=data.points / jnp.sqrt(p))


def _labels(labels: Any, m: int) -> Any:
    return labels if checks.is_traced(labels) or isinstance(labels, jax.Array) else check_labels(labels, m)
