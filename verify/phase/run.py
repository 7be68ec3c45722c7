"""Run a phase diagram: the lanes that are missing, with a progress bar, then what they show."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from verify.phase import lanes, picture
from verify.phase.plane import Plane
from verify.run import devices
from verify.run.environment import environment


def run(plane: Plane, out: Path) -> list[Path]:
    """Compute into the folder `out` (a second run goes on from there), print, draw; returns what was written."""
    devices.set_up_jax(lanes=True)
    folder, console = devices.writable_folder(out), Console()
    bars = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()
    with Progress(TextColumn("lanes"), *bars, console=Console(stderr=True)) as bar:
        task = bar.add_task("lanes", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        table = lanes.compute(plane, folder, environment(sys.argv[1:], None), progress)
    for sentence in sentences(plane, table):
        console.print(sentence, highlight=False)
    written = picture.write(plane, table, folder, shlex.join(["gaunlearn", *sys.argv[1:]]))
    for path in written:
        console.print(f"wrote {path}")
    return written


def sentences(plane: Plane, table: Any) -> list[str]:
    """Where the step stops being better than nothing, per value of x."""
    found, said = picture.shares(plane, table), []
    for column, (x, y) in enumerate(zip(plane.x.values, picture.crossings(plane, found), strict=True)):
        where = f"up to {plane.y.name} = {y:.3g}" if y == y else _throughout(found["better"][:, column])
        said.append(f"{plane.x.name} = {x:.4g}: the step is better on most instances {where}")
    unsolved = 1 - float(found["solved"].mean())
    return [*said, f"{unsolved:.2%} of the instances were not solved and are left out"] if unsolved else said


def _throughout(share: Any) -> str:
    if (share >= 0.5).all():
        return "at every value"
    return "at no value" if (share < 0.5).all() else "at some values, with no crossing from better to worse"
