"""What a claim found, as one sentence whose numbers are computed from the lanes of a run.

Unless a sentence says otherwise its numbers are of exact KKT points, of the first size of the forget set, and of the
network with the most neurons and points; "from d" means: in that dimension of the grid and in every larger one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from verify.instances.records import LIMIT, THETAS
from verify.suites.check import Check


class Finding(NamedTuple):
    """A sentence, the one thing that limits it ("" for none), and every number in them by name."""

    text: str
    caveat: str
    numbers: dict[str, float]


class Explanation(NamedTuple):
    """Of a claim: what it assumes, what it means, and what would make it false."""

    hypotheses: str
    meaning: str
    false_if: str


class Shown(float):
    """A number as a sentence shows it: `{x}` to two digits, `{x:d}` a dimension, `{x:%}` a share."""

    def __format__(self, spec: str) -> str:
        value = float(self)
        if math.isnan(value):
            return "unknown"
        if spec == "%":
            text = f"{value:.0%}"
            return {"100%": "over 99%", "0%": "under 1%"}.get(text, text) if 0 < value < 1 else text
        if spec == "d":
            return f"{value:.3g}".replace("e+0", "e").replace("e+", "e")
        text = f"{value:.0f}" if 100 <= abs(value) < 1e4 else f"{value:.2g}"
        return text.replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")


def found(text: str, caveat: str = "", /, **numbers: Any) -> Finding:
    """The sentences with their `{name}` filled in: all their numbers are in `numbers`."""
    plain = {name: float(value) for name, value in numbers.items()}
    shown = {name: Shown(value) for name, value in plain.items()}
    return Finding(text.format(**shown), caveat.format(**shown), plain)


NOTHING = Finding("no instance is computed yet", "", {})


@dataclasses.dataclass(frozen=True)
class View:
    """The lanes of one block as a claim sees them: one theta, the first size of the forget set, by dimension.

    `theta` and `k` count the entries of THETAS and of the sizes."""

    block: Any
    claim: str
    theta: int = LIMIT
    k: int = 0

    @property
    def dims(self) -> list[float]:
        """The dimensions that have lanes, rising."""
        return sorted({float(d) for d in self.block.d})

    @property
    def low(self) -> float:
        return min(self.dims, default=math.nan)

    @property
    def top(self) -> float:
        return max(self.dims, default=math.nan)

    def __contains__(self, name: str) -> bool:
        return name in self.block.results[self.claim]

    def at(self, d: float) -> np.ndarray:
        """The mask of the lanes of a dimension."""
        return np.asarray(self.block.d) == d

    def seen(self, values: Any, axes: int = 0) -> np.ndarray:
        """An array of lanes as this view sees it: theta and size chosen where it has them (`axes` more follow)."""
        array = np.asarray(values)
        return array[:, self.theta, self.k] if array.ndim == 3 + axes else array

    def values(self, name: str, d: float, entry: int | None = None) -> np.ndarray:
        """Finite values of an array in a dimension, of solved lanes; `entry` of its last axis."""
        results = self.block.results[self.claim]
        values = self.seen(results[name], axes=entry is not None)
        values = values if entry is None else values[:, entry]
        good = self.at(d) & np.isfinite(values)
        if "solved" in results:
            good &= self.seen(results["solved"]).astype(bool)
        return np.asarray(values[good], float)

    def median(self, name: str, d: float, entry: int | None = None) -> float:
        return middle(self.values(name, d, entry))

    def mean(self, name: str, d: float, entry: int | None = None) -> float:
        values = self.values(name, d, entry)
        return float(np.mean(values)) if values.size else math.nan

    def check(self, name: str) -> Check:
        """A comparison of the claim as this view sees it."""
        fields: Any = (self.seen(field) for field in self.block.results[self.claim][name])
        return Check(*fields)

    def judged(self, name: str, d: float) -> np.ndarray:
        """The lanes of a dimension on which the bound applies and everything is solved."""
        one = self.check(name)
        return self.at(d) & (one.reason == 0) & one.converged.astype(bool)

    def telling(self, name: str) -> dict[float, float]:
        """{d: share of lanes on which the bound applies and discriminates}."""
        one = self.check(name)
        return {d: float(np.sum(one.discriminating[self.judged(name, d)] == 1) / np.sum(self.at(d))) for d in self.dims}

    def room(self, name: str, d: float) -> float:
        """The median of bound over measured where the bound applies."""
        one, here = self.check(name), self.judged(name, d)
        here = here & (one.lhs > 0)
        return middle(one.rhs[here] / one.lhs[here])


def view(blocks: Iterable[Any], claim: str, theta: str = "limit") -> View:
    """The lanes of the block with the most neurons and points, of the first source."""
    some = list(blocks)
    same = [block for block in some if block.shape.source == some[0].shape.source]
    return View(max(same, key=lambda block: (block.shape.n, block.shape.m)), claim, THETAS.index(theta))


def middle(values: Any) -> float:
    """The median, NaN of nothing."""
    return float(np.median(values)) if np.size(values) else math.nan


def from_dimension(shares: dict[float, float], least: float = 0.5) -> float:
    """The smallest dimension from which on all shares reach `least`; NaN if the largest dimension's does not."""
    first = math.nan
    for d in sorted(shares, reverse=True):
        if not shares[d] >= least:
            break
        first = d
    return first


def of_success(claim: str, **names: str) -> Callable[[list[Any], Any], Finding]:
    """A `find` for claims of success: from where the bounds of each strength tell the step from doing nothing, and how
    loose they are. `names` maps strengths to "certificate/strength"; "sharp" is one of them."""

    def find(blocks: list[Any], grid: Any) -> Finding:
        seen = view(blocks, claim)
        if not seen.dims:
            return NOTHING
        there = {strength: name for strength, name in names.items() if f"{name}/tau" in seen}
        first = {strength: from_dimension(seen.telling(f"{name}/tau")) for strength, name in there.items()}
        numbers = {"top": seen.top} | {f"from_{strength}": d for strength, d in first.items()}
        text = "excludes doing nothing " + ", ".join(_grouped(first))
        rooms = {s: seen.room(f"{there[s]}/epsilon", seen.top) for s in ("sharp", "coarse") if s in there}
        numbers |= {f"room_{s}": room for s, room in rooms.items()}
        known = [f"{s} {{room_{s}}}" for s, room in rooms.items() if room == room]
        text += f"; epsilon's bound is {', '.join(known)} times the measured ({{top:d}})" if known else ""
        return found(text, _larger_sets(seen, there.get("coarse"), grid, numbers), **numbers)

    return find


def _grouped(first: dict[str, float]) -> list[str]:
    """ "{from_sharp:d} (sharp, scale-free)": strengths of one dimension together."""
    parts = []
    for d in dict.fromkeys(str(d) for d in first.values()):
        same = [strength for strength in first if str(first[strength]) == d]
        words = ", ".join(strength.replace("_", "-") for strength in same)
        where = "nowhere" if d == "nan" else f"{{from_{same[0]}:d}}"
        parts.append(f"{where} ({words})")
    at = next((i for i, part in enumerate(parts) if part.startswith("{")), None)
    if at is not None:
        parts[at] = f"from d = {parts[at]}"
    return parts


def _larger_sets(seen: View, name: str | None, grid: Any, numbers: dict[str, float]) -> str:
    """What changes for the largest forget set."""
    if name is None or len(grid.forget) < 2:
        return ""
    last = dataclasses.replace(seen, k=len(grid.forget) - 1)
    numbers["k"] = grid.forget[-1]
    numbers["from_coarse_k"] = first = from_dimension(last.telling(f"{name}/tau"))
    if first == numbers["from_coarse"]:
        return ""
    return "the coarse one for k = {k:d} only " + ("from {from_coarse_k:d}" if first == first else "beyond")
