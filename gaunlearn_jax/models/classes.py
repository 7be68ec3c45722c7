"""Networks with several outputs: scores N_c(x) = sum_j U_cj sigma(<w_j, x>), U [C, n] fixed, and one margin
q_ic = N_{y_i}(x_i) - N_c(x_i) for each point i and each class c != y_i.

With U = I and slope 1 this is the linear model of several classes, w_c its row of class c (docs/theory, Several
classes); two classes with U_0 = -U_1 = u/2 are the network of one output with second layer u.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gaunlearn_jax.base import checks, numerics
from gaunlearn_jax.base.arrays import Labels
from gaunlearn_jax.models.problem import Layout, MarginProblem


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ClassNetwork:
    """The fixed part: second layer U [C, n] and the slope of sigma below zero (static); the trained part is W [n, p].

    Make one with `LinearClasses` or `ReLUClasses`.
    """

    output_weights: Float[Array, "C n"]
    negative_slope: float = dataclasses.field(default=0.0, metadata={"static": True})

    def __post_init__(self) -> None:
        object.__setattr__(self, "negative_slope", checks.constant("negative_slope", self.negative_slope))

    @property
    def num_classes(self) -> int:
        """C."""
        return int(self.output_weights.shape[0])

    @property
    def num_neurons(self) -> int:
        """n."""
        return int(self.output_weights.shape[1])

    def problem(self, data: Any) -> MarginProblem:
        """The margin problem of anything with `points` [m, p] and `classes` [m] in 0 .. C-1 or, where these are None,
        `labels` [m] (see `spread_labels`).

        Constraint i (C - 1) + r is of point i and the r-th class that is not its own: one entry, amplitudes
        U_{y_i} - U_c.
        """
        m, others = data.points.shape[0], self.num_classes - 1
        own = self.classes_of(data)
        rival = jnp.arange(others)
        rival = rival + (rival >= own[:, None])
        amplitudes = self.output_weights.T[:, own][:, :, None] - self.output_weights.T[:, rival]
        return MarginProblem(
            rows=data.points,
            amplitudes=amplitudes.reshape(self.num_neurons, m * others),
            groups=jnp.zeros(m * others, jnp.int32),
            slope=self.negative_slope,
            layout=_layout(m, others),
        )

    def classes_of(self, data: Any) -> Int[Array, "m"]:
        """The class of every point; ValueError for a class that the network has no output for."""
        given = getattr(data, "classes", None)
        if given is None:
            return spread_labels(data.labels, self.num_classes)
        if not checks.is_traced(given) and np.max(np.asarray(given), initial=0) >= self.num_classes:
            raise ValueError(
                f"the data have class {np.max(np.asarray(given))}, the network the classes 0 to "
                f"{self.num_classes - 1}; make one with more classes"
            )
        return jnp.asarray(given)

    def outputs(self, z: Float[Array, "n s"]) -> Float[Array, "C s"]:
        """The scores at points with these pre-activations."""
        return numerics.matmul(self.output_weights, jnp.maximum(z, self.negative_slope * z))


def LinearClasses(num_classes: int) -> ClassNetwork:
    """N_c(W, x) = <w_c, x>, c = 0 .. C-1. ValueError unless C >= 2."""
    numerics.require_x64()
    return ClassNetwork(jnp.eye(_several(num_classes)), 1.0)


def ReLUClasses(
    num_neurons: int | None = None, num_classes: int | None = None, output_weights: Any = None
) -> ClassNetwork:
    """Two-layer ReLU network with C scores: U_cj = cos(2 pi (c - j) / C) / (2 sqrt(n)), so that neuron j speaks for
    class j mod C, or the given output_weights [C, n].

    ValueError if C < 2, n < C, a weight is not finite, or two classes have the same weights (no margin between them can
    be positive).
    """
    numerics.require_x64()
    if output_weights is None:
        n = checks.whole("num_neurons", 40 if num_neurons is None else num_neurons, 2, "an integer of at least 2")
        C = _several(4 if num_classes is None else num_classes)
        if n < C:
            raise ValueError(f"num_neurons is {n} for {C} classes, expected at least one neuron for each class")
        turn = np.subtract.outer(np.arange(C), np.arange(n)) % C
        # rounded, so that the amplitudes of neurons that do not tell two classes apart are exactly 0
        return ClassNetwork(jnp.asarray(np.round(np.cos(2 * np.pi * turn / C), 15) / (2 * np.sqrt(n))), 0.0)
    u = checks.real_array("output_weights", output_weights, 2)
    _several(u.shape[0])
    for given, name, size in ((num_classes, "num_classes", u.shape[0]), (num_neurons, "num_neurons", u.shape[1])):
        if given is not None and given != size:
            raise ValueError(f"{name} is {given} but output_weights has shape {u.shape}; give one of them")
    for c in range(1, len(u)):
        same = np.flatnonzero(np.all(u[:c] == u[c], axis=1))
        if same.size:
            raise ValueError(f"output_weights[{c}] equals output_weights[{same[0]}]: no margin between these classes")
    return ClassNetwork(jnp.asarray(u, jnp.float64), 0.0)


def spread_labels(labels: Labels, num_classes: int) -> Int[Array, "m"]:
    """Classes from labels +-1: label +1 stands for the even classes, -1 for the odd ones, and the points of a label
    take these in turn, so that the first few points of each label have all classes.

    >>> spread_labels(jnp.asarray([1.0, -1.0, 1.0, -1.0, 1.0]), 4)
    Array([0, 1, 2, 3, 0], dtype=int64)
    """
    positive = labels > 0
    before = jnp.where(positive, jnp.cumsum(positive), jnp.cumsum(~positive)) - 1
    even, odd = (num_classes + 1) // 2, num_classes // 2
    return jnp.where(positive, 2 * (before % even), 2 * (before % odd) + 1)


@functools.lru_cache(maxsize=64)
def _layout(m: int, others: int) -> Layout:
    """One row a point, `others` constraints of one entry each."""
    point = tuple(i for i in range(m) for _ in range(others))
    return Layout(point, tuple(range(m * others)), tuple(range(m)), point)


def _several(num_classes: Any) -> int:
    return int(checks.whole("num_classes", num_classes, 2, "an integer of at least 2"))
