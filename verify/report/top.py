"""The top of a report: one picture (a map of claims and dimensions, a ladder of bounds) and five sentences."""

from __future__ import annotations

import math
from typing import Any

from gaunlearn_jax.base.codes import Reason
from verify.report.elements import Element, box, el
from verify.report.findings import setting
from verify.report.words import discriminating, judged, reasons_of, total
from verify.run.naming import short_number

Row = dict[str, Any]
#: what a cell of the map can be: sign, words
STATES = {
    "violated": ("✕", "violated: a bound is false on some instance"),
    "discriminating": (
        "●",
        "holds and discriminates: doing nothing provably fails it on half of the instances or more",
    ),
    "holds": ("◐", "holds, but doing nothing may pass it, or the question has no meaning"),
    "empty": ("○", "empty: the bound allows anything"),
    "not-applicable": ("–", "not applicable: a hypothesis fails"),
}
#: strengths that get a line of their own on the map
STRENGTHS = ("instance", "sharp", "scale_free", "coarse")
RUNG_WORDS = {
    "nothing": "doing nothing",
    "coarse": "coarse bound",
    "sharp": "sharp bound",
    "instance": "instance bound",
    "measured": "measured after the step",
}
#: share of all instances from which on a cell counts as discriminating
HALF = 0.5


def state(rows: list[Row]) -> str:
    """What a cell of the map is; "" where nothing was asked."""
    counts = total(rows)
    if not sum(counts.values()):
        return ""
    if counts["violated"]:
        return "violated"
    if judged(counts):
        share = (discriminating(rows) or 0.0) * judged(counts) / sum(counts.values())
        return "discriminating" if share >= HALF else "holds"
    reasons = reasons_of(rows)
    return "empty" if next(iter(reasons), "") == Reason.EMPTY.text else "not-applicable"


def map_lines(rows: list[Row]) -> list[tuple[str, list[Row]]]:
    """(name, rows) of the lines of the map: a claim, or each of its strengths where it has several."""
    lines: list[tuple[str, list[Row]]] = []
    for claim in dict.fromkeys(row["claim"] for row in rows):
        mine = [row for row in rows if row["claim"] == claim]
        asked = {row["strength"] for row in mine}
        strengths = [s for s in STRENGTHS if s in asked]
        if len(strengths) > 1 and asked <= set(STRENGTHS):
            words = {s: s.replace("_", "-") for s in strengths}
            lines += [(f"{claim}, {words[s]}", [row for row in mine if row["strength"] == s]) for s in strengths]
        else:
            lines.append((str(claim), mine))
    return lines


def the_map(rows: list[Row]) -> Element:
    """Claims against dimensions."""
    dims = sorted({float(row["grid"]["d"]) for row in rows})
    body, seen = [], set()
    for name, mine in map_lines(rows):
        cells = []
        for d in dims:
            what = state([row for row in mine if float(row["grid"]["d"]) == d])
            seen.add(what)
            sign, words = STATES.get(what, ("", "not asked"))
            cells.append(
                el("td", sign, el("span", words.split(":")[0], class_="hidden"), class_=f"state {what}".strip())
            )
        body.append(el("tr", el("th", name, scope="row"), cells))
    head = el("tr", el("th", "claim", scope="col"), [el("th", short_number(d), scope="col") for d in dims])
    caption = el("caption", "Each claim in each dimension d")
    shown = el("table", caption, el("thead", head), el("tbody", body), class_="map")
    legend = [el("li", el("span", STATES[s][0], class_=f"state {s}", aria_hidden="true"), " " + STATES[s][1])
              for s in STATES if s in seen]  # fmt: skip
    return el("div", box("map of claims and dimensions", shown), el("ul", legend, class_="legend"))


def the_ladder(found: dict[str, Any] | None) -> list[Element]:
    """The rungs against the dimension, as a drawing that scales with the page; [] without a ladder."""
    if not found or len(found["dims"]) < 2:
        return []
    logs = {
        rung: [(math.log10(d), math.log10(v)) for d, v in zip(found["dims"], values, strict=True) if v and v > 0]
        for rung, values in found["rungs"].items()
    }
    logs = {rung: points for rung, points in logs.items() if points}
    if not logs:
        return []
    title = f"Cosine gap tau against d: {found['model']}, m = {found['m']}, n = {found['n']}, one forgotten point"
    return [el("figure", _drawing(logs, title), el("figcaption", title + ". " + _in_words(found)))]


WIDTH, HEIGHT, LEFT, BOTTOM, RIGHT = 640, 300, 64, 40, 170
DASHES = {"nothing": "1 4", "coarse": "10 4", "sharp": "6 3", "instance": "2 2", "measured": ""}


def _drawing(logs: dict[str, list[tuple[float, float]]], title: str) -> Element:
    xs = [x for points in logs.values() for x, _ in points]
    ys = [y for points in logs.values() for _, y in points]
    (x0, x1), (y0, y1) = (min(xs), max(xs)), (math.floor(min(ys)), math.ceil(max(ys)))
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - BOTTOM - 12

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x0) / (x1 - x0) if x1 > x0 else 0.5
        up = (y - y0) / (y1 - y0) if y1 > y0 else 0.5
        return LEFT + wide * across, 12 + high * (1 - up)

    parts: list[Element] = [el("title", title)]
    step = max(1, round((y1 - y0) / 6))
    for level in range(y0, y1 + 1, step):
        _, at = place(x0, level)
        parts.append(el("line", x1=f"{LEFT}", x2=f"{LEFT + wide}", y1=f"{at:.1f}", y2=f"{at:.1f}", class_="rule"))
        parts.append(el("text", f"1e{level}", x=f"{LEFT - 8}", y=f"{at + 4:.1f}", text_anchor="end"))
    for power in sorted({round(x) for x in xs}):
        at, _ = place(power, y0)
        parts.append(el("text", f"1e{power}", x=f"{at:.1f}", y=f"{HEIGHT - 20}", text_anchor="middle"))
    parts.append(el("text", "dimension d", x=f"{LEFT + wide / 2}", y=f"{HEIGHT - 4}", text_anchor="middle"))
    taken: list[float] = []
    for rung, points in logs.items():
        places = [place(*point) for point in points]
        path = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(el("path", d=path, class_=f"rung {rung}", stroke_dasharray=DASHES[rung]))
        parts += [el("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="3", class_=f"dot {rung}") for x, y in places]
        x, y = places[-1]
        while any(abs(y - other) < 16 for other in taken):
            y += 4
        taken.append(y)
        parts.append(el("text", RUNG_WORDS[rung], x=f"{x + 8:.1f}", y=f"{y + 4:.1f}"))
    return el("svg", parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=title, class_="ladder")


def _in_words(found: dict[str, Any]) -> str:
    """The largest dimension's rungs."""
    last = [(RUNG_WORDS[rung], values[-1]) for rung, values in found["rungs"].items() if values[-1] is not None]
    return (
        f"At d = {short_number(found['dims'][-1])}: " + ", ".join(f"{word} {value:.2g}" for word, value in last) + "."
    )


#: claims whose sentences stand at the top of a report, the most important first
FIRST = ("relu", "linear", "identity", "retrain", "worthwhile", "steps", "step_size")


def sentences(found: list[dict[str, Any]], most: int = 4) -> list[str]:
    """What was found, in a few sentences: the claims that failed first, then those that say most."""
    failed = [one for one in found if one["verdict"] == "FAILS"]
    rest = sorted((one for one in found if one not in failed), key=lambda one: _rank(one["claim"]))
    chosen = (failed + [one for one in rest if one["claim"] in FIRST or len(found) <= most])[:most]
    return [f"{one['claim']}: {one['text']}" + (f". But {one['caveat']}." if one["caveat"] else ".") for one in chosen]


def _rank(claim: str) -> int:
    return FIRST.index(claim) if claim in FIRST else len(FIRST)


def top(summary: dict[str, Any]) -> list[Element]:
    """The picture and the sentences."""
    found = summary.get("findings")
    known = [one for one in found or () if isinstance(one, dict) and {"claim", "verdict", "text", "caveat"} <= set(one)]
    said = [el("li", text) for text in sentences(known)]
    parts = [el("ul", said, class_="found")] if said else []
    needed = ("points", "neurons", "forget", "seeds")
    parts += [el("p", setting(summary["grid"]), class_="note")] if all(summary["grid"].get(k) for k in needed) else []
    return [*parts, the_map(summary["claims"]), *the_ladder(summary.get("ladder"))]
