"""The gradient-ascent step  theta_hat = theta - c h,  h = sum_{r in R} lambda_r y_r g_r.

Ascending the losses of the forget set with step sizes beta_r = -lambda_r / l'(q_r) is exactly this step for every
loss (docs/theory, Gradient-ascent step). g_r uses the selection of the KKT multipliers at kinks, where automatic
differentiation would silently choose a value of its own.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gaunlearn_jax import checks, models, numerics
from gaunlearn_jax import train as training
from gaunlearn_jax._types import Code, Mask, Params, PerPair, PerPoint, Scalar, Status
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.show import Shown


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class Unlearned(Shown):
    """theta_hat: params, pre-activations, the untouched norm outside the span, log beta_r [m] (-inf: no step)."""

    params: Params
    preactivations: PerPair
    orthogonal_norm: Float[Array, ""]
    log_step_size: PerPoint
    status: Code


def ascent_direction(net: models.Network, data: Dataset, point: KKTPoint, forget: Mask) -> tuple[Params, PerPair]:
    """h as params [n, p] and as its pre-activations [n, m] (exactly zero where no forgotten point is active)."""
    q = models.coefficients(net, data.labels, jnp.where(forget, point.multipliers, 0.0), point.selection)
    return numerics.matmul(q, data.points), numerics.matmul(q, numerics.gram(data.points))


def gradient_ascent(
    net: models.Network,
    data: Dataset,
    point: KKTPoint,
    forget: Mask,
    scale: Scalar = 1.0,
    *,
    loss: str = "exponential",
) -> Unlearned:
    """One ascent step on the forget set, `scale` times the theorem's step (scale 0 does nothing).

    forget [m] is a mask (see data.forget_mask). log_step_size is log(scale beta_r) for `loss`. ValueError for a
    negative or NaN scale, a mask of the wrong shape or type, or nothing retained; under tracing the status says so.
    Source: docs/theory, Gradient-ascent step.
    """
    forget = check_forget(data, forget, scale)
    if loss not in training.LOSSES:
        raise ValueError(f"loss is {loss!r}, expected one of {', '.join(training.LOSSES)}")
    h, h_z = ascent_direction(net, data, point, forget)
    q = models.margins(net, data.labels, point.preactivations)
    size = jnp.where(forget, point.multipliers, 0.0) * scale
    log_size = jnp.log(jnp.where(size > 0, size, 1.0)) - training.log_loss_slope(q, loss)
    return Unlearned(
        params=point.params - scale * h,
        preactivations=point.preactivations - scale * h_z,
        orthogonal_norm=point.orthogonal_norm,
        log_step_size=jnp.where(size > 0, log_size, -jnp.inf),
        status=step_status(point, forget, scale),
    )


def gradient_ascent_through_loss(
    net: models.Network, data: Dataset, point: KKTPoint, forget: Mask, scale: Scalar = 1.0, *, loss: str = "exponential"
) -> Params:
    """The same step made the long way: theta + sum_r beta_r grad l(y_r N(theta, x_r)) by automatic differentiation.

    The selection s enters through sigma(z) = s z, which holds with derivative s for every Clarke selection.
    Agrees with `gradient_ascent` while beta_r does not overflow; kept as its independent check.
    """
    log_beta = gradient_ascent(net, data, point, forget, scale, loss=loss).log_step_size

    def weighted_loss(params: Params) -> Array:
        z = models.preactivations(data.points, params)
        q = data.labels * numerics.matmul(net.output_weights, point.selection * z)
        values = jnp.exp(-q) if loss == "exponential" else jax.nn.softplus(-q)
        return jnp.sum(jnp.where(forget, jnp.exp(log_beta) * values, 0.0))

    return point.params + jax.grad(weighted_loss)(point.params)


def check_forget(data: Dataset, forget: Any, scale: Scalar = 1.0) -> Mask:
    """The forget mask as an array, after the checks that every step and certificate shares."""
    numerics.require_x64()
    mask = jnp.asarray(forget)
    if mask.shape != (data.num_points,) or mask.dtype != bool:
        raise ValueError(
            f"forget has shape {mask.shape} and dtype {mask.dtype}, expected a bool mask of shape "
            f"({data.num_points},); make one with data.forget_mask(data, indices)"
        )
    if not checks.is_traced(mask) and np.all(np.asarray(mask)):
        raise ValueError(f"forget marks all {data.num_points} points; retain at least one")
    checks.number("scale", scale, "one finite number >= 0 (1 is the theorem's step)", 0.0)
    return mask


def step_status(point: KKTPoint, forget: Mask, scale: Scalar) -> Code:
    """Status of a step from this point: the point's own, or BAD_INPUT for an impossible forget set or scale."""
    step = jnp.asarray(scale, jnp.float64)
    good = jnp.any(~forget) & jnp.isfinite(step) & (step >= 0)
    return jnp.where(good, point.status, Status.BAD_INPUT)
