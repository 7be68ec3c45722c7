"""Certificate files of the lanes of a run: recomputed from their seeds, written, and checked by ball arithmetic."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

import gaunlearn_jax as ga
from gaunlearn_jax import sweep
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.theory.closeness import programme_point
from verify.certify import documents
from verify.exact import certificate_file
from verify.instances import records
from verify.instances.grid import Grid
from verify.instances.records import THETAS, Cell, Shape, forget_set
from verify.run.columns import Block, slug
from verify.suites.check import Check
from verify.suites.registry import CLAIMS
from verify.suites.suite import Evaluation, Suite


class Target(NamedTuple):
    """One certificate of one lane, against the bound of a strength or with an inequality (name, lhs, rhs), which may
    need the solution of Q_T."""

    shape: Shape
    seed: int
    cell: Cell
    theta: str
    k: int
    certificate: str
    strength: str | None
    inequality: tuple[str, float, float] | None = None
    solution: bool = False

    @property
    def file_name(self) -> str:
        s, cell = self.shape, self.cell
        what = self.strength if self.inequality is None else self.inequality[0].replace("/", "-")
        source = "".join(f"-{name}{value:g}" for name, value in cell.parameters)
        return f"{slug(s)}-k{self.k}-d{cell.d:g}{source}-{self.theta}-{self.certificate}-{what}-seed{self.seed}.json"


def targets(blocks: list[Block], suites: tuple[Suite, ...], grid: Grid, which: str) -> list[Target]:
    """The lanes to certify: `all` applicable ones, the `worst` of each row and quantity, or the `violations`."""
    found: dict[Target, None] = {}
    for block in blocks:
        for suite in suites:
            if not suite.certified or suite.name not in block.results:
                continue
            for name, result in block.results[suite.name].items():
                if isinstance(result, Check):
                    found |= dict.fromkeys(_of_check(block, grid, name, result, which))
    return list(found)


def _of_check(block: Block, grid: Grid, name: str, result: Check, which: str) -> Iterable[Target]:
    certificate, strength, quantity = name.split("/")
    # of others the checker has no formula, or one of an inequality
    if strength not in certificate_file.STRENGTHS or quantity not in ("epsilon", "delta", "tau"):
        return
    verdict = np.asarray(result.verdict())
    judged = np.isin(verdict, [ga.Verdict.HOLDS, ga.Verdict.VIOLATED, ga.Verdict.INCONCLUSIVE])
    room = np.asarray(result.rhs) - np.asarray(result.lhs)
    for t, theta in enumerate(THETAS):
        for j, k in enumerate(grid.forget):
            for cell in grid.cells(block.shape.source):
                here = block.at(cell) & judged[:, t, j]
                if which == "violations":
                    here &= verdict[:, t, j] == ga.Verdict.VIOLATED
                at = np.flatnonzero(here)
                if which == "worst" and at.size:
                    at = at[[np.argmin(room[at, t, j])]]
                for lane in at:
                    yield Target(block.shape, int(block.seed[lane]), cell, theta, k, certificate, strength)


@functools.lru_cache(maxsize=16)
def _exporter(shape: Shape, kinds: tuple[str, ...], bounded: bool, solved: bool) -> Callable[..., dict[str, Any]]:
    """The function (key, d, parameters, k) -> what the files of one lane hold: certificates of these kinds, their
    bounds, the solution of Q_T; thetas on a leading axis."""

    def export(key: Array, dim: Array, parameters: dict[str, Array], k: Array) -> dict[str, Any]:
        net, record = shape.network(), records.recorder(shape)(key, dim, parameters)
        problem = net.problem(record.data)
        forget, sides = forget_set(record, k), bound_claim(shape).evaluate if bounded else None

        def seen_from(point: KKTPoint) -> dict[str, Any]:
            e = Evaluation(shape, net, record, point, forget, k)
            certificates = {kind: e.certificates[kind] for kind in kinds}
            found: dict[str, Any] = {"point": point, "certificates": certificates, "bounds": {}, "first": None}
            if sides is not None:
                found["bounds"] = {n: c.rhs for n, c in sides(e).items() if isinstance(c, Check)}
            if solved:
                found["first"] = _solution(e)
            return found

        return {
            "gram": problem.gram(),
            "problem": problem,
            "forget": forget,
            "thetas": jax.vmap(seen_from)(records.both_thetas(record)),
        }

    return export


def _solution(e: Evaluation) -> Any:
    """The solution of Q_T."""
    return programme_point(e.problem, e.point, e.forget) if e.problem.kinked else e.certificates["retrain"]


def bound_claim(shape: Shape) -> Suite:
    """The registered claim whose bounds of (epsilon, delta, tau) speak of this model; ValueError if there is none."""
    for suite in CLAIMS:
        if suite.certified and suite.speaks_of(shape.model):
            return suite
    raise ValueError(f"no registered claim bounds the certificates of {shape.model}")


def write(out: Path, wanted: list[Target]) -> tuple[list[Path], dict[Target, str]]:
    """Write out/*.json; returns the paths, and why some have no file."""
    out.mkdir(parents=True, exist_ok=True)
    paths, refused = [], {}
    groups: dict[Shape, list[Target]] = {}
    for target in wanted:
        groups.setdefault(target.shape, []).append(target)
    for shape, members in groups.items():
        lanes = list(dict.fromkeys((t.cell, t.seed, t.k) for t in members))
        arguments = records.lanes_of(shape, [(cell, seed) for cell, seed, _ in lanes]).arguments()
        kinds = tuple(sorted({t.certificate for t in members}))
        bounded, solved = any(t.inequality is None for t in members), any(t.solution for t in members)
        export = _exporter(shape, kinds, bounded, solved)
        values = sweep.batched(export, *arguments, np.asarray([k for _, _, k in lanes]), hurried=True)
        for target in members:
            lane = lanes.index((target.cell, target.seed, target.k))
            try:
                document = _document(target, lane, values)
            except certificate_file.CertificateError as error:
                refused[target] = str(error)
                continue
            documents.write(out / target.file_name, document)
            paths.append(out / target.file_name)
    return paths, refused


def _document(target: Target, lane: int, values: dict[str, Any]) -> dict[str, Any]:
    at = (lane, THETAS.index(target.theta))
    parts = jax.tree.map(lambda leaf: leaf[lane], {name: v for name, v in values.items() if name != "thetas"})
    parts |= jax.tree.map(lambda leaf: leaf[at], values["thetas"])
    bound = inequality = None
    if target.inequality is not None:
        inequality = dict(zip(("name", "lhs", "rhs"), target.inequality, strict=True)) | {"solution": target.solution}
    else:
        name = f"{target.certificate}/{target.strength}"
        sides = {q: float(parts["bounds"][f"{name}/{q}"]) for q in ("epsilon", "delta", "tau")}
        bound = {"name": target.certificate, "strength": target.strength, **sides}
    return document_of(parts, target.certificate, bound, inequality)


def document_of(parts: Mapping[str, Any], kind: str, bound: Any = None, inequality: Any = None) -> dict[str, Any]:
    """The document of one certificate of an instance: parts are gram, problem, forget, point, certificates, first, the
    solution of Q_T or None, and step_scale if it is not 1. The inequality has as solution whether it needs one."""
    if inequality is not None:
        inequality = {**inequality, "solution": parts["first"] if inequality["solution"] else None}
    return documents.build(
        parts["gram"], parts["problem"], parts["forget"], parts["point"], parts["certificates"][kind],
        step_scale=float(parts.get("step_scale", 1.0)), bound=bound, inequality=inequality,
    )  # fmt: skip
