"""Right-hand sides of the theorems made from psi, phi, epsilon_1, delta_1, m, n, k alone: sharp, and coarse.

Every function is elementwise in its array arguments (docs/theory, Bounds).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gaunlearn_jax.base import checks, numerics
from gaunlearn_jax.base.arrays import Numbers, Whole
from gaunlearn_jax.base.codes import Reason
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.theory import leaky
from gaunlearn_jax.theory.bound import Bound, bound_of, first_failing
from gaunlearn_jax.theory.lemma_m import multiplier_bounds

PSI_MAX, EPS_D_MAX, APPROXIMATION_MAX = 0.1, 1.0, 0.5
#: epsilon_1 and delta_1 up to this count as exact in lines whose constants have the room
NEARLY_EXACT = 1e-3
#: |U_+ - 1/2| and |U_- - 1/2| up to this are rounding
EVEN_ROOM = 1e-9


def sharp_relu(
    psi: Numbers, phi: Numbers, epsilon: Numbers, delta: Numbers, *, m: int, n: int, k: Whole,
    weight_floor: Numbers | None = None,
) -> Bound:  # fmt: skip
    """Theorem R: epsilon_1 + rho, delta_1, 1 - sqrt(1 - (rho / B)^2) with rho = k beta_max kappa / sqrt(u_min^2),
    kappa = phi sqrt(M) / sqrt(1 - psi - (M-1) phi), B^2 = M / (1 + psi + (M-1) phi), M = m - k.

    `weight_floor` is u_min^2 (default 1/n). Hypothesis: 1 - psi - (m-1) phi > 0. Source: docs/theory, Theorem R.

    >>> sharp_relu(0.0, 1e-4, 0.0, 0.0, m=10, n=40, k=1)
    Bound(epsilon=0.0019, delta=0, tau=2.007e-07, reason=every hypothesis holds)
    """
    xp = numerics.array_namespace(psi, phi, epsilon, delta)
    floor = 1.0 / n if weight_floor is None else weight_floor
    _, beta, defined = multiplier_bounds(psi, phi, epsilon, delta, m=m)
    return _projection(psi, phi, epsilon, delta, beta / xp.sqrt(floor), defined, m=m, k=k)


def sharp_linear_projection(psi: Numbers, phi: Numbers, epsilon: Numbers, delta: Numbers, *, m: int, k: Whole) -> Bound:
    """Theorem P for linear models in worst-case form: as `sharp_relu` with n = 1. Source: docs/theory, Theorem L."""
    _, beta, defined = multiplier_bounds(psi, phi, epsilon, delta, m=m)
    return _projection(psi, phi, epsilon, delta, beta, defined, m=m, k=k)


def _projection(
    psi: Numbers, phi: Numbers, epsilon: Numbers, delta: Numbers, pull: Any, defined: Any, *, m: int, k: Whole,
    weight: Any = 1.0,
) -> Bound:  # fmt: skip
    """Theorem P where every lambda_r ||(u_j s_jr)_j|| <= `pull`, and every margin that a network can reach, squared,
    <= `weight` sum_j z_j^2: rho = k pull kappa, B^2 = M / (weight (1 + psi + (M-1) phi))."""
    xp = numerics.array_namespace(psi, phi, epsilon, delta)
    retained = m - xp.asarray(k)
    inner = 1.0 - psi - (retained - 1) * phi
    kappa = phi * xp.sqrt(retained) / xp.sqrt(xp.where(inner > 0, inner, 1.0))
    rho = k * pull * kappa
    smallest = xp.sqrt(retained / (weight * (1.0 + psi + (retained - 1) * phi)))
    tau = numerics.one_minus_cos_of_sine(rho / smallest)
    return bound_of(epsilon + rho, delta, tau, first_failing((defined, Reason.UNDEFINED)))


def coarse_relu(psi: Numbers, phi: Numbers, epsilon: Numbers, delta: Numbers, *, m: int, n: int, k: Whole) -> Bound:
    """The coarse form for networks, a corollary of Theorem R with the shape of the paper's Theorem 4.1 (k = 1).

    With e = 4 m n phi: epsilon_1 + 9 e epsilon_1/(m - 9 e) + 23 k e/sqrt(m),
    delta_1 + 9 e delta_1/(m - 9 e) + 22.6 k e/m, tau = 82 k^2 e/m. Undefined where 9 e >= m.
    Source: docs/theory, Theorem R.
    """
    xp = numerics.array_namespace(psi, phi, epsilon, delta)
    e = 4.0 * m * n * xp.asarray(phi)
    room = m - 9 * e
    grow = 9 * e / xp.where(room > 0, room, 1.0)
    reason = first_failing(*_hypotheses(psi, e, epsilon, delta), (room > 0, Reason.UNDEFINED))
    return bound_of(
        epsilon * (1 + grow) + 23 * k * e / xp.sqrt(float(m)),
        delta * (1 + grow) + 22.6 * k * e / m,
        82 * xp.asarray(k) ** 2 * e / m,
        reason,
    )


def sharp_linear(psi: Numbers, phi: Numbers, epsilon: Numbers, delta: Numbers, *, m: int, k: Whole) -> Bound:
    """Theorem L (scaling certificate, tau = 0) from Lemma M: leakage l = k beta_max phi < 1,
    epsilon_1/(1 - l), (delta_1 + 2 l beta_max)/(1 - l)^2. Hypotheses: 1 - psi - (m-1) phi > 0 and l < 1.
    Source: docs/theory, Theorem L."""
    _, beta, defined = multiplier_bounds(psi, phi, epsilon, delta, m=m)
    bound = leakage_bound(k * beta * phi, beta, epsilon, delta)
    reason = first_failing((defined, Reason.UNDEFINED), (bound.applicable, Reason.LEAKAGE))
    return dataclasses.replace(bound, reason=reason)


def coarse_linear(psi: Numbers, phi: Numbers, epsilon: Numbers, delta: Numbers, *, m: int, k: Whole) -> Bound:
    """The coarse form for linear models, a corollary of Theorem L with the shape of the paper's Theorem 3.1 (k = 1).

    With e = 4 m phi: epsilon_1 + epsilon_1 k e/(m - k e), delta_1 + delta_1 k e/(m - k e) + 7.2 k e/m, tau = 0.
    Proved for k = 1 and wherever 3 k e <= m. Source: docs/theory, Theorem L.
    """
    xp = numerics.array_namespace(psi, phi, epsilon, delta)
    e = 4.0 * m * xp.asarray(phi)
    leak = xp.asarray(k) * e
    grow = leak / xp.where(m > leak, m - leak, 1.0)
    proved = (xp.asarray(k) == 1) | (3 * leak <= m)
    reason = first_failing(*_hypotheses(psi, e, epsilon, delta), (proved & (m > leak), Reason.UNDEFINED))
    zero = xp.zeros_like(grow)
    return bound_of(epsilon * (1 + grow), delta * (1 + grow) + 7.2 * leak / m, zero, reason)


def sharp_leaky(
    amplitudes: leaky.Amplitudes,
    slope: float,
    psi: Numbers,
    phi: Numbers,
    epsilon: Numbers,
    delta: Numbers,
    *,
    k: Whole,
) -> Bound:
    """Theorem R for leaky networks: epsilon_1 + rho, delta_1, 1 - sqrt(1 - (rho / B)^2) with rho = k gamma_max kappa.

    gamma_max is that of Lemma G with sum_j u_j^2 s_ji^2 >= min_i c_i where chi < 1 (Theorem LK), a^2 sum_j u_j^2
    elsewhere; kappa as in `sharp_relu`, B^2 = M / (max_i c_i (1 + psi + (M-1) phi)). amplitudes v = u y [n, m].
    Hypothesis: 1 - psi - (m-1) phi > 0. Source: docs/theory, Leaky networks.

    >>> import jax
    >>> with jax.enable_x64(True):
    ...     v = jnp.asarray([[0.5, -0.5], [-0.5, 0.5]])
    ...     sharp_leaky(v, 0.5, 0.0, 1e-3, 0.0, 0.0, k=1)
    Bound(epsilon=0.001791, delta=0, tau=5.01e-07, reason=every hypothesis holds)
    """
    xp = numerics.array_namespace(amplitudes, psi, phi, epsilon, delta)
    m = amplitudes.shape[1]
    c = xp.sum((amplitudes * leaky.pattern_selection(amplitudes, slope)) ** 2, axis=0)
    found = leaky.uniqueness(amplitudes, slope, psi, phi, epsilon, delta)
    anywhere = slope**2 * xp.min(xp.sum(amplitudes**2, axis=0))
    floor = xp.where(found.chi < 1, xp.min(c), anywhere)
    pull, defined = leaky.largest_pull(psi, phi, epsilon, delta, floor, m=m)
    return _projection(psi, phi, epsilon, delta, pull, defined, m=m, k=k, weight=xp.max(c))


def coarse_leaky(
    amplitudes: leaky.Amplitudes,
    slope: float,
    psi: Numbers,
    phi: Numbers,
    epsilon: Numbers,
    delta: Numbers,
    *,
    k: Whole,
) -> Bound:
    """The rounded line for exact KKT points of leaky networks with U_+ = U_- = 1/2: with e = 4 m phi / a <= 1,

    epsilon_1 + 0.48 k a e / sqrt(m), delta_1, 0.31 k^2 a^2 e^2 / (m M), the last where it is below 1 (else 2), psi <=
    0.1. Exact means epsilon_1, delta_1 <= 1/1000, and chi < 1 in spite of them. Source: docs/theory, Leaky networks.
    """
    xp = numerics.array_namespace(amplitudes, psi, phi, epsilon, delta)
    m = amplitudes.shape[1]
    e = 4.0 * m * xp.asarray(phi) / slope
    half = xp.sum(xp.where(amplitudes > 0, amplitudes, 0.0) ** 2, axis=0)
    even = xp.all(xp.abs(xp.stack([half, xp.sum(amplitudes**2, axis=0) - half]) - 0.5) <= EVEN_ROOM)
    tau = 0.31 * xp.asarray(k) ** 2 * slope**2 * e**2 / (m * (m - xp.asarray(k)))
    reason = first_failing(
        (even, Reason.SECOND_LAYER),
        *_hypotheses(psi, e, epsilon, delta, NEARLY_EXACT),
        (leaky.uniqueness(amplitudes, slope, psi, phi, epsilon, delta).chi < 1, Reason.DATA),
    )
    return bound_of(epsilon + 0.48 * k * slope * e / xp.sqrt(float(m)), delta, xp.where(tau < 1, tau, 2.0), reason)


def is_standard(net: Any) -> bool | Array:
    """Whether every |u_j| = 1/sqrt(n), as lines with numeric constants assume."""
    u = net.output_weights
    return (
        bool(np.allclose(np.abs(np.asarray(u)), u.shape[0] ** -0.5, rtol=1e-12, atol=0))
        if not checks.is_traced(u)
        else jnp.all(jnp.abs(jnp.abs(u) * u.shape[0] ** 0.5 - 1) < 1e-12)
    )


def _hypotheses(
    psi: Numbers, eps_d: Numbers, epsilon: Numbers, delta: Numbers, approximation: float = APPROXIMATION_MAX
) -> tuple[tuple[Any, Reason], ...]:
    xp = numerics.array_namespace(psi, eps_d, epsilon, delta)
    return (
        (xp.asarray(psi) <= PSI_MAX, Reason.NORMS),
        (xp.asarray(eps_d) <= EPS_D_MAX, Reason.CORRELATION),
        (xp.asarray(epsilon) <= approximation, Reason.STATIONARITY),
        (xp.asarray(delta) <= approximation, Reason.SLACKNESS),
    )


def leakage_bound(leakage: Numbers, top: Numbers, epsilon: Numbers, delta: Numbers) -> Bound:
    """Theorem L for a given leakage l and largest multiplier: epsilon/(1-l), (delta + 2 l top)/(1-l)^2, tau = 0."""
    xp = numerics.array_namespace(leakage, top, epsilon, delta)
    leakage = xp.asarray(leakage)
    room = xp.where(leakage < 1, 1 - leakage, 1.0)
    zero = xp.zeros_like(leakage)
    return bound_of(
        epsilon / room, (delta + 2 * leakage * top) / room**2, zero, first_failing((leakage < 1, Reason.LEAKAGE))
    )


def worst_case(
    problem: MarginProblem, kind: str, strength: str, psi: Numbers, phi: Numbers, epsilon: Numbers, delta: Numbers, *,
    m: int, k: Whole,
) -> Bound:  # fmt: skip
    """The worst-case bound of a certificate of this kind ("projection", "scaling") at a strength ("sharp", "coarse"),
    for a margin problem with one entry a point; ValueError where no theorem makes that promise."""
    sizes: dict[str, Any] = {"m": m, "k": k}
    n = {"n": problem.num_neurons}
    found: dict[tuple[str, str], Callable[..., Bound]]
    if leaky.has_theorem(problem):
        sizes = {"k": k}
        given = problem.amplitudes, problem.slope
        found = {
            ("projection", "sharp"): functools.partial(sharp_leaky, *given),
            ("projection", "coarse"): functools.partial(coarse_leaky, *given),
        }
    elif problem.layout is not None or (problem.kinked and problem.slope != 0):
        found = {}
    elif problem.kinked:
        found = {
            ("projection", "sharp"): functools.partial(sharp_relu, **n),
            ("projection", "coarse"): functools.partial(coarse_relu, **n),
        }
    else:
        found = {
            ("projection", "sharp"): sharp_linear_projection,
            ("scaling", "sharp"): sharp_linear,
            ("scaling", "coarse"): coarse_linear,
        }
    if (kind, strength) not in found:
        known = ", ".join(" ".join(pair) for pair in found) or "none"
        raise ValueError(f"no theorem promises a {strength} bound of the {kind} certificate here; there are: {known}")
    return found[kind, strength](psi, phi, epsilon, delta, **sizes)
