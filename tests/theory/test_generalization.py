"""Test errors on the mixture: closed forms, bound and sampling against quadrature, NumPy and full-dimensional draws."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy import integrate, stats

import gaunlearn_jax as ga
from gaunlearn_jax.theory import generalization as g


def mixture(dim=1e3, signal=0.05, m=6, seed=0):
    return ga.data.mixture(jax.random.key(seed), m, dim, signal)


def network(data, n=6, seed=1, dead=False):
    """A network that has learnt something: class means on the right neurons, and noise."""
    net = ga.models.TwoLayerReLU(n)
    rng = np.random.default_rng(seed)
    signs = np.sign(np.asarray(net.output_weights))
    w = rng.normal(size=(n, data.points.shape[1])) * 0.3
    w[:, 0] += 2 * signs
    if dead:
        w[0] = 0
    return net, jnp.asarray(w)


@pytest.mark.parametrize("t", [-3.0, 0.0, 2.0, 19.9, 20.1, 35.0, 1e4])
def test_log_tail_has_full_accuracy_everywhere(t):
    with mpmath.workdps(60):
        x = mpmath.mpf(t)
        if t < 100:
            exact = mpmath.log(mpmath.erfc(x / mpmath.sqrt(2)) / 2)
        else:
            exact = -(x**2) / 2 - mpmath.log(x * mpmath.sqrt(2 * mpmath.pi)) + mpmath.log1p(-1 / x**2 + 3 / x**4)
        assert abs(float(mpmath.mpf(float(g.log_tail(t))) - exact)) <= 4e-16 * max(1, -float(exact))


def test_linear_error_is_the_normal_tail_of_the_whole_weight_vector():
    data = mixture()
    w = np.random.default_rng(0).normal(size=(1, 7))
    t = np.sqrt(1e3) * float(data.mean_norm) * w[0, 0] / np.sqrt(np.sum(w**2) + 0.4**2)
    np.testing.assert_allclose(g.linear_error(jnp.asarray(w), data, 0.4), stats.norm.cdf(-t), rtol=1e-13)
    assert g.linear_error(jnp.zeros((1, 7)), data) == 0.5


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0])
def test_expected_margin_against_quadrature(slope):
    data = mixture(dim=50.0, signal=0.1)
    net, w = network(data, dead=True)
    net = ga.models.Network(net.output_weights, slope)
    got = g.expected_margin(net, w, data)
    for index, y in enumerate((1, -1)):
        total = 0.0
        for u, row in zip(np.asarray(net.output_weights), np.asarray(w), strict=True):
            nu, s = y * row[0] * float(data.mean_norm), np.sqrt(np.sum(row**2) / 50)
            if s == 0:
                continue
            kink = min(max(-nu / s, -9), 9)
            both = ((-10, kink), (kink, 10))
            parts = [
                integrate.quad(lambda v, n=nu, s=s: max(n + s * v, slope * (n + s * v)) * stats.norm.pdf(v), *ends)[0]
                for ends in both
            ]
            total += u * sum(parts)
        np.testing.assert_allclose(got[index], y * total, rtol=1e-10, atol=1e-14)


def test_a_neuron_without_weights_counts_its_mean():
    data = mixture()
    net = ga.models.Network(jnp.array([0.7, -0.7]))
    assert np.all(np.asarray(g.expected_margin(net, jnp.zeros((2, 7)), data)) == 0)
    assert g.error_bound(net, jnp.zeros((2, 7)), data) == 1.0


def test_error_bound_is_the_formula_and_never_below_it():
    data = mixture(dim=2e3)
    net, w = network(data)
    e = np.maximum(np.asarray(g.expected_margin(net, w, data)), 0)
    lipschitz = np.linalg.norm(np.asarray(w), 2) * np.linalg.norm(np.asarray(net.output_weights))
    exact = 0.5 * np.sum(np.exp(-2e3 * e**2 / (2 * lipschitz**2)))
    got = float(g.error_bound(net, w, data))
    assert exact * (1 - 1e-12) <= got <= exact * 1.01
    np.testing.assert_allclose(g.operator_norm(w.T), g.operator_norm(w), rtol=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_the_bound_is_above_the_sampled_error_and_bites(seed):
    data = mixture(dim=1e3, signal=0.02, seed=seed)
    net, w = network(data, seed=seed)
    noise = g.fresh_noise(jax.random.key(seed), 20_000, 7, data)
    count = int(g.error_count(net, w, data, noise))
    low = stats.binomtest(count, 20_000).proportion_ci(1 - 1e-6, "exact").low
    bound = float(g.error_bound(net, w, data))
    assert low <= bound < 0.5


def test_sampled_error_agrees_with_the_exact_error_of_a_linear_model():
    data = mixture(dim=1e3, signal=-0.1)
    w = jnp.asarray(np.random.default_rng(3).normal(size=(1, 7))).at[0, 0].set(1.0)
    share = float(g.sampled_error(jax.random.key(5), ga.models.Linear(), w, data, 40_000))
    exact = float(g.linear_error(w, data))
    assert 0.1 < exact < 0.5
    assert stats.binomtest(round(share * 40_000), 40_000, exact).pvalue > 1e-3


def test_sampling_in_reduced_coordinates_is_sampling_in_full():
    """W and mu lifted to R^300: the margins of fresh points there, by NumPy, have the same law."""
    d, m = 300, 6
    data = mixture(dim=float(d), signal=-0.2)
    net, w = network(data)
    rng = np.random.default_rng(8)
    frame = np.linalg.qr(rng.normal(size=(d, m + 1)))[0].T
    full, mu = np.asarray(w) @ frame, float(data.mean_norm) * frame[0]
    u = np.asarray(net.output_weights)
    y = np.where(np.arange(20_000) < 10_000, 1.0, -1.0)
    x = y[:, None] * mu + rng.normal(size=(20_000, d)) / np.sqrt(d)
    wrong = int(np.sum(y * (np.maximum(x @ full.T, 0) @ u) <= 0))
    noise = g.fresh_noise(jax.random.key(9), 20_000, m + 1, data)
    count = int(g.error_count(net, w, data, noise))
    table = [[wrong, 20_000 - wrong], [count, 20_000 - count]]
    assert wrong > 100
    assert stats.fisher_exact(table).pvalue > 1e-3


def test_the_part_outside_the_span_has_the_law_of_full_weights():
    d, p, n, draws = 40, 7, 4, 800
    data, net = mixture(dim=float(d)), ga.models.TwoLayerReLU(n)
    make = jax.vmap(lambda key: g.orthogonal_coordinates(key, net, data, 2.0))
    ours = np.asarray(make(jax.random.split(jax.random.key(0), draws)))
    np.testing.assert_allclose(np.linalg.norm(ours, axis=(1, 2)), 2.0, rtol=1e-12)
    full = np.random.default_rng(1).normal(size=(draws, n, d - p))
    full *= 2 / np.linalg.norm(full, axis=(1, 2), keepdims=True)
    gram, other = ours @ ours.transpose(0, 2, 1), full @ full.transpose(0, 2, 1)
    for i, k in ((0, 0), (3, 3), (0, 1), (1, 3)):
        assert stats.ks_2samp(gram[:, i, k], other[:, i, k]).pvalue > 1e-3


def test_the_part_outside_the_span_of_special_networks():
    data, net = mixture(dim=12.0), ga.models.TwoLayerReLU(6)  # d - p = 5 < n
    key = jax.random.key(0)
    assert np.all(np.isnan(g.orthogonal_coordinates(key, net, data, 1.0)))
    assert np.all(np.asarray(g.orthogonal_coordinates(key, net, data, 0.0)) == 0)
    assert np.asarray(g.orthogonal_coordinates(key, ga.models.Linear(), data, 1.5)).item() == 1.5


def test_signal_floor_and_its_hypothesis():
    data = mixture(dim=100.0, signal=-0.2)
    lam, keep = np.array([1.0, 0.5, 2.0, 0.0, 1.0, 1.0]), np.array([True] * 5 + [False])
    mu = float(data.mean_norm)
    floor, holds = g.signal_floor(data, jnp.asarray(lam), 0.1, jnp.asarray(keep))
    np.testing.assert_allclose(floor, mu**2 / 2 * lam[keep].sum() - 0.1 * mu, rtol=1e-14)
    noise = np.asarray(data.labels * data.points[:, 0]) * mu - mu**2  # y <xi, mu>
    weak = noise < -(mu**2) / 2
    np.testing.assert_array_equal(g.weak_points(data), weak)
    assert weak.any()
    assert bool(holds) == (not weak[keep].any())


def test_odd_sample_sizes_are_refused_and_everything_batches():
    data = mixture()
    net, w = network(data)
    for bad in (0, 7):
        with pytest.raises(ValueError, match=f"num_samples is {bad}"):
            g.sampled_error(jax.random.key(0), net, w, data, bad)
    batch = jnp.stack([w, 2 * w])
    errors = jax.jit(jax.vmap(lambda w: g.sampled_error(jax.random.key(0), net, w, data, 64)))(batch)
    bounds = jax.vmap(lambda w: g.error_bound(net, w, data))(batch)
    assert errors[0] == errors[1]
    np.testing.assert_allclose(bounds[0], bounds[1], rtol=1e-10)
