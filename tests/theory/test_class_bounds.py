"""Lemma M', Theorem R' and Corollary CE of several classes: never violated, attained, and false once changed."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from reference import classes as reference

from gaunlearn_jax.base.codes import Reason, Status
from gaunlearn_jax.data import from_classes
from gaunlearn_jax.kkt import class_margin
from gaunlearn_jax.models import LinearClasses
from gaunlearn_jax.theory import classes as theory
from gaunlearn_jax.theory.cross_entropy import loss_point


def equiangular(m, phi):
    """m unit vectors in R^m with all inner products -phi."""
    return np.linalg.cholesky((1 + phi) * np.eye(m) - phi)


def measured(x, y, theta, lam):
    """psi, phi, epsilon_1, delta_1, gamma and A of a point with its multipliers, by loops."""
    gram = x @ x.T
    q = reference.margins(x, y, theta)
    epsilon = np.linalg.norm(theta - reference.combination(x, y, lam))
    delta = max(lam[i, c] * (q[i, c] - 1) for i, c in reference.constraints(y, lam.shape[1]))
    only = [np.where(np.arange(len(y))[:, None] == i, lam, 0.0) for i in range(len(y))]
    gamma = np.array([np.linalg.norm(reference.combination(x, y, one)) for one in only])
    off = np.abs(gram[~np.eye(len(y), dtype=bool)])
    return np.max(np.abs(np.diag(gram) - 1)), np.max(off), epsilon, max(0.0, delta), gamma


def instances():
    """Exact and perturbed KKT points of nearly orthogonal points, and extremal ones: equal correlations, one class."""
    rng = np.random.default_rng(0)
    for number in range(40):
        m, C, d = int(rng.integers(2, 9)), int(rng.integers(2, 6)), int(10 ** rng.uniform(2.5, 4))
        x = np.linalg.qr(rng.standard_normal((d, m)) / d**0.5)[1].T
        y = rng.integers(0, C, m)
        theta, lam, _ = class_margin.solve(x, y, C)
        if number % 2:
            lam = np.abs(lam * (1 + 0.3 * rng.standard_normal(lam.shape)))
            theta = theta + 0.1 * rng.standard_normal() * reference.combination(x, y, rng.random(lam.shape) * (lam > 0))
            theta = theta / reference.margins(x, y, theta).min()
        yield x, y, C, theta, lam
    for C in (2, 5):
        x, y = equiangular(6, 0.08), np.zeros(6, int)
        yield x, y, C, *class_margin.solve(x, y, C)[:2]


class Measured(NamedTuple):
    """What the theorems are told of an instance, and what they speak of, forgetting its last point."""

    given: tuple[np.float64, ...]
    m: int
    C: int
    gamma: np.ndarray
    error: float
    gap: float
    norm: float
    x: np.ndarray


@pytest.fixture(scope="module")
def found():
    out = []
    for x, y, C, theta, lam in instances():
        *given, gamma = measured(x, y, theta, lam)
        keep = np.arange(len(y))[:, None] != len(y) - 1
        h = reference.combination(x, y, np.where(keep, 0.0, lam))
        tilde = theta - h + h @ reference.projector(x[keep[:, 0]])
        error = np.linalg.norm(tilde - reference.combination(x, y, np.where(keep, lam, 0.0)))
        one, other = (v / np.linalg.norm(v) for v in (theta - h, tilde))
        gap = 0.5 * np.sum((one - other) ** 2)
        out.append(Measured(tuple(map(np.float64, given)), len(y), C, gamma, error, gap, np.linalg.norm(theta), x))
    return out


def worst_ratios(found):
    """Largest lhs/rhs of Lemma M' (both sides), of Theorem R' (epsilon, tau) and of the norm floor."""
    ratios = []
    for it in found:
        low, high, defined = theory.multiplier_bounds(*it.given, m=it.m, classes=it.C)
        if not bool(defined):
            continue
        bound = theory.sharp_classes(*it.given, m=it.m, k=1, classes=it.C)
        assert int(bound.reason) == Reason.APPLIES
        floor = theory.norm_floor(it.x, np.arange(it.m) != it.m - 1, classes=it.C)
        ratios.append(
            {
                "upper": it.gamma.max() / float(high),
                "lower": float(low) / it.gamma.min(),
                "epsilon": it.error / float(bound.epsilon),
                "tau": it.gap / float(bound.tau),
                "floor": floor / it.norm,
            }
        )
    assert len(ratios) > 30
    return {name: max(r[name] for r in ratios) for name in ratios[0]}


def test_never_violated_and_attained(found):
    ratios = worst_ratios(found)
    assert max(ratios.values()) <= 1 + 1e-9, ratios
    assert min(ratios["upper"], ratios["epsilon"]) > 1 - 1e-9  # equal correlations, one class
    assert ratios["lower"] > 0.8
    assert ratios["floor"] > 0.9
    assert ratios["tau"] > 0.5


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("_norm", lambda norm: lambda classes: 0.99 * norm(classes)),
        ("_norm", lambda norm: lambda classes: math.sqrt(0.5)),
        ("_cosine", lambda cosine: lambda psi, phi: cosine(psi, 0.98 * phi)),
        ("multiplier_bounds", lambda made: lambda *a, m, classes: made(*a, m=m - 1, classes=classes)),
    ],
    ids=["smaller nu", "nu without C", "smaller mu", "one point fewer"],
)
def test_a_changed_constant_is_found_false(monkeypatch, found, name, change):
    monkeypatch.setattr(theory, name, change(getattr(theory, name)))
    ratios = worst_ratios(found)
    assert max(ratios.values()) > 1 + 1e-3, ratios


def test_formulas_against_the_reference():
    rng = np.random.default_rng(1)
    for _ in range(20):
        m, C = int(rng.integers(3, 20)), int(rng.integers(2, 30))
        k = int(rng.integers(1, m))
        psi, phi = rng.uniform(0, 0.2), rng.uniform(0, 0.5) / m
        epsilon, delta = rng.uniform(0, 0.3, 2)
        got = theory.multiplier_bounds(psi, phi, epsilon, delta, m=m, classes=C)
        np.testing.assert_allclose(got[:2], reference.lemma(psi, phi, epsilon, delta, m, C), rtol=1e-10, atol=1e-12)
        bound = theory.sharp_classes(psi, phi, epsilon, delta, m=m, k=k, classes=C)
        rho = float(bound.epsilon) - epsilon
        floor = math.sqrt((C - 1) / C * (m - k) / (1 + psi + (m - k - 1) * phi))
        if rho < floor:
            np.testing.assert_allclose(
                (bound.epsilon, bound.tau), reference.theorem(psi, phi, epsilon, delta, m, k, C), rtol=1e-9
            )
        else:
            assert float(bound.tau) == 2


def test_the_coarse_line_is_above_the_sharp_one_at_the_extremes():
    worst = 0.0
    for m, C, e in itertools.product((2, 10, 10**6), (2, 10, 1000), (1e-6, 1.0)):
        for k, first in itertools.product({1, m // 2, m - 1}, (0.0, theory.NEARLY_EXACT)):
            args = (np.float64(0.1), np.float64(e / (4.0 * m)), first, first / (C - 1))
            sharp, coarse = (f(*args, m=m, k=k, classes=C) for f in (theory.sharp_classes, theory.coarse_classes))
            assert int(coarse.reason) == Reason.APPLIES
            worst = max(worst, float((sharp.epsilon - first) / (coarse.epsilon - first)))
            if float(coarse.tau) < 1:
                worst = max(worst, float(sharp.tau / coarse.tau))
    assert 0.99 < worst < 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"psi": 0.11}, Reason.NORMS),
        ({"phi": 0.026}, Reason.CORRELATION),
        ({"epsilon": 0.002}, Reason.STATIONARITY),
        ({"delta": 0.0004}, Reason.SLACKNESS),
        ({"k": 10}, Reason.FORGET_SIZE),
    ],
)
def test_each_hypothesis_of_the_coarse_line(change, reason):
    good = {"psi": 0.1, "phi": 0.025, "epsilon": 0.0, "delta": 0.0, "m": 10, "k": 2, "classes": 4}
    assert int(theory.coarse_classes(**good).reason) == Reason.APPLIES
    assert int(theory.coarse_classes(**(good | change)).reason) == reason


def test_where_the_sharp_line_is_undefined():
    assert int(theory.sharp_classes(0.0, 0.12, 0.0, 0.0, m=10, k=1, classes=4).reason) == Reason.UNDEFINED
    assert int(theory.sharp_classes(1.5, 0.0, 0.0, 0.0, m=10, k=1, classes=4).reason) == Reason.UNDEFINED
    assert int(theory.sharp_classes(0.0, 0.0, 0.0, 0.0, m=10, k=10, classes=4).reason) == Reason.FORGET_SIZE


def test_the_cross_entropy_step_by_loops():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((5, 12)), np.array([0, 1, 2, 0, 1])
    w = 3 * class_margin.solve(x, y, 3).weights + 0.1 * rng.standard_normal((3, 12)) @ x.T @ x / 50
    found = theory.cross_entropy_step(x, y, w)
    least = reference.margins(x, y, w).min()
    parts = [reference.cross_entropy_gradient(x, y, w, i) for i in range(5)]
    down = -sum(g for g, _ in parts)
    kappa = np.sum(w * down) / least / np.sum(down**2)
    np.testing.assert_allclose(found.epsilon, np.linalg.norm(w / least - kappa * down), rtol=1e-12)
    np.testing.assert_allclose(math.exp(found.log_rate), least * kappa, rtol=1e-12)
    for i, (_, p) in enumerate(parts):
        np.testing.assert_allclose(found.multipliers[i], np.where(np.arange(3) == y[i], 0, kappa * p), rtol=1e-11)
    q = reference.margins(x, y, w / least)
    slack = max(found.multipliers[i, c] * (q[i, c] - 1) for i, c in reference.constraints(y, 3))
    np.testing.assert_allclose(found.delta, slack, rtol=1e-11)
    # one ordinary step with this rate on the given weights is the theorem's step, at their scale
    step = w + math.exp(found.log_rate) * parts[3][0]
    h = reference.combination(x, y, np.where(np.arange(5)[:, None] == 3, found.multipliers, 0.0))
    np.testing.assert_allclose(step, w - least * h, atol=1e-12)
    with pytest.raises(ValueError, match="smallest margin"):
        theory.cross_entropy_step(x, y, -w)


def test_at_margin_80_the_cross_entropy_step_is_the_exact_one():
    """Its direction is that of the exact step to 1e-5 rad; its size, and epsilon_1, only come in as 1 / margin."""
    rng = np.random.default_rng(3)
    points = rng.standard_normal((12, 1000)) / 1000**0.5
    x, y, w = np.linalg.qr(points.T)[1].T, np.tile(np.arange(4), 3), np.zeros((4, 12))  # 12 coordinates, the same Gram
    exact = class_margin.combine(class_margin.solve(x, y, 4).multipliers, y)
    angles, sizes = [], []
    for goal in (5.0, 20.0, 80.0):
        while (q := class_margin.margins(x @ w.T, y)).min() < goal:  # cross-entropy flow, in units of its length
            p = np.exp(q.min() - q) / (1 + np.sum(np.exp(-q), axis=1, keepdims=True))
            down = class_margin.combine(p, y).T @ x
            w = w + 0.05 * down / np.linalg.norm(down)
        found = theory.cross_entropy_step(x, y, w)
        made = class_margin.combine(found.multipliers, y)
        rates = np.linalg.norm(made, axis=1) / np.linalg.norm(exact, axis=1)
        angles.append(np.max(np.linalg.norm(made / rates[:, None] - exact, axis=1) / np.linalg.norm(exact, axis=1)))
        sizes.append(np.max(np.abs(rates - 1)))
        assert found.epsilon < 0.5 / goal * np.linalg.norm(w) / q.min()
    assert angles[0] > 3 * angles[1] > 1000 * angles[2]
    assert angles[2] < 1e-5
    assert sizes[0] > sizes[1] > sizes[2]
    assert sizes[2] < 0.01


def test_with_weight_decay_the_rate_is_its_inverse():
    """At the minimum of L + mu/2 ||W||^2 the weights are -grad L / mu: kappa = 1/mu and epsilon_1 = 0."""
    from scipy.optimize import minimize

    rng = np.random.default_rng(5)
    x, y, mu = rng.standard_normal((6, 8)), np.array([0, 1, 2, 2, 1, 0]), 0.01

    def value(flat):
        w = flat.reshape(3, 8)
        parts = [reference.cross_entropy_gradient(x, y, w, i) for i in range(6)]
        loss = -sum(math.log(p[y[i]]) for i, (_, p) in enumerate(parts))
        return loss + 0.5 * mu * np.sum(w**2), (sum(g for g, _ in parts) + mu * w).ravel()

    w = minimize(value, np.zeros(24), jac=True, tol=1e-14, options={"gtol": 1e-10}).x.reshape(3, 8)
    found = theory.cross_entropy_step(x, y, w)
    np.testing.assert_allclose(math.exp(found.log_rate), 1 / mu, rtol=1e-6)
    assert found.epsilon < 1e-6


def test_every_constraint_active():
    q = np.array([[np.inf, 1.0, 1.0], [1.0, np.inf, 1.5], [1.0, 1.0, np.inf]])
    y = np.arange(3)
    assert theory.every_constraint_active(q, y, np.array([True, False, True]))
    assert not theory.every_constraint_active(q, y, np.ones(3, bool))


def test_equal_margins_pin_the_weights_down():
    """Random centred W_1, W_2 in the span of the points, with residuals: never farther apart than promised, and the
    formula by itself."""
    rng = np.random.default_rng(7)
    tight = 0.0
    for _ in range(50):
        m, C = int(rng.integers(2, 7)), int(rng.integers(2, 6))
        x = np.linalg.qr(rng.normal(size=(9, m)))[0].T @ np.diag(rng.uniform(0.9, 1.1, 9))
        y, k = rng.integers(0, C, m), x @ x.T
        psi, phi = np.abs(np.diag(k) - 1).max(), np.abs(k - np.diag(np.diag(k))).max()
        n = rng.normal(size=(C, m)) @ x
        n -= n.mean(axis=0)
        off = [rng.choice([0.0, 0.1]) * rng.normal(size=n.shape) for _ in range(2)]
        epsilon = sum(np.linalg.norm(e) for e in off)
        apart = n + off[0] - off[1]
        q = reference.margins(x, y, apart)
        spread = np.linalg.norm(q[np.isfinite(q)])
        most, defined = theory.same_margins_distance(spread, psi, phi, epsilon, kept=m, classes=C)
        if psi + (m - 1) * phi >= 1:
            assert not defined
            continue
        below = math.sqrt(1 - psi - (m - 1) * phi)
        expected = epsilon + (spread + epsilon * math.sqrt(2 * m * (C - 1) * (1 + psi))) / below
        assert float(most) == pytest.approx(expected, rel=1e-12)
        assert np.linalg.norm(apart) <= most
        tight = max(tight, np.linalg.norm(apart) / float(most))
    assert tight > 0.5


def test_the_floor_from_the_gram_matrix():
    x = np.random.default_rng(8).normal(size=(6, 8))
    keep = np.array([True, False, True, True, False, True])
    found = theory.gram_floor(jnp.asarray(x @ x.T), jnp.asarray(keep), classes=4)
    assert float(found) == pytest.approx(theory.norm_floor(x, keep, classes=4), rel=1e-7)


def test_the_multipliers_of_a_loss_are_those_of_the_cross_entropy_step():
    """`loss_point` in JAX, of the margin problem, against the step on the host."""
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((5, 12)), np.array([0, 1, 2, 0, 1])
    w = 3 * class_margin.solve(x, y, 3).weights + 0.1 * rng.standard_normal((3, 12)) @ x.T @ x / 50
    expected = theory.cross_entropy_step(x, y, w)
    data = from_classes(x, y)
    params, outside = data.reduce(w)
    problem = LinearClasses(3).problem(data)
    run = SimpleNamespace(params=params, preactivations=problem.preactivations(params), orthogonal_norm=outside)
    found = loss_point(problem, run)
    lam = [expected.multipliers[i, c] for i, c in reference.constraints(y, 3)]
    np.testing.assert_allclose(found.point.multipliers, lam, rtol=1e-9)
    assert float(found.point.epsilon) == pytest.approx(expected.epsilon, rel=1e-9)
    assert float(found.point.delta) == pytest.approx(expected.delta, rel=1e-9)
    assert float(found.log_rate) == pytest.approx(expected.log_rate, rel=1e-9)
    wrong = SimpleNamespace(params=-params, preactivations=-run.preactivations, orthogonal_norm=outside)
    assert int(loss_point(problem, wrong).point.status) == Status.INFEASIBLE
