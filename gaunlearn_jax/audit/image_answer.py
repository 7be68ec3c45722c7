"""The answer of the audit of a small convolution: its numbers, and what they mean in words."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaunlearn_jax.audit import words
from gaunlearn_jax.audit.answer import plain
from gaunlearn_jax.audit.findings import CLEAN, FAILED, FAR, reach
from gaunlearn_jax.audit.outcome_words import degrees


@dataclasses.dataclass(frozen=True, repr=False)
class ImageAudit:
    """The answer of an audit of images; print it.

    Of the filters at smallest margin 1: norm, epsilon, delta, slack = sum_i lambda_i (q_i - 1), multipliers [m] (the
    best ones, where `solved`). Of the step: its size ||h||, rho = ||P h||, epsilon of the projection certificate with
    and without it, remaining images that it misclassifies (`broken`), 1 - cos to a network trained again from the same
    start with and without it (NaN for given filters). `rank` is that of the retained patches among `pixels` directions;
    `dependent` counts images whose patches are linearly dependent; `mu` is the largest cosine of two images' patches.
    """

    num_points: int
    patches: int
    filters: int
    pixels: int
    rank: int
    classes: tuple[Any, Any]
    forget: tuple[int, ...]
    given: bool
    solved: bool
    norm: float
    scale: float
    epsilon: float
    delta: float
    slack: float
    multipliers: NDArray[np.float64]
    size: float
    rho: float
    certificate: float
    certificate_nothing: float
    broken: int
    gap: float
    gap_nothing: float
    dependent: int
    mu: float

    @property
    def verdict(self) -> str:
        """ "no KKT point", "nothing to forget", "not forgotten", "partly forgotten" or "forgotten"."""
        if not self.solved or reach(self.epsilon, self.slack, self.norm) > FAR:
            return "no KKT point"
        if self.size == 0:
            return "nothing to forget"
        share = self.certificate / self.certificate_nothing
        if share > FAILED or self.certificate >= self.norm:
            return "not forgotten"
        return "forgotten" if share <= CLEAN else "partly forgotten"

    def __str__(self) -> str:
        return "\n\n".join((headline(self), *_paragraphs(self)))

    def __repr__(self) -> str:
        return f"<Audit of {self.filters} filters on {self.num_points} images: {headline(self)}>"

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values (NaN and infinity as null)."""
        fields = {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return {"verdict": self.verdict, "headline": headline(self), **fields}


def headline(a: ImageAudit) -> str:
    """The verdict in one or two sentences, failures first of all."""
    who = words.named(a.forget)
    if a.verdict == "no KKT point":
        return words.no_statement(who, a.epsilon, a.delta, a.slack, a.norm)
    if a.verdict == "nothing to forget":
        return f"Nothing to do: the best fit explains the filters without {who}, so the step is empty."
    shares = words.shares_of(a.certificate, a.certificate_nothing, a.norm)
    if a.verdict != "not forgotten":
        how = "Forgotten" if a.verdict == "forgotten" else "Only partly forgotten"
        return f"{how}: after one ascent step on {who}, {shares}."
    why = f" The reason: {_spanned(a)}." if a.rho > (1 - 1e-6) * a.size else ""
    return f"NOT forgotten: for one ascent step on {who}, {shares}.{why}"


def _spanned(a: ImageAudit) -> str:
    kept = (a.num_points - len(a.forget)) * a.patches
    return (
        f"the {kept} retained patches span all {a.rank} of the {a.pixels} directions that filters use, so the step has "
        "no part of its own to remove; larger patches or fewer images would leave one"
    )


def _paragraphs(a: ImageAudit) -> list[str]:
    made = "given" if a.given else "trained here"
    lines = [
        f"{a.filters} filters ({made}) over {a.patches} patches of {a.pixels} pixels, {a.num_points} images, classes "
        f"{a.classes[0]} and {a.classes[1]}. At smallest margin 1 their norm is {a.norm:.3g}, epsilon_1 "
        f"{a.epsilon:.3g} and delta_1 {a.delta:.3g}; {int(np.sum(a.multipliers > 0))} images have a multiplier.",
        f"The step has norm {a.size:.3g}, of which {a.rho:.3g} lies in the span of the retained patches; "
        f"afterwards {a.broken} of the remaining images are misclassified.",
    ]
    if not math.isnan(a.gap):
        lines.append(
            f"A network trained again from the same start without {words.named(a.forget)} is at {degrees(a.gap)} after "
            f"the step, at {degrees(a.gap_nothing)} without it. Both are trained networks, not exact solutions."
        )
    if a.dependent:
        lines.append(
            f"{a.dependent} images have linearly dependent patches (blank ones, or more patches than pixels in one): "
            "the gradients used are then those of each patch by itself, which need not be Clarke's."
        )
    room = 1 / max(a.num_points - 1, 1)
    if a.mu >= room:
        lines.append(
            f"Theorem R' does not apply: the patch spaces of two images meet at a cosine of {a.mu:.3g}, and it needs "
            f"less than 1/(m - 1) = {room:.3g}."
        )
    return lines
