"""Lemma M', Theorem R' and the norm lemma of entries in fractions, for an `exact_fractions.Instance`.

Largest eigenvalues are brackets, the shortest mean of gradients is the best of all their subsets.
"""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any, NamedTuple

from reference.rational import Row, bracket, positive_definite, root, solve

ZERO, ONE = Fraction(0), Fraction(1)
Ends = tuple[Fraction, Fraction, Fraction]


class Lemma(NamedTuple):
    """mu, gamma_i and its bounds where 1 - (m-1) mu is positive."""

    mu: Fraction
    gamma: Row
    lower: Row
    upper: Fraction
    defined: bool


def submatrix(k: list[Row], rows: list[int], columns: list[int]) -> list[Row]:
    return [[k[r][c] for c in columns] for r in rows]


def squared_cosine(k: list[Row], mine: list[int], other: list[int]) -> Fraction:
    """The square of the largest cosine between two spaces: t is above it iff t K_ii - K_ik K_kk^-1 K_ki is definite."""
    across, own = submatrix(k, mine, other), submatrix(k, mine, mine)
    if not any(v for row in across for v in row):
        return ZERO
    solved = [solve(submatrix(k, other, other), row) for row in across]
    inside = [[sum((a * b for a, b in zip(row, column, strict=True)), ZERO) for column in across] for row in solved]
    inside = [[(inside[i][j] + inside[j][i]) / 2 for j in range(len(mine))] for i in range(len(mine))]

    def above(t: Fraction) -> bool:
        pairs = zip(own, inside, strict=True)
        return positive_definite([[t * a - b for a, b in zip(*rows, strict=True)] for rows in pairs])

    return bracket(above, ZERO, ONE + Fraction(1, 2**40))[1]


def shortest_mean(gram: list[Row]) -> Fraction:
    """min over pi of |sum pi_a g_a|^2: of all subsets whose nearest point to 0 is a positive mean of every member."""
    found = []
    for size in range(1, len(gram) + 1):
        for some in itertools.combinations(range(len(gram)), size):
            try:
                y = solve(submatrix(gram, list(some), list(some)), [ONE] * size)
            except StopIteration:  # dependent members: a smaller subset has the same point
                continue
            if min(y) > 0:
                found.append(1 / sum(y))
    return min(found)


def gradients(x: Any) -> list[list[Row]]:
    """g_a as coefficients of rows, with the slopes that z allows where lambda_a is zero."""
    out = []
    for a in range(len(x.point)):
        line = [[ZERO] * len(x.owner) for _ in range(x.n)]
        for j in range(x.n):
            for e in [e for e, owner in enumerate(x.owner) if owner == a]:
                active = x.linear or x.z[j][x.row[e]] > 0
                line[j][e] = x.mu[j][e] / x.lam[a] if x.lam[a] > 0 else ONE if active else x.slope
        out.append(x.q(line))
    return out


def lemma(x: Any) -> Lemma:
    """Lemma M'."""
    points = sorted(set(x.point_of_row))
    rows = [[r for r in range(x.m) if x.point_of_row[r] == i] for i in points]
    mine = [[a for a in range(len(x.point)) if x.point[a] == i] for i in points]
    mu = root(max((squared_cosine(x.k, rows[i], rows[k]) for i in points for k in range(i)), default=ZERO))
    gamma, shortest, means, g = [], [], [], gradients(x)
    for some in mine:
        gram = [[x.inner(g[b], g[c]) for c in some] for b in some]
        lam = [x.lam[b] for b in some]
        gamma.append(root(sum(u * v * w for u, line in zip(lam, gram, strict=True)
                              for v, w in zip(lam, line, strict=True))))  # fmt: skip
        shortest.append(root(min(gram[b][b] for b in range(len(some)))))
        live = [b for b in range(len(some)) if lam[b] > 0]
        means += [shortest_mean(submatrix(gram, live, live))] if live else []
    eps, delta, others = x.claim["epsilon_1"], x.claim["delta_1"], len(points) - 1
    a, b = 1 - others * mu, eps + (1 / root(min(means)) if means else ZERO)
    if a <= 0:
        return Lemma(mu, gamma, [], ZERO, False)
    upper = (b + root(b * b + 4 * a * max(map(len, mine)) * delta)) / (2 * a)
    return Lemma(mu, gamma, [1 / norm - others * mu * upper - eps for norm in shortest], upper, True)


def factor(x: Any, mu: Fraction) -> Fraction | None:
    """kappa, None where it is not defined."""
    kept = len(set(x.point_of_row)) - len(x.forget)
    inner = 1 - (kept - 1) * mu
    return mu * root(kept / inner) if inner > 0 else None


def spaces(x: Any) -> tuple[bool, Any, Any, Any, Any]:
    """(hypotheses hold, epsilon, delta, tau, tau part holds) of Theorem R'."""
    found = lemma(x)
    kappa = factor(x, found.mu)
    if not found.defined or kappa is None:
        return False, None, None, None, None
    rho, square = len(x.forget) * kappa * found.upper, norm_squares(x)[1]
    epsilon, delta, margin = x.claim["epsilon_1"] + rho, x.claim["delta_1"], Fraction(x.document["bound"]["margin"])
    if square == 0 or rho / root(square) + margin >= 1:
        return True, epsilon, delta, None, False
    return True, epsilon, delta, 1 - root(1 - (rho / root(square) + margin) ** 2), True


def norm_squares(x: Any) -> Ends:
    """B_T^2 of the norm lemma, one for each end of the bracket of lambda_max; 0 where no neuron helps a constraint."""
    squares = [ZERO, ZERO, ZERO]
    for group in {x.groups[a] if x.slope == 0 else 0 for a in x.retained}:
        mine = [a for a in x.retained if x.slope != 0 or x.groups[a] == group]
        helping = {a: helped(x, a) for a in mine}
        if min(helping.values()) == 0:
            return ZERO, ZERO, ZERO
        rows = sorted({r for r, a in zip(x.row, x.owner, strict=True) if a in mine})
        least = {i: max(1 / helping[a] for a in mine if x.point[a] == i) for i in {x.point[a] for a in mine}}
        for end, t in enumerate(largest_eigenvalue(submatrix(x.k, rows, rows))):
            squares[end] += sum(least.values()) / t
    return squares[0], squares[1], squares[2]


def helped(x: Any, a: int) -> Fraction:
    """What |z|^2 at the entries of constraint a is divided by: its margin is at most the root of this times |z|."""
    out = ZERO
    for e, owner in enumerate(x.owner):
        for row in x.v if owner == a else []:
            out += max(row[e], abs(x.slope) * -row[e]) ** 2 if x.slope else max(row[e], ZERO) ** 2
    return out


def largest_eigenvalue(k: list[Row]) -> Ends:
    """t > lambda_max iff t I - K is positive definite."""

    def above(t: Fraction) -> bool:
        return positive_definite([[t * (i == j) - v for j, v in enumerate(row)] for i, row in enumerate(k)])

    trace = sum((row[i] for i, row in enumerate(k)), ZERO)
    return bracket(above, max(row[i] for i, row in enumerate(k)), trace)
