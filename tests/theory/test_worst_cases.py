"""Worst-case right-hand sides against their formulas in docs/theory, retyped with 40 digits at asymmetric inputs: psi,
phi, epsilon_1 and delta_1 all away from 0, several forgotten points, second layers that are not balanced."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from mpmath import mpf, sqrt

import gaunlearn_jax as ga
from gaunlearn_jax import Reason
from gaunlearn_jax.base.codes import Verdict
from gaunlearn_jax.theory import classes, generalization, leaky, lemma_m, worst_case

#: psi, phi, epsilon_1, delta_1, m, n, k; no two terms of any formula are alike
CASES = [
    (0.07, 0.0011, 0.13, 0.31, 7, 5, 1),
    (0.03, 0.0004, 0.29, 0.17, 13, 9, 4),
    (0.09, 0.0006, 0.41, 0.05, 11, 3, 7),
    (0.01, 2e-7, 0.02, 0.44, 40, 31, 2),
]


def beta(psi: Any, phi: Any, epsilon: Any, delta: Any, m: int) -> Any:
    """The positive root of A b^2 - B b - delta_1 = 0, from the product of both."""
    a, b = 1 - psi - (m - 1) * phi, 1 + epsilon * sqrt(1 - psi)
    return 2 * delta / (sqrt(b**2 + 4 * a * delta) - b)


def exact(*values: float) -> list[Any]:
    return [mpf(v) for v in values]


def same(found: Any, wanted: tuple[Any, Any, Any], tolerance: float = 1e-13) -> None:
    assert int(found.reason) == Reason.APPLIES
    for name, value in zip(("epsilon", "delta", "tau"), wanted, strict=True):
        assert float(getattr(found, name)) == pytest.approx(float(value), rel=tolerance), name


def projection(psi: Any, phi: Any, epsilon: Any, delta: Any, m: int, k: int, gain: Any) -> tuple[Any, Any, Any]:
    """Theorems P and R: rho = k beta_max kappa / |u|_min, kappa^2 = M phi^2 / lambda_min, over the norm lemma."""
    kept = m - k
    kappa = sqrt(kept * phi**2 / (1 - psi - (kept - 1) * phi))
    rho = k * beta(psi, phi, epsilon, delta, m) * gain * kappa
    square = mpf(kept) / (1 + psi + (kept - 1) * phi)
    return epsilon + rho, delta, 1 - sqrt(1 - rho**2 / square)


@pytest.mark.parametrize("case", CASES)
def test_lemma_m(case: Any) -> None:
    with mpmath.workdps(40):
        psi, phi, epsilon, delta = exact(*case[:4])
        m = case[4]
        top = beta(psi, phi, epsilon, delta, m)
        lower, upper, defined = lemma_m.multiplier_bounds(*case[:4], m=m)
        assert bool(defined)
        assert float(upper) == pytest.approx(float(top), rel=1e-14)
        least = (1 - (m - 1) * phi * top - epsilon * sqrt(1 + psi)) / (1 + psi)
        assert float(lower) == pytest.approx(float(least), rel=1e-13)


@pytest.mark.parametrize("case", CASES)
def test_sharp_bounds(case: Any) -> None:
    *data, m, n, k = case
    with mpmath.workdps(40):
        psi, phi, epsilon, delta = exact(*data)
        same(ga.bounds.sharp_relu(*data, m=m, n=n, k=k), projection(psi, phi, epsilon, delta, m, k, sqrt(n)))
        floor = 0.6 / n
        found = ga.bounds.sharp_relu(*data, m=m, n=n, k=k, weight_floor=floor)
        same(found, projection(psi, phi, epsilon, delta, m, k, 1 / sqrt(mpf(floor))))
        same(ga.bounds.sharp_linear_projection(*data, m=m, k=k), projection(psi, phi, epsilon, delta, m, k, 1))
        top = beta(psi, phi, epsilon, delta, m)
        leak = k * top * phi
        wanted = epsilon / (1 - leak), (delta + 2 * leak * top) / (1 - leak) ** 2, mpf(0)
        same(ga.bounds.sharp_linear(*data, m=m, k=k), wanted)


@pytest.mark.parametrize("case", CASES)
def test_coarse_bounds(case: Any) -> None:
    *data, m, n, k = case
    with mpmath.workdps(40):
        _, phi, epsilon, delta = exact(*data)
        e = 4 * m * n * phi
        grown = m / (m - 9 * e)  # 1 + 9 e / (m - 9 e)
        wanted = (
            epsilon * grown + mpf(23) * k * e / sqrt(m),
            delta * grown + mpf("22.6") * k * e / m,
            mpf(82) * k**2 * e / m,
        )
        same(ga.bounds.coarse_relu(*data, m=m, n=n, k=k), wanted)
        e = 4 * m * phi
        grown = m / (m - k * e)
        wanted = epsilon * grown, delta * grown + mpf("7.2") * k * e / m, mpf(0)
        same(ga.bounds.coarse_linear(*data, m=m, k=k), wanted)


def test_every_hypothesis_ends_where_the_theorem_says() -> None:
    """Each at its last value and the next: psi = 0.1, 4 m n phi = 1, epsilon_1 = delta_1 = 1/2, and so on."""
    up = float(np.nextafter(0.5, 1))
    good = {"psi": 0.1, "phi": 1 / 256, "epsilon": 0.5, "delta": 0.5, "m": 16, "n": 4, "k": 1}
    changes = {
        Reason.NORMS: {"psi": float(np.nextafter(0.1, 1))},
        Reason.CORRELATION: {"phi": float(np.nextafter(1 / 256, 1))},
        Reason.STATIONARITY: {"epsilon": up},
        Reason.SLACKNESS: {"delta": up},
    }
    for reason, change in changes.items():
        assert int(ga.bounds.coarse_relu(**good).reason) == Reason.APPLIES
        assert int(ga.bounds.coarse_relu(**good | change).reason) == reason
        assert int(ga.bounds.sharp_relu(**good | change).reason) == Reason.APPLIES
    linear = good | {"phi": 1 / 64}
    del linear["n"]
    changes[Reason.CORRELATION] = {"phi": float(np.nextafter(1 / 64, 1))}
    for reason, change in changes.items():
        assert int(ga.bounds.coarse_linear(**linear).reason) == Reason.APPLIES
        assert int(ga.bounds.coarse_linear(**linear | change).reason) == reason
        for make in (ga.bounds.sharp_linear, ga.bounds.sharp_linear_projection):
            assert int(make(**linear | change).reason) == Reason.APPLIES


def test_the_formulas_need_definite_points_alone() -> None:
    """1 - psi - (m - 1) phi > 0, and nothing of psi, of 4 m n phi, of epsilon_1 or of delta_1."""
    far = {"psi": 0.5, "epsilon": 3.0, "delta": 7.0, "m": 5, "k": 1}
    for phi, reason in ((0.124, Reason.APPLIES), (0.125, Reason.UNDEFINED), (0.3, Reason.UNDEFINED)):
        assert int(ga.bounds.sharp_relu(phi=phi, n=40, **far).reason) == reason
        assert int(ga.bounds.sharp_linear_projection(phi=phi, **far).reason) == reason
    for phi, reason in ((1e-3, Reason.APPLIES), (0.11, Reason.LEAKAGE), (0.125, Reason.UNDEFINED)):
        assert int(ga.bounds.sharp_linear(phi=phi, **far).reason) == reason


def test_where_bounds_are_undefined() -> None:
    """9 e = m for networks; 3 k e = m for linear models, where k > 1; a leakage of 1; 1 - psi = (m - 1) phi."""
    flat = {"psi": 0.0, "epsilon": 0.1, "delta": 0.1}
    for m, reason in ((8, Reason.UNDEFINED), (9, Reason.UNDEFINED), (10, Reason.APPLIES)):
        assert int(ga.bounds.coarse_relu(phi=1 / (4 * m * 2), m=m, n=2, k=1, **flat).reason) == reason
    for k, reason in ((1, Reason.APPLIES), (3, Reason.APPLIES), (4, Reason.UNDEFINED)):
        assert int(ga.bounds.coarse_linear(phi=1 / 36, m=9, k=k, **flat).reason) == reason
    found = ga.bounds.sharp_linear(psi=0.1, phi=1 / 40, epsilon=0.5, delta=0.5, m=10, k=30)
    assert int(found.reason) == Reason.LEAKAGE
    assert not bool(lemma_m.multiplier_bounds(0.5, 0.125, 0.1, 0.1, m=5)[2])
    assert bool(lemma_m.multiplier_bounds(0.5, 0.124, 0.1, 0.1, m=5)[2])


def test_worst_case_by_name() -> None:
    data = ga.data.from_points(np.eye(5), [1, -1, 1, 1, -1])
    relu, linear = ga.models.TwoLayerReLU(output_weights=[0.7, -0.4, 0.3]), ga.models.Linear()
    numbers, sizes = (0.05, 1e-4, 0.2, 0.1), {"m": 5, "k": 2}
    for net, kind, strength, wanted in (
        (relu, "projection", "sharp", ga.bounds.sharp_relu(*numbers, n=3, **sizes)),
        (relu, "projection", "coarse", ga.bounds.coarse_relu(*numbers, n=3, **sizes)),
        (linear, "projection", "sharp", ga.bounds.sharp_linear_projection(*numbers, **sizes)),
        (linear, "scaling", "sharp", ga.bounds.sharp_linear(*numbers, **sizes)),
        (linear, "scaling", "coarse", ga.bounds.coarse_linear(*numbers, **sizes)),
    ):
        found = ga.bounds.worst_case(net.problem(data), kind, strength, *numbers, **sizes)
        assert (float(found.epsilon), float(found.delta), float(found.tau)) == (
            float(wanted.epsilon), float(wanted.delta), float(wanted.tau)
        )  # fmt: skip
    network = ga.models.TwoLayerLeakyReLU(output_weights=[0.7, -0.4, 0.3], negative_slope=0.2)
    v = network.problem(data).amplitudes
    for strength, make in (("sharp", ga.bounds.sharp_leaky), ("coarse", ga.bounds.coarse_leaky)):
        found = ga.bounds.worst_case(network.problem(data), "projection", strength, *numbers, **sizes)
        assert float(found.epsilon) == float(make(v, 0.2, *numbers, k=2).epsilon)
    with pytest.raises(ValueError, match="no theorem promises a coarse bound of the span certificate"):
        ga.bounds.worst_case(relu.problem(data), "span", "coarse", *numbers, **sizes)


@pytest.mark.parametrize(("smallest", "largest", "phi", "m"), [(0.8, 1.3, 0.004, 9), (1.1, 1.9, 0.02, 4)])
def test_prior_bounds(smallest: float, largest: float, phi: float, m: int) -> None:
    """With p R^2 = smallest / (m phi): (1 - 1/(p R^2 - 1)) / largest and 1 / (smallest - m phi)."""
    with mpmath.workdps(40):
        low, high, phi_ = exact(smallest, largest, phi)
        lower, upper, p = lemma_m.prior_bounds(smallest, largest, phi, m=m)
        assert float(p) == pytest.approx(float(low**2 / (high * m * phi_)), rel=1e-14)
        assert float(upper) == pytest.approx(float(1 / (low - m * phi_)), rel=1e-13)
        room = low / (m * phi_)
        assert float(lower) == pytest.approx(float((room - 2) / (room - 1) / high), rel=1e-13)


@pytest.mark.parametrize(("m", "k", "C"), [(9, 2, 5), (30, 7, 3)])
def test_coarse_classes(m: int, k: int, C: int) -> None:
    phi, epsilon, delta = 0.006, 7e-4, 1e-4
    found = classes.coarse_classes(0.08, phi, epsilon, delta, m=m, k=k, classes=C)
    e = 4 * m * phi
    wanted = (
        epsilon + 0.48 * (1 - 1 / C) ** 0.5 * k * e / m**0.5,
        delta,
        0.31 * (k * e) ** 2 / (m * (m - k)),
    )
    same(found, wanted)


def test_the_floor_of_several_classes() -> None:
    rng = np.random.default_rng(4)
    points, kept = rng.standard_normal((7, 4)), np.array([True, False, True, True, True, False, True])
    top = np.max(np.linalg.eigvalsh(points[kept] @ points[kept].T))
    floor = classes.norm_floor(points, kept, classes=6)
    assert floor == pytest.approx((5 / 6 * 5 / top) ** 0.5, rel=1e-13)
    assert classes.norm_floor(points, ~(kept | ~kept), classes=6) == 0


@pytest.mark.parametrize("slope", [0.2, 0.7])
def test_uniqueness_of_leaky_networks(slope: float) -> None:
    """Theorem LK point by point with U_+ = 0.58, U_- = 0.2."""
    u, y, psi, phi = np.array([0.7, -0.4, 0.3, -0.2]), np.array([1.0, -1.0, 1.0, 1.0, 1.0]), 0.06, 0.003
    plus, minus, x = 0.7**2 + 0.3**2, 0.4**2 + 0.2**2, 4 * phi
    mine = [(plus, minus) if label > 0 else (minus, plus) for label in y]
    squares = [a + slope**2 * b for a, b in mine]
    singles = [a + slope * b for a, b in mine]
    most = max(1 / (c * (1 - psi) - x * b) for c, b in zip(squares, singles, strict=True))
    found = leaky.uniqueness(jnp.asarray(u[:, None] * y), slope, psi, phi)
    assert float(found.most) == pytest.approx(most, rel=1e-13)
    chi = x * most / slope * max(c - slope**2 * b for c, b in zip(squares, singles, strict=True))
    assert float(found.chi) == pytest.approx(chi, rel=1e-12)
    least = [(1 - x * most * b) / ((1 + psi) * c) for c, b in zip(squares, singles, strict=True)]
    np.testing.assert_allclose(found.least, least, rtol=1e-13)


@pytest.mark.parametrize("slope", [0.15, 0.8])
def test_theorem_lk_of_approximate_points(slope: float) -> None:
    """Every number at epsilon_1, delta_1 > 0, from U_+ = 0.58 and U_- = 0.2, with 40 digits."""
    u, y = np.array([0.7, -0.4, 0.3, -0.2]), np.array([1.0, -1.0, 1.0, 1.0, 1.0])
    given = (0.06, 0.003, 0.002, 0.03)
    found = leaky.uniqueness(u[:, None] * y, slope, *(np.float64(v) for v in given))
    with mpmath.workdps(40):
        psi, phi, epsilon, delta = exact(*given)
        a, x, far = mpf(slope), 4 * phi, epsilon * sqrt(1 + psi) / mpf(0.2)
        plus, minus = mpf(0.7) ** 2 + mpf(0.3) ** 2, mpf(0.4) ** 2 + mpf(0.2) ** 2
        mine = [(plus, minus) if label > 0 else (minus, plus) for label in y]
        c, b = [p + a**2 * q for p, q in mine], [p + a * q for p, q in mine]
        tops = [far / (a * (1 - psi) - x)]
        for ci, bi in zip(c, b, strict=True):
            d, first = ci * (1 - psi) - x * bi, 1 + epsilon * sqrt(ci * (1 - psi))
            tops.append(2 * delta / (sqrt(first**2 + 4 * d * delta) - first))
        chi = [(x * max(tops) * (ci - a**2 * bi) + far * (ci + a * bi)) / a for ci, bi in zip(c, b, strict=True)]
        least = [
            (1 - x * max(tops) * bi - epsilon * sqrt((1 + psi) * ci)) / (1 + psi) / ci
            for ci, bi in zip(c, b, strict=True)
        ]
        clear = [a * (1 - v) / ci for v, ci in zip(chi, c, strict=True)]
        for value, wanted in ((found.most, max(tops)), (found.chi, max(chi))):
            assert float(value) == pytest.approx(float(wanted), rel=1e-13)
        for values, numbers in ((found.least, least), (found.clearance, clear)):
            np.testing.assert_allclose(values, [float(v) for v in numbers], rtol=1e-12)
    # a blur that is large beside the multipliers decides their bound
    assert float(leaky.uniqueness(u[:, None] * y, slope, 0.0, 0.03, 9.0).most) == pytest.approx(
        9 / 0.2 / (slope - 0.12), rel=1e-13
    )


@pytest.mark.parametrize("epsilon", [0.0, 1e-4, 0.9])
def test_bounds_of_leaky_networks(epsilon: float) -> None:
    """Sharp where chi < 1 and where it is not; coarse; m = 5, k = 2."""
    u, y, slope, k = np.array([0.7, -0.4, 0.3, -0.2]), np.array([1.0, -1.0, 1.0, 1.0, -1.0]), 0.4, 2
    given = (0.06, 0.003, epsilon, 5e-4)
    numbers = [np.float64(v) for v in given]
    one = bool(leaky.uniqueness(u[:, None] * y, slope, *numbers).chi < 1)
    assert one == (epsilon < 0.5)
    with mpmath.workdps(40):
        psi, phi, eps, delta = exact(*given)
        plus, minus, a = mpf(0.7) ** 2 + mpf(0.3) ** 2, mpf(0.4) ** 2 + mpf(0.2) ** 2, mpf(slope)
        c = [plus + a**2 * minus, minus + a**2 * plus]
        floor = min(c) if one else a**2 * (plus + minus)
        room, first = 1 - psi - 4 * phi, 1 / sqrt(floor) + eps * sqrt(1 - psi)
        gamma = 2 * delta / (sqrt(first**2 + 4 * room * delta) - first)
        rho = k * gamma * sqrt(3 * phi**2 / (1 - psi - 2 * phi))
        square = 3 / (max(c) * (1 + psi + 2 * phi))
        wanted = eps + rho, delta, 1 - sqrt(1 - rho**2 / square)
        same(ga.bounds.sharp_leaky(u[:, None] * y, slope, *numbers, k=k), wanted)
        even = np.array([0.5, -0.5, 0.5, -0.5])[:, None] * y
        found = ga.bounds.coarse_leaky(even, slope, *numbers, k=k)
        if epsilon == 0.9:
            assert int(found.reason) == Reason.STATIONARITY
        else:
            e = 20 * phi / a
            rho, tau = mpf("0.48") * k * a * e / sqrt(5), mpf("0.31") * (k * a * e) ** 2 / 15
            same(found, (eps + rho, delta, tau))


def test_hypotheses_of_the_leaky_bounds() -> None:
    v, slope = np.array([0.5, -0.5, 0.5, -0.5])[:, None] * np.array([1.0, -1.0, 1.0, 1.0, -1.0]), 0.4
    good = {"psi": 0.1, "phi": 0.4 / 20, "epsilon": 1e-3, "delta": 1e-3, "k": 1}
    cases = {
        Reason.NORMS: {"psi": float(np.nextafter(0.1, 1))},
        Reason.CORRELATION: {"phi": float(np.nextafter(0.4 / 20, 1))},
        Reason.STATIONARITY: {"epsilon": float(np.nextafter(1e-3, 1))},
        Reason.SLACKNESS: {"delta": float(np.nextafter(1e-3, 1))},
    }

    def reason(make: Any, amplitudes: Any, change: dict[str, Any]) -> int:
        given = {name: np.float64(v) if name != "k" else v for name, v in (good | change).items()}
        return int(make(amplitudes, slope, **given).reason)

    assert reason(ga.bounds.coarse_leaky, v, {}) == Reason.APPLIES
    assert reason(ga.bounds.coarse_leaky, 1.1 * v, {}) == Reason.SECOND_LAYER
    assert reason(ga.bounds.coarse_leaky, np.repeat(v, 40_000, axis=0) / 200, {}) == Reason.DATA
    for wanted, change in cases.items():
        assert reason(ga.bounds.coarse_leaky, v, change) == wanted
        assert reason(ga.bounds.sharp_leaky, v, change) == Reason.APPLIES
    assert reason(ga.bounds.sharp_leaky, v, {"phi": 0.224}) == Reason.APPLIES
    assert reason(ga.bounds.sharp_leaky, v, {"phi": 0.226}) == Reason.UNDEFINED


def test_constants_of_the_coarse_leaky_line() -> None:
    """0.48 and 0.31 cover the formulas, chi stays below 1; the suprema of exact points are 0.4771 and 0.3074."""
    top, top_tau, chi = 0.0, 0.0, 0.0
    for slope, (m, k), psi, near in itertools.product(
        (1e-6, 0.1, 0.3, 0.55, 0.8, 0.999999), ((2, 1), (3, 2), (10, 4), (10**5, 1)), (0.0, 0.1), (0.0, 1e-3)
    ):
        v = np.sqrt(0.5) * np.array([[1.0], [-1.0]]) * np.where(np.arange(m) % 2 == 0, 1.0, -1.0)
        phi = slope / (4 * m) * (1 - 1e-12)
        given = tuple(np.float64(z) for z in (psi, phi, near, near))
        sharp, coarse = (f(v, slope, *given, k=k) for f in (ga.bounds.sharp_leaky, ga.bounds.coarse_leaky))
        found = leaky.uniqueness(v, slope, *given)
        if found.chi >= 1:  # epsilon_1 = 1/1000 blurs where the slope is tiny
            assert near > 0
            continue
        assert int(coarse.reason) == Reason.APPLIES
        assert sharp.epsilon <= coarse.epsilon
        assert sharp.tau <= coarse.tau
        if near == 0:
            top = max(top, float(sharp.epsilon) * np.sqrt(m) / (k * slope))
            sine = 1 - (1 - float(sharp.tau)) ** 2
            top_tau = max(top_tau, sine * m * (m - k) / (k * slope) ** 2)
            chi = max(chi, float(found.chi))
    assert 0.477 < top < 0.4771
    assert 0.307 < top_tau < 0.3074
    assert 0.2 < chi < 0.29


def test_error_of_an_unbalanced_network() -> None:
    """1/2 sum_y exp(-d max(0, E_y)^2 / (2 L^2)), E_y by quadrature, one class far easier than the other."""
    data = ga.data.mixture(jax.random.key(2), 5, 400.0, -0.1)
    u = np.array([0.8, -0.3, 0.2, -0.1])
    net = ga.models.TwoLayerLeakyReLU(output_weights=u, negative_slope=0.2)
    w = np.random.default_rng(5).standard_normal((4, 6)) * 0.1
    w[:, 0] += np.array([1.3, -0.7, 0.4, 0.9])
    mu, total = float(data.mean_norm), mpf(0)
    for y in (1, -1):
        mean = mpf(0)
        for weight, row in zip(u, w, strict=True):
            centre, spread = mpf(y * mu * row[0]), mpf(float(np.linalg.norm(row))) / 20
            # E sigma(Z) of Z ~ N(centre, spread^2), by quadrature on both sides of the kink
            law = lambda t, c=centre, s=spread: mpmath.npdf(t, c, s)  # noqa: E731
            ends = sorted({centre - 12 * spread, mpf(0), centre + 12 * spread, centre})
            mean += weight * mpmath.quad(lambda t, f=law: (t if t > 0 else t / 5) * f(t), ends)
        total += mpmath.exp(-400 * max(y * mean, 0) ** 2 / (2 * np.linalg.norm(w, 2) ** 2 * float(u @ u))) / 2
    found = float(generalization.error_bound(net, jnp.asarray(w), data))
    assert 0 < float(total) * (1 - 1e-9) <= found <= float(total) * 1.02


def test_standard_weights() -> None:
    assert worst_case.is_standard(ga.models.TwoLayerReLU(6))
    assert not worst_case.is_standard(ga.models.TwoLayerReLU(output_weights=[0.7, -0.7, 0.1]))


def test_verdicts_and_reasons() -> None:
    """A comparison holds or fails only beyond its error; the first hypothesis that fails is the reason."""
    rhs = 1.0
    for lhs, error, verdict in (
        (0.9, 0.1, Verdict.HOLDS), (0.95, 0.1, Verdict.INCONCLUSIVE), (1.0, 0.0, Verdict.HOLDS),
        (1.05, 0.1, Verdict.INCONCLUSIVE), (1.2, 0.1, Verdict.VIOLATED), (np.nan, 0.0, Verdict.UNCONVERGED),
    ):  # fmt: skip
        assert int(ga.bounds.judge(lhs, rhs, error, True, True)) == verdict, lhs
    assert int(ga.bounds.judge(2.0, rhs, 0.0, False, True)) == Verdict.NOT_APPLICABLE
    assert int(ga.bounds.judge(0.0, rhs, 0.0, True, False)) == Verdict.UNCONVERGED
    assert int(ga.bounds.judge(0.0, rhs, 0.0, False, False)) == Verdict.UNCONVERGED
    found = ga.bounds.first_failing((True, Reason.NORMS), (False, Reason.LEAKAGE), (False, Reason.MODEL))
    assert int(found) == Reason.LEAKAGE
    for epsilon, tau, reason in (
        (0.9, 1.9, Reason.APPLIES), (1.0, 1.9, Reason.EMPTY), (0.9, 2.0, Reason.EMPTY), (2.0, 2.0, Reason.EMPTY)
    ):  # fmt: skip
        bound = ga.bounds.bound_of(epsilon, 0.0, tau, int(Reason.APPLIES))
        assert int(ga.bounds.mark_empty(bound, jnp.asarray(1.0)).reason) == reason
    failing = ga.bounds.bound_of(0.5, 0.0, 0.5, int(Reason.LEAKAGE))
    assert int(ga.bounds.mark_empty(failing, jnp.asarray(1.0)).reason) == Reason.LEAKAGE
