"""What a results folder holds, read part by part in bounded memory: lanes, damage, environment, notes, verdict."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gaunlearn_jax.store import parts, run_record, strict_json
from gaunlearn_jax.store.disk import StoreError
from verify.report.findings import FIELDS, print_findings
from verify.report.summary import load_grid, read_claims, read_summary
from verify.report.tables import print_own_table, print_rows
from verify.run.columns import shape_folders
from verify.run.naming import short_number


@dataclasses.dataclass(frozen=True)
class Holdings:
    """One shape's folder: its record, lanes and parts that are valid, what is damaged or was set aside, the locks of
    writers (alive or killed), bytes on disk."""

    name: str
    record: run_record.RunRecord
    lanes: int
    parts: int
    damaged: list[str]
    set_aside: list[str]
    locks: list[str]
    size: int


def holdings(folder: Path) -> Holdings:
    """Read every part of one shape's folder; StoreError if its run.json is damaged."""
    record = run_record.read_record(folder)
    damaged: list[str] = []
    sizes = [len(rows) for _, rows in parts.read_parts(folder, record, damaged)]
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return Holdings(
        name=folder.name,
        record=record,
        lanes=sum(sizes),
        parts=len(sizes),
        damaged=damaged,
        set_aside=[path.name for path in files if path.name.startswith("damaged-")],
        locks=[path.name for path in files if path.name.startswith("lock-")],
        size=sum(path.stat().st_size for path in files),
    )


def show(folder: Path, console: Console, brief: bool = False) -> int:
    """Print what a results folder holds; exit code 2 if some of it cannot be read. ValueError if it holds none.

    `brief`: the findings of its summary, and of the rest a line where all of it is there and sound."""
    found: list[Holdings] = []
    unreadable: list[str] = []
    for path in shape_folders(folder):
        try:
            found.append(holdings(path))
        except StoreError as error:
            unreadable.append(f"{path.name}: {error}")
    if brief and not unreadable and (findings := _findings(folder)) and all(map(_sound, found)):
        lanes, size = sum(one.lanes for one in found), sum(one.size for one in found)
        notes = "; notes: --tables" if any(one.record.notes for one in found) else ""
        console.print(f"{lanes:,} instances in {len(found)} shapes, {size / 2**20:.1f} MiB, nothing damaged{notes}")
        print_findings(console, findings, load_grid(folder))
        console.print(_summary(folder), markup=False)
        console.print("more: --tables, gaunlearn explain CLAIM, gaunlearn report", markup=False)
        return 0
    console.print(_table(found))
    for one in found:
        for text in (*one.damaged, *(f"set aside: {name}" for name in one.set_aside)):
            console.print(f"{one.name}: [red]{escape(text)}[/]")
        for name in one.locks:
            console.print(f"{one.name}: {name} (a process that writes, or was killed)", markup=False)
        for note in one.record.notes:
            console.print(f"{one.name}: {_note(note)}", markup=False)
    for text in unreadable:
        console.print(f"[bold red]{escape(text)}[/]")
    for text in sorted({_environment(one.record) for one in found}):
        console.print(text, markup=False)
    console.print(_summary(folder), markup=False)
    return 2 if unreadable else 0


def _sound(one: Holdings) -> bool:
    """Whether every lane is there and nothing is damaged or at work."""
    return one.lanes == one.record.lanes and not (one.damaged or one.set_aside or one.locks)


def _findings(folder: Path) -> list[dict[str, Any]]:
    """The findings of summary.json; [] where there are none (an earlier version, a run that was killed)."""
    try:
        found = read_summary(folder).get("findings")
    except ValueError:
        return []
    known = isinstance(found, list) and all(isinstance(one, dict) and set(FIELDS) <= set(one) for one in found)
    return list(found or ()) if known else []


def show_tables(folder: Path) -> None:
    """The tables of every claim of the summary, if it has one; ValueError if another version wrote it."""
    if not (folder / "summary.json").exists():
        return
    summary = read_claims(folder)
    for about in summary.get("suites", ()):
        mine = [row for row in summary["claims"] if row["claim"] == about["name"]]
        print_rows(about["name"], about["statement"], mine)
        for made in summary.get("tables", {}).get(about["name"], ()):
            print_own_table(made)


def _table(found: list[Holdings]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("shape", "grid", "claims"):
        table.add_column(column, overflow="fold")
    for column in ("lanes", "parts", "columns", "size"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in found:
        record = one.record
        complete = one.lanes == record.lanes and not one.damaged
        table.add_row(
            one.name,
            _grid(record.grid),
            ", ".join(record.grid.get("claims", [])),
            f"[{'green' if complete else 'yellow'}]{one.lanes} of {record.lanes}[/]",
            f"{one.parts} of {len(record.parts)}",
            str(len(record.columns)),
            f"{one.size / 2**20:.2f} MiB",
        )
    return table


def _grid(grid: dict[str, Any]) -> str:
    start = grid.get("seed_start", 0)
    cells = grid.get("cells", [])
    text = f"d = {_numbers(sorted({cell[0] for cell in cells}))}; k = {_numbers(grid.get('forget'))}; "
    text += f"seeds {start} to {start + grid.get('seeds', 0) - 1}"
    for i, name in enumerate(grid.get("parameters", ()), 1):
        text += f"; {name} {_numbers(sorted({cell[i] for cell in cells}))}"
    return text


def _numbers(values: list[float] | None) -> str:
    return ", ".join(map(short_number, values or ()))


def _note(note: dict[str, Any]) -> str:
    """A note of run.json in words."""
    rest = {key: value for key, value in note.items() if key not in ("event", "bitwise", "shard")}
    said = "" if note.get("bitwise", True) else " (lowers the bitwise promise)"
    shard = note.get("shard")
    where = f", shard {shard[0]}/{shard[1]}" if isinstance(shard, list) and shard != [0, 1] else ""
    return f"{note.get('event', 'note')}{said}{where}: {strict_json.canonical(rest)}"


def _environment(record: run_record.RunRecord) -> str:
    """What the numbers were made with, in one line."""
    e = record.environment
    packages = ", ".join(f"{name} {version}" for name, version in sorted(e.get("packages", {}).items()))
    devices = e.get("devices", [])
    return (
        f"made with: {len(devices)} x {', '.join(sorted(set(devices)))} ({e.get('backend')}), {e.get('dtype')}, "
        f"{packages}, revision {e.get('revision')}; {record.batch} lanes at once; {e.get('command_line', '')}"
    )


def _summary(folder: Path) -> str:
    """The verdict of summary.json, or why there is none."""
    if not (folder / "summary.json").exists():
        return "verdict: none yet (no summary.json); the same `gaunlearn run` command computes what is missing"
    try:
        summary = read_summary(folder)
        lanes = summary["lanes"]
        return f"verdict: {summary['verdict']}; {lanes['present']} of {lanes['wanted']} lanes are there (summary.json)"
    except (ValueError, KeyError, TypeError) as error:
        return f"verdict: summary.json is damaged ({error}); the same `gaunlearn run` command writes it again"
