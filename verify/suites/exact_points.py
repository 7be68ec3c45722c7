"""What the solver may leave in epsilon and delta of a point that it calls exact."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Mask
from gaunlearn_jax.kkt import dual
from gaunlearn_jax.models.problem import MarginProblem


def left_by_solver(problem: MarginProblem, retained: Mask, best: Any, size: Array) -> tuple[Array, Array]:
    """What epsilon and delta of an exact KKT point of the retained problem, of norm `size`, may be: `best` has its
    multipliers and the rounding errors of both.

    The solver may leave `dual.ACCEPT` in units of the terms that theta is a sum of."""
    terms = size + jnp.sum(best.multipliers * problem.steepness())
    epsilon = gain(problem, retained) * dual.ACCEPT * terms + 4 * best.error
    return epsilon, dual.ACCEPT * terms * jnp.max(best.multipliers) + 4 * best.delta_error


def gain(problem: MarginProblem, retained: Mask) -> Array:
    """How far weights follow a pre-activation of each retained row, taken at unit length: the pseudo-inverse of the
    rows has norm at most sqrt(tr K^-1)."""
    kept = problem.rows_of(retained)
    size = jnp.sqrt(jnp.sum(problem.rows**2, axis=1))
    unit = problem.rows / jnp.where(size > 0, size, 1.0)[:, None]
    inverse = -jnp.diagonal(numerics.sweep(jnp.where(kept[:, None] & kept, numerics.gram(unit), 0.0), kept))
    return jnp.sqrt(jnp.sum(jnp.where(kept, jnp.maximum(inverse, 1.0), 0.0)))
