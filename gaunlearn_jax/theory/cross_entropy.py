"""The user's step: ascent on the cross-entropy of the forgotten points is the theorem's step with other multipliers.

Source: docs/theory, Several classes (The cross-entropy step).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.codes import Status
from gaunlearn_jax.kkt import KKTPoint, measured_point
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.training.train import log_weights


class LossPoint(NamedTuple):
    """theta = W / q_min with lambda = kappa p, measured, and the logarithm of the learning rate q_min kappa with which
    gradient ascent on W is the theorem's step."""

    point: KKTPoint
    log_rate: Float[Array, ""]


def loss_point(problem: MarginProblem, run: Any, loss: str = "logistic") -> LossPoint:
    """The KKT point that the loss itself names: p_a = -dL/dq_a at the raw weights of `run` (params, preactivations,
    orthogonal_norm), kappa = <theta, -grad L> / ||grad L||^2.

    Cross-entropy for the logistic loss of several classes (Corollary CE). At pre-activations of exactly 0 the selection
    is the lower slope. Status INFEASIBLE where the smallest margin is not positive.
    """
    z = run.preactivations
    q, s = problem.margins(z), problem.slopes(z)
    least = jnp.min(q)
    good = least > 0
    scale = jnp.where(good, least, 1.0) / numerics.outward()
    logs = log_weights(problem, q, loss)
    top = jnp.max(logs)
    p = jnp.exp(logs - top)
    down = numerics.matmul(problem.coefficients(p, s), problem.rows)
    theta = run.params / scale
    kappa = jnp.sum(theta * down) / jnp.sum(down**2)
    point = measured_point(
        problem, theta, z / scale, kappa * p, s, jnp.ones(problem.num_constraints, bool),
        orthogonal_norm=run.orthogonal_norm / scale, scale=scale,
        status=jnp.where(good, Status.OK, Status.INFEASIBLE),
    )  # fmt: skip
    return LossPoint(point, jnp.log(scale) + jnp.log(kappa) - top)
