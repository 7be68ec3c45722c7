"""Q_T of a certificate document in fractions: what its sets make, and what contradicts them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from reference.exact_fractions import Instance
from reference.rational import Row, solve

ZERO, ONE = Fraction(0), Fraction(1)
Missing = StopIteration  # a hypothesis fails, or what `solve` raises: a system is singular


def need(condition: bool) -> None:
    if not condition:
        raise Missing


class Programme:
    """Q_T on given sets: True for constraints of the support, a slope for every pair of a neuron and an entry; None:
    the neuron has a kink at the entry's row, where all its free pairs of the support share one variable."""

    def __init__(self, x: Instance, z: list[Row], lam: Row, mu: list[Row]) -> None:
        self.x, self.entries = x, [e for e, a in enumerate(x.owner) if a in x.retained]
        self.free = [(j, e) for j in range(x.n) for e in self.entries if x.v[j][e] < 0 and not x.linear]
        self.sets: dict[Any, Any] = {a: lam[a] > 0 for a in x.retained}
        for j, e in [(j, e) for j in range(x.n) for e in self.entries]:
            top, own = x.lam[x.owner[e]], lam[x.owner[e]]
            active = ONE if x.linear or x.z[j][x.row[e]] > 0 else x.slope
            self.sets[j, e] = x.mu[j][e] / top if top > 0 and not x.linear else active
            if (j, e) in self.free:
                kink = z[j][x.row[e]] == 0 and x.slope * own < mu[j][e] < own
                self.sets[j, e] = None if kink else ONE if mu[j][e] == own > 0 else x.slope
        for j, r in {(j, x.row[e]) for j, e in self.free if self.sets[j, e] is None}:
            self.move(j, r, None)

    def together(self, j: int, r: int) -> list[int]:
        """The free entries of the support at a row."""
        return [e for i, e in self.free if i == j and self.x.row[e] == r and self.sets[self.x.owner[e]]]

    def move(self, j: int, r: int, slope: Fraction | None) -> None:
        self.sets.update({(j, e): slope for e in self.together(j, r)})

    def kinks(self) -> list[tuple[str, int, int]]:
        return sorted({("kink", j, self.x.row[e]) for j, e in self.free
                       if self.sets[j, e] is None and self.sets[self.x.owner[e]]})  # fmt: skip

    def assign(self, values: dict[Any, Fraction]) -> None:
        """Set lambda, the coefficients and the pre-activations from the unknowns that are not zero."""
        x = self.x
        self.values, self.lam = values, [values.get(a, ZERO) for a in range(len(x.point))]
        rest = [[ZERO] * len(x.owner) for _ in range(x.n)]
        for e in self.entries:
            for j in range(x.n):
                rest[j][e] = (self.sets[j, e] or ZERO) * self.lam[x.owner[e]]
        self.q = x.q(rest)
        for _, j, r in self.kinks():
            self.q[j][r] += values.get(("kink", j, r), ZERO)
        self.z = [x.preactivations_of(row) for row in self.q]

    def constraint(self, a: int) -> Fraction:
        """F_a with the slopes, off the support with v sigma(z) on free pairs."""
        out = ZERO
        for e in [e for e in self.entries if self.x.owner[e] == a]:
            for j, row in enumerate(self.z):
                value = row[self.x.row[e]]
                concave = not self.sets[a] and (j, e) in self.free
                out += self.x.v[j][e] * (self.x.sigma(value) if concave else (self.sets[j, e] or ZERO) * value)
        return out

    def solve(self) -> None:
        """Solve the dense linear system, one column for each unknown; StopIteration if it is singular."""
        tops, kinks = [a for a in self.x.retained if self.sets[a]], self.kinks()
        need(bool(tops))
        names, columns = [*tops, *kinks], []
        for name in names:
            self.assign({name: ONE})
            columns.append([self.constraint(a) for a in tops] + [self.z[j][r] for _, j, r in kinks])
        found = solve([list(row) for row in zip(*columns, strict=True)], [Fraction(v in tops) for v in names])
        self.assign(dict(zip(names, found, strict=True)))

    def share(self, j: int, r: int) -> Fraction:
        """The selection that all free pairs of the support have at a kink, if they have one in common."""
        weight = sum(self.x.v[j][e] * self.lam[self.x.owner[e]] for e in self.together(j, r))
        need(weight != 0)
        return self.values["kink", j, r] / weight

    def wrong(self) -> list[tuple[Any, Any]]:
        """Violated conditions, as changes that would mend them: (constraint, whether it is of the support) or
        ((neuron, row), slope)."""
        changes: list[tuple[Any, Any]] = [(a, False) for a in self.x.retained if self.lam[a] < 0]
        changes += [(a, True) for a in self.x.retained if not self.sets[a] and self.constraint(a) < 1]
        for _, j, r in self.kinks():
            most = sum(self.x.v[j][e] * self.lam[self.x.owner[e]] for e in self.together(j, r))  # at mu = lambda
            if not most <= self.values["kink", j, r] <= self.x.slope * most:
                changes.append(((j, r), ONE if self.values["kink", j, r] < most else self.x.slope))
        for j, e in [(j, e) for j, e in self.free if self.sets[self.x.owner[e]] and self.sets[j, e] is not None]:
            z = self.z[j][self.x.row[e]]
            if z < 0 if self.sets[j, e] == 1 else z > 0:
                changes.append(((j, self.x.row[e]), None))
        return changes


def programme_floats(programme: Programme, version: int) -> dict[str, Any]:
    """Pre-activations, multipliers, and mu (version 1) or the selection (version 2)."""
    x, out = programme.x, [[float(programme.x.slope)] * len(programme.x.owner) for _ in range(programme.x.n)]
    for j in range(x.n):
        for e in programme.entries:
            s, top = programme.sets[j, e], float(programme.lam[x.owner[e]])
            found = float(programme.share(j, x.row[e]) if s is None and programme.sets[x.owner[e]] else s or x.slope)
            out[j][e] = found * top if version == 1 else found
    z = [[float(v) for v in row] for row in programme.z]
    return {
        "preactivations": z, "multipliers": [float(v) for v in programme.lam],
        "mu" if version == 1 else "selection": out,
    }  # fmt: skip
