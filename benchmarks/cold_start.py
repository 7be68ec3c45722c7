"""From a new process: the commands a newcomer begins with, with an empty and with a filled compilation cache."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.harness import Goal, Row

COMMAND = [sys.executable, "-m", "verify"]
#: audits by name: arguments and the seconds that they may take
AUDITS = {
    "digits:3-8, two points": (["digits:3-8", "--forget", "3,7"], 2.5),
    "breast_cancer, every point": (["breast_cancer", "--forget", "0", "--every-point"], 5.0),
    "2,000 points in R^64, every point": (["points.npz", "--forget", "0", "--every-point"], 10.0),
    "digits:3-8, relu": (["digits:3-8", "--model", "relu", "--forget", "3"], 12.0),
}


def measured(arguments: list[str], folder: str) -> tuple[float, float]:
    """Seconds of a command with its cache in the folder, and the GiB that it held at most (at
    least what this process holds, which the system counts in)."""
    begun = time.perf_counter()
    child = subprocess.Popen(
        [*COMMAND, *arguments], env=os.environ | {"XDG_CACHE_HOME": folder}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, usage = os.wait4(child.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"gaunlearn {' '.join(arguments)} ended with {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - begun, usage.ru_maxrss / 2**20


def run() -> tuple[list[Row], list[Goal]]:
    with tempfile.TemporaryDirectory() as folder:
        rows, goals = started(folder)
        more, wanted = audited(folder)
    return rows + more, goals + wanted


def started(folder: str) -> tuple[list[Row], list[Goal]]:
    """Help, the default run, the small one."""
    helps = sorted(measured(["--help"], folder)[0] for _ in range(5))
    quick, _ = measured(["run", "--quick"], f"{folder}/quick")
    cold, memory = measured(["run"], folder)
    warm, _ = measured(["run"], folder)
    rows = [Row("start", "gaunlearn --help", helps[2], helps[0], helps[-1])]
    for name, seconds in (("run --quick, empty cache", quick), ("run, empty cache", cold), ("run, filled cache", warm)):
        rows.append(Row("start", f"gaunlearn {name}", seconds, seconds, seconds))
    return rows, [
        Goal("--help under 0.5 s", f"{helps[2]:.2f} s", helps[2] < 0.5),
        Goal("run from an empty cache: 75 s", f"{cold:.0f} s", cold <= 75),
        Goal("run from an empty cache: 1.5 GiB", f"{memory:.2f} GiB", memory <= 1.5),
        Goal("run with a filled cache: 25 s", f"{warm:.0f} s", warm <= 25),
        Goal("--quick from an empty cache: 60 s", f"{quick:.0f} s", quick <= 60),
    ]


def audited(folder: str) -> tuple[list[Row], list[Goal]]:
    """Audits, everything included, each three times."""
    points = Path(folder) / "points.npz"
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 64))
    np.savez(points, X=x, y=np.where(x @ rng.normal(size=64) > 0, 1.0, -1.0))
    rows, goals = [], []
    for name, (arguments, most) in AUDITS.items():
        given = [str(points) if word == points.name else word for word in arguments]
        low, middle, high = sorted(measured(["audit", *given], folder)[0] for _ in range(3))
        rows.append(Row("audit", name, middle, low, high))
        goals.append(Goal(f"audit, {name}: {most:g} s", f"{middle:.1f} s", middle <= most))
    return rows, goals
