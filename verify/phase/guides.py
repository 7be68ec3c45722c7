"""Closed forms drawn dashed on a phase diagram: where the leverage of a forgotten point is one half.

Guides, not theorems: the boundary itself depends on labels. Source: docs/theory, Leverage in closed form.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from gaunlearn_jax.base.registry import parse
from gaunlearn_jax.data.registry import DISTRIBUTIONS
from verify.phase.plane import Plane

#: m/d at which, for Gaussian points with random labels, the step begins to lose: a conjecture, measured
GAUSSIAN = 0.6254


class Guide(NamedTuple):
    """A line at one value of an axis, and what it is."""

    axis: str
    value: float
    text: str


def equicorrelated(retained: int) -> float:
    """The c at which c^2 M / (1 - c + c M) is one half.

    >>> round(equicorrelated(9), 4)
    0.5462
    """
    m = retained
    return ((m - 1) + math.sqrt((m - 1) ** 2 + 8 * m)) / (4 * m)


def duplicates(copies: int) -> float:
    """The c at which c^2 q / (1 - c + c q) is one half: the same form with q in place of M.

    >>> round(duplicates(1), 4)
    0.7071
    """
    return equicorrelated(copies)


def guides(plane: Plane) -> list[Guide]:
    """The lines that closed forms give for the axes of a plane."""
    name, asked = parse(plane.source, "source")
    parameters = {p.name: p.default for p in DISTRIBUTIONS[name].parameters} | {k: v[0] for k, v in asked.items()}
    axes = (plane.x.name, plane.y.name)
    fixed = {"m", "k"}.isdisjoint(axes)
    found = []
    if "c" in axes and name == "equicorrelated" and fixed:
        found.append(Guide("c", equicorrelated(plane.points - plane.forget), "leverage 1/2 of equicorrelated points"))
    if "c" in axes and name == "near_duplicates" and "copies" not in axes and parameters["copies"] >= 1:
        found.append(Guide("c", duplicates(int(parameters["copies"])), "leverage 1/2 of duplicates"))
    if "rho" in axes and name == "ar1":
        found.append(Guide("rho", 3**-0.5, "leverage 1/2 of an interior point"))
        found.append(Guide("rho", 0.5**0.5, "leverage 1/2 of an end"))
    if "common" in axes and name == "shifted":
        found.append(Guide("common", 0.5, "leverage 1/2 of a common mean, no other correlation"))
    if "d" in axes and name == "gaussian" and plane.model == "linear" and fixed:
        found.append(Guide("d", plane.points / GAUSSIAN, "m/d = 0.625, where the step begins to lose"))
    return [guide for guide in found if _inside(plane, guide)]


def _inside(plane: Plane, guide: Guide) -> bool:
    axis = plane.x if plane.x.name == guide.axis else plane.y
    return axis.values[0] <= guide.value <= axis.values[-1]
