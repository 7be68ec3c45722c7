"""Files that are whole or absent: sealed by fsync and one rename, read without following links; errors in words."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

READ_FLAGS = sum(getattr(os, flag, 0) for flag in ("O_RDONLY", "O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))


class StoreError(ValueError):
    """What was given, what was expected, what to do, in one sentence. What is sealed stays valid."""


class Damaged(StoreError):
    """The reason why a part file is not what was sealed."""


def read_file(path: Path, most: int) -> bytes:
    """All bytes of a regular file of at most `most` bytes; follows no symbolic link, waits for no pipe."""
    descriptor = os.open(path, READ_FLAGS)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            raise Damaged(f"{path.name} has {status.st_size} bytes, expected a plain file of at most {most}")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(status.st_size)  # never `most`: read allocates what it is asked for
    finally:
        os.close(descriptor)


def refuse(error: OSError, folder: Path, what: str) -> NoReturn:
    """StoreError that says in words why `what` could not be written."""
    where = f"{what} could not be written in {str(folder)!r} ({error.strerror})"
    if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        where = f"the disk is full: {where}; free space or raise the quota, then run the same command again"
    else:
        where += ", expected a folder you may write: correct its permissions or give another one"
    raise StoreError(f"{where}; what was sealed before is complete.") from error


def sync(folder: Path) -> None:
    """fsync of a folder, so that the names in it survive a crash."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot sync folders
            raise
    finally:
        os.close(descriptor)


def seal(folder: Path, name: str, data: bytes, writer: str = "") -> None:
    """Temporary file, fsync, one rename, fsync of the folder; the temporary file never outlives an error.

    `writer` tells the temporary files of processes apart that may write the same name at once (no lock is held).
    """
    temporary = folder / f"tmp-{writer}{name}"
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
        sync(folder)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            refuse(error, folder, name)
        raise
