"""Explicit points that are nearly KKT points of the retained problem, and their cosine gaps from a stepped network.

Each is measured as it is: epsilon, delta and margin of its own weights, multipliers and selection on the retained
points. Source: docs/theory, Certificates of both layers.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Mask, Params
from gaunlearn_jax.base.codes import Status
from gaunlearn_jax.both_layers.point import Point, Weights, measured
from gaunlearn_jax.both_layers.solver import solve_pattern
from gaunlearn_jax.both_layers.steps import PerClass, ascent, per_neuron
from gaunlearn_jax.data import Dataset


def projection(data: Dataset, point: Point, forget: Mask) -> Point:
    """(W - (I - P) h^W, a) with lambda_T and the same selection: epsilon^2 = ||e^W + P h^W||^2 + ||e^a + h^a||^2.

    What is removed is orthogonal to the retained points, so their margins stay; h^a does not vanish with d.
    """
    h_w, _, _ = ascent(data, point, forget)
    inside = _project(data, h_w, forget)
    theta = Weights(
        point.weights.params - (h_w - inside),
        point.weights.output_weights,
        _on_retained(data, point, point.weights.params - (h_w - inside), forget),
    )
    return measured(data, theta, point.multipliers, point.selection, ~forget, status=point.status)


class ClassWise(NamedTuple):
    """Of the class-wise certificate: x of the classes +1 and -1, its own epsilon by the formula, whether that holds."""

    kept: PerClass
    epsilon: Float[Array, ""]
    applies: Bool[Array, ""]


def retained_mass(point: Point, h_a: Array) -> PerClass:
    """x = 1 - <a, h^a> / ||a||^2 over the neurons of the classes +1 and -1; 1 where there are none."""
    a = point.weights.output_weights
    mine = jnp.stack([a > 0, a < 0])
    mass = jnp.sum(jnp.where(mine, a**2, 0.0), axis=1)
    lost = jnp.sum(jnp.where(mine, a * h_a, 0.0), axis=1)
    return jnp.where(mass > 0, 1 - lost / jnp.where(mass > 0, mass, 1.0), 1.0)


def class_wise(data: Dataset, point: Point, forget: Mask) -> Point:
    """(x^(-1/4) P W, x^(1/4) a) with x of each neuron's class, lambda_i x^(-1/2) of each point's class.

    x as in `retained_mass`. At kinks of opposite sign s becomes s sqrt(x_point / x_neuron), or 1 where that is larger;
    epsilon is measured. INFEASIBLE where some x is not positive.
    """
    _, _, h_a = ascent(data, point, forget)
    a, x = point.weights.output_weights, retained_mass(point, h_a)
    possible = jnp.all(x > 0)
    x = jnp.where(x > 0, x, 1.0)
    root = per_neuron(a, x) ** 0.25
    inside = _project(data, point.weights.params, forget)
    z = _on_retained(data, point, inside, forget) / root[:, None]
    theta = Weights(inside / root[:, None], a * root, z)
    s = jnp.minimum(_selection(data, point, x), 1.0)
    status = jnp.where(possible, point.status, Status.INFEASIBLE)
    return measured(data, theta, point.multipliers / jnp.sqrt(_of_points(data, x)), s, ~forget, status=status)


def class_wise_formula(data: Dataset, point: Point, forget: Mask) -> ClassWise:
    """epsilon^2 = sum_j x^(-1/2) ||P h^W_j||^2 + x^(-3/2) (h^a_j - (1 - x) a_j)^2 for an exact KKT point theta.

    It holds where x > 0, no living neuron is strictly active at a retained point of the other class, and no selection
    is cut at 1.
    """
    h_w, _, h_a = ascent(data, point, forget)
    a, x = point.weights.output_weights, retained_mass(point, h_a)
    own = per_neuron(a, jnp.where(x > 0, x, 1.0))
    first = jnp.sum(_project(data, h_w, forget) ** 2, axis=1) / jnp.sqrt(own)
    second = (h_a - (1 - own) * a) ** 2 / own**1.5
    across = (a[:, None] * data.labels < 0) & ~forget
    uncut = jnp.all(~across | (_selection(data, point, jnp.where(x > 0, x, 1.0)) <= 1))
    applies = jnp.all(x > 0) & ~jnp.any(across & (point.weights.preactivations > 0)) & uncut
    return ClassWise(x, jnp.sqrt(jnp.sum(first + second)), applies)


def _of_points(data: Dataset, x: PerClass) -> Array:
    return jnp.where(data.labels > 0, x[0], x[1])


def _selection(data: Dataset, point: Point, x: PerClass) -> Array:
    """The selection of the class-wise certificate before it is cut at 1."""
    a, z = point.weights.output_weights[:, None], point.weights.preactivations
    ratio = jnp.sqrt(_of_points(data, x) / per_neuron(point.weights.output_weights, x)[:, None])
    return jnp.where((z == 0) & (a * data.labels < 0), point.selection * ratio, point.selection)


def retrained(data: Dataset, point: Point, forget: Mask) -> Point:
    """An exact KKT point of the retained points with the activations of theta: epsilon = delta = 0 at rounding level.

    Patterns that differ on forgotten points alone become one; its mass is shared as in theta.
    """
    a = point.weights.output_weights
    signs = jnp.where(a != 0, jnp.sign(a), 1.0)
    found = solve_pattern(data, signs, point.selection > 0.5, ~forget, a**2)
    return dataclasses.replace(found, status=jnp.maximum(found.status, point.status))


ALL = {"projection": projection, "class_wise": class_wise, "retrained": retrained}


def gap(one: Weights, other: Weights) -> Float[Array, ""]:
    """1 - cos of the angle between two networks, from the difference of their directions."""
    return numerics.cosine_gap(_whole(one), _whole(other))


def dead_mass(point: Point, other: Point) -> Float[Array, ""]:
    """The share of sum_j a_j^2 on neurons that are alive in `point` and dead (0, 0) in `other`."""
    mass = point.weights.output_weights**2
    dead = (mass > 0) & (other.weights.output_weights == 0)
    return jnp.sum(jnp.where(dead, mass, 0.0)) / jnp.sum(mass)


def _whole(theta: Weights) -> Float[Array, "..."]:
    return jnp.concatenate([theta.params, theta.output_weights[:, None]], axis=1)


def _project(data: Dataset, params: Params, forget: Mask) -> Params:
    return numerics.project(params, numerics.orthonormal_basis(data.points, ~forget))


def _on_retained(data: Dataset, point: Point, params: Params, forget: Mask) -> Array:
    """Pre-activations of weights that differ from theta's by what no retained point sees."""
    return jnp.where(forget, numerics.matmul(params, data.points.T), point.weights.preactivations)
