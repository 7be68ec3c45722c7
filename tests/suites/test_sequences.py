"""Suite sequences: it passes, it can fail, its numbers are those of the reference, its picture says what it shows."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import reference as ref

from gaunlearn_jax import Reason
from suites import recorded as lanes
from verify.suites import sequences
from verify.suites.sequences import SUITE as TESTED

SEEDS = lanes.GRID.seeds
LINEAR, NETWORKS = (dataclasses.replace(TESTED, models=(model,)) for model in ("linear", "relu"))


def relu_block(blocks):
    return next(block for block in blocks if block.shape.model == "relu")


def test_every_order_gives_the_same_step(table):
    lanes.passed(table, 8)  # two models, two theta, params and pre-activations
    assert not any(row["not_applicable"] for row in table)


def test_fresh_gradients_differ_at_kinks(blocks):
    results = relu_block(blocks).results["sequences"]
    assert np.median(results["difference_fresh_limit"]) > 1e-3
    assert np.median(results["epsilon_fresh_limit"]) > 10 * np.median(results["epsilon_kept_limit"])
    linear = next(block for block in blocks if block.shape.model == "linear").results["sequences"]
    assert np.max(linear["difference_fresh_limit"]) < 1e-13  # the gradients of a linear model never change


def test_gradients_that_are_not_kept_are_found(monkeypatch):
    right = sequences.one_after_another
    monkeypatch.setattr(
        sequences, "one_after_another", lambda net, data, point, order, _: right(net, data, point, order, "fresh")
    )
    table = lanes.tallies(TESTED, lanes.blocks_of(NETWORKS))
    limit = [row for row in lanes.named(table, model="relu", quantity="params") if "limit" in row.values()]
    assert sum(row["violated"] for row in limit) > 0.7 * 2 * SEEDS


def test_a_single_point_is_no_sequence(monkeypatch):
    monkeypatch.setattr(sequences, "SET_SIZE", 1)
    table = lanes.tallies(TESTED, lanes.blocks_of(LINEAR))
    assert all(row["holds"] == row["violated"] == 0 for row in table)
    assert {text for row in table for text in row["reasons"]} == {Reason.FORGET_SIZE.text}


def fresh_direction(X, y, u, W, Z, lam, order):
    """h' of one order with sigma'(0) = 0 at the current weights, one point after another; kinks stay exact zeros."""
    total, current = np.zeros_like(W), np.array(Z)
    for r in order:
        s = np.array([[float(current[j, i] > 0) for i in range(len(y))] for j in range(len(u))])
        total = total + lam[r] * y[r] * ref.example_gradient(r, X, u, s)
        for j, i in itertools.product(range(len(u)), range(len(y))):
            current[j, i] -= u[j] * lam[r] * y[r] * s[j, r] * float(X[r] @ X[i])
    return total


@pytest.mark.parametrize("theta", ["trained", "limit"])
@pytest.mark.parametrize("number", [1, 14])
def test_one_lane_against_the_reference(blocks, number, theta):
    block = relu_block(blocks)
    record = lanes.one_lane(lanes.recorded(block.shape, lanes.GRID)[1], number)
    values = lanes.lane_values(block, TESTED, number)
    point, X, y, n = record.theta(theta), record.data.points, record.data.labels, block.shape.n
    u = np.array([(-1.0) ** j for j in range(n)]) / math.sqrt(n)
    W, Z, lam, s = point.params, point.preactivations, point.multipliers, point.selection
    forget = [int(r) for r in record.order[: sequences.SET_SIZE]]
    retained = [i for i in range(len(y)) if i not in forget]
    P, h = ref.projector(X, retained), ref.forgotten_part(X, y, u, lam, s, forget)
    promised = ref.projection_certificate(W, Z, X, y, u, lam, s, forget, orthogonal=float(point.orthogonal_norm))
    np.testing.assert_allclose(values[f"epsilon_kept_{theta}"], promised.epsilon, rtol=1e-9)
    np.testing.assert_allclose(values[f"tau_kept_{theta}"], promised.tau, rtol=1e-6)

    def certified(other):
        tilde = W - (other - other @ P)
        residual = tilde - ref.combination(X, y, u, lam, s, retained)
        epsilon = math.hypot(float(np.linalg.norm(residual)), float(point.orthogonal_norm))
        return epsilon, float(np.linalg.norm(other - h) / np.linalg.norm(h))

    fresh = [certified(fresh_direction(X, y, u, W, Z, lam, order)) for order in itertools.permutations(forget)]
    np.testing.assert_allclose(values[f"epsilon_fresh_{theta}"], max(e for e, _ in fresh), rtol=1e-9)
    np.testing.assert_allclose(values[f"difference_fresh_{theta}"], max(d for _, d in fresh), rtol=1e-9, atol=1e-14)


def test_refit_of_one_lane_against_the_reference(blocks):
    """lambda and s measured afresh before the second and the third point, by column generation."""
    block, number, theta = relu_block(blocks), 14, "trained"
    record = lanes.one_lane(lanes.recorded(block.shape, lanes.GRID)[1], number)
    values = lanes.lane_values(block, TESTED, number)
    point, X, y, n = record.theta(theta), record.data.points, record.data.labels, block.shape.n
    u = np.array([(-1.0) ** j for j in range(n)]) / math.sqrt(n)
    forget = [int(r) for r in record.order[: sequences.SET_SIZE]]
    h = ref.forgotten_part(X, y, u, point.multipliers, point.selection, forget)
    W, lam, s = point.params, point.multipliers, point.selection
    left = list(range(len(y)))
    for r in forget:
        if r != forget[0]:
            Z = ref.preactivations(W, X)
            fit = ref.measure_multipliers(Z[:, left], W, X[left], y[left], u)
            assert fit.optimality < 1e-9
            lam, s = np.zeros(len(y)), np.zeros((n, len(y)))
            lam[left], s[:, left] = fit.multipliers, fit.selection
        W = W - lam[r] * y[r] * ref.example_gradient(r, X, u, s)
        left.remove(r)
    difference = float(np.linalg.norm(point.params - W - h) / np.linalg.norm(h))
    np.testing.assert_allclose(values[f"difference_refit_{theta}"], difference, rtol=1e-5, atol=1e-10)


def test_picture(blocks):
    words = ("dimension $d$", r"\varepsilon", r"\lambda", r"\sigma'(0) = 0", "k = 3")
    figure = lanes.assert_picture(TESTED, blocks, lanes.GRID, words)
    assert len(figure.axes) == 4
