"""Theorem LK and Lemma G as balls: leaky networks of one output, v_ji = u_j y_i, slope a between 0 and 1.

Source: docs/theory, Leaky networks.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from verify.exact.balls import Check, Quantities, arb, root, total

Entry = tuple[Any, Any]


class Uniqueness(NamedTuple):
    """chi_i, the largest multiplier, the least one and the least y_i z_ji / u_j of each point, sum_j (u_j s_ji)^2 for s
    on pattern, and what makes the numbers defined (strict positivity)."""

    chi: list[Any]
    most: Any
    least: list[Any]
    clearance: list[Any]
    squares: list[Any]
    defined: list[Check]

    @property
    def hypotheses(self) -> list[Check]:
        return [
            *self.defined,
            *(Check(chi, 1, f"chi of point {i} is not below 1", True) for i, chi in enumerate(self.chi)),
        ]

    @property
    def applies(self) -> bool | None:
        """Whether every hypothesis holds; None where the balls do not tell."""
        if any(check.low >= check.high for check in self.hypotheses):
            return False
        return True if all(check.low < check.high for check in self.hypotheses) else None


def about(q: Quantities) -> list[Check]:
    """That the problem is one that Theorem LK speaks of."""
    return [
        *q.one_output,
        Check(int(not 0 < q.problem.slope < 1), 0, "the slope is not between 0 and 1"),
        Check(int(not all(all(row) for row in q.problem.amplitudes)), 0, "some amplitude is zero"),
    ]


def most_of(values: list[Any]) -> Any:
    return functools.reduce(arb.max, values)


def uniqueness(q: Quantities, psi: Any, phi: Any, epsilon: Any, delta: Any) -> Uniqueness:
    """Theorem LK for an (epsilon, delta)-KKT point of points that satisfy A(psi, phi)."""
    a = q.slope
    s = [[arb(1) if v > 0 else a for v in row] for row in q.problem.amplitudes]
    c = [total((v[i] * t[i]) ** 2 for v, t in zip(q.v, s, strict=True)) for i in q.rows]
    b = [total(v[i] ** 2 * t[i] for v, t in zip(q.v, s, strict=True)) for i in q.rows]
    x = (len(q.rows) - 1) * phi
    below, room = [ci * (1 - psi) - x * bi for ci, bi in zip(c, b, strict=True)], a * (1 - psi) - x
    defined = [Check(0, v, "c (1 - psi) - x b is not positive", True) for v in below]
    defined.append(Check(0, room, "a (1 - psi) - x is not positive", True))
    first = [1 + epsilon * root(ci * (1 - psi)) for ci in c]
    tops = [(f + root(f**2 + 4 * d * delta)) / (2 * d) for f, d in zip(first, below, strict=True)]
    blur = epsilon * root(1 + psi) / -most_of([-u for u in q.u])
    most = most_of([*tops, blur / room])
    chi = [(x * most * (ci - a**2 * bi) + blur * (ci + a * bi)) / a for ci, bi in zip(c, b, strict=True)]
    least = [
        (1 - x * most * bi - epsilon * root((1 + psi) * ci)) / ((1 + psi) * ci) for ci, bi in zip(c, b, strict=True)
    ]
    clearance = [a * (1 - chi_i) / ci for chi_i, ci in zip(chi, c, strict=True)]
    return Uniqueness(chi, most, least, clearance, c, defined)


def claimed(q: Quantities) -> Uniqueness:
    """Theorem LK for the psi, phi, epsilon_1 and delta_1 that the file claims."""
    return uniqueness(q, *(q.claim[name] for name in ("psi", "phi", "epsilon_1", "delta_1")))


def of_gram(q: Quantities) -> Uniqueness:
    """Theorem LK for exact KKT points, from the Gram matrix itself."""
    k = q.gram
    psi = most_of([abs(k[i, i] - 1) for i in q.rows])
    return uniqueness(q, psi, most_of([arb(0), *(abs(k[i, j]) for i in q.rows for j in range(i))]), arb(0), arb(0))


def entries(q: Quantities, what: str) -> tuple[list[Entry], list[Check]]:
    """The sides of the bounds on multipliers ("upper", "lower") and activations ("clearance"), and hypotheses."""
    found, lam = claimed(q), q.d.original.multipliers
    if what == "upper":
        return [(top, found.most) for top in lam], found.hypotheses
    if what == "lower":
        return list(zip(found.least, map(arb, lam), strict=True)), found.hypotheses
    pairs = [(found.clearance[i], q.z[j, i] / q.v[j][i]) for j in range(q.n) for i in q.rows]
    return pairs, found.hypotheses


def pull(q: Quantities) -> Any:
    """Lemma G: the largest lambda_i ||(u_j s_ji)_j||."""
    known, claim = claimed(q), q.claim
    anywhere = q.slope**2 * q.weight
    floor = {True: -most_of([-c for c in known.squares]), False: anywhere, None: arb.nan()}[known.applies]
    a = q.gap(len(q.rows))
    first = 1 / root(floor) + claim["epsilon_1"] * root(1 - claim["psi"])
    return (first + root(first**2 + 4 * a * claim["delta_1"])) / (2 * a)


def largest_square(q: Quantities) -> Any:
    """max_i c_i."""
    return most_of(claimed(q).squares)
