"""The grid of a run: which instances, and which evaluations of them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from gaunlearn_jax.data import MAX_DIM
from verify.records import Shape
from verify.suite import Suite

#: bytes that one lane of a chunk occupies per neuron and squared point while its dual programmes are solved
_BYTES = 8 * 24


@dataclasses.dataclass(frozen=True)
class Grid:
    """Dimensions d, numbers of points m, neurons n, sizes k of the forget set, seeds, signals of mixtures, the loss."""

    dims: tuple[float, ...] = (1e4, 1e8, 1e12, 1e13)
    points: tuple[int, ...] = (10,)
    neurons: tuple[int, ...] = (40,)
    forget: tuple[int, ...] = (1, 2)
    seeds: int = 64
    seed_start: int = 0
    signals: tuple[float, ...] = (0.05,)
    loss: str = "exponential"

    def __post_init__(self) -> None:
        for name in ("dims", "points", "neurons", "forget", "signals"):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"--{name} is empty: give at least one value")
            if len(set(values)) != len(values):
                raise ValueError(f"--{name} {', '.join(map(str, values))} repeats a value; give each once")
        if self.seeds < 1 or self.seed_start < 0 or self.seed_start + self.seeds > 2**32:
            raise ValueError(
                f"--seeds {self.seeds} from --seed-start {self.seed_start}: expected at least one, within 0 .. 2^32 - 1"
            )
        for m in self.points:
            if m < 2:
                raise ValueError(f"--points {m}: at least 2 points are needed, one to forget and one to retain")
            for d in self.dims:
                if not (math.isfinite(d) and m + 1 <= d <= MAX_DIM):
                    raise ValueError(f"--dims {d:g} with --points {m}: expected {m + 1} <= d <= {MAX_DIM:g}")
            for k in self.forget:
                if not 1 <= k < m:
                    raise ValueError(f"--forget {k} with --points {m}: expected 1 <= k < m (sizes of the forget set)")
        for n in self.neurons:
            if n < 2:
                raise ValueError(f"--neurons {n}: at least 2 are needed, one of each sign")
        for a in self.signals:
            if not math.isfinite(a):
                raise ValueError(f"--signals {a}: expected finite numbers (0 < a < 1/4 in the theory)")

    def shapes(self, suites: tuple[Suite, ...]) -> dict[Shape, tuple[Suite, ...]]:
        """The compilations that these suites need, each with the suites that share its records."""
        out: dict[Shape, tuple[Suite, ...]] = {}
        for suite in suites:
            for model in suite.models:
                for m in self.points:
                    for n in self.neurons if model == "relu" else (1,):
                        shape = Shape(model, m, n, self.loss, suite.data_source)
                        out[shape] = (*out.get(shape, ()), suite)
        return out

    def signals_of(self, shape: Shape) -> tuple[float, ...]:
        return self.signals if shape.source == "mixture" else (0.0,)

    def lanes(self, shape: Shape) -> int:
        return len(self.dims) * len(self.signals_of(shape)) * self.seeds

    def bytes_per_lane(self, shape: Shape) -> int:
        """An estimate of the working memory of one lane."""
        return _BYTES * shape.n * shape.m**2 * 2 * len(self.forget) + 4096

    def seed_range(self) -> range:
        return range(self.seed_start, self.seed_start + self.seeds)

    def as_json(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}
