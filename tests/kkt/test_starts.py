"""Where the solver begins, and what it tries first, changes how soon it ends, never where."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaunlearn_jax import kkt
from gaunlearn_jax.data import families
from gaunlearn_jax.kkt import dual, newton
from gaunlearn_jax.kkt.programme import Programme, places, programme_of, unit_scaled
from gaunlearn_jax.models.registry import network

SEEDS, M, N = 24, 8, 16


def programme(key: jax.Array, cosine: float) -> tuple[Programme, Any, Any]:
    """A network of points with a common mean and random activations: the programme and both starts."""
    for_data, for_net = jax.random.split(key)
    problem = network("relu", N).problem(families.equicorrelated(for_data, M, 1e6, cosine))
    z = jax.random.normal(for_net, (N, M))
    slopes, ones = problem.slopes(z), jnp.ones(M)
    made = programme_of(problem, slopes, problem.free, ones, ones > 0, ones * jnp.inf)
    return made, slopes, kkt.starting_slopes(problem, z)


@pytest.mark.slow
def test_an_unsolved_pattern_is_solved_sooner_from_kinks() -> None:
    def steps_of_both(key: jax.Array) -> Any:
        made, slopes, kinks = programme(key, 0.8)
        found = [dual.solve(made, places(made, start)) for start in (slopes, kinks)]
        return [(s.multipliers, s.c, s.steps, s.converged) for s in found]

    old, new = jax.jit(jax.vmap(steps_of_both))(jax.random.split(jax.random.key(0), SEEDS))
    solved = np.asarray(old[3])  # a point that no neuron is fixed to see has no solution
    assert solved.mean() > 0.8
    assert np.array_equal(solved, new[3])
    for a, b in zip(old[:2], new[:2], strict=True):
        np.testing.assert_allclose(a[solved], b[solved], rtol=1e-10, atol=1e-12)
    assert float(jnp.mean(new[2][solved])) < 0.8 * float(jnp.mean(old[2][solved]))


def test_slow_conjugate_gradients_give_way_at_once() -> None:
    """Points nearly orthogonal are solved by them; from those with a common mean they turn away."""

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    def first_step(key: jax.Array, cosine: float) -> Any:
        made, _, kinks = programme(key, cosine)
        scaled, _ = unit_scaled(made)
        return newton._newton_step(scaled, newton.start(scaled, places(scaled, kinks.T)), newton.gradient_solve)[1]

    keys = jax.random.split(jax.random.key(1), SEEDS)
    solved = [first_step(keys, cosine) for cosine in (0.0, 0.8)]
    assert bool(jnp.all(solved[0]))
    assert not bool(jnp.any(solved[1]))
