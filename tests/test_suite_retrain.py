"""Suite retrain: it passes, it can fail, its numbers are those of the reference, its picture says what it shows."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recorded as lanes
import reference as ref

import gaunlearn_jax as ga
from gaunlearn_jax import Reason
from verify.suites import retrain
from verify.suites.retrain import SUITE

bound = retrain.distance_bound


def untouched(e):
    """The evaluation with theta itself, no step taken, in place of the projection certificate."""
    other = dataclasses.replace(e)
    near = dataclasses.replace(e.certificates["projection"], params=e.point.params)
    other.__dict__.update(e.__dict__ | {"certificates": e.certificates | {"projection": near}})
    return other


def evaluate(e):
    """The suite and its mutants in one program."""
    mutants = {
        "half": {"distance_bound": lambda e: 0.5 * bound(e)},
        "no_slack": {"distance_bound": lambda e: e.certificates["projection"].epsilon},
        "no_hypothesis": {"unless": lambda condition, reason: jnp.zeros((), int)},
    }
    out = SUITE.evaluate(e) | lanes.mutants_of(SUITE, e, retrain, mutants)
    return out | lanes.mutants_of(SUITE, untouched(e), retrain, {"untouched": {}})


TESTED = dataclasses.replace(SUITE, evaluate=evaluate)


def test_holds_everywhere_it_speaks(table):
    honest = lanes.of_mutant(table, "")
    assert not any(row["violated"] or row["inconclusive"] for row in honest)
    share = lanes.shares(lanes.named(honest, strength="instance"))
    assert len(share) == 2 * 2 * 2 * 2
    assert min(value for key, value in share.items() if key[-1] == 1e8) > 0.9
    for row in honest:  # theta* of the first solve either is a KKT point for T, or is said not to be one
        if row["strength"] == "exact":
            assert set(row["reasons"]) <= {Reason.NOT_KKT.text}
            assert row["holds"] + row["not_applicable"] + row["unconverged"] == lanes.GRID.seeds
    assert lanes.count(honest, "holds", strength="exact", model="relu") > 0
    assert all(row["discriminating"] > 0.9 for row in lanes.named(honest, strength="instance"))


@pytest.mark.parametrize(
    ("mutant", "where", "least"),
    [
        ("half", {"model": "relu", "theta": "limit"}, 1),
        ("no_slack", {"model": "relu", "theta": "trained"}, 10),
        ("untouched", {"quantity": "distance"}, 150),
        ("no_hypothesis", {"model": "relu", "quantity": "epsilon"}, 1),
    ],
)
def test_it_can_fail(table, mutant, where, least):
    assert lanes.count(lanes.of_mutant(table, mutant), "violated", **where) >= least


@pytest.mark.parametrize("number", [3, 20])
@pytest.mark.parametrize("theta", [0, 1])
def test_one_lane_against_the_reference(blocks, number, theta):
    """theta* by cutting planes and nonnegative least squares, for one and for two forgotten points."""
    for block in blocks:
        record = lanes.one_lane(lanes.recorded(block.shape, lanes.GRID)[1], number)
        values = lanes.lane_values(block, TESTED, number)
        linear = block.shape.model == "linear"
        point = record.theta("limit" if theta else "trained")
        X, y, m = record.data.points, record.data.labels, block.shape.m
        u = np.asarray(block.shape.network().output_weights)
        s, lam, W = point.selection, point.multipliers, point.params
        for at, k in enumerate(lanes.GRID.forget):
            forget = [int(i) for i in record.order[:k]]
            retained = [i for i in range(m) if i not in forget]
            near = ref.projection_certificate(
                W, point.preactivations, X, y, u, lam, s, forget, orthogonal=float(point.orthogonal_norm)
            )
            best, _, _ = ref.solve_pattern(X, y, u, s > 0.5, retained, linear)
            D = np.hypot(np.linalg.norm(near.params - best), float(point.orthogonal_norm))
            q = ref.margins_of(point.preactivations, y, u, 1.0 if linear else 0.0)
            slack = sum(lam[i] * (q[i] - 1) for i in retained)
            np.testing.assert_allclose(values["distance"][theta, at], D, rtol=1e-6, atol=1e-12)
            wanted = ref.distance_to_retrained(near.epsilon, max(slack, 0.0))
            np.testing.assert_allclose(values["distance_bound"][theta, at], wanted, rtol=1e-2)
            assert wanted * (1 + 1e-9) >= D
            hat = ref.gradient_ascent(W, X, y, u, lam, s, forget)
            tau = ref.one_minus_cos(np.append(best, 0.0), np.append(hat, float(point.orthogonal_norm)))
            np.testing.assert_allclose(values["tau"][theta, at], tau, rtol=1e-5)


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
