"""Random numbers, each a stage that a sweep runs on the host's processor whatever device computes the rest.

So an instance is the same bits on every backend, and no other programme has to look at the bits of a float64, which a
TPU cannot (docs/theory, Numerics).
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.staging import staged_on_host


@staged_on_host
def normal(key: Array, *, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Standard normal numbers."""
    return jax.random.normal(key, shape, jnp.float64)


@staged_on_host
def chi(key: Array, freedom: Float[Array, "..."]) -> Float[Array, "..."]:
    """Independent square roots of chi-squared numbers with these degrees of freedom > 0."""
    return jnp.sqrt(2.0 * jax.random.gamma(key, freedom / 2.0, dtype=jnp.float64))


@staged_on_host
def coins(key: Array, *, shape: tuple[int, ...]) -> Bool[Array, "..."]:
    """Fair coins."""
    return jax.random.bernoulli(key, 0.5, shape)


def order(key: Array, size: int) -> Int[Array, "m"]:
    """A random order of 0 .. size - 1, that of `jax.random.permutation`."""
    found = jnp.arange(size)
    for _ in range(math.ceil(3 * math.log(size) / math.log(2**32 - 1))):  # rounds that leave ties unlikely to matter
        key, part = jax.random.split(key)
        found = jnp.zeros_like(found).at[numerics.ranks(jax.random.bits(part, (size,), jnp.uint32))].set(found)
    return found
