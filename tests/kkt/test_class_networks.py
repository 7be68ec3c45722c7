"""Two-layer networks with several classes: random programmes end in an honest KKT point or are refused."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import classes as classes_reference
from reference import problem as ref
from scipy.optimize import linprog
from sklearn.datasets import load_digits

import gaunlearn_jax as ga
from gaunlearn_jax import Status
from gaunlearn_jax.kkt import class_margin
from gaunlearn_jax.models import ClassNetwork, LinearClasses

M, N, C, P = 4, 5, 4, 5
BATCH = 50


def drawn(key: Any) -> tuple[ga.models.MarginProblem, jax.Array]:
    """A margin problem with random second layer and classes, and a random pattern, most neurons active."""
    keys = jax.random.split(key, 5)
    x = jax.random.normal(keys[0], (M, P)) / P**0.5 + 0.3 * jax.random.normal(keys[1], (P,))
    net = ClassNetwork(jax.random.normal(keys[3], (C, N)) / N**0.5, 0.0)
    data = ga.data.Dataset(
        x, jnp.ones(M), jnp.asarray(5.0), jnp.zeros(()), jnp.asarray(0), classes=jax.random.randint(keys[2], (M,), 0, C)
    )
    problem = net.problem(data)
    active = jax.random.bernoulli(keys[4], 0.75, (N, M)).astype(float)
    return problem, problem.at_entries(active)


@jax.jit
@jax.vmap
def solved(key: Any, on: jax.Array) -> Any:
    """The programme of a key, its neurons all off unless `on` is 1."""
    problem, slopes = drawn(key)
    slopes = on * slopes
    everyone = jnp.ones(problem.num_constraints, bool)
    return problem, slopes, ga.kkt.solve_pattern(problem, slopes, everyone, ga.kkt.MAX_REPEATS)


@functools.lru_cache
def programmes(number: int) -> tuple[Any, ...]:
    """A batch of BATCH programmes, their patterns and points."""
    return jax.tree.map(np.asarray, solved(jax.random.split(jax.random.key(number), BATCH), jnp.ones(BATCH)))


def feasible(problem: Any, slopes: np.ndarray) -> bool:
    """Whether some W has F_a(W) >= 1 for all a: a linear programme in W and one variable below each concave term."""
    x, v = problem.rows, problem.amplitudes
    free = [(j, e) for e in range(v.shape[1]) for j in range(N) if v[j, e] < 0]
    size = N * P + len(free)
    low, least = [], []
    for e, r, _ in ref.entries_of(problem):
        row = np.zeros(size)
        for j in range(N):
            if (j, e) in free:
                row[N * P + free.index((j, e))] = 1.0
                for slope in (0.0, 1.0):
                    below = np.zeros(size)
                    below[j * P : (j + 1) * P] = v[j, e] * slope * x[r]
                    below[N * P + free.index((j, e))] = -1.0
                    low.append(below)
                    least.append(0.0)
            else:
                row[j * P : (j + 1) * P] += v[j, e] * slopes[j, e] * x[r]
        low.append(row)
        least.append(1.0)
    found = linprog(np.zeros(size), -np.array(low), -np.array(least), bounds=(None, None), method="highs")
    return found.status == 0


def check_honest(number: int) -> dict[str, int]:
    """What became of the programmes; every solved one is a KKT point by loops, every refused one is infeasible."""
    problems, slopes, points = programmes(number)
    told = {"solved": 0, "infeasible": 0, "unconverged": 0}
    for i in range(BATCH):
        problem, s, point = jax.tree.map(lambda leaf, i=i: leaf[i], (problems, slopes, points))
        if point.status == Status.OK:
            told["solved"] += 1
            z = point.preactivations
            assert ref.in_clarke(problem, z, point.selection)
            assert point.multipliers.min() >= 0
            size = np.linalg.norm(point.params)
            rest = ref.residual(problem, point.params, point.multipliers, point.selection)
            assert np.linalg.norm(rest) < 1e-6 * size
            q = ref.margins(problem, point.params)
            assert q.min() > 1 - 1e-6
            assert np.max(point.multipliers * (q - 1)) < 1e-6 * size**2
        elif point.status == Status.INFEASIBLE:
            told["infeasible"] += 1
            assert not feasible(problem, s)  # the loop never leaves the feasible patterns
        else:
            told["unconverged"] += 1
    return told


def test_random_programmes_are_solved_honestly_or_refused() -> None:
    told = check_honest(1)
    assert told["solved"] >= 15
    assert told["infeasible"] >= 5
    assert told["unconverged"] <= 1


@pytest.mark.slow
def test_two_thousand_random_programmes() -> None:
    assert sum(check_honest(number)["unconverged"] for number in range(2, 42)) <= 40


def test_the_solved_ones_against_a_general_solver() -> None:
    problems, _, points = programmes(1)
    for i in np.flatnonzero(points.status == Status.OK)[:6]:
        problem, point = jax.tree.map(lambda leaf, i=i: leaf[i], (problems, points))
        best = ref.solve_pattern(problem, point.selection, list(range(problem.num_constraints)))
        np.testing.assert_allclose(point.params, best, atol=1e-5 * np.linalg.norm(best))


def test_without_an_active_neuron_every_pattern_is_infeasible() -> None:
    point = solved(jax.random.split(jax.random.key(1), BATCH), jnp.zeros(BATCH))[2]
    assert np.all(np.asarray(point.status) == Status.INFEASIBLE)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["random", "correlated", "digits"])
def test_the_linear_programme_is_the_solution_of_others(case: str) -> None:
    """The batched solver against the host's active sets to 1e-10 and nonnegative least squares to 1e-9."""
    rng = np.random.default_rng(0)
    if case == "digits":
        points, labels = load_digits(return_X_y=True)
        x, y, classes = points[:40] / 16, labels[:40], 10
    else:
        shift = 2.0 if case == "correlated" else 0.0
        x, y, classes = rng.standard_normal((12, 20)) / 20**0.5, np.arange(12) % 4, 4
        x = x + shift * rng.standard_normal(20) / 20**0.5
    data = ga.data.from_classes(x, y)
    problem = LinearClasses(classes).problem(data)
    everyone = jnp.ones(problem.num_constraints, bool)
    point = ga.kkt.solve_pattern(problem, jnp.ones(problem.amplitudes.shape), everyone, 0)
    assert int(point.status) == Status.OK
    assert float(point.epsilon) < 1e-12 * max(1.0, float(jnp.linalg.norm(point.params)))
    w, size = np.asarray(data.lift(point.params)), np.linalg.norm(point.params)
    np.testing.assert_allclose(w, class_margin.solve(x, y, classes).weights, atol=1e-10 * size)
    np.testing.assert_allclose(w, classes_reference.hard_margin(x, y, classes)[0], atol=1e-9 * size)
