"""Margin problems as plain loops: what an architecture promises, written a second time."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import optimize


def entries_of(problem: Any) -> list[tuple[int, int, int]]:
    """(entry, row, constraint) of every entry."""
    if problem.layout is None:
        return [(i, i, i) for i in range(problem.rows.shape[0])]
    return [(e, r, a) for e, (r, a) in enumerate(zip(problem.layout.row, problem.layout.constraint, strict=True))]


def sigma(z: float, slope: float) -> float:
    return z if z > slope * z else slope * z


def margins(problem: Any, w: np.ndarray) -> np.ndarray:
    """q_a = sum over its entries and all neurons of v sigma(<w_j, x>)."""
    x, v = np.asarray(problem.rows), np.asarray(problem.amplitudes)
    out = np.zeros(problem.num_constraints)
    for e, r, a in entries_of(problem):
        for j in range(len(v)):
            out[a] += v[j, e] * sigma(float(w[j] @ x[r]), problem.slope)
    return out


def gradient(problem: Any, selection: np.ndarray, a: int) -> np.ndarray:
    """g_a = sum over its entries of v_je s_je x_row(e), row j."""
    x, v = np.asarray(problem.rows), np.asarray(problem.amplitudes)
    out = np.zeros((len(v), x.shape[1]))
    for e, r, owner in entries_of(problem):
        if owner == a:
            for j in range(len(v)):
                out[j] += v[j, e] * selection[j, e] * x[r]
    return out


def residual(problem: Any, w: np.ndarray, multipliers: np.ndarray, selection: np.ndarray) -> np.ndarray:
    """theta - sum_a lambda_a g_a."""
    out = np.array(w, float)
    for a in range(problem.num_constraints):
        out -= multipliers[a] * gradient(problem, selection, a)
    return out


def in_clarke(problem: Any, z: np.ndarray, selection: np.ndarray) -> bool:
    """Whether s is 1 where z > 0, the slope where z < 0, between them where z = 0."""
    for e, r, _ in entries_of(problem):
        for j in range(len(z)):
            s, low = selection[j, e], problem.slope
            good = s == 1 if z[j, r] > 0 else s == low if z[j, r] < 0 else low <= s <= 1
            if not good:
                return False
    return True


def solve_pattern(problem: Any, slopes: np.ndarray, valid: list[int]) -> np.ndarray:
    """min 1/2 ||W||^2 s.t. F_a(W) >= 1 on the valid constraints, by a general solver (SLSQP): fixed pairs (v > 0, or no
    kink) at their slopes, a free pair v sigma(z) = min(v z, v slope z) by one variable below both."""
    x, v = np.asarray(problem.rows), np.asarray(problem.amplitudes)
    n, p = len(v), x.shape[1]
    entries = [item for item in entries_of(problem) if item[2] in valid]
    free = [(j, e, r, a) for e, r, a in entries for j in range(n) if v[j, e] < 0 and problem.slope < 1]
    fixed = [(j, e, r, a) for e, r, a in entries for j in range(n) if (j, e, r, a) not in free]
    size = n * p + len(free)

    def row(j: int, r: int, factor: float) -> np.ndarray:
        out = np.zeros(size)
        out[j * p : (j + 1) * p] = factor * x[r]
        return out

    rows, least = [], []
    for a in valid:
        total = np.zeros(size)
        for j, e, r, owner in fixed:
            if owner == a:
                total += row(j, r, v[j, e] * slopes[j, e])
        for t, (_, _, _, owner) in enumerate(free):
            if owner == a:
                total[n * p + t] = 1.0
        rows.append(total)
        least.append(1.0)
    for t, (j, e, r, _) in enumerate(free):
        for slope in (1.0, problem.slope):
            below = row(j, r, v[j, e] * slope)
            below[n * p + t] -= 1.0
            rows.append(below)
            least.append(0.0)
    A, b = np.array(rows), np.array(least)
    rng = np.random.default_rng(0)
    found = optimize.minimize(
        lambda u: 0.5 * u[: n * p] @ u[: n * p],
        rng.normal(size=size),
        jac=lambda u: np.concatenate([u[: n * p], np.zeros(len(free))]),
        constraints={"type": "ineq", "fun": lambda u: A @ u - b, "jac": lambda u: A},
        method="SLSQP",
        options={"maxiter": 2000, "ftol": 1e-16},
    )
    return found.x[: n * p].reshape(n, p)
