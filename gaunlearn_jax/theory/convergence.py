"""How near training is to its limit: the smoothed margin along the flow, the loss gradient as multipliers, kink floor.

Sources: docs/theory, Implicit bias (Lyu and Li 2020) and Why a trained theta's epsilon_1 stays above zero.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Params, PerConstraint, PerEntry, PerRow
from gaunlearn_jax.base.staging import staged
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.training.train import Trained, log_weights


class Flow(NamedTuple):
    """Every step of a flow: f = -log sum_i exp(-q_i) and f/||theta|| before it, and the most by which f/||theta|| can
    fall in it because the step is not infinitely small (`allowance`, valid where f > 0, exponential loss)."""

    f: Float[Array, "steps"]
    smoothed: Float[Array, "steps"]
    allowance: Float[Array, "steps"]


@staged
def flow(net: Any, data: Dataset, run: Trained, *, loss: str, num_steps: int, step_size: float) -> Flow:
    """Small Euler steps theta' = theta + eta G from a trained network, G = sum_i p_i y_i g_i, p = softmax of
    log(-l'(q)): gradient flow in another time. `step_size` is in units of margin, as in `train.train`.

    Gradient flow of the exponential loss never lowers f/||theta|| where f > 0: <theta, G> = sum p q >= f, so
    d(f/||theta||) = (||G||^2 ||theta||^2 - f <theta, G>)/||theta||^3 >= 0 by Cauchy and Schwarz. In one step of size
    eta, f is concave along the change A_i = y_i <g_i, G> of the margins, with curvature at most range(A)^2/4; a changed
    activation lowers q_i only at opposite-sign pairs, by the overshoot |u_j| (sigma(z') - s z'). With ||theta'|| <=
    ||theta|| + eta <theta, G>/||theta|| + eta^2 ||G||^2/(2 ||theta||) the fall is at most
    (eta^2 range(A)^2/8 + overshoot + f eta^2 ||G||^2/(2 ||theta||^2))/||theta'||.
    """
    problem = net.problem(data)
    eta = step_size * data.num_points / jnp.mean(jnp.diagonal(problem.gram()))

    def step(state: tuple[Params, PerRow], _: None) -> tuple[tuple[Params, PerRow], tuple[Array, Array, Array]]:
        w, z = state
        q = problem.margins(z)
        s = problem.slopes(z)
        g, g_z = _loss_direction(problem, q, s, loss)
        new_w, new_z = w + eta * g, z + eta * g_z
        along = problem.by_constraint(jnp.sum(problem.amplitudes * s * problem.at_entries(g_z), axis=0))
        at = problem.at_entries(new_z)
        bend = jnp.abs(problem.amplitudes) * (jnp.maximum(at, problem.slope * at) - s * at)
        overshoot = jnp.max(problem.by_constraint(jnp.sum(jnp.where(problem.free, bend, 0.0), axis=0)))
        f, size = -jax.nn.logsumexp(-q), numerics.norm(w, run.orthogonal_norm)
        lost = (eta * (jnp.max(along) - jnp.min(along))) ** 2 / 8 + overshoot
        lost = lost + f * (eta * numerics.norm(g) / size) ** 2 / 2
        return (new_w, new_z), (f, f / size, lost / numerics.norm(new_w, run.orthogonal_norm))

    return Flow(*lax.scan(step, (run.params, run.preactivations), None, length=num_steps)[1])


def gradient_epsilon(net: Any, data: Dataset, run: Trained, *, loss: str) -> Float[Array, ""]:
    """||theta - c G||/min_i q_i at its best c >= 0: the epsilon that the multipliers c p_i give theta/min_i q_i, p the
    softmax of log(-l'(q)). It is ||theta|| sin of the angle between theta and minus the loss gradient, over the
    smallest margin; the fitted epsilon_1 is the smallest over all multipliers, hence never larger."""
    problem = net.problem(data)
    g, _ = _loss_direction(problem, run.margins, problem.slopes(run.preactivations), loss)
    c = jnp.maximum(jnp.sum(run.params * g) / jnp.sum(g**2), 0.0)
    return numerics.norm(run.params - c * g, run.orthogonal_norm) / jnp.min(run.margins)


def kink_floor(net: Any, data: Dataset, limit: KKTPoint) -> Float[Array, ""]:
    """Delta: what stationarity costs at an exact KKT point if every kink must be off or on (s in {0, 1}).

    Delta^2 = lambda_min(K) sum_i min_t [a_i (lambda_i - t)^2 + sum_{kinks j} u_j^2 min(mu_ji^2, (t - mu_ji)^2)]. At the
    minimum the kinks with mu_ji above some threshold are on and t is the weighted mean of lambda_i and their mu_ji:
    n + 1 candidates. Source: docs/theory, Why a trained theta's epsilon_1 stays above zero.
    """
    problem = net.problem(data)
    squares, lam = problem.amplitudes**2, limit.multipliers
    kink = limit.preactivations == 0
    mu = jnp.where(kink, limit.selection * lam, 0.0)
    active = jnp.sum(jnp.where(limit.preactivations > 0, squares, 0.0), axis=0)
    thresholds = jnp.concatenate([mu, jnp.full((1, mu.shape[1]), jnp.inf)])
    on = kink & (mu >= thresholds[:, None, :])  # [n + 1, n, m]
    weight = active + jnp.sum(jnp.where(on, squares, 0.0), axis=1)
    mean = (active * lam + jnp.sum(jnp.where(on, squares * mu, 0.0), axis=1)) / jnp.where(weight > 0, weight, 1.0)
    each = jnp.minimum(mu**2, (mean[:, None, :] - mu) ** 2)
    cost = active * (lam - mean) ** 2 + jnp.sum(jnp.where(kink, squares * each, 0.0), axis=1)
    inverse = -numerics.sweep(problem.gram(), jnp.ones(problem.num_rows, bool))
    return jnp.sqrt(jnp.sum(jnp.min(cost, axis=0)) / numerics.top_eigenvalue(inverse))


def _loss_direction(problem: MarginProblem, q: PerConstraint, slopes: PerEntry, loss: str) -> tuple[Params, PerRow]:
    """G = sum_a p_a g_a with p = softmax of log(-l'(q)), and its pre-activations."""
    p = jax.nn.softmax(log_weights(problem, q, loss))
    coefficients = problem.coefficients(p, slopes)
    return numerics.matmul(coefficients, problem.rows), numerics.matmul(coefficients, problem.gram())
