"""Multipliers of forgotten points without solving for them.

The ascent step needs lambda_r, which seems to require the whole training set. `estimate_multipliers` reads it off the
network at the forgotten point alone; `estimation_error` bounds how far off it is; `multipliers_from_loss` takes it from
the derivative of the training loss (docs/theory, Multiplier estimator).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gaunlearn_jax import models, numerics
from gaunlearn_jax import train as training
from gaunlearn_jax._types import Mask, Params, PerPair, PerPoint
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import KKTPoint


def estimate_multipliers(
    net: models.Network, data: Dataset, point: KKTPoint | Params, forget: Mask
) -> Float[Array, "m"]:
    """lambda_hat_r = q_r / (||x_r||^2 a_r) for every forgotten r, 0 elsewhere; a_r = sum_j u_j^2 [z_jr > 0].

    `point` is a KKT point, or params [n, p] of a network with smallest margin 1 (there, pre-activations at rounding
    level count as kinks). Of r only the network's pre-activations and the norm of x_r enter, nothing of any other
    point. Strictly active neurons only, so no kink fraction is needed (linear: all are active; leaky ReLU: q_r counts
    the active neurons). 0 where no neuron is active. ValueError for arrays of the wrong shape.
    Source: docs/theory, Multiplier estimator.
    """
    models.check_shapes(net, data.points, forget=forget)
    z = _preactivations(net, data, point)
    active = _active(net, z)
    seen = data.labels * numerics.matmul(net.output_weights, active * z)
    size = jnp.sum(data.points**2, axis=1) * _active_weight(net, active)
    return jnp.where(jnp.asarray(forget) & (size > 0), seen / jnp.where(size > 0, size, 1.0), 0.0)


def estimation_error(
    net: models.Network, data: Dataset, point: KKTPoint, forget: Mask, epsilon: Array | float | None = None
) -> tuple[PerPoint, PerPoint]:
    """Two bounds on |lambda_hat_r - lambda_r| for an approximate KKT point: (with selections, without), 0 off R.

    With: (sum_{i != r} lambda_i |K_ir| sum_j u_j^2 s_ji act_jr + epsilon_1 ||x_r|| sqrt(a_r)) / (||x_r||^2 a_r).
    Without, by s <= 1: phi sum_{i != r} lambda_i / ||x_r||^2 + epsilon_1 / (||x_r|| sqrt(a_r)).
    `epsilon` replaces the point's own epsilon_1. Infinite where no neuron is active at r.
    Source: docs/theory, Multiplier estimator.
    """
    models.check_shapes(net, data.points, forget=forget)
    mask = jnp.asarray(forget)
    first = point.epsilon if epsilon is None else jnp.asarray(epsilon)
    active = _active(net, point.preactivations)
    weight = _active_weight(net, active)
    k = numerics.gram(data.points)
    others = ~jnp.eye(data.num_points, dtype=bool)
    lam = point.multipliers
    overlap = numerics.matmul((net.output_weights[:, None] ** 2 * point.selection).T, active)
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
    weights = jax.nn.softmax(training.log_loss_slope(margins, loss))
    return jnp.asarray(norm) ** 2 * weights / jnp.sum(weights * margins / jnp.min(margins))


def _preactivations(net: models.Network, data: Dataset, point: KKTPoint | Params) -> PerPair:
    if isinstance(point, KKTPoint):
        return point.preactivations
    models.check_shapes(net, data.points, params=point)
    params = jnp.asarray(point, jnp.float64)
    z = models.preactivations(data.points, params)
    noise = 4 * (params.shape[1] + 8) * numerics.EPS * models.preactivations(jnp.abs(data.points), jnp.abs(params))
    return jnp.where(jnp.abs(z) > noise, z, 0.0)


def _active(net: models.Network, z: PerPair) -> PerPair:
    """1 at strictly active pairs, 0 elsewhere; everywhere 1 for linear models."""
    return jnp.ones_like(z) if net.kind == "linear" else jnp.where(z > 0, 1.0, 0.0)


def _active_weight(net: models.Network, active: PerPair) -> PerPoint:
    """a_i = sum_j u_j^2 act_ji."""
    return numerics.matmul(net.output_weights**2, active)
