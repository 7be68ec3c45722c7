"""Runners on disk: a process that finds one neither traces nor lowers what it stands for, and compiles nothing that
lanes have needed before."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gaunlearn_jax.stages import files, programmes
from gaunlearn_jax.stages.programmes import Later
from gaunlearn_jax.stages.runner import Runner

#: runners that a folder holds
MOST = 64
#: the name of a programme that no lane needed
NOT_MADE = ""


def keep(name: str, runner: Runner, more: Any) -> bool:
    """Write a runner, its programmes by their names, and what else its user wants back, unless some are not kept;
    whether it is there."""
    path = _path(name)
    if path is None:
        return False
    late = {programme: programme.made for programme in runner.programmes if isinstance(programme, Later)}
    names = {p: p.result().name if late.get(p, True) else NOT_MADE for p in runner.programmes}
    if None not in names.values() and (not path.exists() or any(late.values())):
        files.write(path, (_with_programmes(runner, names.__getitem__, None), more), MOST)
    return path.exists()


def kept(name: str, sharding: Any, again: Callable[[int], Any]) -> tuple[Callable[[], Runner], Any] | None:
    """What `keep` wrote, the runner as a function that loads its programmes in other threads; None where anything is
    missing. again(number of a call) makes the programme that no lane has needed yet."""
    path = _path(name)
    found = None if path is None else files.read(path)
    if found is None:
        return None
    wired, more = found
    data = {name: programmes.stored(name) for name in wired.programmes if name != NOT_MADE}
    if None in data.values():
        return None

    def load() -> Runner:
        loaded = {name: programmes.submitted(functools.partial(programmes.load, name, d)) for name, d in data.items()}
        late = tuple(
            call._replace(programme=Later(functools.partial(again, i))) if call.programme == NOT_MADE else call
            for i, call in enumerate(wired.calls)
        )
        whole = Runner(wired.parts, late, wired.out, None)
        return _with_programmes(whole, lambda programme: loaded.get(programme, programme), sharding)

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
