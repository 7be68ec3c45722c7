"""The grid of a run: which instances, and which evaluations of them."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from typing import Any

from gaunlearn_jax.base.registry import given, parse
from gaunlearn_jax.data import MAX_DIM
from gaunlearn_jax.data.registry import DISTRIBUTIONS
from gaunlearn_jax.models.registry import canonical, lookup
from gaunlearn_jax.training.losses import LOSSES
from verify.instances.records import Cell, Shape

#: bytes that one lane of a chunk occupies at least, per neuron and squared point, while its dual programmes are solved
_BYTES = 8 * 8


#: the small grid of a run that names no sources, beside its own data: heavy tails, on which bounds that want squared
#: norms near 1 are silent; duplicates and a common mean, on which ascent loses; in two dimensions, since none helps
OTHERS = ("student:nu=2", "near_duplicates:c=0.9", "shifted:common=0.9")
OTHERS_DIMS = (1e4, 1e8)


@dataclasses.dataclass(frozen=True)
class Grid:
    """Dimensions d, numbers of points m, neurons n, sizes k of the forget set, seeds, signals of mixtures, the loss,
    models and sources of data.

    dims, signals, models and sources of None stand for those of the source's row, or of each claim; `wide` is whether
    these models are those of a large run. A source is written NAME or NAME:PARAMETER=V,..; parameters that are not
    given take the values of the row's own grid.
    """

    dims: tuple[float, ...] | None = None
    points: tuple[int, ...] = (10,)
    neurons: tuple[int, ...] = (40,)
    forget: tuple[int, ...] = (1, 2)
    seeds: int = 64
    seed_start: int = 0
    signals: tuple[float, ...] | None = None
    loss: str = "exponential"
    models: tuple[str, ...] | None = None
    sources: tuple[str, ...] | None = None
    wide: bool = False

    def __post_init__(self) -> None:
        self._check_repeats()
        if self.seeds < 1 or self.seed_start < 0 or self.seed_start + self.seeds > 2**32:
            raise ValueError(
                f"--seeds {self.seeds} from --seed-start {self.seed_start}: expected at least one, within 0 .. 2^32 - 1"
            )
        self._check_sizes()
        LOSSES[self.loss]  # an unknown one raises
        if self.models is not None:
            object.__setattr__(self, "models", tuple(canonical(model) for model in self.models))
        for text in self.sources or ():
            self._values(parse(text, "source")[0])

    def _check_repeats(self) -> None:
        for name in ("dims", "points", "neurons", "forget", "signals", "models", "sources"):
            values = getattr(self, name)
            if values is None:
                continue
            if not values:
                raise ValueError(f"--{name} is empty: give at least one value")
            known = [parse(v, "source")[0] for v in values] if name == "sources" else values
            if len(set(known)) != len(known):
                raise ValueError(f"--{name} {', '.join(map(str, values))} repeats a value; give each once")

    def _check_sizes(self) -> None:
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

    def _values(self, source: str) -> list[tuple[str, tuple[float, ...]]]:
        """The values of every parameter of a source."""
        row = DISTRIBUTIONS[source]
        asked: dict[str, tuple[float, ...]] = {}
        for text in self._texts:
            name, values = parse(text, "source")
            asked |= values if name == source else {}
        if source == "mixture" and self.signals is not None:
            asked.setdefault("signal", self.signals)
        for combination in itertools.product(*asked.values()):
            given(source, row.parameters, dict(zip(asked, combination, strict=True)))
        return [(p.name, asked.get(p.name, p.values)) for p in row.parameters]

    @property
    def _texts(self) -> tuple[str, ...]:
        """The sources with the values that are asked of their parameters."""
        return OTHERS if self.sources is None else self.sources

    @property
    def others(self) -> tuple[str, ...]:
        """The names of the small grid's sources; () where a run names its own."""
        return tuple(parse(text, "source")[0] for text in OTHERS) if self.sources is None else ()

    def _dims(self, source: str) -> tuple[float, ...]:
        return self.dims or (OTHERS_DIMS if source in self.others else DISTRIBUTIONS[source].dims)

    def of(self, source: str) -> Grid:
        """This grid for data of a source, its dims and signals put in."""
        found = copy.copy(self)  # unchecked: a row answers for its own dims, and real data may have fewer than m
        object.__setattr__(found, "dims", self._dims(source))
        object.__setattr__(found, "signals", dict(self._values(source)).get("signal", (0.0,)))
        return found

    def cells(self, source: str) -> list[Cell]:
        """The cells of a source, in the order of the lanes."""
        values = self._values(source)
        combinations = list(itertools.product(*(v for _, v in values)))
        names = [name for name, _ in values]
        return [Cell(float(d), tuple(zip(names, one, strict=True))) for d in self._dims(source) for one in combinations]

    def shapes_of(self, model: str, source: str) -> list[Shape]:
        """The shapes of a model and a source; a model without neurons to choose has n = 1."""
        sizes = self.neurons if lookup(model)[0].neurons else (1,)
        return [Shape(model, m, n, self.loss, source) for m in self.points for n in sizes]

    def source_names(self) -> tuple[str, ...] | None:
        """The names of the sources that were asked for."""
        return None if self.sources is None else tuple(parse(text, "source")[0] for text in self.sources)

    def lanes(self, shape: Shape) -> int:
        return len(self.cells(shape.source)) * self.seeds

    def bytes_per_lane(self, shape: Shape) -> int:
        """What one lane needs at least, known before anything is traced; `memory.live_bytes` knows the claims, too."""
        return _BYTES * shape.entries * 2 * len(self.forget) + 4096

    def seed_range(self) -> range:
        return range(self.seed_start, self.seed_start + self.seeds)

    def as_json(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}
