"""Suite identity: it passes, it can fail, its numbers are those of the reference, its picture says what it shows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import recorded as lanes
import reference as ref

from gaunlearn_jax import Reason
from verify.grid import Grid
from verify.suites import identity
from verify.suites.identity import SUITE

separation, witness = identity.separation, identity.witness


def with_floor(e, factor):
    """The evaluation with another value for B_T."""
    other = dataclasses.replace(e)
    other.__dict__.update(e.__dict__ | {"certificates": e.certificates, "norm_floor": factor * e.norm_floor})
    return other


def halfway(e, name):
    """A point between theta and theta' with the latter's small epsilon: no KKT point at all."""
    found = witness(e, name)
    return found._replace(params=(found.params + e.point.params) / 2)


def evaluate(e):
    """The suite and its mutants in one program."""
    mutants = {
        "farther": {"separation": lambda e, epsilon: 1.01 * separation(e, epsilon)},
        "halfway": {"witness": halfway},
        "exact": {"separation": lambda e, epsilon: separation(e, 0 * epsilon)},
    }
    out = SUITE.evaluate(e) | lanes.mutants_of(SUITE, e, identity, mutants)
    return out | lanes.mutants_of(SUITE, with_floor(e, 1.02), identity, {"floor": {}})


TESTED = dataclasses.replace(SUITE, evaluate=evaluate)


def test_holds_everywhere_it_speaks(table):
    honest = lanes.of_mutant(table, "")
    assert not any(row["violated"] or row["inconclusive"] for row in honest)
    share = lanes.shares([row for row in honest if row["certificate"] != "first"])
    assert len({key[:5] for key in share}) == 2 * 2 * (3 + 1)
    assert min(value for key, value in share.items() if key[-1] == 1e8) > 0.9
    for row in lanes.named(honest, certificate="first"):
        assert set(row["reasons"]) <= {Reason.NOT_KKT.text}
        assert row["holds"] > 0
    assert all(row["discriminating"] > 0.9 for row in lanes.named(honest, certificate="projection"))


@pytest.mark.parametrize(
    ("mutant", "where", "least"),
    [
        ("farther", {"theta": "limit", "quantity": "separation"}, 100),
        ("halfway", {"quantity": "separation"}, 500),
        # at epsilon' = 0 the bound would hold for exact KKT points only, which these are not
        ("exact", {"certificate": "exact:projection", "theta": "trained"}, 1),
        ("floor", {"quantity": "norm", "model": "linear"}, 90),
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
        outside = float(point.orthogonal_norm)
        for at, k in enumerate(lanes.GRID.forget):
            retained = [i for i in range(m) if i not in record.order[:k]]
            alpha = ref.angle_to_span(point.params, X, retained, outside)
            np.testing.assert_allclose(values["identity_bound"][theta, at], 1 - np.cos(alpha), rtol=1e-9)
            best, _, _ = ref.solve_pattern(X, y, u, point.selection > 0.5, retained, linear)
            gap = ref.one_minus_cos(np.append(best, 0.0), np.append(point.params, outside))
            np.testing.assert_allclose(values["identity_gap"][theta, at], gap, rtol=1e-6)
            near = ref.projection_certificate(
                point.params, point.preactivations, X, y, u, point.multipliers, point.selection,
                [int(i) for i in record.order[:k]], orthogonal=outside,
            )  # fmt: skip
            floor = np.linalg.norm(best) if linear else np.sqrt(ref.norm_floor_sq(X @ X.T, y, u, retained))
            angle = ref.identity_separation(alpha, near.epsilon, floor)
            check = values["projection/instance/separation"]
            np.testing.assert_allclose(check.lhs[theta, at], 1 - np.cos(angle), rtol=1e-6)
            norm = values["retrain/instance/norm"]
            np.testing.assert_allclose(norm.lhs[theta, at], floor, rtol=1e-6)


def test_the_measured_case():
    """m = 12, k = 2, networks: the untouched model at 0.086 with a bound of 0.086, the step at 4e-7 and 2e-11."""
    grid = Grid(dims=(1e6, 1e10), points=(12,), neurons=(40,), forget=(2,), seeds=8)
    suite = dataclasses.replace(SUITE, models=("relu",))
    (block,) = lanes.blocks_of(suite, grid)
    results = block.results[SUITE.name]
    gap, bound = (np.asarray(results[name])[:, 1, 0] for name in ("identity_gap", "identity_bound"))
    np.testing.assert_allclose(np.median(gap), 0.086, rtol=0.1)
    np.testing.assert_allclose(gap, bound, rtol=1e-3)
    step = np.asarray(results["ascent_gap"])[:, 1, 0]
    for d, wanted in ((1e6, 4e-7), (1e10, 2e-11)):
        assert wanted / 4 < np.median(step[block.d == d]) < wanted * 4


def test_picture(blocks):
    words = ("dimension $d$", r"1-\cos\angle(\theta,\theta^*)", "bound", "untouched / step")
    figure = lanes.assert_picture(TESTED, blocks, lanes.GRID, words)
    assert len(figure.axes) == 2
    assert len(figure.axes[1].collections) == 4  # three bands, and the lanes of the pattern loop
