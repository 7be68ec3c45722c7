"""What a run prints and writes: plan, progress, tables, summary.json, and single lanes reproduced."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from gaunlearn_jax._types import Reason, Verdict
from verify import memory, registry
from verify.check import Check, ratio
from verify.grid import Grid
from verify.lanes import Block, Place, compute, load_blocks, slug
from verify.run import COUNTS, VERDICTS, claim_totals, exit_code, prepare, rows, run_blocks
from verify.suite import Suite

#: wide enough for the tables where no terminal says how wide it is
console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


def set_up_jax() -> None:
    """64-bit arrays, a device per CPU core, and compilations kept in the user's cache folder for the next start."""
    jax.config.update("jax_enable_x64", True)
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # a process that already runs JAX keeps its devices
            jax.config.update("jax_num_cpu_devices", cores())
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(base / "gaunlearn" / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def process_share(distributed: bool, shard: tuple[int, int] | None) -> tuple[int, int]:
    """This process's share (i, N) of the parts: `shard`, or by process of jax.distributed, or all of them.

    With both, the shard tells jax.distributed which process this is; else the cluster's environment does."""
    if distributed:
        known: dict[str, Any] = {} if shard is None else {"process_id": shard[0], "num_processes": shard[1]}
        try:
            jax.distributed.initialize(**known)
        except (RuntimeError, ValueError) as error:
            why = str(error).strip().split("\n")[0]
            raise ValueError(
                f"--distributed: {why}; start it by Slurm, MPI or on a TPU slice, or set "
                "JAX_COORDINATOR_ADDRESS=HOST:PORT and give each process --shard I/N"
            ) from None
    return shard or (jax.process_index(), jax.process_count())


def print_claims(suites: tuple[Suite, ...]) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_lines=False)
    for column in ("claim", "models", "statement", "source"):
        table.add_column(column, style="bold" if column == "claim" else "", overflow="fold")
    for suite in suites:
        table.add_row(suite.name, ", ".join(suite.models), suite.statement, suite.source)
    console.print(table)


def print_plan(suites: tuple[Suite, ...], grid: Grid, chunk: int | None) -> None:
    """Lanes, bytes and compilations of a run, without computing anything."""
    total = 0
    for shape, members in grid.shapes(suites).items():
        lanes = grid.lanes(shape)
        total += lanes
        size = memory.chunk(slug(shape), lanes, grid.bytes_per_lane(shape), chunk, shape.entries)
        console.print(
            f"{shape.model} m={shape.m} n={shape.n} {shape.source}: {lanes} lanes, {size} at once, which takes "
            f"{memory.text(size * grid.bytes_per_lane(shape))} or more; claims {', '.join(s.name for s in members)}"
        )
    console.print(f"{total} lanes, {len(grid.shapes(suites))} compilations; nothing was computed")


def writable_folder(path: Path) -> Path:
    """The results folder, made and tried before any computing; ValueError if it cannot be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise ValueError(f"--out {path} cannot be written ({error.strerror}); choose another folder") from None


def run_and_report(
    suites: tuple[Suite, ...], grid: Grid, place: Place, certificates: str = "none", prove: bool = False
) -> int:
    """Run, print a table per claim and the verdict, write folder/summary.json; returns the exit code. `certificates`
    says which lanes get a certificate file, `prove` whether these are checked at once.

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
    for suite in suites:
        print_rows(suite, grid, [row for row in all_rows if row["claim"] == suite.name])
    elapsed = time.perf_counter() - began
    source = place.environment.get("claims_from", {}).get("file")
    print_verdict(all_rows, suites, grid, code, elapsed, source)
    wanted = sum(grid.lanes(shape) for shape in grid.shapes(suites))
    present = sum(len(block.seed) for block in blocks)
    if present < wanted:
        console.print(f"[yellow]{present} of {wanted} lanes are there[/]; the same command computes the rest")
    summary: dict[str, Any] = {
        "proofs": None,
        "counterexamples": [],
        "verdict": VERDICTS[code],
        "lanes": {"present": present, "wanted": wanted},
        "suites": [{"name": s.name, "statement": s.statement, "source": s.source} for s in suites],
        "claims": all_rows,
        "grid": grid.as_json(),
        "environment": place.environment | {"seconds": elapsed},
    }
    folder = place.folder
    if folder is not None:  # before any files of lanes, which take time to recompute
        write_json(folder / "summary.json", summary)
    kept = [] if interrupted else keep_violations(folder, all_rows, grid, source)
    if folder is not None:
        summary["counterexamples"] = [str(path.relative_to(folder)) for path in kept]
        if certificates != "none":
            summary["proofs"] = write_certificates(folder, blocks, suites, grid, certificates, prove)
        write_json(folder / "summary.json", summary)
        console.print(f"wrote {folder / 'summary.json'}")
    return 130 if interrupted else code


def keep_violations(folder: Path | None, all_rows: list[dict[str, Any]], grid: Grid, source: str | None) -> list[Path]:
    """A file for each violated row, in ./counterexamples without a results folder."""
    violated = [row for row in all_rows if row["violated"]]
    if not violated:
        return []
    from verify import counterexamples

    return counterexamples.keep(
        folder / "certificates" if folder else Path("counterexamples"), violated, grid.as_json(), source
    )


def write_certificates(
    folder: Path, blocks: list[Block], suites: tuple[Suite, ...], grid: Grid, which: str, prove: bool
) -> dict[str, int]:
    """Write the certificate files, say why some lanes have none, and with `prove` how many verdicts are proved."""
    from verify import certify

    paths, refused = certify.write(folder / "certificates", certify.targets(blocks, suites, grid.forget, which))
    counts = {"files": len(paths), "no_file": len(refused)}
    for target, why in list(refused.items())[:3]:
        console.print(f"no certificate for {target.file_name}: {why}")
    console.print(f"wrote {len(paths)} certificates to {folder / 'certificates'}")
    if prove:
        from verify import exact

        reports = exact.check_files(paths)[1]
        codes = [report["exit_code"] for report in reports]
        counts |= {"proved": codes.count(0), "refuted": codes.count(1), "undecided": codes.count(3)}
        console.print(f"{counts['proved']} of {len(paths)} proved, {counts['refuted']} refuted by ball arithmetic")
        for report in [r for r in reports if r["exit_code"] != 0][:5]:
            console.print(f"  gaunlearn check {report['path']}")
    return counts


def _with_progress(suites: tuple[Suite, ...], grid: Grid, place: Place) -> list[Block]:
    stderr = Console(stderr=True)
    with stderr.status("tracing the claims"):
        plans = prepare(suites, grid, place)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=stderr,
    ) as bar:  # fmt: skip
        tasks = {
            slug(shape): bar.add_task(slug(shape), total=grid.lanes(shape), rate="", start=False)
            for shape in grid.shapes(suites)
        }

        def progress(name: str, done: int, total: int) -> None:
            task = tasks[name]
            bar.start_task(task)
            elapsed = bar.tasks[task].elapsed
            rate = f"{done / elapsed:.0f} lanes/s" if elapsed and done > 0 and elapsed > 0.5 else "compiling"
            bar.update(task, completed=done, rate=rate)

        return [compute(plan, grid, place, progress) for plan in plans]


def write_json(path: Path, value: Any) -> None:
    """Strict JSON (infinities become null), through a temporary file and one rename."""
    text = json.dumps(_finite(value), indent=1, allow_nan=False)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # several shards may finish at once
    temporary.write_text(text)
    temporary.replace(path)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def cell_name(row: dict[str, Any]) -> str:
    """The CELL of --reproduce: model, theta, sizes and dimension of a row."""
    g = row["grid"]
    parts = [row["model"], row["theta"], f"m={g['m']}", f"n={g['n']}", f"k={g['k']}", f"d={short_number(g['d'])}"]
    parts += [f"signal={g['signal']!r}"] if g["signal"] else []
    parts += [f"loss={g['loss']}"] if g["loss"] != "exponential" else []
    return "/".join(p for p in parts if p is not None and p != "k=None")


def print_rows(suite: Suite, grid: Grid, mine: list[dict[str, Any]]) -> None:
    """One table per claim: a line per theta, certificate and strength, a column per dimension."""
    console.print(f"\n[bold]{suite.name}[/]: {suite.statement}")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    single = len(suite.models) == 1
    keys = [c for c in ("model", "theta", "certificate", "strength") if not (single and c == "model")]
    keys = [c for c in keys if any(row[c] for row in mine)]
    for column in keys:
        table.add_column(column, no_wrap=True)
    dims = grid.of(suite.data_source).dims or ()
    for d in dims:
        table.add_column(f"d = {short_number(d)}", justify="right", no_wrap=True)
    lines: dict[tuple[Any, ...], dict[float, list[dict[str, Any]]]] = {}
    for row in mine:
        lines.setdefault(tuple(row[c] or "" for c in keys), {}).setdefault(row["grid"]["d"], []).append(row)
    for key in sorted(lines):
        table.add_row(*key, *(cell_text(lines[key].get(d, [])) for d in dims))
    console.print(table)
    for line in suite.notes(grid) if suite.notes else ():
        console.print(line)


def short_number(value: float) -> str:
    """1e13 for 1e+13."""
    text = f"{value:.3g}" if float(f"{value:.3g}") == value else repr(float(value)).removesuffix(".0")
    return text.replace("e+0", "e").replace("e+", "e")


def cell_text(group: list[dict[str, Any]]) -> str:
    """ "100% 0.82 98%": share of lanes that held, worst ratio over all quantities, discriminating share."""
    total = sum(row[name] for row in group for name in COUNTS)
    if not total:
        return ""
    count = {name: sum(row[name] for row in group) for name in COUNTS}
    if count["violated"]:
        bad = max((row for row in group if row["violated"]), key=lambda row: row["worst_ratio"] or 0.0)
        return f"[bold red]{count['violated']} VIOLATED[/] seed {bad['worst_seed']}"
    if count["not_applicable"] == total:
        why = max((item for row in group for item in row["reasons"].items()), key=lambda item: item[1])[0]
        return f"[dim]n/a {_short(why)}[/]"
    out = f"{count['holds'] / total:.0%}"
    worst = [row["worst_ratio"] for row in group if row["worst_ratio"] is not None]
    out += f" {max(worst):.2g}" if worst else ""
    shares = [row["discriminating"] for row in group if row["discriminating"] is not None]
    out += f" [cyan]{np.mean(shares):.0%}[/]" if shares else ""
    undecided = count["inconclusive"] + count["unconverged"]
    return out + (f" [yellow]{undecided}?[/]" if undecided else "")


def _short(reason: str) -> str:
    names = {r.text: r.name.lower().replace("_", " ") for r in Reason}
    return names.get(reason, reason)


def print_verdict(
    all_rows: list[dict[str, Any]],
    suites: tuple[Suite, ...],
    grid: Grid,
    code: int,
    elapsed: float,
    claims_from: str | None = None,
) -> None:
    """Totals per claim, what kept lanes out, and the verdict in words."""
    console.print(
        "cells: share of comparisons that held, worst lhs/rhs, [cyan]share of applicable lanes where doing nothing "
        "provably fails the bound[/] (discriminating); [yellow]undecided lanes?[/]; n/a names the hypothesis that fails"
    )
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("claim", style="bold")
    for name in COUNTS:
        table.add_column(name.replace("_", " "), justify="right")
    table.add_column("not applicable because")
    totals = claim_totals(all_rows)
    for suite in suites:
        reasons: dict[str, int] = {}
        for row in all_rows:
            if row["claim"] == suite.name:
                for text, count in row["reasons"].items():
                    reasons[text] = reasons.get(text, 0) + count
        counts = totals.get(suite.name, dict.fromkeys(COUNTS, 0))
        why = "; ".join(f"{count} {_short(text)}" for text, count in sorted(reasons.items(), key=lambda i: -i[1]))
        table.add_row(suite.name, *(str(counts[name]) for name in COUNTS), why)
    console.print(table)
    words = {
        0: "[bold green]pass[/]: no bound is violated, and every claim was applicable somewhere",
        1: "[bold red]fail[/]: at least one bound is violated",
        3: "[bold yellow]empty[/]: no evidence; some claim had no applicable lane, or too many undecided ones",
    }
    console.print(f"{words[code]} ({elapsed:.0f} s)")
    for row in [r for r in all_rows if r["violated"]][:5]:
        console.print("  " + command_for(row, grid.as_json(), claims_from), markup=False, soft_wrap=True)


def command_for(row: dict[str, Any], grid: dict[str, Any], claims_from: str | None = None) -> str:
    """The command that recomputes the worst lane of a row, or the whole cell where the statement is about that."""
    words = ["gaunlearn", "run"] + ([] if claims_from is None else ["--claims-from", claims_from])
    if row["worst_seed"] is not None:
        return shlex.join([*words, "--reproduce", f"{row['claim']}:{cell_name(row)}:{row['worst_seed']}"])
    g = row["grid"]
    words += [row["claim"], "--dims", short_number(g["d"]), "--points", str(g["m"])]
    words += ["--neurons", str(g["n"])] if row["model"] != "linear" else []
    words += ["--signals", repr(g["signal"])] if g["signal"] else []
    words += ["--loss", g["loss"]] if g["loss"] != "exponential" else []
    return shlex.join([*words, "--seeds", str(grid["seeds"]), "--seed-start", str(grid["seed_start"])])


def reproduce(text: str, own: tuple[Suite, ...] = (), source: str | None = None) -> int:
    """Recompute one lane, given as CLAIM:CELL:SEED (as a row names it), and print every comparison; `own` are the
    user's claims beside the registered ones, from the file `source`."""
    try:
        claim, cell, seed = text.split(":")
        suite = registry.select([claim], own)[0]
        given = dict(part.split("=") for part in cell.split("/") if "=" in part)
        words = [part for part in cell.split("/") if "=" not in part]
        grid = Grid(
            dims=(float(given["d"]),),
            points=(int(given["m"]),),
            neurons=(max(2, int(given["n"])),),
            forget=(int(given.get("k", 1)),),
            signals=(float(given.get("signal", 0.05)),),
            loss=given.get("loss", "exponential"),
            seeds=1,
            seed_start=int(seed),
        )
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"--reproduce {text!r} ({error}); expected CLAIM:CELL:SEED such as relu:relu/limit/m=10/n=40/k=1/d=1e8:17"
        ) from None
    table = Table(box=box.SIMPLE_HEAD, title=text, title_justify="left")
    for column in ("model", "theta", "comparison", "lhs", "rhs", "ratio", "verdict", "hypotheses"):
        table.add_column(column)
    blocks = [block for block in run_blocks((suite,), grid) if not words or block.shape.model == words[0]]
    for block in blocks:
        for name, result in block.results[suite.name].items():
            if isinstance(result, Check):
                _add_lane(table, block.shape.model, suite, name, result, words)
    console.print(table)
    lane = [row for row in rows(blocks, (suite,), grid) if row["worst_seed"] is not None and _asked(row, words)]
    keep_violations(None, lane, grid, source)
    return 1 if any(row["violated"] for row in lane) else 0


def _asked(row: dict[str, Any], words: list[str]) -> bool:
    return len(words) < 2 or row["theta"] in (None, words[1])


def _add_lane(table: Table, model: str, suite: Suite, name: str, result: Check, words: list[str]) -> None:
    for t, theta in enumerate(("trained", "limit") if suite.evaluate else ("",)):
        if theta and len(words) > 1 and theta != words[1]:
            continue
        at = (0, t, 0) if suite.evaluate else (0,)
        one = Check(*(np.asarray(v)[at] for v in result))
        verdict = Verdict(int(one.verdict()))
        table.add_row(
            model, theta, name, f"{one.lhs:.12g}", f"{one.rhs:.12g}", f"{ratio(one.lhs, one.rhs):.6g}", verdict.text,
            Reason(int(one.reason)).text,
        )  # fmt: skip
