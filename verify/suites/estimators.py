"""Can the multipliers, and so the step, be had from the forgotten point alone?"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gaunlearn_jax import bounds, certificates, estimators, models, numerics, unlearn
from gaunlearn_jax._types import Reason
from gaunlearn_jax.certificates import Certificate
from verify.check import check, worst
from verify.plots import band, per_dim
from verify.suite import Evaluation, Results, Suite, unless


def with_multipliers(e: Evaluation, estimate: Array) -> Certificate:
    """The projection certificate theta - (I - P) h', h' the step made with these multipliers of the forgotten points;
    the retained points keep theirs, so its epsilon is measured for the true problem on T."""
    lam = jnp.where(e.forget, estimate, e.point.multipliers)
    return certificates.projection(
        e.net, e.record.data, dataclasses.replace(e.point, multipliers=lam), e.forget
    )


def formula(e: Evaluation, estimate: Array) -> Array:
    """|| e + P h + (I - P)(h - h') ||. Source: docs/theory, Multiplier estimator, Effect on unlearning."""
    data, p = e.record.data, e.point
    rest = p.params - numerics.matmul(
        models.coefficients(e.net, data.labels, p.multipliers, p.selection), data.points
    )
    basis = numerics.orthonormal_basis(data.points, ~e.forget)
    h, _ = unlearn.ascent_direction(e.net, data, p, e.forget)
    changed, _ = unlearn.ascent_direction(e.net, data, dataclasses.replace(p, multipliers=estimate), e.forget)
    off = h - changed
    return numerics.norm(rest + numerics.project(h, basis) + off - numerics.project(off, basis), p.orthogonal_norm)


def relative_error(e: Evaluation, estimate: Array) -> Array:
    """max over r in R of |estimate_r - lambda_r| / lambda_r."""
    lam = e.point.multipliers
    off = jnp.abs(estimate - lam) / jnp.where(lam > 0, lam, 1.0)
    return jnp.max(jnp.where(e.forget, off, 0.0))


def evaluate(e: Evaluation) -> Results:
    net, data, point, forget = e.net, e.record.data, e.point, e.forget
    lam, exact = point.multipliers, e.certificates["projection"]
    estimate = estimators.estimate_multipliers(net, data, point, forget)
    epsilon, _ = bounds.outward(point, exact)
    near, far = estimators.estimation_error(net, data, point, forget, epsilon)
    defined = unless(jnp.all(jnp.isfinite(near)), Reason.UNDEFINED)
    solved = bounds.converged(point.status)
    off = jnp.abs(estimate - lam)
    # rounding of q_r / (||x_r||^2 a_r): sums of n terms and of p terms, each relative to its terms' sizes
    spread = numerics.matmul(jnp.abs(net.output_weights), jnp.abs(point.preactivations))
    size = jnp.sum(data.points**2, axis=1)
    active = jnp.where((point.preactivations > 0) | (net.kind == "linear"), 1.0, 0.0)
    weight = numerics.matmul(net.output_weights**2, active)
    slip = (net.num_neurons + e.m + 8) * numerics.EPS * (lam + spread / jnp.where(weight > 0, size * weight, 1.0))

    basis = numerics.orthonormal_basis(data.points, ~forget)
    beyond = data.points - numerics.project(data.points, basis)
    used = jnp.sum(net.output_weights[:, None] ** 2 * point.selection, axis=0)
    lever = jnp.sqrt(used * jnp.sum(beyond**2, axis=1))
    h, _ = unlearn.ascent_direction(net, data, point, forget)
    rho = numerics.norm(numerics.project(h, basis))
    got = with_multipliers(e, estimate)
    error = 2 * (got.error + point.error)
    most = epsilon + rho + jnp.sum(jnp.where(forget, off * lever, 0.0)) + error
    prior = epsilon + rho + jnp.sum(jnp.where(forget, near * lever, 0.0)) + error
    gap = bounds.identity_gap(net, data, point, forget, prior, e.norm_floor)
    common = {"reason": defined, "converged": solved}
    sound = {"reason": unless(prior < got.norm, Reason.EMPTY), "converged": solved}
    fitted = jnp.where(forget, e.record.trained.multipliers, 0.0)
    guessed = estimators.multipliers_from_loss(
        e.record.run.margins, numerics.norm(point.params), getattr(e, "loss", "exponential")
    )
    bare = dataclasses.replace(point, selection=jnp.where(forget, active, point.selection), multipliers=estimate)
    return {
        "estimate/instance/multiplier": check(*worst(off, near, slip, forget), **common),
        "estimate/coarse/multiplier": check(*worst(off, far, slip, forget), **common),
        "projection/exact/epsilon": check(jnp.abs(got.epsilon - formula(e, estimate)), error, converged=solved),
        "projection/instance/epsilon": check(got.epsilon, most, error, converged=solved),
        "projection/estimated/epsilon": check(
            got.epsilon, prior, error, **sound, discriminating=jnp.asarray(gap > got.tau, jnp.float64)
        ),
        "error_estimate": relative_error(e, estimate),
        "error_bound": jnp.max(jnp.where(forget, near / jnp.where(lam > 0, lam, 1.0), 0.0)),
        "error_coarse": jnp.max(jnp.where(forget, far / jnp.where(lam > 0, lam, 1.0), 0.0)),
        "error_loss": relative_error(e, guessed),
        "error_fit": relative_error(e, fitted),
        "epsilon_theorem": exact.epsilon,
        "epsilon_estimate": got.epsilon,
        "epsilon_bound": prior,
        "epsilon_loss": formula(e, guessed),
        "epsilon_fit": formula(e, fitted),
        "epsilon_without_kinks": without_kinks(e, bare),
        "solved": solved,
    }


def without_kinks(e: Evaluation, bare: Any) -> Array:
    """epsilon of the estimated step whose direction also leaves the kinks of the forgotten points out (measured)."""
    data = e.record.data
    step, _ = unlearn.ascent_direction(e.net, data, bare, e.forget)
    basis = numerics.orthonormal_basis(data.points, ~e.forget)
    lam = jnp.where(e.forget, 0.0, e.point.multipliers)
    kept = numerics.matmul(models.coefficients(e.net, data.labels, lam, e.point.selection), data.points)
    return numerics.norm(e.point.params - step + numerics.project(step, basis) - kept, e.point.orthogonal_norm)


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
            values = np.where(results["solved"], np.asarray(results[name]), np.nan)[:, 1, 0]
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
