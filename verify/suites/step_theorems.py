"""What is proved of every unlearning step, as comparisons on one instance (docs/theory, Steps)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

import gaunlearn_jax as ga
from gaunlearn_jax import kkt
from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Params
from gaunlearn_jax.base.codes import Reason, Status
from gaunlearn_jax.theory import bounds
from gaunlearn_jax.theory.ball import certified_ball
from gaunlearn_jax.theory.closeness import FirstSolve
from gaunlearn_jax.unlearn import Unlearned, active_set, gradient_steps, projected, ridge
from gaunlearn_jax.unlearn.certificates import Certificate
from verify.suites.check import Check, check, exactness
from verify.suites.exact_points import left_by_solver
from verify.suites.suite import Evaluation, Results, unless

#: ridge at which Newton's removal step is held against the ridge minimisers themselves
RIDGE = 1e-5
#: a pre-activation, at margin 1, that counts as a kink where weights alone are given
KINK = 1e-12
#: roundings that a solve of a system of condition 1 may leave
SOLVE = 1e3


class Scene:
    """One evaluation with what the theorems share: the projection certificate, theta*, h, P h and the ball of Theorem T
    (its centre and radius)."""

    def __init__(self, e: Evaluation) -> None:
        self.e = e
        self.near: Certificate = e.certificates["projection"]
        self.retrained: Certificate = e.certificates["retrain"]
        self.first: FirstSolve = e.first
        h, _ = ga.unlearn.ascent_direction(e.problem, e.point, e.forget)
        basis = numerics.orthonormal_basis(e.problem.rows, e.problem.rows_of(~e.forget))
        self.h, self.basis, self.inside = h, basis, numerics.project(h, basis)
        self.rho = numerics.norm(self.inside)

    @functools.cached_property
    def solved(self) -> Array:
        return bounds.converged(self.near.status, self.first.status)

    @functools.cached_property
    def ball(self) -> tuple[Array, Array]:
        """Centre (flat, the norm outside the span last) and radius of the ball of Theorem T, which holds theta*."""
        found = certified_ball(self.e.problem, self.near, self.e.forget)
        return self.whole(found.centre, found.outside), found.radius

    @staticmethod
    def whole(params: Params, orthogonal: Array | float = 0.0) -> Array:
        return jnp.append(params.ravel(), orthogonal)

    def outcome(self, after: Unlearned) -> Array:
        return self.whole(after.params, after.orthogonal_norm)

    @functools.cached_property
    def goal(self) -> Array:
        """theta* flat."""
        return self.whole(self.first.params)

    @property
    def error(self) -> Array:
        """The rounding of a distance to theta*."""
        return self.near.error + self.first.distance_error + exactness() * self.near.norm

    def gap(self, after: Unlearned, goal: Array | None = None) -> Array:
        """1 - cos of the angle between the outcome and theta*."""
        return numerics.cosine_gap(self.goal if goal is None else goal, self.outcome(after))

    def least_gap(self, start: Array, direction: Array) -> Array:
        """The least 1 - cos of the angle between theta* and start + t direction, t >= 0: what an oracle reaches.

        With a, b the lengths along theta* and A, B, C the inner products across it, tan^2 = (A + 2 B t + C t^2) /
        (a + b t)^2 is stationary at the single t = (A b - B a) / (C a - B b).
        """
        unit = self.goal / numerics.norm(self.goal)
        a, b = jnp.sum(start * unit), jnp.sum(direction * unit)
        across, off = start - a * unit, direction - b * unit
        aa, ab, bb = jnp.sum(across**2), jnp.sum(across * off), jnp.sum(off**2)
        below = bb * a - ab * b
        t = jnp.where(below > 0, jnp.maximum(aa * b - ab * a, 0.0) / jnp.where(below > 0, below, 1.0), 0.0)
        # and the ends of the ray, of which the far one is its direction
        ends = (start, start + t * direction, direction)
        return jnp.nanmin(jnp.stack([numerics.cosine_gap(self.goal, v) for v in ends]))

    @property
    def common(self) -> dict[str, Any]:
        return {"converged": self.e.point.status == int(Status.OK)}


# --- every step ---------------------------------------------------------------------------------------------


def of_any(scene: Scene, name: str, after: Unlearned) -> Results:
    """Theorem T from both sides, and for linear models the lower bound with the arctangent."""
    centre, radius = scene.ball
    out, e = scene.outcome(after), scene.e
    distance, far = numerics.norm(out - scene.goal), numerics.norm(out - centre)
    beyond = e.point.params - numerics.project(e.point.params, scene.basis)
    nothing = numerics.norm(beyond, e.point.orthogonal_norm)
    # theta* = theta_tilde is an equality from both sides
    common, error = {"converged": scene.solved}, scene.error
    found: Results = {
        f"{name}/ball/distance": check(
            distance, far + radius + 2 * error, error, discriminating=(nothing > far + radius) * 1.0, **common
        ),
        f"{name}/excluded/distance": check(
            far - radius, distance + 2 * error, error, reason=unless(far > radius, Reason.EMPTY), **common
        ),
    }
    if not e.problem.kinked:
        near, size = scene.near, numerics.norm(scene.goal)
        whole = scene.whole(near.params, near.orthogonal_norm)
        most = near.epsilon + jnp.sqrt(near.epsilon**2 + 4 * jnp.sum(e.problem.constraints_of(~e.forget)) * near.delta)
        allowed = numerics.angle_of_gap(scene.gap(after, whole)) + jnp.arctan(0.5 * most / size)
        room = 4 * error / size
        found[f"{name}/lower/angle"] = check(
            numerics.angle_of_gap(scene.gap(after)), allowed + room, room / 2, **common
        )
    return found


# --- their own ----------------------------------------------------------------------------------------------


def _thales(scene: Scene, name: str, after: Unlearned) -> Results:
    """In the ball with diameter [theta - h, theta - (I - P) h]."""
    centre = scene.e.point.params - scene.h + 0.5 * scene.inside
    distance = numerics.norm(after.params - centre)
    # projections lie on the sphere, an equality in exact arithmetic
    error = exactness() * scene.near.norm
    return {f"{name}/thales/distance": check(distance, 0.5 * scene.rho + 2 * error, error, **scene.common)}


def _as_kkt(scene: Scene, name: str, after: Unlearned, rho: Array, reason: Any = 0) -> Results:
    """(eps_1 + rho, delta_1, 0): theta_hat itself, with the multipliers and the selection of theta."""
    e = scene.e
    live = e.problem.constraints_of(~e.forget)
    got = kkt.measure(
        e.problem, after.params, after.preactivations, e.point.multipliers, e.point.selection, live,
        after.orthogonal_norm,
    )  # fmt: skip
    common = {"reason": reason, **scene.common}
    error = got.error + e.point.error
    room = exactness() * jnp.max(e.problem.output_spread(after.preactivations))
    return {
        f"{name}/instance/epsilon": check(got.epsilon, e.point.epsilon + rho + 2 * error, error, **common),
        f"{name}/instance/delta": check(
            got.delta, e.point.delta + 2 * (got.delta_error + e.point.delta_error), got.delta_error, **common
        ),
        f"{name}/instance/margin": check(1.0, got.margin + 2 * room, room, **common),
    }


def _nothing(scene: Scene, name: str, after: Unlearned) -> Results:
    e = scene.e
    least = ga.bounds.identity_gap(e.net, e.record.data, e.point, e.forget, 0.0, e.norm_floor)
    gap = scene.gap(after)
    slip = scene.error / scene.near.norm
    error = 2 * jnp.sqrt(2 * gap) * slip + slip**2
    return {f"{name}/identity/tau": check(least, gap + 2 * error, error, converged=scene.solved)}


def _ascent(scene: Scene, name: str, after: Unlearned) -> Results:
    found = scene.e.success(scene.near, scene.e.instance_bound(scene.near), "instance")
    point = scene.e.point
    best = scene.least_gap(scene.whole(point.params, point.orthogonal_norm), -scene.whole(scene.h))
    own = {f"{name}/{key.split('/', 1)[1]}": value for key, value in found.items() if isinstance(value, Check)}
    return _thales(scene, name, after) | own | {f"best_{name}": best}


def _projection(scene: Scene, name: str, after: Unlearned) -> Results:
    return _thales(scene, name, after) | _as_kkt(scene, name, after, scene.rho)


def _neuronwise(scene: Scene, name: str, after: Unlearned) -> Results:
    e = scene.e
    seen = projected.seen_pairs(e.problem, e.point, e.forget)
    rho = numerics.norm(projected.seen_part(e.problem, scene.h, seen))
    return _as_kkt(scene, name, after, rho, unless(after.valid, Reason.NOT_KKT))


def _active_set(scene: Scene, name: str, after: Unlearned) -> Results:
    """Where it is valid: an exact KKT point; and the solution of Q_T if no fixed pair contradicts its slope."""
    e = scene.e
    found = active_set.pattern_point(e.problem, e.point, e.forget)
    live = e.problem.of_entries(e.problem.constraints_of(~e.forget)) & ~e.problem.free & e.problem.kinked
    z, s = e.problem.at_entries(found.preactivations), e.point.selection
    same = jnp.where(s == 1, z >= 0, jnp.where(s == e.problem.slope, z <= 0, z == 0))
    unchanged = after.valid & jnp.all(same | ~live)
    size = numerics.norm(found.params)
    distance = numerics.norm(scene.goal - scene.whole(found.params))
    error = scene.first.distance_error + 4 * found.error + exactness() * size * jnp.sqrt(float(e.m))
    valid = unless(after.valid, Reason.NOT_KKT)
    return {
        f"{name}/exact/epsilon": check(
            found.epsilon, active_set.EXACT * size + 4 * found.error, reason=valid, **scene.common
        ),
        f"{name}/exact/distance": check(
            distance, 2 * error, error, reason=unless(unchanged, Reason.NOT_KKT), converged=scene.solved
        ),
        f"unchecked_{name}": numerics.cosine_gap(scene.goal, scene.whole(found.params)),
    }


def _neggrad_plus(scene: Scene, name: str, after: Unlearned) -> Results:
    """The distance to the line of theta_tilde is at least what theta_tilde and the descent direction leave of P h."""
    e, near = scene.e, scene.near
    given = numerics.matmul(gradient_steps.descent_coefficients(e.problem, e.point, e.forget), e.problem.rows)
    line = near.params.ravel() / numerics.norm(near.params)

    def off(v: Array, unit: Array) -> Array:
        return v - jnp.sum(v * unit) * unit

    other = off(given.ravel(), line)
    size = numerics.norm(other)
    flat = other / jnp.where(size > exactness() * numerics.norm(given), size, jnp.inf)
    floor = numerics.norm(off(off(scene.inside.ravel(), line), flat))
    distance = numerics.norm(off(after.params.ravel(), line))
    error = exactness() * near.norm
    # what the descent part leaves of P h is an equality at its best weight, hence the room
    ascended = scene.whole(e.point.params - scene.h, e.point.orthogonal_norm)
    return {
        f"{name}/floor/distance": check(floor, distance + 2 * error, error, **scene.common),
        f"best_{name}": scene.least_gap(ascended, scene.whole(given)),
    }


def _fine_tuning(scene: Scene, name: str, after: Unlearned) -> Results:
    """The sine of the angle to the retained span against its floors: by time, and by the loss reached."""
    e = scene.e
    step = ga.unlearn.STEPS["fine_tuning"]
    values = {p.name: p.default for p in step.parameters}
    tuned = gradient_steps.descent(e.problem, e.point, e.forget, values["time"], values["start"])

    def sine(params: Params) -> Array:
        beyond = params - numerics.project(params, scene.basis)
        outside = e.point.orthogonal_norm
        return numerics.norm(beyond, outside) / numerics.norm(params, outside)

    first, last = sine(e.point.params), sine(after.params)
    grown = jnp.expm1(tuned.gain) * gradient_steps.TUNING_STEPS
    by_time = first * tuned.before / (tuned.before + jnp.log1p(grown))
    by_loss = first * tuned.before / tuned.after
    common = {"reason": unless(after.valid & (tuned.gain <= 1), Reason.DATA), **scene.common}
    error = exactness() * jnp.sqrt(float(gradient_steps.TUNING_STEPS))
    return {
        f"{name}/time/sine": check(by_time, last + 2 * error, error, **common),
        f"{name}/loss/sine": check(by_loss, last + 2 * error, error, **common),
    }


def _newton(scene: Scene, name: str, after: Unlearned) -> Results:
    """Newton's step from the ridge minimiser itself, in the coordinates of w, against the filtered ascent."""
    e = scene.e
    everyone = jnp.ones_like(e.forget)
    whole = ridge.minimiser(e.problem, e.problem.constraints_of(everyone), RIDGE)
    z = e.problem.preactivations(whole.params)
    solved = dataclasses.replace(e.point, params=whole.params, preactivations=z, multipliers=whole.multipliers)
    filtered = ga.unlearn.newton_removal(e.net, e.record.data, solved, e.forget, 1.0).params
    exact = ridge.newton_step(e.problem, whole, e.problem.constraints_of(~e.forget), RIDGE)
    size = numerics.norm(whole.params)
    error = SOLVE * numerics.unit() * whole.condition * size
    retained = ridge.minimiser(e.problem, e.problem.constraints_of(~e.forget), RIDGE)
    own, before = (scene.whole(v) / numerics.norm(v) for v in (exact, whole.params))
    goal = scene.whole(retained.params) / numerics.norm(retained.params)
    gaps = (numerics.one_minus_cos(goal, goal - v) for v in (own, before))
    met = whole.converged & retained.converged
    return _thales(scene, name, after) | {
        f"{name}/woodbury/distance": check(numerics.norm(filtered - exact), error, error / 2, converged=met),
        **dict(zip((f"own_target_{name}", "own_target_nothing"), gaps, strict=True)),
    }


def _influence(scene: Scene, name: str, after: Unlearned) -> Results:
    """For one forgotten constraint the displacement is a fraction, 0 to 1, of Newton's."""
    e = scene.e
    newton = ga.unlearn.STEPS["newton"].make(e.net, e.record.data, e.point, e.forget)
    ours, theirs = (e.point.params - v.params for v in (after, newton))
    size = jnp.sum(theirs**2)
    share = jnp.sum(ours * theirs) / jnp.where(size > 0, size, 1.0)
    off = numerics.norm(ours - share * theirs)
    error = SOLVE * numerics.unit() * scene.near.norm
    common = {"reason": unless(jnp.sum(e.problem.constraints_of(e.forget)) == 1, Reason.FORGET_SIZE), **scene.common}
    return {
        f"{name}/multiple/distance": check(off, 2 * error, error, **common),
        f"{name}/multiple/share": check(share, 1 + 2 * error, error, **common),
    }


def _retraining(scene: Scene, name: str, after: Unlearned) -> Results:
    """An exact KKT point but for what the solver may leave, in units of the terms that theta* is a sum of."""
    best = scene.retrained
    epsilon, delta = left_by_solver(scene.e.problem, ~scene.e.forget, best, best.norm)
    common = {"converged": best.status == int(Status.OK)}
    return {
        f"{name}/exact/epsilon": check(best.epsilon, epsilon, **common),
        f"{name}/exact/delta": check(best.delta, delta, **common),
    }


def is_retrained(scene: Scene, after: Unlearned) -> Array:
    """Whether the weights in the span of the points, which are all that a step can change, make an exact KKT point of
    the retained problem with multipliers fitted to them: networks have several."""
    e = scene.e
    fit = kkt.fit_multipliers(
        e.net, e.record.data, after.params, after.preactivations, kink_tol=KINK, retained=~e.forget
    )
    epsilon, delta = left_by_solver(e.problem, ~e.forget, fit, numerics.norm(fit.params))
    return (fit.status == int(Status.OK)) & (fit.epsilon <= epsilon) & (fit.delta <= delta)


Theorem = Callable[[Scene, str, Unlearned], Results]
OWN: dict[str, Theorem] = {
    "nothing": _nothing,
    "ascent": _ascent,
    "mean": _thales,
    "nearest": _thales,
    "active": _thales,
    "projection": _projection,
    "neuronwise": _neuronwise,
    "orthogonal": _thales,
    "repaired": _thales,
    "active_set": _active_set,
    "neggrad_plus": _neggrad_plus,
    "fine_tuning": _fine_tuning,
    "newton": _newton,
    "influence": _influence,
    "retraining": _retraining,
}
