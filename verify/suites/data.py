"""Random data satisfy the assumptions: exact chi-square probabilities against the stated bounds and against sampling.

Everything but the events of a lane is computed on the host, with logarithms where probabilities underflow.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

import gaunlearn_jax as ga
from gaunlearn_jax import numerics
from gaunlearn_jax._types import Reason
from gaunlearn_jax.data import MAX_DIM, Dataset
from gaunlearn_jax.models import Network
from verify.check import Check, check
from verify.plots import STYLES, band, per_dim
from verify.records import Record, Shape
from verify.suite import Results, Suite

#: level of each statistical comparison: with up to 1000 of them the chance of any false alarm is below 1e-3 (Bonferroni)
LEVEL = 1e-6
#: signals a of the mixtures, ||mu|| = d^(-1/4 + a)
SIGNALS = (0.02, 0.05, 0.1, 0.2)
PSI = 0.1
#: chance of the events by which the law itself is tested, at any d
TAIL = 0.1


def interval(count: Any, trials: int, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Clopper-Pearson: exact two-sided limits of the chance after `count` successes in independent trials."""
    from scipy.stats import binomtest

    pairs = [binomtest(int(c), trials).proportion_ci(1 - level, "exact") for c in np.ravel(count)]
    return np.array([p.low for p in pairs]), np.array([p.high for p in pairs])


def agreement(name: str, count: Any, trials: int, chance: np.ndarray) -> dict[str, Check]:
    """Two comparisons: the chance lies above the lower and below the upper Clopper-Pearson limit."""
    low, high = interval(count, trials)
    return {f"{name}_low": check(low, chance), f"{name}_high": check(chance, high)}


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


@functools.lru_cache(maxsize=4096)
def log_pair_probability(d: float, threshold: float) -> float:
    """log P(|<x, x'>| >= t) exactly: given ||x'|| = R it is 2 Phi(-t sqrt(d) / R), integrated over R, d R^2 ~ chi^2_d."""
    node, weight = np.polynomial.legendre.leggauss(400)
    step = np.maximum(14 / math.sqrt(2 * d) * node, -1 + 1e-12)  # R = 1 + step
    density = (d - 1) * np.log1p(step) - d * (step + step**2 / 2) + np.log(weight)
    tail = math.log(2) + special.log_ndtr(-threshold * math.sqrt(d) / (1 + step))
    return float(special.logsumexp(density + tail) - special.logsumexp(density))


def noncentral_sf(x: Any, d: float, noncentrality: float) -> np.ndarray:
    """P(chi^2_d(nc) > x): chi^2_{d-1} plus (sqrt(nc) + g)^2, integrated over the normal g. (SciPy's ncx2 is wrong from
    d = 1e13 on.)"""
    node, weight = np.polynomial.hermite_e.hermegauss(64)
    rest = np.asarray(x, float)[..., None] - (math.sqrt(noncentrality) + node) ** 2
    return special.chdtrc(d - 1, np.maximum(rest, 0.0)) @ (weight / weight.sum())


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


def dimension_table(sizes: list[tuple[int, int]], eps_d: tuple[float, ...] = (1.0, 0.1, 0.01)) -> list[str]:
    """One sentence per (m, n) and eps_d."""
    return [
        f"for m = {m}, n = {n}, ε_d = {eps:g} you need d ≥ {smallest_dimension(m, n, eps):.3g}"
        for m, n in sizes
        for eps in eps_d
    ]
