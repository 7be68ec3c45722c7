"""Suite step_size: it passes, it can fail, its numbers are those of the reference, its picture says what it shows."""

from __future__ import annotations

import dataclasses
from unittest import mock

import jax.numpy as jnp
import numpy as np
import pytest
import recorded as lanes
import reference as ref

from gaunlearn_jax import certificates
from verify.suites import step_size
from verify.suites.step_size import FRACTIONS, OWN, SUITE

formula, floor, best = step_size.epsilon_formula, step_size.epsilon_floor, step_size.best_fraction
projection = certificates.projection


def evaluate(e):
    """The suite and its mutants in one program."""
    out = dict(SUITE.evaluate(e))
    own = jnp.asarray(out["own_epsilon"]), jnp.zeros(len(OWN)), jnp.ones(len(OWN), bool)
    mutants = {
        # three that touch different rows: c for 1 - c, a floor twice too high, the tip on the wrong side
        "wrong": {
            "epsilon_formula": lambda inside, outside, rest, off, c: formula(inside, outside, rest, off, 1 - c),
            "epsilon_floor": lambda bound, alpha, angle: floor(2 * bound, alpha, angle),
            "best_fraction": lambda rest, outside: 2 - best(rest, outside),
        },
        "longer": {"certificates": mock.Mock(projection=lambda *args: projection(*args[:-1], 1.1 * args[-1]))},
    }
    # the measured epsilon of theta_hat_c is no part of these mutations and is not solved for again
    kept = {"lax": mock.Mock(map=lambda *_: own)}
    return out | lanes.mutants_of(SUITE, e, step_size, {name: kept | changes for name, changes in mutants.items()})


TESTED = dataclasses.replace(SUITE, evaluate=evaluate)


def test_holds_everywhere_it_speaks(table):
    honest = lanes.of_mutant(table, "")
    assert not any(row["violated"] or row["inconclusive"] for row in honest)
    share = lanes.shares(honest)
    assert len({key[:5] for key in share}) == 2 * 2 * 6
    assert min(value for key, value in share.items() if key[-1] == 1e8) > 0.9
    lower = lanes.named(honest, certificate="projection", strength="lower")
    assert all(row["discriminating"] > 0.9 for row in lower if row["grid"]["d"] == 1e8)


@pytest.mark.parametrize(
    ("mutant", "where", "least"),
    [
        ("wrong", {"strength": "exact"}, 150),
        ("wrong", {"certificate": "wrong:projection", "strength": "lower"}, 150),
        ("wrong", {"certificate": "wrong:scaling", "model": "linear"}, 40),
        ("wrong", {"strength": "optimum", "theta": "trained"}, 1),
        ("longer", {"strength": "exact"}, 150),
        ("longer", {"strength": "instance", "quantity": "epsilon"}, 150),
    ],
)
def test_it_can_fail(table, mutant, where, least):
    assert lanes.count(lanes.of_mutant(table, mutant), "violated", **where) >= least


@pytest.mark.parametrize("number", [3, 20])
@pytest.mark.parametrize("theta", [0, 1])
def test_one_lane_against_the_reference(blocks, number, theta):
    for block in blocks:
        record = lanes.one_lane(lanes.recorded(block.shape, lanes.GRID)[1], number)
        values = lanes.lane_values(block, TESTED, number)
        linear = block.shape.model == "linear"
        point = record.theta("limit" if theta else "trained")
        X, y, m = record.data.points, record.data.labels, block.shape.m
        u = np.asarray(block.shape.network().output_weights)
        s, lam, W, Z = point.selection, point.multipliers, point.params, point.preactivations
        outside, slope = float(point.orthogonal_norm), 1.0 if linear else 0.0
        for at, k in enumerate(lanes.GRID.forget):
            forget = [int(i) for i in record.order[:k]]
            retained = [i for i in range(m) if i not in forget]
            for number_of_c, c in enumerate(FRACTIONS):
                inside = ref.step_size_epsilon(W, X, y, u, lam, s, forget, c)
                wanted = np.hypot(inside, outside)
                np.testing.assert_allclose(values["epsilon"][theta, at, number_of_c], wanted, rtol=1e-8, atol=1e-13)
                hat = ref.gradient_ascent(W, X, y, u, lam, s, forget, c)
                if linear:  # the hard-margin norm
                    bound = np.linalg.norm(ref.solve_pattern(X, y, u, s > 0.5, retained, True)[0])
                else:
                    bound = np.sqrt(ref.norm_floor_sq(X @ X.T, y, u, retained))
                alpha = ref.angle_to_span(hat, X, retained, outside)
                tau = ref.projection_certificate(
                    W, Z, X, y, u, lam, s, forget, scale=c, slope=slope, orthogonal=outside
                ).tau
                least = ref.epsilon_floor(alpha, tau, bound)
                assert least <= wanted * (1 + 1e-9)
                np.testing.assert_allclose(values["lower"][theta, at, number_of_c], least, rtol=1e-4, atol=1e-7)
            for number_of_c, c in enumerate(OWN):
                hat = ref.gradient_ascent(W, X, y, u, lam, s, forget, c)
                z = Z - c * ref.preactivations(ref.forgotten_part(X, y, u, lam, s, forget), X)
                q = min(ref.margins_of(z, y, u, slope)[i] for i in retained)
                if q > 0:
                    fit = ref.measure_multipliers(
                        z[:, retained] / q, hat / q, X[retained], y[retained], u, slope, orthogonal=outside / q
                    )
                    got = values["own_epsilon"][theta, at, number_of_c]
                    np.testing.assert_allclose(got, fit.epsilon, rtol=1e-6, atol=1e-10)


def test_the_theorem_step_is_best_and_networks_jump(blocks):
    linear, relu = (block.results[SUITE.name] for block in blocks)
    for results in (linear, relu):
        curve = np.asarray(results["epsilon"])[:, 1]
        assert np.all(np.argmin(curve, axis=-1) == FRACTIONS.index(1.0))
        np.testing.assert_allclose(np.asarray(results["best"])[:, 1], 1.0, atol=1e-9)
    at_one = OWN.index(1.0)
    own = np.asarray(relu["own_epsilon"])[12:, 1, :, at_one]  # d = 1e8
    assert np.median(own) > 0.1
    assert np.max(np.asarray(linear["own_epsilon"])[12:, 1, :, at_one]) < 1e-3


def test_picture(blocks):
    words = ("fraction $c$", r"stationarity error $\varepsilon$", "upper bound", "lower bound", "$1-c$")
    figure = lanes.assert_picture(TESTED, blocks, lanes.GRID, words)
    assert len(figure.axes) == 2
    assert len(figure.axes[0].lines) == 4 + 1  # the four curves and rho
    assert any("kinks" in note.get_text() for note in figure.axes[0].texts)
