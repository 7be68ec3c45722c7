"""Points of several rows (patches): their pulls lie between two bounds, which bound what one step leaks."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.codes import Reason, Status
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.theory import bounds, entries
from gaunlearn_jax.theory.lemma_m import EXTRA
from gaunlearn_jax.theory.worthwhile import parts
from verify.suites.check import check, worst
from verify.suites.drawing import band, limit_first, per_dim
from verify.suites.finding import NOTHING, Explanation, Finding, found, from_dimension, view
from verify.suites.suite import Evaluation, Results, Suite, unless


def lemma(problem: MarginProblem, point: KKTPoint) -> tuple[entries.Pulls, Array, Array]:
    """Lemma M' with measured numbers that enter outward: its bounds, mu and gamma [m]."""
    spaces = entries.column_spaces(problem)
    mu, gamma, norms = spaces.cosine(), entries.pulls(problem, point), entries.gradient_norms(problem, point)
    slip = (problem.num_terms + problem.rows.shape[1] + EXTRA) * numerics.unit()
    epsilon, delta = point.epsilon + 2 * point.error, point.delta + 2 * point.delta_error
    return entries.pull_bounds(
        mu, jnp.min(norms) * (1 - slip), norms * (1 + slip), epsilon, delta, m=len(gamma)
    ), mu, gamma  # fmt: skip


def pulls(problem: MarginProblem, point: KKTPoint, between: entries.Pulls, gamma: Array) -> Results:
    """gamma_i against Lemma M' (worst point)."""
    error = (problem.num_terms + problem.rows.shape[1] + EXTRA) * numerics.unit() * gamma
    everyone, solved = jnp.ones(gamma.shape, bool), {"converged": point.status == int(Status.OK)}
    lower, upper = between.lower, jnp.broadcast_to(between.upper, gamma.shape)
    says = bounds.first_failing((between.defined, Reason.UNDEFINED), (jnp.all(lower > 0), Reason.EMPTY))
    return {
        "/spaces/upper": check(
            *worst(gamma, upper, error, everyone), reason=unless(between.defined, Reason.UNDEFINED), **solved
        ),
        "/spaces/lower": check(*worst(lower, gamma, error, everyone), reason=says, **solved),
        "width": jnp.where(between.defined, 1 - jnp.maximum(jnp.min(lower), 0.0) / between.upper, jnp.nan),
    }


def evaluate(e: Evaluation) -> Results:
    """Theorem R' for the projection certificate, Lemma M', and what h leaks."""
    near = e.certificates["projection"]
    between, mu, gamma = lemma(e.problem, e.point)
    upper = jnp.where(between.defined, between.upper, jnp.inf)
    floor = e.norm_floor * (1 - 1e3 * numerics.unit())
    bound = entries.sharp_entries(mu, upper, floor, *bounds.outward(e.point, near), m=e.m, k=e.k)
    kappa, defined = entries.projection_factor(mu, e.m - e.k)
    rho, most = parts(e.problem, e.point, e.forget).rho, kappa * jnp.sum(jnp.where(e.forget, gamma, 0.0))
    error = numerics.rounding(e.problem.num_rows, e.point.params)
    solved = bounds.converged(near.status)
    successes = e.success(near, e.instance_bound(near), "instance") | e.success(near, bound, "spaces")
    return successes | pulls(e.problem, e.point, between, gamma) | {
        "projection/spaces/leakage": check(
            rho, most + error, error, reason=unless(defined, Reason.UNDEFINED), converged=solved
        ),
        "mu": mu, "rho": rho / near.norm, "rho_bound": jnp.where(defined, most / near.norm, jnp.nan),
        "epsilon": near.epsilon / near.norm,
        "epsilon_bound": jnp.where(bound.reason == 0, bound.epsilon / near.norm, jnp.nan),
        "solved": solved,
    }  # fmt: skip


def draw(figure: Any, blocks: list[Any], grid: Any) -> None:
    """mu, the part of the step inside the retained span, Theorem R' and the width of Lemma M', against d."""
    axes = figure.subplots(1, len(blocks), sharey=True, squeeze=False)[0]
    series = (
        ("mu", r"largest cosine $\mu$ between patch spaces", 0),
        ("rho", r"leakage $\rho/\Vert\tilde\theta\Vert$", 2),
        ("rho_bound", r"$\kappa\,\Sigma_R\gamma_r/\Vert\tilde\theta\Vert$", 1),
        ("epsilon_bound", r"$\varepsilon/\Vert\tilde\theta\Vert$ of Theorem R'", 3),
        ("width", "relative width of Lemma M'", 4),
    )
    for ax, block in zip(axes, blocks, strict=True):
        results = block.results["entries"]
        for name, label, style in series:
            values = limit_first(results[name])
            if np.any(np.isfinite(values)):
                band(ax, grid.dims, per_dim(grid, block, values), label, style)
        ax.set(xscale="log", yscale="log", xlabel="dimension $d$")
        ax.set_title(f"{block.shape.model}, m = {block.shape.m}, n = {block.shape.n}", fontsize=9)
        ax.legend(fontsize=7)
    axes[0].set_ylabel(f"exact KKT points, k = {grid.forget[0]}")


def find(blocks: list[Any], grid: Any) -> Finding:
    """From where on Theorem R' excludes doing nothing, and how loose it is."""
    seen = view(blocks, "entries")
    if not seen.dims:
        return NOTHING
    first = from_dimension(seen.telling("projection/spaces/tau"))
    where = "from d = {first:d}" if first == first else "nowhere"
    return found(
        f"Theorem R' excludes doing nothing {where}; its epsilon is {{room}} times the measured one ({{top:d}})",
        "patch spaces must be nearly orthogonal: mu is {mu} at d = {low:d}",
        first=first, top=seen.top, room=seen.room("projection/spaces/epsilon", seen.top),
        low=seen.low, mu=seen.median("mu", seen.low),
    )  # fmt: skip


SUITE = Suite(
    name="entries",
    statement="points of several patches: Lemma M' bounds their pulls, Theorem R' what one step of ascent leaves",
    source="docs/theory, Pulls and leakage",
    evaluate=evaluate,
    draw=draw,
    find=find,
    models=("convolution",),
    theorem="entries",
    default=False,
    certified=True,
    explain=Explanation(
        hypotheses="the patch spaces of different points meet at a cosine mu below 1/(m - 1); nothing is assumed of "
        "norms or of the number of filters",
        meaning="weights that are shared over patches change nothing: the step deletes a point's patches from the "
        "stationarity equation, up to the part of them inside the span of the retained ones",
        false_if="a pull outside the bounds, or more of the step inside the retained span than they allow",
    ),
)
