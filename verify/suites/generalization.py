"""Forgetting keeps what was learnt: test error on the mixture before and after the step, exact, bounded and sampled."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy import special

import gaunlearn_jax as ga
from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.arrays import Params
from gaunlearn_jax.base.codes import Reason, Status
from gaunlearn_jax.models.registry import lookup
from gaunlearn_jax.theory import bounds
from gaunlearn_jax.theory import generalization as error
from verify.instances.records import Cell, Shape
from verify.suites.check import Check, check
from verify.suites.drawing import STYLES, band, limit_first
from verify.suites.finding import NOTHING, Explanation, Finding, View, found
from verify.suites.statistics import agreement, interval
from verify.suites.suite import Evaluation, Results, Suite, unless

#: fresh points per network, fixed beforehand, half of each class
NUM_SAMPLES = 1024
WHEN = ("original", "unlearned")


def evaluate(e: Evaluation) -> Results:
    """Exact comparisons of the linear model; bounds, and counts of misclassified fresh points, for both models."""
    net, data, point = e.net, e.record.data, e.point
    after = ga.unlearn.gradient_ascent(net, data, point, e.forget)
    key = jax.random.wrap_key_data(e.record.key, impl="threefry2x32")
    key_weights, key_points = jax.random.split(key)
    outside = error.orthogonal_coordinates(key_weights, net, data, point.orthogonal_norm)
    noise = error.fresh_noise(key_points, NUM_SAMPLES, data.points.shape[1] + net.num_neurons, data)
    out: Results = {"weak_points": jnp.sum(error.weak_points(data))}

    def compare(params: Params, retained: Array) -> Results:
        whole = jnp.concatenate([params, outside], axis=1)
        log_bound = error.log_error_bound(net, whole, data)
        found: Results = {"log_bound": log_bound, "errors": error.error_count(net, whole, data, noise)}
        return found | _linear(e, params, retained, log_bound) if not e.problem.kinked else found

    both = jax.vmap(compare)(jnp.stack([point.params, after.params]), jnp.stack([jnp.ones(e.m, bool), ~e.forget]))
    for name, result in both.items():
        for index, when in enumerate(WHEN):
            joint = f"{when}/{name}" if isinstance(result, Check) else f"{when}_{name}"
            out[joint] = jax.tree.map(lambda v, index=index: v[index], result)
    return out


def _linear(e: Evaluation, params: Params, retained: Array, log_bound: Array) -> Results:
    """signal: floor <= <w, mu>. error: -log of what the floor allows <= -log of the exact error. concentration:
    -log of the networks' bound <= -log of the exact error."""
    data, point = e.record.data, e.point
    epsilon = point.epsilon + 2 * point.error  # outward
    floor, hypothesis = error.signal_floor(data, point.multipliers, epsilon, retained)
    signal = data.mean_norm * params[0, 0]
    terms = jnp.sum(point.multipliers * jnp.maximum(jnp.abs(data.points[:, 0]), data.mean_norm))
    slip = 2 * (e.m + 8) * numerics.unit() * data.mean_norm * (terms + jnp.abs(point.params[0, 0]))
    unit = jnp.sqrt(data.dim) / numerics.norm(params, point.orthogonal_norm)
    t = error.linear_signal(params, data, point.orthogonal_norm)
    log_error, log_floor = error.log_tail(jnp.stack([t, floor * unit]))
    log_slip = (jnp.abs(t) + 1) * (slip * unit + 8 * numerics.unit() * jnp.abs(t)) - 16 * numerics.unit() * log_error
    reason = bounds.first_failing((hypothesis, Reason.DATA), (floor > 0, Reason.EMPTY))
    given: dict[str, Any] = {"reason": reason, "converged": point.status == int(Status.OK)}
    easy = given | {"reason": unless(t > 0, Reason.EMPTY)}
    return {
        "instance/signal": check(floor, signal, slip, **given),
        "instance/error": check(-log_floor, -log_error, log_slip, **given),
        "concentration/error": check(-log_bound, -log_error, log_slip, **easy),
        "log_error": log_error,
        "log_floor": jnp.where(reason == int(Reason.APPLIES), log_floor, jnp.nan),
    }


def per_cell(shape: Shape, cell: Cell, values: dict[str, np.ndarray]) -> dict[str, Check]:
    """Sampled counts pooled over lanes, against the mean bound (both models) and the mean exact error (linear).

    The pooled count is a sum of independent indicators with unequal chances; its tails are lighter than those of the
    binomial with the mean chance (Hoeffding 1956), so a Clopper-Pearson interval is conservative. One comparison per
    theta and size of the forget set, judged at the level of `verify.suites.data`.
    """
    d, signal = cell.d, cell.value("signal")
    out: dict[str, Check] = {}
    for name in WHEN:
        counts, lanes = pooled(values[f"{name}_errors"]), len(values[f"{name}_errors"])
        bound = np.mean(np.exp(values[f"{name}_log_bound"]), axis=0).ravel()
        low, _ = interval(counts, lanes * NUM_SAMPLES)
        reason = np.where(bound < 0.5, int(Reason.APPLIES), int(Reason.EMPTY))  # no better than guessing
        out[f"{name}/sampled/bound"] = check(low, bound, reason=reason)
        if f"{name}_log_error" in values:
            exact = np.mean(np.exp(values[f"{name}_log_error"]), axis=0).ravel()
            out |= agreement(f"{name}/sampled/error", counts, lanes * NUM_SAMPLES, exact)
    # the hypothesis of the linear claim: y <xi, mu> < -||mu||^2/2 has chance Phi(-sqrt(d) ||mu|| / 2) per point
    half = 0.5 * d**0.5 * d ** (-0.25 + signal)
    out["hypothesis/exact/error"] = check(half**2 / 2, -special.log_ndtr(-half), 1e-14 * half**2)
    weak = values["weak_points"][:, 0, 0]
    chance = np.atleast_1d(special.ndtr(-half))
    return out | agreement("hypothesis/sampled/error", np.atleast_1d(weak.sum()), len(weak) * shape.m, chance)


def pooled(errors: np.ndarray) -> np.ndarray:
    """Counts [lanes, theta, k] summed over lanes, flat."""
    return np.asarray(np.sum(errors, axis=0)).astype(int).ravel()


def draw(figure: Any, blocks: list[Any], grid: Any) -> None:
    """-ln of the test error against d, one panel per model: exact, guaranteed and sampled, before and after."""
    first = {block.shape.model: block for block in reversed(blocks)}
    axes = figure.subplots(1, len(first), sharey=True, squeeze=False)[0]
    for ax, block in zip(axes, reversed(first.values()), strict=True):
        exact = "original_log_error" in block.results[SUITE.name]
        for style, a in enumerate(grid.signals):
            (_draw_linear if exact else _draw_network)(ax, block, grid, a, style)
        size = f"m = {block.shape.m}" + (f", n = {block.shape.n}" if block.shape.n > 1 else "")
        ax.set(xscale="log", yscale="log", xlabel="dimension d")
        ax.set_title(f"{lookup(block.shape.model)[0].statement}, {size}", fontsize=10)
        ax.legend(fontsize=7, handlelength=3)
    shown = [v for ax in axes for line in ax.get_lines() for v in line.get_ydata() if v > 0.1]
    axes[0].set_ylim(bottom=0.5 * min(shown, default=0.2))
    axes[0].set_ylabel("−ln(test error)")


def _select(block: Any, grid: Any, name: str, a: float) -> np.ndarray:
    """Values [lanes, dims] of the limit theta, first size of the forget set, lanes of signal a."""
    values = limit_first(block.results[SUITE.name][name])
    lanes = block.parameters["signal"] == a
    return np.stack([values[lanes & (block.d == d)] for d in grid.dims], axis=1)


def _shown(logs: np.ndarray) -> np.ndarray:
    """-log of probabilities, those of 1 (and lanes to which the claim does not apply) below the axis."""
    return np.maximum(-np.where(np.isfinite(logs), logs, 0.0), 1e-3)


def _draw_linear(ax: Any, block: Any, grid: Any, a: float, style: int) -> None:
    d, m = np.asarray(grid.dims), block.shape.m - grid.forget[0]
    colour, first = STYLES[style % len(STYLES)]["color"], style == 0
    before, floor = (_shown(_select(block, grid, name, a)) for name in ("original_log_error", "unlearned_log_floor"))
    band(ax, d, _shown(_select(block, grid, "unlearned_log_error", a)), f"after unlearning, a = {a:g}", style)
    ax.plot(d, np.median(before, axis=0), "x", color=colour, markersize=8, label="before" if first else None)
    ax.plot(d, np.median(floor, axis=0), ":", color=colour, label="guaranteed after" if first else None)
    square = d ** (-0.5 + 2 * a)
    slope = d * m * square**2 / (1 + m * square) / 2
    label = "½ d M‖μ‖⁴/(1 + M‖μ‖²), slope 4a" if first else None
    ax.plot(d, slope, color="0.6", linewidth=4, alpha=0.5, zorder=0, label=label)


def _draw_network(ax: Any, block: Any, grid: Any, a: float, style: int) -> None:
    d, colour, first = np.asarray(grid.dims), STYLES[style % len(STYLES)]["color"], style == 0
    after, before = (_shown(_select(block, grid, f"{when}_log_bound", a)) for when in reversed(WHEN))
    band(ax, d, after, f"bound after, a = {a:g}", style)
    ax.plot(d, np.median(before, axis=0), "x", color=colour, markersize=8, label="bound before" if first else None)
    slope = np.median(after[:, -1]) * (d / d[-1]) ** (4 * a)
    label = "slope 4a" if first else None
    ax.plot(d, slope, color="0.6", linewidth=4, alpha=0.5, zorder=0, label=label)
    errors = _select(block, grid, "unlearned_errors", a)
    total = errors.shape[0] * NUM_SAMPLES
    count = errors.sum(axis=0)
    seen, count = count > 0, count[count > 0]
    low, high = interval(count, total)
    middle = -np.log(count / total)
    reach = np.stack([middle + np.log(high), -np.log(low) - middle])
    label = "sampled after, Clopper-Pearson" if first and seen.any() else None
    ax.errorbar(d[seen] * 1.15**style, middle, reach, fmt="*", color=colour, capsize=3, label=label)
    if first:
        nothing = -np.log(interval(0, total)[1][0])
        ax.axhline(nothing, color="k", linewidth=0.8, linestyle=(0, (1, 3)), label=f"no error among {total} samples")


def find(blocks: list[Any], grid: Any) -> Finding:
    """Sampled test error before and after the step, of the weakest signal in the lowest dimension."""
    parts: list[str] = []
    numbers: dict[str, float] = {}
    for block in {block.shape.model: block for block in reversed(blocks)}.values():
        if not len(block.d):
            continue
        seen, a = View(block, SUITE.name), min(block.parameters["signal"])
        here = seen.at(seen.low) & (block.parameters["signal"] == a)
        model = block.shape.model.partition(":")[0]
        numbers["low"] = seen.low
        for when in WHEN:
            counts = seen.seen(block.results[SUITE.name][f"{when}_errors"])[here]
            numbers[f"{model}_{when}"] = float(np.mean(counts)) / NUM_SAMPLES
        parts.append(f"{model} {{{model}_original}}, {{{model}_unlearned}}")
    if not parts:
        return NOTHING
    text = "test error before and after (d = {low:d}): " + "; ".join(reversed(parts))
    return found(text, "of networks only a bound is proved", **numbers)


SUITE = Suite(
    name="generalization",
    statement="forgetting keeps the test error small: exact for linear models, bounded and sampled for networks",
    source="docs/theory, Generalisation",
    evaluate=evaluate,
    per_cell=per_cell,
    draw=draw,
    data_source="mixture",
    theorem="mixture",
    sources=("mixture",),
    find=find,
    explain=Explanation(
        hypotheses="two classes at +mu and -mu in Gaussian noise, ||mu|| = d^(-1/4 + a) with 0 < a < 1/4",
        meaning="the step costs almost no accuracy on fresh points",
        false_if="a linear model whose exact test error exceeds what is promised; counts outside their interval",
    ),
)
