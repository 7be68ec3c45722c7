"""Suite sources: heavy tails do not hurt the step, duplicates and a common mean do, and it can fail."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from gaunlearn_jax.theory import bound
from suites import recorded as lanes
from verify.instances.grid import Grid
from verify.suites import sources
from verify.suites.beside_nothing import compared
from verify.suites.finding import middle
from verify.suites.sources import SUITE

#: six points: each has its duplicate
GRID = Grid(points=(6,), seeds=12, dims=(1e8,), forget=(1,), sources=("student:nu=2", "near_duplicates:c=0.9"))


def unproved(e, star):
    """A certificate that speaks of every step that moves anything."""
    found = compared(e, star)
    return found._replace(proved=found.moved)


def too_small(e, near, strength):
    made = bounds_of(e, near, strength)
    return bound.bound_of(made.epsilon * 1e-3, made.delta, made.tau * 1e-6, made.reason)


bounds_of = sources.bound_of


def evaluate(e):
    mutants = {"wrong": {"compared": unproved, "bound_of": too_small}}
    return SUITE.evaluate(e) | lanes.mutants_of(SUITE, e, sources, mutants)


TESTED = dataclasses.replace(SUITE, evaluate=evaluate)


@pytest.fixture(scope="module")
def blocks():
    return lanes.blocks_of(TESTED, GRID)


@pytest.fixture(scope="module")
def table(blocks):
    return lanes.tallies(TESTED, blocks, GRID)


def test_a_run_that_names_no_source_asks_for_the_small_grid():
    plain, named = Grid(), Grid(sources=("student",))
    assert SUITE.sources_in(plain) == ("student", "near_duplicates", "shifted")
    assert [c.d for c in plain.cells("student")] == [1e4, 1e8]
    assert plain.cells("student")[0].parameters == (("nu", 2.0),)
    assert SUITE.sources_in(named) == ("student",)
    assert {c.value("nu") for c in named.cells("student")} == {1.0, 3.0, 30.0}  # those of the source's own row
    assert plain.cells("gaussian") == Grid(sources=("gaussian",)).cells("gaussian")


@pytest.mark.slow
def test_it_holds_on_every_source(table):
    honest = lanes.of_mutant(table, "")
    assert not any(row["violated"] or row["inconclusive"] or row["unconverged"] for row in honest)
    tails = [row for row in honest if row["grid"]["source"] == "student" and row["theta"] == "limit"]
    assert lanes.count(tails, "holds", strength="scale_free", quantity="tau") == 12
    assert lanes.count(tails, "holds", strength="sharp") == 0
    assert lanes.count(tails, "holds", strength="certificate") == 12


test_it_can_fail = pytest.mark.slow(
    lanes.can_fail(
        ("wrong", {"strength": "certificate"}, 12),
        ("wrong", {"strength": "scale_free", "quantity": "epsilon", "theta": "limit"}, 10),
    )
)


@pytest.mark.slow
def test_each_source_tells_its_story(blocks):
    """In pairs the forgotten point has leverage c^2 q / (1 - c + c q) on the others, q = 1; tails keep none."""
    tails, pairs = sources.cells(blocks, GRID)
    assert [cell.name for cell in (tails, pairs)] == ["student nu=2", "near_duplicates c=0.9"]
    assert middle(pairs.solved("leverage")) == pytest.approx(0.81, abs=0.01)
    assert max(tails.solved("leverage")) < 1e-5
    assert middle(tails.solved("ratio")) < 1e-5
    assert middle(pairs.solved("ratio")) > 2
    assert (tails.telling("scale_free"), tails.telling("sharp")) == (1, 0)
    made = SUITE.find(blocks, GRID)
    assert "student nu=2 (proved: scale-free)" in made.text
    assert made.numbers["ratio_1"] == middle(pairs.solved("ratio"))
    (shown,) = SUITE.tables(blocks, GRID)
    assert [row[0] for row in shown.rows] == [cell.name for cell in (tails, pairs)]
    assert np.isnan(sources.Cell("student", {}, tails.block, tails.here & False).share("better"))
