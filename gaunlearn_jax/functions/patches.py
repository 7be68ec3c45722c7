"""What enters the first layer: patches phi_i [P, p] of every point, the span of the retained ones, its projection.

The first layer is W [n, p] in any of the usual layouts; its margins are functions of W phi_i alone, so that gradients
are G phi_i^T. Source: docs/theory, Functions.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np

from gaunlearn_jax.base import checks
from gaunlearn_jax.functions.margins import Layers, MarginFunction
from gaunlearn_jax.kkt import host
from gaunlearn_jax.kkt.host import Marks, Matrix

#: share of a gradient outside the span of its point's patches that is rounding, in float64
OUTSIDE = 1e-6
#: constraints whose gradients are looked at; the certificate itself is measured on all of them
SAMPLE = 16


@dataclasses.dataclass(frozen=True)
class Patches:
    """phi [m, P, p], which array is the first layer, and whether its last axis counts the neurons (else its first)."""

    rows: Matrix
    first: int
    out_last: bool

    @property
    def size(self) -> int:
        """p."""
        return int(self.rows.shape[2])

    def matrix(self, layers: Layers) -> Matrix:
        """The first layer as W [n, p]."""
        return _matrix(layers[self.first], self.out_last)

    def replaced(self, layers: Layers, matrix: Matrix) -> Layers:
        """The arrays with another first layer, given as a matrix [n, p]."""
        shape = layers[self.first].shape
        new = (matrix.T if self.out_last else matrix).reshape(shape)
        return tuple(new if l == self.first else w for l, w in enumerate(layers))

    def span(self, kept: Marks) -> Matrix:
        """Orthonormal rows [rank, p] that span the patches of the marked points."""
        rows = self.rows[kept].reshape(-1, self.size)
        rows = rows[np.any(rows != 0, axis=1)]
        return host.row_space(rows) if len(rows) else np.zeros((0, self.size))

    def outside(self, kept: Marks, span: Matrix) -> float:
        """The largest share of a marked patch outside the span."""
        rows = self.rows[kept].reshape(-1, self.size)
        rest, size = np.linalg.norm(rows - (rows @ span.T) @ span, axis=1), np.linalg.norm(rows, axis=1)
        return float(np.max(rest / np.where(size > 0, size, 1.0)))

    def projected(self, layers: Layers, span: Matrix) -> Layers:
        """The arrays with the rows of the first layer projected onto the span."""
        w = self.matrix(layers)
        return self.replaced(layers, (w @ span.T) @ span)

    def top(self, kept: Marks) -> float:
        """lambda_max of sum_i phi_i phi_i^T over the marked points."""
        return float(np.linalg.norm(self.rows[kept].reshape(-1, self.size), 2) ** 2)


def _matrix(array: Any, out_last: bool) -> Matrix:
    if array.ndim == 1:
        return np.asarray(array[None])
    return np.asarray(array.reshape(-1, array.shape[-1]).T if out_last else array.reshape(array.shape[0], -1))


def patches_of(function: MarginFunction, layers: Layers, patches: Any, first: int) -> Patches:
    """The patches in the layout for which gradients lie in their span; ValueError where there is none.

    patches [m, P, p] or [m, p]; None stands for the points themselves, each as one patch.
    """
    if first >= len(layers):
        raise ValueError(f"first is {first}, expected the number of a layer: {', '.join(function.names)}")
    m, array = len(function.labels), layers[first]
    rows = (
        np.asarray(function.points, np.float64).reshape(m, -1)
        if patches is None
        else checks.real_array("patches", patches)
    )
    rows = rows[:, None] if rows.ndim == 2 else rows
    if rows.ndim != 3 or len(rows) != m:
        raise ValueError(f"patches has shape {rows.shape}, expected [{m}, P, p]: P patches of p numbers for each point")
    p = rows.shape[2]
    layouts = [out_last for out_last in (False, True) if _matrix(array, out_last).shape[1] == p]
    name = function.names[first]
    if not layouts:
        raise ValueError(
            f"the first layer {name} has shape {array.shape}, which has no axis for patches of {p} numbers; expected "
            f"[n, {p}] or [{p}, n] (convolutions flattened): give patches, or name the first layer by `first`"
        )
    rng = np.random.default_rng(0)  # both layouts of a symmetric W may do, but not near it
    nearby = tuple(w + 0.1 * np.linalg.norm(w) / np.sqrt(w.size) * rng.standard_normal(w.shape) for w in layers)
    tried = itertools.product((layers, nearby), _sample(len(function.owner)))
    off = np.max([_outside(function, at, rows, first, a, layouts) for at, a in tried], axis=0)
    best = int(np.argmin(off))
    if off[best] > OUTSIDE * np.sqrt(function.unit / np.finfo(float).eps):
        raise ValueError(
            f"the margins are no functions of {name} times the patches: {100 * off[best]:.2g} % of a gradient lies "
            "outside the span of its point's patches; give the patches that enter this layer (bias coordinates too), "
            "or name the first layer by `first`"
        )
    return Patches(rows, first, layouts[best])


def _sample(count: int) -> list[int]:
    """Some constraints, evenly spread."""
    return sorted({int(a) for a in np.linspace(0, count - 1, SAMPLE)})


def _outside(function: MarginFunction, layers: Layers, rows: Matrix, first: int, a: int, layouts: list[bool]) -> Any:
    """The share of the gradient of a constraint outside the span of the patches of its point, for each layout."""
    gradient = function.pull(layers, np.eye(1, len(function.owner), a)[0])[first]
    own = rows[function.owner[a]]
    own = own[np.any(own != 0, axis=1)]
    span = host.row_space(own) if len(own) else own
    size = float(np.linalg.norm(gradient)) or 1.0
    made = (_matrix(gradient, out_last) for out_last in layouts)
    return [float(np.linalg.norm(w - (w @ span.T) @ span)) / size for w in made]
