"""The solver of the dual programme where guesses of the sets could cycle."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from gaunlearn_jax.kkt import dual
from gaunlearn_jax.kkt.newton import NEWTON_STEPS, PIVOT_STEPS
from gaunlearn_jax.kkt.programme import Programme, places, unbounded


def test_without_kinks_newton_ends_by_itself() -> None:
    """Spectra spread over 1e6: all are solved by steps on sets, whose number shows that none went round in circles (the
    limit would be reached), and the answers are those of SciPy's NNLS."""
    m, count = 16, 256
    rng = np.random.default_rng(m)
    basis = np.linalg.qr(rng.normal(size=(count, m, m)))[0]
    grams = (basis * np.geomspace(1, 1e-6, m)) @ basis.transpose(0, 2, 1)
    grams = 0.5 * (grams + grams.transpose(0, 2, 1))
    one, yes = jnp.ones((1, m)), jnp.ones(m, bool)

    def solve(gram: jax.Array) -> dual.Solution:
        programme = Programme(
            gram, one, one, one < 0, jnp.ones(m), yes, jnp.full(m, jnp.inf), jnp.asarray(1.0), kinked=False
        )
        return dual.solve(programme, places(programme, one))

    found = jax.jit(jax.vmap(solve))(jnp.asarray(grams))
    assert bool(jnp.all(found.converged))
    assert int(jnp.max(found.steps)) > NEWTON_STEPS + 10
    assert int(jnp.max(found.steps)) < PIVOT_STEPS // 2
    for gram, lam in zip(grams[:20], np.asarray(found.multipliers), strict=False):
        factor = np.linalg.cholesky(gram).T
        right, _ = optimize.nnls(factor, np.linalg.solve(factor.T, np.ones(m)))
        np.testing.assert_allclose(lam, right, rtol=1e-6, atol=1e-6 * right.max())


def test_rays_are_looked_for_only_where_one_is_suspected() -> None:
    """The sweeps of K that tell a ray stay inside the loop that mostly runs no round: of a batch's programme, the
    compiled entry makes no loop but that one."""
    one, yes = jnp.ones((4, 5, 1)), jnp.ones((4, 5), bool)

    def looked(gram: jax.Array, lam: jax.Array, v: jax.Array, valid: jax.Array) -> jax.Array:
        slope, cap = jnp.asarray(1.0), jnp.full(5, jnp.inf)
        return unbounded(Programme(gram, v, v, v < 0, lam, valid, cap, slope, kinked=False), lam, v)

    compiled = jax.jit(jax.vmap(looked)).lower(jnp.ones((4, 5, 5)), jnp.ones((4, 5)), one, yes).compile()
    entry = (compiled.as_text() or "").split("\nENTRY ")[1]
    assert entry.count(" while(") == 1
