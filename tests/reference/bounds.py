"""Right-hand sides of the theory from their formulas in docs/theory, one instance at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reference.model import Array, margins_of
from reference.step import projector


@dataclass
class BoundValue:
    """A right-hand side (epsilon, delta, tau); `reason` names the hypothesis that fails, if one does."""

    epsilon: float
    delta: float
    tau: float
    applicable: bool
    reason: str = ""


def data_assumption(X: Array) -> tuple[float, float]:
    """The smallest (psi, phi) with |1 - ||x_i||^2| <= psi and |<x_i, x_j>| <= phi for i != j."""
    m = X.shape[0]
    psi = max(abs(1.0 - math.fsum(X[i] * X[i])) for i in range(m))
    phi = max((abs(math.fsum(X[i] * X[k])) for i in range(m) for k in range(i)), default=0.0)
    return psi, phi


def beta_max(psi: float, phi: float, epsilon: float, delta: float, m: int, total: float = 1.0) -> float:
    """Lemma M, upper: largest lam_i b_i, b_i = sum_j u_j^2 s_ji; `total` = sum_j u_j^2."""
    A = 1 - psi - (m - 1) * phi
    if A <= 0:
        return math.inf
    B = 1 + epsilon * math.sqrt(total * (1 - psi))
    return (B + math.sqrt(B * B + 4 * A * delta * total)) / (2 * A)


def beta_min(psi: float, phi: float, epsilon: float, delta: float, m: int, total: float = 1.0) -> float:
    """Lemma M, lower; negative values say nothing."""
    top = beta_max(psi, phi, epsilon, delta, m, total)
    return (1 - (m - 1) * phi * top - epsilon * math.sqrt(total * (1 + psi))) / (1 + psi)


def leak_norm(psi: float, phi: float, M: int) -> float:
    """Bound on ||P x_r||, the part of a forgotten point inside the span of M retained ones."""
    room = 1 - psi - (M - 1) * phi
    return phi * math.sqrt(M) / math.sqrt(room) if room > 0 else math.inf


def norm_floor_sq(K: Array, y: Array, u: Array, retained: Sequence[int]) -> float:
    """B_T^2 of the norm lemma; inf when a label has no neuron of its sign (no feasible point exists)."""
    total = 0.0
    for sign in (1.0, -1.0):
        index = [i for i in retained if y[i] == sign]
        if index:
            mass = math.fsum(uj * uj for uj in u if sign * uj > 0)
            top = float(np.linalg.eigvalsh(K[np.ix_(index, index)])[-1])
            total += len(index) / (mass * top) if mass > 0 else math.inf
    return total


def rho_instance(X: Array, u: Array, lam: Array, s: Array, forget: Sequence[int]) -> float:
    """sum_r lam_r sqrt(b_r) ||P x_r|| >= ||P h||."""
    retained = [i for i in range(X.shape[0]) if i not in set(forget)]
    P = projector(X, retained)
    total = 0.0
    for r in forget:
        b = math.fsum(u[j] ** 2 * s[j, r] for j in range(len(u)))
        total += lam[r] * math.sqrt(b) * float(np.linalg.norm(X[r] @ P))
    return total


def _angle_bound(sine: float) -> float:
    return sine**2 / (1 + math.sqrt(1 - sine**2)) if sine < 1 else 2.0


def _sharp(psi: float, phi: float, epsilon: float, delta: float, m: int, k: int, u_min_sq: float) -> BoundValue:
    M = m - k
    if 1 - psi - (m - 1) * phi <= 0:
        return BoundValue(math.inf, math.inf, math.inf, False, "the points are too correlated")
    rho = k * beta_max(psi, phi, epsilon, delta, m) * leak_norm(psi, phi, M) / math.sqrt(u_min_sq)
    floor = math.sqrt(M / (1 + psi + (M - 1) * phi))
    return BoundValue(epsilon + rho, delta, _angle_bound(rho / floor), True)


def _hypotheses(psi: float, eps_d: float, epsilon: float, delta: float) -> str:
    """The first hypothesis of Theorems R (rounded) and L (coarse) that fails, or ''."""
    if psi > 0.1:
        return "psi > 0.1"
    if eps_d > 1:
        return "eps_d > 1"
    if epsilon > 0.5:
        return "epsilon_1 > 1/2"
    if delta > 0.5:
        return "delta_1 > 1/2"
    return ""


def sharp_relu(psi: float, phi: float, epsilon: float, delta: float, *, m: int, n: int, k: int) -> BoundValue:
    """Theorem R from its formulas: rho <= k beta_max sqrt(n) kappa, |u_j| = 1/sqrt(n)."""
    return _sharp(psi, phi, epsilon, delta, m, k, 1.0 / n)


def sharp_linear_projection(
    psi: float, phi: float, epsilon: float, delta: float, *, m: int, n: int = 1, k: int
) -> BoundValue:
    """Theorem P for a linear model: rho <= k beta_max kappa."""
    return _sharp(psi, phi, epsilon, delta, m, k, 1.0)


def rounded_relu(psi: float, phi: float, epsilon: float, delta: float, *, m: int, n: int, k: int) -> BoundValue:
    """Theorem R with its constants 0.82 and 0.91; eps_d = 4 m n phi."""
    eps_d, M = 4 * m * n * phi, m - k
    reason = _hypotheses(psi, eps_d, epsilon, delta)
    tau = 0.91 * k**2 * eps_d**2 / (n * m * M)
    return BoundValue(epsilon + 0.82 * k * eps_d / math.sqrt(m * n), delta, tau if tau < 1 else 2.0, not reason, reason)


def coarse_relu(psi: float, phi: float, epsilon: float, delta: float, *, m: int, n: int, k: int = 1) -> BoundValue:
    """The coarse corollary of Theorem R."""
    eps_d = 4 * m * n * phi
    reason = _hypotheses(psi, eps_d, epsilon, delta) or ("k > 1" if k > 1 else "")
    if m - 9 * eps_d <= 0:
        return BoundValue(math.inf, math.inf, math.inf, False, reason or "9 eps_d >= m")
    growth = 9 * eps_d / (m - 9 * eps_d)
    return BoundValue(
        epsilon + growth * epsilon + 23 * eps_d / math.sqrt(m),
        delta + growth * delta + 22.6 * eps_d / m,
        82 * eps_d / m,
        not reason,
        reason,
    )


def sharp_linear(psi: float, phi: float, epsilon: float, delta: float, *, m: int, n: int = 1, k: int) -> BoundValue:
    """Theorem L from its formulas, tau = 0."""
    top = beta_max(psi, phi, epsilon, delta, m)
    leak = k * top * phi
    if not leak < 1:
        return BoundValue(math.inf, math.inf, math.inf, False, "leakage >= 1")
    return BoundValue(epsilon / (1 - leak), (delta + 2 * leak * top) / (1 - leak) ** 2, 0.0, True)


def coarse_linear(
    psi: float, phi: float, epsilon: float, delta: float, *, m: int, n: int = 1, k: int = 1
) -> BoundValue:
    """The coarse corollary of Theorem L; eps_d = 4 m phi."""
    eps_d = 4 * m * phi
    reason = _hypotheses(psi, eps_d, epsilon, delta) or ("k > 1" if k > 1 else "")
    if m - eps_d <= 0:
        return BoundValue(math.inf, math.inf, math.inf, False, reason or "eps_d >= m")
    growth = eps_d / (m - eps_d)
    return BoundValue(epsilon + growth * epsilon, delta + growth * delta + 7.2 * eps_d / m, 0.0, not reason, reason)


def instance_linear(X: Array, y: Array, lam: Array, epsilon: float, delta: float, forget: Sequence[int]) -> BoundValue:
    """Theorem L with the instance's own leakage max_T |sum_r lam_r y_r K_ri|."""
    retained = [i for i in range(X.shape[0]) if i not in set(forget)]
    leak = max(abs(math.fsum(lam[r] * y[r] * math.fsum(X[r] * X[i]) for r in forget)) for i in retained)
    if leak >= 1:
        return BoundValue(math.inf, math.inf, math.inf, False, "leakage >= 1")
    top = max(lam[i] for i in retained)
    return BoundValue(epsilon / (1 - leak), (delta + 2 * leak * top) / (1 - leak) ** 2, 0.0, True)


def angle_to_span(W: Array, X: Array, subset: Sequence[int], orthogonal: float = 0.0) -> float:
    """alpha = the angle between theta and V = {(v_j) : v_j in span of the points of subset}."""
    P = projector(X, subset)
    outside = math.hypot(float(np.linalg.norm(W - W @ P)), orthogonal)
    return math.atan2(outside, float(np.linalg.norm(W @ P)))


def identity_separation(alpha: float, epsilon: float, floor: float) -> float:
    """No (epsilon, .)-KKT point of T is closer than this angle to a theta at angle alpha from V."""
    return max(0.0, alpha - math.asin(min(1.0, epsilon / floor)))


def epsilon_floor(alpha: float, tau: float, floor: float) -> float:
    """Every certificate with cosine gap tau has at least this epsilon."""
    return floor * math.sin(max(0.0, alpha - math.acos(1 - tau)))


def distance_to_retrained(epsilon: float, slack: float) -> float:
    """D <= (eps + sqrt(eps^2 + 4 slack)) / 2, slack = sum_T lam_i (q_i - 1)."""
    return 0.5 * (epsilon + math.sqrt(epsilon**2 + 4 * slack))


def estimate_multiplier(
    r: int, Z: Array, X: Array, y: Array, u: Array, lam: Array, s: Array, epsilon: float
) -> tuple[float, float]:
    """(q_r / (||x_r||^2 a_r), bound on its error), a_r = sum_j u_j^2 [z_jr > 0]; ReLU."""
    n, m = Z.shape
    act = [1.0 if Z[j, r] > 0 else 0.0 for j in range(n)]
    a_r = math.fsum(u[j] ** 2 * act[j] for j in range(n))
    size = math.fsum(X[r] * X[r])
    q = margins_of(Z, y, u)[r]
    error = epsilon * math.sqrt(size * a_r)
    for i in range(m):
        if i != r:
            overlap = math.fsum(u[j] ** 2 * s[j, i] * act[j] for j in range(n))
            error += lam[i] * abs(math.fsum(X[i] * X[r])) * overlap
    return q / (size * a_r), error / (size * a_r)


def orthogonal_multiplier_bounds(X: Array) -> tuple[float, float, float]:
    """(lower, upper, p): the bounds on linear multipliers of exact KKT points when p >= 3."""
    m = X.shape[0]
    sizes = [math.fsum(X[i] * X[i]) for i in range(m)]
    low, high = min(sizes), max(sizes)
    _, phi = data_assumption(X)
    ratio = high / low
    p = low / (ratio * m * phi)
    return (1 - 1 / (p * ratio - 1)) / high, 1 / (low * (1 - 1 / (p * ratio))), p


def scale_free(X: Array, u: Array, forget: Sequence[int], epsilon: float, delta: float) -> BoundValue:
    """Theorem F: cosines and norms, one pair at a time."""
    m = len(X)
    sizes = [math.sqrt(sum(v * v for v in row)) for row in X]
    cosines = [abs(X[i] @ X[j]) / (sizes[i] * sizes[j]) for i in range(m) for j in range(i)]
    phi, kept = max(cosines), [i for i in range(m) if i not in forget]
    room = 1 - (m - 1) * phi
    if room <= 0:
        return BoundValue(math.inf, math.inf, 2.0, False)
    noise = epsilon + math.sqrt((1 + phi) * delta)
    total = (sum(1 / r for r in sizes) + m * noise) / room
    gain = 1 / min(abs(v) for v in u)
    leak = phi * math.sqrt(len(kept) / (1 - (len(kept) - 1) * phi))
    rho = leak * gain * sum((1 / sizes[r] + phi * total + noise) / (1 + phi) for r in forget)
    floor = math.sqrt(sum(sizes[i] ** -2 for i in kept) / (1 + (len(kept) - 1) * phi))
    return BoundValue(epsilon + rho, delta, _angle_bound(rho / floor), True)
