"""Implicit bias: training drives the rescaled network towards a KKT point, and what a fixed sigma'(0) hides of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

import gaunlearn_jax as ga
from gaunlearn_jax import dual, kkt, models, numerics
from gaunlearn_jax._types import Params, PerPair, Reason, Status
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models import Network
from gaunlearn_jax.train import LOSSES, Trained, log_loss_slope
from verify.check import Check, check
from verify.records import Record, Shape
from verify.suite import Results, unless

#: training times; the last is the record's own run
STEPS = (50, 150, 500)
#: the flow: steps, and their size in units of margin
FLOW_STEPS, FLOW_SIZE, FLOW_POINTS = 400, 0.1, 20


class Flow(NamedTuple):
    """One Euler step of the flow on the smoothed margin f = -log sum_i exp(-q_i): f, ||theta||, f/||theta|| before it,
    and by how much f/||theta|| may fall in it for no other reason than the size of the step."""

    f: Array
    size: Array
    smoothed: Array
    allowance: Array


def flow(net: Network, data: Dataset, run: Trained, exponential: Array) -> Flow:
    """FLOW_STEPS small Euler steps theta += eta G from a trained network, G = sum_i p_i y_i g_i with p = softmax of
    log(-l'(q)): gradient flow in another time. Leading axis FLOW_STEPS.

    Why gradient flow of the exponential loss never lowers f/||theta|| where f > 0: f' = ||G||^2 and <theta, G> =
    sum p q >= f, so (f/||theta||)' >= (||G||^2 ||theta||^2 - <theta, G>^2)/||theta||^3 >= 0. For one step of size eta, f
    is concave with curvature at most range(A)^2/4 in the direction A_i = y_i <g_i, G> while no activation changes,
    and a change can lower q_i only at opposite-sign pairs, by the overshoot |u_j|(sigma(z') - sigma(z) - s (z' - z)).
    Hence f/||theta|| falls by at most (eta^2 range(A)^2/8 + overshoot + f eta^2 ||G||^2/(2 ||theta||^2))/||theta'||.
    """
    gram = numerics.gram(data.points)
    eta = FLOW_SIZE * data.num_points / jnp.mean(jnp.diagonal(gram))
    opposite = ~models.same_sign(net, data.labels) & (net.negative_slope < 1)
    weights = jnp.abs(net.output_weights)[:, None]

    def step(state: tuple[Params, PerPair], _: None) -> tuple[tuple[Params, PerPair], Flow]:
        w, z = state
        q = models.margins(net, data.labels, z)
        p = jax.nn.softmax(jnp.where(exponential, log_loss_slope(q, "exponential"), log_loss_slope(q, "logistic")))
        s = models.activation_slopes(net, z)
        coefficients = models.coefficients(net, data.labels, p, s)
        g, g_z = numerics.matmul(coefficients, data.points), numerics.matmul(coefficients, gram)
        new_w, new_z = w + eta * g, z + eta * g_z
        along = data.labels * numerics.matmul(net.output_weights, s * g_z)
        bend = jnp.maximum(new_z, net.negative_slope * new_z) - s * new_z  # sigma(z) = s z
        overshoot = jnp.max(jnp.sum(jnp.where(opposite, weights * bend, 0.0), axis=0))
        f, size = -jax.nn.logsumexp(-q), numerics.norm(w, run.orthogonal_norm)
        curved = (eta * (jnp.max(along) - jnp.min(along))) ** 2 / 8 + overshoot
        lost = curved + f * (eta * numerics.norm(g) / size) ** 2 / 2
        return (new_w, new_z), Flow(f, size, f / size, lost / numerics.norm(new_w, run.orthogonal_norm))

    return lax.scan(step, (run.params, run.preactivations), None, length=FLOW_STEPS)[1]


def never_falls(path: Flow, converged: Array) -> Check:
    """The smoothed normalised margin falls at no step by more than that step's allowance (worst step, relative)."""
    counted = path.f[:-1] > 0
    fall = jnp.where(counted, path.smoothed[:-1] - path.smoothed[1:], -jnp.inf)
    at = jnp.argmax(fall / path.allowance[:-1])
    error = 64 * numerics.EPS * jnp.abs(path.smoothed[at])
    return check(
        jnp.maximum(fall[at], 0.0), path.allowance[at], error,
        reason=unless(jnp.any(counted), Reason.UNDEFINED), converged=converged,
    )  # fmt: skip


def gradient_epsilon(net: Network, data: Dataset, run: Trained, loss: str) -> Array:
    """||theta - c G|| / q_min at its best c: the epsilon that lambda_i = c p_i, p = softmax of log(-l'(q)), attains.

    ||theta|| sin of the angle between theta and minus the loss gradient; the fitted epsilon_1 is never larger.
    """
    p = jax.nn.softmax(log_loss_slope(run.margins, loss))
    slopes = models.activation_slopes(net, run.preactivations)
    g = numerics.matmul(models.coefficients(net, data.labels, p, slopes), data.points)
    c = jnp.maximum(jnp.sum(run.params * g) / jnp.sum(g**2), 0.0)
    return numerics.norm(run.params - c * g, run.orthogonal_norm) / jnp.min(run.margins)


def kink_floor(net: Network, data: Dataset, limit: KKTPoint) -> Array:
    """Delta: what stationarity costs at an exact KKT point if every kink must be on or off (s in {0, 1}).

    Delta^2 = lambda_min(K) sum_i min_t [a_i (lambda_i - t)^2 + sum_{kinks j} u_j^2 min(mu_ji^2, (t - mu_ji)^2)]. The
    inner minimum is at one of n + 1 points: kinks with mu >= some threshold are on, t is their weighted mean.
    Source: docs/theory, Why a trained theta's epsilon_1 stays above zero.
    """
    u2, lam = net.output_weights[:, None] ** 2, limit.multipliers
    kink = limit.preactivations == 0
    mu = jnp.where(kink, limit.selection * lam, 0.0)
    active = jnp.sum(jnp.where(limit.preactivations > 0, u2, 0.0), axis=0)
    candidates = jnp.concatenate([mu, jnp.full((1, mu.shape[1]), jnp.inf)])  # thresholds [n + 1, m]
    on = kink & (mu >= candidates[:, None, :])
    weight = active + jnp.sum(jnp.where(on, u2, 0.0), axis=1)
    t = (active * lam + jnp.sum(jnp.where(on, u2 * mu, 0.0), axis=1)) / jnp.where(weight > 0, weight, 1.0)
    off = jnp.minimum(mu**2, (t[:, None, :] - mu) ** 2)
    cost = active * (lam - t) ** 2 + jnp.sum(jnp.where(kink, u2 * off, 0.0), axis=1)
    inverse = -numerics.sweep(numerics.gram(data.points), jnp.ones(data.num_points, bool))
    return jnp.sqrt(jnp.sum(jnp.min(cost, axis=0)) / numerics.top_eigenvalue(inverse))


def per_instance(net: Network, record: Record, shape: Shape) -> Results:
    """The run's own loss against its limit point; the other loss without one (its smoothed margin, epsilon, delta)."""
    data, limit = record.data, record.limit
    key = jax.random.wrap_key_data(record.train_key, impl="threefry2x32")
    other = next(loss for loss in LOSSES if loss != shape.loss)
    short = [ga.train.train(key, net, data, loss=shape.loss, num_steps=steps) for steps in STEPS[:-1]]
    runs = _stack([*short, record.run])
    others = _stack([ga.train.train(key, net, data, loss=other, num_steps=steps) for steps in STEPS])

    on_kink = jnp.where(limit.preactivations == 0, 0.0, runs.preactivations)
    snapped = jax.vmap(lambda w, z: kkt.snap(data.points, w, z))(runs.params, on_kink)
    sides = jnp.where(limit.preactivations == 0, jnp.asarray([-1e-300, 1e-300])[:, None, None], limit.preactivations)
    zero = jnp.zeros(2)
    fits = jax.vmap(
        lambda w, z, o: kkt.fit_multipliers(net, data, w, z, orthogonal_norm=o),
    )(
        jnp.concatenate([runs.params, snapped, others.params, jnp.stack([limit.params] * 2)]),
        jnp.concatenate([runs.preactivations, on_kink, others.preactivations, sides]),
        jnp.concatenate([runs.orthogonal_norm, runs.orthogonal_norm, others.orthogonal_norm, zero]),
    )  # fmt: skip
    t = len(STEPS)
    plain, clarke, rival, forced = (_slice(fits, *ends) for ends in ((0, t), (t, 2 * t), (2 * t, 3 * t), (3 * t, None)))

    out: Results = _limit_results(net, data, limit, plain, clarke)
    for loss, group, points in ((shape.loss, runs, plain), (other, others, rival)):
        path = flow(net, data, _pick(group, 0), jnp.asarray(loss == "exponential"))
        separated = group.status[0] == int(Status.OK)
        promised = jax.vmap(lambda run, loss=loss: gradient_epsilon(net, data, run, loss))(group)
        promised = promised * numerics.OUTWARD + 4 * points.error
        at = jnp.argmax(points.epsilon / promised)
        solved = separated & jnp.all(points.status == int(Status.OK))
        out[f"{loss}/gradient/epsilon"] = check(points.epsilon[at], promised[at], points.error[at], converged=solved)
        if loss == "exponential":
            out[f"{loss}/flow/smoothed_margin"] = never_falls(path, separated)
        every = FLOW_STEPS // FLOW_POINTS
        out |= {
            f"epsilon_{loss}": points.epsilon,
            f"delta_{loss}": points.delta,
            f"gradient_{loss}": promised,
            f"smoothed_{loss}": path.smoothed[every - 1 :: every] * numerics.norm(limit.params),
            f"fall_{loss}": jnp.max(lax.cummax(path.smoothed) - path.smoothed),
        }
    if net.kind == "relu":
        out |= _floors(net, data, limit, plain, forced)
    return out


def _limit_results(net: Network, data: Dataset, limit: KKTPoint, plain: KKTPoint, clarke: KKTPoint) -> Results:
    """The distance of each rescaled network to the limit point against (eps + sqrt(eps^2 + 4 Sigma))/2.

    Closeness to the retrained model with nothing forgotten: the limit point solves the convex programme of its own
    same-sign activations, so the bound holds for every network that shares these.
    """
    same = models.same_sign(net, data.labels) | (net.kind == "linear")
    pattern = limit.selection > 0.5
    shared = jnp.all((plain.preactivations > 0) == pattern, axis=(1, 2), where=same) | (net.kind == "linear")
    apart = plain.params - limit.params
    distance = jax.vmap(numerics.norm)(apart, plain.orthogonal_norm)
    q = jax.vmap(lambda z: models.margins(net, data.labels, z))(plain.preactivations)
    slack = jnp.sum(plain.multipliers * jnp.maximum(q - 1.0, 0.0), axis=1) + data.num_points * plain.delta_error
    epsilon = plain.epsilon + 2 * plain.error
    bound = 0.5 * (epsilon + jnp.sqrt(epsilon**2 + 4 * slack))
    size = numerics.norm(limit.params)
    at = jnp.argmax(jnp.where(shared, distance / bound, -1.0))
    whole = jax.vmap(lambda p: jnp.append(p.params.ravel(), p.orthogonal_norm))(plain)
    gap = jax.vmap(lambda a: numerics.one_minus_cos(a, a - jnp.append(limit.params.ravel(), 0.0)))(whole)
    solved = (limit.status == int(Status.OK)) & jnp.all(plain.status == int(Status.OK))
    return {
        "limit/instance/distance": check(
            distance[at], bound[at], plain.error[at] + 100 * dual.TOL * size,
            reason=unless(jnp.any(shared), Reason.NOT_KKT), converged=solved,
        ),
        "gap": gap,
        "shared": shared,
        "distance": distance,
        "distance_bound": jnp.where(shared, bound, jnp.nan),
        "epsilon_clarke": clarke.epsilon,
        "moved": jax.vmap(numerics.norm)(clarke.params - plain.params),
        "solved": solved,
    }  # fmt: skip


def _floors(net: Network, data: Dataset, limit: KKTPoint, plain: KKTPoint, forced: KKTPoint) -> Results:
    """Delta against the epsilon of the exact limit point when every kink is switched off, or on; and of networks."""
    floor = kink_floor(net, data, limit)
    far = jax.vmap(numerics.norm)(plain.params - limit.params, plain.orthogonal_norm)
    sign = limit.preactivations != 0
    same = jnp.all(jnp.sign(plain.preactivations) == jnp.sign(limit.preactivations), axis=(1, 2), where=sign)
    says = same & (floor > far) & jnp.all(plain.preactivations != 0, axis=(1, 2))
    at = jnp.argmax(jnp.where(says, (floor - far) / plain.epsilon, -1.0))
    least = jnp.argmin(forced.epsilon)
    slip = forced.error[least] + 1e-11 * floor
    solved = (limit.status == int(Status.OK)) & jnp.all(forced.status == int(Status.OK))
    some = jnp.any((limit.preactivations == 0) & (limit.selection > 0) & (limit.selection < 1))
    return {
        "limit/floor/epsilon": check(
            floor, forced.epsilon[least], slip, converged=solved, reason=unless(some, Reason.EMPTY)
        ),
        "trained/floor/epsilon": check(
            floor - far[at], plain.epsilon[at], plain.error[at] + slip, converged=solved,
            reason=unless(jnp.any(says), Reason.EMPTY),
        ),
        "floor": floor,
        "floor_off": forced.epsilon[0],
        "floor_on": forced.epsilon[1],
    }  # fmt: skip


def _stack(runs: list[Trained]) -> Trained:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *runs)


def _pick(tree: Any, i: int) -> Any:
    return jax.tree.map(lambda v: v[i], tree)


def _slice(tree: Any, start: int, stop: int | None) -> Any:
    return jax.tree.map(lambda v: v[start:stop], tree)
