"""The limit of orthogonal points with one aligned path a class: layer-wise steps in closed form.

L layers, x = 1 - (share of the forgotten points in the multipliers of their class), p = share of that class in all
multipliers. In coordinates (first layer, each deeper layer, the other class) the step with fraction c on the deeper
layers, f = 1 - c (1 - x), and the retrained network are

    (sqrt(p x), sqrt(p) f, sqrt(L (1 - p)))     and     (sqrt(p) t, sqrt(p) t, sqrt(L (1 - p))),   t = x^(1/2L).

Source: docs/theory, Functions, Fractions in closed form.
"""

from __future__ import annotations

import math

import numpy as np

from gaunlearn_jax.kkt import host


def best_fraction(depth: int, x: float, p: float) -> float:
    """c* = (1 - f*)/(1 - x), the fraction on layers 2 .. L that leaves the least angle to the retrained network.

    ValueError unless depth >= 2, 0 <= x < 1 and 0 < p <= 1.

    >>> best_fraction(2, 0.0, 0.5)
    1.0
    """
    _checked(depth, x, p)
    t = x ** (1 / (2 * depth))
    rest = depth * (1 - p)
    if p == 1:  # cancelled: the quotient is 0/0 at x = 0
        return (1 - math.sqrt(x)) / (1 - x)
    return (1 - t * (p * x + rest) / (p * math.sqrt(x) * t + rest)) / (1 - x)


def gap_left(depth: int, x: float, p: float, fraction: float | None) -> float:
    """1 - cos to the retrained network after the step with this fraction on layers 2 .. L; None: no step at all."""
    _checked(depth, x, p)
    t, rest = x ** (1 / (2 * depth)), math.sqrt(depth * (1 - p))
    f = 1.0 if fraction is None else 1 - fraction * (1 - x)
    beside = math.sqrt(p * (1 - x)) if fraction is None else 0.0  # of the first layer, along the forgotten points
    deeper = math.sqrt(p * (depth - 1))
    step = np.array([math.sqrt(p * x), f * deeper, rest, beside])
    goal = np.array([math.sqrt(p) * t, t * deeper, rest, 0.0])
    if not np.any(step):
        return float("nan")
    return host.one_minus_cos(step, step - goal)


def _checked(depth: int, x: float, p: float) -> None:
    if depth < 2 or not 0 <= x < 1 or not 0 < p <= 1:
        raise ValueError(f"depth {depth}, x = {x}, p = {p}: expected depth >= 2, 0 <= x < 1 and 0 < p <= 1")
