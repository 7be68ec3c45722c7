"""Memory: how many lanes run at once, and which sweeps are refused because they cannot fit."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from jax.extend import core

from gaunlearn_jax import sweep
from gaunlearn_jax.base import placing, staging

#: the part of the free memory that is planned for; the rest is for compilations and other programs
SHARE = 0.5
#: compiled programs need 0.7 to 1.4 times what is alive in the traced function
SLACK = 2.0
#: primitives that only call a function
CALLS = ("jit", "pjit", "closed_call", "custom_jvp_call")


def host_free() -> int:
    """Bytes that this machine can still give out: available pages, or less in a container with a limit."""
    names = os.sysconf_names
    pages = os.sysconf("SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in names else "SC_PHYS_PAGES")
    free = pages * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, StopIteration, ValueError):  # Linux: caches count as free
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable:")))
    with suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        free = min(free, int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return max(free, 0)


def device_free() -> int:
    """Bytes free for each device where lanes live; CPU devices share the machine's."""
    devices = placing.home()
    stats = devices[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return host_free() // len(devices)


def live_bytes(jaxpr: Any) -> int:
    """The most bytes of intermediate values alive at once in a traced function, inside its loops too."""
    last = {v: i for i, eqn in enumerate(jaxpr.eqns) for v in eqn.invars if isinstance(v, core.Var)}
    last |= {v: len(jaxpr.eqns) for v in jaxpr.outvars if isinstance(v, core.Var)}
    ends: dict[int, list[Any]] = {}
    for v, i in last.items():
        ends.setdefault(i, []).append(v)
    sizes: dict[Any, int] = {}
    alive = most = 0
    for i, eqn in enumerate(jaxpr.eqns):
        before = alive
        made = {v: math.prod(v.aval.shape) * v.aval.dtype.itemsize for v in eqn.outvars}
        sizes |= made
        alive += sum(made.values())
        inner = max(map(live_bytes, core.jaxprs_in_params(eqn.params)), default=0)
        if eqn.primitive is staging.staged_p:
            stage, depth = eqn.params["stage"], eqn.params["depth"]
            one = live_bytes(staging.traced(stage, staging.shapes([v.aval for v in eqn.invars], depth))[0].jaxpr)
            inner = math.prod(eqn.outvars[0].aval.shape[:depth]) * one
        # a call's results are those of its inside, which has counted them
        called = eqn.primitive is staging.staged_p or eqn.primitive.name in CALLS
        most = max(most, alive, (before if called else alive) + inner)
        unused = [v for v in made if v not in last]
        alive -= sum(sizes.pop(v, 0) for v in [*ends.get(i, ()), *unused])
    return most


def chunk(name: str, lanes: int, per_lane: float, asked: int | None, entries: int = sweep.TYPICAL_ENTRIES) -> int:
    """Lanes at once, for `per_lane` bytes each: `asked` ones, or as many as fit, at most the default of `sweep` for
    `entries` numbers in the largest array of a lane.

    ValueError with the estimate: the smallest chunk, or the one that was asked for, does not fit.
    """
    devices, free = len(placing.home()), device_free()
    size, least = sweep.chunk_size(lanes, asked, entries), sweep.chunk_size(lanes, 1)
    room = int(SHARE * free / per_lane) * devices
    if least > room:
        raise ValueError(
            f"{name} needs about {text(least * per_lane)} for the smallest chunk of {least} lanes, more than "
            f"{SHARE:.0%} of the {text(free * devices)} that are free; give fewer --points or --neurons"
        )
    if asked is not None and size * per_lane > free * devices:
        raise ValueError(
            f"{name} with --chunk {asked} needs about {text(size * per_lane)}, more than the {text(free * devices)} "
            f"that are free; give at most --chunk {room}"
        )
    return size if asked is not None else min(size, room)


def require_results(lanes: int, columns: int) -> None:
    """ValueError with the estimate if `lanes` rows of float64 columns, held twice while they are joined, do not fit."""
    needed, free = 2 * 8 * lanes * columns, host_free()
    if needed > SHARE * free:
        raise ValueError(
            f"the results of {lanes} lanes need about {text(needed)}, more than {SHARE:.0%} of the {text(free)} that "
            "are free; give fewer --seeds, and the others by --seed-start in another folder"
        )


def text(size: float) -> str:
    """A number of bytes in words."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB" if size < 1024 else f"{size:,.0f} TiB"
