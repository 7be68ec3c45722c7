"""The theorems for a linear model with several classes, and the cross-entropy step that is the theorem's step.

Margin problem: min 1/2 ||W||_F^2 with <w_{y_i} - w_c, x_i> >= 1 for all c != y_i. Source: docs/theory, Several classes.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Mask, Numbers, Whole
from gaunlearn_jax.base.codes import Reason
from gaunlearn_jax.theory.bound import Bound, bound_of, first_failing
from gaunlearn_jax.theory.entries import pull_bounds, sharp_entries
from gaunlearn_jax.theory.worst_case import EPS_D_MAX, PSI_MAX

#: the coarse line speaks of exact KKT points: epsilon_1 and (C-1) delta_1 up to this
NEARLY_EXACT = 1e-3
COARSE_EPSILON, COARSE_TAU = 0.48, 0.31

Scores = Float[np.ndarray, "m C"]


class CrossEntropyStep(NamedTuple):
    """One cross-entropy step as the theorem's step: lambda_ic = kappa p_ic [m, C] at margin 1 with the epsilon_1 and
    delta_1 of these multipliers, and the logarithm of the learning rate on the weights as they were given."""

    multipliers: Scores
    epsilon: float
    delta: float
    log_rate: float


def multiplier_bounds(
    psi: Numbers, phi: Numbers, epsilon: Numbers, delta: Numbers, *, m: int, classes: int
) -> tuple[Array, Array, Array]:
    """Lemma M': (lower, upper, defined) for gamma_i = ||sum_c lambda_ic (e_{y_i} - e_c) x_i^T||.

    upper = (B + sqrt(B^2 + 4 A (C-1) delta_1)) / (2 A), A = 1 - (m-1) mu > 0, mu = phi/(1 - psi),
    B = nu / sqrt(1 - psi) + epsilon_1, nu = sqrt((C-1)/C); lower = nu / sqrt(1 + psi) - (m-1) mu upper - epsilon_1.

    >>> lower, upper, defined = multiplier_bounds(0.0, 0.01, 0.0, 0.0, m=10, classes=4)
    >>> print(f"{lower:.4f} {upper:.4f} {defined}")
    0.7804 0.9517 True
    """
    psi = jnp.asarray(psi)
    mu, proper = _cosine(psi, phi)
    nu = _norm(classes)
    smallest, shortest = jnp.sqrt(jnp.where(proper, 1.0 - psi, 1.0)) / nu, jnp.sqrt(1.0 + psi) / nu
    found = pull_bounds(mu, smallest, shortest, epsilon, delta, m=m, constraints=classes - 1)
    return found.lower, found.upper, proper & found.defined


def sharp_classes(
    psi: Numbers, phi: Numbers, epsilon: Numbers, delta: Numbers, *, m: int, k: Whole, classes: int
) -> Bound:
    """Theorem R' (projection certificate): epsilon_1 + rho, delta_1, 1 - sqrt(1 - (rho/B_T)^2), from

    rho = k gamma_max mu sqrt(M) / sqrt(1 - (M-1) mu), B_T^2 = ((C-1)/C) M / (1 + psi + (M-1) phi), M = m - k >= 1.
    Hypotheses: the denominators are positive, nothing else.

    >>> sharp_classes(0.0, 1e-4, 0.0, 0.0, m=10, k=1, classes=4)
    Bound(epsilon=0.0002601, delta=0, tau=5.017e-09, reason=every hypothesis holds)
    """
    psi, phi = jnp.asarray(psi), jnp.asarray(phi)
    retained = m - jnp.asarray(k)
    _, gamma, defined = multiplier_bounds(psi, phi, epsilon, delta, m=m, classes=classes)
    mu, _ = _cosine(psi, phi)
    count = jnp.maximum(retained, 1)
    smallest = _norm(classes) * jnp.sqrt(count / (1.0 + psi + (count - 1) * phi))
    return sharp_entries(mu, jnp.where(defined, gamma, jnp.inf), smallest, epsilon, delta, m=m, k=k)


def coarse_classes(
    psi: Numbers, phi: Numbers, epsilon: Numbers, delta: Numbers, *, m: int, k: Whole, classes: int
) -> Bound:
    """The rounded line of Theorem R' for exact KKT points: with e = 4 m phi <= 1, psi <= 0.1, m >= 2, 1 <= k < m,

    epsilon_1 + 0.48 sqrt((C-1)/C) k e / sqrt(m), delta_1, 0.31 k^2 e^2 / (m M), the last where it is below 1 (else 2).
    Exact means epsilon_1 <= 1/1000 and (C-1) delta_1 <= 1/1000, which the constants have room for.
    """
    psi, epsilon, delta = jnp.asarray(psi), jnp.asarray(epsilon), jnp.asarray(delta)
    k, e = jnp.asarray(k), 4.0 * m * jnp.asarray(phi)
    retained = m - k
    size = (k >= 1) & (retained >= 1) & (m >= 2)
    tau = COARSE_TAU * k**2 * e**2 / (m * jnp.where(size, retained, 1))
    reason = first_failing(
        (size, Reason.FORGET_SIZE),
        (psi <= PSI_MAX, Reason.NORMS),
        (e <= EPS_D_MAX, Reason.CORRELATION),
        (epsilon <= NEARLY_EXACT, Reason.STATIONARITY),
        ((classes - 1) * delta <= NEARLY_EXACT, Reason.SLACKNESS),
    )
    return bound_of(
        epsilon + COARSE_EPSILON * _norm(classes) * k * e / math.sqrt(m), delta, jnp.where(tau < 1, tau, 2.0), reason
    )


def norm_floor(points: Float[np.ndarray, "m p"], retained: Bool[np.ndarray, "m"], *, classes: int) -> float:
    """B_T: every W with margins >= 1 on the retained points has ||W||^2 >= ((C-1)/C) M / lambda_max(K_T)."""
    kept = points[retained]
    if len(kept) == 0:
        return 0.0
    top = float(np.linalg.norm(kept, 2)) * (1 + 4 * numerics.EPS * sum(kept.shape))
    return float(_norm(classes)) * math.sqrt(len(kept)) / top if top > 0 else math.inf


def gram_floor(gram: Float[Array, "m m"], retained: Mask, *, classes: int) -> Array:
    """`norm_floor` from the Gram matrix of all points; `retained` may be traced."""
    top = numerics.top_eigenvalue(jnp.where(retained[:, None] & retained, gram, 0.0))
    return _norm(classes) * jnp.sqrt(jnp.sum(retained) / jnp.where(top > 0, top, 1.0))


def same_margins_distance(
    spread: Numbers, psi: Numbers, phi: Numbers, epsilon: Numbers, *, kept: Whole, classes: int
) -> tuple[Array, Array]:
    """How far apart two W are whose margins on the retained points differ by a vector of norm `spread`, and whether
    that is defined: (spread + epsilon sqrt(kept (C-1) 2 (1 + psi))) / sqrt(1 - psi - (kept-1) phi) + epsilon.

    Both are centred with rows in the span of these points up to residuals, epsilon the sum of whose norms. Source:
    docs/theory, Several classes (When the step is exact retraining).
    """
    psi, epsilon = jnp.asarray(psi), jnp.asarray(epsilon)
    least = 1.0 - psi - (kept - 1) * jnp.asarray(phi)
    defined = (least > 0) & (jnp.asarray(kept) >= 1)
    moved = jnp.asarray(spread) + epsilon * jnp.sqrt(2.0 * kept * (classes - 1) * (1.0 + psi))
    return moved / jnp.sqrt(jnp.where(defined, least, 1.0)) + epsilon, defined


def every_constraint_active(
    margins: Scores, labels: Any, retained: Bool[np.ndarray, "m"], tolerance: float = 1e-9
) -> bool:
    """Whether all margins [m, C] of the retained points are 1: the condition, before and in the retrained solution,
    under which theta_tilde = theta - (I - P) h *is* the retrained solution (for e = 0)."""
    others = retained[:, None] & (np.arange(margins.shape[1]) != np.asarray(labels)[:, None])
    return bool(np.all(np.abs(margins[others] - 1.0) <= tolerance))


def cross_entropy_step(
    points: Float[np.ndarray, "m d"], labels: Any, weights: Float[np.ndarray, "C d"]
) -> CrossEntropyStep:
    """Corollary CE: with kappa = <theta, -grad L> / ||grad L||^2, theta = W / q_min and grad L of the summed
    cross-entropy at W itself, theta - kappa sum_{a of R} p_a G_a is one ascent step on the points of R.

    ValueError where some margin is not positive. The rate on W is q_min kappa; probabilities are scaled by the largest.
    """
    y = np.asarray(labels)
    rows = np.arange(len(y))
    scores = points @ weights.T
    q = scores[rows, y][:, None] - scores
    others = np.arange(scores.shape[1]) != y[:, None]
    least = float(np.min(q[others]))
    if least <= 0:
        raise ValueError(f"the smallest margin is {least:.3g}, expected all margins positive; train on")
    top = np.max(scores, axis=1, keepdims=True)
    log_p = scores - top - np.log(np.sum(np.exp(scores - top), axis=1, keepdims=True))
    scale = float(np.max(log_p[others]))
    p = np.exp(np.where(others, log_p - scale, -np.inf))
    coefficients = -p
    coefficients[rows, y] = np.sum(p, axis=1)
    down = coefficients.T @ points
    theta = weights / least
    kappa = float(np.sum(theta * down) / np.sum(down**2))
    return CrossEntropyStep(
        multipliers=kappa * p,
        epsilon=float(np.linalg.norm(theta - kappa * down)),
        delta=float(np.max(np.where(others, kappa * p * (q / least - 1.0), 0.0))),
        log_rate=math.log(least) + math.log(kappa) - scale,
    )


def _norm(classes: int) -> float:
    """nu = sqrt((C-1)/C), the least norm of scores whose margins are all 1."""
    return math.sqrt((classes - 1) / classes)


def _cosine(psi: Array, phi: Numbers) -> tuple[Array, Array]:
    """mu = phi / (1 - psi), at least every |cos(x_i, x_k)|, and whether psi < 1."""
    proper = psi < 1
    return jnp.asarray(phi) / jnp.where(proper, 1.0 - psi, 1.0), proper
