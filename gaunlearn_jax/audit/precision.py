"""Where float64 ends: answers that miss their own conditions, and failures that only rounding caused, are refused with
the condition number named. Source: docs/theory, Numerics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

#: an exact solution that misses its conditions by more, in units of its norm and of the margin, is none
INEXACT = 1e-6


def exponent(values: Any) -> int:
    """The power of two that the largest size among the values lies just below; 0 where all are 0."""
    return int(np.frexp(np.max(np.abs(values), initial=0.0))[1])


def length(values: Any) -> float:
    """The Euclidean norm, of numbers of any size."""
    power = exponent(values)
    return float(np.ldexp(np.linalg.norm(np.ldexp(values, -power)), power))


def condition(x: Matrix) -> float:
    """The condition number of the points at unit norm."""
    return float(np.linalg.cond(x / np.linalg.norm(x, axis=1)[:, None]))


def require_exact(x: Matrix, stationarity: float, shortfall: float) -> None:
    """ValueError where a maximum-margin solution of points x [m, p] misses its KKT conditions: ||w - sum_i lambda_i y_i
    x_i|| / ||w||, and how far the smallest margin is below 1."""
    if max(stationarity, shortfall) <= INEXACT:  # NaN fails
        return
    raise ValueError(
        f"the maximum-margin solution is beyond float64: the best answer misses its own conditions by "
        f"{max(stationarity, shortfall):.1e}, as the points at unit norm have condition number {condition(x):.1e}; "
        "drop nearly dependent points or features"
    )


def not_separable(x: Matrix, again: Callable[[Matrix], Any], error: ValueError) -> NoReturn:
    """Raise the error, unless the columns of x [m, d] in units of their own sizes are separable, which their sizes do
    not change: then only rounding said otherwise."""
    sizes = np.max(np.abs(x), axis=0)
    used = sizes > 0
    try:
        again(x[:, used] / sizes[used])
    except ValueError:
        raise error from None
    raise ValueError(
        f"the classes are separable, but not in float64: features have sizes from {np.min(sizes[used]):.1e} to "
        f"{np.max(sizes):.1e}, and the points at unit norm condition number {condition(x):.1e}; measure the features "
        "in comparable units"
    ) from None
