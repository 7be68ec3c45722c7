"""Exact chances that random data satisfy the assumptions, with logarithms where probabilities underflow.

Everything here runs on the host. Source: docs/theory, Data.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from scipy import special

from gaunlearn_jax.data.distributions import MAX_DIM

PSI = 0.1

#: chance of the events by which the law itself is tested, at any d
TAIL = 0.1


def log_threshold_bounds(d: float) -> tuple[float, float]:
    """log of the stated bounds: 2 e^(-d/500) per point, e^(-d/500) + 2 d^(-log(d)/2) per pair."""
    return math.log(2) - d / 500, float(np.logaddexp(-d / 500, math.log(2) - math.log(d) ** 2 / 2))


def pair_threshold(d: float) -> float:
    """1.1 log(d) / sqrt(d)."""
    return 1.1 * math.log(d) / math.sqrt(d)


def log_point_probability(d: float, psi: float = PSI) -> float:
    """log P(| ||x||^2 - 1 | > psi), d ||x||^2 ~ chi^2_d, exactly; also where the probability underflows."""
    return float(np.logaddexp(_log_upper(d / 2, 1 + psi), _log_lower(d / 2, 1 - psi)))


def _log_upper(a: float, r: float) -> float:
    """log Q(a, r a) for r > 1: SciPy, or Legendre's continued fraction (evaluated backwards) where it underflows."""
    value = special.gammaincc(a, r * a)
    if value > 1e-250:
        return math.log(value)
    z, fraction = r * a, 0.0
    for k in range(200, 0, -1):
        fraction = k * (a - k) / (z - a + 2 * k + 1 + fraction)
    return _log_front(a, r) - math.log(z - a + 1 + fraction)


def _log_lower(a: float, r: float) -> float:
    """log P(a, r a) for r < 1: SciPy, or the power series where it underflows."""
    value = special.gammainc(a, r * a)
    if value > 1e-250:
        return math.log(value)
    terms = np.cumprod(r * a / (a + np.arange(1, 1000)))
    return _log_front(a, r) - math.log(a) + math.log1p(np.sum(terms))


def _log_front(a: float, r: float) -> float:
    """log(z^a e^-z / Gamma(a)), z = r a, for large a (Stirling)."""
    return -a * (r - 1 - math.log(r)) + 0.5 * math.log(a / (2 * math.pi)) - 1 / (12 * a)


def log_pair_probability(d: float, threshold: float) -> float:
    """log P(|<x, x'>| >= t), exactly: 2 Phi(-t sqrt(d) / R) given ||x'|| = R, integrated over d R^2 ~ chi^2_d.

    Far in the tail the event takes a long x': the integrand peaks near R^2 = (1 + sqrt(1 + 4 t^2)) / 2, around which
    the nodes lie, while the law of R has its mass around 1. Both are at most 1 / sqrt(2 d) wide.
    """
    node, weight = _nodes("legendre", 400)
    width = 14 / math.sqrt(2 * d)

    def log_density(centre: float) -> tuple[np.ndarray, np.ndarray]:
        low = max(centre - width, -1.0)  # R = 1 + step > 0
        half = (centre + width - low) / 2
        step = low + half * (1 + node)
        return step, (d - 1) * np.log1p(step) - d * (step + step**2 / 2) + np.log(half * weight)

    square = 2 * threshold**2 / (1 + math.sqrt(1 + 4 * threshold**2))  # R^2 - 1 at the peak
    step, density = log_density(square / (1 + math.sqrt(1 + square)))
    tail = math.log(2) + special.log_ndtr(-threshold * math.sqrt(d) / (1 + step))
    return float(special.logsumexp(density + tail) - special.logsumexp(log_density(0.0)[1]))


@functools.lru_cache
def _nodes(kind: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    make = np.polynomial.legendre.leggauss if kind == "legendre" else np.polynomial.hermite_e.hermegauss
    node, weight = make(count)
    return node, weight


def noncentral_sf(x: Any, d: float, noncentrality: float) -> np.ndarray:
    """P(chi^2_d(nc) > x): chi^2_{d-1} plus (sqrt(nc) + g)^2, integrated over the normal g. (SciPy's ncx2 is wrong from
    d = 1e13 on.)"""
    node, weight = _nodes("hermite", 64)
    rest = np.asarray(x, float)[..., None] - (math.sqrt(noncentrality) + node) ** 2
    return np.asarray(special.chdtrc(d - 1, np.maximum(rest, 0.0)) @ (weight / weight.sum()))


@functools.lru_cache(maxsize=256)
def noncentral_quantile(d: float, noncentrality: float, tail: float = TAIL) -> float:
    """The x / d with P(chi^2_d(nc) > x) = tail."""
    centre, spread = 1 + noncentrality / d, math.sqrt(2 * (1 + 2 * noncentrality / d) / d)
    low, high = centre - 6 * spread, centre + 40 * spread
    while high - low > 1e-9 * spread:
        middle = (low + high) / 2
        low, high = (middle, high) if noncentral_sf(middle * d, d, noncentrality) > tail else (low, middle)
    return (low + high) / 2


def attainability(d: float, m: int, n: int, eps_d: float) -> float:
    """A lower bound on P(psi <= 0.1 and 4 m n phi <= eps_d): (1 - p)^(m(m-1)/2) - m p', p and p' the exact
    probabilities of a pair and of a point.

    Given x_1..x_i the events |<x_{i+1}, x_j>| <= t are at least as likely together as if independent (Sidak), each
    depends on x_j through its norm alone, and all grow likelier as norms shrink (Chebyshev's association inequality).
    """
    pair = min(0.0, log_pair_probability(d, eps_d / (4 * m * n)))
    none = math.exp(m * (m - 1) / 2 * math.log(-math.expm1(pair))) if pair < 0 else 0.0
    return none - m * math.exp(log_point_probability(d))


def smallest_dimension(m: int, n: int, eps_d: float, probability: float = 0.5) -> float:
    """The least whole d >= m from which m Gaussian points satisfy psi <= 0.1 and phi <= eps_d / (4 m n) (linear: n = 1)
    with at least this probability, by `attainability`, which grows with d. Infinity if that is beyond 1e15.

    ValueError unless m >= 2, n >= 1, eps_d > 0 and 0 < probability < 1.
    """
    if m < 2 or n < 1 or not eps_d > 0 or not 0 < probability < 1:
        raise ValueError(f"m, n, eps_d, probability are {m}, {n}, {eps_d}, {probability}, expected m >= 2, n >= 1, "
                         "eps_d > 0, 0 < probability < 1")  # fmt: skip
    low, high = m - 1, int(MAX_DIM)
    if attainability(high, m, n, eps_d) < probability:
        return math.inf
    while high - low > 1:
        # halve the ratio while it is large, the difference when it is small
        middle = min(max(math.isqrt(low * high), low + 1), high - 1) if high > 2 * low else (low + high) // 2
        low, high = (low, middle) if attainability(middle, m, n, eps_d) >= probability else (middle, high)
    return float(high)


@functools.lru_cache(maxsize=256)
def attained(d: float, m: int, n: int, probability: float) -> float:
    """The least eps_d that `attainability` promises with this probability in dimension d; infinity if none."""
    if attainability(d, m, n, 1e9) < probability:
        return math.inf
    low, high = 1e-12, 1e9
    while high > low * (1 + 1e-9):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if attainability(d, m, n, middle) >= probability else (middle, high)
    return high
