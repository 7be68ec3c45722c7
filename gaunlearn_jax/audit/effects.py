"""What one ascent step on the forgotten points does, measured on the host: four certificates and the step itself.

The same formulas as `unlearn.certificates` and `unlearn.estimators`, which are compiled; the tests compare them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gaunlearn_jax.audit.findings import Certified, Row, Step
from gaunlearn_jax.audit.subject import Subject
from gaunlearn_jax.base import numerics
from gaunlearn_jax.kkt import host
from gaunlearn_jax.kkt.host import HostPoint, HostProblem, Marks, Matrix, Vector
from gaunlearn_jax.training.losses import LOSSES

STEP_ERRORS = (0.01, 0.1, 0.5)
#: a margin of an exact point above 1 by less than this is 1
ON_MARGIN = 1e-9


class Ascent(NamedTuple):
    """h [n, p] and its pre-activations, its part P h inside the span of the retained points, and rows spanning that."""

    h: Matrix
    h_z: Matrix
    inside: Matrix
    basis: Matrix


def ascent(problem: HostProblem, point: HostPoint, forget: Marks) -> Ascent:
    """h = sum over the forgotten points of lambda_r y_r g_r."""
    chosen = np.flatnonzero(forget)
    made = problem.coefficients(point.multipliers, point.selection)[:, chosen]
    x = problem.points[chosen]
    h, basis = made @ x, host.row_space(problem.points[~forget])
    return Ascent(h, made @ (x @ problem.points.T), _projected(h, basis), basis)


def certificates(
    problem: HostProblem, point: HostPoint, forget: Marks, step: Ascent, retrained: HostPoint | None
) -> dict[str, Row]:
    """Every certificate after the step and after doing nothing (a step of length 0); docs/theory, Four certificates."""
    pairs = [_certificates(problem, point, forget, step, retrained, c) for c in (1.0, 0.0)]
    return {name: Row(pairs[0][name], pairs[1][name]) for name in pairs[0]}


def _certificates(
    problem: HostProblem, point: HostPoint, forget: Marks, step: Ascent, retrained: HostPoint | None, c: float
) -> dict[str, Certified]:
    after, z_after = point.params - c * step.h, point.preactivations - c * step.h_z

    def certified(near: HostPoint, shrink: float = 1.0) -> Certified:
        """tau from the difference; the norm outside the span is either shared with theta_hat or dropped altogether."""
        lost = 0.0 if near.orthogonal_norm > 0 else point.orthogonal_norm
        whole = np.append(near.params, near.orthogonal_norm)
        moved = np.append(near.params - after / shrink, lost)
        return Certified(near.epsilon, near.delta, host.one_minus_cos(whole, moved), host.norm(whole))

    def measured(params: Matrix, z: Matrix, orthogonal: float) -> HostPoint:
        """With the multipliers and the selection of the model."""
        return host.measured_point(
            problem, params, z, point.multipliers, point.selection, ~forget, orthogonal_norm=orthogonal
        )

    beyond = np.where(forget, step.h_z - problem.preactivations(step.inside), 0.0)
    spanned = _projected(point.params, step.basis)
    z_spanned = np.where(forget, problem.preactivations(spanned), point.preactivations)
    projection = measured(
        point.params - c * (step.h - step.inside), point.preactivations - c * beyond, point.orthogonal_norm
    )
    found = {
        "scaling": _scaling(problem, point, forget, after, z_after, certified),
        "projection": certified(projection),
        "span": certified(measured(spanned, z_spanned, 0.0)),
    }
    if retrained is not None:
        best = host.measured_point(
            problem, retrained.params, retrained.preactivations, retrained.multipliers, retrained.selection, ~forget
        )
        found["retrain"] = certified(best)
    return found


def _scaling(
    problem: HostProblem, point: HostPoint, forget: Marks, after: Matrix, z: Matrix, certified: Any
) -> Certified:
    """theta_hat over its smallest retained margin; a network's multipliers are measured afresh."""
    smallest = float(np.min(problem.margins(z)[~forget]))
    if smallest <= 0:
        return Certified(*[float("nan")] * 4)
    shrink = min(smallest, 1.0) / numerics.OUTWARD
    params, z, orthogonal = after / shrink, z / shrink, point.orthogonal_norm / shrink
    if problem.slope == 1:
        lam = point.multipliers / shrink
        near = host.measured_point(problem, params, z, lam, point.selection, ~forget, orthogonal_norm=orthogonal)
    else:
        near = host.fit_multipliers(
            problem, params, z, orthogonal_norm=orthogonal, retained=~forget, at_kink=point.selection
        )
    return certified(near, shrink)


def broken(problem: HostProblem, point: HostPoint, forget: Marks, step: Ascent) -> int:
    """How many retained points the model misclassifies after the step."""
    return int(np.sum(problem.margins(point.preactivations - step.h_z)[~forget] <= 0))


def described(subject: Subject, forget: Marks, step: Ascent, loss: str) -> Step:
    """Multipliers and step sizes, their estimates, and epsilon of the projection certificate of a wrong step."""
    problem, point = subject.problem, subject.point
    chosen = np.flatnonzero(forget)
    made = problem.coefficients(point.multipliers, point.selection)
    base = point.params - made @ problem.points + step.inside
    estimate = estimated_multipliers(problem, point, chosen)

    def epsilon(off: Matrix) -> float:
        """||e + P h + (I - P)(h - h')|| with `off` = h - h'."""
        return host.norm(base + off - _projected(off, step.basis), point.orthogonal_norm)

    lam = point.multipliers[chosen]
    wrong = np.zeros(problem.num_points)
    wrong[chosen] = lam - estimate
    off = problem.coefficients(wrong, point.selection)[:, chosen] @ problem.points[chosen]
    # the network in use is theta times `scale`: its multipliers and margins are larger by that factor
    q = problem.margins(point.preactivations)[chosen] * point.scale
    with np.errstate(divide="ignore"):
        log_beta = np.log(lam * point.scale) - _log_slope(loss, q)
    return Step(
        loss=loss,
        multipliers=lam,
        log_beta=log_beta,
        estimates=estimate,
        size=host.norm(step.h),
        rho=host.norm(step.inside),
        errors={error: epsilon(error * step.h) for error in STEP_ERRORS},
        estimate_epsilon=epsilon(off),
    )


def _log_slope(loss: str, margins: Any) -> Vector:
    """log(-l'(q)) of margins in NumPy, which stay there."""
    return np.asarray(LOSSES[loss].log_slope(margins))


def estimated_multipliers(problem: HostProblem, point: HostPoint, chosen: np.ndarray) -> Vector:
    """q_r / (||x_r||^2 a_r), a_r = sum_j u_j^2 [z_jr > 0] (docs/theory, Multiplier estimator); 0 without activity."""
    z, u = point.preactivations[:, chosen], problem.output_weights
    active = np.ones_like(z) if problem.slope == 1 else (z > 0).astype(float)
    seen = problem.labels[chosen] * (u @ (active * z))
    size = np.sum(problem.points[chosen] ** 2, axis=1) * (u**2 @ active)
    return np.where(size > 0, seen / np.where(size > 0, size, 1.0), 0.0)


def unique_multipliers(problem: HostProblem, point: HostPoint, forget: Marks) -> bool:
    """Whether the gradient of every forgotten point on the margin is independent of those of the others there: if it
    is not, multipliers can be moved from some points to others and the model stays as it is."""
    near = np.flatnonzero(problem.margins(point.preactivations) <= 1 + ON_MARGIN)
    if not np.any(forget[near]):
        return True
    made = problem.amplitudes[:, near] * point.selection[:, near]
    rows = np.einsum("ji,ip->ijp", made, problem.points[near]).reshape(len(near), -1)
    rows, gone = rows[np.any(rows != 0, axis=1)], forget[near][np.any(rows != 0, axis=1)]
    rank = len(host.row_space(rows))
    if rank == len(rows):
        return True
    alone = (np.arange(len(rows)) != at for at in np.flatnonzero(gone))
    return all(len(host.row_space(rows[keep])) < rank for keep in alone)


def spare(problem: HostProblem, point: HostPoint, forget: Marks, norm: float) -> bool:
    """Whether multipliers on the retained points alone explain the model as well: epsilon and the slack
    sum_i lambda_i (q_i - 1) of their best fit are not larger."""
    if not np.any(point.multipliers[forget] > 0):
        return True
    others = host.fit_multipliers(
        problem, point.params, point.preactivations, orthogonal_norm=point.orthogonal_norm, retained=~forget,
        at_kink=point.selection,
    )  # fmt: skip
    beyond = problem.margins(point.preactivations) - 1.0
    slack = max(float(np.sum(point.multipliers * beyond)), 0.0)
    more = float(np.sum(others.multipliers * beyond)) - slack
    return bool(others.epsilon <= point.epsilon + ON_MARGIN * norm and more <= ON_MARGIN * norm**2)


def _projected(params: Matrix, basis: Matrix) -> Matrix:
    return np.asarray((params @ basis.T) @ basis)
