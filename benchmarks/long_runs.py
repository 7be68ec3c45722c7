"""Commands that take minutes: the large grid, a phase diagram of networks, the table of unlearning steps."""

from __future__ import annotations

import tempfile

from benchmarks.cold_start import measured
from benchmarks.harness import Goal, Row

STEP_SOURCES = ("gaussian", "equicorrelated:c=0.6", "clusters:number=4:c=0.9", "near_duplicates:c=0.9",
                "student:nu=2", "spiked:share=0.3")  # fmt: skip
STEPS = ["run", "steps", "--models", "linear", "--points", "20", "--forget", "1", "--dims", "1e4", "--seeds", "64",
         *(word for source in STEP_SOURCES for word in ("--source", source))]  # fmt: skip
PHASE = ["phase", "--source", "equicorrelated", "--x", "d=1e2..1e12:40", "--y", "c=0..0.95:40", "--seeds", "64"]


def run() -> tuple[list[Row], list[Goal]]:
    rows, goals = [], []

    def timed(name: str, arguments: list[str], folder: str, goal: float) -> None:
        seconds, memory = measured(arguments, folder)
        rows.append(Row("long", f"gaunlearn {name}", seconds, seconds, seconds, remark=f"peak {memory:.2f} GiB"))
        goals.append(Goal(f"{name}: {goal:g} s", f"{seconds:.0f} s", seconds <= goal))

    with tempfile.TemporaryDirectory() as folder:
        timed("run --full, empty cache", ["run", "--full"], f"{folder}/full", 300)
        measured([*PHASE[:-1], "2", "--out", f"{folder}/small"], folder)
        timed("phase, 40 x 40 cells of 64 networks, filled cache", [*PHASE, "--out", f"{folder}/phase"], folder, 60)
        measured(STEPS, folder)
        timed("run steps, 15 steps, 6 sources, filled cache", STEPS, folder, 60)
    return rows, goals
