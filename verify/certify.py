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
from gaunlearn_jax import numerics, sweep
from gaunlearn_jax.kkt import KKTPoint
from verify import certificate_file, records
from verify.check import Check
from verify.lanes import Block
from verify.records import THETAS, Shape, forget_set
from verify.suite import Evaluation, Suite
from verify.suites import retrain

#: claims whose checks are the (epsilon, delta, tau) of a certificate against a bound that the checker knows
CERTIFIED = ("linear", "relu")
#: claims whose inequalities speak of theta*, or of the norm floor that its multipliers give a linear model
WITH_SOLUTION = ("identity", "retrain", "step_size")


class Target(NamedTuple):
    """One certificate of one lane, against the bound of a strength or with an inequality (name, lhs, rhs)."""

    shape: Shape
    seed: int
    d: float
    signal: float
    theta: str
    k: int
    certificate: str
    strength: str | None
    inequality: tuple[str, float, float] | None = None

    @property
    def file_name(self) -> str:
        s = self.shape
        what = self.strength if self.inequality is None else self.inequality[0].replace("/", "-")
        return (
            f"{s.model}-m{s.m}-n{s.n}-k{self.k}-d{self.d:g}-{s.loss}-{self.theta}-{self.certificate}-{what}"
            f"-seed{self.seed}.json"
        )


def targets(blocks: list[Block], suites: tuple[Suite, ...], sizes: tuple[int, ...], which: str) -> list[Target]:
    """The lanes to certify: `all` applicable ones, the `worst` of each row and quantity, or the `violations`."""
    found: dict[Target, None] = {}
    for block in blocks:
        for suite in suites:
            if suite.name not in CERTIFIED or suite.name not in block.results:
                continue
            for name, result in block.results[suite.name].items():
                if isinstance(result, Check):
                    found |= dict.fromkeys(_of_check(block, name, result, sizes, which))
    return list(found)


def _of_check(block: Block, name: str, result: Check, sizes: tuple[int, ...], which: str) -> Iterable[Target]:
    certificate, strength, _ = name.split("/")
    verdict = np.asarray(result.verdict())
    judged = np.isin(verdict, [ga.Verdict.HOLDS, ga.Verdict.VIOLATED, ga.Verdict.INCONCLUSIVE])
    room = np.asarray(result.rhs) - np.asarray(result.lhs)
    for t, theta in enumerate(THETAS):
        for j, k in enumerate(sizes):
            for d, signal in sorted(set(zip(block.d.tolist(), block.signal.tolist(), strict=True))):
                here = (block.d == d) & (block.signal == signal) & judged[:, t, j]
                if which == "violations":
                    here &= verdict[:, t, j] == ga.Verdict.VIOLATED
                at = np.flatnonzero(here)
                if which == "worst" and at.size:
                    at = at[[np.argmin(room[at, t, j])]]
                for lane in at:
                    yield Target(block.shape, int(block.seed[lane]), d, signal, theta, k, certificate, strength)


@functools.lru_cache(maxsize=16)
def _exporter(shape: Shape, kinds: tuple[str, ...], bounded: bool, solved: bool) -> Callable[..., dict[str, Any]]:
    """The function (key, d, signal, k) -> what the files of one lane hold: certificates of these kinds, their bounds,
    the solution of Q_T; thetas on a leading axis."""

    def export(key: Array, dim: Array, signal: Array, k: Array) -> dict[str, Any]:
        net, record = shape.network(), records.recorder(shape)(key, dim, signal)
        forget, sides = forget_set(record, k), suite_of(shape).evaluate if bounded else None

        def seen_from(point: KKTPoint) -> dict[str, Any]:
            e = Evaluation(shape, net, record, point, forget, k)
            certificates = {kind: e.certificates[kind] for kind in kinds}
            found: dict[str, Any] = {"point": point, "certificates": certificates, "bounds": {}, "first": None}
            if sides is not None:
                found["bounds"] = {n: c.rhs for n, c in sides(e).items() if isinstance(c, Check)}
            if solved:
                found["first"] = retrain.programme(e) if shape.model == "relu" else e.certificates["retrain"]
            return found

        return {
            "gram": numerics.gram(record.data.points),
            "labels": record.data.labels,
            "output_weights": net.output_weights,
            "forget": forget,
            "thetas": jax.vmap(seen_from)(records.both_thetas(record)),
        }

    return export


def suite_of(shape: Shape) -> Suite:
    from verify import registry

    return registry.select([shape.model])[0]


def write(out: Path, wanted: list[Target]) -> tuple[list[Path], dict[Target, str]]:
    """Write out/*.json; returns the paths, and why some have no file."""
    out.mkdir(parents=True, exist_ok=True)
    paths, refused = [], {}
    groups: dict[Shape, list[Target]] = {}
    for target in wanted:
        groups.setdefault(target.shape, []).append(target)
    for shape, members in groups.items():
        lanes = list(dict.fromkeys((t.seed, t.d, t.signal, t.k) for t in members))
        keys = np.stack([np.asarray(records.instance_key(s, shape, d, a)) for s, d, a, _ in lanes])
        columns = (np.asarray(column) for column in list(zip(*lanes, strict=True))[1:])
        kinds, claims = sorted({t.certificate for t in members}), [t.inequality for t in members]
        solved = any(c is not None and c[0].split("/")[0] in WITH_SOLUTION for c in claims)
        values = sweep.batched(_exporter(shape, tuple(kinds), None in claims, solved), keys, *columns)
        for target in members:
            lane = lanes.index((target.seed, target.d, target.signal, target.k))
            try:
                document = _document(target, lane, values)
            except certificate_file.CertificateError as error:
                refused[target] = str(error)
                continue
            certificate_file.write(out / target.file_name, document)
            paths.append(out / target.file_name)
    return paths, refused


def _document(target: Target, lane: int, values: dict[str, Any]) -> dict[str, Any]:
    at = (lane, THETAS.index(target.theta))
    parts = {name: v[lane] for name, v in values.items() if name != "thetas"}
    parts |= jax.tree.map(lambda leaf: leaf[at], values["thetas"])
    bound = inequality = None
    if target.inequality is not None:
        inequality = dict(zip(("name", "lhs", "rhs"), target.inequality, strict=True))
    else:
        name = f"{target.certificate}/{target.strength}"
        sides = {q: float(parts["bounds"][f"{name}/{q}"]) for q in ("epsilon", "delta", "tau")}
        bound = {"name": target.certificate, "strength": target.strength, **sides}
    return document_of(target.shape.model, parts, target.certificate, bound, inequality)


def document_of(
    model: str, parts: Mapping[str, Any], kind: str, bound: Any = None, inequality: Any = None
) -> dict[str, Any]:
    """The document of one certificate of an instance: parts are gram, labels, output_weights, forget, point,
    certificates, first, the solution of Q_T or None, and step_scale if it is not 1."""
    point, certificate = parts["point"], parts["certificates"][kind]
    if inequality is not None:
        solved = parts["first"] is not None and inequality["name"].split("/")[0] in WITH_SOLUTION
        inequality = {**inequality, "solution": _triple(parts["first"]) if solved else None}
    given = _triple(certificate)
    return certificate_file.build(
        model=model, gram=parts["gram"], labels=parts["labels"], output_weights=parts["output_weights"],
        forget=np.asarray(parts["forget"]), **_triple(point), epsilon_1=float(point.epsilon),
        delta_1=float(point.delta), kind=kind, certificate_preactivations=given["preactivations"],
        certificate_multipliers=given["multipliers"], certificate_mu=given["mu"], epsilon=float(certificate.epsilon),
        delta=float(certificate.delta), tau=float(certificate.tau), step_scale=float(parts.get("step_scale", 1.0)),
        orthogonal_norm_squared=float(point.orthogonal_norm) ** 2, bound=bound, inequality=inequality,
    )  # fmt: skip


def _triple(theta: Any) -> dict[str, Any]:
    """Pre-activations, lambda and mu = lambda s of a point or certificate."""
    lam = theta.multipliers
    return {"preactivations": theta.preactivations, "multipliers": lam, "mu": lam * theta.selection}
