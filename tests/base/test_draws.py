"""Random orders: bit for bit those of JAX, made without its sort."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaunlearn_jax.base import draws, numerics


@pytest.mark.parametrize("size", [1, 2, 3, 10, 32, 129, 1700])
def test_order_is_the_permutation_of_jax(size: int) -> None:
    for seed in range(3):
        key = jax.random.key(seed, impl="threefry2x32")
        np.testing.assert_array_equal(draws.order(key, size), jax.random.permutation(key, size))


def test_ranks_are_those_of_a_stable_sort() -> None:
    values = np.asarray([2.0, -1.0, 2.0, np.inf, -0.0, 0.0, -np.inf, 2.0])
    np.testing.assert_array_equal(
        numerics.ranks(jnp.asarray(values)), np.argsort(np.argsort(values, kind="stable"), kind="stable")
    )


def test_order_sorts_nothing() -> None:
    text = jax.jit(draws.order, static_argnums=1).lower(jax.random.key(0, impl="threefry2x32"), 10).as_text()
    assert "stablehlo.sort" not in text
