"""Arithmetic of fractions: linear systems, definiteness, and square roots and eigenvalues to a stated precision."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import isqrt
from typing import Any

BITS = 500
Row = list[Fraction]


def root(x: Fraction) -> Fraction:
    return Fraction(isqrt(int(x * 4**BITS)), 2**BITS)


def solve(matrix: list[Row], right: Row) -> Row:
    """Gauss-Jordan elimination with the first pivot that is not zero."""
    rows = [[*row, b] for row, b in zip(matrix, right, strict=True)]
    size = len(rows)
    for k in range(size):
        pivot = next(i for i in range(k, size) if rows[i][k] != 0)
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [v / rows[k][k] for v in rows[k]]
        for i in range(size):
            if i != k and rows[i][k] != 0:
                rows[i] = [a - rows[i][k] * b for a, b in zip(rows[i], rows[k], strict=True)]
    return [row[-1] for row in rows]


def positive_definite(matrix: list[Row]) -> bool:
    rows = [list(row) for row in matrix]
    size = len(rows)
    if any(rows[i][j] != rows[j][i] for i in range(size) for j in range(size)):
        return False
    for k in range(size):
        if rows[k][k] <= 0:
            return False
        for i in range(k + 1, size):
            ratio = rows[i][k] / rows[k][k]
            rows[i] = [a - ratio * b for a, b in zip(rows[i], rows[k], strict=True)]
    return True


def fractions(value: Any) -> Any:
    return [fractions(v) for v in value] if isinstance(value, list) else Fraction(value)


def bracket(above: Callable[[Fraction], bool], low: Fraction, high: Fraction) -> tuple[Fraction, Fraction, Fraction]:
    """Upper end, middle, lower end of a 2^-100 bracket of a positive number, given whether t is above it."""
    while high - low > low / 2**100:
        t = (low + high) / 2
        low, high = (low, t) if above(t) else (t, high)
    return high, (low + high) / 2, low
