"""How far from a network every (epsilon', delta')-KKT point of the retained points is, whatever its patterns.

Each bound is on the angle and returned as 1 - cos; 0 says nothing. Source: docs/theory, Lower bounds for both layers.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Mask, Scalar
from gaunlearn_jax.both_layers.point import Weights
from gaunlearn_jax.data import Dataset

#: relative outward margin of sums of squares, far above their rounding
OUTWARD = 1e-13


class LowerBounds(NamedTuple):
    """Bounds on 1 - cos between a network and every nearly-KKT point of the retained points."""

    span: Float[Array, ""]
    balance: Float[Array, ""]
    rigidity: Float[Array, ""]


def norm_floor(data: Dataset, valid: Mask) -> Float[Array, ""]:
    """B_T: ||theta'||^2 >= B_T^2 = 2 sum_y sqrt(M_y / lambda_max(K_Ty)) for every theta' with margins >= 1."""
    gram = numerics.gram(data.points)

    def of_class(label: float) -> Array:
        mine = valid & (data.labels * label > 0)
        top = numerics.top_eigenvalue(jnp.where(mine[:, None] & mine, gram, 0.0)) * (1 + OUTWARD)
        return jnp.sqrt(jnp.where(top > 0, jnp.sum(mine) / jnp.where(top > 0, top, 1.0), 0.0))

    return jnp.sqrt(2 * (of_class(1.0) + of_class(-1.0))) * (1 - OUTWARD)


def lower_bounds(data: Dataset, theta: Weights, valid: Mask, epsilon: Scalar) -> LowerBounds:
    """For every theta' with margins >= 1 on the marked points and ||(e^W, e^a)|| <= epsilon.

    span: arcsin(||(I - P) W|| / ||theta||) - arcsin(epsilon / B_T). balance: half of arcsin(sum_j | ||w_j||^2 - a_j^2 |
    / ||theta||^2) - arcsin(epsilon / B_T). rigidity: see `rigid_distance`.
    """
    norm = theta.norm
    slack = jnp.minimum(epsilon / jnp.maximum(norm_floor(data, valid), 1e-300) * (1 + OUTWARD), 1.0)
    inside = numerics.project(theta.params, numerics.orthonormal_basis(data.points, valid))
    blur = OUTWARD * norm
    out = jnp.maximum(numerics.norm(theta.params - inside) - blur, 0.0)
    span = jnp.arcsin(jnp.minimum(out / norm, 1.0)) - jnp.arcsin(slack)
    uneven = jnp.maximum(jnp.sum(jnp.abs(theta.imbalance)) / norm**2 - OUTWARD, 0.0)
    balance = 0.5 * (jnp.arcsin(jnp.minimum(uneven, 1.0)) - jnp.arcsin(slack))
    rigid = jnp.arcsin(jnp.clip(rigid_distance(data, theta, valid, slack) / norm, 0.0, 1.0))
    return LowerBounds(*(numerics.gap_of_angle(jnp.maximum(angle, 0.0)) for angle in (span, balance, rigid)))


def rigid_distance(data: Dataset, theta: Weights, valid: Mask, slack: Scalar) -> Float[Array, ""]:
    """D with ||theta - s theta'|| >= D for every s >= 0 and every such theta'; slack = min(1, epsilon / B_T).

    At a point x_i with dual vector x~_i, the rows <w_j, x~_i> and a_j of the neurons J that stay active under any move
    of length D come within max(1, ||x~_i||) (D + slack ||theta||) of rank one. J runs over the neurons of largest
    z_ji, D over the room that the last of them has. 0 where the points depend on each other.
    """
    gram = jnp.where(valid[:, None] & valid, numerics.gram(data.points), 0.0)
    inverse = jnp.where(valid[:, None] & valid, -numerics.sweep(gram, valid), 0.0)
    own = jnp.diagonal(inverse)
    independent = jnp.all(~valid | (own > 0))
    dual = numerics.matmul(jnp.where(valid, theta.preactivations, 0.0), inverse)
    length = jnp.sqrt(jnp.where(valid, jnp.diagonal(gram), 1.0))
    order = jnp.argsort(-theta.preactivations, axis=0)
    z = jnp.take_along_axis(theta.preactivations, order, axis=0)
    first = jnp.take_along_axis(dual, order, axis=0)
    second = theta.output_weights[order]
    uu, vv, uv = (jnp.cumsum(x, axis=0) for x in (first**2, second**2, first * second))
    top = 0.5 * (uu + vv + jnp.sqrt((uu - vv) ** 2 + 4 * uv**2))
    area = jnp.maximum(uu * vv - uv**2 - OUTWARD * (uu + vv) ** 2, 0.0)
    least = jnp.sqrt(area / jnp.where(top > 0, top, 1.0))
    stretch = jnp.maximum(1.0, jnp.sqrt(jnp.maximum(own, 0.0)) * (1 + OUTWARD))
    reach = jnp.minimum(z / length * (1 - OUTWARD), least / stretch - slack * theta.norm)
    return jnp.where(independent, jnp.maximum(jnp.max(jnp.where(valid, reach, 0.0)), 0.0), 0.0)
