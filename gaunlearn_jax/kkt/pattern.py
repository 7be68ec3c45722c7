"""The pattern loop: solve a programme, flip the fixed pairs that contradict its solution, solve again.

The only place that calls the solver, and one equation of whatever is traced around it (`base.staging`): limit points,
retrained points and fits of one size share one compilation. Source: docs/theory, Exact KKT points.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int

from gaunlearn_jax.base.arrays import EntryMask, PerEntry
from gaunlearn_jax.base.staging import staged
from gaunlearn_jax.kkt import dual
from gaunlearn_jax.kkt.programme import KINK, UPPER, Programme, Solution, places

#: a pre-activation whose terms cancel to this share of their size is zero but for rounding
CANCELLED = 1e-13


class Pattern(NamedTuple):
    """The last programme's solution, the slopes of its fixed pairs, its pre-activations at the entries, the fixed pairs
    that contradict it, and the rounds after the first."""

    solution: Solution
    slopes: PerEntry
    z: PerEntry
    mismatch: EntryMask
    repeats: Int[Array, ""]

    @property
    def settled(self) -> Bool[Array, ""]:
        """Whether no pair contradicts the solution."""
        return ~jnp.any(self.mismatch)


def first_round(p: Programme, slopes: PerEntry, max_repeats: Int[Array, ""]) -> tuple[Pattern, Bool[Array, ""]]:
    """What `pattern_loop` begins with, by the solver's quick steps alone, and whether it ends there."""
    solution, solved = dual.quick_solve(_with_slopes(p, slopes), places(p, slopes))
    loop = _contradicted(p, solution, slopes, jnp.asarray(0, jnp.int32))
    return loop, solved & ~_again(loop, max_repeats)


def _loop(p: Programme, slopes: PerEntry, max_repeats: Int[Array, ""]) -> Pattern:
    """Solve with the fixed pairs at their slopes [n, e], and up to max_repeats times more with those flipped that
    contradict the solution. The solver begins with the free pairs in the places that their slopes name."""
    shape = p.fixed.shape
    nothing = Solution(
        multipliers=jnp.zeros_like(p.target),
        c=jnp.zeros(shape),
        pairs=places(p, slopes),
        violation=jnp.asarray(jnp.inf),
        converged=jnp.asarray(False),
        infeasible=jnp.asarray(False),
        steps=jnp.asarray(0, jnp.int32),
    )

    def attempt(loop: Pattern) -> Pattern:
        s = jnp.where(loop.mismatch, jnp.where(loop.z > 0, 1.0, p.slope), loop.slopes)
        solution = dual.solve(_with_slopes(p, s), loop.solution.pairs)
        return _contradicted(p, solution, s, loop.repeats + 1)

    none = jnp.zeros(shape, bool)
    first = Pattern(nothing, jnp.asarray(slopes), jnp.zeros(shape), none, jnp.asarray(-1, jnp.int32))
    return lax.while_loop(lambda loop: (loop.repeats < 0) | _again(loop, max_repeats), attempt, first)


_loop_here = functools.partial(staged, attempt=first_round)(_loop)


def _settled(found: Pattern, p: Programme, slopes: PerEntry, max_repeats: Int[Array, ""]) -> Pattern:
    """The loop once more from the pattern that was found: where that is right, a quick solve of one programme."""
    pairs = found.solution.pairs
    free = jnp.where(pairs == KINK, 0.5 * (1 + p.slope), jnp.where(pairs == UPPER, 1.0, p.slope))
    again = _loop_here(p, jnp.where(p.free, free, found.slopes), max_repeats)
    return again._replace(repeats=found.repeats + again.repeats)


pattern_loop = functools.partial(staged, attempt=first_round, settled=_settled)(_loop)


def _again(loop: Pattern, max_repeats: Int[Array, ""]) -> Bool[Array, ""]:
    return ~loop.settled & (loop.repeats < max_repeats) & loop.solution.converged


def _with_slopes(p: Programme, slopes: PerEntry) -> Programme:
    return dataclasses.replace(p, fixed=jnp.where(p.spread(p.valid), slopes, 0.0))


def _contradicted(p: Programme, solution: Solution, slopes: PerEntry, repeats: Int[Array, ""]) -> Pattern:
    """A solution with the fixed pairs that contradict it."""
    may_flip = ~p.free & p.spread(p.valid) & p.kinked
    z = _preactivations(p, solution, slopes)
    wrong = may_flip & (((z > 0) & (slopes < 1)) | ((z < 0) & (slopes > p.slope)))
    return Pattern(solution, slopes, z, wrong, repeats)


def _preactivations(p: Programme, solution: Solution, slopes: PerEntry) -> PerEntry:
    """The pre-activations of the solution at the entries, with exact zeros at kinks, and wherever their sign
    contradicts the selection: on a free pair always (what that costs shows in epsilon), on a fixed one while nothing
    but rounding is left."""
    made = p.amplitudes * solution.c
    z = p.products(p.gram, made.T).T
    if not p.kinked:
        return z
    at = p.spread(solution.multipliers)
    selected = jnp.where(p.free, solution.c, slopes * at)
    contradicts = ((z > 0) & (selected < at)) | ((z < 0) & (selected > p.slope * at))
    noise = CANCELLED * p.products(jnp.abs(p.gram), jnp.abs(made).T).T
    zero = (solution.pairs == KINK) | (contradicts & (p.free | (jnp.abs(z) <= noise)))
    return jnp.where(p.same_row(zero), 0.0, z)
