"""Max pooling on the host: exact points are honest, found by another solver too, shorter at every round, or refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from gaunlearn_jax.base.codes import Status
from gaunlearn_jax.kkt.max_pooling import NONE, MaxPooling, exact_point, largest, projection


def drawn(seed: int, patches: int = 3, q: int = 16) -> tuple[MaxPooling, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(4, patches, q)) / np.sqrt(q) + 0.1
    u = rng.normal(size=4) * [1, -1, 1, 1]
    return MaxPooling(x, [1.0, -1.0, 1.0, -1.0], u), rng.normal(size=(4, q))


def loops(problem: MaxPooling, w: np.ndarray) -> list[float]:
    """q_i by loops."""
    out = []
    for patches, y in zip(problem.patches, problem.labels, strict=True):
        pooled = [max(0.0, *(float(row @ patch) for patch in patches)) for row in w]
        out.append(float(y) * sum(float(u) * v for u, v in zip(problem.output_weights, pooled, strict=True)))
    return out


def honest(problem: MaxPooling, point: object) -> bool:
    """Stationary, feasible, slack, and every share on a largest patch (or on none where that is not positive)."""
    w, lam, s = point.params, point.multipliers, point.selection
    left = w.copy()
    for i, patches in enumerate(problem.patches):
        for j, u in enumerate(problem.output_weights):
            for p, patch in enumerate(patches):
                left[j] -= lam[i] * problem.labels[i] * u * s[j, i, p] * patch
    z, unit = problem.preactivations(w), 1e-9 * max(1.0, float(np.max(lam)))
    q = np.array(loops(problem, w))
    top = np.maximum(z.max(axis=2), 0.0)
    used = np.all((s == 0) | (top[:, :, None] - z < unit) | (lam[:, None] == 0))
    whole = np.all((np.abs(s.sum(axis=2) - 1) < 1e-9) | ((s.sum(axis=2) < 1 + 1e-9) & (top < unit)) | (lam == 0))
    good = np.linalg.norm(left) < unit and np.min(q) > 1 - unit and np.max(lam * np.abs(q - 1)) < unit * np.max(lam + 1)
    return bool(used and whole and good and np.min(lam) >= 0 and np.min(s) >= 0)


def general(problem: MaxPooling, choice: np.ndarray) -> np.ndarray:
    """The first programme by SLSQP, with a variable below every concave term."""
    n, (m, count, q) = len(choice), problem.patches.shape
    v = problem.amplitudes
    free = [(j, i) for j in range(n) for i in range(m) if v[j, i] < 0]
    rows, least = [], []
    for i in range(m):
        row = np.zeros(n * q + len(free))
        for j in range(n):
            if v[j, i] > 0 and choice[j, i] != NONE:
                row[j * q : (j + 1) * q] += v[j, i] * problem.patches[i][choice[j, i]]
        for t, (_, owner) in enumerate(free):
            row[n * q + t] = float(owner == i)
        rows.append(row)
        least.append(1.0)
    for t, (j, i) in enumerate(free):
        for p in range(count + 1):
            row = np.zeros(n * q + len(free))
            row[n * q + t] = -1.0
            if p < count:
                row[j * q : (j + 1) * q] = v[j, i] * problem.patches[i][p]
            rows.append(row)
            least.append(0.0)
    a, b = np.array(rows), np.array(least)
    found = optimize.minimize(
        lambda x: 0.5 * x[: n * q] @ x[: n * q],
        np.zeros(n * q + len(free)),
        jac=lambda x: np.concatenate([x[: n * q], np.zeros(len(free))]),
        constraints={"type": "ineq", "fun": lambda x: a @ x - b, "jac": lambda x: a},
        method="SLSQP",
        options={"maxiter": 1000, "ftol": 1e-15},
    )
    return found.x[: n * q].reshape(n, q)


def test_points_are_honest_or_refused_and_no_longer_than_the_first() -> None:
    done = 0
    for seed in range(60):
        problem, start = drawn(seed)
        point = exact_point(problem, start)
        assert point.status in (Status.OK, Status.INFEASIBLE)
        if point.status == Status.OK:
            done += 1
            assert honest(problem, point), seed
            first = exact_point(problem, start, repeats=0)
            assert np.linalg.norm(point.params) <= np.linalg.norm(first.params) * (1 + 1e-9)
    assert done > 35


@pytest.mark.parametrize("seed", [0, 1, 2, 4])
def test_the_first_solve_against_a_general_solver(seed: int) -> None:
    problem, start = drawn(seed, q=6)
    first = exact_point(problem, start, repeats=0)
    best = general(problem, largest(problem, start))
    if first.status == Status.INFEASIBLE:
        assert min(loops(problem, best)) < 1 - 1e-6
    else:
        np.testing.assert_allclose(first.params, best, atol=1e-5)


def test_theorem_p_holds_as_an_identity() -> None:
    problem, start = drawn(1)
    point = exact_point(problem, start)
    gone = np.array([False, True, False, False])
    near = projection(problem, point, gone)
    h = point.multipliers[1] * problem.gradients(point.selection)[1]
    kept = problem.patches[~gone].reshape(-1, 16)
    inside = np.linalg.norm(h @ np.linalg.pinv(kept) @ kept)
    assert near.epsilon == pytest.approx(inside, rel=1e-10)
    np.testing.assert_allclose(np.array(loops(problem, near.params))[~gone], 1.0, atol=1e-10)


def test_one_filter_a_class_and_orthogonal_patches_in_closed_form() -> None:
    """u = (1, -1), unit patches all orthogonal: each filter needs its class at 1, so it puts 1 on one patch of each of
    its points; the other class's terms are 0. ||theta||^2 = m."""
    patches = np.eye(8).reshape(4, 2, 8)
    problem = MaxPooling(patches, [1, 1, -1, -1], [1.0, -1.0])
    point = exact_point(
        problem, patches[:2, 0].sum(axis=0) * [[1.0], [0.0]] + patches[2:, 1].sum(axis=0) * [[0.0], [1.0]]
    )
    np.testing.assert_allclose(point.params, [patches[:2, 0].sum(axis=0), patches[2:, 1].sum(axis=0)], atol=1e-12)
    np.testing.assert_allclose(point.multipliers, 1.0)
    assert point.status == Status.OK


def test_retrained_on_fewer_points() -> None:
    problem, start = drawn(3)
    keep = np.array([True, True, True, False])
    point = exact_point(problem, start, keep)
    assert point.status == Status.OK
    assert point.multipliers[3] == 0
    alone = MaxPooling(problem.patches[:3], problem.labels[:3], problem.output_weights)
    np.testing.assert_allclose(point.params, exact_point(alone, start).params, atol=1e-10)


def test_bad_input_is_one_sentence() -> None:
    x = np.ones((2, 2, 3))
    with pytest.raises(ValueError, match="labels must be 2 numbers"):
        MaxPooling(x, [1.0, 0.0], [1.0])
    with pytest.raises(ValueError, match="zero entry"):
        MaxPooling(x, [1.0, -1.0], [1.0, 0.0])
    with pytest.raises(ValueError, match=r"start has shape \(1, 3\), expected \(2, 3\)"):
        exact_point(MaxPooling(x, [1.0, -1.0], [1.0, -1.0]), np.ones((1, 3)))
    with pytest.raises(ValueError, match="0 marks"):
        exact_point(MaxPooling(x, [1.0, -1.0], [1.0, -1.0]), np.ones((2, 3)), [False, False])
