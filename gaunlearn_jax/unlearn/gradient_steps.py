"""Steps that follow gradients of the retained points: NegGrad+, and fine-tuning.

Source: docs/theory, NegGrad+ and Fine-tuning never forgets.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Mask, Params, PerRow, Scalar
from gaunlearn_jax.base.staging import staged
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.unlearn.step import Unlearned, check_forget, gradient_ascent, step_status

#: gradient steps of a fine-tuning
TUNING_STEPS = 200


def neggrad_plus(net: Any, data: Dataset, point: KKTPoint, forget: Mask, weight: Scalar = 1.0) -> Unlearned:
    """theta - h + weight (sum_R lambda_r / M) sum_T exp(1 - q_i) y_i g_i: ascent on the forgotten points and descent on
    the mean exponential loss of the M retained ones, in one step.

    Source: docs/theory, NegGrad+.
    """
    ascent = gradient_ascent(net, data, point, forget)
    problem = net.problem(data)
    q = weight * descent_coefficients(problem, point, forget)
    z = ascent.preactivations + numerics.matmul(q, problem.gram())
    return dataclasses.replace(ascent, params=ascent.params + numerics.matmul(q, problem.rows), preactivations=z)


def descent_coefficients(problem: MarginProblem, point: KKTPoint, forget: Mask) -> PerRow:
    """Q [n, r] with (sum_R lambda_r / M) sum_T exp(1 - q_i) y_i g_i = Q X."""
    gone = problem.constraints_of(forget)
    weights = jnp.where(gone, 0.0, jnp.exp(1.0 - problem.margins(point.preactivations)))
    total = jnp.sum(jnp.where(gone, point.multipliers, 0.0)) / jnp.maximum(jnp.sum(~gone), 1)
    return problem.coefficients(total * weights, point.selection)


class Tuned(NamedTuple):
    """A fine-tuning: theta_t over the factor `size` that theta was multiplied by first, log(1/L) before and after, what
    one step can add to log(1/L) at most (a = gamma eta G L at the start), and whether the smoothed margin
    gamma = log(1/L)/||theta|| never fell below its first value."""

    params: Params
    preactivations: PerRow
    size: Float[Array, ""]
    before: Float[Array, ""]
    after: Float[Array, ""]
    gain: Float[Array, ""]
    kept: Bool[Array, ""]


def fine_tuning(
    net: Any, data: Dataset, point: KKTPoint, forget: Mask, time: Scalar = 100.0, start: Scalar = 1e-3
) -> Unlearned:
    """Gradient descent on L = sum_T exp(-q_i) alone, from the multiple of theta at which L is at most `start`.

    `time` is in units of 1 / (G^2 L) at the start, G >= max ||g_i||, in TUNING_STEPS steps. The outcome is divided by
    that multiple again. `valid` where the smoothed margin log(1/L)/||theta|| never fell below its first value.
    Source: docs/theory, Fine-tuning never forgets.
    """
    forget = check_forget(data, forget)
    problem = net.problem(data)
    tuned = descent(problem, point, forget, time, start)
    return Unlearned(
        params=tuned.params,
        preactivations=tuned.preactivations,
        orthogonal_norm=point.orthogonal_norm,
        log_step_size=jnp.full(problem.num_constraints, -jnp.inf),
        status=step_status(point, forget, time),
        valid=tuned.kept,
    )


@staged
def descent(problem: MarginProblem, point: KKTPoint, forget: Mask, time: Scalar, start: Scalar) -> Tuned:
    """`fine_tuning` with what its bound needs."""
    live = problem.constraints_of(~forget)
    size = jnp.log(jnp.sum(live) / start)
    fraction = jnp.asarray(time, jnp.float64) / TUNING_STEPS
    most = jnp.max(jnp.where(live, problem.steepness(), 0.0))
    k, z0, w0 = problem.gram(), size * point.preactivations, size * point.params

    def log_inverse(z: PerRow) -> Array:
        q = jnp.where(live, problem.margins(z), jnp.inf)
        least = jnp.min(q)
        return least - jnp.log(jnp.sum(jnp.exp(least - q)))

    def smoothed(z: PerRow, q: PerRow) -> Array:
        outside = size * point.orthogonal_norm
        return log_inverse(z) / numerics.norm(w0 + numerics.matmul(q, problem.rows), outside)

    before = log_inverse(z0)
    gamma = smoothed(z0, jnp.zeros_like(z0))
    rate = fraction * jnp.exp(before) / most**2

    def step(_: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        q, kept = carry
        z = z0 + numerics.matmul(q, k)
        kept = kept & (smoothed(z, q) >= gamma * (1 - 1e-12))
        weights = jnp.where(live, jnp.exp(-problem.margins(z)), 0.0)
        return q + rate * problem.coefficients(weights, problem.slopes(z)), kept

    q, kept = lax.fori_loop(0, TUNING_STEPS, step, (jnp.zeros_like(z0), jnp.asarray(True)))
    z = z0 + numerics.matmul(q, k)
    return Tuned(
        params=(w0 + numerics.matmul(q, problem.rows)) / size,
        preactivations=z / size,
        size=size,
        before=before,
        after=log_inverse(z),
        gain=fraction * gamma / most,
        kept=kept & (smoothed(z, q) >= gamma * (1 - 1e-12)) & (before > 0),
    )
