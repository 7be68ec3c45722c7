"""Suite unique: it passes, it can fail, its numbers are those of the reference, its picture says what it shows."""

from __future__ import annotations

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaunlearn_jax as ga
from gaunlearn_jax.models.registry import network
from gaunlearn_jax.theory import leaky
from suites import recorded as lanes
from verify.instances.grid import Grid
from verify.suites.unique import SUITE as TESTED

GRID = Grid(dims=(1e4, 1e8), points=(6,), neurons=(16,), seeds=12, models=("leaky:slope=0.3",))
right = leaky.uniqueness


@pytest.fixture(scope="module")
def blocks():
    return lanes.blocks_of(TESTED, GRID)


def test_holds_everywhere_it_speaks(blocks):
    table = lanes.tallies(TESTED, blocks, GRID)
    assert len(table) == (4 + 4 + 1) * 2
    assert not any(row["violated"] or row["inconclusive"] or row["unconverged"] for row in table)
    assert all(row["holds"] == GRID.seeds for row in table if row["grid"]["d"] == 1e8)
    assert sum(row["holds"] for row in table if row["grid"]["d"] == 1e4) > 0


@pytest.mark.parametrize(
    ("wrong", "quantity"),
    [
        (lambda f: f._replace(most=0.7 * f.most), "upper"),
        (lambda f: f._replace(least=1.4 * f.least), "lower"),
        (lambda f: f._replace(clearance=1.4 * f.clearance), "clearance"),
    ],
)
def test_wrong_statements_are_found(monkeypatch, wrong, quantity):
    monkeypatch.setattr(leaky, "uniqueness", lambda *given: wrong(right(*given)))
    table = lanes.tallies(TESTED, lanes.blocks_of(TESTED, GRID), GRID)
    assert lanes.count(table, "violated", quantity=quantity) > 0.9 * GRID.seeds


def test_the_hypothesis_is_needed(monkeypatch):
    """Without chi < 1 correlated data have kinks and several KKT points: both statements are then found false."""
    monkeypatch.setattr(leaky, "uniqueness", lambda *given: right(*given)._replace(chi=jnp.zeros(())))
    grid = dataclasses.replace(GRID, dims=(10.0,), seeds=24)
    table = lanes.tallies(TESTED, lanes.blocks_of(TESTED, grid), grid)
    assert lanes.count(table, "violated", quantity="pattern") > 0
    assert lanes.count(table, "violated", quantity="distance") > 0


def test_other_signs_of_the_pattern_are_found(monkeypatch):
    """A point whose neurons are mirrored is on the wrong pattern everywhere."""

    def mirrored(record):
        point = dataclasses.replace(record.limit, preactivations=-record.limit.preactivations)
        return record._replace(limit=point)

    table = lanes.tallies(TESTED, lanes.blocks_of(TESTED, GRID, mirrored), GRID)
    assert lanes.count(table, "violated", quantity="pattern") >= GRID.seeds


@pytest.mark.parametrize("slope", [0.05, 0.3, 0.9])
def test_hypothesis_and_bounds_against_loops(slope):
    """By U_+, U_- and the labels, point by point, with weights of different sizes."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        n, m = int(rng.integers(2, 8)), int(rng.integers(2, 7))
        u, y = rng.normal(size=n), rng.choice([-1.0, 1.0], m)
        psi, phi = rng.uniform(0, 0.2), 10 ** rng.uniform(-4, -1)
        epsilon, delta = rng.choice([0.0, 1e-3], 2)
        got = right(u[:, None] * y, slope, np.float64(psi), np.float64(phi), epsilon, delta)
        mass = {s: sum(float(v) ** 2 for v in u if v * s > 0) for s in (-1.0, 1.0)}
        c = [mass[s] + slope**2 * mass[-s] for s in y]
        b = [mass[s] + slope * mass[-s] for s in y]
        x = (m - 1) * phi
        below = [ci * (1 - psi) - x * bi for ci, bi in zip(c, b, strict=True)]
        if min(below) <= 0 or x >= slope * (1 - psi):
            assert np.isinf(float(got.chi))
            continue
        blur = epsilon * math.sqrt(1 + psi) / min(abs(float(v)) for v in u)
        tops = [blur / (slope * (1 - psi) - x)]
        for ci, d in zip(c, below, strict=True):
            first = 1 + epsilon * math.sqrt(ci * (1 - psi))
            tops.append(float(np.roots([d, -first, -delta]).max()))
        most = max(tops)
        each = [
            (x * most * (ci - slope**2 * bi) + blur * (ci + slope * bi)) / slope for ci, bi in zip(c, b, strict=True)
        ]
        np.testing.assert_allclose([float(got.chi), float(got.most)], [max(each), most], rtol=1e-12)
        np.testing.assert_allclose(
            got.clearance, [slope * (1 - v) / ci for v, ci in zip(each, c, strict=True)], rtol=1e-11
        )
        least = [
            (1 - x * most * bi - epsilon * math.sqrt((1 + psi) * ci)) / ((1 + psi) * ci)
            for ci, bi in zip(c, b, strict=True)
        ]
        np.testing.assert_allclose(got.least, least, rtol=1e-11)


@pytest.mark.slow
def test_every_pattern_of_a_tiny_network_leads_to_one_point():
    """All 2^(n m) starts, where chi < 1: the same theta."""
    net = network("leaky:slope=0.5", 2)
    data = ga.data.gaussian(jax.random.key(4), 3, 1e4)
    problem = net.problem(data)
    psi, phi, _ = ga.data.assumptions(data, net)
    assert float(right(problem.amplitudes, problem.slope, psi, phi).chi) < 1
    starts = jnp.asarray(list(itertools.product([0.5, 1.0], repeat=6))).reshape(-1, 2, 3)
    found = jax.vmap(lambda s: ga.kkt.solve_pattern(problem, s, jnp.ones(3, bool), ga.kkt.MAX_REPEATS))(starts)
    assert np.all(np.asarray(found.status) == 0)
    np.testing.assert_allclose(found.params, np.broadcast_to(found.params[0], found.params.shape), atol=1e-12)


def test_picture(blocks):
    lanes.assert_picture(TESTED, blocks, GRID, (r"\chi", "distance"))
