"""The command `gaunlearn falsify`: search the bounds of a claim in turn, print the worst ratios, prove the files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from verify.attack import search, targets
from verify.attack.candidates import Space
from verify.attack.search import Search
from verify.report.console import console
from verify.run import environment

VIOLATED, UNPROVED = "violated", "not proved"
#: statements of a certificate file that say that the bound holds
JUDGED = ("bound.epsilon", "bound.delta", "bound.tau", "inequality")


def falsify(
    claim: str, space: Callable[[str], Space], *, minutes: float, lanes: int, seed: int, folder: Path,
    models: tuple[str, ...] = (),
) -> int:  # fmt: skip
    """Search every bound of a claim (or one bound) on every model it speaks of; exit code 1 if one is violated, 3 if
    none is and the file of a worst instance is not proved.

    `space` maps a model to the instances to search; `models` are those of the claim if none are
    named. ValueError for an unknown claim or an impossible size.
    """
    if not 0 < minutes < float("inf"):
        raise ValueError(f"--minutes {minutes:g}: expected a positive number")
    if lanes < 4:
        raise ValueError(f"--lanes {lanes}: expected at least 4 candidates at once")
    if seed < 0:
        raise ValueError(f"--seed {seed}: expected a number >= 0")
    wanted = [(name, space(model)) for name in targets.select(claim) for model in models or targets.models_of(name)]
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("worst ratio {task.fields[ratio]:.6f}"),
        TextColumn("{task.fields[evaluations]} evaluations"), TimeElapsedColumn(), console=Console(stderr=True),
    ) as bar:  # fmt: skip
        found = [_one(bar, name, where, 60 * minutes, lanes, seed, folder) for name, where in wanted]
    _print(found)
    return _conclude(found, [_answer(state, folder) for state in found])


def _conclude(found: list[Search], answers: list[str]) -> int:
    """Say what the answers come to; the exit code."""
    named = [(f"{state.target} ({state.space.model})", answer) for state, answer in zip(found, answers, strict=True)]
    violated, unproved = ([name for name, answer in named if answer == kind] for kind in (VIOLATED, UNPROVED))
    if unproved:
        console.print(f"[bold yellow]not proved[/]: {', '.join(unproved)}")
        console.print("what is not proved of the file of the worst instance stands above; its ratio is no evidence")
    if violated:
        console.print(f"[bold red]violated[/]: {', '.join(violated)}")
        console.print("the answers above decide: a refuted original.* or bound.stated is a false alarm of the floats")
        return 1
    console.print("[bold green]no violation found[/]; a search that finds none proves nothing")
    return 3 if unproved else 0


def _one(bar: Progress, name: str, space: Space, seconds: float, lanes: int, seed: int, folder: Path) -> Search:
    task = bar.add_task(f"{name} ({space.model})", total=seconds, ratio=0.0, evaluations=0)

    def show(state: Search) -> None:
        done = min(state.seconds, seconds)
        bar.update(task, completed=done, ratio=state.ratio, evaluations=state.evaluations)

    options: Any = {"seconds": seconds, "lanes": lanes, "seed": seed, "folder": folder}
    state = search.search(name, space, **options, progress=show, code=environment.code())
    show(state)
    return state


def _print(found: list[Search]) -> None:
    table = Table(box=box.SIMPLE_HEAD, title="worst ratio left/right of each bound", title_justify="left")
    for column in ("bound", "model", "worst ratio", "evaluations", "attained by"):
        table.add_column(column, overflow="fold")
    for state in found:
        table.add_row(
            state.target, state.space.model, f"{state.ratio:.6f}", str(state.evaluations), describe(state)
        )  # fmt: skip
    console.print(table)


def describe(state: Search) -> str:
    """What the best instance looks like, in one line."""
    if state.ratio <= 0:
        return "nothing: the bound never applied, or its left side is never positive"
    e = search.best_instance(state)
    assert state.best is not None
    point, gone, gram = e["point"], np.asarray(e["forget"]), np.asarray(e["gram"])
    y = np.asarray(state.best[0].labels)[0]
    patches = state.space.patches
    sign = np.repeat(y, patches)
    off = (sign[:, None] * gram * sign)[np.triu_indices(sign.size, 1)]
    psi, phi = float(np.abs(np.diag(gram) - 1).max()), float(np.abs(off).max())
    off = off / phi
    parts = [
        f"labels +{np.sum(y > 0)}/-{np.sum(y < 0)}",
        f"eps_d {4 * y.size * state.space.n * phi:.3g}, psi {psi:.3g}",
        f"y_iy_jK_ij within 1 % of +phi {np.mean(off > 0.99):.0%}, of -phi {np.mean(off < -0.99):.0%}",
    ]
    if point.preactivations.shape[0] > 1:
        z = np.asarray(point.preactivations)
        active = ", ".join(str(int(a)) for a in np.sum(z[:, np.repeat(gone, patches)] > 0, axis=0))
        parts += [f"neurons active on forgotten points {active} of {state.space.n}", f"kinks {np.mean(z == 0):.0%}"]
    if targets.target(state.target).part_of_step:
        parts.append(f"{float(e['step_scale']):.3g} of the step")
    if point.epsilon > 1e-9:
        parts.append(f"eps_1 {point.epsilon:.2g}, delta_1 {point.delta:.2g}")
    return "; ".join(parts)


def _answer(state: Search, folder: Path) -> str:
    """What ball arithmetic makes of the best instance's certificate file; that of a violation gets a name of its own.

    VIOLATED if the search or the checker says so, UNPROVED if it is neither violated nor proved, else "".
    """
    if state.ratio <= 0:
        return ""
    name = search.stem(state.target, state.space)
    best, counterexample = folder / f"best-{name}.json", folder / f"counterexample-{name}.json"
    path = best if best.exists() else counterexample  # named so by an earlier call
    answer, words = _checked(path)
    if state.violated() or answer == VIOLATED:
        path, answer = path.replace(counterexample), VIOLATED
    console.print(f"{path}: {words}")
    return answer


def _checked(path: Path) -> tuple[str, str]:
    """The answer of the checker about a file, "" where it is not installed, and its words."""
    try:
        from verify.exact import statements
    except ImportError:
        return "", "not checked, that needs python-flint: pip install 'gaunlearn-jax\\[exact]'"
    report = statements.check_file(path)
    # a bound is judged only where everything that it assumes of the instance is proved
    false = any(line.answer == statements.REFUTED and line.name in JUDGED for line in report.statements)
    return VIOLATED if false else UNPROVED if report.exit_code else "", statements.in_words(report)
