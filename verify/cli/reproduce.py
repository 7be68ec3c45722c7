"""`gaunlearn run --reproduce`: one lane of a row, computed again and printed whole."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from gaunlearn_jax.base.codes import Reason, Verdict
from gaunlearn_jax.data.registry import DISTRIBUTIONS
from gaunlearn_jax.models.registry import ARCHITECTURES
from verify.cli.violations import keep_violations
from verify.instances.grid import Grid
from verify.instances.records import THETAS
from verify.report.console import console
from verify.report.findings import WORDS, totals
from verify.run.compute import run_blocks
from verify.run.rows import exit_code, rows
from verify.suites import registry
from verify.suites.check import Check, ratio
from verify.suites.suite import Suite


def reproduce(text: str, files: list[str]) -> int:
    """Recompute one lane, given as CLAIM:CELL:SEED (as a row names it), and print every comparison; the exit code of a
    run of this lane alone. `files` are those that the user's own rows came from."""
    try:
        claim, rest = text.split(":", 1)
        cell, seed = rest.rsplit(":", 1)
        suite = registry.select([claim])[0]
        words, given = _parts(cell)
        grid = _grid(suite, words, given, int(seed))
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"--reproduce {text!r} ({error}); expected CLAIM:CELL:SEED such as relu:relu/limit/m=10/n=40/k=1/d=1e8:17"
        ) from None
    table = Table(box=box.SIMPLE_HEAD, title=text, title_justify="left")
    for column in ("model", "theta", "comparison", "lhs", "rhs", "ratio", "verdict", "hypotheses"):
        table.add_column(column, overflow="fold")
    blocks = run_blocks((suite,), grid)
    for block in blocks:
        for name, result in block.results[suite.name].items():
            if isinstance(result, Check):
                _add_lane(table, block.shape.model, suite, name, result, words)
    console.print(table)
    # one lane says nothing about a whole cell
    judged = (dataclasses.replace(suite, per_cell=None),)
    lane = [row for row in rows(blocks, judged, grid) if _asked(row, words)]
    code = exit_code(lane, judged)
    word, style, meaning = WORDS[code]
    console.print(f"[{style}]{word}[/]: {meaning}")
    console.print(totals(lane), markup=False)
    keep_violations(None, lane, grid, files)
    return code


def _parts(cell: str) -> tuple[list[str], dict[str, str]]:
    """(model, theta), as far as they are named, and the numbers of a CELL."""
    first, *others = cell.split("/")
    words = [first] if first.split(":")[0] in ARCHITECTURES else []
    rest = others if words else [first, *others]
    words += [part for part in rest if "=" not in part]
    return words, dict(part.split("=") for part in rest if "=" in part)


def _grid(suite: Suite, words: list[str], given: dict[str, str], seed: int) -> Grid:
    """The grid of one lane."""
    source = given.get("source", suite.data_source)
    asked = [f"{p.name}={given.get(p.name, p.default)}" for p in DISTRIBUTIONS[source].parameters]
    return Grid(
        dims=(float(given["d"]),),
        points=(int(given["m"]),),
        neurons=(max(2, int(given["n"])),),
        forget=(int(given.get("k", 1)),),
        loss=given.get("loss", "exponential"),
        seeds=1,
        seed_start=seed,
        models=(words[0],) if words else None,
        sources=(":".join([source, *asked]),),
    )


def _asked(row: dict[str, Any], words: list[str]) -> bool:
    return len(words) < 2 or row["theta"] in (None, words[1])


def _add_lane(table: Table, model: str, suite: Suite, name: str, result: Check, words: list[str]) -> None:
    for t, theta in enumerate(THETAS if suite.evaluate else ("",)):
        if theta and (theta not in suite.thetas or (len(words) > 1 and theta != words[1])):
            continue
        at = (0, t, 0) if suite.evaluate else (0,)
        one = Check(*(np.asarray(v)[at] for v in result))
        verdict = Verdict(int(one.verdict()))
        table.add_row(
            model, theta, name, f"{one.lhs:.12g}", f"{one.rhs:.12g}", f"{ratio(one.lhs, one.rhs):.6g}", verdict.text,
            Reason(int(one.reason)).text,
        )  # fmt: skip
