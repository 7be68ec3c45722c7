"""The dual programme behind exact KKT points and multiplier fits, and how far a point is from solving it.

    minimise  1/2 sum_j || sum_e v_je c_je x_{row(e)} ||^2 - sum_a b_a lambda_a
    over      0 <= lambda_a <= cap_a,   c_je = S_je lambda_{a(e)} on fixed pairs,
              slope * lambda_{a(e)} <= c_je <= lambda_{a(e)} on free pairs (j, e).

A free pair rests at its lower slope, at slope 1, or strictly between (a kink: <sum_k v_jk c_jk x_k, x_e> = 0).
Source: docs/theory, Dual programme.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import (
    ConstraintMask,
    EntryMask,
    PerConstraint,
    PerEntry,
    Scalar,
    Turned,
    TurnedMask,
    TurnedPlaces,
)
from gaunlearn_jax.models.problem import Layout, MarginProblem

#: where a free pair rests: at its lower slope, strictly between (a kink), at slope 1
LOWER, KINK, UPPER = 0, 1, 2
#: violation at which an answer is exact: about 200 roundings of a term, which Newton on the right sets stays below
TOL = 5e-14
#: 2^e at e, also where e < 0: exact everywhere, and made without looking at the bits of a number, which TPUs cannot
_POWERS = np.ldexp(1.0, np.roll(np.arange(-1022, 1024), -1022))
#: norm of all feasible points from which on there may be none, where every constraint alone asks for about 1
FAR = 1e6
#: part of the size of a sum's terms that `optimality` measures in beside its target: TOL times it is about 14 eps
ROUNDING_SHARE = 2.0**-4


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Programme:
    """K of the rows [R, R], amplitudes v [n, E], slopes S [n, E] of the fixed pairs, free pairs [n, E], b [A],
    the constraints that may carry a multiplier [A], caps [A] (inf: none), the lower slope of free pairs, whether it is
    below 1 anywhere, and the layout of the margin problem (None: entry e is constraint e and row e)."""

    gram: Float[Array, "r r"]
    amplitudes: PerEntry
    fixed: PerEntry
    free: EntryMask
    target: PerConstraint
    valid: ConstraintMask
    cap: PerConstraint
    slope: Scalar
    kinked: bool = dataclasses.field(metadata={"static": True})
    layout: Layout | None = dataclasses.field(default=None, metadata={"static": True})

    def spread(self, values: Any) -> Any:
        """Values of constraints (last axis) at their entries."""
        if self.layout is None or self.layout.one_entry:
            return values
        return values[..., np.asarray(self.layout.constraint)]

    def gather(self, values: Any) -> Any:
        """Sums over the entries of each constraint (last axis)."""
        if self.layout is None or self.layout.one_entry:
            return values
        out = jnp.zeros((*values.shape[:-1], self.target.shape[0]), values.dtype)
        return out.at[..., np.asarray(self.layout.constraint)].add(values)

    def beside(self, values: Any) -> Any:
        """Values of constraints at their entries, as a column [E, 1] beside every neuron of arrays [E, n]."""
        return self.spread(values)[:, None]

    def products(self, gram: Float[Array, "r r"], values: Turned) -> Turned:
        """gram, of the rows, times values [E, n] of the entries, at the entries."""
        return self.at_entries(numerics.matmul(gram, self.of_rows(values)))

    def at_entries(self, values: Any) -> Any:
        """Values of rows (first axis) at their entries."""
        if self.layout is None or self.layout.one_row:
            return values
        return values[np.asarray(self.layout.row)]

    def of_rows(self, values: Turned) -> Float[Array, "r n"]:
        """Sums over the entries of each row (first axis)."""
        if self.layout is None or self.layout.one_row:
            return values
        row, count = np.asarray(self.layout.row), self.gram.shape[0]
        each = len(row) // count
        if np.array_equal(row, np.repeat(np.arange(count), each)):  # slices are added faster than a scatter adds
            return sum(values[i::each] for i in range(1, each)) + values[::each]
        return jnp.zeros((count, *values.shape[1:]), values.dtype).at[row].add(values)

    @property
    def squares(self) -> Float[Array, "e"]:
        """||x_e||^2 of the entries' rows [E]."""
        return self.at_entries(jnp.diagonal(self.gram))

    @property
    def entry_gram(self) -> Float[Array, "e e"]:
        """K of the entries' rows."""
        return self.at_entries(self.at_entries(self.gram).T)

    def turned(self) -> Programme:
        """The same with arrays [E, n] for [n, E], as all of the solver wants it: neurons, mostly the longer axis, are
        the inner one of products and of what is done element by element."""
        return dataclasses.replace(self, amplitudes=self.amplitudes.T, fixed=self.fixed.T, free=self.free.T)

    def same_row(self, marks: EntryMask) -> EntryMask:
        """The entries whose row has a marked entry."""
        if self.layout is None:
            return marks
        row = np.asarray(self.layout.row)
        return jnp.zeros((marks.shape[0], row.max() + 1), bool).at[:, row].max(marks)[:, row]


def programme_of(
    problem: MarginProblem, slopes: PerEntry, free: EntryMask, target: PerConstraint, valid: ConstraintMask,
    cap: PerConstraint,
) -> Programme:  # fmt: skip
    """The programme of a margin problem with these slopes on the pairs that are not free."""
    live = problem.of_entries(valid)
    return Programme(
        gram=problem.gram(),
        amplitudes=problem.amplitudes,
        fixed=jnp.where(live, slopes, 0.0),
        free=free & live,
        target=target,
        valid=valid,
        cap=cap,
        slope=jnp.asarray(problem.slope, jnp.float64),
        kinked=problem.kinked,
        layout=problem.layout,
    )


class Best(NamedTuple):
    """The feasible point of least violation met so far, and the sets it was made with."""

    violation: Float[Array, ""]
    lam: PerConstraint
    c: Turned
    pairs: TurnedPlaces


class State(NamedTuple):
    """A guess of the sets on its way: lambda, c, the constraints with a multiplier, those at their caps, the place of
    every pair, how long the sets have stood still, the best point so far, steps taken, the fewest constraints that ever
    wanted to move, and the steps that may pass without fewer."""

    lam: PerConstraint
    c: Turned
    support: ConstraintMask
    capped: ConstraintMask
    pairs: TurnedPlaces
    calm: Int[Array, ""]
    best: Best
    step: Int[Array, ""]
    fewest: Int[Array, ""]
    patience: Int[Array, ""]


def unit_scaled(p: Programme) -> tuple[Programme, PerConstraint]:
    """The programme, turned, in units in which every v x and the largest b are near 1, and the units of lambda.

    Units are powers of two, so nothing is rounded; one factor per constraint leaves slopes and cones as they are.
    """
    size = p.squares * jnp.sum(p.amplitudes**2, axis=0)
    if p.layout is not None and not p.layout.one_entry:  # the entries of a constraint share the unit of its largest
        size = jnp.zeros(p.target.shape).at[np.asarray(p.layout.constraint)].max(size)
    per = _power_below_root(jnp.where(p.valid, size, 1.0))
    target = jnp.where(p.valid, p.target, 0.0) * per
    common = _power_above(jnp.max(jnp.abs(target)))
    unit = per * common
    amplitudes = jnp.where(p.spread(p.valid), p.amplitudes * p.spread(per), 0.0).T
    return dataclasses.replace(p.turned(), amplitudes=amplitudes, target=target / common, cap=p.cap / unit), unit


def _power_above(x: Array) -> Array:
    """A power of two near x > 0 (2 for 0)."""
    return jnp.asarray(_POWERS)[_exponent(x)]


def _power_below_root(x: Array) -> Array:
    """A power of two near 1/sqrt(x), 1 for 0."""
    return jnp.asarray(_POWERS)[-(_exponent(x) // 2)]


def _exponent(x: Array) -> Int[Array, "..."]:
    """e with x between 2^(e - 1) and 2^e, but for the logarithm's rounding; 1 for 0."""
    return jnp.floor(jnp.log2(jnp.where(x > 0, x, 1.0))).astype(int) + 1


def gradient(p: Programme, c: Turned) -> Turned:
    """g_je = v_je z_je of the network that c makes."""
    return p.amplitudes * p.products(p.gram, p.amplitudes * c)


def concave_margins(p: Programme, g: Turned) -> PerConstraint:
    """F_a: fixed pairs at their slope, free pairs at the worse of their two slopes (docs/theory, Closeness)."""
    worse = jnp.where(p.free, jnp.minimum(p.slope * g, g), p.fixed * g) if p.kinked else p.fixed * g
    return p.gather(jnp.sum(worse, axis=1))


def magnitudes(p: Programme, c: Turned) -> Turned:
    """The sums of the moduli of the terms that make g: rounding leaves an error of some eps times this."""
    size = jnp.abs(p.amplitudes)
    return size * p.products(jnp.abs(p.gram), size * jnp.abs(c))


def optimality(
    p: Programme, lam: PerConstraint, c: Turned, kinks: TurnedMask, g: Turned, size: PerConstraint
) -> Float[Array, ""]:
    """Largest violation of the optimality conditions of a feasible (lambda, c) of gradient g, in units of |b_a| and of
    what rounding can leave (`size_of`: TOL times its second part is some eps times the terms of F_a).

    Per constraint: F_a >= b_a unless capped, and lambda_a |F_a - b_a| = 0; per free pair:
    (c - slope lambda) max(g, 0) + (lambda - c) max(-g, 0) = 0. Products are relative to the largest lambda. Where the
    answer is a kink, g itself counts: theta is made with g = 0 there, however small c is.
    """
    gap, at = concave_margins(p, g) - p.target, p.beside(lam)
    top = jnp.max(lam)
    safe = jnp.where(top > 0, top, 1.0)
    short = jnp.where(lam < p.cap, jnp.maximum(-gap, 0.0), 0.0)
    slack = jnp.maximum(gap, 0.0) * lam / safe
    worst = jnp.maximum(short, slack)
    if p.kinked:
        pair = (c - p.slope * at) * jnp.maximum(g, 0.0) + (at - c) * jnp.maximum(-g, 0.0)
        pair = jnp.sum(jnp.where(kinks, jnp.abs(g), jnp.where(p.free, pair, 0.0) / safe), axis=1)
        worst = jnp.maximum(worst, p.gather(pair))
    worst = worst / jnp.where(size > 0, size, 1.0)
    worst = jnp.max(jnp.where(p.valid, worst, 0.0))
    return jnp.where(jnp.isfinite(worst) & jnp.all(jnp.isfinite(c)), worst, jnp.inf)


def unbounded(p: Programme, lam: PerConstraint, c: Turned) -> Bool[Array, ""]:
    """Whether (lambda, c), made feasible, proves that no W has F_a(W) >= b_a for all a: a ray, sum v c x = 0 with
    sum b_a lambda_a > 0, where sum b_a lambda_a <= sum lambda_a F_a(W) <= <sum v c x, W>.

    In floats: every such W has norm FAR or more, in the units of `unit_scaled`. So it is for a large W too, where
    independent rows nearly cancel; for a ray they must cancel coefficient by coefficient: `independent_size`.
    Source: docs/theory, Pattern loop.
    """
    lam, c = made_feasible(p, lam, c)
    pull = jnp.sum(p.target * lam)
    suspect = (pull > 0) & (pull**2 > FAR**2 * jnp.sum(c * gradient(p, c)))

    def look(s: tuple[Array, Array]) -> tuple[Array, Array]:
        return jnp.asarray(False), pull > FAR * independent_size(p, c, s[0])

    # a loop of one round at most: it costs nothing where no lane is suspect
    return lax.while_loop(lambda s: s[0], look, (suspect, jnp.asarray(False)))[1]


def independent_size(p: Programme, c: Turned, wanted: Bool[Array, ""]) -> Float[Array, ""]:
    """The largest |a_jr| ||x_r||, where sum_e v_je c_je x_e = sum_r a_jr x_r with r over a maximal set of independent
    rows: 0 only if the sums are. Nothing is said where it is not `wanted`."""
    sizes = jnp.diagonal(p.gram)
    # sweeps that depend on K alone the compiler would take out of the caller's loop, and make them always
    independent = jnp.diagonal(numerics.sweep(p.gram, (sizes > 0) & wanted)) < 0
    others = jnp.where(independent[:, None] & ~independent, numerics.sweep(p.gram, independent), 0.0)
    made = p.of_rows(p.amplitudes * c)
    coefficients = jnp.where(independent[:, None], made + numerics.matmul(others, made), 0.0)
    return jnp.max(jnp.abs(coefficients) * jnp.sqrt(sizes)[:, None])


def size_of(p: Programme, c: Turned) -> PerConstraint:
    """|b_a| and a share of the terms of F_a: the units of `optimality`."""
    slopes = jnp.where(p.free, 1.0, p.fixed) if p.kinked else p.fixed
    terms = p.gather(jnp.sum(slopes * magnitudes(p, c), axis=1))
    return jnp.abs(p.target) + ROUNDING_SHARE * terms


def made_feasible(p: Programme, lam: PerConstraint, c: Turned) -> tuple[PerConstraint, Turned]:
    """(lambda, c) moved into their intervals."""
    lam = jnp.where(p.valid, jnp.clip(lam, 0.0, p.cap), 0.0)
    at = p.beside(lam)
    return lam, jnp.where(p.free, jnp.clip(c, p.slope * at, at), p.fixed * at) if p.kinked else p.fixed * at


def improved(
    p: Programme, best: Best, lam: PerConstraint, c: Turned, pairs: TurnedPlaces, solved: Array | bool = True
) -> Best:
    """The better of `best` and, where it was solved for, (lam, c) made feasible; a kink that was outside its interval
    rests at its end."""
    lam, c = made_feasible(p, lam, c)
    at = p.beside(lam)
    if p.kinked:
        pairs = jnp.where(pairs != KINK, pairs, jnp.where(c >= at, UPPER, jnp.where(c > p.slope * at, KINK, LOWER)))
    kinks = p.free & (pairs == KINK) & (at > 0)
    violation = optimality(p, lam, c, kinks, gradient(p, c), size_of(p, c))
    return better(best, Best(jnp.where(solved, violation, jnp.inf), lam, c, pairs))


def better(best: Best, new: Best) -> Best:
    """The one of less violation."""
    return jax.tree.map(lambda a, b: jnp.where(new.violation < best.violation, a, b), new, best)


def places(p: Programme, slopes: PerEntry) -> Int[Array, "n e"]:
    """Where pairs of these slopes rest, for a solver to begin with."""
    return jnp.where(slopes >= 1, UPPER, jnp.where(slopes > p.slope, KINK, LOWER)).astype(jnp.int32)


class Solution(NamedTuple):
    """lambda [A], c [n, E] (both feasible), where every free pair rests (KINK: strictly), the violation of the
    optimality conditions (see `optimality`), whether it is below tolerance and no ray, whether it is one (see
    `unbounded`), and the steps taken in all."""

    multipliers: PerConstraint
    c: PerEntry
    pairs: Int[Array, "n e"]
    violation: Float[Array, ""]
    converged: Bool[Array, ""]
    infeasible: Bool[Array, ""]
    steps: Int[Array, ""]
