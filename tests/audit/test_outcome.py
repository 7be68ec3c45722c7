"""Audits of other outcomes: named steps, weights unlearned elsewhere, popular metrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
from reference.model import margins
from scipy import stats

import gaunlearn_jax as ga
from gaunlearn_jax.audit import datasets
from gaunlearn_jax.kkt import hard_margin
from gaunlearn_jax.unlearn import metrics
from verify.cli import main


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits:3-8")


@pytest.fixture(scope="module")
def by_scikit_learn(digits, tmp_path_factory):
    """(trained on all points, trained without point 3) by liblinear, as files."""
    svm = pytest.importorskip("sklearn.svm")
    x, y = digits
    folder = tmp_path_factory.mktemp("weights")
    for name, keep in (("full", np.arange(len(y)) >= 0), ("retrained", np.arange(len(y)) != 3)):
        model = svm.LinearSVC(loss="hinge", C=1e4, fit_intercept=False, tol=1e-10, max_iter=2000000, random_state=0)
        np.savez(folder / f"{name}.npz", W=model.fit(x[keep] / 16, y[keep]).coef_)
    return folder


def test_a_model_retrained_by_scikit_learn_is_nearly_retrained(digits, by_scikit_learn, capsys):
    path = by_scikit_learn / "retrained.npz"
    assert main.main(["audit", "digits:3-8", "--forget", "3", "--unlearned", str(path)]) == 0
    first = capsys.readouterr().out
    assert first.startswith("Nearly retrained: without point 3, the given weights are at")
    answer = ga.audit(*digits, [3], unlearned=np.load(path)["W"])
    found = answer.outcome
    angle = math.acos(1 - found.gap) if found.gap > 1e-12 else math.sqrt(2 * found.gap)
    assert found.bracket.least <= angle <= found.bracket.most < 1e-3
    assert found.bracket.sine < 1e-3
    assert answer.verdict == "nearly retrained"


def test_the_untouched_model_is_excluded(digits, by_scikit_learn, capsys):
    path = by_scikit_learn / "full.npz"
    assert main.main(["audit", "digits:3-8", "--forget", "3", "--unlearned", str(path)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("NOT retrained, success is excluded: without point 3, the given weights are at 7.73")
    assert "doing nothing: 7.73 degrees" in printed
    assert "membership test at 5 % false alarms" in printed
    exact = ga.audit(*digits, [3], unlearned=hard_margin.solve(digits[0], np.sign(digits[1] - 5)).weights)
    assert exact.outcome.unchanged
    assert exact.verdict == "excluded"


@pytest.mark.parametrize("model", ["linear", "relu"])
def test_steps_on_few_points(model):
    """In many dimensions ascent is nearly retraining; Theorem T's bracket holds the exact angle."""
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((8, 400)) / 20, np.array([1, -1] * 4)
    said = {}
    for name in ("nothing", "projection", "active_set", "retraining"):
        answer = ga.audit(x, y, [2], model=model, neurons=12, step=name)
        out = answer.outcome
        said[name] = answer.verdict
        assert answer.to_dict()["outcome"]["name"] == name
        if model == "linear":
            angle = 2 * math.asin(math.sqrt(out.gap / 2))
            assert out.bracket.least - 1e-7 <= angle <= out.bracket.most + 1e-7, name
    assert said["nothing"] == "excluded"
    assert said["retraining"] == "nearly retrained"
    assert said["active_set"] == "nearly retrained"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": "ascend"}, "unknown step 'ascend'; did you mean ascent"),
        ({"step": "mean", "unlearned": np.ones(2)}, "an audit judges one outcome"),
        ({"unlearned": np.ones(3)}, r"unlearned has shape \(3,\), expected \(1, 2\): neurons, coordinates"),
        ({"unlearned": np.zeros(2)}, "unlearned is zero everywhere"),
        ({"step": "newton", "model": "relu"}, "step newton speaks of linear models alone"),
    ],
)
def test_mistakes(options, message):
    x, y = np.array([[1.0, 0.2], [-1.0, 0.3], [2.0, 1.0], [-2.0, 1.5]]), [1, -1, 1, -1]
    with pytest.raises(ValueError, match=message):
        ga.audit(x, y, [0], **options)


def test_weights_that_are_not_there(tmp_path, capsys):
    assert main.main(["audit", "digits:3-8", "--forget", "3", "--unlearned", str(tmp_path / "no.npz")]) == 2
    assert "expected a .npz or .safetensors with W [n, d]" in capsys.readouterr().err


def test_three_classes_have_their_own_step():
    with pytest.raises(ValueError, match="audited for their own step alone"):
        ga.audit(np.eye(6), [0, 1, 2] * 2, [0], step="mean")


# --- metrics --------------------------------------------------------------------------------------------------


def test_membership_calls_the_promised_share_of_held_out_points():
    rng = np.random.default_rng(1)
    held_out, fresh = rng.standard_normal(4000), rng.standard_normal(4000)
    count = metrics.detected(held_out, fresh)
    assert stats.binomtest(count, 4000, metrics.FALSE_ALARMS).pvalue > 1e-3
    assert metrics.detected(held_out, fresh + 10) == 4000


@pytest.mark.parametrize(("count", "trials"), [(0, 1), (3, 20), (20, 20)])
def test_exact_intervals(count, trials):
    """Their ends are where the tail has half of what the level leaves."""
    low, high = metrics.exact_interval(count, trials)
    tail = (1 - metrics.CONFIDENCE) / 2
    if count > 0:
        assert stats.binom.sf(count - 1, trials, low) == pytest.approx(tail)
    if count < trials:
        assert stats.binom.cdf(count, trials, high) == pytest.approx(tail)


def test_relearning_is_so_many_steps():
    """Against the steps themselves, on a linear model."""
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal(5), rng.standard_normal(5)
    goal = float(w @ x) + 0.0237
    steps = 0
    while margins(w[None], x[None], np.ones(1), np.ones(1), 1.0)[0] < goal - 1e-12:
        w, steps = w + metrics.RATE * x / np.linalg.norm(x), steps + 1
    start = goal - 0.0237
    assert metrics.relearning_steps([start], [goal], [np.linalg.norm(x)]).tolist() == [steps]
    assert metrics.relearning_steps([2.0, 0.0], [1.0, 1.0], [1.0, 0.0]).tolist() == [0, metrics.MOST_STEPS]


def test_divergence_of_margins():
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal(2000), rng.standard_normal(2000)
    assert metrics.margin_divergence(a, b) < 0.02
    assert metrics.margin_divergence(a + 1, b) > 0.3
    assert metrics.margin_divergence(b, b) == pytest.approx(0, abs=1e-4)
