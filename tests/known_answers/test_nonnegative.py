"""Nonnegative least squares that public solvers got wrong, against fractions and closed forms."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from reference.small_exact import solved

from known_answers.solvers import by_dual, nonnegative


def exact(columns: np.ndarray, goal: np.ndarray) -> tuple[np.ndarray, float]:
    """The minimiser by trying every support in fractions: x >= 0 there, A^T (b - A x) <= 0 elsewhere."""
    m, n = columns.shape
    a = [[Fraction(float(columns[i, j])) for i in range(m)] for j in range(n)]
    b = [Fraction(float(v)) for v in goal]

    def dot(u: list[Fraction], v: list[Fraction]) -> Fraction:
        return sum((p * q for p, q in zip(u, v, strict=True)), Fraction(0))

    for size in range(n + 1):
        for support in itertools.combinations(range(n), size):
            x = solved([[dot(a[j], a[k]) for k in support] for j in support], [dot(a[j], b) for j in support])
            if x is None or min(x, default=Fraction(1)) < 0:
                continue
            rest = [v - sum((x[i] * a[j][r] for i, j in enumerate(support)), Fraction(0)) for r, v in enumerate(b)]
            if all(dot(column, rest) <= 0 for column in a):
                full = np.zeros(n)
                full[list(support)] = [float(v) for v in x]
                return full, math.sqrt(dot(rest, rest))
    raise AssertionError("a least-squares problem has a minimiser")


JULIA = np.array(
    [[-0.24, -0.82, 1.35, 0.36, 0.35], [-0.53, -0.20, -0.76, 0.98, -0.54], [0.22, 1.25, -1.60, -1.37, -1.94],
     [-0.51, -0.56, -0.08, 0.96, 0.46], [0.48, -2.25, 0.38, 0.06, -1.29]]
)  # fmt: skip
JULIA_GOAL = np.array([-1.6, 0.19, 0.17, 0.31, -1.27])
CASES = {
    "scipy 25389": (np.array([[1.0, 1.0], [3.0, 2.0]]), np.array([2.0, 3.0])),
    "NonNegLeastSquares.jl 31": (JULIA, JULIA_GOAL),
    "NonNegLeastSquares.jl 31 in float32": (JULIA.astype(np.float32), JULIA_GOAL.astype(np.float32)),
    "NonNegLeastSquares.jl 9": (np.array([[2.0, 1, 0], [1.0, 3, 1], [0.0, 1, 2]]), np.array([3.0, 5.0, 3.0])),
    "every coefficient at zero": (np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([-1.0, -1.0])),
    "parallel columns": (np.array([[1.0, 2.0, 0.0], [1.0, 2.0, 1.0]]), np.array([2.0, 2.0])),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_reported_problems(name: str) -> None:
    columns, goal = (np.asarray(v, float) for v in CASES[name])
    x, least = exact(columns, goal)
    found, distance = nonnegative(columns, goal)
    assert distance == pytest.approx(least, abs=2e-15)
    unique = np.linalg.matrix_rank(columns) == columns.shape[1]
    if unique:
        np.testing.assert_allclose(found, x, atol=1e-13)
    _, other = by_dual(columns.T, columns.T @ goal)
    assert np.linalg.norm(columns @ other - goal) == pytest.approx(least, abs=1e-12)
    if unique:
        np.testing.assert_allclose(other, x, atol=1e-12)


def test_the_number_that_scipy_25389_states() -> None:
    found, distance = nonnegative(*CASES["scipy 25389"])
    np.testing.assert_allclose(found, [0.0, 1.6], atol=1e-15)
    assert distance == pytest.approx(math.sqrt(0.2), rel=1e-15)


def test_columns_of_a_matrix_of_rank_two() -> None:
    """SciPy's first test: arange(25) as 5 x 5 and the goal A (0, 1, 2, 3, 4), attained by many x."""
    columns = np.arange(25.0).reshape(5, 5)
    goal = columns @ np.arange(5.0)
    found, distance = nonnegative(columns, goal)
    assert distance < 1e-12
    assert np.min(found) >= 0
    np.testing.assert_allclose(columns @ found, goal, rtol=1e-13)


@pytest.mark.parametrize("power", [-70, -30, 0, 30])
def test_units_do_not_matter(power: int) -> None:
    """SciPy 21630: entries of 4e-21 and a goal of 1e-8 gave x = 0, in nanotesla another answer."""
    rng = np.random.default_rng(1)
    columns, goal = rng.standard_normal((12, 9)), rng.standard_normal(12)
    x, distance = nonnegative(columns, goal)
    assert np.count_nonzero(x) not in (0, 9)
    small, less = nonnegative(columns * 2.0**power, goal * 2.0**-27)
    np.testing.assert_array_equal(small, x * 2.0 ** (-27 - power))
    assert less == distance * 2.0**-27


def test_columns_of_very_different_sizes() -> None:
    """SciPy 22884: columns from 1e4 to 1e10. Units of the columns are units of x."""
    rng = np.random.default_rng(2)
    columns, goal = rng.random((30, 6)), rng.random(30) - 0.1
    units = 2.0 ** np.array([13, 33, 22, 18, 26, 2])
    x, distance = nonnegative(columns, goal)
    other, same = nonnegative(columns * units, goal)
    np.testing.assert_allclose(other * units, x, rtol=1e-12)
    assert same == pytest.approx(distance, rel=1e-14)


def test_order_in_memory_does_not_matter() -> None:
    """SciPy 20813: matrices in Fortran order sometimes failed."""
    columns, goal = CASES["NonNegLeastSquares.jl 31"]
    x, _ = nonnegative(np.asfortranarray(columns), goal)
    np.testing.assert_allclose(x, nonnegative(np.ascontiguousarray(columns), goal)[0], rtol=1e-14)


def test_counts_with_a_rising_rate() -> None:
    """SciPy 20302 (it did not end): rates p_1 <= p_2 <= ... of weighted counts, as nonnegative steps, by pooling
    adjacent violators."""
    rng = np.random.default_rng(3)
    trials = rng.integers(1, 200, 60).astype(float)
    rates = rng.binomial(trials.astype(int), np.linspace(0.05, 0.6, 60)) / trials
    columns = np.sqrt(trials)[:, None] * np.tril(np.ones((60, 60)))
    steps, _ = nonnegative(columns, np.sqrt(trials) * rates)
    pools: list[list[float]] = []
    for weight, rate in zip(trials, rates, strict=True):
        pools.append([weight, rate, 1])
        while len(pools) > 1 and pools[-2][1] >= pools[-1][1]:
            (w1, r1, c1), (w2, r2, c2) = pools[-2:]
            pools[-2:] = [[w1 + w2, (w1 * r1 + w2 * r2) / (w1 + w2), c1 + c2]]
    pooled = np.concatenate([[rate] * int(count) for _, rate, count in pools])
    assert len(pools) < 50
    np.testing.assert_allclose(np.cumsum(steps), pooled, atol=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_small_integer_problems(seed: int) -> None:
    """Entries from -3 to 3, dependent columns and ties included: the distance in fractions."""
    rng = np.random.default_rng(seed)
    for _ in range(10):
        columns = rng.integers(-3, 4, (3, int(rng.integers(2, 6)))).astype(float)
        columns = columns[:, np.any(columns != 0, axis=0)]
        if columns.shape[1] == 0:
            continue
        goal = rng.integers(-3, 4, 3).astype(float)
        _, least = exact(columns, goal)
        _, other = by_dual(columns.T, columns.T @ goal)
        assert np.linalg.norm(columns @ other - goal) == pytest.approx(least, abs=1e-7)


def test_a_point_that_alone_carries_the_fit() -> None:
    """SciPy 1.17 stopped at 0.56 on this: the multipliers of (1, 1, -1/3) for seven points in R^3."""
    points = np.array([[-2, -3, -3], [2, 3, 0], [-2, 0, -2], [3, 0, 1], [0, -1, 0], [2, 1, 1], [-3, -3, 0]], float)
    labels = np.array([-1.0, 1, -1, 1, -1, 1, -1])
    columns = (labels[:, None] * points).T
    goal = np.array([1.0, 1.0, -1 / 3])
    _, multipliers = by_dual(columns.T, columns.T @ goal)
    assert np.linalg.norm(columns @ multipliers - goal) == pytest.approx(1 / 3, rel=1e-14)
    assert multipliers[6] == pytest.approx(1 / 3, rel=1e-12)
    assert exact(columns, 3 * goal)[1] == pytest.approx(1.0, rel=1e-15)
