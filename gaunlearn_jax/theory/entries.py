"""Points of several rows: when a selection is Clarke's, Lemma M' and Theorem R' for any margin problem.

phi_i is the matrix whose columns are the rows (patches) of point i; h_i = sum_{a of i} lambda_a g_a. Source:
docs/theory, Entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Numbers, PerEntry, PerPoint, Scalar, Whole
from gaunlearn_jax.base.codes import Reason
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.theory.bound import Bound, bound_of, first_failing
from gaunlearn_jax.theory.lemma_m import EXTRA

#: the part of a unit row outside the span of the others of its point from which on it is independent of them
INDEPENDENT = 1e-6
#: exchanges of weight between two gradients that look for the least norm of a mean; one is enough for two gradients
EXCHANGES = 100


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
    index, real = _sets(range(problem.num_rows) if problem.layout is None else problem.layout.point_of_row)

    def of_point(rows: Float[Array, "s p"], mask: Bool[Array, "s"]) -> tuple[Array, Array]:
        basis = numerics.orthonormal_basis(rows, mask)
        # a row's part along the vector that it added to the basis
        return basis, jnp.min(jnp.where(mask, jnp.abs(jnp.sum(basis * rows, axis=1)), 1.0))

    return Spaces(*jax.vmap(of_point)(unit[index], jnp.asarray(real)))


def _sets(owner: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The members of each owner [m, most], short lists filled up by repetition, and which of them are real."""
    sets = [np.flatnonzero(np.asarray(owner) == i) for i in range(max(owner) + 1)]
    most = max(map(len, sets))
    return (
        np.asarray([np.resize(mine, most) for mine in sets]),
        np.arange(most) < np.asarray([[len(mine)] for mine in sets]),
    )


def pulls(problem: MarginProblem, point: KKTPoint) -> PerPoint:
    """gamma_i = ||h_i|| [m]."""
    owner = np.asarray(_point_of_constraint(problem))[_constraint_of_entry(problem)]
    return _norms(problem, problem.of_entries(point.multipliers) * point.selection, owner)


def gradient_norms(problem: MarginProblem, point: KKTPoint) -> Float[Array, "a"]:
    """||g_a|| [a], of the selection that `decided` makes."""
    return _norms(problem, decided(problem, point), _constraint_of_entry(problem))


def decided(problem: MarginProblem, point: KKTPoint) -> PerEntry:
    """The selection of a point, where a multiplier is zero and nothing is said of it that of its pre-activations."""
    live = problem.of_entries(point.multipliers) > 0
    return jnp.where(live, point.selection, problem.slopes(point.preactivations))


def _constraint_of_entry(problem: MarginProblem) -> np.ndarray:
    return np.arange(problem.num_rows) if problem.layout is None else np.asarray(problem.layout.constraint)


def _point_of_constraint(problem: MarginProblem) -> Sequence[int]:
    return range(problem.num_rows) if problem.layout is None else problem.layout.point_of_constraint


def least_means(problem: MarginProblem, point: KKTPoint) -> PerPoint:
    """sqrt(c_hat) [m]: for each point the least norm of a mean of its gradients g_a with lambda_a > 0 (inf where it has
    none), rounded down: at most the true one. Source: docs/theory, Pulls and leakage."""
    index, real = _sets(_point_of_constraint(problem))
    live = jnp.asarray(real) & (point.multipliers[index] > 0)
    room = (problem.num_terms + problem.rows.shape[1] + EXTRA) * numerics.unit()
    if index.shape[1] == 1:
        return jnp.where(live[:, 0], gradient_norms(problem, point) * (1 - room), jnp.inf)
    made, at = problem.amplitudes * point.selection, problem.at_entries
    terms = numerics.matmul(made.T, made) * at(at(problem.gram()).T)
    gram = problem.by_constraint(problem.by_constraint(terms).T)
    return jax.vmap(lambda mine, live: _least_mean(gram[mine[:, None], mine], live, room))(jnp.asarray(index), live)


def _least_mean(gram: Float[Array, "c c"], live: Bool[Array, "c"], room: float) -> Float[Array, ""]:
    """min over pi of ||sum pi_a g_a|| by exchanges of weight between the gradient that is longest along the mean and
    the one that is shortest. Whatever pi they end in, no mean is shorter than min_a <v, g_a> / ||v||, v = sum pi g."""

    def exchange(_: Array, share: Array) -> Array:
        along = numerics.matmul(gram, share)
        low, high = jnp.argmin(jnp.where(live, along, jnp.inf)), jnp.argmax(jnp.where(share > 0, along, -jnp.inf))
        curve = gram[low, low] - 2 * gram[low, high] + gram[high, high]
        moved = jnp.clip((along[high] - along[low]) / jnp.where(curve > 0, curve, 1.0), 0.0, share[high])
        return share.at[low].add(moved).at[high].add(-moved)

    start = live / jnp.maximum(jnp.sum(live), 1)
    share = lax.stop_gradient(lax.fori_loop(0, EXCHANGES, exchange, start))
    along, off = numerics.matmul(gram, share), room * jnp.max(jnp.where(live, jnp.diag(gram), 0.0))
    square = jnp.sum(share * along) + off
    least = jnp.maximum(jnp.min(jnp.where(live, along, jnp.inf)) - off, 0.0)
    return jnp.where(jnp.any(live), least / jnp.sqrt(jnp.where(square > 0, square, 1.0)), jnp.inf)


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


class Measured(NamedTuple):
    """Lemma M' of an instance, with mu and gamma_i [m]."""

    between: Pulls
    mu: Float[Array, ""]
    gamma: PerPoint


def lemma(problem: MarginProblem, point: KKTPoint) -> Measured:
    """Lemma M' with numbers that are measured on an instance and enter outward. Where nothing has a multiplier c_hat is
    infinite. Source: docs/theory, Pulls and leakage."""
    owner = _point_of_constraint(problem)
    slip = (problem.num_terms + problem.rows.shape[1] + EXTRA) * numerics.unit()
    norms = gradient_norms(problem, point) * (1 + slip)
    shortest = jnp.full(max(owner) + 1, jnp.inf).at[np.asarray(owner)].min(norms)
    smallest, mu = jnp.min(least_means(problem, point)), column_spaces(problem).cosine()
    epsilon, delta = point.epsilon + 2 * point.error, point.delta + 2 * point.delta_error
    most = int(np.max(np.bincount(owner)))
    between = pull_bounds(mu, smallest, shortest, epsilon, delta, m=len(shortest), constraints=most)
    return Measured(between, mu, pulls(problem, point))


def spaces(found: Measured, floor: Scalar, epsilon: Scalar, delta: Scalar, *, k: Whole) -> Bound:
    """Theorem R' of the instance that `found` was measured on; floor is B_T of the norm lemma, `bounds.norm_floor`."""
    upper = jnp.where(found.between.defined, found.between.upper, jnp.inf)
    return sharp_entries(
        found.mu, upper, floor * (1 - 1e3 * numerics.unit()), epsilon, delta, m=len(found.gamma), k=k
    )  # fmt: skip


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
