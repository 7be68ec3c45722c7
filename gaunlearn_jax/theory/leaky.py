"""Theorem LK: leaky networks whose KKT point is unique, with every activation known from the signs alone.

Source: docs/theory, Leaky networks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Numbers
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.theory.lemma_m import gram_rounding

#: v_ji = u_j y_i, of JAX or of NumPy
Amplitudes = Float[Array, "n m"] | Float[np.ndarray, "n m"]


class Uniqueness(NamedTuple):
    """chi (below 1: Theorem LK applies, inf where a denominator is not positive), the largest multiplier that is
    possible, and for each point [m] the smallest one (not positive: empty) and the least y_i z_ji / u_j."""

    chi: Any
    most: Any
    least: Any
    clearance: Any


def on_pattern(amplitudes: Amplitudes) -> Any:
    """Pairs (neuron, point) that are active at the KKT point of Theorem LK: those that raise the margin."""
    return amplitudes > 0


def pattern_selection(amplitudes: Amplitudes, slope: float) -> Any:
    """The selection s of Theorem LK: 1 where v_ji > 0, the slope elsewhere."""
    xp = numerics.array_namespace(amplitudes)
    return xp.where(on_pattern(amplitudes), 1.0, slope)


def has_theorem(problem: MarginProblem) -> bool:
    """Whether Theorem LK speaks of a margin problem: one entry a point, 0 < slope < 1."""
    return problem.layout is None and 0 < problem.slope < 1


def uniqueness(
    amplitudes: Amplitudes, slope: float, psi: Numbers, phi: Numbers, epsilon: Numbers = 0.0, delta: Numbers = 0.0
) -> Uniqueness:
    """The hypothesis of Theorem LK and its bounds, for slope a in (0, 1) and an (epsilon_1, delta_1)-KKT point.

    c_i = sum_j v_ji^2 s^2 and b_i = sum_j v_ji^2 s, s = 1 where v_ji > 0 and a elsewhere; x = (m - 1) phi,
    eta = epsilon_1 sqrt(1 + psi) / min |v|, D_i = c_i (1 - psi) - x b_i, B_i = 1 + epsilon_1 sqrt(c_i (1 - psi)):
    most = max(max_i (B_i + sqrt(B_i^2 + 4 D_i delta_1)) / (2 D_i), eta / (a (1 - psi) - x)),
    chi_i = (x most (c_i - a^2 b_i) + eta (c_i + a b_i)) / a, chi = max_i chi_i, clearance_i = a (1 - chi_i) / c_i,
    least_i = (1 - x most b_i - epsilon_1 sqrt((1 + psi) c_i)) / ((1 + psi) c_i). Source: docs/theory, Leaky networks.

    >>> import jax
    >>> with jax.enable_x64(True):
    ...     print(f"{float(uniqueness(jnp.asarray([[0.5, -0.5], [-0.5, 0.5]]), 0.5, 0.0, 0.01).most):.4f}")
    3.2389
    """
    xp = numerics.array_namespace(amplitudes, psi, phi, epsilon, delta)
    s = pattern_selection(amplitudes, slope)
    c, b = xp.sum(amplitudes**2 * s**2, axis=0), xp.sum(amplitudes**2 * s, axis=0)
    x = (amplitudes.shape[1] - 1) * xp.asarray(phi)
    below, room = c * (1 - psi) - x * b, slope * (1 - psi) - x
    defined = xp.all(below > 0) & (room > 0)
    below, room = (xp.where(defined, value, 1.0) for value in (below, room))
    blur = epsilon * xp.sqrt(1.0 + psi) / xp.min(xp.abs(amplitudes))
    first = 1.0 + epsilon * xp.sqrt(c * xp.maximum(1.0 - psi, 0.0))
    top = xp.maximum(xp.max((first + xp.sqrt(first**2 + 4 * below * delta)) / (2 * below)), blur / room)
    each = (x * top * (c - slope**2 * b) + blur * (c + slope * b)) / slope
    least = (1 - x * top * b - epsilon * xp.sqrt((1 + psi) * c)) / ((1 + psi) * c)
    return Uniqueness(
        chi=xp.where(defined, xp.max(each), xp.inf),
        most=xp.where(defined, top, xp.inf),
        least=xp.where(defined, least, -xp.inf),
        clearance=xp.where(defined, slope * (1 - each) / c, -xp.inf),
    )


def measured(problem: MarginProblem, epsilon: Numbers = 0.0, delta: Numbers = 0.0) -> Uniqueness:
    """`uniqueness` for the problem's own psi and phi, which enter outward."""
    k, unit = problem.gram(), gram_rounding(problem)
    psi = jnp.max(jnp.abs(jnp.diagonal(k) - 1.0)) + 2 * unit
    phi = jnp.max(jnp.where(jnp.eye(problem.num_rows, dtype=bool), 0.0, jnp.abs(k))) + 2 * unit
    return uniqueness(problem.amplitudes, problem.slope, psi, phi, epsilon, delta)


def largest_pull(psi: Numbers, phi: Numbers, epsilon: Numbers, delta: Numbers, floor: Numbers, *, m: int) -> Any:
    """(upper, defined) for gamma_i = lambda_i ||(u_j s_ji)_j||, where every sum_j u_j^2 s_ji^2 >= `floor`, any slope:

    (B + sqrt(B^2 + 4 A delta_1)) / (2 A), A = 1 - psi - (m-1) phi > 0, B = 1 / sqrt(floor) + epsilon_1 sqrt(1 - psi).
    Source: docs/theory, Leaky networks, Lemma G.
    """
    xp = numerics.array_namespace(psi, phi, epsilon, delta, floor)
    a = xp.asarray(1.0 - psi - (m - 1) * xp.asarray(phi))
    defined = a > 0
    safe = xp.where(defined, a, 1.0)
    first = 1.0 / xp.sqrt(floor) + epsilon * xp.sqrt(xp.maximum(1.0 - xp.asarray(psi), 0.0))
    return (first + xp.sqrt(first**2 + 4 * safe * delta)) / (2 * safe), defined
