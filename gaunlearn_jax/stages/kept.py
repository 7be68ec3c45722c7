"""Runners on disk: a process that finds one neither traces nor lowers what it stands for, and compiles nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gaunlearn_jax.stages import files, programmes
from gaunlearn_jax.stages.runner import Runner

#: runners that a folder holds
MOST = 64


def keep(name: str, runner: Runner, more: Any) -> bool:
    """Write a runner, its programmes by their names, and what else its user wants back, unless some are not kept;
    whether it is there."""
    path = _path(name)
    if path is None:
        return False
    names = {programme: programme.result().name for programme in runner.programmes}
    if not path.exists() and None not in names.values():
        files.write(path, (_with_programmes(runner, names.__getitem__, None), more), MOST)
    return path.exists()


def kept(name: str, sharding: Any) -> tuple[Callable[[], Runner], Any] | None:
    """What `keep` wrote, the runner as a function that loads its programmes in other threads; None where anything is
    missing."""
    path = _path(name)
    found = None if path is None else files.read(path)
    if found is None:
        return None
    wired, more = found
    data = {name: programmes.stored(name) for name in wired.programmes}
    if None in data.values():
        return None

    def load() -> Runner:
        loaded = {name: programmes.submitted(functools.partial(programmes.load, name, d)) for name, d in data.items()}
        return _with_programmes(wired, loaded.__getitem__, sharding)

    return load, more


def _path(name: str) -> Path | None:
    folder = programmes.folder()
    return None if folder is None else folder / "runners" / name


def _with_programmes(runner: Runner, made: Callable[[Any], Any], sharding: Any) -> Runner:
    """The same wiring with other things in the place of the programmes."""
    calls = tuple(
        call._replace(programme=made(call.programme), attempt=None if call.attempt is None else made(call.attempt))
        for call in runner.calls
    )
    parts = tuple(part._replace(programme=made(part.programme)) for part in runner.parts)
    return Runner(parts, calls, runner.out, sharding)
