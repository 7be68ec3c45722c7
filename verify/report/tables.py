"""The tables of a run, each cell labelled; its plan; and everything that has a name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gaunlearn_jax.base.registry import Parameter
from gaunlearn_jax.data.registry import DISTRIBUTIONS
from gaunlearn_jax.models.registry import ARCHITECTURES
from gaunlearn_jax.training.losses import LOSSES
from gaunlearn_jax.unlearn.registry import STEPS, Step
from verify.instances.grid import Grid
from verify.report.console import console, print_prose
from verify.report.words import cell_lines, name_of, reasons_of, short_reason
from verify.run import memory
from verify.run.columns import slug
from verify.run.naming import short_number
from verify.run.plan import shapes_of
from verify.run.rows import COUNTS, claim_totals
from verify.suites.suite import Suite

_PARAMETERISED: tuple[tuple[str, Iterable[Any]], ...] = (
    ("architecture", ARCHITECTURES),
    ("distribution", DISTRIBUTIONS),
    ("step", STEPS),
)


def print_registries(claims: tuple[Suite, ...]) -> None:
    """Everything that has a name: claims, architectures, distributions, losses, steps."""
    print_claims(claims)
    for kind, rows in _PARAMETERISED:
        _print_table(kind, "parameters", [(row.name, _parameters(row.parameters), _what(row)) for row in rows])
    _print_table("loss", "", [(loss.name, "", loss.statement) for loss in LOSSES])


def _what(row: Any) -> str:
    """What a row is; of a step also what it needs and its passes over the data."""
    rest = f"; needs {row.needs or 'nothing'}; passes: {row.cost or '?'}" if isinstance(row, Step) else ""
    return str(row.statement) + rest


def print_claims(suites: tuple[Suite, ...]) -> None:
    """Claims, what each states, and below that the models that it runs on by default and its source."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("claim", style="bold")
    table.add_column("statement, models, source", overflow="fold")
    for suite in suites:
        below = Text(f"\n{', '.join(suite.models)}; {suite.source}", style="dim")
        table.add_row(suite.name, Text(suite.statement) + below)
    console.print(table)


def _print_table(kind: str, second: str, lines: list[tuple[str, str, str]]) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(kind, style="bold", overflow="fold")
    table.add_column(second, overflow="fold")
    table.add_column("what", overflow="fold")
    for line in lines:
        table.add_row(*line)
    console.print(table)


def _parameters(parameters: tuple[Parameter, ...]) -> str:
    """Each with its default and range."""
    return "; ".join(f"{p.name} = {p.default:g} in [{p.low:g}, {p.high:g}]" for p in parameters)


def print_plan(suites: tuple[Suite, ...], grid: Grid, chunk: int | None) -> None:
    """Lanes, bytes and compilations of a run, without computing anything."""
    total = 0
    for shape, members in shapes_of(grid, suites).items():
        lanes = grid.lanes(shape)
        total += lanes
        size = memory.chunk(slug(shape), lanes, grid.bytes_per_lane(shape), chunk, shape.entries)
        console.print(
            f"{shape.model} m={shape.m} n={shape.n} {shape.source}: {lanes} lanes, {size} at once, which takes "
            f"{memory.text(size * grid.bytes_per_lane(shape))} or more; claims {', '.join(s.name for s in members)}"
        )
    console.print(f"{total} lanes, {len(shapes_of(grid, suites))} compilations; nothing was computed")


def print_rows(name: str, statement: str, mine: list[dict[str, Any]], notes: Sequence[str] = ()) -> None:
    """One table per claim: a line per theta, certificate and strength, a column per dimension."""
    console.print(f"\n[bold]{escape(name)}[/]: {escape(statement)}")
    single = len({row["model"] for row in mine}) <= 1
    keys = [c for c in ("model", "theta", "certificate", "strength") if not (single and c == "model")]
    keys = [c for c in keys if any(row[c] for row in mine)]
    dims = sorted({row["grid"]["d"] for row in mine})
    lines: dict[tuple[Any, ...], dict[float, list[dict[str, Any]]]] = {}
    for row in mine:
        lines.setdefault(tuple(row_names(row, keys)), {}).setdefault(row["grid"]["d"], []).append(row)
    cells = {d: {key: cell_text(lines[key].get(d, [])) for key in sorted(lines)} for d in dims}
    for some in side_by_side(keys, cells, console.width):
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_lines=True)
        for column in keys:
            table.add_column(column, overflow="fold")
        for d in some:
            table.add_column(f"d = {short_number(d)}", overflow="fold")
        for key in sorted(lines):
            table.add_row(*key, *(cells[d][key] for d in some))
        console.print(table)
    for line in notes:
        console.print(line)


def row_names(row: dict[str, Any], keys: Sequence[str]) -> list[str]:
    """What a row is called in the columns of `keys`."""
    return [name_of(row[c] or "") if c in ("certificate", "strength") else str(row[c] or "") for c in keys]


def side_by_side(keys: list[str], cells: dict[Any, dict[tuple[Any, ...], str]], width: int) -> list[list[Any]]:
    """The columns, called by a dimension or by words, in groups whose cells {column: {line: text}} fit a console beside
    the keys of the lines: a number that is cut says something else. A head of words may be folded between them."""
    gap, used = 3, 0
    groups: list[list[Any]] = [[]]
    texts = {key for column in cells.values() for key in column}
    start = sum(gap + max([len(name), *(len(str(key[i])) for key in texts)]) for i, name in enumerate(keys))
    for d, column in cells.items():
        shown = [line for text in column.values() for line in Text.from_markup(text).plain.split("\n")]
        head = d.split() if isinstance(d, str) else [f"d = {short_number(d)}"]
        size = gap + max(map(len, [*head, *shown]))
        if groups[-1] and start + used + size > width:
            groups.append([])
            used = 0
        groups[-1].append(d)
        used += size
    return groups


def own_tables(suites: tuple[Suite, ...], blocks: list[Any], grid: Grid) -> dict[str, list[dict[str, Any]]]:
    """{claim: its own tables as JSON values} of the claims that have any."""
    out = {}
    for suite in suites:
        mine = [block for block in blocks if suite.name in block.results]
        if suite.tables is not None and mine:
            out[suite.name] = [made._asdict() for made in suite.tables(mine, grid)]
    return out


def print_own_table(made: dict[str, Any]) -> None:
    """One of `own_tables`, with its sentences."""
    print_prose(f"\n{made['title']}")
    keys, *heads = made["columns"]
    cells = {head: {(row[0],): row[at] for row in made["rows"]} for at, head in enumerate(heads, 1)}
    for some in side_by_side([keys], cells, console.width):
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
        table.add_column(keys, overflow="fold")
        for head in some:
            table.add_column(head, justify="right", overflow="fold")
        for row in made["rows"]:
            table.add_row(row[0], *(cells[head][row[0],] for head in some))
        console.print(table)
    for sentence in made["sentences"]:
        print_prose(sentence)


def cell_text(group: list[dict[str, Any]]) -> str:
    """The lines of one cell with their colours."""
    styles = {"good": "green", "bad": "bold red", "unsure": "yellow"}
    said = [(escape(text), styles.get(kind)) for text, kind in cell_lines(group)]
    return "\n".join(f"[{style}]{text}[/]" if style else text for text, style in said)


def print_totals(all_rows: list[dict[str, Any]], suites: tuple[Suite, ...]) -> None:
    """Comparisons of each claim by verdict, and what kept some out."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("claim", style="bold")
    for name in COUNTS:
        table.add_column(name.replace("_", " "), justify="right", overflow="fold")
    table.add_column("not applicable because", overflow="fold")
    totals = claim_totals(all_rows)
    for suite in suites:
        reasons = reasons_of([row for row in all_rows if row["claim"] == suite.name])
        counts = totals.get(suite.name, dict.fromkeys(COUNTS, 0))
        why = "; ".join(f"{count} {short_reason(text)}" for text, count in reasons.items())
        table.add_row(suite.name, *(str(counts[name]) for name in COUNTS), why)
    console.print(table)
