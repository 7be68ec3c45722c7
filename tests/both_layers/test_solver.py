"""Exact KKT points of both layers: every condition by loops, a barrier method, the alternation, closed forms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import both_layers as reference

import gaunlearn_jax as ga
from gaunlearn_jax import both_layers as bl
from gaunlearn_jax.both_layers.point import first_layer

M, N, LANES = 6, 8, 12
SIGNS = jnp.where(jnp.arange(N) % 2 == 0, 1.0, -1.0)
EVERYONE, UNIFORM = jnp.ones(M, bool), jnp.ones((N, M), bool)


def drawn(key, dim):
    return ga.data.gaussian(key, M, dim)


@jax.jit
@jax.vmap
def solved(key, dim, valid):
    """A point from a random pattern."""
    one, two = jax.random.split(key)
    active = jax.random.bernoulli(two, 0.6, (N, M)).at[:2].set(True)
    data = drawn(one, dim)
    return data, active, bl.solve_pattern(data, SIGNS, active, valid, jnp.ones(N))


@pytest.fixture(scope="module")
def points():
    dims = jnp.asarray([30.0, 1e4, 1e10] * (LANES // 3))
    valid = jnp.ones((LANES, M), bool).at[::2, 1].set(False)
    return dims, valid, *solved(jax.random.split(jax.random.key(5), LANES), dims, valid)


def lane(tree, i):
    return jax.tree.map(lambda leaf: np.asarray(leaf[i]), tree)


def test_every_condition_by_loops(points):
    _, valid, data, _, point = points
    assert np.all(np.asarray(point.status) == 0)
    for i in range(LANES):
        p, d = lane(point, i), lane(data, i)
        members = np.flatnonzero(np.asarray(valid[i]))
        got = reference.residuals(
            d.points, d.labels, p.weights.params, p.weights.output_weights, p.multipliers, p.selection, members
        )
        assert got[0] < 1e-12
        assert got[1] < 1e-12
        assert got[2] > 1 - 1e-12
        np.testing.assert_allclose([p.epsilon, p.delta, p.margin], got, atol=1e-13)
        z = np.asarray(p.weights.params @ d.points.T)[:, members]
        np.testing.assert_allclose(p.weights.preactivations[:, members], z, atol=1e-12)
        s = p.selection[:, members]
        assert np.all((s >= 0) & (s <= 1))
        alive = p.weights.output_weights != 0
        assert np.all(s[alive][z[alive] > 1e-9] == 1)
        assert np.all(s[alive][z[alive] < -1e-9] == 0)
        assert np.all(p.multipliers >= 0)
        np.testing.assert_allclose(p.weights.imbalance, 0.0, atol=1e-12)


def test_against_a_barrier_method(points):
    """sum lambda and lambda of points whose pattern loop ended at once are those of the dense barrier."""
    _, valid, data, active, point = points
    same = [i for i in range(LANES) if int(point.repeats[i]) == 0 and bool(np.all(valid[i]))]
    assert same
    for i in same[:3]:
        p, d = lane(point, i), lane(data, i)
        lam, t = reference.barrier(
            np.asarray(d.points @ d.points.T), d.labels, np.asarray(SIGNS), np.asarray(active[i])
        )
        np.testing.assert_allclose(p.multipliers, lam, atol=1e-6)
        np.testing.assert_allclose(np.sum(p.weights.output_weights**2), np.sum(t), rtol=1e-4)


def test_mass_is_twice_the_multiplier(points):
    """sum lambda = sum t = ||theta||^2 / 2: the factor of the dual."""
    _, _, _, _, point = points
    for i in range(LANES):
        p = lane(point, i)
        np.testing.assert_allclose(np.sum(p.weights.output_weights**2), np.sum(p.multipliers), rtol=1e-12)
        np.testing.assert_allclose(np.sum(p.weights.params**2), np.sum(p.multipliers), rtol=1e-12)


def test_orthogonal_points_in_closed_form(points):
    """Active everywhere: lambda = 1/sqrt M_y, sum of a^2 over a class sqrt M_y."""
    data = drawn(jax.random.key(1), 1e4)
    data = ga.data.Dataset(jnp.eye(M), jnp.asarray([1.0, 1, 1, 1, -1, -1]), data.dim, data.mean_norm, data.status)
    point = bl.solve_pattern(data, SIGNS, UNIFORM, EVERYONE, jnp.arange(1.0, N + 1))
    np.testing.assert_allclose(point.multipliers, [0.5] * 4 + [2**-0.5] * 2, rtol=1e-13)
    a = np.asarray(point.weights.output_weights)
    np.testing.assert_allclose([np.sum(a[::2] ** 2), np.sum(a[1::2] ** 2)], [2.0, 2**0.5], rtol=1e-12)
    np.testing.assert_allclose(a[::2] ** 2 / a[0] ** 2, [1, 3, 5, 7], rtol=1e-12)  # shared like the masses


def test_a_point_that_no_neuron_can_raise_is_infeasible():
    data = drawn(jax.random.key(1), 1e4)
    active = jnp.ones((N, M), bool).at[:, 2].set(False)
    point = bl.solve_pattern(data, SIGNS, active, EVERYONE, jnp.ones(N))
    assert int(point.status) == ga.Status.INFEASIBLE


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"active": jnp.ones((M, N), bool)}, r"active has shape \(6, 8\), expected \(8, 6\)"),
        ({"masses": jnp.ones(3)}, r"masses has shape \(3,\), expected \(8,\)"),
        ({"signs": SIGNS * 0.5}, "signs has entries other than 1 and -1"),
    ],
)
def test_bad_input(changes, says, unchecked):
    given = {"signs": SIGNS, "active": UNIFORM, "valid": EVERYONE, "masses": jnp.ones(N)} | changes
    with pytest.raises(ValueError, match=says):
        bl.solve_pattern(drawn(jax.random.key(1), 1e4), **given)


def test_points_beyond_the_margin_have_no_multiplier():
    """A copy twice as long has margin 2, whatever the sign that neurons of the other class have there."""
    data = drawn(jax.random.key(4), 20.0)
    points = data.points.at[2].set(2 * data.points[0] + 0.3 * data.points[1])
    labels = data.labels.at[2].set(data.labels[0])
    data = ga.data.Dataset(points, labels, data.dim, data.mean_norm, data.status)
    point = bl.solve_pattern(data, SIGNS, UNIFORM, EVERYONE, jnp.ones(N))
    assert int(point.status) == 0
    assert float(point.multipliers[2]) == 0
    got = reference.residuals(
        *map(np.asarray, (points, labels, point.weights.params, point.weights.output_weights, point.multipliers)),
        np.asarray(point.selection), range(M),
    )  # fmt: skip
    assert max(got[:2]) < 1e-12 <= got[2]


def test_units_do_not_matter():
    """Points 1000 times as long: theta scales by 1000^(-1/2)."""
    data = drawn(jax.random.key(3), 1e3)
    longer = ga.data.Dataset(1e3 * data.points, data.labels, data.dim, data.mean_norm, data.status)
    one, two = (bl.solve_pattern(d, SIGNS, UNIFORM, EVERYONE, jnp.ones(N)) for d in (data, longer))
    assert int(two.status) == 0
    np.testing.assert_allclose(two.weights.output_weights, one.weights.output_weights * 1e-3**0.5, rtol=1e-10)


def alternated(data, point, rounds):
    """First layer solved with a fixed, then |a_j| = ||w_j|| with |a_j| ||w_j|| kept, again and again."""
    solve = jax.jit(lambda a, slopes: ga.kkt.solve_pattern(first_layer(data, a), slopes, EVERYONE, ga.kkt.MAX_REPEATS))
    a, slopes = point.weights.output_weights * (1 + 0.05 * jnp.cos(jnp.arange(N))), point.selection
    for _ in range(rounds):
        found = solve(a, slopes)
        new = jnp.sign(a) * jnp.sqrt(jnp.abs(a) * jnp.linalg.norm(found.params, axis=1))
        if float(jnp.max(jnp.abs(new - a))) < 1e-13:
            break
        a = new
    return found.params, a, found.multipliers


def agrees_with_the_alternation(data, point, rounds):
    _, a, lam = alternated(data, point, rounds)
    np.testing.assert_allclose(lam, point.multipliers, atol=1e-8)
    mass = [np.sum(np.asarray(v)[::2] ** 2) for v in (a, point.weights.output_weights)]
    np.testing.assert_allclose(*mass, rtol=1e-8)


def test_the_alternation_ends_there(points):
    _, valid, data, _, point = points
    some = [i for i in range(LANES) if bool(np.all(valid[i]))][:1]
    for i in some:
        one = jax.tree.map(lambda leaf, i=i: leaf[i], (data, point))
        agrees_with_the_alternation(*one, 400)


@pytest.mark.slow
def test_the_alternation_ends_there_on_twenty(points):
    found = 0
    for seed in range(40):
        data, _, point = jax.tree.map(
            lambda leaf: leaf[0],
            solved(jax.random.split(jax.random.key(100 + seed), 1), jnp.full(1, 1e4), EVERYONE[None]),
        )
        if int(point.status) == 0 and found < 20:
            agrees_with_the_alternation(data, point, 5000)
            found += 1
    assert found == 20
