"""Results of lanes as float64 columns, and back: what a results folder holds.

A lane's results are one row of columns named "claim|name|field|index"; field is empty for plain arrays, index counts
the entries of an array.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gaunlearn_jax import store
from verify.instances.grid import Grid
from verify.instances.records import Cell, Shape
from verify.suites.check import Check
from verify.suites.suite import Results


@dataclasses.dataclass(frozen=True)
class Block:
    """All lanes of one shape: their seeds, dims and source parameters, and {claim: {name: result}} with a leading lane
    axis."""

    shape: Shape
    seed: np.ndarray
    d: np.ndarray
    parameters: dict[str, np.ndarray]
    results: dict[str, Results]

    def at(self, cell: Cell) -> np.ndarray:
        """The mask of the lanes of a cell."""
        here = self.d == cell.d
        for name, value in cell.parameters:
            here = here & (self.parameters[name] == value)
        return here


def slug(shape: Shape) -> str:
    """The folder name of a shape."""
    parts = [re.sub(r"[^\w.-]+", "-", shape.model), f"m{shape.m}", f"n{shape.n}", shape.loss]
    return "-".join(parts + ([shape.source] if shape.source != "gaussian" else []))


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


#: what a results folder says of its grid; folders of another format are refused
GRID_FORMAT = 2


def described(shape: Shape, grid: Grid, claims: list[str]) -> dict[str, Any]:
    """What the lanes of a shape depend on, as a results folder records it."""
    cells = grid.cells(shape.source)
    return {
        "format": GRID_FORMAT,
        "shape": dataclasses.asdict(shape),
        "parameters": [name for name, _ in cells[0].parameters],
        "cells": [[cell.d, *(value for _, value in cell.parameters)] for cell in cells],
        "forget": list(grid.forget),
        "seeds": grid.seeds,
        "seed_start": grid.seed_start,
        "claims": claims,
    }


def checked(given: dict[str, Any], where: Any) -> dict[str, Any]:
    """The grid of a results folder; ValueError if it is of another format."""
    if given.get("format") != GRID_FORMAT:
        raise ValueError(
            f"{where} was written by another version (its grid has format {given.get('format')}, this one reads "
            f"{GRID_FORMAT}); read it with that version, or run again with another --out"
        )
    return given


def load_block(folder: Path) -> Block:
    """The lanes of one shape that a results folder holds; missing parts are left out."""
    stored = store.load(folder)
    given = checked(stored.record.grid, folder)
    shape = Shape(**given["shape"])
    return Block(shape, *coordinates(given, stored.lanes), unflatten(stored.record.columns, stored.table))


def coordinates(grid: dict[str, Any], lanes: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Seed, dimension d and source parameters of lanes, given by their numbers, of a grid as `described`."""
    cell, seed = np.divmod(lanes, grid["seeds"])
    table = np.asarray(grid["cells"], float)[cell]
    parameters = {name: table[:, i] for i, name in enumerate(grid["parameters"], 1)}
    return seed + grid["seed_start"], table[:, 0], parameters


def shape_folders(folder: Path) -> list[Path]:
    """The store of each shape in a results folder; ValueError if there is none."""
    found = sorted(path.parent for path in folder.glob("*/run.json"))
    if not found:
        raise ValueError(f"{folder} holds no results; make some with `gaunlearn run --out {folder}`")
    return found


def load_blocks(folder: Path) -> list[Block]:
    """The blocks of a results folder; ValueError if it holds none."""
    return [load_block(path) for path in shape_folders(folder)]
