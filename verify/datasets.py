"""Reading the user's data and weights: .npz, .npy pairs, .csv, built-in sets. Every bad file is one ValueError.

Nothing is unpickled, and the size a header promises is held against the file before anything of that size is made.
"""

from __future__ import annotations

import array
import csv
import difflib
import math
import os
import re
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

#: bytes of one array or one csv file that are read at most
LARGEST = 2**31
BUILT_IN = ("digits:A-B", "breast_cancer")
FORMS = f"a .npz with arrays X and y, a pair X.npy,y.npy, a .csv, or one of {', '.join(BUILT_IN)}"


def load(source: str, label: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Points and labels of DATA as the command line names it."""
    if source == "breast_cancer" or re.fullmatch(r"digits(:.*)?", source):
        return _built_in(source)
    if label is not None and not source.endswith(".csv"):
        raise ValueError(f"--label {label} names a csv column, but {source} is no .csv; drop --label")
    if "," in source:
        parts = source.split(",")
        if len(parts) != 2 or not all(part.endswith(".npy") for part in parts):
            raise ValueError(f"{source} is no pair of .npy files, expected X.npy,y.npy")
        points, labels = (_npy(Path(part)) for part in parts)
        return points, labels
    path = Path(source)
    if path.suffix == ".npz":
        arrays = npz(path, ("X", "y"))
        return arrays["X"], arrays["y"]
    if path.suffix == ".csv":
        return _csv(path, label)
    missing = "" if os.path.lexists(path) else " does not exist and"
    raise ValueError(f"{source}{missing} is no data this command knows, expected {FORMS}")


def load_weights(path: Path, model: str) -> tuple[np.ndarray, np.ndarray | None]:
    """(W, u) of a .npz; linear models have W [1, d] or w [d] and no u."""
    if path.suffix != ".npz":
        raise ValueError(f"{path} is no .npz, expected one with W [n, d]" + (" and u [n]" if model == "relu" else ""))
    if model == "relu":
        arrays = npz(path, ("W", "u"))
        return arrays["W"], arrays["u"]
    with _opened(path) as file, _zip(file, path) as archive:
        name = "w" if "w.npy" in archive.namelist() else "W"
    return npz(path, (name,))[name], None


def npz(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The named arrays of a .npz file."""
    with _opened(path) as file, _zip(file, path) as archive:
        there = [name.removesuffix(".npy") for name in archive.namelist()]
        for name in names:
            if name not in there:
                listed = ", ".join(there[:8]) or "nothing"
                raise ValueError(f"{path} has no array {name}, only {listed}; save it under that name")
        found = {}
        for name in names:
            with archive.open(f"{name}.npy") as member:
                found[name] = _array(member, archive.getinfo(f"{name}.npy").file_size, f"{path}: {name}")
        return found


@contextmanager
def _zip(file: IO[bytes], path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
        raise ValueError(f"{path} is damaged or no .npz ({error}); write it again with numpy.savez") from None


def _npy(path: Path) -> np.ndarray:
    with _opened(path) as file:
        return _array(file, os.fstat(file.fileno()).st_size, str(path))


def _array(file: IO[bytes], size: int, what: str) -> np.ndarray:
    """One array in .npy format from a stream of `size` bytes, its header held against that size first."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except (ValueError, SyntaxError, TypeError, EOFError) as error:
        raise ValueError(f"{what} is no array in .npy format ({str(error)[:80]}); write it with numpy.save") from None
    if dtype.hasobject:
        raise ValueError(f"{what} holds Python objects, and nothing is unpickled; save plain numbers or strings")
    count, header = math.prod(shape), file.tell()
    if min(shape, default=0) < 0 or header + count * dtype.itemsize != size:
        raise ValueError(
            f"{what} has {size} bytes, but its header promises {header + count * dtype.itemsize} (shape {shape}); "
            "the file is damaged, write it again"
        )
    if size > LARGEST:
        raise ValueError(f"{what} has {size / 2**30:.1f} GiB, expected at most {LARGEST / 2**30:.0f}; use fewer")
    data = file.read(count * dtype.itemsize)
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """A plain file for reading; waits for no pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); expected {FORMS}") from None
    with open(descriptor, "rb") if stat.S_ISREG(os.fstat(descriptor).st_mode) else _refuse(descriptor, path) as file:
        yield file


def _refuse(descriptor: int, path: Path) -> IO[bytes]:
    kind = "a directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "no plain file"
    os.close(descriptor)
    raise ValueError(f"{path} is {kind}, expected {FORMS}")


def _csv(path: Path, label: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Every column but `label` is a coordinate; the first row names the columns."""
    if label is None:
        raise ValueError(f"{path} needs --label COLUMN: which column holds the classes")
    with _opened(path) as raw:
        if os.fstat(raw.fileno()).st_size > LARGEST:
            raise ValueError(f"{path} has over {LARGEST / 2**30:.0f} GiB; take fewer points, or save it as .npz")
        lines = (line.decode("utf-8-sig" if at == 0 else "utf-8") for at, line in enumerate(raw))
        try:
            return _rows(csv.reader(lines, strict=True), path, label)
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no readable csv ({error}); save it as comma-separated UTF-8 text") from None


def _rows(reader: Any, path: Path, label: str) -> tuple[np.ndarray, np.ndarray]:
    names = [name.strip() for name in next(reader, [])]
    if not names:
        raise ValueError(f"{path} is empty, expected a first row with the names of the columns")
    if names.count(label) != 1:
        near = difflib.get_close_matches(label, names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        times = "no column" if label not in names else "several columns"
        raise ValueError(f"{path} has {times} {label!r}, its columns are {shown}{hint}")
    at, values, labels = names.index(label), array.array("d"), []
    for number, row in enumerate(reader, start=2):
        if not row:
            continue
        if len(row) != len(names):
            raise ValueError(f"{path}, row {number} has {len(row)} fields, expected {len(names)} as in the first row")
        labels.append(row[at].strip())
        values.extend(_number(text, path, number, names[i]) for i, text in enumerate(row) if i != at)
    if not labels:
        raise ValueError(f"{path} has names of columns but no rows, expected one row per point")
    return np.frombuffer(values).reshape(len(labels), len(names) - 1), _classes(labels)


def _number(text: str, path: Path, row: int, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(
            f"{path}, row {row}, column {name!r} is {text[:40]!r}, expected a finite number; clean the data"
        )
    return value


def _classes(labels: list[str]) -> np.ndarray:
    """Whole numbers where all are, otherwise the text as it is."""
    try:
        return np.asarray([int(text) for text in labels])
    except ValueError:
        return np.asarray(labels)


def _built_in(source: str) -> tuple[np.ndarray, np.ndarray]:
    """Data sets that come with scikit-learn, read from its own files."""
    try:
        from sklearn.datasets import load_breast_cancer, load_digits
    except ImportError:
        raise ValueError(f"{source} comes with scikit-learn: pip install 'gaunlearn-jax[data]'") from None
    if source == "breast_cancer":
        points, labels = load_breast_cancer(return_X_y=True)
        return points, labels
    match = re.fullmatch(r"digits:([0-9])-([0-9])", source)
    if match is None or match[1] == match[2]:
        raise ValueError(f"{source} is no pair of digits, expected two different ones such as digits:3-8")
    points, labels = load_digits(return_X_y=True)
    chosen = np.isin(labels, [int(match[1]), int(match[2])])
    return points[chosen], labels[chosen]
