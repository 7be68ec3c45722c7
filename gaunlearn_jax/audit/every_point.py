"""Forgetting each point alone, for all points at the price of a few."""

from __future__ import annotations

import numpy as np

from gaunlearn_jax.audit.findings import EveryPoint
from gaunlearn_jax.audit.subject import Subject
from gaunlearn_jax.base import progress
from gaunlearn_jax.kkt import hard_margin
from gaunlearn_jax.kkt.host import Matrix, Vector


def every_point(subject: Subject) -> EveryPoint:
    """||P h|| / ||theta|| and the cosine gaps to the model retrained without each point (NaN: unsolved)."""
    problem, point = subject.problem, subject.point
    x, lam = problem.points, point.multipliers
    theta = np.append(point.params, point.orthogonal_norm)
    lever = np.sqrt(np.sum((problem.output_weights[:, None] * point.selection) ** 2, axis=0))
    rho = lam * lever * _inside_norms(x)
    made = problem.coefficients(lam, point.selection)
    step, nothing = np.full(len(x), np.nan), np.full(len(x), np.nan)
    if subject.exact is not None:
        goals, same = _retrained_without_each(subject), subject.exact.params.ravel()
        for i in range(len(x)):
            goal = np.append(goals.get(i, same), 0.0)
            h = np.append(np.outer(made[:, i], x[i]), 0.0)
            step[i], nothing[i] = _gap(theta - h, goal), _gap(theta, goal)
    if point is subject.exact:
        step[lam == 0], nothing[lam == 0] = 0.0, 0.0  # the model is the retrained one
    return EveryPoint(rho=rho / np.linalg.norm(theta), gap=step, gap_nothing=nothing, multipliers=lam)


def _inside_norms(x: Matrix) -> Vector:
    """||P x_r|| with P onto the span of all other points: x_r less v_r / ||v_r||^2 of the dual basis vector v_r,
    or all of x_r where the others span it (leverage below 1)."""
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    rank = int(np.sum(s > 1e-11 * s[0]))
    u, s, vt = u[:, :rank], s[:rank], vt[:rank]
    dual = (u / s) @ vt
    alone = np.sum(u**2, axis=1) > 1 - 1e-9
    beyond = np.where(alone[:, None], dual / np.sum(dual**2, axis=1, keepdims=True), 0.0)
    return np.asarray(np.linalg.norm(x - beyond, axis=1))


def _retrained_without_each(subject: Subject) -> dict[int, Vector]:
    """i -> parameters (flat) of the exact point without point i, NaN where unsolved. Points off the margin of the
    exact point leave it as it is, so only its support is retrained."""
    problem, exact = subject.problem, subject.exact
    if subject.solution is not None:
        left_out = hard_margin.leave_one_out(problem.points, problem.labels, subject.solution)
        return dict(zip(subject.solution.active.tolist(), left_out, strict=True))
    found = {}
    used = np.flatnonzero(exact.multipliers > 0) if exact is not None else np.zeros(0, np.int64)
    for i in progress.counted("retraining without each point,", used):
        best = subject.retrained(np.arange(problem.num_points) == i)
        found[int(i)] = (
            np.full(problem.points.shape[1] * problem.num_neurons, np.nan) if best is None else best.params.ravel()
        )
    return found


def _gap(a: Vector, b: Vector) -> float:
    """1 - cos of the angle, from the difference of the unit vectors."""
    return 0.5 * float(np.sum((a / np.linalg.norm(a) - b / np.linalg.norm(b)) ** 2))
