"""A results folder as CSV or Parquet, one row per lane, part by part (memory does not grow with the lanes); and what
was found, as JSON or LaTeX."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gaunlearn_jax.store import parts, run_record
from verify.report import latex
from verify.report.summary import read_claims, write_json
from verify.run.columns import checked, coordinates, shape_folders

SHAPE = ("model", "m", "n", "loss", "source")
LANE = ("seed", "d")
Columns = dict[str, Any]
Write = Callable[[Columns], None]


def export(folder: Path, kind: str, out: Path | None = None) -> tuple[list[Path], int, list[str]]:
    """Write the lanes of a folder as "csv" or "parquet": (files, lanes, what is damaged and was left out).

    Columns: those of SHAPE and LANE, the parameters of the source, then "claim|name|field|index" (float64, all digits).
    Shapes of equal columns share the file DIR/lanes.<kind>; else there is one file per shape, `-<shape>` put before the
    ending. ValueError: no results, a file that is there already, pyarrow is absent.
    """
    records = {path: run_record.read_record(path) for path in shape_folders(folder)}
    out = folder / f"lanes.{kind}" if out is None else out
    together = len({tuple(_names(record)) for record in records.values()}) == 1
    groups = (
        {out: list(records)} if together else {out.with_stem(f"{out.stem}-{path.name}"): [path] for path in records}
    )
    for target in groups:
        if target.exists():
            raise ValueError(f"{target} exists, expected a new file; remove it or give another --out")
    open_file, lanes, damaged = {"csv": _csv, "parquet": _parquet}[kind], 0, list[str]()
    for target, paths in groups.items():
        temporary = target.with_name(target.name + ".tmp")
        try:
            with open_file(temporary, _names(records[paths[0]])) as write:
                for path in paths:
                    for block in _blocks(path, records[path], damaged):
                        write(block)
                        lanes += len(block["seed"])
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    return list(groups), lanes, damaged


def export_summary(folder: Path, kind: str, out: Path | None = None) -> Path:
    """Write what was found as "findings" (JSON) or "latex" (tables); ValueError: no findings, a file that is there."""
    names = {"findings": "findings.json", "latex": "tables.tex"}
    path = folder / names[kind] if out is None else out
    if path.exists():
        raise ValueError(f"{path} exists, expected a new file; remove it or give another --out")
    summary = read_claims(folder)
    if not summary.get("findings"):
        raise ValueError(f"{folder}/summary.json has no findings; give the same `gaunlearn run` command again")
    if kind == "latex":
        path.write_text(latex.document(summary), encoding="utf-8")
        return path
    kept = ("verdict", "grid", "findings", "ladder", "tables")
    command = (summary.get("environment") or {}).get("command_line")
    write_json(path, {"command": command, **{name: summary.get(name) for name in kept}})
    return path


def _names(record: run_record.RunRecord) -> list[str]:
    return [*SHAPE, *LANE, *record.grid.get("parameters", ()), *record.columns]


def _blocks(path: Path, record: run_record.RunRecord, damaged: list[str]) -> Iterator[Columns]:
    """The columns of one part after the other."""
    shape = record.grid["shape"]
    for number, rows in parts.read_parts(path, record, damaged):
        seed, d, parameters = coordinates(checked(record.grid, path), np.arange(*record.parts[number]))
        same = {name: [shape[name]] * len(rows) for name in SHAPE}
        yield same | {"seed": seed, "d": d} | parameters | dict(zip(record.columns, rows.T, strict=True))


@contextmanager
def _csv(path: Path, names: list[str]) -> Iterator[Write]:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        yield lambda block: writer.writerows(zip(*(_plain(block[name]) for name in names), strict=True))


def _plain(values: Any) -> list[Any]:
    """Python numbers: csv writes floats with all digits."""
    return values.tolist() if isinstance(values, np.ndarray) else values


@contextmanager
def _parquet(path: Path, names: list[str]) -> Iterator[Write]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ValueError("Parquet needs pyarrow: pip install 'gaunlearn-jax[parquet]', or give --csv") from None
    kinds = {"model": pa.string(), "loss": pa.string(), "source": pa.string()}
    kinds |= {"m": pa.int64(), "n": pa.int64(), "seed": pa.int64()}
    schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in names])
    with pq.ParquetWriter(path, schema) as writer:
        yield lambda block: writer.write_table(pa.table([block[name] for name in names], schema=schema))
