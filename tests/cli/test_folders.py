"""Results folders shown and exported: what is there, what is damaged, every number with all its digits."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from gaunlearn_jax import store
from verify.cli import main
from verify.instances.grid import Grid
from verify.instances.records import Shape
from verify.report.export import LANE, SHAPE, export
from verify.report.show import show
from verify.run import columns

GRID = Grid(dims=(1e4, 1e12), points=(6,), neurons=(8,), forget=(1, 2), seeds=5, seed_start=3, signals=(0.1, 0.2))
RELU = Shape("relu", 6, 8, source="mixture")
ENVIRONMENT = {"backend": "cpu", "devices": ["cpu"], "dtype": "float64", "packages": {"jax": "1.2"}, "revision": "abc"}
COLUMNS = ["relu|projection/sharp/tau|lhs|0.0", "relu|projection/sharp/tau|rhs|0.0"]


def values(count: int, seed: int = 0, width: int = 2) -> np.ndarray:
    out = np.random.default_rng(seed).normal(size=(count, width)) * 10.0 ** np.arange(count)[:, None]
    out[0, 0], out[1, 1], out[2, 0] = np.nan, -np.inf, 5e-324
    return out


def make(folder: Path, shape: Shape = RELU, names: list[str] = COLUMNS) -> np.ndarray:
    """A results folder of 20 lanes in parts of 6, without computing anything."""
    table = values(20, shape.n, len(names))
    described = columns.described(shape, GRID, ["relu"])
    folder.mkdir(exist_ok=True)
    cuts = store.split_lanes(20, 6)
    with store.create_or_resume(folder / columns.slug(shape), described, names, cuts, ENVIRONMENT, 6) as run:
        for number in run.missing():
            run.write(number, table[slice(*cuts[number])])
    return table


def shown(folder: Path) -> tuple[str, int]:
    text = io.StringIO()
    code = show(folder, Console(file=text, width=200, highlight=False))
    return text.getvalue(), code


# --- show ---------------------------------------------------------------------------------------------------


def test_a_whole_folder_is_shown(tmp_path: Path) -> None:
    make(tmp_path)
    summary = {"verdict": "pass", "grid": {}, "lanes": {"present": 20, "wanted": 20}}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    text, code = shown(tmp_path)
    assert code == 0
    for part in (
        "relu-m6-n8-exponential-mixture", "20 of 20", "4 of 4", "seeds 3 to 7", "d = 1e4, 1e12", "k = 1, 2",
        "signal 0.1, 0.2", "1 x cpu (cpu), float64, jax 1.2, revision abc; 6 lanes at once",
        "verdict: pass; 20 of 20 lanes are there",
    ):  # fmt: skip
        assert part in text, part


def test_damage_notes_and_debris_are_shown(tmp_path: Path) -> None:
    make(tmp_path)
    (folder,) = columns.shape_folders(tmp_path)
    first, second, *_ = sorted(folder.glob("part-*"))
    first.write_bytes(first.read_bytes()[:-1])
    second.rename(folder / f"damaged-{second.name}")
    (folder / "lock-0-of-1@host@boot@space@1@2").touch()
    text, code = shown(tmp_path)
    assert code == 0
    assert "8 of 20" in text
    assert "2 of 4" in text
    assert f"{first.name} has" in text
    assert f"set aside: damaged-{second.name}" in text
    assert "lock-0-of-1@host" in text
    assert "none yet" in text
    (folder / "lock-0-of-1@host@boot@space@1@2").unlink()
    grid = store.load(folder).grid
    with store.create_or_resume(folder, grid, COLUMNS, store.split_lanes(20, 6), ENVIRONMENT, 6) as run:
        run.halve_batch()
    assert 'halved (lowers the bitwise promise): {"batch":3,"reason":"out of memory","was":6}' in shown(tmp_path)[0]


def test_a_damaged_run_json_is_named_and_the_others_are_shown(tmp_path: Path) -> None:
    make(tmp_path)
    make(tmp_path, Shape("relu", 6, 4, source="mixture"))
    broken, whole = columns.shape_folders(tmp_path)
    (broken / "run.json").write_text("{")
    (tmp_path / "summary.json").write_text("[]")
    text, code = shown(tmp_path)
    assert code == 2
    assert f"{whole.name}" in text
    assert "copy run-copy.json" in text
    assert "summary.json is damaged" in text


@pytest.mark.parametrize("command", [["show"], ["export", "--csv"]])
def test_a_folder_without_results_is_refused(tmp_path: Path, command: list[str], capsys) -> None:
    assert main.main([*command, str(tmp_path)]) == 2
    assert "holds no results; make some" in capsys.readouterr().err


# --- export -------------------------------------------------------------------------------------------------


def expected_rows(table: np.ndarray) -> list[tuple[int, float, float]]:
    """Seed, d, signal of each lane, in plain loops."""
    rows = [(seed, d, a) for d in (1e4, 1e12) for a in (0.1, 0.2) for seed in range(3, 8)]
    assert len(rows) == len(table)
    return rows


def test_csv_has_every_digit(tmp_path: Path, capsys) -> None:
    table = make(tmp_path)
    assert main.main(["export", str(tmp_path), "--csv"]) == 0
    assert "wrote 20 lanes" in capsys.readouterr().out
    with (tmp_path / "lanes.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == [*SHAPE, *LANE, "signal", *COLUMNS]
    for row, lane, place in zip(rows, table, expected_rows(table), strict=True):
        assert row[:5] == ["relu", "6", "8", "exponential", "mixture"]
        assert (int(row[5]), float(row[6]), float(row[7])) == place
        assert np.array([float(v) for v in row[8:]]).tobytes() == lane.tobytes()
    assert not list(tmp_path.glob("*.tmp"))
    before = (tmp_path / "lanes.csv").read_bytes()
    assert main.main(["export", str(tmp_path), "--csv"]) == 2
    assert "exists, expected a new file" in capsys.readouterr().err
    assert (tmp_path / "lanes.csv").read_bytes() == before


def test_parquet_holds_the_same_numbers(tmp_path: Path) -> None:
    tables = [make(tmp_path, Shape("relu", 6, n, source="mixture")) for n in (4, 8)]
    files, count, damaged = export(tmp_path, "parquet", tmp_path / "x.parquet")
    assert (files, count, damaged) == ([tmp_path / "x.parquet"], 40, [])
    read = pq.read_table(files[0]).to_pydict()
    assert list(read) == [*SHAPE, *LANE, "signal", *COLUMNS]
    assert read["n"] == [4] * 20 + [8] * 20
    assert list(zip(read["seed"], read["d"], read["signal"], strict=True)) == expected_rows(tables[0]) * 2
    both = np.concatenate(tables)
    for column, name in enumerate(COLUMNS):
        assert np.array(read[name]).tobytes() == both[:, column].tobytes()


def test_shapes_of_other_columns_get_their_own_files(tmp_path: Path) -> None:
    make(tmp_path)
    make(tmp_path, Shape("relu", 6, 4, source="mixture"), [*COLUMNS, "relu|x||"])
    files, count, _ = export(tmp_path, "csv", tmp_path / "t.csv")
    assert [f.name for f in files] == [f"t-relu-m6-n{n}-exponential-mixture.csv" for n in (4, 8)]
    assert count == 40
    assert [len(f.read_text().splitlines()) for f in files] == [21, 21]


def test_damaged_parts_are_left_out_and_named(tmp_path: Path, capsys) -> None:
    make(tmp_path)
    (folder,) = columns.shape_folders(tmp_path)
    part = sorted(folder.glob("part-*"))[1]
    part.write_bytes(bytes(part.stat().st_size))
    assert main.main(["export", str(tmp_path), "--csv"]) == 0
    said = capsys.readouterr()
    assert "wrote 14 lanes" in said.out
    assert f"left out: {part.name}" in said.err
    seeds = [line.split(",")[5] for line in (tmp_path / "lanes.csv").read_text().splitlines()[1:]]
    assert [int(s) for s in seeds] == [s for i, (s, _, _) in enumerate(expected_rows(np.zeros(20))) if not 6 <= i < 12]


def test_pyarrow_is_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    make(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    assert main.main(["export", str(tmp_path), "--parquet"]) == 2
    assert "gaunlearn-jax[parquet]" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["relu-m6-n8-exponential-mixture"]


def test_memory_is_that_of_one_part(tmp_path: Path) -> None:
    """40 times the parts, the same peak: nothing is kept from part to part."""

    def peak(count: int) -> int:
        folder = tmp_path / str(count)
        folder.mkdir()
        shape = Shape("relu", 6, 8)
        grid = dataclasses.replace(GRID, seeds=250 * count, dims=(1e4, 1e12))
        described = columns.described(shape, grid, ["relu"])
        cuts = store.split_lanes(500 * count, 500)
        with store.create_or_resume(folder / "s", described, COLUMNS, cuts, {}, 6) as run:
            for number in run.missing():
                run.write(number, np.full((500, 2), math.pi * number))
        tracemalloc.start()
        try:
            export(folder, "csv")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(80) < 1.5 * peak(2)
