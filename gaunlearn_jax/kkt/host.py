"""The margin problem of a network on the host, in NumPy: thousands of points are measured without a compiler.

One row, one entry and one constraint a point (docs/theory, Margin problem); the linear model is one neuron of slope 1.
The functions of JAX (`kkt.points`, `numerics`) say the same and are what this is tested against.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from gaunlearn_jax.base import numerics, progress
from gaunlearn_jax.kkt.least_squares import nonnegative

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Marks = NDArray[np.bool_]

#: a direction of a unit point below this depends on the others, as in `numerics.orthonormal_basis`
RANK_TOL = 1e-11
#: rounds of columns that a fit with kinks may take; every round is a fit, only not the best
ROUNDS = 30


@dataclasses.dataclass(frozen=True)
class HostProblem:
    """Points x [m, p], labels y [m] (+-1), second layer u [n] and the slope of sigma below zero."""

    points: Matrix
    labels: Vector
    output_weights: Vector
    slope: float

    @property
    def num_points(self) -> int:
        """m."""
        return len(self.points)

    @property
    def num_neurons(self) -> int:
        """n."""
        return len(self.output_weights)

    @property
    def amplitudes(self) -> Matrix:
        """v_ji = u_j y_i, [n, m]."""
        return self.output_weights[:, None] * self.labels

    def preactivations(self, params: Matrix) -> Matrix:
        """z_ji = <w_j, x_i>."""
        return params @ self.points.T

    def margins(self, z: Matrix) -> Vector:
        """q_i = sum_j v_ji sigma(z_ji)."""
        return np.asarray(self.labels * (self.output_weights @ np.maximum(z, self.slope * z)))

    def slopes(self, z: Matrix, at_kink: Matrix | float = 0.0) -> Matrix:
        """Clarke selection s_ji: 1 where z > 0, the slope where z < 0, `at_kink` where z = 0."""
        return np.maximum(np.where(z > 0, 1.0, np.where(z < 0, self.slope, at_kink)), self.slope)

    def coefficients(self, multipliers: Vector, selection: Matrix) -> Matrix:
        """Q_ji = v_ji lambda_i s_ji, so that sum_i lambda_i y_i g_i = Q X."""
        return self.amplitudes * multipliers * selection


class HostPoint(NamedTuple):
    """theta with multipliers and a selection, measured; fields as in `kkt.KKTPoint`, `solved` is whether a solver that
    made it converged."""

    params: Matrix
    preactivations: Matrix
    multipliers: Vector
    selection: Matrix
    orthogonal_norm: float
    epsilon: float
    delta: float
    scale: float
    solved: bool


def measured_point(
    problem: HostProblem,
    params: Matrix,
    z: Matrix,
    multipliers: Vector,
    selection: Matrix,
    retained: Marks,
    *,
    orthogonal_norm: float = 0.0,
    scale: float = 1.0,
    solved: bool = True,
) -> HostPoint:
    """epsilon = ||theta - sum_i lambda_i y_i g_i|| and delta = max_i lambda_i (q_i - 1) of the retained points."""
    lam = np.where(retained, multipliers, 0.0)
    residual = params - problem.coefficients(lam, selection) @ problem.points
    slack = np.max(lam * (problem.margins(z) - 1.0))
    epsilon = norm(residual, orthogonal_norm)
    finite = bool(np.isfinite(epsilon))
    return HostPoint(
        params, z, lam, selection, float(orthogonal_norm), epsilon, max(float(slack), 0.0), scale, solved and finite
    )


def from_weights(problem: HostProblem, weights: Vector, multipliers: Vector) -> HostPoint:
    """The point of a linear model from w [p] and lambda [m], scaled up by OUTWARD like every solved point."""
    w = weights[None] * numerics.OUTWARD
    z = problem.preactivations(w)
    everyone = np.ones(problem.num_points, bool)
    return measured_point(problem, w, z, multipliers * numerics.OUTWARD, np.ones_like(z), everyone)


def fit_multipliers(
    problem: HostProblem,
    params: Matrix,
    z: Matrix,
    *,
    orthogonal_norm: float = 0.0,
    scale: float = 1.0,
    retained: Marks,
    at_kink: Matrix | float = 0.0,
) -> HostPoint:
    """The multipliers of least epsilon for theta as it is: nonnegative least squares on the gradients of the points.

    At a kink the selection is free in [slope, 1]. Its cone is spanned by the columns of one point with each kink at
    either end: the one that the residual asks for joins, and the programme is solved again, until none is asked for.
    `at_kink` is the selection to begin from. Stopped after ROUNDS, what is found is an upper bound on the least
    epsilon; not `solved` where the last programme missed its KKT conditions. Source: docs/theory, Measuring.
    """
    kept = np.flatnonzero(retained)
    # a neuron of weight 0 has a kink at every point, and needs no selection there but 0
    kinks = (z == 0) & np.any(params != 0, axis=1)[:, None] & (problem.slope < 1)
    columns = _Columns(problem, params)
    start = problem.slopes(z, np.where(kinks, at_kink, 0.0))
    columns.add(kept, start[:, kept])
    weights = columns.solve()
    touched = kept[np.any(kinks[:, kept], axis=0)]
    for _ in progress.counted("multipliers at kinks, round", range(ROUNDS if touched.size else 0)):
        asked, choices = columns.asked(weights, touched, kinks, start)
        if not asked.size:
            break
        columns.keep(weights > 0)
        columns.add(asked, choices)
        weights = columns.solve()
    lam = np.asarray(np.bincount(columns.owner, weights, problem.num_points), np.float64)
    chosen = np.zeros_like(z)
    np.add.at(chosen.T, columns.owner, (weights * columns.choices).T)
    mean = np.clip(chosen / np.where(lam > 0, lam, 1.0), problem.slope, 1.0)
    selection = np.where(kinks & (lam > 0), mean, start)
    return measured_point(
        problem, params, z, lam, selection, retained, orthogonal_norm=orthogonal_norm, scale=scale,
        solved=columns.solved,
    )  # fmt: skip


class _Columns:
    """Gradients y_i g_i with given selections as the columns of a nonnegative least-squares problem."""

    def __init__(self, problem: HostProblem, params: Matrix) -> None:
        self.problem, self.goal = problem, params
        self.solved = False
        self.owner = np.zeros(0, np.int64)
        self.choices = np.zeros((problem.num_neurons, 0))

    def add(self, points: NDArray[np.int64], choices: Matrix) -> None:
        """A column for each of the points, with its selection [n, points]."""
        self.owner = np.concatenate([self.owner, points])
        self.choices = np.concatenate([self.choices, choices], axis=1)

    def keep(self, used: Marks) -> None:
        """Drop the other columns."""
        self.owner, self.choices = self.owner[used], self.choices[:, used]

    def solve(self) -> Vector:
        """The weight of every column.

        Neurons of one selection have proportional columns, so only their part of theta along u enters: as many blocks
        of rows as there are different selections, few in trained networks.
        """
        problem, u = self.problem, self.problem.output_weights
        kinds, kind = np.unique(self.choices, axis=0, return_inverse=True)
        along = np.where(kind.ravel() == np.arange(len(kinds))[:, None], u, 0.0)
        size = np.linalg.norm(along, axis=1, keepdims=True)
        goal = ((along / size) @ self.goal).ravel()
        made = size * kinds * problem.labels[self.owner]
        columns = np.einsum("gi,ip->gpi", made, problem.points[self.owner]).reshape(-1, len(self.owner))
        if columns.shape[0] > columns.shape[1]:
            q, columns = np.linalg.qr(columns)
            goal = q.T @ goal
        weights, self.solved = nonnegative(columns, goal)
        return weights

    def asked(
        self, weights: Vector, touched: NDArray[np.int64], kinks: Marks, start: Matrix
    ) -> tuple[NDArray[np.int64], Matrix]:
        """Points whose best column would lower the residual, with its selections [n, points]."""
        problem, x = self.problem, self.problem.points[touched]
        residual = self.goal - (problem.amplitudes[:, self.owner] * weights * self.choices) @ problem.points[self.owner]
        pull = problem.amplitudes[:, touched] * (residual @ x.T)
        best = np.where(kinks[:, touched], np.where(pull > 0, 1.0, problem.slope), start[:, touched])
        gain = np.sum(pull * best, axis=0)
        size = np.linalg.norm(x, axis=1) * np.linalg.norm(problem.output_weights)
        wanted = gain > 1e-12 * size * np.linalg.norm(self.goal)
        return touched[wanted], best[:, wanted]


def row_space(rows: Matrix) -> Matrix:
    """Orthonormal rows [rank, p] that span the rows, dependence decided in units of each row's own norm."""
    unit = rows / np.linalg.norm(rows, axis=1)[:, None]
    if len(unit) > unit.shape[1]:
        # the triangle of a tall matrix has the same row space
        unit = np.linalg.qr(unit, mode="r")
        top = float(np.max(np.abs(unit)))
    else:
        top = 1.0
    q, r, _ = scipy.linalg.qr(unit.T, mode="economic", pivoting=True)
    return np.asarray(q[:, np.abs(np.diagonal(r)) > RANK_TOL * top].T)


def norm(*parts: Any) -> float:
    """Euclidean norm of all entries of all arguments together."""
    return float(np.linalg.norm(np.concatenate([np.ravel(v) for v in parts])))


def one_minus_cos(a: Vector, delta: Vector) -> float:
    """1 - cos of the angle between a and b = a - delta, accurate even at 1e-20 (as `numerics.one_minus_cos`)."""
    b = a - delta
    size_a, size_b = norm(a), norm(b)
    if size_a == 0 or size_b == 0:
        return float("nan")
    across = norm(delta - (float(a @ delta) / size_a**2) * a)
    cos = float(a @ b) / (size_a * size_b)
    return (across / size_b) ** 2 / (1 + cos) if cos >= 0 else 1 - cos


def cosine_gap(a: Matrix, b: Matrix) -> float:
    """1 - cos of the angle, from the difference of the unit vectors; NaN for a zero vector."""
    one, other = np.linalg.norm(a), np.linalg.norm(b)
    return 0.5 * float(np.sum((a / one - b / other) ** 2)) if one > 0 and other > 0 else float("nan")


def inside_norms(x: Matrix) -> Vector:
    """||P x_r|| with P onto the span of all other points: x_r less v_r / ||v_r||^2 of the dual basis vector v_r,
    or all of x_r where the others span it (leverage below 1)."""
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    rank = int(np.sum(s > RANK_TOL * s[0]))
    u, s, vt = u[:, :rank], s[:rank], vt[:rank]
    dual = (u / s) @ vt
    alone = np.sum(u**2, axis=1) > 1 - 1e-9
    beyond = np.where(alone[:, None], dual / np.sum(dual**2, axis=1, keepdims=True), 0.0)
    return np.asarray(np.linalg.norm(x - beyond, axis=1))
