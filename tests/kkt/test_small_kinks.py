"""A kink whose fraction is tiny is solved like any other: theta is made with a zero there."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from gaunlearn_jax import kkt
from gaunlearn_jax.kkt import dual
from gaunlearn_jax.kkt.programme import KINK, LOWER, TOL, Best, improved, places, programme_of
from gaunlearn_jax.models.problem import MarginProblem


def problem(cosine: float) -> MarginProblem:
    """Two points of opposite labels at this cosine, two neurons: each is free on the other label's point."""
    points = jnp.asarray([[1.0, 0.0], [cosine, np.sqrt(1 - cosine**2)]])
    signs = jnp.asarray([[1.0, -1.0], [-1.0, 1.0]])
    return MarginProblem(points, signs / jnp.sqrt(2.0), jnp.asarray([0, 1]), 2)


@pytest.mark.parametrize("cosine", [0.1, 1e-3, 1e-6, 1e-9])
def test_the_fraction_is_the_cosine(cosine: float) -> None:
    """z_12 = u (lambda_1 cos - c) = 0: c = cos lambda_1, and by symmetry lambda = 2 / (1 - cos^2)."""
    p = problem(cosine)
    point = kkt.solve_pattern(p, jnp.ones((2, 2)), jnp.ones(2, bool), kkt.MAX_REPEATS)
    assert int(point.status) == 0
    np.testing.assert_allclose(point.multipliers, 2 / (1 - cosine**2), rtol=1e-12)
    np.testing.assert_allclose(np.diag(point.selection[::-1]), cosine, rtol=1e-9, atol=1e-16)
    assert float(point.epsilon) < 1e-15


def test_a_kink_that_is_nearly_one_is_not_enough() -> None:
    p = problem(1e-6)
    slopes = jnp.eye(2)
    made = programme_of(p, slopes, p.free, jnp.ones(2), jnp.ones(2, bool), jnp.full(2, jnp.inf))
    exact = dual.solve(made, places(made, slopes))
    nothing = Best(jnp.asarray(jnp.inf), 0 * exact.multipliers, 0 * exact.c, jnp.full((2, 2), LOWER, jnp.int32))
    pairs = jnp.where(p.free, KINK, LOWER).astype(jnp.int32)
    for off, solved in ((0.0, True), (0.01, False)):  # their product with c is 2e-14
        c = jnp.where(p.free, (1 + off) * exact.c, exact.c)
        found = improved(made.turned(), nothing, exact.multipliers, c.T, pairs.T)
        assert bool(found.violation <= TOL) == solved
