"""Forgetting a set of points one after another, and what an outcome of any such sequence is worth.

Source: docs/theory, Sets and sequences.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gaunlearn_jax import kkt
from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Mask, Params
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.unlearn.step import ascent_direction, gradient_ascent

GRADIENTS = ("kept", "fresh", "refit")


def one_after_another(net: Any, data: Dataset, point: KKTPoint, order: Int[Array, "k"], gradients: str) -> KKTPoint:
    """Forget the points order [k] one by one; theta after the last step, in the given point's other fields.

    gradients: "kept" uses the original lambda and s throughout; "fresh" the original lambda with the gradients that
    automatic differentiation gives at the current weights (sigma'(0) = 0); "refit" measures lambda and s afresh on the
    points not yet forgotten before every step but the first. ValueError for another word.
    """
    if gradients not in GRADIENTS:
        raise ValueError(f"gradients is {gradients!r}, expected one of {', '.join(GRADIENTS)}")
    problem = net.problem(data)

    current, gone = point, jnp.zeros(data.num_points, bool)
    for step in range(order.shape[0]):
        one = jnp.arange(data.num_points) == order[step]
        if gradients == "fresh":
            current = dataclasses.replace(current, selection=problem.slopes(current.preactivations))
        if gradients == "refit" and step > 0:
            fit = kkt.fit_multipliers(
                net, data, current.params, current.preactivations,
                orthogonal_norm=current.orthogonal_norm, retained=~gone, rescale=False,
            )  # fmt: skip
            current = dataclasses.replace(
                current,
                multipliers=fit.multipliers,
                selection=fit.selection,
                status=jnp.maximum(current.status, fit.status),
            )
        after = gradient_ascent(net, data, current, one)
        current = dataclasses.replace(current, params=after.params, preactivations=after.preactivations)
        gone = gone | one
    return current


def certified(
    problem: MarginProblem, point: KKTPoint, forget: Mask, params: Params
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """(epsilon, tau, ||h' - h||/||h||) of an outcome theta - h' whose h' is any combination of the forgotten rows.

    Theorem P's argument for h' in place of h: theta - (I - P) h' leaves every pre-activation of T as it is, its
    residual is e + P h + (I - P)(h - h'), and it is P h' away from theta - h'.
    """
    h, _ = ascent_direction(problem, point, forget)
    basis = numerics.orthonormal_basis(problem.rows, problem.rows_of(~forget))
    other = point.params - params
    inside = numerics.project(other, basis)
    lam = jnp.where(problem.constraints_of(forget), 0.0, point.multipliers)
    tilde = point.params - (other - inside)
    made = numerics.matmul(problem.coefficients(lam, point.selection), problem.rows)
    epsilon = numerics.norm(tilde - made, point.orthogonal_norm)
    whole = jnp.concatenate([tilde.ravel(), jnp.atleast_1d(point.orthogonal_norm)])
    tau = numerics.one_minus_cos(whole, jnp.concatenate([inside.ravel(), jnp.zeros(1)]))
    return epsilon, tau, numerics.norm(other - h) / numerics.norm(h)
