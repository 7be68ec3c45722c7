"""Another outcome than that of ascent: a named step, or weights that were unlearned elsewhere, judged beside nothing.

The exact retrained model says how far it is; Theorem T says so without retraining (docs/theory, The ball of the
retrained model).
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from gaunlearn_jax import kkt, models
from gaunlearn_jax.audit import popular, prepare
from gaunlearn_jax.audit.findings import Bracket, Outcome
from gaunlearn_jax.audit.subject import Subject
from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.codes import Status
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import host
from gaunlearn_jax.kkt.host import HostPoint, HostProblem, Marks, Matrix
from gaunlearn_jax.theory.ball import ball_of
from gaunlearn_jax.unlearn.registry import Step

#: how far beyond the margin a point may lie that carries a multiplier of a given model; the smallest ball counts
SLACKS = (1e-9, 1e-3, 0.01, 0.05, 0.2, np.inf)
#: 1 - cos below which an outcome is the model itself: the square of some roundings
SAME_MODEL = 1e-28


def of_step(under: Subject, forget: Marks, step: Step, retrained: HostPoint | None) -> Outcome:
    """What a registered step, with its default parameters, makes of the model under audit."""
    problem, point = under.problem, under.point
    net, data = _on_device(under)
    if step.linear_only and not under.linear:
        raise ValueError(f"step {step.name} speaks of linear models alone; take another one for a network")
    start = _kkt_point(problem, point)
    known = {}
    if step.solves and retrained is not None:
        known = {"retrained": _kkt_point(problem, retrained)}
    after = step.make(net, data, start, jnp.asarray(forget), **known)
    if int(after.status) > Status.UNCONVERGED:
        raise ValueError(f"step {step.name} cannot be taken here: {Status(int(after.status)).text}")
    params, outside = np.asarray(after.params), float(after.orthogonal_norm)
    return _judged(under, forget, step.name, bool(after.valid), params, outside, retrained)


def of_weights(
    under: Subject, basis: Matrix | None, forget: Marks, weights: Any, dim: int, retrained: HostPoint | None
) -> Outcome:
    """A model that was unlearned elsewhere: W [n, d] (linear: [d] or [1, d])."""
    w = prepare.numbers("unlearned", weights)
    w = w[None] if w.ndim == 1 and under.linear else w
    expected = (under.problem.num_neurons, dim)
    if w.shape != expected:
        raise ValueError(f"unlearned has shape {np.shape(weights)}, expected {expected}: neurons, coordinates")
    if not np.any(w):
        raise ValueError("unlearned is zero everywhere, which has no direction; give the weights after unlearning")
    params = w if basis is None else w @ basis.T
    outside = 0.0 if basis is None else host.norm(w - params @ basis)
    return _judged(under, forget, "given", True, params, outside, retrained)


def _judged(
    under: Subject, forget: Marks, name: str, valid: bool, params: Matrix, outside: float, retrained: HostPoint | None
) -> Outcome:
    point = under.point
    goal = None if retrained is None else np.append(retrained.params, 0.0)
    ours, before = np.append(params, outside), np.append(point.params, point.orthogonal_norm)
    brackets = [_bracket(under, forget, v, w) for v, w in ((params, outside), (point.params, point.orthogonal_norm))]
    return Outcome(
        name=name,
        valid=valid,
        gap=float("nan") if goal is None else host.cosine_gap(ours, goal),
        gap_nothing=float("nan") if goal is None else host.cosine_gap(before, goal),
        bracket=brackets[0],
        bracket_nothing=brackets[1],
        unchanged=host.cosine_gap(ours, before) <= SAME_MODEL,
        metrics=popular.metrics(under, forget, params, retrained),
    )


def _bracket(under: Subject, forget: Marks, params: Matrix, outside: float) -> Bracket:
    """Least and largest angle to the solution of the retained problem by Theorem T, theta scaled to retained margin 1
    and its multipliers measured on the retained points; nothing is said where one of them is misclassified."""
    problem = under.problem
    z = problem.preactivations(params)
    margins = problem.margins(z)
    smallest = float(np.min(margins[~forget]))
    if smallest <= 0:
        return Bracket(0.0, np.pi, np.inf)
    scale = smallest / numerics.OUTWARD
    params, z, outside, margins = params / scale, z / scale, outside / scale, margins / scale
    net, data = _on_device(under)
    found = []
    for slack in SLACKS:
        near = ~forget & (margins <= numerics.OUTWARD**4 * (1 + slack))
        fit = host.fit_multipliers(problem, params, z, orthogonal_norm=outside, retained=near)
        ball = ball_of(
            net.problem(data), jnp.asarray(~forget), jnp.asarray(params), jnp.asarray(z), jnp.asarray(fit.multipliers),
            jnp.asarray(fit.selection), outside,
        )  # fmt: skip
        found.append((float(ball.radius) / float(ball.norm), ball) if int(ball.reason) == 0 else (np.inf, ball))
    sine, ball = min(found, key=lambda one: one[0])
    if sine >= 1:
        return Bracket(0.0, np.pi, float(sine))
    centre = np.append(np.asarray(ball.centre), float(ball.outside))
    turn = 2 * np.arcsin(np.sqrt(min(1.0, host.cosine_gap(np.append(params, outside), centre) / 2)))
    return Bracket(max(0.0, turn - np.arcsin(sine)), min(np.pi, turn + np.arcsin(sine)), float(sine))


def _on_device(under: Subject) -> tuple[Any, Dataset]:
    problem = under.problem
    points, labels = jnp.asarray(problem.points), jnp.asarray(problem.labels)
    zero = jnp.zeros(())
    data = Dataset(points, labels, jnp.asarray(float(points.shape[1])), zero, jnp.asarray(int(Status.OK)))
    net = models.Linear() if under.linear else models.TwoLayerReLU(None, problem.output_weights)
    return net, data


def _kkt_point(problem: HostProblem, point: HostPoint) -> kkt.KKTPoint:
    """The same point for the compiled steps."""
    rows = models.MarginProblem(
        jnp.asarray(problem.points), jnp.asarray(problem.amplitudes), jnp.where(jnp.asarray(problem.labels) > 0, 0, 1),
        num_groups=2, slope=problem.slope,
    )  # fmt: skip
    params, z, lam, s = (
        jnp.asarray(v) for v in (point.params, point.preactivations, point.multipliers, point.selection)
    )
    everyone = jnp.ones(problem.num_points, bool)
    return kkt.measured_point(rows, params, z, lam, s, everyone, orthogonal_norm=point.orthogonal_norm)
