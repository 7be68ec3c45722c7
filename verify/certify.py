"""Certificate files of the lanes of a run: recomputed from their seeds, written, and checked by ball arithmetic."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
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

#: claims whose checks are the (epsilon, delta, tau) of a certificate against a bound that the checker knows
CERTIFIED = ("linear", "relu")


class Target(NamedTuple):
    """One certificate of one lane."""

    shape: Shape
    seed: int
    d: float
    signal: float
    theta: str
    k: int
    certificate: str
    strength: str

    @property
    def file_name(self) -> str:
        s = self.shape
        return (
            f"{s.model}-m{s.m}-n{s.n}-k{self.k}-d{self.d:g}-{s.loss}-{self.theta}-{self.certificate}-{self.strength}"
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
def _exporter(shape: Shape) -> Callable[..., dict[str, Any]]:
    """The function (key, d, signal, k) -> everything that the files of one lane hold; thetas on a leading axis."""

    def export(key: Array, dim: Array, signal: Array, k: Array) -> dict[str, Any]:
        net, record = shape.network(), records.recorder(shape)(key, dim, signal)
        forget, sides = forget_set(record, k), suite_of(shape).evaluate
        assert sides is not None

        def seen_from(point: KKTPoint) -> dict[str, Any]:
            e = Evaluation(shape, net, record, point, forget, k)
            bounds = {n: c.rhs for n, c in sides(e).items() if isinstance(c, Check)}
            return {"point": point, "certificates": e.certificates, "bounds": bounds}

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


def write(folder: Path, wanted: list[Target]) -> tuple[list[Path], list[str]]:
    """Write folder/certificates/*.json; returns the paths, and why some have no file."""
    out = folder / "certificates"
    out.mkdir(exist_ok=True)
    paths, refused = [], []
    groups: dict[Shape, list[Target]] = {}
    for target in wanted:
        groups.setdefault(target.shape, []).append(target)
    for shape, members in groups.items():
        lanes = list(dict.fromkeys((t.seed, t.d, t.signal, t.k) for t in members))
        keys = np.stack([np.asarray(records.instance_key(s, shape, d, a)) for s, d, a, _ in lanes])
        columns = (np.asarray(column) for column in list(zip(*lanes, strict=True))[1:])
        values = sweep.batched(_exporter(shape), keys, *columns)
        for target in members:
            lane = lanes.index((target.seed, target.d, target.signal, target.k))
            try:
                document = _document(target, lane, values)
            except certificate_file.CertificateError as error:
                refused.append(f"{target.file_name}: {error}")
                continue
            certificate_file.write(out / target.file_name, document)
            paths.append(out / target.file_name)
    return paths, refused


def _document(target: Target, lane: int, values: dict[str, Any]) -> dict[str, Any]:
    at = (lane, THETAS.index(target.theta))
    mine = jax.tree.map(lambda leaf: leaf[at], values["thetas"])
    point, certificate = mine["point"], mine["certificates"][target.certificate]
    name = f"{target.certificate}/{target.strength}"
    sides = {q: float(mine["bounds"][f"{name}/{q}"]) for q in ("epsilon", "delta", "tau")}
    lam, given = point.multipliers, certificate.multipliers
    return certificate_file.build(
        model=target.shape.model,
        gram=values["gram"][lane],
        labels=values["labels"][lane],
        output_weights=values["output_weights"][lane],
        forget=values["forget"][lane],
        preactivations=point.preactivations,
        multipliers=lam,
        mu=lam * point.selection,
        epsilon_1=float(point.epsilon),
        delta_1=float(point.delta),
        kind=target.certificate,
        certificate_preactivations=certificate.preactivations,
        certificate_multipliers=given,
        certificate_mu=given * certificate.selection,
        epsilon=float(certificate.epsilon),
        delta=float(certificate.delta),
        tau=float(certificate.tau),
        orthogonal_norm_squared=float(point.orthogonal_norm) ** 2,
        bound={"name": target.certificate, "strength": target.strength, **sides},
    )
