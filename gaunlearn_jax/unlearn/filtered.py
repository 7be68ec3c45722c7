"""Ascent followed by a repair on the retained points: conjugate gradients, and what Newton's removal step is.

All of them are theta - h + f(K) P h with a filter f of the retained Gram matrix, f = 1 being the whole projection
(docs/theory, Filters).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import ConstraintMask, Mask, Params, Scalar
from gaunlearn_jax.base.staging import staged
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.unlearn.ridge import signed_rows
from gaunlearn_jax.unlearn.step import Unlearned, ascent_direction, gradient_ascent

#: passes that a repair makes at most
MOST_PASSES = 16
#: a squared residual below this share of the first one is rounding, and nothing more is repaired
REPAIRED = 1e-30


def repaired_ascent(net: Any, data: Dataset, point: KKTPoint, forget: Mask, passes: Scalar = 5.0) -> Unlearned:
    """Ascent, then `passes` steps of conjugate gradients on 1/2 sum_T (<w_j, x_i> - z_ji)^2, z those of theta.

    Each step is one pass over the retained points, each neuron has its own step sizes. The outcome lies in the ball
    with diameter [theta - h, theta - (I - P) h]. At most MOST_PASSES. Source: docs/theory, Filters.
    """
    ascent = gradient_ascent(net, data, point, forget)
    problem = net.problem(data)
    kept = problem.rows_of(~forget)
    h, _ = ascent_direction(problem, point, forget)
    rows = jnp.where(kept[:, None], problem.rows, 0.0)
    back = _conjugate_gradients(rows, numerics.matmul(h, rows.T), passes)
    z = ascent.preactivations + problem.preactivations(back)
    return dataclasses.replace(ascent, params=ascent.params + back, preactivations=z)


@staged
def _conjugate_gradients(rows: Array, target: Array, passes: Scalar) -> Params:
    """The minimiser of 1/2 |W rows^T - target|^2 after some steps from 0, every row of W on its own.

    Each gradient is made orthogonal to those before it: a large eigenvalue that has converged would come back from
    rounding, many times larger at every step.
    """

    def dot(a: Array, b: Array) -> Array:
        return jnp.sum(a * b, axis=-1, keepdims=True)

    first = numerics.matmul(target, rows)
    start = dot(first, first)

    def step(i: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        w, missing, direction, size, pull, before = carry
        before = before.at[i].set(pull / jnp.sqrt(jnp.where(size > 0, size, 1.0)))
        seen = numerics.matmul(direction, rows.T)
        curvature = dot(seen, seen)
        going = (i < passes) & (size > REPAIRED * start) & (curvature > 0)
        t = jnp.where(going, size / jnp.where(curvature > 0, curvature, 1.0), 0.0)
        w, missing = w + t * direction, missing - t * seen
        pull = numerics.matmul(missing, rows)
        for _ in range(2):
            pull = pull - jnp.sum(dot(before, pull) * before, axis=0)
        new = dot(pull, pull)
        turned = pull + new / jnp.where(size > 0, size, 1.0) * direction
        return w, missing, jnp.where(going, turned, direction), jnp.where(going, new, 0.0), pull, before

    carry = (jnp.zeros_like(first), target, first, start, first, jnp.zeros((MOST_PASSES, *first.shape)))
    return lax.fori_loop(0, MOST_PASSES, step, carry)[0]


def newton_removal(net: Any, data: Dataset, point: KKTPoint, forget: Mask, size: Scalar = 100.0) -> Unlearned:
    """Newton's removal step with the Hessian of the retained points, for a linear model of smallest margin `size`.

    theta - h + V^T (V V^T + diag(1 / (size lambda_i)))^-1 V h over the retained points, V = (y_i x_i): for the
    minimiser of sum_i exp(-q_i) + mu/2 ||w||^2 with w = size theta this is w - (H_T)^-1 grad, divided by size.
    ValueError for a model with kinks. Source: docs/theory, Newton and influence.
    """
    return _ridge(net, data, point, forget, size, everything=False)


def influence_step(net: Any, data: Dataset, point: KKTPoint, forget: Mask, size: Scalar = 100.0) -> Unlearned:
    """The influence-function step: `newton_removal` with the Hessian of all points.

    For one forgotten constraint it is a fraction of that step, for more no multiple. ValueError for a model with kinks.
    Source: docs/theory, Newton and influence.
    """
    return _ridge(net, data, point, forget, size, everything=True)


def _ridge(net: Any, data: Dataset, point: KKTPoint, forget: Mask, size: Scalar, *, everything: bool) -> Unlearned:
    ascent = gradient_ascent(net, data, point, forget)
    problem = net.problem(data)
    if problem.kinked:
        raise ValueError(
            "the Newton and influence steps need a linear model, and this one has kinks; take another step"
        )
    h, _ = ascent_direction(problem, point, forget)
    used = problem.constraints_of(jnp.ones_like(forget) if everything else ~forget)
    back = _ridge_filtered(problem, point, used, h, size)
    z = ascent.preactivations + problem.preactivations(back)
    return dataclasses.replace(ascent, params=ascent.params + back, preactivations=z)


def _ridge_filtered(problem: MarginProblem, point: KKTPoint, used: ConstraintMask, h: Params, size: Scalar) -> Params:
    """V^T (V V^T + diag(1 / (size lambda)))^-1 V h over the used constraints, as D (I + D G D)^-1 D with D^2 =
    size lambda, which a multiplier of 0 leaves defined."""
    v = signed_rows(problem)
    weight = jnp.sqrt(size * jnp.where(used, point.multipliers, 0.0))
    v = weight[:, None] * v
    matrix = jnp.eye(problem.num_constraints) + numerics.gram(v)
    goal = numerics.matmul(v, h.ravel())
    inverse = -numerics.sweep(matrix, jnp.ones(problem.num_constraints, bool))
    found = numerics.matmul(inverse, goal)
    for _ in range(2):
        found = found + numerics.matmul(inverse, goal - numerics.matmul(matrix, found))
    return numerics.matmul(found, v).reshape(h.shape)
