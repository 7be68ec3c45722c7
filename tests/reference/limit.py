"""Exact KKT points by cutting planes and the Lawson-Hanson least-distance programme."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from reference.model import Array, Bools, clarke_interval, kkt_errors, preactivations


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


def least_distance(E: Array) -> tuple[Array, Array]:
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
        theta, weights = least_distance(np.stack(rows))
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
