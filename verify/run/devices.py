"""JAX as a run wants it: 64-bit arrays, a device per core, compilations kept, this process's share of the work."""

from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile
from pathlib import Path
from typing import Any

import jax

from gaunlearn_jax.stages import programmes

#: the number that glibc's <malloc.h> gives to the setting
_M_ARENA_MAX = -8


def set_up_jax(*, lanes: bool = False) -> None:
    """64-bit arrays, a device per CPU core, and compilations kept in the user's cache folder for the next start: of
    `lanes` by `gaunlearn_jax.stages`, else by JAX (whose settings go before)."""
    _few_arenas()
    jax.config.update("jax_enable_x64", True)
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # a process that already runs JAX keeps its devices
            jax.config.update("jax_num_cpu_devices", cores())
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        folder = _cache_folder("programmes" if lanes else "jax")
        if lanes:
            programmes.keep_in(folder)
        elif folder is not None:
            jax.config.update("jax_compilation_cache_dir", str(folder))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _few_arenas() -> None:
    """Memory that the compiler's many threads give back is there for all of them; glibc alone has such a setting."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _cache_folder(name: str) -> Path | None:
    """Where compilations are kept; None without a home, or where nothing can be written: all is compiled anew."""
    with contextlib.suppress(RuntimeError, OSError):  # a user without a home, a folder that is read-only
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = base / "gaunlearn" / name
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    return None


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def process_share(distributed: bool, shard: tuple[int, int] | None) -> tuple[int, int]:
    """This process's share (i, N) of the parts: `shard`, or by process of jax.distributed, or all of them.

    With both, the shard tells jax.distributed which process this is; else the cluster's environment does."""
    if distributed:
        known: dict[str, Any] = {} if shard is None else {"process_id": shard[0], "num_processes": shard[1]}
        try:
            jax.distributed.initialize(**known)
        except (RuntimeError, ValueError) as error:
            why = str(error).strip().split("\n")[0]
            raise ValueError(
                f"--distributed: {why}; start it by Slurm, MPI or on a TPU slice, or set "
                "JAX_COORDINATOR_ADDRESS=HOST:PORT and give each process --shard I/N"
            ) from None
    return shard or (jax.process_index(), jax.process_count())


def writable_folder(path: Path) -> Path:
    """The results folder, made and tried before any computing; ValueError if it cannot be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise ValueError(f"--out {path} cannot be written ({error.strerror}); choose another folder") from None


def writable_file(option: str, path: Path) -> Path:
    """A file that can be made, tried before any computing and left as it is; ValueError if it cannot be written."""
    try:
        if path.exists():
            with path.open("ab"):
                return path
        with tempfile.TemporaryFile(dir=path.parent):
            return path
    except OSError as error:
        raise ValueError(
            f"{option} {path} cannot be written ({error.strerror}); give a file in a folder that exists"
        ) from None
