"""The tables of the claim steps: gaps beside that of doing nothing, and popular metrics beside the gaps.

All are of exact KKT points and of the first size of the forget set.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from gaunlearn_jax.unlearn import STEPS
from gaunlearn_jax.unlearn.metrics import (
    FALSE_ALARMS,
    detected,
    exact_interval,
    margin_divergence,
    relearning_steps,
)
from verify.instances.records import Cell
from verify.suites.drawing import limit_first
from verify.suites.suite import Results, Table

#: a gap below which two models are the same
SAME = 1e-20
#: a step passes a metric on which it comes within this factor of what two ensembles of retrained models score
NEAR = 2.0
#: instances that a metric needs, in each half
FEWEST = 4


class Beside(NamedTuple):
    """A row of the table of gaps beside a step's own: its label, its gaps, and those of doing nothing to compare."""

    label: str
    gap: str
    nothing: str = "gap_nothing"


#: what is shown below the row of a step
BESIDE = {
    "ascent": Beside("ascent, best constant (oracle)", "best_ascent"),
    "neggrad_plus": Beside("neggrad_plus, best weight (oracle)", "best_neggrad_plus"),
    "active_set": Beside("active_set, unchecked", "unchecked_active_set"),
    "newton": Beside("newton, own target", "own_target_newton", "own_target_nothing"),
}
TITLE = (
    "median gap to the retrained model over that of doing nothing [quartiles]; share of instances nearer than nothing "
    "(oracle: with the retrained model at hand; unchecked: even where the signs fail; own target: between minimisers "
    "with a ridge)"
)


@dataclasses.dataclass(frozen=True)
class Column:
    """The lanes of one cell of a block."""

    block: Any
    results: Results
    cell: Cell

    @property
    def head(self) -> str:
        given = "".join(f" {name}={value:g}" for name, value in self.cell.parameters)
        return f"{self.block.shape.model} {self.block.shape.source}{given} d={self.cell.d:g}"

    @property
    def names(self) -> list[str]:
        """The steps."""
        return [key.removeprefix("gap_") for key in self.results if key.startswith("gap_")]

    @property
    def here(self) -> np.ndarray:
        """The lanes that were solved and have something to forget: doing nothing leaves more than rounding does."""
        solved = limit_first(self.results["solved"]).astype(bool)
        before = limit_first(self.results["gap_nothing"])
        left = before > SAME
        if "rounding" in self.results:  # results of earlier versions have none
            left &= before > limit_first(self.results["rounding"])
        return self.block.at(self.cell) & solved & left

    def values(self, name: str) -> np.ndarray:
        return limit_first(self.results[name])[self.here]


def _names(columns: list[Column]) -> list[str]:
    """The steps of some columns, the library's first."""
    names = {name for column in columns for name in column.names}
    order = [*STEPS.names, *sorted(names)]
    return sorted(names, key=order.index)


def gap_table(columns: list[Column]) -> Table:
    """Median gap over that of doing nothing, the share of instances with a smaller one, the share that is valid."""

    def entry(column: Column, gap: str, nothing: str, valid: str = "") -> str:
        if gap not in column.results:
            return ""
        after, before = column.values(gap), column.values(nothing)
        if not after.size:
            return "-"
        low, middle, high = np.quantile(after / before, (0.25, 0.5, 0.75))
        text = f"{middle:.2g} [{low:.2g}, {high:.2g}] {np.mean(after < before):.0%}"
        share = np.mean(column.values(valid)) if valid else 1.0
        return text + (f", {share:.0%} valid" if share < 1 else "")

    rows = []
    for name in _names(columns):
        rows.append([name, *(entry(column, f"gap_{name}", "gap_nothing", f"valid_{name}") for column in columns)])
        more = BESIDE.get(name)
        if more is not None and any(more.gap in column.results for column in columns):
            rows.append([more.label, *(entry(column, more.gap, more.nothing) for column in columns)])
    said = [text for column in columns for text in [*_left_out(column), *_of_own_steps(column)]]
    return Table(TITLE, ["step", *(column.head for column in columns)], rows, tuple(said))


def _left_out(column: Column) -> list[str]:
    """How many of the instances a column is made from, where it is not all."""
    count, drawn = int(np.sum(column.here)), int(np.sum(column.block.at(column.cell)))
    text = f"{column.head}: {count} of {drawn} instances; the others are not solved or have nothing to forget"
    return [text] if count < drawn else []


def _of_own_steps(column: Column) -> list[str]:
    """What was found of each step of a user's own."""
    out = []
    for name in (name for name in column.names if f"moved_{name}" in column.results):
        gap, before, moved = (column.values(key) for key in (f"gap_{name}", "gap_nothing", f"moved_{name}"))
        exact = (
            column.values(f"retrained_{name}") if f"retrained_{name}" in column.results else np.zeros(gap.shape, bool)
        )
        where = f"{name} ({column.head})"
        if not gap.size:
            out.append(f"{where}: nothing was solved, so nothing can be said")
        elif np.all(moved <= SAME):
            out.append(f"{where}: does nothing; the model is left as it is on every instance, and counts as undecided")
        elif np.all(gap <= SAME):
            out.append(f"{where}: is the retrained model on every instance")
        elif np.all(exact | (gap <= SAME)):
            out.append(
                f"{where}: is a retrained model on every instance, an exact KKT point of the retained points; the one "
                f"that gaps are measured from on {np.mean(gap <= SAME):.0%}"
            )
        else:
            word = "nearer to" if np.median(gap) < np.median(before) else "FARTHER from"
            out.append(
                f"{where}: {word} the retrained model than doing nothing (nearer on {np.mean(gap < before):.0%} of the "
                f"instances; median gap {np.median(gap):.2g}, of nothing {np.median(before):.2g})"
            )
    return out


@dataclasses.dataclass(frozen=True)
class Scores:
    """Of one step in one cell: divergence of margins, forgotten points that a membership test detects, of how many, and
    the median steps of relearning. The two halves of the instances are independent ensembles: margins of retrained
    models, for which the forgotten point is a held-out draw, come from one, outcomes from the other."""

    divergence: float
    count: int
    trials: int
    relearning: float

    @property
    def interval(self) -> tuple[float, float]:
        return exact_interval(self.count, self.trials)


def scores(column: Column, name: str) -> Scores | None:
    """The popular metrics of a step ("of_retrained" is a name, too); None for too few instances."""
    held_out = column.values("margin_of_retrained")[1::2]
    margins, steep = (column.values(f"{key}_{name}")[::2] for key in ("margin", "steepness"))
    goal = column.values("margin_nothing")[::2]
    if min(held_out.size, margins.size) < FEWEST:
        return None
    return Scores(
        divergence=margin_divergence(margins, held_out),
        count=detected(held_out, margins),
        trials=margins.size,
        relearning=float(np.median(relearning_steps(margins, goal, steep))),
    )


def metric_table(columns: list[Column]) -> Table:
    """Divergence of margins, detected members with their exact interval, steps of relearning."""

    def entry(column: Column, name: str) -> str:
        found = scores(column, name)
        if found is None:
            return "-"
        low, high = found.interval
        return f"{found.divergence:.2g}; {found.count}/{found.trials} [{low:.0%}, {high:.0%}]; {found.relearning:.0f}"

    title = (
        "popular metrics, which certify nothing: divergence of the forgotten point's margins from those of retrained "
        f"models; detected by a membership test at {FALSE_ALARMS:.0%} false alarms, exact 95 % interval; relearning "
        "steps"
    )
    rows = [
        [name, *(entry(column, name) if name in column.names else "" for column in columns)] for name in _names(columns)
    ]
    return Table(title, ["step", *(c.head for c in columns)], rows, tuple(_of_nothing(column) for column in columns))


def _of_nothing(column: Column) -> str:
    """Which of the metrics doing nothing passes in a cell, and which those steps pass that are farther than nothing."""
    goal, before = scores(column, "of_retrained"), column.values("gap_nothing")
    if goal is None:
        return f"{column.head}: too few instances for the popular metrics"
    passed = {name: _passed(column, name, goal) for name in _names([column])}
    told = f"{column.head}: doing nothing passes {', '.join(passed['nothing']) or 'none of them'}"
    farther = [name for name in passed if np.median(column.values(f"gap_{name}") / before) > 1 and passed[name]]
    said = "; ".join(f"{name} passes {', '.join(passed[name])}" for name in farther)
    return told + (f"; farther than nothing, {said}" if farther else "")


def _passed(column: Column, name: str, goal: Scores) -> list[str]:
    """The metrics on which a step comes near what retrained models score."""
    mine = scores(column, name)
    if mine is None:
        return []
    passes = {
        "divergence": mine.divergence <= NEAR * goal.divergence,
        "membership": mine.interval[0] <= FALSE_ALARMS,
        "relearning": NEAR * mine.relearning >= goal.relearning,
    }
    return [metric for metric, good in passes.items() if good]
