"""Reading tables of separated values: every column but that of the classes is a coordinate, unless columns are named.

Separators, encodings, decimal commas and line endings are recognised; a first row of data, an index and a missing class
are never taken for something else. The standard library's reader splits the fields; what takes care here is all that a
reader of data frames would guess silently.
"""

from __future__ import annotations

import array
import csv
import gzip
import io
import itertools
import math
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple, TextIO

import numpy as np

from gaunlearn_jax.audit.columns import INDEX_NAMES, Wanted, chosen, classes, is_number, number, refuse_index
from gaunlearn_jax.audit.files import LARGEST, opened

#: separators, and those of them beside which a comma may be the decimal mark
BESIDE = "\t;|"
SEPARATORS = BESIDE + ", "
#: so many lines decide the separator
SAMPLE = 12
DECIMAL = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))


class Layout(NamedTuple):
    """Names of the columns, those of the classes and of the coordinates, the number of the first row of data."""

    names: list[str]
    label: int
    kept: list[int]
    first: int


def csv_table(path: Path, wanted: Wanted) -> tuple[np.ndarray, np.ndarray]:
    """Points and labels; columns go by name, or by number from 0 where the first row is data."""
    if wanted.label is None:
        raise ValueError(f"{path} needs --label COLUMN: which column holds the classes")
    with _lines(path) as lines:
        try:
            head = list(itertools.islice(lines, SAMPLE))
            if head and re.fullmatch(r"\s*\"?sep=.\"?\s*", head[0]):
                mark = head.pop(0).strip().strip('"')[4]
            else:
                mark = separator(head)
            fields = csv.reader(itertools.chain(head, lines), delimiter=mark, strict=True, skipinitialspace=True)
            rows = ([cell.strip() for cell in row] for row in fields if any(cell.strip() for cell in row))
            return _read(rows, path, wanted, decimals=mark in BESIDE)
        except (csv.Error, UnicodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path} is no readable csv ({error}); save it as comma-separated UTF-8 text") from None


@contextmanager
def _lines(path: Path) -> Iterator[TextIO]:
    """The lines of a plain or compressed file, decoded by its byte order mark, as UTF-8 without one."""
    with opened(path) as raw:
        if os.fstat(raw.fileno()).st_size > LARGEST:
            raise ValueError(f"{path} has over {LARGEST / 2**30:.0f} GiB; take fewer points, or save it as .npz")
        packed = path.suffix.lower() == ".gz"
        file: IO[bytes] = gzip.GzipFile(fileobj=raw) if packed else raw  # type: ignore[assignment]
        with io.BufferedReader(file) as buffered:  # type: ignore[type-var]
            try:
                start = buffered.peek(4)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise ValueError(f"{path} is damaged or no .gz ({error}); compress it again") from None
            encoding = next((name for mark, name in MARKS if start.startswith(mark)), "utf-8")
            yield io.TextIOWrapper(buffered, encoding, newline="")


def separator(lines: list[str]) -> str:
    """The separator that makes the same number of fields of every line, the most where several do. Beside a tab, a
    semicolon or a bar the comma is a decimal mark, and blanks separate only where nothing else does."""
    lines = [line for line in lines if line.strip()]
    fields = {
        mark: [len(next(csv.reader([line], delimiter=mark, skipinitialspace=True), [])) for line in lines]
        for mark in SEPARATORS
    }
    steady = {mark: counts[0] for mark, counts in fields.items() if counts and counts[0] > 1 and len(set(counts)) == 1}
    for group in (BESIDE, ",", " "):
        found = {mark: steady[mark] for mark in group if mark in steady}
        if found:
            return max(found, key=found.__getitem__)
    return max(SEPARATORS[:-1], key=lambda mark: fields[mark][0]) if lines else ","


def _read(rows: Iterator[list[str]], path: Path, wanted: Wanted, decimals: bool) -> tuple[np.ndarray, np.ndarray]:
    first = next(rows, [])
    if not first:
        raise ValueError(f"{path} is empty, expected a first row with the names of the columns")
    headless = _headless(first, wanted, path)
    names = [str(i) for i in range(len(first))] if headless else first
    label, kept = chosen(names, wanted, path, index=not headless)
    layout = Layout(names, label, kept, 1 if headless else 2)
    values, labels = array.array("d"), []
    commas = _Commas(path, decimals)
    for at, row in enumerate(itertools.chain([first] if headless else [], rows), start=layout.first):
        if len(row) != len(names):
            raise ValueError(f"{path}, row {at} has {len(row)} fields, expected {len(names)} as in the first row")
        labels.append(row[label])
        values.extend(_number(row[i], commas, at, names[i]) for i in kept)
        if 8 * len(values) > LARGEST:
            raise ValueError(f"{path} has over {LARGEST / 2**30:.0f} GiB of numbers; take fewer points or columns")
    commas.settle()
    if not labels:
        raise ValueError(f"{path} has names of columns but no rows, expected one row per point")
    if not headless and wanted.header is None and wanted.label in labels:
        raise ValueError(
            f"the first row of {path} is data, not names, or so it seems: {wanted.label!r} is also a value further "
            f"down its column; say --no-header and give the number of the column, --label {label}, or --header"
        )
    points = np.frombuffer(values).reshape(len(labels), -1)
    if not wanted.columns:
        refuse_index(points, [names[i] for i in kept], path)
    return points, classes(labels, names[label], path, layout.first)


def _headless(first: list[str], wanted: Wanted, path: Path) -> bool:
    """Whether the first row is data: as it was said, or from numbers where names should be. ValueError where it could
    be either."""
    if wanted.header is not None:
        return not wanted.header
    numbers, label = [str(i) for i in range(len(first))], str(wanted.label)
    if first == numbers or (first[0] in INDEX_NAMES and first[1:] == numbers[:-1]):
        return False
    counted = label.isdecimal() and int(label) < len(first)
    at = int(label) if counted else first.index(label) if first.count(label) == 1 else -1
    others = [text for i, text in enumerate(first) if i != at]
    if not others or not all(is_number(text) or DECIMAL.fullmatch(text) for text in others):
        return False
    if counted and label not in others:
        return True
    raise ValueError(
        f"the first row of {path} looks like data, not names ({', '.join(first[:4])}{', ...' if len(first) > 4 else ''}"
        "): say --no-header and give --label as the number of the column from 0, or --header if it holds names"
    )


class _Commas:
    """Decimal commas of a file: allowed beside other separators, never together with points, nor where all of them
    could separate thousands."""

    def __init__(self, path: Path, allowed: bool) -> None:
        self.path, self.allowed = path, allowed
        self.seen, self.points, self.sure = "", False, False

    def plain(self, text: str) -> str:
        """The text with a decimal point."""
        if self.allowed and DECIMAL.fullmatch(text):
            self.seen = self.seen or text
            digits = re.split("[eE]", text.split(",")[1])[0]
            self.sure = self.sure or len(digits) != 3 or text.lstrip("+-").startswith(("0", ","))
            return text.replace(",", ".")
        self.points = self.points or "." in text
        return text

    def settle(self) -> None:
        """ValueError for commas that could be either."""
        if self.seen and (self.points or not self.sure):
            raise ValueError(
                f"{self.path} has numbers such as {self.seen}, whose comma could be a decimal mark or separate "
                "thousands; write numbers with decimal points"
            )


def _number(text: str, commas: _Commas, row: int, name: str) -> float:
    value = number(commas.plain(text))
    if math.isnan(value):
        raise ValueError(
            f"{commas.path}, row {row}, column {name!r} is {text[:40]!r}, expected a finite number; clean the data, or "
            f"leave the column out, --drop {name!r}"
        )
    return value
