"""Lanes of one shape: computed in parts, kept in a results folder if there is one, handed out as a `Block`.

A result folder DIR holds one `gaunlearn_jax.store` folder per shape. A lane's results are one row of float64 columns
named "claim|name|field|index"; field is empty for plain arrays, index counts the entries of an array.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gaunlearn_jax import store, sweep
from verify import memory, records
from verify.check import Check
from verify.grid import Grid
from verify.records import Shape
from verify.suite import Results, Suite, lane

Progress = Callable[[str, int, int], None]
Recorder = Callable[[Shape], Callable[..., records.Record]]


#: lanes per sealed part of a results folder: what a killed run loses at most
PART_LANES = 512


@dataclasses.dataclass(frozen=True)
class Block:
    """All lanes of one shape: their seeds, dims and signals, and {claim: {name: result}} with a leading lane axis."""

    shape: Shape
    seed: np.ndarray
    d: np.ndarray
    signal: np.ndarray
    results: dict[str, Results]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where and how to compute: results folder or None, lanes per device call, this process's share (i, N), and what
    the numbers depend on (recorded, and compared on resume)."""

    folder: Path | None = None
    chunk: int | None = None
    shard: tuple[int, int] = (0, 1)
    environment: dict[str, Any] = dataclasses.field(default_factory=dict)


def slug(shape: Shape) -> str:
    """The folder name of a shape."""
    parts = [shape.model, f"m{shape.m}", f"n{shape.n}", shape.loss]
    return "-".join(parts + ([shape.source] if shape.source != "gaussian" else []))


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one shape needs: claims, the function of a lane, the number of lanes, lanes at once, column names."""

    shape: Shape
    suites: tuple[Suite, ...]
    fn: Callable[..., Any]
    total: int
    size: int
    names: list[str]


def plan(shape: Shape, suites: tuple[Suite, ...], grid: Grid, place: Place, recorder: Recorder) -> Plan:
    """Trace the lanes of one shape, computing nothing; ValueError if they cannot fit into memory."""
    total = grid.lanes(shape)
    size = sweep.chunk_size(total, place.chunk, shape.entries)
    fn = lane(shape, suites, grid.forget, recorder(shape))
    args = [((size, 2), np.uint32), ((size,), np.float64), ((size,), np.float64)]
    traced = sweep.compiled(fn).trace(*(jax.ShapeDtypeStruct(*arg) for arg in args))
    per_lane = memory.SLACK * memory.live_bytes(traced.jaxpr.jaxpr) * len(jax.local_devices()) / size
    size = memory.chunk(slug(shape), total, per_lane, place.chunk, shape.entries)
    return Plan(shape, suites, fn, total, size, list(flatten(traced.out_info)))


def compute(plan: Plan, grid: Grid, place: Place, progress: Progress | None = None) -> Block:
    """Compute (or find on disk) the lanes of one shape. With several shards only what is on disk is returned."""
    shape, total, size = plan.shape, plan.total, plan.size
    lanes = records.lane_arguments(shape, grid.cells(shape.source), grid.seed_range())

    def report(done: int) -> None:
        if progress is not None:
            progress(slug(shape), done, total)

    def rows(start: int, stop: int, before: int, batch: int, halved: Callable[[int], object] | None = None) -> Any:
        args = (lanes[name][start:stop] for name in ("key", "d", "signal"))
        return sweep.batched(
            plan.fn, *args, chunk=batch, progress=lambda done, _: report(before + done), on_halved=halved
        )

    report(0)
    if place.folder is None:
        results = rows(0, total, 0, size)
        return Block(shape, lanes["seed"], lanes["d"], lanes["signal"], results)

    told = {"shape": dataclasses.asdict(shape), "claims": [s.name for s in plan.suites]}
    described = grid.of(shape.source).as_json() | told
    if "claims_from" in place.environment:  # a user's file: lanes of two versions of it must not mix
        described["claims_from"] = place.environment["claims_from"]["sha256"]
    parts = [list(part) for part in store.split_lanes(total, size * max(1, PART_LANES // size))]
    with store.create_or_resume(
        place.folder / slug(shape), described, plan.names, parts, place.environment, size, shard=place.shard
    ) as opened:
        todo = opened.missing()
        done = total - sum(stop - start for start, stop in (opened.record.parts[i] for i in todo))
        report(done)
        for number in todo:
            start, stop = opened.record.parts[number]
            part = flatten(rows(start, stop, done, opened.batch, lambda _: opened.halve_batch()))
            opened.write(number, np.column_stack(list(part.values())).astype(np.float64))
            done += stop - start
    return load_block(place.folder / slug(shape))


def flatten(results: dict[str, Results]) -> dict[str, Any]:
    """{column name: values [lanes]} of nested results; also of shapes only (then the values are None)."""
    out: dict[str, Any] = {}
    for claim, named in sorted(results.items()):
        for name, result in sorted(named.items()):
            fields = result._asdict() if isinstance(result, Check) else {"": result}
            for field, values in fields.items():
                for index in np.ndindex(*values.shape[1:]):
                    column = f"{claim}|{name}|{field}|{'.'.join(map(str, index))}"
                    known = not isinstance(values, jax.ShapeDtypeStruct)
                    out[column] = np.asarray(values)[(slice(None), *index)] if known else None
    return out


def unflatten(names: list[str], table: np.ndarray) -> dict[str, Results]:
    """The nested results that `flatten` took apart, views of their rows of table [columns, lanes] (all float64)."""
    rows: dict[tuple[str, str, str], list[tuple[int, tuple[int, ...]]]] = {}
    for row, column in enumerate(names):
        claim, name, field, index = column.split("|")
        rows.setdefault((claim, name, field), []).append((row, tuple(map(int, index.split("."))) if index else ()))
    out: dict[str, dict[str, Any]] = {}
    fields: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for (claim, name, field), entries in rows.items():
        first, last = entries[0][0], entries[-1]
        extent = tuple(i + 1 for i in last[1])
        assert [index for _, index in entries] == list(np.ndindex(*extent)), f"{claim}|{name}|{field}: not in order"
        values = np.moveaxis(table[first : last[0] + 1].reshape(*extent, -1), -1, 0)
        if field:
            fields.setdefault((claim, name), {})[field] = values
        else:
            out.setdefault(claim, {})[name] = values
    for (claim, name), given in fields.items():
        given["converged"] = given["converged"].astype(bool)
        given["reason"] = given["reason"].astype(np.int32)
        out.setdefault(claim, {})[name] = Check(**given)  # type: ignore[arg-type]
    return out


def load_block(folder: Path) -> Block:
    """The lanes of one shape that a results folder holds; missing parts are left out."""
    stored = store.load(folder)
    given = stored.grid
    shape = Shape(**given["shape"])
    return Block(shape, *coordinates(given, stored.lanes), unflatten(stored.record.columns, stored.table))


def coordinates(grid: dict[str, Any], lanes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Seed, dimension d and signal of lanes, given by their numbers, of a grid as recorded in a results folder."""
    cell, seed = np.divmod(lanes, grid["seeds"])
    d, signal = np.divmod(cell, len(grid["signals"]))
    return seed + grid["seed_start"], np.asarray(grid["dims"], float)[d], np.asarray(grid["signals"], float)[signal]


def shape_folders(folder: Path) -> list[Path]:
    """The store of each shape in a results folder; ValueError if there is none."""
    found = sorted(path.parent for path in folder.glob("*/run.json"))
    if not found:
        raise ValueError(f"{folder} holds no results; make some with `gaunlearn run --out {folder}`")
    return found


def load_blocks(folder: Path) -> list[Block]:
    """The blocks of a results folder; ValueError if it holds none."""
    return [load_block(path) for path in shape_folders(folder)]
