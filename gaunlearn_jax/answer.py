"""The answer of an audit: its numbers, and what they mean in words."""

from __future__ import annotations

import dataclasses
import html
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gaunlearn_jax._types import Reason

Vector = NDArray[np.float64]

#: the error of the projection certificate relative to that of doing nothing: below the first the point counts as
#: forgotten, above the second as not forgotten
CLEAN, FAILED = 0.1, 0.9
#: weights whose own stationarity error is this share of their norm are no KKT point in any useful sense
NO_KKT = 0.5


class Certified(NamedTuple):
    """epsilon, delta, tau and ||theta_tilde|| of one certificate (NaN where it does not exist)."""

    epsilon: float
    delta: float
    tau: float
    norm: float


class Row(NamedTuple):
    """One certificate after the step, and with the model left as it is."""

    step: Certified
    nothing: Certified


class Bounded(NamedTuple):
    """What a theorem promises, and which of its hypotheses fails here (APPLIES: none)."""

    epsilon: float
    delta: float
    tau: float
    reason: Reason


class Hypothesis(NamedTuple):
    """A number of the data or the model that the theorems want below a limit."""

    name: str
    meaning: str
    value: float
    limit: float

    @property
    def holds(self) -> bool:
        """Whether the value is within its limit."""
        return self.value <= self.limit


class Step(NamedTuple):
    """The step on the forgotten points, in their order in the data: multipliers, log step sizes for the network in use,
    multipliers estimated from each point alone; ||h||, rho = ||P h||; epsilon of the projection certificate for
    relative errors of the step, and with the estimated multipliers."""

    loss: str
    multipliers: Vector
    log_beta: Vector
    estimates: Vector
    size: float
    rho: float
    errors: dict[float, float]
    estimate_epsilon: float


class EveryPoint(NamedTuple):
    """Forgetting each point alone [m]: rho_r/||theta||, cosine gap to the model retrained without it after the step and
    without a step, and its multiplier."""

    rho: Vector
    gap: Vector
    gap_nothing: Vector
    multipliers: Vector

    def ranking(self) -> NDArray[np.int64]:
        """Indices from the point forgotten most cleanly to the least."""
        return np.lexsort((self.gap, self.rho))


@dataclasses.dataclass(frozen=True, repr=False)
class Audit:
    """The answer of an audit; print it. Norms, epsilon and delta are those of the model rescaled to
    margin 1; `broken` counts the remaining points that the step misclassifies."""

    model: str
    neurons: int
    num_points: int
    dim: int
    rank: int
    classes: tuple[Any, Any]
    forget: tuple[int, ...]
    given: bool
    exact: bool
    norm: float
    orthogonal: float
    scale: float
    epsilon: float
    delta: float
    multipliers: Vector
    margins: Vector
    psi: float
    phi: float
    eps_d: float
    certificates: dict[str, Row]
    broken: int
    step: Step
    hypotheses: tuple[Hypothesis, ...]
    bounds: dict[str, Bounded]
    every_point: EveryPoint | None

    @property
    def verdict(self) -> str:
        """ "nothing to forget", "forgotten", "partly forgotten", "not forgotten" or "no KKT point"."""
        if self.epsilon > NO_KKT * self.norm:
            return "no KKT point"
        if self.step.size == 0:
            return "nothing to forget"
        done, before = self.certificates["projection"]
        share = done.epsilon / before.epsilon if before.epsilon > 0 else math.inf
        if share > FAILED or done.epsilon >= done.norm:
            return "not forgotten"
        return "forgotten" if share <= CLEAN else "partly forgotten"

    def __str__(self) -> str:
        return "\n\n".join((headline(self), *paragraphs(self)))

    def __repr__(self) -> str:
        return f"<Audit of a {self.model} model on {self.num_points} points: {headline(self)}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{name}</td>" + "".join(f"<td>{v:.3g}</td>" for c in row for v in c[:3]) + "</tr>"
            for name, row in self.certificates.items()
        )
        head = "".join(f"<th>{v}</th>" for v in ("certificate", *("&epsilon;", "&delta;", "&tau;") * 2))
        return (
            f"<p><b>{html.escape(headline(self))}</b></p><table><tr><th></th><th colspan=3>after the step</th>"
            f"<th colspan=3>doing nothing</th></tr><tr>{head}</tr>{rows}</table>"
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values (NaN and infinity as null)."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {"verdict": self.verdict, "headline": headline(self), **{k: _plain(v) for k, v in fields.items()}}


def headline(a: Audit) -> str:
    """The verdict in one or two sentences, failures first of all."""
    who, verdict = _named(a.forget), a.verdict
    if verdict == "no KKT point":
        return (
            f"No statement about {who}: the weights are far from every KKT point of the margin problem (epsilon_1 = "
            f"{a.epsilon:.3g}, {_share(a.epsilon, a.norm)} of their norm), and the theory speaks of KKT points; train "
            "longer, without regularisation."
        )
    if verdict == "nothing to forget":
        its, it = ("its multiplier is", "it") if len(a.forget) == 1 else ("their multipliers are", "them")
        if a.exact:
            return (
                f"Nothing to forget: the model does not depend on {who} ({its} 0); without {it} it would be the same."
            )
        return f"Nothing to do: the best fit explains the weights without {who} ({its} 0), so the step is empty."
    done, before = a.certificates["projection"]
    shares = (
        f"the projection certificate is off by epsilon = {done.epsilon:.3g}, {_share(done.epsilon, done.norm)} of the "
        f"norm of the model (doing nothing: {before.epsilon:.3g}, {_share(before.epsilon, before.norm)})"
    )
    if verdict == "forgotten":
        return f"Forgotten: after one ascent step on {who}, {shares}."
    if verdict == "partly forgotten":
        return f"Only partly forgotten: after one ascent step on {who}, {shares}."
    why = ""
    if a.step.rho > (1 - 1e-6) * a.step.size:
        span = f"the {a.num_points - len(a.forget)} retained points span all {a.rank} directions of the data"
        why = f" The reason: {span}, so the step has no part of its own to remove."
    return f"NOT forgotten: for one ascent step on {who}, {shares}.{why}"


def paragraphs(a: Audit) -> list[str]:
    """The rest of the answer: certificates, retrained model, step, hypotheses, every point."""
    parts = [_about(a), _table(a), _retrained(a), _about_step(a), _about_hypotheses(a)]
    return [*parts, _about_every_point(a.every_point)] if a.every_point is not None else parts


def _about(a: Audit) -> str:
    support = int(np.sum(a.multipliers > 0))
    kind = "linear model" if a.model == "linear" else f"two-layer ReLU network with {a.neurons} neurons"
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


def _table(a: Audit) -> str:
    """Four certificates beside doing nothing, aligned."""
    lines = [
        "How well, by four certificates (nearby models that are nearly what training on the rest gives; epsilon = how "
        "nearly, 0 is exactly;\ndelta = slackness error; tau = 1 - cos of the angle between that model and yours):",
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


def _retrained(a: Audit) -> str:
    if "retrain" not in a.certificates:
        return "Retrained model: not computed (too many points lie near the margin for an exact solution)."
    done, before = (c.tau for c in a.certificates["retrain"])
    if before == done or max(before, done) < 1e-15:
        move = "as far as without it"
    else:
        move = f"{'nearer' if done < before else 'FARTHER'} than without it (gap {before:.3g}, {_degrees(before)})"
    return (
        f"Retrained model: the exact solution on the remaining points is at an angle of {_degrees(done)} from the "
        f"model after the step (gap 1 - cos = {done:.3g}), {move}."
    )


def _about_step(a: Audit) -> str:
    lines = [f"Step: ascend the {a.step.loss} loss (summed over points) of each forgotten point with step size beta:"]
    for i, lam, log_beta, guess in zip(sorted(a.forget), *a.step[1:4], strict=True):
        if lam == 0:
            lines.append(f"  point {i}: beta = 0 (multiplier 0): no step is needed")
            continue
        off = abs(guess - lam) / lam
        lines.append(
            f"  point {i}: beta = {_exp(log_beta)} (multiplier {lam:.4g}; estimated from the point alone {guess:.4g}, "
            f"{_percent(off)} off)"
        )
    if a.step.size == 0:
        return "\n".join(lines)
    costs = ", ".join(f"{_percent(error)}: {epsilon:.3g}" for error, epsilon in a.step.errors.items())
    lines.append(
        f"  A step that is wrong by a fraction leaves, instead of epsilon = "
        f"{a.certificates['projection'].step.epsilon:.3g}: {costs}; "
        f"with the estimated multipliers {a.step.estimate_epsilon:.3g}."
    )
    if a.step.rho > (1 - 1e-6) * a.step.size:
        lines.append("  (All the same, since the retained points span the step: this certificate cannot see it.)")
    return "\n".join(lines)


def _about_hypotheses(a: Audit) -> str:
    failing = [h for h in a.hypotheses if not h.holds]
    verb = "all hold" if not failing else f"{len(failing)} of {len(a.hypotheses)} fail"
    phi = f"phi, the largest |<x_i, x_k>|, is {a.phi:.3g}"
    lines = [f"Theorems: of the hypotheses of the worst-case theorems {verb} ({phi}):"]
    for h in a.hypotheses:
        state = "holds" if h.holds else f"FAILS, {h.value / h.limit:.4g} times too large"
        lines.append(f"  {h.name} = {h.value:.4g}, must be at most {h.limit:g}: {state} ({h.meaning})")
    for name, b in a.bounds.items():
        promise = f"epsilon <= {b.epsilon:.3g}, delta <= {b.delta:.3g}, tau <= {b.tau:.3g}"
        lines.append(f"  {name}: " + (promise if b.reason == Reason.APPLIES else f"does not apply; {b.reason.text}"))
    lines.append(
        f"  Theorem P needs no hypothesis: epsilon <= epsilon_1 + rho = {a.epsilon + a.step.rho:.3g} "
        f"(rho = {a.step.rho:.3g}, the part of the step inside the span of the retained points)."
    )
    return "\n".join(lines)


def _about_every_point(e: EveryPoint) -> str:
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


def _named(forget: tuple[int, ...]) -> str:
    if len(forget) == 1:
        return f"point {forget[0]}"
    shown = ", ".join(map(str, forget[:6])) + (f" and {len(forget) - 6} more" if len(forget) > 6 else "")
    return f"points {shown}"


def _share(value: float, whole: float) -> str:
    return _percent(value / whole)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"


def _degrees(gap: float) -> str:
    return f"{math.degrees(2 * math.asin(min(1.0, math.sqrt(max(gap, 0.0) / 2)))):.3g} degrees"


def _exp(log: float) -> str:
    return f"{math.exp(log):.4g}" if abs(log) < 100 else f"10^{log / math.log(10):.4g}"


def _plain(value: Any) -> Any:
    if isinstance(value, Reason):
        return value.text
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if hasattr(value, "_asdict"):
        return {k: _plain(v) for k, v in value._asdict().items()}
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
