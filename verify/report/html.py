"""A results folder as one self-contained HTML page: verdict, tables, figures, the worst instances, environment.

The page is built as an element tree, so every text is escaped by the serialiser. It loads nothing and runs no script.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from verify.report import figures
from verify.report.elements import Element, box, el, small, table
from verify.report.slim import slim
from verify.report.summary import read_claims
from verify.report.top import top
from verify.report.words import (
    cell_lines,
    discriminating,
    is_equality,
    judged,
    main_reason,
    name_of,
    nearest,
    percent,
    ratio_text,
    short_reason,
    total,
)
from verify.run.naming import command_for, short_number
from verify.run.rows import COUNTS
from verify.suites.suite import Suite

#: nothing but this page's own style and the images within it
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
KEYS = ("model", "theta", "certificate", "strength")
Row = dict[str, Any]


def write(folder: Path, suites: tuple[Suite, ...], out: Path | None = None) -> Path:
    """Write the report of a results folder (DIR/report.html by default); ValueError if it is no results folder."""
    path = folder / "report.html" if out is None else out
    summary = read_claims(folder)
    try:
        pictures, missing = images(folder, suites), ""
    except ValueError as error:
        pictures, missing = {}, str(error)
    page = build(summary, suites, pictures, missing)
    sections = phase_sections(folder)
    main = page.find("body/main")
    assert main is not None
    for offset, one in enumerate(sections):
        main.insert(len(main) - 1 + offset, one)
    text = "<!DOCTYPE html>\n" + ElementTree.tostring(page, encoding="unicode", method="html")
    path.write_bytes(text.encode("utf-8", "xmlcharrefreplace"))
    return path


def images(folder: Path, suites: tuple[Suite, ...]) -> dict[str, tuple[str, str]]:
    """{claim: (SVG, what it shows in words)} of a results folder."""
    out = {}
    for suite, figure in figures.drawn(folder, suites):
        import matplotlib  # where it is missing, figures.drawn has said so

        stream = io.StringIO()
        with matplotlib.rc_context({"svg.hashsalt": "gaunlearn"}):
            figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
        about = " ".join((suite.draw.__doc__ or suite.statement).split())
        out[suite.name] = (slim(stream.getvalue()), f"{about} In numbers (medians): {figures.in_words(figure)}")
    return out


def phase_sections(folder: Path) -> list[Element]:
    """A section per phase diagram in the folder or one below it (`gaunlearn phase --out`)."""
    out = []
    for path in sorted([*folder.glob("phase.png"), *folder.glob("*/phase.png")]):
        data = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
        name = path.parent.name
        words = f"phase diagram {name}: shares of instances over two parameters; its table is {name}/phase.csv"
        image = box(words, el("img", src=data, alt=words))
        out.append(el("section", el("h2", f"Phase diagram: {name}"), el("figure", image, el("figcaption", words))))
    return out


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
           el("p", verdict, class_=f"verdict {colour}"), _notes(summary, suites, missing), words("Words", WORDS),
           top(summary)),
        el("main", overview(by_claim, ids, summary),
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
    if unknown and own_files(summary):
        hint = " ".join(f"--with {path}" for path in own_files(summary))
        notes.append(f"Pictures of {', '.join(unknown)}, if they have any, need {hint} with `gaunlearn report`.")
    if missing:
        notes.append(f"Without pictures: {missing}.")
    return [el("p", note, class_="note") for note in notes]


def sentence(rows: list[Row]) -> tuple[str, str]:
    """(result of a claim in one plain sentence, its colour)."""
    n = total(rows)
    if n["violated"]:
        bad = nearest(rows)
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
    ("holds", "every comparison of the cell that applied held; 'applies to' says how many if not all did"),
    ("epsilon at 0.48 of its bound", "the quantity that comes nearest to its bound: 1 would touch it. Quantities that "
     "are equal to theirs by an identity are left out"),
    ("discriminates", "the share of instances on which doing nothing provably fails the bound; a bound that doing "
     "nothing also passes verifies nothing"),
    ("not applicable", "a hypothesis fails on every instance; it is named, and counts as no evidence"),
    ("trained, limit", "trained: the network at a finite time, rescaled to margin 1; limit: the exact KKT point"),
    ("instance, sharp, coarse", "what a bound is made from: this instance's own numbers; psi, phi, epsilon_1, delta_1, "
     "m, n, k alone; the same, rounded to the shape of the paper's theorems"),
)  # fmt: skip
#: words of the first screen
WORDS = (
    ("epsilon, delta", "how nearly a model is a KKT point (a solution, to first order) of the margin problem of the "
     "points that are kept: stationarity error and complementary slackness"),
    ("tau", "cosine gap, 1 - cos of the angle, between the stepped model and such a point near it"),
    ("d, m, n, k", "dimension, training points, neurons, forgotten points"),
    ("psi, phi, eps_d", "the points' squared norms lie within psi of 1, their inner products within phi of 0; "
     "eps_d = 4 m n phi (linear: 4 m phi)"),
    ("exact retrained solution", "the exact solution for the kept points with the activations of the original"),
)  # fmt: skip


def words(title: str, pairs: tuple[tuple[str, str], ...]) -> Element:
    """Words and what they mean, folded."""
    return el(
        "details", el("summary", title), el("dl", [(el("dt", word), el("dd", meaning)) for word, meaning in pairs])
    )


def overview(by_claim: dict[str, list[Row]], ids: dict[str, str], summary: dict[str, Any]) -> Element:
    """Every claim with its result in one sentence, and how to read the tables."""
    found = {one.get("claim"): one for one in summary.get("findings") or () if isinstance(one, dict)}
    items = []
    for claim, rows in by_claim.items():
        text, colour = sentence(rows)
        word = {"good": "holds", "bad": "violated", "unsure": "no evidence"}[colour]
        link = el("a", claim, href=f"#{ids[claim]}")
        said = found.get(claim, {}).get("text", "") if colour == "good" else ""
        items.append(el("li", link, el("span", word, class_=colour), el("span", f"{said}." if said else text)))
    return el("section", el("h2", "Claims", id="claims", tabindex="-1"), el("ul", items, class_="claims"),
              words("How to read the tables", READING))  # fmt: skip


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
    for made in summary.get("tables", {}).get(claim, ()):
        parts.append(table(made["columns"], made["rows"], made["title"], "every"))
        parts += [el("p", sentence) for sentence in made["sentences"]]
    if picture is not None:
        svg, words = picture
        data = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
        image = box(f"picture of {claim}", el("img", src=data, alt=words))
        parts += [el("h3", "Picture"), el("figure", image, el("figcaption", words.split(" In numbers")[0]))]
    at = nearest(rows)
    if at is not None:
        what = "Cell" if at["worst_seed"] is None else "Instance"
        head = f"{what} {'violated most' if at['violated'] else 'nearest to its bound'}"
        name = f"{name_of(at['certificate'])}, {name_of(at['strength'])}, {at['quantity']}"
        same = " (both sides are equal by an identity)" if is_equality(at) else ""
        where = f"{name}: left/right = {ratio_text(at['worst_ratio'])}{same}"
        command = command_for(at, summary["grid"], own_files(summary))
        parts += [el("h3", head), el("p", where), el("pre", el("code", command), tabindex="0")]
    every = el("details", el("summary", f"Every row of {claim} ({len(rows)})"), every_row(claim, rows))
    return el("section", parts, every)


def own_files(summary: dict[str, Any]) -> list[str]:
    """The files that a user's own rows came from."""
    given = (summary.get("environment") or {}).get("own")
    return [str(row.get("file")) for row in given if isinstance(row, dict)] if isinstance(given, list) else []


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
        name = [f"{name_of(certificate)}, {name_of(strength)}", small(where) if where else None]
        body.append([name, *(cell(cells.get(d, [])) for d in dims)])
    names = ("certificate, strength", *(f"d = {short_number(d)}" for d in dims))
    return table(names, body, f"{claim}, by dimension d", "cells")


def cell(group: list[Row]) -> list[Any]:
    """What became of the comparisons of one cell."""
    lines = cell_lines(group)
    if not lines:
        return []
    (first, colour), *rest = lines
    head = el("span", first, class_=colour) if colour == "bad" else first
    return [head, *(small(text, kind or "soft") for text, kind in rest)]


#: fields of a row's grid that have no column of their own among its sizes
_PLAIN = ("m", "n", "k", "loss")


def every_row(claim: str, rows: list[Row]) -> Element:
    """All rows with all their numbers."""
    sizes = ("m", "n", "k", *dict.fromkeys(name for row in rows for name in row["grid"] if name not in _PLAIN))
    names = (
        "comparison",
        *sizes,
        *(c.replace("_", " ") for c in COUNTS),
        "worst ratio",
        "seed",
        "discriminating",
        "why not",
    )
    lines = []
    for row in rows:
        grid = [short_number(row["grid"]["d"]) if s == "d" else row["grid"].get(s) for s in sizes]
        ratio = ratio_text(row["worst_ratio"]) if judged(row) else ""
        share = "" if row["discriminating"] is None else percent(row["discriminating"])
        seed, why = row["worst_seed"], "; ".join(short_reason(text) for text in row["reasons"])
        name = ", ".join(str(row[k]) for k in (*KEYS, "quantity") if row[k])
        values = [name, *grid, *(row[c] for c in COUNTS), ratio, seed, share, why]
        lines.append(["" if v is None else str(v) for v in values])
    return _without_constants(names, lines, f"Every row of {claim}")


def _without_constants(names: tuple[str, ...], lines: list[list[str]], caption: str) -> Element:
    """A table whose columns of one value are told in its caption."""
    same = [i > 0 and len({line[i] for line in lines}) == 1 for i in range(len(names))]
    told = [f"{name} {lines[0][i]}" for i, name in enumerate(names) if same[i] and lines[0][i]]
    kept = [i for i, constant in enumerate(same) if not constant]
    shown = [[line[i] for i in kept] for line in lines]
    caption += f"; everywhere {', '.join(told)}" if told else ""
    return table([names[i] for i in kept], shown, caption, "every")


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
