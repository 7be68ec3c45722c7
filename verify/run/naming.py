"""Names of cells and lanes in words and commands, and back."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from gaunlearn_jax.data.registry import DISTRIBUTIONS
from gaunlearn_jax.models.registry import lookup
from verify.instances.records import Cell, Shape

Row = dict[str, Any]


def shape_of(row: Row) -> Shape:
    """The shape of a row's lanes."""
    g = row["grid"]
    return Shape(row["model"], g["m"], g["n"], g["loss"], g["source"])


def cell_of(row: Row) -> Cell:
    """The cell of a row."""
    g = row["grid"]
    return Cell(float(g["d"]), tuple((p.name, float(g[p.name])) for p in DISTRIBUTIONS[g["source"]].parameters))


def cell_name(row: Row) -> str:
    """The CELL of --reproduce: model, theta, sizes, dimension and source of a row."""
    g = row["grid"]
    parts = [row["model"], row["theta"], f"m={g['m']}", f"n={g['n']}", f"k={g['k']}", f"d={short_number(g['d'])}"]
    parts += [f"source={g['source']}"] if g["source"] != "gaussian" else []
    parts += [f"{name}={value!r}" for name, value in cell_of(row).parameters]
    parts += [f"loss={g['loss']}"] if g["loss"] != "exponential" else []
    return "/".join(p for p in parts if p is not None and p != "k=None")


def source_text(source: str, values: dict[str, Any]) -> str:
    """The text that `--source` reads."""
    return ":".join([source, *(f"{p.name}={float(values[p.name])!r}" for p in DISTRIBUTIONS[source].parameters)])


def short_number(value: float) -> str:
    """1e13 for 1e+13."""
    text = f"{value:.3g}" if float(f"{value:.3g}") == value else repr(float(value)).removesuffix(".0")
    return text.replace("e+0", "e").replace("e+", "e")


def command_for(row: Row, grid: Row, own: Sequence[str] = ()) -> str:
    """The command that recomputes the worst lane of a row, or the whole cell where the statement is about that."""
    words = ["gaunlearn", "run", *(word for path in own for word in ("--with", path))]
    if row["worst_seed"] is not None:
        return shlex.join([*words, "--reproduce", f"{row['claim']}:{cell_name(row)}:{row['worst_seed']}"])
    g = row["grid"]
    words += [row["claim"], "--models", row["model"], "--dims", short_number(g["d"]), "--points", str(g["m"])]
    words += ["--neurons", str(g["n"])] if lookup(row["model"])[0].neurons else []
    words += ["--source", source_text(g["source"], g)]
    words += ["--loss", g["loss"]] if g["loss"] != "exponential" else []
    return shlex.join([*words, "--seeds", str(grid["seeds"]), "--seed-start", str(grid["seed_start"])])
