"""Sealed files of a folder that a user's own processes share: a digest and a compressed pickle each.

They are as trusted as the compilation cache that they stand for.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import tempfile
import zlib
from pathlib import Path
from typing import Any

_DIGEST = hashlib.sha256().digest_size


def write(path: Path, content: Any, most: int) -> None:
    """Put content into a file, whole or not at all, and leave in its folder the `most` files that were used last."""
    packed = zlib.compress(pickle.dumps(content), level=1)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(hashlib.sha256(packed).digest() + packed)
        os.replace(file.name, path)
        files = [other for other in path.parent.iterdir() if other.is_file()]
        for old in sorted(files, key=lambda other: other.stat().st_mtime, reverse=True)[most:]:
            old.unlink(missing_ok=True)


def read(path: Path) -> Any:
    """The content of a file; None where there is none that is whole."""
    with contextlib.suppress(OSError):
        data = path.read_bytes()
        if hashlib.sha256(data[_DIGEST:]).digest() == data[:_DIGEST]:
            os.utime(path)
            return pickle.loads(zlib.decompress(data[_DIGEST:]))
    return None
