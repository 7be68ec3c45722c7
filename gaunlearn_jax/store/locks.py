"""Lock files of a results folder: who writes which shard, and which locks are left over from dead processes.

`lock-<i>-of-<N>@<host>@<boot>@<pid namespace>@<pid>@<start time>` is empty; its name says who writes shard i of N
(`lock-run@...`: who writes run.json). A lock is stale, and taken over, when its process is known to be dead: same host,
and another boot, no such process, or another start time. A process on another host, or in another pid namespace (a
container), cannot be looked up and counts as alive: the error names the lock file to delete.
"""

from __future__ import annotations

import math
import os
import random
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gaunlearn_jax.store.disk import StoreError, refuse

SHARD_PATIENCE, RUN_PATIENCE = 0.5, 20.0  # seconds to wait for a lock
LOCK_NAME = re.compile(r"lock-(run|[0-9]+-of-[1-9][0-9]*)@([^@]*)@([^@]*)@([^@]*)@([0-9]+)@([0-9]*)")


def this_machine() -> tuple[str, str, str]:
    """Host, boot and pid namespace of this process, safe in a file name; "" where the system does not say."""
    facts = [socket.gethostname()[:64], "", "", ""]
    with suppress(OSError):
        facts[1] = os.readlink("/proc/self/ns/pid")
    for index, file in ((2, "/proc/sys/kernel/random/boot_id"), (3, "/etc/machine-id")):
        with suppress(OSError):
            facts[index] = Path(file).read_text()[:8]
    host, space, boot, machine = (re.sub(r"[^A-Za-z0-9.-]", "", fact) for fact in facts)
    return f"{host}.{machine}", boot, space


def start_time(pid: int) -> str | None:
    """Start time of a live process in ticks since boot, "" if the system does not say; None: no process."""
    with suppress(OSError, IndexError):
        stats = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if stats[0] in (b"Z", b"X") else stats[19].decode()
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        return ""
    return ""


def is_alive(lock: re.Match[str]) -> bool:
    """Whether the process that a lock's name tells of may still be running."""
    host, boot, space = this_machine()
    if lock[2] != host or (lock[3] == boot and lock[4] != space):
        return True  # cannot be looked up from here
    started = start_time(int(lock[5])) if lock[3] == boot else None
    return started is not None and started in ("", lock[6])


def overlap(one: str, other: str) -> bool:
    """Whether two shards "i-of-N" share a part number; "run" overlaps only itself."""
    if "run" in (one, other):
        return one == other
    (i, n), (j, m) = (map(int, what.split("-of-")) for what in (one, other))
    return (i - j) % math.gcd(n, m) == 0  # some number is i modulo n and j modulo m


def rival_of(folder: Path, what: str, mine: str) -> str | None:
    """The lock of another live process that overlaps `what`; removes all locks of dead ones."""
    rival = None
    for name in os.listdir(folder):
        if name != mine and (match := LOCK_NAME.fullmatch(name)):
            if not is_alive(match):
                (folder / name).unlink(missing_ok=True)
            elif overlap(match[1], what):
                rival = name
    return rival


def acquire(folder: Path, what: str, patience: float) -> Path:
    """Make our lock file, then look for rivals: of two processes the one that looks later sees the other.

    If both see each other both step back and try again after a random pause, for `patience` seconds.
    No name is ever shared, so removing a dead process's lock cannot remove a live one's.
    """
    host, boot, space = this_machine()
    lock = folder / f"lock-{what}@{host}@{boot}@{space}@{os.getpid()}@{start_time(os.getpid()) or ''}"
    deadline = time.monotonic() + patience
    while True:
        rival: str | None = lock.name  # stays if this process holds it already
        try:
            with suppress(FileExistsError):
                os.close(os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
                try:
                    rival = rival_of(folder, what, lock.name)
                finally:
                    if rival is not None:
                        lock.unlink(missing_ok=True)
        except OSError as error:
            refuse(error, folder, "the lock")
        if rival is None:
            return lock
        if time.monotonic() > deadline:
            _, owner, _, _, pid, _ = rival.split("@")
            raise StoreError(
                f"{str(folder)!r} is written by process {pid} on host {owner}, expected nobody on {what}: "
                f"wait, or give each process its own shard i/N of one N; if it is dead, delete {rival!r}."
            )
        time.sleep(random.uniform(0.02, 0.1))


def release(lock: Path, owner: int) -> None:
    """Remove the lock, if this is the process that made it."""
    if os.getpid() == owner:  # not in a forked child
        with suppress(OSError):
            lock.unlink()


@contextmanager
def run_json_locked(folder: Path) -> Iterator[None]:
    """Hold the lock of run.json, which all shards share, for a moment."""
    lock = acquire(folder, "run", RUN_PATIENCE)
    try:
        yield
    finally:
        release(lock, os.getpid())
