"""The exact solution theta* of Q_T, solved on the sets that the floats of a certificate file name.

    min 1/2 |W|^2   subject to   F_a = sum_fixed v_je s_je z_j,row + sum_free v_je sigma(z_j,row) >= 1,   a of T

Free pairs are those with v < 0, if sigma has a kink; s on the others is the selection of theta. The named sets are the
support {lambda > 0}, the kinks (neuron, row): z = 0, and slope < s < 1 at a free pair of the support, and which of the
other free pairs have s = 1. F_a = 1 on the support and z = 0 at kinks are linear equations; if their solution satisfies
the remaining conditions of optimality, it is theta*. Source: docs/theory, Rigour.
"""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import Any, NamedTuple

from verify.exact.balls import Check, Quantities, arb, arb_mat, block, inverse, total
from verify.exact.certificate_file import Point


class Solution(NamedTuple):
    """theta* by its pre-activations, and the inequalities that make it the solution."""

    z: Any
    checks: list[Check]


@functools.lru_cache(maxsize=1)
def solution(q: Quantities) -> Solution:
    """theta* of q's document. It may be called for a document that names a solution only."""
    assert q.d.inequality is not None
    return _Programme(q, q.d.inequality["solution"]).solve()


class _Programme:
    """Q_T on given sets. `slopes` [n, E] are None at kinks, whose part of Q is a variable of its own."""

    def __init__(self, q: Quantities, given: Point) -> None:
        self.q, self.problem, self.row = q, q.problem, q.problem.layout.row
        self.support = [a for a in q.problem.retained if given.multipliers[a] > 0]
        self.pairs = [(a, e) for a in self.support for e in self.problem.entries[a]]
        self.kinks = [self._kinks(j, given) for j in range(q.n)]
        self.slopes = [[self._slope(j, e, given) for e in range(len(self.row))] for j in range(q.n)]
        self.at_kinks: list[Any] = []

    def _kinks(self, j: int, given: Point) -> list[int]:
        """The rows at which neuron j has a kink."""
        found = set()
        for a, e in self.pairs:
            top = Fraction(given.multipliers[a])
            between = Fraction(self.problem.slope) * top < given.mu[j][e] < top
            if between and self.problem.free(j, e) and given.preactivations[j][self.row[e]] == 0:
                found.add(self.row[e])
        return sorted(found)

    def _slope(self, j: int, e: int, given: Point) -> Any:
        a, first = self.problem.layout.constraint[e], self.q.d.original
        if not self.problem.kinked:
            return arb(1)
        if not self.problem.free(j, e):
            top = first.multipliers[a]
            upper = first.preactivations[j][self.row[e]] > 0
            return self.q.mu[j][e] / top if top > 0 else arb(1) if upper else self.q.slope
        if a in self.support and self.row[e] in self.kinks[j]:
            return None
        top = given.multipliers[a]
        return arb(1) if given.mu[j][e] == top > 0 else self.q.slope

    def solve(self) -> Solution:
        """lambda on the support from F_a = 1, the kinks of each neuron eliminated first."""
        q, size = self.q, len(self.support)
        maps, system = [self._eliminated(j) for j in range(q.n)], arb_mat(size, size)
        number = {a: i for i, a in enumerate(self.support)}
        for j, c in enumerate(maps):
            z = q.gram * c
            for a, e in self.pairs:
                slope = self.slopes[j][e]
                for b in range(size if slope is not None else 0):
                    system[number[a], b] += q.v[j][e] * slope * z[self.row[e], b]
        lam = inverse(system) * arb_mat(size, 1, [1] * size) if size else arb_mat(0, 1)
        z = arb_mat(q.n, len(q.rows), [v for c in maps for v in (c * lam).entries()]) * q.gram
        for j, kinks in enumerate(self.kinks):
            for r in kinks:
                z[j, r] = arb(0)
        tops = dict(zip(self.support, lam.entries(), strict=True))
        held = [(x * lam).entries() if kinks else [] for x, kinks in zip(self.at_kinks, self.kinks, strict=True)]
        return Solution(z, [*self._of_multipliers(tops, held), *self._of_signs(z), *self._of_margins(z)])

    def _eliminated(self, j: int) -> Any:
        """The map from lambda on the support to row j of Q, given z = 0 at this neuron's kinks; the part of Q that is
        at its kinks is appended to `at_kinks`."""
        q, kinks, size = self.q, self.kinks[j], len(self.support)
        c = arb_mat(len(q.rows), size)
        for b, a in enumerate(self.support):
            for e in self.problem.entries[a]:
                if self.slopes[j][e] is not None:
                    c[self.row[e], b] += q.v[j][e] * self.slopes[j][e]
        x = arb_mat(0, size)
        if kinks:
            x = -(inverse(block(q.gram, kinks, kinks)) * (block(q.gram, kinks, q.rows) * c))
            for i, r in enumerate(kinks):
                for b in range(size):
                    c[r, b] += x[i, b]
        self.at_kinks.append(x)
        return c

    def _of_multipliers(self, tops: dict[int, Any], held: list[list[Any]]) -> list[Check]:
        """lambda >= 0, and at a kink sum of v mu = x for some mu from slope lambda to lambda: v < 0 there."""
        checks = [Check(0, top, f"multiplier {a} of theta* is negative") for a, top in tops.items()]
        for j, kinks in enumerate(self.kinks):
            for x, r in zip(held[j], kinks, strict=True):
                mine = [(a, e) for a, e in self.pairs if self.row[e] == r and self.slopes[j][e] is None]
                most = total(self.q.v[j][e] * tops[a] for a, e in mine)
                checks.append(Check(x, self.q.slope * most, f"mu at the kink ({j}, {r}) of theta* is too small"))
                checks.append(Check(most, x, f"mu at the kink ({j}, {r}) of theta* exceeds its multipliers"))
        return checks

    def _of_signs(self, z: Any) -> list[Check]:
        """z >= 0 at free pairs of the support with s = 1, z <= 0 at those with s = slope."""
        checks = []
        for j in range(self.q.n):
            for _, e in self.pairs:
                slope, value = self.slopes[j][e], z[j, self.row[e]]
                if self.problem.free(j, e) and slope is not None:
                    low, high = (0, value) if slope == 1 else (value, 0)
                    text = f"the pre-activation ({j}, {self.row[e]}) of theta* has the other sign"
                    checks.append(Check(low, high, text))
        return checks

    def _of_margins(self, z: Any) -> list[Check]:
        """F_a >= 1 off the support."""
        checks = []
        for a in [a for a in self.problem.retained if a not in self.support]:
            parts = []
            for e in self.problem.entries[a]:
                for j in range(self.q.n):
                    value = z[j, self.row[e]]
                    here = self.q.sigma(value) if self.problem.free(j, e) else self.slopes[j][e] * value
                    parts.append(self.q.v[j][e] * here)
            checks.append(Check(1, total(parts), f"F_{a} of theta* is below 1"))
        return checks
