"""Bounds made from one instance's own Gram matrix and multipliers, and the floors under every KKT point."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Mask, Scalar
from gaunlearn_jax.base.codes import Reason
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.theory import leaky
from gaunlearn_jax.theory.bound import Bound, bound_of, first_failing
from gaunlearn_jax.theory.worst_case import leakage_bound
from gaunlearn_jax.unlearn import ascent_direction
from gaunlearn_jax.unlearn.certificates import Certificate


def instance(
    net: Any,
    data: Dataset,
    point: KKTPoint,
    forget: Mask,
    certificate: Certificate,
    scale: Scalar = 1.0,
) -> Bound:
    """The bound of the certificate's own theorem from this instance's quantities.

    projection (Theorem P): ||e|| + rho + |1-c| rho_perp, delta_1, angle from c rho / ||theta_tilde||.
    span: ||e|| + rho, delta_1, angle from sqrt(rho^2 + ||(I-P)e||^2) (c = 1).
    scaling (without kinks, Theorem L): leakage max_T |sum_R lambda_r y_r K_ri|. With kinks, and for
    `certificates.retrain`: nothing is promised here (reason MODEL). epsilon_1, delta_1 enter as `outward` values.
    Source: docs/theory, Theorem P and Theorem L.
    """
    epsilon, delta = outward(point, certificate)
    problem = net.problem(data)
    if certificate.kind == "scaling" and not problem.kinked and problem.layout is None:
        _, h_z = ascent_direction(problem, point, forget)
        leakage = scale * jnp.max(jnp.where(forget, 0.0, jnp.abs(jnp.sum(problem.amplitudes * h_z, axis=0))))
        top = jnp.max(jnp.where(forget, 0.0, point.multipliers))
        return leakage_bound(leakage, top, epsilon, delta)
    if certificate.kind not in ("projection", "span"):
        nothing = jnp.asarray(jnp.inf)
        return bound_of(nothing, nothing, nothing, jnp.asarray(int(Reason.MODEL)))
    h, _ = ascent_direction(problem, point, forget)
    inside = numerics.project(h, numerics.orthonormal_basis(problem.rows, problem.rows_of(~forget)))
    rho, rho_perp = numerics.norm(inside), numerics.norm(h - inside)
    off = abs(1 - jnp.asarray(scale)) * rho_perp
    sine = scale * rho
    if certificate.kind == "span":
        sine = jnp.sqrt(rho**2 + jnp.asarray(epsilon) ** 2) + off
        off = jnp.zeros(())
    # both sides are equal in exact arithmetic: the sine, too, enters with room for the rounding of tau
    tau = numerics.one_minus_cos_of_sine((sine + 4 * certificate.error) / certificate.norm)
    return bound_of(epsilon + rho + off, delta, tau, first_failing((tau < 2, Reason.UNDEFINED)))


def outward(point: KKTPoint, certificate: Certificate) -> tuple[Array, Array]:
    """(epsilon_1, delta_1) with a margin of twice the rounding of both sides. Being an approximate KKT point is
    monotone in both, so a bound may use them; several bounds are equalities in exact arithmetic."""
    return (
        point.epsilon + 2 * (point.error + certificate.error),
        point.delta + 2 * (point.delta_error + certificate.delta_error),
    )


@jax.jit
def norm_floor(net: Any, data: Dataset, forget: Mask, retrained: Any = None) -> Array:
    """A lower bound on ||theta'|| over all theta' that are feasible for the retained points.

    Norm lemma: ||theta'||^2 >= sum over groups of (sum_i max_a 1/c_a) / lambda_max(sum of x x^T over their rows), c_a =
    sum over the entries of a of max(v, 0)^2 + slope^2 max(-v, 0)^2, where neurons that help one group help no other
    (slope 0; else all is one group). ReLU: sum_+- M_+- / (U_+- lambda_max(K_T+-)). Without kinks, and where Theorem LK
    knows all activations of the solution: the dual value of the multipliers of `retrained`, which is exact.
    Source: docs/theory, Norm lemma; Leaky networks.
    """
    problem = net.problem(data)
    live = problem.constraints_of(~forget)
    if not problem.kinked and retrained is not None:
        return jnp.sqrt(_dual_value(problem, live, retrained.multipliers, jnp.ones_like(problem.amplitudes)))
    total = _norm_lemma(problem, live)
    if leaky.has_theorem(problem) and retrained is not None:
        selection = leaky.pattern_selection(problem.amplitudes, problem.slope)
        exact = _dual_value(problem, live, retrained.multipliers, selection)
        total = jnp.where(leaky.measured(problem).chi < 1, jnp.maximum(exact, total), total)
    return jnp.sqrt(total)


def _dual_value(problem: MarginProblem, live: Array, multipliers: Array, selection: Array) -> Array:
    """2 sum lambda - ||sum lambda_a g_a||^2 for the g_a of a selection."""
    lam = jnp.where(live, multipliers, 0.0)
    w = numerics.matmul(problem.coefficients(lam, selection), problem.rows)
    return jnp.maximum(2 * jnp.sum(lam) - jnp.sum(w**2), 0.0)


def _norm_lemma(problem: MarginProblem, live: Array) -> Array:
    """The square that the norm lemma promises."""
    v, k = problem.amplitudes, problem.gram()
    helping = problem.by_constraint(jnp.sum(jnp.where(v > 0, v, problem.slope * v) ** 2, axis=0))
    share = jnp.where(live & (helping > 0), 1.0 / jnp.where(helping > 0, helping, 1.0), 0.0)
    total = jnp.zeros(())
    for group in range(problem.num_groups if problem.slope == 0 else 1):
        mine = live & (problem.groups == group) if problem.slope == 0 else live
        rows = problem.by_row(jnp.where(problem.of_entries(mine), 1.0, 0.0)) > 0
        top = numerics.top_eigenvalue(jnp.where(rows[:, None] & rows, k, 0.0))
        total = total + jnp.sum(problem.most_of_points(jnp.where(mine, share, 0.0))) / jnp.where(top > 0, top, 1.0)
    return total


@jax.jit
def identity_gap(net: Any, data: Dataset, point: KKTPoint, forget: Mask, epsilon: Scalar, floor: Array) -> Array:
    """Lower bound on 1 - cos(theta, theta') over every (epsilon, .)-KKT point theta' of the retained problem.

    angle >= alpha - arcsin(min(1, epsilon / floor)), alpha the angle between theta and the retained points' span. A
    bound (epsilon, delta, tau) with tau below it discriminates: doing nothing provably fails it.
    Source: docs/theory, Identity separation.
    """
    problem = net.problem(data)
    inside = numerics.project(point.params, numerics.orthonormal_basis(problem.rows, problem.rows_of(~forget)))
    off = numerics.norm(point.params - inside, point.orthogonal_norm)
    alpha = jnp.arcsin(jnp.clip(off / numerics.norm(point.params, point.orthogonal_norm), 0.0, 1.0))
    angle = jnp.maximum(0.0, alpha - jnp.arcsin(jnp.clip(epsilon / floor, 0.0, 1.0)))
    return numerics.gap_of_angle(angle)
