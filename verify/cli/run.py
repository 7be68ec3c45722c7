"""`gaunlearn run`: compute, print, write summary.json and the files of lanes."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gaunlearn_jax.base import placing, rounding
from gaunlearn_jax.stages import programmes
from verify.certify import lane_files
from verify.cli.reproduce import reproduce
from verify.cli.violations import keep_violations
from verify.instances.grid import Grid
from verify.report.console import console, print_prose
from verify.report.findings import findings, print_findings, print_verdict
from verify.report.ladder import ladder
from verify.report.summary import write_json
from verify.report.tables import own_tables, print_own_table, print_plan, print_rows, print_totals
from verify.run import devices, study
from verify.run.columns import Block, load_blocks, slug
from verify.run.compute import compute_all
from verify.run.environment import environment
from verify.run.plan import Place, prepare, shapes_of
from verify.run.rows import VERDICTS, exit_code, rows
from verify.suites import own, registry
from verify.suites.suite import Suite

QUICK = {"dims": (1e4, 1e8, 1e13), "seeds": 16}
FULL = {"dims": (1e4, 1e6, 1e8, 1e10, 1e12, 1e13), "points": (16,), "seeds": 128, "wide": True}


def main(options: argparse.Namespace) -> int:
    """Run what the options ask for; the exit code."""
    devices.set_up_jax(lanes=True)
    placing.certify_on(options.certify_on)
    given = None if options.config is None else _study(options)
    files = [*options.own, *options.steps]
    with own.loaded(files) as mine:
        # a step of one's own is measured by the claim steps
        asked = options.claims or (["steps"] if options.steps and not mine else [])
        suites = registry.select(asked, mine, everything=options.full)
        if options.reproduce is not None:
            return reproduce(options.reproduce, [str(path) for path in files])
        source = {"own": own.sources(files)} if files else {}
        return _run_suites(options, suites, source, given)


#: options that a study says itself
IN_STUDY = ("claims", "own", "steps", "dims", "points", "neurons", "forget", "signals", "seeds", "seed_start", "loss",
            "models", "sources", "quick", "full", "reproduce")  # fmt: skip


def _study(options: argparse.Namespace) -> study.Study:
    """The study of --config, its claims, files and chunk put into the options; ValueError where those are given too."""
    both = [name for name in IN_STUDY if getattr(options, name) not in (None, False, [])]
    if both:
        told = ", ".join(name if name == "claims" else f"--{name.replace('_', '-')}" for name in both)
        raise ValueError(f"--config {options.config} says {told} itself; change the file, or leave --config out")
    found = study.read(options.config)
    options.claims, options.own = list(found.claims), [Path(row["file"]) for row in found.own]
    options.chunk = found.chunk if options.chunk is None else options.chunk
    return found


def _grid(options: argparse.Namespace) -> Grid:
    fields: dict[str, Any] = dict(QUICK if options.quick else FULL if options.full else {})
    for name in ("dims", "points", "neurons", "forget", "signals", "seeds", "seed_start", "loss", "models"):
        if getattr(options, name) is not None:
            fields[name] = getattr(options, name)
    if options.sources is not None:
        fields["sources"] = tuple(options.sources)
    return Grid(**fields)


def _run_suites(
    options: argparse.Namespace, suites: tuple[Suite, ...], source: dict[str, Any], given: study.Study | None
) -> int:
    grid = _grid(options) if given is None else given.grid
    if options.unit is not None:
        rounding.assume(options.unit)
    if options.dry_run:
        print_plan(suites, grid, options.chunk)
        return 0
    folder = None if options.out is None else devices.writable_folder(options.out)
    which = options.certificates if options.exact == "none" else options.exact
    if folder is None and which != "none":
        raise ValueError("--certificates and --exact need --out DIR: the files go to DIR/certificates")
    if folder is None and (options.shard is not None or options.distributed):
        option = "--distributed" if options.distributed else "--shard"
        raise ValueError(f"{option} needs --out DIR: every process writes its own parts there")
    shard = devices.process_share(options.distributed, options.shard)
    place = Place(folder, options.chunk, shard, environment(sys.argv[1:], options.chunk) | source)
    if given is not None and (found := study.differences(given, place.environment)):
        console.print(f"other than where the study was made: {'; '.join(found)}", markup=False, soft_wrap=True)
    if folder is not None:
        study.write(folder, [suite.name for suite in suites], grid, place.environment)
    return run_and_report(suites, grid, place, which, prove=options.exact != "none", with_tables=options.tables)


def run_and_report(
    suites: tuple[Suite, ...],
    grid: Grid,
    place: Place,
    certificates: str = "none",
    prove: bool = False,
    with_tables: bool = False,
) -> int:
    """Run, print a sentence per claim (and its tables) and the verdict, write folder/summary.json; returns the exit
    code. `certificates` says which lanes get a certificate file, `prove` whether these are checked at once.

    After an interrupt the summary speaks of the lanes that are sealed in the folder, and the same command goes on.
    """
    began = time.perf_counter()
    try:
        blocks = _with_progress(suites, grid, place)
        interrupted = False
    except KeyboardInterrupt:
        if place.folder is None or not any(place.folder.glob("*/run.json")):
            raise
        blocks, interrupted = load_blocks(place.folder), True
    all_rows = rows(blocks, suites, grid)
    code = exit_code(all_rows, suites)
    tables = own_tables(suites, blocks, grid)
    found = findings(suites, blocks, grid, all_rows)
    elapsed = time.perf_counter() - began
    files = [row["file"] for row in place.environment.get("own", ())]
    wanted = sum(grid.lanes(shape) for shape in shapes_of(grid, suites))
    present = sum(len(block.seed) for block in blocks)
    summary: dict[str, Any] = {
        "proofs": None,
        "counterexamples": [],
        "verdict": VERDICTS[code],
        "lanes": {"present": present, "wanted": wanted},
        "suites": [{"name": s.name, "statement": s.statement, "source": s.source} for s in suites],
        "findings": found,
        "ladder": ladder(blocks),
        "claims": all_rows,
        "tables": tables,
        "grid": grid.as_json(),
        "environment": place.environment | {"seconds": elapsed},
    }
    folder = place.folder
    # before any files of lanes, which take time to recompute, and before printing, which a closed pipe may end
    if folder is not None:
        write_json(folder / "summary.json", summary)
    if with_tables:
        _print_tables(suites, grid, all_rows, tables)
    print_findings(console, found, grid)
    for first, *_ in tables.values():  # what is said of steps of one's own
        for sentence in first["sentences"] if not with_tables else ():
            print_prose(sentence)
    print_verdict(console, all_rows, grid, code, elapsed, files)
    if present < wanted:
        console.print(f"[yellow]{present} of {wanted} lanes are there[/]; the same command computes the rest")
    kept = [] if interrupted else keep_violations(folder, all_rows, grid, files)
    if folder is not None:
        summary["counterexamples"] = [str(path.relative_to(folder)) for path in kept]
        if certificates != "none":
            summary["proofs"] = write_certificates(folder, blocks, suites, grid, certificates, prove)
        write_json(folder / "summary.json", summary)
        console.print(f"wrote {folder / 'summary.json'}", soft_wrap=True)
    if not with_tables:
        hint = f"gaunlearn report {folder}" if folder is not None else "--out DIR"
        console.print(f"more: --tables, gaunlearn explain CLAIM, {hint}", markup=False, soft_wrap=True)
    return 130 if interrupted else code


def _print_tables(
    suites: tuple[Suite, ...], grid: Grid, all_rows: list[dict[str, Any]], tables: dict[str, list[dict[str, Any]]]
) -> None:
    for suite in suites:
        mine = [row for row in all_rows if row["claim"] == suite.name]
        print_rows(suite.name, suite.statement, mine, suite.notes(grid) if suite.notes else ())
        for made in tables.get(suite.name, ()):
            print_own_table(made)
    print_totals(all_rows, suites)


def write_certificates(
    folder: Path, blocks: list[Block], suites: tuple[Suite, ...], grid: Grid, which: str, prove: bool
) -> dict[str, int]:
    """Write the certificate files, say why some lanes have none, and with `prove` how many verdicts are proved."""
    paths, refused = lane_files.write(folder / "certificates", lane_files.targets(blocks, suites, grid, which))
    counts = {"files": len(paths), "no_file": len(refused)}
    for target, why in list(refused.items())[:3]:
        console.print(f"no certificate for {target.file_name}: {why}")
    console.print(f"wrote {len(paths)} certificates to {folder / 'certificates'}")
    if prove:
        from verify.exact import statements

        reports = statements.check_files(paths)[1]
        codes = [report["exit_code"] for report in reports]
        counts |= {"proved": codes.count(0), "refuted": codes.count(1), "undecided": codes.count(3)}
        console.print(f"{counts['proved']} of {len(paths)} proved, {counts['refuted']} refuted by ball arithmetic")
        for report in [r for r in reports if r["exit_code"] != 0][:5]:
            console.print(f"  gaunlearn check {report['path']}")
    return counts


def _with_progress(suites: tuple[Suite, ...], grid: Grid, place: Place) -> list[Block]:
    try:
        return _computed(suites, grid, place)
    except BaseException:
        programmes.abandon()
        raise


def _computed(suites: tuple[Suite, ...], grid: Grid, place: Place) -> list[Block]:
    stderr = Console(stderr=True)
    with stderr.status("tracing the claims"):
        plans = prepare(suites, grid, place)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=stderr,
    ) as bar:  # fmt: skip
        tasks = {
            slug(shape): bar.add_task(slug(shape), total=grid.lanes(shape), rate="", start=False)
            for shape in shapes_of(grid, suites)
        }

        def progress(name: str, done: int, total: int) -> None:
            task = tasks[name]
            bar.start_task(task)
            elapsed = bar.tasks[task].elapsed
            rate = f"{done / elapsed:.0f} lanes/s" if elapsed and done > 0 and elapsed > 0.5 else "compiling"
            bar.update(task, completed=done, rate=rate)

        return compute_all(plans, grid, place, progress)
