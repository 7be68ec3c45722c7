"""Exact KKT points of networks on many points: solve on those near the margin, check the margins of the rest.

A point beyond the margin has multiplier 0 and its activations enter nothing, so a KKT point of the problem on a working
set with q_i >= 1 everywhere is one of the whole problem (docs/theory, Exact KKT points). Violators join the set.
Everything but the programme itself runs on the host.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaunlearn_jax.base import progress
from gaunlearn_jax.base.codes import Status
from gaunlearn_jax.base.compiling import hurry
from gaunlearn_jax.kkt.host import HostPoint, HostProblem, Marks, Matrix, Vector, measured_point
from gaunlearn_jax.kkt.limit import MAX_REPEATS, solve_pattern
from gaunlearn_jax.kkt.points import KKTPoint
from gaunlearn_jax.models.problem import MarginProblem

#: a programme holds n Gram matrices of its points; every size is compiled once, so there are only these
SIZES = (16, 64, 160, 320)
LARGEST = SIZES[-1]
#: up to this size a programme that runs twice is compiled without optimisation: 40 neurons, 64 points, CPU seconds: 2.2
#: for the compiler and 0.6 a solve, against 9.7 and 0.1
HURRIED = 64
#: a margin below NEAR times the smallest puts a point into the first working set; one below 1 - FLOOR is a violation
NEAR, FLOOR = 1.1, 1e-10


def limit_point(
    problem: HostProblem, slopes: Matrix, retained: Marks, margins: Vector, *, many: bool = False
) -> HostPoint:
    """The exact KKT point on the retained points [m] from the activations `slopes` [n, m], measured on all of them.

    The working set starts from the smallest `margins` [m], fills one of SIZES, and grows to at most LARGEST points; not
    `solved` where that is not enough. `many` is whether more than a few programmes will be solved, which pays for a
    better compiled one. Memory is n LARGEST^2.
    """
    order = np.argsort(margins, kind="stable")
    order = order[retained[order]]
    near = int(np.sum(margins[order] < NEAR * margins[order[0]]))
    members = order[: _padded(near)]
    while True:
        point = _solve_on(problem, slopes, members, retained, many)
        q = problem.margins(point.preactivations)
        bad = np.setdiff1d(np.flatnonzero(retained & (q < 1 - FLOOR)), members)
        if not bad.size or not point.solved:
            return point
        if len(members) == LARGEST:
            return point._replace(solved=False)
        bad = bad[np.argsort(q[bad])]
        room = _padded(len(members) + len(bad)) - len(members)
        rest = order[~np.isin(order, members) & ~np.isin(order, bad)]
        members = np.concatenate([members, bad, rest])[: len(members) + room]


def prepare(problem: HostProblem, *, many: bool = False) -> None:
    """Compile the programme of the size that a first working set most likely has: another thread may train meanwhile.

    A programme without valid points is solved at once.
    """
    size = _padded(min(problem.num_points, SIZES[1]))
    index = np.resize(np.arange(problem.num_points), size)
    _solved(problem, np.zeros((problem.num_neurons, size)), index, np.zeros(size, bool), many)


def _padded(count: int) -> int:
    return next((size for size in SIZES if size >= count), LARGEST)


def _solve_on(problem: HostProblem, slopes: Matrix, members: np.ndarray, retained: Marks, many: bool) -> HostPoint:
    """The programme on the members alone, padded with points that may carry no multiplier."""
    count = len(members)
    progress.say(
        f"exact point of {problem.num_neurons} neurons on {count} of {problem.num_points} points (a programme of "
        f"{_padded(count)} points is compiled the first time)"
    )
    index = np.resize(members, _padded(count))
    p = _solved(problem, slopes[:, index], index, np.arange(len(index)) < count, many)
    params = np.asarray(p.params)
    z = problem.preactivations(params)
    z[:, members] = np.asarray(p.preactivations)[:, :count]
    lam = np.zeros(problem.num_points)
    lam[members] = np.asarray(p.multipliers)[:count]
    selection = problem.slopes(z, slopes)
    selection[:, members] = np.asarray(p.selection)[:, :count]
    return measured_point(problem, params, z, lam, selection, retained, solved=int(p.status) == Status.OK)


def _solved(problem: HostProblem, slopes: Matrix, index: np.ndarray, valid: Marks, many: bool) -> KKTPoint:
    part = MarginProblem(
        rows=jnp.asarray(problem.points[index]),
        amplitudes=jnp.asarray(problem.amplitudes[:, index]),
        groups=jnp.asarray(np.zeros(len(index), np.int64)),
        slope=problem.slope,
    )
    solve = _compiled(hurried=len(index) <= HURRIED and not many)
    return jax.block_until_ready(solve(part, jnp.asarray(slopes), jnp.asarray(valid), max_repeats=MAX_REPEATS))


@functools.lru_cache
def _compiled(hurried: bool) -> Any:
    hasty = hurry()
    return jax.jit(solve_pattern, static_argnames="max_repeats", compiler_options=hasty) if hurried else solve_pattern
