"""Lemma M: the multipliers of a KKT point lie between two bounds made from the assumption on the data alone."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Numbers, PerConstraint, Scalar
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models.problem import MarginProblem

#: a sum of p products has p + EXTRA roundings, per unit of the largest ||x_i||^2
EXTRA = 8


def multiplier_bounds(psi: Numbers, phi: Numbers, epsilon: Numbers, delta: Numbers, *, m: int) -> tuple[Any, Any, Any]:
    """Lemma M: (lower, upper, defined) for beta_i = lambda_i sum_j u_j^2 s_ji (linear: lambda_i).

    upper = (B + sqrt(B^2 + 4 A delta_1)) / (2 A), A = 1 - psi - (m-1) phi > 0, B = 1 + epsilon_1 sqrt(1 - psi);
    lower = (1 - (m-1) phi upper - epsilon_1 sqrt(1 + psi)) / (1 + psi). Source: docs/theory, Lemma M.

    >>> lower, upper, defined = multiplier_bounds(0.0, 0.01, 0.0, 0.0, m=10)
    >>> print(f"{lower:.4f} {upper:.4f} {defined}")
    0.9011 1.0989 True
    """
    xp = numerics.array_namespace(psi, phi, epsilon, delta)
    psi, phi, epsilon = xp.asarray(psi), xp.asarray(phi), xp.asarray(epsilon)
    a = 1.0 - psi - (m - 1) * phi
    defined = a > 0
    safe = xp.where(defined, a, 1.0)
    b = 1.0 + epsilon * xp.sqrt(xp.maximum(1.0 - psi, 0.0))
    upper = (b + xp.sqrt(b**2 + 4 * safe * delta)) / (2 * safe)
    lower = (1.0 - (m - 1) * phi * upper - epsilon * xp.sqrt(1.0 + psi)) / (1.0 + psi)
    return lower, upper, defined


def betas(problem: MarginProblem, point: KKTPoint) -> PerConstraint:
    """beta_a = lambda_a sum_e sum_j v_je^2 s_je [a]; lambda_i sum_j u_j^2 s_ji for one output. Source: Lemma M."""
    return point.multipliers * problem.by_constraint(jnp.sum(problem.amplitudes**2 * point.selection, axis=0))


def gram_rounding(problem: MarginProblem) -> Float[Array, ""]:
    """The rounding of an entry of the Gram matrix, and so of psi and phi."""
    largest = jnp.max(jnp.sum(problem.rows**2, axis=1))
    return (problem.rows.shape[1] + EXTRA) * numerics.unit() * largest


def margin_gap(
    problem: MarginProblem, point: KKTPoint, phi: Array, epsilon: Array
) -> tuple[PerConstraint, PerConstraint, PerConstraint]:
    """(lhs, rhs, error) of inequality (1), |q_i - beta_i ||x_i||^2| <= phi sum_{k != i} beta_k + epsilon_1 ||x_i||."""
    beta, squares = betas(problem, point), jnp.sum(problem.rows**2, axis=1)
    lhs = jnp.abs(problem.margins(point.preactivations) - beta * squares)
    rhs = phi * (jnp.sum(beta) - beta) + epsilon * jnp.sqrt(squares)
    # q comes from stored pre-activations, the residual from params: they agree within the rounding of one product
    size = numerics.matmul(jnp.abs(point.params), jnp.abs(problem.rows.T))
    magnitude = problem.output_spread(size) + beta * squares
    terms = problem.num_terms + problem.rows.shape[1] + 2 * EXTRA
    error = 4 * terms * numerics.unit() * magnitude
    return lhs, rhs + 2 * error, error


def prior_bounds(smallest: Scalar, largest: Scalar, phi: Scalar, *, m: int) -> tuple[Array, Array, Array]:
    """(lower, upper, p) for lambda_i at an exact KKT point of a linear model, from the smallest and largest ||x_i||^2.

    With R^2 = largest/smallest and p = smallest/(R^2 m phi) >= 3:
    (1 - 1/(p R^2 - 1))/largest <= lambda_i <= 1/(smallest (1 - 1/(p R^2))). Source: docs/theory, Claims, Multipliers
    (Frei, Vardi, Bartlett and Srebro 2023).
    """
    ratio = jnp.asarray(largest) / smallest
    p = smallest / (ratio * m * phi)
    return (1 - 1 / (p * ratio - 1)) / largest, 1 / (smallest * (1 - 1 / (p * ratio))), p
