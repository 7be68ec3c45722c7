"""The command `gaunlearn`, the same as `python -m verify`."""

from __future__ import annotations

import argparse
import difflib
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from verify import audit_cli

QUICK = {"dims": "1e4,1e8,1e13", "seeds": "16"}
FULL = {"dims": "1e4,1e6,1e8,1e10,1e12,1e13", "points": "8,16", "seeds": "256"}


class Parser(argparse.ArgumentParser):
    """argparse with the nearest option in its errors, and no abbreviations."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        known = _options(self)
        for word in message.split():
            near = difflib.get_close_matches(word.split("=")[0], known, n=1)
            if word.startswith("--") and near and near[0] != word:
                message += f"; did you mean {near[0]}?"
        self.exit(2, f"{self.prog}: {message}\n")


def _options(parser: argparse.ArgumentParser) -> list[str]:
    """Every option of the parser and of its commands: argparse reports unknown ones from the top."""
    commands = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return [o for a in parser._actions for o in a.option_strings] + [
        o for action in commands for command in action.choices.values() for o in _options(command)
    ]


def _list_of(kind: Callable[[str], Any], name: str) -> Callable[[str], tuple[Any, ...]]:
    def parse(text: str) -> tuple[Any, ...]:
        try:
            return tuple(kind(part) for part in text.split(",") if part.strip())
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a comma-separated list of {name}") from None

    return parse


def _shard(text: str) -> tuple[int, int]:
    try:
        index, count = map(int, text.split("/"))
    except ValueError:
        index, count = 0, 0
    if not 0 <= index < count:
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with 0 <= I < N, such as 0/2 and 1/2")
    return index, count


def parser() -> Parser:
    top = Parser(prog="gaunlearn", description="Verify the theory of machine unlearning by gradient ascent.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    run = commands.add_parser("run", help="verify claims over a grid (all of them by default)")
    run.add_argument("claims", nargs="*", metavar="CLAIM", help="see `gaunlearn list`")
    run.add_argument("--claims-from", type=Path, metavar="FILE.py", help="claims of your own, from a Python file")
    numbers, whole = _list_of(float, "numbers"), _list_of(int, "whole numbers")
    run.add_argument("--dims", type=numbers, metavar="D,..", help="dimensions d, up to 1e15")
    run.add_argument("--points", type=whole, metavar="M,..", help="numbers of training points m")
    run.add_argument("--neurons", type=whole, metavar="N,..", help="numbers of neurons n (networks)")
    run.add_argument("--forget", type=whole, metavar="K,..", help="sizes k of the forget set")
    run.add_argument("--signals", type=numbers, metavar="A,..", help="mixtures: ||mu|| = d^(-1/4 + a)")
    run.add_argument("--seeds", type=int, metavar="S", help="instances per cell")
    run.add_argument("--seed-start", type=int, metavar="S", help="first seed")
    run.add_argument("--loss", choices=("exponential", "logistic"), help="training loss")
    run.add_argument("--chunk", type=int, metavar="LANES", help="lanes computed at once")
    run.add_argument("--out", type=Path, metavar="DIR", help="keep the lanes and summary.json there; resumes")
    run.add_argument("--shard", type=_shard, metavar="I/N", help="compute every N-th part, starting with I (from 0)")
    run.add_argument("--distributed", action="store_true", help="call jax.distributed.initialize(), share by process")
    kept = ("none", "worst", "violations", "all")
    run.add_argument("--certificates", choices=kept, default="none", help="write DIR/certificates/*.json")
    run.add_argument("--exact", choices=("none", "worst", "all"), default="none", help="write them and prove them")
    size = run.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a small grid")
    size.add_argument("--full", action="store_true", help="a large grid")
    run.add_argument("--dry-run", action="store_true", help="print lanes, bytes and compilations, compute nothing")
    run.add_argument("--reproduce", metavar="CLAIM:CELL:SEED", help="recompute one lane of a row and print it whole")
    check = commands.add_parser("check", help="prove or refute certificate files by ball arithmetic (extra `exact`)")
    check.add_argument("files", nargs="+", type=Path, metavar="FILE")
    check.add_argument("--json", action="store_true", help="print a JSON report")
    falsify = commands.add_parser("falsify", help="search for the worst instance of a claim's bounds")
    falsify.add_argument(
        "claim", metavar="CLAIM", help="a claim of `gaunlearn list`, one bound such as relu/sharp/tau, or all"
    )
    falsify.add_argument(
        "--minutes", type=float, default=3.0, metavar="N", help="per bound and model, resumed time too"
    )
    falsify.add_argument("--points", type=int, default=10, metavar="M", help="number of training points m")
    falsify.add_argument("--neurons", type=int, default=8, metavar="N", help="number of neurons n (networks)")
    falsify.add_argument("--forget", type=int, default=1, metavar="K", help="size k of the forget set")
    falsify.add_argument("--eps-d", type=float, default=1.0, metavar="E", help="phi is at most E / (4 m n)")
    falsify.add_argument("--psi", type=float, default=0.1, metavar="P", help="squared norms are within P of 1")
    falsify.add_argument("--lanes", type=int, default=64, metavar="L", help="candidates at once")
    falsify.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the search")
    folder = "state and certificate files, kept from the first find; the same command goes on from there"
    falsify.add_argument("--out", type=Path, default=Path("falsify"), metavar="DIR", help=folder)
    figures = commands.add_parser("figures", help="draw the picture of every claim of a results folder (PNG, SVG)")
    figures.add_argument("folder", type=Path, metavar="DIR")
    figures.add_argument("--claims-from", type=Path, metavar="FILE.py", help="claims of your own, from a Python file")
    page = commands.add_parser("report", help="one self-contained HTML page of a results folder")
    page.add_argument("folder", type=Path, metavar="DIR")
    page.add_argument("--out", type=Path, metavar="FILE", help="DIR/report.html by default")
    page.add_argument("--claims-from", type=Path, metavar="FILE.py", help="claims of your own, from a Python file")
    show = commands.add_parser("show", help="what a results folder holds: lanes, damage, environment, notes, verdict")
    show.add_argument("folder", type=Path, metavar="DIR")
    export = commands.add_parser("export", help="the lanes of a results folder as a table, one row per lane")
    export.add_argument("folder", type=Path, metavar="DIR")
    kind = export.add_mutually_exclusive_group(required=True)
    kind.add_argument("--csv", action="store_const", const="csv", dest="kind")
    kind.add_argument("--parquet", action="store_const", const="parquet", dest="kind", help="needs the extra `parquet`")
    export.add_argument("--out", type=Path, metavar="FILE", help="DIR/lanes.csv or DIR/lanes.parquet by default")
    audit_cli.add_parser(commands, whole)
    commands.add_parser("list", help="list the claims with statement and source")
    return top


def main(argv: list[str] | None = None) -> int:
    """Entry point: exit code 0 pass, 1 a violation, 2 usage or tool error, 3 no evidence."""
    options = parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show stops no report
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    os.environ.setdefault("JAX_ENABLE_X64", "1")
    try:
        if options.command == "list":
            return _list()
        if options.command == "check":
            return _check(options.files, options.json)
        if options.command == "figures":
            return _figures(options.folder, options.claims_from)
        if options.command == "report":
            return _html_report(options.folder, options.out, options.claims_from)
        if options.command == "show":
            return _show(options.folder)
        if options.command == "export":
            return _export(options.folder, options.kind, options.out)
        if options.command == "falsify":
            return _falsify(options)
        if options.command == "audit":
            return audit_cli.main(options)
        return _run(options)
    except ValueError as error:
        print(f"gaunlearn: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"gaunlearn: {error.strerror or error}: {error.filename}; choose another --out", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("gaunlearn: interrupted, nothing was written", file=sys.stderr)
        return 130


def _list() -> int:
    from verify import registry, report

    report.print_claims(registry.SUITES)
    return 0


def _check(files: list[Path], as_json: bool) -> int:
    try:
        from verify import exact
    except ImportError:
        raise ValueError("checking needs python-flint: pip install 'gaunlearn-jax[exact]'") from None
    code, reports = exact.check_files(files)
    if as_json:
        print(json.dumps(reports, indent=1))
        return code
    for report in reports:
        print(f"{report['path']}: {report.get('error', '')}")
        for statement in report.get("statements", ()):
            print(f"  {statement['name']:<28}{statement['text']}")
    return code


def _figures(folder: Path, claims_from: Path | None) -> int:
    from verify import own, plots, registry

    mine = own.load(claims_from) if claims_from else ()
    with own.blame(claims_from):
        for path in plots.figures(folder, (*registry.SUITES, *mine)):
            print(path)
    return 0


def _html_report(folder: Path, out: Path | None, claims_from: Path | None) -> int:
    from verify import html_report, own, registry

    mine = own.load(claims_from) if claims_from else ()
    with own.blame(claims_from):
        print(f"wrote {html_report.write(folder, (*registry.SUITES, *mine), out)}")
    return 0


def _show(folder: Path) -> int:
    from verify import report, show

    return show.show(folder, report.console)


def _export(folder: Path, kind: str, out: Path | None) -> int:
    from verify.export import export

    files, lanes, damaged = export(folder, kind, out)
    print(f"wrote {lanes} lanes to {', '.join(map(str, files))}")
    for text in damaged:
        print(f"left out: {text}", file=sys.stderr)
    return 0


def _falsify(options: argparse.Namespace) -> int:
    from verify import falsify, report
    from verify.instances import Space

    report.set_up_jax()

    def space(model: str) -> Space:
        return Space(model, options.points, options.neurons, options.forget, options.eps_d, options.psi)

    folder = report.writable_folder(options.out)
    sizes = {"minutes": options.minutes, "lanes": options.lanes, "seed": options.seed}
    try:
        return falsify.falsify(options.claim, space, folder=folder, **sizes)
    except KeyboardInterrupt:
        print(f"gaunlearn: interrupted; {folder} keeps the state, and the same command goes on", file=sys.stderr)
        return 130


def _grid(options: argparse.Namespace) -> Any:
    from verify.grid import Grid

    fields: dict[str, Any] = {}
    preset = QUICK if options.quick else FULL if options.full else {}
    types = {"dims": float, "seeds": int}
    for name in ("dims", "points", "neurons", "forget", "signals", "seeds", "seed_start", "loss"):
        given = getattr(options, name)
        if given is None and name in preset:
            parse = types.get(name, int)
            given = parse(preset[name]) if name == "seeds" else tuple(parse(v) for v in preset[name].split(","))
        if given is not None:
            fields[name] = given
    return Grid(**fields)


def _run(options: argparse.Namespace) -> int:
    from verify import own, registry, report

    report.set_up_jax()
    path = options.claims_from
    mine = own.load(path) if path else ()
    suites = registry.select(options.claims, mine)
    with own.blame(path):
        if options.reproduce is not None:
            return report.reproduce(options.reproduce, mine, str(path) if path else None)
        source = {"claims_from": {"file": str(path), "sha256": own.digest(path)}} if path else {}
        return _run_suites(options, suites, source)


def _run_suites(options: argparse.Namespace, suites: Any, source: dict[str, Any]) -> int:
    from verify import report, stamp

    grid = _grid(options)
    if options.dry_run:
        report.print_plan(suites, grid, options.chunk)
        return 0
    from verify.lanes import Place

    folder = None if options.out is None else report.writable_folder(options.out)
    which = options.certificates if options.exact == "none" else options.exact
    if folder is None and which != "none":
        raise ValueError("--certificates and --exact need --out DIR: the files go to DIR/certificates")
    if folder is None and (options.shard is not None or options.distributed):
        option = "--distributed" if options.distributed else "--shard"
        raise ValueError(f"{option} needs --out DIR: every process writes its own parts there")
    shard = report.process_share(options.distributed, options.shard)
    environment = stamp.environment(sys.argv[1:], options.chunk) | source
    place = Place(folder, options.chunk, shard, environment)
    return report.run_and_report(suites, grid, place, which, prove=options.exact != "none")
