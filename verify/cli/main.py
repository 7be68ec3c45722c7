"""The command `gaunlearn`, the same as `python -m verify`."""

from __future__ import annotations

import argparse
import difflib
import io
import json
import os
import re
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from verify.cli import audit, endings, phase

CITATION = """\
@misc{melamed2025provable,
  title = {Provable Unlearning with Gradient Ascent on Two-Layer {ReLU} Neural Networks},
  author = {Melamed, Odelia and Yehudai, Gilad and Vardi, Gal},
  year = {2025},
  eprint = {2510.14844},
  archivePrefix = {arXiv},
  url = {https://arxiv.org/abs/2510.14844}
}

@software{gaunlearn_jax,
  title = {gaunlearn\\_jax: verifying the theory of machine unlearning by gradient ascent},
  author = {{The gaunlearn\\_jax developers}},
  version = {%s},
  license = {MIT}
}"""


class Parser(argparse.ArgumentParser):
    """argparse with the nearest option in its errors, defaults in its help, and no abbreviations."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def add_argument(self, *names: str, **options: Any) -> Any:
        default, told = options.get("default"), options.get("help", "")
        if default not in (None, argparse.SUPPRESS, ()) and not isinstance(default, list) and "default" not in told:
            options["help"] = f"{told} (default {f'{default:g}' if isinstance(default, float) else default})"
        return super().add_argument(*names, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}{self._hint(message)}\n")

    def _hint(self, message: str) -> str:
        """What may have been meant: a list without commas, the nearest option, the nearest of the choices."""
        kind, _, rest = message.partition(": ")
        if kind == "unrecognized arguments":
            words = rest.split()
            if words and all(_is_number(word) for word in words):
                return "; the values of a list are joined by commas, such as 1,2,3"
            near = [
                difflib.get_close_matches(word.split("=")[0], _options(self), n=1) for word in words if word[:2] == "--"
            ]
            return "".join(f"; did you mean {found[0]}?" for found in near if found)
        match = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if match is None:
            return ""
        close = difflib.get_close_matches(match[1], re.findall(r"[\w-]+", match[2]), n=1)
        return f"; did you mean {close[0]}?" if close else ""


class Commands(argparse._SubParsersAction):
    """Commands whose own help begins with what the list of commands says of them."""

    def add_parser(self, name: str, **options: Any) -> Any:
        return super().add_parser(name, description=options["help"], **options)


def _is_number(word: str) -> bool:
    try:
        return bool(float(word.strip(",")) or True)
    except ValueError:
        return False


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


WHOLE, NAMES = _list_of(int, "whole numbers"), _list_of(str, "names")


def _shard(text: str) -> tuple[int, int]:
    try:
        index, count = map(int, text.split("/"))
    except ValueError:
        index, count = 0, 0
    if not 0 <= index < count:
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with 0 <= I < N, such as 0/2 and 1/2")
    return index, count


def _version() -> str:
    try:
        return metadata.version("gaunlearn-jax")
    except metadata.PackageNotFoundError:
        return "of a checkout that is not installed"


def _add_own(command: argparse.ArgumentParser) -> None:
    """The option that loads a user's own rows."""
    text = "claims, architectures, distributions, losses, steps of your own from a Python file; may be given repeatedly"
    command.add_argument(
        "--with", "--claims-from", action="append", default=[], dest="own", type=Path, metavar="FILE.py", help=text
    )


def _add_run(commands: Any) -> None:
    run = commands.add_parser("run", help="verify claims over a grid (if none is named, all but the heaviest)")
    run.add_argument("claims", nargs="*", metavar="CLAIM", help="see `gaunlearn list`")
    _add_own(run)
    run.add_argument(
        "--step",
        action="append",
        default=[],
        dest="steps",
        type=Path,
        metavar="FILE.py",
        help="an unlearning step of your own: step(net, data, point, forget) that returns params; see claim steps",
    )
    numbers, whole = _list_of(float, "numbers"), WHOLE
    run.add_argument("--dims", type=numbers, metavar="D,..", help="dimensions d, up to 1e15")
    run.add_argument("--points", type=whole, metavar="M,..", help="numbers of training points m")
    run.add_argument("--neurons", type=whole, metavar="N,..", help="numbers of neurons n (networks)")
    run.add_argument("--forget", type=whole, metavar="K,..", help="sizes k of the forget set")
    run.add_argument("--signals", type=numbers, metavar="A,..", help="mixtures: ||mu|| = d^(-1/4 + a)")
    run.add_argument("--models", type=NAMES, metavar="M,..", help="architectures, such as linear,leaky:slope=0.2")
    run.add_argument(
        "--source",
        action="append",
        dest="sources",
        metavar="NAME[:PARAMETER=V,..]",
        help="data, such as mixture:signal=0.1",
    )
    run.add_argument("--seeds", type=int, metavar="S", help="instances per cell")
    run.add_argument("--seed-start", type=int, metavar="S", help="first seed")
    run.add_argument("--loss", metavar="NAME", help="training loss")
    run.add_argument("--chunk", type=int, metavar="LANES", help="lanes computed at once")
    run.add_argument("--unit", type=float, metavar="U", help="unit of rounding to assume (default: the device's)")
    text = "where verdicts are made: on the device, or (default for TPUs) on the host, which is given what it solved"
    run.add_argument("--certify-on", choices=("device", "cpu"), help=text)
    run.add_argument("--out", type=Path, metavar="DIR", help="keep the lanes and summary.json there; resumes")
    run.add_argument("--shard", type=_shard, metavar="I/N", help="compute every N-th part, starting with I (from 0)")
    run.add_argument("--distributed", action="store_true", help="call jax.distributed.initialize(), share by process")
    kept = ("none", "worst", "violations", "all")
    run.add_argument("--certificates", choices=kept, default="none", help="write DIR/certificates/*.json")
    run.add_argument("--exact", choices=("none", "worst", "all"), default="none", help="write them and prove them")
    size = run.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a small grid")
    size.add_argument("--full", action="store_true", help="a large grid, more models, every claim where none is named")
    run.add_argument("--dry-run", action="store_true", help="print lanes, bytes and compilations, compute nothing")
    text = "repeat a study: claims, grid and files from a study.toml, which every results folder holds"
    run.add_argument("--config", type=Path, metavar="STUDY.toml", help=text)
    run.add_argument("--tables", action="store_true", help="print the table of every claim, each cell labelled")
    run.add_argument("--reproduce", metavar="CLAIM:CELL:SEED", help="recompute one lane of a row, print and judge it")


def _add_readers(commands: Any) -> None:
    """The commands that read a results folder."""
    figures = commands.add_parser("figures", help="draw the picture of every claim of a results folder (PNG, SVG)")
    figures.add_argument("folder", type=Path, metavar="DIR")
    text = "paper: the width of a column, with embedded fonts, as PDF and SVG; screen: PNG and SVG"
    figures.add_argument("--style", choices=("screen", "paper"), default="screen", help=text)
    _add_own(figures)
    page = commands.add_parser("report", help="one self-contained HTML page of a results folder")
    page.add_argument("folder", type=Path, metavar="DIR")
    page.add_argument("--out", type=Path, metavar="FILE", help="DIR/report.html by default")
    _add_own(page)
    show = commands.add_parser("show", help="what a results folder holds: findings, verdict, lanes, damage, notes")
    show.add_argument("folder", type=Path, metavar="DIR")
    show.add_argument("--tables", action="store_true", help="every shape, its grid, its environment, its notes")
    export = commands.add_parser("export", help="the lanes of a results folder as a table, one row per lane")
    export.add_argument("folder", type=Path, metavar="DIR")
    kind = export.add_mutually_exclusive_group(required=True)
    kind.add_argument("--csv", action="store_const", const="csv", dest="kind")
    kind.add_argument("--parquet", action="store_const", const="parquet", dest="kind", help="needs the extra `parquet`")
    text = "what was found as JSON: sentences with their numbers, the ladder, the tables of claims"
    kind.add_argument("--findings", action="store_const", const="findings", dest="kind", help=text)
    text = "LaTeX tables (booktabs): the bounds by dimension, and what was found"
    kind.add_argument("--latex", action="store_const", const="latex", dest="kind", help=text)
    named = "DIR/lanes.csv, lanes.parquet, findings.json or tables.tex by default"
    export.add_argument("--out", type=Path, metavar="FILE", help=named)


def parser() -> Parser:
    codes = "exit codes: 0 pass, 1 a violation, 2 usage or tool error, 3 no evidence (docs/running.md)"
    about = "Verify the theory of machine unlearning by gradient ascent."
    top = Parser(prog="gaunlearn", description=about, epilog=codes)
    top.add_argument("--version", action="version", version=f"gaunlearn {_version()}")
    kinds: dict[str, Any] = {"parser_class": Parser, "action": Commands}
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", **kinds)
    _add_run(commands)
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
    _add_readers(commands)
    audit.add_parser(commands, WHOLE, NAMES)
    phase.add_parser(commands)
    commands.add_parser("cite", help="how to cite the paper and this tool (BibTeX)")
    explain = commands.add_parser("explain", help="a claim in words: what it states, assumes, means; what refutes it")
    explain.add_argument("claims", nargs="+", metavar="CLAIM")
    _add_own(explain)
    _add_own(commands.add_parser("list", help="list the claims, architectures, distributions, losses, steps"))
    return top


def main(argv: list[str] | None = None) -> int:
    """Entry point: exit code 0 pass, 1 a violation, 2 usage or tool error, 3 no evidence."""
    arguments = sys.argv[1:] if argv is None else argv
    top = parser()
    if not arguments:
        top.print_help(sys.stderr)
        return 2
    options = top.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show stops no report
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    os.environ.setdefault("JAX_ENABLE_X64", "1")
    if argv is not None:  # a caller in Python keeps its own way of being interrupted
        return endings.ended(lambda: _command(options))
    return endings.interruptible(lambda: endings.ended(lambda: _command(options)))


def _command(options: argparse.Namespace) -> int:
    """What the command does; its exit code."""
    if options.command == "list":
        return _list(options.own)
    if options.command == "check":
        return _check(options.files, options.json)
    if options.command == "figures":
        return _figures(options.folder, options.own, options.style)
    if options.command == "report":
        return _html_report(options.folder, options.out, options.own)
    if options.command == "show":
        return _show(options.folder, options.tables)
    if options.command == "cite":
        print(CITATION % _version())
        return 0
    if options.command == "explain":
        return _explain(options.claims, options.own)
    if options.command == "export":
        return _export(options.folder, options.kind, options.out)
    if options.command == "falsify":
        return _falsify(options)
    if options.command == "audit":
        return audit.main(options)
    if options.command == "phase":
        return phase.main(options)
    return _run(options)


def _list(files: list[Path]) -> int:
    from verify.report import tables
    from verify.suites import own, registry

    with own.loaded(files):
        tables.print_registries(tuple(registry.CLAIMS))
    return 0


def _check(files: list[Path], as_json: bool) -> int:
    try:
        from verify.exact import statements
    except ImportError:
        raise ValueError("checking needs python-flint: pip install 'gaunlearn-jax[exact]'") from None
    code, reports = statements.check_files(files)
    if as_json:
        print(json.dumps(reports, indent=1))
        return code
    for report in reports:
        print(f"{report['path']}: {report.get('error', '')}")
        for statement in report.get("statements", ()):
            print(f"  {statement['name']:<28}{statement['text']}")
    return code


def _figures(folder: Path, files: list[Path], style: str) -> int:
    from verify.report import figures
    from verify.suites import own, registry

    with own.loaded(files):
        for path in figures.figures(folder, tuple(registry.CLAIMS), style):
            print(path)
    return 0


def _html_report(folder: Path, out: Path | None, files: list[Path]) -> int:
    from verify.report import html
    from verify.suites import own, registry

    with own.loaded(files):
        print(f"wrote {html.write(folder, tuple(registry.CLAIMS), out)}")
    return 0


def _show(folder: Path, everything: bool) -> int:
    from verify.report import show
    from verify.report.console import console

    code = show.show(folder, console, brief=not everything)
    if everything:
        show.show_tables(folder)
    return code


def _explain(claims: list[str], files: list[Path]) -> int:
    from verify.report.explain import explain
    from verify.suites import own, registry

    with own.loaded(files):
        found = [registry.CLAIMS[name] for name in claims]
        print("\n\n".join("\n".join(explain(suite)) for suite in found))
    return 0


def _export(folder: Path, kind: str, out: Path | None) -> int:
    from verify.report.export import export, export_summary

    if kind in ("findings", "latex"):
        print(f"wrote {export_summary(folder, kind, out)}")
        return 0
    files, lanes, damaged = export(folder, kind, out)
    print(f"wrote {lanes} lanes to {', '.join(map(str, files))}")
    for text in damaged:
        print(f"left out: {text}", file=sys.stderr)
    return 0


def _falsify(options: argparse.Namespace) -> int:
    from verify.attack.candidates import Space
    from verify.cli import falsify
    from verify.run import devices

    devices.set_up_jax()

    def space(model: str) -> Space:
        return Space(model, options.points, options.neurons, options.forget, options.eps_d, options.psi)

    folder = devices.writable_folder(options.out)
    sizes = {"minutes": options.minutes, "lanes": options.lanes, "seed": options.seed}
    try:
        return falsify.falsify(options.claim, space, folder=folder, **sizes)
    except KeyboardInterrupt:
        print(f"gaunlearn: interrupted; {folder} keeps the state, and the same command goes on", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    from verify.cli import run

    numbers = [claim for claim in options.claims if _is_number(claim)]
    if numbers:
        raise ValueError(f"{numbers[0]} is no claim; the values of a list are joined by commas, such as 1e4,1e8")
    return run.main(options)
