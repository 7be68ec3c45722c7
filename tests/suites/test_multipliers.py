"""Suite multipliers: it passes, it can fail, its numbers are those of the reference, its picture says what it shows."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import reference as ref

from gaunlearn_jax import Reason
from suites import recorded as lanes
from verify.instances.records import Record
from verify.suites import multipliers
from verify.suites.multipliers import SUITE as TESTED


def test_holds_everywhere_it_speaks(table):
    lanes.passed(table, 6 + 2 + 6, dims=(1e8,))  # linear: Lemma M for two theta and the prior bounds


def scaled(factor: float):
    """lambda of the first point is wrong by a factor."""

    def mutate(record: Record) -> Record:
        def worse(point):
            return dataclasses.replace(point, multipliers=point.multipliers.at[0].multiply(factor))

        return record._replace(trained=worse(record.trained), limit=worse(record.limit))

    return mutate


@pytest.mark.parametrize(("factor", "side"), [(2.0, "upper"), (0.5, "lower")])
def test_a_wrong_multiplier_is_found(factor, side):
    table = lanes.tallies(TESTED, lanes.blocks_of(TESTED, mutate=scaled(factor)))
    large = [row for row in table if row["grid"]["d"] == 1e8]
    for strength in ("sharp", "prior"):
        rows = lanes.named(large, strength=strength, quantity=side)
        assert all(row["violated"] > 0.9 * lanes.GRID.seeds for row in rows)
    assert all(row["violated"] > 0.9 * lanes.GRID.seeds for row in lanes.named(large, strength="instance"))


def test_the_data_assumption_is_needed():
    """With psi = phi = 0 Lemma M would say beta_i = 1 exactly."""
    blocks = lanes.blocks_of(TESTED, mutate=lambda r: r._replace(psi=jnp.zeros(()), phi=jnp.zeros(())))
    table = lanes.tallies(TESTED, blocks)
    assert lanes.count(table, "violated", strength="sharp", quantity="upper") > 0
    assert lanes.count(table, "violated", strength="sharp", quantity="lower") > 0


def correlated(record: Record) -> Record:
    return record._replace(phi=record.phi * 10)


def test_the_prior_bounds_need_p_of_at_least_three(monkeypatch):
    """phi 10 times over gives p < 3 at d = 1e4: not applicable there; without the hypothesis a false statement."""
    table = lanes.tallies(TESTED, lanes.blocks_of(TESTED, mutate=correlated))
    for row in lanes.named(table, strength="prior"):
        if row["grid"]["d"] == 1e4:
            assert row["not_applicable"] == lanes.GRID.seeds
            assert row["reasons"] == {Reason.DATA.text: lanes.GRID.seeds}
    monkeypatch.setattr(multipliers, "unless", lambda condition, reason: jnp.zeros((), int))
    table = lanes.tallies(TESTED, lanes.blocks_of(TESTED, mutate=correlated))
    assert lanes.count(table, "violated", strength="prior") > 0


@pytest.mark.parametrize("number", [2, 20])
def test_one_lane_against_the_reference(blocks, number):
    for block in blocks:
        record = lanes.one_lane(lanes.recorded(block.shape, lanes.GRID)[1], number)
        values = lanes.lane_values(block, TESTED, number)
        X, m, n = record.data.points, block.shape.m, block.shape.n
        psi, phi = ref.data_assumption(X)
        u2 = 1.0 / n
        for theta in ("trained", "limit"):
            point = record.theta(theta)
            beta = [
                float(point.multipliers[i]) * sum(u2 * float(point.selection[j, i]) for j in range(n)) for i in range(m)
            ]
            epsilon, delta = float(point.epsilon), float(point.delta)
            upper, lower = values[f"{theta}/sharp/upper"], values[f"{theta}/sharp/lower"]
            np.testing.assert_allclose(upper.lhs, max(beta), rtol=1e-12)
            np.testing.assert_allclose(lower.rhs, min(beta), rtol=1e-12)
            np.testing.assert_allclose(upper.rhs, ref.beta_max(psi, phi, epsilon, delta, m), rtol=1e-9)
            np.testing.assert_allclose(lower.lhs, ref.beta_min(psi, phi, epsilon, delta, m), rtol=1e-9)
        if block.shape.model == "linear":
            low, high, p = ref.orthogonal_multiplier_bounds(X)
            assert p > 3
            np.testing.assert_allclose(values["limit/prior/upper"].rhs, high, rtol=1e-9)
            np.testing.assert_allclose(values["limit/prior/lower"].lhs, low, rtol=1e-9)


def test_picture(blocks):
    figure = lanes.assert_picture(TESTED, blocks, lanes.GRID, ("dimension $d$", "Lemma M", "Frei", r"\beta"))
    assert len(figure.axes) == 2
