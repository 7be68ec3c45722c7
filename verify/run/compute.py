"""Lanes of one shape: computed in parts, kept in a results folder if there is one, handed out as a `Block`.

A result folder DIR holds one `gaunlearn_jax.store` folder per shape. A lane's results are one row of float64 columns
named "claim|name|field|index"; field is empty for plain arrays, index counts the entries of an array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gaunlearn_jax import store, sweep
from verify.instances import records
from verify.instances.grid import Grid
from verify.run.columns import Block, described, flatten, load_block, slug
from verify.run.plan import NOWHERE, Place, Plan, Progress, Recorder, prepare
from verify.suites.suite import Suite

#: lanes per sealed part of a results folder: what a killed run loses at most
PART_LANES = 512


def compute_all(plans: list[Plan], grid: Grid, place: Place, progress: Progress | None = None) -> list[Block]:
    """The lanes of every shape; what was compiled for them is kept."""
    blocks = []
    for plan in plans:
        blocks.append(_compute(plan, grid, place, progress))
        plan.end()
    return blocks


def _compute(plan: Plan, grid: Grid, place: Place, progress: Progress | None = None) -> Block:
    """Compute (or find on disk) the lanes of one shape. With several shards only what is on disk is returned."""
    shape, total, size = plan.shape, plan.total, plan.size
    lanes = records.lane_arguments(shape, grid.cells(shape.source), grid.seed_range())

    def report(done: int) -> None:
        if progress is not None:
            progress(slug(shape), done, total)

    def rows(start: int, stop: int, before: int, batch: int, halved: Callable[[int], object] | None = None) -> Any:
        plan.begin()
        return sweep.batched(
            plan.fn,
            *lanes.arguments(start, stop),
            chunk=batch,
            progress=lambda done, _: report(before + done),
            on_halved=halved,
            hurried=plan.hurried,
        )

    report(0)
    if place.folder is None:
        results = rows(0, total, 0, size)
        return Block(shape, lanes.seed, lanes.d, lanes.parameters, results)

    grid_record = described(shape, grid, [s.name for s in plan.suites])
    if "own" in place.environment:  # a user's files: lanes of two versions of them must not mix
        grid_record["own"] = [row["sha256"] for row in place.environment["own"]]
    parts = [list(part) for part in store.split_lanes(total, size * max(1, PART_LANES // size))]
    with store.create_or_resume(
        place.folder / slug(shape), grid_record, plan.names, parts, place.environment, size, shard=place.shard,
        code_version=place.environment.get("code"),
    ) as opened:  # fmt: skip

        def part(start: int, stop: int, done: int) -> np.ndarray:
            found = flatten(rows(start, stop, done, opened.batch, lambda _: opened.halve_batch()))
            return np.column_stack(list(found.values())).astype(np.float64)

        fill(opened, part, report)
    return load_block(place.folder / slug(shape))


def run_blocks(
    suites: tuple[Suite, ...], grid: Grid, place: Place = NOWHERE, recorder: Recorder = records.recorder
) -> list[Block]:
    """Compute every lane of every shape; errors are those of `prepare`."""
    return compute_all(prepare(suites, grid, place, recorder), grid, place)


def fill(opened: store.Store, part: Callable[[int, int, int], np.ndarray], report: Callable[[int], None]) -> None:
    """Write every part that a folder lacks: part(start, stop, lanes that are done) makes its rows."""
    ranges, todo = opened.record.parts, opened.missing()
    done = sum(stop - start for number, (start, stop) in enumerate(ranges) if number not in todo)
    report(done)
    for number in todo:
        start, stop = ranges[number]
        opened.write(number, part(start, stop, done))
        done += stop - start
        report(done)
