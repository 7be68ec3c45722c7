"""What a run found: one sentence per claim, computed from its lanes, and the totals.

A claim's file says how its sentence is made (`Suite.find`); of a claim that does not, the tallies are told.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

from rich.console import Console

from verify.instances.grid import Grid
from verify.report.words import reasons_of, short_reason
from verify.run.naming import command_for
from verify.run.rows import COUNTS, claim_totals
from verify.suites.finding import Finding, found, from_dimension
from verify.suites.suite import Suite

#: columns of a page of findings
WIDTH = 80
Row = dict[str, Any]
#: what every finding says
FIELDS = ("claim", "verdict", "text", "caveat", "numbers")
VERDICT_STYLES = {"holds": "green", "FAILS": "bold red", "no evidence": "yellow", "undecided": "yellow"}


def findings(suites: Iterable[Suite], blocks: list[Any], grid: Grid, all_rows: list[Row]) -> list[dict[str, Any]]:
    """[{claim, verdict, text, caveat, numbers}], in the order of the suites."""
    out = []
    for suite in suites:
        mine = [block for block in blocks if suite.name in block.results]
        told = [row for row in all_rows if row["claim"] == suite.name]
        of_source = grid.of(suite.sources_in(grid)[0])
        made = suite.find(mine, of_source) if suite.find is not None and mine else of_tallies(told)
        if verdict(told) == "FAILS":
            made = _violated(told, made)
        sources = list(dict.fromkeys(block.shape.source for block in mine))
        if len(sources) > 1 and made.numbers and not suite.others:  # which speaks of all of them
            made = made._replace(text=f"{made.text} (data: {sources[0]})")
        out.append({"claim": suite.name, "verdict": verdict(told), **made._asdict()})
    return out


def _violated(told: list[Row], made: Finding) -> Finding:
    """How many comparisons violate their bound and by how much at most, before what was found otherwise."""
    bad = [row for row in told if row["violated"]]
    infinite = any(row["worst_ratio"] is None for row in bad)
    worst = max((row["worst_ratio"] for row in bad if row["worst_ratio"] is not None), default=float("nan"))
    judged = sum(row["holds"] + row["violated"] + row["inconclusive"] for row in told)
    said = found(
        "{violated} of {judged} comparisons violate their bound" + ("" if infinite else ", the worst at {worst} of it"),
        violated=sum(row["violated"] for row in bad), judged=judged, worst=worst,
    )  # fmt: skip
    return Finding(f"{said.text}; {made.text}", made.caveat, said.numbers | made.numbers)


def verdict(told: list[Row]) -> str:
    """What became of a claim, in a word or two."""
    counts = {name: sum(row[name] for row in told) for name in COUNTS}
    if counts["violated"]:
        return "FAILS"
    if not counts["holds"]:
        return "no evidence"
    return "undecided" if counts["inconclusive"] + counts["unconverged"] > 0.01 * sum(counts.values()) else "holds"


def of_tallies(told: list[Row]) -> Finding:
    """Of a claim without a `find`: where it applies, where it tells the step from doing nothing, how near its bound."""
    judged = {id(row): row["holds"] + row["violated"] + row["inconclusive"] for row in told}
    total = sum(sum(row[name] for name in COUNTS) for row in told)
    if not total:
        return Finding("no instance is computed yet", "", {})
    applied = sum(judged.values())
    numbers: dict[str, float] = {"applied": applied / total}
    parts = ["applies to {applied:%} of its comparisons"]
    telling = {id(row): row["discriminating"] for row in told if row["discriminating"] is not None and judged[id(row)]}
    if telling:
        dims = sorted({row["grid"]["d"] for row in told})
        shares = {d: _share([row for row in told if row["grid"]["d"] == d], telling, judged) for d in dims}
        first = numbers["first"] = from_dimension(shares)
        parts.append(
            "rules out doing nothing from d = {first:d}" if first == first else "never rules out doing nothing"
        )
    ratios = [row["worst_ratio"] for row in told if row["worst_ratio"] is not None]
    if ratios:
        numbers["used"] = max(ratios)
        parts.append("comes to {used} of its bound")
    why = next(iter(reasons_of(told)), "")
    made = found("; ".join(parts), **numbers)
    return made._replace(caveat=f"elsewhere: {why}" if why else "")


def _share(told: list[Row], telling: dict[int, float], judged: dict[int, int]) -> float:
    """The share of all comparisons, in proportion to those judged, that rule out doing nothing."""
    asked = [row for row in told if row["discriminating"] is not None or not judged[id(row)]]
    everyone = sum(sum(row[name] for name in COUNTS) for row in asked)
    return sum(telling.get(id(row), 0.0) * judged[id(row)] for row in asked) / everyone if everyone else 0.0


def lines(found_ones: list[dict[str, Any]], width: int = WIDTH) -> list[str]:
    """A claim and its sentences, wrapped with a hanging indent."""
    out = []
    for one in found_ones:
        text = f"{one['claim']} {one['verdict']}: {one['text']}" + (f". But: {one['caveat']}" if one["caveat"] else "")
        out += textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)
    return out


def setting(grid: dict[str, Any]) -> str:
    """What the sentences speak of unless they say otherwise, from a grid as JSON."""
    sizes = f"m = {max(grid['points'])}, k = {grid['forget'][0]}, networks n = {max(grid['neurons'])}"
    return (
        f"Medians of {grid['seeds']} exact KKT points a cell ({sizes}) unless said otherwise. Gap: 1 - cos of the "
        "angle to the exact retrained solution."
    )


def print_findings(console: Console, found_ones: list[dict[str, Any]], grid: Grid) -> None:
    """The page of findings."""
    console.print("\n".join(textwrap.wrap(setting(grid.as_json()), WIDTH)), style="dim", markup=False)
    by_head = {f"{one['claim']} {one['verdict']}: ": one for one in found_ones}
    for line in lines(found_ones):
        one = next((by_head[head] for head in by_head if line.startswith(head)), None)
        if one is None:
            console.print(line, markup=False)
            continue
        console.print(one["claim"], style="bold", markup=False, end=" ")
        console.print(one["verdict"], style=VERDICT_STYLES.get(one["verdict"], ""), end="")
        console.print(line.removeprefix(f"{one['claim']} {one['verdict']}"), markup=False)


def totals(all_rows: list[Row]) -> str:
    """Comparisons by verdict, in a sentence, with the hypothesis that keeps most of them out where it fits the line."""
    counts = {name: sum(one[name] for one in claim_totals(all_rows).values()) for name in COUNTS}
    said = f"{counts['holds']:,} comparisons hold, {counts['violated']:,} are violated"
    undecided = counts["inconclusive"] + counts["unconverged"]
    said += f", {undecided:,} undecided" if undecided else ""
    said += f"; {counts['not_applicable']:,} do not apply"
    why = "".join(f" (mostly: {short_reason(text)})" for text in list(reasons_of(all_rows))[:1])
    return said + why if len(said + why) <= WIDTH else said


WORDS = {
    0: ("pass", "bold green", "no bound is violated, and every claim applied somewhere"),
    1: ("fail", "bold red", "at least one bound is violated"),
    3: ("empty", "bold yellow", "no evidence; some claim never applied, or too much is undecided"),
}


def print_verdict(
    console: Console, all_rows: list[Row], grid: Grid, code: int, elapsed: float, own: Iterable[str] = ()
) -> None:
    """The verdict in words, the totals, and a command for each of the first rows that are violated."""
    word, style, meaning = WORDS[code]
    console.print(word, style=style, end="")
    console.print(f": {meaning} ({elapsed:.0f} s)", markup=False)
    console.print("\n".join(textwrap.wrap(totals(all_rows), WIDTH)), markup=False)
    for row in [row for row in all_rows if row["violated"]][:5]:
        console.print("  " + command_for(row, grid.as_json(), list(own)), markup=False, soft_wrap=True)
