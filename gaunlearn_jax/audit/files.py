"""Opening the user's files: plain ones only, never waiting for a pipe."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

#: bytes of one array or one csv file that are read at most
LARGEST = 2**31
BUILT_IN = ("digits", "digits:A-B", "breast_cancer")
FORMS = (
    "a .npz with arrays X and y, a pair X.npy,y.npy, a table (.csv, .tsv, .csv.gz, .parquet, .svm), or one of "
    + ", ".join(BUILT_IN)
)


WEIGHTS = "a .npz or .safetensors with W [n, d] and, of a network, u [n]"


@contextmanager
def opened(path: Path, expected: str = FORMS) -> Iterator[IO[bytes]]:
    """A plain file for reading, `expected` to be what the words say; waits for no pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); expected {expected}") from None
    with (
        open(descriptor, "rb")
        if stat.S_ISREG(os.fstat(descriptor).st_mode)
        else _refuse(descriptor, path, expected) as file
    ):
        yield file


def _refuse(descriptor: int, path: Path, expected: str) -> IO[bytes]:
    kind = "a directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "no plain file"
    os.close(descriptor)
    raise ValueError(f"{path} is {kind}, expected {expected}")
