"""Gradient flow of both layers from a small balanced start, in representer form.

Gradients of W lie in the span of the points, so W = W_0 + C X and Z = Z_0 + C K: no x in sight, any dimension at the
price of none. The loss is followed through its logarithm (see `gaunlearn_jax.training.train`).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from gaunlearn_jax.base import checks, draws, numerics
from gaunlearn_jax.base.arrays import Code, PerPair, PerPoint, Scalar
from gaunlearn_jax.base.show import Shown
from gaunlearn_jax.base.staging import staged
from gaunlearn_jax.both_layers.point import Weights
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.training.losses import LOSSES
from gaunlearn_jax.training.train import check_options, ended


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class Trained(Shown):
    """A trained network, not rescaled: its weights, margins [m], and the largest | ||w_j||^2 - a_j^2 | over
    ||theta||^2 (gradient flow keeps it; steps of finite size do not quite)."""

    weights: Weights
    margins: PerPoint
    imbalance: Float[Array, ""]
    status: Code


class _Carry(NamedTuple):
    """Coefficients C and pre-activations [n, m], output weights, squared norms of w_j."""

    coefficients: PerPair
    z: PerPair
    output: Float[Array, "n"]


def train(
    key: Array,
    data: Dataset,
    num_neurons: int,
    *,
    loss: str = "exponential",
    init_scale: Scalar = 1e-3,
    num_steps: int = 1000,
    step_size: float = 0.2,
) -> Trained:
    """Train from w_j(0) ~ N(0, init_scale^2 I_d / d), a_j(0) = +-||w_j(0)|| with alternating signs.

    Steps of the normalised gradient flow sum_i p_i y_i (a_j s_ji x_i, sigma(z_ji)), p the softmax of log(-l'(q_i));
    a step raises the margins by about step_size, and moves theta by at most that share of itself. NOT_SEPARATED if some
    margin is not positive at the end. ValueError on an unknown loss or an option out of range.
    """
    numerics.require_x64()
    check_options(loss, init_scale, num_steps)
    checks.number("step_size", step_size, "a number with 0 < step_size <= 0.5", 0.0, 0.5, open_low=True)
    n = checks.whole("num_neurons", num_neurons, 2, "an integer of at least 2 (one neuron of each sign)")
    return _train(key, data, n, loss, init_scale, num_steps, step_size)


@functools.partial(jax.jit, static_argnames=("num_neurons", "loss", "num_steps", "step_size"))
def _train(
    key: Array, data: Dataset, num_neurons: int, loss: str, init_scale: Scalar, num_steps: int, step_size: float
) -> Trained:
    p, n = data.points.shape[1], num_neurons
    key_in, key_out = jax.random.split(key)
    unit = init_scale / jnp.sqrt(data.dim)
    inside = unit * draws.normal(key_in, shape=(n, p))
    freedom = jnp.maximum(data.dim - p, 1e-3) * jnp.ones(n)
    # what lies outside the span of the points never moves, and is dropped with the rest of the start
    outside = jnp.where(data.dim > p, unit * draws.chi(key_out, freedom), 0.0)
    signs = jnp.where(jnp.arange(n) % 2 == 0, 1.0, -1.0)
    output = signs * jnp.sqrt(jnp.sum(inside**2, axis=1) + outside**2)
    z0 = numerics.matmul(inside, data.points.T)
    path = _flow(numerics.gram(data.points), data.labels, z0, output, jnp.asarray(num_steps), step_size, loss=loss)
    weights = Weights(inside + numerics.matmul(path.coefficients, data.points), path.output, path.z)
    q = data.labels * numerics.matmul(path.output, jnp.maximum(path.z, 0.0))
    off = jnp.max(jnp.abs(weights.imbalance + outside**2)) / (weights.norm**2 + jnp.sum(outside**2))
    return Trained(weights, q, off, ended(jnp.min(q), data))


def _settled(
    path: _Carry, gram: Float[Array, "m m"], labels: PerPoint, z0: PerPair, *more: Any, **static: Any
) -> _Carry:
    """The same coefficients with the pre-activations that they have here."""
    return path._replace(z=z0 + numerics.matmul(path.coefficients, gram))


@functools.partial(staged, settled=_settled)
def _flow(
    gram: Float[Array, "m m"],
    labels: PerPoint,
    z0: PerPair,
    output: Float[Array, "n"],
    num_steps: Int[Array, ""],
    step_size: Scalar,
    *,
    loss: str,
) -> _Carry:
    """The steps themselves: one equation of what is traced around them, whatever their number."""
    size = jnp.trace(gram) / labels.shape[0]

    def step(_: Array, carry: _Carry) -> _Carry:
        c, z, a = carry
        q = labels * numerics.matmul(a, jnp.maximum(z, 0.0))
        weights = labels * jax.nn.softmax(LOSSES[loss].log_slope(q))
        d_c = a[:, None] * jnp.where(z > 0, weights, 0.0)
        d_z = numerics.matmul(d_c, gram)
        d_a = numerics.matmul(jnp.maximum(z, 0.0), weights)
        # no neuron moves by more than sqrt(max K) of itself a unit of time, no margin by more than its rate
        rates = numerics.matmul(a, jnp.where(z > 0, d_z, 0.0)) + numerics.matmul(d_a, jnp.maximum(z, 0.0))
        grown = jnp.max(labels * rates)
        eta = step_size / jnp.maximum(jnp.sqrt(size), grown)
        a = a + eta * d_a
        c = c + eta * d_c
        return _Carry(c, z0 + numerics.matmul(c, gram), a)

    return lax.fori_loop(0, num_steps, step, _Carry(jnp.zeros_like(z0), z0, output))
