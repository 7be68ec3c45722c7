"""Activation consistency: how far the ascent step can move a pre-activation of a retained point.

Source: docs/theory, Activation consistency.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Mask, PerRow
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models.problem import MarginProblem

#: roundings of one entry beyond the length of its sum
EXTRA = 8


def shift_bound(problem: MarginProblem, point: KKTPoint, forget: Mask, phi: Array | float) -> Float[Array, "n 1"]:
    """phi sum_{a of R} sum_e |v_je| lambda_a |s_je| [n, 1]: no pre-activation of a retained point moves further.

    For one output: |u_j| phi sum_{r in R} lambda_r s_jr, from <w_j - h_j, x_i> - z_ji = -sum_r v_jr lambda_r s_jr K_ri.
    """
    lam = jnp.where(problem.constraints_of(forget), point.multipliers, 0.0)
    moved = jnp.sum(jnp.abs(problem.amplitudes) * problem.of_entries(lam) * jnp.abs(point.selection), axis=1)
    return phi * moved[:, None]


def phi_room(problem: MarginProblem, phi: Array) -> Float[Array, ""]:
    """The rounding of phi and of an entry of the Gram matrix."""
    gram_error = (problem.rows.shape[1] + EXTRA) * numerics.unit() * jnp.max(jnp.sum(problem.rows**2, axis=1))
    return gram_error + (problem.num_rows + EXTRA) * numerics.unit() * phi


def nearest_shift(
    problem: MarginProblem, point: KKTPoint, forget: Mask, shift: PerRow, phi: Array
) -> tuple[Array, Array, Array]:
    """(lhs, rhs, error) of the pair whose |shift| [n, r] is nearest to its bound.

    phi enters outward (with one forgotten point the pair that attains it gives equality); errors are below that.
    """
    shift = jnp.abs(shift)
    slack, per_phi = phi_room(problem, phi), jnp.broadcast_to(shift_bound(problem, point, forget, 1.0), shift.shape)
    moved = ~problem.rows_of(forget) & (per_phi > 0)
    at = jnp.argmax(jnp.where(moved, shift / jnp.where(per_phi > 0, per_phi, 1.0), -1.0))
    lhs, unit = jnp.ravel(shift)[at], jnp.ravel(per_phi)[at]
    return lhs, unit * (phi + 4 * slack), 2 * slack * unit
