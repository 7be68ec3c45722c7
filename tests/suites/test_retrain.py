"""Suite retrain: it passes, it can fail, its numbers are those of the reference, its picture says what it shows."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import reference as ref

import gaunlearn_jax as ga
from gaunlearn_jax import Reason
from suites import recorded as lanes
from verify.suites import retrain
from verify.suites.retrain import SUITE

bound, retrain_ball = retrain.distance_bound, retrain.certified_ball


def half(ball):
    return dataclasses.replace(ball, radius=ball.radius / 2)


def untouched(e):
    """The evaluation with theta itself, no step taken, in place of the projection certificate."""
    other = dataclasses.replace(e)
    near = dataclasses.replace(e.certificates["projection"], params=e.point.params)
    other.__dict__.update(e.__dict__ | {"certificates": e.certificates | {"projection": near}})
    return other


def evaluate(e):
    """The suite and its mutants in one program."""
    mutants = {
        "half": {"distance_bound": lambda *args: 0.5 * bound(*args)},
        "no_slack": {"distance_bound": lambda problem, near, forget: near.epsilon},
        "half_ball": {"certified_ball": lambda *args: half(retrain_ball(*args))},
        "no_hypothesis": {"unless": lambda condition, reason: jnp.zeros((), int)},
    }
    out = SUITE.evaluate(e) | lanes.mutants_of(SUITE, e, retrain, mutants)
    return out | lanes.mutants_of(SUITE, untouched(e), retrain, {"untouched": {}})


TESTED = dataclasses.replace(SUITE, evaluate=evaluate)


def test_holds_everywhere_it_speaks(table):
    honest = lanes.passed(table, 2 * 2 * 2, dims=(1e8,), strength="instance")
    lanes.passed(table, 2 * 2 * 3, dims=(1e8,), strength="ball")
    for row in honest:  # theta* of the first solve either is a KKT point for T, or is said not to be one
        if row["strength"] == "exact":
            assert set(row["reasons"]) <= {Reason.NOT_KKT.text}
            assert row["holds"] + row["not_applicable"] + row["unconverged"] == lanes.GRID.seeds
    assert lanes.count(honest, "holds", strength="exact", model="relu") > 0
    assert all(row["discriminating"] > 0.9 for row in lanes.named(honest, strength="instance"))
    assert all(row["discriminating"] > 0.9 for row in lanes.named(honest, strength="ball", quantity="tau"))


test_it_can_fail = lanes.can_fail(
    ("half", {"model": "relu", "theta": "limit"}, 1),
    ("no_slack", {"model": "relu", "theta": "trained"}, 10),
    ("untouched", {"quantity": "distance"}, 150),
    ("half_ball", {"quantity": "distance", "strength": "ball"}, 20),
    ("half_ball", {"quantity": "tau", "strength": "ball"}, 20),
    ("no_hypothesis", {"model": "relu", "quantity": "epsilon"}, 1),
)


def test_one_lane_against_the_reference(seen):
    """theta* by cutting planes and nonnegative least squares, for one and for two forgotten points."""
    for lane in seen:
        values, (X, y, u, W, Z, lam, s) = lane.values, lane.arrays
        for at, forget, retained in lane.forgotten():
            near = ref.projection_certificate(W, Z, X, y, u, lam, s, forget, orthogonal=lane.outside)
            best, _, _ = ref.solve_pattern(X, y, u, s > 0.5, retained, lane.linear)
            D = np.hypot(np.linalg.norm(near.params - best), lane.outside)
            q = ref.margins_of(Z, y, u, lane.slope)
            slack = sum(lam[i] * (q[i] - 1) for i in retained)
            np.testing.assert_allclose(values["distance"][at], D, rtol=1e-6, atol=1e-12)
            wanted = ref.distance_to_retrained(near.epsilon, max(slack, 0.0))
            np.testing.assert_allclose(values["distance_bound"][at], wanted, rtol=1e-2)
            assert wanted * (1 + 1e-9) >= D
            hat = ref.gradient_ascent(W, X, y, u, lam, s, forget)
            tau = ref.one_minus_cos(np.append(best, 0.0), np.append(hat, lane.outside))
            np.testing.assert_allclose(values["tau"][at], tau, rtol=1e-5)


def test_the_network_trained_again_starts_from_the_same_weights(blocks):
    """The key of the record gives its own training again; on the retained points alone the network ends nearer to the
    step's outcome than to the untouched network."""
    record = lanes.one_lane(lanes.recorded(blocks[0].shape, lanes.GRID)[1], 3)
    record = jax.tree.map(jnp.asarray, record)
    key = jax.random.wrap_key_data(record.train_key, impl="threefry2x32")
    again = ga.train.train(key, blocks[0].shape.network(), record.data)
    np.testing.assert_allclose(again.params, record.run.params, rtol=1e-9)
    for block in blocks:
        for name in ("to_trained_parameters", "to_trained_values"):
            step, untouched_gap = np.moveaxis(np.asarray(block.results[SUITE.name][name]), -1, 0)
            assert step.shape == (24, 2, 2)
            assert np.all(step >= 0)
            assert np.mean(step < untouched_gap) > 0.95
            if block.shape.model == "linear":
                assert np.max(step) < 1e-2


def test_picture(blocks):
    words = ("dimension $d$", r"\tilde\varepsilon", "retrained network", r"1-\cos\angle", "fresh points")
    figure = lanes.assert_picture(TESTED, blocks, lanes.GRID, words)
    assert len(figure.axes) == 2
