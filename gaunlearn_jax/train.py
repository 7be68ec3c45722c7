"""Gradient-flow training on the exponential or logistic loss, in representer form.

Gradients lie in the span of the points, so W = W_0 + C X with coefficients C [n, m] and Z = Z_0 + C K: one small
product per step and no x in sight. The loss is followed through its logarithm, so its weights never underflow:
a step of size eta moves theta by eta * sum_i p_i y_i g_i with p = softmax of log(-l'(q_i)), which is gradient flow in
another time (docs/theory, Margin problem).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float

from gaunlearn_jax import checks, models, numerics
from gaunlearn_jax._types import Code, Mask, Params, PerPair, PerPoint, Scalar, Status
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.show import Shown

LOSSES = ("exponential", "logistic")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class Trained(Shown):
    """A trained network, not rescaled. Histories have one entry per checkpoint, h of them.

    params [n, p], preactivations [n, m], orthogonal_norm = norm of the initial weights outside the span of the
    points (training never moves it), steps [h], log_loss [h] (log of the mean loss), margin [h] (smallest q_i) and
    smoothed_margin [h] = -log(sum_i exp(-q_i)) / ||theta||.
    """

    params: Params
    preactivations: PerPair
    orthogonal_norm: Float[Array, ""]
    margins: PerPoint
    steps: Float[Array, "h"]
    log_loss: Float[Array, "h"]
    margin: Float[Array, "h"]
    smoothed_margin: Float[Array, "h"]
    status: Code


class _Carry(NamedTuple):
    """Coefficients and pre-activations are [m, n] here: the long axis of neurons is the inner one of the products."""

    coefficients: Float[Array, "m n"]
    preactivations: Float[Array, "m n"]
    weights: PerPoint
    opt_state: Any


def log_loss_slope(q: PerPoint, loss: str) -> PerPoint:
    """log(-l'(q)): -q for l = exp(-q), log sigmoid(-q) for l = log(1 + exp(-q))."""
    return -q if loss == "exponential" else jax.nn.log_sigmoid(-q)


def log_loss_value(q: PerPoint, loss: str) -> PerPoint:
    """log l(q), finite for every finite q."""
    return -q if loss == "exponential" else jnp.where(q > 35.0, -q, jnp.log(jax.nn.softplus(-q)))


def default_schedule(num_steps: int, step_size: float, start: float) -> optax.Schedule:
    """Step sizes that grow geometrically from `start` to `step_size` over the first fifth, stay, and decay
    geometrically by 100 over the last fifth (chosen by measurement: docs/design, Training schedule)."""
    fifth = max(1, num_steps // 5)
    warm = optax.exponential_decay(start, fifth, step_size / start)
    cool = optax.exponential_decay(step_size, fifth, 1e-2)
    return optax.join_schedules([warm, optax.constant_schedule(step_size), cool], [fifth, num_steps - fifth])


def train(
    key: Array,
    net: models.Network,
    data: Dataset,
    *,
    loss: str = "exponential",
    init_scale: Scalar = 1e-3,
    num_steps: int = 500,
    step_size: float = 0.5,
    optimizer: optax.GradientTransformation | None = None,
    retained: Mask | None = None,
    checkpoints: int = 30,
) -> Trained:
    """Train from w_j(0) ~ N(0, init_scale^2 I_d / d) by normalised full-batch steps.

    `step_size` is in units of margin: a step raises an average margin by about step_size / 2. `optimizer` replaces
    the default `optax.sgd(default_schedule(...))`; it must be rotation-equivariant (sgd, momentum; not Adam or sign
    methods), since it acts on coefficients of the points. `retained` [m] trains on a subset. Status NOT_SEPARATED if
    some retained margin is not positive at the end. ValueError on an unknown loss or a nonpositive option.
    """
    numerics.require_x64()
    _check_options(loss, init_scale, num_steps, step_size, checkpoints)
    if optimizer is not None and not isinstance(optimizer, optax.GradientTransformation):
        raise ValueError(f"optimizer is {optimizer!r}, expected an optax GradientTransformation such as optax.sgd(0.1)")
    if retained is not None:
        checks.bool_mask("retained", retained, data.num_points, "True for the points to train on")
        if not checks.is_traced(retained) and not np.any(np.asarray(retained)):
            raise ValueError("retained marks no point: nothing is left to train on")
    mask = jnp.ones(data.num_points, bool) if retained is None else jnp.asarray(retained)
    return _train(key, net, data, mask, loss, init_scale, num_steps, step_size, optimizer, checkpoints)


@functools.partial(jax.jit, static_argnames=("loss", "num_steps", "step_size", "optimizer", "checkpoints"))
def _train(
    key: Array,
    net: models.Network,
    data: Dataset,
    mask: Mask,
    loss: str,
    init_scale: Scalar,
    num_steps: int,
    step_size: float,
    optimizer: optax.GradientTransformation | None,
    checkpoints: int,
) -> Trained:
    m, p, n = data.num_points, data.points.shape[1], net.num_neurons
    key_in, key_out = jax.random.split(key)
    unit = init_scale / jnp.sqrt(data.dim)
    initial = unit * jax.random.normal(key_in, (n, p), jnp.float64)
    outside = jnp.maximum(n * (data.dim - p), 0.0)
    orthogonal = unit * jnp.sqrt(2.0 * jax.random.gamma(key_out, jnp.maximum(outside, 1e-3) / 2.0))
    orthogonal = jnp.where(outside > 0, orthogonal, 0.0)

    k = numerics.gram(data.points)
    # margins per unit of coefficient over the points trained on, so that step_size is free of units and of the others
    scale = jnp.sum(jnp.where(mask, jnp.diagonal(k), 0.0)) * m / jnp.sum(mask) ** 2
    if optimizer is None:
        peak = step_size * m
        optimizer = optax.sgd(default_schedule(num_steps, peak, peak * 1e-3))
    z0 = models.preactivations(data.points, initial)

    def weighted(c: Array, z: Array, opt_state: Any) -> _Carry:
        q = models.margins(net, data.labels, z.T)
        weights = jax.nn.softmax(jnp.where(mask, log_loss_slope(q, loss), -jnp.inf))
        # carried rather than made where they are used: the compiler would repeat the exponentials for every neuron
        return _Carry(c, z, weights, opt_state)

    def step(_: Array, carry: _Carry) -> _Carry:
        c, z, weights, opt_state = carry
        ascent = models.coefficients(net, data.labels, weights, models.activation_slopes(net, z.T)).T / scale
        updates, opt_state = optimizer.update(-ascent, opt_state)
        c = optax.apply_updates(c, updates)
        return weighted(c, z0.T + numerics.matmul(k, c), opt_state)

    def checkpoint(carry: _Carry, bounds: tuple[Array, Array]) -> tuple[_Carry, tuple[Array, Array, Array]]:
        carry = lax.fori_loop(bounds[0], bounds[1], step, carry)
        q = jnp.where(mask, models.margins(net, data.labels, carry.preactivations.T), jnp.inf)
        params = initial + numerics.matmul(carry.coefficients.T, data.points)
        log_mean = jax.nn.logsumexp(log_loss_value(q, loss)) - jnp.log(jnp.sum(mask))
        smoothed = -jax.nn.logsumexp(-q) / numerics.norm(params, orthogonal)
        return carry, (log_mean, jnp.min(q), smoothed)

    edges = np.unique(np.linspace(0, num_steps, checkpoints + 1).astype(int))
    carry = weighted(jnp.zeros((m, n)), z0.T, optimizer.init(jnp.zeros((m, n))))
    carry, (log_loss, margin, smoothed) = lax.scan(checkpoint, carry, (jnp.asarray(edges[:-1]), jnp.asarray(edges[1:])))
    params = initial + numerics.matmul(carry.coefficients.T, data.points)
    status = jnp.where(margin[-1] > 0, Status.OK, Status.NOT_SEPARATED)
    status = jnp.where(jnp.isfinite(margin[-1]), status, Status.UNCONVERGED)
    return Trained(
        params=params,
        preactivations=carry.preactivations.T,
        orthogonal_norm=orthogonal,
        margins=models.margins(net, data.labels, carry.preactivations.T),
        steps=jnp.asarray(edges[1:], jnp.float64),
        log_loss=log_loss,
        margin=margin,
        smoothed_margin=smoothed,
        status=jnp.maximum(status, data.status),
    )


def _check_options(loss: str, init_scale: Scalar, num_steps: int, step_size: float, checkpoints: int) -> None:
    if loss not in LOSSES:
        raise ValueError(f"loss is {loss!r}, expected one of {', '.join(LOSSES)}")
    checks.number("init_scale", init_scale, "a positive number", 0.0, open_low=True)
    checks.number("step_size", step_size, "a positive number", 0.0, open_low=True)
    checks.whole("num_steps", num_steps, 1, "a positive whole number")
    checks.whole("checkpoints", checkpoints, 1, "a positive whole number")
