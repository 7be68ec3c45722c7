"""Random programmes with several entries a constraint: what is called solved is a KKT point, what is called infeasible
has no feasible point, and the norm never rises.

Everything is measured again in NumPy, with products and sums of its own; a linear programme decides feasibility.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import problem as ref
from scipy.optimize import linprog

import gaunlearn_jax as ga
from gaunlearn_jax.models import Layout, MarginProblem

#: patches with a head per patch; rows shared by two constraints; both at once, an entry more in one constraint
LAYOUTS = (
    Layout((0, 1, 2, 3, 4, 5), (0, 0, 1, 1, 2, 2), (0, 0, 1, 1, 2, 2), (0, 1, 2)),
    Layout((0, 0, 1, 1, 2, 2), (0, 1, 2, 3, 4, 5), (0, 1, 2), (0, 0, 1, 1, 2, 2)),
    Layout((0, 1, 0, 2, 3, 1), (0, 0, 1, 2, 2, 2), (0, 0, 1, 1), (0, 0, 1)),
)
NEURONS, DIM = 3, 5


def drawn(layout: Layout, seed: int, slope: float) -> tuple[MarginProblem, np.ndarray]:
    """Rows with a common mean, amplitudes of any sign and size, and a pattern."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(max(layout.row) + 1, DIM)) + 0.5 * rng.normal(size=DIM)
    v = rng.normal(0.5, 1.0, size=(NEURONS, len(layout.row)))
    count = max(layout.constraint) + 1
    problem = MarginProblem(jnp.asarray(rows), jnp.asarray(v), jnp.zeros(count, int), 1, slope, layout)
    return problem, np.where(rng.random(v.shape) < 0.6, 1.0, slope)


def solved(layout: Layout, seeds: range, slope: float) -> tuple[list[MarginProblem], Any, Any]:
    """The problems, their first solves and where the pattern loop ends."""
    made = [drawn(layout, seed, slope) for seed in seeds]
    problems = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(problem for problem, _ in made))
    slopes = jnp.asarray(np.stack([s for _, s in made]))
    valid = jnp.ones(made[0][0].num_constraints, bool)

    def both(problem: MarginProblem, s: jax.Array, repeats: int) -> Any:
        return ga.kkt.solve_pattern(problem, s, valid, repeats)

    first = jax.vmap(lambda p, s: both(p, s, 0))(problems, slopes)
    last = jax.vmap(lambda p, s: both(p, s, ga.kkt.MAX_REPEATS))(problems, slopes)
    return [problem for problem, _ in made], first, last


def honest(problem: MarginProblem, point: Any) -> bool:
    """Stationary with slopes that theta allows, margins and slackness, in units of the multipliers."""
    w, lam, s = (np.asarray(v) for v in (point.params, point.multipliers, point.selection))
    unit = 1e-9 * max(1.0, float(np.max(lam)))
    z = w @ np.asarray(problem.rows).T
    q = ref.margins(problem, w)
    allowed = ref.in_clarke(problem, np.where(np.abs(z) < unit, 0.0, z), s)
    return bool(
        allowed
        and np.linalg.norm(ref.residual(problem, w, lam, s)) < unit
        and np.min(q) > 1 - unit
        and np.max(lam * np.abs(q - 1)) < unit * max(1.0, float(np.max(lam)))
        and np.min(lam) >= 0
    )


def feasible(problem: MarginProblem, slopes: np.ndarray) -> bool:
    """Whether some W has F_a(W) >= 1: a linear programme in W and a variable above both pieces of each concave pair."""
    rows, v, layout = np.asarray(problem.rows), np.asarray(problem.amplitudes), problem.layout
    (n, entries), dim = v.shape, rows.shape[1]
    margins, above = np.zeros((max(layout.constraint) + 1, n * (dim + entries))), []
    for j, e in np.ndindex(n, entries):
        z = np.zeros(margins.shape[1])
        z[j * dim : (j + 1) * dim] = rows[layout.row[e]]
        if v[j, e] > 0:
            margins[layout.constraint[e]] += slopes[j, e] * v[j, e] * z
            continue
        pair = n * dim + j * entries + e
        margins[layout.constraint[e], pair] += v[j, e]
        for slope in (1.0, problem.slope):
            above.append(slope * z)
            above[-1][pair] = -1
    a = np.vstack([-margins, *above])
    b = np.where(np.arange(len(a)) < len(margins), -1.0, 0.0)
    found = linprog(np.zeros(a.shape[1]), A_ub=a, b_ub=b, bounds=(None, None), method="highs")
    assert found.status in (0, 2)
    return found.status == 0


def judge(layout: Layout, seeds: range, slope: float) -> int:
    """How many are solved. Every solved one is honest, and none is longer than its first solve; of the first solves
    those with a feasible point are solved, and no other is."""
    problems, first, last = solved(layout, seeds, slope)
    good = np.asarray(last.status) == 0
    for i, problem in enumerate(problems):
        assert (int(first.status[i]) == 0) == feasible(problem, drawn(layout, seeds[i], slope)[1]), seeds[i]
        if good[i]:
            point = jax.tree.map(lambda v, i=i: v[i], last)
            assert honest(problem, point), (layout, seeds[i], slope)
            if int(first.status[i]) == 0:
                size = [float(np.linalg.norm(p.params[i])) for p in (first, last)]
                assert size[1] <= size[0] * (1 + 1e-9)
    return int(np.sum(good))


@pytest.mark.parametrize(("layout", "slope"), [(LAYOUTS[2], 0.0)])
def test_random_programmes(layout: Layout, slope: float) -> None:
    assert judge(layout, range(50), slope) >= 25


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_many_random_programmes(layout: Layout, slope: float) -> None:
    assert judge(layout, range(1000, 1350), slope) >= 60


def test_the_first_solve_against_a_general_solver() -> None:
    """SLSQP, with a variable below every concave pair."""
    problems, first, _ = solved(LAYOUTS[2], range(50), 0.0)
    asked = [i for i in range(50) if int(first.status[i]) == 0][:6]
    for i in asked:
        best = ref.solve_pattern(problems[i], drawn(LAYOUTS[2], i, 0.0)[1], [0, 1, 2])
        np.testing.assert_allclose(first.params[i], best, atol=1e-5 * max(1.0, float(np.max(np.abs(best)))))
