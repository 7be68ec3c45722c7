"""Closeness to the retrained model: the exact solution for the retained points, and a network trained on them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import gaunlearn_jax as ga
from gaunlearn_jax import bounds, dual, kkt, models, numerics, unlearn
from gaunlearn_jax._types import Reason, Status
from gaunlearn_jax.certificates import Certificate
from gaunlearn_jax.kkt import KKTPoint
from verify.check import check
from verify.plots import band, per_dim
from verify.suite import Evaluation, Results, Suite, unless

#: fresh points on which function values are compared
FRESH = 128


class FirstSolve(NamedTuple):
    """theta* of the first solve of Q_T as a candidate KKT point of the retained problem, and whether it is one;
    tau = 1 - cos of the angle to theta_hat."""

    params: Array
    tau: Array
    epsilon: Array
    delta: Array
    error: Array
    delta_error: Array
    distance_error: Array
    status: Array
    is_kkt: Array


def first_solve(e: Evaluation) -> FirstSolve:
    """The first solve of one evaluation, made once and shared by all claims (kept with it, like its certificates)."""
    if "first_solve" not in e.__dict__:
        e.__dict__["first_solve"] = solve_once(e)
    return e.__dict__["first_solve"]


def programme(e: Evaluation) -> KKTPoint:
    """The solution of Q_T of a network, with the selection of theta on same-sign pairs."""
    return kkt.solve_pattern(e.net, e.record.data, e.point.selection, ~e.forget, 0)


def solve_once(e: Evaluation) -> FirstSolve:
    """Solve Q_T once, with the selection of theta on same-sign pairs, before any change of pattern.

    For linear models it is the hard-margin problem, which the retrain certificate has solved. distance_error bounds
    the solver's own distance from the solution by first-order sensitivity: residual and misfit of the active
    constraints F_i = 1, times sqrt(n) for the least gradient norm. is_kkt is the sufficient condition of docs/theory,
    Closeness to the retrained model.
    """
    net, data, retained = e.net, e.record.data, ~e.forget
    p: Any = e.certificates["retrain"]
    same = models.same_sign(net, data.labels) if net.kind != "linear" else jnp.ones((1, e.m), bool)
    if net.kind != "linear":
        p = programme(e)
    s, z = e.point.selection, p.preactivations
    in_clarke = jnp.where(s == 1, z >= 0, jnp.where(s == net.negative_slope, z <= 0, z == 0))
    fixed = jnp.where(same, s, p.selection)
    q = models.coefficients(net, data.labels, p.multipliers, fixed)
    residual = numerics.norm(p.params - numerics.matmul(q, data.points))
    weights = net.output_weights[:, None] * data.labels
    concave = jnp.sum(jnp.where(same, weights * s * z, weights * jnp.maximum(z, 0.0)), axis=0)
    misfit = jnp.max(jnp.where(p.multipliers > 0, jnp.abs(concave - 1), 0.0))
    gain = jnp.sqrt(float(net.num_neurons))
    h, _ = unlearn.ascent_direction(net, data, e.point, e.forget)
    whole = jnp.append(p.params.ravel(), 0.0)
    hat = jnp.append((e.point.params - h).ravel(), e.point.orthogonal_norm)
    return FirstSolve(
        p.params, numerics.one_minus_cos(whole, whole - hat), p.epsilon, p.delta, p.error, p.delta_error,
        distance_error=gain * (residual + jnp.sqrt(float(e.m)) * misfit) + p.error,
        status=p.status,
        is_kkt=jnp.all(in_clarke | ~(same & retained)) | (net.kind == "linear"),
    )  # fmt: skip


def distance_bound(e: Evaluation) -> Array:
    """(eps~ + sqrt(eps~^2 + 4 Sigma)) / 2 with eps~ = ||e + P h||, Sigma = sum_T lambda_i (q_i - 1).

    Both enter with a margin for rounding; the factor OUTWARD of theta and lambda is taken out of Sigma first, since
    the bound grows with its root. Source: docs/theory, Closeness to the retrained model.
    """
    near = e.certificates["projection"]
    z, lam = near.preactivations / numerics.OUTWARD, near.multipliers / numerics.OUTWARD
    excess = models.margins(e.net, e.record.data.labels, z) - 1.0
    spread = numerics.matmul(jnp.abs(e.net.output_weights), jnp.abs(z))
    excess = jnp.maximum(excess, 0.0) + (e.net.num_neurons + 4) * numerics.EPS / 2 * spread
    slack = jnp.sum(jnp.where(e.forget, 0.0, lam * excess))
    epsilon = near.epsilon + 2 * near.error
    return 0.5 * (epsilon + jnp.sqrt(epsilon**2 + 4 * slack))


def angle_bound(near: Certificate, hat: Array, most: Array) -> tuple[Array, tuple[Array, Array]]:
    """1 - cos(arcsin(rho/N) + arcsin(D/N)) and both sines: rho the distance of theta_hat from theta_tilde, N =
    ||theta_tilde||, D <= most that of theta*."""
    sines = (numerics.norm(near.params - hat) + 2 * near.error) / near.norm, most / near.norm
    angle = sum(jnp.arcsin(jnp.minimum(sine, 1.0)) for sine in sines)
    return 2 * jnp.sin(jnp.minimum(angle, jnp.pi) / 2) ** 2, sines


def gap(a: Array, b: Array) -> Array:
    """1 - cos of the angle between two arrays."""
    one, two = a.ravel() / numerics.norm(a), b.ravel() / numerics.norm(b)
    return numerics.one_minus_cos(one, one - two)


def against_trained(e: Evaluation, hat: Array) -> Results:
    """Cosine gaps to a network trained from the same initial weights on the retained points, of theta_hat and of the
    untouched theta: [2], in parameters and in function values on fresh points x ~ N(0, I_d / d).

    Function values leave out the weights orthogonal to all points, which training never moves and the networks share.
    """
    data, net = e.record.data, e.net
    key = jax.random.wrap_key_data(e.record.train_key, impl="threefry2x32")
    run = ga.train.train(key, net, data, loss=e.shape.loss, retained=~e.forget)
    draw = jax.random.fold_in(jax.random.wrap_key_data(e.record.key, impl="threefry2x32"), 1)
    fresh = jax.random.normal(draw, (FRESH, data.points.shape[1]), jnp.float64)
    ours = jnp.stack([hat, e.point.params])

    def values(params: Array) -> Array:
        return models.margins(net, jnp.ones(FRESH), models.preactivations(fresh, params))

    def whole(params: Array, outside: Array) -> Array:
        return jnp.append(params.ravel(), outside)

    goal, goal_values = whole(run.params, run.orthogonal_norm), values(run.params)
    return {
        "to_trained_parameters": jax.vmap(lambda p: gap(whole(p, e.point.orthogonal_norm), goal))(ours),
        "to_trained_values": jax.vmap(lambda p: gap(values(p), goal_values))(ours),
        "trained_solved": run.status == int(Status.OK),
    }


def evaluate(e: Evaluation) -> Results:
    point, near = e.point, e.certificates["projection"]
    first = first_solve(e)
    h, _ = unlearn.ascent_direction(e.net, e.record.data, point, e.forget)
    hat = point.params - h
    converged = bounds.converged(near.status, first.status)
    distance = numerics.norm(near.params - first.params, near.orthogonal_norm)
    most = distance_bound(e)
    tau_bound, sines = angle_bound(near, hat, most)
    slip = (near.error + first.distance_error) / near.norm
    # theta* lies in the span of the retained points, so the untouched theta is at least this far from it
    untouched = bounds.identity_gap(e.net, e.record.data, point, e.forget, 0.0, e.norm_floor)
    off = numerics.norm(point.params, point.orthogonal_norm) * jnp.sqrt(untouched * (2 - untouched))
    exact = {"reason": unless(first.is_kkt, Reason.NOT_KKT), "converged": converged}
    tolerance = dual.TOL * near.norm
    return {
        "projection/instance/distance": check(
            distance, most, near.error + first.distance_error,
            reason=unless(most < near.norm, Reason.EMPTY), converged=converged,
            discriminating=jnp.asarray(off > most, jnp.float64),
        ),
        "retrain/instance/tau": check(
            first.tau, tau_bound, 2 * jnp.sqrt(2 * first.tau) * slip + slip**2,
            reason=unless((sines[0] < 1) & (sines[1] < 1), Reason.EMPTY), converged=converged,
            discriminating=jnp.asarray(untouched > tau_bound, jnp.float64),
        ),
        "retrain/exact/epsilon": check(first.epsilon, tolerance + 4 * first.error, **exact),
        "retrain/exact/delta": check(first.delta, tolerance + 4 * first.delta_error, **exact),
        "distance": distance, "distance_bound": most, "rho": sines[0] * near.norm,
        "tau": first.tau, "tau_bound": tau_bound,
        "first_is_kkt": first.is_kkt, "solved": converged, **against_trained(e, hat),
    }  # fmt: skip


def draw(figure: Any, blocks: list[Any], grid: Any) -> None:
    """Left: D against its bound. Right: cosine gaps to theta* and to the retrained network, step and no step."""
    block = next((b for b in blocks if b.shape.model == "relu"), blocks[0])
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
    line(right, "tau", r"$\hat\theta$ to $\theta^*$", 0, 1)
    share = np.mean(np.asarray(results["first_is_kkt"])[:, 1, 0][solved[:, 1, 0]])
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


SUITE = Suite(
    name="retrain",
    statement="the step lands within (eps~ + sqrt(eps~^2 + 4 Sigma))/2 of the exact solution for the retained points",
    source="docs/theory, Closeness to the retrained model",
    evaluate=evaluate,
    draw=draw,
)
