"""Exact KKT points: the programme of a network's same-sign activations, and the loop that mends them.

Source: docs/theory, Exact KKT points.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import ConstraintMask, Mask, PerEntry, PerRow
from gaunlearn_jax.base.codes import Status
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt.fit import selection_of
from gaunlearn_jax.kkt.pattern import pattern_loop
from gaunlearn_jax.kkt.points import KKTPoint, measured_point, snap
from gaunlearn_jax.kkt.programme import programme_of
from gaunlearn_jax.models.problem import MarginProblem, check_shapes

#: rounds of the pattern loop, which ends by itself since the norm falls; trained networks need 0 to 3
MAX_REPEATS = 20
#: a margin this far below 1, or this part of ||theta|| as its residual, is no rounding: nothing was solved
SHORT = 1e-6


def limit_point(net: Any, data: Dataset, run: Any, *, retained: Mask | None = None) -> KKTPoint:
    """The exact KKT point with the activations of a trained network (anything with `preactivations` [n, r]).

    Pairs that raise a margin (v > 0) keep the activity they have in `run`, the others are free; the pattern loop flips
    every fixed pair that contradicts the solution and solves again, which ends since the norm falls. It is *a* KKT
    point near the trained direction, not provably the limit of gradient flow. epsilon, delta at rounding level.
    Source: docs/theory, Exact KKT points.
    """
    numerics.require_x64()
    problem = net.problem(data)
    check_shapes(problem, data.num_points, preactivations=run.preactivations, retained=retained)
    slopes = starting_slopes(problem, jnp.asarray(run.preactivations))
    mask = jnp.ones(data.num_points, bool) if retained is None else jnp.asarray(retained)
    point = solve_pattern(problem, slopes, problem.constraints_of(mask), MAX_REPEATS)
    return dataclasses.replace(point, status=jnp.maximum(point.status, data.status))


def starting_slopes(problem: MarginProblem, z: PerRow) -> PerEntry:
    """The slopes [n, e] at pre-activations z [n, r], but strictly between on free pairs: where a pattern was not solved
    before, most of them end as kinks, and Newton needs half as many steps if it begins with all of them there."""
    return jnp.where(problem.free & problem.kinked, 0.5 * (1.0 + problem.slope), problem.slopes(z))


@functools.partial(jax.jit, static_argnames="max_repeats")
def solve_pattern(problem: MarginProblem, slopes: PerEntry, valid: ConstraintMask, max_repeats: int) -> KKTPoint:
    """Solve the programme Q of docs/theory (Closeness) with the fixed pairs at the given slopes [n, e], and begin with
    the free pairs there; max_repeats = 0 gives the first solve, more runs the pattern loop.

    Status INFEASIBLE where the multipliers prove that the last pattern has no feasible point (docs/theory, Pattern
    loop), UNCONVERGED where nothing was solved for another reason.
    """
    free, ones = problem.free, jnp.ones(problem.num_constraints)
    programme = programme_of(problem, slopes, free, ones, valid, ones * jnp.inf)
    loop = pattern_loop(programme, slopes, jnp.asarray(max_repeats, jnp.int32))
    out = numerics.outward()
    solution = loop.solution._replace(multipliers=loop.solution.multipliers * out, c=loop.solution.c * out)
    z = problem.at_rows(loop.z) * out
    q = problem.by_row(problem.amplitudes * solution.c)
    w = snap(problem, numerics.matmul(q, problem.rows), z)
    chosen = selection_of(problem, z, solution)
    chosen = jnp.where(~free & problem.kinked & (problem.at_entries(z) == 0), loop.slopes, chosen)
    status = jnp.where(solution.converged & (loop.settled | (max_repeats == 0)), Status.OK, Status.UNCONVERGED)
    point = measured_point(
        problem, w, z, solution.multipliers, chosen, valid, repeats=loop.repeats, status=status
    )  # fmt: skip
    wrong = (point.margin < 1 - SHORT) | ((max_repeats > 0) & (point.epsilon > SHORT * numerics.norm(w)))
    status = jnp.where(wrong, jnp.maximum(point.status, Status.UNCONVERGED), point.status)
    status = jnp.where(solution.infeasible, Status.INFEASIBLE, status)
    return dataclasses.replace(point, status=status.astype(jnp.int32))
