"""Suites entries and clarke: they pass, they can fail, their pictures say what they show."""

from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
import pytest

from gaunlearn_jax import kkt
from gaunlearn_jax.theory import entries as theory
from suites import recorded as lanes
from verify.cli import main
from verify.instances.grid import Grid
from verify.suites import clarke, entries

GRID = Grid(dims=(1e5, 1e8), points=(5,), neurons=(6,), forget=(1,), seeds=6, models=("convolution:slope=0.1",))


@pytest.fixture(scope="module")
def blocks():
    return lanes.blocks_of(entries.SUITE, GRID)


def holds(suite, made, rows):
    table = lanes.tallies(suite, made, GRID)
    assert len(table) == rows
    assert not any(row["violated"] or row["inconclusive"] or row["unconverged"] for row in table)
    assert all(row["holds"] == GRID.seeds for row in table if row["grid"]["d"] == 1e8)


def test_entries_holds_and_its_picture(blocks):
    holds(entries.SUITE, blocks, 9 * 2 * 2)
    lanes.assert_picture(entries.SUITE, blocks, GRID, (r"\mu", "Theorem R'", "dimension"))


@pytest.mark.slow
def test_clarke_holds_and_its_picture():
    made = lanes.blocks_of(clarke.SUITE, GRID)
    holds(clarke.SUITE, made, 5 * 2)
    lanes.assert_picture(clarke.SUITE, made, GRID, ("rounds", "distance", "dimension"))


def changed(monkeypatch, name, change):
    right = getattr(theory, name)
    monkeypatch.setattr(theory, name, lambda *given, **named: change(right(*given, **named)))


@pytest.mark.parametrize(
    ("name", "change", "quantity"),
    [
        ("pull_bounds", lambda f: f._replace(upper=0.8 * f.upper, lower=1.2 * f.lower), "upper lower"),
        ("projection_factor", lambda f: (0.1 * f[0], f[1]), "leakage epsilon tau"),
    ],
)
def test_it_can_fail(monkeypatch, name, change, quantity):
    changed(monkeypatch, name, change)
    table = lanes.tallies(entries.SUITE, lanes.blocks_of(entries.SUITE, GRID), GRID)
    for one in quantity.split():
        assert lanes.count(table, "violated", quantity=one) > GRID.seeds


def _mutants(point):
    """A theta that is too short, multipliers of another size, slopes where none are allowed, mirrored filters."""
    return [
        ("margin", dataclasses.replace(point, params=0.999 * point.params)),
        ("stationarity", dataclasses.replace(point, multipliers=1.001 * point.multipliers)),
        ("slackness", dataclasses.replace(point, params=1.001 * point.params)),
        ("selection", dataclasses.replace(point, selection=0.5 * (point.selection + 1))),
        ("stationarity", dataclasses.replace(point, params=-point.params)),
    ]


def test_wrong_points_are_found():
    """One lane, measured by what the suite measures."""
    lane = lanes.recorded(*_first())[1]
    record = jax.tree.map(lambda v: jnp.asarray(v)[0], lane)
    problem = _first()[0].network().problem(record.data)
    size = float(jnp.linalg.norm(record.limit.params))

    def broken(point):
        measured, off = clarke.again(problem, point)
        return {
            "stationarity": float(measured.epsilon) > clarke.EXACT * size,
            "slackness": float(measured.delta) > clarke.EXACT * size**2,
            "margin": 1 - float(measured.margin) > clarke.EXACT,
            "selection": int(off) > 0,
        }

    assert not any(broken(record.limit).values())
    for what, mutant in _mutants(record.limit):
        assert broken(mutant)[what]


def _first():
    (shape,) = GRID.shapes_of(GRID.models[0], "gaussian")
    return shape, GRID


@pytest.mark.slow
def test_a_loop_that_raises_the_norm_is_found(monkeypatch):
    right = kkt.solve_pattern

    def raising(problem, slopes, valid, repeats):
        point = right(problem, slopes, valid, repeats)
        return dataclasses.replace(point, params=(1.5 if repeats else 1.0) * point.params)

    monkeypatch.setattr(kkt, "solve_pattern", raising)
    table = lanes.tallies(clarke.SUITE, lanes.blocks_of(clarke.SUITE, GRID), GRID)
    assert lanes.count(table, "violated", quantity="norm") > 0
    assert lanes.count(table, "violated", quantity="slackness") > 0


@pytest.mark.slow
def test_its_certificates_are_proved_in_ball_arithmetic(tmp_path, capsys):
    size = ["--points", "4", "--neurons", "24", "--forget", "1", "--seeds", "2", "--dims", "1e8"]
    assert main.main(["run", "entries", *size, "--exact", "worst", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"\b(\d+) of \1 proved, 0 refuted", shown)
    for model in ("convolution", "classes_relu"):
        assert list((tmp_path / "certificates").glob(f"{model}*-projection-spaces-*.json"))
