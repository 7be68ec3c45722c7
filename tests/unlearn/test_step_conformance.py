"""Every row of the registry of steps: shapes, batches, forget masks, pre-activations, and a second implementation.

A row of one's own passes the same checks; broken ones do not.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.steps import REFERENCE, Instance, active_set_candidate

import gaunlearn_jax as ga
from gaunlearn_jax.unlearn import STEPS, Step

KEY = jax.random.key(0, impl="threefry2x32")
POINTS, DIM = 7, 30
#: two single points, a pair, nothing, everything
FORGET = ([1], [4], [0, 5], [], list(range(POINTS)))
NETS = {
    "linear": ga.models.Linear(),
    "relu": ga.models.TwoLayerReLU(16),
    "leaky": ga.models.TwoLayerLeakyReLU(6, negative_slope=0.2),
}
#: parameters at which a step is tried beside its defaults
OTHERS = {
    "ascent": {"scale": 0.5}, "nearest": {"nearest": 1.0}, "repaired": {"passes": 2.0}, "newton": {"size": 5.0},
    "influence": {"size": 5.0}, "neggrad_plus": {"weight": 0.3}, "fine_tuning": {"time": 30.0, "start": 0.01},
}  # fmt: skip


class Solved(NamedTuple):
    net: Any
    data: Any
    point: Any


@pytest.fixture(scope="module", params=list(NETS))
def solved(request: pytest.FixtureRequest) -> Solved:
    """Seven points that share a mean, and an exact KKT point of a network on them."""
    rng = np.random.default_rng(8)
    x = rng.standard_normal((POINTS, DIM)) / np.sqrt(DIM) + 0.15 * rng.standard_normal(DIM)
    net, data = NETS[request.param], ga.data.from_points(x, [1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0])
    run = ga.train.train(KEY, net, data, num_steps=200, checkpoints=1)
    point = ga.kkt.limit_point(net, data, run)
    assert int(point.status) == 0
    return Solved(net, data, point)


def masks() -> jax.Array:
    return jnp.stack([jnp.isin(jnp.arange(POINTS), jnp.asarray(forget, int)) for forget in FORGET])


def made(step: Step, solved: Solved, mask: Any, **parameters: Any) -> Any:
    return step.make(solved.net, solved.data, solved.point, mask, **parameters)


def instance(solved: Solved, mask: jax.Array) -> Instance:
    net, data, point = solved
    arrays = (data.points, data.labels, net.output_weights, point.params, point.preactivations, point.multipliers)
    x, y, u, w, z, lam = (np.asarray(v) for v in arrays)
    return Instance(x, y, u, w, z, lam, np.asarray(point.selection), np.flatnonzero(mask).tolist(), net.negative_slope)


def conforms(step: Step, solved: Solved, reference: Any) -> None:
    """What every row is held to."""
    net, data, point = solved
    batch = jax.jit(jax.vmap(lambda mask: made(step, solved, mask)))(masks())
    n, p = point.params.shape
    assert batch.params.shape == (len(FORGET), n, p)
    assert batch.preactivations.shape == (len(FORGET), n, POINTS)
    assert batch.log_step_size.shape == (len(FORGET), POINTS)
    assert batch.valid.dtype == bool
    assert np.asarray(batch.status)[:-1].max() == ga.Status.OK
    assert int(batch.status[-1]) == ga.Status.BAD_INPUT, "forgetting every point must have a status"
    size = float(np.linalg.norm(point.params))
    agree = jax.vmap(net.problem(data).preactivations)(batch.params) - batch.preactivations
    assert float(jnp.max(jnp.abs(agree[:-1]))) < 1e-12 * size, "params and pre-activations disagree"
    if step.name != "fine_tuning":  # which trains on, whatever is forgotten
        np.testing.assert_allclose(batch.params[3], point.params, atol=1e-12 * size)
    for at, mask in enumerate(masks()[:3]):
        wanted = reference(instance(solved, mask))
        np.testing.assert_allclose(batch.params[at], wanted, atol=1e-9 * size, err_msg=f"forgetting {FORGET[at]}")


def speaks(step: Step, solved: Solved) -> bool:
    return not (step.linear_only and solved.net.negative_slope != 1)


def references(step: Step, solved: Solved) -> bool:
    """The reference solves exact points of ReLU networks and linear models alone."""
    return step.name not in ("retraining", "active_set") or solved.net.negative_slope in (0, 1)


def test_every_step_has_a_reference():
    assert set(REFERENCE) == set(STEPS.names)


@pytest.mark.parametrize("name", STEPS.names)
def test_a_row_conforms(name, solved):
    step = STEPS[name]
    if not speaks(step, solved):
        with pytest.raises(ValueError, match="need a linear model"):
            made(step, solved, masks()[0])
    elif references(step, solved):
        conforms(step, solved, REFERENCE[name])


@pytest.mark.parametrize("name", OTHERS)
def test_parameters_of_a_row(name, solved):
    step, mask = STEPS[name], masks()[2]
    if not speaks(step, solved):
        return
    wanted = REFERENCE[name](instance(solved, mask), **OTHERS[name])
    traced = jax.jit(lambda values: made(step, solved, mask, **values).params)(OTHERS[name])
    np.testing.assert_allclose(traced, wanted, atol=1e-9 * float(np.linalg.norm(solved.point.params)))


def _backwards(*args: Any) -> Any:
    ascent = ga.unlearn.gradient_ascent(*args)
    return dataclasses.replace(ascent, params=2 * args[2].params - ascent.params)


def _stale(*args: Any) -> Any:
    return dataclasses.replace(ga.unlearn.gradient_ascent(*args), preactivations=args[2].preactivations)


def _silent(net: Any, data: Any, point: Any, forget: Any) -> Any:
    return dataclasses.replace(ga.unlearn.gradient_ascent(net, data, point, forget), status=point.status)


@pytest.mark.parametrize("broken", [_backwards, _stale, _silent])
def test_a_broken_row_fails(broken, solved):
    with pytest.raises(AssertionError):
        conforms(Step("mine", "broken", broken), solved, REFERENCE["ascent"])


def test_the_active_set_step_says_where_it_holds(solved):
    """Its own re-check against multipliers found by least squares."""
    if solved.net.negative_slope not in (0, 1):
        return
    for mask in masks()[:3]:
        assert bool(made(STEPS["active_set"], solved, mask).valid) == active_set_candidate(instance(solved, mask))[1]


def test_an_invalid_active_set_step_is_the_retrained_model():
    """Opposite points: without one of a close pair the other must carry more, and a far one enters."""
    x = np.array([[1.0, 0.2], [1.0, -1.5], [-1.0, 0.1], [3.0, 4.0]])
    net, data = ga.models.Linear(), ga.data.from_points(x, [1.0, 1.0, -1.0, 1.0])
    point = ga.kkt.limit_point(net, data, ga.train.train(KEY, net, data, num_steps=100, checkpoints=1))
    forget = point.multipliers == jnp.max(point.multipliers)
    after = ga.unlearn.active_set_step(net, data, point, forget)
    best = ga.unlearn.retraining(net, data, point, forget)
    assert not bool(after.valid)
    np.testing.assert_array_equal(after.params, best.params)


def test_projected_words(solved):
    with pytest.raises(ValueError, match="subspace is 'some', expected one of mean, nearest, active, all"):
        ga.unlearn.projected_ascent(*solved, masks()[0], "some")
