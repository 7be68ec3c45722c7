"""Suite leaky: it passes, it can fail, it tells the step from doing nothing, its picture says what it shows."""

from __future__ import annotations

import dataclasses

import pytest

from gaunlearn_jax.theory import bounds, instance_bounds, worst_case
from suites import recorded as lanes
from verify.instances.grid import Grid
from verify.suites import leaky as module
from verify.suites.leaky import SUITE as TESTED

GRID = Grid(dims=(1e4, 1e8), points=(6,), neurons=(16,), seeds=12, models=("leaky:slope=0.3",))


@pytest.fixture(scope="module")
def blocks():
    return lanes.blocks_of(TESTED, GRID)


def test_holds_everywhere_it_speaks(blocks):
    table = lanes.tallies(TESTED, blocks, GRID)
    assert not any(row["violated"] or row["inconclusive"] or row["unconverged"] for row in table)
    far = [row for row in table if row["grid"]["d"] == 1e8]
    assert all(row["holds"] == GRID.seeds for row in far)
    telling = [row for row in far if row["strength"] in ("sharp", "coarse")]
    assert len(telling) == 2 * 2 * 3 * 2
    assert all(row["discriminating"] == 1 for row in telling)


def scaled(monkeypatch, place, name, factor):
    """A right-hand side with a constant that is too small."""
    right = getattr(place, name)

    def wrong(*given, **sizes):
        bound = right(*given, **sizes)
        first = given[-2]
        return dataclasses.replace(bound, epsilon=first + factor * (bound.epsilon - first), tau=factor**2 * bound.tau)

    monkeypatch.setattr(place, name, wrong)


@pytest.mark.parametrize(("name", "strength"), [("sharp_leaky", "sharp"), ("coarse_leaky", "coarse")])
def test_it_can_fail(monkeypatch, name, strength):
    scaled(monkeypatch, worst_case, name, 0.05)
    table = lanes.tallies(TESTED, lanes.blocks_of(TESTED, GRID), GRID)
    for quantity in ("epsilon", "tau"):
        rows = [row for row in lanes.named(table, strength=strength, quantity=quantity) if row["grid"]["d"] == 1e8]
        assert sum(row["violated"] for row in rows) > 0.9 * 4 * GRID.seeds


def test_wrong_statements_of_the_retrained_network_are_found(monkeypatch):
    """A distance that is too small, an exact norm that is too large by 1e-9, a norm lemma too large by 1e-3."""
    monkeypatch.setattr(module, "distance_bound", lambda problem, near, forget: 0.3 * near.epsilon)
    right = instance_bounds.norm_floor

    def wrong(net, data, forget, retrained=None):
        floor = right(net, data, forget, retrained)
        return 1.001 * floor if retrained is None else floor * (1 + 1e-9)

    monkeypatch.setattr(instance_bounds, "norm_floor", wrong)
    monkeypatch.setattr(bounds, "norm_floor", wrong)
    table = lanes.tallies(TESTED, lanes.blocks_of(TESTED, GRID), GRID)
    assert lanes.count(table, "violated", quantity="distance", theta="limit") > GRID.seeds
    for strength in ("exact", "lemma"):
        assert lanes.count(table, "violated", certificate="retrain", strength=strength) > GRID.seeds


def test_picture(blocks):
    lanes.assert_picture(TESTED, blocks, GRID, ("varepsilon", "tau"))
