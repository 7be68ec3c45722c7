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
from jaxtyping import Array, Float, Int

from gaunlearn_jax.base import checks, draws, numerics
from gaunlearn_jax.base.arrays import Code, Mask, Params, PerConstraint, PerRow, Scalar
from gaunlearn_jax.base.codes import Status
from gaunlearn_jax.base.show import Shown
from gaunlearn_jax.base.staging import staged
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.training.losses import LOSSES


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class Trained(Shown):
    """A trained network, not rescaled. Histories have one entry per checkpoint, h of them.

    params [n, p], preactivations [n, r], margins [a], orthogonal_norm = norm of the initial weights outside the span of
    the points (training never moves it), steps [h], log_loss [h] (log of the mean loss), margin [h] (smallest q_i) and
    smoothed_margin [h] = -log(sum_i exp(-q_i)) / ||theta||.
    """

    params: Params
    preactivations: PerRow
    orthogonal_norm: Float[Array, ""]
    margins: PerConstraint
    steps: Float[Array, "h"]
    log_loss: Float[Array, "h"]
    margin: Float[Array, "h"]
    smoothed_margin: Float[Array, "h"]
    status: Code


#: a number of steps, traced or not
Steps = Int[Array, ""] | int


class _Carry(NamedTuple):
    """Coefficients are [r, n] here: the long axis of neurons is the inner one of the products. Pre-activations and
    weights are made of them in every step: what a batch carries through its loop it also selects lane by lane."""

    coefficients: Float[Array, "r n"]
    opt_state: Any


def default_schedule(num_steps: Steps, step_size: Scalar, start: Scalar) -> optax.Schedule:
    """Step sizes that grow geometrically from `start` to `step_size` over the first fifth, stay, and decay
    geometrically by 100 over the last fifth (chosen by measurement: docs/design, Training schedule). All may be
    traced, so that trainings of any length share a compilation."""
    fifth = jnp.maximum(1, num_steps // 5)

    def schedule(count: Steps) -> Array:
        late = count - (num_steps - fifth)
        warm = jnp.where(count < fifth, start * jnp.power(step_size / start, count / fifth), step_size)
        return jnp.where(late < 0, warm, step_size * jnp.power(1e-2, late / fifth))

    return schedule


def train(
    key: Array,
    net: Any,
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
    check_options(loss, init_scale, num_steps)
    checks.number("step_size", step_size, "a positive number", 0.0, open_low=True)
    checks.whole("checkpoints", checkpoints, 1, "a positive whole number")
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
    net: Any,
    data: Dataset,
    mask: Mask,
    loss: str,
    init_scale: Scalar,
    num_steps: int,
    step_size: float,
    optimizer: optax.GradientTransformation | None,
    checkpoints: int,
) -> Trained:
    problem = net.problem(data)
    p, n = problem.rows.shape[1], problem.num_neurons
    key_in, key_out = jax.random.split(key)
    seen = data.dim / data.patches
    unit = init_scale / jnp.sqrt(seen)
    initial = unit * draws.normal(key_in, shape=(n, p))
    outside = jnp.maximum(n * (seen - p), 0.0)
    orthogonal = unit * draws.chi(key_out, jnp.maximum(outside, 1e-3))
    orthogonal = jnp.where(outside > 0, orthogonal, 0.0)

    edges = np.unique(np.linspace(0, num_steps, checkpoints + 1).astype(int))
    path = _descend(problem, mask, initial, orthogonal, edges, step_size, loss=loss, optimizer=optimizer)
    margin = path.margin[-1]
    return Trained(
        params=initial + numerics.matmul(path.coefficients, problem.rows),
        preactivations=path.preactivations,
        orthogonal_norm=orthogonal,
        margins=problem.margins(path.preactivations),
        steps=jnp.asarray(edges[1:], jnp.float64),
        log_loss=path.log_loss,
        margin=path.margin,
        smoothed_margin=path.smoothed_margin,
        status=ended(margin, data),
    )


def ended(margin: Scalar, data: Dataset) -> Code:
    """The status of a training that ended with this smallest margin."""
    status = jnp.where(margin > 0, Status.OK, Status.NOT_SEPARATED)
    return jnp.maximum(jnp.where(jnp.isfinite(margin), status, Status.UNCONVERGED), data.status)


class _Path(NamedTuple):
    """Where a descent ends (coefficients and pre-activations [n, r]), and its history."""

    coefficients: PerRow
    preactivations: PerRow
    log_loss: Float[Array, "h"]
    margin: Float[Array, "h"]
    smoothed_margin: Float[Array, "h"]


def _settled(path: _Path, problem: MarginProblem, mask: Mask, initial: Params, *more: Any, **static: Any) -> _Path:
    """The same coefficients with the pre-activations that they have here."""
    z = problem.preactivations(initial) + numerics.matmul(path.coefficients, problem.gram())
    return path._replace(preactivations=z)


@functools.partial(staged, settled=_settled)
def _descend(
    problem: MarginProblem,
    mask: Mask,
    initial: Params,
    orthogonal: Scalar,
    edges: Int[Array, "e"],
    step_size: Scalar,
    *,
    loss: str,
    optimizer: optax.GradientTransformation | None,
) -> _Path:
    """The descent itself, with a checkpoint at each of `edges` but the first: one equation of what is traced around
    it, whatever the number of steps."""
    m, n = problem.num_rows, problem.num_neurons
    live, live_rows = problem.constraints_of(mask), problem.rows_of(mask)
    k = problem.gram()
    # margins per unit of coefficient over the points trained on, so that step_size is free of units and of the others
    scale = jnp.sum(jnp.where(live_rows, jnp.diagonal(k), 0.0)) * m / jnp.sum(live_rows) ** 2
    if optimizer is None:
        peak = step_size * m
        optimizer = optax.sgd(default_schedule(edges[-1], peak, peak * 1e-3))
    z0 = problem.preactivations(initial)

    def preactivations(c: Array) -> Array:
        return (z0.T + numerics.matmul(k, c)).T

    def step(_: Array, carry: _Carry) -> _Carry:
        c, opt_state = carry
        z = preactivations(c)
        weights = jax.nn.softmax(jnp.where(live, log_weights(problem, problem.margins(z), loss), -jnp.inf))
        ascent = problem.coefficients(weights, problem.slopes(z)).T / scale
        updates, opt_state = optimizer.update(-ascent, opt_state)
        return _Carry(optax.apply_updates(c, updates), opt_state)

    def checkpoint(carry: _Carry, bounds: tuple[Array, Array]) -> tuple[_Carry, tuple[Array, Array, Array]]:
        carry = lax.fori_loop(bounds[0], bounds[1], step, carry)
        q = problem.margins(preactivations(carry.coefficients))
        soft = jnp.where(mask, problem.soft_margins(q), jnp.inf)
        q = jnp.where(live, q, jnp.inf)
        params = initial + numerics.matmul(carry.coefficients.T, problem.rows)
        log_mean = jax.nn.logsumexp(LOSSES[loss].log_value(soft)) - jnp.log(jnp.sum(mask))
        smoothed = -jax.nn.logsumexp(-q) / numerics.norm(params, orthogonal)
        return carry, (log_mean, jnp.min(q), smoothed)

    carry = _Carry(jnp.zeros((m, n)), optimizer.init(jnp.zeros((m, n))))
    carry, (log_loss, margin, smoothed) = lax.scan(checkpoint, carry, (edges[:-1], edges[1:]))
    return _Path(carry.coefficients.T, preactivations(carry.coefficients), log_loss, margin, smoothed)


def log_weights(problem: MarginProblem, q: PerConstraint, loss: str) -> PerConstraint:
    """log(-dL/dq_a) of the summed loss L = sum_i l(u_i), u_i the soft margin of point i; log(-l'(q_i)) for one margin a
    point, the logarithm of a probability of the softmax for the logistic loss of several."""
    soft = problem.soft_margins(q)
    if soft is q:
        return LOSSES[loss].log_slope(q)
    at = problem.constraints_of(LOSSES[loss].log_slope(soft) + soft)
    return at - q


def check_options(loss: str, init_scale: Scalar, num_steps: int) -> None:
    """ValueError for an unknown loss, a scale or a number of steps that is not positive."""
    LOSSES[loss]  # an unknown one raises
    checks.number("init_scale", init_scale, "a positive number", 0.0, open_low=True)
    checks.whole("num_steps", num_steps, 1, "a positive whole number")
