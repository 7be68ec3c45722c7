"""What the tests of suites share: a suite passes, it can fail, its numbers are the reference's, its picture tells.

Instances are drawn, trained and solved once, then seen by suites, mutated or not. `blocks_of` runs a suite as
`verify.run.compute.run_blocks` does, on stored records: only the suite itself is compiled, and a mutation is a function
of the record of one lane.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any
from unittest import mock

import jax
import numpy as np
import pytest

from gaunlearn_jax import sweep
from verify.instances import records
from verify.instances.grid import Grid
from verify.instances.records import THETAS, Lanes, Record, Shape
from verify.run.columns import Block
from verify.run.plan import shapes_of
from verify.run.rows import rows
from verify.suites.check import Check
from verify.suites.suite import Evaluation, Suite, lane

GRID = Grid(dims=(1e4, 1e8), points=(6,), neurons=(16,), seeds=12)


@functools.lru_cache(maxsize=8)
def recorded(shape: Shape, grid: Grid) -> tuple[Lanes, Record]:
    """The lane arguments of a shape and the records of all its lanes."""
    lanes = records.lane_arguments(shape, grid.cells(shape.source), grid.seed_range())
    return lanes, sweep.batched(records.recorder(shape), *lanes.arguments())


def blocks_of(suite: Suite, grid: Grid = GRID, mutate: Callable[[Record], Record] = lambda r: r) -> list[Block]:
    """The suite's results on the (mutated) records of every shape."""
    blocks = []
    for shape in shapes_of(grid, (suite,)):
        lanes, batch = recorded(shape, grid)
        # a new function each time: whatever was monkeypatched since is traced afresh
        fn = lane(shape, (suite,), grid.forget, lambda record, _d, _s: mutate(record))
        results = sweep.batched(fn, batch, lanes.d, lanes.parameters)
        blocks.append(Block(shape, lanes.seed, lanes.d, lanes.parameters, results))
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


def passed(
    table: list[dict[str, Any]], comparisons: int, dims: tuple[float, ...] = GRID.dims, **among: Any
) -> list[dict[str, Any]]:
    """The rows of the suite itself: none violated or inconclusive; of those `among` them every comparison is there
    and holds on more than nine of ten lanes in these dimensions."""
    honest = of_mutant(table, "")
    assert not any(row["violated"] or row["inconclusive"] for row in honest)
    share = shares(named(honest, **among))
    assert len({key[:5] for key in share}) == comparisons
    assert len(share) == comparisons * len(GRID.dims)
    assert min(value for key, value in share.items() if key[-1] in dims) > 0.9
    return honest


def can_fail(*cases: tuple[str, dict[str, Any], int]) -> Callable[..., None]:
    """The test that a mutant is violated on at least so many lanes, of the rows named."""

    @pytest.mark.parametrize(("mutant", "where", "least"), cases)
    def test(table: list[dict[str, Any]], mutant: str, where: dict[str, Any], least: int) -> None:
        assert count(of_mutant(table, mutant), "violated", **where) >= least

    return test


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


@dataclasses.dataclass
class Seen:
    """One lane at one theta, in the notation of the reference, and all that the suite says of it."""

    block: Block
    record: Record
    values: dict[str, Any]
    theta: int

    def __post_init__(self) -> None:
        network = self.block.shape.network()
        self.m, self.n, self.linear = self.block.shape.m, self.block.shape.n, self.block.shape.model == "linear"
        self.slope = 1.0 if self.linear else 0.0
        self.point = self.record.theta(THETAS[self.theta])
        self.X, self.y, self.u = self.record.data.points, self.record.data.labels, np.asarray(network.output_weights)
        self.W, self.Z = self.point.params, self.point.preactivations
        self.lam, self.s = self.point.multipliers, self.point.selection
        self.outside = float(self.point.orthogonal_norm)

    @property
    def arrays(self) -> tuple[Any, ...]:
        """X, y, u, W, Z, lam, s."""
        return self.X, self.y, self.u, self.W, self.Z, self.lam, self.s

    def forgotten(self) -> Iterator[tuple[tuple[int, int], list[int], list[int]]]:
        """Per size of the forget set: its place in the suite's arrays, the forgotten and the retained points."""
        for at, k in enumerate(GRID.forget):
            forget = [int(r) for r in self.record.order[:k]]
            yield (self.theta, at), forget, [i for i in range(self.m) if i not in forget]


def seen(block: Block, suite: Suite, lane_number: int, theta: int) -> Seen:
    record = one_lane(recorded(block.shape, GRID)[1], lane_number)
    return Seen(block, record, lane_values(block, suite, lane_number), theta)


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
