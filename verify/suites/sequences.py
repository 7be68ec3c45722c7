"""Sequences: forgetting a set at once or its points one after another, with gradients kept and with fresh ones."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaunlearn_jax import unlearn
from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.codes import Reason, Status
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.unlearn import certificates
from gaunlearn_jax.unlearn.sequences import certified, one_after_another
from verify.instances.records import THETAS, Record, Shape, forget_set
from verify.suites.check import check
from verify.suites.drawing import band, per_dim, widest
from verify.suites.finding import NOTHING, Explanation, Finding, found, view
from verify.suites.suite import Results, Suite, of_both_thetas

#: points of a forgotten set (fewer where m is small); every order of them is tried
SET_SIZE = 3


def per_instance(net: Any, record: Record, shape: Shape) -> Results:
    """For both theta: at once = one after another in every order (kept); by how much fresh gradients differ."""
    data, m, problem = record.data, shape.m, net.problem(record.data)
    size = min(SET_SIZE, m - 1)
    forget = forget_set(record, size)
    orders = record.order[jnp.asarray(list(itertools.permutations(range(size))))]
    reason = jnp.asarray(int(Reason.APPLIES if size > 1 else Reason.FORGET_SIZE))

    def both(point: KKTPoint) -> Results:
        at_once = unlearn.gradient_ascent(net, data, point, forget)
        gone = problem.constraints_of(forget)
        q = jnp.abs(problem.coefficients(jnp.where(gone, point.multipliers, 0.0), point.selection))
        moved = numerics.matmul(q, jnp.abs(problem.rows))
        error = 2 * numerics.rounding(m + size, point.params, moved)
        z_moved = numerics.matmul(q, jnp.abs(problem.gram()))
        z_error = 2 * numerics.rounding(m + size, point.preactivations, z_moved)
        common: dict[str, Any] = {"reason": reason, "converged": point.status == int(Status.OK)}

        kept = jax.vmap(lambda order: one_after_another(net, data, point, order, "kept"))(orders)
        fresh = jax.vmap(lambda order: one_after_another(net, data, point, order, "fresh").params)(orders)
        refit = one_after_another(net, data, point, orders[0], "refit" if problem.kinked else "fresh")
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
        values = jax.vmap(lambda params: certified(problem, point, forget, params))(
            jnp.concatenate([fresh, refit.params[None]])
        )
        for name, value in zip(("epsilon", "tau", "difference"), values, strict=True):
            out[f"{name}_fresh"] = jnp.max(value[:-1])
            out[f"{name}_refit"] = value[-1]
        return out

    return of_both_thetas(record, both)


_SERIES = (
    ("kept", r"$\lambda$, $s$ kept (any order)", 0),
    ("fresh", r"gradients fresh, $\sigma'(0) = 0$", 1),
    ("refit", r"$\lambda$, $s$ measured afresh", 2),
)


def draw(figure: Any, blocks: list[Any], grid: Any) -> None:
    """How far the outcomes are apart, and epsilon of the projection certificate of each, against d (networks)."""
    block = widest(blocks)
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


def find(blocks: list[Any], grid: Any) -> Finding:
    """How far apart the orders are with lambda and s kept, and what fresh gradients do."""
    seen = view(blocks, "sequences")
    if not seen.dims:
        return NOTHING
    kept, fresh = (seen.median(f"epsilon_{name}_limit", seen.top) for name in ("kept", "fresh"))
    return found(
        "at once or one after another is the same up to {same}",
        "with fresh gradients off by {off:%}, epsilon {grown} times larger (d = {top:d})",
        top=seen.top, same=seen.median("difference_kept_limit", seen.top),
        off=seen.median("difference_fresh_limit", seen.top), grown=fresh / kept if kept > 0 else np.nan,
    )  # fmt: skip


SUITE = Suite(
    name="sequences",
    statement="with lambda and s kept, forgetting a set at once or one after another, in any order, is the same step",
    source="docs/theory, Sets and sequences",
    per_instance=per_instance,
    draw=draw,
    find=find,
    explain=Explanation(
        hypotheses="lambda and s are those of the original model throughout",
        meaning="requests to forget may come one by one; recomputing gradients in between gives another model",
        false_if="an order of the same points with another outcome, beyond rounding",
    ),
)
