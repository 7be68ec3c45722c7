"""Can the multipliers, and so the step, be had from the forgotten point alone?"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gaunlearn_jax import bounds, certificates, estimators, models, numerics
from gaunlearn_jax._types import Reason
from gaunlearn_jax.certificates import Certificate
from verify.check import check, worst
from verify.plots import band, per_dim
from verify.suite import Evaluation, Results, Suite, unless

#: lambda_r from the forgotten point, the loss derivative, the fit to the trained theta; and the first without kinks
ESTIMATES = ("estimate", "loss", "fit", "without_kinks")


def with_multipliers(e: Evaluation, estimate: Array) -> Certificate:
    """The projection certificate theta - (I - P) h', h' the step made with these multipliers of the forgotten points;
    the retained points keep theirs, so its epsilon is measured for the true problem on T."""
    lam = jnp.where(e.forget, estimate, e.point.multipliers)
    changed = dataclasses.replace(e.point, multipliers=lam)
    return certificates.projection(e.net, e.record.data, changed, e.forget)


class Split(NamedTuple):
    """The gradients of the forgotten points and e + h, each split by the span of the retained points."""

    basis: Array
    inside: Array
    outside: Array
    rho: Array


def split(e: Evaluation) -> Split:
    """P (e + h) and (I - P) e with the basis of the span, and rho = ||P h||."""
    data, p = e.record.data, e.point
    basis = numerics.orthonormal_basis(data.points, ~e.forget)
    made = models.coefficients(e.net, data.labels, p.multipliers, p.selection)
    rest = p.params - numerics.matmul(made, data.points)
    h = numerics.project(numerics.matmul(jnp.where(e.forget, made, 0.0), data.points), basis)
    within = numerics.project(rest, basis)
    return Split(basis, within + h, rest - within, numerics.norm(h))


def formula(e: Evaluation, parts: Split, estimate: Array, selection: Array) -> Array:
    """|| e + P h + (I - P)(h - h') ||, h' made with this estimate and selection of the forgotten points.
    Source: docs/theory, Multiplier estimator, Effect on unlearning."""
    net, data, p = e.net, e.record.data, e.point
    ours = models.coefficients(net, data.labels, p.multipliers, p.selection)
    off = ours - models.coefficients(net, data.labels, estimate, selection)
    off = numerics.matmul(jnp.where(e.forget, off, 0.0), data.points)
    beyond = off - numerics.project(off, parts.basis)
    return numerics.norm(parts.inside + parts.outside + beyond, p.orthogonal_norm)


def effect(e: Evaluation, parts: Split) -> Array:
    """sqrt(b_r) ||(I - P) x_r|| of each forgotten point [m]: what an error of one in lambda_r can add to epsilon."""
    points, s = e.record.data.points, e.point.selection
    beyond = points - numerics.project(points, parts.basis)
    used = numerics.matmul(e.net.output_weights**2, s)
    return jnp.where(e.forget, jnp.sqrt(used * jnp.sum(beyond**2, axis=1)), 0.0)


def evaluate(e: Evaluation) -> Results:
    net, data, point, forget = e.net, e.record.data, e.point, e.forget
    lam, exact, parts = point.multipliers, e.certificates["projection"], split(e)
    positive = jnp.where(lam > 0, lam, 1.0)
    estimate = estimators.estimate_multipliers(net, data, point, forget)
    epsilon, _ = bounds.outward(point, exact)
    near, far = estimators.estimation_error(net, data, point, forget, epsilon)
    off = jnp.abs(estimate - lam)
    # rounding of q_r / (||x_r||^2 a_r): sums of n and of p terms, each relative to the sizes of its terms
    active = jnp.where((point.preactivations > 0) | (net.kind == "linear"), 1.0, 0.0)
    weight = numerics.matmul(net.output_weights**2, active) * jnp.sum(data.points**2, axis=1)
    spread = numerics.matmul(jnp.abs(net.output_weights), jnp.abs(point.preactivations))
    slip = (net.num_neurons + e.m + 8) * numerics.EPS * (lam + spread / jnp.where(weight > 0, weight, 1.0))

    lever = effect(e, parts)
    got = with_multipliers(e, estimate)
    error = 2 * (got.error + point.error)
    least = epsilon + parts.rho + error
    most, prior = least + jnp.sum(off * lever), least + jnp.sum(jnp.where(forget, near * lever, 0.0))
    gap = bounds.identity_gap(net, data, point, forget, prior, e.norm_floor)

    loss = e.shape.loss
    guessed = estimators.multipliers_from_loss(e.record.run.margins, numerics.norm(point.params), loss)
    bare = jnp.where(forget, active, point.selection)
    made = jnp.stack([estimate, guessed, e.record.trained.multipliers, estimate])
    with_selection = jnp.stack([point.selection] * 3 + [bare])
    epsilons = jax.vmap(lambda v, s: formula(e, parts, v, s))(made, with_selection)
    errors = jnp.max(jnp.where(forget, jnp.abs(made - lam) / positive, 0.0), axis=1)
    solved = bounds.converged(point.status)
    common = {"reason": unless(jnp.all(jnp.isfinite(near)), Reason.UNDEFINED), "converged": solved}
    return {
        "estimate/instance/multiplier": check(*worst(off, near + 2 * slip, slip, forget), **common),
        "estimate/coarse/multiplier": check(*worst(off, far + 2 * slip, slip, forget), **common),
        "projection/exact/epsilon": check(jnp.abs(got.epsilon - epsilons[0]), error, converged=solved),
        "projection/instance/epsilon": check(got.epsilon, most, error, converged=solved),
        "projection/estimated/epsilon": check(
            got.epsilon, prior, error,
            reason=unless(prior < got.norm, Reason.EMPTY), converged=solved,
            discriminating=jnp.asarray(gap > got.tau, jnp.float64),
        ),
        "error_bound": jnp.max(jnp.where(forget, near / positive, 0.0)),
        "error_coarse": jnp.max(jnp.where(forget, far / positive, 0.0)),
        "epsilon_theorem": exact.epsilon, "epsilon_bound": prior, "solved": solved,
        **{f"error_{name}": errors[i] for i, name in enumerate(ESTIMATES[:3])},
        **{f"epsilon_{name}": epsilons[i] for i, name in enumerate(ESTIMATES)},
    }  # fmt: skip


def draw(figure: Any, blocks: list[Any], grid: Any) -> None:
    """Against d: relative errors of the estimates of lambda_r, and epsilon of the steps made with them."""
    block = next((b for b in blocks if b.shape.model == "relu"), blocks[0])
    results, shape, dims = block.results["estimators"], block.shape, np.asarray(grid.dims)
    axes = figure.subplots(1, 2)
    panels = (
        (
            ("error_bound", "bound on the first", 1),
            ("error_estimate", r"$q_r/(\Vert x_r\Vert^2a_r)$, forgotten point alone", 0),
            ("error_loss", r"$\propto-\ell'(q_r)$, loss derivative", 2),
            ("error_fit", r"fit to the trained $\theta$", 3),
        ),
        (
            ("epsilon_bound", "bound from the forgotten point", 1),
            ("epsilon_estimate", r"with $\hat\lambda_r$ of the forgotten point", 0),
            ("epsilon_loss", "with the loss derivative", 2),
            ("epsilon_fit", "with the fit", 3),
            ("epsilon_theorem", r"with $\lambda_r$ (the theorem's step)", 4),
        ),
    )
    for ax, lines in zip(axes, panels, strict=True):
        for name, label, style in lines:
            solved = np.asarray(results["solved"]).astype(bool)
            values = np.where(solved, np.asarray(results[name]), np.nan)[:, 1, 0]
            band(ax, dims, np.maximum(per_dim(grid, block, values), 1e-17), label, style)
        ax.set(xscale="log", yscale="log", xlabel="dimension $d$")
        ax.grid(alpha=0.25)
        ax.legend(fontsize=8)
    axes[0].set_ylabel(r"relative error $|\hat\lambda_r-\lambda_r|/\lambda_r$")
    axes[1].set_ylabel(r"$\varepsilon$ of the projection certificate")
    title = f"{shape.model}, exact KKT points, m = {shape.m}, n = {shape.n}, k = {grid.forget[0]}"
    figure.suptitle(title, fontsize=10)


SUITE = Suite(
    name="estimators",
    statement="the forgotten point alone gives its multiplier up to a stated error, and so the step",
    source="docs/theory, Multiplier estimator",
    evaluate=evaluate,
    draw=draw,
)
