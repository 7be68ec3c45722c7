"""The point nearest to an origin under linear constraints whose rows are never all formed, by a dual active-set method.

    minimise 1/2 ||w - origin||^2   subject to   <n_a, w> >= b_a,   a = 0 .. N - 1

Goldfarb and Idnani (1983): the most violated constraint enters, constraints whose multiplier reaches 0 leave. Only the
active rows are factorised (QR, never their Gram matrix); of all others only products with w are needed. A face (a set
of active constraints with nonnegative multipliers) starts the next problem. Runs on the host in NumPy.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr, qr_delete, solve_triangular

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: a row whose part beyond the active ones is below this share of its length depends on them
DEPENDENT = 1e-12
#: below this share that is decided by a fresh factorisation: updates leave an error of their own
DOUBTFUL = 1e-8
ROUNDING = 32 * float(np.finfo(np.float64).eps)
#: so many updates of a factorisation are trusted like a fresh one
FEW = 256


class Rows(Protocol):
    """N constraint rows of unit length, known by their products."""

    @property
    def dim(self) -> int:
        """The dimension of w."""
        ...

    def columns(self, index: list[int]) -> Matrix:
        """The rows `index` as columns [dim, q]."""
        ...

    def products(self, w: Vector) -> Vector:
        """<n_a, w> for all a [N]."""
        ...

    def sizes(self, w: Vector) -> Vector:
        """The same with absolute values of all entries: the size of the terms, for rounding."""
        ...


class Infeasible(ValueError):
    """No point satisfies the constraints: sum_a weight_a n_a = 0 with weights >= 0 and sum_a weight_a b_a > 0."""

    def __init__(self, index: list[int], weights: Vector) -> None:
        super().__init__("no point satisfies the constraints")
        self.index, self.weights = index, weights


@dataclasses.dataclass(frozen=True)
class Problem:
    """Rows, levels b [N], the origin [dim] and which constraints count [N]."""

    rows: Rows
    target: Vector
    origin: Vector
    allowed: Bools

    @property
    def base(self) -> Vector:
        """b - <n, origin>: the levels seen from the origin."""
        return self.target - self.rows.products(self.origin) if np.any(self.origin) else self.target


@dataclasses.dataclass(frozen=True)
class Face:
    """Active rows N = Q R as columns, the point w on their levels nearest to the origin, and its multipliers."""

    active: list[int]
    q: Matrix
    r: Matrix
    weights: Vector
    multipliers: Vector


def solve(problem: Problem, start: list[int] | Face, trusted: int = 0) -> Face:
    """The solution, from a guess of its active constraints or a face; `Infeasible` where there is none.

    The multipliers are nonnegative, and no constraint is missed by more than the rounding of its own terms. The answer
    comes from a fresh factorisation, or from one that at most `trusted` constraints entered since.
    """
    base = problem.base
    face = start if isinstance(start, Face) else factorised(problem, base, start)
    entered, fresh = 0, trusted > 0 or not isinstance(start, Face)
    for _ in range(1000 + 20 * len(base)):
        worst = _most_violated(problem, face)
        if worst >= 0:
            face, entered = _enter(problem, base, face, worst), entered + 1
            fresh = entered < trusted
        elif fresh:
            return face
        else:
            face, fresh = factorised(problem, base, face.active), True
    raise RuntimeError("the active-set method did not end: the constraints are dependent at rounding level")


def factorised(problem: Problem, base: Vector, active: list[int]) -> Face:
    """A fresh factorisation, without dependent constraints and those that would get a negative multiplier."""
    while active:
        columns = problem.rows.columns(active)
        if len(active) > len(columns):
            _, r, order = qr(columns, mode="economic", pivoting=True, check_finite=False)
            active = [active[i] for i in order[: len(columns)]]
            columns = problem.rows.columns(active)
        q, r = qr(columns, mode="economic", check_finite=False)
        good = np.abs(np.diagonal(r)) > DEPENDENT
        if np.all(good):
            face = _settled(problem, base, active, q, r)
            good = face.multipliers >= 0
            if np.all(good):
                return face
        active = [i for i, keep in zip(active, good, strict=True) if keep]
    return Face([], np.zeros((problem.rows.dim, 0)), np.zeros((0, 0)), problem.origin, np.zeros(0))


def without(problem: Problem, base: Vector, face: Face, gone: Bools) -> Face:
    """The face without the active constraints `gone` [q], and then without those whose multiplier would be negative."""
    leave = np.flatnonzero(gone).tolist()
    while leave:
        for at in reversed(leave):
            face = _removed(face, at)
        face = _settled(problem, base, face.active, face.q, face.r)
        least = int(np.argmin(face.multipliers)) if face.active else -1
        leave = [least] if least >= 0 and face.multipliers[least] < 0 else []
    return face


def _solve(r: Matrix, b: Vector, trans: str = "N") -> Vector:
    return solve_triangular(r, b, trans=trans, check_finite=False) if len(b) else b


def _settled(problem: Problem, base: Vector, active: list[int], q: Matrix, r: Matrix) -> Face:
    """w and the multipliers of a factorised active set."""
    level = _solve(r, base[active], "T")
    return Face(active, q, r, problem.origin + q @ level, _solve(r, level))


def _removed(face: Face, at: int) -> Face:
    """The factorisation without active constraint `at`; w and the multipliers are yet to be settled."""
    keep = [a for i, a in enumerate(face.active) if i != at]
    q, r = qr_delete(face.q, face.r, at, which="col", check_finite=False)
    return Face(keep, q[:, : len(keep)], r[: len(keep)], face.weights, np.delete(face.multipliers, at))


def _most_violated(problem: Problem, face: Face) -> int:
    """The constraint missed by most, -1 where none is missed by more than the rounding of its terms."""
    rows, target = problem.rows, problem.target
    short = np.where(problem.allowed, target - rows.products(face.weights), 0.0)
    short[face.active] = 0.0
    worst = int(np.argmax(short))
    scale = float(np.linalg.norm(face.weights) + np.linalg.norm(problem.origin) + target[worst])
    if short[worst] > 2 * ROUNDING * scale:
        return worst
    floor = ROUNDING * (rows.sizes(np.abs(face.weights) + np.abs(problem.origin)) + target)
    short = np.where(short > floor, short, 0.0)
    return int(np.argmax(short)) if np.any(short) else -1


def _split(q: Matrix, n: Vector) -> tuple[Vector, Vector]:
    """Coordinates of n in the columns of q, and what is left of n, orthogonal to them to rounding."""
    inside = q.T @ n
    across = n - q @ inside
    again = q.T @ across
    return inside + again, across - q @ again


def _farthest(level: float) -> float:
    """The length of w at which the rounding of its products is a thousandth of a level: no point beyond counts."""
    return 1e-3 * level / ROUNDING if level > 0 else np.inf


def _enter(problem: Problem, base: Vector, face: Face, new: int) -> Face:
    """Raise the multiplier of `new` until its constraint is met, dropping constraints whose multiplier reaches 0."""
    n = problem.rows.columns([new])[:, 0]
    w, lam = face.weights, face.multipliers
    while True:
        inside, across = _split(face.q, n)
        size = float(np.linalg.norm(across))
        if face.active and size < DOUBTFUL:
            q, r = qr(problem.rows.columns(face.active), mode="economic", check_finite=False)
            face = dataclasses.replace(face, q=q, r=r)
            inside, across = _split(q, n)
            size = float(np.linalg.norm(across))
        pull = _solve(face.r, inside)
        rates = np.where(pull > 0, lam / np.where(pull > 0, pull, 1.0), np.inf)
        least = int(np.argmin(rates)) if face.active else -1
        drop = float(rates[least]) if face.active else np.inf
        short = float(problem.target[new] - n @ w)
        free = size > DEPENDENT and short <= size * _farthest(problem.target[new])
        full = short / size**2 if free else np.inf
        t = min(drop, full)
        if not np.isfinite(t):
            raise Infeasible([*face.active, new], np.append(np.maximum(-pull, 0.0), 1.0))
        lam, w = lam - t * pull, w + (t * across if free else 0.0)
        if full <= drop:
            break
        face, lam = _removed(face, least), np.delete(lam, least)
    k = len(face.active)
    r = np.zeros((k + 1, k + 1), order="F")
    r[:k, :k], r[:k, k], r[k, k] = face.r, inside, size
    face = _settled(problem, base, [*face.active, new], np.column_stack([face.q, across / size]), r)
    negative = face.multipliers < 0
    if np.any(negative):
        worst = np.arange(k + 1) == np.argmin(face.multipliers)
        return without(problem, base, face, worst)
    return face
