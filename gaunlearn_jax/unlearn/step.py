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
from jaxtyping import Array, Bool, Float

from gaunlearn_jax.base import checks, numerics
from gaunlearn_jax.base.arrays import Code, Mask, Params, PerConstraint, PerRow, Scalar
from gaunlearn_jax.base.codes import Status
from gaunlearn_jax.base.show import Shown
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.training.train import log_weights


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class Unlearned(Shown):
    """theta_hat: params, pre-activations, the norm outside the span, log beta [a] of its ascent part (-inf: none), and
    whether what the step's statement asks of its outcome was found (True where it asks nothing)."""

    params: Params
    preactivations: PerRow
    orthogonal_norm: Float[Array, ""]
    log_step_size: PerConstraint
    status: Code
    valid: Bool[Array, ""]


def ascent_direction(problem: MarginProblem, point: KKTPoint, forget: Mask) -> tuple[Params, PerRow]:
    """h as params [n, p] and as its pre-activations [n, r] (exactly zero where no forgotten point is active)."""
    gone = problem.constraints_of(forget)
    q = problem.coefficients(jnp.where(gone, point.multipliers, 0.0), point.selection)
    return numerics.matmul(q, problem.rows), numerics.matmul(q, problem.gram())


def gradient_ascent(
    net: Any,
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
    problem = net.problem(data)
    h, h_z = ascent_direction(problem, point, forget)
    q = problem.margins(point.preactivations)
    size = jnp.where(problem.constraints_of(forget), point.multipliers, 0.0) * scale
    log_size = jnp.log(jnp.where(size > 0, size, 1.0)) - log_weights(problem, q, loss)
    return Unlearned(
        params=point.params - scale * h,
        preactivations=point.preactivations - scale * h_z,
        orthogonal_norm=point.orthogonal_norm,
        log_step_size=jnp.where(size > 0, log_size, -jnp.inf),
        status=step_status(point, forget, scale),
        valid=jnp.asarray(True),
    )


def from_params(net: Any, data: Dataset, point: KKTPoint, forget: Mask, params: Any) -> Unlearned:
    """A step's outcome from its weights [n, p] alone, which keep the part of theta outside the span of the points.

    ValueError for another shape."""
    forget = check_forget(data, forget)
    problem = net.problem(data)
    made = jnp.asarray(params, jnp.float64)
    if made.shape != point.params.shape:
        raise ValueError(f"the step returned params of shape {made.shape}, expected {point.params.shape}: [n, p]")
    return Unlearned(
        params=made,
        preactivations=problem.preactivations(made),
        orthogonal_norm=point.orthogonal_norm,
        log_step_size=jnp.full(problem.num_constraints, -jnp.inf),
        status=step_status(point, forget, 1.0),
        valid=jnp.all(jnp.isfinite(made)),
    )


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
