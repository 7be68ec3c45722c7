"""Multipliers: beta_i = lambda_i sum_j u_j^2 s_ji lies between two bounds made from the data assumption alone."""

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
from gaunlearn_jax.theory.lemma_m import EXTRA, betas, gram_rounding, margin_gap, prior_bounds
from verify.instances.records import Record, Shape
from verify.suites.check import Check, check, worst
from verify.suites.drawing import band, per_dim
from verify.suites.finding import NOTHING, Explanation, Finding, found, from_dimension, view
from verify.suites.suite import Attack, Derived, Results, Suite, of_both_thetas, unless


def per_instance(net: Any, record: Record, shape: Shape) -> Results:
    """Both sides of Lemma M for both theta, inequality (1) of its proof, and the prior bounds of linear models."""
    problem = net.problem(record.data)
    out = of_both_thetas(record, lambda point: lemma_m(problem, record, point))
    return out if problem.kinked else out | prior(problem, record)


def lemma_m(problem: MarginProblem, record: Record, point: KKTPoint) -> Results:
    """sharp/upper, sharp/lower (worst point), instance/margin (inequality (1)), and the widths for the picture.

    Measured psi, phi, epsilon_1, delta_1 enter outward: beta_max increases in each of them, the lower bound decreases.
    """
    m = problem.num_constraints
    beta, unit = betas(problem, point), gram_rounding(problem)
    # rounded u may have sum u^2 > 1: docs, Lemma M, Remarks
    total = jnp.maximum(jnp.max(jnp.sum(problem.amplitudes**2, axis=0)), 1.0)
    epsilon = (point.epsilon + 2 * point.error) * jnp.sqrt(total)
    delta = (point.delta + 2 * point.delta_error) * total
    psi, phi = record.psi + 2 * unit, record.phi + 2 * unit
    lower, upper, defined = bounds.multiplier_bounds(psi, phi, epsilon, delta, m=m)
    error = (problem.num_terms + EXTRA) * numerics.unit() * beta
    common: dict[str, Any] = {"converged": point.status == int(Status.OK)}
    everyone = jnp.ones(m, bool)
    below = bounds.first_failing((defined, Reason.UNDEFINED), (lower > 0, Reason.EMPTY))
    return {
        "sharp/upper": check(
            *worst(beta, jnp.broadcast_to(upper, (m,)), error, everyone),
            reason=unless(defined, Reason.UNDEFINED), **common,
        ),
        "sharp/lower": check(*worst(jnp.broadcast_to(lower, (m,)), beta, error, everyone), reason=below, **common),
        "instance/margin": check(*worst(*margin_gap(problem, point, phi, epsilon), everyone), **common),
        "width": jnp.where(defined, (upper - jnp.maximum(lower, 0.0)) / upper, jnp.nan),
        "spread": (jnp.max(beta) - jnp.min(beta)) / upper,
        "smallest": jnp.min(beta),
        "largest": jnp.max(beta),
        "lower": lower,
        "upper": upper,
    }  # fmt: skip


def _attack(e: Any, name: str) -> Check:
    return lemma_m(e.problem, e.record, e.point)[name]  # type: ignore[return-value]


def prior(problem: MarginProblem, record: Record) -> Results:
    """The earlier bounds at the exact KKT point, and their width."""
    limit, m = record.limit, problem.num_rows
    squares = jnp.sum(problem.rows**2, axis=1)
    unit = gram_rounding(problem)
    smallest, largest = jnp.min(squares) - 2 * unit, jnp.max(squares) + 2 * unit
    lower, upper, p = prior_bounds(smallest, largest, record.phi + 2 * unit, m=m)
    lam = limit.multipliers
    # "exact" is exact up to rounding: theta and lambda are scaled by OUTWARD, and epsilon is at rounding level
    error = ((m + EXTRA) * numerics.unit() + 2 * (numerics.outward() - 1)) * lam + 4 * (limit.epsilon + limit.error)
    everyone = jnp.ones(m, bool)
    common: dict[str, Any] = {
        "reason": unless(p >= 3, Reason.DATA),
        "converged": limit.status == int(Status.OK),
    }
    return {
        "limit/prior/upper": check(*worst(lam, jnp.broadcast_to(upper, (m,)), error, everyone), **common),
        "limit/prior/lower": check(*worst(jnp.broadcast_to(lower, (m,)), lam, error, everyone), **common),
        "width_prior": jnp.where(p >= 3, (upper - jnp.maximum(lower, 0.0)) / upper, jnp.nan),
    }


_SERIES = (
    ("width_limit", "Lemma M, limit: bound width", 0),
    ("width_prior", "Frei et al. 2023, limit: bound width", 1),
    ("width_trained", "Lemma M, trained: bound width", 3),
    ("spread_limit", "limit: measured spread", 2),
    ("spread_trained", "trained: measured spread", 4),
)


def draw(figure: Any, blocks: list[Any], grid: Any) -> None:
    """Relative widths (upper - lower)/upper of the bounds on beta_i beside the spread that was measured, against d."""
    axes = figure.subplots(1, len(blocks), sharey=True, squeeze=False)[0]
    for ax, block in zip(axes, blocks, strict=True):
        results = block.results["multipliers"]
        for name, label, style in _SERIES:
            if name in results:
                band(ax, grid.dims, per_dim(grid, block, results[name]), label, style)
        ax.set(xscale="log", yscale="log", xlabel="dimension $d$")
        ax.set_title(f"{block.shape.model}, m = {block.shape.m}, n = {block.shape.n}")
        ax.legend(fontsize=7)
    axes[0].set_ylabel(
        r"relative width $(\beta_{\rm upper}-\beta_{\rm lower})/\beta_{\rm upper}$, or spread of $\beta_i$"
    )


def find(blocks: list[Any], grid: Any) -> Finding:
    """From where on the two bounds are defined, and how wide they are beside the spread that is measured."""
    seen = view(blocks, "multipliers")
    if not seen.dims:
        return NOTHING
    upper = seen.check("limit/sharp/upper")
    first = from_dimension({d: float(np.mean(upper.reason[seen.at(d)] == 0)) for d in seen.dims})
    where = "from d = {first:d}" if first == first else "nowhere"
    return found(
        f"bounds defined {where}, {{width}} apart at {{top:d}} (spread of the multipliers {{spread}})",
        "of trained networks {trained} apart",
        top=seen.top, first=first, width=seen.median("width_limit", seen.top),
        spread=seen.median("spread_limit", seen.top), trained=seen.median("width_trained", seen.top),
    )  # fmt: skip


SUITE = Suite(
    name="multipliers",
    statement="beta_i = lambda_i sum_j u_j^2 s_ji lies between the two bounds of Lemma M (linear: and the prior ones)",
    source="docs/theory, Lemma M; Claims, Multipliers (Frei, Vardi, Bartlett and Srebro 2023)",
    per_instance=per_instance,
    draw=draw,
    theorem="M",
    attacks={
        "upper": Attack(functools.partial(_attack, name="sharp/upper"), "Lemma M"),
        "lower": Attack(functools.partial(_attack, name="sharp/lower"), "Lemma M"),
        "margin": Attack(functools.partial(_attack, name="instance/margin"), "Lemma M"),
    },
    derived={
        "/sharp/upper": Derived("multipliers/upper"),
        "/sharp/lower": Derived("multipliers/lower"),
        "/instance/margin": Derived("multipliers/margin"),
    },
    find=find,
    explain=Explanation(
        hypotheses="squared norms within psi of 1, inner products at most phi, 1 - psi - (m - 1) phi > 0",
        meaning="on nearly orthogonal data every point pulls about equally, whatever the network does",
        false_if="a multiplier outside the bounds",
    ),
)
