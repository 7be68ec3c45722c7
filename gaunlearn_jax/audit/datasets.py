"""Reading the user's data and weights: arrays, tables, built-in sets. Every bad file is one ValueError.

Nothing is unpickled, and the size a header promises is held against the file before anything of that size is made.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from gaunlearn_jax.audit import tables
from gaunlearn_jax.audit.columns import Wanted
from gaunlearn_jax.audit.files import FORMS, LARGEST, WEIGHTS, opened
from gaunlearn_jax.audit.saved import PICKLES, safetensors_weights
from gaunlearn_jax.audit.table_files import parquet_table, svmlight_table

#: endings of tables, each also with .gz behind it where it is text
TEXT, SVMLIGHT = (".csv", ".tsv", ".tab", ".txt", ".data"), (".svm", ".svmlight", ".libsvm")


def load(source: str, label: str | None = None, **columns: Any) -> tuple[np.ndarray, np.ndarray]:
    """Points and labels of DATA as the command line names it; `label` and `columns` (the other fields of `Wanted`) are
    for tables."""
    wanted = Wanted(label, **columns)
    if source == "breast_cancer" or re.fullmatch(r"digits(:.*)?", source):
        return _built_in(source)
    path = Path(source)
    ending = "".join(path.suffixes[-2:]).lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    if ending.removesuffix(".gz") in TEXT:
        return tables.csv_table(path, wanted)
    if ending == ".parquet":
        return parquet_table(path, wanted)
    if wanted != Wanted():
        said = "--label" if label is not None else "--columns, --drop and --header"
        raise ValueError(f"{said} speaks of the columns of a table, but {source} is none; drop {said}")
    if ending.removesuffix(".gz") in SVMLIGHT:
        return svmlight_table(path)
    pair = _pair(source)
    if pair is not None:
        points, labels = (_npy(part) for part in pair)
        return points, labels
    if ending == ".npz":
        arrays = npz(path, ("X", "y"))
        return arrays["X"], arrays["y"]
    missing = "" if os.path.lexists(path) else " does not exist and"
    raise ValueError(f"{source}{missing} is no data this command knows, expected {FORMS}")


def _pair(source: str) -> tuple[Path, Path] | None:
    """X.npy,y.npy, split at the comma that makes two files of it: paths may hold others."""
    parts = source.split(",")
    pairs = [(",".join(parts[:i]), ",".join(parts[i:])) for i in range(1, len(parts))]
    ends = [pair for pair in pairs if all(name.lower().endswith(".npy") for name in pair)]
    if not ends:
        if len(parts) > 1 and ".npy" in source.lower():
            raise ValueError(f"{source} is no pair of .npy files, expected X.npy,y.npy")
        return None
    there = [pair for pair in ends if all(os.path.lexists(name) for name in pair)]
    left, right = (there or ends)[0]
    return Path(left), Path(right)


def load_weights(path: Path, model: str) -> tuple[np.ndarray, np.ndarray | None]:
    """(W, u) of a .npz or .safetensors file; linear models have W [1, d] or w [d] and no u."""
    if path.suffix.lower() == ".safetensors":
        return safetensors_weights(path, model)
    if path.suffix.lower() in PICKLES:
        raise ValueError(
            f"{path} is a pickle, and nothing is unpickled; where it is trusted: {PICKLES[path.suffix.lower()]}"
        )
    if path.suffix.lower() != ".npz":
        raise ValueError(f"{path} is no .npz, expected one with W [n, d]" + (" and u [n]" if model != "linear" else ""))
    if model != "linear":
        arrays = npz(path, ("W", "u"), WEIGHTS)
        return arrays["W"], arrays["u"]
    with opened(path, WEIGHTS) as file, _zip(file, path) as archive:
        name = "w" if "w.npy" in archive.namelist() else "W"
    return npz(path, (name,), WEIGHTS)[name], None


def npz(path: Path, names: tuple[str, ...], expected: str = FORMS) -> dict[str, np.ndarray]:
    """The named arrays of a .npz file."""
    with opened(path, expected) as file, _zip(file, path) as archive:
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


def load_mean(path: Path) -> np.ndarray:
    """The public mean [d] of a .npy file."""
    if path.suffix != ".npy":
        raise ValueError(f"{path} is no .npy, expected one with a mean [d]; write it with numpy.save")
    return _npy(path)


def _npy(path: Path) -> np.ndarray:
    with opened(path) as file:
        return _array(file, os.fstat(file.fileno()).st_size, str(path))


def _array(file: Any, size: int, what: str) -> np.ndarray:
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


def _built_in(source: str) -> tuple[np.ndarray, np.ndarray]:
    """Data sets that come with scikit-learn, read from its own files: importing it takes longer than an audit."""
    match = re.fullmatch(r"digits:([0-9])-([0-9])", source)
    if source not in ("breast_cancer", "digits") and (match is None or match[1] == match[2]):
        raise ValueError(f"{source} is no pair of digits, expected two different ones such as digits:3-8, or digits")
    package = importlib.util.find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise ValueError(f"{source} comes with scikit-learn: pip install 'gaunlearn-jax[data]'")
    folder = Path(package.submodule_search_locations[0]) / "datasets" / "data"
    table = _table(folder, "breast_cancer.csv" if "cancer" in source else "digits.csv.gz", skip=int("cancer" in source))
    points, labels = table[:, :-1], table[:, -1].astype(int)
    if match is None:
        return points, labels
    chosen = np.isin(labels, [int(match[1]), int(match[2])])
    return points[chosen], labels[chosen]


def _table(folder: Path, name: str, skip: int) -> np.ndarray:
    """The rows of one of scikit-learn's files; by its own loader where a version keeps them elsewhere."""
    if (folder / name).is_file():
        return np.loadtxt(folder / name, delimiter=",", skiprows=skip)
    from sklearn.datasets import load_breast_cancer, load_digits

    points, labels = (load_breast_cancer if "cancer" in name else load_digits)(return_X_y=True)
    return np.column_stack([points, labels])
