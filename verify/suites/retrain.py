"""Closeness to the retrained model: the exact solution for the retained points, and a network trained on them."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import gaunlearn_jax as ga
from gaunlearn_jax.base import draws, numerics
from gaunlearn_jax.base.codes import Reason, Status
from gaunlearn_jax.theory import bounds
from gaunlearn_jax.theory.closeness import angle_bound, certified_ball, distance_bound
from gaunlearn_jax.unlearn.certificates import Certificate
from verify.suites.check import Check, check, exactness
from verify.suites.drawing import band, limit_first, per_dim, widest
from verify.suites.exact_points import left_by_solver
from verify.suites.finding import NOTHING, Explanation, Finding, found, view
from verify.suites.suite import FURTHER_MODELS, Attack, Derived, Evaluation, Results, Suite, unless

#: part of a bound by which the rounding of another one, of the same quantity, may exceed it
ROOM = 1e-9
#: fresh points on which function values are compared
FRESH = 128


def against_trained(e: Evaluation) -> Results:
    """Cosine gaps to a network trained from the same initial weights on the retained points, of theta_hat and of the
    untouched theta: [2], in parameters and in function values on fresh points x ~ N(0, I_d / d).

    Function values leave out the weights orthogonal to all points, which training never moves and the networks share.
    """
    data, net = e.record.data, e.net
    key = jax.random.wrap_key_data(e.record.train_key, impl="threefry2x32")
    run = ga.train.train(key, net, data, loss=e.shape.loss, retained=~e.forget)
    draw = jax.random.fold_in(jax.random.wrap_key_data(e.record.key, impl="threefry2x32"), 1)
    fresh = draws.normal(draw, shape=(FRESH * data.patches, e.problem.rows.shape[1]))
    ours = jnp.stack([e.hat, e.point.params])

    def values(params: Array) -> Array:
        return net.outputs(numerics.matmul(params, fresh.T))

    def whole(params: Array, outside: Array) -> Array:
        return jnp.append(params.ravel(), outside)

    goal, goal_values = whole(run.params, run.orthogonal_norm), values(run.params)
    return {
        "to_trained_parameters": jax.vmap(lambda p: numerics.cosine_gap(whole(p, e.point.orthogonal_norm), goal))(ours),
        "to_trained_values": jax.vmap(lambda p: numerics.cosine_gap(values(p), goal_values))(ours),
        "trained_solved": run.status == int(Status.OK),
    }


def evaluate(e: Evaluation) -> Results:
    point, near = e.point, e.certificates["projection"]
    first = e.first
    converged = bounds.converged(near.status, first.status)
    distance = numerics.norm(near.params - first.params, near.orthogonal_norm)
    most = distance_bound(e.problem, near, e.forget)
    tau_bound, sines = angle_bound(near, e.hat, most)
    slip = (near.error + first.distance_error) / near.norm
    # theta* lies in the span of the retained points, so the untouched theta is at least this far from it
    untouched = bounds.identity_gap(e.net, e.record.data, point, e.forget, 0.0, e.norm_floor)
    off = numerics.norm(point.params, point.orthogonal_norm) * jnp.sqrt(untouched * (2 - untouched))
    # what may be an equality is compared with room for the rounding of both sides
    exact = {"reason": unless(first.is_kkt, Reason.NOT_KKT), "converged": converged}
    exact_epsilon, exact_delta = left_by_solver(e.problem, ~e.forget, first, numerics.norm(first.params))
    ball = certified_ball(e.problem, near, e.forget)
    ball_distance, ball_tau = ball.distance(e.hat, point.orthogonal_norm), ball.gap(e.hat, point.orthogonal_norm)
    error = near.error + first.distance_error
    away = numerics.norm(e.hat - first.params, point.orthogonal_norm)
    tau_error = 2 * jnp.sqrt(2 * first.tau) * slip + slip**2
    return {
        "projection/ball/distance": check(
            away, ball_distance + 2 * error, error, reason=ball.reason, converged=converged,
            discriminating=jnp.asarray(off > ball_distance, jnp.float64),
        ),
        "retrain/ball/tau": check(
            first.tau, ball_tau + 2 * tau_error, tau_error,
            reason=unless(ball_tau < 2, Reason.EMPTY), converged=converged,
            discriminating=jnp.asarray(untouched > ball_tau, jnp.float64),
        ),
        "retrain/ball/angle": check(
            ball_tau, (1 + ROOM) * tau_bound + exactness(), converged=bounds.converged(near.status),
            reason=unless((sines[0] < 1) & (sines[1] < 1), Reason.EMPTY),
        ),
        "projection/instance/distance": check(
            distance, most, near.error + first.distance_error,
            reason=unless(most < near.norm, Reason.EMPTY), converged=converged,
            discriminating=jnp.asarray(off > most, jnp.float64),
        ),
        "retrain/instance/tau": check(
            first.tau, tau_bound, tau_error,
            reason=unless((sines[0] < 1) & (sines[1] < 1), Reason.EMPTY), converged=converged,
            discriminating=jnp.asarray(untouched > tau_bound, jnp.float64),
        ),
        "retrain/exact/epsilon": check(first.epsilon, exact_epsilon, **exact),
        "retrain/exact/delta": check(first.delta, exact_delta, **exact),
        "distance": distance, "distance_bound": most, "rho": sines[0] * near.norm,
        "tau": first.tau, "tau_bound": tau_bound, "ball_tau": ball_tau,
        "first_is_kkt": first.is_kkt, "solved": converged, **against_trained(e),
    }  # fmt: skip


def draw(figure: Any, blocks: list[Any], grid: Any) -> None:
    """Left: D against its bound. Right: cosine gaps to theta* and to the retrained network, step and no step."""
    block = widest(blocks)
    results, dims, shape = block.results["retrain"], np.asarray(grid.dims), block.shape
    solved = np.asarray(results["solved"]).astype(bool)
    left, right = figure.subplots(1, 2)

    def line(ax: Any, name: str, label: str, style: int, theta: int, entry: int | None = None) -> None:
        values = np.asarray(results[name])[:, theta, 0]
        values = values if entry is None else values[:, entry]
        values = np.where(solved[:, theta, 0], values, np.nan)
        band(ax, dims, np.maximum(per_dim(grid, block, values), 1e-33), label, style)

    line(left, "distance_bound", r"bound $\frac{1}{2}(\tilde\varepsilon+\sqrt{\tilde\varepsilon^2+4\Sigma})$", 1, 1)
    line(left, "distance", r"$D=\Vert\tilde\theta-\theta^*\Vert$", 0, 1)
    line(right, "to_trained_parameters", r"$\theta$ (no step) to the retrained network", 3, 0, 1)
    line(right, "to_trained_parameters", r"$\hat\theta$ to it, in parameters", 2, 0, 0)
    line(right, "to_trained_values", r"$\hat\theta$ to it, in values on fresh points", 4, 0, 0)
    line(right, "tau_bound", r"bound on $\hat\theta$ to $\theta^*$", 1, 1)
    line(right, "ball_tau", r"the ball's bound on $\hat\theta$ to $\theta^*$", 5, 1)
    line(right, "tau", r"$\hat\theta$ to $\theta^*$", 0, 1)
    share = np.mean(limit_first(results["first_is_kkt"])[limit_first(solved)])
    figure.suptitle(
        f"{shape.model}, m = {shape.m}, n = {shape.n}, k = {grid.forget[0]}; to $\\theta^*$: exact KKT points "
        f"(first solve is one for $T$ on {share:.0%} of lanes); to the network: trained",
        fontsize=9,
    )
    left.set_ylabel(r"distance to the retrained point $\theta^*$")
    right.set_ylabel(r"cosine gap $1-\cos\angle$")
    for ax in (left, right):
        ax.set(xscale="log", yscale="log", xlabel="dimension $d$")
        ax.grid(alpha=0.25)
        ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.15))


def _near(e: Any) -> tuple[Certificate, Array, Array]:
    """The projection certificate, the error of distances to theta*, and whether both were solved."""
    near = e.certificates["projection"]
    return near, near.error + e.m * exactness() * near.norm, e.retrained[2] & (near.status == int(Status.OK))


def _distance(e: Any) -> Check:
    near, error, solved = _near(e)
    most = distance_bound(e.problem, near, e.forget)
    return check(numerics.norm(near.params - e.retrained[0]), most, error, converged=solved)


def _tau(e: Any) -> Check:
    near, error, solved = _near(e)
    best = e.retrained[0]
    most, sines = angle_bound(near, e.hat, distance_bound(e.problem, near, e.forget))
    tau, slip = numerics.one_minus_cos(best, best - e.hat), error / near.norm
    defined = unless((sines[0] < 1) & (sines[1] < 1), Reason.EMPTY)
    return check(tau, most, 2 * jnp.sqrt(2 * tau) * slip + slip**2, reason=defined, converged=solved)


def _ball(e: Any, quantity: str) -> Check:
    """The same of Theorem T's ball: ||theta_hat - theta*|| or 1 - cos of their angle."""
    near, error, solved = _near(e)
    ball, best = certified_ball(e.problem, near, e.forget), e.retrained[0]
    if quantity == "distance":
        return check(
            numerics.norm(e.hat - best), ball.distance(e.hat) + 2 * error, error, reason=ball.reason, converged=solved
        )
    most = ball.gap(e.hat)
    tau, slip = numerics.one_minus_cos(best, best - e.hat), error / near.norm
    error = 2 * jnp.sqrt(2 * tau) * slip + slip**2
    return check(tau, most + 2 * error, error, reason=unless(most < 2, Reason.EMPTY), converged=solved)


def find(blocks: list[Any], grid: Any) -> Finding:
    """How near theta* the step ends, and how near the network that is really retrained."""
    exact, trained = (view(blocks, "retrain", theta) for theta in ("limit", "trained"))
    if not exact.dims:
        return NOTHING
    step, nothing = ([trained.median("to_trained_parameters", d, i) for d in exact.dims] for i in (0, 1))
    return found(
        "the step's gap is {tau} at d = {top:d}, its bound {room} times that",
        "retrained from the same start: {step_low} to {step_high} ({nothing_low} to {nothing_high} untouched)",
        top=exact.top, tau=exact.median("tau", exact.top), room=exact.room("retrain/ball/tau", exact.top),
        step_low=min(step), step_high=max(step), nothing_low=min(nothing), nothing_high=max(nothing),
    )  # fmt: skip


SUITE = Suite(
    name="retrain",
    statement="the exact solution for the retained points lies in a ball with the step and the certificate on its edge",
    source="docs/theory, Closeness to the retrained model; The ball of the retrained model",
    evaluate=evaluate,
    draw=draw,
    further=FURTHER_MODELS,
    attacks={
        "distance": Attack(_distance, "Closeness to the retrained model", True),
        "tau": Attack(_tau, "Closeness to the retrained model", True),
        "ball": Attack(functools.partial(_ball, quantity="distance"), "The ball of the retrained model", True),
        "ball_tau": Attack(functools.partial(_ball, quantity="tau"), "The ball of the retrained model", True),
    },
    derived={
        "projection/instance/distance": Derived("retrain/distance", solution=True),
        "retrain/instance/tau": Derived("retrain/tau", solution=True),
        "projection/ball/distance": Derived("retrain/ball", solution=True),
        "retrain/ball/tau": Derived("retrain/ball_tau", solution=True),
    },
    find=find,
    explain=Explanation(
        hypotheses="none on the data: any KKT point up to (epsilon_1, delta_1), its multipliers and its selection",
        meaning="the exact solution for the retained points with the same activations lies in a ball that is known "
        "without retraining. A network that is really retrained may switch other neurons on, and then is elsewhere",
        false_if="an exact solution outside the ball",
    ),
)
