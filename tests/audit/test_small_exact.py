"""Audits of small integer data against exact enumeration in fractions: multipliers, epsilon_1, verdicts."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from reference import small_exact as exact
from scipy.optimize import nnls

import gaunlearn_jax as ga
from gaunlearn_jax.kkt.least_squares import nonnegative, optimal

CLEAN, FAILED, FAR = Fraction(1, 10), Fraction(9, 10), Fraction(1, 2)


def ladder(squared):
    """The verdict of a squared share."""
    return "not forgotten" if squared > FAILED**2 else "forgotten" if squared <= CLEAN**2 else "partly forgotten"


def drawn(seed, wanted, points=(4, 7), dims=(2, 4)):
    """Separable integer points whose labels a random integer model gives, that model, and a point to forget."""
    rng = np.random.default_rng(seed)
    found = []
    while len(found) < wanted:
        m, d = int(rng.integers(*points)), int(rng.integers(*dims))
        x, w = rng.integers(-3, 4, (m, d)), rng.integers(-4, 5, d)
        if rng.random() < 0.4:
            x[-1] = x[0]  # twins
        if rng.random() < 0.2:
            x[1], x[2] = x[0] + x[3], 2 * x[0]
        y = np.sign(x @ w)
        if np.all(y != 0) and len(set(y)) == 2:
            found.append((x, y, w, int(rng.integers(m))))
    return found


def rows_of(x, y):
    return [[Fraction(int(v)) * int(s) for v in row] for row, s in zip(x, y, strict=True)]


def test_exact_models_agree_with_enumeration(unchecked):
    """norm, epsilon_1, "nothing to forget", and the verdict, from the step where multipliers are unique, from the
    retrained model where they are not."""
    seen = []
    for x, y, _, r in drawn(1, 120):
        rows = rows_of(x, y)
        everyone = list(range(len(x)))
        kept = [i for i in everyone if i != r]
        whole, rest = exact.hard_margin(rows, everyone), exact.hard_margin(rows, kept)
        answer = ga.audit(x, y, [r])
        assert answer.norm == pytest.approx(math.sqrt(exact.dot(whole.vector, whole.vector)), rel=1e-9)
        assert answer.epsilon <= 1e-12 * answer.norm
        same = whole.vector == rest.vector
        assert (answer.verdict == "nothing to forget") == same, (x, y, r)
        if exact.unique_on_margin(rows, whole.vector):
            np.testing.assert_allclose(answer.multipliers, [float(v) for v in whole.multipliers], atol=1e-9)
            h = [whole.multipliers[r] * v for v in rows[r]]
            stays = exact.inside(h, [rows[i] for i in kept])
            if any(h):
                tilde = [a - b + c for a, b, c in zip(whole.vector, h, stays, strict=True)]
                beyond = exact.dot(stays, stays) >= exact.dot(tilde, tilde)  # no more than multipliers 0 would give
                expected = ladder(exact.dot(stays, stays) / exact.dot(h, h))
                assert answer.verdict == ("not forgotten" if beyond else expected)
        elif not same and not answer.unique:
            # the step of the multipliers that the audit chose, on their support in fractions
            h = np.array(rows[r], float) * answer.multipliers[r]
            w, goal = (np.array([float(v) for v in a.vector]) for a in (whole, rest))
            gaps = [1 - v @ goal / np.linalg.norm(v) / np.linalg.norm(goal) for v in (w - h, w)]
            assert answer.verdict == ladder(gaps[0] / gaps[1])
        seen.append(answer.verdict)
    assert {"nothing to forget", "not forgotten", "partly forgotten"} <= set(seen)


def test_given_weights_agree_with_enumeration(unchecked):
    """epsilon_1, who gets no statement, and who is explained as well without the point."""
    seen = []
    for x, y, w, r in drawn(2, 120):
        rows = rows_of(x, y)
        margin = min(exact.dot(row, [Fraction(int(v)) for v in w]) for row in rows)
        theta = [Fraction(int(v)) / margin for v in w]
        everyone = list(range(len(x)))
        best = exact.least_squares(rows, everyone, theta)
        without = exact.least_squares(rows, [i for i in everyone if i != r], theta)
        answer = ga.audit(x, y, [r], weights=w)
        size = float(exact.dot(theta, theta)) ** 0.5
        assert answer.epsilon == pytest.approx(math.sqrt(exact.dot(best.vector, best.vector)), abs=1e-9 * size)
        seen.append(answer.verdict)
        more = exact.dot(without.vector, without.vector) > exact.dot(best.vector, best.vector)
        used = [row for row in rows if exact.dot(row, best.vector) == 0]
        if more:
            assert answer.verdict != "nothing to forget"
        if all(exact.inside(row, used[:k]) != row for k, row in enumerate(used)):  # the only multipliers
            np.testing.assert_allclose(answer.multipliers, [float(v) for v in best.multipliers], atol=1e-9 * size**2)
            pairs = zip(best.multipliers, rows, strict=True)
            slack = sum((v * (exact.dot(row, theta) - 1) for v, row in pairs), Fraction(0))
            # epsilon/2 + sqrt(epsilon^2/4 + slack) > size/2 holds if and only if slack + epsilon size/2 > size^2/4
            square, e = exact.dot(theta, theta), float(exact.dot(best.vector, best.vector)) ** 0.5
            far = float(slack) + e * size * float(FAR) > float(square * FAR**2)
            assert (answer.verdict == "no KKT point") == far
            if not far:
                assert (answer.verdict == "nothing to forget") == (best.multipliers[r] == 0)
    assert {"nothing to forget", "no KKT point"} <= set(seen)


def test_given_weights_near_a_kkt_point_get_the_verdict_of_their_step(unchecked):
    """Exact models rounded to whole numbers, of more coordinates than points: the only multipliers decide."""
    seen = []
    for x, y, _, r in drawn(3, 80, points=(4, 6), dims=(5, 8)):
        rows, everyone = rows_of(x, y), list(range(len(x)))
        w = [Fraction(round(40 * v)) for v in exact.hard_margin(rows, everyone).vector]
        margin = min(exact.dot(row, w) for row in rows)
        if margin <= 0 or any(exact.inside(row, rows[:k]) == row for k, row in enumerate(rows)):
            continue
        theta = [v / margin for v in w]
        best = exact.least_squares(rows, everyone, theta)
        answer = ga.audit(x, y, [r], weights=np.array([float(v) for v in w]))
        seen.append(answer.verdict)
        if answer.verdict == "no KKT point" or best.multipliers[r] == 0:
            continue
        h = [best.multipliers[r] * v for v in rows[r]]
        stays = exact.inside(h, [row for i, row in enumerate(rows) if i != r])
        left, nothing = ([a + b for a, b in zip(best.vector, part, strict=True)] for part in (stays, h))
        tilde = [a - b + c for a, b, c in zip(theta, h, stays, strict=True)]
        beyond = exact.dot(left, left) >= exact.dot(tilde, tilde)
        expected = ladder(exact.dot(left, left) / exact.dot(nothing, nothing))  # of the errors of the certificates
        assert answer.verdict == ("not forgotten" if beyond else expected), (x, y, w, r)
    assert seen.count("forgotten") + seen.count("partly forgotten") + seen.count("not forgotten") >= 20
    assert len(set(seen)) >= 3


#: points (with labels on them) and weights on which SciPy 1.17.1 stops at no minimum
STOPPED = [
    ([[2, 3, 3], [2, 3, 0], [2, 0, 2], [3, 0, 1], [0, 1, 0], [2, 1, 1], [3, 3, 0]], [3, 3, -1]),
    ([[-1, -2, 3], [1, -2, 1], [-2, -1, 3], [2, -1, -1], [3, -1, 0], [2, -3, 1]], [1, -4, -4]),
    ([[-1, -1, -2], [-3, 1, -2], [1, 1, 0], [1, -1, 3], [2, 2, 3]], [0, -4, -3]),
    ([[-3, 3, 1], [-3, 3, 0], [2, 0, -1], [2, -2, 1], [2, 3, -2]], [1, -1, -3]),
    ([[3, 3, 3], [-1, -2, -1], [-1, 0, -1], [-2, -1, -2], [-3, -2, -3]], [2, 1, -1]),
]


@pytest.mark.parametrize("case", range(len(STOPPED)))
def test_answers_of_least_squares_are_minima(unchecked, case):
    x, w = STOPPED[case]
    rows = [[Fraction(v) for v in row] for row in x]
    best = exact.least_squares(rows, list(range(len(x))), [Fraction(v) for v in w])
    found, solved = nonnegative(np.array(x, float).T, np.array(w, float))
    assert solved
    expected = math.sqrt(exact.dot(best.vector, best.vector))
    assert np.linalg.norm(np.array(w) - found @ np.array(x)) == pytest.approx(expected, abs=1e-12)


def test_the_check_finds_what_is_no_minimum():
    """SciPy's own answers: where the check accepts one, it is the minimum, and a moved answer is never accepted."""
    rng = np.random.default_rng(0)
    for x, w in [*STOPPED, *((rng.integers(-3, 4, (5, 3)) + 0.5, rng.integers(-3, 4, 3)) for _ in range(40))]:
        a = np.array(x, float).T
        units, goal = a / np.linalg.norm(a, axis=0), np.array(w, float)
        upstream, ours = nnls(units, goal)[0], nonnegative(units, goal)[0]
        least = np.linalg.norm(units @ ours - goal)
        if optimal(units, goal, upstream):
            assert np.linalg.norm(units @ upstream - goal) == pytest.approx(least, abs=1e-10)
        if least > 0.1:
            assert not optimal(units, goal, ours + 1e-6)
