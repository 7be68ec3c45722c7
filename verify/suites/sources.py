"""Data of other kinds: where ascent loses, and where no worst-case bound but the scale-free one speaks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gaunlearn_jax.base.codes import Reason
from gaunlearn_jax.data.registry import DISTRIBUTIONS
from gaunlearn_jax.theory import bounds
from gaunlearn_jax.theory.worthwhile import TIE, gap_ratio
from verify.suites.beside_nothing import compared
from verify.suites.check import gaps_in_order
from verify.suites.drawing import STYLES, limit_first
from verify.suites.finding import NOTHING, Explanation, Finding, Shown, found, middle
from verify.suites.suite import Derived, Evaluation, Results, Suite, Table, bound_of, unless

#: the worst-case bounds that are compared: of squared norms near 1, and of any norms
STRENGTHS = ("sharp", "scale_free")
#: share of the instances from which on a bound counts as excluding doing nothing
HALF = 0.5


def evaluate(e: Evaluation) -> Results:
    near = e.certificates["projection"]
    solved = bounds.converged(near.status, e.first.status)
    nothing, step, p, moved, proved = compared(e, e.first.params)
    out: Results = {
        "step/certificate/tau": gaps_in_order(step, nothing, reason=unless(proved, Reason.DATA), converged=solved),
        "solved": solved, "leverage": p.leverage, "ratio": gap_ratio(step, nothing),
        "better": moved & (step < nothing - TIE),
    }  # fmt: skip
    for strength in STRENGTHS:
        out |= e.success(near, bound_of(e, near, strength), strength)
    return out


class Cell(NamedTuple):
    """The lanes `here` of one cell of a run, named as in `student nu=2`, with its numbers {parameter: value}."""

    source: str
    numbers: dict[str, float]
    block: Any
    here: np.ndarray

    @property
    def name(self) -> str:
        return " ".join([self.source, *(f"{name}={value:g}" for name, value in self.numbers.items())])

    def solved(self, name: str) -> np.ndarray:
        """An array of the solved lanes, exact KKT points and first size of the forget set."""
        results = self.block.results["sources"]
        good = self.here & limit_first(results["solved"]).astype(bool) & np.isfinite(limit_first(results[name]))
        return limit_first(results[name])[good].astype(float)

    def share(self, name: str) -> float:
        """The share of the solved lanes on which something is so; NaN of none."""
        values = self.solved(name)
        return float(np.mean(values)) if values.size else float("nan")

    def telling(self, strength: str) -> float:
        """The share of lanes on which a bound applies and excludes doing nothing."""
        one = self.block.results["sources"][f"projection/{strength}/tau"]
        says = (limit_first(one.reason) == 0) & limit_first(one.converged) & (limit_first(one.discriminating) == 1)
        return float(np.mean(says[self.here]))


def cells(blocks: list[Any], grid: Any) -> list[Cell]:
    """The cells of a run that have lanes, each in its largest dimension and of its largest model."""
    out = []
    for source in grid.source_names() or grid.others:
        there = [block for block in blocks if block.shape.source == source and len(block.d)]
        if not there:
            continue
        block = max(there, key=lambda block: (block.shape.n, block.shape.m))
        known = {p.name: p.default for p in DISTRIBUTIONS[source].parameters}
        for cell in grid.cells(source):
            here = block.at(cell)
            if cell.d == np.max(block.d) and np.any(here):
                given = {name: value for name, value in cell.parameters if value != known[name]}
                out.append(Cell(source, given, block, here))
    return out


def find(blocks: list[Any], grid: Any) -> Finding:
    """What ascent leaves of the gap of doing nothing on each source, and which bounds exclude that."""
    parts: list[str] = []
    numbers: dict[str, float] = {}
    for i, cell in enumerate(cells(blocks, grid)):
        given = "".join(f" {name}={{{name}_{i}}}" for name in cell.numbers)
        numbers |= {f"{name}_{i}": value for name, value in cell.numbers.items()}
        numbers |= {f"ratio_{i}": middle(cell.solved("ratio"))} | {f"{s}_{i}": cell.telling(s) for s in STRENGTHS}
        parts.append(f"{{ratio_{i}}} on {cell.source}{given}{_proof(cell)}")
    if not parts:
        return NOTHING
    return found("of nothing's gap ascent leaves " + ", ".join(parts), **numbers)


def _proof(cell: Cell) -> str:
    says = [strength.replace("_", "-") for strength in STRENGTHS if cell.telling(strength) >= HALF]
    return f" (proved: {', '.join(says)})" if says else ""


def tables(blocks: list[Any], grid: Any) -> tuple[Table, ...]:
    """Every cell: leverage, the ratio of gaps, shares of lanes."""
    rows = [
        [
            cell.name, f"{Shown(middle(cell.solved('leverage')))}", f"{Shown(middle(cell.solved('ratio')))}",
            f"{Shown(cell.share('better')):%}", *(f"{Shown(cell.telling(s)):%}" for s in STRENGTHS),
        ]
        for cell in cells(blocks, grid)
    ]  # fmt: skip
    heads = [
        "data",
        "leverage",
        "gap over nothing's",
        "better",
        "sharp excludes nothing",
        "scale-free excludes nothing",
    ]
    return (Table("other data, largest dimension, exact KKT points", heads, rows),)


def draw(figure: Any, blocks: list[Any], grid: Any) -> None:
    """Leverage against the ratio of gaps, one mark an instance; the guide is leverage / (1 - leverage)."""
    ax = figure.subplots()
    for style, cell in enumerate(cells(blocks, grid)):
        look = STYLES[style % len(STYLES)] | {"linestyle": "none"}
        ax.plot(cell.solved("leverage"), cell.solved("ratio"), label=cell.name, markersize=4, alpha=0.6, **look)
    low = min((np.min(line.get_xdata()) for line in ax.get_lines() if len(line.get_xdata())), default=1e-3)
    share = np.geomspace(max(low, 1e-16), 0.99, 200)
    ax.plot(share, share / (1 - share), color="0.4", linewidth=1, linestyle="--", label="leverage / (1 - leverage)")
    ax.axhline(1.0, color="0.4", linewidth=0.8)
    ax.set(xscale="log", yscale="log", xlabel="leverage of the forgotten points")
    ax.set_ylabel("gap of the step over that of doing nothing")
    ax.grid(alpha=0.25)
    ax.legend(fontsize=8)


SUITE = Suite(
    name="sources",
    statement="on data of other kinds the scale-free bound holds, and where the certificate says so the step is nearer "
    "to the retrained model than doing nothing",
    source="docs/theory, Theorem F; Is the step better than nothing",
    evaluate=evaluate,
    draw=draw,
    find=find,
    tables=tables,
    models=("linear",),
    theorem="M",
    derived={"step/certificate/tau": Derived("worthwhile/certificate", solution=True)},
    others=True,
    explain=Explanation(
        hypotheses="the scale-free bound: (m - 1) times the largest cosine below 1, nothing of norms. The certificate: "
        "none, it is a criterion computed on the instance",
        meaning="heavy tails do not hurt the step, though bounds that want squared norms near 1 are silent; a common "
        "mean or near-duplicates put the forgotten point into the span of the others, and no dimension helps",
        false_if="an instance outside the scale-free bound, or one on which the certificate says better and the angle "
        "to the exact solution grew",
    ),
)
