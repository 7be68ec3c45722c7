"""Normal and chi-square tails to 50 digits, far beyond where probabilities underflow."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

from gaunlearn_jax.data import chances
from gaunlearn_jax.theory import generalization

DIGITS = 50


def agrees(found: float, exact: mpmath.mpf, tolerance: float) -> bool:
    """Of logarithms: the absolute error near 0, else the relative one."""
    return abs(mpmath.mpf(found) - exact) <= tolerance * max(1, abs(exact))


@pytest.mark.parametrize("t", [-8.0, -1.0, 1e-9, 0.5, 5.0, 37.5, 38.5, 300.0, 1e5])
def test_normal_tail(t: float) -> None:
    """log Phi(-t); Phi(-38.5) is below the least 64-bit float."""
    with mpmath.workdps(DIGITS):
        exact = mpmath.log(mpmath.erfc(mpmath.mpf(t) / mpmath.sqrt(2)) / 2)
        assert agrees(float(generalization.log_tail(t)), exact, 1e-15)


@pytest.mark.parametrize("psi", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("d", [2.0, 3.0, 10.0, 1e3, 1e4, 1e6, 1e8])
def test_chi_square_tails(d: float, psi: float) -> None:
    """log P(|chi^2_d / d - 1| > psi), down to e^(-12907315)."""
    with mpmath.workdps(DIGITS):
        a, psi_ = mpmath.mpf(d) / 2, mpmath.mpf(psi)
        upper = mpmath.gammainc(a, a * (1 + psi_), mpmath.inf, regularized=True)
        lower = mpmath.gammainc(a, 0, a * (1 - psi_), regularized=True)
        assert agrees(chances.log_point_probability(d, psi), mpmath.log(upper + lower), 1e-14)


@pytest.mark.parametrize("psi", [0.05, 0.1, 0.7])
def test_chi_square_of_two_degrees_in_closed_form(psi: float) -> None:
    """Exponential: P = e^-(1 + psi) + 1 - e^-(1 - psi)."""
    exact = math.log(math.exp(-1 - psi) - math.expm1(psi - 1))
    assert chances.log_point_probability(2.0, psi) == pytest.approx(exact, abs=1e-15)


def log_pair(d: float, t: float) -> mpmath.mpf:
    """log P(|<x, x'>| >= t) for x, x' ~ N(0, I/d): the integral over R = ||x'||, in pieces around its peak."""
    d, t = mpmath.mpf(d), mpmath.mpf(t)

    def f(r: mpmath.mpf) -> mpmath.mpf:
        tail = mpmath.erfc(t * mpmath.sqrt(d / 2) / r)
        return (d - 1) * mpmath.log(r) - d * r * r / 2 + mpmath.log(tail)

    peak = mpmath.findroot(lambda r: mpmath.diff(f, r), mpmath.mpf("1.01"))
    width, top = 1 / mpmath.sqrt(-mpmath.diff(f, peak, 2)), f(peak)
    ends = sorted({max(peak + k * width, mpmath.mpf(10) ** -30) for k in (-40, -10, -5, -2, 0, 2, 5, 10, 40)})
    total = mpmath.quad(lambda r: mpmath.exp(f(r) - top), ends)
    return top + mpmath.log(total) + mpmath.log(2) + d / 2 * mpmath.log(d / 2) - mpmath.loggamma(d / 2)


@pytest.mark.parametrize(
    ("d", "t"),
    [(10, 0.5), (10, 20.0), (1e3, 0.3), (1e4, 1.0), (1e6, 0.015), (1e6, 0.2), (1e8, 0.02), (1e12, 2e-5), (1e12, 0.3)],
)
def test_inner_products_of_two_gaussians(d: float, t: float) -> None:
    """From e^-2 to e^(-4e10), the far ones carried by long vectors alone."""
    with mpmath.workdps(DIGITS):
        assert agrees(chances.log_pair_probability(d, t), log_pair(d, t), 5e-14)


@pytest.mark.parametrize("t", [0.01, 0.3, 2.0, 40.0])
def test_inner_products_in_two_and_four_dimensions(t: float) -> None:
    """d <x, x'> has a density like |v|^((d-1)/2) K_((d-1)/2)(|v|): with s = d t, P = e^-s and e^-s (1 + s/2)."""
    assert chances.log_pair_probability(2.0, t) == pytest.approx(-2 * t, abs=2e-11)
    assert chances.log_pair_probability(4.0, t) == pytest.approx(-4 * t + math.log1p(2 * t), abs=2e-14)


@pytest.mark.parametrize(
    ("d", "noncentrality", "x"), [(100, 10, 140), (100, 10, 200), (1e3, 50, 1400), (1e4, 20, 10600), (1e4, 20, 12000)]
)
def test_noncentral_chi_square_tail(d: float, noncentrality: float, x: float) -> None:
    """The Poisson mixture of central tails, down to 8e-40."""
    with mpmath.workdps(DIGITS):
        half = mpmath.mpf(noncentrality) / 2
        exact = mpmath.nsum(
            lambda j: mpmath.exp(-half) * half**j / mpmath.factorial(j)
            * mpmath.gammainc(mpmath.mpf(d) / 2 + j, mpmath.mpf(x) / 2, mpmath.inf, regularized=True),
            [0, mpmath.inf],
        )  # fmt: skip
        found = float(chances.noncentral_sf(np.array(float(x)), d, noncentrality))
        assert found == pytest.approx(float(exact), rel=1e-12)
