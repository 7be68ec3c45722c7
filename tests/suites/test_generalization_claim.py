"""Suite `generalization`: it passes, its mutants fail, its numbers are those of NumPy, its picture shows the data."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

import gaunlearn_jax as ga
from gaunlearn_jax.theory import generalization as error
from verify.instances.grid import Grid
from verify.instances.records import Cell
from verify.run.compute import run_blocks
from verify.run.rows import exit_code, rows
from verify.suites import generalization

#: at a = -0.25 the signal drowns (||mu|| = d^(-1/2)) and the hypothesis of the linear claim mostly fails
DROWNED, WEAK = -0.25, 0.02
GRID = Grid(dims=(1e3, 1e8), points=(6,), neurons=(8,), forget=(1,), seeds=16, signals=(DROWNED, WEAK))


def without_hypothesis(e):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(error, "weak_points", lambda data: jnp.zeros(data.num_points, bool))
        return generalization.evaluate(e)


def with_wrong_multipliers(e):
    return generalization.evaluate(
        dataclasses.replace(e, point=dataclasses.replace(e.point, multipliers=3 * e.point.multipliers))
    )


def with_a_short_second_layer(e):
    """The largest |u_j| = 1/sqrt(n) in place of ||u|| = 1 in the Lipschitz constant ||W||_op ||u||."""
    whole = error.operator_norm
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(error, "operator_norm", lambda w: whole(w) / e.net.num_neurons**0.5)
        return generalization.evaluate(e)


def spy(e):
    after = ga.unlearn.gradient_ascent(e.net, e.record.data, e.point, e.forget)
    return {
        "points": e.record.data.points,
        "labels": e.record.data.labels,
        "mean_norm": e.record.data.mean_norm,
        "forget": e.forget,
        "multipliers": e.point.multipliers,
        "epsilon": e.point.epsilon,
        "orthogonal": e.point.orthogonal_norm,
        "before": e.point.params,
        "after": after.params,
    }


def variant(name, evaluate, models=("linear", "relu"), per_cell=generalization.per_cell):
    return dataclasses.replace(generalization.SUITE, name=name, evaluate=evaluate, models=models, per_cell=per_cell)


SUITES = (
    generalization.SUITE,
    variant("without_hypothesis", without_hypothesis, ("linear",)),
    variant("wrong_multipliers", with_wrong_multipliers, ("linear",)),
    variant("short_layer", with_a_short_second_layer, ("relu",)),
    variant("spy", spy, per_cell=None),
)


@pytest.fixture(scope="module")
def blocks():
    return run_blocks(SUITES, GRID)


@pytest.fixture(scope="module")
def table(blocks):
    return rows(blocks, SUITES, GRID)


def of(table, claim, **wanted):
    def matches(row):
        return row["claim"] == claim and all(row.get(k, row["grid"].get(k)) == v for k, v in wanted.items())

    return [row for row in table if matches(row)]


def test_nothing_is_violated_and_weak_signals_are_applicable(table):
    assert exit_code(of(table, "generalization"), SUITES[:1]) == 0
    weak = of(table, "generalization", signal=WEAK, d=1e8)
    assert {row["model"] for row in weak} == {"linear", "relu"}
    names = {"/".join((row["certificate"], row["strength"], row["quantity"])) for row in weak}
    for when in ("original", "unlearned"):
        assert {f"{when}/instance/signal", f"{when}/instance/error", f"{when}/concentration/error"} <= names
        assert {f"{when}/sampled/bound", f"{when}/sampled/error_low", f"{when}/sampled/error_high"} <= names
    for row in weak:
        total = row["holds"] + row["not_applicable"]
        assert row["holds"] > 0.9 * total, row


def test_where_the_hypothesis_fails_nothing_is_claimed(table):
    drowned = of(table, "generalization", signal=DROWNED, strength="instance", quantity="signal", theta="limit")
    assert sum(row["not_applicable"] for row in drowned) > 0.5 * sum(16 for _ in drowned)
    assert all(ga.Reason.DATA.text in row["reasons"] for row in drowned)


@pytest.mark.parametrize("claim", ["without_hypothesis", "wrong_multipliers"])
def test_mutants_of_the_linear_claim_are_violated(table, claim):
    mutant = of(table, claim, strength="instance", theta="limit")
    assert sum(row["violated"] for row in mutant if row["quantity"] == "signal") > 0
    assert sum(row["violated"] for row in mutant if row["quantity"] == "error") > 0
    assert exit_code(of(table, claim), tuple(s for s in SUITES if s.name == claim)) == 1


def test_a_bound_with_too_small_a_lipschitz_constant_is_refuted_by_sampling(table):
    assert sum(row["violated"] for row in of(table, "short_layer", quantity="bound")) > 0


def test_a_wrong_exact_error_is_refuted_by_sampling(blocks):
    """The orthogonal part of the noise forgotten: errors computed as if d were twice as large."""
    block = next(b for b in blocks if b.shape.model == "linear")
    here = (block.d == 1e3) & (block.parameters["signal"] == WEAK)
    arrays = {n: np.asarray(v)[here] for n, v in block.results["generalization"].items() if n.count("/") == 0}
    t = -stats.norm.ppf(np.exp(arrays["unlearned_log_error"]))
    arrays["unlearned_log_error"] = stats.norm.logcdf(-np.sqrt(2) * t)
    checks = generalization.per_cell(block.shape, Cell(1e3, (("signal", WEAK),)), arrays)
    assert np.any(checks["unlearned/sampled/error_low"].verdict() == int(ga.Verdict.VIOLATED))


def seen(blocks, model, lane, theta):
    """The block, what the spy saw of one lane, and the suite's results for it."""
    block = next(b for b in blocks if b.shape.model == model)
    spied, mine = (
        jax.tree.map(lambda v: np.asarray(v)[lane, theta, 0], block.results[name]) for name in ("spy", "generalization")
    )
    return block, spied, mine


@pytest.mark.parametrize("theta", [0, 1])
def test_linear_numbers_against_numpy(blocks, theta):
    lane = 16  # the first with d = 1e3 and the weak signal
    block, raw, got = seen(blocks, "linear", lane, theta)
    d, mu = block.d[lane], raw["mean_norm"]
    np.testing.assert_allclose(mu, d ** (-0.25 + WEAK), rtol=1e-14)
    lam, x, y = raw["multipliers"], raw["points"], raw["labels"]
    h = (np.where(raw["forget"], lam, 0) * y) @ x
    np.testing.assert_allclose(raw["after"][0], raw["before"][0] - h, rtol=1e-13, atol=1e-15)
    for when, keep in (("before", np.ones(6, bool)), ("after", ~raw["forget"])):
        name = {"before": "original", "after": "unlearned"}[when]
        w = raw[when][0]
        size = np.sqrt(np.sum(w**2) + raw["orthogonal"] ** 2)
        t = np.sqrt(d) * w[0] * mu / size
        np.testing.assert_allclose(got[f"{name}_log_error"], stats.norm.logcdf(-t), rtol=1e-11)
        check = got[f"{name}/instance/signal"]
        np.testing.assert_allclose(check.lhs, mu**2 / 2 * lam[keep].sum() - raw["epsilon"] * mu, rtol=1e-9)
        np.testing.assert_allclose(check.rhs, w[0] * mu, rtol=1e-13)
        np.testing.assert_allclose(got[f"{name}_log_bound"], -(t**2) / 2, rtol=1e-9)
        check = got[f"{name}/instance/error"]
        np.testing.assert_allclose(
            check.lhs, -stats.norm.logcdf(-np.sqrt(d) * got[f"{name}/instance/signal"].lhs / size), rtol=1e-9
        )


def test_network_bound_against_numpy(blocks):
    lane, n = 16, 8
    block, raw, got = seen(blocks, "relu", lane, 1)
    d, mu = block.d[lane], raw["mean_norm"]
    u = np.where(np.arange(n) % 2 == 0, 1, -1) / np.sqrt(n)
    for when, name in (("before", "original"), ("after", "unlearned")):
        w = raw[when]
        s = np.linalg.norm(w, axis=1) / np.sqrt(d)
        terms = []
        for y in (1, -1):
            nu = y * mu * w[:, 0]
            mean = np.where(
                s > 0, nu * stats.norm.cdf(nu / np.maximum(s, 1e-99)) + s * stats.norm.pdf(nu / np.maximum(s, 1e-99)), 0
            )
            terms.append(np.exp(-d * max(0.0, y * u @ mean) ** 2 / (2 * np.linalg.norm(w, 2) ** 2)))
        np.testing.assert_allclose(got[f"{name}_log_bound"], np.log(np.mean(terms)), rtol=2e-3)


def test_the_measured_case_of_the_theory():
    """d = 3000, ||mu|| = 0.3: every bound applies, the errors stay tiny after forgetting."""
    d, m, rng = 3000, 10, np.random.default_rng(0)
    y = np.where(np.arange(m) % 2 == 0, 1.0, -1.0)
    mu = np.zeros(d)
    mu[0] = 0.3
    x = y[:, None] * mu + rng.normal(size=(m, d)) / np.sqrt(d)
    frame = np.linalg.qr(np.vstack([mu, x]).T)[0].T
    frame[0] = mu / 0.3
    points = jnp.asarray(x @ frame.T)
    data = ga.data.Dataset(points, jnp.asarray(y), jnp.asarray(float(d)), jnp.asarray(0.3), jnp.asarray(0))
    np.testing.assert_allclose(points @ points.T, x @ x.T, rtol=1e-10)
    w = (y @ x)[None]  # nearly the maximum-margin direction
    after = w - y[0] * x[0]
    before, later = (float(error.linear_error(jnp.asarray(v @ frame.T), data)) for v in (w, after))
    np.testing.assert_allclose(later, stats.norm.cdf(-np.sqrt(d) * (after @ mu) / np.linalg.norm(after)), rtol=1e-9)
    assert before < later < 1e-4
    assert float(error.error_bound(ga.models.Linear(), jnp.asarray(after @ frame.T), data)) < 1e-3


def test_picture(blocks):
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    generalization.draw(figure, blocks, GRID)
    left, right = figure.axes
    for ax in (left, right):
        assert ax.get_xlabel() == "dimension d"
        assert ax.get_xscale() == ax.get_yscale() == "log"
        assert ax.get_legend() is not None
    assert left.get_ylabel() == "−ln(test error)"
    block = next(b for b in blocks if b.shape.model == "linear")
    values = -np.asarray(block.results["generalization"]["unlearned_log_error"])[:, 1, 0]
    line = next(line for line in left.lines if line.get_label() == f"after unlearning, a = {WEAK:g}")
    median = [np.median(values[(block.d == d) & (block.parameters["signal"] == WEAK)]) for d in GRID.dims]
    np.testing.assert_allclose(line.get_ydata(), median)
    low, high = left.get_ylim()
    assert low < min(median)
    assert max(median) < high
    texts = {text.get_text() for text in right.get_legend().get_texts()}
    assert "bound before" in texts
    assert any("Clopper-Pearson" in text for text in texts)
