"""Every unlearning step a second time, in the given weights: loops, singular values and dense solves.

REFERENCE maps the name of a step to a function of an `Instance` and the step's parameters that returns W.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from reference.limit import limit_point
from reference.model import Array, combination, example_gradient, kkt_errors, margins, margins_of, preactivations
from reference.step import forgotten_part, projector


@dataclass
class Instance:
    """A point with multipliers and a selection, and the indices to forget."""

    X: Array
    y: Array
    u: Array
    W: Array
    Z: Array
    lam: Array
    s: Array
    forget: Sequence[int]
    slope: float

    @property
    def retained(self) -> list[int]:
        return [i for i in range(len(self.y)) if i not in set(self.forget)]

    @property
    def h(self) -> Array:
        return forgotten_part(self.X, self.y, self.u, self.lam, self.s, self.forget)


def without(i: Instance, rows: Array) -> Array:
    """theta - (I - P) h with P onto the span of some rows."""
    P = projector(rows, range(len(rows))) if len(rows) else np.zeros((i.X.shape[1],) * 2)
    return i.W - (i.h - i.h @ P)


def mean(i: Instance) -> Array:
    return without(i, np.mean(i.X[i.retained], axis=0, keepdims=True))


def nearest(i: Instance, nearest: float = 3.0) -> Array:
    def cos(a: int, b: int) -> float:
        return abs(float(i.X[a] @ i.X[b])) / float(np.linalg.norm(i.X[a]) * np.linalg.norm(i.X[b]))

    order = sorted(i.retained, key=lambda t: -max((cos(t, r) for r in i.forget), default=0.0))
    rows = [np.mean(i.X[i.retained], axis=0), *(i.X[t] for t in order[: int(nearest)])]
    return without(i, np.stack(rows))


def active(i: Instance) -> Array:
    return without(i, i.X[[t for t in i.retained if i.lam[t] > 0]])


def neuronwise(i: Instance) -> Array:
    W = i.W - i.h
    for j in range(len(i.u)):
        seen = [t for t in i.retained if i.Z[j, t] >= 0 or i.slope > 0]
        if seen:
            W[j] += i.h[j] @ projector(i.X, seen)
    return W


def orthogonal(i: Instance) -> Array:
    """The least-squares fit of h by the retained gradients of automatic differentiation, in all weights, taken out."""
    slopes = np.where(i.Z > 0, 1.0, i.slope)
    A = np.stack([example_gradient(t, i.X, i.u, slopes).ravel() for t in i.retained])
    fit = A.T @ np.linalg.lstsq(A.T, i.h.ravel(), rcond=1e-12)[0]
    return i.W - i.h + fit.reshape(i.h.shape)


def repaired(i: Instance, passes: float = 5.0) -> Array:
    """The least residual over the Krylov space of each neuron, by a least-squares solve in an orthonormal basis."""
    A, W = i.X[i.retained], i.W - i.h
    for j in range(len(i.u)):
        target = A @ i.h[j]
        basis: list[Array] = []
        v = A.T @ target
        for _ in range(int(passes)):
            for b in [*basis, *basis]:
                v = v - (b @ v) * b
            size = float(np.linalg.norm(v))
            if size < 1e-12 * float(np.linalg.norm(A)) ** 2 * max(float(np.linalg.norm(i.h[j])), 1e-300):
                break
            basis.append(v / size)
            v = A.T @ (A @ basis[-1])
        if basis:
            B = np.stack(basis)
            W[j] += np.linalg.lstsq(A @ B.T, target, rcond=None)[0] @ B
    return W


def retraining(i: Instance) -> Array:
    linear = i.slope == 1
    return limit_point(i.X, i.y, i.u, i.s > 0.5, i.retained, linear).W


def active_set_candidate(i: Instance) -> tuple[Array, bool]:
    """theta_N by a pseudo-inverse, and whether its multipliers make it an exact KKT point."""
    n, (m, p) = len(i.u), i.X.shape
    rows, goals, owners = [], [], []
    support = [t for t in i.retained if i.lam[t] > 0]
    for t in support:
        slopes = np.array([[1.0 if z > 0 else i.slope for z in i.Z[j]] for j in range(n)])
        rows.append(i.y[t] * example_gradient(t, i.X, i.u, slopes).ravel())
        goals.append(1.0)
        owners.append((t, -1))
    for t in support:
        for j in range(n):
            if i.Z[j, t] == 0 and i.slope < 1:
                row = np.zeros((n, p))
                row[j] = i.y[t] * i.u[j] * i.X[t]
                rows.append(row.ravel())
                goals.append(0.0)
                owners.append((t, j))
    E = np.stack(rows)
    W = np.linalg.lstsq(E, np.array(goals), rcond=1e-12)[0].reshape(n, p)
    weights = np.linalg.lstsq(E.T, W.ravel(), rcond=1e-12)[0]
    lam, Z = np.zeros(m), preactivations(W, i.X)
    for (t, j), weight in zip(owners, weights, strict=True):
        if j < 0:
            lam[t] = weight
        else:
            Z[j, t] = 0.0
    s = np.where(Z > 0, 1.0, i.slope)
    for (t, j), weight in zip(owners, weights, strict=True):
        if j >= 0 and lam[t] > 0:
            s[j, t] = i.slope + weight / lam[t]
    errors = kkt_errors(W, Z, i.X, i.y, i.u, lam, s, i.retained, i.slope)
    tolerance = 1e-10 * float(np.linalg.norm(W))
    exact = (
        errors.epsilon < tolerance and errors.margin > 1 - 1e-10 and errors.delta < tolerance
        and errors.selection_error < 1e-10 and min(lam) >= 0
    )  # fmt: skip
    return W, exact


def active_set(i: Instance) -> Array:
    W, exact = active_set_candidate(i)
    return W if exact else retraining(i)


def neggrad_plus(i: Instance, weight: float = 1.0) -> Array:
    q = margins_of(i.Z, i.y, i.u, i.slope)
    total = sum(i.lam[r] for r in i.forget) / len(i.retained)
    weights = np.array([weight * total * math.exp(1 - q[t]) for t in range(len(i.y))])
    return i.W - i.h + combination(i.X, i.y, i.u, weights, i.s, i.retained)


def fine_tuning(i: Instance, time: float = 100.0, start: float = 1e-3, steps: int = 200) -> Array:
    size = math.log(len(i.retained) / start)
    W, T = size * i.W, i.retained
    G = max(float(np.linalg.norm(i.X[t]) * np.linalg.norm(i.u)) for t in T)
    Z = size * i.Z
    loss = sum(math.exp(-q) for q in margins_of(Z, i.y, i.u, i.slope)[T])
    for k in range(steps):
        Z = Z if k == 0 else preactivations(W, i.X)
        q = margins_of(Z, i.y, i.u, i.slope)
        s = np.where(Z > 0, 1.0, i.slope)
        W = W + time / steps / (G**2 * loss) * combination(i.X, i.y, i.u, np.exp(-q), s, T)
    return W / size


def estimated(i: Instance) -> Array:
    q_of, W = margins(i.W, i.X, i.y, i.u, i.slope), i.W.copy()
    for r in i.forget:
        on = np.ones(len(i.u)) if i.slope == 1 else (i.Z[:, r] > 0).astype(float)
        seen = q_of[r] if i.slope in (0, 1) else i.y[r] * math.fsum(i.u * on * i.Z[:, r])
        weight = float(i.X[r] @ i.X[r]) * math.fsum(i.u**2 * on)
        slopes = np.where(i.Z > 0, 1.0, i.slope)
        if weight > 0:
            W -= seen / weight * i.y[r] * example_gradient(r, i.X, i.u, slopes)
    return W


def _hessian_step(i: Instance, size: float, points: Sequence[int]) -> Array:
    """theta - H^-1 h with H = I + size sum lambda_t x_t x_t^T."""
    H = np.eye(i.X.shape[1])
    for t in points:
        H += size * i.lam[t] * np.outer(i.X[t], i.X[t])
    return i.W - np.linalg.solve(H, i.h.T).T


def newton(i: Instance, size: float = 100.0) -> Array:
    return _hessian_step(i, size, i.retained)


def influence(i: Instance, size: float = 100.0) -> Array:
    return _hessian_step(i, size, range(len(i.y)))


def gap(a: Array, b: Array) -> float:
    """1 - cos of the angle between two arrays."""
    return float(0.5 * np.sum((a / np.linalg.norm(a) - b / np.linalg.norm(b)) ** 2))


def least_gap(goal: Array, start: Array, direction: Array) -> float:
    """The least gap between the goal and start + t direction, t >= 0, by a search over arctan t."""
    found = minimize_scalar(lambda angle: gap(goal, start + math.tan(angle) * direction), method="bounded",
                            bounds=(0.0, math.pi / 2 - 1e-9), options={"xatol": 1e-12})  # fmt: skip
    return min(float(found.fun), gap(goal, start), gap(goal, direction))


def ridge_minimiser(X: Array, y: Array, mu: float) -> Array:
    """argmin of sum exp(-y_i <w, x_i>) + mu/2 ||w||^2 by damped Newton steps in w."""
    V, w = y[:, None] * X, np.zeros(X.shape[1])

    def value(w: Array) -> float:
        return float(np.sum(np.exp(-V @ w)) + mu / 2 * w @ w)

    for _ in range(200):
        slope = np.exp(-V @ w)
        change = np.linalg.solve(mu * np.eye(len(w)) + (V.T * slope) @ V, slope @ V - mu * w)
        size = 1.0
        while value(w + size * change) > value(w) and size > 1e-12:
            size /= 2
        w = w + size * change
    return w


def own_target(i: Instance, mu: float) -> tuple[float, float]:
    """The gaps of Newton's step, and of doing nothing, from the ridge minimiser to the one without the points."""
    T, whole = i.retained, ridge_minimiser(i.X, i.y, mu)
    V = i.y[T, None] * i.X[T]
    slope = np.exp(-V @ whole)
    step = whole - np.linalg.solve(mu * np.eye(len(whole)) + (V.T * slope) @ V, mu * whole - slope @ V)
    goal = ridge_minimiser(i.X[T], i.y[T], mu)
    return gap(goal, step), gap(goal, whole)


REFERENCE: dict[str, Callable[..., Array]] = {
    "nothing": lambda i: i.W,
    "ascent": lambda i, scale=1.0: i.W - scale * i.h,
    "estimated": estimated,
    "mean": mean,
    "nearest": nearest,
    "active": active,
    "projection": lambda i: without(i, i.X[i.retained]),
    "neuronwise": neuronwise,
    "orthogonal": orthogonal,
    "repaired": repaired,
    "active_set": active_set,
    "neggrad_plus": neggrad_plus,
    "fine_tuning": fine_tuning,
    "newton": newton,
    "influence": influence,
    "retraining": retraining,
}
