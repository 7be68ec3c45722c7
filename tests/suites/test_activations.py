"""Suite activations: it passes, it can fail, its numbers are those of the reference, its picture says what it shows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import reference as ref

from gaunlearn_jax import unlearn
from gaunlearn_jax.unlearn import certificates
from suites import recorded as lanes
from verify.suites.activations import SUITE as TESTED

SEEDS = lanes.GRID.seeds


def test_holds_everywhere(table):
    lanes.passed(table, 2 * 5)
    assert not any(row["not_applicable"] for row in table)
    assert {(row["certificate"], row["strength"], row["quantity"]) for row in table} == {
        ("step", "instance", "shift"),
        ("step", "instance", "formula"),
        ("step", "instance", "signs"),
        ("projection", "instance", "preactivations"),
        ("projection", "instance", "signs"),
    }
    # with k = 1 the pair that attains phi gives equality up to the outward margin
    nearest = max(row["worst_ratio"] for row in lanes.named(table, quantity="shift"))
    assert 0.999 < nearest < 1


def test_too_small_a_phi_is_found():
    table = lanes.tallies(TESTED, lanes.blocks_of(TESTED, mutate=lambda r: r._replace(phi=r.phi / 3)))
    assert lanes.count(table, "violated", quantity="shift") > 0.5 * SEEDS
    # a sign counted as provably kept that is not
    assert lanes.count(table, "violated", certificate="step", quantity="signs") > 0


def test_a_step_of_the_wrong_sign_is_found(monkeypatch):
    right = unlearn.gradient_ascent

    def descent(net, data, point, forget, scale=1.0):
        after = right(net, data, point, forget, scale)
        return dataclasses.replace(after, params=2 * point.params - after.params)

    monkeypatch.setattr(unlearn, "gradient_ascent", descent)
    table = lanes.tallies(TESTED, lanes.blocks_of(TESTED))
    assert lanes.count(table, "violated", quantity="formula") > 0.9 * 8 * SEEDS
    assert not lanes.count(table, "violated", certificate="projection")


def test_a_certificate_without_the_projection_is_found(monkeypatch):
    """theta_hat in place of theta_tilde: its pre-activations on T have moved."""
    right = certificates.projection

    def unprojected(net, data, point, forget, scale=1.0):
        after = unlearn.gradient_ascent(net, data, point, forget, scale)
        return dataclasses.replace(right(net, data, point, forget, scale), params=after.params)

    monkeypatch.setitem(certificates.ALL, "projection", unprojected)
    table = lanes.tallies(TESTED, lanes.blocks_of(TESTED))
    assert lanes.count(table, "violated", certificate="projection", quantity="preactivations") > 0.9 * 8 * SEEDS
    limit = lanes.named(table, theta="limit", certificate="projection", quantity="signs")
    assert sum(row["violated"] for row in limit) > 0.9 * 4 * SEEDS  # kinks no longer on the kink


@pytest.mark.parametrize("theta", ["trained", "limit"])
@pytest.mark.parametrize(("number", "k"), [(3, 1), (17, 2)])
def test_one_lane_against_the_reference(blocks, number, k, theta):
    block = blocks[0]
    lane = lanes.seen(block, TESTED, number, ("trained", "limit").index(theta))
    values, n, (X, y, _, W, Z, lam, s) = lane.values, lane.n, lane.arrays
    u = np.array([(-1.0) ** j for j in range(n)]) / np.sqrt(n)
    at, forget, retained = next(case for case in lane.forgotten() if len(case[1]) == k)
    _, phi = ref.data_assumption(X)
    hat = ref.gradient_ascent(W, X, y, u, lam, s, forget)
    kinks = kept = signed = provable = actual = 0
    worst = 0.0
    for i in retained:
        for j in range(n):
            move = -u[j] * sum(lam[r] * y[r] * s[j, r] * float(X[r] @ X[i]) for r in forget)
            per_phi = abs(u[j]) * sum(lam[r] * s[j, r] for r in forget)
            worst = max(worst, abs(move) / per_phi if per_phi > 0 else 0.0)
            np.testing.assert_allclose(float(hat[j] @ X[i]), Z[j, i] + move, atol=1e-12)
            if Z[j, i] == 0:
                kinks += 1
                kept += move == 0
            else:
                signed += 1
                provable += abs(Z[j, i]) > per_phi * phi
                actual += np.sign(Z[j, i] + move) == np.sign(Z[j, i])
    got = values["step/instance/shift"]
    np.testing.assert_allclose(got.lhs[at] / got.rhs[at], worst / phi, rtol=1e-6)
    counts = {"kinks": kinks, "kinks_kept": kept, "signed": signed, "provable": provable, "actual": actual}
    assert {name: int(values[name][at]) for name in counts} == counts
    assert provable <= actual
    if theta == "limit":
        assert kinks > 0


def test_picture(blocks):
    figure = lanes.assert_picture(TESTED, blocks, lanes.GRID, ("dimension $d$", "provably kept", "kink", r"\varphi"))
    assert len(figure.axes) == 2
