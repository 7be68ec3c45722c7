"""Instances for the tests of the reference: points, networks and perturbed KKT points."""

from __future__ import annotations

import math

import numpy as np

from reference.limit import limit_point
from reference.model import Array, margins_of
from reference.multipliers import measure_multipliers


def reduced_gaussian(rng: np.random.Generator, m: int, d: float) -> Array:
    """m points N(0, I_d / d) in the coordinates of their own span: Bartlett's lower triangle."""
    X = np.zeros((m, m))
    for i in range(m):
        for k in range(i):
            X[i, k] = rng.standard_normal()
        X[i, i] = math.sqrt(2.0 * rng.standard_gamma((d - i) / 2.0))
    return X / math.sqrt(d)


def signs(count: int) -> np.ndarray:
    return np.array([(-1.0) ** i for i in range(count)])


def network(seed: int, m: int, n: int, d: float):
    """Points, labels, second layer, and a pattern in which every point has an active neuron of its sign."""
    rng = np.random.default_rng(seed)
    X, y, u = reduced_gaussian(rng, m, d), signs(m), signs(n) / math.sqrt(n)
    active = rng.random((n, m)) < 0.5
    for i in range(m):
        active[0 if y[i] > 0 else 1, i] = True
    return X, y, u, active


def perturbed(seed: int, m: int, n: int, d: float, size: float):
    """A network near an exact KKT point, its multipliers measured: some kinks kept, margins at least 1."""
    X, y, u, active = network(seed, m, n, d)
    point = limit_point(X, y, u, active)
    rng = np.random.default_rng(seed + 1)
    Z = point.Z + size * rng.standard_normal(point.Z.shape)
    keep = (point.Z == 0) & (rng.random(Z.shape) < 0.7)
    Z[keep] = 0.0
    Z = Z / np.min(margins_of(Z, y, u))
    W = np.linalg.solve(X, Z.T).T  # X is square and triangular: W X^T = Z
    fit = measure_multipliers(Z, W, X, y, u)
    return X, y, u, W, Z, fit
