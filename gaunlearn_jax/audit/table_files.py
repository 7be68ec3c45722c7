"""Tables in formats of other libraries, read by these libraries: parquet by pyarrow, svmlight by scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gaunlearn_jax.audit.columns import Wanted, chosen, classes, refuse_index
from gaunlearn_jax.audit.files import LARGEST, opened


def parquet_table(path: Path, wanted: Wanted) -> tuple[np.ndarray, np.ndarray]:
    """Points and labels of a parquet file."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ValueError(f"{path} needs pyarrow: pip install 'gaunlearn-jax[parquet]'") from None
    with opened(path) as file:
        try:
            table = parquet.read_table(file)
        except (pyarrow.ArrowException, OSError) as error:
            why = str(error).split("\n")[0][:80]
            raise ValueError(f"{path} is damaged or no parquet ({why}); write it again") from None
    names = list(table.column_names)
    label, kept = chosen(names, wanted, path, index=True)
    if table.num_rows == 0:
        raise ValueError(f"{path} has no rows, expected one row per point")
    if 8 * table.num_rows * len(kept) > LARGEST:
        raise ValueError(f"{path} has over {LARGEST / 2**30:.0f} GiB of numbers; take fewer points or columns")
    points = np.column_stack([_numbers(table, i, path) for i in kept])
    if not wanted.columns:
        refuse_index(points, [names[i] for i in kept], path)
    labels = ["" if value is None else value for value in table.column(label).to_pylist()]
    return points, classes(labels, names[label], path, 1)


def _numbers(table: object, at: int, path: Path) -> np.ndarray:
    """One column as float64."""
    import pyarrow

    column, name = table.column(at), table.column_names[at]  # type: ignore[attr-defined]
    kind = column.type
    known = (pyarrow.types.is_integer, pyarrow.types.is_floating, pyarrow.types.is_boolean, pyarrow.types.is_decimal)
    if not any(is_kind(kind) for is_kind in known):
        raise ValueError(f"{path}, column {name!r} holds {kind}, expected numbers; leave it out, --drop {name!r}")
    values = np.asarray([np.nan if value is None else float(value) for value in column.to_pylist()])
    if not np.all(np.isfinite(values)):
        row = int(np.argmin(np.isfinite(values))) + 1
        raise ValueError(f"{path}, row {row}, column {name!r} is {values[row - 1]} or missing; clean the data")
    return values


def svmlight_table(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Points (dense) and labels of an svmlight or libsvm file, plain or .gz."""
    try:
        from sklearn.datasets import load_svmlight_file
    except ImportError:
        raise ValueError(f"{path} needs scikit-learn: pip install 'gaunlearn-jax[data]'") from None
    with opened(path):
        pass  # a directory, a pipe and a missing file have their own sentence
    try:
        points, labels = load_svmlight_file(str(path))
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is no svmlight file ({str(error)[:80]}); expected `label index:value ..`") from None
    if 8 * points.shape[0] * points.shape[1] > LARGEST:
        raise ValueError(f"{path} has {points.shape[1]} coordinates, over {LARGEST / 2**30:.0f} GiB when dense")
    return points.toarray(), classes(labels.tolist(), "label", path, 1)
