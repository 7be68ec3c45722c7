"""The untouched model is not already unlearned: how far every KKT point of the retained problem is from it."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.codes import Reason, Status
from gaunlearn_jax.theory import bounds
from verify.suites.check import Check, check, exactness
from verify.suites.drawing import band, limit_first, per_dim
from verify.suites.finding import NOTHING, Explanation, Finding, found, view
from verify.suites.suite import FURTHER_MODELS, Attack, Derived, Evaluation, Results, Suite, unless

#: KKT points of the retained problem: the exact one that the pattern loop reaches, the first solve where it is one,
#: and two that the step's theorems promise
WITNESSES = ("retrain", "first", "projection", "span")


class Witness(NamedTuple):
    """theta' with its epsilon' and 1 - cos to theta_hat; `reason` is APPLIES where it is a KKT point for T."""

    params: Array
    outside: Array
    epsilon: Array
    error: Array
    norm: Array
    tau: Array
    solved: Array
    reason: Array


def witness(e: Evaluation, name: str) -> Witness:
    if name != "first":
        c = e.certificates[name]
        solved = c.status == int(Status.OK)
        return Witness(c.params, c.orthogonal_norm, c.epsilon, c.error, c.norm, c.tau, solved, jnp.asarray(0))
    f = e.first
    size, solved = numerics.norm(f.params), f.status == int(Status.OK)
    reason = unless(f.is_kkt, Reason.NOT_KKT)
    return Witness(f.params, jnp.zeros(()), f.epsilon, f.error, size, f.tau, solved, reason)


def distance_to(e: Evaluation, theta: Witness) -> tuple[Array, Array]:
    """1 - cos of the angle between theta and theta', and the rounding error of that angle.

    The weights outside the span of the points belong to theta; theta' either shares or drops them.
    """
    whole = jnp.append(theta.params.ravel(), theta.outside)
    untouched = jnp.append(e.point.params.ravel(), e.point.orthogonal_norm)
    slip = numerics.rounding(e.m, whole, untouched) + theta.error
    return numerics.one_minus_cos(whole, whole - untouched), slip / theta.norm


def separation(e: Evaluation, epsilon: Array) -> Array:
    """1 - cos(omega), omega = max(0, alpha - arcsin(epsilon' / B_T)), alpha the angle between theta and the span of
    the retained points. Source: docs/theory, Identity separation."""
    return bounds.identity_gap(e.net, e.record.data, e.point, e.forget, epsilon, e.norm_floor)


def evaluate(e: Evaluation) -> Results:
    # one batch of the witnesses, and one call for all bounds, so that they compile once
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(witness(e, name) for name in WITNESSES))
    gap, slip = jax.vmap(lambda w: distance_to(e, w))(stack)
    # the claim is monotone in epsilon', which may be raised by the rounding of both sides
    outward = stack.epsilon + 8 * slip * stack.norm
    floor = jax.vmap(lambda epsilon: separation(e, epsilon))(jnp.append(outward, 0.0))
    error = 2 * slip * jnp.sqrt(2 * gap) + slip**2
    out: Results = {}
    for i, name in enumerate(WITNESSES):
        out[f"{name}/instance/separation"] = check(
            floor[i],
            gap[i],
            error[i],
            reason=jnp.where((stack.reason[i] == 0) & (floor[i] <= 0), int(Reason.EMPTY), stack.reason[i]),
            converged=stack.solved[i],
            discriminating=jnp.asarray(floor[i] > stack.tau[i], jnp.float64),
        )
    retrained = e.certificates["retrain"]
    room = 4 * retrained.error
    out["retrain/instance/norm"] = check(
        e.norm_floor, retrained.norm + room, retrained.error, converged=retrained.status == int(Status.OK)
    )
    first, loop = WITNESSES.index("first"), WITNESSES.index("retrain")
    return out | {
        "identity_bound": floor[-1],
        "identity_gap": gap[first],
        "identity_gap_loop": gap[loop],
        "ascent_gap": stack.tau[first],
        "ascent_gap_loop": stack.tau[loop],
        "ratio": gap[first] / stack.tau[first],
        "solved": jnp.all(stack.solved),
    }


def draw(figure: Any, blocks: list[Any], grid: Any) -> None:
    """1 - cos to the exact retrained point against d: untouched model, its lower bound, the ascent step."""
    widest = {block.shape.model: block for block in sorted(blocks, key=lambda block: block.shape.m)}
    blocks = [block for block in blocks if block is widest[block.shape.model]]
    columns = min(len(blocks), 2)
    axes = figure.subplots(-(-len(blocks) // columns), columns, sharey=True, squeeze=False).ravel()
    for ax in axes[len(blocks) :]:
        ax.set_visible(False)
    axes = axes[: len(blocks)]
    dims = np.asarray(grid.dims)
    curves = (
        ("identity_gap", r"untouched $\theta$: $1-\cos\angle(\theta,\theta^*)$", 0),
        ("identity_bound", r"bound, any KKT point for $T$: $1-\cos\alpha$", 1),
        ("ascent_gap", r"the step: $1-\cos\angle(\hat\theta,\theta^*)$", 2),
    )
    for ax, block in zip(axes, blocks, strict=True):
        results, shape = block.results["identity"], block.shape
        solved = limit_first(results["solved"]).astype(bool)

        def of_limit(name: str, results: Any = results, solved: np.ndarray = solved) -> np.ndarray:
            return np.where(solved, limit_first(results[name]), np.nan)

        for name, label, style in curves:
            band(ax, dims, np.maximum(per_dim(grid, block, of_limit(name)), 1e-33), label, style)
        if "ascent_gap_loop" in results and shape.n > 1:
            label = r"the step, $\theta^*$ after the pattern loop"
            ax.scatter(
                block.d, of_limit("ascent_gap_loop"), s=12, color="black", marker="x", linewidth=0.6, label=label
            )
        ratio = np.nanmedian(per_dim(grid, block, of_limit("ratio")), axis=0)
        title = f"{shape.model}, m = {shape.m}, n = {shape.n}, k = {grid.forget[0]}\n"
        title += f"untouched / step: {ratio[0]:.0e} to {ratio[-1]:.0e}"
        ax.set(xscale="log", yscale="log", xlabel="dimension $d$")
        ax.set_title(title, fontsize=10)
        ax.grid(alpha=0.25)
    axes[-1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.15))
    for ax in axes[::columns]:
        ax.set_ylabel(r"cosine gap to the retrained point $\theta^*$")


def _attack(e: Any, witness: str) -> Check:
    """1 - cos(omega) <= 1 - cos(theta, theta'), theta' the exact solution for T or the projection certificate; or the
    norm lemma B_T <= ||theta*||."""
    near = e.certificates["projection"]
    error = near.error + e.m * exactness() * near.norm
    solved = e.retrained[2] & (near.status == int(Status.OK))
    best = e.retrained[0]
    if witness == "norm":
        return check(e.norm_floor, numerics.norm(best) + 4 * near.error, near.error, converged=solved)
    other, epsilon = (best, 0.0) if witness == "retrained" else (near.params, near.epsilon)
    # the claim is monotone in epsilon', which enters with room for rounding
    least = separation(e, epsilon + 8 * error)
    gap, slip = numerics.one_minus_cos(other, other - e.point.params), error / near.norm
    empty = unless(least > 0, Reason.EMPTY)
    return check(least, gap, 2 * slip * jnp.sqrt(2 * gap) + slip**2, reason=empty, converged=solved)


def find(blocks: list[Any], grid: Any) -> Finding:
    """How much nearer the exact solution the step is than nothing, and how much of its gap is proved."""
    seen = view(blocks, "identity")
    if not seen.dims:
        return NOTHING
    return found(
        "doing nothing leaves {ratio_low} (d = {low:d}) to {ratio_top} ({top:d}) times the gap of the step",
        "that gap is {gap}, proved to be at least {bound}",
        low=seen.low, top=seen.top, ratio_low=seen.median("ratio", seen.low), ratio_top=seen.median("ratio", seen.top),
        gap=seen.median("identity_gap", seen.top), bound=seen.median("identity_bound", seen.top),
    )  # fmt: skip


SUITE = Suite(
    name="identity",
    statement="the untouched model is farther from every KKT point of the retained problem than 1 - cos(omega)",
    source="docs/theory, Identity separation and Norm lemma",
    evaluate=evaluate,
    draw=draw,
    further=FURTHER_MODELS,
    attacks={
        "retrained": Attack(functools.partial(_attack, witness="retrained"), "Identity separation", True),
        "separation": Attack(functools.partial(_attack, witness="projection"), "Identity separation", True),
        "norm": Attack(functools.partial(_attack, witness="norm"), "Norm lemma", True),
    },
    derived={
        **{
            f"{kind}/instance/separation": Derived("identity/separation", kind, True)
            for kind in ("projection", "span", "retrain")
        },
        "first/instance/separation": Derived("identity/retrained", solution=True),
        "retrain/instance/norm": Derived("identity/norm", "retrain", True),
    },
    find=find,
    explain=Explanation(
        hypotheses="none on the data; the bound says something where the forgotten points reach out of the span of the "
        "retained ones",
        meaning="doing nothing is not unlearning: the trained model is far from every KKT point of the retained "
        "points. This is what makes a bound worth having (discriminating)",
        false_if="a KKT point for the retained points that is nearer to the untouched model than the bound",
    ),
)
