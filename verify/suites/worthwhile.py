"""Is one step of ascent better than doing nothing? Leverage decides, and often it is not."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.codes import Reason
from gaunlearn_jax.theory import bounds
from gaunlearn_jax.theory.worthwhile import (
    CLOSE,
    TIE,
    angle,
    criterion,
    gap_ratio,
    leverages,
)
from verify.suites.beside_nothing import compared
from verify.suites.check import Check, check, exactness, gaps_in_order
from verify.suites.drawing import band, limit_first, per_dim, widest
from verify.suites.finding import NOTHING, Explanation, Finding, found, view
from verify.suites.suite import FURTHER_MODELS, Attack, Derived, Evaluation, Results, Suite, unless

#: multiples of the step among which none is better than the best one
MULTIPLES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 2.0)


def evaluate(e: Evaluation) -> Results:
    solved = bounds.converged(e.certificates["projection"].status, e.first.status)
    nothing, step, p, moved, proved = compared(e, e.first.params)
    sure = {"reason": unless(proved, Reason.DATA), "converged": solved}
    out: Results = {
        "step/certificate/angle": check(step, nothing, TIE, **sure),
        "step/certificate/tau": gaps_in_order(step, nothing, **sure),
        "leverage": p.leverage, "nothing": nothing, "step": step, "ratio": gap_ratio(step, nothing), "solved": solved,
        "proved": proved, "better": moved & (step < nothing - TIE), "worse": moved & (step > nothing + TIE),
        "no_part_of_its_own": moved & ~p.own,
    }  # fmt: skip
    return out | _of_one_entry(e, p, (step, nothing), moved, solved) if e.problem.layout is None else out


def _of_one_entry(e: Evaluation, p: Any, angles: tuple[Array, Array], moved: Array, solved: Array) -> Results:
    """What is proved of problems with one entry a point: leverage, the exact criterion and the rule by margins."""
    exact = (e.point.epsilon <= CLOSE * p.theta) & (e.point.delta <= CLOSE)
    found = criterion(e.problem, e.point, e.forget, e.first.params)
    same = exact & moved & (found.miss <= CLOSE * p.theta)
    ruled = unless(same & (e.k == 1) & _margin_rule(e, e.first.params), Reason.DATA)
    return {
        **_leverage(e, p, exact, moved, angles, solved),
        **_criterion(e, found, same, angles, solved),
        "step/margin/angle": check(*angles, TIE, reason=ruled, converged=solved),
        "best": jnp.where(same, found.multiple, jnp.nan),
        "same_support": same,
        "criterion": same & (found.step < found.nothing),
    }


def _leverage(e: Evaluation, p: Any, exact: Array, moved: Array, angles: tuple[Array, Array], solved: Array) -> Results:
    """One forgotten point: rho^2 / ||h||^2 is its leverage, and an exact KKT point with tan of it below ||theta_hat|| /
    ||theta|| is improved."""
    share = jnp.max(jnp.where(e.forget, leverages(e.record.data.points, ~e.forget), 0.0))
    single = (e.k == 1) & moved
    # sqrt(share / (1 - share)) is the tangent of the angle between x_r and its part outside
    low = exact & (e.point.delta <= exactness()) & (share * p.theta**2 < (1 - share) * p.hat**2)
    error = 1e3 * numerics.unit()
    return {
        "step/leverage/share": check(
            jnp.abs(share - p.leverage), 2 * error, error, reason=unless(single, Reason.FORGET_SIZE),
            converged=bounds.converged(e.point.status),
        ),
        "step/leverage/angle": check(
            *angles, TIE, reason=unless(single & low, Reason.DATA), converged=solved,
        ),
    }  # fmt: skip


def _criterion(e: Evaluation, found: Any, same: Array, angles: tuple[Array, Array], solved: Array) -> Results:
    """(b): the angles are those of its formulas, the smaller is the one it names, and no multiple beats its best."""
    predicted = [jnp.arctan(jnp.sqrt(v)) for v in (found.step, found.nothing, found.best)]
    h, star = e.point.params - e.hat, e.first.params
    best = angle(e.point.params - found.multiple * h, star)
    others = jnp.stack([angle(e.point.params - c * h, star) for c in MULTIPLES])
    better = found.step < found.nothing
    common = {"reason": unless(same, Reason.DATA), "converged": solved}
    low, high = (jnp.where(better, *pair) for pair in (angles, angles[::-1]))
    apart = jnp.abs(predicted[0] - predicted[1]) > TIE
    named = {"reason": unless(same & apart, Reason.DATA), "converged": solved}
    return {
        "step/criterion/tangent": check(jnp.abs(predicted[0] - angles[0]), 2 * TIE, TIE, **common),
        "nothing/criterion/tangent": check(jnp.abs(predicted[1] - angles[1]), 2 * TIE, TIE, **common),
        "best/criterion/tangent": check(jnp.abs(predicted[2] - best), 2 * TIE, TIE, **common),
        "step/criterion/order": check(low, high, 0.0, **named),
        "best/criterion/order": check(best, jnp.min(others) + 2 * TIE, TIE, **common),
    }


def _margin_rule(e: Evaluation, star: Array) -> Array:
    """(c), linear: kappa^2 + 1/(3 W) < s^2, kappa = ||P_A x_r||, s^2 = ||x_r||^2 - kappa^2, A the active retained
    points, lambda_r > 0."""
    if e.problem.kinked:
        return jnp.asarray(False)
    points, active = e.record.data.points, e.point.multipliers > 0
    share = jnp.max(jnp.where(e.forget, leverages(points, ~e.forget & active), 0.0))
    size = jnp.sum(jnp.where(e.forget, jnp.sum(points**2, axis=1), 0.0))
    return jnp.any(e.forget & active) & (share * size + 1 / (3 * jnp.sum(star**2)) < (1 - share) * size)


def _certificate(e: Any) -> Check:
    """(a) for an adversary: no instance of which the certificate speaks ends farther away."""
    nothing, step, _, _, proved = compared(e, e.retrained[0])
    solved = e.retrained[2] & bounds.converged(e.certificates["projection"].status)
    return gaps_in_order(step, nothing, reason=unless(proved, Reason.DATA), converged=solved)


def draw(figure: Any, blocks: list[Any], grid: Any) -> None:
    """Left: angles to the retrained model. Right: the shares of lanes on which the step is better, proved and worse."""
    block, dims = widest(blocks), np.asarray(grid.dims)
    results, shape = block.results["worthwhile"], block.shape
    left, right = figure.subplots(1, 2)
    solved = limit_first(results["solved"]).astype(bool)
    for name, label, style in (("nothing", r"untouched $\theta$", 3), ("step", r"the step $\hat\theta$", 0)):
        values = np.where(solved, limit_first(results[name]), np.nan)
        band(left, dims, np.maximum(per_dim(grid, block, values), 1e-16), label, style)
    for name, label, style in (("better", "better", 0), ("proved", "provably better", 2), ("worse", "worse", 1)):
        share = np.nanmean(per_dim(grid, block, np.where(solved, limit_first(results[name]), np.nan)), axis=0)
        band(right, dims, share[None], label, style)
    figure.suptitle(f"{shape.model}, m = {shape.m}, n = {shape.n}, k = {grid.forget[0]}, exact KKT points", fontsize=9)
    left.set_ylabel(r"angle to the retrained point $\theta^*$")
    left.set(yscale="log")
    right.set_ylabel("share of instances")
    for ax in (left, right):
        ax.set(xscale="log", xlabel="dimension $d$")
        ax.grid(alpha=0.25)
        ax.legend(fontsize=8)


def find(blocks: list[Any], grid: Any) -> Finding:
    """On how many instances the step is better than nothing, and provably so."""
    seen = view(blocks, "worthwhile")
    if not seen.dims:
        return NOTHING
    better, proved = ([seen.mean(name, d) for d in seen.dims] for name in ("better", "proved"))
    return found(
        "nearer than doing nothing on at least {better:%} of instances, provably on {proved:%}",
        "leverage must stay below 1/2; it is {leverage}",
        better=min(better), proved=min(proved), leverage=seen.median("leverage", seen.low),
    )  # fmt: skip


SUITE = Suite(
    name="worthwhile",
    statement="the step is nearer to the retrained model than doing nothing where the certificate or criterion says so",
    source="docs/theory, Is the step better than nothing",
    evaluate=evaluate,
    draw=draw,
    attacks={"certificate": Attack(_certificate, "Is the step better than nothing", True)},
    derived={"step/certificate/tau": Derived("worthwhile/certificate", solution=True)},
    further=FURTHER_MODELS,
    find=find,
    explain=Explanation(
        hypotheses="part (a): none, it is a criterion computed on the instance. Part (b): an exact KKT point whose "
        "active-set step is the retrained solution",
        meaning="says on an instance, before retraining, whether ascent helps: the forgotten point must lie mostly "
        "outside the span of the retained ones. A common mean, duplicates or more points than directions break that",
        false_if="an instance on which a criterion says better and the angle to the exact solution grew",
    ),
)
