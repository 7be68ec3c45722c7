"""Can the multipliers, and so the step, be had from the forgotten point alone?"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.codes import Reason, Status
from gaunlearn_jax.theory import bounds
from gaunlearn_jax.unlearn import certificates, estimators
from gaunlearn_jax.unlearn.certificates import Certificate
from verify.suites.check import Check, check, worst
from verify.suites.drawing import band, limit_first, per_dim, widest
from verify.suites.finding import NOTHING, Explanation, Finding, found, view
from verify.suites.suite import Attack, Derived, Evaluation, Results, Suite, unless

#: lambda_r from the forgotten point, the loss derivative, the fit to the trained theta; and the first without kinks
ESTIMATES = ("estimate", "loss", "fit", "without_kinks")


def with_multipliers(e: Evaluation, estimate: Array) -> Certificate:
    """The projection certificate theta - (I - P) h', h' the step made with these multipliers of the forgotten points;
    the retained points keep theirs, so its epsilon is measured for the true problem on T."""
    lam = jnp.where(e.forget, estimate, e.point.multipliers)
    changed = dataclasses.replace(e.point, multipliers=lam)
    return certificates.projection(e.net, e.record.data, changed, e.forget)


def evaluate(e: Evaluation) -> Results:
    net, data, point, forget = e.net, e.record.data, e.point, e.forget
    problem, lam, exact = e.problem, point.multipliers, e.certificates["projection"]
    parts = estimators.split(problem, point, forget)
    positive = jnp.where(lam > 0, lam, 1.0)
    estimate = estimators.estimate_multipliers(net, data, point, forget)
    epsilon, _ = bounds.outward(point, exact)
    near, far = estimators.estimation_error(net, data, point, forget, epsilon)
    off = jnp.abs(estimate - lam)
    # rounding of q_r / (||x_r||^2 a_r): sums of n and of p terms, each relative to the sizes of its terms
    active = jnp.where((point.preactivations > 0) | (not problem.kinked), 1.0, 0.0)
    weight = jnp.sum(problem.amplitudes**2 * active, axis=0) * jnp.sum(data.points**2, axis=1)
    spread = problem.output_spread(point.preactivations)
    slip = (problem.num_terms + e.m + 8) * numerics.unit() * (lam + spread / jnp.where(weight > 0, weight, 1.0))

    lever = estimators.effect(problem, point, forget, parts)
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
    epsilons = jax.vmap(lambda v, s: estimators.step_epsilon(problem, point, forget, parts, v, s))(made, with_selection)
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
    block = widest(blocks)
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
            values = limit_first(np.where(solved, np.asarray(results[name]), np.nan))
            band(ax, dims, np.maximum(per_dim(grid, block, values), 1e-17), label, style)
        ax.set(xscale="log", yscale="log", xlabel="dimension $d$")
        ax.grid(alpha=0.25)
        ax.legend(fontsize=8)
    axes[0].set_ylabel(r"relative error $|\hat\lambda_r-\lambda_r|/\lambda_r$")
    axes[1].set_ylabel(r"$\varepsilon$ of the projection certificate")
    title = f"{shape.model}, exact KKT points, m = {shape.m}, n = {shape.n}, k = {grid.forget[0]}"
    figure.suptitle(title, fontsize=10)


def _multiplier(e: Any, which: int) -> Check:
    near = e.certificates["projection"]
    estimate = estimators.estimate_multipliers(e.net, e.record.data, e.point, e.forget)
    epsilon, _ = bounds.outward(e.point, near)
    side = estimators.estimation_error(e.net, e.record.data, e.point, e.forget, epsilon)[which]
    lam = e.point.multipliers
    slip = 4 * (e.problem.num_terms + e.m + 8) * numerics.unit() * (lam + estimate)
    return check(*worst(jnp.abs(estimate - lam), side + 2 * slip, slip, e.forget & jnp.isfinite(side)))


def _epsilon(e: Any) -> Check:
    """epsilon of the step with estimated multipliers, less epsilon_1, against its bound."""
    exact, parts = e.certificates["projection"], estimators.split(e.problem, e.point, e.forget)
    estimate = estimators.estimate_multipliers(e.net, e.record.data, e.point, e.forget)
    epsilon, _ = bounds.outward(e.point, exact)
    near, _ = estimators.estimation_error(e.net, e.record.data, e.point, e.forget, epsilon)
    got = with_multipliers(e, estimate)
    error = 2 * (got.error + e.point.error)
    lever = jnp.where(e.forget, near * estimators.effect(e.problem, e.point, e.forget, parts), 0.0)
    defined = unless(jnp.all(jnp.isfinite(near)), Reason.UNDEFINED)
    rhs = epsilon + parts.rho + error + jnp.sum(lever)
    own, solved = e.point.epsilon, exact.status == int(Status.OK)
    return check(got.epsilon - own, rhs - own, error, reason=defined, converged=solved)


def find(blocks: list[Any], grid: Any) -> Finding:
    """Relative errors of the multiplier of the forgotten point: from that point alone, and from its loss."""
    seen = view(blocks, "estimators")
    if not seen.dims:
        return NOTHING
    return found(
        "the forgotten point alone gives its multiplier to {estimate_low:%} (d = {low:d}), {estimate} ({top:d}; bound "
        "{bound})",
        "its loss derivative gives it to {loss:%} only",
        low=seen.low, top=seen.top, estimate_low=seen.median("error_estimate", seen.low),
        **{name: seen.median(f"error_{name}", seen.top) for name in ("estimate", "bound", "loss")},
    )  # fmt: skip


SUITE = Suite(
    name="estimators",
    statement="the forgotten point alone gives its multiplier up to a stated error, and so the step",
    source="docs/theory, Multiplier estimator",
    evaluate=evaluate,
    draw=draw,
    theorem="estimator",
    attacks={
        "multiplier": Attack(functools.partial(_multiplier, which=0), "Multiplier estimator"),
        "coarse": Attack(functools.partial(_multiplier, which=1), "Multiplier estimator"),
        "epsilon": Attack(_epsilon, "Multiplier estimator"),
    },
    derived={
        "estimate/instance/multiplier": Derived("estimators/multiplier"),
        "estimate/coarse/multiplier": Derived("estimators/coarse"),
    },
    find=find,
    explain=Explanation(
        hypotheses="a KKT point up to epsilon_1; at least one neuron is strictly active on the forgotten point",
        meaning="who has the model and the forgotten point, but not the training set, can still make the step",
        false_if="an estimate farther from the multiplier than its bound",
    ),
)
