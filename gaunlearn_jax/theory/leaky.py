"""Theorem LK: leaky networks whose KKT point is unique, with every activation known from the signs alone.

Source: docs/theory, Leaky networks.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from gaunlearn_jax.base.arrays import EntryMask, PerConstraint, PerEntry, Scalar


class Uniqueness(NamedTuple):
    """chi (below 1: Theorem LK applies, inf where a denominator is not positive), the largest multiplier that is
    possible, and the smallest of each point [m] (not positive: empty)."""

    chi: Float[Array, ""]
    most: Float[Array, ""]
    least: PerConstraint


def on_pattern(amplitudes: PerEntry) -> EntryMask:
    """Pairs (neuron, point) that are active at the KKT point of Theorem LK: those that raise the margin."""
    return amplitudes > 0


def uniqueness(amplitudes: PerEntry, slope: float, psi: Scalar, phi: Scalar) -> Uniqueness:
    """The hypothesis of Theorem LK and its bounds on the multipliers, for slope a in (0, 1).

    c_i = sum_j v_ji^2 s^2 and b_i = sum_j v_ji^2 s, s = 1 where v_ji > 0 and a elsewhere; x = (m - 1) phi;
    most = max_i 1 / (c_i (1 - psi) - x b_i), chi = x most max_i (c_i - a^2 b_i) / a,
    least_i = (1 - x most b_i) / ((1 + psi) c_i). Source: docs/theory, Leaky networks.

    >>> import jax
    >>> with jax.enable_x64(True):
    ...     print(f"{float(uniqueness(jnp.asarray([[0.5, -0.5], [-0.5, 0.5]]), 0.5, 0.0, 0.01).most):.4f}")
    3.2389
    """
    s = jnp.where(on_pattern(amplitudes), 1.0, slope)
    c, b = jnp.sum(amplitudes**2 * s**2, axis=0), jnp.sum(amplitudes**2 * s, axis=0)
    x = (amplitudes.shape[1] - 1) * jnp.asarray(phi)
    below = c * (1 - psi) - x * b
    defined = jnp.all(below > 0) & (x < slope * (1 - psi))
    most = jnp.where(defined, jnp.max(1 / jnp.where(below > 0, below, 1.0)), jnp.inf)
    chi = jnp.where(defined, x * most * jnp.max(c - slope**2 * b) / slope, jnp.inf)
    return Uniqueness(chi, most, (1 - x * jnp.where(defined, most, 0.0) * b) / ((1 + psi) * c))
