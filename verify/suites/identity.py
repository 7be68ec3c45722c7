"""The untouched model is not already unlearned: how far every KKT point of the retained problem is from it."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gaunlearn_jax import bounds, numerics
from gaunlearn_jax._types import Reason, Status
from gaunlearn_jax.certificates import Certificate
from verify.check import Check, check
from verify.plots import STYLES, band, per_dim
from verify.suite import Evaluation, Results, Suite, unless

#: certificates whose theta' is a KKT point of the retained problem with a small epsilon
WITNESSES = ("retrain", "projection", "span")


def distance_to(e: Evaluation, certificate: Certificate) -> tuple[Array, Array]:
    """1 - cos of the angle between theta and theta', and the rounding error of that angle.

    The weights outside the span of the points belong to theta; theta' either shares or drops them.
    """
    shared = certificate.orthogonal_norm
    whole = jnp.concatenate([certificate.params.ravel(), jnp.atleast_1d(shared)])
    moved = jnp.concatenate(
        [(certificate.params - e.point.params).ravel(), jnp.atleast_1d(shared - e.point.orthogonal_norm)]
    )
    slip = numerics.rounding(e.m, certificate.params, e.point.params) / certificate.norm
    return numerics.one_minus_cos(whole, moved), slip + certificate.error / certificate.norm


def separation(e: Evaluation, certificate: Certificate) -> tuple[Check, Array]:
    """The check  1 - cos(omega) <= 1 - cos(theta, theta'), and its right-hand side.

    omega = max(0, alpha - arcsin(epsilon' / B_T)), alpha the angle between theta and the span of the retained
    points. epsilon' is the certificate's own, raised by the rounding of both sides (the claim is monotone in it).
    Source: docs/theory, Identity separation.
    """
    gap, slip = distance_to(e, certificate)
    outward = certificate.epsilon + 8 * slip * certificate.norm
    floor = bounds.identity_gap(e.net, e.record.data, e.point, e.forget, outward, e.norm_floor)
    judged = check(
        floor,
        gap,
        2 * slip * jnp.sqrt(2 * gap) + slip**2,
        reason=unless(floor > 0, Reason.EMPTY),
        converged=bounds.converged(certificate.status),
        discriminating=jnp.asarray(floor > certificate.tau, jnp.float64),
    )
    return judged, gap


def evaluate(e: Evaluation) -> Results:
    out: Results = {}
    gaps = {}
    for name in WITNESSES:
        out[f"{name}/instance/separation"], gaps[name] = separation(e, e.certificates[name])
    retrained = e.certificates["retrain"]
    out["retrain/instance/norm"] = check(
        e.norm_floor,
        retrained.norm + 4 * retrained.error,
        retrained.error,
        converged=bounds.converged(retrained.status),
    )
    bound = bounds.identity_gap(e.net, e.record.data, e.point, e.forget, 0.0, e.norm_floor)
    out["identity_bound"] = bound
    out["identity_gap"] = gaps["retrain"]
    out["ascent_gap"] = retrained.tau
    out["ratio"] = gaps["retrain"] / retrained.tau
    out["solved"] = retrained.status == int(Status.OK)
    return out


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
