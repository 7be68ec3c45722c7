"""From a new process: `gaunlearn --help`, `gaunlearn run --quick` with an empty and with a filled compilation cache."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

from benchmarks.harness import Goal, Row

COMMAND = [sys.executable, "-m", "verify"]


def seconds(arguments: list[str], cache: str) -> float:
    begun = time.perf_counter()
    subprocess.run(
        [*COMMAND, *arguments], env=os.environ | {"XDG_CACHE_HOME": cache}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    return time.perf_counter() - begun


def run() -> tuple[list[Row], list[Goal]]:
    with tempfile.TemporaryDirectory() as cache:
        helps = sorted(seconds(["--help"], cache) for _ in range(5))
        cold, warm = (seconds(["run", "--quick"], cache) for _ in range(2))
    rows = [
        Row("cold start", "gaunlearn --help", helps[2], helps[0], helps[-1]),
        Row("cold start", "gaunlearn run --quick, empty cache", cold, cold, cold),
        Row("cold start", "gaunlearn run --quick, second start", warm, warm, warm),
    ]
    return rows, [
        Goal("--help under 0.5 s", f"{helps[2]:.2f} s", helps[2] < 0.5),
        Goal("--quick under 180 s from an empty cache", f"{cold:.0f} s", cold < 180),
        Goal("second start under half of the first", f"{warm / cold:.0%}", warm < 0.5 * cold),
    ]
