"""The command `gaunlearn falsify`: search the bounds of a claim in turn, print the worst ratios, prove the files."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from verify import adversary, targets
from verify.adversary import Search
from verify.report import console
from verify.targets import Space


def falsify(claim: str, space: Callable[[str], Space], *, minutes: float, lanes: int, seed: int, folder: Path) -> int:
    """Search every bound of a claim (or one bound) on every model it speaks of; exit code 1 if one is violated.

    `space` maps a model to the instances to search. ValueError for an unknown claim or an impossible size.
    """
    if not 0 < minutes < float("inf"):
        raise ValueError(f"--minutes {minutes:g}: expected a positive number")
    if lanes < 4:
        raise ValueError(f"--lanes {lanes}: expected at least 4 candidates at once")
    if seed < 0:
        raise ValueError(f"--seed {seed}: expected a number >= 0")
    wanted = [(name, space(model)) for name in targets.select(claim) for model in targets.TARGETS[name].models]
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
    else:
        console.print("[bold green]no violation found[/]; a search that finds none proves nothing")
    return 1 if violated or "refuted" in answers else 0


def _one(bar: Progress, name: str, space: Space, seconds: float, lanes: int, seed: int, folder: Path) -> Search:
    task = bar.add_task(f"{name} ({space.model})", total=seconds, ratio=0.0, evaluations=0)

    def show(state: Search) -> None:
        done = min(state.seconds, seconds)
        bar.update(task, completed=done, ratio=state.ratio, evaluations=state.evaluations)

    state = adversary.search(name, space, seconds=seconds, lanes=lanes, seed=seed, folder=folder, progress=show)
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
    e = adversary.best_instance(state)
    point, gone, y, gram = e["point"], *(np.asarray(e[name]) for name in ("forget", "labels", "gram"))
    psi, phi = (float(v) for v in e["assumption"])
    off = (y[:, None] * gram * y)[np.triu_indices(y.size, 1)] / phi
    parts = [
        f"labels +{np.sum(y > 0)}/-{np.sum(y < 0)}",
        f"eps_d {4 * y.size * state.space.n * phi:.3g}, psi {psi:.3g}",
        f"y_iy_jK_ij within 1 % of +phi {np.mean(off > 0.99):.0%}, of -phi {np.mean(off < -0.99):.0%}",
    ]
    if state.space.model == "relu":
        z = np.asarray(point.preactivations)
        active = ", ".join(str(int(a)) for a in np.sum(z[:, gone] > 0, axis=0))
        parts += [f"neurons active on forgotten points {active} of {state.space.n}", f"kinks {np.mean(z == 0):.0%}"]
    if point.epsilon > 1e-9:
        parts.append(f"eps_1 {point.epsilon:.2g}, delta_1 {point.delta:.2g}")
    return "; ".join(parts)


def _prove(state: Search, folder: Path) -> str:
    """Check the certificate file of the best instance by ball arithmetic; violations get a file of their own name."""
    if state.ratio <= 0:
        return "none"
    name = adversary.stem(state.target, state.space)
    path = folder / f"best-{name}.json"
    if state.violated():
        path = path.replace(folder / f"counterexample-{name}.json")
    try:
        from verify import exact
    except ImportError:
        console.print(f"{path}: not checked, that needs python-flint: pip install 'gaunlearn-jax\\[exact]'")
        return "unchecked"
    report = exact.check_file(path)
    answers: dict[str, list[str]] = {}
    for statement in report.statements:
        answers.setdefault(statement.answer, []).append(statement.name)
    text = "; ".join(f"{len(v)} {k}" + (f" ({', '.join(v)})" if k != exact.PROVED else "") for k, v in answers.items())
    console.print(f"{path}: {text}{_sides_of(state, path)}")
    return exact.REFUTED if exact.REFUTED in answers else exact.PROVED


def _sides_of(state: Search, path: Path) -> str:
    """Lemma M, which no statement of the file speaks of, decided by ball arithmetic on the numbers of the file."""
    if not state.target.startswith("multipliers/"):
        return ""
    lhs, rhs = lemma_m_balls(path, state.target.split("/")[1])
    answer = "holds" if lhs <= rhs else "violated" if lhs > rhs else "undecided"
    return f"; {state.target} {answer} by ball arithmetic: {lhs.str(12)} against {rhs.str(12)}"


def lemma_m_balls(path: Path, which: str) -> tuple[Any, Any]:
    """Both sides of Lemma M, upper or lower, for the instance of a certificate file, as balls: the extreme
    beta_i = sum_j u_j^2 mu_ji against the bound made from the file's psi, phi, epsilon_1 and delta_1."""
    from flint import arb, ctx

    from verify import exact
    from verify.certificate_file import parse, read

    with ctx.workprec(exact.PRECISIONS[0]):
        q = exact.Quantities(parse(read(path)[0]))
        u, mu = q.d.output_weights, q.d.original.mu
        betas = [sum((arb(w) ** 2 * row[i] for w, row in zip(u, mu, strict=True)), arb(0)) for i in q.everyone]
        if which == "upper":
            return functools.reduce(arb.max, betas), q.beta_max
        claim, top = q.claim, 1 + q.claim["psi"]
        least = 1 - (q.m - 1) * claim["phi"] * q.beta_max - claim["epsilon_1"] * (top * q.weight).sqrt()
        return least / top, functools.reduce(arb.min, betas)
