"""The ladder of one claim of success: doing nothing, the bounds from the loosest to the sharpest, and what is measured.

Everything is a median of the cosine gap tau over exact KKT points, first size of the forget set, by dimension.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from verify.suites.finding import View, middle, view

#: claims that have a ladder, the most telling first, and the comparisons of its rungs
CLAIMS = {
    "relu": {"coarse": "projection/coarse", "sharp": "projection/sharp", "instance": "projection/instance"},
    "linear": {"sharp": "projection/sharp", "instance": "projection/instance"},
}
RUNGS = ("nothing", "coarse", "sharp", "instance", "measured")


def ladder(blocks: list[Any]) -> dict[str, Any] | None:
    """{claim, model, m, n, k, dims, rungs: {rung: a value or None by dimension}} of the first claim that has one."""
    for claim, names in CLAIMS.items():
        mine = [block for block in blocks if claim in block.results and len(block.d)]
        there = {rung: name for rung, name in names.items() if all(f"{name}/tau" in b.results[claim] for b in mine)}
        if not mine or "instance" not in there:
            continue
        seen = view(mine, claim)
        rungs = {rung: [_bound(seen, name, d) for d in seen.dims] for rung, name in there.items()}
        rungs["measured"] = [middle(_of(seen, there["instance"], d).lhs) for d in seen.dims]
        if "identity" in seen.block.results:
            nothing = View(seen.block, "identity")
            rungs["nothing"] = [nothing.median("identity_gap", d) for d in nothing.dims]
        shape = seen.block.shape
        known = {r: [v if math.isfinite(v) else None for v in rungs[r]] for r in RUNGS if r in rungs}
        return {"claim": claim, "model": shape.model, "m": shape.m, "n": shape.n, "dims": seen.dims, "rungs": known}
    return None


def _of(seen: View, name: str, d: float) -> Any:
    """The comparison of tau on the lanes of a dimension that were judged."""
    one, here = seen.check(f"{name}/tau"), seen.judged(f"{name}/tau", d)
    return type(one)(*(np.asarray(field)[here] for field in one))


def _bound(seen: View, name: str, d: float) -> float:
    """The median bound, where it applies to half of the lanes or more."""
    one = _of(seen, name, d)
    return middle(one.rhs) if 2 * len(one.rhs) >= np.sum(seen.at(d)) else math.nan
