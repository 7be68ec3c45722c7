"""Points of several rows: when a selection is Clarke's, Lemma M' and Theorem R' for any margin problem.

phi_i is the matrix whose columns are the rows (patches) of point i; h_i = sum_{a of i} lambda_a g_a. Source:
docs/theory, Entries.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Numbers, PerPoint, Whole
from gaunlearn_jax.base.codes import Reason
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.theory.bound import Bound, bound_of, first_failing
from gaunlearn_jax.theory.lemma_m import EXTRA

#: the part of a unit row outside the span of the others of its point from which on it is independent of them
INDEPENDENT = 1e-6


class Spaces(NamedTuple):
    """Of each point an orthonormal basis of the span of its rows [m, s, p] (zero rows fill up), and the least part of a
    unit row outside the span of those before it [m]."""

    bases: Float[Array, "m s p"]
    least: PerPoint

    @property
    def independent(self) -> Bool[Array, "m"]:
        """Whether the rows of a point are linearly independent; then every selection of its entries is Clarke's.
        Source: docs/theory, When a selection is Clarke's."""
        return self.least > INDEPENDENT

    def cosine(self) -> Float[Array, ""]:
        """mu: the largest cosine between the column spaces of two points, with room for the rounding of the bases."""
        m, s, p = self.bases.shape
        i, k = np.triu_indices(m, 1)
        if not len(i):
            return jnp.zeros(())
        cross = jnp.einsum("bsp,btp->bst", self.bases[i], self.bases[k], precision="highest")
        squares = jax.vmap(lambda c: numerics.top_eigenvalue(numerics.matmul(c, c.T)))(cross)
        room = 4 * s * (p + EXTRA) * numerics.unit() / jnp.maximum(jnp.min(self.least), INDEPENDENT)
        return jnp.sqrt(jnp.max(squares)) * (1 + (p + EXTRA) * numerics.unit()) + room


def column_spaces(problem: MarginProblem) -> Spaces:
    """The spans of the rows of each point, by Gram-Schmidt on unit rows."""
    squares = jnp.sum(problem.rows**2, axis=1)
    unit = problem.rows / jnp.sqrt(jnp.where(squares > 0, squares, 1.0))[:, None]
    owner = range(problem.num_rows) if problem.layout is None else problem.layout.point_of_row
    sets = [np.flatnonzero(np.asarray(owner) == i) for i in range(max(owner) + 1)]
    most = max(map(len, sets))
    index = np.asarray([np.resize(rows, most) for rows in sets])
    real = np.arange(most) < np.asarray([[len(rows)] for rows in sets])

    def of_point(rows: Float[Array, "s p"], mask: Bool[Array, "s"]) -> tuple[Array, Array]:
        basis = numerics.orthonormal_basis(rows, mask)
        # a row's part along the vector that it added to the basis
        return basis, jnp.min(jnp.where(mask, jnp.abs(jnp.sum(basis * rows, axis=1)), 1.0))

    return Spaces(*jax.vmap(of_point)(unit[index], jnp.asarray(real)))


def pulls(problem: MarginProblem, point: KKTPoint) -> PerPoint:
    """gamma_i = ||h_i|| [m]."""
    return _norms(problem, problem.of_entries(point.multipliers) * point.selection, _points(problem))


def gradient_norms(problem: MarginProblem, point: KKTPoint) -> Float[Array, "a"]:
    """||g_a|| [a]."""
    owner = np.arange(problem.num_constraints) if problem.layout is None else np.asarray(problem.layout.constraint)
    return _norms(problem, point.selection, owner)


def _points(problem: MarginProblem) -> np.ndarray:
    """The point of each entry."""
    if problem.layout is None:
        return np.arange(problem.num_rows)
    return np.asarray(problem.layout.point_of_constraint)[np.asarray(problem.layout.constraint)]


def _norms(problem: MarginProblem, weights: Float[Array, "n e"], owner: np.ndarray) -> Float[Array, "s"]:
    """|| sum_{e of s} v_e weights_e x_e || for each set s of entries, as vectors: nothing cancels under the root."""
    made = problem.amplitudes * weights
    rows = problem.at_entries(problem.rows.T).T
    sets = jnp.asarray(owner[None] == np.arange(int(owner.max()) + 1)[:, None])
    return jax.vmap(lambda mine: numerics.norm(numerics.matmul(jnp.where(mine, made, 0.0), rows)))(sets)


class Pulls(NamedTuple):
    """Lemma M': lower <= gamma_i <= upper where `defined`."""

    lower: Any
    upper: Any
    defined: Any


def pull_bounds(
    mu: Numbers, smallest: Numbers, shortest: Any, epsilon: Numbers, delta: Numbers, *, m: int, constraints: int = 1
) -> Pulls:
    """Lemma M': upper = (B + sqrt(B^2 + 4 A n_c delta_1)) / (2 A), A = 1 - (m-1) mu > 0, B = 1/sqrt(c_hat) + epsilon_1,

    and lower = 1/shortest - (m-1) mu upper - epsilon_1. `smallest` is sqrt(c_hat), the least norm of a mean of the
    gradients of one point (their norm where each has one constraint), `shortest` the shortest gradient of a point (or
    of each [m]), `constraints` n_c, the most of a point. Source: docs/theory, Pulls and leakage.

    >>> found = pull_bounds(0.01, 1.0, 1.0, 0.0, 0.0, m=10)
    >>> print(f"{found.lower:.4f} {found.upper:.4f} {found.defined}")
    0.9011 1.0989 True
    """
    xp = numerics.array_namespace(mu, smallest, shortest, epsilon, delta)
    a = 1.0 - (m - 1) * xp.asarray(mu)
    defined = a > 0
    safe = xp.where(defined, a, 1.0)
    b = 1.0 / xp.asarray(smallest) + epsilon
    upper = (b + xp.sqrt(b**2 + 4 * safe * constraints * xp.asarray(delta))) / (2 * safe)
    return Pulls(1.0 / xp.asarray(shortest) - (m - 1) * mu * upper - epsilon, upper, defined)


def projection_factor(mu: Numbers, retained: Whole) -> tuple[Any, Any]:
    """(kappa, whether it is defined): ||P x|| <= kappa ||x|| for x in the column space of a forgotten point, P the
    projection onto the span of the retained points' rows; kappa = mu sqrt(M) / sqrt(1 - (M-1) mu)."""
    xp = numerics.array_namespace(mu, retained)
    mu, count = xp.asarray(mu), xp.asarray(retained)
    inner = 1.0 - (count - 1) * mu
    return mu * xp.sqrt(1.0 * count) / xp.sqrt(xp.where(inner > 0, inner, 1.0)), (inner > 0) & (count >= 1)


def sharp_entries(
    mu: Numbers, upper: Numbers, floor: Numbers, epsilon: Numbers, delta: Numbers, *, m: int, k: Whole
) -> Bound:
    """Theorem R' (projection certificate): epsilon_1 + rho, delta_1, 1 - sqrt(1 - (rho/B_T)^2), rho = k kappa gamma.

    `upper` is gamma, the upper bound of Lemma M' (UNDEFINED where it is not finite), `floor` B_T of the norm lemma. tau
    is 2 (nothing is said of it) where rho >= B_T. Source: docs/theory, Pulls and leakage.
    """
    kappa, defined = projection_factor(mu, m - jnp.asarray(k))
    rho = k * kappa * upper
    reason = first_failing(
        (m - jnp.asarray(k) >= 1, Reason.FORGET_SIZE), (defined & jnp.isfinite(rho), Reason.UNDEFINED)
    )
    return bound_of(epsilon + rho, delta, numerics.one_minus_cos_of_sine(rho / floor), reason)
