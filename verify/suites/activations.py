"""Activations: how far the ascent step moves pre-activations of retained points, and which signs survive it."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gaunlearn_jax import unlearn
from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.codes import Status
from gaunlearn_jax.theory.activations import EXTRA, nearest_shift, phi_room, shift_bound
from verify.instances.records import THETAS
from verify.suites.check import Check, check
from verify.suites.drawing import band, per_dim
from verify.suites.finding import NOTHING, Explanation, Finding, found, view
from verify.suites.suite import Attack, Derived, Evaluation, Results, Suite


def evaluate(e: Evaluation) -> Results:
    data, point, retained = e.record.data, e.point, ~e.forget
    after = unlearn.gradient_ascent(e.net, data, point, e.forget)
    exact_shift = -unlearn.ascent_direction(e.problem, point, e.forget)[1]
    bound = shift_bound(e.problem, point, e.forget, e.record.phi + 4 * phi_room(e.problem, e.record.phi))

    kink = (point.preactivations == 0) & retained
    signed = (point.preactivations != 0) & retained
    provable = signed & (jnp.abs(point.preactivations) > bound)
    survives = jnp.sign(after.preactivations) == jnp.sign(point.preactivations)

    tilde = e.certificates["projection"]
    hat_error = _product_error(e, jnp.abs(point.params), jnp.abs(after.params))
    tilde_error = _product_error(e, jnp.abs(point.params), jnp.abs(tilde.params))
    hat_z = e.problem.preactivations(after.params)
    tilde_z = e.problem.preactivations(tilde.params)
    changed = retained & (jnp.abs(tilde_z) > tilde_error) & (jnp.sign(tilde_z) != jnp.sign(point.preactivations))

    common: dict[str, Any] = {"converged": point.status == int(Status.OK)}
    pairs = jnp.sum(retained) * e.net.num_neurons

    def share(mask: Array, among: Array) -> Array:
        count = jnp.sum(among)
        return jnp.where(count > 0, jnp.sum(mask) / jnp.maximum(count, 1), jnp.nan)

    return {
        "step/instance/shift": check(*nearest_shift(e.problem, point, e.forget, exact_shift, e.record.phi), **common),
        "step/instance/formula": _equality(hat_z, point.preactivations + exact_shift, hat_error, retained, common),
        "step/instance/signs": check(jnp.sum(provable), jnp.sum(provable & survives), **common),
        "projection/instance/preactivations": _equality(tilde_z, point.preactivations, tilde_error, retained, common),
        "projection/instance/signs": check(jnp.sum(changed), 0, **common),
        "signed": jnp.sum(signed),
        "provable": jnp.sum(provable),
        "actual": jnp.sum(signed & survives),
        "kinks": jnp.sum(kink),
        "kinks_kept": jnp.sum(kink & (after.preactivations == 0)),
        "share_provable": share(provable, signed),
        "share_actual": share(signed & survives, signed),
        "share_kinks": jnp.sum(kink) / pairs,
        "share_kinks_kept": share(kink & (after.preactivations == 0), kink),
    }


def _product_error(e: Evaluation, *weights: Array) -> Array:
    """Rounding of <w_j, x_i> for stored weights that should have given pre-activations, 4 times over [n, m].

    The stored weights are themselves sums of m + p products; Q X, |theta| and, where training has cancelled them, the
    initial weights bound their terms. The norm of the part outside the span tells the size of the latter (8 sigma).
    """
    point, data = e.point, e.record.data
    outside = jnp.maximum(e.net.num_neurons * (data.dim - data.points.shape[1]), 1.0)
    initial = 8 * point.orthogonal_norm / jnp.sqrt(outside)
    q = jnp.abs(e.problem.coefficients(point.multipliers, point.selection))
    size = sum(weights, numerics.matmul(q, jnp.abs(e.problem.rows)))
    terms = data.points.shape[1] + e.m + 2 * EXTRA
    return 4 * terms * numerics.unit() * numerics.matmul(size + initial, jnp.abs(e.problem.rows.T))


def _equality(a: Array, b: Array, error: Array, where: Array, common: dict[str, Any]) -> Check:
    """|a - b| within its rounding at every pair of `where`; the pair nearest to failing is shown."""
    gap = jnp.where(where, jnp.abs(a - b), 0.0)
    at = jnp.argmax(jnp.where(gap > 0, gap / jnp.where(error > 0, error, 1e-300), 0.0))
    return check(jnp.ravel(gap)[at], jnp.ravel(error)[at], **common)


_SIGNS = (
    ("share_actual", "limit", "limit: kept", 0),
    ("share_provable", "limit", "limit: provably kept", 1),
    ("share_actual", "trained", "trained: kept", 2),
    ("share_provable", "trained", "trained: provably kept", 3),
)
_KINKS = (
    ("share_kinks", "limit", r"on a kink, $z_{ji} = 0$ (of all pairs)", 0),
    ("share_kinks_kept", "limit", "of these, still on it after the step", 1),
)


def draw(figure: Any, blocks: list[Any], grid: Any) -> None:
    """Shares of retained pairs whose sign survives the step, provably and in fact, and what becomes of kinks, against d
    (the first forget size)."""
    block = blocks[0]
    axes = figure.subplots(1, 2)
    titles = (
        "pairs with a sign, provably kept where\n" r"$|z_{ji}| > |u_j|\,\varphi\,\Sigma_r\lambda_r s_{jr}$",
        "kinks",
    )
    for ax, series, title in zip(axes, (_SIGNS, _KINKS), titles, strict=True):
        for name, theta, label, style in series:
            values = np.asarray(block.results["activations"][name])[:, THETAS.index(theta), 0]
            band(ax, np.asarray(grid.dims), per_dim(grid, block, values), label, style)
        ax.set(xscale="log", xlabel="dimension $d$")
        ax.set_title(title, fontsize=9)
        ax.legend(fontsize=8)
    axes[1].set_ylim(-0.03, 1.03)
    axes[0].set_ylabel(r"share of pairs $(j, i)$ with $i \in T$")
    figure.suptitle(f"{block.shape.model}, m = {block.shape.m}, n = {block.shape.n}, k = {grid.forget[0]}", fontsize=10)


def _attack(e: Any) -> Check:
    shift = unlearn.ascent_direction(e.problem, e.point, e.forget)[1]
    return check(*nearest_shift(e.problem, e.point, e.forget, shift, e.record.phi))


def find(blocks: list[Any], grid: Any) -> Finding:
    """Shares of signs that survive the step, and of kinks."""
    seen = view(blocks, "activations")
    if not seen.dims:
        return NOTHING
    return found(
        "{actual:%} of the retained signs survive the step (d = {top:d}), {provable:%} provably",
        "{kinks:%} of all pairs lie on a kink, of which {kept:%} stay there",
        top=seen.top, kinks=seen.median("share_kinks", seen.top), kept=seen.median("share_kinks_kept", seen.top),
        **{name: seen.median(f"share_{name}", seen.top) for name in ("actual", "provable")},
    )  # fmt: skip


SUITE = Suite(
    name="activations",
    statement="the step moves <w_j, x_i>, i in T, by at most |u_j| phi sum_r lambda_r s_jr; at theta_tilde not at all",
    source="docs/theory, Activation consistency",
    evaluate=evaluate,
    draw=draw,
    models=("relu",),
    attacks={"shift": Attack(_attack, "Activation consistency")},
    derived={"step/instance/shift": Derived("activations/shift")},
    find=find,
    explain=Explanation(
        hypotheses="inner products of points at most phi",
        meaning="which pre-activations the step can have changed; the certificate's neighbour keeps all of them",
        false_if="a pre-activation that moved by more than the bound, or a sign called safe that changed",
    ),
)
