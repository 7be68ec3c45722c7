"""The part files of a results folder: NumPy's format with the hash of the whole file in its name."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gaunlearn_jax.store.disk import Damaged, StoreError, read_file
from gaunlearn_jax.store.run_record import RunRecord

PART_NAME = re.compile(r"(tmp-)?part-([0-9]{6}|[1-9][0-9]{6,})-[0-9a-f]{16}\.npy")


def npy_header(rows: int, columns: int) -> bytes:
    """The 128 bytes that NumPy writes before a little-endian row-major float64 array of that shape."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({rows}, {columns}), }}"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + text.ljust(117).encode() + b"\n"


def part_name(number: int, data: bytes) -> str:
    """The file name of a part whose file has these bytes."""
    return f"part-{number:06d}-{hashlib.sha256(data).hexdigest()[:16]}.npy"


def listing(folder: Path) -> dict[int, list[str]]:
    """Part number -> its sealed files (one, unless something went wrong)."""
    found: dict[int, list[str]] = {}
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise StoreError(f"{str(folder)!r} cannot be read ({error.strerror}): bring it back.") from error
    for name in names:
        if (match := PART_NAME.fullmatch(name)) and not match[1]:
            found.setdefault(int(match[2]), []).append(name)
    return found


def read_part(folder: Path, name: str, number: int, record: RunRecord) -> NDArray[np.float64]:
    """One part. Damaged unless its size (looked at first), hash and header are those that were sealed."""
    if number >= len(record.parts):
        raise Damaged(f"{name}: run.json has {len(record.parts)} parts, none with this number")
    (start, stop), width = record.parts[number], len(record.columns)
    header, size = npy_header(stop - start, width), 128 + 8 * (stop - start) * width
    try:
        data = read_file(folder / name, size)
    except OSError as error:
        if error.errno in (errno.EIO, errno.ELOOP, errno.ENOENT):
            raise Damaged(f"{name}: {error.strerror}") from error
        given = f"{str(folder / name)!r} cannot be read ({error.strerror})"
        raise StoreError(f"{given}, expected a file you may read: correct that.") from error
    if len(data) != size:
        raise Damaged(f"{name} has {len(data)} bytes, expected {size}")
    if part_name(number, data) != name:
        raise Damaged(f"{name}: its SHA-256 is not the one in its name")
    if not data.startswith(header):
        raise Damaged(f"{name}: its header does not say float64 of shape ({stop - start}, {width})")
    return np.frombuffer(data, "<f8", offset=len(header)).reshape(stop - start, width)


def at_most_one(folder: Path, number: int, valid: Sequence[str]) -> None:
    """StoreError if several valid files claim to be one part."""
    if len(valid) > 1:
        raise StoreError(
            f"{str(folder)!r} has {' and '.join(valid)}, expected one for part {number}: non-determinism or "
            "a wrong grid; move both away to have the part computed again."
        )


def read_parts(folder: Path, record: RunRecord, damaged: list[str]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """(number, rows) of every valid part in order, one at a time; what is wrong with the others goes to `damaged`.

    StoreError: two valid files for one part.
    """
    for number, names in sorted(listing(folder).items()):
        valid: dict[str, NDArray[np.float64]] = {}
        for name in names:
            try:
                valid[name] = read_part(folder, name, number, record)
            except Damaged as error:
                damaged.append(str(error))
        at_most_one(folder, number, list(valid))
        for rows in valid.values():
            yield number, rows


def lanes_listed(folder: Path, record: RunRecord) -> int:
    """How many lanes the part files hold at most, by their sizes."""
    total = 0
    for number, names in listing(folder).items():
        if number < len(record.parts):
            start, stop = record.parts[number]
            sizes = [(folder / name).lstat().st_size for name in names if os.path.lexists(folder / name)]
            total += min(stop - start, max(sizes, default=0) // (8 * len(record.columns)))
    return total
