"""Theorem T: a ball that holds the retrained model, from any feasible point and any multipliers, without retraining.

Source: docs/theory, The ball of the retrained model.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Code, ConstraintMask, Mask, Params, PerConstraint, PerEntry, PerRow, Scalar
from gaunlearn_jax.base.codes import Reason
from gaunlearn_jax.base.show import Shown
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.models.problem import MarginProblem, check_shapes
from gaunlearn_jax.theory.bound import first_failing
from gaunlearn_jax.unlearn import check_forget
from gaunlearn_jax.unlearn.certificates import Certificate


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class Ball(Shown):
    """||theta* - centre|| <= radius, theta* the solution of Q_T.

    `outside` is the part of the centre along the weights orthogonal to every point, which theta* has not; `norm` is the
    centre's norm with it. `reason` is APPLIES, or UNDEFINED where the given point cannot be scaled to be feasible.
    """

    centre: Params
    outside: Float[Array, ""]
    radius: Float[Array, ""]
    norm: Float[Array, ""]
    reason: Code

    def distance(self, params: Params, orthogonal_norm: Scalar = 0.0) -> Float[Array, ""]:
        """A bound on ||params - theta*||: ||params - centre|| + radius. `orthogonal_norm` is the norm of the part
        orthogonal to every point, of the same direction as the given point's (no step moves it)."""
        off = numerics.norm(params - self.centre, jnp.asarray(orthogonal_norm - self.outside))
        return jnp.where(self.reason == Reason.APPLIES, off + self.radius, jnp.inf)

    def gap(self, params: Params, orthogonal_norm: Scalar = 0.0) -> Float[Array, ""]:
        """A bound on 1 - cos of the angle between params and theta*, from the angle to the centre plus arcsin(radius /
        ||centre||); 2 where the ball contains the origin and nothing is said."""
        there = jnp.append(self.centre.ravel(), self.outside)
        other = jnp.append(params.ravel(), jnp.asarray(orthogonal_norm))
        turn = numerics.angle_of_gap(numerics.one_minus_cos(there, there - other))
        sine = self.radius / jnp.where(self.norm > 0, self.norm, 1.0)
        says = (self.reason == Reason.APPLIES) & (sine < 1) & (self.norm > 0)
        return jnp.where(says, numerics.gap_of_angle(turn + jnp.arcsin(jnp.clip(sine, 0.0, 1.0))), 2.0)


def ball(
    net: Any,
    data: Dataset,
    params: Params,
    multipliers: PerConstraint,
    selection: PerEntry,
    forget: Mask,
    *,
    preactivations: PerRow | None = None,
    orthogonal_norm: Scalar = 0.0,
) -> Ball:
    """The ball of Theorem T from any theta~ (params [n, p]) and any multipliers >= 0 [a]: your own unlearned model too.

    theta_L = sum_T lambda_a g_a, Sigma = sum_T lambda_a (<g_a, theta~> - 1): theta* lies within sqrt(||theta~ -
    theta_L||^2 / 4 + Sigma) of (theta_L + theta~) / 2. `selection` [n, e], that of the original KKT
    point, defines the programme Q_T whose solution theta* is; for linear models that is the hard-margin
    solution for the retained points. theta~ is divided by its least F_a where that is below 1; where it is not
    positive the ball is UNDEFINED. `preactivations` [n, r] may be given with exact zeros at kinks. The radius has room
    for rounding. ValueError for shapes that do not fit, or where nothing is retained. Source: docs/theory, The ball of
    the retrained model.
    """
    forget = check_forget(data, forget)
    problem = net.problem(data)
    check_shapes(
        problem, data.num_points,
        params=params, multipliers=multipliers, selection=selection, preactivations=preactivations,
    )  # fmt: skip
    z = problem.preactivations(params) if preactivations is None else preactivations
    lam = jnp.maximum(multipliers, 0.0)
    return ball_of(problem, problem.constraints_of(~forget), jnp.asarray(params), z, lam, selection, orthogonal_norm)


def certified_ball(problem: MarginProblem, near: Certificate, forget: Mask) -> Ball:
    """The ball of the projection certificate: for e = 0 and no slack, of diameter [theta_hat, theta_tilde]."""
    return ball_of(
        problem, problem.constraints_of(~forget),
        near.params, near.preactivations, near.multipliers, near.selection, near.orthogonal_norm,
    )  # fmt: skip


def ball_of(
    problem: MarginProblem,
    live: ConstraintMask,
    params: Params,
    z: PerRow,
    multipliers: PerConstraint,
    selection: PerEntry,
    orthogonal: Scalar,
) -> Ball:
    """`ball` of a margin problem on its constraints `live`."""
    v, s, at = problem.amplitudes, selection, problem.at_entries(z)
    linear = problem.by_constraint(jnp.sum(v * s * at, axis=0))
    bent = jnp.where(problem.free, jnp.maximum(at, problem.slope * at), s * at)
    concave = problem.by_constraint(jnp.sum(v * bent, axis=0))
    # what F and <g, theta> may be off by: rounding, and pre-activations that were snapped to kinks
    again = problem.at_entries(problem.preactivations(params))
    slip = problem.by_constraint(jnp.sum(jnp.abs(v * (at - again)), axis=0))
    off = slip + (problem.num_terms + 4) * numerics.unit() / 2 * problem.output_spread(z)
    least = jnp.min(jnp.where(live, concave - off, jnp.inf))
    feasible = least > 0
    # theta and lambda come a factor OUTWARD too large, whose root would enter through Sigma
    shrink = jnp.where(feasible & (least < numerics.outward()), least, 1.0)
    lam = jnp.where(live, multipliers, 0.0)
    slack = jnp.sum(lam * (jnp.maximum(linear / shrink - 1.0, 0.0) + 2 * off))
    pull = problem.coefficients(lam, s)
    near, origin = params / shrink, numerics.matmul(pull, problem.rows)
    outside = jnp.asarray(orthogonal, jnp.float64) / shrink / 2
    half = numerics.norm((near - origin) / 2, outside)
    sizes = (jnp.abs(near), numerics.matmul(jnp.abs(pull), jnp.abs(problem.rows)))
    error = numerics.rounding(problem.num_rows + 4, *sizes)
    centre = (near + origin) / 2
    return Ball(
        centre=centre,
        outside=outside,
        radius=jnp.sqrt(half**2 + slack) + error,
        norm=numerics.norm(centre, outside),
        reason=first_failing((feasible, Reason.UNDEFINED)),
    )
