"""Implicit bias: training drives the rescaled network towards a KKT point, and what a fixed sigma'(0) hides of it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

import gaunlearn_jax as ga
from gaunlearn_jax import kkt
from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.codes import Reason, Status
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.theory import bounds, convergence
from gaunlearn_jax.training.losses import LOSSES
from gaunlearn_jax.training.train import Trained
from verify.instances.records import Cell, Record, Shape
from verify.suites.check import Check, check, exactness
from verify.suites.drawing import band, widest
from verify.suites.finding import NOTHING, Explanation, Finding, found, view
from verify.suites.statistics import interval
from verify.suites.suite import Results, Suite, unless

#: training times; the last is the record's own run
STEPS = (50, 150, 500)
#: the flow: steps, and their size in units of margin
FLOW_STEPS, FLOW_SIZE, FLOW_POINTS = 400, 0.1, 20
#: the share of instances on which the cosine to the limit point must have risen
RISING = 0.9
#: a pre-activation that is not a kink and moves nothing
TINY = 1e-300


def never_falls(path: convergence.Flow, converged: Array) -> Check:
    """The smoothed normalised margin falls at no step by more than that step's allowance (worst step, relative; a
    negative left side is a rise)."""
    counted = path.f[:-1] > 0
    fall = path.smoothed[:-1] - path.smoothed[1:]
    at = jnp.argmax(jnp.where(counted, fall / path.allowance[:-1], -jnp.inf))
    error = 64 * numerics.unit() * jnp.abs(path.smoothed[at])
    reason = unless(jnp.any(counted), Reason.UNDEFINED)
    return check(fall[at], path.allowance[at], error, reason=reason, converged=converged)


def gradient_certificate(net: Any, data: Dataset, runs: Trained, points: KKTPoint, loss: str) -> tuple[Check, Array]:
    """epsilon_1 of the best multipliers is at most what multipliers in proportion to -l'(q_i) attain: ||theta|| sin of
    the angle between theta and minus the loss gradient, over the smallest margin (worst training time)."""
    promised = jax.vmap(lambda run: convergence.gradient_epsilon(net, data, run, loss=loss))(runs)
    promised = promised * numerics.outward() + 4 * points.error
    at = jnp.argmax(points.epsilon / promised)
    solved = (runs.status[0] == int(Status.OK)) & jnp.all(points.status == int(Status.OK))
    return check(points.epsilon[at], promised[at], points.error[at], converged=solved), promised


def per_instance(net: Any, record: Record, shape: Shape) -> Results:
    """The run's own loss against its limit point; the other loss without one (its smoothed margin, epsilon, delta)."""
    data, limit = record.data, record.limit
    key = jax.random.wrap_key_data(record.train_key, impl="threefry2x32")
    other = next(loss for loss in LOSSES.names if loss != shape.loss)
    short = [ga.train.train(key, net, data, loss=shape.loss, num_steps=steps) for steps in STEPS[:-1]]
    runs = _stack([*short, record.run])
    others = _stack([ga.train.train(key, net, data, loss=other, num_steps=steps) for steps in STEPS])

    on_kink = jnp.where(limit.preactivations == 0, 0.0, runs.preactivations)
    snapped = jax.vmap(lambda w, z: kkt.snap(net.problem(data), w, z))(runs.params, on_kink)
    # the limit point as a network with sigma'(0) = 0 and with sigma'(0) = 1 sees it
    one_sided = jnp.where(limit.preactivations == 0, jnp.asarray([-TINY, TINY])[:, None, None], limit.preactivations)
    fits = jax.vmap(lambda w, z, rest: kkt.fit_multipliers(net, data, w, z, orthogonal_norm=rest))(
        jnp.concatenate([runs.params, snapped, others.params, jnp.stack([limit.params] * 2)]),
        jnp.concatenate([runs.preactivations, on_kink, others.preactivations, one_sided]),
        jnp.concatenate([runs.orthogonal_norm, runs.orthogonal_norm, others.orthogonal_norm, jnp.zeros(2)]),
    )
    t = len(STEPS)
    plain, clarke, rival, forced = (
        jax.tree.map(lambda v, a=a, b=b: v[a:b], fits) for a, b in ((0, t), (t, 2 * t), (2 * t, 3 * t), (3 * t, None))
    )

    out: Results = _limit_results(net, data, limit, plain, clarke)
    for loss, group, points in ((shape.loss, runs, plain), (other, others, rival)):
        path = convergence.flow(
            net, data, jax.tree.map(lambda v: v[0], group), loss=loss, num_steps=FLOW_STEPS, step_size=FLOW_SIZE
        )
        separated = group.status[0] == int(Status.OK)
        out[f"{loss}/gradient/epsilon"], promised = gradient_certificate(net, data, group, points, loss)
        if LOSSES[loss].monotone:
            out[f"{loss}/flow/smoothed_margin"] = never_falls(path, separated)
        every = FLOW_STEPS // FLOW_POINTS
        out |= {
            f"epsilon_{loss}": points.epsilon,
            f"delta_{loss}": points.delta,
            f"gradient_{loss}": promised,
            f"smoothed_{loss}": path.smoothed[every - 1 :: every] * numerics.norm(limit.params),
            f"fall_{loss}": jnp.max(lax.cummax(path.smoothed) - path.smoothed),
        }
    problem = net.problem(data)
    if problem.slope == 0 and problem.layout is None:  # the floor is proved for one margin a point
        out |= _floors(net, data, limit, plain, forced)
    return out


def _limit_results(net: Any, data: Dataset, limit: KKTPoint, plain: KKTPoint, clarke: KKTPoint) -> Results:
    """The distance of each rescaled network to the limit point against (eps + sqrt(eps^2 + 4 Sigma))/2.

    The bound is that of docs/theory, Closeness to the retrained model, with nothing forgotten: the limit point solves
    the convex programme of its own same-sign activations, so it holds for every network that shares these.
    """
    problem = net.problem(data)
    same = ~problem.free
    pattern = limit.selection > 0.5
    active = jax.vmap(problem.at_entries)(plain.preactivations) > 0
    shared = jnp.all(active == pattern, axis=(1, 2), where=same) | (not problem.kinked)
    apart = plain.params - limit.params
    distance = jax.vmap(numerics.norm)(apart, plain.orthogonal_norm)
    q = jax.vmap(problem.margins)(plain.preactivations)
    slack = jnp.sum(plain.multipliers * jnp.maximum(q - 1.0, 0.0), axis=1) + problem.num_constraints * plain.delta_error
    epsilon = plain.epsilon + 2 * plain.error
    bound = 0.5 * (epsilon + jnp.sqrt(epsilon**2 + 4 * slack))
    size = numerics.norm(limit.params)
    at = jnp.argmax(jnp.where(shared, distance / bound, -1.0))
    whole = jax.vmap(lambda p: jnp.append(p.params.ravel(), p.orthogonal_norm))(plain)
    gap = jax.vmap(lambda a: numerics.one_minus_cos(a, a - jnp.append(limit.params.ravel(), 0.0)))(whole)
    solved = (limit.status == int(Status.OK)) & jnp.all(plain.status == int(Status.OK))
    return {
        "limit/instance/distance": check(
            distance[at], bound[at], plain.error[at] + 100 * exactness() * size,
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


def _floors(net: Any, data: Dataset, limit: KKTPoint, plain: KKTPoint, forced: KKTPoint) -> Results:
    """Delta against the epsilon of the exact limit point when every kink is switched off, or on; and of networks."""
    floor = convergence.kink_floor(net, data, limit)
    far = jax.vmap(numerics.norm)(plain.params - limit.params, plain.orthogonal_norm)
    kink, s = limit.preactivations == 0, limit.selection
    agree = (jnp.sign(plain.preactivations) == jnp.sign(limit.preactivations)) | kink
    agree = jnp.all(agree & (plain.preactivations != 0), axis=(1, 2))
    says = agree & (floor > far)
    at = jnp.argmax(jnp.where(says, (floor - far) / plain.epsilon, -1.0))
    least = jnp.argmin(forced.epsilon)
    slip = forced.error[least] + 100 * exactness() * floor
    solved = (limit.status == int(Status.OK)) & jnp.all(forced.status == int(Status.OK))
    fractional = jnp.any(kink & (s > 0) & (s < 1))
    reason = bounds.first_failing((jnp.any(agree), Reason.NOT_KKT), (jnp.any(says), Reason.EMPTY))
    return {
        "limit/floor/epsilon": check(
            floor, forced.epsilon[least], slip, reason=unless(fractional, Reason.EMPTY), converged=solved
        ),
        "trained/floor/epsilon": check(
            floor - far[at], plain.epsilon[at], plain.error[at] + slip, reason=reason, converged=solved
        ),
        "floor": floor,
        "floor_off": forced.epsilon[0],
        "floor_on": forced.epsilon[1],
    }


def per_cell(shape: Shape, cell: Cell, arrays: dict[str, np.ndarray]) -> dict[str, Check]:
    """1 - cos to the limit point is smaller at the longest training time than at the shortest on at least RISING of the
    instances whose longest run has the limit point's same-sign activations.

    Convergence promises this in the end and on each instance, but not between two given times, so it is judged as a
    share: its upper Clopper-Pearson limit at the level of `verify.suites.statistics`.
    """
    asked = arrays["solved"].astype(bool) & arrays["shared"][:, -1].astype(bool)
    if not np.any(asked):
        return {"limit/trend/cosine": check([RISING], [1.0], reason=[int(Reason.NOT_KKT)])}
    rising = arrays["gap"][asked, -1] < arrays["gap"][asked, 0]
    _, high = interval([np.sum(rising)], int(np.sum(asked)))
    return {"limit/trend/cosine": check([RISING], high)}


def _stack(runs: list[Trained]) -> Trained:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *runs)


def draw(figure: Any, blocks: list[Any], grid: Any) -> None:
    """epsilon_1 with and without Clarke fractions at the smallest and the largest d, the cosine to the limit point, and
    the smoothed margin along the flow, for the network."""
    block = widest(blocks)
    results, loss = block.results["implicit_bias"], block.shape.loss
    figure.set_size_inches(9, 6.6)
    steps = np.asarray(STEPS)
    (first, last), (cosine, margin) = figure.subplots(2, 2)

    def lanes(name: str, d: float) -> np.ndarray:
        return np.asarray(results[name])[block.d == d]

    for ax, d in ((first, grid.dims[0]), (last, grid.dims[-1])):
        band(ax, steps, lanes(f"epsilon_{loss}", d), r"trained, its own $\sigma'$", 1)
        band(ax, steps, lanes("epsilon_clarke", d), "trained, kinks given Clarke fractions", 0)
        if "floor_off" in results:
            level = np.repeat(lanes("floor_off", d)[:, None], len(STEPS), axis=1)
            band(ax, steps, level, r"exact limit point, $\sigma'(0) = 0$", 4)
        ax.set(xscale="log", yscale="log", ylabel=r"$\varepsilon_1$ (of $\theta/\min_i q_i$)", title=f"d = {d:.0e}")
        ax.legend(fontsize=7)
    for style, d in enumerate(grid.dims[:5]):
        band(cosine, steps, lanes("gap", d), f"d = {d:.0e}", style)
    cosine.set(xscale="log", yscale="log", ylabel=r"$1-\cos\angle(\theta, \bar\theta)$", title="to the limit point")
    for ax in (first, last, cosine):
        ax.set(xlabel="training steps", xticks=STEPS, xticklabels=STEPS)
        ax.minorticks_off()
    every = FLOW_STEPS // FLOW_POINTS
    for style, name in enumerate(LOSSES.names):
        band(margin, np.arange(every, FLOW_STEPS + 1, every), lanes(f"smoothed_{name}", grid.dims[0]), name, style)
    margin.set(
        xlabel=f"small steps after {STEPS[0]} training steps",
        ylabel=r"$-\log\sum_i e^{-q_i}\,/\,\|\theta\|$ in units of $1/\|\bar\theta\|$",
        title=f"smoothed margin, d = {grid.dims[0]:.0e}",
    )
    cosine.legend(fontsize=7)
    margin.legend(fontsize=7)
    figure.suptitle(f"{block.shape.model}, m = {block.shape.m}, n = {block.shape.n}, {loss} loss", fontsize=10)


def find(blocks: list[Any], grid: Any) -> Finding:
    """epsilon_1 after the longest training, and what a fixed sigma'(0) reports."""
    seen, last = view(blocks, "implicit_bias"), len(STEPS) - 1
    if not seen.dims:
        return NOTHING
    kinks = "floor_off" in seen
    name = f"epsilon_{seen.block.shape.loss}"
    return found(
        "training ends at epsilon_1 = {low_epsilon} (d = {low:d}), {top_epsilon} ({top:d})",
        "with sigma'(0) = 0 the exact point itself shows {off} at d = {low:d}" if kinks else "",
        low=seen.low, top=seen.top, low_epsilon=seen.median(name, seen.low, last),
        top_epsilon=seen.median(name, seen.top, last),
        **({"off": seen.median("floor_off", seen.low)} if kinks else {}),
    )  # fmt: skip


SUITE = Suite(
    name="implicit_bias",
    statement="training drives the rescaled network to a KKT point: smoothed margin, epsilon_1 and its floor, distance",
    source="docs/theory, Implicit bias; Closeness to the retrained model",
    per_instance=per_instance,
    per_cell=per_cell,
    draw=draw,
    find=find,
    explain=Explanation(
        hypotheses="gradient flow on the exponential or logistic loss, once every point is classified correctly",
        meaning="trained networks come near KKT points, which the claims speak of; how near, and why not nearer",
        false_if="a smoothed margin that falls, or a distance to the exact point above its bound",
    ),
)
