"""Suite estimators: it passes, it can fail, its numbers are those of the reference, its picture says what it shows;
and the public functions behind it."""

from __future__ import annotations

import dataclasses
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference as ref

import gaunlearn_jax as ga
from gaunlearn_jax.unlearn.estimators import estimate_multipliers, estimation_error, multipliers_from_loss
from suites import recorded as lanes
from verify.run.plan import shapes_of
from verify.suites import estimators as suite_module
from verify.suites.check import Check
from verify.suites.estimators import SUITE

library = suite_module.estimators
formula = library.step_epsilon


def halved(*args):
    return tuple(0.5 * bound for bound in estimation_error(*args))


def evaluate(e):
    """The suite and its mutants in one program."""
    wrong = mock.Mock(wraps=library, estimate_multipliers=lambda *args: 1.5 * estimate_multipliers(*args))
    mutants = {
        "wrong": {"estimators": wrong},
        # three that touch different rows: half the error bound, no effect of the error, another h'
        "other": {
            "estimators": mock.Mock(
                wraps=library,
                estimation_error=halved,
                effect=lambda problem, *_: jnp.zeros(problem.num_rows),
                step_epsilon=lambda *args: formula(*args[:4], 1.5 * args[4], args[5]),
            ),
        },
    }
    return SUITE.evaluate(e) | lanes.mutants_of(SUITE, e, suite_module, mutants)


TESTED = dataclasses.replace(SUITE, evaluate=evaluate)


def test_holds_everywhere_it_speaks(table):
    honest = lanes.passed(table, 2 * 2 * 5, dims=(1e8,))
    assert all(row["discriminating"] > 0.9 for row in lanes.named(honest, strength="estimated"))


test_it_can_fail = lanes.can_fail(
    ("wrong", {"strength": "instance", "quantity": "multiplier"}, 150),
    ("wrong", {"strength": "coarse", "quantity": "multiplier"}, 100),
    ("wrong", {"strength": "estimated"}, 100),
    ("other", {"strength": "instance", "quantity": "multiplier"}, 10),
    ("other", {"strength": "instance", "quantity": "epsilon", "theta": "limit"}, 10),
    ("other", {"strength": "exact"}, 150),
)


def test_one_lane_against_the_reference(seen):
    for lane in seen:
        values, (X, y, u, W, Z, lam, s) = lane.values, lane.arrays
        own_epsilon = float(lane.point.epsilon)
        for at, forget, _ in lane.forgotten():
            estimate, errors, bounds = np.array(lam), [], []
            for r in forget:
                if lane.linear:
                    size = X[r] @ X[r]
                    estimate[r] = y[r] * (W[0] @ X[r]) / size
                    crossed = sum(lam[i] * abs(X[i] @ X[r]) for i in range(lane.m) if i != r)
                    bound = (crossed + own_epsilon * np.sqrt(size)) / size
                else:
                    estimate[r], bound = ref.estimate_multiplier(r, Z, X, y, u, lam, s, own_epsilon)
                errors.append(abs(estimate[r] - lam[r]) / lam[r])
                bounds.append(bound / lam[r])
            np.testing.assert_allclose(values["error_estimate"][at], max(errors), rtol=1e-6, atol=1e-13)
            np.testing.assert_allclose(values["error_bound"][at], max(bounds), rtol=1e-6, atol=1e-12)
            # the step made with the estimate: theta - (I - P) h', multipliers of the retained points
            changed = ref.projection_certificate(W, Z, X, y, u, estimate, s, forget, orthogonal=lane.outside)
            got = values["projection/instance/epsilon"].lhs[at]
            np.testing.assert_allclose(got, changed.epsilon, rtol=1e-8, atol=1e-13)
            np.testing.assert_allclose(values["epsilon_estimate"][at], changed.epsilon, rtol=1e-8, atol=1e-13)


def test_the_forgotten_point_beats_loss_and_fit_in_high_dimension(blocks):
    relu = next(block for block in blocks if block.shape.model == "relu")
    arrays = {name: v for name, v in relu.results[SUITE.name].items() if not isinstance(v, Check)}
    median = {name: np.median(np.asarray(v)[12:, 1]) for name, v in arrays.items()}  # d = 1e8, exact points
    assert median["error_estimate"] < 0.1 * min(median["error_loss"], median["error_fit"])
    assert median["error_loss"] < 0.05
    assert median["epsilon_estimate"] < 0.5 * min(median["epsilon_loss"], median["epsilon_fit"])
    assert median["epsilon_theorem"] <= median["epsilon_estimate"] * (1 + 1e-9)


def test_picture(blocks):
    words = ("dimension $d$", r"\hat\lambda_r-\lambda_r", "forgotten point alone", r"\ell'", "bound")
    figure = lanes.assert_picture(TESTED, blocks, lanes.GRID, words)
    assert [len(ax.lines) for ax in figure.axes] == [4, 5]


# --- the public functions --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def solved():
    """A network solved exactly, on six points in a dimension of 1e8, and a mask of two forgotten points."""
    shape = next(s for s in shapes_of(lanes.GRID, (SUITE,)) if s.model == "relu")
    record = lanes.one_lane(lanes.recorded(shape, lanes.GRID)[1], 20)
    record = jax.tree.map(jnp.asarray, record)
    return shape.network(), record.data, record.run, record.limit, ga.data.forget_mask(record.data, [1, 4])


def test_a_point_and_its_params_give_the_same_estimate(solved):
    net, data, _, point, forget = solved
    from_point = np.asarray(estimate_multipliers(net, data, point, forget))
    from_params = np.asarray(estimate_multipliers(net, data, point.params, forget))
    assert np.any(np.asarray(point.preactivations) == 0)
    assert np.array_equal(from_point != 0, np.asarray(forget))
    np.testing.assert_allclose(from_params, from_point, rtol=1e-12)
    near, far = estimation_error(net, data, point, forget)
    off = np.abs(from_point - np.where(np.asarray(forget), np.asarray(point.multipliers), 0.0))
    assert np.all(off <= np.asarray(near) + 1e-13)
    assert np.all(np.asarray(near) <= np.asarray(far) + 1e-15)


def test_only_the_forgotten_point_is_read(solved):
    net, data, _, point, forget = solved
    other = data.points.at[0].multiply(3.0)  # a retained point: its row of Z does not matter either
    changed = dataclasses.replace(data, points=other)
    moved = dataclasses.replace(point, preactivations=point.preactivations.at[:, 0].set(1.0))
    before, after = (estimate_multipliers(net, d, p, forget) for d, p in ((data, point), (changed, moved)))
    np.testing.assert_array_equal(np.asarray(before), np.asarray(after))


def test_a_point_without_active_neurons_has_no_estimate(solved):
    net, data, _, point, forget = solved
    dead = dataclasses.replace(point, preactivations=point.preactivations.at[:, 1].set(-1.0))
    assert estimate_multipliers(net, data, dead, forget)[1] == 0
    near, _ = estimation_error(net, data, dead, forget)
    assert np.isinf(near[1])
    assert np.isfinite(near[4])


def test_leaky_networks_are_read_through_their_active_neurons(solved):
    """On orthonormal points w_j = sum_i u_j y_i lambda_i s_ji x_i is an exact KKT point, s = 1 on same-sign pairs."""
    _, data, _, point, forget = solved
    net = ga.models.TwoLayerLeakyReLU(16, negative_slope=0.2)
    data = dataclasses.replace(data, points=jnp.eye(6))
    lam = 1.0 + jnp.arange(6.0)
    problem = net.problem(data)
    s = jnp.where(problem.free, 0.2, 1.0)
    params = problem.coefficients(lam, s)
    point = dataclasses.replace(
        point, params=params, preactivations=params, selection=s, multipliers=lam, epsilon=jnp.zeros(())
    )
    np.testing.assert_allclose(estimate_multipliers(net, data, point, forget), jnp.where(forget, lam, 0.0), rtol=1e-14)
    np.testing.assert_allclose(estimation_error(net, data, point, forget), 0.0, atol=1e-15)


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
def test_multipliers_from_the_loss_have_the_size_of_the_fit(solved, loss):
    _, _, run, point, _ = solved
    guessed = multipliers_from_loss(run.margins, jnp.linalg.norm(point.params), loss)
    rescaled = run.margins / jnp.min(run.margins)
    np.testing.assert_allclose(float(jnp.sum(guessed * rescaled)), float(jnp.sum(point.params**2)), rtol=1e-12)
    np.testing.assert_allclose(np.asarray(guessed), np.asarray(point.multipliers), rtol=0.1)


@pytest.mark.usefixtures("unchecked")
def test_wrong_shapes_are_refused(solved):
    net, data, _, point, forget = solved
    with pytest.raises(ValueError, match=r"forget has shape \(5,\), expected \(6,\)"):
        estimate_multipliers(net, data, point, forget[:5])
    with pytest.raises(ValueError, match="params has shape"):
        estimate_multipliers(net, data, point.params[:3], forget)
    with pytest.raises(ValueError, match="forget has shape"):
        estimation_error(net, data, point, forget[:5])
