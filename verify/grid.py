"""The grid of a run: which instances, and which evaluations of them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from gaunlearn_jax.data import MAX_DIM
from verify.records import Shape
from verify.suite import Suite

#: dimensions and signals where none are given: both regimes of the worst-case bounds, and the decay of test errors
DIMS = {"gaussian": (1e4, 1e8, 1e12, 1e13), "mixture": (1e3, 1e4, 1e6, 1e8, 1e10, 1e12)}
SIGNALS = {"gaussian": (0.0,), "mixture": (0.02, 0.05, 0.1, 0.2)}
#: bytes that one lane of a chunk occupies at least, per neuron and squared point, while its dual programmes are solved
_BYTES = 8 * 8


@dataclasses.dataclass(frozen=True)
class Grid:
    """Dimensions d, numbers of points m, neurons n, sizes k of the forget set, seeds, signals of mixtures, the loss.

    dims and signals of None stand for those of DIMS and SIGNALS; `of` puts them in."""

    dims: tuple[float, ...] | None = None
    points: tuple[int, ...] = (10,)
    neurons: tuple[int, ...] = (40,)
    forget: tuple[int, ...] = (1, 2)
    seeds: int = 64
    seed_start: int = 0
    signals: tuple[float, ...] | None = None
    loss: str = "exponential"

    def __post_init__(self) -> None:
        for name in ("dims", "points", "neurons", "forget", "signals"):
            values = getattr(self, name)
            if values is None:
                continue
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
            for d in self.dims or ():
                if not (math.isfinite(d) and m + 1 <= d <= MAX_DIM):
                    raise ValueError(f"--dims {d:g} with --points {m}: expected {m + 1} <= d <= {MAX_DIM:g}")
            for k in self.forget:
                if not 1 <= k < m:
                    raise ValueError(f"--forget {k} with --points {m}: expected 1 <= k < m (sizes of the forget set)")
        for n in self.neurons:
            if n < 2:
                raise ValueError(f"--neurons {n}: at least 2 are needed, one of each sign")
        for a in self.signals or ():
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

    def of(self, source: str) -> Grid:
        """This grid for data of a source ("gaussian" or "mixture"), its dims and signals put in."""
        signals = self.signals if source == "mixture" and self.signals is not None else SIGNALS[source]
        return dataclasses.replace(self, dims=self.dims or DIMS[source], signals=signals)

    def cells(self, source: str) -> list[tuple[float, float]]:
        """(d, signal) of every cell of a source, in the order of the lanes."""
        here = self.of(source)
        return [(d, a) for d in here.dims or () for a in here.signals or ()]

    def lanes(self, shape: Shape) -> int:
        return len(self.cells(shape.source)) * self.seeds

    def bytes_per_lane(self, shape: Shape) -> int:
        """What one lane needs at least, known before anything is traced; `memory.live_bytes` knows the claims, too."""
        return _BYTES * shape.n * shape.m**2 * 2 * len(self.forget) + 4096

    def seed_range(self) -> range:
        return range(self.seed_start, self.seed_start + self.seeds)

    def as_json(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}
