"""What a data set satisfies: norms near 1 and nearly orthogonal points, measured."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from gaunlearn_jax.base import numerics
from gaunlearn_jax.data.dataset import Dataset


def assumptions(data: Dataset, net: Any) -> tuple[Array, Array, Array]:
    """(psi, phi, eps_d) that this data set satisfies, measured from its Gram matrix.

    psi = max_i | ||x_i||^2 - 1 |, phi = max_{i != j} |<x_i, x_j>|, and the least eps_d with phi <= eps_d / (4 m n)
    (models without kinks: n = 1). Source: docs/theory, Setting.
    """
    numerics.require_x64()
    k = numerics.gram(data.points)
    m = data.num_points
    psi = jnp.max(jnp.abs(jnp.diagonal(k) - 1.0))
    phi = jnp.max(jnp.where(jnp.eye(m, dtype=bool), 0.0, jnp.abs(k)))
    n = net.num_neurons if net.problem(data).kinked else 1
    return psi, phi, 4.0 * m * n * phi
