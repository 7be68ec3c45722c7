"""Words on what takes long, for whoever listens; without a listener they cost nothing."""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

_listener: contextvars.ContextVar[Callable[[str], None] | None] = contextvars.ContextVar("listener", default=None)


@contextlib.contextmanager
def heard(listener: Callable[[str], None]) -> Iterator[None]:
    """Give every sentence that is said inside to the listener."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def say(sentence: str) -> None:
    """What is done now, and how long it may take if that is known."""
    listener = _listener.get()
    if listener is not None:
        listener(sentence)


def counted(what: str, items: Any) -> Iterator[Any]:
    """The items of a sized collection one by one, with the time that the rest needs at the pace so far."""
    began, total = time.monotonic(), len(items) if isinstance(items, Sized) else 0
    iterable: Iterable[Any] = items
    for done, item in enumerate(iterable):
        left = f", about {_duration((time.monotonic() - began) / done * (total - done))} left" if done and total else ""
        say(f"{what} {done + 1} of at most {total}{left}")
        yield item


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
