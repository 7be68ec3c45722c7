"""Numbers at the ends of float64: the verdict that other units give, or one sentence with the condition number."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import hilbert

import gaunlearn_jax as ga

RNG = np.random.default_rng(9)
X, Y = RNG.normal(size=(6, 9)), np.array([1, -1, 1, 1, -1, -1])
CLASSES = np.arange(6) % 3


@pytest.mark.parametrize(("size", "labels"), [(10, 2), (12, 2), (11, 2), (14, 2), (13, 3), (14, 3)])
def test_nearly_singular_points_are_refused(unchecked, size, labels):
    """Condition numbers from 2e13: norms of 1e16 are no maximum margin, and a witness says which norm it excludes."""
    with pytest.raises(ValueError, match=r"beyond float64: .* condition number \d|have norm \de\+1\d or more"):
        ga.audit(hilbert(size), np.arange(size) % labels, [3])


@pytest.mark.parametrize("size", [4, 6])
def test_badly_conditioned_points_that_float64_can_tell(unchecked, size):
    x, y = hilbert(size), np.where(np.arange(size) % 2, -1.0, 1.0)
    answer = ga.audit(x, y, [3])
    assert answer.norm == pytest.approx(np.linalg.norm(np.linalg.solve(x, y)), rel=1e-6)
    assert np.min(answer.margins) > 1 - 1e-6


@pytest.mark.parametrize("labels", [Y, CLASSES], ids=["two", "three"])
@pytest.mark.parametrize("power", [30, 25, -30])
def test_features_of_incomparable_sizes_are_named(unchecked, labels, power):
    """Independent points are separable whatever their columns are multiplied by; float64 cannot see it."""
    x = X * np.geomspace(10.0**-power, 10.0**power, 9)
    with pytest.raises(ValueError, match=r"separable, but not in float64: features have sizes .* condition number"):
        ga.audit(x, labels, [0])


def test_what_is_not_separable_stays_so(unchecked):
    with pytest.raises(ValueError, match="no linear model through the origin separates"):
        ga.audit([[1.0, 1e30], [2, 2e30], [3, 1e30]], [1, 0, 1], [0])


@pytest.mark.parametrize("factor", [2.0**200, 2.0**-200, 1e60, 1e-60])
def test_other_units_give_the_same_verdict(unchecked, factor):
    plain, scaled = ga.audit(X, Y, [2]), ga.audit(X * factor, Y, [2])
    assert scaled.verdict == plain.verdict
    for name, row in plain.certificates.items():
        assert scaled.certificates[name].step.tau == pytest.approx(row.step.tau, rel=1e-6, abs=1e-15)
    assert scaled.norm * factor == pytest.approx(plain.norm, rel=1e-12)


@pytest.mark.parametrize("factor", [1e155, 1e-155, 1e300, 1e-300])
def test_units_beyond_the_range(unchecked, factor):
    with pytest.raises(ValueError, match="range of float64; measure the points in other units"):
        ga.audit(X * factor, Y, [2])
    for labels in (Y, CLASSES):
        answer, plain = (ga.audit(x, labels, [2], normalize=True) for x in (X * factor, X))
        assert answer.verdict == plain.verdict
        assert answer.norm == pytest.approx(plain.norm, rel=1e-12)
    answer, plain = (ga.audit(x, Y, [2], standardize=True, bias=True) for x in (X * factor, X))
    assert answer.norm == pytest.approx(plain.norm, rel=1e-9)


@pytest.mark.parametrize("power", [600, -600, 900])
def test_given_weights_of_any_size(unchecked, power):
    """A power of two changes no digit of the answer but the scale."""
    w = np.linalg.pinv(X) @ Y
    plain, scaled = ga.audit(X, Y, [2], weights=w), ga.audit(X, Y, [2], weights=np.ldexp(w, power))
    np.testing.assert_array_equal(scaled.multipliers, plain.multipliers)
    assert scaled.certificates == plain.certificates
    assert scaled.scale == np.ldexp(plain.scale, power)
    many = np.linalg.pinv(X) @ np.eye(3)[CLASSES]
    one, other = (ga.audit(X, CLASSES, [2], weights=np.ldexp(many.T, p)) for p in (0, power))
    np.testing.assert_array_equal(other.multipliers, one.multipliers)
    with pytest.raises(ValueError, match="leave float64"):
        ga.audit(X, Y, [2], weights=np.ldexp(w, -1060))
