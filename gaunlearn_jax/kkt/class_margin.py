"""The hard-margin solution of a linear model with several classes (Crammer and Singer 2001), by active sets.

    minimise 1/2 ||W||_F^2   subject to   <w_{y_i} - w_c, x_i> >= 1   for all i and all classes c != y_i

Constraint a = (i, c) has the row G_a = (e_{y_i} - e_c) x_i^T and number i C + c. Two routes:

- many active constraints (independent points, in the extreme every margin 1): an active set is guessed, all at first,
  the equalities are solved by conjugate gradients that only ever multiply by X, and constraints with negative
  multipliers leave, violated ones enter, all at once, until none is left;
- few (more points than directions), or where the first does not end: `active_set`, one constraint after the other.

Runs on the host in NumPy (docs/theory, Several classes).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

from gaunlearn_jax.kkt import active_set
from gaunlearn_jax.kkt.active_set import Bools, Matrix, Vector
from gaunlearn_jax.kkt.hard_margin import NotSeparable as NotSeparable

Whole = NDArray[np.int64]

#: what brings e_y - e_c to length 1
HALF = 0.5**0.5

#: unit vectors count as independent where each is at least this far from the span of the others
INDEPENDENT = 1e-5
#: exchanges of active constraints and conjugate-gradient steps that the first route may take
EXCHANGES, CG_STEPS = 40, 1000
#: rounding of a margin, in units of its largest terms
ROUNDING = 4 * float(np.finfo(np.float64).eps)


class Solution(NamedTuple):
    """W [C, d], lambda [m, C] (0 at the own class), and the numbers i C + c of the active constraints."""

    weights: Matrix
    multipliers: Matrix
    active: Whole

    @property
    def support(self) -> Whole:
        """The points that carry W: some multiplier is positive."""
        return np.flatnonzero(np.any(self.multipliers > 0, axis=1))


class Conditions(NamedTuple):
    """How far W and lambda are from the KKT conditions: ||W - sum lambda_a G_a||, the largest lambda_a (q_a - 1), the
    largest 1 - q_a and the most negative multiplier (its size)."""

    stationarity: float
    slackness: float
    shortfall: float
    negativity: float


def solve(points: Any, labels: Any, num_classes: int, retained: Any = None, start: Solution | None = None) -> Solution:
    """The solution on the retained points of points [m, d] with labels [m] in 0 .. C-1 (all without `retained`).

    `start` is the solution with other retained points. W is centred (its rows sum to 0), a combination of the points,
    and exact to rounding. NotSeparable, with a witness [m, C], where no W classifies all retained points.
    """
    x, y = np.asarray(points, np.float64), np.asarray(labels)
    keep = np.arange(len(x)) if retained is None else np.flatnonzero(retained)
    task = _Task.of(x[keep], y[keep], num_classes)
    guess = None if start is None else start.multipliers[keep]
    lam = np.zeros((len(x), num_classes))
    try:
        weights, lam[keep] = task.solution(guess)
    except active_set.Infeasible as error:
        raise _not_separable(task, keep, len(x), error) from None
    return Solution(weights, lam, np.flatnonzero(lam))


def without_each(points: Any, labels: Any, num_classes: int, full: Solution) -> Iterator[tuple[int, Matrix]]:
    """(i, W [C, d] without point i) for each support point i of `full`; any other can be left out for nothing."""
    x, y = np.asarray(points, np.float64), np.asarray(labels)
    yield from _Task.of(x, y, num_classes).leave_one_out(full.multipliers, full.support.tolist())


def fit_multipliers(points: Any, labels: Any, weights: Matrix, retained: Any = None) -> Matrix:
    """lambda [m, C] >= 0 of least ||W - sum_a lambda_a G_a||, for given weights W [C, d], 0 off the retained points.

    The residual is the point nearest to W with <G_a, .> <= 0 for all a, and lambda its multipliers.
    """
    task = _Task.of(np.asarray(points, np.float64), np.asarray(labels), len(weights))
    inside = weights if task.basis is None else weights @ task.basis.T
    rows = dataclasses.replace(task.rows, sign=-1.0)
    keep = np.ones(len(task.sizes), bool) if retained is None else np.asarray(retained)
    nothing, allowed = np.zeros(task.allowed.size), (task.allowed & keep[:, None]).ravel()
    problem = active_set.Problem(rows, nothing, inside.ravel(), allowed)
    return task.read(active_set.solve(problem, []))[1]


def margins(scores: Matrix, labels: Any) -> Matrix:
    """q_ic = s_{i, y_i} - s_ic of scores [m, C]; infinity at the own class, where there is no constraint."""
    rows = np.arange(len(scores))
    q = scores[rows, labels][:, None] - scores
    q[rows, labels] = np.inf
    return q


def combine(multipliers: Matrix, labels: Any) -> Matrix:
    """Coefficients M [m, C] of W = M^T X = sum_a lambda_a G_a: -lambda_ic, and their negative sum at the own class."""
    rows = np.arange(len(multipliers))
    out = -multipliers
    out[rows, labels] = 0.0
    out[rows, labels] = -np.sum(out, axis=1)
    return out


def conditions(points: Any, labels: Any, weights: Matrix, multipliers: Matrix, retained: Any = None) -> Conditions:
    """The KKT conditions of (W, lambda) on the retained points, recomputed from the points themselves."""
    x, y = np.asarray(points, np.float64), np.asarray(labels)
    keep = np.ones(len(x), bool) if retained is None else np.asarray(retained)
    x, y, lam = x[keep], y[keep], multipliers[keep]
    q = margins(x @ weights.T, y)
    own = np.zeros(q.shape, bool)
    own[np.arange(len(y)), y] = True
    return Conditions(
        float(np.linalg.norm(weights - combine(lam, y).T @ x)),
        float(np.max(np.where(own, 0.0, lam * np.where(own, 0.0, q - 1.0)))),
        float(np.max(1.0 - q)),
        float(np.max(-lam)),
    )


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Rows sign (e_{y_i} - e_c) u_i^T / sqrt 2 of unit vectors u_i [m, p]; W [C, p] is flat."""

    units: Matrix
    labels: Whole
    num_classes: int
    sign: float = 1.0

    @property
    def dim(self) -> int:
        return self.num_classes * self.units.shape[1]

    def columns(self, index: list[int]) -> Matrix:
        i, c = np.divmod(np.asarray(index, np.int64), self.num_classes)
        left, at = np.zeros((len(index), self.num_classes)), np.arange(len(index))
        left[at, self.labels[i]], left[at, c] = self.sign * HALF, -self.sign * HALF
        return (left[:, :, None] * self.units[i][:, None, :]).reshape(len(index), -1).T

    def products(self, w: Vector) -> Vector:
        s = self.units @ w.reshape(self.num_classes, -1).T
        return (self.sign * HALF * (s[np.arange(len(s)), self.labels][:, None] - s)).ravel()

    def sizes(self, w: Vector) -> Vector:
        s = np.abs(self.units) @ np.abs(w).reshape(self.num_classes, -1).T
        return (HALF * (s[np.arange(len(s)), self.labels][:, None] + s)).ravel()

    def combined(self, multipliers: Matrix) -> Vector:
        """sum_a lambda_a row_a, flat."""
        return self.sign * HALF * (combine(multipliers, self.labels).T @ self.units).ravel()


@dataclasses.dataclass(frozen=True)
class _Task:
    """The margin problem in unit rows: points size_i u_i (`basis` [p, d] leads back to d coordinates, None: p = d),
    levels 1 / (sqrt 2 size_i), and whether the points are independent."""

    rows: _Rows
    sizes: Vector
    basis: Matrix | None
    independent: bool

    @staticmethod
    def of(x: Matrix, y: Whole, num_classes: int) -> _Task:
        size = np.linalg.norm(x, axis=1)
        units = x / size[:, None]
        if x.shape[0] > x.shape[1]:
            return _Task(_Rows(units, y, num_classes), size, None, False)
        q, r = qr(units.T, mode="economic", check_finite=False)
        apart = bool(np.min(np.abs(np.diagonal(r))) > INDEPENDENT)
        return _Task(_Rows(r.T.copy(), y, num_classes), size, q.T, apart)

    @property
    def allowed(self) -> Bools:
        """The constraints (i, c): all but those of the own class [m, C]."""
        return np.arange(self.rows.num_classes) != self.rows.labels[:, None]

    @property
    def target(self) -> Matrix:
        return np.repeat((HALF / self.sizes)[:, None], self.rows.num_classes, axis=1)

    def problem(self, allowed: Bools) -> active_set.Problem:
        return active_set.Problem(self.rows, self.target.ravel(), np.zeros(self.rows.dim), allowed.ravel())

    def finished(self, w: Vector, lam: Matrix) -> tuple[Matrix, Matrix]:
        """W [C, d] and lambda [m, C] of flat W [C, p] and the multipliers of unit rows."""
        weights = w.reshape(self.rows.num_classes, -1)
        return weights if self.basis is None else weights @ self.basis, lam * (HALF / self.sizes[:, None])

    def solution(self, guess: Matrix | None) -> tuple[Matrix, Matrix]:
        """W [C, d] and lambda [m, C] from a guess of lambda."""
        start: list[int] = []
        if guess is not None:
            guess = np.where(self.allowed, guess * self.sizes[:, None] / HALF, 0.0)
            start = np.flatnonzero(guess).tolist()
        if self.independent:
            lam = _exchange(self, self.allowed, guess)
            if lam is not None:
                return self.finished(self.rows.combined(lam), lam)
        return self.read(active_set.solve(self.problem(self.allowed), start))

    def read(self, face: active_set.Face) -> tuple[Matrix, Matrix]:
        """The same of a face of the margin problem."""
        lam = np.zeros(self.allowed.size)
        lam[face.active] = face.multipliers
        return self.finished(face.weights, lam.reshape(self.allowed.shape))

    def leave_one_out(self, multipliers: Matrix, support: list[int]) -> Iterator[tuple[int, Matrix]]:
        """(i, W [C, d] without i) from the multipliers of the whole solution."""
        whole: active_set.Face | None = None
        for i in support:
            allowed = self.allowed
            allowed[i] = False
            if self.independent:
                lam = _exchange(self, allowed, np.where(allowed, multipliers * self.sizes[:, None] / HALF, 0.0))
                if lam is not None:
                    yield i, self.finished(self.rows.combined(lam), lam)[0]
                    continue
            rest = self.problem(allowed)
            if whole is None:
                everyone = self.problem(self.allowed)
                whole = active_set.factorised(everyone, everyone.base, np.flatnonzero(multipliers).tolist())
            gone = np.asarray(whole.active) // self.rows.num_classes == i
            start = active_set.without(rest, rest.base, whole, gone)
            yield i, self.read(active_set.solve(rest, start, trusted=active_set.FEW))[0]


def _exchange(task: _Task, allowed: Bools, guess: Matrix | None) -> Matrix | None:
    """lambda [m, C] of unit rows by exchanging many active constraints at a time; None where that does not end."""
    rows, target = task.rows, task.target
    active = allowed if guess is None else guess > 0
    lam = np.zeros(allowed.shape) if guess is None else guess
    for _ in range(EXCHANGES):
        found = _equalities(rows, target, active, np.where(active, lam, 0.0))
        if found is None:
            return None
        lam = found
        w = rows.combined(lam)
        floor = active_set.ROUNDING * (rows.sizes(w).reshape(target.shape) + target)
        enter = allowed & ~active & (rows.products(w).reshape(target.shape) < target - floor)
        leave = lam < 0
        if not np.any(enter) and not np.any(leave):
            return lam
        active = (active & ~leave) | enter
    return None


def _equalities(rows: _Rows, target: Matrix, active: Bools, lam: Matrix) -> Matrix | None:
    """lambda [m, C] on the active constraints with all their margins 1, by conjugate gradients from a guess, restarted
    with the true residual until that is rounding; None where it does not get there."""

    def applied(v: Matrix) -> Matrix:
        return np.where(active, rows.products(rows.combined(v)).reshape(target.shape), 0.0)

    left = CG_STEPS
    while True:
        rest = np.where(active, target - applied(lam), 0.0)
        worst = float(np.max(np.abs(rest)))
        goal = ROUNDING * float(np.max(rows.sizes(rows.combined(lam))) + np.max(target))
        if worst <= goal:
            return lam
        if left <= 0:
            return None
        way, square = rest, float(np.sum(rest**2))
        while left > 0 and square > 0 and float(np.max(np.abs(rest))) > max(0.5 * goal, 1e-9 * worst):
            image = applied(way)
            length = square / float(np.sum(way * image))
            lam, rest = lam + length * way, rest - length * image
            before, square, left = square, float(np.sum(rest**2)), left - 1
            way = rest + (square / before) * way


def _not_separable(task: _Task, keep: Whole, m: int, error: active_set.Infeasible) -> NotSeparable:
    """sum_a mu_a G_a = 0 in units of the points themselves, mu [m, C] summing to 1."""
    lam = np.zeros(task.allowed.size)
    lam[error.index] = error.weights
    lam = lam.reshape(task.allowed.shape) / task.sizes[:, None]
    lam /= np.sum(lam)
    off = np.linalg.norm((combine(lam, task.rows.labels) * task.sizes[:, None]).T @ task.rows.units)
    # 1 <= sum_a mu_a q_a <= ||W|| times the exact norm
    floor = 1.0 / (off + active_set.ROUNDING * float(np.sum(lam * task.sizes[:, None])))
    witness = np.zeros((m, task.rows.num_classes))
    witness[keep] = lam
    used = np.flatnonzero(np.any(witness > 0, axis=1))
    named = ", ".join(map(str, used[:8])) + (f" and {len(used) - 8} more" if len(used) > 8 else "")
    return NotSeparable(
        f"no linear model through the origin separates the {task.rows.num_classes} classes: points {named} get "
        f"nonnegative weights with sum mu_ic (e_y_i - e_c) x_i^T = 0 (checked: norm {off:.1e}, so one that did would "
        f"have norm {floor:.0e} or more), so no W gives them all positive margins; a bias, better features, or "
        "dropping the points that are named would mend that",
        witness,
    )
