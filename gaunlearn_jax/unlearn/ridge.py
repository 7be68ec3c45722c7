"""The ridge minimiser of a linear model's exponential loss, and Newton's removal step from it.

Source: docs/theory, Newton and influence.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import ConstraintMask, Params, PerConstraint, Scalar
from gaunlearn_jax.base.staging import staged
from gaunlearn_jax.models.problem import MarginProblem

#: Newton steps of the solve, and the largest change of log(lambda) in one
ROUNDS, LONGEST = 60, 2.0
#: the residual of log(mu lambda) = -q at which it is solved
SOLVED = 1e-10


class Ridge(NamedTuple):
    """argmin of sum exp(-q_i) + mu/2 ||w||^2 over some constraints: w = sum lambda_i v_i with mu lambda_i = exp(-q_i);
    an upper bound on the condition of its Hessian over mu, and whether the equations are met."""

    params: Params
    multipliers: PerConstraint
    condition: Float[Array, ""]
    converged: Bool[Array, ""]


def signed_rows(problem: MarginProblem) -> Float[Array, "a q"]:
    """v_i = y_i x_i, flat, of a model without kinks."""
    return problem.gradients(jnp.ones_like(problem.amplitudes)).reshape(problem.num_constraints, -1)


@staged
def minimiser(problem: MarginProblem, used: ConstraintMask, mu: Scalar) -> Ridge:
    """By Newton's method on log lambda_i + (G lambda)_i + log mu = 0, whose matrix is I + D G D up to scaling."""
    v = signed_rows(problem)
    k = numerics.gram(v)
    everywhere = jnp.ones(problem.num_constraints, bool)

    def misfit(log_lam: Array) -> Array:
        lam = jnp.where(used, jnp.exp(log_lam), 0.0)
        return jnp.where(used, log_lam + numerics.matmul(k, lam) + jnp.log(mu), 0.0)

    def step(_: Any, log_lam: Array) -> Array:
        d = jnp.where(used, jnp.exp(0.5 * log_lam), 0.0)
        matrix = jnp.eye(len(d)) + d[:, None] * k * d
        change = -numerics.matmul(-numerics.sweep(matrix, everywhere), d * misfit(log_lam))
        return log_lam + jnp.clip(change / jnp.where(used, d, 1.0), -LONGEST, LONGEST)

    size = jnp.maximum(jnp.diagonal(k), 1e-300)
    log_lam = lax.fori_loop(0, ROUNDS, step, jnp.log(jnp.maximum(-jnp.log(mu), 1.0) / size))
    lam = jnp.where(used, jnp.exp(log_lam), 0.0)
    w = numerics.matmul(lam, v).reshape(problem.num_neurons, -1)
    condition = 1 + jnp.sum(lam * size)
    return Ridge(w, lam, condition, jnp.max(jnp.abs(misfit(log_lam))) < SOLVED)


def newton_step(problem: MarginProblem, whole: Ridge, retained: ConstraintMask, mu: float) -> Params:
    """w - H^-1 g with gradient and Hessian of sum_T exp(-q_i) + mu/2 ||w||^2 at the minimiser for all points."""
    v, w = signed_rows(problem), whole.params.ravel()
    slope = jnp.where(retained, jnp.exp(-numerics.matmul(v, w)), 0.0)
    gradient = w - numerics.matmul(slope, v) / mu
    hessian = jnp.eye(len(w)) + numerics.matmul(v.T * slope, v) / mu
    everywhere = jnp.ones(len(w), bool)
    inverse = -numerics.sweep(0.5 * (hessian + hessian.T), everywhere)
    found = numerics.matmul(inverse, gradient)
    for _ in range(2):
        found = found + numerics.matmul(inverse, gradient - numerics.matmul(hessian, found))
    return (w - found).reshape(whole.params.shape)
