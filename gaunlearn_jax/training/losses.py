"""The training losses, by the logarithms of their value and of their slope, which never underflow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import PerPoint
from gaunlearn_jax.base.registry import Registry


@dataclasses.dataclass(frozen=True)
class Loss:
    """l(q) of a margin q, positive and decreasing: log_value(q) = log l(q), log_slope(q) = log(-l'(q)).

    With several margins a point, q is their soft minimum -log sum exp(-q_a): the logistic loss becomes cross-entropy,
    the exponential loss sum exp(-q_a).

    `monotone` is whether the smoothed normalised margin is proved never to fall along its gradient flow
    (docs/theory, Implicit bias)."""

    name: str
    statement: str
    log_value: Callable[[PerPoint], PerPoint]
    log_slope: Callable[[PerPoint], PerPoint]
    monotone: bool = False


LOSSES: Registry[Loss] = Registry("loss", "losses")
LOSSES.register(
    Loss("exponential", "l(q) = exp(-q)", log_value=lambda q: -q, log_slope=lambda q: -q, monotone=True),
)
LOSSES.register(
    Loss(
        "logistic",
        "l(q) = log(1 + exp(-q))",
        log_value=lambda q: jnp.where(q > 35.0, -q, jnp.log(jax.nn.softplus(-q))),
        log_slope=lambda q: -numerics.array_namespace(q).logaddexp(q, 0.0),
    )
)
