"""Theorem H: when one step of ascent ends nearer to the retrained model than doing nothing.

Source: docs/theory, Is the step better than nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gaunlearn_jax import unlearn
from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Mask, Params, PerPoint, Scalar
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.theory.ball import Ball

#: angles, in radians, that are not told apart
TIE = 1e-7
#: part of ||theta|| by which P_U theta may miss theta* and count as it
CLOSE = 1e-9
#: part of a norm below which a part of it is rounding
NOTHING = 1e-9


class Parts(NamedTuple):
    """rho = ||P h||, rho_perp = ||(I - P) h||, the norms of theta and theta_hat, and of (I - P) theta."""

    rho: Float[Array, ""]
    rho_perp: Float[Array, ""]
    theta: Float[Array, ""]
    hat: Float[Array, ""]
    outside: Float[Array, ""]

    @property
    def leverage(self) -> Array:
        """rho^2 / ||h||^2: for one point ||P x_r||^2 / ||x_r||^2, whatever the network; NaN without a step."""
        whole = self.rho**2 + self.rho_perp**2
        return jnp.where(whole > 0, self.rho**2 / jnp.where(whole > 0, whole, 1.0), jnp.nan)

    @property
    def own(self) -> Bool[Array, ""]:
        """Whether the forgotten points have a part outside the retained ones' span, so that there is one to remove."""
        return self.rho_perp > NOTHING * jnp.hypot(self.rho, self.rho_perp)


class Criterion(NamedTuple):
    """tan^2 of the angles to theta* of doing nothing, of the step and of its best multiple, that multiple, and ||P_U
    theta - theta*||: theirs is a statement if that is zero."""

    nothing: Float[Array, ""]
    step: Float[Array, ""]
    best: Float[Array, ""]
    multiple: Float[Array, ""]
    miss: Float[Array, ""]


def parts(problem: MarginProblem, point: KKTPoint, forget: Mask) -> Parts:
    """What (a) of Theorem H compares. Source: docs/theory, Is the step better than nothing."""
    h, _ = unlearn.ascent_direction(problem, point, forget)
    basis = numerics.orthonormal_basis(problem.rows, problem.rows_of(~forget))
    inside, kept = numerics.project(h, basis), numerics.project(point.params, basis)
    return Parts(
        rho=numerics.norm(inside),
        rho_perp=numerics.norm(h - inside),
        theta=numerics.norm(point.params, point.orthogonal_norm),
        hat=numerics.norm(point.params - h, point.orthogonal_norm),
        outside=numerics.norm(point.params - kept, point.orthogonal_norm),
    )


def certified(p: Parts, ball: Ball, hat: Params, orthogonal_norm: Scalar = 0.0) -> Bool[Array, ""]:
    """(a): r_hat / ||theta_hat|| < ||(I - P) theta|| / ||theta||; then the step is strictly nearer in angle."""
    return ball.distance(hat, orthogonal_norm) * p.theta < p.outside * p.hat


def leverages(points: Array, retained: Mask) -> PerPoint:
    """||P x_i||^2 / ||x_i||^2 [m], P the projection onto the retained points' span. Source: docs/theory, Leverage."""
    inside = numerics.project(points, numerics.orthonormal_basis(points, retained))
    squares = jnp.sum(points**2, axis=1)
    return jnp.sum(inside**2, axis=1) / jnp.where(squares > 0, squares, 1.0)


def criterion(problem: MarginProblem, point: KKTPoint, forget: Mask, star: Params) -> Criterion:
    """(b), for an exact KKT point whose active-set step P_U theta is the retrained model theta* = `star`.

    With W = ||theta*||^2, x = <h, theta*>, a' = ||P_U h - (x/W) theta*||^2, b = ||(I - P_U) h||^2: tan^2(nothing) =
    b/W, tan^2(step) = a' / (W (1 - x/W)^2), and of the best multiple c = t/(1 + t eta), eta = x/W, t = (1 - eta) b /
    ((1 - eta)^2 b + a'): b a' / (W ((1 - eta)^2 b + a')). For problems with one entry a point.
    Source: docs/theory, Is the step better than nothing.
    """
    h, _ = unlearn.ascent_direction(problem, point, forget)
    active = ActiveSpan.of(problem, point, problem.constraints_of(~forget))
    inside = active.project(h)
    x, whole = jnp.sum(h * star), jnp.sum(star**2)
    across = numerics.norm(inside - x / whole * star) ** 2
    b = numerics.norm(h - inside) ** 2
    return tangents(whole, x, across, b)._replace(miss=numerics.norm(active.project(point.params) - star))


def tangents(whole: Array, x: Array, across: Array, b: Array) -> Criterion:
    """The formulas of (b) from W, x, a' and b."""
    eta = x / whole
    mixed = (1 - eta) ** 2 * b + across
    t = (1 - eta) * b / jnp.where(mixed > 0, mixed, 1.0)
    best = b * across / (whole * jnp.where(mixed > 0, mixed, 1.0))
    step = across / (whole * (1 - eta) ** 2)
    return Criterion(b / whole, step, best, t / (1 + t * eta), jnp.zeros(()))


class ActiveSpan(NamedTuple):
    """U: the gradients of the active retained points, and their kinks neuron by neuron, as orthonormal bases."""

    kinks: Float[Array, "n m p"]
    gradients: Float[Array, "m q"]

    @classmethod
    def of(cls, problem: MarginProblem, point: KKTPoint, live: Mask) -> ActiveSpan:
        """U of a KKT point: spanned by g_i^+ = (v_ji sigma'(z_ji) x_i)_j, lambda_i > 0, and by x_i in block j where
        z_ji = 0. ValueError for problems with several entries a point."""
        if problem.layout is not None:
            raise ValueError("the active span is defined for problems with one entry a point; this one has a layout")
        active = live & (point.multipliers > 0)
        at_kink = active & (point.preactivations == 0) & problem.kinked
        kinks = jax.vmap(numerics.orthonormal_basis, (None, 0))(problem.rows, at_kink)
        slopes = jnp.where(at_kink, 0.0, problem.slopes(point.preactivations))
        made = jnp.swapaxes((problem.amplitudes * slopes)[:, :, None] * problem.rows, 0, 1)  # [m, n, p]
        off = made - jax.vmap(numerics.project_rows, (0, None))(made, kinks)
        return cls(kinks, numerics.orthonormal_basis(off.reshape(off.shape[0], -1), active))

    def project(self, w: Params) -> Params:
        """P_U w."""
        held = numerics.project_rows(w, self.kinks)
        return held + numerics.project((w - held).reshape(1, -1), self.gradients).reshape(w.shape)


def angle(a: Array, b: Array) -> Float[Array, ""]:
    """The angle between two arrays, accurate where it is small."""
    return numerics.angle_of_gap(numerics.cosine_gap(a, b))


def gap_ratio(step: Array, nothing: Array) -> Array:
    """The ratio of the gaps 1 - cos of two angles."""
    return (jnp.sin(step / 2) / jnp.sin(nothing / 2)) ** 2
