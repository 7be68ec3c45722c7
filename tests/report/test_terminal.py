"""Tables in a terminal: no number is cut at any width, and shares are shares of what applies."""

from __future__ import annotations

import io
import itertools
import re

import pytest
from rich.console import Console

from verify.report import console as report_console
from verify.report import tables
from verify.run.rows import COUNTS
from verify.suites import registry

DIMS = (1e4, 1e6, 1e8, 1e10, 1e13)


def row(d, certificate="projection", ratio=0.123, discriminating=0.98, **counts):
    return dict.fromkeys(COUNTS, 0) | {
        "claim": "relu", "model": "relu", "theta": "limit", "certificate": certificate, "strength": "scale_free",
        "grid": {"d": d}, "worst_ratio": ratio, "worst_seed": 7, "discriminating": discriminating,
        "reasons": {}, "source": "mixture", "quantity": "epsilon",
    } | counts  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 100, 150])
def test_no_number_is_cut(monkeypatch, width):
    rows = [row(d, name, holds=9, not_applicable=7) for d in DIMS for name in ("projection", "scaling")]
    rows += [row(d, "span", not_applicable=16, reasons={"every hypothesis holds": 16}) for d in DIMS]
    out = io.StringIO()
    monkeypatch.setattr(tables, "console", Console(file=out, width=width, highlight=False))
    suite = registry.CLAIMS["relu"]
    tables.print_rows(suite.name, suite.statement, rows)
    tables.print_totals(rows, (suite,))
    shown = out.getvalue()
    assert "…" not in shown
    for text in ("applies to 56%", "discriminates 98%"):
        assert shown.count(text) == 2 * len(DIMS)
    assert all(re.search(rf"d = {name}\b", shown) for name in ("1e4", "1e6", "1e8", "1e10", "1e13"))
    assert max(map(len, shown.split("\n"))) <= width


def test_groups_hold_every_dimension_once_and_fit():
    keys = ["theta", "certificate"]
    for width, size in itertools.product((20, 60, 90, 200), (3, 12, 30)):
        cells = {d: {("limit", "projection"): "9" * size} for d in DIMS}
        groups = tables.side_by_side(keys, cells, width)
        assert [d for group in groups for d in group] == list(DIMS)
        for group in groups:
            assert len(group) == 1 or 8 + 14 + len(group) * (3 + max(size, 8)) <= width + 3 * len(group)


def test_a_claims_own_table_is_split_where_a_number_would_be_cut(monkeypatch):
    wide, heads = "4.7e-30 [2.2e-30, 0.0018] 100%, 31% valid", [f"relu near_duplicates c=0.{i}" for i in range(5)]
    made = {"title": "gaps", "columns": ["step", *heads], "rows": [["ascent", *([wide] * 5)]], "sentences": ["so"]}
    out = io.StringIO()
    monkeypatch.setattr(tables, "console", Console(file=out, width=100))
    tables.print_own_table(made)
    assert out.getvalue().count(wide) == 5
    assert all(out.getvalue().count(head) == 1 for head in heads)


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ({"holds": 9, "not_applicable": 7}, "holds, applies to 56%"),
        ({"holds": 6, "inconclusive": 2, "not_applicable": 8}, "holds, applies to 50%; 2 undecided"),
        ({"holds": 16}, "holds"),
        ({"holds": 15, "violated": 1}, "1 of 16 VIOLATED, seed 7"),
    ],
)
def test_shares_are_of_what_applies(counts, text):
    first, *rest = re.sub(r"\[[^\]]*\]", "", tables.cell_text([row(1e4, **counts)])).split("\n")
    assert "; ".join([first, *(line for line in rest if "undecided" in line)]) == text


@pytest.mark.parametrize(
    ("said", "terminal", "expected"),
    [("60", False, None), ("60", True, None), ("", False, 150), ("x", False, 150), ("0", False, 150), ("", True, None)],
)
def test_columns_counts_without_a_terminal(monkeypatch, said, terminal, expected):
    monkeypatch.setenv("COLUMNS", said)
    monkeypatch.setattr(report_console.sys, "stdout", type("Out", (), {"isatty": lambda self: terminal})())
    assert report_console.width() == expected


@pytest.mark.parametrize("said", ["40", ""])
def test_prose_is_broken_between_words_of_a_terminal_alone(monkeypatch, said):
    text = "psi = 5912, must be at most 0.1\n\n  eps_d = 4.132e+07, must be at most 1: FAILS (near-orthogonal points)"
    out = io.StringIO()
    monkeypatch.setenv("COLUMNS", said)
    monkeypatch.setattr(report_console, "console", Console(file=out, width=int(said or 150), highlight=False))
    report_console.print_prose(text)
    shown = out.getvalue()
    assert shown.split() == text.split()
    if said:
        assert max(map(len, shown.split("\n"))) <= 40
        assert "\n    FAILS (near-orthogonal points)\n" in shown
    else:
        assert shown == text + "\n"
