"""Programmes: what the compiler makes of a function, begun in other threads, and of a stage, once per shapes.

In a folder of the user's (`keep_in`) they outlive the process. JAX's own cache does the same, but what it gives back
cannot be written again by a runner's file (`stages.kept`), so that where this folder is used it is off.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import os
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jaxlib
from jax.experimental import serialize_executable
from jax.extend.core import jaxpr_as_fun
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gaunlearn_jax.base import placing, staging
from gaunlearn_jax.base.compiling import careful
from gaunlearn_jax.stages import files

#: programmes compiled at once: the compiler itself uses several threads for a large one
_COMPILERS = ThreadPoolExecutor(2, thread_name_prefix="compile")
#: for what somebody waits for
_AT_ONCE = ThreadPoolExecutor(1, thread_name_prefix="compile at once")
_BEGUN: weakref.WeakSet[Future[Any]] = weakref.WeakSet()
#: what was begun, by its name and where it is kept
_KNOWN: weakref.WeakValueDictionary[tuple[str, Path | None], Future[Any]] = weakref.WeakValueDictionary()
#: programmes that a folder holds
MOST = 512
_FOLDERS: list[Path] = []


class Programme(NamedTuple):
    """What the compiler made, and the name under which it is kept (None: it is not)."""

    call: Callable[..., Any]
    name: str | None = None

    def __call__(self, *args: Any) -> Any:
        return self.call(*args)


class Later:
    """A programme that is made when it is first asked for: many runs need none of these."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: Any = None

    @property
    def made(self) -> bool:
        """Whether it was asked for."""
        return self._made is not None

    def result(self) -> Programme:
        """The programme; what its compilation raises."""
        if self._made is None:
            self._made = self._make()
        return self._made.result()


def keep_in(folder: Path | None) -> None:
    """Keep what is compiled from now on in a folder (None: nowhere)."""
    _FOLDERS[:] = [] if folder is None else [folder]


def folder() -> Path | None:
    """Where programmes are kept, if anywhere."""
    return _FOLDERS[0] if _FOLDERS else None


@functools.lru_cache(maxsize=64)
def stage_programme(
    stage: Any, avals: tuple[Any, ...], lanes: int, sharding: Any, pool: ThreadPoolExecutor = _COMPILERS
) -> Future[Any]:
    """The compiled programme of a stage for `lanes` lanes on each device."""
    fn, shapes = stage_function(stage, avals, lanes)
    if (devices := elsewhere(stage)) is not None:
        return compile_elsewhere(fn, shapes, sharding, devices, pool)
    return begin_compiling(fn, shapes, sharding, careful(), pool)


@functools.lru_cache(maxsize=64)
def later_programme(stage: Any, avals: tuple[Any, ...], lanes: int, sharding: Any) -> Later:
    """The same, not compiled before somebody asks for it."""
    return Later(functools.partial(stage_programme, stage, avals, lanes, sharding, _AT_ONCE))


def forget() -> None:
    """Drop the programmes of stages: something that they depend on has changed."""
    stage_programme.cache_clear()
    later_programme.cache_clear()


def elsewhere(stage: Any) -> list[jax.Device] | None:
    """The devices of a stage that leaves the home of its lanes; None where it stays."""
    return None if stage.devices == placing.home() else stage.devices


def attempt_of(stage: Any) -> Any:
    """What a stage tries first, as a stage."""
    return dataclasses.replace(stage, fn=stage.attempt, attempt=None)


def stage_function(stage: Any, avals: tuple[Any, ...], lanes: int) -> tuple[Callable[..., Any], list[Any]]:
    """A stage over `lanes` lanes, and the shapes of its arguments."""
    fn = jax.vmap(jaxpr_as_fun(staging.traced(stage, avals)[0]))
    return fn, [jax.ShapeDtypeStruct((lanes, *a.shape), a.dtype) for a in avals]


def spread_over(devices: list[jax.Device]) -> NamedSharding:
    """Arrays with a lane axis, spread over devices."""
    mesh = jax.make_mesh((len(devices),), ("lanes",), axis_types=(AxisType.Auto,), devices=devices)
    return NamedSharding(mesh, PartitionSpec("lanes"))


def compile_elsewhere(
    fn: Callable[..., Any],
    avals: list[Any],
    sharding: NamedSharding | None,
    devices: list[jax.Device],
    pool: ThreadPoolExecutor,
) -> Future[Any]:
    """A programme that runs on other devices, for arguments from the home of the lanes; its results go back there."""
    count = 1 if sharding is None else sharding.mesh.size
    used = math.gcd(count * avals[0].shape[0], len(devices))  # as many as can have equal shares
    there = spread_over(devices[:used])
    lanes = count * avals[0].shape[0] // used
    shapes = [jax.ShapeDtypeStruct((lanes, *a.shape[1:]), a.dtype) for a in avals]
    made = begin_compiling(fn, shapes, there, careful(devices[0].platform), pool)
    back = placing.home()[0] if sharding is None else sharding

    def call(*args: Any) -> Any:
        return jax.device_put(made.result()(*jax.device_put(args, there)), back)

    programme: Future[Any] = Future()
    programme.set_result(Programme(call))
    return programme


def begin_compiling(
    fn: Callable[..., Any],
    avals: list[Any],
    sharding: NamedSharding | None,
    options: Any,
    pool: ThreadPoolExecutor = _COMPILERS,
) -> Future[Any]:
    """A programme for arguments of these shapes on every device, whose first axes are then put together; one for all
    functions that compute the same."""
    if sharding is None:
        lowered = jax.jit(fn).lower(*avals)
    else:
        mesh, lanes = sharding.mesh, sharding.spec
        shared = jax.shard_map(fn, mesh=mesh, in_specs=lanes, out_specs=lanes, check_vma=False)
        count = mesh.size
        spread = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct((a.shape[0] * count, *a.shape[1:]), a.dtype, sharding=sharding), avals
        )
        lowered = jax.jit(shared).lower(*spread)
    devices = None if sharding is None else [str(device) for device in sharding.mesh.devices.flat]
    name = hashlib.sha256(json.dumps([surroundings(), options, devices, lowered.as_text()]).encode()).hexdigest()
    known = _KNOWN.get((name, folder()))
    if known is None or known.cancelled():
        known = _KNOWN[name, folder()] = submitted(functools.partial(_made, name, lowered, options), pool)
    return known


def _made(name: str, lowered: Any, options: Any) -> Programme:
    """The programme of what was lowered: the one that is kept, or a new one, which is."""
    place = folder()
    if place is None:
        return Programme(lowered.compile(compiler_options=options))
    if (data := stored(name)) is not None:
        return load(name, data)
    compiled = lowered.compile(compiler_options=options)
    try:
        data = serialize_executable.serialize(compiled)
    except (ValueError, jax.errors.JaxRuntimeError):  # a backend, or a part of a programme, that cannot
        return Programme(compiled)
    files.write(place / name, data, MOST)
    return Programme(compiled, name)


def stored(name: str) -> Any:
    """What is kept under a name, for `load`; None where nothing is."""
    place = folder()
    return None if place is None else files.read(place / name)


def load(name: str, data: Any) -> Programme:
    """The programme that was kept."""
    return Programme(serialize_executable.deserialize_and_load(*data), name)


@functools.cache
def surroundings() -> list[Any]:
    """What the compiler's work depends on beside its input: versions, settings, devices, a processor's instructions."""
    settings = {key: value for key, value in os.environ.items() if key.startswith(("JAX_", "XLA_"))}
    kinds = [device.device_kind for device in jax.devices()]
    return [jax.__version__, jaxlib.__version__, settings, kinds, jax.process_count(), _instructions()]


def _instructions() -> str:
    """The instructions that this processor knows, where the system says so."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def submitted(work: Callable[[], Any], pool: ThreadPoolExecutor = _COMPILERS) -> Future[Any]:
    """The result of `work`, called in another thread."""
    programme = pool.submit(work)
    _BEGUN.add(programme)
    return programme


def abandon() -> None:
    """Drop the compilations that wait for their turn: an interpreter that ends would finish them first."""
    for programme in list(_BEGUN):
        programme.cancel()
