"""Strictly convex quadratic programmes with published optimal values, typed in from their published formulas.

    minimise 1/2 x^T H x + c^T x + constant   subject to   A x >= b

Sources: docs/known_answers.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


class Problem(NamedTuple):
    """A programme, its published value, to how many digits that is printed (as an absolute error), and its solution
    where one is published."""

    hessian: Array
    linear: Array
    constant: float
    rows: Array
    least: Array
    value: float
    within: float
    solution: tuple[float, ...] | None = None


class LeastNorm(NamedTuple):
    """minimise 1/2 |w|^2 subject to N w >= beta: the same programme in w = L^T x + L^-1 c, H = L L^T."""

    rows: Array
    least: Array
    factor: Array
    shift: Array
    offset: float

    def back(self, w: Array) -> Array:
        """x of w."""
        return np.linalg.solve(self.factor.T, w - self.shift)

    def value(self, w: Array) -> float:
        """The objective of the programme at w."""
        return float(w @ w) / 2 + self.offset


def least_norm(p: Problem) -> LeastNorm:
    factor = np.linalg.cholesky(p.hessian)
    shift = np.linalg.solve(factor, p.linear)
    rows = np.linalg.solve(factor, p.rows.T).T
    return LeastNorm(rows, p.least + rows @ shift, factor, shift, p.constant - float(shift @ shift) / 2)


def boxed(low: Any, high: Any) -> tuple[Array, Array]:
    """(A, b) of low <= x <= high; infinite bounds are left out."""
    low, high = np.asarray(low), np.asarray(high)
    one = np.eye(len(low))
    rows, least = np.concatenate([one, -one]), np.concatenate([low, -high])
    return rows[np.isfinite(least)], least[np.isfinite(least)]


def stacked(*parts: tuple[Any, Any]) -> tuple[Array, Array]:
    return np.concatenate([np.atleast_2d(a) for a, _ in parts]), np.concatenate([np.atleast_1d(b) for _, b in parts])


INF = np.inf


def hs21() -> Problem:
    rows, least = stacked(([10.0, -1.0], 10.0), boxed([2.0, -50.0], [50.0, 50.0]))
    return Problem(np.diag([0.02, 2.0]), np.zeros(2), -100.0, rows, least, -99.96, 5e-15, (2.0, 0.0))


def hs35() -> Problem:
    hessian = np.array([[4.0, 2.0, 2.0], [2.0, 4.0, 0.0], [2.0, 0.0, 2.0]])
    rows, least = stacked(([-1.0, -1.0, -2.0], -3.0), boxed([0.0] * 3, [INF] * 3))
    return Problem(hessian, np.array([-8.0, -6.0, -4.0]), 9.0, rows, least, 1 / 9, 0.0, (4 / 3, 7 / 9, 4 / 9))


def hs76() -> Problem:
    hessian = np.diag([2.0, 1.0, 2.0, 1.0])
    hessian[0, 2] = hessian[2, 0] = -1.0
    hessian[2, 3] = hessian[3, 2] = 1.0
    general = ([[-1.0, -2, -1, -1], [-3.0, -1, -2, 1], [0.0, 1, 4, 0]], [-5.0, -4.0, 1.5])
    rows, least = stacked(general, boxed([0.0] * 4, [INF] * 4))
    solution = (3 / 11, 23 / 11, 0.0, 6 / 11)
    return Problem(hessian, np.array([-1.0, -3.0, 1.0, -1.0]), 0.0, rows, least, -103 / 22, 0.0, solution)


def hs118() -> Problem:
    """Fifteen loads in five periods of three: ramps between periods, a demand for each period."""
    one, ramps, limits = np.eye(15), [], []
    for i, step in zip(range(3, 15), (13.0, 14.0, 13.0) * 4, strict=True):
        ramps += [one[i] - one[i - 3], one[i - 3] - one[i]]
        limits += [-7.0, 7.0 - step]
    demand = np.kron(np.eye(5), np.ones(3))
    low = [8.0, 43.0, 3.0] + [0.0] * 12
    high = [21.0, 57.0, 16.0] + [90.0, 120.0, 60.0] * 4
    rows, least = stacked((ramps, limits), (demand, [60.0, 50.0, 70.0, 85.0, 100.0]), boxed(low, high))
    hessian = np.diag([2e-4, 2e-4, 3e-4] * 5)
    return Problem(hessian, np.array([2.3, 1.7, 2.2] * 5), 0.0, rows, least, 664.82045, 5e-6)


def hs268() -> Problem:
    """|D x - d|^2, whose least value is 0 at a point of the interior."""
    d = np.array(
        [[-74, 80, 18, -11, -4], [14, -69, 21, 28, 0], [66, -72, -5, 7, 1],
         [-12, 66, -30, -23, 3], [3, 8, -7, -4, 1], [4, -12, 4, 4, 0]], float,
    )  # fmt: skip
    goal = np.array([51.0, -61.0, -56.0, 69.0, 10.0, -12.0])
    rows = np.array(
        [[-1, -1, -1, -1, -1], [10, 10, -3, 5, 4], [-8, 1, -2, -5, 3], [8, -1, 2, 5, -3], [-4, -2, 3, -5, 1]], float
    )
    least = np.array([-5.0, 20.0, -40.0, 11.0, -30.0])
    solution = (1.0, 2.0, -1.0, 3.0, -4.0)
    return Problem(2 * d.T @ d, -2 * d.T @ goal, float(goal @ goal), rows, least, 0.0, 0.0, solution)


def membrane(points: int, force: float) -> tuple[Array, Array]:
    """(H, c) of a membrane over a square grid of `points` by `points` that is 0 on the edge: each interior point adds a
    quarter of the square of each of its four differences, minus force h^2 times its height, h the spacing."""
    side = points - 2
    hessian = np.zeros((side * side, side * side))
    for i in range(side):
        for j in range(side):
            here = i * side + j
            for a, b in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
                hessian[here, here] += 0.5
                if 0 <= a < side and 0 <= b < side:
                    there = a * side + b
                    hessian[there, there] += 0.5
                    hessian[here, there] -= 0.5
                    hessian[there, here] -= 0.5
    return hessian, np.full(side * side, -force / (points - 1) ** 2)


def torsion(q: int, force: float, value: float, within: float) -> Problem:
    """TORSION: a bar of square section; |v| is at most the distance from the edge."""
    p = 2 * q
    h = 1.0 / (p - 1)
    hessian, linear = membrane(p, force)
    steps = np.minimum(np.arange(1, p - 1), p - 1 - np.arange(1, p - 1))
    high = h * np.minimum.outer(steps, steps).ravel()
    return Problem(hessian, linear, 0.0, *boxed(-high, high), value, within)


def obstacle(p: int, both: bool, value: float, within: float) -> Problem:
    """OBSTCLA (a membrane above sin(3.2 s) sin(3.3 t), at most 2000) and OBSTCLB (between the cube of sin(9.2 s)
    sin(9.3 t) and its square + 0.02)."""
    h = 1.0 / (p - 1)
    at = h * np.arange(1, p - 1)
    hessian, linear = membrane(p, 1.0)
    if both:
        bump = np.outer(np.sin(9.2 * at), np.sin(9.3 * at)).ravel()
        low, high = bump**3, bump**2 + 0.02
    else:
        low = np.outer(np.sin(3.2 * at), np.sin(3.3 * at)).ravel()
        high = np.full(low.size, 2000.0)
    return Problem(hessian, linear, 0.0, *boxed(low, high), value, within)


#: up to 64 constraints, and boxes of 64 unknowns
SMALL = {
    "HS21": hs21(),
    "HS35": hs35(),
    "HS76": hs76(),
    "HS118": hs118(),
    "HS268": hs268(),
    "TORSION1 (Q=2)": torsion(2, 5.0, -0.51851852, 5e-9),
    "TORSION3 (Q=2)": torsion(2, 10.0, -1.2592592567, 5e-9),
    "TORSION5 (Q=2)": torsion(2, 20.0, -2.7407407353, 1e-8),
    "OBSTCLA (4x4)": obstacle(4, False, 0.753659754, 1e-9),
    "OBSTCLB (4x4)": obstacle(4, True, -0.0081108, 5e-8),
}
LARGE = {
    "TORSION1 (Q=5)": torsion(5, 5.0, -0.49234185, 5e-9),
    "TORSION3 (Q=5)": torsion(5, 10.0, -1.2705380252, 5e-9),
    "TORSION5 (Q=5)": torsion(5, 20.0, -2.8971193358, 1e-8),
    "OBSTCLA (10x10)": obstacle(10, False, 1.397897560, 1e-9),
    "OBSTCLB (10x10)": obstacle(10, True, 2.87503823, 5e-9),
}
ALL = SMALL | LARGE
