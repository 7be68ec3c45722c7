"""Margins of a network given as (apply, pytree of arrays), with their gradients array by array.

    q_a = y_i N(x_i)  (one score)    q_a = N_{y_i}(x_i) - N_c(x_i), c != y_i  (C scores),   a = (i, c)

Nothing is known of the network but that it can be called and differentiated. Source: docs/theory, Functions.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from gaunlearn_jax.base import numerics
from gaunlearn_jax.kkt.host import Matrix, Vector

Layers = tuple[NDArray[np.float64], ...]
#: bytes of gradients that are held at once, and of those of one array at most
BLOCK, MOST = 2**28, 2**32
#: points whose gradients are computed at once
CHUNK = 32


@dataclasses.dataclass(frozen=True, eq=False)
class MarginFunction:
    """The margins of all constraints; `owner` [A] is the point of each, `names` the path of each array of the pytree,
    `labels` [m] the class numbers that stand for `classes`, `unit` the rounding of the network's scores."""

    apply: Callable[..., Any]
    tree: Any
    names: tuple[str, ...]
    points: Any
    labels: NDArray[np.int64]
    classes: tuple[Any, ...]
    scores: int
    unit: float

    @property
    def owner(self) -> NDArray[np.int64]:
        """The point of every constraint."""
        return np.repeat(np.arange(len(self.labels)), max(self.scores - 1, 1))

    def params(self, layers: Any) -> Any:
        """The pytree that the network takes."""
        return jax.tree.unflatten(self.tree, list(layers))

    def of_point(self, layers: Any, point: Any, label: Any) -> Any:
        """The margins of one point, [1] or [C - 1]."""
        scores = self.apply(self.params(layers), point[None])
        if self.scores == 1:
            return (2 * label - 1) * scores.reshape(1)
        numbers = np.arange(self.scores)
        others = jnp.asarray([np.delete(numbers, c) for c in numbers])[label]
        return scores[0][label] - scores[0][others]

    def traced(self, layers: Any) -> Any:
        """All margins [A], for JAX."""
        each = jax.vmap(lambda point, label: self.of_point(layers, point, label))
        return each(self.points, jnp.asarray(self.labels)).ravel()

    @functools.cached_property
    def _margins(self) -> Any:
        return jax.jit(self.traced)

    @functools.cached_property
    def _pull(self) -> Any:
        return jax.jit(jax.grad(lambda layers, weights: jnp.sum(weights * self.traced(layers))))

    @functools.cached_property
    def _rows(self) -> Any:
        def rows(block: Any, layers: Any, at: tuple[int, ...]) -> Any:
            def margins(moved: Any, point: Any, label: Any) -> Any:
                held = list(layers)
                for l, array in zip(at, moved, strict=True):
                    held[l] = array
                return self.of_point(held, point, label)

            def of_point(one: Any) -> Any:
                made = jax.jacrev(margins)(block, *one)
                return jnp.concatenate([g.reshape(g.shape[0], -1) for g in made], axis=1)

            found = jax.lax.map(of_point, (self.points, jnp.asarray(self.labels)), batch_size=CHUNK)
            return found.reshape(-1, found.shape[-1])

        return jax.jit(rows, static_argnames="at")

    def margins(self, layers: Layers) -> Vector:
        """q [A] at the given arrays."""
        return np.asarray(self._margins(layers), np.float64)

    def pull(self, layers: Layers, weights: Vector) -> Layers:
        """sum_a weights_a grad q_a, array by array."""
        return tuple(np.asarray(v, np.float64) for v in self._pull(layers, jnp.asarray(weights)))

    def gradients(self, layers: Layers, at: tuple[int, ...]) -> Matrix:
        """grad q_a [A, size] by the arrays `at`, one behind the other."""
        return np.asarray(self._rows(tuple(layers[l] for l in at), layers, at), np.float64)

    def blocks(self, layers: Layers) -> list[tuple[int, ...]]:
        """The arrays in groups whose gradients fit into memory together; ValueError where those of one do not."""
        row = 8 * len(self.owner)
        blocks: list[tuple[int, ...]] = []
        held = BLOCK
        for l, array in enumerate(layers):
            if row * array.size > MOST:
                raise ValueError(
                    f"the gradients of {len(self.owner)} margins by layer {self.names[l]} ({array.size} numbers) need "
                    f"{row * array.size / 2**30:.1f} GiB, more than {MOST / 2**30:g}; give fewer points"
                )
            if held + row * array.size > BLOCK:
                blocks.append(())
                held = 0
            blocks[-1] += (l,)
            held += row * array.size
        return blocks


def margin_function(apply: Callable[..., Any], params: Any, x: Any, y: Any) -> tuple[MarginFunction, Layers]:
    """The margins of apply(params, x), and the arrays of params in float64.

    x [m, ...]; y [m]: two values (the smaller becomes -1) for one score a point, class numbers 0 .. C - 1 or any C
    values in sorted order for C scores. ValueError for what cannot be read, for a network whose score of one point
    depends on the others in its batch, and where a point is misclassified.
    """
    numerics.require_x64()
    leaves, tree = jax.tree_util.tree_flatten_with_path(params)
    if not leaves:
        raise ValueError("params holds no arrays, expected a pytree with one array for each trained layer")
    names = tuple(jax.tree_util.keystr(path, simple=True, separator="/") or "W" for path, _ in leaves)
    layers = tuple(_layer(name, leaf) for name, (_, leaf) in zip(names, leaves, strict=True))
    points = jnp.asarray(x)
    if jnp.issubdtype(points.dtype, jnp.floating):  # whole numbers may be tokens
        points = points.astype(jnp.float64)
    if points.ndim < 2 or len(points) < 2:
        raise ValueError(f"x has shape {points.shape}, expected [m, ...] with at least 2 points")
    scores = jax.jit(apply)(jax.tree.unflatten(tree, list(layers)), points)
    width = _width(scores, len(points))
    labels, classes = _labels(y, len(points), width)
    unit = max(float(jnp.finfo(scores.dtype).eps), numerics.EPS)
    made = MarginFunction(apply, tree, names, points, labels, classes, width, unit)
    _alone(made, layers, np.asarray(scores, np.float64).reshape(len(points), -1))
    return made, layers


def _layer(name: str, leaf: Any) -> NDArray[np.float64]:
    array = np.asarray(leaf)
    if array.dtype.kind not in "fV" or not np.all(np.isfinite(array.astype(np.float64))):
        raise ValueError(f"layer {name} of params has dtype {array.dtype} or is not finite, expected finite floats")
    array = array.astype(np.float64)
    if not np.any(array):
        raise ValueError(
            f"layer {name} of params is zero everywhere; leave it out of params (freeze it in the network)"
        )
    return array


def _width(scores: Any, m: int) -> int:
    """1 or C."""
    shape = getattr(scores, "shape", None)
    if shape is None or shape[:1] != (m,) or len(shape) > 2 or not jnp.issubdtype(scores.dtype, jnp.floating):
        got = type(scores).__name__ if shape is None else f"{scores.dtype}{list(shape)}"
        raise ValueError(f"apply(params, x) returned {got}, expected scores [{m}], [{m}, 1] or [{m}, C]")
    if not bool(jnp.all(jnp.isfinite(scores))):
        raise ValueError("apply(params, x) is not finite everywhere, expected finite scores")
    return 1 if len(shape) == 1 else int(shape[1])


def _labels(y: Any, m: int, width: int) -> tuple[NDArray[np.int64], tuple[Any, ...]]:
    given = np.asarray(y)
    if given.shape != (m,) or given.dtype.kind not in "biufUS":
        raise ValueError(
            f"y has dtype {given.dtype} and shape {given.shape}, expected one label for each of {m} points"
        )
    values, labels = np.unique(given, return_inverse=True)
    wanted = 2 if width == 1 else width
    numbers = given.dtype.kind in "iu" and width > 1 and int(np.min(given)) >= 0 and int(np.max(given)) < width
    if numbers:  # a class may have no point
        return given.astype(np.int64), tuple(range(width))
    if len(values) != wanted:
        raise ValueError(f"y has {len(values)} different values, expected {wanted} for {width} score(s) a point")
    return labels.astype(np.int64), tuple(values.tolist())


def _alone(function: MarginFunction, layers: Layers, scores: Matrix) -> None:
    """ValueError where the scores of a point depend on its batch, or misclassify it."""
    q = function.margins(layers)
    own = scores[np.arange(len(scores)), function.labels if function.scores > 1 else 0]
    if function.scores == 1:
        expected = (2 * function.labels - 1) * own
    else:
        other = np.stack([np.delete(row, c) for row, c in zip(scores, function.labels, strict=True)])
        expected = (own[:, None] - other).ravel()
    off = np.abs(q - expected)
    if np.max(off) > 1e5 * function.unit * (1 + np.max(np.abs(scores))):
        i = int(function.owner[int(np.argmax(off))])
        raise ValueError(
            f"the score of point {i} changes with the other points of its batch (by {np.max(off):.3g}), so it has no "
            "margin of its own: a batch norm in training mode? Use it in inference mode, or take it out"
        )
    if np.min(q) <= 0:
        a = int(np.argmin(q))
        raise ValueError(
            f"point {function.owner[a]} has margin {q[a]:.3g}, expected positive margins on all training points: the "
            "network does not fit the data (train longer, or check x and y)"
        )
