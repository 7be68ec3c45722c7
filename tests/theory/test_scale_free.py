"""Theorem F: the formula twice, what it promises on points of any length, and what would be false."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference as ref
from suites import recorded as lanes

import gaunlearn_jax as ga
from gaunlearn_jax import Reason
from gaunlearn_jax.theory.bounds import scale_free
from verify.instances.grid import Grid
from verify.suites import relu


def lengths(seed: int, m: int, d: float, spread: float):
    data = ga.data.elliptical(
        jax.random.key(seed), m, [(1 / d, d)], scales=np.random.default_rng(seed).lognormal(0, spread, m)
    )
    return data


@pytest.mark.parametrize("noise", [(0.0, 0.0), (0.01, 0.003)])
@pytest.mark.parametrize("net", [ga.models.Linear(), ga.models.TwoLayerReLU(output_weights=[0.6, -0.5, 0.2, -0.3])])
def test_the_formula_is_that_of_the_reference(net, noise) -> None:
    for seed in range(3):
        data = lengths(seed, 6, 1e5, 1.0)
        forget = ga.data.forget_mask(data, [1, 4])
        got = scale_free(net.problem(data), forget, *noise)
        wanted = ref.scale_free(np.asarray(data.points), np.asarray(net.output_weights), [1, 4], *noise)
        assert bool(got.applicable)
        for name in ("epsilon", "delta", "tau"):
            np.testing.assert_allclose(getattr(got, name), getattr(wanted, name), rtol=1e-9)


def test_correlated_points_are_undefined_and_other_models_not_promised() -> None:
    data = ga.data.elliptical(jax.random.key(0), 6, [(1.0, 1e5)], means=[300.0 * np.ones((6, 1))])
    forget = ga.data.forget_mask(data, [0])
    assert int(scale_free(ga.models.Linear().problem(data), forget, 0.0, 0.0).reason) == Reason.UNDEFINED
    leaky = ga.models.TwoLayerLeakyReLU(4)
    assert int(scale_free(leaky.problem(data), forget, 0.0, 0.0).reason) == Reason.MODEL


def test_the_root_of_n_in_place_of_the_smallest_weight_would_be_false() -> None:
    """u = (.995, -.0998): rho exceeds the formula with sqrt(n) and stays below that with 1/min |u_j|."""
    net = ga.models.TwoLayerReLU(output_weights=[0.995, -0.0998])
    data = ga.data.from_points([[1.0, 0.0], [0.198, np.sqrt(1 - 0.198**2)]], [1, -1])
    forget = ga.data.forget_mask(data, [1])
    problem = net.problem(data)
    point = ga.kkt.solve_pattern(problem, jnp.eye(2), jnp.ones(2, bool), 10)
    assert int(point.status) == 0
    near = ga.certificates.projection(net, data, point, forget)
    right = scale_free(problem, forget, 0.0, 0.0)
    wrong = float(right.epsilon) * 0.0998 * np.sqrt(2)
    assert wrong < float(near.epsilon) <= float(right.epsilon)


@pytest.mark.slow
def test_it_discriminates_on_heavy_tails_where_the_sharp_bound_is_not_applicable() -> None:
    grid = Grid(dims=(1e6,), points=(10,), neurons=(40,), forget=(1,), seeds=24, sources=("student:nu=2",))
    table = lanes.tallies(relu.SUITE, lanes.blocks_of(relu.SUITE, grid), grid)
    free = lanes.named(table, theta="limit", strength="scale_free")
    assert sum(row["holds"] for row in free) == 3 * 24
    assert min(row["discriminating"] for row in free) >= 0.95
    for row in lanes.named(table, theta="limit", strength="sharp"):
        assert row["reasons"] == {Reason.UNDEFINED.text: 24}
