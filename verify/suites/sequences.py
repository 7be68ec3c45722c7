"""Sequences: forgetting a set at once or its points one after another, with gradients kept and with fresh ones."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gaunlearn_jax import certificates, kkt, models, numerics, unlearn
from gaunlearn_jax._types import Reason, Status
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models import Network
from verify.check import check
from verify.plots import band, per_dim
from verify.records import THETAS, Record, Shape, forget_set
from verify.suite import Results, Suite

#: points of a forgotten set (fewer where m is small); every order of them is tried
SET_SIZE = 3


def one_after_another(net: Network, data: Dataset, point: KKTPoint, order: Array, gradients: str) -> KKTPoint:
    """Forget the points order [K] one by one; theta after the last step, in the given point's other fields.

    gradients: "kept" uses the original lambda and s throughout; "fresh" the original lambda with the gradients that
    automatic differentiation gives at the current weights (sigma'(0) = 0); "refit" measures lambda and s afresh on the
    points not yet forgotten before every step but the first.
    """

    def step(state: tuple[KKTPoint, Array], r: Array) -> tuple[tuple[KKTPoint, Array], None]:
        current, gone = state
        one = jnp.arange(data.num_points) == r
        if gradients == "fresh":
            current = dataclasses.replace(current, selection=models.activation_slopes(net, current.preactivations))
        if gradients == "refit":
            fit = kkt.fit_multipliers(
                net, data, current.params, current.preactivations,
                orthogonal_norm=current.orthogonal_norm, retained=~gone, rescale=False,
            )  # fmt: skip
            first = ~jnp.any(gone)
            current = dataclasses.replace(
                current,
                multipliers=jnp.where(first, current.multipliers, fit.multipliers),
                selection=jnp.where(first, current.selection, fit.selection),
                status=jnp.where(first, current.status, jnp.maximum(current.status, fit.status)),
            )
        after = unlearn.gradient_ascent(net, data, current, one)
        current = dataclasses.replace(current, params=after.params, preactivations=after.preactivations)
        return (current, gone | one), None

    (final, _), _ = jax.lax.scan(step, (point, jnp.zeros(data.num_points, bool)), order)
    return final


def certified(net: Network, data: Dataset, point: KKTPoint, forget: Array, params: Array) -> tuple[Array, Array, Array]:
    """(epsilon, tau, ||h' - h||/||h||) of an outcome theta - h' whose h' is any combination of forgotten points' x_r.

    Theorem P's argument for h' in place of h: theta - (I - P) h' leaves every pre-activation of T as it is, its
    residual is e + P h + (I - P)(h - h'), and it is P h' away from theta - h'.
    """
    h, _ = unlearn.ascent_direction(net, data, point, forget)
    basis = numerics.orthonormal_basis(data.points, ~forget)
    other = point.params - params
    inside = numerics.project(other, basis)
    lam = jnp.where(forget, 0.0, point.multipliers)
    tilde = point.params - (other - inside)
    residual = tilde - numerics.matmul(models.coefficients(net, data.labels, lam, point.selection), data.points)
    epsilon = numerics.norm(residual, point.orthogonal_norm)
    whole = jnp.concatenate([tilde.ravel(), jnp.atleast_1d(point.orthogonal_norm)])
    tau = numerics.one_minus_cos(whole, jnp.concatenate([inside.ravel(), jnp.zeros(1)]))
    return epsilon, tau, numerics.norm(other - h) / numerics.norm(h)


def per_instance(net: Network, record: Record, shape: Shape) -> Results:
    """For both theta: at once = one after another in every order (kept); by how much fresh gradients differ."""
    data, m = record.data, shape.m
    size = min(SET_SIZE, m - 1)
    forget = forget_set(record, size)
    orders = record.order[jnp.asarray(list(itertools.permutations(range(size))))]
    reason = jnp.asarray(int(Reason.APPLIES if size > 1 else Reason.FORGET_SIZE))

    def both(point: KKTPoint) -> Results:
        at_once = unlearn.gradient_ascent(net, data, point, forget)
        q = jnp.abs(models.coefficients(net, data.labels, jnp.where(forget, point.multipliers, 0.0), point.selection))
        moved = numerics.matmul(q, jnp.abs(data.points))
        error = 2 * numerics.rounding(m + size, point.params, moved)
        z_moved = numerics.matmul(q, jnp.abs(numerics.gram(data.points)))
        z_error = 2 * numerics.rounding(m + size, point.preactivations, z_moved)
        common: dict[str, Any] = {"reason": reason, "converged": point.status == int(Status.OK)}

        kept = jax.vmap(lambda order: one_after_another(net, data, point, order, "kept"))(orders)
        fresh = jax.vmap(lambda order: one_after_another(net, data, point, order, "fresh").params)(orders)
        refit = one_after_another(net, data, point, orders[0], "refit" if net.kind != "linear" else "fresh")
        distance = jax.vmap(lambda params: numerics.norm(params - at_once.params))(kept.params)
        z_distance = jax.vmap(lambda z: numerics.norm(z - at_once.preactivations))(kept.preactivations)
        h = numerics.norm(point.params - at_once.params)
        promised = certificates.projection(net, data, point, forget)
        out: Results = {
            "instance/params": check(jnp.max(distance), error, **common),
            "instance/preactivations": check(jnp.max(z_distance), z_error, **common),
            "difference_kept": jnp.max(distance) / h,
            "epsilon_kept": promised.epsilon,
            "tau_kept": promised.tau,
            "refit_solved": refit.status == int(Status.OK),
        }
        values = jax.vmap(lambda params: certified(net, data, point, forget, params))(
            jnp.concatenate([fresh, refit.params[None]])
        )
        for name, value in zip(("epsilon", "tau", "difference"), values, strict=True):
            out[f"{name}_fresh"] = jnp.max(value[:-1])
            out[f"{name}_refit"] = value[-1]
        return out

    points = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(record.theta(t) for t in THETAS))
    stacked = jax.vmap(both)(points)
    out: Results = {}
    for t, theta in enumerate(THETAS):
        for name, value in stacked.items():
            one = jax.tree.map(lambda v, t=t: v[t], value)
            out[f"{theta}/{name}" if "/" in name else f"{name}_{theta}"] = one
    return out


_SERIES = (
    ("kept", r"$\lambda$, $s$ kept (any order)", 0),
    ("fresh", r"gradients fresh, $\sigma'(0) = 0$", 1),
    ("refit", r"$\lambda$, $s$ measured afresh", 2),
)


def draw(figure: Any, blocks: list[Any], grid: Any) -> None:
    """How far the outcomes are apart, and epsilon of the projection certificate of each, against d (networks)."""
    block = next((b for b in blocks if b.shape.model == "relu"), blocks[0])
    results, dims = block.results["sequences"], np.asarray(grid.dims)
    size = min(SET_SIZE, block.shape.m - 1)
    axes = figure.subplots(2, 2, sharex=True, sharey="row")
    for column, theta in enumerate(THETAS):
        for row, quantity in enumerate(("difference", "epsilon")):
            ax = axes[row, column]
            for name, label, style in _SERIES:
                band(ax, dims, per_dim(grid, block, results[f"{quantity}_{name}_{theta}"]), label, style)
            ax.set(xscale="log", yscale="log")
        axes[0, column].set_title(f"{theta}: m = {block.shape.m}, n = {block.shape.n}, k = {size}", fontsize=10)
        axes[1, column].set_xlabel("dimension $d$")
    axes[0, 0].set_ylabel(r"$\|h' - h\| / \|h\|$")
    axes[1, 0].set_ylabel(r"$\varepsilon$ of the projection certificate")
    axes[0, 1].legend(fontsize=7, loc="center")


SUITE = Suite(
    name="sequences",
    statement="with lambda and s kept, forgetting a set at once or one after another, in any order, is the same step",
    source="docs/theory, Sets and sequences",
    per_instance=per_instance,
    draw=draw,
)
