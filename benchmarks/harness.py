"""Timing of alternatives side by side: interleaved, warm, blocked until ready; medians, spreads and accuracies."""

from __future__ import annotations

import dataclasses
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Side:
    """One way to do a workload: `run` does `items` of them; `accuracy` says how well its answer solves the task."""

    name: str
    run: Callable[[], Any]
    items: int
    accuracy: Callable[[Any], float] | None = None
    repeats: int = 7


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured side: seconds per item (median, 10 and 90 % quantiles), its accuracy, a remark."""

    workload: str
    side: str
    seconds: float
    low: float
    high: float
    accuracy: float | None = None
    remark: str = ""


@dataclasses.dataclass(frozen=True)
class Goal:
    """What a workload aims at, what was reached, and whether that is enough."""

    text: str
    reached: str
    met: bool


def measure(workload: str, sides: list[Side]) -> list[Row]:
    """Run every side once to warm up, then all of them in turn."""
    accuracy = {s.name: s.accuracy(s.run()) if s.accuracy else None for s in sides}
    for side in sides:
        if side.accuracy is None:
            jax.block_until_ready(side.run())
    times: dict[str, list[float]] = {side.name: [] for side in sides}
    for turn in range(max(side.repeats for side in sides)):
        for side in sides:
            if turn < side.repeats:
                begun = time.perf_counter()
                jax.block_until_ready(side.run())
                times[side.name].append((time.perf_counter() - begun) / side.items)
    quantiles = {s.name: np.quantile(times[s.name], [0.5, 0.1, 0.9]) for s in sides}
    return [Row(workload, s.name, *map(float, quantiles[s.name]), accuracy=accuracy[s.name]) for s in sides]


def at_least(rows: list[Row], side: str, wanted: float, unit: str = "lanes/s") -> Goal:
    """The goal of a rate."""
    rate = 1.0 / next(row.seconds for row in rows if row.side == side)
    return Goal(f">= {wanted:,.0f} {unit}", f"{rate:,.0f} {unit}", rate >= wanted)


def ahead(rows: list[Row], side: str, wanted: float, accuracy: float) -> Goal:
    """The goal of a ratio over the fastest peer among those that reach the accuracy (a fast wrong answer is none)."""
    ours = next(row for row in rows if row.side == side)
    peers = [row for row in rows if row.side != side and row.accuracy is not None and row.accuracy <= accuracy]
    text = f">= {wanted:g} x the fastest peer that reaches {accuracy:g}"
    if not peers:
        return Goal(text, "no peer reaches it", ours.accuracy is not None and ours.accuracy <= accuracy)
    best = min(peers, key=lambda row: row.seconds)
    ratio = best.seconds / ours.seconds
    reached = ours.accuracy is not None and ours.accuracy <= accuracy
    return Goal(text, f"{ratio:.2g} x {best.side}", reached and ratio >= wanted)


def machine() -> str:
    """The machine in words, without its name."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as info:
            model = next((line.split(":")[1].strip() for line in info if line.startswith("model name")), model)
    devices = f", {jax.devices()[0].device_kind}" if jax.default_backend() != "cpu" else ""
    versions = f"Python {platform.python_version()}, jax {jax.__version__}"
    return f"{len(os.sched_getaffinity(0))} cores of {model}{devices}; {versions}"
