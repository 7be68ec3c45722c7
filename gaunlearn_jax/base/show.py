"""How results show themselves in terminals and notebooks: numbers where there is one, shapes where there are many."""

from __future__ import annotations

import dataclasses
import html
from typing import Any

import numpy as np

from gaunlearn_jax.base import checks
from gaunlearn_jax.base.codes import Reason, Status

_CODES: dict[str, type[Status] | type[Reason]] = {"status": Status, "reason": Reason}


class Shown:
    """Short `__repr__` and `_repr_html_` for dataclasses of arrays; the latter with a small picture of each array.

    Values are read only of concrete scalars on this host; tracers, batches, abstract and deleted arrays show their
    dtype and shape. Use with `dataclass(repr=False)`.
    """

    def __repr__(self) -> str:
        pairs = (f"{name}={text}" for name, text in _parts(self))
        return f"{type(self).__name__}({', '.join(pairs)})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(text)}{picture(getattr(self, name))}</td></tr>"
            for name, text in _parts(self)
        )
        return f"<table><caption>{type(self).__name__}</caption><tbody>{rows}</tbody></table>"


def _parts(result: Any) -> list[tuple[str, str]]:
    """(field, text) of every field: scalars first, in their order, then arrays; fields that are None are left out."""
    values = [(f.name, getattr(result, f.name, None)) for f in dataclasses.fields(result)]
    shown = [(name, value) for name, value in values if value is not None]
    shown.sort(key=lambda item: bool(getattr(item[1], "shape", ())))
    return [(name, text_of(name, value)) for name, value in shown]


def text_of(name: str, value: Any) -> str:
    """One field in short: a number, a code in words, or float64[40, 10]."""
    shape = getattr(value, "shape", None)
    if shape is None:
        return str(value) if isinstance(value, str | int | float) else type(value).__name__
    if shape or not _readable(value):
        return f"{value.dtype}[{', '.join(map(str, shape))}]"
    number = np.asarray(value).item()
    if name in _CODES and number in set(_CODES[name]):
        return _CODES[name](int(number)).text
    return f"{number:.4g}" if isinstance(number, float) else str(number)


def _readable(value: Any) -> bool:
    if checks.is_traced(value) or not hasattr(value, "__array__"):
        return False
    deleted = getattr(value, "is_deleted", lambda: False)()
    return not deleted and getattr(value, "is_fully_addressable", True)


#: entries of an array that still gets a picture
MOST = 1000


def picture(value: Any) -> str:
    """A small drawing of an array on this host: bars of a vector, squares of a matrix; "" of anything else.

    Values are shown by their size over the largest one, negative ones in another colour.
    """
    shape = getattr(value, "shape", ())
    if len(shape) not in (1, 2) or not 1 < np.prod(shape) <= MOST or not _readable(value):
        return ""
    array = np.asarray(value)
    if array.dtype.kind not in "fiub" or not np.all(np.isfinite(array)):
        return ""
    array = array.astype(float)
    sizes = np.abs(array) / (np.max(np.abs(array)) or 1.0)
    if array.ndim == 1:
        marks = [(i, 1 - h, 0.9, h, v, 1.0) for i, (h, v) in enumerate(zip(sizes, array, strict=True))]
        box, wide, high = f"0 0 {len(array)} 1", min(8 * len(array), 240), 24
    else:
        rows, columns = array.shape
        marks = [(j, i, 1.0, 1.0, array[i, j], sizes[i, j]) for i in range(rows) for j in range(columns)]
        side = min(8.0, 240 / max(rows, columns))
        box, wide, high = f"0 0 {columns} {rows}", round(side * columns), round(side * rows)
    drawn = "".join(
        f"<rect x='{x:g}' y='{y:.3g}' width='{w:g}' height='{h:.3g}' fill='{'#c2571a' if v < 0 else '#1b3a6b'}'"
        f" opacity='{shade:.2g}'/>"
        for x, y, w, h, v, shade in marks
        if h > 0 and shade > 0
    )
    return (
        f"<br><svg viewBox='{box}' width='{wide}' height='{high}' preserveAspectRatio='none' role='img'"
        f" aria-label='values of an array'>{drawn}</svg>"
    )
