"""What the solver may leave in an exact point: what it leaves of ill-conditioned points, and what it accepts."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

import gaunlearn_jax as ga
from gaunlearn_jax import kkt
from gaunlearn_jax.kkt import dual
from verify.suites.exact_points import left_by_solver


def test_it_grows_with_the_condition_of_the_points():
    """Coordinates from 1 to 1e-7: epsilon of solved points passes the accuracy of the solver, but not its room."""
    net, m = ga.models.TwoLayerReLU(4), 6
    passed = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((m, 8)) * 10.0 ** -np.linspace(0, 7, 8)
        problem = net.problem(ga.data.from_points(x, [1.0, -1.0] * (m // 2)))
        every = jnp.ones(m, bool)
        best = kkt.solve_pattern(problem, jnp.ones((4, m)), every, kkt.MAX_REPEATS)
        size = jnp.linalg.norm(best.params)
        terms = float(size + jnp.sum(best.multipliers * problem.steepness()))
        if int(best.status) == ga.Status.OK:
            epsilon, delta = left_by_solver(problem, every, best, size)
            assert float(best.epsilon) < float(epsilon)
            assert float(best.delta) < float(delta)
            passed += float(best.epsilon) > terms * dual.ACCEPT + 4 * float(best.error)
    assert passed > 2


def test_a_solution_as_coarse_as_the_solver_accepts_is_within_it():
    """A point of nearly orthogonal data off by less than the accuracy that ends the solver, more than by rounding."""
    net, m = ga.models.Linear(), 6
    rng = np.random.default_rng(0)
    x = rng.standard_normal((m, 2000)) / np.sqrt(2000)
    problem = net.problem(ga.data.from_points(x, [1.0, -1.0] * (m // 2)))
    every = jnp.ones(m, bool)
    best = kkt.solve_pattern(problem, jnp.ones((1, m)), every, kkt.MAX_REPEATS)
    size = jnp.linalg.norm(best.params)
    epsilon, _ = left_by_solver(problem, every, best, size)
    for factor, inside in ((0.3, True), (300.0, False)):
        off = best.params + factor * dual.ACCEPT * problem.rows[:1]
        made = kkt.measure(problem, off, problem.preactivations(off), best.multipliers, best.selection, every)
        assert (float(made.epsilon) < float(epsilon)) is inside
        assert float(made.epsilon) > 4 * float(made.error)
