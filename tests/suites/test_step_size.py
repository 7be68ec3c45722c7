"""Suite step_size: it passes, it can fail, its numbers are those of the reference, its picture says what it shows."""

from __future__ import annotations

import dataclasses
from unittest import mock

import jax.numpy as jnp
import numpy as np
import reference as ref

from gaunlearn_jax.theory import step_size as library
from suites import recorded as lanes
from verify.suites import step_size
from verify.suites.step_size import FRACTIONS, OWN, SUITE

formula, floor, best = library.epsilon_formula, library.epsilon_floor, library.best_fraction
projection = library.projection


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
        "longer": {"projection": lambda *args: projection(*args[:-1], 1.1 * args[-1])},
    }
    # the measured epsilon of theta_hat_c is no part of these mutations and is not solved for again
    with mock.patch.object(step_size, "own_epsilons", return_value=own):
        return out | lanes.mutants_of(SUITE, e, library, mutants)


TESTED = dataclasses.replace(SUITE, evaluate=evaluate)


def test_holds_everywhere_it_speaks(table):
    honest = lanes.passed(table, 2 * 2 * 6, dims=(1e8,))
    lower = lanes.named(honest, certificate="projection", strength="lower")
    assert all(row["discriminating"] > 0.9 for row in lower if row["grid"]["d"] == 1e8)


test_it_can_fail = lanes.can_fail(
    ("wrong", {"strength": "exact"}, 150),
    ("wrong", {"certificate": "wrong:projection", "strength": "lower"}, 150),
    ("wrong", {"certificate": "wrong:scaling", "model": "linear"}, 40),
    ("wrong", {"strength": "optimum", "theta": "trained"}, 1),
    ("longer", {"strength": "exact"}, 150),
    ("longer", {"strength": "instance", "quantity": "epsilon"}, 150),
)


def test_one_lane_against_the_reference(seen):
    for lane in seen:
        values, (X, y, u, W, Z, lam, s) = lane.values, lane.arrays
        outside, slope = lane.outside, lane.slope
        for at, forget, retained in lane.forgotten():
            for number_of_c, c in enumerate(FRACTIONS):
                inside = ref.step_size_epsilon(W, X, y, u, lam, s, forget, c)
                wanted = np.hypot(inside, outside)
                np.testing.assert_allclose(values["epsilon"][*at, number_of_c], wanted, rtol=1e-8, atol=1e-13)
                hat = ref.gradient_ascent(W, X, y, u, lam, s, forget, c)
                if lane.linear:  # the hard-margin norm
                    bound = np.linalg.norm(ref.solve_pattern(X, y, u, s > 0.5, retained, True)[0])
                else:
                    bound = np.sqrt(ref.norm_floor_sq(X @ X.T, y, u, retained))
                alpha = ref.angle_to_span(hat, X, retained, outside)
                tau = ref.projection_certificate(
                    W, Z, X, y, u, lam, s, forget, scale=c, slope=slope, orthogonal=outside
                ).tau
                least = ref.epsilon_floor(alpha, tau, bound)
                assert least <= wanted * (1 + 1e-9)
                np.testing.assert_allclose(values["lower"][*at, number_of_c], least, rtol=1e-4, atol=1e-7)
            for number_of_c, c in enumerate(OWN):
                hat = ref.gradient_ascent(W, X, y, u, lam, s, forget, c)
                z = Z - c * ref.preactivations(ref.forgotten_part(X, y, u, lam, s, forget), X)
                q = min(ref.margins_of(z, y, u, slope)[i] for i in retained)
                if q > 0:
                    fit = ref.measure_multipliers(
                        z[:, retained] / q, hat / q, X[retained], y[retained], u, slope, orthogonal=outside / q
                    )
                    got = values["own_epsilon"][*at, number_of_c]
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
