"""What an audit finds: its numbers, and the verdict that they give."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gaunlearn_jax.base.codes import Reason

Vector = NDArray[np.float64]

#: the error of the projection certificate relative to that of doing nothing: below the first the point counts as
#: forgotten, above the second as not forgotten
CLEAN, FAILED = 0.1, 0.9
#: weights are no KKT point in any useful sense that `reach` does not show to be within this share of their norm (at an
#: angle of 30 degrees) of an exact one
FAR = 0.5
#: 1 - cos of the angle to the retrained model below which the two are the same
SAME = 1e-15


def reach(epsilon: float, slack: float, norm: float) -> float:
    """(epsilon + sqrt(epsilon^2 + 4 slack)) / (2 ||theta||) with slack = sum_i lambda_i (q_i - 1): no farther is theta
    from the solution of the programme that touches it, relative to its norm. Source: docs/theory, Closeness to the
    retrained model, with nothing forgotten."""
    return (epsilon + math.sqrt(epsilon**2 + 4.0 * max(slack, 0.0))) / (2.0 * norm)


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


class Leaky(NamedTuple):
    """Theorem LK of a leaky network: the slope, and chi of exact points of the data and of the model as it is."""

    slope: float
    chi: float
    chi_of_model: float


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


class Worth(NamedTuple):
    """leverage of each forgotten point on the retained ones; `share` = rho^2/||h||^2 of all together (NaN without a
    step), the ratio of gaps that it predicts, the measured one (NaN without a retrained model); `answer` is "yes
    (proved)", "yes", "no", "as far" or "unknown"; `reasons` and `help` in words."""

    leverage: Vector
    share: float
    predicted: float
    ratio: float
    answer: str
    reasons: tuple[str, ...]
    help: str


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


class Bracket(NamedTuple):
    """Least and largest angle to the retrained model by Theorem T, and the radius of its ball over the norm of its
    centre (1 or more: nothing is said)."""

    least: float
    most: float
    sine: float


class Metrics(NamedTuple):
    """Popular metrics of the outcome, of doing nothing, of the retrained model (where it is known): of how many
    forgotten points, how many a membership test detects (empty: no held-out margins), its exact intervals, and the
    median steps of relearning."""

    points: int
    detected: tuple[int, ...]
    interval: tuple[tuple[float, float], ...]
    relearning: tuple[float, ...]


class Outcome(NamedTuple):
    """Another outcome than that of ascent: its name ("given": weights that were unlearned elsewhere), whether what the
    step asks was found, 1 - cos of the angle to the retrained model (NaN: unknown) and its bracket, both also of doing
    nothing, whether it is the model itself, and popular metrics."""

    name: str
    valid: bool
    gap: float
    gap_nothing: float
    bracket: Bracket
    bracket_nothing: Bracket
    unchanged: bool
    metrics: Metrics

    @property
    def verdict(self) -> str:
        """ "nothing to forget", "nearly retrained", "partly retrained", "excluded" or "open"."""
        if math.isnan(self.gap):
            if self.bracket.most <= CLEAN * self.bracket_nothing.least:
                return "nearly retrained"
            return "excluded" if self.bracket.least >= FAILED * self.bracket_nothing.most else "open"
        if self.gap_nothing <= SAME:
            return "nothing to forget"
        share = math.sqrt(self.gap / self.gap_nothing)
        if share > FAILED:
            return "excluded"
        return "nearly retrained" if share <= CLEAN else "partly retrained"


@dataclasses.dataclass(frozen=True, repr=False)
class Numbers:
    """The numbers of an audit. Norms, epsilon and delta are those of the model rescaled to
    margin 1; `broken` counts the remaining points that the step misclassifies; `unique`
    is whether the multipliers of the forgotten points are the only ones that the model has, `spare`
    whether the other points can take them over, so that the model is explained without as well."""

    model: str
    neurons: int
    num_points: int
    dim: int
    rank: int
    classes: tuple[Any, Any]
    forget: tuple[int, ...]
    given: bool
    exact: bool
    unique: bool
    spare: bool
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
    worth: Worth
    warnings: tuple[str, ...]
    broken: int
    step: Step
    hypotheses: tuple[Hypothesis, ...]
    bounds: dict[str, Bounded]
    every_point: EveryPoint | None
    outcome: Outcome | None = None
    leaky: Leaky | None = None

    @property
    def slack(self) -> float:
        """sum_i lambda_i (q_i - 1), which is 0 at an exact KKT point."""
        return max(0.0, float(np.sum(self.multipliers * (self.margins - 1.0))))

    @property
    def reach(self) -> float:
        """How far an exact KKT point may be from the model, relative to its norm."""
        return reach(self.epsilon, self.slack, self.norm)

    @property
    def judged_by_retrained(self) -> bool:
        """Whether the multipliers leave the verdict open, so that the retrained model decides it."""
        return not self.unique and not (self.spare and self.given) and "retrain" in self.certificates

    @property
    def verdict(self) -> str:
        """ "nothing to forget", "forgotten", "partly forgotten", "not forgotten" or "no KKT point"; of another outcome
        than that of ascent its own."""
        if self.reach > FAR:
            return "no KKT point"
        if self.outcome is not None:
            return self.outcome.verdict
        if self.judged_by_retrained:
            done, before = (max(c.tau, 0.0) for c in self.certificates["retrain"])
            return "nothing to forget" if before <= SAME else _ladder(math.sqrt(done / before))
        if self.step.size == 0 or self.spare:
            return "nothing to forget"
        after, nothing = self.certificates["projection"]
        share = after.epsilon / nothing.epsilon if nothing.epsilon > 0 else math.inf
        return "not forgotten" if after.epsilon >= after.norm else _ladder(share)


def _ladder(share: float) -> str:
    """The verdict on what is left of an error, relative to doing nothing."""
    if share > FAILED:
        return "not forgotten"
    return "forgotten" if share <= CLEAN else "partly forgotten"
