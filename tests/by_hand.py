"""One instance made by hand, asymmetric in all that formulas could confuse: an unbalanced second layer, four points of
one class and two of the other, points of different lengths, two forgotten, a kink, and weights outside the span."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import reference as ref

import gaunlearn_jax as ga
from gaunlearn_jax import kkt

LABELS = np.array([1.0, 1.0, -1.0, 1.0, 1.0, -1.0])
GONE, KEPT = [1, 4], [0, 2, 3, 5]
OUTSIDE = 0.4
WEIGHTS = {0.0: [0.7, -0.4, 0.3, -0.2, 0.45], 0.3: [0.7, -0.4, 0.3, -0.2, 0.45], 1.0: [1.0]}


class Case:
    """The instance of a slope, as JAX objects and as arrays."""

    def __init__(self, slope: float) -> None:
        rng = np.random.default_rng(12)
        self.u, self.slope, self.y = np.array(WEIGHTS[slope]), slope, LABELS
        x = rng.standard_normal((6, 80)) * rng.uniform(0.08, 0.15, (6, 1)) + 0.03
        self.data = ga.data.from_points(x, LABELS)
        self.x = np.asarray(self.data.points)
        self.k = self.x @ self.x.T
        n = len(self.u)
        self.w = self.helpful(4.0) + 0.3 * rng.standard_normal((n, 6))
        self.lam = rng.uniform(0.3, 2.0, 6)
        self.z = self.w @ self.x.T
        self.s = np.where(self.z > 0, 1.0, slope)
        if slope < 1:  # a kink of neuron 1 at point 2
            self.w[1] -= self.z[1, 2] / self.k[2, 2] * self.x[2]
            self.z = self.w @ self.x.T
            self.z[1, 2] = 0.0
            self.s = np.where(self.z > 0, 1.0, slope)
            self.s[1, 2] = 0.65
        self.net = ga.models.Network(jnp.asarray(self.u), slope)
        self.problem = self.net.problem(self.data)
        self.forget = ga.data.forget_mask(self.data, GONE)
        self.point = kkt.measured_point(
            self.problem, jnp.asarray(self.w), jnp.asarray(self.z), jnp.asarray(self.lam), jnp.asarray(self.s),
            jnp.ones(6, bool), orthogonal_norm=OUTSIDE,
        )  # fmt: skip
        self.q = self.y * (self.u @ np.maximum(self.z, slope * self.z))
        self.e = self.w - self.made(range(6))
        self.h = self.made(GONE)
        self.inside = ref.projector(self.x, KEPT)

    def helpful(self, size: float) -> np.ndarray:
        """Weights with pre-activations size v where v = u_j y_i > 0 (linear: everywhere) and 0 elsewhere."""
        v = self.u[:, None] * LABELS
        return size * (v if self.slope == 1 else np.maximum(v, 0.0)) @ np.linalg.pinv(self.x).T

    def made(self, points: Any) -> np.ndarray:
        """sum of lambda_i y_i g_i over the points."""
        return sum(
            self.lam[i] * self.y[i] * np.outer(self.u * self.s[:, i], self.x[i]) for i in points
        )  # fmt: skip

    @property
    def epsilon(self) -> float:
        return math.hypot(float(np.linalg.norm(self.e)), OUTSIDE)

    @property
    def delta(self) -> float:
        return max(0.0, float(np.max(self.lam * (self.q - 1))))


def size(*parts: Any) -> float:
    return math.sqrt(sum(float(np.sum(np.square(part))) for part in parts))


def gap_of_sine(sine: float) -> float:
    return 1 - math.sqrt(1 - sine**2)


def close(found: Any, wanted: Any, rtol: float = 1e-10) -> None:
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=rtol, atol=1e-14)
