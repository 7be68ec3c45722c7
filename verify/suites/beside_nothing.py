"""The step beside doing nothing, of which several claims speak."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from gaunlearn_jax.base import numerics
from gaunlearn_jax.theory.closeness import certified_ball
from gaunlearn_jax.theory.worthwhile import Parts, angle, certified, parts


class Compared(NamedTuple):
    """The angles to theta* without and with the step, what (a) of Theorem H compares, whether the step moves anything,
    and whether (a) proves it nearer."""

    nothing: Array
    step: Array
    parts: Parts
    moved: Array
    proved: Array


def compared(e: Any, star: Array) -> Compared:
    """The step beside doing nothing, weights outside the span of the points included."""
    point, near = e.point, e.certificates["projection"]
    p = parts(e.problem, point, e.forget)
    there = _whole(star, 0.0)
    nothing, step = (angle(_whole(w, point.orthogonal_norm), there) for w in (point.params, e.hat))
    moved = numerics.norm(point.params - e.hat) > 0
    proved = moved & certified(p, certified_ball(e.problem, near, e.forget), e.hat, point.orthogonal_norm)
    return Compared(nothing, step, p, moved, proved)


def _whole(params: Array, outside: Any) -> Array:
    return jnp.append(params.ravel(), outside)
