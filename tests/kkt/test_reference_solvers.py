"""The solvers of the reference implementation against closed forms, against a second method and against their own
optimality conditions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import reference as ref
from scipy import optimize

# --- closed forms ------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [1.0, -1.0])
def test_one_point(label: float) -> None:
    """lam = 1 / (b ||x||^2), w_j = lam u_j y x on active neurons of the right sign, 0 elsewhere."""
    x, u = np.array([[0.6, -1.1, 0.2]]), ref.signs(4) / 2.0
    active = np.array([[True], [True], [False], [False]])
    point = ref.limit_point(x, np.array([label]), u, active)
    lam = 1.0 / (0.25 * float(np.sum(x * x)))
    expected = np.zeros((4, 3))
    j = 0 if label > 0 else 1
    expected[j] = lam * u[j] * label * x[0]
    np.testing.assert_allclose(point.multipliers, [lam], rtol=1e-14)
    np.testing.assert_allclose(point.W, expected, atol=1e-14)
    assert point.epsilon < 1e-14
    np.testing.assert_array_equal(point.Z[expected[:, 0] == 0], 0.0)


def test_one_linear_point_off_the_span() -> None:
    """theta = a x + (orthogonal): lam = a, epsilon = the norm of the orthogonal part."""
    x = np.array([[3.0, 4.0, 0.0]]) / 5.0
    W = 2.0 * x + np.array([[0.0, 0.0, 0.3]])
    fit = ref.measure_multipliers(W @ x.T, W, x, np.ones(1), np.ones(1), slope=1.0, orthogonal=0.4)
    np.testing.assert_allclose(fit.multipliers, [2.0], rtol=1e-14)
    assert fit.epsilon == pytest.approx(0.5, rel=1e-14)
    assert fit.delta == pytest.approx(2.0 * (2.0 - 1.0), rel=1e-14)


def test_one_neuron_two_points() -> None:
    """n = 1, u = 1, both labels +1 and both points active: K lam = 1, the hard margin solution."""
    X = np.array([[1.0, 0.0], [0.3, 0.9]])
    point = ref.limit_point(X, np.ones(2), np.ones(1), np.ones((1, 2), bool))
    np.testing.assert_allclose(point.multipliers, np.linalg.solve(X @ X.T, np.ones(2)), rtol=1e-13)
    np.testing.assert_allclose(ref.margins(point.W, X, np.ones(2), np.ones(1)), 1.0, rtol=1e-14)


@pytest.mark.parametrize("c", [0.3, -0.3])
def test_two_opposite_points_and_a_kink(c: float) -> None:
    """n = m = 2, labels +-, K_12 = c. For c > 0 each cross pair is held on its kink by s = c / a."""
    a = 1.2
    X = np.linalg.cholesky(np.array([[a, c], [c, a]]))
    u, y = np.array([1.0, -1.0]) / math.sqrt(2.0), np.array([1.0, -1.0])
    point = ref.limit_point(X, y, u, np.eye(2, dtype=bool))
    if c > 0:
        np.testing.assert_allclose(point.multipliers, 2 * a / (a * a - c * c), rtol=1e-13)
        np.testing.assert_allclose(point.selection, [[1.0, c / a], [c / a, 1.0]], rtol=1e-13)
        assert point.Z[0, 1] == point.Z[1, 0] == 0.0
    else:
        np.testing.assert_allclose(point.multipliers, 2 / a, rtol=1e-13)
        np.testing.assert_allclose(point.selection, np.eye(2), atol=0)
        assert max(point.Z[0, 1], point.Z[1, 0]) < 0
    fit = ref.measure_multipliers(point.Z, point.W, X, y, u)
    assert fit.epsilon < 1e-14
    np.testing.assert_allclose(fit.mu, point.selection * point.multipliers, atol=1e-13)


def test_orthogonal_points() -> None:
    """Orthogonal data: lam_i = 1 / (b_i ||x_i||^2), every opposite-sign pair sits on its kink with s = 0."""
    rng = np.random.default_rng(5)
    sizes, (m, n) = np.array([0.8, 1.0, 1.3, 0.9]), (4, 6)
    X, y, u = np.diag(sizes), ref.signs(4), ref.signs(6) / math.sqrt(6.0)
    active = rng.random((n, m)) < 0.6
    active[0], active[1] = True, True
    point = ref.limit_point(X, y, u, active)
    b = np.array([sum(u[j] ** 2 for j in range(n) if active[j, i] and u[j] * y[i] > 0) for i in range(m)])
    np.testing.assert_allclose(point.multipliers, 1 / (b * sizes**2), rtol=1e-13)
    opposite = np.outer(u, y) < 0
    np.testing.assert_array_equal(point.Z[opposite], 0.0)
    np.testing.assert_allclose(point.selection[opposite], 0.0, atol=1e-13)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_equicorrelated_linear(sign: float) -> None:
    """y_i y_j K_ij = sign phi off the diagonal: lam = 1 / (1 + sign (m-1) phi); -phi attains Lemma M."""
    m, phi = 5, 0.05
    y = ref.signs(m)
    K = np.outer(y, y) * ((1 - sign * phi) * np.eye(m) + sign * phi)
    X = np.linalg.cholesky(K)
    point = ref.limit_point(X, y, np.ones(1), np.ones((1, m), bool), linear=True)
    lam = 1 / (1 + sign * (m - 1) * phi)
    np.testing.assert_allclose(point.multipliers, lam, rtol=1e-13)
    if sign < 0:
        assert ref.beta_max(0.0, phi, 0.0, 0.0, m) == pytest.approx(lam, rel=1e-14)
    # forget one point: P h = lam P x_r, and ||P x_r||^2 = k^T K_T^-1 k
    cert = ref.projection_certificate(
        point.W, point.Z, X, y, np.ones(1), point.multipliers, point.selection, [2], slope=1.0
    )
    rest = [0, 1, 3, 4]
    leak = float(K[2, rest] @ np.linalg.solve(K[np.ix_(rest, rest)], K[2, rest]))
    assert cert.epsilon == pytest.approx(lam * math.sqrt(leak), rel=1e-12)
    assert cert.margin == pytest.approx(1.0, rel=1e-13)


def test_margins_and_slopes() -> None:
    W, X = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[1.0, -1.0], [-3.0, 0.5]])
    y, u = np.array([1.0, -1.0]), np.array([0.5, -0.5])
    np.testing.assert_allclose(ref.margins(W, X, y, u), [0.5, 0.5])
    np.testing.assert_allclose(ref.margins(W, X, y, u, 0.1), [0.5 + 0.1, 0.5 + 0.15])
    np.testing.assert_allclose(ref.margins(W, X, y, u, 1.0), y * (X @ (u @ W)))
    assert ref.clarke_interval(0.0, 0.2) == (0.2, 1.0)
    assert ref.clarke_interval(-1.0, 0.2) == (0.2, 0.2)
    assert ref.clarke_interval(0.0, 1.0) == (1.0, 1.0)


# --- solvers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [0.0, 0.3])
@pytest.mark.parametrize("cap", [math.inf, 0.4])
def test_project_cone_is_the_nearest_point(slope: float, cap: float) -> None:
    """<point - projection, other - projection> <= 0 for the corners of the set and random members."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b, w = rng.normal(), rng.normal(size=3), float(rng.choice([1.0, 2.5]))
        lam, mu = ref.project_cone(a, b, slope, cap, w)
        assert -1e-15 <= lam <= cap
        assert np.all(mu <= lam + 1e-15)
        assert np.all(mu >= slope * lam - 1e-15)
        for t in (0.0, min(cap, 3.0), rng.random() * min(cap, 3.0)):
            other = t * (slope + (1 - slope) * rng.random(3))
            assert w * (a - lam) * (t - lam) + float((b - mu) @ (other - mu)) <= 1e-12


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_two_ways_to_measure(seed: int, slope: float) -> None:
    """Column generation and projected gradient agree, and both prove their own optimality."""
    rng = np.random.default_rng(seed)
    X, y, u = ref.reduced_gaussian(rng, 5, 300.0), ref.signs(5), ref.signs(6) / math.sqrt(6.0)
    Z = rng.standard_normal((6, 5))
    Z[rng.random(Z.shape) < 0.4] = 0.0
    W = np.linalg.solve(X, Z.T).T
    one = ref.measure_multipliers(Z, W, X, y, u, slope)
    two = ref.measure_multipliers(Z, W, X, y, u, slope, cap=np.full(5, 1e3))
    assert one.optimality < 1e-13
    assert two.optimality < 1e-13
    assert one.epsilon == pytest.approx(two.epsilon, rel=1e-12)
    np.testing.assert_allclose(one.multipliers, two.multipliers, atol=1e-11)


def test_planted_multipliers_are_found() -> None:
    rng = np.random.default_rng(1)
    X, y, u = ref.reduced_gaussian(rng, 4, 200.0), ref.signs(4), ref.signs(6) / math.sqrt(6.0)
    Z = rng.standard_normal((6, 4))
    Z[rng.random(Z.shape) < 0.5] = 0.0
    lam = np.array([1.0, 0.0, 2.0, 0.5])
    s = np.where(Z > 0, 1.0, np.where(Z < 0, 0.0, rng.random(Z.shape)))
    fit = ref.measure_multipliers(Z, ref.combination(X, y, u, lam, s, range(4)), X, y, u)
    assert fit.epsilon < 1e-13
    np.testing.assert_allclose(fit.mu, lam * s, atol=1e-12)


def test_cap_trades_delta_for_epsilon() -> None:
    X, y, u, W, Z, fit = ref.perturbed(3, 5, 6, 500.0, 0.05)
    q = ref.margins_of(Z, y, u)
    last = fit.epsilon
    for delta in (0.5 * fit.delta, 0.1 * fit.delta, 0.0):
        cap = np.where(q - 1 > 1e-12, delta / np.maximum(q - 1, 1e-12), 1e6)
        capped = ref.measure_multipliers(Z, W, X, y, u, cap=cap)
        assert capped.optimality < 1e-12
        assert capped.delta <= delta * (1 + 1e-12) + 1e-12
        assert capped.epsilon >= last - 1e-12
        last = capped.epsilon


def test_empty_input_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        ref.measure_multipliers(np.zeros((0, 0)), np.zeros((0, 0)), np.zeros((0, 0)), np.zeros(0), np.zeros(0))


@pytest.mark.parametrize(("seed", "m", "n", "d"), [(0, 4, 6, 1e3), (1, 6, 8, 20.0), (2, 8, 10, 1e10)])
def test_limit_point_is_exact(seed: int, m: int, n: int, d: float) -> None:
    X, y, u, active = ref.network(seed, m, n, d)
    point = ref.limit_point(X, y, u, active)
    assert point.epsilon < 1e-13
    assert point.delta < 1e-12
    assert point.margin > 1 - 1e-13
    assert ref.selection_distance(point.Z, point.selection) == 0.0
    b = [sum(u[j] ** 2 * point.selection[j, i] for j in range(n)) for i in range(m)]
    assert min(b) >= 1 / n - 1e-12
    fit = ref.measure_multipliers(point.Z, point.W, X, y, u)
    assert fit.epsilon < 1e-12
    np.testing.assert_allclose(fit.multipliers, point.multipliers, atol=1e-11)


def test_limit_point_against_slsqp() -> None:
    """The programme on a fixed pattern, written with an epigraph variable per opposite-sign pair."""
    X, y, u, active = ref.network(7, 3, 4, 15.0)
    W, _, _ = ref.solve_pattern(X, y, u, active)
    n, m = len(u), len(y)
    pairs = [(j, i) for j in range(n) for i in range(m) if u[j] * y[i] < 0]

    def constraints(v: np.ndarray) -> np.ndarray:
        Z, t = v[: n * m].reshape(n, m) @ X.T, v[n * m :]
        f = np.array([sum(abs(u[j]) * Z[j, i] for j in range(n) if u[j] * y[i] > 0 and active[j, i]) for i in range(m)])
        for k, (j, i) in enumerate(pairs):
            f[i] -= abs(u[j]) * t[k]
        return np.concatenate([f - 1, t, [t[k] - Z[j, i] for k, (j, i) in enumerate(pairs)]])

    start = np.concatenate([2 * W.ravel(), np.ones(len(pairs))])
    found = optimize.minimize(
        lambda v: 0.5 * float(v[: n * m] @ v[: n * m]),
        start,
        jac=lambda v: np.concatenate([v[: n * m], np.zeros(len(pairs))]),
        constraints={"type": "ineq", "fun": constraints},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    np.testing.assert_allclose(found.x[: n * m].reshape(n, m), W, atol=1e-5)
    assert 0.5 * float(np.sum(W * W)) <= found.fun * (1 + 1e-9)


def test_pattern_loop_lowers_the_norm() -> None:
    """When the loop repeats, the last norm is below the first."""
    repeated = 0
    for seed in range(12):
        X, y, u, active = ref.network(seed, 6, 8, 12.0)
        point = ref.limit_point(X, y, u, active)
        if point.repeats:
            repeated += 1
            assert float(np.linalg.norm(point.W)) < float(np.linalg.norm(point.first)) * (1 + 1e-13)
    assert repeated > 0


def test_dependent_points() -> None:
    """m = 5 points in the plane (linear): the hard margin solution has few support vectors."""
    X = np.array([[1.0, 0.2], [0.9, -0.3], [2.0, 1.0], [-1.0, 0.1], [-1.5, -0.4]])
    y = np.array([1.0, 1.0, 1.0, -1.0, -1.0])
    point = ref.limit_point(X, y, np.ones(1), np.ones((1, 5), bool), linear=True)
    assert point.epsilon < 1e-13
    assert point.delta < 1e-13
    assert np.sum(point.multipliers > 0) <= 2


def test_no_feasible_point() -> None:
    """A negative label without a negative neuron cannot have a positive margin."""
    with pytest.raises(ValueError, match="no feasible point"):
        ref.limit_point(np.eye(2), np.array([1.0, -1.0]), np.ones(1), np.ones((1, 2), bool))
