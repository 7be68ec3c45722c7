"""What a long audit is doing, on stderr: a spinner in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

from rich.console import Console

from gaunlearn_jax.base import progress

#: seconds of silence before the first line where there is no terminal, and between two
FIRST, EVERY = 10.0, 30.0


@contextlib.contextmanager
def told(first: float = FIRST, every: float = EVERY) -> Iterator[None]:
    """Tell what `progress.say` says inside."""
    console = Console(stderr=True)
    if console.is_terminal:
        with console.status("reading") as status, progress.heard(status.update):
            yield
        return
    heard, ended, began = ["reading"], threading.Event(), time.monotonic()

    def now_and_then() -> None:
        wait = first
        while not ended.wait(wait):
            with contextlib.suppress(OSError, ValueError):
                print(f"{time.monotonic() - began:.0f} s: {heard[0]}", file=sys.stderr, flush=True)
            wait = every

    teller = threading.Thread(target=now_and_then, daemon=True)
    teller.start()
    try:
        with progress.heard(lambda sentence: heard.__setitem__(0, sentence)):
            yield
    finally:
        ended.set()
        teller.join()
