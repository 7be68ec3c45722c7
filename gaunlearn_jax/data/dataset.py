"""Points in exact reduced coordinates: any dimension at the price of none.

Only inner products matter, so a data set of m points is stored in the span of its points: p = m coordinates
for a Gaussian draw in any dimension (Bartlett), p = min(m, d) for given points
(docs/theory, Exact isometric reduction).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gaunlearn_jax.base import checks, numerics
from gaunlearn_jax.base.arrays import Code, Labels, Mask, Params, Points, Scalar
from gaunlearn_jax.base.codes import Status
from gaunlearn_jax.base.show import Shown


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class Dataset(Shown):
    """Points [m, p] in reduced coordinates and labels [m] (+-1).

    `dim` is the dimension d they live in, `mean_norm` is ||mu|| of a mixture (its first coordinate lies along
    mu; 0 otherwise), `basis` [p, d] holds the orthonormal rows that lift given points back (None for draws), `classes`
    [m] those of data with several (None: a model of several classes takes `models.spread_labels`).
    """

    points: Points
    labels: Labels
    dim: Scalar
    mean_norm: Scalar
    status: Code
    basis: Float[Array, "p d"] | None = None
    classes: Int[Array, "m"] | None = None

    @property
    def num_points(self) -> int:
        """m."""
        return int(self.points.shape[0])

    def reduce(self, weights: Any) -> tuple[Params, Float[Array, ""]]:
        """Weights [n, d] in R^d to (params [n, p], norm of the part orthogonal to every point).

        ||W||^2 = ||params||^2 + orthogonal_norm^2; both parts must travel together. ValueError for drawn data
        or a wrong width.
        """
        basis = self._require_basis("reduce")
        numerics.require_x64()
        w = checks.real_array("weights", weights, 2) if not checks.is_traced(weights) else weights
        if w.shape[1] != basis.shape[1]:
            raise ValueError(f"weights has shape {tuple(w.shape)}, expected [n, {basis.shape[1]}] to match the points")
        w = jnp.asarray(w, jnp.float64)
        inside = numerics.matmul(w, basis.T)
        return inside, numerics.norm(w - numerics.matmul(inside, basis))

    def lift(self, params: Params) -> Float[Array, "n d"]:
        """Params [n, p] back to R^d (the in-span part of the weights). ValueError for drawn data."""
        numerics.require_x64()
        basis = self._require_basis("lift")
        if params.shape[-1] != basis.shape[0]:
            raise ValueError(f"params has shape {tuple(params.shape)}, expected [n, {basis.shape[0]}]")
        return numerics.matmul(params, basis)

    def _require_basis(self, verb: str) -> Array:
        if self.basis is None:
            raise ValueError(
                f"cannot {verb}: drawn data exist only in reduced coordinates; use from_points for points in R^d"
            )
        return self.basis


def from_points(points: Any, labels: Any) -> Dataset:
    """Given points [m, d] and labels [m] (+-1) in p = min(m, d) coordinates: X = L B with orthonormal rows B.

    Any rank is accepted, and dependent or duplicate points. ValueError names the first offending entry.
    """
    numerics.require_x64()
    if not checks.is_traced(points, labels):
        points = checks.real_array("points", points, 2)
        if points.shape[0] < 2 or points.shape[1] < 1:
            raise ValueError(f"points has shape {points.shape}, expected at least 2 points with at least 1 coordinate")
        zero = np.flatnonzero(~np.any(points != 0, axis=1))
        if zero.size:
            raise ValueError(f"points[{zero[0]}] is the zero vector, which has no direction; drop it")
        labels = check_labels(labels, points.shape[0])
    x = jnp.asarray(points, jnp.float64)
    # a power of two, so that nothing overflows in the factorisation and nothing is rounded
    top = jnp.max(jnp.abs(x))
    power = jnp.frexp(jnp.where(jnp.isfinite(top) & (top > 0), top, 1.0))[1]
    q, r = jnp.linalg.qr(jnp.ldexp(x, -power).T)
    lower = jnp.ldexp(r.T, power)
    y = jnp.asarray(labels, jnp.float64)
    good = jnp.all(jnp.isfinite(lower)) & jnp.all(jnp.any(lower != 0, axis=1)) & good_labels(y)
    status = jnp.where(good, Status.OK, Status.BAD_INPUT)
    d = jnp.asarray(float(x.shape[1]))
    return Dataset(lower, y, d, jnp.zeros(()), status, basis=q.T)


def from_classes(points: Any, classes: Any) -> Dataset:
    """Given points [m, d] with classes [m], integers from 0, as in `from_points`; labels are +1 for even classes.

    ValueError names the first offending entry, also where there is one class only.
    """
    y = checks.real_array("classes", classes, 1)
    bad = np.flatnonzero((y < 0) | (y != np.floor(y)))
    if bad.size:
        raise ValueError(f"classes[{bad[0]}] is {y[bad[0]]:g}, expected an integer from 0; number the classes")
    if y.size and np.all(y == y[0]):
        raise ValueError(f"all {y.size} classes are {y[0]:g}, expected at least two; the margin problem needs two")
    if y.shape != np.shape(points)[:1]:
        raise ValueError(f"classes has shape {y.shape}, expected {np.shape(points)[:1]}: one class per point")
    # the labels are no part of a margin problem of several classes, and need not both occur
    both = np.where(np.arange(y.size) % 2 == 0, 1.0, -1.0)
    data = from_points(points, both)
    return dataclasses.replace(data, labels=jnp.where(jnp.asarray(y) % 2 == 0, 1.0, -1.0), classes=jnp.asarray(y, int))


def forget_mask(data: Dataset, indices: Any) -> Mask:
    """Bool mask [m] of the forget set. ValueError if an index is out of range, repeated or not an integer,
    or if nothing would be retained. An empty set is allowed: the ascent step is then the identity.

    >>> from gaunlearn_jax.data import gaussian
    >>> forget_mask(gaussian(jax.random.key(0), num_points=4, dim=1e6), [1])
    Array([False,  True, False, False], dtype=bool)
    """
    return jnp.asarray(marked(data.num_points, indices))


def marked(m: int, indices: Any) -> np.ndarray:
    """`forget_mask` on the host, for m points."""
    if isinstance(indices, np.ma.MaskedArray):
        raise ValueError("forget indices are masked, expected a flat list of integers; drop the masked entries")
    try:
        given = np.asarray(indices)
    except ValueError:
        given = np.empty((1, 1), object)
    if given.size and (given.dtype.kind not in "iu" or given.ndim != 1):
        raise ValueError(
            f"forget indices have dtype {given.dtype} and shape {given.shape}, expected a flat list of integers"
        )
    for i in given.tolist():
        if not 0 <= i < m:
            raise ValueError(f"forget index {i} is out of range, expected 0 <= index < {m} (no negative indices)")
    if len(set(given.tolist())) != given.size:
        raise ValueError(f"forget indices {given.tolist()} repeat an index; name each point once")
    if given.size >= m:
        raise ValueError(f"forgetting all {m} points leaves nothing to train on; retain at least one")
    mask = np.zeros(m, bool)
    mask[given.astype(int)] = True
    return mask


def check_labels(labels: Any, m: int) -> np.ndarray:
    """Labels as float64 [m]; ValueError unless every one is +1 or -1 and both classes occur."""
    y = checks.real_array("labels", labels, 1)
    if y.shape != (m,):
        raise ValueError(f"labels has shape {y.shape}, expected ({m},): one label per point")
    bad = np.flatnonzero(np.abs(y) != 1)
    if bad.size:
        raise ValueError(f"labels[{bad[0]}] is {y[bad[0]]:g}, expected +1 or -1; map the classes to these two")
    if np.all(y == y[0]):
        raise ValueError(f"all {m} labels are {y[0]:+g}, expected both classes; the margin problem needs two")
    return y


def good_labels(labels: Labels) -> Array:
    """Whether every label is +1 or -1 and both occur."""
    return jnp.all(jnp.abs(labels) == 1) & jnp.any(labels == 1) & jnp.any(labels == -1)
