"""Suite worthwhile: it passes on data that suit the step and on data that do not, it can fail, its numbers are those of
projections made another way."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference as ref

import gaunlearn_jax as ga
from gaunlearn_jax.base import numerics
from gaunlearn_jax.theory import worthwhile as theory
from suites import recorded as lanes
from verify.instances.grid import Grid
from verify.suites import worthwhile
from verify.suites.beside_nothing import compared
from verify.suites.worthwhile import SUITE

#: seven points: the last one has no duplicate
GRID = Grid(
    dims=(1e4,), points=(7,), neurons=(12,), seeds=16,
    sources=("near_duplicates:c=0.6,0.9", "equicorrelated:c=0.2,0.6", "gaussian"),
)  # fmt: skip


def without_x(problem, point, forget, star):
    """(b) with ||theta*||^2 in place of what the step leaves of it."""
    h, _ = ga.unlearn.ascent_direction(problem, point, forget)
    active = theory.ActiveSpan.of(problem, point, ~forget)
    inside = active.project(h)
    found = theory.tangents(jnp.sum(star**2), jnp.zeros(()), jnp.sum(inside**2), jnp.sum((h - inside) ** 2))
    return found._replace(miss=numerics.norm(active.project(point.params) - star))


def all_certified(e, star):
    found = compared(e, star)
    return found._replace(proved=found.moved)


def evaluate(e):
    if e.shape.source != "near_duplicates":  # mutants are wrong of any data
        return SUITE.evaluate(e)
    mutants = {
        "no_x": {"criterion": without_x},
        "wrong_point": {"leverages": lambda points, retained: theory.leverages(points, jnp.roll(retained, 1))},
        "no_certificate": {"compared": all_certified},
        "no_leverage": {"leverages": lambda points, retained: 0.01 * jnp.ones(points.shape[0])},
    }
    return SUITE.evaluate(e) | lanes.mutants_of(SUITE, e, worthwhile, mutants)


TESTED = dataclasses.replace(SUITE, evaluate=evaluate)


@pytest.fixture(scope="module")
def blocks():
    linear = dataclasses.replace(GRID, models=("linear",))
    networks = dataclasses.replace(GRID, models=("relu",), sources=GRID.sources[:1])
    return lanes.blocks_of(TESTED, linear) + lanes.blocks_of(TESTED, networks)


@pytest.fixture(scope="module")
def table(blocks):
    return lanes.tallies(TESTED, blocks, GRID)


def test_holds_everywhere_it_speaks(table):
    honest = lanes.of_mutant(table, "")
    assert not any(row["violated"] or row["inconclusive"] for row in honest)
    for model in ("linear", "relu"):
        for strength in ("certificate", "criterion", "leverage"):
            assert lanes.count(honest, "holds", model=model, strength=strength, theta="limit") > 20
    assert lanes.count(honest, "holds", strength="certificate", theta="trained") > 100


test_it_can_fail = lanes.can_fail(
    ("no_x", {"quantity": "tangent", "certificate": "no_x:step"}, 20),
    ("wrong_point", {"quantity": "share"}, 20),
    ("no_certificate", {"strength": "certificate"}, 50),
    ("no_leverage", {"quantity": "angle", "strength": "leverage"}, 5),
)


def test_leverage_decides_on_these_data(blocks):
    """Duplicates at cosine 0.9 and a common mean of 0.6: worse than nothing; at 0.6 and 0.2: better."""
    for block in blocks:
        results = block.results[SUITE.name]
        better = np.asarray(results["better"])[:, 1, 0]
        if block.shape.source == "gaussian":
            assert np.mean(better) == 1
        elif block.shape.source == "near_duplicates":
            duplicated = np.asarray(results["leverage"])[:, 1, 0] > 0.1
            assert np.mean(better[duplicated & (block.parameters["c"] == 0.6)]) > 0.9
            assert not np.any(better[duplicated & (block.parameters["c"] == 0.9)])
            assert np.all(better[~duplicated & np.isfinite(np.asarray(results["leverage"])[:, 1, 0])])
        else:
            assert np.mean(better[block.parameters["c"] == 0.2]) == 1
            assert not np.any(better[block.parameters["c"] == 0.6])


def test_one_lane_against_projections_made_another_way(blocks):
    """Leverage by a singular value decomposition, P_U by least squares on the gradients and kinks themselves."""
    for block in blocks:
        record = lanes.one_lane(lanes.recorded(block.shape, GRID)[1], 3)
        net, point = block.shape.network(), record.limit
        X, u = record.data.points, np.asarray(net.output_weights)
        forget = int(record.order[0])
        retained = [i for i in range(7) if i != forget]
        leverage = np.linalg.norm(X[forget] @ ref.projector(X, retained)) ** 2 / np.linalg.norm(X[forget]) ** 2
        if point.multipliers[forget] > 0:
            np.testing.assert_allclose(block.results[SUITE.name]["leverage"][3, 1, 0], leverage, rtol=1e-9, atol=1e-15)
        rows = []
        for i in retained:
            if point.multipliers[i] > 0:
                plus = np.where(point.preactivations[:, i] > 0, 1.0, net.negative_slope)
                kinks = np.flatnonzero(point.preactivations[:, i] == 0) if net.negative_slope < 1 else []
                plus[kinks] = 0.0
                rows.append(np.outer(u * plus, X[i]).ravel())
                rows += [np.outer(np.arange(len(u)) == j, X[i]).ravel() for j in kinks]
        theta = np.asarray(point.params).ravel()
        basis = np.stack(rows).T
        wanted = basis @ np.linalg.lstsq(basis, theta, rcond=None)[0]
        mask = np.arange(7) != forget
        problem = net.problem(jax.tree.map(jnp.asarray, record.data))
        active = theory.ActiveSpan.of(problem, jax.tree.map(jnp.asarray, point), jnp.asarray(mask))
        np.testing.assert_allclose(np.asarray(active.project(jnp.asarray(point.params))).ravel(), wanted, atol=1e-9)


def test_the_forty_five_degree_rule_fails_with_slack():
    """e = 0 but lambda_i (q_i - 1) > 0: leverage well below one half, and yet the step is worse than nothing."""
    rng, worse = np.random.default_rng(1), []
    y, forget = np.array([1.0, -1.0, 1.0]), np.array([True, False, False])
    for _ in range(300):
        points = rng.standard_normal((3, 4))
        w = points.T @ (rng.lognormal(0, 2, 3) * y)
        if np.min(y * (points @ w)) <= 0:
            continue
        theta = w / np.min(y * (points @ w))
        lam = np.linalg.lstsq(points.T, theta, rcond=None)[0] * y
        assert np.min(lam) > -1e-9
        star = points[1:].T @ np.linalg.solve(points[1:] @ points[1:].T, y[1:])
        if np.min(np.linalg.solve(points[1:] @ points[1:].T, y[1:]) * y[1:]) < 0:
            continue  # not both are active
        hat = theta - lam[0] * y[0] * points[0]
        leverage = float(theory.leverages(jnp.asarray(points), jnp.asarray(~forget))[0])
        step, nothing = (float(theory.angle(jnp.asarray(v), jnp.asarray(star))) for v in (hat, theta))
        worse.append(leverage < 0.3 and step > nothing + 1e-3)
    assert sum(worse) > 0


def test_picture():
    grid = Grid(dims=(1e4, 1e8), points=(5,), neurons=(8,), seeds=3, models=("linear",), sources=("gaussian",))
    blocks = lanes.blocks_of(SUITE, grid)
    figure = lanes.assert_picture(SUITE, blocks, grid, ("dimension $d$", "angle", "provably better"))
    assert len(figure.axes) == 2
