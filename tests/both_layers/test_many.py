"""Many networks: 216 trained ones, 10 000 lower bounds against certificates, unequal classes in high dimensions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaunlearn_jax as ga
from gaunlearn_jax import both_layers as bl

pytestmark = pytest.mark.slow

M, NAMES = 10, bl.STEPS.names
FORGET = jnp.arange(M) == 0


def trained(key, dim, scale, n):
    one, two = jax.random.split(key)
    data = ga.data.gaussian(one, M, dim)
    run = bl.train(two, data, n, init_scale=scale)
    return data, bl.limit_point(data, run), run.status


@pytest.mark.parametrize("n", [20, 40])
def test_trained_networks_are_solved_to_rounding(n):
    """3 initial scales, 4 dimensions, 9 seeds: every condition to 1e-12, or a status that says why not."""
    count = 108
    scales, dims = jnp.repeat(jnp.asarray([1e-1, 1e-3, 1e-5]), 36), jnp.tile(jnp.asarray([1e4, 1e6, 1e8, 1e10]), 27)
    keys = jax.random.split(jax.random.key(n), count)
    _, point, status = jax.jit(jax.vmap(trained, (0, 0, 0, None)), static_argnums=3)(keys, dims, scales, n)
    good = np.asarray(point.status) == 0
    assert np.all(good | (np.asarray(status) != 0))
    assert np.mean(good) > 0.98
    balance = jax.vmap(lambda theta: jnp.max(jnp.abs(theta.imbalance)))(point.weights)
    for value in (point.epsilon, point.delta, jnp.abs(point.margin - 1), balance):
        assert np.max(np.asarray(value)[good]) < 1e-12


def compared(key, dim, n):
    data, point, _ = trained(key, dim, 1e-3, n)
    lower, tau, status = [], [], [point.status]
    for make in bl.certificates.ALL.values():
        made = make(data, point, FORGET)
        status.append(made.status)
        for name in NAMES:
            hat = bl.unlearned(name, data, point, FORGET)
            lower.append(jnp.stack(bl.bounds.lower_bounds(data, hat, ~FORGET, made.epsilon + made.error)))
            tau.append(jnp.full(3, bl.gap(hat, made.weights)))
    return jnp.stack(lower), jnp.stack(tau), jnp.max(jnp.stack(status))


def test_no_lower_bound_is_above_a_certificate():
    """240 networks, 5 steps, 3 certificates, 3 bounds; a few networks have a point that no neuron can raise."""
    dims = jnp.tile(jnp.asarray([30.0, 1e2, 1e4, 1e6, 1e8, 1e12]), 40)
    lower, tau, status = jax.jit(jax.vmap(compared, (0, 0, None)), static_argnums=2)(
        jax.random.split(jax.random.key(9), 240), dims, 12
    )
    good = np.asarray(status) == ga.Status.OK
    assert np.all(good | (np.asarray(status) == ga.Status.INFEASIBLE))
    lower, tau = np.asarray(lower)[good], np.asarray(tau)[good]
    assert lower.size > 10_000
    assert np.all(lower <= tau * (1 + 1e-9) + 1e-20)
    assert np.max(lower / tau) > 0.9


def test_unequal_classes_in_high_dimensions():
    """d = 10^14, classes of 2 to 10 points beside 2: the closed form to 1e-5 of itself, in its order."""
    for size in range(2, 11):
        m = size + 2
        data = ga.data.gaussian(jax.random.key(size), m, 1e14)
        labels = jnp.where(jnp.arange(m) < size, 1.0, -1.0)
        data = ga.data.Dataset(data.points, labels, data.dim, data.mean_norm, data.status)
        forget, signs = jnp.arange(m) == 0, jnp.asarray([1.0, -1.0])
        point = bl.solve_pattern(data, signs, jnp.ones((2, m), bool), jnp.ones(m, bool), jnp.ones(2))
        best = bl.certificates.retrained(data, point, forget)
        some = bl.orthogonal.sizes_of(labels, forget)
        found = {}
        for name in NAMES:
            step = bl.STEPS[name]
            found[name] = float(bl.gap(bl.unlearned(name, data, point, forget), best.weights))
            closed = float(bl.orthogonal.gap(some, step.first, step.second(some.classes)))
            assert found[name] == pytest.approx(closed, rel=1e-5)
        ranked = [found[name] for name in ("nearest", "half", "first", "full", "nothing")]
        assert ranked == sorted(ranked)
