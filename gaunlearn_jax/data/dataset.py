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

    With `patches` P > 1 the coordinates are P equal blocks, one a patch, all of them along the same basis [p/P, d/P]:
    what filters see lives in R^(d/P), and `reduce` and `lift` take filters.
    """

    points: Points
    labels: Labels
    dim: Scalar
    mean_norm: Scalar
    status: Code
    basis: Float[Array, "p d"] | None = None
    classes: Int[Array, "m"] | None = None
    patches: int = dataclasses.field(default=1, metadata={"static": True})

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


def from_points(points: Any, labels: Any, *, patches: int = 1) -> Dataset:
    """Given points [m, d] and labels [m] (+-1) in p = min(m, d) coordinates: X = L B with orthonormal rows B.

    With `patches` P the d coordinates are P blocks of d/P, one a patch (`patches_of` makes them from images), and X is
    the matrix [m P, d/P] of all patches. Any rank is accepted, and dependent or duplicate points. ValueError names the
    first offending entry.
    """
    numerics.require_x64()
    blocks = checks.whole("patches", patches, 1, "a whole number of at least 1")
    if not checks.is_traced(points, labels):
        points = checks.real_array("points", points, 2)
        if points.shape[0] < 2 or points.shape[1] < 1:
            raise ValueError(f"points has shape {points.shape}, expected at least 2 points with at least 1 coordinate")
        zero = np.flatnonzero(~np.any(points != 0, axis=1))
        if zero.size:
            raise ValueError(f"points[{zero[0]}] is the zero vector, which has no direction; drop it")
        labels = check_labels(labels, points.shape[0])
    x = jnp.asarray(points, jnp.float64)
    if x.shape[1] % blocks:
        raise ValueError(f"points have {x.shape[1]} coordinates, expected a multiple of {blocks}: equal patches")
    d, x = jnp.asarray(float(x.shape[1])), x.reshape(x.shape[0] * blocks, -1)
    # a power of two, so that nothing overflows in the factorisation and nothing is rounded
    top = jnp.max(jnp.abs(x))
    power = jnp.frexp(jnp.where(jnp.isfinite(top) & (top > 0), top, 1.0))[1]
    q, r = jnp.linalg.qr(jnp.ldexp(x, -power).T)
    lower = jnp.ldexp(r.T, power).reshape(x.shape[0] // blocks, -1)
    y = jnp.asarray(labels, jnp.float64)
    good = jnp.all(jnp.isfinite(lower)) & jnp.all(jnp.any(lower != 0, axis=1)) & good_labels(y)
    status = jnp.where(good, Status.OK, Status.BAD_INPUT)
    return Dataset(lower, y, d, jnp.zeros(()), status, basis=q.T, patches=blocks)


def patches_of(images: Any, size: int, stride: int | None = None) -> np.ndarray:
    """Square patches of images [m, h, w], or windows of signals [m, l], side by side: [m, P * size^2] or [m, P * size],
    for `from_points(..., patches=P)`. They begin every `stride` places (default: `size`, disjoint).

    ValueError where no patch fits, or disjoint ones would leave a rest.

    >>> patches_of([[1.0, 2.0, 3.0]], 2, 1)
    array([[1., 2., 2., 3.]])
    """
    x = checks.real_array("images", images)
    if x.ndim not in (2, 3):
        raise ValueError(f"images has shape {x.shape}, expected [m, h, w], or [m, l] for signals")
    side, sides = checks.whole("size", size, 1, "a whole number of at least 1"), x.shape[1:]
    step = side if stride is None else checks.whole("stride", stride, 1, "a whole number of at least 1")
    if min(sides) < side or any((n - side) % step for n in sides):
        raise ValueError(f"images of shape {sides} are not covered by patches of {side} every {step}; change one")
    axes = tuple(range(1, x.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(x, (side,) * len(axes), axes)
    picked = windows[(slice(None), *(slice(None, None, step),) * len(axes))]
    return np.ascontiguousarray(picked.reshape(len(x), -1))


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
