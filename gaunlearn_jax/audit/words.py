"""What the numbers of an audit mean, in words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gaunlearn_jax.audit.findings import EveryPoint, Leaky, Numbers, reach
from gaunlearn_jax.audit.outcome_words import about_outcome, degrees, outcome_headline
from gaunlearn_jax.audit.worth import sentence
from gaunlearn_jax.base.codes import Reason


def headline(a: Numbers) -> str:
    """The verdict in one or two sentences, failures first of all."""
    who, verdict = named(a.forget), a.verdict
    if verdict == "no KKT point":
        return _no_statement(a, who)
    if a.outcome is not None:
        return outcome_headline(a.outcome, who)
    if a.judged_by_retrained:
        return _by_retrained(a, who)
    if verdict == "nothing to forget":
        its, it = ("its multiplier is", "it") if len(a.forget) == 1 else ("their multipliers are", "them")
        if a.exact:
            return (
                f"Nothing to forget: the model does not depend on {who} ({its} 0); without {it} it would be the same."
            )
        if a.step.size == 0:
            return f"Nothing to do: the best fit explains the weights without {who} ({its} 0), so the step is empty."
        can = "its multiplier can be moved" if len(a.forget) == 1 else "their multipliers can be moved"
        return f"Nothing to forget: the weights are explained as well without {who} ({can} to other points)."
    done, before = a.certificates["projection"]
    shares = shares_of(done.epsilon, before.epsilon, a.norm)
    if verdict == "forgotten":
        return f"Forgotten: after one ascent step on {who}, {shares}."
    if verdict == "partly forgotten":
        return f"Only partly forgotten: after one ascent step on {who}, {shares}."
    why = ""
    if done.epsilon >= done.norm and done.epsilon < a.norm:
        why = f" The model of that certificate has only norm {done.norm:.3g}, so it says nothing."
    if a.step.rho > (1 - 1e-6) * a.step.size:
        span = f"the {a.num_points - len(a.forget)} retained points span all {a.rank} directions of the data"
        why = f" The reason: {span}, so the step has no part of its own to remove."
    return f"NOT forgotten: for one ascent step on {who}, {shares}.{why}"


def _no_statement(a: Numbers, who: str) -> str:
    """Which of the two errors of the weights is too large."""
    retrained = ""
    if "retrain" in a.certificates:
        done, before = (c.tau for c in a.certificates["retrain"])
        retrained = f" The retrained model is at {degrees(done)} after the step, at {degrees(before)} without it."
    return no_statement(who, a.epsilon, a.delta, a.slack, a.norm) + retrained


def no_statement(who: str, epsilon: float, delta: float, slack: float, norm: float) -> str:
    """Why weights far from every KKT point get no verdict: both errors, and how far an exact point may be."""
    beyond = ""
    if slack > epsilon**2 / 4:
        amount = part(slack, norm**2)
        beyond = f"; points beyond the margin carry multipliers, sum_i lambda_i (q_i - 1) is {amount} the squared norm"
    return (
        f"No statement about {who}: the weights are far from every KKT point of the margin problem (epsilon_1 = "
        f"{epsilon:.3g}, delta_1 = {delta:.3g}: an exact one may be {part(reach(epsilon, slack, norm), 1.0)} their "
        f"norm away{beyond}), and the theory speaks of KKT points; train longer, without regularisation."
    )


def shares_of(done: float, before: float, norm: float) -> str:
    """epsilon after the step and of doing nothing, both in units of the norm of the model."""
    return (
        f"the projection certificate is off by epsilon = {done:.3g}, {part(done, norm)} the norm of the model "
        f"(doing nothing: {before:.3g}, {share(before, norm)})"
    )


def _by_retrained(a: Numbers, who: str) -> str:
    """The verdict where multipliers can be moved between points: the angle to the retrained model."""
    why = "the multipliers are not unique, since points on the margin depend on each other linearly"
    done, before = (c.tau for c in a.certificates["retrain"])
    if a.verdict == "nothing to forget":
        return (
            f"Nothing to forget: the model without {who} would be the same ({why}, and others can carry it). The step "
            f"would turn it by {degrees(done)}."
        )
    start = {"forgotten": "Forgotten", "partly forgotten": "Only partly forgotten", "not forgotten": "NOT forgotten"}
    return (
        f"{start[a.verdict]}: after one ascent step on {who}, the model is at {degrees(done)} from the retrained one "
        f"(without it: {degrees(before)}). That decides here, because {why}."
    )


def paragraphs(a: Numbers) -> list[str]:
    """The rest of the answer: certificates, retrained model, step, hypotheses, every point."""
    parts = [
        _about(a),
        certificate_table(a),
        retrained(a),
        sentence(a.worth, a.forget),
        _about_step(a),
        _about_hypotheses(a),
    ]
    if a.outcome is not None:
        parts = [about_outcome(a.outcome), parts[0], "For comparison, one step of ascent on that model:", *parts[1:]]
    parts += [f"Warning: {text}." for text in a.warnings]
    return [*parts, about_every_point(a.every_point)] if a.every_point is not None else parts


def _about(a: Numbers) -> str:
    support = int(np.sum(a.multipliers > 0))
    kind = "linear model" if a.model == "linear" else f"two-layer ReLU network with {a.neurons} neurons"
    if a.leaky is not None:
        kind = f"two-layer leaky ReLU network (slope {a.leaky.slope:g}) with {a.neurons} neurons"
    if a.given:
        what = (
            f"the given weights of a {kind}, divided by their smallest margin {a.scale:.4g} (measured as they are: "
            f"epsilon_1 = {a.epsilon:.3g}, delta_1 = {a.delta:.3g}; {a.orthogonal:.3g} of their norm is orthogonal to "
            "every point)"
        )
    elif a.exact:
        what = f"the {kind} of maximum margin that training ends in"
        if a.model == "relu":
            what = f"the exact KKT point of the margin problem that training a {kind} ends in"
    else:
        what = f"a trained {kind} (epsilon_1 = {a.epsilon:.3g}; its limit is out of reach, too many points matter)"
    return (
        f"Data: {a.num_points} points in {a.dim} dimensions (rank {a.rank}); label {a.classes[0]!r} is -1, "
        f"{a.classes[1]!r} is +1.\nModel: {what}; norm {a.norm:.4g} at margin 1; it depends on {support} of the points."
    )


def certificate_table(a: Any) -> str:
    """Four certificates beside doing nothing, aligned: of an audit of two classes or of several."""
    lines = [
        "How well, by four certificates (nearby models that are nearly what training on the rest gives; epsilon = how "
        "nearly, 0 is exactly; delta = slackness error; tau = 1 - cos of the angle between that model and yours):",
        f"  {'':<12}{'after the step':^33}{'doing nothing':^33}",
        f"  {'':<12}" + f"{'epsilon':>11}{'delta':>11}{'tau':>11}" * 2,
    ]
    for name, row in a.certificates.items():
        lines.append(f"  {name:<12}" + "".join(f"{v:>11.3g}" if v == v else f"{'-':>11}" for c in row for v in c[:3]))
    lines.append(f"  An epsilon of {a.norm:.3g} (the norm of the model) or more says nothing.")
    if a.broken:
        rest = a.num_points - len(a.forget)
        lines.append(f"  After the step {a.broken} of the {rest} remaining points are misclassified, hence no scaling.")
    return "\n".join(lines)


def retrained(a: Any) -> str:
    """How far the retrained model is, of an audit of two classes or of several."""
    if "retrain" not in a.certificates:
        return "Retrained model: not computed (too many points lie near the margin for an exact solution)."
    done, before = (c.tau for c in a.certificates["retrain"])
    if before == done or max(before, done) < 1e-15:
        move = "as far as without it"
    else:
        move = f"{'nearer' if done < before else 'FARTHER'} than without it (gap {before:.3g}, {degrees(before)})"
    return (
        f"Retrained model: the exact solution on the remaining points is at an angle of {degrees(done)} from the "
        f"model after the step (gap 1 - cos = {done:.3g}), {move}."
    )


def _about_step(a: Numbers) -> str:
    lines = [f"Step: ascend the {a.step.loss} loss (summed over points) of each forgotten point with step size beta:"]
    for i, lam, log_beta, guess in zip(sorted(a.forget), *a.step[1:4], strict=True):
        if lam == 0:
            lines.append(f"  point {i}: beta = 0 (multiplier 0): no step is needed")
            continue
        off = f"{percent(abs(guess - lam) / lam)} off" if guess <= 2 * lam else f"{share(guess, lam)} as large"
        lines.append(
            f"  point {i}: beta = {exponential(log_beta)} (multiplier {lam:.4g}; "
            f"estimated from the point alone {guess:.4g}, {off})"
        )
    if a.step.size == 0:
        return "\n".join(lines)
    costs = ", ".join(f"{percent(error)}: {epsilon:.3g}" for error, epsilon in a.step.errors.items())
    lines.append(
        f"  A step that is wrong by a fraction leaves, instead of epsilon = "
        f"{a.certificates['projection'].step.epsilon:.3g}: {costs}; "
        f"with the estimated multipliers {a.step.estimate_epsilon:.3g}."
    )
    if a.step.rho > (1 - 1e-6) * a.step.size:
        lines.append("  (All the same, since the retained points span the step: this certificate cannot see it.)")
    return "\n".join(lines)


def _about_hypotheses(a: Numbers) -> str:
    more = [] if a.leaky is None else [f"Theorem LK: {_uniqueness(a.leaky)}"]
    return hypotheses(a, "coarse lines", *more)


def hypotheses(a: Any, named: str, *more: str) -> str:
    """The hypotheses of the `named` lines, what each theorem promises, what `more` there is to say, and Theorem P: of
    an audit of two classes or of several."""
    failing = [h for h in a.hypotheses if not h.holds]
    verb = "all hold" if not failing else f"{len(failing)} of {len(a.hypotheses)} fail"
    phi = f"phi, the largest |<x_i, x_k>|, is {a.phi:.3g}"
    lines = [f"Theorems: of the hypotheses of the {named} {verb} ({phi}):"]
    for h in a.hypotheses:
        state = "holds" if h.holds else f"FAILS, {h.value / h.limit:.4g} times too large"
        lines.append(f"  {h.name} = {h.value:.4g}, must be at most {h.limit:g}: {state} ({h.meaning})")
    for name, b in a.bounds.items():
        promise = f"epsilon <= {b.epsilon:.3g}, delta <= {b.delta:.3g}, tau <= {b.tau:.3g}"
        lines.append(f"  {name}: " + (promise if b.reason == Reason.APPLIES else f"does not apply; {b.reason.text}"))
    lines += [f"  {sentence}" for sentence in more]
    lines.append(
        f"  Theorem P needs no hypothesis: epsilon <= epsilon_1 + rho = {a.epsilon + a.step.rho:.3g} "
        f"(rho = {a.step.rho:.3g}, the part of the step inside the span of the retained points)."
    )
    return "\n".join(lines)


def _uniqueness(leaky: Leaky) -> str:
    """What Theorem LK says of a leaky network on these points."""
    if not leaky.chi < 1:
        size = "a denominator is not positive" if math.isinf(leaky.chi) else f"chi = {leaky.chi:.3g}, not below 1"
        return f"does not apply ({size}): these points may have several KKT points, and retraining several outcomes."
    own = f"chi = {leaky.chi_of_model:.3g} with its epsilon_1 and delta_1"
    known = (
        f"The model is active exactly where that raises a margin ({own})."
        if leaky.chi_of_model < 1
        else f"The model is too far from a KKT point for its activations to be known ({own})."
    )
    return f"chi = {leaky.chi:.3g} < 1: the retrained network is unique. {known}"


def about_every_point(e: EveryPoint) -> str:
    """Every point from the cleanest to the hardest."""
    order = e.ranking()
    free = int(np.sum(e.multipliers == 0))
    used = [i for i in order if e.multipliers[i] > 0]
    lines = [
        f"Every point: {free} of {len(order)} have multiplier 0, there is nothing to forget about them. The others, "
        "from the cleanest to the hardest\n(rho/||theta||: error of the projection certificate; gap: 1 - cos to the "
        "model retrained without the point):",
        f"  {'point':>8}{'rho/||theta||':>16}{'gap after':>13}{'gap before':>13}",
    ]
    shown = used if len(used) <= 10 else [*used[:5], None, *used[-5:]]
    for i in shown:
        if i is None:
            lines.append(f"  {'...':>8}")
        else:
            lines.append(f"  {i:>8}{e.rho[i]:>16.3g}{e.gap[i]:>13.3g}{e.gap_nothing[i]:>13.3g}")
    return "\n".join(lines)


def named(forget: tuple[int, ...]) -> str:
    """The points by their numbers."""
    if len(forget) == 1:
        return f"point {forget[0]}"
    shown = ", ".join(map(str, forget[:6])) + (f" and {len(forget) - 6} more" if len(forget) > 6 else "")
    return f"points {shown}"


def share(value: float, whole: float) -> str:
    """A part of a whole in per cent, and what is more than the whole as a multiple of it."""
    ratio = value / whole
    if not ratio > 1:
        return percent(ratio)
    return f"{ratio:.3g} times" if ratio < 1000 else f"over 10^{math.floor(math.log10(ratio))} times"


def part(value: float, whole: float) -> str:
    """The same before what it is a part of: "95 % of", "3 times"."""
    return share(value, whole) + (" of" if not value > whole else "")


def percent(fraction: float) -> str:
    """A fraction in per cent."""
    return f"{100 * fraction:.3g} %"


def exponential(log: float) -> str:
    """exp(log) in short, whatever its size."""
    return f"{math.exp(log):.4g}" if abs(log) < 100 else f"10^{log / math.log(10):.4g}"
