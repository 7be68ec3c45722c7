"""Which columns of a table are coordinates, which one holds the classes, and what a cell may say."""

from __future__ import annotations

import difflib
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

#: names that programs give to the column of row numbers they write
INDEX_NAMES = ("", "Unnamed: 0", "__index_level_0__")
#: so many rows that are numbered one by one are an index, not a coordinate
COUNTED = 4
#: what programs write for a class that is not known
MISSING = ("", "nan", "na", "n/a", "null", "none", "?", "<na>", "nat")
TRUTH = {"true": 1.0, "false": 0.0}


class Wanted(NamedTuple):
    """The column of the classes, the columns that are coordinates (all without it), those that are left out, and
    whether a csv begins with names (None: decided from the file where that is safe)."""

    label: str | None = None
    columns: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    header: bool | None = None


def chosen(names: list[str], wanted: Wanted, path: Path, index: bool) -> tuple[int, list[int]]:
    """The place of the classes, and those of the coordinates; `index` drops a first column of row numbers."""
    if wanted.label is None:
        raise ValueError(f"{path} needs --label COLUMN: which column holds the classes")
    at = place(names, wanted.label, path)
    gone = {place(names, name, path) for name in wanted.drop}
    if at in gone:
        raise ValueError(f"--drop names {wanted.label!r}, the column of the classes; leave out one of the two")
    kept = [place(names, name, path) for name in wanted.columns]
    if len(set(kept)) < len(kept) or gone & set(kept) or at in kept:
        raise ValueError("--columns names a column twice, or one that --label or --drop names; name each once")
    if not kept:
        skipped = index and names[0] in INDEX_NAMES and at != 0
        kept = [i for i in range(int(skipped), len(names)) if i != at and i not in gone]
    if not kept:
        raise ValueError(f"{path} has no column left for the coordinates beside {wanted.label!r}; name other columns")
    return at, kept


def place(names: list[str], name: str, path: Path) -> int:
    """The number of a column, from 0."""
    if names.count(name) == 1:
        return names.index(name)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    if sum(map(is_number, names)) >= max(1, len(names) - 1):
        hint = "; the first row looks like data: with --no-header columns go by their numbers from 0"
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    times = "no column" if name not in names else "several columns"
    raise ValueError(f"{path} has {times} {name!r}, its columns are {shown}{hint}")


def refuse_index(points: np.ndarray, names: list[str], path: Path) -> None:
    """ValueError for a column that only counts the rows."""
    if len(points) < COUNTED:
        return
    from_zero_or_one = (points[0] == 0) | (points[0] == 1)
    counts = np.flatnonzero(from_zero_or_one & np.all(np.diff(points, axis=0) == 1, axis=0))
    if counts.size:
        raise ValueError(
            f"{path}, column {names[counts[0]]!r} counts the rows and is no coordinate; leave it out, --drop "
            f"{names[counts[0]]!r}, or insist by naming the coordinates, --columns A,B,.."
        )


def number(text: str) -> float:
    """The finite number that a cell says; NaN for anything else."""
    try:
        # Python also reads 1_000, which no other program writes for a thousand
        value = float(text) if "_" not in text else math.nan
    except ValueError:
        value = TRUTH.get(text.lower(), math.nan)
    return value if math.isfinite(value) else math.nan


def is_number(text: str) -> bool:
    """Whether a cell is a finite number."""
    return not math.isnan(number(text))


def classes(labels: list[Any], name: str, path: Path, rows: int) -> np.ndarray:
    """Whole numbers where all are, then numbers, otherwise the text as it is; `rows` is the first row's number."""
    for at, label in enumerate(labels):
        if str(label).strip().lower() in MISSING:
            said = "an empty" if not str(label).strip() else f"{str(label).strip()!r} for a"
            raise ValueError(
                f"{path}, row {at + rows} has {said} {name!r}, which is no class; label the point, drop the row, or "
                "rename the class"
            )
    values = np.array([number(str(label)) if str(label).lower() not in TRUTH else math.nan for label in labels])
    if np.any(np.isnan(values)):
        return np.asarray([str(label) for label in labels])
    whole = bool(np.all(values == np.round(values)) and np.max(np.abs(values)) < 2**53)
    return values.astype(np.int64) if whole else values
