"""Suite steps: it passes, each step's theorem can fail, its numbers are the reference's, table and picture tell."""

from __future__ import annotations

import dataclasses
import re
from unittest import mock

import jax.numpy as jnp
import numpy as np
import pytest
import reference as ref
from reference.steps import REFERENCE, Instance, active_set_candidate, gap, least_gap, own_target

from gaunlearn_jax.unlearn import STEPS, active_set, ridge
from suites import recorded as lanes
from verify.instances.records import LIMIT
from verify.suites import step_tables, step_theorems, steps
from verify.suites.check import Check
from verify.suites.step_theorems import OWN, Scene, of_any
from verify.suites.steps import SUITE

#: steps whose gaps are compared with those of the reference
COMPARED = ("nothing", "ascent", "mean", "nearest", "projection", "orthogonal", "neggrad_plus", "repaired")
right_newton = ridge.newton_step


class Shrunk(Scene):
    """A ball that is too small, certificates without errors, a retrained model that is none."""

    def __init__(self, e):
        super().__init__(e)
        self.retrained = self.near
        none = jnp.zeros(())
        self.certified, self.near = self.near, dataclasses.replace(self.near, epsilon=none, delta=none)

    @property
    def ball(self):
        point = self.certified
        return self.whole(point.params, point.orthogonal_norm), jnp.zeros(())


class Worse(Scene):
    """A projection certificate whose errors are twice as large, and more."""

    def __init__(self, e):
        super().__init__(e)
        near = self.near
        self.near = dataclasses.replace(near, epsilon=2 * near.epsilon, delta=near.delta + 1.0, tau=4 * near.tau)


class Elsewhere(Scene):
    """A ball on the other side."""

    @property
    def ball(self):
        point = self.near
        return -self.whole(point.params, point.orthogonal_norm), 0.5 * self.rho


def wrong(e) -> dict[str, Check]:
    """The theorems of steps that were made wrongly, and wrong theorems of right ones."""
    scene, out = Scene(e), {}
    known = [step for step in STEPS if not (step.linear_only and e.problem.kinked)]
    after = {step.name: steps.outcome(e, scene, step) for step in known}

    def add(mutant, name, outcome, theorem=None, at=scene):
        found = (theorem or OWN[name])(at, name, outcome)
        out.update({f"{mutant}:{key}": v for key, v in found.items() if isinstance(v, Check)})

    def moved(name, factor):
        one = after[name]
        return dataclasses.replace(one, params=e.point.params + factor * (one.params - e.point.params))

    for name in ("ascent", "mean", "nearest", "active", "projection", "neuronwise", "orthogonal", "repaired"):
        add("farther", name, dataclasses.replace(moved(name, 1.5), valid=jnp.asarray(True)))
    for name in ("neggrad_plus", "fine_tuning", "nothing"):
        add("repaired", name, dataclasses.replace(after["projection"], valid=jnp.asarray(True)))
    with mock.patch.object(active_set, "is_exact", return_value=jnp.asarray(True)):
        trusted = steps.outcome(e, scene, STEPS["active_set"])
        add("trusted", "active_set", trusted)
    small = Shrunk(e)
    add("small", "retraining", after["retraining"], at=small)
    for name in ("ascent", "nothing", "projection"):
        add("small", name, after[name], of_any, small)
    add("worse", "ascent", after["ascent"], at=Worse(e))
    add("ascended", "projection", after["ascent"])
    add("elsewhere", "nothing", after["nothing"], of_any, Elsewhere(e))
    if not e.problem.kinked:
        with mock.patch.object(ridge, "newton_step", lambda p, w, _, mu: right_newton(p, w, jnp.ones(e.m, bool), mu)):
            add("full", "newton", moved("newton", 1.5))
        add("other", "influence", after["ascent"])
        add("farther", "influence", moved("newton", 1.5))
    return out


EVERY = dataclasses.replace(SUITE, models=(*SUITE.models, *SUITE.further), further=())
TESTED = dataclasses.replace(EVERY, evaluate=lambda e: dict(steps.evaluate(e)) | wrong(e))


def test_holds_everywhere_it_speaks(table):
    honest = lanes.of_mutant(table, "")
    assert not any(row["violated"] or row["inconclusive"] for row in honest)
    share = lanes.shares(honest)
    certain = {key: v for key, v in share.items() if key[3] in ("thales", "ball", "floor", "identity", "lower")}
    assert {key[2] for key in certain if key[3] == "ball"} == set(STEPS.names)
    assert min(certain.values()) > 0.9
    for name, strength in (("fine_tuning", "time"), ("projection", "instance"), ("retraining", "exact")):
        assert lanes.count(honest, "holds", certificate=name, strength=strength) > 80, name
    assert lanes.count(honest, "holds", certificate="active_set", strength="exact", theta="limit") > 20


def test_an_invalid_active_set_step_counts_as_nothing(table, blocks):
    for block in blocks:
        rows = lanes.named(lanes.of_mutant(table, ""), certificate="active_set", strength="exact", quantity="epsilon",
                           model=block.shape.model)  # fmt: skip
        valid = np.asarray(block.results[SUITE.name]["valid_active_set"])
        assert sum(row["holds"] for row in rows) <= valid.sum()
        assert sum(row["not_applicable"] for row in rows) == (~valid).sum()
    relu = next(block for block in blocks if block.shape.model == "relu")
    assert not np.all(relu.results[SUITE.name]["valid_active_set"])


test_it_can_fail = lanes.can_fail(
    *(
        ("farther", {"certificate": f"farther:{name}", "strength": "thales"}, 60)
        for name in ("ascent", "mean", "nearest", "active", "projection", "orthogonal", "repaired")
    ),
    ("farther", {"certificate": "farther:projection", "strength": "instance"}, 60),
    ("farther", {"certificate": "farther:neuronwise", "strength": "instance"}, 60),
    ("farther", {"certificate": "farther:influence", "quantity": "share"}, 40),
    ("repaired", {"certificate": "repaired:neggrad_plus"}, 60),
    ("repaired", {"certificate": "repaired:fine_tuning", "strength": "time"}, 60),
    ("repaired", {"certificate": "repaired:fine_tuning", "strength": "loss"}, 60),
    ("repaired", {"certificate": "repaired:nothing"}, 60),
    *(("worse", {"certificate": "worse:ascent", "quantity": name}, 60) for name in ("epsilon", "delta", "tau")),
    *(("ascended", {"certificate": "ascended:projection", "quantity": name}, 60) for name in ("delta", "margin")),
    ("trusted", {"certificate": "trusted:active_set", "quantity": "epsilon"}, 20),
    ("trusted", {"certificate": "trusted:active_set", "quantity": "distance"}, 20),
    ("full", {"certificate": "full:newton", "strength": "woodbury"}, 40),
    ("full", {"certificate": "full:newton", "strength": "thales"}, 40),
    ("other", {"certificate": "other:influence", "quantity": "distance"}, 20),
    ("small", {"certificate": "small:retraining"}, 60),
    ("small", {"certificate": "small:ascent", "strength": "ball"}, 20),
    ("elsewhere", {"certificate": "elsewhere:nothing", "strength": "excluded"}, 60),
    ("small", {"certificate": "small:projection", "strength": "lower"}, 5),
)


def test_gaps_of_one_lane_against_the_reference(seen):
    for lane in seen:
        (X, y, u, W, Z, lam, s), slope = lane.arrays, lane.slope
        for at, forget, retained in lane.forgotten():
            i = Instance(*(np.asarray(v) for v in (X, y, u, W, Z, lam, s)), forget, slope)
            goal = ref.solve_pattern(i.X, i.y, i.u, i.s > 0.5, retained, lane.linear)[0]
            goal = np.append(goal, 0.0)
            for name in COMPARED:
                wanted = gap(goal, np.append(REFERENCE[name](i), lane.outside))
                np.testing.assert_allclose(lane.values[f"gap_{name}"][at], wanted, rtol=1e-5, atol=1e-20)
            theta, ascent, plus = (
                np.append(REFERENCE[name](i), lane.outside) for name in ("nothing", "ascent", "neggrad_plus")
            )
            beside = {
                "best_ascent": least_gap(goal, theta, ascent - theta),
                "best_neggrad_plus": least_gap(goal, ascent, plus - ascent),
            }
            if lane.theta == LIMIT:
                beside["unchecked_active_set"] = gap(goal, np.append(active_set_candidate(i)[0], 0.0))
            if lane.linear:
                beside["own_target_newton"], beside["own_target_nothing"] = own_target(i, step_theorems.RIDGE)
            for name, wanted in beside.items():
                np.testing.assert_allclose(lane.values[name][at], wanted, rtol=1e-4, atol=1e-19, err_msg=name)


def test_table(blocks):
    table, metrics = SUITE.tables(blocks, lanes.GRID)
    assert [row[0] for row in metrics.rows] == list(STEPS.names)
    assert all("doing nothing passes" in sentence for sentence in metrics.sentences)
    beside = [one.label for one in step_tables.BESIDE.values()]
    assert [row[0] for row in table.rows if row[0] not in beside] == list(STEPS.names)
    assert sorted(row[0] for row in table.rows if row[0] in beside) == sorted(beside)
    assert len(table.columns) == 1 + 2 * len(lanes.GRID.dims)
    assert {len(row) for row in table.rows} == {len(table.columns)}
    by_step = {row[0]: row[1:] for row in table.rows}
    assert set(by_step["nothing"]) == {"1 [1, 1] 0%"}
    oracle = by_step["ascent, best constant (oracle)"]
    for own, best in zip(by_step["ascent"], oracle, strict=True):
        middle, low, high = (float(v) for v in re.findall(r"[\d.e+-]+", own)[:3])
        assert low <= middle <= high
        assert float(best.split()[0]) <= middle
    assert by_step["newton, own target"][2:] == ["", ""]
    assert by_step["newton"][2:] == ["", ""], "a network has no Newton step"
    assert all(entry.endswith("100%") for entry in by_step["ascent"])


def test_picture(blocks):
    words = ("gap to the retrained model / gap of nothing", "linear", "relu", "gaussian, d = 1e+08")
    assert len(lanes.assert_picture(TESTED, blocks, lanes.GRID, words).axes) == 2


def test_a_step_of_ones_own_is_claimed_to_be_better_than_nothing():
    ascent = STEPS["ascent"].make

    def backwards(*args):
        after = ascent(*args)
        return dataclasses.replace(after, params=2 * args[2].params - after.params)

    mine = (
        dataclasses.replace(STEPS["ascent"], name="backwards", make=backwards),
        dataclasses.replace(STEPS["nothing"], name="idle"),
        dataclasses.replace(STEPS["ascent"], name="mine"),
    )
    with STEPS.added(*mine):
        suite = dataclasses.replace(SUITE, evaluate=lambda e: steps.evaluate(e), models=("linear",))
        table = lanes.tallies(suite, lanes.blocks_of(suite))
    rows = {
        row["certificate"]: row for row in lanes.named(table, strength="better", theta="limit") if row["grid"]["k"] == 1
    }
    total = lanes.GRID.seeds
    assert rows["mine"]["holds"] == total
    assert rows["backwards"]["violated"] == total
    assert rows["idle"]["inconclusive"] == total
    with pytest.raises(AssertionError):
        lanes.named(table, strength="better", certificate="ascent")


def test_every_step_of_the_library_has_its_theorem():
    assert set(step_theorems.OWN) == set(steps.BUILT_IN) - {"estimated"}  # whose theorem is the claim estimators'
