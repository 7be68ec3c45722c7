"""The plane of a phase diagram: two axes over a source's parameters, sizes, a model's parameter or the step."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from gaunlearn_jax.base.registry import given, parse, unknown
from gaunlearn_jax.data import MAX_DIM
from gaunlearn_jax.data.registry import DISTRIBUTIONS
from gaunlearn_jax.models.registry import lookup
from verify.instances.records import Cell, Shape

#: values of an axis written as a range without a count
COUNT = 12
#: the ends of a range this many times apart are joined by equal ratios
RATIO = 50.0
WHOLE = ("m", "n", "k")


@dataclasses.dataclass(frozen=True)
class Axis:
    """A name and its increasing values; `log` says whether they are shown on a logarithmic scale."""

    name: str
    values: tuple[float, ...]
    log: bool

    @classmethod
    def read(cls, text: str) -> Axis:
        """NAME=LOW..HIGH, NAME=LOW..HIGH:COUNT or NAME=V,V,..; ValueError says what was expected.

        >>> Axis.read("c=0..1:3").values
        (0.0, 0.5, 1.0)
        """
        name, equals, rest = text.partition("=")
        try:
            values = _range(rest) if ".." in rest else tuple(float(v) for v in rest.split(","))
            good = equals and name and all(map(math.isfinite, values)) and len(values) > 1
        except ValueError:
            good = False
        if not good:
            raise ValueError(f"axis {text!r}: expected NAME=LOW..HIGH[:COUNT] or NAME=V,V,.. with two or more values")
        whole = name in WHOLE
        found = sorted({float(round(v)) for v in values} if whole else set(values))
        if len(found) < 2:
            raise ValueError(f"axis {text!r} has one value, expected two or more; name it in --source or an option")
        return cls(name, tuple(found), found[0] > 0 and found[-1] / found[0] >= RATIO)


def _range(text: str) -> tuple[float, ...]:
    ends, _, count = text.partition(":")
    low, high = (float(v) for v in ends.split(".."))
    number = int(count) if count else COUNT
    if number < 2 or not low < high:
        raise ValueError(text)
    if low > 0 and high / low >= RATIO:
        return tuple(float(v) for v in np.geomspace(low, high, number))
    return tuple(float(v) for v in np.round(np.linspace(low, high, number), 12))


@dataclasses.dataclass(frozen=True)
class Plane:
    """What a diagram shows: the source and model (as their registries spell them), two axes, and all else fixed."""

    source: str
    model: str
    x: Axis
    y: Axis
    dim: float = 1e4
    points: int = 10
    neurons: int = 40
    forget: int = 1
    step: float = 1.0
    seeds: int = 64

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"--seeds {self.seeds}: expected at least one instance per cell")
        if self.x.name == self.y.name:
            raise ValueError(f"both axes are {self.x.name}; expected two different parameters")
        source, model = self._rows()
        known = [*("d", "m", "n", "k", "step"), *(p.name for p in source.parameters + model.parameters)]
        for axis in (self.x, self.y):
            if axis.name not in known:
                raise ValueError(unknown(f"axis for {self.source}, {self.model}", axis.name, known, "axes"))
        for x in (self.x.values[0], self.x.values[-1]):
            for y in (self.y.values[0], self.y.values[-1]):
                self.place(x, y)

    def _rows(self) -> tuple[Any, Any]:
        return DISTRIBUTIONS[parse(self.source, "source")[0]], lookup(self.model)[0]

    def place(self, x: float, y: float) -> Place:
        """One cell; ValueError where it cannot be drawn."""
        values = {self.x.name: x, self.y.name: y}
        row, model = self._rows()
        asked = {name: found[0] for name, found in parse(self.source, "source")[1].items()}
        asked |= {p.name: values[p.name] for p in row.parameters if p.name in values}
        parameters = given(row.name, row.parameters, asked)
        of_model = lookup(self.model)[1] | {p.name: values[p.name] for p in model.parameters if p.name in values}
        spelled = ":".join([model.name, *(f"{name}={value!r}" for name, value in of_model.items())])
        m, k = int(values.get("m", self.points)), int(values.get("k", self.forget))
        n = int(values.get("n", self.neurons)) if model.neurons else 1
        d, step = float(values.get("d", self.dim)), float(values.get("step", self.step))
        if not (m >= 2 and 1 <= k < m and (n >= 2 or not model.neurons)):
            raise ValueError(f"m = {m}, k = {k}, n = {n}: expected m >= 2, 1 <= k < m, n >= 2")
        if not m + 1 <= d <= MAX_DIM:
            raise ValueError(f"d = {d:g} with m = {m}: expected {m + 1} <= d <= {MAX_DIM:g}")
        if step < 0:
            raise ValueError(f"step = {step:g}: expected a multiple >= 0 of the theorem's step")
        return Place(Shape(spelled, m, n, source=row.name), Cell(d, tuple(parameters.items())), k, step)

    def places(self) -> list[Place]:
        """All cells, y slowest."""
        return [self.place(x, y) for y in self.y.values for x in self.x.values]

    def as_json(self) -> dict[str, Any]:
        """What a results folder records of it."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    def title(self) -> str:
        """What is fixed, in words."""
        shown = {"m": self.points, "n": self.neurons, "k": self.forget, "d": f"{self.dim:g}", "step": f"{self.step:g}"}
        if not self._rows()[1].neurons:
            del shown["n"]
        fixed = [f"{k} = {v}" for k, v in shown.items() if k not in (self.x.name, self.y.name)]
        return f"{self.model} on {self.source}, {', '.join(fixed)}, {self.seeds} instances a cell"


@dataclasses.dataclass(frozen=True)
class Place:
    """One cell of a plane: what is compiled, the source's numbers, how many points are forgotten, the step's size."""

    shape: Shape
    cell: Cell
    k: int
    step: float
