"""Activations: how far the ascent step moves pre-activations of retained points, and which signs survive it."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gaunlearn_jax import models, numerics, unlearn
from gaunlearn_jax._types import Status
from verify.check import Check, check
from verify.plots import band, per_dim
from verify.records import THETAS
from verify.suite import Evaluation, Results, Suite

#: roundings of one entry beyond the length of its sum
_EXTRA = 8


def shift_bound(e: Evaluation, phi: Array) -> Array:
    """|u_j| phi sum_{r in R} lambda_r s_jr [n, 1]: no pre-activation of a retained point moves further.

    From <w_j - h_j, x_i> - z_ji = -u_j sum_r lambda_r y_r s_jr K_ri. Source: docs/theory, Activation consistency.
    """
    lam = jnp.where(e.forget, e.point.multipliers, 0.0)
    return (jnp.abs(e.net.output_weights) * phi * numerics.matmul(e.point.selection, lam))[:, None]


def phi_room(e: Evaluation) -> Array:
    """The rounding of phi and of an entry of the Gram matrix."""
    points = e.record.data.points
    gram_error = (points.shape[1] + _EXTRA) * numerics.EPS * jnp.max(jnp.sum(points**2, axis=1))
    return gram_error + (e.m + _EXTRA) * numerics.EPS * e.record.phi


def nearest_shift(e: Evaluation) -> tuple[Array, Array, Array]:
    """(lhs, rhs, error) of the pair whose shift is nearest to its bound, relative to |u_j| sum_r lambda_r s_jr.

    phi enters outward (with k = 1 the pair that attains phi gives equality); errors are below that margin.
    """
    shift = jnp.abs(unlearn.ascent_direction(e.net, e.record.data, e.point, e.forget)[1])
    slack, per_phi = phi_room(e), jnp.broadcast_to(shift_bound(e, jnp.ones(())), shift.shape)
    moved = ~e.forget & (per_phi > 0)
    at = jnp.argmax(jnp.where(moved, shift / jnp.where(per_phi > 0, per_phi, 1.0), -1.0))
    lhs, unit = jnp.ravel(shift)[at], jnp.ravel(per_phi)[at]
    return lhs, unit * (e.record.phi + 4 * slack), 2 * slack * unit


def evaluate(e: Evaluation) -> Results:
    data, point, retained = e.record.data, e.point, ~e.forget
    after = unlearn.gradient_ascent(e.net, data, point, e.forget)
    exact_shift = -unlearn.ascent_direction(e.net, data, point, e.forget)[1]
    bound = shift_bound(e, e.record.phi + 4 * phi_room(e))

    kink = (point.preactivations == 0) & retained
    signed = (point.preactivations != 0) & retained
    provable = signed & (jnp.abs(point.preactivations) > bound)
    survives = jnp.sign(after.preactivations) == jnp.sign(point.preactivations)

    tilde = e.certificates["projection"]
    hat_error = _product_error(e, jnp.abs(point.params), jnp.abs(after.params))
    tilde_error = _product_error(e, jnp.abs(point.params), jnp.abs(tilde.params))
    hat_z = models.preactivations(data.points, after.params)
    tilde_z = models.preactivations(data.points, tilde.params)
    changed = retained & (jnp.abs(tilde_z) > tilde_error) & (jnp.sign(tilde_z) != jnp.sign(point.preactivations))

    common: dict[str, Any] = {"converged": point.status == int(Status.OK)}
    pairs = jnp.sum(retained) * e.net.num_neurons

    def share(mask: Array, among: Array) -> Array:
        count = jnp.sum(among)
        return jnp.where(count > 0, jnp.sum(mask) / jnp.maximum(count, 1), jnp.nan)

    return {
        "step/instance/shift": check(*nearest_shift(e), **common),
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
    q = jnp.abs(models.coefficients(e.net, data.labels, point.multipliers, point.selection))
    size = sum(weights, numerics.matmul(q, jnp.abs(data.points)))
    terms = data.points.shape[1] + e.m + 2 * _EXTRA
    return 4 * terms * numerics.EPS * numerics.matmul(size + initial, jnp.abs(data.points.T))


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
    figure.suptitle(f"relu, m = {block.shape.m}, n = {block.shape.n}, k = {grid.forget[0]}", fontsize=10)


SUITE = Suite(
    name="activations",
    statement="the step moves <w_j, x_i>, i in T, by at most |u_j| phi sum_r lambda_r s_jr; at theta_tilde not at all",
    source="docs/theory, Activation consistency",
    evaluate=evaluate,
    draw=draw,
    models=("relu",),
)
