"""Quadratic programmes of Hock and Schittkowski, Maros and Meszaros and CUTEst, by their dual, against the published
values and the optimality conditions of the programmes as they are stated."""

from __future__ import annotations

import numpy as np
import pytest

from known_answers import programmes
from known_answers.solvers import by_active_set, by_dual, by_host, solved


@pytest.mark.parametrize("solve", [by_dual, by_host, by_active_set])
@pytest.mark.parametrize("name", programmes.ALL)
def test_published_values(name: str, solve) -> None:
    p = programmes.ALL[name]
    norm = programmes.least_norm(p)
    w, multipliers = solve(norm.rows, norm.least)
    size = 1 + abs(p.constant) + abs(norm.offset)
    x, rounding = norm.back(w), 1e-9 * size
    assert abs(norm.value(w) - p.value) <= p.within + 1e-12 * size
    if p.solution is not None:
        np.testing.assert_allclose(x, p.solution, atol=1e-9)
    # the conditions of the programme itself, which the change of variables has no part in
    gradient = p.hessian @ x + p.linear
    slack = p.rows @ x - p.least
    assert np.min(multipliers) >= 0
    assert np.min(slack) >= -rounding
    np.testing.assert_allclose(p.rows.T @ multipliers, gradient, atol=rounding)
    assert np.max(np.abs(multipliers * slack)) <= rounding


@pytest.mark.parametrize("name", sorted(set(programmes.ALL) - {"HS118"}))
def test_newton_needs_few_steps(name: str) -> None:
    """The guesses settle in at most eight; with the interior point, which HS118 takes, it would be more than twenty."""
    norm = programmes.least_norm(programmes.ALL[name])
    assert int(solved(norm.rows, norm.least).steps) <= 8


@pytest.mark.parametrize("name", programmes.ALL)
def test_any_guess_of_the_active_set_leads_to_the_solution(name: str) -> None:
    """None, all, and some of the constraints, most of them wrong."""
    norm = programmes.least_norm(programmes.ALL[name])
    rng, count = np.random.default_rng(1), len(norm.rows)
    right, _ = by_active_set(norm.rows, norm.least)
    for guess in (range(count), *(rng.permutation(count)[: rng.integers(1, count)] for _ in range(5))):
        w, multipliers = by_active_set(norm.rows, norm.least, [int(i) for i in guess])
        np.testing.assert_allclose(w, right, atol=1e-9 * (1 + np.linalg.norm(right)))
        assert np.min(multipliers) >= 0


@pytest.mark.parametrize("solve", [by_dual, by_host, by_active_set])
def test_a_constraint_missed_by_little_is_not_overlooked(solve) -> None:
    """min |w|^2 with w_1 >= 1 and 0.6 w_1 + 0.8 w_2 >= 0.6 + 0.8 t: (1, t)."""
    for t in (1e-3, 1e-6, 1e-9):
        w, _ = solve([[1.0, 0.0], [0.6, 0.8]], [1.0, 0.6 + 0.8 * t])
        np.testing.assert_allclose(w, [1.0, t], rtol=1e-5)


def test_a_wrong_datum_is_noticed() -> None:
    """One entry of each changed by a thousandth moves the value by far more than the printed digits."""
    for name in ("HS35", "HS76", "TORSION3 (Q=5)", "OBSTCLB (10x10)"):
        p = programmes.ALL[name]
        norm = programmes.least_norm(p._replace(linear=p.linear * 1.001))
        w, _ = by_host(norm.rows, norm.least)
        assert abs(norm.value(w) - p.value) > 1e-5
