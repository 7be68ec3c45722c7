"""Registries: one seam for each thing that people add. A lookup that fails is one sentence that names what is known."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from gaunlearn_jax.base import checks


@runtime_checkable
class Named(Protocol):
    """Anything with a name."""

    @property
    def name(self) -> str:
        """A word of letters, digits and underscores."""
        ...


T = TypeVar("T", bound=Named)


class Registry(Generic[T]):
    """Things of one kind by name, in the order they were registered.

    >>> kinds = Registry("shape")
    >>> kinds["square"]
    Traceback (most recent call last):
        ...
    ValueError: unknown shape 'square'; known shapes: none
    """

    def __init__(self, kind: str, plural: str = "") -> None:
        self.kind, self.plural = kind, plural or f"{kind}s"
        self._rows: dict[str, T] = {}

    def register(self, row: T) -> T:
        """Add a row; ValueError if its name is taken or no word."""
        if not isinstance(row.name, str) or not re.fullmatch(r"\w+", row.name):
            raise ValueError(f"the {self.kind} name {row.name!r} must be letters, digits and underscores; rename it")
        if row.name in self._rows:
            raise ValueError(f"the {self.kind} name {row.name!r} is taken; every {self.kind} needs its own")
        self._rows[row.name] = row
        return row

    @contextmanager
    def added(self, *rows: T) -> Iterator[None]:
        """Rows that are registered inside a `with` alone."""
        before = dict(self._rows)
        try:
            for row in rows:
                self.register(row)
            yield
        finally:
            self._rows = before

    def __getitem__(self, name: Any) -> T:
        if isinstance(name, str) and name in self._rows:
            return self._rows[name]
        raise ValueError(unknown(self.kind, name, list(self._rows), self.plural))

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __iter__(self) -> Iterator[T]:
        return iter(self._rows.values())

    @property
    def names(self) -> tuple[str, ...]:
        """The known names."""
        return tuple(self._rows)


def unknown(kind: str, name: Any, known: list[str], plural: str = "") -> str:
    """One sentence: what was asked for, the nearest name, the known ones."""
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ";"
    return f"unknown {kind} {name!r}{hint} known {plural or f'{kind}s'}: {', '.join(known) or 'none'}"


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A named number of a row: its default, the range low <= value <= high (above low if open_low), what it is, and
    the values of a grid where none are given (default: the default alone)."""

    name: str
    default: float
    low: float = -math.inf
    high: float = math.inf
    text: str = ""
    grid: tuple[float, ...] = ()
    open_low: bool = False

    @property
    def values(self) -> tuple[float, ...]:
        """The values of a grid where none are given."""
        return self.grid or (self.default,)

    def check(self, value: Any) -> None:
        """ValueError unless the value is traced or one number in range."""
        sign = "<" if self.open_low else "<="
        room = f"one finite number with {self.low:g} {sign} {self.name} <= {self.high:g}"
        checks.number(self.name, value, room, self.low, self.high, open_low=self.open_low)


def given(owner: str, parameters: tuple[Parameter, ...], values: dict[str, Any]) -> dict[str, Any]:
    """All parameters with their values, defaults put in; ValueError for an unknown name or a value out of range."""
    known = {p.name: p for p in parameters}
    for name, value in values.items():
        if name not in known:
            raise ValueError(unknown(f"parameter of {owner}", name, list(known), f"parameters of {owner}"))
        known[name].check(value)
    return {p.name: values.get(p.name, p.default) for p in parameters}


def parse(text: str, what: str) -> tuple[str, dict[str, tuple[float, ...]]]:
    """NAME[:PARAMETER=V,..]... as (name, {parameter: values}); ValueError says what was expected.

    >>> parse("clusters:number=3:c=0.1,0.5", "source")
    ('clusters', {'number': (3.0,), 'c': (0.1, 0.5)})
    """
    name, *parts = text.split(":")
    values: dict[str, tuple[float, ...]] = {}
    for part in parts:
        key, equals, numbers = part.partition("=")
        try:
            found = tuple(float(v) for v in numbers.split(","))
        except ValueError:
            found = ()
        if not equals or not found or key in values:
            raise ValueError(f"{what} {text!r}: expected NAME or NAME:PARAMETER=VALUE, each parameter once")
        values[key] = found
    return name, values


def spelled(name: str, parameters: tuple[Parameter, ...], values: dict[str, float]) -> str:
    """The shortest text that `parse` reads back: parameters at their defaults are left out."""
    rest = (f":{p.name}={values[p.name]!r}" for p in parameters if values.get(p.name, p.default) != p.default)
    return name + "".join(rest)
