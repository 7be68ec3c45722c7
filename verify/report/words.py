"""The words of tables: cells, names of rows, hypotheses that fail. Terminal and page show the same."""

from __future__ import annotations

from typing import Any

from gaunlearn_jax.base.codes import Reason
from verify.run.rows import COUNTS

Row = dict[str, Any]
#: both sides of a comparison are equal, by an identity, where the smallest ratio is as near to 1 as this
EQUAL = 1e-6
#: hypotheses that fail, in a few words
SHORT = {
    Reason.NORMS: "psi > 0.1",
    Reason.CORRELATION: "eps_d > 1",
    Reason.STATIONARITY: "epsilon_1 too large",
    Reason.SLACKNESS: "delta_1 too large",
    Reason.UNDEFINED: "formula undefined",
    Reason.EMPTY: "bound allows anything",
    Reason.SECOND_LAYER: "other second layer",
    Reason.FORGET_SIZE: "other number of forgotten points",
    Reason.LEAKAGE: "leakage 1 or more",
    Reason.MODEL: "other model",
    Reason.NOT_KKT: "activations change",
    Reason.DATA: "hypothesis on the data fails",
    Reason.PATCHES: "dependent patches",
}
_SHORT = {reason.text: text for reason, text in SHORT.items()}
#: names of certificates and strengths that say nothing by themselves
NAMES = {
    "first": "exact solution, same activations",
    "retrain": "retrained solution",
    "step": "the step",
    "optimum": "best fraction of the step",
    "lower": "bound from below",
    "law": "exact law of the data",
    "trend": "more training against less",
    "floor": "floor of a fixed sigma'(0)",
    "prior": "earlier bound (Frei et al.)",
    "flow": "along gradient flow",
    "gradient": "loss gradient as multipliers",
    "sampled": "sampled",
    "attained": "dimension promised",
    "excluded": "outside the ball",
    "woodbury": "two forms of Newton's step",
    "thales": "Thales sphere",
    "set": "whole data set",
    "pair": "pair of points",
    "point": "one point",
    "spaces": "from patch spaces",
    "loop": "along the pattern loop",
    "": "the model itself",
}


def name_of(row_name: str) -> str:
    """A certificate or strength in words."""
    return NAMES.get(row_name, row_name.replace("_", "-"))


def short_reason(text: str) -> str:
    """A failing hypothesis in a few words."""
    return _SHORT.get(text, text.split(":")[0])


def total(rows: list[Row]) -> dict[str, int]:
    """Comparisons by verdict."""
    return {name: sum(row[name] for row in rows) for name in COUNTS}


def judged(counts: dict[str, int]) -> int:
    """Comparisons that have a verdict."""
    return counts["holds"] + counts["violated"] + counts["inconclusive"]


def reasons_of(rows: list[Row]) -> dict[str, int]:
    """{failing hypothesis: comparisons}, the most frequent first."""
    reasons: dict[str, int] = {}
    for row in rows:
        for text, count in row["reasons"].items():
            reasons[text] = reasons.get(text, 0) + count
    return dict(sorted(reasons.items(), key=lambda item: -item[1]))


def main_reason(rows: list[Row]) -> str:
    """The hypothesis that keeps most comparisons of these rows out."""
    return next(iter(reasons_of(rows)), "no instance was computed")


def is_equality(row: Row) -> bool:
    """Whether both sides are equal on every instance: an identity, which no bound can be nearer to."""
    least = row.get("least_ratio")
    return least is not None and least > 1 - EQUAL


def ratio_text(value: float | None) -> str:
    """A ratio left/right; next to 1 its distance from 1. None (infinite, as JSON has it) is the infinity sign."""
    if value is None:
        return "∞"
    if value != 1 and abs(value - 1) < 5e-4:
        return f"1 {'+' if value > 1 else '−'} {abs(value - 1):.0e}".replace("e-0", "e-")
    return f"{value:.3g}"


def percent(share: float) -> str:
    """A share in per cent, never rounded to all or nothing."""
    text = f"{share:.0%}"
    return {"100%": "over 99%", "0%": "under 1%"}.get(text, text) if 0 < share < 1 else text


def discriminating(rows: list[Row]) -> float | None:
    """The share of instances on which doing nothing provably fails, over rows in proportion to what was judged."""
    known = [(row["discriminating"], judged(row)) for row in rows if row["discriminating"] is not None]
    weight = sum(w for _, w in known)
    return sum(s * w for s, w in known) / weight if weight else None


def discriminating_text(rows: list[Row]) -> str:
    """ "discriminates 91% (k = 1), 22% (k = 2)", in one number where the sizes agree; "" where nobody asks."""
    shares = {k: discriminating([r for r in rows if r["grid"].get("k") == k]) for k in _sizes(rows)}
    texts = {k: percent(share) for k, share in shares.items() if share is not None}
    if len(set(texts.values())) <= 1:
        return f"discriminates {next(iter(texts.values()))}" if texts else ""
    return "discriminates " + ", ".join(f"{text} (k = {k})" for k, text in texts.items())


def _sizes(rows: list[Row]) -> list[Any]:
    return sorted({row["grid"].get("k") for row in rows}, key=lambda k: (k is None, str(k)))


def nearest(rows: list[Row]) -> Row | None:
    """The row nearest to violation, or violated most. Equalities come last: they show nothing about a bound; rows whose
    worst instance can be named come first."""
    some = [row for row in rows if judged(row)]
    size = {id(row): float("inf") if row["worst_ratio"] is None else row["worst_ratio"] for row in some}

    def rank(row: Row) -> tuple[bool, bool, bool, float]:
        return row["violated"] > 0, row["worst_seed"] is not None, not is_equality(row), size[id(row)]

    return max(some, key=rank, default=None)


def worst_text(rows: list[Row]) -> str:
    """ "epsilon at 0.48 of its bound": the quantity that comes nearest; equalities are called that."""
    at = nearest(rows)
    if at is None:
        return ""
    if is_equality(at) and not at["violated"]:
        return "both sides equal"
    return f"{at['quantity'].replace('_', ' ')} at {ratio_text(at['worst_ratio'])} of its bound"


def cell_lines(group: list[Row]) -> list[tuple[str, str]]:
    """What became of the comparisons of one cell: (text, good, bad, unsure or "") a line; [] of nothing."""
    counts = total(group)
    everything = sum(counts.values())
    if not everything:
        return []
    if counts["violated"]:
        bad = nearest(group)
        where = f", seed {bad['worst_seed']}" if bad is not None and bad["worst_seed"] is not None else ""
        return [(f"{counts['violated']} of {judged(counts)} VIOLATED{where}", "bad"), (worst_text(group), "")]
    if not judged(counts):
        if not counts["not_applicable"]:
            return [("not solved", "unsure")]
        return [("not applicable", ""), (short_reason(main_reason(group)), "")]
    applied = 1 - counts["not_applicable"] / everything
    lines = [("holds" + (f", applies to {percent(applied)}" if applied < 1 else ""), "good")]
    lines += [(text, "") for text in (worst_text(group), discriminating_text(group)) if text]
    undecided = counts["inconclusive"] + counts["unconverged"]
    return lines + ([(f"{undecided} undecided", "unsure")] if undecided else [])
