"""Theorem F: the worst-case bound of the projection certificate from cosines and norms, with no assumption on norms.

Source: docs/theory, Theorem F.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Mask, Scalar
from gaunlearn_jax.base.codes import Reason
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.theory.bound import Bound, bound_of, first_failing


def largest_cosine(points: Float[Array, "m p"]) -> Float[Array, ""]:
    """phi_c = max_{i != j} |cos(x_i, x_j)|, rounded up."""
    unit = points / jnp.sqrt(jnp.sum(points**2, axis=1, keepdims=True))
    cosines = jnp.where(jnp.eye(points.shape[0], dtype=bool), 0.0, jnp.abs(numerics.gram(unit)))
    return jnp.max(cosines) + (points.shape[1] + 4) * numerics.unit()


def scale_free(problem: MarginProblem, forget: Mask, epsilon: Scalar, delta: Scalar) -> Bound:
    """Theorem F: epsilon_1 + rho, delta_1, 1 - sqrt(1 - (rho/B)^2) for the whole step, from r_i = ||x_i|| and phi_c.

    A = 1 - (m-1) phi_c > 0, E = epsilon_1 + sqrt((1 + phi_c) delta_1), S = (sum_i 1/r_i + m E)/A, N = 1/min |u_j|:
    rho = phi_c sqrt(M / (1 - (M-1) phi_c)) N sum_R (1/r_r + phi_c S + E)/(1 + phi_c), B^2 = sum_T r_i^-2 / (1 + (M-1)
    phi_c). Linear and two-layer ReLU models (sum u_j^2 <= 1); reason MODEL for others. Source: docs/theory, Theorem F.
    """
    if problem.layout is not None or (problem.kinked and problem.slope != 0):
        nothing = jnp.asarray(jnp.inf)
        return bound_of(nothing, nothing, nothing, jnp.asarray(int(Reason.MODEL)))
    m, kept = problem.num_rows, jnp.sum(~forget)
    inverse = 1.0 / jnp.sqrt(jnp.sum(problem.rows**2, axis=1))
    phi = largest_cosine(problem.rows)
    room, inner = 1 - (m - 1) * phi, 1 - (kept - 1) * phi
    noise = jnp.asarray(epsilon) + jnp.sqrt((1 + phi) * delta)
    total = (jnp.sum(inverse) + m * noise) / jnp.where(room > 0, room, 1.0)
    gain = 1.0 / jnp.min(jnp.abs(problem.amplitudes))
    forgotten = jnp.sum(jnp.where(forget, inverse + phi * total + noise, 0.0)) / (1 + phi)
    rho = phi * jnp.sqrt(kept / jnp.where(inner > 0, inner, 1.0)) * gain * forgotten
    smallest = jnp.sqrt(jnp.sum(jnp.where(forget, 0.0, inverse**2)) / (1 + (kept - 1) * phi))
    tau: Any = numerics.one_minus_cos_of_sine(rho / smallest)
    return bound_of(epsilon + rho, delta, tau, first_failing((room > 0, Reason.UNDEFINED)))
