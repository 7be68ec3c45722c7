"""Run suites over a grid: lanes in, tallied rows out."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from gaunlearn_jax.base.codes import Reason, Verdict
from verify.instances.grid import Grid
from verify.instances.records import THETAS, Cell
from verify.run.columns import Block
from verify.suites.check import Check, ratio
from verify.suites.suite import Suite


def rows(blocks: list[Block], suites: tuple[Suite, ...], grid: Grid) -> list[dict[str, Any]]:
    """One tallied row per claim, model, theta, certificate, strength, quantity and cell."""
    out = []
    for block in blocks:
        for suite in suites:
            for name, result in block.results.get(suite.name, {}).items():
                if isinstance(result, Check):
                    out += _rows_of(block, suite, grid, name, result)
            if suite.per_cell is not None and suite.name in block.results:
                out += _cell_rows(block, suite, grid)
    return out


def _cell_rows(block: Block, suite: Suite, grid: Grid) -> list[dict[str, Any]]:
    """Rows of statements about a whole cell: made on the host from the plain arrays of its lanes."""
    out = []
    assert suite.per_cell is not None
    for cell in grid.cells(block.shape.source):
        here = block.at(cell)
        arrays = {n: np.asarray(v)[here] for n, v in block.results[suite.name].items() if not isinstance(v, Check)}
        for name, result in suite.per_cell(block.shape, cell, arrays).items():
            row = _row(block, suite, name, None, None, cell)
            seeds = np.full(np.size(result.lhs), grid.seed_start)
            # a statement about all lanes of the cell: no single one is the worst
            out.append(row | tally(jax.tree.map(np.atleast_1d, result), seeds) | {"worst_seed": None})
    return out


def _rows_of(block: Block, suite: Suite, grid: Grid, name: str, result: Check) -> list[dict[str, Any]]:
    out = []
    for cell in grid.cells(block.shape.source):
        here = block.at(cell)
        for theta, k, values in _evaluations(suite, grid, result):
            row = _row(block, suite, name, theta, k, cell)
            out.append(row | tally(jax.tree.map(lambda v, here=here: v[here], values), block.seed[here]))
    return out


def _row(block: Block, suite: Suite, name: str, theta: str | None, k: int | None, cell: Cell) -> dict[str, Any]:
    certificate, strength, quantity = name.split("/")
    if theta is None and certificate in THETAS:
        theta, certificate = certificate, ""
    shape = block.shape
    return {
        "claim": suite.name,
        "model": shape.model,
        "theta": theta,
        "certificate": certificate,
        "strength": strength,
        "quantity": quantity,
        "grid": {
            "m": shape.m, "n": shape.n, "k": k, "d": cell.d, "signal": 0.0, **dict(cell.parameters),
            "loss": shape.loss, "source": shape.source,
        },
    }  # fmt: skip


def _evaluations(suite: Suite, grid: Grid, result: Check) -> list[tuple[str | None, int | None, Check]]:
    if suite.evaluate is None:
        return [(None, None, result)]
    return [
        (theta, k, jax.tree.map(lambda v, t=t, j=j: v[:, t, j], result))
        for t, theta in enumerate(THETAS)
        if theta in suite.thetas
        for j, k in enumerate(grid.forget)
    ]


COUNTS = ("holds", "violated", "inconclusive", "not_applicable", "unconverged")


def claim_totals(all_rows: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Counts per verdict of each claim over all its rows."""
    totals: dict[str, dict[str, int]] = {}
    for row in all_rows:
        mine = totals.setdefault(row["claim"], dict.fromkeys(COUNTS, 0))
        for name in COUNTS:
            mine[name] += row[name]
    return totals


def exit_code(all_rows: list[dict[str, Any]], suites: tuple[Suite, ...]) -> int:
    """1 a violation; 3 a claim without any applicable lane, or more than 1 % of its lanes undecided; 0 otherwise."""
    totals = claim_totals(all_rows)
    if any(t["violated"] for t in totals.values()):
        return 1
    for suite in suites:
        t = totals.get(suite.name, dict.fromkeys(COUNTS, 0))
        undecided = t["inconclusive"] + t["unconverged"]
        if t["holds"] == 0 or undecided > 0.01 * sum(t.values()):
            return 3
    return 0


VERDICTS = {0: "pass", 1: "fail", 3: "empty"}


def tally(values: Check, seeds: np.ndarray) -> dict[str, Any]:
    """Counts per verdict over lanes, the failing hypotheses, the share discriminating, the worst ratio with its seed
    and sides, and the least ratio (near 1: both sides are always equal)."""
    arrays = Check(*np.broadcast_arrays(*values))  # type: ignore[arg-type]
    verdict = np.asarray(arrays.verdict())
    judged = np.isin(verdict, [Verdict.HOLDS, Verdict.VIOLATED, Verdict.INCONCLUSIVE])
    row: dict[str, Any] = {v.name.lower(): int(np.sum(verdict == v)) for v in Verdict}
    row["reasons"] = {
        Reason(code).text: int(np.sum((verdict == Verdict.NOT_APPLICABLE) & (arrays.reason == code)))
        for code in np.unique(arrays.reason[verdict == Verdict.NOT_APPLICABLE])
    }
    meaningful = judged & np.isfinite(arrays.discriminating)
    row["discriminating"] = float(np.mean(arrays.discriminating[meaningful])) if meaningful.any() else None
    row |= dict.fromkeys(("worst_ratio", "worst_seed", "worst_lhs", "worst_rhs", "least_ratio"))
    if judged.any():
        ratios = np.where(judged, ratio(arrays.lhs, arrays.rhs), -np.inf)
        bad = verdict == Verdict.VIOLATED
        at = int(np.argmax(np.where(bad, ratios, -np.inf) if bad.any() else ratios))
        row |= {"worst_ratio": float(ratios[at]), "worst_seed": int(seeds[at])}
        row |= {"worst_lhs": float(arrays.lhs[at]), "worst_rhs": float(arrays.rhs[at])}
        row["least_ratio"] = float(np.min(ratios[judged]))
    return row
