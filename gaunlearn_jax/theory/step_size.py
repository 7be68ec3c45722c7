"""The fraction c of the theorem's step that is taken: epsilon is a V in c, bounded from above and from below.

Source: docs/theory, Step size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Mask, Params, Scalar
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import KKTPoint, residual
from gaunlearn_jax.theory.instance_bounds import outward
from gaunlearn_jax.unlearn import ascent_direction
from gaunlearn_jax.unlearn.certificates import projection


class Fraction(NamedTuple):
    """One fraction c: the projection certificate, its formulas, and the floor under every certificate."""

    epsilon: Float[Array, "..."]
    error: Float[Array, "..."]
    formula: Float[Array, "..."]
    upper: Float[Array, "..."]
    tau: Float[Array, "..."]
    tau_bound: Float[Array, "..."]
    tau_error: Float[Array, "..."]
    lower: Float[Array, "..."]
    lower_exact: Float[Array, "..."]
    lower_error: Float[Array, "..."]


def epsilon_formula(inside: Params, outside: Params, rest: Params, orthogonal: Scalar, c: Any) -> Array:
    """|| e + P h + (1 - c) (I - P) h ||. Source: docs/theory, Step size (a)."""
    return numerics.norm(rest + inside + (1 - c) * outside, orthogonal)


def epsilon_floor(floor: Array, alpha: Array, angle: Any) -> Array:
    """B_T sin max(0, alpha_c - angle): no certificate within `angle` of theta_hat_c has a smaller epsilon.
    Source: docs/theory, Step size (b)."""
    return floor * jnp.sin(jnp.maximum(0.0, alpha - angle))


def best_fraction(rest: Params, outside: Params) -> Array:
    """1 + <e, (I - P) h> / ||(I - P) h||^2. Source: docs/theory, Step size (a)."""
    square = jnp.sum(outside**2)
    return 1 + jnp.sum(rest * outside) / jnp.where(square > 0, square, 1.0)


def along(
    net: Any, data: Dataset, point: KKTPoint, forget: Mask, fractions: Float[Array, "c"], floor: Array
) -> tuple[Fraction, Array, Array]:
    """(each fraction and, last, the best one; the best fraction; rho), `floor` a lower bound B_T on the norm of every
    feasible point for the retained data."""
    problem = net.problem(data)
    basis = numerics.orthonormal_basis(problem.rows, problem.rows_of(~forget))
    h, _ = ascent_direction(problem, point, forget)
    inside = numerics.project(h, basis)
    outside, rest, orthogonal = h - inside, residual(problem, point), point.orthogonal_norm
    rho, rho_perp = numerics.norm(inside), numerics.norm(outside)
    best = best_fraction(rest, outside)

    def at(c: Array) -> Fraction:
        got = projection(net, data, point, forget, c)
        hat = point.params - c * h
        within = numerics.project(hat, basis)
        size = numerics.norm(hat, orthogonal)
        alpha = jnp.arctan2(numerics.norm(hat - within, orthogonal), numerics.norm(within))
        slip = 4 * (got.error + point.error) / size
        angle = numerics.angle_of_gap(got.tau)
        first, _ = outward(point, got)
        return Fraction(
            epsilon=got.epsilon,
            error=2 * (got.error + point.error),
            formula=epsilon_formula(inside, outside, rest, orthogonal, c),
            upper=first + rho + jnp.abs(1 - c) * rho_perp,
            tau=got.tau,
            tau_bound=numerics.one_minus_cos_of_sine((c * rho + 4 * got.error) / got.norm),
            tau_error=got.tau_error,
            # the floor falls with the angle, which may be raised by its rounding
            lower=epsilon_floor(floor, alpha, angle + 2 * slip),
            lower_exact=epsilon_floor(floor, alpha, 2 * slip),
            lower_error=floor * slip,
        )

    return jax.vmap(at)(jnp.append(fractions, jnp.maximum(best, 0.0))), best, rho
