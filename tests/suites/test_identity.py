"""Suite identity: it passes, it can fail, its numbers are those of the reference, its picture says what it shows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import reference as ref

from gaunlearn_jax import Reason
from suites import recorded as lanes
from verify.instances.grid import Grid
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
    judged = [row for row in table if row["certificate"] != "first"]
    lanes.passed(judged, 2 * 2 * (3 + 1), dims=(1e8,))
    honest = lanes.of_mutant(table, "")
    for row in lanes.named(honest, certificate="first"):
        assert row["violated"] == row["inconclusive"] == 0
        assert set(row["reasons"]) <= {Reason.NOT_KKT.text}
        assert row["holds"] > 0
    assert all(row["discriminating"] > 0.9 for row in lanes.named(honest, certificate="projection"))


test_it_can_fail = lanes.can_fail(
    ("farther", {"theta": "limit", "quantity": "separation"}, 100),
    ("halfway", {"quantity": "separation"}, 500),
    # at epsilon' = 0 the bound would hold for exact KKT points only, which these are not
    ("exact", {"certificate": "exact:projection", "theta": "trained"}, 1),
    ("floor", {"quantity": "norm", "model": "linear"}, 90),
)


def test_one_lane_against_the_reference(seen):
    for lane in seen:
        values, (X, y, u, W, Z, lam, s) = lane.values, lane.arrays
        for at, forget, retained in lane.forgotten():
            alpha = ref.angle_to_span(W, X, retained, lane.outside)
            np.testing.assert_allclose(values["identity_bound"][at], 1 - np.cos(alpha), rtol=1e-9)
            best, _, _ = ref.solve_pattern(X, y, u, s > 0.5, retained, lane.linear)
            gap = ref.one_minus_cos(np.append(best, 0.0), np.append(W, lane.outside))
            np.testing.assert_allclose(values["identity_gap"][at], gap, rtol=1e-6)
            near = ref.projection_certificate(W, Z, X, y, u, lam, s, forget, orthogonal=lane.outside)
            floor = np.linalg.norm(best) if lane.linear else np.sqrt(ref.norm_floor_sq(X @ X.T, y, u, retained))
            angle = ref.identity_separation(alpha, near.epsilon, floor)
            check = values["projection/instance/separation"]
            np.testing.assert_allclose(check.lhs[at], 1 - np.cos(angle), rtol=1e-6)
            norm = values["retrain/instance/norm"]
            np.testing.assert_allclose(norm.lhs[at], floor, rtol=1e-6)


@pytest.mark.slow
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
