"""Both layers trained, once more in NumPy: loops over neurons and points, a barrier method with dense matrices."""

from __future__ import annotations

from typing import Any

import numpy as np


def residuals(x: Any, y: Any, w: Any, a: Any, lam: Any, s: Any, members: Any) -> tuple[float, float, float]:
    """(epsilon, delta, least margin) of theta = (W, a) on the member points, by loops."""
    e_w, e_a = np.array(w, float), np.array(a, float)
    worst, least = 0.0, np.inf
    for i in members:
        q = 0.0
        for j in range(len(a)):
            z = float(w[j] @ x[i])
            e_w[j] -= lam[i] * y[i] * a[j] * s[j, i] * x[i]
            e_a[j] -= lam[i] * y[i] * max(z, 0.0)
            q += y[i] * a[j] * max(z, 0.0)
        worst, least = max(worst, lam[i] * (q - 1)), min(least, q)
    return float(np.sqrt(np.sum(e_w**2) + np.sum(e_a**2))), worst, least


def barrier(k: np.ndarray, y: np.ndarray, signs: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(lambda, t of each neuron) of max sum lambda, ||G_j||^2 <= 1, by a logarithmic barrier; t of alike neurons is
    given to the first of them."""
    m = len(y)
    patterns: dict[tuple[Any, ...], int] = {}
    for j in range(len(signs)):
        seen = tuple(bool(active[j, i] and signs[j] * y[i] > 0) for i in range(m))
        if any(seen):
            patterns.setdefault((signs[j], seen), j)
    unknown = [("lam", i) for i in range(m)]
    for (sign, _), j in patterns.items():
        unknown += [(j, i) for i in range(m) if sign * y[i] < 0]
    at = {name: number for number, name in enumerate(unknown)}
    matrices, linear = [], []
    for (sign, seen), j in patterns.items():
        b = np.zeros((m, len(unknown)))
        for i in range(m):
            if seen[i]:
                b[i, at["lam", i]] = 1.0
            elif sign * y[i] < 0:
                b[i, at[j, i]] = -1.0
        matrices.append(b.T @ k @ b)
    for name, number in at.items():
        row = np.zeros(len(unknown))
        row[number] = 1.0
        linear.append(row)
        if name[0] != "lam":
            other = -row
            other[at["lam", name[1]]] = 1.0
            linear.append(other)
    rows = np.array(linear)
    v = np.array([1e-3 if name[0] == "lam" else 5e-4 for name in unknown])
    goal = np.array([1.0 if name[0] == "lam" else 0.0 for name in unknown])

    def value(v: np.ndarray, mu: float) -> float:
        rooms = [0.5 * (1 - v @ h @ v) for h in matrices]
        slacks = rows @ v
        if min(rooms) <= 0 or slacks.min() <= 0:
            return np.inf
        return -float(goal @ v) - mu * (np.sum(np.log(rooms)) + np.sum(np.log(slacks)))

    mu = 1.0
    while mu > 1e-10:
        for _ in range(60):
            gradient, hessian = -goal.copy(), np.zeros((len(v), len(v)))
            for h in matrices:
                room, slope = 0.5 * (1 - v @ h @ v), h @ v
                gradient += mu * slope / room
                hessian += mu * (h / room + np.outer(slope, slope) / room**2)
            slacks = rows @ v
            gradient -= mu * rows.T @ (1 / slacks)
            hessian += mu * (rows.T / slacks**2) @ rows
            move = -np.linalg.solve(hessian, gradient)
            step = 1.0
            while value(v + step * move, mu) > value(v, mu) + 0.1 * step * gradient @ move and step > 1e-12:
                step *= 0.5
            v = v + step * move
            if -gradient @ move < 1e-9 * mu:
                break
        mu *= 0.3
    t = np.zeros(len(signs))
    for h, j in zip(matrices, patterns.values(), strict=True):
        t[j] = mu / 0.3 / (0.5 * (1 - v @ h @ v))
    return v[:m], t


def gap(one: tuple[Any, Any], other: tuple[Any, Any]) -> float:
    """1 - cos between two networks, from the difference of their directions."""
    u, v = (np.concatenate([np.ravel(w), np.ravel(a)]) for w, a in (one, other))
    return float(0.5 * np.sum((u / np.linalg.norm(u) - v / np.linalg.norm(v)) ** 2))


def stepped(x: Any, y: Any, w: Any, a: Any, lam: Any, s: Any, forget: Any, first: float, second: dict[float, float]):
    """(W, a) after a step with these fractions, `second` by the sign of the neuron."""
    w, a, before = np.array(w, float), np.array(a, float), np.array(a, float)
    z = w @ np.asarray(x).T
    for r in np.flatnonzero(forget):
        for j in range(len(a)):
            w[j] -= first * lam[r] * y[r] * before[j] * s[j, r] * np.asarray(x)[r]
            a[j] -= second[1.0 if before[j] >= 0 else -1.0] * lam[r] * y[r] * max(z[j, r], 0.0)
    return w, a


def uniform(sizes: dict[float, int], removed: dict[float, int], first: float, second: dict[float, float]) -> float:
    """The gap for orthogonal points and one neuron a class: both networks written out, point by point."""
    hat_w, hat_a, best_w, best_a = [], [], [], []
    for y, size in sizes.items():
        if not size:
            continue
        a, b, kept = size**0.25, (size - removed[y]) ** 0.25, size - removed[y]
        hat_w += [a / np.sqrt(size) * (1.0 if i < kept else 1.0 - first) for i in range(size)]
        best_w += [b / np.sqrt(kept) if i < kept else 0.0 for i in range(size)]
        hat_a.append(a - second[y] * removed[y] * a / size)
        best_a.append(b)
    return gap((hat_w, hat_a), (best_w, best_a))


def balance_bound(w: Any, a: Any) -> float:
    """The balance bound at epsilon' = 0."""
    total = sum(abs(float(w[j] @ w[j]) - float(a[j]) ** 2) for j in range(len(a)))
    angle = 0.5 * np.arcsin(total / (np.sum(np.asarray(w) ** 2) + np.sum(np.asarray(a) ** 2)))
    return float(2 * np.sin(angle / 2) ** 2)


def rigidity_bound(x: Any, w: Any, a: Any, members: Any) -> float:
    """The largest D of the rigidity bound at epsilon' = 0: every point, every number of its most active neurons."""
    x, w, a = np.asarray(x), np.asarray(w), np.asarray(a)
    dual = np.linalg.pinv(x[members].T)
    best = 0.0
    for place, i in enumerate(members):
        room = (w @ x[i]) / np.linalg.norm(x[i])
        order = np.argsort(-room)
        for count in range(2, len(a) + 1):
            some = order[:count]
            if room[some[-1]] <= 0:
                break
            two = np.stack([w[some] @ dual[place], a[some]])
            least = np.linalg.svd(two, compute_uv=False)[1] / max(1.0, np.linalg.norm(dual[place]))
            best = max(best, min(room[some[-1]], least))
    return float(best)
