"""Weights that are far from every KKT point, and multipliers that can be moved between points."""

from __future__ import annotations

import numpy as np
import pytest

import gaunlearn_jax as ga
from gaunlearn_jax.audit import effects, findings
from gaunlearn_jax.audit.words import part, share
from gaunlearn_jax.kkt import hard_margin, host

Y = np.array([1.0, -1] * 4)


def apart(seed=1, m=8, d=400):
    """Nearly orthogonal points, so that any positive combination separates them."""
    return np.random.default_rng(seed).normal(size=(m, d)) / d**0.5


def ridge(x, y):
    return x.T @ np.linalg.solve(x @ x.T + 0.5 * np.eye(len(x)) * np.geomspace(0.1, 60, len(x)), y)


def perceptron(x, y):
    """Sums of mistakes, most of them on one point that is met more often."""
    w = np.zeros(x.shape[1])
    for i in [*range(len(x)), *[2] * 9]:
        w += y[i] * x[i]
    return w


def sample_weights(x, y):
    return (y * np.r_[1.0, 12, np.ones(len(x) - 2)]) @ x


def boosting(x, y):
    """Steps of one sign along the example with the largest weight."""
    w = np.zeros(x.shape[1])
    for _ in range(3):
        w += (y * np.exp(np.arange(len(x)) / 2.5)) @ x
    return w


@pytest.mark.parametrize("make", [ridge, perceptron, sample_weights, boosting])
def test_nonnegative_combinations_that_are_no_kkt_point(unchecked, make):
    """epsilon_1 is 0 for each of them: only delta_1 says that training would have ended elsewhere."""
    x = apart(d=20_000)
    answer = ga.audit(x, Y, [2], weights=make(x, Y))
    first = str(answer).split("\n")[0]
    assert answer.epsilon < 1e-9 * answer.norm
    assert answer.verdict == "no KKT point"
    assert f"delta_1 = {answer.delta:.3g}" in first
    assert "No statement about point 2" in first
    assert "The retrained model is at " in first


def test_the_reach_bounds_the_distance_to_the_exact_model(unchecked):
    """Closeness on random weights, and its equality where one point alone is off: theta = (1 + a) y_1 x_1 + ..."""
    rng = np.random.default_rng(5)
    x = apart(2)
    best = hard_margin.solve(x, Y).weights
    for size in (0.0, 0.1, 1.0, 5.0):
        w = (Y * (1 + size * rng.random(8))) @ x + 0.1 * size * rng.normal(size=400) / 20
        if np.min(Y * (x @ w)) <= 0:
            continue
        answer = ga.audit(x, Y, [0], weights=w)
        theta = w / answer.scale
        assert np.linalg.norm(theta - best) <= answer.reach * answer.norm * (1 + 1e-9)
    assert findings.reach(1.0, 0.0, 2.0) == 0.5
    assert findings.reach(0.0, 4.0, 4.0) == 0.5
    # orthogonal units: slack = (1 + a) a and ||theta - best|| = a
    a = 0.3
    answer = ga.audit(np.eye(4), Y[:4], [0], weights=Y[:4] * np.r_[1 + a, 1, 1, 1])
    assert answer.slack == pytest.approx((1 + a) * a, rel=1e-9)


def test_softmax_heads_with_sample_weights_get_no_statement(unchecked):
    x, labels = apart(3, 9, 4000), np.arange(9) % 3
    for big in (4.0, 6.0, 8.0):
        rows = np.eye(3)[labels] - 1 / 3
        w = (rows * np.r_[big, np.ones(8)][:, None]).T @ x
        answer = ga.audit(x, labels, [0], weights=w)
        assert answer.verdict == "no KKT point"
        assert "delta_1 = " in str(answer).split("\n")[0]
    exact = ga.audit(x, labels, [0])
    assert findings.reach(exact.epsilon, exact.slack, exact.norm) < 1e-6
    assert exact.verdict != "no KKT point"


def test_twins_of_given_weights_are_nothing_to_forget(unchecked):
    """Whichever of the two carries the multiplier: the other one can."""
    rng = np.random.default_rng(0)
    x = apart(4, 8, 30)
    x[5], y = x[0], Y.copy()
    y[5] = y[0]
    w = hard_margin.solve(x, y).weights + 0.003 * rng.normal(size=30)
    assert {ga.audit(x, y, [i], weights=w).verdict for i in (0, 5)} == {"nothing to forget"}
    assert ga.audit(x, y, [0, 5], weights=w).verdict != "nothing to forget"
    assert ga.audit(x, y, [1], weights=w).verdict != "nothing to forget"


@pytest.mark.parametrize("given", [False, True])
def test_the_middle_of_three_points_on_the_margin(unchecked, given):
    x = np.array([[1.0, 2, 0], [1, 0, 0], [1, 1, 0], [-1, 0, 2]])
    y = [1, 1, 1, 0]
    w = hard_margin.solve(x, np.array([1.0, 1, 1, -1])).weights if given else None
    assert ga.audit(x, y, [2], weights=w).verdict == "nothing to forget"


def test_classes_know_twins(unchecked):
    x, labels = apart(6, 9, 40), np.arange(9) % 3
    x[3] = x[0]
    w = ga.audit(x, labels, [1])
    assert w.verdict != "nothing to forget"
    for weights in (None, ga.kkt.class_margin.solve(x, labels, 3).weights):
        answers = [ga.audit(x, labels, [i], weights=weights) for i in (0, 3)]
        assert {a.verdict for a in answers} == {"nothing to forget"}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_networks_know_twins(unchecked, seed):
    """theta = sum_i lambda_i y_i g_i of a network with a copy of point 0: either multiplier can be moved."""
    rng = np.random.default_rng(seed)
    u = np.array([0.5, -0.5, 0.5, -0.5])
    x, y = apart(seed, 6, 60), np.array([1.0, -1, 1, 1, -1, -1])
    x[3] = x[0]
    z = np.where(u[:, None] * y > 0, 1.0, -1.0)
    z[:, 3] = z[:, 0]
    problem = host.HostProblem(x, y, u, 0.0)
    lam = rng.uniform(1.5, 2.5, 6)
    params = problem.coefficients(lam, (z > 0) * 1.0) @ x
    at = problem.preactivations(params)
    params = params / np.min(problem.margins(at))
    point = host.fit_multipliers(problem, params, problem.preactivations(params), retained=np.ones(6, bool))
    size = float(np.linalg.norm(params))
    got = [effects.spare(problem, point, np.arange(6) == i, size) for i in range(6)]
    assert got == [True, False, False, True, False, False]


def test_shares_are_of_one_norm_and_in_words_beyond_it(unchecked):
    """The smaller error never shows the larger share, and nothing says millions of per cent."""
    assert share(0.5, 2.0) == "25 %"
    assert share(2.0, 2.0) == "100 %"
    assert part(3.0, 2.0) == "1.5 times"
    assert part(1.0, 2.0) == "50 % of"
    assert share(2.4e8, 1.0) == "over 10^8 times"
    for seed in (1, 2, 4):
        x = np.random.default_rng(seed).normal(size=(6, 12))
        answer = ga.audit(x, Y[:6], [seed])
        done, before = answer.certificates["projection"]
        first = str(answer).split("\n")[0]
        assert f"{done.epsilon:.3g}, {part(done.epsilon, answer.norm)} the norm" in first
        assert f"{before.epsilon:.3g}, {share(before.epsilon, answer.norm)})" in first
