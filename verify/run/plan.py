"""The plan of a run: which shapes are compiled, what each needs, and whether it fits into memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gaunlearn_jax import sweep
from gaunlearn_jax.stages import Stages
from verify.instances import records
from verify.instances.grid import Grid
from verify.instances.records import Shape
from verify.run import memory
from verify.run.columns import flatten, slug
from verify.suites.suite import Suite, lane

Progress = Callable[[str, int, int], None]

Recorder = Callable[[Shape], Callable[..., records.Record]]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where and how to compute: results folder or None, lanes per device call, this process's share (i, N), and what
    the numbers depend on (recorded, and compared on resume)."""

    folder: Path | None = None
    chunk: int | None = None
    shard: tuple[int, int] = (0, 1)
    environment: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one shape needs: claims, the function of a lane, the number of lanes, lanes at once, column names, and
    whether it is compiled in a hurry, and the names of the source's parameters."""

    shape: Shape
    suites: tuple[Suite, ...]
    fn: Callable[..., Any]
    total: int
    size: int
    names: list[str]
    hurried: bool
    parameters: tuple[str, ...]

    def stages(self) -> Stages:
        """What its lanes are compiled to; traced once."""
        return _stages(self.fn, self.hurried, self.size, self.parameters)


def plan(shape: Shape, suites: tuple[Suite, ...], grid: Grid, place: Place, recorder: Recorder) -> Plan:
    """Trace the lanes of one shape, computing nothing; ValueError if they cannot fit into memory."""
    total = grid.lanes(shape)
    hurried = total <= HURRIED_LANES
    size = sweep.chunk_size(total, place.chunk, shape.entries)
    fn = lane(shape, suites, grid.forget, recorder(shape))
    parameters = tuple(name for name, _ in grid.cells(shape.source)[0].parameters)
    stages = _stages(fn, hurried, size, parameters)
    per_lane = memory.SLACK * memory.live_bytes(stages.jaxpr.jaxpr) * len(jax.local_devices()) / size
    size = memory.chunk(slug(shape), total, per_lane, place.chunk, shape.entries)
    return Plan(shape, suites, fn, total, size, list(flatten(stages.out)), hurried, parameters)


def _stages(fn: Callable[..., Any], hurried: bool, size: int, parameters: tuple[str, ...]) -> Stages:
    one = jax.ShapeDtypeStruct((size,), np.float64)
    key = jax.ShapeDtypeStruct((size, 2), np.uint32)
    return sweep.compiled(fn, hurried).stages((key, one, dict.fromkeys(parameters, one)))


#: float64 columns of a lane beside its results, about: seed, d, a parameter, key
LANE_COLUMNS = 4

NOWHERE = Place()


#: up to so many lanes the compiler costs more than its care saves (measured: 8 times its time, half the speed)
HURRIED_LANES = 4096


def shapes_of(grid: Grid, suites: tuple[Suite, ...]) -> dict[Shape, tuple[Suite, ...]]:
    """The compilations that these claims need, each with the claims that share its records."""
    out: dict[Shape, tuple[Suite, ...]] = {}
    for suite in suites:
        for source in suite.sources_in(grid):
            for model in suite.models_in(grid):
                for shape in grid.shapes_of(model, source):
                    out[shape] = (*out.get(shape, ()), suite)
    return out


def prepare(suites: tuple[Suite, ...], grid: Grid, place: Place, recorder: Recorder = records.recorder) -> list[Plan]:
    """Trace every shape; `recorder` makes the function that draws, trains and solves one instance. What has no results
    yet is compiled in other threads while the next shape is traced.

    ValueError with an estimate if the lanes or their results cannot fit into memory: nothing is computed then."""
    shapes = shapes_of(grid, suites)
    for shape in sorted(shapes, key=grid.bytes_per_lane, reverse=True):  # what never fits is not even traced
        memory.chunk(slug(shape), grid.lanes(shape), grid.bytes_per_lane(shape), place.chunk)
        memory.require_results(grid.lanes(shape), LANE_COLUMNS)
    plans = []
    for shape, members in shapes.items():
        plans.append(plan(shape, members, grid, place, recorder))
        if place.folder is None or not (place.folder / slug(shape)).exists():
            plans[-1].stages().compile()
    memory.require_results(sum(p.total for p in plans), LANE_COLUMNS + max(len(p.names) for p in plans))
    return plans
