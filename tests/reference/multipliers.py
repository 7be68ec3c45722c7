"""Multipliers of a given theta: nonnegative least squares on generated columns, and projected gradient under a cap."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from reference.model import Array, clarke_interval, combination, example_gradient, margins_of


@dataclass
class Multipliers:
    """The best (lam, s) for a given theta, and how nearly optimal it provably is.

    `optimality` is the largest violation of the first-order conditions of the (convex) least squares
    problem, relative to ||theta||, computed from the answer alone: near 0 means solved.
    """

    multipliers: Array
    selection: Array
    mu: Array
    epsilon: float
    delta: float
    margin: float
    optimality: float


def _finish(
    Z: Array,
    W: Array,
    X: Array,
    y: Array,
    u: Array,
    lam: Array,
    mu: Array,
    cap: Array | None,
    slope: float,
    orthogonal: float,
) -> Multipliers:
    n, m = Z.shape
    s = np.zeros((n, m))
    for j in range(n):
        for i in range(m):
            low, high = clarke_interval(Z[j, i], slope)
            s[j, i] = min(max(mu[j, i] / lam[i], low), high) if lam[i] > 0 else low
    mu = s * lam
    e = W - combination(X, y, u, lam, s, range(m))
    # First-order conditions per point, recomputed from the answer: with c the value per unit of lam of
    # the best column and own = <e, fit_i>, either lam_i < cap_i, c <= 0 and own = 0, or lam_i = cap_i,
    # c >= 0 and own = lam_i c.
    theta, worst = max(float(np.linalg.norm(W)), 1e-300), 0.0
    for i in range(m):
        best = _best_column_value(i, Z, X, y, u, e, slope)
        own = y[i] * float(np.sum(e * example_gradient(i, X, u, s))) * lam[i]
        size = max(float(np.linalg.norm(X[i])), 1e-300)
        if cap is None or lam[i] < cap[i]:
            worst = max(worst, best / (theta * size), abs(own) / theta**2)
        else:
            worst = max(worst, -best / (theta * size), abs(lam[i] * best - own) / theta**2)
    q = margins_of(Z, y, u, slope)
    return Multipliers(
        multipliers=lam,
        selection=s,
        mu=mu,
        epsilon=math.hypot(float(np.linalg.norm(e)), orthogonal),
        delta=max(lam[i] * (q[i] - 1.0) for i in range(m)),
        margin=float(np.min(q)),
        optimality=worst,
    )


def _column(i: int, kinks: frozenset[int], Z: Array, X: Array, y: Array, u: Array, slope: float) -> Array:
    """y_i g_i for the selection that is 1 on `kinks`, slope on the other kinks of point i."""
    out = np.zeros((Z.shape[0], X.shape[1]))
    for j in range(Z.shape[0]):
        low, _ = clarke_interval(Z[j, i], slope)
        out[j] = y[i] * u[j] * (1.0 if j in kinks else low) * X[i]
    return out


def _best_kinks(i: int, Z: Array, X: Array, y: Array, u: Array, residual: Array) -> frozenset[int]:
    """The kinks of point i at which selection 1 has a positive inner product with the residual."""
    return frozenset(j for j in range(Z.shape[0]) if Z[j, i] == 0 and y[i] * u[j] * float(residual[j] @ X[i]) > 0)


def _best_column_value(i: int, Z: Array, X: Array, y: Array, u: Array, residual: Array, slope: float) -> float:
    kinks = _best_kinks(i, Z, X, y, u, residual)
    return float(np.sum(residual * _column(i, kinks, Z, X, y, u, slope)))


def measure_multipliers(
    Z: Array,
    W: Array,
    X: Array,
    y: Array,
    u: Array,
    slope: float = 0.0,
    cap: Array | None = None,
    orthogonal: float = 0.0,
    max_rounds: int = 500,
) -> Multipliers:
    """min ||theta - sum_i y_i (u_j mu_ji x_i)_j|| over lam >= 0 and mu_ji / lam_i in the Clarke interval.

    Kinks are the exact zeros of Z. The cone of one point is spanned by its columns _column(i, J), J a set
    of kinks, so the problem is NNLS with 2^kinks columns per point; only the columns that the
    residual asks for are generated. With cap [m], lam_i <= cap_i is added and projected gradient is used.
    """
    if Z.size == 0 or X.shape[0] == 0:
        raise ValueError("measure_multipliers needs at least one point and one neuron")
    if cap is not None:
        return _measure_by_projection(Z, W, X, y, u, slope, np.asarray(cap, float), orthogonal)
    n, m = Z.shape
    keys: list[tuple[int, frozenset[int]]] = [(i, frozenset()) for i in range(m)]
    columns = [_column(i, J, Z, X, y, u, slope).ravel() for i, J in keys]
    target, tol = W.ravel(), 1e-14 * max(float(np.linalg.norm(W)), 1e-300)
    v = np.zeros(len(keys))
    for _ in range(max_rounds):
        A = np.stack(columns, axis=1)
        v = nonnegative_fit(A, target)
        residual = (target - A @ v).reshape(W.shape)
        added = False
        for i in range(m):
            J = _best_kinks(i, Z, X, y, u, residual)
            if (i, J) in keys:
                continue
            column = _column(i, J, Z, X, y, u, slope).ravel()
            if float(residual.ravel() @ column) > tol * float(np.linalg.norm(column)):
                keys.append((i, J))
                columns.append(column)
                added = True
        if not added:
            break
    lam, mu = np.zeros(m), np.zeros((n, m))
    for weight, (i, J) in zip(v, keys, strict=False):
        lam[i] += weight
        for j in range(n):
            mu[j, i] += weight * (1.0 if j in J else clarke_interval(Z[j, i], slope)[0])
    return _finish(Z, W, X, y, u, lam, mu, None, slope, orthogonal)


def nonnegative_fit(A: Array, b: Array) -> Array:
    """SciPy's NNLS on unit columns, then least squares on its support where that stays nonnegative."""
    size = np.linalg.norm(A, axis=0)
    size[size == 0] = 1.0
    v, _ = nnls(A / size, b, maxiter=50 * A.shape[1] + 100)
    support = np.flatnonzero(v > 0)
    if len(support):
        polished = np.linalg.lstsq(A[:, support] / size[support], b, rcond=None)[0]
        if np.all(polished >= 0):
            v[support] = polished
    return v / size


def project_cone(
    a: float, b: Array, slope: float = 0.0, cap: float = math.inf, weight: float = 1.0
) -> tuple[float, Array]:
    """The nearest (lam, mu) to (a, b) with 0 <= lam <= cap and slope lam <= mu_j <= lam.

    Distance weight (lam - a)^2 + sum_j (mu_j - b_j)^2. The derivative in lam is piecewise linear and
    increasing: its zero is bracketed between breakpoints b_j and b_j / slope, then found exactly.
    """

    def derivative(lam: float) -> tuple[float, float]:
        value, rate = weight * (lam - a), weight
        for bj in b:
            if bj > lam:
                value, rate = value + lam - bj, rate + 1.0
            elif bj < slope * lam:
                value, rate = value + slope * (slope * lam - bj), rate + slope * slope
        return value, rate

    breaks = sorted({0.0, *(t for bj in b for t in (bj, bj / slope if slope > 0 else bj) if t > 0)})
    left = 0.0
    for t in breaks:
        if derivative(t)[0] <= 0:
            left = t
    value, _ = derivative(left)
    lam = left
    if value < 0:
        right = [t for t in breaks if t > left]
        probe = 0.5 * (left + right[0]) if right else left + 1.0
        value, rate = derivative(probe)
        lam = probe - value / rate
    lam = min(max(lam, 0.0), cap)
    return lam, np.array([min(max(bj, slope * lam), lam) for bj in b])


def _measure_by_projection(
    Z: Array,
    W: Array,
    X: Array,
    y: Array,
    u: Array,
    slope: float,
    cap: Array,
    orthogonal: float,
    max_steps: int = 20000,
) -> Multipliers:
    n, m = Z.shape
    pairs = [(j, i) for i in range(m) for j in range(n) if Z[j, i] == 0 and slope != 1.0]
    columns = []
    for i in range(m):
        fixed = np.zeros(W.shape)
        for j in range(n):
            if (j, i) not in pairs:
                fixed[j] = y[i] * u[j] * clarke_interval(Z[j, i], slope)[0] * X[i]
        columns.append(fixed.ravel())
    for j, i in pairs:
        kink = np.zeros(W.shape)
        kink[j] = y[i] * u[j] * X[i]
        columns.append(kink.ravel())
    A, target = np.stack(columns, axis=1), W.ravel()
    H, c = A.T @ A, A.T @ target
    L = float(np.linalg.eigvalsh(H)[-1]) * (1 + 1e-12)
    own = [[m + k for k, pair in enumerate(pairs) if pair[1] == i] for i in range(m)]

    def project(point: Array) -> Array:
        out = point.copy()
        for i in range(m):
            out[i], out[own[i]] = project_cone(point[i], point[own[i]], slope, cap[i])
        return out

    x = project(np.zeros(A.shape[1]))
    momentum, t = x.copy(), 1.0
    for _ in range(max_steps):
        new = project(momentum - (H @ momentum - c) / L)
        if float((momentum - new) @ (new - x)) > 0:  # the step turned back: restart
            momentum, t = x.copy(), 1.0
            new = project(momentum - (H @ momentum - c) / L)
        moved = float(np.linalg.norm(new - x))
        t_next = 0.5 * (1 + math.sqrt(1 + 4 * t * t))
        momentum, x, t = new + (t - 1) / t_next * (new - x), new, t_next
        if moved <= 1e-16 * (1 + float(np.linalg.norm(x))):
            break
    lam, mu = x[:m].copy(), np.zeros((n, m))
    for i in range(m):
        for j in range(n):
            mu[j, i] = lam[i] * clarke_interval(Z[j, i], slope)[0]
    for k, (j, i) in enumerate(pairs):
        mu[j, i] = x[m + k]
    return _finish(Z, W, X, y, u, lam, mu, cap, slope, orthogonal)
