"""Several classes, linear: Theorem R' of the step, and where its certificate is the retrained solution."""

from __future__ import annotations

from typing import Any

import numpy as np

from gaunlearn_jax.base.codes import Status
from gaunlearn_jax.theory import classes as theory
from verify.suites.check import check
from verify.suites.drawing import band, limit_first, per_dim
from verify.suites.exact_retraining import exact_retraining
from verify.suites.finding import NOTHING, Explanation, Finding, found, from_dimension, view
from verify.suites.suite import Evaluation, Results, Suite, bound_of, successes


def evaluate(e: Evaluation) -> Results:
    """Theorem R' of the step, the norm floor, and where the certificate is the retrained solution."""
    near, best = e.certificates["projection"], e.certificates["retrain"]
    out = e.success(near, e.instance_bound(near), "instance")
    for strength in ("sharp", "coarse"):
        out |= e.success(near, bound_of(e, near, strength), strength)
    floor = theory.gram_floor(e.problem.gram(), ~e.forget, classes=e.net.num_classes)
    return out | {
        "retrain/floor/norm": check(
            floor, best.norm + 4 * best.error, best.error, converged=best.status == int(Status.OK)
        ),
        **exact_retraining(e),
    }


def draw(figure: Any, blocks: list[Any], grid: Any) -> None:
    """Left: epsilon of the certificate and its bounds. Right: cosine gaps to the retrained solution, against d."""
    block, dims = max(blocks, key=lambda block: block.shape.m), np.asarray(grid.dims)
    results = block.results["classes"]
    left, right = figure.subplots(1, 2)
    for style, strength in enumerate(("instance", "sharp", "coarse")):
        made = results[f"projection/{strength}/epsilon"]
        bound = np.where(np.asarray(made.reason) == 0, np.asarray(made.rhs), np.nan)
        band(left, dims, per_dim(grid, block, limit_first(bound)), f"{strength} bound", style + 1)
    measured = limit_first(results["projection/instance/epsilon"].lhs)
    band(left, dims, per_dim(grid, block, measured), "measured", 0)
    for style, (name, label) in enumerate(
        (
            ("step_gap", r"$\hat\theta$ to $\theta^*$"),
            ("nothing_gap", r"$\theta$ (no step) to $\theta^*$"),
        )
    ):
        values = np.maximum(per_dim(grid, block, limit_first(results[name])), 1e-33)
        band(right, dims, values, label, style)
    left.set_ylabel(r"$\varepsilon$ of the projection certificate")
    right.set_ylabel(r"cosine gap $1-\cos\angle$")
    for ax in (left, right):
        ax.set(xscale="log", yscale="log", xlabel="dimension $d$")
        ax.grid(alpha=0.25)
        ax.legend(fontsize=8)
    figure.suptitle(f"{block.shape.model}, m = {block.shape.m}, k = {grid.forget[0]}", fontsize=10)


def find(blocks: list[Any], grid: Any) -> Finding:
    """From where the sharp bound tells the step from doing nothing, and how far from retraining the step ends."""
    seen = view(blocks, "classes")
    if not seen.dims:
        return NOTHING
    first = from_dimension(seen.telling("projection/sharp/tau"))
    where = "from d = {first:d}" if first == first else "nowhere"
    return found(
        f"excludes doing nothing {where}; its gap is {{gap}} ({{top:d}})",
        top=seen.top, first=first, gap=seen.median("step_gap", seen.top),
    )  # fmt: skip


SUITE = Suite(
    name="classes",
    statement="one ascent step on a linear model with several classes is (epsilon, delta, tau)-successful unlearning",
    source="docs/theory, Several classes (Theorem P, Theorem R', exact retraining)",
    evaluate=evaluate,
    draw=draw,
    models=("classes",),
    theorem="classes",
    attacks={
        **successes("sharp", "projection", "sharp", "Theorem R'", "epsilon", "tau"),
        **successes("coarse", "projection", "coarse", "Theorem R'", "epsilon", "tau"),
    },
    certified=True,
    find=find,
    explain=Explanation(
        hypotheses="a KKT point up to (epsilon_1, delta_1). Worst-case bounds: squared norms within psi of 1, inner "
        "products at most phi, for the coarse form psi <= 0.1, eps_d = 4 m phi <= 1 and a nearly exact point",
        meaning="a softmax head forgets points in one step; where every retained margin is 1 before "
        "and after, it misses exact retraining by the leakage rho alone",
        false_if="a step of another size or sign; a bound whose constant is too small; constraints of forgotten points "
        "that stay",
    ),
)
