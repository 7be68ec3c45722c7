"""python -m benchmarks [NAME ...]: ours and peers side by side, medians and spreads, goals; JSON and RESULTS.md."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
from pathlib import Path

import jax
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Goal, Row, machine
from verify.run.devices import set_up_jax

WORKLOADS = ("end_to_end", "nnls", "kinks", "researcher", "scaling", "cold_start", "long_runs")
HERE = Path(__file__).parent


def duration(seconds: float) -> str:
    """Seconds with a unit that keeps three digits readable."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def cells(row: Row) -> tuple[str, ...]:
    accuracy = "" if row.accuracy is None else f"{row.accuracy:.1e}"
    spread = f"{duration(row.low)} .. {duration(row.high)}"
    return row.workload, row.side, duration(row.seconds), spread, f"{1 / row.seconds:,.0f}", accuracy, row.remark


HEADS = ("workload", "side", "median per item", "10 .. 90 %", "per second", "accuracy", "remark")


def markdown(results: dict[str, tuple[list[Row], list[Goal]]], where: str) -> str:
    """The page of results: a table per workload and its goals."""
    lines = [
        "# Results\n",
        f"Written by `python -m benchmarks --write` on {where}. Times are medians over repeats, all sides interleaved",
        "in one process and one run; an item is a lane, a programme or a command.",
    ]
    for name, (rows, goals) in results.items():
        doc = (importlib.import_module(f"benchmarks.{name}").__doc__ or name).strip()
        lines += ["", f"## {name}", "", doc, "", f"| {' | '.join(HEADS)} |", f"|{'---|' * len(HEADS)}"]
        lines += [f"| {' | '.join(cells(row))} |" for row in rows]
        lines += ["", *(f"- {'met' if goal.met else '**not met**'}: {goal.text}: {goal.reached}" for goal in goals)]
    notes = HERE / "NOTES.md"
    return "\n".join(lines) + "\n" + ("\n" + notes.read_text() if notes.exists() else "")


def was_met(goal: Goal) -> bool:
    """Whether RESULTS.md records this ratio to a peer as met (ratios in one run do not depend on the machine, as times
    do)."""
    return " x" in goal.text and f"- met: {goal.text}: " in (HERE / "RESULTS.md").read_text()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(WORKLOADS)} (default: all)")
    parser.add_argument("--json", type=Path, help="write every figure there")
    parser.add_argument("--write", action="store_true", help="write benchmarks/RESULTS.md")
    parser.add_argument(
        "--guard", action="store_true", help="exit 1 if a ratio to a peer that RESULTS.md meets is lost"
    )
    options = parser.parse_args()
    unknown = set(options.names) - set(WORKLOADS)
    if unknown:
        parser.error(f"unknown workload {', '.join(sorted(unknown))}; known: {', '.join(WORKLOADS)}")
    set_up_jax()
    console, results = Console(width=150), {}
    for name in options.names or WORKLOADS:
        rows, goals = importlib.import_module(f"benchmarks.{name}").run()
        results[name] = rows, goals
        table = Table(*HEADS)
        for row in rows:
            table.add_row(*cells(row))
        console.print(table)
        for goal in goals:
            console.print(f"{'[green]met[/]' if goal.met else '[red]not met[/]'}: {goal.text}: {goal.reached}")
        jax.clear_caches()
    where = machine()
    if options.json:
        plain = {k: [[dataclasses.asdict(x) for x in part] for part in v] for k, v in results.items()}
        options.json.write_text(json.dumps({"machine": where, "results": plain}, indent=1))
    if options.write:
        (HERE / "RESULTS.md").write_text(markdown(results, where))
    lost = [goal for _, goals in results.values() for goal in goals if not goal.met and was_met(goal)]
    return 1 if options.guard and lost else 0


if __name__ == "__main__":
    raise SystemExit(main())
