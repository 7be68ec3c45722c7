"""Lanes for the tests of suites: instances are drawn, trained and solved once, then seen by suites, mutated or not.

`blocks_of` runs a suite as `verify.run.run_blocks` does, on stored records: only the suite itself is compiled, and a
mutation is a function of the record of one lane.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest import mock

import jax
import numpy as np

from gaunlearn_jax import sweep
from verify import records
from verify.check import Check
from verify.grid import Grid
from verify.lanes import Block
from verify.records import Record, Shape
from verify.run import rows
from verify.suite import Evaluation, Suite, lane

GRID = Grid(dims=(1e4, 1e8), points=(6,), neurons=(16,), seeds=12)


@functools.lru_cache(maxsize=8)
def recorded(shape: Shape, grid: Grid) -> tuple[dict[str, np.ndarray], Record]:
    """The lane arguments of a shape and the records of all its lanes."""
    lanes = records.lane_arguments(shape, grid.cells(shape.source), grid.seed_range())
    return lanes, sweep.batched(records.recorder(shape), lanes["key"], lanes["d"], lanes["signal"])


def blocks_of(suite: Suite, grid: Grid = GRID, mutate: Callable[[Record], Record] = lambda r: r) -> list[Block]:
    """The suite's results on the (mutated) records of every shape."""
    blocks = []
    for shape in grid.shapes((suite,)):
        lanes, batch = recorded(shape, grid)
        # a new function each time: whatever was monkeypatched since is traced afresh
        fn = lane(shape, (suite,), grid.forget, lambda record, _d, _s: mutate(record))
        results = sweep.batched(fn, batch, lanes["d"], lanes["signal"])
        blocks.append(Block(shape, lanes["seed"], lanes["d"], lanes["signal"], results))
    return blocks


def tallies(suite: Suite, blocks: list[Block], grid: Grid = GRID) -> list[dict[str, Any]]:
    return rows(blocks, (suite,), grid)


def mutants_of(suite: Suite, e: Evaluation, module: ModuleType, mutants: dict[str, dict[str, Any]]) -> dict[str, Check]:
    """The suite's Checks with names of its module replaced, for each mutant; called MUTANT:certificate/..."""
    out: dict[str, Check] = {}
    assert suite.evaluate is not None
    for name, changes in mutants.items():
        with mock.patch.multiple(module, **changes) if changes else contextlib.nullcontext():
            out |= {f"{name}:{key}": v for key, v in suite.evaluate(e).items() if isinstance(v, Check)}
    return out


def of_mutant(table: list[dict[str, Any]], mutant: str) -> list[dict[str, Any]]:
    """The rows of a mutant; "" for those of the suite itself."""
    return [row for row in table if row["certificate"].rpartition(":")[0] == mutant]


def named(table: list[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    """The rows with these fields; model, theta, certificate, strength and quantity may be given."""
    got = [row for row in table if all(row[k] == v for k, v in wanted.items())]
    assert got, f"no row has {wanted}"
    return got


def count(table: list[dict[str, Any]], verdict: str, **wanted: Any) -> int:
    return sum(row[verdict] for row in named(table, **wanted))


def shares(table: list[dict[str, Any]]) -> dict[tuple[Any, ...], float]:
    """Share of lanes that held, per comparison."""
    out: dict[tuple[Any, ...], list[int]] = {}
    for row in table:
        key = (row["model"], row["theta"], row["certificate"], row["strength"], row["quantity"], row["grid"]["d"])
        lanes = sum(row[v] for v in ("holds", "violated", "inconclusive", "not_applicable", "unconverged"))
        entry = out.setdefault(key, [0, 0])
        entry[0] += row["holds"]
        entry[1] += lanes
    return {key: held / lanes for key, (held, lanes) in out.items()}


def one_lane(record: Record, lane_number: int) -> Record:
    return jax.tree.map(lambda v: np.asarray(v)[lane_number], record)


def lane_values(block: Block, suite: Suite, lane_number: int) -> dict[str, Any]:
    """All results of one lane, Checks included."""
    out: dict[str, Any] = {}
    for name, value in block.results[suite.name].items():
        if isinstance(value, Check):
            out[name] = Check(*(np.asarray(v)[lane_number] for v in value))  # type: ignore[arg-type]
        else:
            out[name] = np.asarray(value)[lane_number]
    return out


def assert_picture(suite: Suite, blocks: list[Block], grid: Grid, words: tuple[str, ...]) -> Any:
    """Every axes has data inside its limits and named axes, some axes has a legend; the words occur in the labels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.8), layout="constrained")
    assert suite.draw is not None
    suite.draw(figure, blocks, grid)
    figure.canvas.draw()
    text = []
    legends = 0
    for ax in figure.axes:
        assert ax.lines
        for line in ax.lines:
            x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
            assert x.size > 1
            assert np.any(np.isfinite(y))
            assert line.get_linestyle() != "None"
        low, high = ax.get_ylim()
        ys = np.concatenate([np.asarray(line.get_ydata(), float) for line in ax.lines])
        ys = ys[np.isfinite(ys)]
        assert np.any((ys >= low) & (ys <= high))
        dashes = [(line.get_linestyle(), line.get_marker()) for line in ax.lines]
        assert len(set(dashes)) == len(dashes), "two series look the same in greyscale"
        legends += ax.get_legend() is not None
        text += [ax.get_xlabel(), ax.get_ylabel(), ax.get_title()]
        text += [entry.get_text() for entry in (ax.get_legend().get_texts() if ax.get_legend() else [])]
    assert legends
    assert sum(bool(ax.get_ylabel()) for ax in figure.axes) >= 1
    joined = " ".join(text)
    for word in words:
        assert word in joined
    return figure
