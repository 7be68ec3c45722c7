"""The margin problem of a certificate file, and its forgotten points.

    q_a = sum_{e of a} sum_j v_je sigma(z_j,row(e)) >= 1,    sigma(z) = max(z, slope z)

Format 2 states it by these keys (n neurons, R rows, E entries, A constraints):

    gram        K, R x R, the Gram matrix of the rows; its entries *define* the rows
    amplitudes  v, n x E
    slope       of sigma below zero, from -1 to 1; 1 is a linear model
    layout      null (or no such key): row, entry and constraint i belong to point i. Else row [E] and constraint [E]
                of each entry, point_of_row [R] and point_of_constraint [A]
    groups      null (or no such key): one group. Else a number for each constraint [A]: a neuron with v > 0 in two
                groups is an error where the slope is 0, the only case in which groups are read (norm lemma)
    forget      indices of the forgotten points

Format 1 has model {"kind": "linear" | "relu"}, gram, labels y_i = +-1, output_weights u (linear: [1.0]) and forget in
their place: v_ji = u_j y_i, slope 1 or 0, no layout, the labels as groups. Source: docs/theory, Rigour.
"""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from verify.exact.fields import choice, fail, fields, listed, matrix, number, vector

PROBLEM_KEYS, OPTIONAL_KEYS = ("gram", "amplitudes", "slope", "forget"), ("layout", "groups")
OLD_PROBLEM_KEYS = ("model", "gram", "labels", "output_weights", "forget")
LAYOUT_KEYS = ("row", "constraint", "point_of_row", "point_of_constraint")
MAX_ROWS, MAX_CONSTRAINTS, MAX_PAIRS = 128, 1_280, 32_768  #: R; A; n times the larger of R and E


@dataclass(frozen=True)
class Layout:
    """The row and the constraint of each entry, the point of each row and of each constraint."""

    row: list[int]
    constraint: list[int]
    point_of_row: list[int]
    point_of_constraint: list[int]

    @cached_property
    def single(self) -> bool:
        """Whether row, entry and constraint i belong to point i, for every i."""
        indices = (self.row, self.constraint, self.point_of_row, self.point_of_constraint)
        return all(index == list(range(len(self.row))) for index in indices)


@dataclass(frozen=True)
class Problem:
    """A margin problem and its forgotten points, after all checks of types, sizes and ranges."""

    gram: list[list[float]]
    amplitudes: list[list[float]]
    slope: float
    layout: Layout
    groups: list[int]
    forget: list[int]

    @property
    def kinked(self) -> bool:
        """Whether sigma has a kink; without one the margins are linear in the weights."""
        return self.slope != 1

    @property
    def num_constraints(self) -> int:
        return len(self.layout.point_of_constraint)

    @cached_property
    def retained_rows(self) -> list[int]:
        return [r for r, i in enumerate(self.layout.point_of_row) if i not in self.forget]

    @cached_property
    def retained(self) -> list[int]:
        """The constraints of the retained points."""
        return [a for a, i in enumerate(self.layout.point_of_constraint) if i not in self.forget]

    @cached_property
    def forgotten(self) -> list[int]:
        """The constraints of the forgotten points."""
        return [a for a, i in enumerate(self.layout.point_of_constraint) if i in self.forget]

    @cached_property
    def entries(self) -> list[list[int]]:
        """The entries of each constraint."""
        out: list[list[int]] = [[] for _ in self.layout.point_of_constraint]
        for e, a in enumerate(self.layout.constraint):
            out[a].append(e)
        return out

    def free(self, j: int, e: int) -> bool:
        """Whether v sigma is concave and not linear: the selection is then a variable of Q_T."""
        return self.amplitudes[j][e] < 0 and self.kinked


def parse(top: dict[str, Any]) -> Problem:
    """Check the keys of format 2; CertificateError names the first bad entry."""
    rows, n = len(listed(top["gram"], "gram")), len(listed(top["amplitudes"], "amplitudes"))
    entries = len(listed(top["amplitudes"][0], "amplitudes[0]")) if n else 0
    _check_sizes("gram and amplitudes", rows, n, entries)
    layout = _layout(top["layout"], rows, entries)
    problem = Problem(
        gram=matrix(top["gram"], "gram", rows, rows),
        amplitudes=matrix(top["amplitudes"], "amplitudes", n, entries),
        slope=number(top["slope"], "slope", -1.0, 1.0),
        layout=layout,
        groups=_groups(top["groups"], len(layout.point_of_constraint)),
        forget=_forget(top["forget"], max(layout.point_of_row) + 1),
    )
    if not any(map(any, problem.amplitudes)):
        raise fail("amplitudes", "zeros", "an amplitude that is not zero")
    if problem.slope == 0:
        _check_groups(problem)
    return problem


def parse_old(top: dict[str, Any]) -> Problem:
    """Check the keys of format 1, and state the same problem as format 2 does."""
    model = choice(fields(top["model"], "model", ("kind",))["kind"], "model.kind", ("linear", "relu"))
    m, n = len(listed(top["labels"], "labels")), len(listed(top["output_weights"], "output_weights"))
    _check_sizes("labels and output_weights", m, n, m)
    labels = vector(top["labels"], "labels", m)
    for i, y in enumerate(labels):
        if abs(y) != 1:
            raise fail(f"labels[{i}]", str(y), "1 or -1")
    weights = vector(top["output_weights"], "output_weights", n)
    if not any(weights) or (model == "linear" and weights != [1.0]):
        expected = "[1.0] for a linear model" if model == "linear" else "a weight that is not zero"
        raise fail("output_weights", reprlib.repr(weights), expected)
    return Problem(
        gram=matrix(top["gram"], "gram", m, m),
        amplitudes=[[u * y for y in labels] for u in weights],
        slope=1.0 if model == "linear" else 0.0,
        layout=_layout(None, m, m),
        groups=[int(y < 0) for y in labels],
        forget=_forget(top["forget"], m),
    )


def _check_sizes(where: str, rows: int, n: int, entries: int) -> None:
    if not (2 <= rows <= MAX_ROWS and n >= 1 and entries >= 1 and n * max(rows, entries) <= MAX_PAIRS):
        limits = f"2 to {MAX_ROWS} rows, at least one neuron, at most {MAX_PAIRS} pairs of a neuron and a row or entry"
        raise fail(f"the sizes of {where}", f"{rows} rows, {entries} entries and {n} neurons", limits)


def _forget(value: Any, num_points: int) -> list[int]:
    forget = listed(value, "forget")
    for i, r in enumerate(forget):
        if type(r) is not int or not 0 <= r < num_points or r in forget[:i]:
            raise fail(f"forget[{i}]", reprlib.repr(r), f"an index from 0 to {num_points - 1}, each at most once")
    if len(forget) == num_points:
        raise fail("forget", "every point", "at least one point left to retain")
    return sorted(forget)


def _indices(value: Any, where: str, length: int | None, limit: int) -> list[int]:
    found = listed(value, where, length)
    for i, x in enumerate(found):
        if type(x) is not int or not 0 <= x < limit:
            raise fail(f"{where}[{i}]", reprlib.repr(x), f"an index from 0 to {limit - 1}")
    return found


def _layout(value: Any, rows: int, entries: int) -> Layout:
    if value is None:
        if rows != entries:
            raise fail("amplitudes", f"{entries} entries for {rows} rows", "one entry a row where there is no layout")
        return Layout(*([list(range(rows))] * 4))
    given = fields(value, "layout", LAYOUT_KEYS)
    count = len(listed(given["point_of_constraint"], "layout.point_of_constraint"))
    if not 1 <= count <= min(entries, MAX_CONSTRAINTS):
        limit = f"from 1 to {min(entries, MAX_CONSTRAINTS)} constraints, each with an entry"
        raise fail("layout.point_of_constraint", f"{count} constraints", limit)
    layout = Layout(
        row=_indices(given["row"], "layout.row", entries, rows),
        constraint=_indices(given["constraint"], "layout.constraint", entries, count),
        point_of_row=_indices(given["point_of_row"], "layout.point_of_row", rows, rows),
        point_of_constraint=_indices(given["point_of_constraint"], "layout.point_of_constraint", count, rows),
    )
    _check_layout(layout)
    return layout


def _check_layout(layout: Layout) -> None:
    """Every point has rows and constraints, every constraint entries, in rows of its own point and each row once."""
    points = set(range(max(layout.point_of_row) + 1))
    for name, found in (("row", layout.point_of_row), ("constraint", layout.point_of_constraint)):
        if set(found) != points:
            expected = f"a {name} for each of the points 0 to {max(points)}, and no other"
            raise fail(f"layout.point_of_{name}", f"the points {reprlib.repr(sorted(set(found)))}", expected)
    for e, (r, a) in enumerate(zip(layout.row, layout.constraint, strict=True)):
        if layout.point_of_row[r] != layout.point_of_constraint[a]:
            given, expected = (
                f"row {r} of point {layout.point_of_row[r]}",
                f"one of point {layout.point_of_constraint[a]}",
            )
            raise fail(f"layout.row[{e}]", given, f"{expected}, as constraint {a} is")
    if len(set(layout.constraint)) != len(layout.point_of_constraint):
        raise fail("layout.constraint", "a constraint without entries", "at least one entry for each")
    if len(set(zip(layout.row, layout.constraint, strict=True))) != len(layout.row):
        raise fail("layout", "two entries of one row and one constraint", "one, with the sum of their amplitudes")


def _groups(value: Any, count: int) -> list[int]:
    return [0] * count if value is None else _indices(value, "groups", count, count)


def _check_groups(problem: Problem) -> None:
    for j, row in enumerate(problem.amplitudes):
        helped = {problem.groups[a] for v, a in zip(row, problem.layout.constraint, strict=True) if v > 0}
        if len(helped) > 1:
            given = f"neuron {j} with positive amplitudes in the groups {reprlib.repr(sorted(helped))}"
            raise fail("groups", given, "one group for all constraints whose margin a neuron can raise")
