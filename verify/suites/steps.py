"""Every unlearning step under the same certificates: its own theorem, and how near the retrained model it comes.

`gap_NAME` is 1 - cos of the angle between the outcome of a step and theta*, the hard-margin solution for the retained
points (networks: the solution of Q_T); `valid_NAME` whether what the step asks of its outcome was found.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import gaunlearn_jax as ga
from gaunlearn_jax.base import numerics
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.unlearn import STEPS, Step, Unlearned
from verify.instances.records import Record, Shape
from verify.suites.check import check
from verify.suites.drawing import STYLES
from verify.suites.finding import NOTHING, Explanation, Finding, View, found, middle, view
from verify.suites.step_tables import Column, gap_table, metric_table
from verify.suites.step_theorems import OWN, Scene, is_retrained, of_any
from verify.suites.suite import Evaluation, Results, Suite, Table

#: the steps of this library; any other one is claimed to be better than nothing
BUILT_IN = STEPS.names
#: what a picture shows of a smaller ratio
LEAST = 1e-16
MARKERS = "os^Dv<>"


def outcome(e: Evaluation, scene: Scene, step: Step) -> Unlearned:
    """theta_hat of a step with its default parameters; the retrain certificate has solved the retained problem."""
    known = {"retrained": scene.retrained} if step.solves else {}
    return step.make(e.net, e.record.data, e.point, e.forget, **known)


def evaluate(e: Evaluation) -> Results:
    shared: dict[str, Any] = {"certificates": {name: e.certificates[name] for name in ("projection", "retrain")}}
    shared |= {"first": e.first, "norm_floor": e.norm_floor}
    shape = dataclasses.replace(e.shape, source="gaussian")  # whatever the source: one trace serves them all
    return _evaluated(e.net, e.record, e.point, e.forget, e.k, shared, shape=shape, steps=tuple(compared()))


@functools.partial(jax.jit, static_argnames=("shape", "steps"))
def _evaluated(
    net: Any, record: Record, point: KKTPoint, forget: Array, k: Array, shared: Any, *, shape: Shape, steps: Any
) -> Results:
    """The results of an evaluation; traced once for all sources of a shape. `shared` is what all claims have made."""
    e = Evaluation(shape, net, record, point, forget, k)
    vars(e).update(shared)  # the values of its cached properties
    scene = Scene(e)
    best = ga.unlearn.from_params(net, record.data, point, forget, e.first.params)
    best = dataclasses.replace(best, orthogonal_norm=jnp.zeros(()))
    out: Results = {"solved": scene.solved, "rounding": (scene.error / scene.near.norm) ** 2}
    out |= {f"{key}_of_retrained": value for key, value in first_point(e, best).items()}
    known = [step for step in steps if step.speaks_of(e.problem)]
    after = {step.name: outcome(e, scene, step) for step in known}
    out |= _of_each(scene, after)
    for name, one in after.items():
        out |= OWN[name](scene, name, one) if name in OWN else {}
        if name not in BUILT_IN:
            out |= _better(scene, name, one, after["nothing"])
    return out


def _of_each(scene: Scene, after: dict[str, Unlearned]) -> Results:
    """What is asked of every step, of all of them at once: the programme holds it once."""

    def asked(one: Unlearned) -> Results:
        metrics = {f"{key}_{{}}": value for key, value in first_point(scene.e, one).items()}
        return of_any(scene, "{}", one) | {"gap_{}": scene.gap(one), "valid_{}": one.valid} | metrics

    made = jax.vmap(asked)(jax.tree.map(lambda *values: jnp.stack(values), *after.values()))
    return {
        key.format(name): jax.tree.map(operator.itemgetter(i), value)
        for i, name in enumerate(after)
        for key, value in made.items()
    }


def _better(scene: Scene, name: str, one: Unlearned, nothing: Unlearned) -> Results:
    """What is claimed of a user's own step, how far it moves the model, and whether that is retrained: theta* is one of
    several exact solutions of a network, and any of them is as good."""
    retrained = is_retrained(scene, one) if scene.e.problem.kinked else jnp.asarray(False)
    gap, before = jnp.where(retrained, 0.0, scene.gap(one)), scene.gap(nothing)
    slip = scene.error / scene.near.norm
    error = 2 * jnp.sqrt(2 * (gap + before)) * slip + slip**2
    return {
        f"{name}/better/gap": check(gap, before, error, converged=scene.solved),
        f"moved_{name}": scene.gap(one, scene.outcome(nothing)),
        f"retrained_{name}": retrained,
    }


def first_point(e: Evaluation, after: Unlearned) -> Results:
    """Margin of the first forgotten point over the norm of the weights, and the norm of its gradient."""
    problem = e.problem
    here = problem.constraints_of(jnp.arange(e.m) == e.record.order[0])
    margins = problem.margins(after.preactivations) / numerics.norm(after.params, after.orthogonal_norm)
    made = jax.vmap(lambda unit: problem.coefficients(unit, problem.slopes(after.preactivations)))(here[None] * 1.0)
    return {
        "margin": jnp.min(jnp.where(here, margins, jnp.inf)),
        "steepness": numerics.norm(numerics.matmul(made[0], problem.rows)),
    }


def compared() -> list[Step]:
    """The steps of a run: those of the library, or a user's own ones beside nothing and ascent."""
    own = [step for step in STEPS if step.name not in BUILT_IN]
    return [STEPS["nothing"], STEPS["ascent"], *own] if own else list(STEPS)


def tables(blocks: list[Any], grid: Any) -> tuple[Table, ...]:
    """How near each step comes, and what popular metrics say of it."""
    seen = [
        Column(block, block.results[SUITE.name], cell) for block in blocks for cell in grid.cells(block.shape.source)
    ]
    return gap_table(seen), metric_table(seen)


def draw(figure: Any, blocks: list[Any], grid: Any) -> None:
    """Gap over that of doing nothing for each step, a line per source and dimension: median and 10 to 90 % range."""
    models = list(dict.fromkeys(block.shape.model for block in blocks))
    panels = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
    for ax, model in zip(panels, models, strict=True):
        names: list[str] = []
        at = 0
        for block in (block for block in blocks if block.shape.model == model):
            results = block.results[SUITE.name]
            names = [name for name in STEPS.names if f"gap_{name}" in results]
            for cell in grid.cells(block.shape.source):
                column = Column(block, results, cell)
                if np.any(column.here):
                    before = column.values("gap_nothing")
                    ratios = np.stack([column.values(f"gap_{name}") / before for name in names], axis=1)
                    _profile(ax, np.maximum(ratios, LEAST), f"{block.shape.source}, d = {cell.d:.0e}", at)
                    at += 1
        ax.axhline(1.0, color="black", linewidth=0.8, linestyle=(0, (1, 2)))
        ax.set(yscale="log", title=model, xlabel="step")
        ax.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        ax.grid(alpha=0.25)
        ax.legend(fontsize=7, loc="lower left")
    panels[0].set_ylabel("gap to the retrained model / gap of nothing")
    figure.suptitle(f"exact KKT points, k = {grid.forget[0]}; above the line: worse than doing nothing", fontsize=9)


def _profile(ax: Any, ratios: np.ndarray, label: str, number: int) -> None:
    """A thin line through the medians, bars for the range; dash and marker differ from series to series."""
    low, middle, high = np.quantile(ratios, [0.1, 0.5, 0.9], axis=0)
    look = STYLES[number % len(STYLES)] | {"marker": MARKERS[number % len(MARKERS)]}
    place = np.arange(len(middle)) + 0.1 * (number % 5 - 2)
    ax.plot(place, middle, label=label, markersize=4, linewidth=0.8, **look)
    ax.vlines(place, low, high, color=look["color"], linewidth=1.0)


def find(blocks: list[Any], grid: Any) -> Finding:
    """Gaps over that of doing nothing in the lowest dimension: ascent, the nearest and the farthest step."""
    seen = view(blocks, SUITE.name)
    if not seen.dims:
        return NOTHING
    ratio = _ratios(seen)
    beside = {name: value for name, value in ratio.items() if name != "ascent"}
    best, worst = min(beside, key=lambda n: beside[n]), max(beside, key=lambda n: beside[n])
    others = f"{best} {{best}}" + (f", {worst} {{worst}}" if worst != best else "")
    farther = sum(value > 1 for value in ratio.values())
    other: dict[str, float] = {}
    for block in (block for block in blocks if len(block.d)):
        name, left = block.shape.source, _ratios(View(block, SUITE.name))["ascent"]
        other[name] = max(left, other.get(name, 0.0))
    source = max(other, key=lambda name: other[name])
    more = "{farther:d} of {steps:d} steps end farther than doing nothing"
    caveat = more if farther else "a common mean turns that round"
    return found(
        f"at d = {{low:d}} ascent leaves {{ascent}} of doing nothing's gap, {others}",
        f"of {source} ascent leaves {{elsewhere}}" if len(other) > 1 else caveat,
        low=seen.low, ascent=ratio["ascent"], best=ratio[best], worst=ratio[worst], farther=farther, steps=len(ratio),
        elsewhere=other[source],
    )  # fmt: skip


def _ratios(seen: View) -> dict[str, float]:
    """{step: median gap over that of doing nothing, in the lowest dimension}."""
    before = seen.values("gap_nothing", seen.low)
    known = "rounding" in seen.block.results[SUITE.name]  # results of earlier versions have none
    left = before > (seen.values("rounding", seen.low) if known else 0.0)
    names = [name.removeprefix("gap_") for name in seen.block.results[SUITE.name] if name.startswith("gap_")]
    names = [name for name in names if name not in ("nothing", "retraining")]
    return {name: middle(seen.values(f"gap_{name}", seen.low)[left] / before[left]) for name in names}


SUITE = Suite(
    name="steps",
    statement="each unlearning step does what is proved of it; how near the retrained model it comes, beside nothing",
    source="docs/theory, Steps",
    evaluate=evaluate,
    draw=draw,
    tables=tables,
    find=find,
    models=("linear",),  # networks are left to a large run: their compilation would lengthen the first one
    further=("relu",),
    explain=Explanation(
        hypotheses="what the theorem of each step assumes; Theorem T (the ball), which speaks of all, assumes nothing",
        meaning="fifteen ways to unlearn under the same certificates, beside doing nothing and retraining",
        false_if="an outcome of a step outside what is proved of that step",
    ),
)
