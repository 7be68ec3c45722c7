"""Linear audits of a few integer points, exactly: every support is tried, in fractions.

Hard margin and nonnegative least squares are both the projection of a point onto a polyhedral cone or set, and each is
decided by some linearly independent support. Nothing is iterated, and no code is shared with the library.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from typing import NamedTuple

Row = list[Fraction]


def dot(a: Row, b: Row) -> Fraction:
    return sum((p * q for p, q in zip(a, b, strict=True)), Fraction(0))


def combined(weights: Row, rows: list[Row], dim: int) -> Row:
    return [sum((w * row[j] for w, row in zip(weights, rows, strict=True)), Fraction(0)) for j in range(dim)]


def solved(matrix: list[Row], right: Row) -> Row | None:
    """Gauss-Jordan; None where the matrix is singular."""
    rows = [[*row, b] for row, b in zip(matrix, right, strict=True)]
    for k in range(len(rows)):
        pivot = next((i for i in range(k, len(rows)) if rows[i][k] != 0), None)
        if pivot is None:
            return None
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [v / rows[k][k] for v in rows[k]]
        for i in range(len(rows)):
            if i != k and rows[i][k] != 0:
                rows[i] = [a - rows[i][k] * b for a, b in zip(rows[i], rows[k], strict=True)]
    return [row[-1] for row in rows]


class Answer(NamedTuple):
    """w (hard margin) or the residual (least squares), and the multipliers [m] of the support that was found."""

    vector: Row
    multipliers: Row


def supports(rows: list[Row], kept: list[int]):
    """Independent supports of the kept rows, small ones first, with their Gram matrices."""
    dim = len(rows[0])
    for size in range(min(len(kept), dim) + 1):
        for chosen in combinations(kept, size):
            yield chosen, [[dot(rows[i], rows[k]) for k in chosen] for i in chosen]


def spread(weights: Row, chosen: tuple[int, ...], count: int) -> Row:
    out = [Fraction(0)] * count
    for i, v in zip(chosen, weights, strict=True):
        out[i] = v
    return out


def hard_margin(rows: list[Row], kept: list[int]) -> Answer | None:
    """min ||w||^2 with <w, row_i> >= 1 on the kept rows y_i x_i; None where no support is feasible."""
    for chosen, gram in supports(rows, kept):
        lam = solved(gram, [Fraction(1)] * len(chosen))
        if lam is None or any(v < 0 for v in lam):
            continue
        w = combined(lam, [rows[i] for i in chosen], len(rows[0]))
        if all(dot(w, rows[i]) >= 1 for i in kept):
            return Answer(w, spread(lam, chosen, len(rows)))
    return None


def least_squares(rows: list[Row], kept: list[int], theta: Row) -> Answer:
    """min ||theta - sum_i v_i row_i||^2 with v >= 0 on the kept rows."""
    for chosen, gram in supports(rows, kept):
        v = solved(gram, [dot(rows[i], theta) for i in chosen])
        if v is None or any(x < 0 for x in v):
            continue
        made = combined(v, [rows[i] for i in chosen], len(theta))
        rest = [a - b for a, b in zip(theta, made, strict=True)]
        if all(dot(rest, rows[i]) <= 0 for i in kept):
            return Answer(rest, spread(v, chosen, len(rows)))
    raise AssertionError("a projection onto a cone always exists")


def inside(vector: Row, rows: list[Row]) -> Row:
    """The part of the vector in the span of the rows, by Gram-Schmidt without normalisation."""
    basis: list[Row] = []
    for row in rows:
        rest = row
        for b in basis:
            rest = [p - dot(row, b) / dot(b, b) * q for p, q in zip(rest, b, strict=True)]
        if any(rest):
            basis.append(rest)
    return combined([dot(vector, b) / dot(b, b) for b in basis], basis, len(vector))


def unique_on_margin(rows: list[Row], w: Row) -> bool:
    """Whether the rows on the margin of w are linearly independent, so that the multipliers are unique."""
    near = [row for row in rows if dot(w, row) == 1]
    return all(any(inside_of != row for inside_of in [inside(row, near[:k])]) for k, row in enumerate(near))
