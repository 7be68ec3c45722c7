"""Orthogonal points of norm 1 and uniform patterns: every gap in closed form, and the theorem that none is 0.

A pattern is uniform if every neuron is active on its whole class. Then theta is known by the sizes M_y of the classes,
and the point retrained on T by those of its classes. Source: docs/theory, Orthogonal points.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Mask, PerPoint, Scalar
from gaunlearn_jax.both_layers.steps import Classes, PerClass


class Sizes(NamedTuple):
    """The number of points of the classes +1 and -1 in S, and in T."""

    whole: PerClass
    kept: PerClass

    @property
    def classes(self) -> Classes:
        """Their shares: x = kept / whole, p = sqrt(M_y) over the sum."""
        some = self.whole > 0
        roots = jnp.sqrt(self.whole)
        return Classes(jnp.where(some, self.kept / jnp.where(some, self.whole, 1.0), 1.0), roots / jnp.sum(roots))


def sizes_of(labels: PerPoint, forget: Mask) -> Sizes:
    """The sizes of the classes."""
    mine = jnp.stack([labels > 0, labels < 0])
    return Sizes(jnp.sum(mine, axis=1) * 1.0, jnp.sum(mine & ~forget, axis=1) * 1.0)


def gap(sizes: Sizes, first: Scalar, second: PerClass) -> Float[Array, ""]:
    """1 - cos between theta_hat, the step with these fractions of h^W and h^a, and the retrained point.

    With f = 1 - c (1 - x) the two are, class by class and up to scale, sqrt(p) (sqrt x, (1 - b) sqrt(1 - x), f) and
    sqrt(p) (x^(1/4), 0, x^(1/4)): retained and forgotten part of the first layer, second layer.

    >>> import jax
    >>> with jax.enable_x64(True):
    ...     one_class = Sizes(jnp.asarray([4.0, 0.0]), jnp.asarray([3.0, 0.0]))
    ...     c = 1 / (1 + jnp.sqrt(jnp.asarray([0.75, 1.0])))
    ...     print(float(gap(one_class, 1.0, c)) < 1e-30)
    True
    """
    x, p = sizes.classes
    root, quarter = jnp.sqrt(p), x**0.25
    left = 1 - second * (1 - x)
    stepped = jnp.stack([root * jnp.sqrt(x), (1 - first) * root * jnp.sqrt(1 - x), root * left])
    return numerics.cosine_gap(stepped, jnp.stack([root * quarter, jnp.zeros(2), root * quarter]))


def leading(step: str, size: Scalar, share: Scalar) -> Float[Array, ""]:
    """The gap to leading order in 1/M where one point of a class of M = `size` is forgotten; p = `share` of it."""
    p = jnp.asarray(share)
    factor = {
        "nothing": 8 * p * size,
        "full": p * (5 - 4 * p),
        "first": p,
        "half": p * (1 - p),
        "nearest": p * (1 - p) / (2 - p),
    }[step]
    return factor / (32 * jnp.asarray(size) ** 2)


def floor(sizes: Sizes, first: Scalar, second: PerClass) -> Float[Array, ""]:
    """Theorem N: no exact KKT point of T, of any patterns, is nearer to theta_hat than this.

    min(gap, 1 - sqrt(1 - 1 / (sqrt(M_y) ||theta_hat||^2))) over the classes y; for 0 <= c (1 - x) <= 1 and classes that
    keep a point; 0 elsewhere.
    """
    x, _ = sizes.classes
    lost = second * (1 - x)
    some = sizes.whole > 0
    square = jnp.sum(jnp.sqrt(sizes.whole) * (x + (1 - jnp.asarray(first)) ** 2 * (1 - x) + (1 - lost) ** 2))
    lacking = numerics.one_minus_cos_of_sine(jnp.sqrt(1 / (jnp.sqrt(jnp.where(some, sizes.whole, 1.0)) * square)))
    applies = jnp.all((lost >= 0) & (lost <= 1) & (~some | (sizes.kept > 0)))
    bound = jnp.minimum(gap(sizes, first, second), jnp.min(jnp.where(some, lacking, jnp.inf)))
    return jnp.where(applies, bound, 0.0)
