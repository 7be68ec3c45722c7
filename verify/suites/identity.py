"""The untouched model is not already unlearned: how far every KKT point of the retained problem is from it."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gaunlearn_jax import bounds, numerics
from gaunlearn_jax._types import Reason, Status
from gaunlearn_jax.certificates import Certificate
from verify.check import check
from verify.plots import STYLES, band, per_dim
from verify.suite import Evaluation, Results, Suite, unless

#: certificates whose theta' is a KKT point of the retained problem with a small epsilon
WITNESSES = ("retrain", "projection", "span")


def distance_to(e: Evaluation, certificate: Certificate) -> tuple[Array, Array]:
    """1 - cos of the angle between theta and theta', and the rounding error of that angle.

    The weights outside the span of the points belong to theta; theta' either shares or drops them.
    """
    whole = jnp.append(certificate.params.ravel(), certificate.orthogonal_norm)
    untouched = jnp.append(e.point.params.ravel(), e.point.orthogonal_norm)
    slip = numerics.rounding(e.m, whole, untouched) + certificate.error
    return numerics.one_minus_cos(whole, whole - untouched), slip / certificate.norm


def separation(e: Evaluation, epsilon: Array) -> Array:
    """1 - cos(omega), omega = max(0, alpha - arcsin(epsilon' / B_T)), alpha the angle between theta and the span of
    the retained points. Source: docs/theory, Identity separation."""
    return bounds.identity_gap(e.net, e.record.data, e.point, e.forget, epsilon, e.norm_floor)


def evaluate(e: Evaluation) -> Results:
    # one batch of the witnesses, and one call for all bounds, so that they compile once
    batch = [dataclasses.replace(e.certificates[name], kind="") for name in WITNESSES]
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batch)
    gap, slip = jax.vmap(lambda c: distance_to(e, c))(stack)
    # the claim is monotone in epsilon', which may be raised by the rounding of both sides
    outward = stack.epsilon + 8 * slip * stack.norm
    floor = separation(e, jnp.append(outward, 0.0))
    error = 2 * slip * jnp.sqrt(2 * gap) + slip**2
    out: Results = {}
    for i, name in enumerate(WITNESSES):
        out[f"{name}/instance/separation"] = check(
            floor[i],
            gap[i],
            error[i],
            reason=unless(floor[i] > 0, Reason.EMPTY),
            converged=stack.status[i] == int(Status.OK),
            discriminating=jnp.asarray(floor[i] > stack.tau[i], jnp.float64),
        )
    retrained = e.certificates["retrain"]
    solved = retrained.status == int(Status.OK)
    room = 4 * retrained.error
    out["retrain/instance/norm"] = check(e.norm_floor, retrained.norm + room, retrained.error, converged=solved)
    at = WITNESSES.index("retrain")
    return out | {
        "identity_bound": floor[-1],
        "identity_gap": gap[at],
        "ascent_gap": retrained.tau,
        "ratio": gap[at] / retrained.tau,
        "solved": solved,
    }


def draw(figure: Any, blocks: list[Any], grid: Any) -> None:
    """1 - cos to the exact retrained point against d: untouched model, its lower bound, the ascent step."""
    axes = figure.subplots(1, len(blocks), sharey=True, squeeze=False)[0]
    dims = np.asarray(grid.dims)
    for ax, block in zip(axes, blocks, strict=True):
        results, shape = block.results["identity"], block.shape
        for style, (name, label) in enumerate(
            (
                ("identity_gap", r"untouched $\theta$: $1-\cos\angle(\theta,\theta^*)$"),
                ("identity_bound", r"its lower bound: $1-\cos\alpha$"),
                ("ascent_gap", r"after the step: $\tau=1-\cos\angle(\hat\theta,\theta^*)$"),
            )
        ):
            values = per_dim(grid, block, np.asarray(results[name])[:, 1, 0])
            band(ax, dims, np.maximum(values, 1e-33), label, style)
        ratio = np.median(per_dim(grid, block, np.asarray(results["ratio"])[:, 1, 0]), axis=0)
        ax.annotate(
            f"ratio {ratio[-1]:.0e}",
            (dims[-1], np.sqrt(ratio[-1]) * np.median(np.asarray(results["ascent_gap"])[block.d == dims[-1], 1, 0])),
            ha="right", fontsize=9, color=STYLES[2]["color"],
        )  # fmt: skip
        ax.set(xscale="log", yscale="log", xlabel="dimension $d$")
        ax.set_title(f"{shape.model}, m = {shape.m}, n = {shape.n}, k = {grid.forget[0]}", fontsize=10)
        ax.grid(alpha=0.25)
    axes[0].set_ylabel("cosine gap to the retrained point")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)


SUITE = Suite(
    name="identity",
    statement="the untouched model is farther from every KKT point of the retained problem than 1 - cos(omega)",
    source="docs/theory, Identity separation and Norm lemma",
    evaluate=evaluate,
    draw=draw,
)
