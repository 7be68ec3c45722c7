"""Points of several patches or classes: their pulls lie between two bounds, which bound what one step leaks."""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.codes import Reason, Status
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.theory import bounds
from gaunlearn_jax.theory import entries as theory
from gaunlearn_jax.theory.lemma_m import EXTRA
from gaunlearn_jax.theory.worthwhile import parts
from verify.suites.check import Check, check, worst
from verify.suites.drawing import band, limit_first, per_dim
from verify.suites.finding import NOTHING, Explanation, Finding, found, from_dimension, view
from verify.suites.suite import Attack, Derived, Evaluation, Results, Suite, bound_of, successes, unless


def pulls(problem: MarginProblem, point: KKTPoint, found: theory.Measured) -> Results:
    """gamma_i against Lemma M' (worst point)."""
    (lower, upper, defined), gamma = found.between, found.gamma
    error = (problem.num_terms + problem.rows.shape[1] + EXTRA) * numerics.unit() * gamma
    everyone, solved = jnp.ones(gamma.shape, bool), {"converged": point.status == int(Status.OK)}
    says = bounds.first_failing((defined, Reason.UNDEFINED), (jnp.all(lower > 0), Reason.EMPTY))
    return {
        "/spaces/upper": check(
            *worst(gamma, jnp.broadcast_to(upper, gamma.shape), error, everyone),
            reason=unless(defined & jnp.isfinite(upper), Reason.UNDEFINED), **solved,
        ),
        "/spaces/lower": check(*worst(lower, gamma, error, everyone), reason=says, **solved),
        "width": jnp.where(defined, 1 - jnp.maximum(jnp.min(lower), 0.0) / upper, jnp.nan),
    }  # fmt: skip


def leakage(e: Any, found: theory.Measured) -> Check:
    """rho against kappa times the pulls of the forgotten points."""
    kappa, defined = theory.projection_factor(found.mu, e.m - e.k)
    rho, most = parts(e.problem, e.point, e.forget).rho, kappa * jnp.sum(jnp.where(e.forget, found.gamma, 0.0))
    error = numerics.rounding(e.problem.num_rows, e.point.params)
    solved = bounds.converged(e.certificates["projection"].status)
    return check(rho, most + error, error, reason=unless(defined, Reason.UNDEFINED), converged=solved)


def evaluate(e: Evaluation) -> Results:
    """Theorem R' for the projection certificate, Lemma M', and what h leaks."""
    near, found = e.certificates["projection"], theory.lemma(e.problem, e.point)
    bound, leak = bound_of(e, near, "spaces"), leakage(e, found)
    success = e.success(near, e.instance_bound(near), "instance") | e.success(near, bound, "spaces")
    return success | pulls(e.problem, e.point, found) | {
        "projection/spaces/leakage": leak,
        "mu": found.mu, "rho": leak.lhs / near.norm,
        "rho_bound": jnp.where(leak.reason == 0, leak.rhs / near.norm, jnp.nan),
        "epsilon": near.epsilon / near.norm,
        "epsilon_bound": jnp.where(bound.reason == 0, bound.epsilon / near.norm, jnp.nan),
        "solved": bounds.converged(near.status),
    }  # fmt: skip


def _attack(e: Any, name: str) -> Check:
    found = theory.lemma(e.problem, e.point)
    return leakage(e, found) if name == "leakage" else pulls(e.problem, e.point, found)[f"/spaces/{name}"]  # type: ignore[return-value]


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
    statement="points of several patches or classes: Lemma M' bounds their pulls, Theorem R' what one step leaves",
    source="docs/theory, Pulls and leakage",
    evaluate=evaluate,
    draw=draw,
    find=find,
    models=("convolution", "classes_relu"),
    theorem="entries",
    attacks={
        **successes("spaces", "projection", "spaces", "Theorem R'", "epsilon", "tau"),
        "upper": Attack(functools.partial(_attack, name="upper"), "Lemma M'"),
        "lower": Attack(functools.partial(_attack, name="lower"), "Lemma M'"),
        "leakage": Attack(functools.partial(_attack, name="leakage"), "Theorem R'"),
    },
    derived={
        "/spaces/upper": Derived("entries/upper"),
        "/spaces/lower": Derived("entries/lower"),
        "projection/spaces/leakage": Derived("entries/leakage"),
    },
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
