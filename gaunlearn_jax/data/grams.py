"""Points that are known by their inner products alone: a kernel, or columns that nobody keeps.

Source: docs/theory, Points from inner products.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from gaunlearn_jax.base import checks, numerics
from gaunlearn_jax.base.arrays import Labels
from gaunlearn_jax.base.codes import Status
from gaunlearn_jax.data.dataset import Dataset, check_labels, good_labels

#: a pivot that has shrunk to this part of its diagonal depends on the points before it
DEPENDENT = 1e-13
#: how far a given matrix may be from symmetric and positive semidefinite, beside its largest entry
SLOPPY = 1e-10


def from_gram(gram: Any, labels: Any, dim: Any = None) -> Dataset:
    """Points L with L L^T = gram [m, m], symmetric positive semidefinite, and labels [m] (+-1): kernels need no d.

    `dim` is recorded as the dimension (default m). Small off-diagonal entries keep their relative accuracy. May be
    traced; then what is not a Gram matrix is a bad status, otherwise a ValueError. Source: docs/theory,
    Points from inner products.

    >>> from_gram([[1.0, 0.5], [0.5, 1.0]], [1, -1]).points
    Array([[1.       , 0.       ],
           [0.5      , 0.8660254]], dtype=float64)
    """
    numerics.require_x64()
    if not checks.is_traced(gram, labels):
        gram, labels = _checked(gram, labels)
    k = jnp.asarray(gram, jnp.float64)
    return factored(k, jnp.asarray(labels, jnp.float64), float(k.shape[0]) if dim is None else dim)


def factored(k: Float[Array, "m m"], y: Labels, dim: Any) -> Dataset:
    """`from_gram` without looking at values: what is no Gram matrix becomes a bad status."""
    lower, left = cholesky(k)
    good = jnp.all(jnp.isfinite(k)) & jnp.all(jnp.diagonal(k) > 0) & good_labels(y)
    good = good & (left <= 1e3 * SLOPPY * jnp.max(jnp.abs(k)))
    status = jnp.where(good, Status.OK, Status.BAD_INPUT)
    return Dataset(lower, y, jnp.asarray(dim, jnp.float64), jnp.zeros(()), status)


def from_columns(chunks: Iterable[Any], labels: Any) -> Dataset:
    """Points [m, d] given as blocks of columns [m, d_c], one at a time: K = sum X_c X_c^T, then `from_gram`. Memory m
    times a chunk, so any function of yours may produce points of a dimension that is not stored.

    Cancellation between columns is lost: off-diagonal entries are right to about 1e-16 of the norms. ValueError if no
    chunk is given or the numbers of rows differ. Source: docs/theory, Points from inner products.

    >>> from_columns(iter([[[1.0], [0.0]], [[0.0, 0.0], [2.0, 0.0]]]), [1, -1]).points
    Array([[1., 0.],
           [0., 2.]], dtype=float64)
    """
    total, dim = None, 0
    for number, chunk in enumerate(chunks):
        x = checks.real_array(f"chunk {number}", chunk, 2)
        if total is not None and x.shape[0] != total.shape[0]:
            raise ValueError(f"chunk {number} has {x.shape[0]} rows, expected {total.shape[0]} as in the first one")
        total, dim = x @ x.T + (0.0 if total is None else total), dim + x.shape[1]
    if total is None:
        raise ValueError("no chunk of columns was given; yield arrays [m, d_c]")
    return from_gram(total, labels, float(dim))


def cholesky(k: Float[Array, "m m"]) -> tuple[Float[Array, "m m"], Float[Array, ""]]:
    """(L, the largest entry of K - L L^T) with L lower triangular; dependent points have no coordinate of their own."""
    m = k.shape[0]
    scale = jnp.diagonal(k)

    def step(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        rest, lower = carry
        pivot = rest[i, i]
        keep = pivot > DEPENDENT * scale[i]
        column = jnp.where(jnp.arange(m) >= i, rest[:, i], 0.0)
        column = jnp.where(keep, column / jnp.sqrt(jnp.where(keep, pivot, 1.0)), 0.0)
        return rest - column[:, None] * column, lower.at[:, i].set(column)

    rest, lower = lax.fori_loop(0, m, step, (k, jnp.zeros_like(k)))
    return lower, jnp.max(jnp.abs(rest))


def _checked(gram: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    k = checks.real_array("gram", gram, 2)
    m = k.shape[0]
    if k.shape != (m, m) or m < 2:
        raise ValueError(f"gram has shape {k.shape}, expected [m, m] with at least 2 points")
    top = float(np.max(np.abs(k)))
    if np.max(np.abs(k - k.T)) > SLOPPY * top:
        raise ValueError("gram is not symmetric; give inner products <x_i, x_j>, or average it with its transpose")
    bad = np.flatnonzero(np.diagonal(k) <= 0)
    if bad.size:
        raise ValueError(f"gram[{bad[0]}, {bad[0]}] is {k[bad[0], bad[0]]:g}, expected a positive squared norm")
    least = float(np.linalg.eigvalsh(k)[0])
    if least < -m * SLOPPY * top:
        raise ValueError(f"gram has the eigenvalue {least:.3g}, expected a positive semidefinite matrix")
    return (k + k.T) / 2, check_labels(labels, m)
