"""Suites classes and softmax: they pass, they can fail, their numbers are those of loops, their pictures tell."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import classes as reference

from gaunlearn_jax.kkt import class_margin
from gaunlearn_jax.models import LinearClasses
from gaunlearn_jax.theory import classes as theory
from gaunlearn_jax.theory import cross_entropy
from suites import recorded as lanes
from verify.instances.grid import Grid
from verify.instances.records import Record
from verify.suites import classes, softmax
from verify.suites.exact_retraining import exact_retraining

GRID = Grid(dims=(1e4, 1e8), points=(8,), seeds=8, forget=(1, 2), models=("classes:C=3",))
C = 3


def scaled(of: Any, factor: float) -> Any:
    """A bound whose epsilon (beyond epsilon_1) and tau are too small."""

    def smaller(psi: Any, phi: Any, epsilon: Any, delta: Any, **sizes: Any) -> Any:
        bound = of(psi, phi, epsilon, delta, **sizes)
        return dataclasses.replace(
            bound, epsilon=epsilon + factor * (bound.epsilon - epsilon), tau=factor**2 * bound.tau
        )

    return smaller


FLOOR = theory.gram_floor
MUTANTS: dict[str, dict[str, Any]] = {
    "small_sharp": {"sharp_classes": scaled(theory.sharp_classes, 0.2)},
    "small_coarse": {"coarse_classes": scaled(theory.coarse_classes, 0.01)},
    "large_floor": {"gram_floor": lambda *args, **more: 1.3 * FLOOR(*args, **more)},
}


def evaluated(e: Any) -> Any:
    """The suite classes and its mutants in one programme; `step` has the step in the place of the certificate."""
    out = classes.evaluate(e) | lanes.mutants_of(classes.SUITE, e, theory, MUTANTS)
    hat = dataclasses.replace(e.certificates["projection"], params=e.hat)
    with mock.patch.dict(e.certificates, {"projection": hat}):
        out |= {f"step:{key}": value for key, value in exact_retraining(e).items() if "/" in key}
    return out


def seen(net: Any, record: Record, shape: Any) -> Any:
    """The suite softmax and its mutants in one programme: probabilities at rescaled weights, a halved learning rate,
    the bounds of Lemma M' drawn together."""
    out = softmax.per_instance(net, record, shape)
    right, bounds = cross_entropy.loss_point, theory.multiplier_bounds

    def rescaled(problem: Any, run: Any) -> Any:
        found = right(problem, dataclasses.replace(run, preactivations=run.preactivations / 20, params=run.params / 20))
        return found._replace(point=dataclasses.replace(found.point, scale=20 * found.point.scale))

    def halved(problem: Any, run: Any) -> Any:
        found = right(problem, run)
        return found._replace(log_rate=found.log_rate - jnp.log(2.0))

    def narrow(*args: Any, **more: Any) -> Any:
        lower, upper, defined = bounds(*args, **more)
        return 1.5 * lower, 0.7 * upper, defined

    for name, wrong in (("rescaled", rescaled), ("halved", halved)):
        with mock.patch.object(softmax, "loss_point", wrong):
            made = softmax.cross_entropy(net, record, shape)
        out[f"{name}:cross_entropy/exact/step"] = made["cross_entropy/exact/step"]
    with mock.patch.object(theory, "multiplier_bounds", narrow):
        made = softmax.lemma(net, record, record.limit)
    return out | {f"narrow:limit/{key}": value for key, value in made.items()}


TESTED = dataclasses.replace(classes.SUITE, evaluate=evaluated)
SOFTMAX = dataclasses.replace(softmax.SUITE, per_instance=seen)


@functools.lru_cache
def blocks(suite: Any) -> Any:
    return lanes.blocks_of(suite, GRID)


@pytest.fixture(scope="module")
def table() -> list[dict[str, Any]]:
    return lanes.tallies(TESTED, blocks(TESTED), GRID)


def test_holds_where_it_speaks(table: list[dict[str, Any]]) -> None:
    honest = lanes.of_mutant(table, "")
    assert not any(row["violated"] or row["inconclusive"] or row["unconverged"] for row in honest)
    top = [row for row in honest if row["grid"]["d"] == 1e8 and row["theta"] == "limit"]
    assert len(top) == 2 * (3 * 3 + 2)
    assert all(row["holds"] == GRID.seeds for row in top)
    speaks = [row for row in top if row["strength"] != "floor"]
    assert all(row["discriminating"] == 1 for row in speaks)


@pytest.mark.parametrize(
    ("mutant", "where"),
    [
        ("small_sharp", {"strength": "sharp", "quantity": "epsilon"}),
        ("small_coarse", {"strength": "coarse", "quantity": "epsilon"}),
        ("large_floor", {"strength": "floor"}),
        ("step", {"strength": "exact"}),
    ],
)
def test_wrong_statements_are_found(table: list[dict[str, Any]], mutant: str, where: dict[str, str]) -> None:
    assert lanes.count(lanes.of_mutant(table, mutant), "violated", **where) > 0.5 * GRID.seeds


def test_the_record_and_both_sides_against_loops() -> None:
    """The exact point is the host's solution; epsilon, tau and both bounds by loops."""
    (block,) = blocks(TESTED)
    _, batch = lanes.recorded(block.shape, GRID)
    net = LinearClasses(C)
    for lane in (0, 5, 12):
        record = lanes.one_lane(batch, lane)
        values = lanes.lane_values(block, classes.SUITE, lane)
        x, y = np.asarray(record.data.points), np.asarray(net.classes_of(jax.tree.map(jnp.asarray, record.data)))
        full = class_margin.solve(x, y, C)
        np.testing.assert_allclose(record.limit.params, full.weights, atol=1e-10)
        lam = [full.multipliers[i, c] for i, c in reference.constraints(y, C)]
        np.testing.assert_allclose(record.limit.multipliers, lam, atol=1e-10)
        for j, k in enumerate(GRID.forget):
            gone = np.asarray(record.order)[:k]
            keep = ~np.isin(np.arange(8), gone)
            h = reference.combination(x, y, np.where(keep[:, None], 0.0, full.multipliers))
            tilde = full.weights - h + h @ reference.projector(x[keep])
            rho = np.linalg.norm(full.weights - h - tilde)
            sides = values["projection/sharp/epsilon"]
            assert sides.lhs[1, j] == pytest.approx(rho, rel=1e-6, abs=1e-13)
            psi, phi = (float(v) for v in (record.psi, record.phi))
            epsilon, tau = reference.theorem(psi, phi, 0.0, 0.0, 8, k, C)
            assert sides.rhs[1, j] == pytest.approx(epsilon, rel=1e-6)
            assert values["projection/sharp/tau"].rhs[1, j] == pytest.approx(tau, rel=1e-6)
            best = class_margin.solve(x, y, C, keep)
            away = np.linalg.norm(tilde - best.weights)
            assert values["projection/exact/distance"].lhs[1, j] == pytest.approx(away, abs=1e-11)
            floor = theory.norm_floor(x, keep, classes=C)
            assert values["retrain/floor/norm"].lhs[1, j] == pytest.approx(floor, rel=1e-7)


@pytest.mark.slow
def test_softmax_holds_where_it_speaks() -> None:
    found = lanes.of_mutant(lanes.tallies(SOFTMAX, blocks(SOFTMAX), GRID), "")
    assert not any(row["violated"] or row["inconclusive"] or row["unconverged"] for row in found)
    top = [row for row in found if row["grid"]["d"] == 1e8]
    assert len(top) == 2 * 2 + 5 + 3
    assert all(row["holds"] == GRID.seeds for row in top)
    assert all(row["discriminating"] in (1, None) for row in top)


@pytest.mark.parametrize("mutant", ["rescaled", "halved", "narrow"])
def test_wrong_steps_and_bounds_of_softmax_are_found(mutant: str) -> None:
    rows = lanes.of_mutant(lanes.tallies(SOFTMAX, blocks(SOFTMAX), GRID), mutant)
    assert rows
    assert all(row["violated"] == GRID.seeds for row in rows if row["grid"]["d"] == 1e8)


def test_pictures() -> None:
    lanes.assert_picture(TESTED, blocks(TESTED), GRID, ("sharp", "theta"))
    lanes.assert_picture(SOFTMAX, blocks(SOFTMAX), GRID, ("cross-entropy", "class"))
