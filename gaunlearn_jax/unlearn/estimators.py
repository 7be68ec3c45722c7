"""Multipliers of forgotten points without solving for them.

The ascent step needs lambda_r, which seems to require the whole training set. `estimate_multipliers` reads it off the
network at the forgotten point alone; `estimation_error` bounds how far off it is; `multipliers_from_loss` takes it from
the derivative of the training loss (docs/theory, Multiplier estimator).
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Mask, Params, PerConstraint, PerEntry, PerPoint, PerRow
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import KKTPoint, residual
from gaunlearn_jax.models.problem import MarginProblem, check_shapes
from gaunlearn_jax.training.losses import LOSSES
from gaunlearn_jax.unlearn.step import Unlearned, ascent_direction, gradient_ascent


def estimate_multipliers(net: Any, data: Dataset, point: KKTPoint | Params, forget: Mask) -> Float[Array, "m"]:
    """lambda_hat_r = q_r / (||x_r||^2 a_r) for every forgotten r, 0 elsewhere; a_r = sum_j u_j^2 [z_jr > 0].

    `point` is a KKT point, or params [n, p] of a network with smallest margin 1 (there, pre-activations at rounding
    level count as kinks). Of r only the network's pre-activations and the norm of x_r enter, nothing of any other
    point. Strictly active neurons only, so no kink fraction is needed (linear: all are active; leaky ReLU: q_r counts
    the active neurons). 0 where no neuron is active. ValueError for arrays of the wrong shape.
    Source: docs/theory, Multiplier estimator.
    """
    problem = _one_entry_a_point(net.problem(data))
    check_shapes(problem, data.num_points, forget=forget)
    z = _preactivations(problem, point)
    active = _active(problem, z)
    seen = jnp.sum(problem.amplitudes * active * z, axis=0)
    size = jnp.sum(problem.rows**2, axis=1) * _active_weight(problem, active)
    return jnp.where(jnp.asarray(forget) & (size > 0), seen / jnp.where(size > 0, size, 1.0), 0.0)


def estimated_ascent(net: Any, data: Dataset, point: KKTPoint, forget: Mask) -> Unlearned:
    """One ascent step with `estimate_multipliers` and the slopes at strictly active neurons: what can be done with the
    network and the forgotten points alone. Source: docs/theory, Multiplier estimator."""
    problem = net.problem(data)
    guess = estimate_multipliers(net, data, point, forget)
    guessed = dataclasses.replace(point, multipliers=guess, selection=problem.slopes(point.preactivations))
    return gradient_ascent(net, data, guessed, forget)


def estimation_error(
    net: Any, data: Dataset, point: KKTPoint, forget: Mask, epsilon: Array | float | None = None
) -> tuple[PerPoint, PerPoint]:
    """Two bounds on |lambda_hat_r - lambda_r| for an approximate KKT point: (with selections, without), 0 off R.

    With: (sum_{i != r} lambda_i |K_ir| sum_j u_j^2 s_ji act_jr + epsilon_1 ||x_r|| sqrt(a_r)) / (||x_r||^2 a_r).
    Without, by s <= 1: phi sum_{i != r} lambda_i / ||x_r||^2 + epsilon_1 / (||x_r|| sqrt(a_r)).
    `epsilon` replaces the point's own epsilon_1. Infinite where no neuron is active at r.
    Source: docs/theory, Multiplier estimator.
    """
    problem = _one_entry_a_point(net.problem(data))
    check_shapes(problem, data.num_points, forget=forget)
    mask = jnp.asarray(forget)
    first = point.epsilon if epsilon is None else jnp.asarray(epsilon)
    active = _active(problem, point.preactivations)
    weight = _active_weight(problem, active)
    k = problem.gram()
    others = ~jnp.eye(data.num_points, dtype=bool)
    lam = point.multipliers
    overlap = numerics.matmul((problem.amplitudes**2 * point.selection).T, active)
    crossed = jnp.sum(jnp.where(others, lam[:, None] * jnp.abs(k) * overlap, 0.0), axis=0)
    phi = jnp.max(jnp.where(others, jnp.abs(k), 0.0))
    square = jnp.diagonal(k)
    size = jnp.where(weight > 0, square * weight, 1.0)
    noise = first / jnp.sqrt(size)
    near = crossed / size + noise
    far = phi * (jnp.sum(lam) - lam) / square + noise
    inf = jnp.where(weight > 0, 0.0, jnp.inf)
    return jnp.where(mask, near + inf, 0.0), jnp.where(mask, far + inf, 0.0)


def multipliers_from_loss(margins: PerPoint, norm: Array | float, loss: str = "exponential") -> PerPoint:
    """lambda_i proportional to -l'(q_i), scaled to a point of smallest margin 1: a heuristic, no bound is claimed.

    margins [m] are those of the trained network as it came out of training; `norm` is that of the rescaled theta
    (theta / min q). At an exact KKT point sum_i lambda_i q_i = ||theta||^2 with q the rescaled margins, and that
    fixes the factor. Under gradient flow theta is the accumulated sum of -l'(q_i) y_i g_i, so late in training the
    current derivatives have nearly the proportions of the multipliers. Source: docs/theory, Multipliers.
    """
    weights = jax.nn.softmax(LOSSES[loss].log_slope(margins))
    return jnp.asarray(norm) ** 2 * weights / jnp.sum(weights * margins / jnp.min(margins))


def _one_entry_a_point(problem: MarginProblem) -> MarginProblem:
    """The problem, if the estimator is defined for it."""
    if problem.layout is not None:
        raise ValueError("the estimator needs one pre-activation of each neuron a point; this model has several")
    return problem


def _preactivations(problem: MarginProblem, point: KKTPoint | Params) -> PerRow:
    if isinstance(point, KKTPoint):
        return point.preactivations
    check_shapes(problem, problem.num_rows, params=point)
    params = jnp.asarray(point, jnp.float64)
    z = problem.preactivations(params)
    noise = 4 * (params.shape[1] + 8) * numerics.unit() * numerics.matmul(jnp.abs(params), jnp.abs(problem.rows.T))
    return jnp.where(jnp.abs(z) > noise, z, 0.0)


def _active(problem: MarginProblem, z: PerRow) -> PerRow:
    """1 at strictly active pairs, 0 elsewhere; everywhere 1 for models without kinks."""
    return jnp.where(z > 0, 1.0, 0.0) if problem.kinked else jnp.ones_like(z)


def _active_weight(problem: MarginProblem, active: PerRow) -> PerConstraint:
    """a_i = sum_j u_j^2 act_ji."""
    return jnp.sum(problem.amplitudes**2 * active, axis=0)


class Split(NamedTuple):
    """P (e + h) and (I - P) e with the basis of the retained span, and rho = ||P h||."""

    basis: Float[Array, "r p"]
    inside: Params
    outside: Params
    rho: Float[Array, ""]


def split(problem: MarginProblem, point: KKTPoint, forget: Mask) -> Split:
    """The forgotten gradients and e + h, each split by the span of the retained points."""
    basis = numerics.orthonormal_basis(problem.rows, problem.rows_of(~forget))
    h, _ = ascent_direction(problem, point, forget)
    rest, inside = residual(problem, point), numerics.project(h, basis)
    within = numerics.project(rest, basis)
    return Split(basis, within + inside, rest - within, numerics.norm(inside))


def step_epsilon(
    problem: MarginProblem, point: KKTPoint, forget: Mask, parts: Split, multipliers: PerConstraint, selection: PerEntry
) -> Float[Array, ""]:
    """|| e + P h + (I - P)(h - h') ||: epsilon of the projection certificate of the step h' that these multipliers and
    this selection of the forgotten points make. Source: docs/theory, Multiplier estimator, Effect on unlearning."""
    off = problem.coefficients(point.multipliers, point.selection) - problem.coefficients(multipliers, selection)
    off = numerics.matmul(jnp.where(problem.rows_of(forget), off, 0.0), problem.rows)
    beyond = off - numerics.project(off, parts.basis)
    return numerics.norm(parts.inside + parts.outside + beyond, point.orthogonal_norm)


def effect(problem: MarginProblem, point: KKTPoint, forget: Mask, parts: Split) -> PerConstraint:
    """sqrt(b_r) ||(I - P) x_r|| of each forgotten point [m]: what an error of one in lambda_r can add to epsilon."""
    beyond = problem.rows - numerics.project(problem.rows, parts.basis)
    used = jnp.sum(problem.amplitudes**2 * point.selection, axis=0)
    return jnp.where(forget, jnp.sqrt(used * jnp.sum(beyond**2, axis=1)), 0.0)
