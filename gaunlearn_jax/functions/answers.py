"""The answers about networks given as functions: their numbers, and what they mean in words."""

from __future__ import annotations

import dataclasses
import html
from typing import Any, NamedTuple

import numpy as np

from gaunlearn_jax.audit import words
from gaunlearn_jax.audit.answer import plain
from gaunlearn_jax.audit.findings import CLEAN, FAILED, FAR, Certified
from gaunlearn_jax.base.codes import Reason
from gaunlearn_jax.functions.points import NEARBY, NOTABLE
from gaunlearn_jax.kkt.host import Vector


class Answer:
    """What both answers have in common: text, a cell of a notebook, JSON values."""

    @property
    def verdict(self) -> str:
        """The verdict in few words."""
        raise NotImplementedError

    def headline(self) -> str:
        """The verdict in one or two sentences."""
        raise NotImplementedError

    def paragraphs(self) -> list[str]:
        """The rest of the answer."""
        raise NotImplementedError

    def __str__(self) -> str:
        return "\n\n".join((self.headline(), *self.paragraphs()))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.headline()}>"

    def _repr_html_(self) -> str:
        rest = "\n\n".join(self.paragraphs())
        return (
            f"<table><caption>{type(self).__name__}</caption><tbody><tr><td style='text-align:left'>"
            f"<b>{html.escape(self.headline())}</b><pre>{html.escape(rest)}</pre></td></tr></tbody></table>"
        )

    def to_dict(self) -> dict[str, Any]:
        """Every number as JSON values (NaN and infinity as null), without the arrays of the network."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        kept = {k: plain(v) for k, v in fields.items() if k not in ("weights_after", "steps")}
        steps = {
            name: {k: plain(v) for k, v in step._asdict().items() if k != "params"}
            for name, step in fields.get("steps", {}).items()
        }
        return {"verdict": self.verdict, "headline": self.headline(), **kept} | ({"steps": steps} if steps else {})


@dataclasses.dataclass(frozen=True, repr=False)
class FirstLayerAudit(Answer):
    """The answer about one trained matrix; print it. All numbers are those of the margin problem with margins of at
    least `margin`, the smallest that the network has. `certificate` is the point of Theorem P' as measured, `formula`
    its epsilon by the theorem, `nothing` the network as it is with lambda_T; `nearby` is epsilon_1 with
    gradients of networks nearby (NaN where epsilon is small); `step` is ||h||, `rho` = ||P h||; `floor`
    is B_T (None: no constant was declared); `broken` and `lost` count the retained and the forgotten points that the
    step misclassifies."""

    num_points: int
    classes: tuple[Any, ...]
    forget: tuple[int, ...]
    rank: int
    size: int
    margin: float
    norm: float
    epsilon: float
    delta: float
    nearby: float
    solved: bool
    multipliers: Vector
    margins: Vector
    step: float
    rho: float
    certificate: Certified
    nothing: Certified
    formula: float
    tau_bound: float
    floor: float | None
    broken: int
    lost: int
    weights_after: Any

    @property
    def verdict(self) -> str:
        """ "nothing to forget", "forgotten", "partly forgotten", "not forgotten" or "no KKT point"."""
        if self.step == 0:
            return "nothing to forget"
        if self.epsilon > FAR * self.norm:
            return "no KKT point"
        return _by_share(max(self.certificate.epsilon / self.nothing.epsilon, self.tau_bound))

    def headline(self) -> str:
        """The verdict in one or two sentences."""
        who, verdict = words.named(self.forget), self.verdict
        if verdict in ("nothing to forget", "no KKT point"):
            return _no_verdict(who, verdict, self.epsilon, self.norm)
        shares = words.shares_of(self.certificate.epsilon, self.nothing.epsilon, self.norm)
        text = f"{_START[verdict]}: after one ascent step on {who}, {shares}."
        return text + _spans(self.rank, self.size) if verdict != "forgotten" else text

    def paragraphs(self) -> list[str]:
        """The rest of the answer."""
        c = self.certificate
        lines = [
            f"Network: any function of one trained matrix; {self.num_points} points, {len(self.classes)} classes, "
            f"smallest margin {self.margin:.4g}, which is the margin asked for; norm of the matrix {self.norm:.4g}; "
            f"epsilon_1 = {self.epsilon:.3g}, delta_1 = {self.delta:.3g} with the best multipliers."
            + ("" if self.solved else " The multipliers missed their own conditions; epsilon_1 is an upper bound."),
            f"Certificate (Theorem P'): W - (I - P)h has epsilon = {c.epsilon:.3g} (by the formula {self.formula:.3g}; "
            f"doing nothing {self.nothing.epsilon:.3g}), delta = {c.delta:.3g}, tau = {c.tau:.3g} "
            f"(at most {self.tau_bound:.3g}), norm {c.norm:.4g}.",
            f"Step: ||h|| = {self.step:.3g}, of which rho = {self.rho:.3g} lies in the span of the retained patches "
            f"({self.rank} of {self.size} directions). After it {_counted(self.broken, self.lost)}.",
        ]
        if self.floor is not None:
            lines.append(f"No matrix with these retained margins has a norm below {self.floor:.4g} (as declared).")
        return [*lines, *_warnings(self)]


class LayerStep(NamedTuple):
    """A step with `fraction` of h on the deeper layers (the whole of it on the first, unless nothing is done): 1 - cos
    to the certificate; no exact KKT point for the retained points is nearer than `least`, none of the certificate's
    epsilon nearer than `least_nearby` (NaN without a norm floor); 1 - cos to the retrained network; retained and
    forgotten points that it misclassifies; the network itself."""

    fraction: float
    gap: float
    least: float
    least_nearby: float
    gap_retrained: float
    broken: int
    lost: int
    params: Any


@dataclasses.dataclass(frozen=True, repr=False)
class HomogeneousAudit(Answer):
    """The answer about a homogeneous network; print it. Norms, epsilon, delta are at margin 1: all layers divided by
    `scale`. `certificates` holds the measured points of Theorem S, "scaled" (x of least epsilon) and "span" (x = 1),
    with 1 - cos to the network as it is; `formula` is the theorem's epsilon for the former, `nothing` that of doing
    nothing; `nearby` is epsilon_1 with gradients of networks nearby (NaN where it is small); `step` is ||h||;
    `fraction` is c* (NaN, with `fraction_reason`); `floor` is B_T (None: undeclared)."""

    num_points: int
    classes: tuple[Any, ...]
    forget: tuple[int, ...]
    names: tuple[str, ...]
    first: int
    rank: int
    size: int
    scale: float
    norm: float
    layer_norms: Vector
    epsilon: float
    delta: float
    nearby: float
    solved: bool
    multipliers: Vector
    margins: Vector
    step: float
    x: float
    certificates: dict[str, Certified]
    formula: float
    nothing: float
    fraction: float
    fraction_reason: Reason
    floor: float | None
    steps: dict[str, LayerStep]
    retrained: Certified | None

    @property
    def recommended(self) -> str:
        """The step that the verdict is about: c* where it is known, else one half on the deeper layers."""
        return "closed form" if "closed form" in self.steps else "half" if "half" in self.steps else "full"

    @property
    def verdict(self) -> str:
        """ "nothing to forget", "forgotten", "partly forgotten", "not forgotten" or "no KKT point"."""
        if self.step == 0:
            return "nothing to forget"
        if self.epsilon > FAR * self.norm:
            return "no KKT point"
        before = self.steps["nothing"].gap
        ratio = self.steps[self.recommended].gap / before if before > 0 else np.inf
        return _by_share(max(self.certificates["scaled"].epsilon / self.nothing, ratio))

    def headline(self) -> str:
        """The verdict in one or two sentences."""
        who, verdict = words.named(self.forget), self.verdict
        if verdict in ("nothing to forget", "no KKT point"):
            return _no_verdict(who, verdict, self.epsilon, self.norm)
        step, before, best = self.steps[self.recommended], self.steps["nothing"], self.certificates["scaled"]
        text = (
            f"{_START[verdict]}: after the layer-wise step on {who} (the whole of it on the first layer, "
            f"{step.fraction:.3g} of it on the others) the network is at {words.degrees(step.gap)} (without it: "
            f"{words.degrees(before.gap)}) from one that is nearly a KKT point without {_it(self.forget)}: epsilon = "
            f"{best.epsilon:.3g}, {words.part(best.epsilon, best.norm)} its norm (doing nothing: {self.nothing:.3g})."
        )
        return text + _spans(self.rank, self.size) if verdict != "forgotten" else text

    def paragraphs(self) -> list[str]:
        """The rest of the answer."""
        norms = ", ".join(f"{n}: {v:.4g}" for n, v in zip(self.names, self.layer_norms, strict=True))
        carries = int(np.sum(self.multipliers > 0))
        parts = [
            f"Network: homogeneous in each of its {len(self.names)} layers; {self.num_points} points, "
            f"{len(self.classes)} classes; norm {self.norm:.4g} at margin 1 ({norms}); {carries} of "
            f"{len(self.multipliers)} constraints carry it; epsilon_1 = {self.epsilon:.3g}, delta_1 = {self.delta:.3g}."
            + ("" if self.solved else " The multipliers missed their own conditions; epsilon_1 is an upper bound."),
            self._about_certificates(),
            self._table(),
        ]
        if self.floor is not None:
            parts.append(f"No network that fits the retained points at margin 1 has a norm below {self.floor:.4g}.")
        if self.retrained is not None:
            c = self.retrained
            parts.append(
                f"Retrained network: epsilon = {c.epsilon:.3g} ({words.part(c.epsilon, c.norm)} its norm), delta = "
                f"{c.delta:.3g}; it is one network that training gives, not the only KKT point."
            )
        if self.fraction_reason != Reason.APPLIES:
            parts.append(f"No fraction in closed form: {self.fraction_reason.text}.")
        return [*parts, *_warnings(self)]

    def _about_certificates(self) -> str:
        scaled, span = self.certificates["scaled"], self.certificates["span"]
        return (
            f"Certificates (Theorem S), nearly KKT points without {_it(self.forget)}: deeper layers scaled by sqrt(x), "
            f"x = {self.x:.4g}: epsilon = {scaled.epsilon:.3g} (by the formula {self.formula:.3g}), delta = "
            f"{scaled.delta:.3g}; not scaled: epsilon = {span.epsilon:.3g}, delta = {span.delta:.3g}."
        )

    def _table(self) -> str:
        lines = [
            "What each step leaves (1 - cos; to the certificate: an upper bound on the distance to the nearest nearly "
            "KKT point;\nat least: no exact KKT point without these points is nearer, whatever its activations):",
            f"  {'step':<14}{'fraction':>9}{'certificate':>13}{'at least':>11}{'retrained':>11}{'broken':>8}",
        ]
        for name, s in self.steps.items():
            again = "-" if s.gap_retrained != s.gap_retrained else f"{s.gap_retrained:.3g}"
            lines.append(f"  {name:<14}{s.fraction:>9.3g}{s.gap:>13.3g}{s.least:>11.3g}{again:>11}{s.broken:>8}")
        return "\n".join(lines)


_START = {"forgotten": "Forgotten", "partly forgotten": "Only partly forgotten", "not forgotten": "NOT forgotten"}


def _by_share(share: float) -> str:
    if not share <= FAILED:
        return "not forgotten"
    return "forgotten" if share <= CLEAN else "partly forgotten"


def _it(forget: tuple[int, ...]) -> str:
    return "it" if len(forget) == 1 else "them"


def _no_verdict(who: str, verdict: str, epsilon: float, norm: float) -> str:
    if verdict == "nothing to forget":
        return f"Nothing to do: the best multipliers explain the network without {who}, so the step is empty."
    return (
        f"No statement about {who}: the network is far from every KKT point of the margin problem (epsilon_1 = "
        f"{epsilon:.3g}, {words.part(epsilon, norm)} its norm), and the theory speaks of KKT points; train longer, "
        "without regularisation."
    )


def _spans(rank: int, size: int) -> str:
    if rank < size:
        return ""
    return (
        f" The reason: the retained patches span all {size} directions, so the first layer keeps its part of the step."
    )


def _counted(broken: int, lost: int) -> str:
    return f"{broken} retained and {lost} forgotten points are misclassified"


def _warnings(a: FirstLayerAudit | HomogeneousAudit) -> list[str]:
    said = []
    if a.rank == a.size:
        said.append(f"Warning: the retained patches span all {a.size} directions, where P = I has no content.")
    if a.epsilon > NOTABLE * a.norm:
        said.append(f"Warning: epsilon_1 is {words.part(a.epsilon, a.norm)} the norm; {_cause(a)}.")
    return said


def _cause(a: FirstLayerAudit | HomogeneousAudit) -> str:
    taken = (
        "derivatives are those of your function, and at a kink (ReLU at 0, a tie of a maximum) JAX takes one value "
        "where a KKT point has a fraction, which alone may leave 2 to 30 %"
    )
    if a.nearby != a.nearby:
        return taken
    share = words.percent(a.nearby / a.norm)
    if a.nearby < a.epsilon / 2:
        return f"gradients within {NEARBY:g} of its norm leave {share}, so kinks are the cause: {taken}"
    return f"gradients within {NEARBY:g} of its norm leave {share} too, so it is no KKT point yet: train longer"
