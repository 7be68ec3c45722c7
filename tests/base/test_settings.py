"""Settings and values that programs are compiled for: one sentence, no error from inside a trace."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaunlearn_jax as ga


@pytest.mark.parametrize(
    ("setting", "remedy"),
    [
        (lambda: jax.numpy_dtype_promotion("strict"), r"with jax.numpy_dtype_promotion\('standard'\)"),
        (lambda: jax.numpy_rank_promotion("raise"), r"with jax.numpy_rank_promotion\('allow'\)"),
    ],
    ids=["dtype", "rank"],
)
def test_strict_promotion_is_refused_with_the_remedy(setting, remedy):
    data = ga.data.gaussian(jax.random.key(0), 3, 1e4)
    with setting():
        for call in (
            ga.models.Linear,
            lambda: ga.models.TwoLayerReLU(4),
            lambda: ga.data.gaussian(jax.random.key(0), 3, 1e4),
            lambda: ga.kkt.limit_point(ga.models.Linear(), data, None),
        ):
            with pytest.raises(RuntimeError, match=remedy):
                call()
    with jax.numpy_rank_promotion("warn"):
        ga.models.Linear()


SLOPES = {
    "array": np.asarray(0.25),
    "of jax": jnp.asarray(0.25),
    "scalar": np.float64(0.25),
    "float32": np.float32(0.25),
}


@pytest.mark.parametrize("kind", SLOPES)
def test_slopes_of_any_kind_are_numbers(unchecked, kind):
    """A slope is part of the compiled program: an array would be unhashable there."""
    net = ga.models.TwoLayerLeakyReLU(4, negative_slope=SLOPES[kind])
    direct = ga.models.Network(jnp.ones(1), SLOPES[kind])
    problem = ga.models.MarginProblem(jnp.eye(3), jnp.ones((4, 3)), jnp.zeros(3, int), slope=SLOPES[kind])
    assert [type(v) for v in (net.negative_slope, direct.negative_slope, problem.slope)] == [float] * 3
    slopes = jax.jit(lambda p: p.slopes(-jnp.ones((4, 3))))(problem)
    np.testing.assert_array_equal(slopes, 0.25)


@pytest.mark.parametrize(
    "make",
    [
        lambda s: ga.models.TwoLayerLeakyReLU(4, negative_slope=s).negative_slope,
        lambda s: ga.models.Network(jnp.ones(1), s).negative_slope,
        lambda s: ga.models.MarginProblem(jnp.eye(3), jnp.ones((4, 3)), jnp.zeros(3, int), slope=s).slope,
    ],
)
def test_traced_slopes_and_lists_are_named(unchecked, make):
    for transform in (jax.jit, jax.vmap):
        with pytest.raises(ValueError, match="slope is traced, but programs are compiled for its value"):
            transform(make)(jnp.asarray([0.1]) if transform is jax.vmap else 0.1)
    for bad in ([0.1, 0.2], None, "0.1", np.nan):
        with pytest.raises(ValueError, match=r"slope is .*expected"):
            make(bad)
