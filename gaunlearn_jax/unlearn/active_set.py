"""The active-set step: what the retained problem's solution is as long as nothing but the forgotten points changes.

Source: docs/theory, Theorem A.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from gaunlearn_jax import kkt
from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import ConstraintMask, Mask, PerEntry, PerRow
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.unlearn.step import Unlearned, check_forget, step_status

#: the part of its size by which a measured error of an exact point may be off zero
EXACT = 2e-13


def active_set_step(net: Any, data: Dataset, point: KKTPoint, forget: Mask, *, retrained: Any = None) -> Unlearned:
    """theta_N: the least theta with margin 1 on the retained points that carry multipliers and 0 at their kinks.

    `valid` where theta_N, measured afresh, is an exact KKT point of the retained problem; elsewhere the outcome is the
    retrained model (`retrained` if it is known already). Source: docs/theory, Theorem A.
    """
    forget = check_forget(data, forget)
    problem = net.problem(data)
    found = pattern_point(problem, point, forget)
    best = retraining_point(problem, point, forget) if retrained is None else retrained
    valid = is_exact(problem, found, forget)
    return Unlearned(
        params=jnp.where(valid, found.params, best.params),
        preactivations=jnp.where(valid, found.preactivations, best.preactivations),
        orthogonal_norm=jnp.zeros(()),
        log_step_size=jnp.full(problem.num_constraints, -jnp.inf),
        status=jnp.maximum(step_status(point, forget, 1.0), jnp.where(valid, 0, best.status)),
        valid=valid,
    )


def retraining(net: Any, data: Dataset, point: KKTPoint, forget: Mask, *, retrained: Any = None) -> Unlearned:
    """An exact KKT point of the retained problem, from the activations of theta by the pattern loop; for linear models
    the hard-margin solution. Source: docs/theory, Closeness to the retrained model."""
    forget = check_forget(data, forget)
    problem = net.problem(data)
    best = retraining_point(problem, point, forget) if retrained is None else retrained
    return Unlearned(
        params=best.params,
        preactivations=best.preactivations,
        orthogonal_norm=jnp.zeros(()),
        log_step_size=jnp.full(problem.num_constraints, -jnp.inf),
        status=jnp.maximum(step_status(point, forget, 1.0), best.status),
        valid=jnp.asarray(True),
    )


def retraining_point(problem: MarginProblem, point: KKTPoint, forget: Mask) -> KKTPoint:
    """The exact KKT point of the retained problem that `retraining` returns."""
    return kkt.solve_pattern(problem, point.selection, problem.constraints_of(~forget), kkt.MAX_REPEATS)


def pattern_point(problem: MarginProblem, point: KKTPoint, forget: Mask) -> KKTPoint:
    """theta_N with its multipliers and selection, measured on the retained points; exact only where `is_exact`.

    In each neuron the kinks' rows are eliminated first; one system for the multipliers is left.
    """
    valid = problem.constraints_of(~forget)
    support = valid & (point.multipliers > 0)
    at = problem.at_entries(point.preactivations)
    kinked = (at == 0) & problem.of_entries(support) & problem.kinked
    kinks = problem.by_row(kinked.astype(jnp.float64)) > 0
    lam, q = _solved(problem, point, support, kinks)
    params = numerics.matmul(q, problem.rows)
    z = jnp.where(kinks, 0.0, problem.preactivations(params))
    params = kkt.snap(problem, params, z)
    z = jnp.where(kinks, 0.0, problem.preactivations(params))
    lam = jnp.maximum(lam, 0.0)
    selection = _selection(problem, z, lam, q, kinked)
    return kkt.measured_point(problem, params, z, lam, selection, valid, status=point.status)


def _solved(
    problem: MarginProblem, point: KKTPoint, support: ConstraintMask, kinks: Bool[Array, "n r"]
) -> tuple[Array, PerRow]:
    """lambda' [a] (any sign) and the row coefficients Q' [n, r] of theta_N."""
    flat = problem.slopes(point.preactivations)
    eye = jnp.eye(problem.num_constraints)
    made = jax.vmap(lambda unit: problem.coefficients(unit, flat))(eye)
    made = jnp.where(kinks, 0.0, made)
    gram = jnp.broadcast_to(problem.gram()[:, :, None], (problem.num_rows, problem.num_rows, problem.num_neurons))
    swept = numerics.sweep(gram, kinks.T)
    matrix = jnp.einsum("ajr,rsj,bsj->ab", made, swept, jnp.swapaxes(made, 1, 2), precision="highest")
    goal = jnp.where(support, numerics.outward(), 0.0)
    inverse = -numerics.sweep(jnp.where(support[:, None] & support, 0.5 * (matrix + matrix.T), 0.0), support)
    inverse = jnp.where(support[:, None] & support, inverse, 0.0)
    lam = numerics.matmul(inverse, goal)
    for _ in range(3):
        lam = lam + numerics.matmul(inverse, goal - jnp.where(support, numerics.matmul(matrix, lam), 0.0))
    off = jnp.einsum("a,ajr->jr", lam, made, precision="highest")
    on = -jnp.einsum("rsj,js->jr", swept, off, precision="highest")
    return lam, jnp.where(kinks, on, off)


def _selection(problem: MarginProblem, z: PerRow, lam: Array, q: PerRow, kinked: Bool[Array, "n e"]) -> PerEntry:
    """s at theta_N: at kinks what its row coefficient asks for, shared alike by the entries of a row."""
    most = problem.amplitudes * problem.of_entries(lam)
    least = problem.slope * most
    low = problem.by_row(jnp.where(kinked, jnp.minimum(least, most), 0.0))
    high = problem.by_row(jnp.where(kinked, jnp.maximum(least, most), 0.0))
    share = (q - low) / jnp.where(high > low, high - low, 1.0)
    share = problem.at_entries(jnp.where(high > low, jnp.clip(share, 0.0, 1.0), 0.0))
    share = jnp.where(problem.amplitudes > 0, share, 1 - share)
    return problem.slopes(z, problem.slope + (1 - problem.slope) * share)


def is_exact(problem: MarginProblem, found: KKTPoint, forget: Mask) -> Bool[Array, ""]:
    """Whether a measured point is an exact KKT point of the retained problem but for rounding."""
    size = numerics.norm(found.params)
    spread = jnp.max(jnp.where(problem.constraints_of(~forget), problem.output_spread(found.preactivations), 0.0))
    room = EXACT * jnp.maximum(spread, 1.0)
    good = (found.epsilon <= EXACT * size + 4 * found.error) & (found.margin >= 1 - room)
    return good & (found.delta <= room * jnp.max(found.multipliers) + 4 * found.delta_error) & (found.status == 0)
