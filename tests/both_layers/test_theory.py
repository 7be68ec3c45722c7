"""Formulas of both layers: closed forms point by point, their order, the best fraction, lower bounds by loops."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import both_layers as reference

import gaunlearn_jax as ga
from gaunlearn_jax import both_layers as bl
from gaunlearn_jax.both_layers.steps import Classes

M, N = 6, 8
FORGET = jnp.arange(M) == 0
NAMES = bl.STEPS.names


def sizes(whole, lost=(1, 0)):
    return bl.orthogonal.Sizes(jnp.asarray(whole, float), jnp.asarray(whole, float) - jnp.asarray(lost, float))


def gap(name, some):
    step = bl.STEPS[name]
    return float(bl.orthogonal.gap(some, step.first, step.second(some.classes)))


@pytest.fixture(scope="module")
def point():
    """The exact point of a random pattern."""
    data = ga.data.gaussian(jax.random.key(2), M, 200.0)
    active = jax.random.bernoulli(jax.random.key(3), 0.7, (N, M)).at[:2].set(True)
    signs = jnp.where(jnp.arange(N) % 2 == 0, 1.0, -1.0)
    found = bl.solve_pattern(data, signs, active, jnp.ones(M, bool), jnp.arange(1.0, N + 1))
    assert int(found.status) == 0
    return data, found


@pytest.mark.parametrize(("whole", "lost"), [((2, 1), (1, 0)), ((10, 3), (1, 0)), ((4, 9), (1, 2)), ((5, 0), (1, 0))])
def test_gaps_point_by_point(whole, lost):
    some = sizes(whole, lost)
    for name in NAMES:
        step = bl.STEPS[name]
        second = step.second(some.classes)
        by_sign = {1.0: float(second[0]), -1.0: float(second[1])}
        loops = reference.uniform(dict(zip((1.0, -1.0), whole, strict=True)), dict(zip((1.0, -1.0), lost, strict=True)),
                                  step.first, by_sign)  # fmt: skip
        assert gap(name, some) == pytest.approx(loops, rel=1e-10, abs=1e-30)


def test_order_and_leading_terms():
    for one, other in itertools.product((2, 3, 10, 100), (1, 5, 50)):
        some = sizes((one, other))
        found = [gap(name, some) for name in ("nearest", "half", "first", "full", "nothing")]
        assert found == sorted(found)
        if one == 100:
            share = float(some.classes.share[0])
            for name in NAMES:
                assert gap(name, some) == pytest.approx(float(bl.orthogonal.leading(name, one, share)), rel=0.05)
    assert gap("half", sizes((7, 0))) < 1e-30
    assert gap("first", sizes((7, 0))) == pytest.approx(gap("full", sizes((7, 0))), rel=1e-10)


def test_the_polynomials_of_the_order_have_no_root():
    """Between 2^(-1/4) and 1, where they are positive: the proof that doing nothing is worse than the full step."""
    for coefficients in ([0, 0, -1, 4, -2, 2, 0, -2, 2, -2, 1, -2], [2, -2, 0, 0, -1, 2, 0, 0, -1]):
        p = np.polynomial.Polynomial(coefficients)
        roots = p.roots()
        real = roots[np.abs(roots.imag) < 1e-9].real
        assert not np.any((real > 2**-0.25) & (real < 1 - 1e-9))
        assert p(0.9) > 0


@pytest.mark.parametrize(("whole", "lost"), [((4, 6), (1, 0)), ((4, 6), (1, 2)), ((8, 2), (3, 0))])
def test_the_nearest_fraction_against_a_grid(whole, lost):
    some = sizes(whole, lost)
    best = gap("nearest", some)
    fractions = jnp.linspace(0.0, 1.0, 201)
    every = jax.vmap(lambda a: jax.vmap(lambda b: bl.orthogonal.gap(some, 1.0, jnp.stack([a, b])))(fractions))(
        fractions
    )
    assert best <= float(jnp.min(every)) + 1e-15
    assert best == pytest.approx(float(jnp.min(every)), rel=1e-2)


def test_a_forgotten_class_takes_the_full_step():
    c = bl.STEPS["nearest"].second(Classes(jnp.asarray([0.0, 1.0]), jnp.asarray([0.4, 0.6])))
    assert float(c[0]) == 1.0


def test_theorem_n_says_nothing_outside_its_hypotheses():
    some = sizes((4, 6))
    assert float(bl.orthogonal.floor(some, 1.0, jnp.asarray([4.1, 0.0]))) == 0
    assert float(bl.orthogonal.floor(some, 1.0, jnp.asarray([-0.1, 0.0]))) == 0
    assert float(bl.orthogonal.floor(sizes((1, 6)), 1.0, jnp.zeros(2))) == 0
    assert float(bl.orthogonal.floor(some, 1.0, jnp.ones(2))) > 0


def test_steps_and_gaps_by_loops(point):
    data, p = point
    args = (data.points, data.labels, p.weights.params, p.weights.output_weights, p.multipliers, p.selection)
    x, y, w, a, lam, s = map(np.asarray, args)
    mine = [np.sum(lam[y == c]) for c in (1, -1)]
    kept = [np.sum(lam[(y == c) & ~np.asarray(FORGET)]) for c in (1, -1)]
    for name in NAMES:
        step = bl.STEPS[name]
        classes = Classes(jnp.asarray(kept) / jnp.asarray(mine), jnp.asarray(mine) / np.sum(lam))
        second = step.second(classes)
        loops = reference.stepped(
            x, y, w, a, lam, s, FORGET, step.first, {1.0: float(second[0]), -1.0: float(second[1])}
        )
        made = bl.unlearned(name, data, p, FORGET)
        np.testing.assert_allclose(made.params, loops[0], atol=1e-14)
        np.testing.assert_allclose(made.output_weights, loops[1], atol=1e-14)
        np.testing.assert_allclose(made.preactivations, made.params @ data.points.T, atol=1e-13)
        assert float(bl.gap(made, p.weights)) == pytest.approx(reference.gap(loops, (w, a)), rel=1e-9, abs=1e-25)


def test_certificates_by_loops(point):
    data, p = point
    members = np.flatnonzero(~np.asarray(FORGET))
    x, y = np.asarray(data.points), np.asarray(data.labels)
    for make in bl.certificates.ALL.values():
        made = make(data, p, FORGET)
        assert int(made.status) == 0
        got = reference.residuals(
            x, y, np.asarray(made.weights.params), np.asarray(made.weights.output_weights),
            np.asarray(made.multipliers), np.asarray(made.selection), members,
        )  # fmt: skip
        np.testing.assert_allclose([made.epsilon, made.delta, made.margin], got, atol=1e-12)


def test_lower_bounds_by_loops(point):
    data, p = point
    members = np.flatnonzero(~np.asarray(FORGET))
    x = np.asarray(data.points)
    for name in NAMES:
        hat = bl.unlearned(name, data, p, FORGET)
        w, a = np.asarray(hat.params), np.asarray(hat.output_weights)
        found = bl.bounds.lower_bounds(data, hat, ~FORGET, 0.0)
        basis = np.linalg.svd(x[members], full_matrices=False)[2]
        angle = np.arcsin(np.linalg.norm(w - w @ basis.T @ basis) / float(hat.norm))
        assert float(found.span) == pytest.approx(1 - np.cos(angle), abs=1e-12)
        assert float(found.balance) == pytest.approx(reference.balance_bound(w, a), abs=1e-12)
        room = float(bl.bounds.rigid_distance(data, hat, ~FORGET, 0.0))
        # sqrt of the outward margin: 1e-13 of the squares
        assert room == pytest.approx(reference.rigidity_bound(x, w, a, members), abs=1e-6)


def test_rigidity_by_loops_where_dual_vectors_are_long():
    """Short, correlated points, neurons far inside their activity: the singular value over the dual length decides."""
    data = ga.data.gaussian(jax.random.key(2), M, 200.0)
    rng = np.random.default_rng(4)
    x = 0.4 * (np.asarray(data.points) + 1.5 * np.ones(M) / np.sqrt(M))
    data = ga.data.Dataset(jnp.asarray(x), data.labels, data.dim, data.mean_norm, data.status)
    members = np.arange(1, M)
    w = 2.0 * np.ones((N, M)) + 0.05 * rng.normal(size=(N, M))
    a = 1.0 + 0.1 * rng.normal(size=N)
    theta = bl.Weights(jnp.asarray(w), jnp.asarray(a), jnp.asarray(w @ x.T))
    room = float(bl.bounds.rigid_distance(data, theta, ~FORGET, 0.0))
    assert np.max(np.linalg.norm(np.linalg.pinv(x[members].T), axis=1)) > 2
    assert 0 < room < 0.9 * np.min(w @ x[members].T / np.linalg.norm(x[members], axis=1))
    assert room == pytest.approx(reference.rigidity_bound(x, w, a, members), rel=1e-6)
    half = float(bl.bounds.rigid_distance(data, theta, ~FORGET, 0.5 * room / float(theta.norm)))
    assert half == pytest.approx(0.5 * room, rel=1e-6)


def test_norm_floor_below_every_feasible_network(point):
    data, _ = point
    floor = float(bl.bounds.norm_floor(data, ~FORGET))
    rng = np.random.default_rng(1)
    x, y = np.asarray(data.points)[1:], np.asarray(data.labels)[1:]
    for _ in range(300):
        a = rng.normal(size=4)
        w = np.outer(a, np.zeros(M)) + (np.abs(a)[:, None] * [[y_i * np.sign(a_j) for y_i in y] for a_j in a]) @ x
        w = w * rng.uniform(0.5, 2.0)
        q = y * (a @ np.maximum(w @ x.T, 0))
        if np.min(q) > 0:
            norm = np.sqrt((np.sum(w**2) + np.sum(a**2)) / np.min(q))
            assert norm >= floor
    assert floor > 0.8 * float(bl.certificates.retrained(*point, FORGET).weights.norm)


def test_training_is_balanced_and_separates():
    data = ga.data.gaussian(jax.random.key(2), M, 1e6)
    run = bl.train(jax.random.key(0), data, N, num_steps=600)
    assert int(run.status) == 0
    assert float(run.imbalance) < 1e-4
    a, z = np.asarray(run.weights.output_weights), np.asarray(run.weights.preactivations)
    np.testing.assert_allclose(run.margins, np.asarray(data.labels) * (a @ np.maximum(z, 0)), rtol=1e-12)
    found = bl.limit_point(data, run)
    assert int(found.status) == 0
    assert float(bl.gap(run.weights, found.weights)) < 0.3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"loss": "square"}, "unknown loss 'square'"),
        ({"init_scale": 0.0}, "init_scale is 0.0, expected a positive number"),
        ({"step_size": 0.9}, "step_size is 0.9, expected a number with 0 < step_size <= 0.5"),
        ({"num_steps": 0}, "num_steps is 0"),
        ({"num_neurons": 1}, "num_neurons is 1, expected an integer of at least 2"),
    ],
)
def test_bad_options_of_training(options, says, unchecked):
    data = ga.data.gaussian(jax.random.key(2), M, 1e6)
    with pytest.raises(ValueError, match=says.split(",")[0]):
        bl.train(jax.random.key(0), data, **({"num_neurons": N} | options))


def test_bad_input_of_steps(point, unchecked):
    data, p = point
    with pytest.raises(ValueError, match="unknown step of both layers 'ful'; did you mean full"):
        bl.unlearned("ful", data, p, FORGET)
    with pytest.raises(ValueError, match="forget has shape"):
        bl.unlearned("full", data, p, jnp.arange(3) == 0)
    with pytest.raises(ValueError, match="retain at least one"):
        bl.unlearned("full", data, p, jnp.ones(M, bool))
