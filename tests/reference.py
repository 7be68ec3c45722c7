"""The mathematics once more, one instance at a time, in plain NumPy: the oracle of the JAX kernels.

Nothing here shares a method with the package. Margins and gradients are loops over points and neurons;
multipliers come from nonnegative least squares on *generated columns* (one column per point and per set
of kinks) instead of a projection onto a cone; exact KKT points come from *cutting planes* and the
Lawson-Hanson least-distance programme instead of a dual ascent with a Newton finish; projections come
from a singular value decomposition. Every solver recomputes its own optimality residual, which the
tests check, so a wrong answer of SciPy does not pass for a right one.

Conventions: points X [m, p], labels y [m] in {-1, +1}, weights W [n, p], second layer u [n],
pre-activations Z = W X^T [n, m], selection s [n, m], multipliers lam [m], mu[j, i] = lam[i] s[j, i].
`slope` is the negative slope of the activation max(z, slope z): 0 is the ReLU, 1 (with n = 1, u = [1]) the
linear model. `orthogonal` is the norm of the part of theta outside the span of the points' coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]


# --- model ---------------------------------------------------------------------------------------


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


# --- multipliers of a given theta ------------------------------------------------------------------


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
        v = _nnls(A, target)
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


def _nnls(A: Array, b: Array) -> Array:
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


# --- exact KKT points --------------------------------------------------------------------------------


@dataclass
class LimitPoint:
    """An exact KKT point; `first` is theta after the first solve, before any change of pattern."""

    W: Array
    Z: Array
    multipliers: Array
    selection: Array
    active_pattern: Bools
    epsilon: float
    delta: float
    margin: float
    repeats: int
    first: Array


def _least_distance(E: Array) -> tuple[Array, Array]:
    """argmin ||theta|| subject to E theta >= 1, and its multipliers (Lawson and Hanson, chapter 23)."""
    rows, width = E.shape
    stacked = np.concatenate([E.T, np.ones((1, rows))])
    unit = np.zeros(width + 1)
    unit[-1] = 1.0
    size = np.linalg.norm(stacked, axis=0)
    v, misfit = nnls(stacked / size, unit, maxiter=50 * rows + 100)
    v = v / size
    if misfit < 1e-9:
        raise ValueError("the margins cannot all be positive: no feasible point")
    lam = v / (1.0 - float(np.sum(v)))
    support = np.flatnonzero(lam > 0)
    F = E[support]
    polished = np.linalg.lstsq(F @ F.T, np.ones(len(support)), rcond=None)[0]
    theta = F.T @ polished
    if np.all(polished >= 0) and np.min(E @ theta) >= 1 - 1e-12:
        lam = np.zeros(rows)
        lam[support] = polished
    else:
        theta = E.T @ lam
        theta = theta / np.min(E @ theta)
    return theta, lam


def solve_pattern(
    X: Array,
    y: Array,
    u: Array,
    active_pattern: Bools,
    subset: Sequence[int] | None = None,
    linear: bool = False,
    tol: float = 1e-13,
    max_rounds: int = 2000,
) -> tuple[Array, Array, Array]:
    """min ||theta||^2 / 2 subject to F_i(theta) >= 1 on `subset`, by cutting planes: (W, lam [m], mu [n, m]).

    F_i = sum over active same-sign pairs of |u_j| z_ji - sum over opposite-sign pairs of |u_j| relu(z_ji) is
    the minimum of <theta, y_i g_i^J> over sets J of opposite-sign pairs, J the ones with selection 1.
    """
    m, (n, p) = X.shape[0], (len(u), X.shape[1])
    index = list(range(m)) if subset is None else list(subset)

    def cut(i: int, J: frozenset[int]) -> Array:
        row = np.zeros((n, p))
        for j in range(n):
            same = linear or u[j] * y[i] > 0
            if (same and active_pattern[j, i]) or (not same and j in J):
                row[j] = y[i] * u[j] * X[i]
        return row.ravel()

    keys: list[tuple[int, frozenset[int]]] = [(i, frozenset()) for i in index]
    rows = [cut(i, J) for i, J in keys]
    for _ in range(max_rounds):
        theta, weights = _least_distance(np.stack(rows))
        W, added = theta.reshape(n, p), False
        for i in index:
            J = frozenset() if linear else frozenset(j for j in range(n) if u[j] * y[i] < 0 and float(W[j] @ X[i]) > 0)
            row = cut(i, J)
            if (i, J) not in keys and float(row @ theta) < 1 - tol:
                keys.append((i, J))
                rows.append(row)
                added = True
        if not added:
            break
    lam, mu = np.zeros(m), np.zeros((n, m))
    for weight, (i, J) in zip(weights, keys, strict=True):
        lam[i] += weight
        for j in range(n):
            same = linear or u[j] * y[i] > 0
            if (same and active_pattern[j, i]) or (not same and j in J):
                mu[j, i] += weight
    return W, lam, mu


def limit_point(
    X: Array,
    y: Array,
    u: Array,
    active_pattern: Bools,
    subset: Sequence[int] | None = None,
    linear: bool = False,
    kink_tol: float = 1e-11,
    max_repeats: int = 100,
) -> LimitPoint:
    """The exact KKT point of the margin problem on `subset`, reached from an activation pattern.

    Only the same-sign entries (u_j y_i > 0) of active_pattern are read. After each solve, same-sign pairs
    outside the pattern with z > 0 are added and pairs inside with z < 0 are dropped, all at once, until
    nothing changes. Pre-activations below kink_tol in size are reported as exact zeros.
    """
    m, n = X.shape[0], len(u)
    index = list(range(m)) if subset is None else list(subset)
    pattern = np.array(active_pattern, dtype=bool).copy()
    first = np.zeros((n, X.shape[1]))
    repeats, changed = -1, True
    while changed:
        repeats += 1
        if repeats > max_repeats:
            raise RuntimeError("the pattern loop did not end")
        W, lam, mu = solve_pattern(X, y, u, pattern, index, linear)
        first = W.copy() if repeats == 0 else first
        Z = preactivations(W, X)
        Z[np.abs(Z) <= kink_tol * float(np.linalg.norm(W))] = 0.0
        changed = False
        for j in range(n):
            for i in index:
                if linear or u[j] * y[i] < 0:
                    continue
                if (Z[j, i] > 0 and not pattern[j, i]) or (Z[j, i] < 0 and pattern[j, i]):
                    pattern[j, i] = not pattern[j, i]
                    changed = True
    slope = 1.0 if linear else 0.0
    s = np.zeros((n, m))
    for j in range(n):
        for i in range(m):
            low, high = clarke_interval(Z[j, i], slope)
            wanted = mu[j, i] / lam[i] if lam[i] > 0 else low
            s[j, i] = min(max(wanted, low), high)
    errors = kkt_errors(W, Z, X, y, u, lam, s, index, slope)
    return LimitPoint(W, Z, lam, s, pattern, errors.epsilon, errors.delta, errors.margin, repeats, first)


# --- the step and its certificates --------------------------------------------------------------------


def projector(X: Array, subset: Sequence[int], rank_tol: float = 1e-11) -> Array:
    """The p x p orthogonal projection onto span{x_i : i in subset}."""
    _, sizes, rows = np.linalg.svd(X[list(subset)], full_matrices=False)
    P = np.zeros((X.shape[1], X.shape[1]))
    for size, row in zip(sizes, rows, strict=True):
        if size > rank_tol * sizes[0]:
            P += np.outer(row, row)
    return P


def forgotten_part(X: Array, y: Array, u: Array, lam: Array, s: Array, forget: Sequence[int]) -> Array:
    """h = sum_{r in R} lam_r y_r g_r."""
    return combination(X, y, u, lam, s, list(forget))


def gradient_ascent(
    W: Array,
    X: Array,
    y: Array,
    u: Array,
    lam: Array,
    s: Array,
    forget: Sequence[int],
    scale: float = 1.0,
) -> Array:
    """theta_hat = theta - scale h."""
    return W - scale * forgotten_part(X, y, u, lam, s, forget)


def log_step_size(lam: Array, q: Array, forget: Sequence[int], loss: str = "exponential") -> Array:
    """log beta_r with beta_r = -lam_r / l'(q_r); -inf outside the forget set and where lam_r = 0."""
    out = np.full(len(lam), -math.inf)
    for r in forget:
        if lam[r] > 0:
            inverse = q[r] if loss == "exponential" else float(np.logaddexp(0.0, q[r]))
            out[r] = math.log(lam[r]) + inverse
    return out


@dataclass
class Certificate:
    """A point theta_tilde with (lam, s) for the retained set; `rho` = ||P h||, `margin` = min_T q."""

    epsilon: float
    delta: float
    tau: float
    params: Array
    preactivations: Array
    multipliers: Array
    selection: Array
    margin: float
    rho: float


def _certify(
    theta: Array,
    difference: Array,
    hat: Array,
    Z: Array,
    X: Array,
    y: Array,
    u: Array,
    lam: Array,
    s: Array,
    retained: Sequence[int],
    slope: float,
    orthogonal: float,
    kept_orthogonal: float,
    rho: float,
) -> Certificate:
    kept = np.zeros(len(lam))
    kept[list(retained)] = lam[list(retained)]
    errors = kkt_errors(theta, Z, X, y, u, kept, s, retained, slope, kept_orthogonal)
    a = np.append(hat.ravel(), orthogonal)
    delta = np.append(difference.ravel(), orthogonal - kept_orthogonal)
    tau = one_minus_cos_of_difference(a, delta)
    return Certificate(errors.epsilon, errors.delta, tau, theta, Z, kept, s, errors.margin, rho)


def projection_certificate(
    W: Array,
    Z: Array,
    X: Array,
    y: Array,
    u: Array,
    lam: Array,
    s: Array,
    forget: Sequence[int],
    scale: float = 1.0,
    slope: float = 0.0,
    orthogonal: float = 0.0,
) -> Certificate:
    """theta_tilde = theta - scale (I - P) h with the retained multipliers and the same selection."""
    retained = [i for i in range(X.shape[0]) if i not in set(forget)]
    P = projector(X, retained)
    h = forgotten_part(X, y, u, lam, s, forget)
    theta = W - scale * (h - h @ P)
    fresh = preactivations(theta, X)
    fresh[:, retained] = Z[:, retained]
    return _certify(
        theta, -scale * (h @ P), W - scale * h, fresh, X, y, u, lam, s, retained, slope,
        orthogonal, orthogonal, float(np.linalg.norm(h @ P)),
    )  # fmt: skip


def span_certificate(
    W: Array,
    Z: Array,
    X: Array,
    y: Array,
    u: Array,
    lam: Array,
    s: Array,
    forget: Sequence[int],
    scale: float = 1.0,
    slope: float = 0.0,
    orthogonal: float = 0.0,
) -> Certificate:
    """theta_tilde = P theta with the retained multipliers and the same selection."""
    retained = [i for i in range(X.shape[0]) if i not in set(forget)]
    P = projector(X, retained)
    h = forgotten_part(X, y, u, lam, s, forget)
    e = W - combination(X, y, u, lam, s, range(X.shape[0]))
    theta = W @ P
    fresh = preactivations(theta, X)
    fresh[:, retained] = Z[:, retained]
    outside = (1 - scale) * (h - h @ P) + (e - e @ P)
    return _certify(
        theta, outside - scale * (h @ P), W - scale * h, fresh, X, y, u, lam, s, retained, slope,
        orthogonal, 0.0, float(np.linalg.norm(h @ P)),
    )  # fmt: skip


def scaling_certificate_linear(
    w: Array, X: Array, y: Array, lam: Array, forget: Sequence[int], scale: float = 1.0
) -> Certificate:
    """theta_hat / (1 - c), c = max(0, 1 - min_T q(theta_hat)), so tau = 0. Linear models, w [1, p]."""
    retained = [i for i in range(X.shape[0]) if i not in set(forget)]
    u, s = np.ones(1), np.ones((1, X.shape[0]))
    hat = gradient_ascent(w, X, y, u, lam, s, forget, scale)
    lowest = min(margins(hat, X, y, u, 1.0)[i] for i in retained)
    if lowest <= 0:
        raise ValueError("a retained margin is not positive after the step: no scaling certificate")
    factor = min(1.0, lowest)
    theta = hat / factor
    h = forgotten_part(X, y, u, lam, s, forget)
    return _certify(
        theta, np.zeros_like(theta), hat, preactivations(theta, X), X, y, u, lam / factor, s, retained,
        1.0, 0.0, 0.0, float(np.linalg.norm(h @ projector(X, retained))),
    )  # fmt: skip


def one_minus_cos_of_difference(a: Array, delta: Array) -> float:
    """1 - cos of the angle between a and b = a - delta, from delta itself."""
    a, delta = a.ravel(), delta.ravel()
    b = a - delta
    aa, bb = math.sqrt(math.fsum(a * a)), math.sqrt(math.fsum(b * b))
    cos = math.fsum(a * b) / (aa * bb)
    if cos <= 0:
        return 1.0 - cos
    outside = delta - (math.fsum(a * delta) / aa**2) * a
    return math.fsum(outside * outside) / (bb**2 * (1.0 + cos))


def one_minus_cos(a: Array, b: Array, digits: int | None = None) -> float:
    """1 - cos of the angle between a and b; with digits, in that many digits of mpmath."""
    a, b = a.ravel(), b.ravel()
    if digits is None:
        return one_minus_cos_of_difference(a, a - b)
    import mpmath

    with mpmath.workdps(digits):
        aa = mpmath.fsum(mpmath.mpf(float(t)) ** 2 for t in a)
        bb = mpmath.fsum(mpmath.mpf(float(t)) ** 2 for t in b)
        ab = mpmath.fsum(mpmath.mpf(float(t)) * mpmath.mpf(float(v)) for t, v in zip(a, b, strict=True))
        return float(1 - ab / mpmath.sqrt(aa * bb))


def step_size_epsilon(
    W: Array, X: Array, y: Array, u: Array, lam: Array, s: Array, forget: Sequence[int], scale: float
) -> float:
    """||e + P h + (1 - c)(I - P) h||: epsilon of the projection certificate of theta - c h."""
    retained = [i for i in range(X.shape[0]) if i not in set(forget)]
    P = projector(X, retained)
    h = forgotten_part(X, y, u, lam, s, forget)
    e = W - combination(X, y, u, lam, s, range(X.shape[0]))
    return float(np.linalg.norm(e + h @ P + (1 - scale) * (h - h @ P)))


# --- bounds --------------------------------------------------------------------------------------------


@dataclass
class BoundValue:
    """A right-hand side (epsilon, delta, tau); `reason` names the hypothesis that fails, if one does."""

    epsilon: float
    delta: float
    tau: float
    applicable: bool
    reason: str = ""


def data_assumption(X: Array) -> tuple[float, float]:
    """The smallest (psi, phi) with |1 - ||x_i||^2| <= psi and |<x_i, x_j>| <= phi for i != j."""
    m = X.shape[0]
    psi = max(abs(1.0 - math.fsum(X[i] * X[i])) for i in range(m))
    phi = max((abs(math.fsum(X[i] * X[k])) for i in range(m) for k in range(i)), default=0.0)
    return psi, phi


def beta_max(psi: float, phi: float, epsilon: float, delta: float, m: int, total: float = 1.0) -> float:
    """Lemma M, upper: largest lam_i b_i, b_i = sum_j u_j^2 s_ji; `total` = sum_j u_j^2."""
    A = 1 - psi - (m - 1) * phi
    if A <= 0:
        return math.inf
    B = 1 + epsilon * math.sqrt(total * (1 - psi))
    return (B + math.sqrt(B * B + 4 * A * delta * total)) / (2 * A)


def beta_min(psi: float, phi: float, epsilon: float, delta: float, m: int, total: float = 1.0) -> float:
    """Lemma M, lower; negative values say nothing."""
    top = beta_max(psi, phi, epsilon, delta, m, total)
    return (1 - (m - 1) * phi * top - epsilon * math.sqrt(total * (1 + psi))) / (1 + psi)


def leak_norm(psi: float, phi: float, M: int) -> float:
    """Bound on ||P x_r||, the part of a forgotten point inside the span of M retained ones."""
    room = 1 - psi - (M - 1) * phi
    return phi * math.sqrt(M) / math.sqrt(room) if room > 0 else math.inf


def norm_floor_sq(K: Array, y: Array, u: Array, retained: Sequence[int]) -> float:
    """B_T^2 of the norm lemma; inf when a label has no neuron of its sign (no feasible point exists)."""
    total = 0.0
    for sign in (1.0, -1.0):
        index = [i for i in retained if y[i] == sign]
        if index:
            mass = math.fsum(uj * uj for uj in u if sign * uj > 0)
            top = float(np.linalg.eigvalsh(K[np.ix_(index, index)])[-1])
            total += len(index) / (mass * top) if mass > 0 else math.inf
    return total


def rho_instance(X: Array, u: Array, lam: Array, s: Array, forget: Sequence[int]) -> float:
    """sum_r lam_r sqrt(b_r) ||P x_r|| >= ||P h||."""
    retained = [i for i in range(X.shape[0]) if i not in set(forget)]
    P = projector(X, retained)
    total = 0.0
    for r in forget:
        b = math.fsum(u[j] ** 2 * s[j, r] for j in range(len(u)))
        total += lam[r] * math.sqrt(b) * float(np.linalg.norm(X[r] @ P))
    return total


def _angle_bound(sine: float) -> float:
    return sine**2 / (1 + math.sqrt(1 - sine**2)) if sine < 1 else 2.0


def _sharp(psi: float, phi: float, epsilon: float, delta: float, m: int, k: int, u_min_sq: float) -> BoundValue:
    M = m - k
    if 1 - psi - (m - 1) * phi <= 0:
        return BoundValue(math.inf, math.inf, math.inf, False, "the points are too correlated")
    rho = k * beta_max(psi, phi, epsilon, delta, m) * leak_norm(psi, phi, M) / math.sqrt(u_min_sq)
    floor = math.sqrt(M / (1 + psi + (M - 1) * phi))
    return BoundValue(epsilon + rho, delta, _angle_bound(rho / floor), True)


def _hypotheses(psi: float, eps_d: float, epsilon: float, delta: float) -> str:
    """The first hypothesis of Theorems R (rounded) and L (coarse) that fails, or ''."""
    if psi > 0.1:
        return "psi > 0.1"
    if eps_d > 1:
        return "eps_d > 1"
    if epsilon > 0.5:
        return "epsilon_1 > 1/2"
    if delta > 0.5:
        return "delta_1 > 1/2"
    return ""


def sharp_relu(psi: float, phi: float, epsilon: float, delta: float, *, m: int, n: int, k: int) -> BoundValue:
    """Theorem R from its formulas: rho <= k beta_max sqrt(n) kappa, |u_j| = 1/sqrt(n)."""
    return _sharp(psi, phi, epsilon, delta, m, k, 1.0 / n)


def sharp_linear_projection(
    psi: float, phi: float, epsilon: float, delta: float, *, m: int, n: int = 1, k: int
) -> BoundValue:
    """Theorem P for a linear model: rho <= k beta_max kappa."""
    return _sharp(psi, phi, epsilon, delta, m, k, 1.0)


def rounded_relu(psi: float, phi: float, epsilon: float, delta: float, *, m: int, n: int, k: int) -> BoundValue:
    """Theorem R with its constants 0.82 and 0.91; eps_d = 4 m n phi."""
    eps_d, M = 4 * m * n * phi, m - k
    reason = _hypotheses(psi, eps_d, epsilon, delta)
    tau = 0.91 * k**2 * eps_d**2 / (n * m * M)
    return BoundValue(epsilon + 0.82 * k * eps_d / math.sqrt(m * n), delta, tau if tau < 1 else 2.0, not reason, reason)


def coarse_relu(psi: float, phi: float, epsilon: float, delta: float, *, m: int, n: int, k: int = 1) -> BoundValue:
    """The coarse corollary of Theorem R."""
    eps_d = 4 * m * n * phi
    reason = _hypotheses(psi, eps_d, epsilon, delta) or ("k > 1" if k > 1 else "")
    if m - 9 * eps_d <= 0:
        return BoundValue(math.inf, math.inf, math.inf, False, reason or "9 eps_d >= m")
    growth = 9 * eps_d / (m - 9 * eps_d)
    return BoundValue(
        epsilon + growth * epsilon + 23 * eps_d / math.sqrt(m),
        delta + growth * delta + 22.6 * eps_d / m,
        82 * eps_d / m,
        not reason,
        reason,
    )


def sharp_linear(psi: float, phi: float, epsilon: float, delta: float, *, m: int, n: int = 1, k: int) -> BoundValue:
    """Theorem L from its formulas, tau = 0."""
    top = beta_max(psi, phi, epsilon, delta, m)
    leak = k * top * phi
    if not leak < 1:
        return BoundValue(math.inf, math.inf, math.inf, False, "leakage >= 1")
    return BoundValue(epsilon / (1 - leak), (delta + 2 * leak * top) / (1 - leak) ** 2, 0.0, True)


def coarse_linear(
    psi: float, phi: float, epsilon: float, delta: float, *, m: int, n: int = 1, k: int = 1
) -> BoundValue:
    """The coarse corollary of Theorem L; eps_d = 4 m phi."""
    eps_d = 4 * m * phi
    reason = _hypotheses(psi, eps_d, epsilon, delta) or ("k > 1" if k > 1 else "")
    if m - eps_d <= 0:
        return BoundValue(math.inf, math.inf, math.inf, False, reason or "eps_d >= m")
    growth = eps_d / (m - eps_d)
    return BoundValue(epsilon + growth * epsilon, delta + growth * delta + 7.2 * eps_d / m, 0.0, not reason, reason)


def instance_linear(X: Array, y: Array, lam: Array, epsilon: float, delta: float, forget: Sequence[int]) -> BoundValue:
    """Theorem L with the instance's own leakage max_T |sum_r lam_r y_r K_ri|."""
    retained = [i for i in range(X.shape[0]) if i not in set(forget)]
    leak = max(abs(math.fsum(lam[r] * y[r] * math.fsum(X[r] * X[i]) for r in forget)) for i in retained)
    if leak >= 1:
        return BoundValue(math.inf, math.inf, math.inf, False, "leakage >= 1")
    top = max(lam[i] for i in retained)
    return BoundValue(epsilon / (1 - leak), (delta + 2 * leak * top) / (1 - leak) ** 2, 0.0, True)


def angle_to_span(W: Array, X: Array, subset: Sequence[int], orthogonal: float = 0.0) -> float:
    """alpha = the angle between theta and V = {(v_j) : v_j in span of the points of subset}."""
    P = projector(X, subset)
    outside = math.hypot(float(np.linalg.norm(W - W @ P)), orthogonal)
    return math.atan2(outside, float(np.linalg.norm(W @ P)))


def identity_separation(alpha: float, epsilon: float, floor: float) -> float:
    """No (epsilon, .)-KKT point of T is closer than this angle to a theta at angle alpha from V."""
    return max(0.0, alpha - math.asin(min(1.0, epsilon / floor)))


def epsilon_floor(alpha: float, tau: float, floor: float) -> float:
    """Every certificate with cosine gap tau has at least this epsilon."""
    return floor * math.sin(max(0.0, alpha - math.acos(1 - tau)))


def distance_to_retrained(epsilon: float, slack: float) -> float:
    """D <= (eps + sqrt(eps^2 + 4 slack)) / 2, slack = sum_T lam_i (q_i - 1)."""
    return 0.5 * (epsilon + math.sqrt(epsilon**2 + 4 * slack))


def estimate_multiplier(
    r: int, Z: Array, X: Array, y: Array, u: Array, lam: Array, s: Array, epsilon: float
) -> tuple[float, float]:
    """(q_r / (||x_r||^2 a_r), bound on its error), a_r = sum_j u_j^2 [z_jr > 0]; ReLU."""
    n, m = Z.shape
    act = [1.0 if Z[j, r] > 0 else 0.0 for j in range(n)]
    a_r = math.fsum(u[j] ** 2 * act[j] for j in range(n))
    size = math.fsum(X[r] * X[r])
    q = margins_of(Z, y, u)[r]
    error = epsilon * math.sqrt(size * a_r)
    for i in range(m):
        if i != r:
            overlap = math.fsum(u[j] ** 2 * s[j, i] * act[j] for j in range(n))
            error += lam[i] * abs(math.fsum(X[i] * X[r])) * overlap
    return q / (size * a_r), error / (size * a_r)


def orthogonal_multiplier_bounds(X: Array) -> tuple[float, float, float]:
    """(lower, upper, p): the bounds on linear multipliers of exact KKT points when p >= 3."""
    m = X.shape[0]
    sizes = [math.fsum(X[i] * X[i]) for i in range(m)]
    low, high = min(sizes), max(sizes)
    _, phi = data_assumption(X)
    ratio = high / low
    p = low / (ratio * m * phi)
    return (1 - 1 / (p * ratio - 1)) / high, 1 / (low * (1 - 1 / (p * ratio))), p


# --- draws -------------------------------------------------------------------------------------------------


def reduced_gaussian(rng: np.random.Generator, m: int, d: float) -> Array:
    """m points N(0, I_d / d) in the coordinates of their own span: Bartlett's lower triangle."""
    X = np.zeros((m, m))
    for i in range(m):
        for k in range(i):
            X[i, k] = rng.standard_normal()
        X[i, i] = math.sqrt(2.0 * rng.standard_gamma((d - i) / 2.0))
    return X / math.sqrt(d)
