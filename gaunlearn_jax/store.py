"""Results on disk: a folder of sealed parts that survives kills, full disks, flipped bits, second processes.

Format, version 1 (NumPy and JSON; nothing is ever pickled or unpickled):

- `run.json`, created once, before the first lane: format name and version, grid and its SHA-256 (of its
  canonical JSON), columns, code version, environment, parts (lane ranges [start, stop) that tile [0, lanes)),
  device batch, notes, and a SHA-256 over all of these. `run-copy.json` holds the same, to restore it from.
- `part-<number>-<first 16 hex digits of the file's SHA-256>.npy`: float64 [stop - start, columns], row-major,
  little-endian, after the one 128-byte header of that shape. The directory listing is the manifest.
- `lock-<i>-of-<N>@<host>@<boot>@<pid namespace>@<pid>@<start time>`: empty; its name says who writes shard i
  of N (`lock-run@...`: who writes run.json). `tmp-*` were never sealed, `damaged-*` were set aside: ignored.

Promises. Every file is written under a temporary name, fsynced, renamed once, and its folder fsynced: a part
that `write` returned from is not lost, a killed writer leaves each part whole or absent. A changed bit in a
part or in run.json is noticed. A part is never replaced by other bytes. Shards that share a part number never
write at the same time. A lock is stale, and taken over, when its process is known to be dead: same host, and
another boot, no such process, or another start time. A process on another host, or in another pid namespace
(a container), cannot be looked up and counts as alive: the error names the lock file to delete.

Every error is a `StoreError` (a ValueError): what was given, what was expected, what to do.
Writing needs Linux or macOS; `load` works anywhere.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import json
import math
import os
import random
import re
import socket
import stat
import struct
import sys
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

FORMAT, VERSION = "gaunlearn-run", 1
HARMLESS = frozenset({"command_line", "hostname", "process", "shard", "time"})
"""Environment fields that may change on resume without lowering the bitwise promise; any other lowers it."""

_PART = re.compile(r"(tmp-)?part-([0-9]{6}|[1-9][0-9]{6,})-[0-9a-f]{16}\.npy")
_LOCK = re.compile(r"lock-(run|[0-9]+-of-[1-9][0-9]*)@([^@]*)@([^@]*)@([^@]*)@([0-9]+)@([0-9]*)")
_DEBRIS = re.compile(r"lock-.*|tmp-run\.json")  # what a writer killed before run.json was there may leave
_READ = sum(getattr(os, flag, 0) for flag in ("O_RDONLY", "O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
_MAX_JSON, _MAX_DEPTH, _MAX_LANES = 1 << 26, 64, 1 << 53
_SHARD_PATIENCE, _RUN_PATIENCE = 0.5, 20.0  # seconds to wait for a lock
_ABSENT = object()


class StoreError(ValueError):
    """What was given, what was expected, what to do, in one sentence. What is sealed stays valid."""


class _Damaged(StoreError):
    """The reason why a part file is not what was sealed."""


@dataclass(frozen=True)
class RunRecord:
    """The fields of run.json. Notes: dicts with `event`, `shard`, `bitwise` (False lowers the promise)."""

    grid: dict[str, Any]
    columns: list[str]
    code_version: str
    environment: dict[str, Any]
    parts: list[list[int]]
    batch: int
    notes: list[dict[str, Any]]

    @property
    def bitwise(self) -> bool:
        """Whether a rerun on the same devices and versions is still promised to be bitwise equal."""
        return all(note.get("bitwise") is not False for note in self.notes)

    @property
    def lanes(self) -> int:
        """The number of lanes of the whole run."""
        return self.parts[-1][1]


@dataclass(frozen=True)
class LoadedRun:
    """A folder as arrays: `columns[name]` float64 [present lanes], in the order of `lanes`, their numbers.

    `missing`: numbers of the parts without a valid file; `damaged`: which of them are damaged, and how.
    """

    grid: dict[str, Any]
    columns: dict[str, NDArray[np.float64]]
    lanes: NDArray[np.int64]
    missing: list[int]
    damaged: list[str]
    environment: dict[str, Any]
    record: RunRecord


def check_json(value: Any, where: str, depth: int = 0) -> None:
    """StoreError for what JSON cannot say: keys other than strings, nan, inf, other types, 65 levels."""
    if depth > _MAX_DEPTH:
        raise StoreError(f"{where[:60]}... is nested deeper than {_MAX_DEPTH} levels: flatten it.")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise StoreError(f"{where} has the key {key!r}, expected strings: use str(key).")
            check_json(item, f"{where}.{key}", depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            check_json(item, f"{where}[{index}]", depth + 1)
    elif isinstance(value, int | float):
        if not abs(value) <= sys.float_info.max:
            raise StoreError(f"{where} is nan, inf or above 1.8e308, expected a finite number: use null.")
    elif value is not None and not isinstance(value, str):
        kind = type(value).__name__
        raise StoreError(f"{where} is a {kind}, expected JSON: use dict, list, int, float, str.")


def parse_json(text: bytes, what: str) -> Any:
    """Strict JSON: duplicate keys, NaN, 1e400, deep nesting and truncation are a StoreError naming `what`."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in items:
            if key in result:
                raise ValueError(f"the key {key!r} occurs twice")
            result[key] = value
        return result

    def constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is not a JSON number")

    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "nested too deeply"
        raise StoreError(f"{what} is not valid JSON ({reason}): correct it, or restore it.") from error
    check_json(value, what)  # 1e400 was parsed as inf
    return value


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_hash(value: Any) -> str:
    """SHA-256, as 64 hex digits, of the canonical JSON (sorted keys, no spaces, ASCII) of `value`."""
    return hashlib.sha256(_canonical(value).encode()).hexdigest()


def _differences(old: Any, new: Any, where: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key, _ABSENT), new.get(key, _ABSENT), f"{where}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from _differences(left, right, f"{where}[{index}]")
    else:
        left, right = ("nothing" if value is _ABSENT else _canonical(value) for value in (old, new))
        if left != right:
            yield f"{where}: the folder has {left:.80}, this run has {right:.80}"


def split_lanes(lanes: int, size: int) -> list[tuple[int, int]]:
    """Part ranges [start, stop) of `size` lanes (the last may have fewer) that tile [0, lanes)."""
    for name, value in (("lanes", lanes), ("size", size)):
        if type(value) is not int or value < 1:
            raise StoreError(f"{name} is {value!r}, expected an integer of at least 1: the grid is empty?")
    return [(start, min(start + size, lanes)) for start in range(0, lanes, size)]


def _checked(record: RunRecord, what: str) -> RunRecord:
    """Check every field; return the record as JSON would (tuples become lists)."""

    def expect(good: bool, field: str, value: Any, expected: str) -> None:
        if not good:
            raise StoreError(f"{what}: {field} is {value!r:.80}, expected {expected}: correct it.")

    columns, parts, notes = record.columns, record.parts, record.notes
    for field in ("grid", "environment"):
        value = getattr(record, field)
        expect(isinstance(value, dict), field, value, "a dict")
        check_json(value, field)
    names = isinstance(columns, list | tuple) and all(isinstance(name, str) and name for name in columns)
    expect(names and 0 < len(set(columns)) == len(columns), "columns", columns, "different names, 1 or more")
    expect(isinstance(record.code_version, str), "code_version", record.code_version, "a string")
    expect(type(record.batch) is int and record.batch > 0, "batch", record.batch, "an integer of at least 1")
    good = isinstance(notes, list) and all(isinstance(note, dict) for note in notes)
    expect(good, "notes", notes, "a list of dicts")
    sizes = [note.get("batch") for note in notes if note.get("event") == "halved"]
    expect(all(type(size) is int and size > 0 for size in sizes), "halved batch", sizes, "positive integers")
    check_json(notes, "notes")
    expect(isinstance(parts, list | tuple) and len(parts) > 0, "parts", parts, "one range or more")
    end = 0
    for number, part in enumerate(parts):
        pair = isinstance(part, list | tuple) and len(part) == 2 and all(type(edge) is int for edge in part)
        good = pair and part[0] == end < part[1] <= _MAX_LANES
        expect(good, f"parts[{number}]", part, f"[{end}, stop) with stop from {end + 1} to 2**53")
        end = part[1]
    plain: dict[str, Any] = json.loads(_canonical(asdict(record)))
    return RunRecord(**plain)


def _encode(record: RunRecord) -> bytes:
    head = {"format": FORMAT, "version": VERSION, "grid_sha256": content_hash(record.grid)}
    entries = {**head, **asdict(record)}
    entries["checksum"] = content_hash(entries)
    return ("{\n" + ",\n".join(f'"{key}": {_canonical(entries[key])}' for key in entries) + "\n}\n").encode()


def _read(path: Path, most: int) -> bytes:
    """All bytes of a regular file of at most `most` bytes; follows no symbolic link, waits for no pipe."""
    descriptor = os.open(path, _READ)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            raise _Damaged(f"{path.name} has {status.st_size} bytes, expected a plain file of at most {most}")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(status.st_size)  # never `most`: read allocates what it is asked for
    finally:
        os.close(descriptor)


def _read_record(folder: Path) -> RunRecord:
    path, remedy = str(folder / "run.json"), "the parts are untouched: copy run-copy.json over run.json."
    try:
        entries = parse_json(_read(folder / "run.json", _MAX_JSON), "run.json")
    except (FileNotFoundError, NotADirectoryError):
        todo = "copy run-copy.json to it" if os.path.lexists(folder / "run-copy.json") else "give one"
        raise StoreError(f"{path!r} does not exist, expected a results folder: {todo}.") from None
    except OSError as error:
        given = f"{path!r} cannot be read ({error.strerror})"
        raise StoreError(f"{given}, expected a plain file you may read: correct that.") from error
    except ValueError as error:
        raise StoreError(f"{path!r} cannot be read ({error}); {remedy}") from error
    if not isinstance(entries, dict) or entries.get("format") != FORMAT:
        raise StoreError(f"{path!r} does not say format {FORMAT!r}: give a results folder; if it is, {remedy}")
    if entries.pop("checksum", None) != content_hash(entries):
        raise StoreError(f"{path!r} does not match its checksum (a flipped bit, or it was edited); {remedy}")
    if type(entries.get("version")) is not int or entries["version"] != VERSION:
        given = f"{path!r} has format version {entries.get('version')!r}"
        raise StoreError(f"{given}, expected {VERSION}: use the program that wrote it.")
    names = {field.name for field in fields(RunRecord)}
    if set(entries) != names | {"format", "version", "grid_sha256"}:
        raise StoreError(f"{path!r} has other fields than format version {VERSION}; {remedy}")
    record = _checked(RunRecord(**{name: entries[name] for name in names}), path)
    if entries["grid_sha256"] != content_hash(record.grid):
        raise StoreError(f"{path!r} has a grid_sha256 that is not that of its grid; {remedy}")
    return record


def _refuse(error: OSError, folder: Path, what: str) -> NoReturn:
    where = f"{what} could not be written in {str(folder)!r} ({error.strerror})"
    if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        where = f"the disk is full: {where}; free space or raise the quota, then run the same command again"
    else:
        where += ", expected a folder you may write: correct its permissions or give another one"
    raise StoreError(f"{where}; what was sealed before is complete.") from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot sync folders
            raise
    finally:
        os.close(descriptor)


def _seal(folder: Path, name: str, data: bytes) -> None:
    """Temporary file, fsync, one rename, fsync of the folder; the temporary file never outlives an error."""
    temporary = folder / f"tmp-{name}"
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, folder / name)
        _sync(folder)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            _refuse(error, folder, name)
        raise


def _header(rows: int, columns: int) -> bytes:
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({rows}, {columns}), }}"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + text.ljust(117).encode() + b"\n"


def _part_name(number: int, data: bytes) -> str:
    return f"part-{number:06d}-{hashlib.sha256(data).hexdigest()[:16]}.npy"


def _listing(folder: Path) -> dict[int, list[str]]:
    """Part number -> its sealed files (one, unless something went wrong)."""
    found: dict[int, list[str]] = {}
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise StoreError(f"{str(folder)!r} cannot be read ({error.strerror}): bring it back.") from error
    for name in names:
        if (match := _PART.fullmatch(name)) and not match[1]:
            found.setdefault(int(match[2]), []).append(name)
    return found


def _read_part(folder: Path, name: str, number: int, record: RunRecord) -> NDArray[np.float64]:
    """One part. _Damaged unless its size (looked at first), hash and header are those that were sealed."""
    if number >= len(record.parts):
        raise _Damaged(f"{name}: run.json has {len(record.parts)} parts, none with this number")
    (start, stop), width = record.parts[number], len(record.columns)
    header, size = _header(stop - start, width), 128 + 8 * (stop - start) * width
    try:
        data = _read(folder / name, size)
    except OSError as error:
        if error.errno in (errno.EIO, errno.ELOOP, errno.ENOENT):
            raise _Damaged(f"{name}: {error.strerror}") from error
        given = f"{str(folder / name)!r} cannot be read ({error.strerror})"
        raise StoreError(f"{given}, expected a file you may read: correct that.") from error
    if len(data) != size:
        raise _Damaged(f"{name} has {len(data)} bytes, expected {size}")
    if _part_name(number, data) != name:
        raise _Damaged(f"{name}: its SHA-256 is not the one in its name")
    if not data.startswith(header):
        raise _Damaged(f"{name}: its header does not say float64 of shape ({stop - start}, {width})")
    return np.frombuffer(data, "<f8", offset=len(header)).reshape(stop - start, width)


def _at_most_one(folder: Path, number: int, valid: Sequence[str]) -> None:
    if len(valid) > 1:
        raise StoreError(
            f"{str(folder)!r} has {' and '.join(valid)}, expected one for part {number}: non-determinism or "
            "a wrong grid; move both away to have the part computed again."
        )


def load(path: str | os.PathLike[str]) -> LoadedRun:
    """Read all lanes of all valid parts, in order; writes nothing, takes no lock, may follow a symbolic link.

    A damaged part counts as missing and is named in `damaged`. StoreError: no results folder; a run.json that
    is damaged or of another format; two valid files with different bytes for one part.
    """
    folder = Path(path)
    record = _read_record(folder)
    arrays: dict[int, NDArray[np.float64]] = {}
    damaged: list[str] = []
    for number, names in _listing(folder).items():
        valid: list[str] = []
        for name in names:
            try:
                arrays[number] = _read_part(folder, name, number, record)
                valid.append(name)
            except _Damaged as error:
                damaged.append(str(error))
        _at_most_one(folder, number, valid)
    present = sorted(arrays)
    missing = sorted(set(range(len(record.parts))) - set(present))
    ranges = [np.arange(*record.parts[number], dtype=np.int64) for number in present]
    lanes = np.concatenate([np.zeros(0, np.int64), *ranges])
    table, end = np.empty((len(record.columns), len(lanes))), 0
    for number in present:
        rows = arrays.pop(number)
        table[:, end : end + len(rows)] = rows.T
        end += len(rows)
    columns = dict(zip(record.columns, table, strict=True))
    return LoadedRun(record.grid, columns, lanes, missing, damaged, record.environment, record)


def _machine() -> tuple[str, str, str]:
    """Host, boot and pid namespace of this process, safe in a file name; "" where the system does not say."""
    facts = [socket.gethostname()[:64], "", "", ""]
    with suppress(OSError):
        facts[1] = os.readlink("/proc/self/ns/pid")
    for index, file in ((2, "/proc/sys/kernel/random/boot_id"), (3, "/etc/machine-id")):
        with suppress(OSError):
            facts[index] = Path(file).read_text()[:8]
    host, space, boot, machine = (re.sub(r"[^A-Za-z0-9.-]", "", fact) for fact in facts)
    return f"{host}.{machine}", boot, space


def _started(pid: int) -> str | None:
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


def _alive(lock: re.Match[str]) -> bool:
    host, boot, space = _machine()
    if lock[2] != host or (lock[3] == boot and lock[4] != space):
        return True  # cannot be looked up from here
    started = _started(int(lock[5])) if lock[3] == boot else None
    return started is not None and started in ("", lock[6])


def _overlap(one: str, other: str) -> bool:
    if "run" in (one, other):
        return one == other
    (i, n), (j, m) = (map(int, what.split("-of-")) for what in (one, other))
    return (i - j) % math.gcd(n, m) == 0  # some number is i modulo n and j modulo m


def _rival(folder: Path, what: str, mine: str) -> str | None:
    """The lock of another live process that overlaps `what`; removes all locks of dead ones."""
    rival = None
    for name in os.listdir(folder):
        if name != mine and (match := _LOCK.fullmatch(name)):
            if not _alive(match):
                (folder / name).unlink(missing_ok=True)
            elif _overlap(match[1], what):
                rival = name
    return rival


def _acquire(folder: Path, what: str, patience: float) -> Path:
    """Make our lock file, then look for rivals: of two processes the one that looks later sees the other.

    If both see each other both step back and try again after a random pause, for `patience` seconds.
    No name is ever shared, so removing a dead process's lock cannot remove a live one's.
    """
    host, boot, space = _machine()
    lock = folder / f"lock-{what}@{host}@{boot}@{space}@{os.getpid()}@{_started(os.getpid()) or ''}"
    deadline = time.monotonic() + patience
    while True:
        rival: str | None = lock.name  # stays if this process holds it already
        try:
            with suppress(FileExistsError):
                os.close(os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
                try:
                    rival = _rival(folder, what, lock.name)
                finally:
                    if rival is not None:
                        lock.unlink(missing_ok=True)
        except OSError as error:
            _refuse(error, folder, "the lock")
        if rival is None:
            return lock
        if time.monotonic() > deadline:
            _, owner, _, _, pid, _ = rival.split("@")
            raise StoreError(
                f"{str(folder)!r} is written by process {pid} on host {owner}, expected nobody on {what}: "
                f"wait, or give each process its own shard i/N of one N; if it is dead, delete {rival!r}."
            )
        time.sleep(random.uniform(0.02, 0.1))


def _release(lock: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a forked child
        with suppress(OSError):
            lock.unlink()


@contextmanager
def _run_json_locked(folder: Path) -> Iterator[None]:
    lock = _acquire(folder, "run", _RUN_PATIENCE)
    try:
        yield
    finally:
        _release(lock, os.getpid())


class Store:
    """A results folder open for writing by one shard, from `create_or_resume`; use it in a `with` block.

    path; shard (i, N); record: run.json as of now; batch: the device batch to use (that of run.json, or the
    smallest one recorded by a halving); damaged: what was set aside, in words; close(): release the lock.
    """

    def __init__(self, path: Path, shard: tuple[int, int], record: RunRecord, lock: Path) -> None:
        self.path, self.shard, self.record, self._lock = path, shard, record, lock
        self.batch, self.damaged = record.batch, list[str]()
        self.close = weakref.finalize(self, _release, lock, os.getpid())

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _owns(self, number: int) -> bool:
        return number % self.shard[1] == self.shard[0]

    def missing(self) -> list[int]:
        """Numbers of this shard's parts that have no sealed file, in order."""
        present = _listing(self.path)
        numbers = range(self.shard[0], len(self.record.parts), self.shard[1])
        return [number for number in numbers if number not in present]

    def write(self, number: int, array: NDArray[np.float64]) -> None:
        """Seal part `number`, float64 [stop - start, columns]; once this returns the part is on disk.

        The same bytes again are a no-op. StoreError: a number outside this shard; another dtype or shape; a
        valid file with other bytes is there; a full disk (the temporary file is removed); a lost lock.
        """
        parts, (index, shards) = self.record.parts, self.shard
        if type(number) is not int or not 0 <= number < len(parts) or not self._owns(number):
            what = f"an integer below {len(parts)} that is {index} modulo {shards}"
            raise StoreError(f"the part number is {number!r}, expected {what}: use those of missing().")
        shape = (parts[number][1] - parts[number][0], len(self.record.columns))
        plain = isinstance(array, np.ndarray) and not isinstance(array, np.ma.MaskedArray)
        if not plain or array.dtype != np.float64 or array.shape != shape:
            given = f"{type(array).__name__} {getattr(array, 'dtype', '')} {getattr(array, 'shape', '')}"
            raise StoreError(f"part {number} is {given}, expected ndarray float64 {shape}: convert it.")
        self._check_lock()
        data = _header(*shape) + np.ascontiguousarray(array, "<f8").tobytes()
        target = _part_name(number, data)
        for name in _listing(self.path).get(number, []):
            if self._intact(name, number) and name != target:
                raise StoreError(
                    f"part {number} would get other bytes than the sealed {name}, expected the same: "
                    "non-determinism or a wrong grid; find out which, or give another folder."
                )
        if not os.path.lexists(self.path / target):
            _seal(self.path, target, data)

    def verify(self) -> list[str]:
        """Read this shard's parts; rename each damaged one to `damaged-...`, so it is missing; say which.

        StoreError: two valid files for one part. `create_or_resume` has called this once.
        """
        self._check_lock()
        before = len(self.damaged)
        for number, names in _listing(self.path).items():
            if self._owns(number):
                _at_most_one(self.path, number, [name for name in names if self._intact(name, number)])
        return self.damaged[before:]

    def halve_batch(self, reason: str = "out of memory", least: int = 1) -> int:
        """Halve the device batch, note it in run.json (lowers the bitwise promise), return the new batch.

        StoreError when that would be below `least`.
        """
        batch = self.batch // 2
        if batch < max(least, 1):
            raise StoreError(
                f"a device batch of {self.batch} lanes is too large ({reason}), expected {least} or more to "
                "fit: use a device with more memory or a smaller problem."
            )
        self.note("halved", False, batch=batch, was=self.batch, reason=reason)
        self.batch = batch
        return batch

    def note(self, event: str, bitwise: bool, **details: Any) -> None:
        """Add a note to run.json, atomically, unless it is there; `bitwise=False` lowers the promise."""
        note = {"event": event, "bitwise": bitwise, "shard": list(self.shard), **details}
        check_json(note, "note")
        self._check_lock()
        with _run_json_locked(self.path):
            record = _read_record(self.path)  # other shards add notes, too
            if note not in record.notes:
                record = _checked(replace(record, notes=[*record.notes, note]), "this run")
                for name in ("run-copy.json", "run.json"):
                    _seal(self.path, name, _encode(record))
        self.record = record

    def _check_lock(self) -> None:
        if not self.close.alive or not os.path.lexists(self._lock):
            raise StoreError(
                f"the store in {str(self.path)!r} was closed or lost its lock, expected it open: another "
                "process may write there now; run the same command again."
            )

    def _intact(self, name: str, number: int) -> bool:
        """Whether the part is as it was sealed; if not it is set aside."""
        try:
            _read_part(self.path, name, number, self.record)
        except _Damaged as error:
            aside, copies = f"damaged-{name}", 1
            while os.path.lexists(self.path / aside):
                aside, copies = f"damaged-{copies}-{name}", copies + 1
            try:
                os.rename(self.path / name, self.path / aside)
                _sync(self.path)
            except OSError as failure:
                _refuse(failure, self.path, aside)
            self.damaged.append(f"{error}; set aside as {aside}")
            return False
        return True

    def _begin(self, asked: RunRecord) -> None:
        """Make run.json or read it; clear away what dead writers of this shard left; verify; note changes."""
        if not os.path.lexists(self.path / "run.json"):
            with _run_json_locked(self.path):
                if not os.path.lexists(self.path / "run.json"):
                    _seal(self.path, "run.json", _encode(asked))
        self.record = _compatible(self.path, asked)
        halved = (note["batch"] for note in self.record.notes if note.get("event") == "halved")
        self.batch = min([self.record.batch, *halved])
        self._tidy()
        self.verify()
        old, new = self.record.environment, asked.environment
        changes: dict[str, list[str]] = {}
        for key in sorted(old.keys() | new.keys()):
            if lines := list(_differences(old.get(key, _ABSENT), new.get(key, _ABSENT), key)):
                changes[key] = lines
        if changes:
            self.note("resumed in another environment", changes.keys() <= HARMLESS, differences=changes)

    def _tidy(self) -> None:
        """Remove temporary files of dead writers of this shard; bring run-copy.json up to date."""
        try:
            for name in os.listdir(self.path):
                if (match := _PART.fullmatch(name)) and match[1] and self._owns(int(match[2])):
                    (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            _refuse(error, self.path, "results")
        copy = b""
        with suppress(OSError, StoreError):
            copy = _read(self.path / "run-copy.json", _MAX_JSON)
        if copy != _encode(self.record):
            with _run_json_locked(self.path):
                (self.path / "tmp-run.json").unlink(missing_ok=True)
                self.record = _read_record(self.path)
                _seal(self.path, "run-copy.json", _encode(self.record))


def _open_folder(path: str | os.PathLike[str]) -> Path:
    """Make the folder if it is absent; StoreError if it is anything but empty or a results folder."""
    try:
        folder = Path(path).absolute()
        if folder.is_symlink():
            raise StoreError(f"{str(path)!r} is a symbolic link, expected a folder: give the folder itself.")
        with suppress(FileExistsError):
            os.mkdir(folder)
            _sync(folder.parent)
        names = os.listdir(folder)
    except FileNotFoundError:
        raise StoreError(f"{str(folder.parent)!r} is absent, expected a folder: make it first.") from None
    except NotADirectoryError:
        raise StoreError(f"{str(path)!r} is a file or below one, expected a folder: give another.") from None
    except OSError as error:
        _refuse(error, Path(path), "results")
    except (TypeError, ValueError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"the results folder is {path!r}, expected a path ({error}): give one.") from error
    others = sorted(name for name in names if not _DEBRIS.fullmatch(name))
    if others and not os.path.lexists(folder / "run.json"):  # looked for last: whoever writes made it first
        todo = "copy run-copy.json to run.json" if "run-copy.json" in names else "give a new or empty folder"
        raise StoreError(f"{str(path)!r} has {others[:3]} but no run.json, expected results: {todo}.")
    return folder


def _compatible(folder: Path, asked: RunRecord) -> RunRecord:
    """The record of the folder; StoreError naming the fields that differ from those asked for."""
    found = _read_record(folder)
    lines: list[str] = []
    for name in ("grid", "columns", "lanes", "code_version"):
        lines += _differences(getattr(found, name), getattr(asked, name), name)
    if lines:
        more = f"; and {len(lines) - 8} more" if len(lines) > 8 else ""
        raise StoreError(
            f"{str(folder)!r} holds another run ({'; '.join(lines[:8])}{more}), expected the same run to "
            "resume: give another folder."
        )
    return found


def create_or_resume(
    path: str | os.PathLike[str],
    grid: dict[str, Any],
    columns: Sequence[str],
    parts: Sequence[Sequence[int]],
    environment: dict[str, Any],
    batch: int,
    *,
    shard: tuple[int, int] = (0, 1),
    code_version: str | None = None,
) -> Store:
    """Open a results folder for writing: a new one, or one that holds the same run, which is then resumed.

    grid, environment: dicts of JSON values. columns: names. parts: ranges [start, stop) that tile [0, lanes),
    see `split_lanes`. batch: lanes per device call. shard (i, N): this process writes the parts with
    number % N == i. code_version: by default that of the installed package.

    The run is the same if format, grid, columns, number of lanes and code version are equal. The parts and
    the batch of the folder then hold, whatever was asked for: use `store.record.parts` and `store.batch`.
    This shard's parts are verified (see `store.damaged`), its temporary files removed, and a changed
    environment is noted in run.json (`HARMLESS` says what keeps the bitwise promise).

    StoreError, before any lane: a bad argument; a path that cannot be written, is a symbolic link or a file,
    has no parent, or holds other things; another run, with the differences; a live process on an overlapping
    shard; a damaged run.json.
    """
    if os.name != "posix":
        raise StoreError(f"the system is {os.name}, expected Linux or macOS: write results there.")
    if code_version is None:
        try:
            code_version = importlib.metadata.version("gaunlearn-jax")
        except importlib.metadata.PackageNotFoundError:
            code_version = "unknown"
    given: Any = (grid, columns, code_version, environment, parts, batch, [])
    asked = _checked(RunRecord(*given), "this run")
    pair = isinstance(shard, tuple) and len(shard) == 2 and all(type(number) is int for number in shard)
    if not pair or not 0 <= shard[0] < shard[1]:
        raise StoreError(f"shard is {shard!r}, expected (i, N) with 0 <= i < N: count the shards from 0.")
    folder = _open_folder(path)
    if os.path.lexists(folder / "run.json"):
        _compatible(folder, asked)  # a difference is named even while another process writes
    store = Store(folder, shard, asked, _acquire(folder, f"{shard[0]}-of-{shard[1]}", _SHARD_PATIENCE))
    try:
        store._begin(asked)
    except BaseException:
        store.close()
        raise
    return store
