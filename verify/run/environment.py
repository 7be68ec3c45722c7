"""The stamp of a run: what its numbers depend on."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import shlex
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

import gaunlearn_jax
from gaunlearn_jax.base import placing, rounding

#: the commit, with "-dirty" after it where files were changed
GIT = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]

#: the folders of `verify` that make lanes, and those of the library that do not; the others read them
COMPUTING = ("instances", "phase", "run", "suites")
AUDITING = ("audit", "functions")


def code() -> str:
    """The version of this package and what its files hold."""
    return f"{metadata.version('gaunlearn-jax')}+{source_digest()[:16]}"


@functools.cache
def source_digest() -> str:
    """A digest of every module of the library and of the claims that makes lanes."""
    verify, library = Path(__file__).parents[1], Path(str(gaunlearn_jax.__file__)).parent
    text = [
        (path.relative_to(folder.parent).as_posix(), path.read_text(encoding="utf-8"))
        for folder in (library, *(verify / name for name in COMPUTING))
        for path in sorted(folder.rglob("*.py"))
        if folder != library or path.relative_to(library).parts[0] not in AUDITING
    ]
    return hashlib.sha256(json.dumps(text).encode()).hexdigest()


def environment(command: list[str], chunk: int | None) -> dict[str, Any]:
    """What the numbers depend on: code, versions, backend, devices of this process, precision, revision; and the
    command."""
    packages = {name: metadata.version(name) for name in ("gaunlearn-jax", "jax", "jaxlib", "optax", "numpy")}
    try:
        here = Path(__file__).parent
        found = subprocess.run(GIT, cwd=here, capture_output=True, text=True, timeout=5)
        revision = found.stdout.strip() or None
    except (OSError, subprocess.TimeoutExpired):
        revision = None
    return {
        "backend": jax.default_backend(),
        "devices": [d.device_kind for d in jax.local_devices()],
        "mesh": {"lanes": len(placing.home())},
        "dtype": "float64",
        "rounding": dict(rounding.record()),
        "random": "threefry2x32",
        "matmul_precision": "highest",
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": processor(),
        "process": [jax.process_index(), jax.process_count()],
        "packages": packages,
        "code": code(),
        "revision": revision,
        "command_line": shlex.join(["gaunlearn", *command]),
        "chunk": chunk,
        **(_apart() if placing.certifies_on_host() else {}),
    }


def _apart() -> dict[str, Any]:
    """What there is to say where the devices do not make the verdicts."""
    return {"certify_on": "cpu", "device_rounding": rounding.of_devices()._asdict()}


def processor() -> str:
    """The name of the CPU: compiled code, and with it the last bit of a number, depends on what it can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
