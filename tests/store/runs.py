"""Runs of ten lanes in a folder, and writers in processes of their own."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gaunlearn_jax import store
from gaunlearn_jax.store import strict_json
from gaunlearn_jax.store.folder import Store, create_or_resume, split_lanes

GRID: dict[str, Any] = {"dims": [1e4, 1e8], "seeds": [0, 8], "losses": ["exponential"], "signal": None}
COLUMNS = ["seed", "lhs", "rhs"]
PARTS = split_lanes(10, 4)  # [0, 4), [4, 8), [8, 10)
ENVIRONMENT: dict[str, Any] = {"backend": "cpu", "command_line": "verify run"}


def rows(number: int, parts: list[tuple[int, int]] = PARTS) -> np.ndarray:
    start, stop = parts[number]
    return np.random.default_rng(number).normal(size=(stop - start, len(COLUMNS)))


def begin(path: Path, **changes: Any) -> Store:
    arguments = {"grid": GRID, "columns": COLUMNS, "parts": PARTS, "environment": ENVIRONMENT, "batch": 4}
    return create_or_resume(path, **{**arguments, **changes})


def finished(path: Path, **changes: Any) -> Path:
    with begin(path, **changes) as run:
        for number in run.missing():
            run.write(number, rows(number))
    return path


def contents(path: Path, pattern: str = "part-*") -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.glob(pattern)}


def flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Edit run.json and give it the right checksum, as somebody with bad intentions would."""
    entries = json.loads((path / "run.json").read_text())
    entries.pop("checksum")
    change(entries)
    entries["checksum"] = strict_json.content_hash(entries)
    (path / "run.json").write_text(json.dumps(entries))


def sentence(caught: pytest.ExceptionInfo[BaseException]) -> str:
    """The message, which must be one line that ends in what to do."""
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert ":" in message or ";" in message
    return message


# --- writers in their own processes: only NumPy and the store, without JAX -----------------------------

LOADER = f"""
import importlib.metadata, os, resource, signal, sys, time, types
import numpy as np
import numpy.ma, numpy.random  # loaded lazily, which takes longer than writing ten parts
package = sys.modules["gaunlearn_jax"] = types.ModuleType("gaunlearn_jax")  # its __init__ would import jax
package.__path__ = [{str(Path(store.__file__).parents[1])!r}]
from gaunlearn_jax import store
assert "jax" not in sys.modules

def rows(number, parts):
    start, stop = parts[number]
    return np.random.default_rng(number).normal(size=(stop - start, 3))

def begin(path, lanes, size, shard=(0, 1), environment={ENVIRONMENT!r}):
    parts = store.split_lanes(lanes, size)
    return store.create_or_resume(path, {GRID!r}, {COLUMNS!r}, parts, environment, 4, shard=shard)

def work(path, lanes, size, pause=0.0, **options):
    with begin(path, lanes, size, **options) as run:
        for number in run.missing():
            run.write(number, rows(number, run.record.parts))
            time.sleep(pause)
"""


@contextmanager
def process(body: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-c", LOADER + body, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def finish(child: subprocess.Popen[str]) -> str:
    output, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    return output


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


HOLD = """
shard = (int(sys.argv[2]), int(sys.argv[3]))
with begin(sys.argv[1], 10, 4, shard) as run:
    print("held", flush=True)
    sys.stdin.readline()
"""
