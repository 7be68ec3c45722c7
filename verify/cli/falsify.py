"""The command `gaunlearn falsify`: search the bounds of a claim in turn, print the worst ratios, prove the files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from verify.attack import search, targets
from verify.attack.candidates import Space
from verify.attack.search import Search
from verify.report.console import console


def falsify(
    claim: str, space: Callable[[str], Space], *, minutes: float, lanes: int, seed: int, folder: Path,
    models: tuple[str, ...] = (),
) -> int:  # fmt: skip
    """Search every bound of a claim (or one bound) on every model it speaks of; exit code 1 if one is violated.

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
    answers = [_prove(state, folder) for state in found]
    violated = [state for state in found if state.violated()]
    if violated:
        console.print(f"[bold red]violated[/]: {', '.join(state.target for state in violated)}")
        console.print("the answers above decide: a refuted original.* or bound.stated is a false alarm of the floats")
    else:
        console.print("[bold green]no violation found[/]; a search that finds none proves nothing")
    return 1 if violated or "refuted" in answers else 0


def _one(bar: Progress, name: str, space: Space, seconds: float, lanes: int, seed: int, folder: Path) -> Search:
    task = bar.add_task(f"{name} ({space.model})", total=seconds, ratio=0.0, evaluations=0)

    def show(state: Search) -> None:
        done = min(state.seconds, seconds)
        bar.update(task, completed=done, ratio=state.ratio, evaluations=state.evaluations)

    state = search.search(name, space, seconds=seconds, lanes=lanes, seed=seed, folder=folder, progress=show)
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


def _prove(state: Search, folder: Path) -> str:
    """Check the certificate file of the best instance by ball arithmetic; violations get a file of their own name."""
    if state.ratio <= 0:
        return "none"
    name = search.stem(state.target, state.space)
    path = folder / f"best-{name}.json"
    if state.violated():
        path = path.replace(folder / f"counterexample-{name}.json")
    try:
        from verify.exact import statements
    except ImportError:
        console.print(f"{path}: not checked, that needs python-flint: pip install 'gaunlearn-jax\\[exact]'")
        return "unchecked"
    report = statements.check_file(path)
    console.print(f"{path}: {statements.in_words(report)}")
    return statements.REFUTED if report.exit_code == 1 else statements.PROVED
