"""The hard-margin solution of a linear model, by a dual active-set method on the points themselves.

    minimise 1/2 ||w||^2   subject to   y_i <w, x_i> >= 1

Goldfarb and Idnani (1983): the most violated point enters, points whose multiplier reaches 0 leave. Only the points on
the margin are factorised (QR, never their Gram matrix), so thousands of points cost little, badly scaled data keep
their digits, and a solution starts the next one. Runs on the host in NumPy (docs/theory, KKT points: for the linear
model Q(A) is this problem).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr_delete, qr_insert, solve_triangular

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

DEPENDENT = 1e-12
ROUNDING = 32 * float(np.finfo(np.float64).eps)
#: so many updates of a factorisation are trusted like a fresh one
FEW = 256


class NotSeparable(ValueError):
    """No linear model separates the classes: sum_i witness_i y_i x_i = 0 with witness [m] >= 0, not all 0."""

    def __init__(self, message: str, witness: Vector) -> None:
        super().__init__(message)
        self.witness = witness


class Solution(NamedTuple):
    """w [p], lambda [m] and the points on the margin that carry w (indices, linearly independent)."""

    weights: Vector
    multipliers: Vector
    active: NDArray[np.int64]


class _Face(NamedTuple):
    """The active points as unit columns N = Q R, w = Q R^-T b (on their margins) and their multipliers R^-1 R^-T b."""

    active: list[int]
    basis: Matrix
    triangle: Matrix
    weights: Vector
    multipliers: Vector


def solve(points: Any, labels: Any, retained: Any = None, start: Any = ()) -> Solution:
    """The solution on the retained points [m] (default all); `start` is a guess of the points on the margin.

    KKT conditions hold to rounding: w = sum_i lambda_i y_i x_i, margins >= 1 up to eps times their terms. NotSeparable
    (with a witness) where the classes cannot be separated by a plane through the origin.
    """
    rows, target = _rows(points, labels)
    allowed = np.ones(len(rows), bool) if retained is None else np.asarray(retained)
    face = _factorised(rows, target, [int(i) for i in start if allowed[i]])
    size = np.abs(np.diagonal(face.triangle))
    if len(face.active) > rows.shape[1] or (size.size and np.min(size) < 1e-9):
        face = _factorised(rows, target, [])  # a dependent guess
    return _solution(rows, target, _finished(rows, target, face, allowed, labels))


def leave_one_out(points: Any, labels: Any, full: Solution) -> Matrix:
    """w [q, p] without each of the q active points of `full` in turn; any other point can be left out for nothing.

    Where the other active points keep positive multipliers and everything else stays beyond the margin, the answer is
    w - lambda_r v_r / ||v_r||^2 with v_r the dual basis vector (V = Q R^-T), all points in two products; the rest are
    solved from the points that stay.
    """
    rows, target = _rows(points, labels)
    face = _factorised(rows, target, full.active.tolist())
    dual = solve_triangular(face.triangle, face.basis.T).T
    shift = face.multipliers / np.sum(dual**2, axis=0)
    weights = face.weights - (dual * shift).T
    lam = face.multipliers[:, None] - (dual.T @ dual) * shift
    np.fill_diagonal(lam, 0.0)
    floor = ROUNDING * (np.abs(rows) @ np.abs(weights.T) + target[:, None])
    inside = rows @ weights.T < target[:, None] - floor
    inside[full.active] = False  # the others are on the margin by construction, r itself is left out
    good = ~np.any(inside, axis=0) & np.all(lam >= 0, axis=0)
    for at in np.flatnonzero(~good):
        allowed = np.ones(len(rows), bool)
        allowed[full.active[at]] = False
        stays = _without(rows, target, face, int(at))
        # updates of a fresh factorisation keep its rounding, and a new one for each point would cost more than the rest
        weights[at] = _finished(rows, target, stays, allowed, labels, trusted=FEW).weights
    return weights


def _rows(points: Any, labels: Any) -> tuple[Matrix, Vector]:
    """y_i x_i / ||x_i|| and 1 / ||x_i||: the same constraints in units in which all are alike."""
    x = np.asarray(points, np.float64)
    size = np.linalg.norm(x, axis=1)
    return np.asarray(labels)[:, None] * x / size[:, None], 1.0 / size


def _on_margin(target: Vector, active: list[int], q: Matrix, r: Matrix) -> _Face:
    level = solve_triangular(r, target[active], trans="T") if active else np.zeros(0)
    lam = solve_triangular(r, level) if active else level
    return _Face(active, q, r, q @ level, lam)


def _factorised(rows: Matrix, target: Vector, active: list[int]) -> _Face:
    """A fresh factorisation, without the points that would get a negative multiplier."""
    while True:
        q, r = np.linalg.qr(rows[active].T)
        if len(active) > rows.shape[1] or np.any(np.diagonal(r) == 0):
            return _Face(active, q, r, np.zeros(rows.shape[1]), np.zeros(len(active)))
        face = _on_margin(target, active, q, r)
        if not np.any(face.multipliers < 0):
            return face
        active = [i for i, lam in zip(active, face.multipliers, strict=True) if lam >= 0]


def _without(rows: Matrix, target: Vector, face: _Face, at: int) -> _Face:
    """The face without its point number `at`, and then without those whose multipliers would be negative."""
    while at >= 0:
        active = [i for k, i in enumerate(face.active) if k != at]
        if not active:
            return _factorised(rows, target, [])
        q, r = qr_delete(face.basis, face.triangle, at, which="col")
        face = _on_margin(target, active, q[:, : len(active)], r[: len(active)])
        at = int(np.argmin(face.multipliers)) if np.min(face.multipliers) < 0 else -1
    return face


def _finished(
    rows: Matrix, target: Vector, face: _Face, allowed: NDArray[np.bool_], labels: Any, trusted: int = 0
) -> _Face:
    """Let violated points enter until none is left; the answer comes from a fresh factorisation, or from one that at
    most `trusted` points entered since."""
    fresh = trusted > 0
    for entered in range(100 + 20 * len(rows)):
        short = target - rows @ face.weights
        floor = ROUNDING * (np.abs(rows) @ np.abs(face.weights) + target)
        short = np.where(allowed & (short > floor), short, 0.0)
        short[face.active] = 0.0
        if np.any(short):
            face, fresh = _enter(rows, target, face, int(np.argmax(short)), labels), entered < trusted
        elif fresh:
            return face
        else:
            face, fresh = _factorised(rows, target, face.active), True
    raise ValueError("the active-set method did not end: points depend on each other at rounding level; drop some")


def _enter(rows: Matrix, target: Vector, face: _Face, new: int, labels: Any) -> _Face:
    """Raise the multiplier of `new` until it lies on the margin, dropping points whose multiplier reaches 0."""
    n, w, lam, active, q, r = rows[new], face.weights, face.multipliers, list(face.active), face.basis, face.triangle
    while True:
        inside = q.T @ n
        across = n - q @ inside
        across = across - q @ (q.T @ across)
        free = float(np.linalg.norm(across)) > DEPENDENT
        pull = solve_triangular(r, inside) if active else inside
        rates = np.where(pull > 0, lam / np.where(pull > 0, pull, 1.0), np.inf)
        least = int(np.argmin(rates)) if active else -1
        drop = rates[least] if active else np.inf
        full = (target[new] - n @ w) / float(across @ across) if free else np.inf
        t = min(drop, full)
        if not np.isfinite(t):
            raise _witness(rows, target, active, new, -pull, labels)
        lam, w = lam - t * pull, w + (t * across if free else 0.0)
        if full <= drop:
            break
        del active[least]
        lam = np.delete(lam, least)
        q, r = qr_delete(q, r, least, which="col")
        q, r = q[:, : len(active)], r[: len(active)]
    if not active:
        return _factorised(rows, target, [new])
    q, r = qr_insert(q, r, n, len(active), which="col")
    face = _on_margin(target, [*active, new], q, r)
    return face if np.min(face.multipliers) >= 0 else _without(rows, target, face, int(np.argmin(face.multipliers)))


def _solution(rows: Matrix, target: Vector, face: _Face) -> Solution:
    lam = np.zeros(len(rows))
    lam[face.active] = face.multipliers * target[face.active]
    return Solution(face.weights, lam, np.asarray(face.active, np.int64))


def _witness(rows: Matrix, target: Vector, active: list[int], new: int, rest: Vector, labels: Any) -> NotSeparable:
    """n + sum_j rest_j n_j = 0 with nonnegative weights: in units of the points themselves, summing to 1."""
    witness = np.zeros(len(rows))
    witness[active], witness[new] = np.maximum(rest, 0.0) * target[active], target[new]
    witness /= np.sum(witness)
    used = np.flatnonzero(witness)
    off = np.linalg.norm((witness / target) @ rows)
    floor = 1.0 / (
        off + ROUNDING * float(np.sum(witness / target))
    )  # 1 <= sum_i mu_i q_i <= ||w|| times the exact norm
    named = ", ".join(str(i) for i in used[:8]) + (f" and {len(used) - 8} more" if len(used) > 8 else "")
    meet = "a convex combination of its points of one class meets one of the other"
    if len(set(np.asarray(labels)[used])) == 1:
        meet = "the origin lies among points of one class (a bias would mend that)"
    return NotSeparable(
        f"no linear model through the origin separates the classes: points {named} get nonnegative weights with "
        f"sum_i mu_i y_i x_i = 0 (checked: norm {off:.1e}, so one that did would have norm {floor:.0e} or more), that "
        f"is, {meet}",
        witness,
    )
