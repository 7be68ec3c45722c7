"""Ascent that leaves some retained directions alone: projections of the step, in every neuron alike, per neuron, or in
all weights at once.

Both take from h a part of its projection onto the span of the retained points, so that what these see of the step is
smaller (docs/theory, Steps that keep retained directions).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Mask, Params, Scalar
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.unlearn.step import Unlearned, ascent_direction, check_forget, gradient_ascent

SUBSPACES = ("mean", "nearest", "active", "all")


def projected_ascent(
    net: Any, data: Dataset, point: KKTPoint, forget: Mask, subspace: str = "all", nearest: Scalar = 3.0
) -> Unlearned:
    """theta - (I - P_0) h, with P_0 the projection onto a subspace of the span of the retained points.

    subspace: "mean" of the retained points; "nearest" the mean and the `nearest` retained points of largest |cos| with
    a forgotten one; "active" those with a multiplier; "all". Pre-activations of points in it stay exactly as they are.
    ValueError for another word, and as for `gradient_ascent`.
    Source: docs/theory, Steps that keep retained directions.
    """
    if subspace not in SUBSPACES:
        raise ValueError(f"subspace is {subspace!r}, expected one of {', '.join(SUBSPACES)}")
    ascent = gradient_ascent(net, data, point, forget)
    problem = net.problem(data)
    kept = _spanning(problem, point, check_forget(data, forget), subspace, nearest)
    h, _ = ascent_direction(problem, point, forget)
    taken = h - numerics.project(h, retained_basis(problem, forget, kept, with_mean=subspace in ("mean", "nearest")))
    z = point.preactivations - jnp.where(kept, 0.0, problem.preactivations(taken))
    return dataclasses.replace(ascent, params=point.params - taken, preactivations=z)


def neuronwise_ascent(net: Any, data: Dataset, point: KKTPoint, forget: Mask) -> Unlearned:
    """theta - ((I - P_j) h_j)_j, with P_j the projection onto the retained points that neuron j sees (z_ji >= 0, or all
    of them where sigma has a slope below zero).

    What a neuron sees stays exactly as it is. `valid` where no retained pair turns from unseen to seen: then theta_hat
    itself is a (||e + (P_j h_j)_j||, delta_1)-approximate KKT point of the retained problem.
    Source: docs/theory, Steps that keep retained directions.
    """
    ascent = gradient_ascent(net, data, point, forget)
    problem = net.problem(data)
    h, _ = ascent_direction(problem, point, forget)
    kept, seen = problem.rows_of(~forget), seen_pairs(problem, point, forget)
    taken = h - seen_part(problem, h, seen)
    z = point.preactivations - jnp.where(seen, 0.0, problem.preactivations(taken))
    valid = jnp.all((z <= 0) | seen | ~kept)
    return dataclasses.replace(ascent, params=point.params - taken, preactivations=z, valid=valid)


def orthogonal_ascent(net: Any, data: Dataset, point: KKTPoint, forget: Mask) -> Unlearned:
    """theta - (I - P_0) h, with P_0 the projection onto the gradients of the retained margins, in all weights at once
    and as automatic differentiation has them (at a kink the slope below zero).

    Retained margins stay as they are to first order where no pair is at a kink. For linear models it is the subspace
    "all" of `projected_ascent`.
    Source: docs/theory, Steps that keep retained directions.
    """
    ascent = gradient_ascent(net, data, point, forget)
    problem = net.problem(data)
    flat = problem.gradients(problem.slopes(point.preactivations)).reshape(problem.num_constraints, -1)
    h, _ = ascent_direction(problem, point, forget)
    basis = numerics.orthonormal_basis(flat, problem.constraints_of(~forget))
    taken = h - numerics.project(h.reshape(1, -1), basis).reshape(h.shape)
    z = point.preactivations - problem.preactivations(taken)
    return dataclasses.replace(ascent, params=point.params - taken, preactivations=z)


def seen_pairs(problem: MarginProblem, point: KKTPoint, forget: Mask) -> Bool[Array, "n r"]:
    """The pairs of a neuron and a retained row whose slope is not 0."""
    return problem.rows_of(~forget) & ((point.preactivations >= 0) | (problem.slope > 0))


def seen_part(problem: MarginProblem, h: Params, seen: Bool[Array, "n r"]) -> Params:
    """(P_j h_j)_j: each neuron's row projected onto the rows that it sees."""
    if problem.slope > 0:  # every neuron sees all of them
        return numerics.project(h, numerics.orthonormal_basis(problem.rows, seen[0]))
    bases = jax.vmap(lambda mask: numerics.orthonormal_basis(problem.rows, mask))(seen)
    return numerics.project_rows(h, bases)


def retained_basis(
    problem: MarginProblem, forget: Mask, rows: Bool[Array, "r"], *, with_mean: bool
) -> Float[Array, "b p"]:
    """Orthonormal rows that span the marked rows, and the mean of the retained ones if asked for."""
    if not with_mean:
        return numerics.orthonormal_basis(problem.rows, rows)
    kept = problem.rows_of(~forget)
    mean = jnp.sum(jnp.where(kept[:, None], problem.rows, 0.0), axis=0) / jnp.maximum(jnp.sum(kept), 1)
    return numerics.orthonormal_basis(
        jnp.concatenate([mean[None], problem.rows]), jnp.concatenate([jnp.ones(1, bool), rows])
    )


def _spanning(
    problem: MarginProblem, point: KKTPoint, forget: Mask, subspace: str, nearest: Scalar
) -> Bool[Array, "r"]:
    """The retained rows that the subspace contains."""
    kept = problem.rows_of(~forget)
    if subspace == "active":
        used = problem.of_entries(problem.constraints_of(~forget) & (point.multipliers > 0))
        return problem.by_row(used.astype(jnp.float64)) > 0 if problem.layout is not None else used
    if subspace == "nearest":
        size = jnp.sqrt(jnp.sum(problem.rows**2, axis=1))
        cos = jnp.abs(problem.gram()) / jnp.where(size > 0, size, 1.0) / jnp.where(size > 0, size, 1.0)[:, None]
        most = jnp.max(jnp.where(problem.rows_of(forget)[:, None], cos, 0.0), axis=0)
        rank = numerics.ranks(-jnp.where(kept, most, -1.0))
        return kept & (rank < nearest)
    return kept if subspace == "all" else jnp.zeros_like(kept)
