"""Results on disk: a folder of sealed parts that survives kills, full disks, flipped bits, second processes.

Format, version 1 (NumPy and JSON; nothing is ever pickled or unpickled):

- `run.json`, created once, before the first lane: format name and version, grid and its SHA-256 (of its
  canonical JSON), columns, code version, environment, parts (lane ranges [start, stop) that tile [0, lanes)),
  device batch, notes, and a SHA-256 over all of these. `run-copy.json` holds the same, to restore it from.
- `part-<number>-<first 16 hex digits of the file's SHA-256>.npy`: float64 [stop - start, columns], row-major,
  little-endian, after the one 128-byte header of that shape. The directory listing is the manifest.
- `lock-*`: empty; its name says who writes which shard (see `locks`). `tmp-*` were never sealed, `damaged-*` were set
  aside: ignored.

Promises. Every file is written under a temporary name, fsynced, renamed once, and its folder fsynced: a part
that `write` returned from is not lost, a killed writer leaves each part whole or absent. A changed bit in a
part or in run.json is noticed. A part is never replaced by other bytes. Shards that share a part number never
write at the same time; the lock of a dead process is taken over.

Every error is a `StoreError` (a ValueError): what was given, what was expected, what to do.
Writing needs Linux or macOS; `load` works anywhere.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import re
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaunlearn_jax.store import locks
from gaunlearn_jax.store import parts as part_files
from gaunlearn_jax.store.disk import Damaged, StoreError, read_file, refuse, seal, sync
from gaunlearn_jax.store.locks import acquire, release, run_json_locked
from gaunlearn_jax.store.run_record import MAX_JSON, RunRecord, checked, compatible, encode, read_record
from gaunlearn_jax.store.run_record import split_lanes as split_lanes
from gaunlearn_jax.store.strict_json import ABSENT, check_json, differences

HARMLESS = frozenset({"chunk", "command_line", "hostname", "process", "shard", "time"})
"""Environment fields that may change on resume without lowering the bitwise promise; any other lowers it."""

_DEBRIS = re.compile(r"lock-.*|tmp-run\.json")  # what a writer killed before run.json was there may leave


@dataclass(frozen=True)
class LoadedRun:
    """A folder as arrays: `columns[name]` float64 [present lanes], in the order of `lanes`, their numbers.

    `table`: the same [columns, present lanes] in the order of `record.columns`, of which the columns are views.
    `missing`: numbers of the parts without a valid file; `damaged`: which of them are damaged, and how.
    """

    grid: dict[str, Any]
    table: NDArray[np.float64]
    lanes: NDArray[np.int64]
    missing: list[int]
    damaged: list[str]
    environment: dict[str, Any]
    record: RunRecord

    @functools.cached_property
    def columns(self) -> dict[str, NDArray[np.float64]]:
        """Each column by its name."""
        return dict(zip(self.record.columns, self.table, strict=True))


def load(path: str | os.PathLike[str]) -> LoadedRun:
    """Read all lanes of all valid parts, in order; writes nothing, takes no lock, may follow a symbolic link.

    A damaged part counts as missing and is named in `damaged`. StoreError: no results folder; a run.json that
    is damaged or of another format; two valid files with different bytes for one part.
    """
    folder = Path(path)
    record = read_record(folder)
    table = np.empty((len(record.columns), part_files.lanes_listed(folder, record)))  # filled part by part: held once
    ranges, present, damaged, end = [np.zeros(0, np.int64)], set[int](), list[str](), 0
    for number, rows in part_files.read_parts(folder, record, damaged):
        table[:, end : end + len(rows)] = rows.T
        ranges.append(np.arange(*record.parts[number], dtype=np.int64))
        present.add(number)
        end += len(rows)
    missing = [number for number in range(len(record.parts)) if number not in present]
    return LoadedRun(record.grid, table[:, :end], np.concatenate(ranges), missing, damaged, record.environment, record)


class Store:
    """A results folder open for writing by one shard, from `create_or_resume`; use it in a `with` block.

    path; shard (i, N); record: run.json as of now; batch: the device batch to use (that of run.json, or the
    smallest one recorded by a halving); damaged: what was set aside, in words; close(): release the lock.
    """

    def __init__(self, path: Path, shard: tuple[int, int], record: RunRecord, lock: Path) -> None:
        self.path, self.shard, self.record, self._lock = path, shard, record, lock
        self.batch, self.damaged = record.batch, list[str]()
        self.close = weakref.finalize(self, release, lock, os.getpid())

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _owns(self, number: int) -> bool:
        return number % self.shard[1] == self.shard[0]

    def missing(self) -> list[int]:
        """Numbers of this shard's parts that have no sealed file, in order."""
        present = part_files.listing(self.path)
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
        data = part_files.npy_header(*shape) + np.ascontiguousarray(array, "<f8").tobytes()
        target = part_files.part_name(number, data)
        for name in part_files.listing(self.path).get(number, []):
            if self._intact(name, number) and name != target:
                raise StoreError(
                    f"part {number} would get other bytes than the sealed {name}, expected the same: "
                    "non-determinism or a wrong grid; find out which, or give another folder."
                )
        if not os.path.lexists(self.path / target):
            seal(self.path, target, data)

    def verify(self) -> list[str]:
        """Read this shard's parts; rename each damaged one to `damaged-...`, so it is missing; say which.

        StoreError: two valid files for one part. `create_or_resume` has called this once.
        """
        self._check_lock()
        before = len(self.damaged)
        for number, names in part_files.listing(self.path).items():
            if self._owns(number):
                part_files.at_most_one(self.path, number, [name for name in names if self._intact(name, number)])
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
        with run_json_locked(self.path):
            record = read_record(self.path)  # other shards add notes, too
            if note not in record.notes:
                record = checked(replace(record, notes=[*record.notes, note]), "this run")
                for name in ("run-copy.json", "run.json"):
                    seal(self.path, name, encode(record))
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
            part_files.read_part(self.path, name, number, self.record)
        except Damaged as error:
            aside, copies = f"damaged-{name}", 1
            while os.path.lexists(self.path / aside):
                aside, copies = f"damaged-{copies}-{name}", copies + 1
            try:
                os.rename(self.path / name, self.path / aside)
                sync(self.path)
            except OSError as failure:
                refuse(failure, self.path, aside)
            self.damaged.append(f"{error}; set aside as {aside}")
            return False
        return True

    def _begin(self, asked: RunRecord) -> None:
        """Make run.json or read it; clear away what dead writers of this shard left; verify; note changes."""
        if not os.path.lexists(self.path / "run.json"):
            with run_json_locked(self.path):
                if not os.path.lexists(self.path / "run.json"):
                    seal(self.path, "run.json", encode(asked))
        self.record = compatible(self.path, asked)
        halved = (note["batch"] for note in self.record.notes if note.get("event") == "halved")
        self.batch = min([self.record.batch, *halved])
        self._tidy()
        self.verify()
        old, new = self.record.environment, asked.environment
        changes: dict[str, list[str]] = {}
        for key in sorted(old.keys() | new.keys()):
            if lines := list(differences(old.get(key, ABSENT), new.get(key, ABSENT), key)):
                changes[key] = lines
        if changes:
            self.note("resumed in another environment", changes.keys() <= HARMLESS, differences=changes)

    def _tidy(self) -> None:
        """Remove temporary files of dead writers of this shard; bring run-copy.json up to date."""
        try:
            for name in os.listdir(self.path):
                if (match := part_files.PART_NAME.fullmatch(name)) and match[1] and self._owns(int(match[2])):
                    (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            refuse(error, self.path, "results")
        copy = b""
        with suppress(OSError, StoreError):
            copy = read_file(self.path / "run-copy.json", MAX_JSON)
        if copy != encode(self.record):
            with run_json_locked(self.path):
                (self.path / "tmp-run.json").unlink(missing_ok=True)
                self.record = read_record(self.path)
                seal(self.path, "run-copy.json", encode(self.record))


def _open_folder(path: str | os.PathLike[str]) -> Path:
    """Make the folder if it is absent; StoreError if it is anything but empty or a results folder."""
    try:
        folder = Path(path).absolute()
        if folder.is_symlink():
            raise StoreError(f"{str(path)!r} is a symbolic link, expected a folder: give the folder itself.")
        with suppress(FileExistsError):
            os.mkdir(folder)
            sync(folder.parent)
        names = os.listdir(folder)
    except FileNotFoundError:
        raise StoreError(f"{str(folder.parent)!r} is absent, expected a folder: make it first.") from None
    except NotADirectoryError:
        raise StoreError(f"{str(path)!r} is a file or below one, expected a folder: give another.") from None
    except OSError as error:
        refuse(error, Path(path), "results")
    except (TypeError, ValueError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"the results folder is {path!r}, expected a path ({error}): give one.") from error
    others = sorted(name for name in names if not _DEBRIS.fullmatch(name))
    if others and not os.path.lexists(folder / "run.json"):  # looked for last: whoever writes made it first
        todo = "copy run-copy.json to run.json" if "run-copy.json" in names else "give a new or empty folder"
        raise StoreError(f"{str(path)!r} has {others[:3]} but no run.json, expected results: {todo}.")
    return folder


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
    asked = checked(RunRecord(*given), "this run")
    pair = isinstance(shard, tuple) and len(shard) == 2 and all(type(number) is int for number in shard)
    if not pair or not 0 <= shard[0] < shard[1]:
        raise StoreError(f"shard is {shard!r}, expected (i, N) with 0 <= i < N: count the shards from 0.")
    folder = _open_folder(path)
    if os.path.lexists(folder / "run.json"):
        compatible(folder, asked)  # a difference is named even while another process writes
    store = Store(folder, shard, asked, acquire(folder, f"{shard[0]}-of-{shard[1]}", locks.SHARD_PATIENCE))
    try:
        store._begin(asked)
    except BaseException:
        store.close()
        raise
    return store
