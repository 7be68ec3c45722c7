"""What an audit says of another outcome than that of ascent, in words."""

from __future__ import annotations

import math

from gaunlearn_jax.audit.findings import Bracket, Metrics, Outcome


def outcome_headline(o: Outcome, who: str) -> str:
    """The verdict in one or two sentences."""
    what = "the given weights" if o.name == "given" else f"the model after the step {o.name}"
    same = " They are the model itself." if o.name == "given" else " The step changes nothing."
    if o.verdict == "nothing to forget":
        return f"Nothing to forget: the model without {who} would be the same."
    if math.isnan(o.gap):
        where = f"{_range(o.bracket)} from the retrained one (doing nothing: {_range(o.bracket_nothing)})"
    else:
        where = f"at {degrees(o.gap)} from the retrained one (doing nothing: {degrees(o.gap_nothing)})"
    start = {
        "nearly retrained": f"Nearly retrained: without {who}, {what} {_verb(o)} {where}.",
        "partly retrained": f"Only partly retrained: without {who}, {what} {_verb(o)} {where}.",
        "excluded": f"NOT retrained, success is excluded: without {who}, {what} {_verb(o)} {where}.",
        "open": f"Open: without {who}, {what} {_verb(o)} {where}; the ball is too large to tell.",
    }[o.verdict]
    return start + (same if o.unchanged else "")


def about_outcome(o: Outcome) -> str:
    """The ball, what it excludes, the step's own condition, and the popular metrics."""
    lines = [f"Ball (Theorem T, no retraining): {_ball(o.bracket)}; for doing nothing {_ball(o.bracket_nothing)}."]
    if not math.isnan(o.gap):
        lines.append(
            f"  Excluded: success with epsilon = delta = 0 for every tau below {o.gap:.3g} (doing nothing: "
            f"{o.gap_nothing:.3g}), since the retrained model is at that cosine gap."
        )
    if not o.valid:
        lines.append(
            f"  What the step {o.name} asks of its outcome was NOT found: its own statement says nothing here."
        )
    return "\n".join([*lines, *_popular(o.metrics)])


def _popular(m: Metrics) -> list[str]:
    """Each metric for the outcome, for nothing and for the retrained model; whether doing nothing passes."""
    lines = ["  Popular metrics (outcome / doing nothing / retrained), which certify nothing:"]
    if m.detected:
        shown = " / ".join(
            f"{count} of {m.points} [{low:.0%}, {high:.0%}]"
            for count, (low, high) in zip(m.detected, m.interval, strict=True)
        )
        says = "passes" if m.detected[1] == 0 else "fails"
        lines.append(f"    membership test at 5 % false alarms, points detected: {shown}; doing nothing {says}")
    shown = " / ".join(f"{steps:.0f}" for steps in m.relearning)
    says = "passes" if len(m.relearning) > 2 and m.relearning[1] >= m.relearning[2] else "fails"
    lines.append(f"    relearning, median steps to the old margin: {shown}; doing nothing {says}")
    return lines


def _verb(o: Outcome) -> str:
    return "are" if o.name == "given" else "is"


def _range(b: Bracket) -> str:
    return f"between {math.degrees(b.least):.3g} and {math.degrees(b.most):.3g} degrees"


def _ball(b: Bracket) -> str:
    if b.sine >= 1:
        return "says nothing"
    return f"puts the retrained model {_range(b)} away (radius {100 * b.sine:.3g} % of its norm)"


def degrees(gap: float) -> str:
    """The angle of a cosine gap."""
    return f"{math.degrees(2 * math.asin(min(1.0, math.sqrt(max(gap, 0.0) / 2)))):.3g} degrees"
