"""Metrics that are popular elsewhere, beside the certificates: what they say of an outcome, of doing nothing and of the
retrained model.

None of them bounds the distance to the retrained model (docs/howto, Which step when).
"""

from __future__ import annotations

import numpy as np

from gaunlearn_jax.audit.findings import Metrics
from gaunlearn_jax.audit.subject import Subject
from gaunlearn_jax.kkt import hard_margin
from gaunlearn_jax.kkt.host import HostPoint, Marks, Matrix, Vector
from gaunlearn_jax.unlearn.metrics import detected, exact_interval, relearning_steps


def metrics(under: Subject, forget: Marks, params: Matrix, retrained: HostPoint | None) -> Metrics:
    """Membership and relearning of the forgotten points: for the outcome, for doing nothing, for the retrained model.

    Margins are those of unit weights. Held-out margins (linear models): of every point under the model retrained
    without it, which for a point off the margin is the model itself.
    """
    models = [params, under.point.params] + ([] if retrained is None else [retrained.params])
    margins = [_margins(under, w) for w in models]
    held_out = _held_out(under)
    seen = [detected(held_out, q[forget]) for q in margins] if held_out is not None else []
    goal = margins[1][forget]
    relearned = [
        float(np.median(relearning_steps(q[forget], goal, _steepness(under, w)[forget])))
        for q, w in zip(margins, models, strict=True)
    ]
    total = int(np.sum(forget))
    return Metrics(
        points=total,
        detected=tuple(seen),
        interval=tuple(exact_interval(count, total) for count in seen),
        relearning=tuple(relearned),
    )


def _margins(under: Subject, params: Matrix) -> Vector:
    """Margins of the points over the norm of the weights inside the span."""
    return under.problem.margins(under.problem.preactivations(params)) / np.linalg.norm(params)


def _steepness(under: Subject, params: Matrix) -> Vector:
    """||g_i|| = ||x_i|| sqrt(sum_j u_j^2 s_ji^2)."""
    slopes = under.problem.slopes(under.problem.preactivations(params))
    used = under.problem.output_weights**2 @ slopes**2
    return np.asarray(np.sqrt(np.sum(under.problem.points**2, axis=1) * used))


def _held_out(under: Subject) -> Vector | None:
    """The margin of every point under the model trained without it; None for networks, where that is out of reach."""
    if under.solution is None or under.exact is None:
        return None
    margins = _margins(under, under.exact.params)
    problem, active = under.problem, under.solution.active
    left_out = hard_margin.leave_one_out(problem.points, problem.labels, under.solution)
    own = np.sum(left_out * problem.points[active], axis=1) * problem.labels[active]
    margins[active] = own / np.linalg.norm(left_out, axis=1)
    return margins
