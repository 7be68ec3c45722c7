"""Linear complementarity families on which some pivoting rules take exponentially many steps: w = M z + q, both >= 0,
z^T w = 0. For M = N N^T and q = -1 that is the dual of the hard margin with the points N."""

from __future__ import annotations

import numpy as np
import pytest

from gaunlearn_jax.kkt import hard_margin
from known_answers.solvers import attempted, by_dual, nonnegative


def fathi(n: int) -> np.ndarray:
    """N of Fathi's M_ij = 4 min(i, j) - 3 + [i != j] (i, j from 1): ones on the diagonal, twos below."""
    return np.tril(np.full((n, n), 2.0), -1) + np.eye(n)


def csizmadia(n: int) -> np.ndarray:
    """Csizmadia's matrix, ones on the diagonal and minus ones below, whose handicap grows like 4^n."""
    return np.eye(n) - np.tril(np.ones((n, n)), -1)


def doubled(n: int) -> tuple[np.ndarray, np.ndarray]:
    """(w, lambda) for Csizmadia's matrix as points: w_i = 2^(i-1) by w_i >= 1 + sum_{k < i} w_k, and N^T lambda = w
    from the last row up."""
    w, multipliers = 2.0 ** np.arange(n), np.zeros(n)
    for i in reversed(range(n)):
        multipliers[i] = w[i] + np.sum(multipliers[i + 1 :])
    return w, multipliers


@pytest.mark.parametrize("n", [2, 3, 16, 64, 256])
def test_fathi(n: int) -> None:
    """z = (1, 0, ..., 0): column 1 of M is (1, 2, ..., 2), and w = (0, 1, ..., 1)."""
    rows, first = fathi(n), np.eye(n)[0]
    index = np.arange(1, n + 1)
    np.testing.assert_array_equal(rows @ rows.T, 4 * np.minimum.outer(index, index) - 3 + (1 - np.eye(n)))
    found = hard_margin.solve(rows, np.ones(n))
    np.testing.assert_array_equal(found.multipliers, first)
    np.testing.assert_array_equal(found.weights, first)
    fitted, _ = nonnegative(rows.T, np.linalg.solve(rows, np.ones(n)))
    np.testing.assert_array_equal(fitted, first)
    if n <= 128:
        np.testing.assert_allclose(by_dual(rows, np.ones(n))[1], first, atol=1e-14)


@pytest.mark.parametrize("n", [2, 5, 16, 48, 128, 256])
def test_csizmadia(n: int) -> None:
    """Numbers up to 2^255 in one solution."""
    rows, (w, multipliers) = csizmadia(n), doubled(n)
    found = hard_margin.solve(rows, np.ones(n))
    np.testing.assert_allclose(found.weights, w, rtol=1e-13)
    np.testing.assert_allclose(found.multipliers, multipliers, rtol=1e-13)
    assert sorted(found.active) == list(range(n))
    if n <= 48:
        goal = np.linalg.solve(rows, np.ones(n))
        np.testing.assert_allclose(nonnegative(rows.T, goal)[0], multipliers, rtol=1e-12)
        np.testing.assert_allclose(by_dual(rows, np.ones(n))[1], multipliers, rtol=1e-10)


@pytest.mark.parametrize("t", [1e-2, 1e-4, 1e-6, 0.0])
def test_far_is_not_nowhere(t: float) -> None:
    """w = (1, 2/t) for the points (1, 0) and (-1, t), and nothing for t = 0, of which (1, 1) is the proof. A third
    point (0, 1), in the span of the others, asks for nothing."""
    found = attempted(np.array([[1.0, 0.0], [-1.0, t], [0.0, 1.0]]), np.ones(3))
    assert bool(found.infeasible) == (t == 0)
    if t > 0:
        assert bool(found.converged)
        # the product of the first two points is 1 but for t^2, of which 1e-16 is rounding
        expected = np.array([1 + 2 / t**2, 2 / t**2, 0.0])
        np.testing.assert_allclose(found.multipliers[:3], expected, rtol=1e-15 / t**2 + 1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_fathi_with_other_right_hand_sides(seed: int) -> None:
    """Planted: q = w - M z for a z and w with z^T w = 0."""
    rng = np.random.default_rng(seed)
    rows = fathi(40)
    z = np.where(rng.random(40) < 0.5, rng.integers(1, 9, 40), 0).astype(float)
    slack = np.where(z > 0, 0.0, rng.integers(1, 9, 40))
    _, found = by_dual(rows, rows @ (rows.T @ z) - slack)
    np.testing.assert_allclose(found, z, atol=1e-9)
