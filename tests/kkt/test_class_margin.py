"""The hard margin with several classes against a general solver on all constraints, and its retraining."""

from __future__ import annotations

import numpy as np
import pytest
from reference import classes as reference
from sklearn.datasets import load_digits

from gaunlearn_jax.kkt import class_margin, hard_margin


def digits(m=300):
    points, labels = load_digits(return_X_y=True)
    return points[:m] / 16, labels[:m], 10


def drawn(m, d, C, seed=0, shift=0.0):
    """Gaussian points (plus a common direction) with labels of every class."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((m, d)) / d**0.5 + shift * rng.standard_normal(d) / d**0.5
    return x, np.append(np.arange(C), rng.integers(0, C, m - C)), C


def clustered(m, d, C, seed=0):
    """More points than directions, separable."""
    rng = np.random.default_rng(seed)
    y = np.append(np.arange(C), rng.integers(0, C, m - C))
    return 2 * rng.standard_normal((C, d))[y] + 0.3 * rng.standard_normal((m, d)), y, C


DATA = {
    "digits": digits(),
    "every margin one": drawn(12, 4000, 4),
    "independent": drawn(30, 60, 4),
    "correlated": drawn(30, 40, 3, seed=2, shift=2.0),
    "dependent": clustered(80, 6, 5),
    "two classes": drawn(20, 25, 2),
}


def scaled(case):
    """Points of sizes from 1e-3 to 1e3: the rows of the constraints differ as much."""
    x, y, C = case
    return x * 10.0 ** np.random.default_rng(1).uniform(-3, 3, (len(x), 1)), y, C


@pytest.mark.parametrize("name", DATA)
def test_the_solution_is_that_of_a_general_solver(name):
    x, y, C = DATA[name]
    w, _ = reference.hard_margin(x, y, C)
    found = class_margin.solve(x, y, C)
    np.testing.assert_allclose(found.weights, w, atol=1e-9 * np.linalg.norm(w))


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("change", [lambda case: case, scaled], ids=["as it is", "badly scaled"])
def test_kkt_conditions_recomputed_by_loops(name, change):
    x, y, C = change(DATA[name])
    found = class_margin.solve(x, y, C)
    q, size = reference.margins(x, y, found.weights), np.linalg.norm(found.weights)
    off = np.linalg.norm(found.weights - reference.combination(x, y, found.multipliers))
    rounding = 1e-12 + 1e-14 * np.max(np.abs(x) @ np.abs(found.weights).T)  # of the terms of a margin
    assert off < 1e-11 * size
    assert q.min() > 1 - rounding
    assert found.multipliers.min() >= 0
    used = found.multipliers > 0
    assert np.max(np.abs(q[used] - 1)) < rounding
    assert set(found.active) == set(np.flatnonzero(used))
    np.testing.assert_allclose(found.weights.sum(axis=0), 0, atol=1e-12 * size)
    told = class_margin.conditions(x, y, found.weights, found.multipliers)
    assert told.stationarity < 1e-11 * size
    assert told.shortfall < rounding
    assert told.negativity <= 0


def test_both_routes_meet(monkeypatch):
    x, y, C = DATA["independent"]
    many = class_margin.solve(x, y, C)
    monkeypatch.setattr(class_margin, "EXCHANGES", 0)
    one_by_one = class_margin.solve(x, y, C)
    np.testing.assert_allclose(many.weights, one_by_one.weights, atol=1e-13)
    assert set(many.active) == set(one_by_one.active)


def test_every_margin_one_is_least_norm_interpolation():
    x, y, C = DATA["every margin one"]
    found = class_margin.solve(x, y, C)
    goal = np.eye(C)[y] - 1 / C
    np.testing.assert_allclose(found.weights, (np.linalg.pinv(x) @ goal).T, atol=1e-12)
    assert len(found.active) == len(x) * (C - 1)


def test_two_classes_are_the_binary_hard_margin():
    x, y, C = DATA["two classes"]
    w = hard_margin.solve(x, 1.0 - 2.0 * y).weights
    found = class_margin.solve(x, y, C)
    np.testing.assert_allclose(found.weights, np.stack([w, -w]) / 2, atol=1e-12 * np.linalg.norm(w))


@pytest.mark.parametrize("name", ["digits", "independent", "dependent"])
def test_retraining_starts_from_the_solution(name):
    x, y, C = DATA[name]
    full = class_margin.solve(x, y, C)
    for gone in (full.support[:2], np.flatnonzero(y == 1)):  # two points, a whole class
        keep = ~np.isin(np.arange(len(y)), gone)
        warm, cold = (class_margin.solve(x, y, C, keep, start) for start in (full, None))
        w, _ = reference.hard_margin(x, y, C, keep)
        for found in (warm, cold):
            np.testing.assert_allclose(found.weights, w, atol=1e-9 * np.linalg.norm(w))
            assert not np.any(found.multipliers[gone])


@pytest.mark.parametrize("name", ["independent", "dependent", "every margin one"])
def test_every_support_point_left_out(name):
    x, y, C = DATA[name]
    full = class_margin.solve(x, y, C)
    left = dict(class_margin.without_each(x, y, C, full))
    assert list(left) == full.support.tolist()
    for i, w in left.items():
        expected = class_margin.solve(x, y, C, np.arange(len(y)) != i)
        np.testing.assert_allclose(w, expected.weights, atol=1e-11 * np.linalg.norm(w))


def test_a_point_without_multiplier_changes_nothing():
    x, y, C = DATA["dependent"]
    full = class_margin.solve(x, y, C)
    unused = np.setdiff1d(np.arange(len(y)), full.support)[0]
    found = class_margin.solve(x, y, C, np.arange(len(y)) != unused)
    np.testing.assert_allclose(found.weights, full.weights, atol=1e-12 * np.linalg.norm(full.weights))


def test_what_cannot_be_separated_has_a_proof():
    """Three classes on a line: the middle one lies between the others, and there is no bias."""
    x, y = np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [0.0, 1.0]]), np.array([0, 1, 0, 2])
    with pytest.raises(class_margin.NotSeparable, match="3 classes: points") as caught:
        class_margin.solve(x, y, 3)
    witness = caught.value.witness
    assert witness.min() >= 0
    np.testing.assert_allclose(witness.sum(), 1)
    assert np.all(witness[np.arange(4), y] == 0)
    np.testing.assert_allclose(reference.combination(x, y, witness), 0, atol=1e-15)
    with pytest.raises(class_margin.NotSeparable) as caught:  # the retained points alone are no better
        class_margin.solve(x, y, 3, np.array([True, True, False, True]))
    assert not np.any(caught.value.witness[2])


@pytest.mark.parametrize("name", ["independent", "dependent"])
def test_multipliers_of_given_weights(name):
    x, y, C = DATA[name]
    full = class_margin.solve(x, y, C)
    rng = np.random.default_rng(4)
    w = full.weights + 0.05 * rng.standard_normal(full.weights.shape) * np.abs(full.weights).max()
    lam = class_margin.fit_multipliers(x, y, w)
    least = reference.fit(x, y, w)
    assert lam.min() >= 0
    np.testing.assert_allclose(np.linalg.norm(w - reference.combination(x, y, lam)), least, rtol=1e-9, atol=1e-12)
    exact = class_margin.fit_multipliers(x, y, full.weights)
    off = np.linalg.norm(full.weights - reference.combination(x, y, exact))
    assert off < 1e-11 * np.linalg.norm(full.weights)


def test_the_step_is_exact_retraining_where_all_margins_are_one():
    """theta - (I - P) h = theta*, for a point, two points and a whole class."""
    x, y, C = DATA["every margin one"]
    full = class_margin.solve(x, y, C)
    for gone in ([3], [5, 7], np.flatnonzero(y == 2)):
        keep = ~np.isin(np.arange(len(y)), gone)
        best = class_margin.solve(x, y, C, keep, full)
        assert np.sum(best.multipliers > 0) == np.sum(keep) * (C - 1)
        lam = np.where(keep[:, None], 0.0, full.multipliers)
        h = reference.combination(x, y, lam)
        tilde = full.weights - h + h @ reference.projector(x[keep])
        np.testing.assert_allclose(tilde, best.weights, atol=1e-9 * np.linalg.norm(best.weights))
        assert np.linalg.norm(full.weights - h - best.weights) > 1e-3  # the step itself misses it by rho


def test_points_on_a_grid_are_solved_or_refuted():
    """Ties, duplicates and dependent constraints: each case ends in a solution or in a proof that there is none."""
    rng = np.random.default_rng(11)
    solved, proofs = 0, []
    for _ in range(120):
        m, d, C = (int(rng.integers(*limits)) for limits in ((10, 25), (3, 10), (3, 6)))
        x = np.round(2 * rng.standard_normal((m, d)))
        x = x[np.any(x != 0, axis=1)]
        y = rng.integers(0, C, len(x))
        try:
            found = class_margin.solve(x, y, C)
        except class_margin.NotSeparable as error:
            proofs.append(np.linalg.norm(reference.combination(x, y, error.witness)))
            continue
        told = class_margin.conditions(x, y, found.weights, found.multipliers)
        assert told.stationarity < 1e-10 * np.linalg.norm(found.weights)
        assert told.shortfall < 1e-14 * np.max(np.abs(x) @ np.abs(found.weights).T)
        solved += 1
    assert solved > 10
    assert len(proofs) > 10
    assert max(proofs) < 1e-12
