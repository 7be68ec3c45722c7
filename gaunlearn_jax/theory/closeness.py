"""Closeness to the retrained model: the first solve of Q_T, and how far the step can be from it.

Source: docs/theory, Closeness to the retrained model.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gaunlearn_jax import kkt
from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Code, Mask, Params, PerConstraint
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.theory.ball import Ball as Ball
from gaunlearn_jax.theory.ball import ball as ball
from gaunlearn_jax.theory.ball import certified_ball as certified_ball
from gaunlearn_jax.unlearn.certificates import Certificate


class FirstSolve(NamedTuple):
    """theta* of the first solve of Q_T, with its multipliers, as a candidate KKT point of the retained problem, and
    whether it is one;
    tau = 1 - cos of the angle to theta_hat; distance_error bounds the solver's own distance from the solution."""

    params: Params
    multipliers: PerConstraint
    tau: Float[Array, ""]
    epsilon: Float[Array, ""]
    delta: Float[Array, ""]
    error: Float[Array, ""]
    delta_error: Float[Array, ""]
    distance_error: Float[Array, ""]
    status: Code
    is_kkt: Bool[Array, ""]


def programme_point(problem: MarginProblem, point: KKTPoint, forget: Mask) -> KKTPoint:
    """The solution of Q_T, with the selection of theta on fixed pairs."""
    return kkt.solve_pattern(problem, point.selection, problem.constraints_of(~forget), 0)


def first_solve(problem: MarginProblem, point: KKTPoint, forget: Mask, hat: Params, solved: Any = None) -> FirstSolve:
    """Solve Q_T once, before any change of pattern, and compare with theta_hat = `hat`.

    A model without kinks has one pattern: its solution may be given as `solved`, which holds params, preactivations,
    multipliers, selection, epsilon, delta, their errors and status. distance_error is first-order sensitivity: residual
    and misfit of the active constraints F_a = 1, times sqrt(n) for the least gradient norm. is_kkt is the sufficient
    condition of docs/theory.
    """
    p: Any = programme_point(problem, point, forget) if solved is None else solved
    free, live = problem.free, problem.of_entries(problem.constraints_of(~forget))
    s, z = point.selection, problem.at_entries(p.preactivations)
    in_clarke = jnp.where(s == 1, z >= 0, jnp.where(s == problem.slope, z <= 0, z == 0))
    q = problem.coefficients(p.multipliers, jnp.where(free, p.selection, s))
    residual = numerics.norm(p.params - numerics.matmul(q, problem.rows))
    v = problem.amplitudes
    concave = problem.by_constraint(jnp.sum(v * jnp.where(free, jnp.maximum(z, problem.slope * z), s * z), axis=0))
    misfit = jnp.max(jnp.where(p.multipliers > 0, jnp.abs(concave - 1), 0.0))
    gain = jnp.sqrt(float(problem.num_neurons))
    whole, other = jnp.append(p.params.ravel(), 0.0), jnp.append(hat.ravel(), point.orthogonal_norm)
    return FirstSolve(
        p.params, p.multipliers, numerics.one_minus_cos(whole, whole - other),
        p.epsilon, p.delta, p.error, p.delta_error,
        distance_error=gain * (residual + jnp.sqrt(float(problem.num_constraints)) * misfit) + p.error,
        status=p.status,
        is_kkt=jnp.all(in_clarke | free | ~live) | (not problem.kinked),
    )  # fmt: skip


def distance_bound(problem: MarginProblem, near: Certificate, forget: Mask) -> Float[Array, ""]:
    """(eps~ + sqrt(eps~^2 + 4 Sigma)) / 2 with eps~ = ||e + P h||, Sigma = sum_T lambda_a (q_a - 1), of the projection
    certificate `near`.

    Both enter with a margin for rounding; the factor OUTWARD of theta and lambda is taken out of Sigma first, since
    the bound grows with its root.
    """
    z, lam = near.preactivations / numerics.outward(), near.multipliers / numerics.outward()
    excess = problem.margins(z) - 1.0
    terms = problem.num_terms + 4
    excess = jnp.maximum(excess, 0.0) + terms * numerics.unit() / 2 * problem.output_spread(z)
    slack = jnp.sum(jnp.where(problem.constraints_of(forget), 0.0, lam * excess))
    epsilon = near.epsilon + 2 * near.error
    return 0.5 * (epsilon + jnp.sqrt(epsilon**2 + 4 * slack))


def angle_bound(near: Certificate, hat: Params, most: Array) -> tuple[Array, tuple[Array, Array]]:
    """1 - cos(arcsin(rho/N) + arcsin(D/N)) and both sines: rho the distance of theta_hat from theta_tilde, N =
    ||theta_tilde||, D <= most that of theta*."""
    sines = (numerics.norm(near.params - hat) + 2 * near.error) / near.norm, most / near.norm
    angle = sum(jnp.arcsin(jnp.minimum(sine, 1.0)) for sine in sines)
    return numerics.gap_of_angle(angle), sines
