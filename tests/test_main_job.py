"""The main job against independent computations: exact KKT points, certificates, tau in 50 digits, full dimension."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import reference as ref
from scipy.optimize import nnls
from scipy.stats import ks_2samp

import gaunlearn_jax as ga

M, N = 6, 8


@functools.lru_cache(maxsize=8)
def solver(kind: str):
    """jit(vmap) of one instance: the limit point, its step on point 2 and its certificates."""
    net = ga.models.Linear() if kind == "linear" else ga.models.TwoLayerReLU(N)

    def lane(key, dim):
        data = ga.data.gaussian(key, M, dim)
        run = ga.train.train(key, net, data, num_steps=200, checkpoints=1)
        point = ga.kkt.limit_point(net, data, run)
        forget = jnp.arange(M) == 2
        certificates = {n: make(net, data, point, forget) for n, make in ga.certificates.ALL.items()}
        return data, run, point, ga.unlearn.gradient_ascent(net, data, point, forget), certificates

    return net, jax.jit(jax.vmap(lane))


def lanes(kind: str, dims):
    net, solve = solver(kind)
    dims = np.asarray(dims, float)
    out = solve(jax.random.split(jax.random.key(1), len(dims)), dims)
    return net, [jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i]), out) for i in range(len(dims))]


DIMS = [50, 1e4, 1e8, 1e12] * 4


@pytest.mark.parametrize("kind", [pytest.param("linear", marks=pytest.mark.slow), "relu"])
def test_limit_points_are_exact_when_recomputed_from_their_params(kind):
    net, found = lanes(kind, DIMS)
    u, slope = np.asarray(net.output_weights), net.negative_slope
    for data, run, point, _, _ in found:
        if run.status == ga.Status.NOT_SEPARATED:  # a point without an active neuron of its sign
            assert point.status in (ga.Status.OK, ga.Status.INFEASIBLE)
            continue
        assert point.status == ga.Status.OK
        z = point.preactivations
        got = ref.kkt_errors(
            point.params, z, data.points, data.labels, u, point.multipliers, point.selection, slope=slope
        )
        size = np.linalg.norm(point.params)
        assert got.epsilon <= 1e-12 * size
        assert got.delta <= 1e-10
        assert got.margin >= 1 - 1e-15
        assert got.selection_error == 0
        np.testing.assert_allclose(point.params @ data.points.T, z, atol=1e-13 * size)


@pytest.mark.parametrize("kind", ["linear", "relu"])
def test_the_projection_certificate_is_what_theorem_p_says(kind):
    net, found = lanes(kind, DIMS)
    for data, run, point, _, certificates in found:
        if run.status == ga.Status.NOT_SEPARATED:
            continue
        certificate = certificates["projection"]
        h = ref.forgotten_part(
            data.points, data.labels, np.asarray(net.output_weights), point.multipliers, point.selection, [2]
        )
        rho = np.linalg.norm(h @ ref.projector(data.points, [i for i in range(M) if i != 2]))
        assert abs(certificate.epsilon - rho) <= point.epsilon + point.error + 1e-10 * rho
        # the forgotten point may have had the largest slack: delta is the one of the retained points
        assert certificate.delta <= point.delta + certificate.delta_error
        assert certificates["span"].epsilon <= certificate.epsilon + certificate.error


@pytest.mark.parametrize("kind", ["linear", "relu"])
def test_tau_agrees_with_fifty_digits_where_it_is_1e_12(kind):
    _, found = lanes(kind, DIMS)
    smallest = 1.0
    for _, run, _, after, certificates in found:
        if run.status == ga.Status.NOT_SEPARATED:
            continue
        for name in ("projection", "span", "retrain"):
            with mpmath.workdps(50):
                a = [mpmath.mpf(float(v)) for v in after.params.ravel()]
                b = [mpmath.mpf(float(v)) for v in certificates[name].params.ravel()]
                inner = mpmath.fsum(x * y for x, y in zip(a, b, strict=True))
                sizes = mpmath.sqrt(mpmath.fsum(x * x for x in a) * mpmath.fsum(y * y for y in b))
                exact = float(1 - inner / sizes)
            np.testing.assert_allclose(certificates[name].tau, exact, rtol=0.01)
            smallest = min(smallest, exact)
    assert smallest < 1e-11


def test_the_retrained_linear_model_is_the_hard_margin_solution():
    _, found = lanes("linear", DIMS)
    kept = [i for i in range(M) if i != 2]
    for data, _, _, _, certificates in found:
        a = data.labels[kept, None] * data.points[kept]
        # Lawson-Hanson: min ||w|| s.t. A w >= 1 is a nonnegative least squares problem
        e = np.append(np.zeros(a.shape[1]), 1.0)
        x, _ = nnls(np.vstack([a.T, np.ones(len(kept))]), e)
        r = np.vstack([a.T, np.ones(len(kept))]) @ x - e
        np.testing.assert_allclose(certificates["retrain"].params[0], -r[:-1] / r[-1], atol=1e-9)


@pytest.mark.parametrize("kind", ["gaussian", "correlated", "more points than dimensions", "duplicates"])
def test_kkt_solvers_agree_with_the_reference(kind):
    rng = np.random.default_rng(3)
    net = ga.models.TwoLayerReLU(N)
    u = np.asarray(net.output_weights)
    y = np.array([1.0, -1.0] * (M // 2))
    worst = 0.0
    for _ in range(6):
        x = rng.standard_normal((M, 20)) / np.sqrt(20)
        if kind == "correlated":
            left, _, right = np.linalg.svd(x, full_matrices=False)
            x = left * np.logspace(0, -3, M) @ right  # condition number of K: 1e6
        elif kind == "more points than dimensions":
            x = rng.standard_normal((M, 4)) + 0.3 * y[:, None] * np.eye(4)[0]
        elif kind == "duplicates":
            x[4] = x[0]
        pattern = rng.random((N, M)) < 0.7
        pattern[:, 4] = pattern[:, 0] if kind == "duplicates" else pattern[:, 4]
        data = ga.data.from_points(x, y)
        run = type("Run", (), {"preactivations": jnp.asarray(np.where(pattern, 1.0, -1.0))})
        # the first solve is unique; what the pattern loop makes of it must be a KKT point
        first = ga.kkt.solve_pattern(net.problem(data), jnp.asarray(pattern, float), jnp.ones(M, bool), 0)
        point = ga.kkt.limit_point(net, data, run)
        if point.status != ga.Status.OK:
            with pytest.raises(ValueError, match="no feasible point"):
                ref.limit_point(np.asarray(data.points), y, u, pattern)
            continue
        expected = ref.limit_point(np.asarray(data.points), y, u, pattern).first
        np.testing.assert_allclose(first.params, expected, atol=1e-6 * np.linalg.norm(expected))
        size = np.linalg.norm(point.params)
        got = ref.kkt_errors(point.params, point.preactivations, data.points, y, u, point.multipliers, point.selection)
        assert got.epsilon <= 1e-9 * size
        assert got.delta <= 1e-8 * float(jnp.max(point.multipliers))
        assert got.selection_error == 0
        # the fit, at the point itself (kinks) and away from it (none: plain nonnegative least squares)
        fit = ga.kkt.fit_multipliers(net, data, point.params, point.preactivations)
        worst = max(worst, float(fit.epsilon) / size)
        away = np.asarray(point.params) + 0.01 * size / N * rng.standard_normal(point.params.shape)
        fit = ga.kkt.fit_multipliers(net, data, jnp.asarray(away))
        if fit.status == ga.Status.OK:
            w, z = np.asarray(fit.params), np.asarray(fit.preactivations)
            columns = (u[:, None] * y * (z > 0)).T[:, :, None] * np.asarray(data.points)[:, None, :]
            best = nnls(columns.reshape(M, -1).T, w.ravel())[1]
            np.testing.assert_allclose(fit.epsilon, best, rtol=1e-7)
    assert worst < 1e-9


@pytest.mark.parametrize("kind", ["linear", pytest.param("relu", marks=pytest.mark.slow)])
@pytest.mark.parametrize("dim", [pytest.param(500, marks=pytest.mark.slow), 2000])
def test_reduced_draws_have_the_law_of_materialised_ones(kind, dim):
    """Final epsilon and tau of 200 reduced draws against 200 materialised ones; KS tests, level 1e-3 each."""
    count = 200
    net, _ = solver(kind)

    def outcome(data, key):
        run = ga.train.train(key, net, data, num_steps=200, checkpoints=1)
        point = ga.kkt.limit_point(net, data, run)
        certificate = ga.certificates.projection(net, data, point, jnp.arange(M) == 2)
        return certificate.epsilon, certificate.tau

    keys = jax.random.split(jax.random.key(7), count)
    reduced = jax.jit(jax.vmap(lambda key: outcome(ga.data.gaussian(key, M, float(dim)), key)))(keys)
    points = np.random.default_rng(8).standard_normal((count, M, dim)) / np.sqrt(dim)
    labels = np.array([1.0, -1.0] * (M // 2))
    stored = [ga.data.from_points(x, labels) for x in points]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *stored)
    materialised = jax.jit(jax.vmap(outcome))(stacked, keys)
    for ours, theirs in zip(reduced, materialised, strict=True):
        assert ks_2samp(ours, theirs).pvalue > 1e-3


def test_reduced_and_full_dimension_agree_exactly_for_given_points():
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((M, 300)) / np.sqrt(300), np.array([1.0, -1.0] * (M // 2))
    net = ga.models.TwoLayerReLU(N)
    u = np.asarray(net.output_weights)
    data = ga.data.from_points(x, y)
    key = jax.random.key(0)
    point = ga.kkt.limit_point(net, data, ga.train.train(key, net, data, num_steps=200, checkpoints=1))
    certificate = ga.certificates.projection(net, data, point, ga.data.forget_mask(data, [2]))
    full = ref.projection_certificate(
        np.asarray(data.lift(point.params)), np.asarray(point.preactivations), x, y, u,
        np.asarray(point.multipliers), np.asarray(point.selection), [2],
    )  # fmt: skip
    for name in ("epsilon", "delta", "tau"):
        np.testing.assert_allclose(getattr(certificate, name), getattr(full, name), rtol=1e-9, atol=1e-10)


def test_theorem_p_needs_no_assumption():
    """Arbitrary data and arbitrary theta of positive margins: the instance bound is never violated."""
    rng = np.random.default_rng(5)
    net = ga.models.TwoLayerReLU(N)

    def lane(points, labels, noise, forget):
        data = ga.data.from_points(points, labels)
        start = net.output_weights[:, None] * (labels @ data.points)[None, :] + noise[:, : data.points.shape[1]]
        point = ga.kkt.fit_multipliers(net, data, start)
        certificate = ga.certificates.projection(net, data, point, forget)
        bound = ga.bounds.instance(net, data, point, forget, certificate)
        both = (certificate.epsilon, bound.epsilon), (certificate.delta, bound.delta), (certificate.tau, bound.tau)
        errors = certificate.error, certificate.delta_error, certificate.tau_error
        good = point.status == ga.Status.OK
        return [ga.bounds.judge(a, b, e, bound.applicable, good) for (a, b), e in zip(both, errors, strict=True)]

    count = 300
    x = rng.standard_normal((count, M, 9))
    x[100:200] += 3 * rng.standard_normal((100, 1, 9))  # strongly correlated
    x[200:, 4] = x[200:, 0]  # duplicates, and scales over ten orders of magnitude
    x[200:] *= 10.0 ** rng.uniform(-5, 5, (100, 1, 1))
    y = np.tile([1.0, -1.0], (count, M // 2))
    noise = 0.3 * rng.standard_normal((count, N, M)) * np.abs(x).max(axis=(1, 2))[:, None, None]
    masks = rng.permuted(np.tile([True, True, False, False, False, False], (count, 1)), axis=1)
    verdicts = np.asarray(jax.jit(jax.vmap(lane))(x, y, noise, masks))
    assert np.sum(verdicts == ga.Verdict.VIOLATED) == 0
    assert np.mean(verdicts == ga.Verdict.HOLDS) > 0.3


def test_data_that_no_linear_model_separates_are_infeasible():
    x = np.array([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.1], [1.5, 0.0]])
    data = ga.data.from_points(x, [1, -1, 1, 1])
    net = ga.models.Linear()
    run = ga.train.train(jax.random.key(0), net, data, num_steps=100)
    assert run.status == ga.Status.NOT_SEPARATED
    assert ga.kkt.limit_point(net, data, run).status == ga.Status.INFEASIBLE
    assert ga.kkt.fit_multipliers(net, data, run.params).status == ga.Status.INFEASIBLE
