"""A theta with multipliers and a Clarke selection, measured: how nearly it is a KKT point of

    min 1/2 ||theta||^2  s.t.  q_a(theta) >= 1.

What is reported is recomputed from theta, not what a solver believed (docs/theory, Approximate KKT point). Activity is
decided by `preactivations` with exact zeros at kinks; params follow them.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Code, ConstraintMask, Params, PerConstraint, PerEntry, PerRow, Scalar
from gaunlearn_jax.base.codes import Status
from gaunlearn_jax.base.show import Shown
from gaunlearn_jax.models.problem import MarginProblem


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class KKTPoint(Shown):
    """theta with multipliers lambda [a] and a Clarke selection s [n, e], measured.

    epsilon = || theta - sum_a lambda_a g_a ||, delta = max_a lambda_a (q_a - 1), margin = min_a q_a over the
    constraints of the retained points; error, delta_error = rounding errors of the first two; scale = what the given
    theta was divided by; orthogonal_norm = norm of the weights outside the span of the points (part of epsilon and of
    ||theta||); moved = distance to the given theta that setting kinks to exact zeros cost (after rescaling); repeats =
    rounds of the pattern loop. For one output and one entry a point (a = e = m) these are lambda_i, s_ji, y_i g_i.
    """

    params: Params
    preactivations: PerRow
    multipliers: PerConstraint
    selection: PerEntry
    orthogonal_norm: Float[Array, ""]
    epsilon: Float[Array, ""]
    delta: Float[Array, ""]
    margin: Float[Array, ""]
    error: Float[Array, ""]
    delta_error: Float[Array, ""]
    scale: Float[Array, ""]
    moved: Float[Array, ""]
    repeats: Int[Array, ""]
    status: Code


class Measured(NamedTuple):
    """(epsilon, delta) of a theta with its multipliers and selection, its smallest margin, rounding errors."""

    epsilon: Float[Array, ""]
    delta: Float[Array, ""]
    margin: Float[Array, ""]
    error: Float[Array, ""]
    delta_error: Float[Array, ""]


def measure(
    problem: MarginProblem,
    params: Params,
    z: PerRow,
    multipliers: PerConstraint,
    selection: PerEntry,
    valid: ConstraintMask,
    orthogonal_norm: Scalar = 0.0,
) -> Measured:
    """Recompute stationarity, complementary slackness and feasibility on the valid constraints from theta itself."""
    lam = jnp.where(valid, multipliers, 0.0)
    q = problem.coefficients(lam, selection)
    residual = params - numerics.matmul(q, problem.rows)
    margins = problem.margins(z)
    slack = jnp.max(jnp.where(valid, lam * (margins - 1.0), -jnp.inf))
    error = numerics.rounding(problem.num_rows, params, numerics.matmul(jnp.abs(q), jnp.abs(problem.rows)))
    spread = lam * problem.output_spread(z)
    return Measured(
        epsilon=numerics.norm(residual, orthogonal_norm),
        delta=jnp.maximum(slack, 0.0),
        margin=jnp.min(jnp.where(valid, margins, jnp.inf)),
        error=error,
        delta_error=2 * (problem.num_terms + 8) * numerics.unit() * jnp.max(spread),
    )


def residual(problem: MarginProblem, point: Any) -> Params:
    """e = theta - sum_a lambda_a g_a of a point or certificate, the part inside the span of the rows."""
    made = problem.coefficients(point.multipliers, point.selection)
    return point.params - numerics.matmul(made, problem.rows)


def snap(problem: MarginProblem, params: Params, z: PerRow) -> Params:
    """The nearest params (moving inside the span of the rows) whose pre-activations are z.

    Each round solves for what is missing, dependent rows left out, so three rounds reach rounding level.
    """
    inverse = -numerics.sweep(problem.gram(), jnp.ones(problem.num_rows, bool))
    for _ in range(3):
        missing = z - problem.preactivations(params)
        params = params + numerics.matmul(numerics.matmul(missing, inverse), problem.rows)
    return params


def measured_point(
    problem: MarginProblem,
    params: Params,
    z: PerRow,
    multipliers: PerConstraint,
    selection: PerEntry,
    valid: ConstraintMask,
    *,
    orthogonal_norm: Scalar = 0.0,
    scale: Scalar = 1.0,
    moved: Scalar = 0.0,
    repeats: Int[Array, ""] | int = 0,
    status: Code | int = Status.OK,
) -> KKTPoint:
    """A KKTPoint from its parts: epsilon, delta and margin are recomputed from theta; UNCONVERGED if not finite."""
    lam = jnp.where(valid, multipliers, 0.0)
    m = measure(problem, params, z, lam, selection, valid, orthogonal_norm)
    bad = ~jnp.isfinite(m.epsilon)
    return KKTPoint(
        params=params,
        preactivations=z,
        multipliers=lam,
        selection=selection,
        orthogonal_norm=jnp.asarray(orthogonal_norm, jnp.float64),
        epsilon=m.epsilon,
        delta=m.delta,
        margin=m.margin,
        error=m.error,
        delta_error=m.delta_error,
        scale=jnp.asarray(scale, jnp.float64),
        moved=jnp.asarray(moved, jnp.float64),
        repeats=jnp.asarray(repeats, jnp.int32),
        status=jnp.where(bad, jnp.maximum(status, Status.UNCONVERGED), status).astype(jnp.int32),
    )
