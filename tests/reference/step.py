"""The ascent step and its certificates; projections come from a singular value decomposition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import mpmath
import numpy as np

from reference.model import Array, combination, kkt_errors, margins, preactivations


def projector(X: Array, subset: Sequence[int], rank_tol: float = 1e-11) -> Array:
    """The p x p orthogonal projection onto span{x_i : i in subset}."""
    _, sizes, rows = np.linalg.svd(X[list(subset)], full_matrices=False)
    P = np.zeros((X.shape[1], X.shape[1]))
    for size, row in zip(sizes, rows, strict=True):
        if size > rank_tol * sizes[0]:
            P += np.outer(row, row)
    return P


def forgotten_part(X: Array, y: Array, u: Array, lam: Array, s: Array, forget: Sequence[int]) -> Array:
    """h = sum_{r in R} lam_r y_r g_r."""
    return combination(X, y, u, lam, s, list(forget))


def gradient_ascent(
    W: Array,
    X: Array,
    y: Array,
    u: Array,
    lam: Array,
    s: Array,
    forget: Sequence[int],
    scale: float = 1.0,
) -> Array:
    """theta_hat = theta - scale h."""
    return W - scale * forgotten_part(X, y, u, lam, s, forget)


def log_step_size(lam: Array, q: Array, forget: Sequence[int], loss: str = "exponential") -> Array:
    """log beta_r with beta_r = -lam_r / l'(q_r); -inf outside the forget set and where lam_r = 0."""
    out = np.full(len(lam), -math.inf)
    for r in forget:
        if lam[r] > 0:
            inverse = q[r] if loss == "exponential" else float(np.logaddexp(0.0, q[r]))
            out[r] = math.log(lam[r]) + inverse
    return out


@dataclass
class Certificate:
    """A point theta_tilde with (lam, s) for the retained set; `rho` = ||P h||, `margin` = min_T q."""

    epsilon: float
    delta: float
    tau: float
    params: Array
    preactivations: Array
    multipliers: Array
    selection: Array
    margin: float
    rho: float


def _certify(
    theta: Array,
    difference: Array,
    hat: Array,
    Z: Array,
    X: Array,
    y: Array,
    u: Array,
    lam: Array,
    s: Array,
    retained: Sequence[int],
    slope: float,
    orthogonal: float,
    kept_orthogonal: float,
    rho: float,
) -> Certificate:
    kept = np.zeros(len(lam))
    kept[list(retained)] = lam[list(retained)]
    errors = kkt_errors(theta, Z, X, y, u, kept, s, retained, slope, kept_orthogonal)
    a = np.append(hat.ravel(), orthogonal)
    delta = np.append(difference.ravel(), orthogonal - kept_orthogonal)
    tau = one_minus_cos_of_difference(a, delta)
    return Certificate(errors.epsilon, errors.delta, tau, theta, Z, kept, s, errors.margin, rho)


def projection_certificate(
    W: Array,
    Z: Array,
    X: Array,
    y: Array,
    u: Array,
    lam: Array,
    s: Array,
    forget: Sequence[int],
    scale: float = 1.0,
    slope: float = 0.0,
    orthogonal: float = 0.0,
) -> Certificate:
    """theta_tilde = theta - scale (I - P) h with the retained multipliers and the same selection."""
    retained = [i for i in range(X.shape[0]) if i not in set(forget)]
    P = projector(X, retained)
    h = forgotten_part(X, y, u, lam, s, forget)
    theta = W - scale * (h - h @ P)
    fresh = preactivations(theta, X)
    fresh[:, retained] = Z[:, retained]
    return _certify(
        theta, -scale * (h @ P), W - scale * h, fresh, X, y, u, lam, s, retained, slope,
        orthogonal, orthogonal, float(np.linalg.norm(h @ P)),
    )  # fmt: skip


def span_certificate(
    W: Array,
    Z: Array,
    X: Array,
    y: Array,
    u: Array,
    lam: Array,
    s: Array,
    forget: Sequence[int],
    scale: float = 1.0,
    slope: float = 0.0,
    orthogonal: float = 0.0,
) -> Certificate:
    """theta_tilde = P theta with the retained multipliers and the same selection."""
    retained = [i for i in range(X.shape[0]) if i not in set(forget)]
    P = projector(X, retained)
    h = forgotten_part(X, y, u, lam, s, forget)
    e = W - combination(X, y, u, lam, s, range(X.shape[0]))
    theta = W @ P
    fresh = preactivations(theta, X)
    fresh[:, retained] = Z[:, retained]
    outside = (1 - scale) * (h - h @ P) + (e - e @ P)
    return _certify(
        theta, outside - scale * (h @ P), W - scale * h, fresh, X, y, u, lam, s, retained, slope,
        orthogonal, 0.0, float(np.linalg.norm(h @ P)),
    )  # fmt: skip


def scaling_certificate_linear(
    w: Array, X: Array, y: Array, lam: Array, forget: Sequence[int], scale: float = 1.0
) -> Certificate:
    """theta_hat / (1 - c), c = max(0, 1 - min_T q(theta_hat)), so tau = 0. Linear models, w [1, p]."""
    retained = [i for i in range(X.shape[0]) if i not in set(forget)]
    u, s = np.ones(1), np.ones((1, X.shape[0]))
    hat = gradient_ascent(w, X, y, u, lam, s, forget, scale)
    lowest = min(margins(hat, X, y, u, 1.0)[i] for i in retained)
    if lowest <= 0:
        raise ValueError("a retained margin is not positive after the step: no scaling certificate")
    factor = min(1.0, lowest)
    theta = hat / factor
    h = forgotten_part(X, y, u, lam, s, forget)
    return _certify(
        theta, np.zeros_like(theta), hat, preactivations(theta, X), X, y, u, lam / factor, s, retained,
        1.0, 0.0, 0.0, float(np.linalg.norm(h @ projector(X, retained))),
    )  # fmt: skip


def one_minus_cos_of_difference(a: Array, delta: Array) -> float:
    """1 - cos of the angle between a and b = a - delta, from delta itself."""
    a, delta = a.ravel(), delta.ravel()
    b = a - delta
    aa, bb = math.sqrt(math.fsum(a * a)), math.sqrt(math.fsum(b * b))
    cos = math.fsum(a * b) / (aa * bb)
    if cos <= 0:
        return 1.0 - cos
    outside = delta - (math.fsum(a * delta) / aa**2) * a
    return math.fsum(outside * outside) / (bb**2 * (1.0 + cos))


def one_minus_cos(a: Array, b: Array, digits: int | None = None) -> float:
    """1 - cos of the angle between a and b; with digits, in that many digits of mpmath."""
    a, b = a.ravel(), b.ravel()
    if digits is None:
        return one_minus_cos_of_difference(a, a - b)
    with mpmath.workdps(digits):
        aa = mpmath.fsum(mpmath.mpf(float(t)) ** 2 for t in a)
        bb = mpmath.fsum(mpmath.mpf(float(t)) ** 2 for t in b)
        ab = mpmath.fsum(mpmath.mpf(float(t)) * mpmath.mpf(float(v)) for t, v in zip(a, b, strict=True))
        return float(1 - ab / mpmath.sqrt(aa * bb))


def step_size_epsilon(
    W: Array, X: Array, y: Array, u: Array, lam: Array, s: Array, forget: Sequence[int], scale: float
) -> float:
    """||e + P h + (1 - c)(I - P) h||: epsilon of the projection certificate of theta - c h."""
    retained = [i for i in range(X.shape[0]) if i not in set(forget)]
    P = projector(X, retained)
    h = forgotten_part(X, y, u, lam, s, forget)
    e = W - combination(X, y, u, lam, s, range(X.shape[0]))
    return float(np.linalg.norm(e + h @ P + (1 - scale) * (h - h @ P)))
