"""Multipliers: beta_i = lambda_i sum_j u_j^2 s_ji lies between two bounds made from the data assumption alone."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gaunlearn_jax import bounds, models, numerics
from gaunlearn_jax._types import Reason, Scalar, Status
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models import Network
from verify.check import Check, check, worst
from verify.plots import band, per_dim
from verify.records import THETAS, Record, Shape
from verify.suite import Results, Suite, unless

#: gram entries, psi and phi are sums of p products: their rounding, per unit of max ||x_i||^2, is (p + 8) EPS
_EXTRA = 8


def betas(net: Network, point: KKTPoint) -> Array:
    """beta_i = lambda_i b_i, b_i = sum_j u_j^2 s_ji [m] (docs/theory, Lemma M)."""
    return point.multipliers * numerics.matmul(net.output_weights**2, point.selection)


def prior_bounds(smallest: Scalar, largest: Scalar, phi: Scalar, *, m: int) -> tuple[Array, Array, Array]:
    """(lower, upper, p) for lambda_i at an exact KKT point of a linear model, from the smallest and largest ||x_i||^2.

    With R^2 = largest/smallest and p = smallest/(R^2 m phi) >= 3:
    (1 - 1/(p R^2 - 1))/largest <= lambda_i <= 1/(smallest (1 - 1/(p R^2))). Source: docs/theory, Claims, Multipliers
    (Frei, Vardi, Bartlett and Srebro 2023).
    """
    ratio = jnp.asarray(largest) / smallest
    p = smallest / (ratio * m * phi)
    return (1 - 1 / (p * ratio - 1)) / largest, 1 / (smallest * (1 - 1 / (p * ratio))), p


def per_instance(net: Network, record: Record, shape: Shape) -> Results:
    """Both sides of Lemma M for both theta, inequality (1) of its proof, and the prior bounds of linear models."""
    points = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(record.theta(t) for t in THETAS))
    stacked = jax.vmap(lambda point: lemma_m(net, record, point))(points)
    out: Results = {}
    for t, theta in enumerate(THETAS):
        for name, value in stacked.items():
            one = jax.tree.map(lambda v, t=t: v[t], value)
            out[f"{theta}/{name}" if isinstance(one, Check) else f"{name}_{theta}"] = one
    if net.kind == "linear":
        out |= prior(net, record)
    return out


def lemma_m(net: Network, record: Record, point: KKTPoint) -> Results:
    """sharp/upper, sharp/lower (worst point), instance/margin (inequality (1)), and the widths for the picture.

    Measured psi, phi, epsilon_1, delta_1 enter outward: beta_max increases in each of them, the lower bound decreases.
    """
    data, m = record.data, record.data.num_points
    beta = betas(net, point)
    unit = _gram_rounding(data)
    total = jnp.maximum(jnp.sum(net.output_weights**2), 1.0)  # rounded u may have sum u^2 > 1: docs, Lemma M, Remarks
    epsilon = (point.epsilon + 2 * point.error) * jnp.sqrt(total)
    delta = (point.delta + 2 * point.delta_error) * total
    psi, phi = record.psi + 2 * unit, record.phi + 2 * unit
    lower, upper, defined = bounds.multiplier_bounds(psi, phi, epsilon, delta, m=m)
    error = (net.num_neurons + _EXTRA) * numerics.EPS * beta
    common: dict[str, Any] = {"converged": point.status == int(Status.OK)}
    everyone = jnp.ones(m, bool)
    below = bounds.first_failing((defined, Reason.UNDEFINED), (lower > 0, Reason.EMPTY))
    out: Results = {
        "sharp/upper": check(
            *worst(beta, jnp.broadcast_to(upper, (m,)), error, everyone),
            reason=unless(defined, Reason.UNDEFINED), **common,
        ),
        "sharp/lower": check(*worst(jnp.broadcast_to(lower, (m,)), beta, error, everyone), reason=below, **common),
        "instance/margin": check(*_margin_gap(net, data, point, beta, phi, epsilon), **common),
        "width": jnp.where(defined, (upper - jnp.maximum(lower, 0.0)) / upper, jnp.nan),
        "spread": (jnp.max(beta) - jnp.min(beta)) / upper,
        "smallest": jnp.min(beta),
        "largest": jnp.max(beta),
        "lower": lower,
        "upper": upper,
    }  # fmt: skip
    return out


def _margin_gap(
    net: Network, data: Dataset, point: KKTPoint, beta: Array, phi: Array, epsilon: Array
) -> tuple[Array, Array, Array]:
    """Inequality (1): |q_i - beta_i ||x_i||^2| <= phi sum_{k != i} beta_k + epsilon_1 ||x_i||, at its worst point."""
    squares = jnp.sum(data.points**2, axis=1)
    q = models.margins(net, data.labels, point.preactivations)
    lhs = jnp.abs(q - beta * squares)
    rhs = phi * (jnp.sum(beta) - beta) + epsilon * jnp.sqrt(squares)
    # q comes from stored pre-activations, the residual from params: they agree within the rounding of one product
    size = numerics.matmul(jnp.abs(point.params), jnp.abs(data.points.T))
    magnitude = numerics.matmul(jnp.abs(net.output_weights), size) + beta * squares
    terms = net.num_neurons + data.points.shape[1] + 2 * _EXTRA
    error = 4 * terms * numerics.EPS * magnitude
    return worst(lhs, rhs + 2 * error, error, jnp.ones_like(lhs, bool))


def prior(net: Network, record: Record) -> Results:
    """The earlier bounds at the exact KKT point, and their width."""
    data, limit, m = record.data, record.limit, record.data.num_points
    squares = jnp.sum(data.points**2, axis=1)
    unit = _gram_rounding(data)
    smallest, largest = jnp.min(squares) - 2 * unit, jnp.max(squares) + 2 * unit
    lower, upper, p = prior_bounds(smallest, largest, record.phi + 2 * unit, m=m)
    lam = limit.multipliers
    # "exact" is exact up to rounding: theta and lambda are scaled by OUTWARD, and epsilon is at rounding level
    error = ((m + _EXTRA) * numerics.EPS + 2 * (numerics.OUTWARD - 1)) * lam + 4 * (limit.epsilon + limit.error)
    everyone = jnp.ones(m, bool)
    common: dict[str, Any] = {
        "reason": unless(p >= 3, Reason.DATA),
        "converged": limit.status == int(Status.OK),
    }
    return {
        "limit/prior/upper": check(*worst(lam, jnp.broadcast_to(upper, (m,)), error, everyone), **common),
        "limit/prior/lower": check(*worst(jnp.broadcast_to(lower, (m,)), lam, error, everyone), **common),
        "width_prior": jnp.where(p >= 3, (upper - jnp.maximum(lower, 0.0)) / upper, jnp.nan),
    }


def _gram_rounding(data: Dataset) -> Array:
    largest = jnp.max(jnp.sum(data.points**2, axis=1))
    return (data.points.shape[1] + _EXTRA) * numerics.EPS * largest


_SERIES = (
    ("width_limit", "Lemma M, limit: bound width", 0),
    ("width_prior", "Frei et al. 2023, limit: bound width", 1),
    ("width_trained", "Lemma M, trained: bound width", 3),
    ("spread_limit", "limit: measured spread", 2),
    ("spread_trained", "trained: measured spread", 4),
)


def draw(figure: Any, blocks: list[Any], grid: Any) -> None:
    """Relative widths (upper - lower)/upper of the bounds on beta_i beside the spread that was measured, against d."""
    axes = figure.subplots(1, len(blocks), sharey=True, squeeze=False)[0]
    for ax, block in zip(axes, blocks, strict=True):
        results = block.results["multipliers"]
        for name, label, style in _SERIES:
            if name in results:
                band(ax, grid.dims, per_dim(grid, block, results[name]), label, style)
        ax.set(xscale="log", yscale="log", xlabel="dimension $d$")
        ax.set_title(f"{block.shape.model}, m = {block.shape.m}, n = {block.shape.n}")
        ax.legend(fontsize=7)
    axes[0].set_ylabel(
        r"relative width $(\beta_{\rm upper}-\beta_{\rm lower})/\beta_{\rm upper}$, or spread of $\beta_i$"
    )


SUITE = Suite(
    name="multipliers",
    statement="beta_i = lambda_i sum_j u_j^2 s_ji lies between the two bounds of Lemma M (linear: and the prior ones)",
    source="docs/theory, Lemma M; Claims, Multipliers (Frei, Vardi, Bartlett and Srebro 2023)",
    per_instance=per_instance,
    draw=draw,
)
