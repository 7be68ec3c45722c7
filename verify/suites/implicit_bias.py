"""Implicit bias: training drives the rescaled network towards a KKT point, and what a fixed sigma'(0) hides of it."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

import gaunlearn_jax as ga
from gaunlearn_jax import kkt, models, numerics
from gaunlearn_jax._types import Params, PerPair, Reason, Status
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models import Network
from gaunlearn_jax.train import LOSSES, Trained, log_loss_slope
from verify.check import Check, check
from verify.plots import STYLES, band
from verify.records import Record, Shape
from verify.suite import Results, Suite, unless

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


class Fit(NamedTuple):
    """What a fit says of a theta: epsilon_1, delta_1, rounding of epsilon_1, 1 - cos to the limit point, solved."""

    epsilon: Array
    delta: Array
    error: Array
    gap: Array
    solved: Array


def measured(net: Network, data: Dataset, limit: KKTPoint, params: Params, z: PerPair, orthogonal: Array) -> Fit:
    fit = kkt.fit_multipliers(net, data, params, z, orthogonal_norm=orthogonal)
    mine = jnp.append(fit.params.ravel(), fit.orthogonal_norm)
    gap = numerics.one_minus_cos(mine, mine - jnp.append(limit.params.ravel(), 0.0))
    return Fit(fit.epsilon, fit.delta, fit.error, gap, fit.status == int(Status.OK))


def per_instance(net: Network, record: Record, shape: Shape) -> Results:
    data, key = record.data, jax.random.wrap_key_data(record.train_key, impl="threefry2x32")
    out: Results = {}
    for loss in LOSSES:
        own = loss == shape.loss
        runs = [
            record.run if own and steps == STEPS[-1] else ga.train.train(key, net, data, loss=loss, num_steps=steps)
            for steps in STEPS
        ]
        limit = record.limit if own else kkt.limit_point(net, data, runs[-1])
        out |= _of_loss(net, data, runs, limit, loss)
        if own and net.kind == "relu":
            out |= _floors(net, data, limit)
    return out


def _of_loss(net: Network, data: Dataset, runs: list[Trained], limit: KKTPoint, loss: str) -> Results:
    solved = (limit.status == int(Status.OK)) & (runs[0].status == int(Status.OK))
    path = flow(net, data, runs[0], jnp.asarray(loss == "exponential"))
    snapped = [jnp.where(limit.preactivations == 0, 0.0, run.preactivations) for run in runs]
    on_kinks = [kkt.snap(data.points, run.params, z) for run, z in zip(runs, snapped, strict=True)]
    params = jnp.stack([run.params for run in runs] + on_kinks)
    z = jnp.stack([run.preactivations for run in runs] + snapped)
    orthogonal = jnp.stack([run.orthogonal_norm for run in runs] * 2)
    fits = jax.vmap(lambda *args: measured(net, data, limit, *args))(params, z, orthogonal)
    plain, clarke = (jax.tree.map(lambda v, h=h: v[h], fits) for h in (slice(0, len(runs)), slice(len(runs), None)))
    promised = jnp.stack([gradient_epsilon(net, data, run, loss) for run in runs])
    promised = promised * numerics.OUTWARD + 4 * plain.error
    at = jnp.argmax(plain.epsilon / promised)
    out: Results = {
        f"{loss}/instance/epsilon": check(
            plain.epsilon[at], promised[at], plain.error[at], converged=solved & jnp.all(plain.solved)
        ),
        f"epsilon_{loss}": plain.epsilon,
        f"epsilon_clarke_{loss}": clarke.epsilon,
        f"delta_{loss}": plain.delta,
        f"gap_{loss}": plain.gap,
        f"smoothed_{loss}": path.smoothed[:: FLOW_STEPS // FLOW_POINTS] * numerics.norm(limit.params),
        f"fall_{loss}": jnp.max(lax.cummax(path.smoothed) - path.smoothed),
        f"solved_{loss}": solved,
    }
    if loss == "exponential":
        out[f"{loss}/flow/smoothed_margin"] = never_falls(path, solved)
    return out


def _floors(net: Network, data: Dataset, limit: KKTPoint) -> Results:
    return {}
