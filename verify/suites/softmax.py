"""Softmax heads: Lemma M', a whole class forgotten, and one ordinary cross-entropy step as the theorem's step."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import gaunlearn_jax as ga
from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.codes import Reason, Status
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.theory import bounds
from gaunlearn_jax.theory import classes as theory
from gaunlearn_jax.theory.cross_entropy import loss_point
from gaunlearn_jax.theory.lemma_m import EXTRA, gram_rounding
from verify.instances.records import Record, Shape, forget_set
from verify.suites.check import Check, check, exactness, worst
from verify.suites.drawing import band, per_dim
from verify.suites.exact_retraining import exact_retraining
from verify.suites.finding import NOTHING, Explanation, Finding, found, view
from verify.suites.suite import Attack, Derived, Evaluation, Results, Suite, bound_of, of_both_thetas, unless


def lemma(net: Any, record: Record, point: KKTPoint) -> Results:
    """Lemma M': the worst of gamma_i against both bounds."""
    problem = net.problem(record.data)
    gamma, unit = norms(problem, point), gram_rounding(problem)
    m = record.data.num_points
    lower, upper, defined = theory.multiplier_bounds(
        record.psi + 2 * unit, record.phi + 2 * unit, point.epsilon + 2 * point.error,
        point.delta + 2 * point.delta_error, m=m, classes=net.num_classes,
    )  # fmt: skip
    error = (problem.num_terms + m + EXTRA) * numerics.unit() * gamma
    common: dict[str, Any] = {"converged": point.status == int(Status.OK)}
    everyone, below = jnp.ones(m, bool), (lower > 0, Reason.EMPTY)
    return {
        "sharp/upper": check(
            *worst(gamma, jnp.broadcast_to(upper, (m,)), error, everyone),
            reason=unless(defined, Reason.UNDEFINED), **common,
        ),
        "sharp/lower": check(
            *worst(jnp.broadcast_to(lower, (m,)), gamma, error, everyone),
            reason=bounds.first_failing((defined, Reason.UNDEFINED), below), **common,
        ),
    }  # fmt: skip


def norms(problem: Any, point: KKTPoint) -> Array:
    """gamma_i = ||h_i||, the length of what forgetting point i alone would remove."""
    made = problem.amplitudes * problem.of_entries(point.multipliers) * point.selection
    return jnp.sqrt(jnp.sum(problem.by_row(made) ** 2, axis=0) * jnp.sum(problem.rows**2, axis=1))


def per_instance(net: Any, record: Record, shape: Shape) -> Results:
    """Lemma M' for both theta; a whole class forgotten; the cross-entropy step of weights trained by cross-entropy."""
    own = net.classes_of(record.data)
    mine = own == own[record.order[0]]
    whole = Evaluation(shape, net, record, record.limit, mine, jnp.sum(mine))
    near, gone = whole.certificates["projection"], exact_retraining(whole)
    out: Results = {"class/exact/distance": gone["projection/exact/distance"]}
    for strength in ("sharp", "coarse"):
        made = whole.success(near, bound_of(whole, near, strength), strength)
        out |= {f"class/{strength}/{q}": made[f"projection/{strength}/{q}"] for q in ("epsilon", "tau")}
    return {
        **of_both_thetas(record, lambda point: lemma(net, record, point)),
        **out,
        "class_gap": gone["step_gap"],
        **cross_entropy(net, record, shape),
    }


def cross_entropy(net: Any, record: Record, shape: Shape) -> Results:
    """One ordinary ascent step on the cross-entropy of the first forgotten point, by automatic differentiation, against
    the theorem's step; Theorem R' of it; its angle to the exact step."""
    data, problem = record.data, net.problem(record.data)
    key = jax.random.wrap_key_data(record.train_key, impl="threefry2x32")
    run = ga.train.train(key, net, data, loss="logistic")
    found, forget = loss_point(problem, run), forget_set(record, 1)
    point = found.point
    e = Evaluation(shape, net, record, point, forget, jnp.asarray(1))
    own = jnp.arange(net.num_classes)[:, None] == net.classes_of(data)

    def loss(params: Array) -> Array:
        scores = net.outputs(numerics.matmul(params, data.points.T))
        behind = jnp.where(own, -jnp.inf, scores - jnp.sum(jnp.where(own, scores, 0.0), axis=0))
        return jnp.sum(jnp.where(forget, jnp.log1p(jnp.sum(jnp.exp(behind), axis=0)), 0.0))

    after = run.params + jnp.exp(found.log_rate) * jax.grad(loss)(run.params)
    solved = bounds.converged(run.status, point.status)
    size = numerics.norm(point.params)
    # a probability is as exact as its margin: exp(-q) has the rounding of q
    room = exactness() * (1 + point.scale) * size
    near = e.certificates["projection"]
    sharp = e.success(near, bound_of(e, near, "sharp"), "sharp")
    ours = ga.unlearn.ascent_direction(problem, point, forget)[0]
    exact = ga.unlearn.ascent_direction(problem, record.limit, forget)[0]
    return {
        "cross_entropy/exact/step": check(
            numerics.norm(after / point.scale - e.hat), room, converged=solved,
            discriminating=jnp.asarray(numerics.norm(ours) > room, jnp.float64),
        ),
        **{f"cross_entropy/sharp/{q}": sharp[f"projection/sharp/{q}"] for q in ("epsilon", "tau")},
        "angle": numerics.angle_of_gap(numerics.cosine_gap(ours, exact)),
        "margin": point.scale,
        "relative_epsilon": point.epsilon / size,
    }  # fmt: skip


def _attack(e: Any, name: str) -> Check:
    return lemma(e.net, e.record, e.point)[name]  # type: ignore[return-value]


def draw(figure: Any, blocks: list[Any], grid: Any) -> None:
    """The cosine gap of the step that forgets a whole class, and the angle of the cross-entropy step, against d."""
    block, dims = max(blocks, key=lambda block: block.shape.m), np.asarray(grid.dims)
    results, ax = block.results["softmax"], figure.subplots()
    for style, (name, label) in enumerate(
        (
            ("class_gap", r"a whole class: $1-\cos\angle(\hat\theta,\theta^*)$"),
            ("angle", "angle of the cross-entropy step to the exact one"),
            ("relative_epsilon", r"$\varepsilon_1/\Vert\theta\Vert$ of the multipliers that cross-entropy names"),
        )
    ):
        band(ax, dims, np.maximum(per_dim(grid, block, np.asarray(results[name])), 1e-33), label, style)
    ax.set(xscale="log", yscale="log", xlabel="dimension $d$", ylabel="cosine gap, angle, relative error")
    ax.set_title(f"{block.shape.model}, m = {block.shape.m}")
    ax.grid(alpha=0.25)
    ax.legend(fontsize=8)


def find(blocks: list[Any], grid: Any) -> Finding:
    """How near the cross-entropy step is to the exact one, and what forgetting a whole class leaves."""
    seen = view(blocks, "softmax")
    if not seen.dims:
        return NOTHING
    return found(
        "a cross-entropy step at margin {margin} is {angle} rad off ({top:d})",
        "forgetting a whole class leaves a gap of {gap} at d = {low:d}",
        low=seen.low, top=seen.top, margin=seen.median("margin", seen.top), angle=seen.median("angle", seen.top),
        gap=seen.median("class_gap", seen.low),
    )  # fmt: skip


SUITE = Suite(
    name="softmax",
    statement="a cross-entropy step is the theorem's step with the multipliers that probabilities name",
    source="docs/theory, Several classes (Lemma M', Theorem R', Corollary CE)",
    per_instance=per_instance,
    draw=draw,
    models=("classes",),
    theorem="classes",
    attacks={
        "upper": Attack(functools.partial(_attack, name="sharp/upper"), "Lemma M'"),
        "lower": Attack(functools.partial(_attack, name="sharp/lower"), "Lemma M'"),
    },
    derived={"/sharp/upper": Derived("softmax/upper"), "/sharp/lower": Derived("softmax/lower")},
    find=find,
    explain=Explanation(
        hypotheses="a linear model with several classes, squared norms within psi of 1, inner products at most phi, "
        "1 - (m - 1) phi/(1 - psi) > 0; for the step: positive margins, nothing else",
        meaning="no solver for multipliers is needed: ordinary gradient ascent on the cross-entropy of the forgotten "
        "points, with the right learning rate, is the step of the theorem",
        false_if="probabilities taken at rescaled weights; another learning rate; multipliers outside Lemma M'",
    ),
)
