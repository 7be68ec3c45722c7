"""Time per lane against dimension, lanes, points, neurons and devices; memory against lanes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np

from benchmarks.end_to_end import STEPS, Lane, lanes, side
from benchmarks.harness import Goal, Row, Side, measure
from gaunlearn_jax import sweep

#: lanes of a sweep whose memory is looked at
MANY = 100_000


def run() -> tuple[list[Row], list[Goal]]:
    flat, flat_goal = dimension()
    many, many_goals = processes()
    sizes = measure("lanes", [side("linear", 16, 1, count, repeats=3) for count in (256, 4096, 32768)])
    points = measure("points", [side("relu", m, 40, 64, repeats=3) for m in (6, 12, 24)])
    neurons = measure("neurons", [side("relu", 10, n, 128, repeats=3) for n in (20, 40, 80)])
    goals = [exponent("m", points, (6, 12, 24)), exponent("n", neurons, (20, 40, 80))]
    return [*flat, *sizes, *points, *neurons, *many], [flat_goal, *goals, *many_goals]


def dimension() -> tuple[list[Row], Goal]:
    """d is traced and costs nothing: one compilation, the same time."""
    lane = Lane("relu", 10, 40, STEPS)
    keys, _ = lanes(lane.shape, 512)
    dims = (1e3, 1e6, 1e9, 1e12, 1e15)
    sides = [
        Side(f"d = {d:g}", lambda d=d: sweep.batched(lane, keys, np.full(512, d)), 512, repeats=5)  # type: ignore[misc]
        for d in dims
    ]
    rows = measure("dimension", sides)
    seconds = [row.seconds for row in rows]
    spread, tail = max(seconds) / min(seconds) - 1, max(seconds[2:]) / min(seconds[2:]) - 1
    return rows, Goal("flat within 10 % from d = 1e3 to 1e15", f"{spread:.0%}; from 1e9 on {tail:.0%}", spread <= 0.10)


def exponent(name: str, rows: list[Row], sizes: tuple[int, ...]) -> Goal:
    """The power of a size in the time, by least squares in logarithms."""
    power = np.polyfit(np.log(sizes), np.log([row.seconds for row in rows]), 1)[0]
    return Goal(f"time in {name} stated", f"{name}^{power:.1f}", True)


CHILD = """
import json, re, sys, time
from pathlib import Path
import jax
jax.config.update("jax_enable_x64", True)
from benchmarks.end_to_end import side
devices, count = int(sys.argv[1]), int(sys.argv[2])
assert len(jax.devices()) == devices
work = side("linear", 16, 1, count)
work.run()
times = []
for _ in range(3):
    begun = time.perf_counter()
    work.run()
    times.append((time.perf_counter() - begun) / count)
# of this programme alone: getrusage counts the process that it was forked from, too
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
print(json.dumps({"times": sorted(times), "peak": peak}))
"""


def processes() -> tuple[list[Row], list[Goal]]:
    """The same lanes on a device per core and on 8 forced ones; peak memory for 12 times the lanes."""
    cores = len(os.sched_getaffinity(0))
    rows, peaks = [], []
    for devices, count in ((cores, 8192), (8, 8192), (cores, MANY)):
        flags = f"--xla_force_host_platform_device_count={devices}"
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(devices), str(count)],
            env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        told = json.loads(done.stdout.splitlines()[-1])
        peaks.append(told["peak"])
        low, middle, high = told["times"]
        remark = f"peak {told['peak'] / 2**20:.0f} MiB"
        rows.append(Row("devices", f"{devices} CPU devices, {count} lanes", middle, low, high, remark=remark))
    overhead = rows[1].seconds / rows[0].seconds - 1
    few, many = peaks[0] / 2**30, peaks[2] / 2**30
    return rows, [
        Goal("8 forced devices: overhead under 10 %", f"{overhead:+.1%}", overhead < 0.10),
        Goal("100,000 lanes: memory flat within 15 %, under 1 GiB", f"{many / few - 1:+.0%}, {many:.2f} GiB",
             many < 1.15 * few and many < 1.0),
    ]  # fmt: skip
