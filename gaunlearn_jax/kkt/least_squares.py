"""Nonnegative least squares whose answers are checked, since verdicts rest on them.

    minimise 1/2 ||A v - b||^2   subject to   v >= 0

On about one in 1e5 small integer problems SciPy's solver stops at a point that is no minimum. An answer that misses its
own KKT conditions is replaced by that of `active_set`: the residual b - A v is the point nearest to b at which no
column has a positive product, and v are its multipliers (docs/theory, Measuring).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from gaunlearn_jax.kkt import active_set

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

#: rounding of a product with a unit column, in units of ||b|| + sum_j v_j
ROUNDING = 1e-12


@dataclasses.dataclass(frozen=True)
class _Away:
    """The unit columns with their sign turned, as constraint rows."""

    units: Matrix

    @property
    def dim(self) -> int:
        return len(self.units)

    def columns(self, index: list[int]) -> Matrix:
        return -self.units[:, index]

    def products(self, w: Vector) -> Vector:
        return -(w @ self.units)

    def sizes(self, w: Vector) -> Vector:
        return np.asarray(np.abs(w) @ np.abs(self.units))


def nonnegative(columns: Matrix, goal: Vector) -> tuple[Vector, bool]:
    """v >= 0 [c] of least ||A v - b|| for columns A [r, c] and b [r], and whether its KKT conditions hold to rounding:
    no column has a positive product with the residual, those in use none at all."""
    size = np.linalg.norm(columns, axis=0)
    size = np.where(size > 0, size, 1.0)
    units = columns / size
    try:
        found = np.asarray(nnls(units, goal, maxiter=30 * len(size))[0])
    except RuntimeError:
        found = np.zeros(len(size))
    if optimal(units, goal, found):
        return found / size, True
    found = _by_active_set(units, goal, found)
    return found / size, optimal(units, goal, found)


def optimal(units: Matrix, goal: Vector, found: Vector) -> bool:
    """Whether v meets the KKT conditions on unit columns, up to the rounding of the products that decide them."""
    pull = (goal - units @ found) @ units
    floor = ROUNDING * (float(np.linalg.norm(goal)) + float(np.sum(found)))
    return bool(np.all(found >= 0) and np.all(pull <= floor) and np.all(np.abs(pull[found > 0]) <= floor))


def _by_active_set(units: Matrix, goal: Vector, start: Vector) -> Vector:
    count = units.shape[1]
    problem = active_set.Problem(_Away(units), np.zeros(count), goal, np.ones(count, bool))
    found = np.zeros(count)
    try:
        face = active_set.solve(problem, np.flatnonzero(start).tolist())
    except (RuntimeError, active_set.Infeasible):  # dependent at rounding level
        return start
    found[face.active] = face.multipliers
    return found
