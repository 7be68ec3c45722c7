"""How results show themselves in terminals and notebooks: numbers where there is one, shapes where there are many."""

from __future__ import annotations

import dataclasses
import html
from typing import Any

import numpy as np

from gaunlearn_jax import checks
from gaunlearn_jax._types import Reason, Status

_CODES: dict[str, type[Status] | type[Reason]] = {"status": Status, "reason": Reason}


class Shown:
    """Short `__repr__` and `_repr_html_` for dataclasses of arrays.

    Values are read only of concrete scalars on this host; tracers, batches, abstract and deleted arrays show their
    dtype and shape. Use with `dataclass(repr=False)`.
    """

    def __repr__(self) -> str:
        pairs = (f"{name}={text}" for name, text in _parts(self))
        return f"{type(self).__name__}({', '.join(pairs)})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
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
