"""A results folder as one self-contained HTML page: verdict, tables, figures, the worst instances, environment.

The page is built as an element tree, so every text is escaped by the serialiser. It loads nothing and runs no script.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from verify import plots
from verify.report import command_for, short_number
from verify.run import COUNTS
from verify.suite import Suite

#: nothing but this page's own style and the images within it
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
KEYS = ("model", "theta", "certificate", "strength")
Row = dict[str, Any]
Element = ElementTree.Element


def write(folder: Path, suites: tuple[Suite, ...], out: Path | None = None) -> Path:
    """Write the report of a results folder (DIR/report.html by default); ValueError if it is no results folder."""
    path = folder / "report.html" if out is None else out
    summary = read(folder)
    try:
        pictures, missing = images(folder, suites), ""
    except ValueError as error:
        pictures, missing = {}, str(error)
    page = build(summary, suites, pictures, missing)
    text = "<!DOCTYPE html>\n" + ElementTree.tostring(page, encoding="unicode", method="html")
    path.write_bytes(text.encode("utf-8", "xmlcharrefreplace"))
    return path


def read(folder: Path) -> dict[str, Any]:
    """summary.json with everything that the report needs in it; ValueError otherwise."""
    summary = plots.read_summary(folder)
    needed = {"claim", *KEYS, "quantity", "grid", *COUNTS, "reasons", "discriminating", "worst_ratio", "worst_seed"}
    rows = summary.get("claims")
    if not isinstance(rows, list) or not all(isinstance(r, dict) and needed <= r.keys() for r in rows):
        raise ValueError(f"{folder}/summary.json was written by another version; give `gaunlearn run --out` again")
    return summary


def images(folder: Path, suites: tuple[Suite, ...]) -> dict[str, tuple[str, str]]:
    """{claim: (SVG, what it shows in words)} of a results folder."""
    out = {}
    for suite, figure in plots.drawn(folder, suites):
        import matplotlib  # where it is missing, plots.drawn has said so

        stream = io.StringIO()
        with matplotlib.rc_context({"svg.hashsalt": "gaunlearn"}):
            figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
        about = " ".join((suite.draw.__doc__ or suite.statement).split())
        out[suite.name] = (stream.getvalue(), f"{about} In numbers (medians): {plots.in_words(figure)}")
    return out


def el(tag: str, *children: Any, **attributes: str) -> Element:
    """An element; children are texts, elements and iterables of these; `class_`, `aria_label` are class, aria-label."""
    out = Element(tag, {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()})
    for child in _flat(children):
        if isinstance(child, Element):
            out.append(child)
        elif len(out):
            out[-1].tail = (out[-1].tail or "") + str(child)
        else:
            out.text = (out.text or "") + str(child)
    return out


def _flat(children: Iterable[Any]) -> Iterable[Any]:
    for child in children:
        if isinstance(child, str | Element) or not isinstance(child, Iterable):
            yield from () if child is None else (child,)
        else:
            yield from _flat(child)


def build(
    summary: dict[str, Any],
    suites: tuple[Suite, ...],
    pictures: dict[str, tuple[str, str]],
    missing: str,
) -> Element:
    """The <html> element."""
    about = {s.name: {"statement": s.statement, "source": s.source} for s in suites}
    about |= {s["name"]: s for s in summary.get("suites", ())}
    present = {row["claim"] for row in summary["claims"]}
    ordered = [s["name"] for s in summary.get("suites", ())] or [s.name for s in suites if s.name in present]
    by_claim: dict[str, list[Row]] = {str(name): [] for name in ordered}
    for row in summary["claims"]:
        by_claim.setdefault(str(row["claim"]), []).append(row)
    ids = {claim: f"claim-{i}" for i, claim in enumerate(by_claim, 1)}
    css = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    verdict = verdict_sentence(summary, by_claim)
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", http_equiv="Content-Security-Policy", content=POLICY),
        el("title", f"gaunlearn report: {summary.get('verdict')}"),
        el("style", css),
    )
    colour = {"pass": "good", "fail": "bad"}.get(str(summary.get("verdict")), "unsure")
    body = el(
        "body",
        el("a", "Skip to the claims", class_="skip", href="#claims"),
        el("header", el("h1", "Machine unlearning by gradient ascent: verification report"),
           el("p", verdict, class_=f"verdict {colour}"), _notes(summary, suites, missing)),
        el("main", overview(by_claim, ids),
           [section(c, rows, ids[c], about.get(c, {}), pictures.get(c), summary)
            for c, rows in by_claim.items()],
           environment(summary)),
    )  # fmt: skip
    return el("html", head, body, lang="en")


def verdict_sentence(summary: dict[str, Any], by_claim: dict[str, list[Row]]) -> str:
    """The outcome of the run in one sentence."""
    n = total(summary["claims"])
    failed = [claim for claim, rows in by_claim.items() if total(rows)["violated"]]
    size = f"{len(by_claim)} claim{'s' * (len(by_claim) != 1)}"
    if failed:
        return f"Fail: {n['violated']:,} of {judged(n):,} comparisons violate their bound, in {', '.join(failed)}."
    if summary.get("verdict") != "pass":
        none = [claim for claim, rows in by_claim.items() if not total(rows)["holds"]]
        why = f"never applied: {', '.join(none)}" if none else "more than 1 % of a claim's comparisons are undecided"
        return f"No evidence: no bound is violated, but {why}."
    return f"Pass: all {n['holds']:,} comparisons to which the {size} applied hold, and every claim applied somewhere."


def _notes(summary: dict[str, Any], suites: tuple[Suite, ...], missing: str) -> list[Element]:
    notes = []
    lanes, proofs = summary.get("lanes") or {}, summary.get("proofs")
    if lanes.get("present") != lanes.get("wanted"):
        notes.append(f"Unfinished: {lanes.get('present')} of {lanes.get('wanted')} instances are computed so far.")
    if proofs:
        words = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in proofs.items())
        notes.append(f"Certificate files, checked in ball arithmetic where they say proved: {words}.")
    if kept := summary.get("counterexamples"):
        shown = ", ".join(map(str, kept[:3])) + (", ..." if len(kept) > 3 else "")
        notes.append(f"Files of the violations, which `gaunlearn check` proves or refutes: {shown}.")
    unknown = [s["name"] for s in summary.get("suites", ()) if s["name"] not in {k.name for k in suites}]
    if unknown and own_file(summary):
        hint = f"--claims-from {own_file(summary)}"
        notes.append(f"Pictures of {', '.join(unknown)}, if they have any, need {hint} with `gaunlearn report`.")
    if missing:
        notes.append(f"Without pictures: {missing}.")
    return [el("p", note, class_="note") for note in notes]


def total(rows: list[Row]) -> dict[str, int]:
    return {name: sum(row[name] for row in rows) for name in COUNTS}


def judged(counts: dict[str, int]) -> int:
    return counts["holds"] + counts["violated"] + counts["inconclusive"]


def ratio_text(value: float | None) -> str:
    """A ratio left/right; next to 1 its distance from 1. None (infinite, as JSON has it) is the infinity sign."""
    if value is None:
        return "∞"
    if value != 1 and abs(value - 1) < 5e-4:
        return f"1 {'+' if value > 1 else '−'} {abs(value - 1):.0e}".replace("e-0", "e-")
    return f"{value:.3g}"


def discriminating(rows: list[Row]) -> float | None:
    """The share of lanes on which doing nothing provably fails, over rows in proportion to their judged lanes."""
    known = [(row["discriminating"], judged(row)) for row in rows if row["discriminating"] is not None]
    weight = sum(w for _, w in known)
    return sum(s * w for s, w in known) / weight if weight else None


def worst(rows: list[Row]) -> Row | None:
    """The row nearest to violation, or violated most; rows whose worst lane can be named first."""
    some = [row for row in rows if judged(row)]
    size = {id(row): np.inf if row["worst_ratio"] is None else row["worst_ratio"] for row in some}
    return max(some, key=lambda r: (r["violated"] > 0, r["worst_seed"] is not None, size[id(r)]), default=None)


def main_reason(rows: list[Row]) -> str:
    """The hypothesis that keeps most lanes of these rows out."""
    reasons: dict[str, int] = {}
    for row in rows:
        for text, count in row["reasons"].items():
            reasons[text] = reasons.get(text, 0) + count
    return max(reasons, key=lambda text: reasons[text], default="no lane was computed")


def sentence(rows: list[Row]) -> tuple[str, str]:
    """(result of a claim in one plain sentence, its colour)."""
    n = total(rows)
    if n["violated"]:
        bad = worst(rows)
        size = "" if bad is None else f"; the worst left side is {ratio_text(bad['worst_ratio'])} times its bound"
        return f"Violated in {n['violated']:,} of {judged(n):,} comparisons{size}.", "bad"
    if not n["holds"]:
        return f"No evidence: it applied to none of {sum(n.values()):,} comparisons ({main_reason(rows)}).", "unsure"
    text = f"Held in all {n['holds']:,} comparisons to which it applied"
    share = discriminating(rows)
    text += "" if share is None else f", and on {percent(share)} of them doing nothing would provably have failed"
    if n["not_applicable"]:
        text += f"; {n['not_applicable']:,} more did not apply, most often because {main_reason(rows)}"
    undecided = n["inconclusive"] + n["unconverged"]
    return f"{text}{f'; {undecided:,} are undecided' if undecided else ''}.", "good"


READING = (
    ("holds", "every comparison of the cell that applied held; the share that applied stands below if it is not all"),
    ("worst", "the largest left side over right side: 1 would touch the bound"),
    ("tells", "the share of instances on which doing nothing provably fails the bound; a bound that doing nothing also "
     "passes verifies nothing"),
    ("theta", "trained: the network at a finite time, rescaled to margin 1; limit: the exact KKT point"),
    ("strength", "instance: from this instance's own numbers; sharp: from psi, phi, epsilon_1, delta_1, m, n, k alone; "
     "coarse: the same in the shape of the paper's theorems"),
)  # fmt: skip


def overview(by_claim: dict[str, list[Row]], ids: dict[str, str]) -> Element:
    """Every claim with its result in one sentence, and how to read the tables."""
    items = []
    for claim, rows in by_claim.items():
        text, colour = sentence(rows)
        word = {"good": "holds", "bad": "violated", "unsure": "no evidence"}[colour]
        link = el("a", claim, href=f"#{ids[claim]}")
        items.append(el("li", link, el("span", word, class_=colour), el("span", text)))
    words = el("dl", [(el("dt", word), el("dd", meaning)) for word, meaning in READING])
    reading = el("details", el("summary", "How to read the tables"), words)
    return el("section", el("h2", "Claims", id="claims", tabindex="-1"), el("ul", items, class_="claims"), reading)


def section(
    claim: str, rows: list[Row], name: str, about: dict[str, Any], picture: tuple[str, str] | None,
    summary: dict[str, Any],
) -> Element:  # fmt: skip
    """One claim: statement, result, table, figure, worst instance, every row."""
    text, colour = sentence(rows)
    source = about.get("source")
    parts: list[Element] = [
        el("h2", claim, id=name),
        el("p", about.get("statement", "(this claim is not registered here)")),
        el("p", text, class_=colour),
        *([el("p", f"Source: {source}", class_="source")] if source else []),
        el("h3", "By dimension"),
        by_dimension(claim, rows),
    ]
    if picture is not None:
        svg, words = picture
        data = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
        image = box(f"picture of {claim}", el("img", src=data, alt=words))
        parts += [el("h3", "Picture"), el("figure", image, el("figcaption", words.split(" In numbers")[0]))]
    at = worst(rows)
    if at is not None:
        what = "Cell" if at["worst_seed"] is None else "Instance"
        head = f"{what} {'violated most' if at['violated'] else 'nearest to its bound'}"
        where = f"{at['certificate']}, {at['strength']}, {at['quantity']}: left/right = {ratio_text(at['worst_ratio'])}"
        command = command_for(at, summary["grid"], own_file(summary))
        parts += [el("h3", head), el("p", where), el("pre", el("code", command), tabindex="0")]
    every = el("details", el("summary", f"Every row of {claim} ({len(rows)})"), every_row(claim, rows))
    return el("section", parts, every)


def own_file(summary: dict[str, Any]) -> str | None:
    """The file that the claims of the run came from, if a user's."""
    given = (summary.get("environment") or {}).get("claims_from")
    return str(given.get("file")) if isinstance(given, dict) else None


def by_dimension(claim: str, rows: list[Row]) -> Element:
    """A line per model, theta, certificate and strength, a column per dimension."""
    dims = sorted({float(row["grid"]["d"]) for row in rows})
    lines: dict[tuple[str, ...], dict[float, list[Row]]] = {}
    for row in rows:
        at = lines.setdefault(tuple(str(row[key] or "") for key in KEYS), {})
        at.setdefault(float(row["grid"]["d"]), []).append(row)
    several_models = len({row["model"] for row in rows}) > 1
    body = []
    for (model, theta, certificate, strength), cells in sorted(lines.items()):
        where = ", ".join(filter(None, (model if several_models else "", theta)))
        name = [f"{certificate}, {strength}", _small(where) if where else None]
        body.append([name, *(cell(cells.get(d, [])) for d in dims)])
    names = ("certificate, strength", *(f"d = {short_number(d)}" for d in dims))
    return table(names, body, f"{claim}, by dimension d", "cells")


def cell(group: list[Row]) -> list[Any]:
    """What became of the comparisons of one cell."""
    n, at, share = total(group), worst(group), discriminating(group)
    if not sum(n.values()):
        return []
    if at is None:
        return ["n/a" if n["not_applicable"] else "unsolved", _small(_shorter(main_reason(group)))]
    if n["violated"]:
        number = f"{n['violated']} of {judged(n)} violated"
        return [el("span", number, class_="bad"), _small(f"worst {ratio_text(at['worst_ratio'])}")]
    ratios = [row["worst_ratio"] for row in group if row["worst_ratio"] is not None]
    applied, undecided = sum(n.values()) - n["not_applicable"], n["inconclusive"] + n["unconverged"]
    return [
        "holds",
        _small(f"applies {percent(applied / sum(n.values()))}") if n["not_applicable"] else None,
        _small(f"worst {ratio_text(max(ratios, default=None))}"),
        _small(f"tells {percent(share)}") if share is not None else None,
        _small(f"{undecided} undecided", "unsure") if undecided else None,
    ]


def percent(share: float) -> str:
    """A share in per cent, never rounded to all or nothing."""
    text = f"{share:.0%}"
    return {"100%": "over 99%", "0%": "under 1%"}.get(text, text) if 0 < share < 1 else text


def _small(text: str, colour: str = "soft") -> Element:
    return el("small", text, class_=colour)


def _shorter(reason: str) -> str:
    return reason.split(":")[0]


def every_row(claim: str, rows: list[Row]) -> Element:
    """All rows with all their numbers."""
    sizes = ("m", "n", "k", "d", "signal")
    names = (
        *KEYS,
        "quantity",
        *sizes,
        *(c.replace("_", " ") for c in COUNTS),
        "worst ratio",
        "seed",
        "tells",
        "why not",
    )
    lines = []
    for row in rows:
        grid = [short_number(row["grid"]["d"]) if s == "d" else row["grid"].get(s) for s in sizes]
        ratio = ratio_text(row["worst_ratio"]) if judged(row) else ""
        share = "" if row["discriminating"] is None else percent(row["discriminating"])
        seed, why = row["worst_seed"], "; ".join(_shorter(text) for text in row["reasons"])
        values = [*(row[k] for k in (*KEYS, "quantity")), *grid, *(row[c] for c in COUNTS), ratio, seed, share, why]
        lines.append(["" if v is None else str(v) for v in values])
    return table(names, lines, f"Every row of {claim}", "every", 5)


def table(names: Iterable[str], lines: Iterable[list[Any]], caption: str, kind: str, heads: int = 1) -> Element:
    """A table that scrolls within its own box; the first `heads` columns are headers of their row."""
    head = el("thead", el("tr", [el("th", name, scope="col") for name in names]))
    body = el("tbody")
    for line in lines:
        first = [el("th", value, scope="row") for value in line[:heads]]
        body.append(el("tr", first, [el("td", value) for value in line[heads:]]))
    shown = el("table", el("caption", caption), head, body, class_=kind)
    return box(caption, shown)


def box(label: str, child: Element) -> Element:
    """What may be wider than the page, in a box of its own that scrolls, also by keyboard."""
    return el("div", child, class_="scroll", tabindex="0", role="region", aria_label=label)


def environment(summary: dict[str, Any]) -> Element:
    """Grid, versions, device, revision and command line."""
    found = dict(summary.get("environment") or {})
    items: dict[str, Any] = {}
    grid = {f"grid: {k}": "each claim's own" if v is None else v for k, v in summary["grid"].items()}
    for name, value in (found | grid).items():
        items[name.replace("_", " ")] = _plain(value)
    listed = [(el("dt", name), el("dd", value)) for name, value in items.items()]
    return el("section", el("h2", "Environment"), el("dl", listed))


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return short_number(value) if isinstance(value, float) else "none" if value is None else str(value)
