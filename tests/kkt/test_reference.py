"""The reference implementation against the theory.

Every statement of docs/theory checked on random instances, with the numeric constants of Theorems R and L re-derived
over the extremes of their hypotheses.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import reference as ref
from scipy import stats

# --- statements of docs/theory on instances --------------------------------------------------------------


INSTANCES = [(0, 5, 6, 400.0, 0.0), (1, 6, 8, 1e4, 0.02), (2, 7, 8, 60.0, 0.1), (3, 6, 10, 1e8, 1e-5)]


@pytest.mark.parametrize(("seed", "m", "n", "d", "size"), INSTANCES)
@pytest.mark.parametrize("forget", [[0], [1, 4]])
def test_theorem_p_and_the_span_certificate(seed, m, n, d, size, forget) -> None:
    X, y, u, W, Z, fit = ref.perturbed(seed, m, n, d, size)
    lam, s = fit.multipliers, fit.selection
    for scale in (1.0, 0.6):
        cert = ref.projection_certificate(W, Z, X, y, u, lam, s, forget, scale)
        exact = ref.step_size_epsilon(W, X, y, u, lam, s, forget, scale)
        assert cert.epsilon == pytest.approx(exact, rel=1e-10, abs=1e-13)
        assert cert.margin >= 1 - 1e-12
        assert cert.delta <= fit.delta + 1e-12
        # the pre-activations on T really did not move
        rest = [i for i in range(m) if i not in forget]
        np.testing.assert_allclose(ref.preactivations(cert.params, X)[:, rest], Z[:, rest], atol=1e-12)
        sine = scale * cert.rho / float(np.linalg.norm(cert.params))
        assert cert.tau <= (1 - math.sqrt(1 - sine**2)) * (1 + 1e-9) + 1e-15
        assert cert.rho <= ref.rho_instance(X, u, lam, s, forget) * (1 + 1e-10)
        hat = ref.gradient_ascent(W, X, y, u, lam, s, forget, scale)
        assert cert.tau == pytest.approx(ref.one_minus_cos(hat, cert.params, digits=50), rel=1e-6, abs=1e-24)
        span = ref.span_certificate(W, Z, X, y, u, lam, s, forget, scale)
        assert span.tau == pytest.approx(ref.one_minus_cos(hat, span.params, digits=50), rel=1e-6, abs=1e-24)
        assert span.margin >= 1 - 1e-12
        if scale == 1.0:
            assert cert.epsilon <= fit.epsilon + cert.rho + 1e-13
            assert span.epsilon <= cert.epsilon + 1e-13


def test_orthogonal_part_of_the_weights() -> None:
    """Weights with a part outside the span: the same numbers as in one coordinate more."""
    X, y, u, W, Z, fit = ref.perturbed(4, 5, 6, 400.0, 0.05)
    out = 0.37
    wide, W_wide = np.hstack([X, np.zeros((5, 1))]), np.hstack([W, np.zeros((6, 1))])
    W_wide[2, -1] = out
    for certificate in (ref.projection_certificate, ref.span_certificate):
        short = certificate(W, Z, X, y, u, fit.multipliers, fit.selection, [2], orthogonal=out)
        long = certificate(W_wide, Z, wide, y, u, fit.multipliers, fit.selection, [2])
        assert short.epsilon == pytest.approx(long.epsilon, rel=1e-11)
        assert short.tau == pytest.approx(long.tau, rel=1e-8)
    short_fit = ref.measure_multipliers(Z, W, X, y, u, orthogonal=out)
    assert short_fit.epsilon == pytest.approx(ref.measure_multipliers(Z, W_wide, wide, y, u).epsilon, rel=1e-11)
    assert ref.angle_to_span(W, X, [0, 1], out) == pytest.approx(ref.angle_to_span(W_wide, wide, [0, 1]), rel=1e-12)


@pytest.mark.parametrize(("seed", "m", "n", "d", "size"), INSTANCES)
def test_lemma_m_norm_lemma_and_estimator(seed, m, n, d, size) -> None:
    X, y, u, W, Z, fit = ref.perturbed(seed, m, n, d, size)
    psi, phi = ref.data_assumption(X)
    beta = [fit.multipliers[i] * sum(u[j] ** 2 * fit.selection[j, i] for j in range(n)) for i in range(m)]
    assert max(beta) <= ref.beta_max(psi, phi, fit.epsilon, fit.delta, m) * (1 + 1e-9)
    assert min(beta) >= ref.beta_min(psi, phi, fit.epsilon, fit.delta, m) - 1e-9
    K, rest = X @ X.T, list(range(1, m))
    floor = ref.norm_floor_sq(K, y, u, rest)
    assert floor <= float(np.sum(W * W)) * (1 + 1e-12)
    assert floor >= (m - 1) / float(np.linalg.eigvalsh(K[1:, 1:])[-1]) - 1e-12
    for r in range(m):
        estimate, error = ref.estimate_multiplier(r, Z, X, y, u, fit.multipliers, fit.selection, fit.epsilon)
        assert abs(estimate - fit.multipliers[r]) <= error * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize(("seed", "m", "n", "d", "size"), INSTANCES)
def test_identity_separation_and_retrained_distance(seed, m, n, d, size) -> None:
    """The retrained point is as far from theta as section "Identity separation" says, and D is as small."""
    X, y, u, W, Z, fit = ref.perturbed(seed, m, n, d, size)
    forget, rest = [0], list(range(1, m))
    cert = ref.projection_certificate(W, Z, X, y, u, fit.multipliers, fit.selection, forget)
    kinks_same_sign = any(Z[j, i] == 0 and fit.multipliers[i] > 0 for j in range(n) for i in rest if u[j] * y[i] > 0)
    if not kinks_same_sign:  # Q_T as solve_pattern knows it
        first, _, _ = ref.solve_pattern(X, y, u, Z > 0, rest)
        q = ref.margins_of(Z, y, u)
        slack = sum(fit.multipliers[i] * (q[i] - 1) for i in rest)
        distance = float(np.linalg.norm(cert.params - first))
        assert distance <= ref.distance_to_retrained(cert.epsilon, slack) * (1 + 1e-9) + 1e-10
    star = ref.limit_point(X, y, u, Z > 0, rest)
    floor = math.sqrt(ref.norm_floor_sq(X @ X.T, y, u, rest))
    alpha = ref.angle_to_span(W, X, rest)
    lowest = 1 - math.cos(ref.identity_separation(alpha, 1e-12, floor))
    assert ref.one_minus_cos(W, star.W) >= lowest - 1e-12
    assert lowest > 1e-4
    # every certificate of theta_hat_c obeys the lower bound on epsilon
    for scale in (0.0, 0.5, 1.0, 1.5):
        other = ref.projection_certificate(W, Z, X, y, u, fit.multipliers, fit.selection, forget, scale)
        hat = ref.gradient_ascent(W, X, y, u, fit.multipliers, fit.selection, forget, scale)
        needed = ref.epsilon_floor(ref.angle_to_span(hat, X, rest), other.tau, floor)
        assert other.epsilon >= needed - 1e-10


@pytest.mark.parametrize("seed", range(6))
def test_linear_scaling_certificate(seed: int) -> None:
    """Theorem L, instance and worst case, on linear models near the hard margin solution."""
    rng = np.random.default_rng(seed)
    m, d = 6, 3000.0
    X, y, u = ref.reduced_gaussian(rng, m, d), ref.signs(m), np.ones(1)
    point = ref.limit_point(X, y, u, np.ones((1, m), bool), linear=True)
    w = point.W + 0.02 * rng.standard_normal(point.W.shape)
    w = w / np.min(ref.margins(w, X, y, u, 1.0))
    Z = ref.preactivations(w, X)
    # multipliers of the unperturbed point: a poorer fit, so that epsilon_1 > 0 inside the span
    errors = ref.kkt_errors(w, Z, X, y, u, point.multipliers, np.ones((1, m)), slope=1.0)
    cert = ref.scaling_certificate_linear(w, X, y, point.multipliers, [0])
    mine = ref.instance_linear(X, y, point.multipliers, errors.epsilon, errors.delta, [0])
    psi, phi = ref.data_assumption(X)
    worst = ref.sharp_linear(psi, phi, errors.epsilon, errors.delta, m=m, k=1)
    for bound in (mine, worst):
        assert bound.applicable
        assert cert.epsilon <= bound.epsilon * (1 + 1e-12)
        assert cert.delta <= bound.delta * (1 + 1e-12)
    assert cert.tau == 0.0
    assert cert.margin >= 1 - 1e-13


def test_one_minus_cos_at_tiny_angles() -> None:
    a = np.array([3.0, -1.0, 2.0])
    across = np.array([1.0, 1.0, -1.0])  # orthogonal to a
    for size in (1e-3, 1e-7, 1e-12):
        delta = size * (across + 0.5 * a)
        exact = ref.one_minus_cos_of_difference(a, delta)
        b = 1 - 0.5 * size
        tangent = size * math.sqrt(3.0) / (b * math.sqrt(14.0))
        assert exact == pytest.approx(tangent**2 / (math.hypot(1, tangent) * (1 + math.hypot(1, tangent))), 1e-12)
    assert ref.one_minus_cos(a, a) == 0.0
    assert ref.one_minus_cos(a, -a) == pytest.approx(2.0)
    assert ref.one_minus_cos(a, across) == pytest.approx(1.0)
    assert ref.one_minus_cos(a, a + 1e-6 * across, digits=50) == pytest.approx(
        ref.one_minus_cos(a, a + 1e-6 * across), rel=1e-8
    )


def test_sets_equal_sequences_with_fixed_multipliers() -> None:
    X, y, u, W, _, fit = ref.perturbed(6, 6, 8, 300.0, 0.05)
    together = ref.gradient_ascent(W, X, y, u, fit.multipliers, fit.selection, [1, 3, 4])
    for order in itertools.permutations([1, 3, 4]):
        step = W
        for r in order:
            step = ref.gradient_ascent(step, X, y, u, fit.multipliers, fit.selection, [r])
        np.testing.assert_allclose(step, together, atol=1e-14)


def test_log_step_size() -> None:
    lam, q = np.array([2.0, 0.0, 1.0]), np.array([1.0, 3.0, 900.0])
    np.testing.assert_allclose(ref.log_step_size(lam, q, [0, 1, 2]), [math.log(2) + 1, -math.inf, 900.0])
    logistic = ref.log_step_size(lam, q, [0], "logistic")
    # -l'(q) = 1 / (1 + e^q) for l(q) = log(1 + e^-q)
    np.testing.assert_allclose(logistic, [math.log(2 * (1 + math.e)), -math.inf, -math.inf])


@pytest.mark.parametrize("seed", range(4))
def test_multipliers_of_nearly_orthogonal_linear_models(seed: int) -> None:
    rng = np.random.default_rng(seed)
    X = ref.reduced_gaussian(rng, 6, 1e5) * (1 + 0.1 * rng.random((6, 1)))
    low, high, p = ref.orthogonal_multiplier_bounds(X)
    assert p >= 3
    point = ref.limit_point(X, ref.signs(6), np.ones(1), np.ones((1, 6), bool), linear=True)
    assert low <= np.min(point.multipliers)
    assert np.max(point.multipliers) <= high


@pytest.mark.parametrize("size", [1e-3, 1e-6, 1e-9])
def test_epsilon_does_not_vanish_once_kinks_are_left(size: float) -> None:
    """docs/theory, why a trained theta's epsilon_1 stays above zero: nudge every kink off zero."""
    X, y, u, active = ref.network(0, 6, 8, 1e4)
    point = ref.limit_point(X, y, u, active)
    rng = np.random.default_rng(0)
    Z = point.Z + np.where(point.Z == 0, size * rng.choice([-1.0, 1.0], point.Z.shape), 0.0)
    W = np.linalg.solve(X, Z.T).T
    fit = ref.measure_multipliers(Z, W, X, y, u)
    lam, mu = point.multipliers, point.multipliers * point.selection
    total = 0.0
    for i in range(6):
        a = sum(u[j] ** 2 for j in range(8) if point.Z[j, i] > 0)
        kinks = [j for j in range(8) if point.Z[j, i] == 0]
        grid = np.linspace(0, 3 * lam[i], 30001)
        cost = a * (lam[i] - grid) ** 2
        for j in kinks:
            cost += u[j] ** 2 * np.minimum(mu[j, i] ** 2, (grid - mu[j, i]) ** 2)
        total += max(0.0, float(np.min(cost)) - 1e-6)
    floor = math.sqrt(float(np.linalg.eigvalsh(X @ X.T)[0]) * total)
    assert floor > 1e-3
    assert fit.epsilon >= floor - float(np.linalg.norm(W - point.W))


def test_fractional_same_sign_kinks_need_the_third_condition() -> None:
    """docs/theory, Closeness to the retrained model: Q_T's solution that is no KKT point of T's problem."""
    X = np.linalg.cholesky(np.array([[1.0, -0.5], [-0.5, 1.0]]))
    y, u = np.ones(2), np.ones(2) / math.sqrt(2.0)
    lam, s = np.full(2, 8 / 3), np.array([[1.0, 0.5], [0.5, 1.0]])
    W = ref.combination(X, y, u, lam, s, [0, 1])
    Z = ref.preactivations(W, X)
    np.testing.assert_allclose(Z, math.sqrt(2.0) * np.eye(2), atol=1e-15)
    Z[0, 1] = Z[1, 0] = 0.0
    errors = ref.kkt_errors(W, Z, X, y, u, lam, s)
    assert errors.epsilon < 1e-15
    assert errors.selection_error == 0.0
    np.testing.assert_allclose(ref.margins_of(Z, y, u), 1.0, rtol=1e-15)
    # forget point 1: Q_T's only constraint is u_1 z_11 + u_2 z_21 / 2 >= 1
    star = ref.combination(X, y, u, np.array([8 / 5, 0.0]), s, [0])
    z = ref.preactivations(star, X)[:, 0]
    assert u[0] * z[0] + 0.5 * u[1] * z[1] == pytest.approx(1.0, rel=1e-15)
    assert ref.margins(star, X, y, u)[0] == pytest.approx(1.2, rel=1e-14)
    fit = ref.measure_multipliers(z[:, None], star, X[:1], y[:1], u)
    assert fit.epsilon > 0.1


# --- constants -------------------------------------------------------------------------------------------


COUNTS = [2, 3, 4, 7, 10, 30, 1000, 10**6]
EXTREMES = list(itertools.product([0.0, 0.05, 0.1], [0.01, 0.5, 1.0], [0.0, 0.25, 0.5], [0.0, 0.25, 0.5]))


def test_constants_of_theorem_r() -> None:
    """0.82 and 0.91 cover the formulas; their suprema are 0.7963 and 0.8559 (n = 1, m to infinity)."""
    top, top_tau, at_two = 0.0, 0.0, 0.0
    for (psi, eps_d, e, delta), m, n in itertools.product(EXTREMES, COUNTS, [1, 2, 3, 40]):
        phi = eps_d / (4 * m * n)
        for k in {1, min(2, m - 1), m - 1}:
            M = m - k
            rho = k * ref.beta_max(psi, phi, e, delta, m) * math.sqrt(n) * ref.leak_norm(psi, phi, M)
            ratio = rho / (k * eps_d / math.sqrt(m * n))
            sine_sq = rho**2 * (1 + psi + (M - 1) * phi) / M
            top = max(top, ratio)
            top_tau = max(top_tau, sine_sq / (k**2 * eps_d**2 / (n * m * M)))
            at_two = max(at_two, ratio) if n >= 2 else at_two
            sharp = ref.sharp_relu(psi, phi, e, delta, m=m, n=n, k=k)
            rounded = ref.rounded_relu(psi, phi, e, delta, m=m, n=n, k=k)
            assert rounded.applicable
            assert sharp.epsilon <= rounded.epsilon
            assert sharp.delta <= rounded.delta
            assert sharp.tau <= rounded.tau
            if k == 1 and m > 9 * eps_d:
                coarse = ref.coarse_relu(psi, phi, e, delta, m=m, n=n)
                assert coarse.applicable
                assert rounded.epsilon <= coarse.epsilon
                assert rounded.delta <= coarse.delta
                assert rounded.tau <= coarse.tau
    assert 0.796 < top < 0.7963
    assert 0.855 < top_tau < 0.8560
    assert 0.623 < at_two < 0.6238


def test_constants_of_theorem_l() -> None:
    """The coarse linear form follows for every m >= 2; 4.49 would do in place of 7.2."""
    needed = 0.0
    for (psi, eps_d, e, delta), m in itertools.product(EXTREMES, COUNTS):
        phi = eps_d / (4 * m)
        sharp = ref.sharp_linear(psi, phi, e, delta, m=m, k=1)
        coarse = ref.coarse_linear(psi, phi, e, delta, m=m)
        assert sharp.applicable
        assert coarse.applicable
        assert sharp.epsilon <= coarse.epsilon
        assert sharp.delta <= coarse.delta
        growth = 1 + eps_d / (m - eps_d)
        needed = max(needed, (sharp.delta - delta * growth) / (eps_d / m))
    assert 4.4 < needed < 4.49


def test_hypotheses_are_named() -> None:
    assert ref.rounded_relu(0.2, 1e-6, 0.1, 0.1, m=5, n=4, k=1).reason == "psi > 0.1"
    assert ref.rounded_relu(0.0, 0.1, 0.1, 0.1, m=5, n=4, k=1).reason == "eps_d > 1"
    assert ref.coarse_relu(0.0, 1e-6, 0.6, 0.1, m=5, n=4).reason == "epsilon_1 > 1/2"
    assert ref.coarse_relu(0.0, 1e-6, 0.1, 0.6, m=5, n=4).reason == "delta_1 > 1/2"
    assert ref.coarse_relu(0.0, 0.0125, 0.1, 0.1, m=5, n=4).reason == "9 eps_d >= m"
    assert ref.coarse_linear(0.0, 1e-6, 0.1, 0.1, m=5, k=2).reason == "k > 1"
    assert not ref.sharp_relu(0.0, 0.5, 0.1, 0.1, m=5, n=4, k=1).applicable


@pytest.mark.parametrize("d", [10.0, 100.0, 1000.0, 5000.0])
def test_data_tail_bounds(d: float) -> None:
    """P(||x||^2 outside [0.9, 1.1]) <= 2 exp(-d/500), and the pair bound, against exact probabilities."""
    outside = stats.chi2.cdf(0.9 * d, d) + stats.chi2.sf(1.1 * d, d)
    assert outside <= 2 * math.exp(-d / 500)
    # one-sided Chernoff exponents at 1.1 and 0.9 exceed 1/500
    assert 0.5 * (0.1 - math.log(1.1)) > 1 / 500
    assert 0.5 * (-0.1 - math.log(0.9)) > 1 / 500
    # a standard normal times ||x|| <= 1.1 exceeds 1.1 log d with probability at most 2 d^(-log(d)/2)
    assert 2 * stats.norm.sf(math.log(d)) <= 2 * d ** (-math.log(d) / 2)


def test_reduced_gaussian_has_the_right_gram() -> None:
    rng = np.random.default_rng(0)
    d, grams = 9.5, []
    for _ in range(4000):
        X = ref.reduced_gaussian(rng, 3, d)
        grams.append((X @ X.T)[np.tril_indices(3)])
    mean, var = np.mean(grams, axis=0), np.var(grams, axis=0)
    diagonal = np.array([True, False, True, False, False, True])
    np.testing.assert_allclose(mean, diagonal.astype(float), atol=0.035)
    np.testing.assert_allclose(var, np.where(diagonal, 2 / d, 1 / d), rtol=0.12)
