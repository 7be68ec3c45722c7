"""The multipliers of a given theta: those of least stationarity error."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaunlearn_jax.base import checks, numerics
from gaunlearn_jax.base.arrays import ConstraintMask, Mask, Params, PerEntry, PerRow, Scalar
from gaunlearn_jax.base.codes import Status
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt.pattern import pattern_loop
from gaunlearn_jax.kkt.points import KKTPoint, measured_point, snap
from gaunlearn_jax.kkt.programme import Solution, programme_of
from gaunlearn_jax.models.problem import MarginProblem, check_shapes

#: margins nearer to 1 than this have no cap on their multiplier: the quotient would be rounding
AT_MARGIN = 1e-13


def fit_multipliers(
    net: Any,
    data: Dataset,
    params: Params,
    preactivations: PerRow | None = None,
    *,
    kink_tol: Scalar = 0.0,
    orthogonal_norm: Scalar = 0.0,
    slackness_cap: Scalar | None = None,
    retained: Mask | None = None,
    rescale: bool = True,
) -> KKTPoint:
    """The smallest epsilon for which theta is an approximate KKT point, with the multipliers that attain it.

    minimise || theta - sum_a lambda_a g_a ||^2 over lambda >= 0 and Clarke selections (free in [slope, 1] exactly
    where a pre-activation is 0): a convex quadratic programme. theta is first rescaled to smallest margin 1 over the
    retained points (INFEASIBLE and unscaled if that margin is not positive). kink_tol > 0 replaces theta by the point
    whose pre-activations of modulus <= kink_tol (after rescaling) are 0; `moved` says how far that is. slackness_cap
    restricts lambda_a (q_a - 1) <= cap, so sweeping it traces the (epsilon, delta) frontier. rescale=False measures
    theta as it is. Source: docs/theory, Measuring.
    """
    numerics.require_x64()
    problem = net.problem(data)
    check_shapes(problem, data.num_points, params=params, preactivations=preactivations, retained=retained)
    _check_values(
        params=params,
        preactivations=preactivations,
        kink_tol=kink_tol,
        orthogonal_norm=orthogonal_norm,
        slackness_cap=slackness_cap,
    )
    params = jnp.asarray(params, jnp.float64)
    z = problem.preactivations(params) if preactivations is None else jnp.asarray(preactivations)
    mask = jnp.ones(data.num_points, bool) if retained is None else jnp.asarray(retained)
    cap = jnp.inf if slackness_cap is None else slackness_cap
    return _fit(problem, params, z, problem.constraints_of(mask), kink_tol, orthogonal_norm, cap, rescale)


@functools.partial(jax.jit, static_argnames="rescale")
def _fit(
    problem: MarginProblem,
    params: Params,
    z: PerRow,
    valid: ConstraintMask,
    kink_tol: Scalar,
    orthogonal_norm: Scalar,
    slackness_cap: Scalar,
    rescale: bool,
) -> KKTPoint:
    """`fit_multipliers` after its checks."""
    smallest = jnp.min(jnp.where(valid, problem.margins(z), jnp.inf))
    feasible = smallest > 0
    scale = jnp.where(feasible, smallest, 1.0) / numerics.outward() if rescale else jnp.asarray(1.0)
    w, z, orthogonal = params / scale, z / scale, jnp.asarray(orthogonal_norm) / scale
    snapped = jnp.where((jnp.abs(z) <= kink_tol) & (kink_tol > 0), 0.0, z)
    touched = jnp.any(snapped != z)
    moved_params = jnp.where(touched, snap(problem, w, snapped), w)
    moved = numerics.norm(moved_params - w)
    w = moved_params
    z = jnp.where(touched & (snapped != 0), problem.preactivations(w), snapped)

    q = problem.margins(z)
    excess = jnp.maximum(q - 1.0, 0.0)
    cap = jnp.where(excess > AT_MARGIN, slackness_cap / jnp.where(excess > AT_MARGIN, excess, 1.0), jnp.inf)
    kinks = (problem.at_entries(z) == 0) & problem.kinked
    slopes = problem.slopes(z, 0.5 * (1 + problem.slope))
    solution = pattern_loop(
        programme_of(problem, slopes, kinks, q, valid, cap), slopes, jnp.asarray(0, jnp.int32)
    ).solution
    status = jnp.where(solution.converged, Status.OK, Status.UNCONVERGED)
    status = jnp.where(feasible | (not rescale), status, Status.INFEASIBLE)
    return measured_point(
        problem, w, z, solution.multipliers, selection_of(problem, z, solution), valid,
        orthogonal_norm=orthogonal, scale=scale, moved=moved, status=status,
    )  # fmt: skip


def selection_of(problem: MarginProblem, z: PerRow, solution: Solution) -> PerEntry:
    """s at z: c / lambda where z = 0, inside [slope, 1]."""
    lam = problem.of_entries(solution.multipliers)
    fraction = jnp.where(lam > 0, solution.c / jnp.where(lam > 0, lam, 1.0), problem.slope)
    return problem.slopes(z, jnp.clip(fraction, problem.slope, 1.0))


def _check_values(**values: Any) -> None:
    """ValueError for NaN or infinite params, and for options that are negative or NaN; concrete values only."""
    for name, value in values.items():
        if value is None or checks.is_traced(value):
            continue
        v = np.asarray(value)
        if v.dtype.kind not in "fiu" or not np.all(np.isfinite(v)):
            raise ValueError(f"{name} has dtype {v.dtype} or NaN or infinite entries, expected finite real numbers")
        if name not in ("params", "preactivations") and np.any(v < 0):
            raise ValueError(f"{name} is {value}, expected a number >= 0")
