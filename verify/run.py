"""Run suites over a grid: lanes in, tallied rows out."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from verify import memory, records
from verify.check import Check, tally
from verify.grid import Grid
from verify.lanes import Block, Place, Plan, Recorder, compute, plan, slug
from verify.records import THETAS
from verify.suite import Suite

#: float64 columns of a lane beside its results: seed, d, signal, key
LANE_COLUMNS = 4
NOWHERE = Place()


def prepare(suites: tuple[Suite, ...], grid: Grid, place: Place, recorder: Recorder = records.recorder) -> list[Plan]:
    """Trace every shape; `recorder` makes the function that draws, trains and solves one instance.

    ValueError with an estimate if the lanes or their results cannot fit into memory: nothing is computed then."""
    shapes = grid.shapes(suites)
    for shape in sorted(shapes, key=grid.bytes_per_lane, reverse=True):  # what never fits is not even traced
        memory.chunk(slug(shape), grid.lanes(shape), grid.bytes_per_lane(shape), place.chunk)
        memory.require_results(grid.lanes(shape), LANE_COLUMNS)
    plans = [plan(shape, members, grid, place, recorder) for shape, members in shapes.items()]
    memory.require_results(sum(p.total for p in plans), LANE_COLUMNS + max(len(p.names) for p in plans))
    return plans


def run_blocks(
    suites: tuple[Suite, ...], grid: Grid, place: Place = NOWHERE, recorder: Recorder = records.recorder
) -> list[Block]:
    """Compute every lane of every shape; errors are those of `prepare`."""
    return [compute(p, grid, place) for p in prepare(suites, grid, place, recorder)]


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
    for d, signal in grid.cells(block.shape.source):
        here = (block.d == d) & (block.signal == signal)
        arrays = {n: np.asarray(v)[here] for n, v in block.results[suite.name].items() if not isinstance(v, Check)}
        for name, result in suite.per_cell(block.shape, d, signal, arrays).items():
            row = _row(block, suite, name, None, None, d, signal)
            seeds = np.full(np.size(result.lhs), grid.seed_start)
            # a statement about all lanes of the cell: no single one is the worst
            out.append(row | tally(jax.tree.map(np.atleast_1d, result), seeds) | {"worst_seed": None})
    return out


def _rows_of(block: Block, suite: Suite, grid: Grid, name: str, result: Check) -> list[dict[str, Any]]:
    out = []
    for d, signal in grid.cells(block.shape.source):
        here = (block.d == d) & (block.signal == signal)
        for theta, k, values in _evaluations(suite, grid, result):
            row = _row(block, suite, name, theta, k, d, signal)
            out.append(row | tally(jax.tree.map(lambda v, here=here: v[here], values), block.seed[here]))
    return out


def _row(
    block: Block, suite: Suite, name: str, theta: str | None, k: int | None, d: float, signal: float
) -> dict[str, Any]:
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
        "grid": {"m": shape.m, "n": shape.n, "k": k, "d": d, "signal": signal, "loss": shape.loss},
    }


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
