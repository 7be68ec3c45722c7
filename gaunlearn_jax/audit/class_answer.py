"""The answer of the audit of a linear model with several classes: its numbers, and what they mean in words."""

from __future__ import annotations

import dataclasses
import html
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gaunlearn_jax.audit import words
from gaunlearn_jax.audit.answer import plain
from gaunlearn_jax.audit.findings import CLEAN, FAILED, FAR, Bounded, EveryPoint, Hypothesis, Row, reach

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


class CrossEntropy(NamedTuple):
    """One ordinary cross-entropy step (loss summed over points) as the theorem's step: the logarithm of its learning
    rate on the given weights, epsilon_1 and delta_1 of the multipliers kappa p that it stands for, epsilon of the
    projection certificate with them, and 1 - cos to the exact step and to the retrained model."""

    log_rate: float
    epsilon: float
    delta: float
    certificate: float
    gap: float
    gap_retrained: float


class ClassStep(NamedTuple):
    """The step on the forgotten points, in their order in the data: multipliers [k, C] at margin 1, logits [k, C]
    before and after at the scale of the weights, ||h||, rho = ||P h||, and the cross-entropy step (given weights)."""

    multipliers: Matrix
    logits_before: Matrix
    logits_after: Matrix
    size: float
    rho: float
    cross_entropy: CrossEntropy | None


@dataclasses.dataclass(frozen=True, repr=False)
class ClassAudit:
    """The answer of an audit with several classes; print it. Norms, epsilon and delta are those of the centred weights
    rescaled to margin 1; `common` is the norm of the row that was common to all classes, at the given scale; `own`
    holds the class number of each point, `multipliers` [m, C]; `broken` counts the remaining points that the step
    misclassifies; `slack` is sum_a lambda_a (q_a - 1), `spare` whether the other points explain the model as well."""

    model: str
    num_points: int
    dim: int
    rank: int
    classes: tuple[Any, ...]
    forget: tuple[int, ...]
    own: NDArray[np.int64]
    given: bool
    norm: float
    common: float
    orthogonal: float
    scale: float
    epsilon: float
    delta: float
    slack: float
    spare: bool
    multipliers: Matrix
    margins: Vector
    psi: float
    phi: float
    eps_d: float
    floor: float
    retrained_is_step: bool
    certificates: dict[str, Row]
    broken: int
    step: ClassStep
    hypotheses: tuple[Hypothesis, ...]
    bounds: dict[str, Bounded]
    every_point: EveryPoint | None
    warnings: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """ "nothing to forget", "forgotten", "partly forgotten", "not forgotten" or "no KKT point"."""
        if reach(self.epsilon, self.slack, self.norm) > FAR:
            return "no KKT point"
        if self.step.size == 0 or self.spare:
            return "nothing to forget"
        done, before = self.certificates["projection"]
        share = done.epsilon / before.epsilon if before.epsilon > 0 else math.inf
        if share > FAILED or done.epsilon >= done.norm:
            return "not forgotten"
        return "forgotten" if share <= CLEAN else "partly forgotten"

    @property
    def forgotten_class(self) -> Any | None:
        """The class whose points are exactly the forgotten ones, None where there is no such class."""
        chosen = np.isin(np.arange(self.num_points), self.forget)
        number = self.own[self.forget[0]]
        return self.classes[number] if np.array_equal(chosen, self.own == number) else None

    def __str__(self) -> str:
        return "\n\n".join((headline(self), *paragraphs(self)))

    def __repr__(self) -> str:
        return f"<Audit of {len(self.classes)} classes on {self.num_points} points: {headline(self)}>"

    def _repr_html_(self) -> str:
        return f"<p><b>{html.escape(headline(self))}</b></p><pre>{html.escape(words.certificate_table(self))}</pre>"

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values (NaN and infinity as null)."""
        fields = {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return {"verdict": self.verdict, "headline": headline(self), **fields}


def headline(a: ClassAudit) -> str:
    """The verdict in one or two sentences, failures first of all."""
    who, verdict = _who(a), a.verdict
    if verdict == "no KKT point":
        gap, gap_nothing = (c.tau for c in a.certificates["retrain"])
        return (
            f"{words.no_statement(who, a.epsilon, a.delta, a.slack, a.norm)} The retrained model is at "
            f"{words.degrees(gap)} after the step, at {words.degrees(gap_nothing)} without it."
        )
    if verdict == "nothing to forget":
        if a.given:
            empty = ", so the step is empty" if a.step.size == 0 else ": its multipliers can be moved to other points"
            return f"Nothing to do: the best fit explains the weights without {who}{empty}."
        return f"Nothing to forget: the model does not depend on {who}; trained without, it would be the same."
    done, before = a.certificates["projection"]
    shares = words.shares_of(done.epsilon, before.epsilon, a.norm)
    if verdict != "not forgotten":
        how = "Forgotten" if verdict == "forgotten" else "Only partly forgotten"
        return f"{how}: after one ascent step on {who}, {shares}."
    why = ""
    if a.step.rho > (1 - 1e-6) * a.step.size:
        rest = a.num_points - len(a.forget)
        why = (
            f" The reason: the {rest} retained points span all {a.rank} directions of the data, so the step has no "
            "part of its own to remove."
        )
    return f"NOT forgotten: for one ascent step on {who}, {shares}.{why}"


def paragraphs(a: ClassAudit) -> list[str]:
    """The rest of the answer: model, certificates, retrained model, step, hypotheses, every point."""
    parts = [_about(a), words.certificate_table(a), _retrained(a), _about_step(a), words.hypotheses(a, "coarse line")]
    parts += [f"Warning: {text}." for text in a.warnings]
    return [*parts, words.about_every_point(a.every_point)] if a.every_point is not None else parts


def _who(a: ClassAudit) -> str:
    whole = a.forgotten_class
    if whole is not None and len(a.forget) > 1:
        return f"all {len(a.forget)} points of class {whole!r}"
    return words.named(a.forget)


def _about(a: ClassAudit) -> str:
    support = int(np.sum(np.any(a.multipliers > 0, axis=1)))
    names = ", ".join(map(repr, a.classes[:10])) + (", ..." if len(a.classes) > 10 else "")
    what = "the linear model of maximum margin that training with cross-entropy ends in"
    if a.given:
        what = (
            f"the given weights, centred (the row common to all classes, of norm {a.common:.3g}, changes no answer) "
            f"and divided by their smallest margin {a.scale:.4g} (epsilon_1 = {a.epsilon:.3g}, "
            f"delta_1 = {a.delta:.3g}; {a.orthogonal:.3g} of their norm is orthogonal to every point)"
        )
    return (
        f"Data: {a.num_points} points in {a.dim} dimensions (rank {a.rank}), {len(a.classes)} classes: {names}.\n"
        f"Model: {what}; norm {a.norm:.4g} at margin 1 (every model for the remaining points has a norm "
        f"of at least {a.floor:.3g}); it depends on {support} of the points."
    )


def _retrained(a: ClassAudit) -> str:
    same = " All margins are 1 before and after, so it *is* the model of the projection certificate."
    return words.retrained(a) + (same if a.retrained_is_step else "")


def _about_step(a: ClassAudit) -> str:
    ce, lines = a.step.cross_entropy, []
    if ce is not None:
        apart = f"{words.degrees(ce.gap)} from the exact step"
        lines += [
            f"Step: one gradient-ascent step on the cross-entropy of the forgotten points (summed) with learning rate "
            f"{words.exponential(ce.log_rate)}:\n  {apart}; its own multipliers have epsilon_1 = {ce.epsilon:.3g} "
            f"({words.share(ce.epsilon, a.norm)} of the norm), delta_1 = {ce.delta:.3g}, and leave epsilon = "
            f"{ce.certificate:.3g} in the projection certificate.",
        ]
    else:
        lines.append(
            "Step: subtract sum_c lambda_rc (e_y - e_c) x_r^T. (A learning rate belongs to weights of finite size; "
            "give your own.)"
        )
    lines.append("  Logits of the forgotten points, before -> after:")
    order = sorted(a.forget)
    for at, i in enumerate(order[:3]):
        lines.append(f"  point {i}, class {a.classes[a.own[i]]!r} (multipliers sum to {_total(a, at):.4g}):")
        pairs = zip(a.classes, a.step.logits_before[at], a.step.logits_after[at], strict=True)
        shown = [f"{name!r}: {b:.3g} -> {c:.3g}" for name, b, c in pairs]
        lines.append("    " + ", ".join(shown[:10]) + (", ..." if len(shown) > 10 else ""))
    if len(order) > 3:
        lines.append(f"  (and {len(order) - 3} more)")
    wrong = int(np.sum(np.argmax(a.step.logits_after, axis=1) != a.own[order]))
    lines.append(f"  After the step another class is given to {wrong} of the {len(order)} forgotten points.")
    return "\n".join(lines)


def _total(a: ClassAudit, at: int) -> float:
    return float(np.sum(a.step.multipliers[at]))
