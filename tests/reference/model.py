"""Two-layer networks, their margins and the errors of a KKT point, by loops over points and neurons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]


def activate(z: float, slope: float = 0.0) -> float:
    """max(z, slope z): ReLU for slope 0, the identity for slope 1."""
    return z if z > 0 else slope * z


def preactivations(W: Array, X: Array) -> Array:
    """Z[j, i] = <w_j, x_i>."""
    n, m = W.shape[0], X.shape[0]
    Z = np.zeros((n, m))
    for j in range(n):
        for i in range(m):
            Z[j, i] = math.fsum(W[j] * X[i])
    return Z


def margins_of(Z: Array, y: Array, u: Array, slope: float = 0.0) -> Array:
    """q_i = y_i sum_j u_j sigma(z_ji) from given pre-activations."""
    n, m = Z.shape
    return np.array([y[i] * math.fsum(u[j] * activate(Z[j, i], slope) for j in range(n)) for i in range(m)])


def margins(W: Array, X: Array, y: Array, u: Array, slope: float = 0.0) -> Array:
    """q_i = y_i N(theta, x_i)."""
    return margins_of(preactivations(W, X), y, u, slope)


def clarke_interval(z: float, slope: float = 0.0) -> tuple[float, float]:
    """The Clarke subdifferential of max(z, slope z) at z: a point, or [slope, 1] at the kink."""
    if z > 0:
        return 1.0, 1.0
    if z < 0:
        return slope, slope
    return min(slope, 1.0), 1.0


def selection_distance(Z: Array, s: Array, slope: float = 0.0) -> float:
    """How far the worst entry of s is from its Clarke interval (0 for a selection)."""
    worst = 0.0
    for j in range(Z.shape[0]):
        for i in range(Z.shape[1]):
            low, high = clarke_interval(Z[j, i], slope)
            worst = max(worst, low - s[j, i], s[j, i] - high)
    return worst


def example_gradient(i: int, X: Array, u: Array, s: Array) -> Array:
    """g_i = (u_j s_ji x_i)_j as an n x p matrix."""
    return np.array([u[j] * s[j, i] * X[i] for j in range(len(u))])


def combination(X: Array, y: Array, u: Array, lam: Array, s: Array, subset: Sequence[int]) -> Array:
    """sum_{i in subset} lam_i y_i g_i."""
    total = np.zeros((len(u), X.shape[1]))
    for i in subset:
        total += lam[i] * y[i] * example_gradient(i, X, u, s)
    return total


@dataclass
class KKTErrors:
    """What (lam, s) proves about theta: it is an (epsilon, delta)-approximate KKT point if margin >= 1."""

    epsilon: float
    delta: float
    margin: float
    selection_error: float


def kkt_errors(
    W: Array,
    Z: Array,
    X: Array,
    y: Array,
    u: Array,
    lam: Array,
    s: Array,
    subset: Sequence[int] | None = None,
    slope: float = 0.0,
    orthogonal: float = 0.0,
) -> KKTErrors:
    """Stationarity, complementary slackness and smallest margin on `subset` (default: all points)."""
    index = list(range(X.shape[0])) if subset is None else list(subset)
    q = margins_of(Z, y, u, slope)
    residual = W - combination(X, y, u, lam, s, index)
    return KKTErrors(
        epsilon=math.hypot(float(np.linalg.norm(residual)), orthogonal),
        delta=max(lam[i] * (q[i] - 1.0) for i in index),
        margin=min(q[i] for i in index),
        selection_error=selection_distance(Z[:, index], s[:, index], slope),
    )
