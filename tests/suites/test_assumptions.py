"""Suite `data`: probabilities against SciPy, mpmath and simulation; it passes, its mutants fail, its picture."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import integrate, stats

import gaunlearn_jax as ga
from gaunlearn_jax.data import chances
from verify.instances.grid import Grid
from verify.instances.records import Cell
from verify.run.compute import run_blocks
from verify.run.rows import exit_code, rows
from verify.suites import assumptions, statistics

GRID = Grid(dims=(1e3, 1e4, 1e8), points=(6,), neurons=(8,), forget=(1,), seeds=48)


def mutant(name, change):
    """The suite on data that `change` has spoilt."""

    def per_instance(net, record, shape):
        spoilt = dataclasses.replace(record.data, points=change(record.data))
        psi, phi, eps_d = ga.data.assumptions(spoilt, net)
        shape = dataclasses.replace(shape, model="relu")  # no mixtures
        return assumptions.per_instance(net, record._replace(data=spoilt, psi=psi, phi=phi, eps_d=eps_d), shape)

    return dataclasses.replace(assumptions.SUITE, name=name, per_instance=per_instance, models=("linear",))


def alike(drawn):
    """All points lean on the first one by 3 / sqrt(d)."""
    return drawn.points.at[1:].add(3 / jnp.sqrt(drawn.dim) * drawn.points[0])


def spy(net, record, shape):
    drawn = ga.data.mixture(jax.random.wrap_key_data(record.key, impl="threefry2x32"), shape.m, record.data.dim, 0.1)
    return {"points": record.data.points, "mixture": drawn.points, "labels": drawn.labels}


SUITES = (
    assumptions.SUITE,
    mutant("too_long", lambda drawn: drawn.points * (1 + 1 / jnp.sqrt(drawn.dim))),
    mutant("alike", alike),
    dataclasses.replace(assumptions.SUITE, name="spy", per_instance=spy, per_cell=None, models=("linear",)),
)


@pytest.fixture(scope="module")
def blocks():
    return run_blocks(SUITES, GRID)


@pytest.fixture(scope="module")
def table(blocks):
    return rows(blocks, SUITES, GRID)


def violated(table, claim):
    return {"/".join((r["certificate"], r["strength"], r["quantity"])) for r in table
            if r["claim"] == claim and r["violated"]}  # fmt: skip


def test_nothing_is_violated_and_large_dimensions_are_applicable(table):
    mine = [row for row in table if row["claim"] == "data"]
    assert exit_code(mine, SUITES[:1]) == 0
    for row in mine:
        if row["grid"]["d"] >= 1e4:
            assert row["not_applicable"] == row["inconclusive"] == row["unconverged"] == 0, row
    exact = [row for row in mine if row["strength"] == "exact"]
    assert len(exact) == 2 * 2 * 3
    assert all(0 < row["worst_ratio"] < 1 for row in exact)
    assert {row["certificate"] for row in mine if row["model"] == "linear"} == {
        "point", "pair", "set", "mixture_point", "mixture_pair"
    }  # fmt: skip


def test_points_that_are_too_long_or_too_alike_are_refuted(table):
    assert "point/law/tail_low" in violated(table, "too_long")
    assert "pair/law/tail_low" in violated(table, "alike")
    assert "set/attained/most" in violated(table, "alike")
    for name in ("too_long", "alike"):
        suite = tuple(s for s in SUITES if s.name == name)
        assert exit_code([row for row in table if row["claim"] == name], suite) == 1


def test_stated_bounds_that_are_too_strong_are_refuted(blocks, monkeypatch):
    block = next(b for b in blocks if b.shape.model == "relu")
    values = {n: np.asarray(v)[block.d == 1e4] for n, v in block.results["data"].items()}
    true = chances.log_threshold_bounds
    monkeypatch.setattr(assumptions, "log_threshold_bounds", lambda d: (1.5 * true(d)[0], 3 * true(d)[1]))
    checks = assumptions.per_cell(block.shape, Cell(1e4), values)
    for name in ("point/exact/exponent", "pair/exact/exponent"):
        assert int(checks[name].verdict()) == int(ga.Verdict.VIOLATED)


def test_events_of_a_lane_against_numpy(blocks):
    block = next(b for b in blocks if b.shape.model == "linear")
    lane = 5
    got, raw = block.results["data"], block.results["spy"]
    x, d = np.asarray(raw["points"])[lane], block.d[lane]
    np.testing.assert_allclose(np.asarray(got["deviation"])[lane], np.sum(x**2, axis=1) - 1, atol=1e-14)
    inner = np.array([x[i] @ x[i + 1] for i in (0, 2, 4)])
    np.testing.assert_allclose(np.asarray(got["inner"])[lane], inner, atol=1e-15)
    norms = np.linalg.norm(x[1::2], axis=1)
    np.testing.assert_allclose(np.asarray(got["score"])[lane], inner * np.sqrt(d) / norms, rtol=1e-9)
    z, y = np.asarray(raw["mixture"])[lane], np.asarray(raw["labels"])[lane]
    mu = d ** (-0.25 + 0.1)
    which = assumptions.SIGNALS.index(0.1)
    pairs = np.array([z[i] @ z[i + 1] - y[i] * y[i + 1] * mu**2 for i in (0, 2, 4)])
    np.testing.assert_allclose(np.asarray(got["mixture_inner"])[lane, which], pairs, atol=1e-14)
    noise = z[::2].copy()
    noise[:, 0] -= y[::2] * mu  # xi_i of the first of each pair
    scores = np.sum(noise * z[1::2], axis=1) * np.sqrt(d) / np.linalg.norm(z[1::2], axis=1)
    np.testing.assert_allclose(np.asarray(got["mixture_score"])[lane, which], scores, rtol=1e-9)


@pytest.mark.parametrize("d", [12.0, 1e3, 1e4])
def test_point_probability_is_the_chi_square_tail(d):
    exact = stats.chi2.sf(1.1 * d, d) + stats.chi2.cdf(0.9 * d, d)
    np.testing.assert_allclose(math.exp(chances.log_point_probability(d)), exact, rtol=1e-10)


@pytest.mark.parametrize("d", [2e5, 2e6, 1e9])
def test_point_probability_far_beyond_underflow(d):
    """log Gamma(a, z) by a saddle-point free quadrature in mpmath, at a = d/2 and z = 1.1 a, 0.9 a."""
    with mpmath.workdps(40):
        a = mpmath.mpf(d) / 2
        front = -mpmath.loggamma(a)
        total = mpmath.mpf(0)
        for r, sign in ((mpmath.mpf("1.1"), 1), (mpmath.mpf("0.9"), -1)):
            z = r * a
            # integrand t^(a-1) e^-t at t = z + sign v, relative to t = z; decays like e^(-0.1 v)
            ratio = mpmath.quad(
                lambda v, z=z, s=sign: mpmath.exp((a - 1) * mpmath.log1p(s * v / z) - s * v), [0, 10, 40, 160, 640]
            )
            total += mpmath.exp((a - 1) * mpmath.log(z) - z + front) * ratio
        exact = mpmath.log(total)
        assert abs(chances.log_point_probability(d) / float(exact) - 1) < 1e-8


@pytest.mark.parametrize("d", [6.0, 1e3, 1e8])
def test_pair_probability_is_the_integral_over_one_norm(d):
    for t in (0.5 / math.sqrt(d), 3 / math.sqrt(d)):
        spread = 1 / math.sqrt(2 * d)
        ends = (max(1e-9, 1 - 12 * spread), 1 + 12 * spread)
        exact, _ = integrate.quad(
            lambda r, t=t: 2 * stats.norm.sf(t * math.sqrt(d) / r) * stats.chi2.pdf(d * r * r, d) * 2 * d * r,
            *ends, epsabs=1e-13, limit=200,
        )  # fmt: skip
        np.testing.assert_allclose(math.exp(chances.log_pair_probability(d, t)), exact, rtol=1e-7)


def test_pair_probability_at_the_stated_threshold_is_below_the_stated_bound():
    for d in (20.0, 1e3, 1e6, 1e10, 1e15):
        assert chances.log_pair_probability(d, chances.pair_threshold(d)) < chances.log_threshold_bounds(d)[1]


def test_noncentral_tail_agrees_with_scipy_where_scipy_is_right():
    for d, nc in ((20.0, 3.0), (1e3, 60.0), (1e6, 1e5)):
        x = d + nc + np.linspace(-3, 3, 7) * math.sqrt(2 * d + 4 * nc)
        np.testing.assert_allclose(chances.noncentral_sf(x, d, nc), stats.ncx2.sf(x, d, nc), rtol=1e-7)
        q = chances.noncentral_quantile(d, nc)
        np.testing.assert_allclose(stats.ncx2.sf(q * d, d, nc), chances.TAIL, rtol=1e-6)
    # the normal limit, where scipy's ncx2 gives 0.17
    np.testing.assert_allclose(chances.noncentral_sf(np.array(1e13 + 1e10), 1e13, 1e10), 0.5, atol=1e-6)


def test_interval_is_clopper_pearson():
    low, high = statistics.interval([0, 3, 20], 20, level=0.05)
    np.testing.assert_allclose(low, [0, stats.beta.ppf(0.025, 3, 18), stats.beta.ppf(0.025, 20, 1)], rtol=1e-6)
    np.testing.assert_allclose(high, [stats.beta.ppf(0.975, 1, 20), stats.beta.ppf(0.975, 4, 17), 1], rtol=1e-6)


@pytest.mark.parametrize(("m", "n", "eps_d"), [(3, 1, 1.0), (6, 1, 2.0), (4, 2, 1.5)])
def test_smallest_dimension_against_full_simulation(m, n, eps_d):
    """Data stored in full: half of the draws satisfy the condition at that dimension, clearly fewer at 2/3 of it."""
    d = chances.smallest_dimension(m, n, eps_d)
    rng = np.random.default_rng(m)

    def share(dim, draws=400):
        met = 0
        for _ in range(draws):
            x = rng.normal(size=(m, dim)) / math.sqrt(dim)
            k = x @ x.T
            psi = np.max(np.abs(np.diag(k) - 1))
            met += psi <= 0.1 and 4 * m * n * np.max(np.abs(k - np.diag(np.diag(k)))) <= eps_d
        return met / draws

    assert d < 3e4
    assert 0.42 < share(int(d)) < 0.62
    assert share(int(d / 1.5)) < 0.45
    assert chances.attainability(d, m, n, eps_d) >= 0.5 > chances.attainability(d - 1, m, n, eps_d)


def test_smallest_dimension_of_the_example_and_its_monotony():
    assert chances.smallest_dimension(10, 40, 0.1) == pytest.approx(1.506e9, rel=1e-3)
    by_eps = [chances.smallest_dimension(10, 40, eps) for eps in (1.0, 0.1, 0.01)]
    assert by_eps[0] < by_eps[1] < by_eps[2]
    assert chances.smallest_dimension(10, 40, 0.1, 0.9) > by_eps[1]
    assert chances.smallest_dimension(10, 40, 1e-6) == math.inf
    grow = [chances.attainability(d, 6, 1, 1.0) for d in np.geomspace(10, 1e5, 60).round()]
    assert np.all(np.diff(grow) > -1e-12)
    assert assumptions.dimension_table([(10, 40)], (0.1,)) == ["for m = 10, n = 40, ε_d = 0.1 you need d ≥ 1.51e+09"]
    for bad in ((1, 1, 0.1, 0.5), (2, 0, 0.1, 0.5), (2, 1, 0.0, 0.5), (2, 1, 0.1, 1.0)):
        with pytest.raises(ValueError, match="expected m >= 2"):
            chances.smallest_dimension(*bad)


def test_picture(blocks):
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    assumptions.draw(figure, blocks, GRID)
    left, right = figure.axes
    assert left.get_ylabel() == "−ln(probability)"
    assert right.get_ylabel().startswith("near-orthogonality ε_d")
    for ax in (left, right):
        assert ax.get_xlabel() == "dimension d"
        assert ax.get_legend() is not None
    assert "you need d ≥" in right.get_title()
    sampled = next(line for line in left.lines if line.get_label() == "sampled")
    deviation = np.concatenate([np.asarray(b.results["data"]["deviation"])[b.d == 1e3].ravel() for b in blocks])
    np.testing.assert_allclose(sampled.get_ydata()[0], -np.log(np.mean(np.abs(deviation) > 0.1)))
    band = next(line for line in right.lines if line.get_label() == "relu, m = 6, n = 8")
    block = next(b for b in blocks if b.shape.model == "relu")
    median = [np.median(np.asarray(block.results["data"]["eps_d"])[block.d == d]) for d in GRID.dims]
    np.testing.assert_allclose(band.get_ydata(), median)
    low, high = right.get_ylim()
    assert low < min(median)
    assert max(median) < high
