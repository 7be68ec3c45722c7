"""Four explicit certificates of (epsilon, delta, tau)-successful unlearning.

Each is a point theta_tilde with multipliers and a Clarke selection on the retained points T, and each recomputes its
epsilon and delta from its own theta_tilde and its tau = 1 - cos(theta_hat, theta_tilde) from their difference
(docs/theory, Four certificates). P is the orthogonal projection onto the span of the retained points.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gaunlearn_jax import kkt, unlearn
from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Code, Mask, Params, PerConstraint, PerEntry, PerRow, Scalar
from gaunlearn_jax.base.codes import Status
from gaunlearn_jax.base.show import Shown
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import KKTPoint


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class Certificate(Shown):
    """theta_tilde (params, preactivations, orthogonal_norm), its lambda and s, and what they prove.

    epsilon, delta, margin: measured on the retained points; tau = 1 - cos(theta_hat, theta_tilde); *_error: rounding
    errors of the three; norm = ||theta_tilde||; kind is static.
    """

    epsilon: Float[Array, ""]
    delta: Float[Array, ""]
    tau: Float[Array, ""]
    margin: Float[Array, ""]
    norm: Float[Array, ""]
    error: Float[Array, ""]
    delta_error: Float[Array, ""]
    tau_error: Float[Array, ""]
    params: Params
    preactivations: PerRow
    multipliers: PerConstraint
    selection: PerEntry
    orthogonal_norm: Float[Array, ""]
    status: Code
    kind: str = dataclasses.field(metadata={"static": True}, default="")


def projection(net: Any, data: Dataset, point: KKTPoint, forget: Mask, scale: Scalar = 1.0) -> Certificate:
    """theta_tilde = theta - c (I - P) h with lambda_T and the same s: Theorem P, no assumption on the data.

    What is removed is orthogonal to every retained point, so their pre-activations, kinks and margins stay as they
    are; the residual is e + P h for c = 1. Source: docs/theory, Theorem P.
    """
    forget = unlearn.check_forget(data, forget, scale)
    problem = net.problem(data)
    h, h_z = unlearn.ascent_direction(problem, point, forget)
    gone = problem.rows_of(forget)
    inside = numerics.project(h, numerics.orthonormal_basis(problem.rows, ~gone))
    outside = h - inside
    z_outside = jnp.where(gone, h_z - problem.preactivations(inside), 0.0)
    return _certify(
        "projection", net, data, point, forget, scale,
        params=point.params - scale * outside,
        z=point.preactivations - scale * z_outside,
        multipliers=point.multipliers,
        selection=point.selection,
        orthogonal=point.orthogonal_norm,
    )  # fmt: skip


def span(net: Any, data: Dataset, point: KKTPoint, forget: Mask, scale: Scalar = 1.0) -> Certificate:
    """theta_tilde = P theta with lambda_T and the same s: the network projected onto the retained points' span.

    epsilon = ||P (e + h)|| never exceeds the projection certificate's; tau is larger where e leaves the span.
    Source: docs/theory, Four certificates.
    """
    forget = unlearn.check_forget(data, forget, scale)
    problem = net.problem(data)
    gone = problem.rows_of(forget)
    inside = numerics.project(point.params, numerics.orthonormal_basis(problem.rows, ~gone))
    return _certify(
        "span", net, data, point, forget, scale,
        params=inside,
        z=jnp.where(gone, problem.preactivations(inside), point.preactivations),
        multipliers=point.multipliers,
        selection=point.selection,
        orthogonal=jnp.zeros(()),
    )  # fmt: skip


def scaling(
    net: Any,
    data: Dataset,
    point: KKTPoint,
    forget: Mask,
    scale: Scalar = 1.0,
    *,
    fit_multipliers: Callable[..., KKTPoint] = kkt.fit_multipliers,
) -> Certificate:
    """theta_tilde = theta_hat / (1 - c_bar), c_bar = max(0, 1 - min_T q_i(theta_hat)), so tau = 0.

    Models without kinks keep lambda_T / (1 - c_bar) (Theorem L). The step moves the kinks of others off zero, so
    there lambda and s are measured afresh; epsilon stays of the order of ||theta_hat||, and nothing is claimed.
    INFEASIBLE where some retained margin is not positive. `fit_multipliers` does the measuring.
    Source: docs/theory, Theorem L.
    """
    after = unlearn.gradient_ascent(net, data, point, forget, scale)
    problem = net.problem(data)
    q = problem.margins(after.preactivations)
    smallest = jnp.min(jnp.where(problem.constraints_of(forget), jnp.inf, q))
    shrink = jnp.where(smallest > 0, jnp.minimum(smallest, 1.0), 1.0) / numerics.outward()
    params, z = after.params / shrink, after.preactivations / shrink
    orthogonal = after.orthogonal_norm / shrink
    if not problem.kinked:
        multipliers, selection, status = point.multipliers / shrink, point.selection, point.status
    else:
        fit = fit_multipliers(net, data, params, z, orthogonal_norm=orthogonal, retained=~forget, rescale=False)
        multipliers, selection = fit.multipliers, fit.selection
        status = jnp.maximum(point.status, fit.status)
    return _certify(
        "scaling", net, data, point, forget, scale,
        params=params, z=z, multipliers=multipliers, selection=selection, orthogonal=orthogonal,
        on_ray=True,
        status=jnp.where(smallest > 0, status, Status.INFEASIBLE),
    )  # fmt: skip


def retrain(
    net: Any,
    data: Dataset,
    point: KKTPoint,
    forget: Mask,
    scale: Scalar = 1.0,
    *,
    retrained: KKTPoint | None = None,
) -> Certificate:
    """theta_tilde = theta*, an exact KKT point of the retained problem: epsilon = delta = 0 at rounding level.

    Reached from the programme Q_T (same-sign activations of theta) by the pattern loop; for linear models it is the
    hard-margin solution on T. `retrained` is theta* if it is known already.
    Source: docs/theory, Closeness to the retrained model.
    """
    forget = unlearn.check_forget(data, forget, scale)
    best = retrained
    if best is None:
        problem = net.problem(data)
        best = kkt.solve_pattern(problem, point.selection, problem.constraints_of(~forget), kkt.MAX_REPEATS)
    return _certify(
        "retrain", net, data, point, forget, scale,
        params=best.params, z=best.preactivations, multipliers=best.multipliers, selection=best.selection,
        orthogonal=jnp.zeros(()),
        status=jnp.maximum(point.status, best.status),
    )  # fmt: skip


ALL = {"scaling": scaling, "projection": projection, "span": span, "retrain": retrain}


def _certify(
    kind: str,
    net: Any,
    data: Dataset,
    point: KKTPoint,
    forget: Mask,
    scale: Scalar,
    *,
    params: Params,
    z: PerRow,
    multipliers: PerConstraint,
    selection: PerEntry,
    orthogonal: Array,
    on_ray: bool = False,
    status: Array | None = None,
) -> Certificate:
    """Measure theta_tilde against the step as `gradient_ascent` makes it; tau from their difference, or 0 where
    theta_tilde is a multiple of theta_hat by its making (`on_ray`: a compiler may round the same quotient twice)."""
    problem = net.problem(data)
    gone = problem.constraints_of(forget)
    lam = jnp.where(gone, 0.0, multipliers)
    got = kkt.measure(problem, params, z, lam, selection, ~gone, orthogonal)
    size = numerics.norm(params, orthogonal)
    # the norm outside the span is either shared by theta_hat (then no part of the difference) or dropped altogether
    after = unlearn.gradient_ascent(net, data, point, forget, scale)
    lost = jnp.where(orthogonal > 0, 0.0, after.orthogonal_norm)
    whole = jnp.concatenate([params.ravel(), jnp.atleast_1d(orthogonal)])
    moved = jnp.concatenate([(params - after.params).ravel(), jnp.atleast_1d(lost)])
    moved = jnp.zeros_like(moved) if on_ray else moved
    tau = numerics.one_minus_cos(whole, moved)
    slip = got.error / jnp.where(size > 0, size, 1.0)
    own = point.status if status is None else status
    return Certificate(
        epsilon=got.epsilon,
        delta=got.delta,
        tau=tau,
        margin=got.margin,
        norm=size,
        error=got.error,
        delta_error=got.delta_error,
        tau_error=jnp.where(jnp.any(moved != 0), 2 * jnp.sqrt(2 * tau) * slip + slip**2, 0.0),
        params=params,
        preactivations=z,
        multipliers=lam,
        selection=selection,
        orthogonal_norm=jnp.asarray(orthogonal),
        status=jnp.maximum(own, unlearn.step_status(point, forget, scale)),
        kind=kind,
    )
