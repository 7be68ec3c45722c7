"""The only place that batches lanes: vmap, jit, padded chunks, and devices.

A lane is one call of a pure function. Chunks have a fixed size (the last one is padded with copies of its last lane),
so a sweep over any number of lanes compiles once, and a rerun on the same devices is bitwise the same.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from gaunlearn_jax.base import checks, numerics, placing
from gaunlearn_jax.base.compiling import hurry
from gaunlearn_jax.stages.cut import Stages
from gaunlearn_jax.stages.programmes import spread_over
from gaunlearn_jax.stages.runner import Runner

#: bytes of a CPU core's cache that the largest array of a batch may take, and lanes of one batch elsewhere
CPU_CACHE = 2**21
LANES_ELSEWHERE = 4096
#: numbers in the largest array of a lane, n m^2, where nothing is said
TYPICAL_ENTRIES = 4096


class Compiled:
    """vmap(fn) as programmes, one set per shapes of the arguments (`stages`)."""

    def __init__(self, fn: Callable[..., Any], hurried: bool) -> None:
        self._fn, self._hurried = fn, hurried
        self._traced: dict[Any, Stages] = {}
        self._given: dict[Any, Callable[[], Runner]] = {}
        self._runners: dict[Any, Runner] = {}

    def stages(self, args: Any) -> Stages:
        """What is traced for arguments of these shapes, arrays or their shapes."""
        key, avals = _key(args)
        if key not in self._traced:
            self._traced[key] = Stages(self._fn, avals, key.sharding, hurry() if self._hurried else None)
        return self._traced[key]

    def runner(self, args: Any) -> Runner:
        """What computes for arguments of these shapes; its programmes are begun, and what was traced is let go."""
        key, _ = _key(args)
        if key not in self._runners:
            make = self._given.pop(key, None) or self.stages(args).runner
            self._runners[key] = make()
            self._traced.pop(key, None)
        return self._runners[key]

    def give(self, args: Any, make: Callable[[], Runner]) -> None:
        """Say what makes the runner for arguments of these shapes."""
        self._given[_key(args)[0]] = make

    def release(self, args: Any) -> Runner | None:
        """Let the runner for arguments of these shapes go, if it was begun."""
        return self._runners.pop(_key(args)[0], None)

    def __call__(self, *args: Any) -> Any:
        return self.runner(args)(*args)


class _Key(NamedTuple):
    """Shapes on one device, the tree they come in, and the devices."""

    leaves: tuple[Any, ...]
    tree: Any
    sharding: NamedSharding | None


def _key(args: Any) -> tuple[_Key, Any]:
    sharding = lane_sharding()
    count = 1 if sharding is None else sharding.mesh.size
    avals = jax.tree.map(lambda a: jax.ShapeDtypeStruct((a.shape[0] // count, *a.shape[1:]), a.dtype), args)
    return _Key(tuple(jax.tree.leaves(avals)), jax.tree.structure(avals), sharding), avals


@functools.lru_cache(maxsize=64)
def compiled(fn: Callable[..., Any], hurried: bool = False) -> Compiled:
    """vmap(fn) over lanes, one per function object: pass the same function again to reuse its compilation.

    `hurried` saves most of the compiler's time and makes programmes that are two or three times slower: for few lanes.
    Stages (`base.staging`) are compiled with care all the same.

    With several devices each runs its share as a program of its own: lanes are independent, so that no loop waits for
    another device's lanes.
    """
    return Compiled(fn, hurried)


def lane_count(args: tuple[Any, ...]) -> int:
    """The common leading size of all leaves; ValueError if they differ or there is none."""
    sizes = {int(leaf.shape[0]) if np.ndim(leaf) else -1 for leaf in jax.tree.leaves(args)}
    if len(sizes) != 1 or -1 in sizes:
        raise ValueError(f"every argument needs the same leading lane axis, got sizes {sorted(sizes)} (-1: no axis)")
    return sizes.pop()


def lane_sharding() -> NamedSharding | None:
    """Lanes spread over all devices of their home; None where that is the only device there is."""
    home = placing.home()
    return None if len(home) == 1 and home == placing.devices() else spread_over(home)


def chunk_size(lanes: int, chunk: int | None, entries: int = TYPICAL_ENTRIES) -> int:
    """The padded chunk: at most `chunk`, a multiple of the device count, at least two lanes per device.

    By default what fills an accelerator, or a power of two of what stays in the cache of a CPU core, `entries` numbers
    per lane."""
    devices = len(placing.home())
    cached = 2 ** math.floor(math.log2(max(2, min(1024, CPU_CACHE // (8 * entries)))))
    default = devices * (cached if placing.platform() == "cpu" else LANES_ELSEWHERE)
    size = default if chunk is None else checks.whole("chunk", chunk, 1, "a positive whole number of lanes")
    wanted = min(lanes, size)
    return max(2, -(-wanted // devices)) * devices


def batched(
    fn: Callable[..., Any],
    *args: Any,
    chunk: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    on_halved: Callable[[int], object] | None = None,
    hurried: bool = False,
) -> Any:
    """Call `fn` on every lane: args are pytrees with a leading lane axis, the result likewise (NumPy arrays).

    `chunk` lanes run at once (default: see `chunk_size`; padded to a multiple of the devices);
    progress(done, total) is called after each chunk. When a device runs out of memory the chunk is halved,
    on_halved(new size) is called, and the work goes on. `hurried`: see `compiled`. Draws made inside fn depend on its
    arguments alone, never on the chunk. ValueError for an empty sweep or unequal lane axes.

    >>> batched(jnp.square, jnp.arange(5.0), chunk=2)
    array([ 0.,  1.,  4.,  9., 16.])
    """
    numerics.require_x64()
    lanes = lane_count(args)
    if lanes == 0:
        raise ValueError("the sweep has no lanes: give at least one seed, dimension and forget set")
    size, start, pieces = chunk_size(lanes, chunk), 0, []
    while start < lanes:
        try:
            pieces.append(_one_chunk(compiled(fn, hurried), args, start, size, lanes))
        except jax.errors.JaxRuntimeError as error:
            smaller = chunk_size(size // 2, None)
            if "RESOURCE_EXHAUSTED" not in str(error) or smaller >= size:
                raise
            size = smaller
            if on_halved is not None:
                on_halved(size)
            continue
        start += size
        if progress is not None:
            progress(min(start, lanes), lanes)
    return jax.tree.map(_join, *pieces)


def _one_chunk(program: Any, args: Any, start: int, size: int, lanes: int) -> Any:
    """Lanes start .. start + size, padded with copies of the last lane so that every chunk has one shape."""
    take = np.minimum(np.arange(start, start + size), lanes - 1)
    part = jax.tree.map(lambda leaf: leaf[take] if _is_key(leaf) else np.asarray(leaf)[take], args)
    sharding = lane_sharding()
    if sharding is not None:
        part = jax.device_put(part, sharding)
    keep = min(size, lanes - start)
    return jax.tree.map(lambda leaf: _host(leaf)[:keep], program(*part))


def _is_key(leaf: Any) -> bool:
    return bool(jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _host(leaf: jax.Array) -> Any:
    return leaf if _is_key(leaf) else np.asarray(leaf)


def _join(*leaves: Any) -> Any:
    return jnp.concatenate(leaves) if _is_key(leaves[0]) else np.concatenate(leaves)
