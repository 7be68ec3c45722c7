"""Unlearning steps for networks with both layers trained: W - h^W in the first layer, a - c h^a in the second.

h^W = sum_R lambda_r y_r a_j s_jr x_r and h^a = sum_R lambda_r y_r sigma(z_jr) are what gradient ascent on the forget
set subtracts; the steps differ in the fraction of each. Source: docs/theory, Steps of both layers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Mask, Params, PerPair, PerPoint
from gaunlearn_jax.base.registry import Registry
from gaunlearn_jax.both_layers.point import OutputWeights, Point, Weights, first_layer, output_gradient
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.unlearn import check_forget

PerClass = Float[Array, "2"]


class Classes(NamedTuple):
    """Of the classes +1 and -1: the share x of their multipliers that is retained (1 of an empty class), and the share
    p of all multipliers that is theirs."""

    kept: PerClass
    share: PerClass


@dataclasses.dataclass(frozen=True)
class Step:
    """`first` is the fraction of h^W, `second(classes)` that of h^a on the neurons of each class."""

    name: str
    statement: str
    first: float
    second: Callable[[Classes], PerClass]


def half(classes: Classes) -> PerClass:
    """c = 1 / (1 + sqrt x): what is left of a class's output weights is then sqrt x, as in its first layer."""
    return 1 / (1 + jnp.sqrt(classes.kept))


def nearest(classes: Classes) -> PerClass:
    """The c of the smallest gap for orthogonal points and uniform patterns: c = (1 - f) / (1 - x), f = k x^(1/4), with

    k = sum p' x / sum p' x^(3/4), where p' = p for classes that forget, and 2 p with x = 1 for a class that does not.
    For one class c is about 1 / (4 - 2 p); where nothing is forgotten c is of no matter, and 1/2 is returned.
    """
    x, p = classes.kept, classes.share
    weight = jnp.where(x < 1, p, 2 * p)
    k = jnp.sum(weight * x) / jnp.sum(weight * x**0.75)
    lost = jnp.where(x < 1, 1 - x, 1.0)
    return jnp.where(x < 1, (1 - k * x**0.25) / lost, 0.5)


STEPS: Registry[Step] = Registry("step of both layers", "steps of both layers")
for _row in (
    Step("nothing", "the network as it is", 0.0, lambda classes: jnp.zeros(2)),
    Step("full", "the whole ascent step on both layers", 1.0, lambda classes: jnp.ones(2)),
    Step("first", "the whole step on the first layer, none on the second", 1.0, lambda classes: jnp.zeros(2)),
    Step("half", "the whole step on the first layer, 1 / (1 + sqrt x) of it on the second", 1.0, half),
    Step("nearest", "the fraction on the second layer that ends nearest for orthogonal points", 1.0, nearest),
):
    STEPS.register(_row)


def classes_of(labels: PerPoint, multipliers: PerPoint, forget: Mask) -> Classes:
    """The shares of the classes +1 and -1."""
    mine = jnp.stack([labels > 0, labels < 0])
    whole = jnp.sum(jnp.where(mine, multipliers, 0.0), axis=1)
    kept = jnp.sum(jnp.where(mine & ~forget, multipliers, 0.0), axis=1)
    some = whole > 0
    return Classes(
        jnp.where(some, kept / jnp.where(some, whole, 1.0), 1.0), whole / jnp.maximum(jnp.sum(whole), 1e-300)
    )


def per_neuron(output_weights: OutputWeights, values: PerClass) -> OutputWeights:
    """The value of each neuron's class: that of the sign of its output weight."""
    return jnp.where(output_weights >= 0, values[0], values[1])


def ascent(data: Dataset, point: Point, forget: Mask) -> tuple[Params, PerPair, OutputWeights]:
    """(h^W, its pre-activations, h^a)."""
    problem = first_layer(data, point.weights.output_weights)
    gone = jnp.where(forget, point.multipliers, 0.0)
    made = problem.coefficients(gone, point.selection)
    return (
        numerics.matmul(made, data.points),
        numerics.matmul(made, problem.gram()),
        output_gradient(data, point.weights.preactivations, gone),
    )


def unlearned(step: str, data: Dataset, point: Point, forget: Mask) -> Weights:
    """theta_hat of a step of STEPS; ValueError for an unknown one or an impossible mask."""
    row = STEPS[step]
    forget = check_forget(data, forget)
    h_w, h_z, h_a = ascent(data, point, forget)
    theta = point.weights
    c = per_neuron(theta.output_weights, row.second(classes_of(data.labels, point.multipliers, forget)))
    return Weights(
        theta.params - row.first * h_w, theta.output_weights - c * h_a, theta.preactivations - row.first * h_z
    )
