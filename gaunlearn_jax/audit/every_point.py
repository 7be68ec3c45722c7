"""Forgetting each point alone, for all points at the price of a few."""

from __future__ import annotations

import numpy as np

from gaunlearn_jax.audit.findings import EveryPoint
from gaunlearn_jax.audit.subject import Subject
from gaunlearn_jax.base import progress
from gaunlearn_jax.kkt import hard_margin, host
from gaunlearn_jax.kkt.host import Vector


def every_point(subject: Subject) -> EveryPoint:
    """||P h|| / ||theta|| and the cosine gaps to the model retrained without each point (NaN: unsolved)."""
    problem, point = subject.problem, subject.point
    x, lam = problem.points, point.multipliers
    theta = np.append(point.params, point.orthogonal_norm)
    lever = np.sqrt(np.sum((problem.output_weights[:, None] * point.selection) ** 2, axis=0))
    rho = lam * lever * host.inside_norms(x)
    made = problem.coefficients(lam, point.selection)
    step, nothing = np.full(len(x), np.nan), np.full(len(x), np.nan)
    if subject.exact is not None:
        goals, same = _retrained_without_each(subject), subject.exact.params.ravel()
        for i in range(len(x)):
            goal = np.append(goals.get(i, same), 0.0)
            h = np.append(np.outer(made[:, i], x[i]), 0.0)
            step[i], nothing[i] = host.cosine_gap(theta - h, goal), host.cosine_gap(theta, goal)
    if point is subject.exact:
        step[lam == 0], nothing[lam == 0] = 0.0, 0.0  # the model is the retrained one
    return EveryPoint(rho=rho / np.linalg.norm(theta), gap=step, gap_nothing=nothing, multipliers=lam)


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
