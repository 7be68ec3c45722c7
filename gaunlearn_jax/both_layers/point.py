"""A network N(theta, x) = sum_j a_j sigma(<w_j, x>), theta = (W, a), with multipliers and a Clarke selection, measured.

Its margin problem is min 1/2 ||theta||^2 subject to q_i = y_i N(theta, x_i) >= 1, both layers trained. Activity is
decided by `preactivations` with exact zeros at kinks. Source: docs/theory, Both layers.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gaunlearn_jax import kkt
from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Code, Mask, Params, PerPair, PerPoint
from gaunlearn_jax.base.codes import Status
from gaunlearn_jax.base.show import Shown
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.models.problem import MarginProblem

OutputWeights = Float[Array, "n"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class Weights(Shown):
    """theta: W [n, p], a [n], and z_ji = <w_j, x_i> [n, m] with exact zeros at kinks."""

    params: Params
    output_weights: OutputWeights
    preactivations: PerPair

    @property
    def norm(self) -> Float[Array, ""]:
        """||theta||, of both layers."""
        return numerics.norm(self.params, numerics.norm(self.output_weights))

    @property
    def imbalance(self) -> Float[Array, "n"]:
        """||w_j||^2 - a_j^2, zero at every exact KKT point."""
        return jnp.sum(self.params**2, axis=1) - self.output_weights**2

    def scaled(self, factor: Any) -> Weights:
        """factor theta."""
        return Weights(self.params * factor, self.output_weights * factor, self.preactivations * factor)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class Point(Shown):
    """theta with multipliers lambda [m] and a selection s [n, m], measured on the marked points.

    epsilon = || (e^W, e^a) ||, e^W_j = w_j - a_j sum_i lambda_i y_i s_ji x_i, e^a_j = a_j - sum_i lambda_i y_i
    sigma(z_ji); delta = max_i lambda_i (q_i - 1), margin = min_i q_i; error, delta_error = their rounding errors;
    repeats = rounds of the pattern loop.
    """

    weights: Weights
    multipliers: PerPoint
    selection: PerPair
    epsilon: Float[Array, ""]
    delta: Float[Array, ""]
    margin: Float[Array, ""]
    error: Float[Array, ""]
    delta_error: Float[Array, ""]
    repeats: Int[Array, ""]
    status: Code


def first_layer(data: Dataset, output_weights: OutputWeights) -> MarginProblem:
    """The margin problem of W with these output weights fixed: theta is a KKT point exactly if W is one of this and
    |a_j| = ||w_j||."""
    return MarginProblem(
        rows=data.points,
        amplitudes=output_weights[:, None] * data.labels,
        groups=jnp.where(data.labels > 0, 0, 1),
        num_groups=2,
    )


def output_gradient(data: Dataset, z: PerPair, multipliers: PerPoint) -> OutputWeights:
    """sum_i lambda_i y_i sigma(z_ji)."""
    return numerics.matmul(jnp.maximum(z, 0.0), multipliers * data.labels)


def residuals(data: Dataset, point: Any) -> tuple[Params, OutputWeights]:
    """(e^W, e^a) of anything with weights, multipliers and selection."""
    theta = point.weights
    made = first_layer(data, theta.output_weights).coefficients(point.multipliers, point.selection)
    e_w = theta.params - numerics.matmul(made, data.points)
    return e_w, theta.output_weights - output_gradient(data, theta.preactivations, point.multipliers)


def measured(
    data: Dataset,
    weights: Weights,
    multipliers: PerPoint,
    selection: PerPair,
    valid: Mask,
    *,
    repeats: Int[Array, ""] | int = 0,
    status: Code | int = Status.OK,
) -> Point:
    """A Point from its parts: epsilon, delta and margin are recomputed from theta; UNCONVERGED if not finite."""
    lam = jnp.where(valid, multipliers, 0.0)
    got = kkt.measure(
        first_layer(data, weights.output_weights), weights.params, weights.preactivations, lam, selection, valid
    )
    pulled = output_gradient(data, weights.preactivations, lam)
    size = numerics.matmul(jnp.maximum(weights.preactivations, 0.0), lam)
    epsilon = numerics.norm(weights.output_weights - pulled, got.epsilon)
    error = got.error + numerics.rounding(data.num_points, weights.output_weights, size)
    code = jnp.where(jnp.isfinite(epsilon), status, jnp.maximum(status, Status.UNCONVERGED))
    return Point(
        weights=weights,
        multipliers=lam,
        selection=selection,
        epsilon=epsilon,
        delta=got.delta,
        margin=got.margin,
        error=error,
        delta_error=got.delta_error,
        repeats=jnp.asarray(repeats, jnp.int32),
        status=jnp.asarray(code, jnp.int32),
    )
