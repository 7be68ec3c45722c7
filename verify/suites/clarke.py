"""Exact points where a point has several rows (patches): KKT points in Clarke's sense from whatever pattern."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gaunlearn_jax import kkt
from gaunlearn_jax.base import draws, numerics
from gaunlearn_jax.base.codes import Reason, Status
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.kkt.dual import ACCEPT
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.theory.entries import column_spaces
from gaunlearn_jax.theory.lemma_m import EXTRA
from verify.instances.records import Record, Shape
from verify.suites.check import check, worst
from verify.suites.drawing import band, per_dim
from verify.suites.finding import NOTHING, Explanation, Finding, found, view
from verify.suites.suite import Results, Suite, unless

#: activation patterns that the solver is started from, beside the trained one
STARTS = 3
#: part of a norm that an exact point may leave: ten times the violation that the solver accepts
EXACT = 10 * ACCEPT


def solved_from(problem: MarginProblem, patterns: Array, max_repeats: int) -> KKTPoint:
    """What the pattern loop makes of each pattern [s, n, e]."""
    everyone = jnp.ones(problem.num_constraints, bool)
    return jax.vmap(lambda slopes: kkt.solve_pattern(problem, slopes, everyone, max_repeats))(patterns)


def again(problem: MarginProblem, point: KKTPoint) -> tuple[kkt.Measured, Array]:
    """A point measured afresh from theta, lambda and s alone, and how many of its slopes theta does not allow."""
    rows = problem.preactivations(point.params)
    everyone = jnp.ones(problem.num_constraints, bool)
    measured = kkt.measure(problem, point.params, rows, point.multipliers, point.selection, everyone)
    z = problem.at_entries(rows)
    size = problem.at_entries(numerics.matmul(jnp.abs(point.params), jnp.abs(problem.rows.T)))
    blur = 4 * (problem.rows.shape[1] + EXTRA) * numerics.unit() * size + point.error
    s = point.selection
    outside = (s > 1) | (s < problem.slope)
    return measured, jnp.sum(outside | ((z > blur) & (s != 1)) | ((z < -blur) & (s != problem.slope)))


def per_instance(net: Any, record: Record, shape: Shape) -> Results:
    """Stationarity, slackness, margins and slopes of exact points, measured again, and the norm along the loop."""
    problem = net.problem(record.data)
    heads = draws.coins(jax.random.wrap_key_data(record.key, impl="threefry2x32"), shape=(STARTS, *problem.free.shape))
    patterns = jnp.where(heads, 1.0, problem.slope)
    first, last = solved_from(problem, patterns, 0), solved_from(problem, patterns, kkt.MAX_REPEATS)
    points = jax.tree.map(lambda one, more: jnp.concatenate([one[None], more]), record.limit, last)
    solved = points.status == int(Status.OK)
    measured, off = jax.vmap(lambda one: again(problem, one))(points)
    size, before = jax.vmap(numerics.norm)(points.params), jax.vmap(numerics.norm)(first.params)
    # each comparison is with room for what rounding may leave of an equality
    room = jnp.stack([EXACT * size, EXACT * size**2])
    none = 0 * size
    guard = jnp.all(column_spaces(problem).independent)
    clarke = {"reason": unless(guard, Reason.PATCHES), "converged": record.limit.status == int(Status.OK)}
    both = (first.status == int(Status.OK)) & solved[1:]
    fell = worst(size[1:], (1 + EXACT) * before, none[1:], both)
    return {
        "limit/exact/stationarity": check(*worst(measured.epsilon, room[0], none, solved), **clarke),
        "limit/exact/slackness": check(*worst(measured.delta, room[1], none, solved), **clarke),
        "limit/exact/margin": check(*worst(1 - measured.margin, none + EXACT, none, solved), **clarke),
        "limit/exact/selection": check(jnp.max(jnp.where(solved, off, 0)), 0.0, **clarke),
        "limit/loop/norm": check(*fell, reason=unless(jnp.any(both), Reason.NOT_KKT)),
        "reached": jnp.mean(solved[1:], dtype=jnp.float64),
        "repeats": jnp.max(jnp.where(solved, points.repeats, 0)).astype(jnp.float64),
        "apart": jnp.max(jnp.where(solved, jax.vmap(numerics.norm)(points.params - points.params[0]), 0.0)) / size[0],
    }


def draw(figure: Any, blocks: list[Any], grid: Any) -> None:
    """Against d: how far the exact points from random patterns are from the trained one's, and the rounds they took."""
    axes = figure.subplots(1, len(blocks), sharey=True, squeeze=False)[0]
    for ax, block in zip(axes, blocks, strict=True):
        results = block.results["clarke"]
        for style, (name, label) in enumerate(
            (("apart", "largest distance between exact points, relative"), ("repeats", "rounds of the pattern loop"))
        ):
            band(ax, grid.dims, per_dim(grid, block, results[name]), label, style)
        ax.set(xscale="log", xlabel="dimension $d$")
        ax.set_title(f"{block.shape.model}, m = {block.shape.m}, n = {block.shape.n}", fontsize=9)
        ax.legend(fontsize=7)
    axes[0].set_ylabel(f"{STARTS} random patterns and the trained one")


def find(blocks: list[Any], grid: Any) -> Finding:
    """How often random patterns lead to an exact point, in how many rounds, and how far apart these are."""
    seen = view(blocks, "clarke")
    if not seen.dims:
        return NOTHING
    return found(
        "every exact point is Clarke's; random patterns reach one on {reached:%}, in at most {repeats} rounds",
        "which one depends on the pattern: up to {apart} of its norm apart",
        reached=float(np.mean([seen.mean("reached", d) for d in seen.dims])),
        repeats=max(float(np.max(seen.values("repeats", d))) for d in seen.dims),
        apart=max(seen.median("apart", d) for d in seen.dims),
    )  # fmt: skip


SUITE = Suite(
    name="clarke",
    statement="exact points of networks with several patches a point are KKT points in Clarke's sense",
    source="docs/theory, When a selection is Clarke's",
    per_instance=per_instance,
    draw=draw,
    find=find,
    models=("convolution",),
    theorem="entries",
    default=False,
    thetas=("limit",),
    explain=Explanation(
        hypotheses="the patches of each point are linearly independent, which is checked on the instance",
        meaning="what is called retrained is a stationary point of the margin problem itself, not only of a chosen "
        "pattern",
        false_if="a slope that the pre-activations do not allow, a margin below 1, or a loop that raises the norm",
    ),
)
