"""The plan of a run: which shapes are compiled, what each needs, and whether it fits into memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gaunlearn_jax import sweep
from gaunlearn_jax.base import placing
from gaunlearn_jax.stages import kept
from gaunlearn_jax.stages.runner import Runner
from verify.instances import records
from verify.instances.grid import Grid
from verify.instances.records import Shape
from verify.run import known, memory
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
    """What one shape needs: claims, the function of a lane, the number of lanes, lanes at once, column names, bytes of
    a lane, whether it is compiled in a hurry, the names of the source's parameters, its runner's name, and
    whether that is kept already."""

    shape: Shape
    suites: tuple[Suite, ...]
    fn: Callable[..., Any]
    total: int
    size: int
    names: list[str]
    bytes_per_lane: float
    hurried: bool
    parameters: tuple[str, ...]
    name: str | None
    kept: bool = False

    @property
    def compiled(self) -> sweep.Compiled:
        """Its lanes as programmes."""
        return sweep.compiled(self.fn, self.hurried)

    def begin(self) -> Runner:
        """Begin to compile or load its lanes, unless that has begun."""
        return self.compiled.runner(_arguments(self.size, self.parameters))

    def end(self) -> None:
        """Keep its runner for the next process, and let it go in this one."""
        if self.name is None:
            return
        arguments = _arguments(self.size, self.parameters)
        runner = self.compiled.release(arguments)
        if runner is not None and not kept.keep(self.name, runner, (self.names, self.bytes_per_lane, self.size)):
            self.compiled.give(arguments, lambda: runner)


def plan(shape: Shape, suites: tuple[Suite, ...], grid: Grid, place: Place, recorder: Recorder) -> Plan:
    """Trace the lanes of one shape, or find what was made of them; ValueError if they cannot fit into memory."""
    total = grid.lanes(shape)
    hurried = total <= HURRIED_LANES
    entries = shape.entries * (HURRIED_SIZE if hurried else 1)
    size = sweep.chunk_size(total, place.chunk, entries)
    fn = lane(shape, suites, grid.forget, recorder(shape))
    parameters = tuple(name for name, _ in grid.cells(shape.source)[0].parameters)
    name = known.name(place.environment, shape, suites, grid.forget, size, hurried) if place.environment else None

    def fits(per_lane: float) -> int:
        return memory.chunk(slug(shape), total, per_lane, place.chunk, entries)

    def again(number: int) -> Any:
        stages = sweep.compiled(fn, hurried).stages(_arguments(size, parameters))
        return stages.programme_of(stages.requests[number])

    found = None if name is None else kept.kept(name, sweep.lane_sharding(), again)
    if found is not None:
        load, (names, per_lane, size) = found
        if fits(per_lane) == size:
            sweep.compiled(fn, hurried).give(_arguments(size, parameters), load)
            return Plan(shape, suites, fn, total, size, names, per_lane, hurried, parameters, name, True)
    stages = sweep.compiled(fn, hurried).stages(_arguments(size, parameters))
    per_lane = memory.SLACK * memory.live_bytes(stages.jaxpr.jaxpr) * len(placing.home()) / size
    names = list(flatten(stages.out))
    return Plan(shape, suites, fn, total, fits(per_lane), names, per_lane, hurried, parameters, name)


def _arguments(size: int, parameters: tuple[str, ...]) -> Any:
    """The shapes of the arguments of as many lanes."""
    one = jax.ShapeDtypeStruct((size,), np.float64)
    return jax.ShapeDtypeStruct((size, 2), np.uint32), one, dict.fromkeys(parameters, one)


#: float64 columns of a lane beside its results, about: seed, d, a parameter, key
LANE_COLUMNS = 4

NOWHERE = Place()


#: up to so many lanes the compiler costs more than its care saves (measured: 8 times its time, half the speed)
HURRIED_LANES = 4096
#: a hurried programme keeps this many times what another one does, since less is computed in one go
HURRIED_SIZE = 2


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
        if not plans[-1].kept and (place.folder is None or not (place.folder / slug(shape)).exists()):
            plans[-1].begin()
    memory.require_results(sum(p.total for p in plans), LANE_COLUMNS + max(len(p.names) for p in plans))
    return plans
