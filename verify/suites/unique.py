"""Leaky networks: where chi < 1 there is one KKT point, active exactly where activity raises a margin."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gaunlearn_jax import kkt
from gaunlearn_jax.base import draws, numerics
from gaunlearn_jax.base.codes import Reason, Status
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.theory import bounds, leaky
from gaunlearn_jax.theory.lemma_m import EXTRA
from verify.instances.records import Record, Shape
from verify.suites.check import Check, check, worst
from verify.suites.drawing import band, per_dim
from verify.suites.finding import NOTHING, Explanation, Finding, found, from_dimension, view
from verify.suites.suite import Attack, Derived, Results, Suite, of_both_thetas, unless

#: activation patterns of fixed pairs that the solver is started from, beside the trained one
STARTS = 4


def others(problem: MarginProblem, record: Record) -> KKTPoint:
    """KKT points that the pattern loop reaches from random patterns, stacked."""
    key = jax.random.wrap_key_data(record.key, impl="threefry2x32")
    heads = draws.coins(key, shape=(STARTS, *problem.amplitudes.shape))
    everyone = jnp.ones(problem.num_constraints, bool)
    starts = jnp.where(heads, 1.0, problem.slope)
    return jax.vmap(lambda slopes: kkt.solve_pattern(problem, slopes, everyone, kkt.MAX_REPEATS))(starts)


def of_point(problem: MarginProblem, point: KKTPoint) -> Results:
    """The activations and the multipliers of a KKT point against Theorem LK, which its epsilon_1 and delta_1 enter."""
    found = leaky.measured(problem, point.epsilon + 2 * point.error, point.delta + 2 * point.delta_error)
    applies = (found.chi < 1, Reason.DATA)
    lam, m, u = point.multipliers, problem.num_constraints, jnp.abs(problem.amplitudes)
    noise = (m + EXTRA) * numerics.unit() * lam
    raised = problem.amplitudes * problem.at_entries(point.preactivations) / u**2
    size = numerics.matmul(jnp.abs(point.params), jnp.abs(problem.rows.T))
    blur = (problem.rows.shape[1] + EXTRA) * numerics.unit() * problem.at_entries(size) / u
    everyone, common = jnp.ones(m, bool), {"converged": point.status == int(Status.OK)}
    wrong, undecided = (raised < -blur) | (raised == 0), (jnp.abs(raised) <= blur) & (raised != 0)
    off = jnp.where(leaky.on_pattern(problem.amplitudes), point.selection < 1, point.selection > problem.slope)
    least = worst(found.least, lam, noise, everyone)
    return {
        "exact/pattern": check(jnp.sum(wrong), 0.0, jnp.sum(undecided), reason=unless(*applies), **common),
        "sharp/clearance": check(
            *worst(jnp.broadcast_to(found.clearance, raised.shape), raised, blur, jnp.ones(raised.shape, bool)),
            reason=unless(*applies), **common,
        ),
        "sharp/upper": check(
            *worst(lam, jnp.broadcast_to(found.most, (m,)), noise, everyone), reason=unless(*applies), **common
        ),
        "sharp/lower": check(
            *least, reason=bounds.first_failing(applies, (jnp.all(found.least > 0), Reason.EMPTY)), **common
        ),
        "chi": found.chi,
        "off_pattern": jnp.mean(off, dtype=jnp.float64),
    }  # fmt: skip


def _attack(e: Any, name: str) -> Check:
    return of_point(e.problem, e.point)[name]  # type: ignore[return-value]


def distance(point: KKTPoint, problem: MarginProblem, other: KKTPoint) -> tuple[Array, Array]:
    """(||theta - theta'||, what two exact solutions of one strictly convex problem may be apart by rounding)."""
    slack = jnp.sum(point.multipliers * jnp.maximum(problem.margins(point.preactivations) - 1, 0.0))
    spread = jnp.sum(point.multipliers * problem.output_spread(point.preactivations))
    slack = slack + (problem.num_terms + EXTRA) * numerics.unit() * spread
    epsilon = point.epsilon + other.epsilon + 2 * (point.error + other.error)
    return numerics.norm(point.params - other.params), 0.5 * (epsilon + jnp.sqrt(epsilon**2 + 4 * slack)) + epsilon


def per_instance(net: Any, record: Record, shape: Shape) -> Results:
    problem, point = net.problem(record.data), record.limit
    out = of_both_thetas(record, functools.partial(of_point, problem))
    again = others(problem, record)
    apart, rounding = jax.vmap(functools.partial(distance, point, problem))(again)
    at = jnp.argmax(apart / rounding)
    reached = again.status == int(Status.OK)
    reason = bounds.first_failing((leaky.measured(problem).chi < 1, Reason.DATA), (jnp.all(reached), Reason.NOT_KKT))
    unique = check(
        apart[at], rounding[at], 0.0, reason=reason, converged=point.status == int(Status.OK),
        discriminating=jnp.asarray(rounding[at] < 1e-3 * numerics.norm(point.params), jnp.float64),
    )  # fmt: skip
    # at least a rounding, so that a logarithmic axis shows it
    return out | {
        "limit/exact/distance": unique,
        "apart": jnp.max(apart) / numerics.norm(point.params) + numerics.unit(),
    }


def draw(figure: Any, blocks: list[Any], grid: Any) -> None:
    """chi, the share of pairs off the pattern, and how far apart the solutions from random patterns are, against d."""
    axes = figure.subplots(1, len(blocks), sharey=True, squeeze=False)[0]
    for ax, block in zip(axes, blocks, strict=True):
        results = block.results["unique"]
        for style, (name, label) in enumerate(
            (
                ("chi_limit", r"$\chi$"),
                ("chi_trained", r"$\chi$ of the trained network, with its $\varepsilon_1$, $\delta_1$"),
                ("off_pattern_limit", "share of pairs off the pattern"),
                ("apart", "largest distance between solutions, relative"),
            )
        ):
            values = np.where(np.isfinite(results[name]) & (results[name] > 0), results[name], np.nan)
            if np.all(np.isnan(values)):  # nothing off the pattern, anywhere
                continue
            band(ax, grid.dims, per_dim(grid, block, values), label, style)
        ax.axhline(1.0, color="black", linewidth=0.9, linestyle=(0, (1, 2)))
        ax.set(xscale="log", yscale="log", xlabel="dimension $d$")
        ax.set_title(f"{block.shape.model}, m = {block.shape.m}, n = {block.shape.n}")
        ax.legend(fontsize=7)
    axes[0].set_ylabel(r"below the line $\chi = 1$ Theorem LK applies")


def find(blocks: list[Any], grid: Any) -> Finding:
    """From where on chi < 1, and how far apart the points reached from random patterns are."""
    seen = view(blocks, "unique")
    if not seen.dims:
        return NOTHING
    chi = np.asarray(seen.block.results["unique"]["chi_limit"])
    first = from_dimension({d: float(np.mean(chi[seen.at(d)] < 1)) for d in seen.dims})
    where = "from d = {first:d}" if first == first else "nowhere"
    low = seen.median("chi_limit", seen.low)
    silent = "chi is {chi} at d = {low:d}, where nothing is claimed" if low >= 1 else ""
    return found(
        f"one KKT point (chi < 1) {where}; all starts agree to {{apart}}", silent,
        low=seen.low, first=first, chi=low, apart=seen.median("apart", seen.top),
    )  # fmt: skip


SUITE = Suite(
    name="unique",
    statement="a leaky network has one KKT point where chi < 1: on pattern, multipliers and activations within bounds",
    source="docs/theory, Leaky networks",
    per_instance=per_instance,
    draw=draw,
    models=("leaky",),
    theorem="LK",
    attacks={
        name: Attack(functools.partial(_attack, name=f"sharp/{name}"), "Leaky networks")
        for name in ("clearance", "upper", "lower")
    },
    derived={f"/sharp/{name}": Derived(f"unique/{name}") for name in ("clearance", "upper", "lower")},
    find=find,
    explain=Explanation(
        hypotheses="slope 0 < a < 1 below zero, all u_j nonzero, chi < 1 (nearly orthogonal points)",
        meaning="leaky networks have one KKT point there, known from signs: retraining is unique, too",
        false_if="two KKT points, or one that is active elsewhere than where activity raises a margin",
    ),
)
