"""What a phase diagram leaves behind: heat maps (extra `plots`: matplotlib), a table of every cell, one page."""

from __future__ import annotations

import base64
import html
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from verify.phase.guides import guides
from verify.phase.lanes import COLUMNS
from verify.phase.plane import Axis, Plane
from verify.run.naming import short_number

#: the panels, in order, and what their shade is the share of
PANELS = {
    "hypotheses": "hypotheses of the coarse bound hold",
    "sharp": "sharp bound: doing nothing fails it",
    "scale_free": "scale-free bound: doing nothing fails it",
    "instance": "instance bound: doing nothing fails it",
    "ball": "the ball excludes doing nothing",
    "better": "the step is better than nothing",
    "proved": "provably better than nothing",
    "hundredth": "within 1 % of the gap of doing nothing",
}


def shares(plane: Plane, table: np.ndarray) -> dict[str, np.ndarray]:
    """Of every question the share [y, x] of solved lanes that answer yes (NaN where none has an answer); the medians of
    leverage and ratio."""
    out = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice")
        warnings.filterwarnings("ignore", "All-NaN slice")
        for i, name in enumerate(COLUMNS):
            middle = np.nanmedian if name in ("leverage", "ratio") else np.nanmean
            out[name] = middle(table[..., i], axis=2)
    return out


def write_table(plane: Plane, found: dict[str, np.ndarray], path: Path) -> None:
    """One row per cell: both axes, then the share of every question and the medians of leverage and ratio."""
    lines = [",".join([plane.x.name, plane.y.name, *found])]
    for j, y in enumerate(plane.y.values):
        for i, x in enumerate(plane.x.values):
            lines.append(",".join(f"{v:.6g}" for v in (x, y, *(values[j, i] for values in found.values()))))
    path.write_text("\n".join(lines) + "\n")


def figure(plane: Plane, found: dict[str, np.ndarray]) -> Any:
    """A heat map per question that some instance answers with yes, the others named; all cells of one size. Guides are
    dashed, and the solid line is where half are better by the criterion."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("drawing needs matplotlib: pip install 'gaunlearn-jax[plots]'") from None
    nowhere = [name for name in PANELS if name != "better" and not np.any(found[name] > 0)]
    shown = [name for name in PANELS if name not in nowhere]
    columns = len(shown) if len(shown) <= 3 else -(-len(shown) // 2)
    rows = -(-len(shown) // columns)
    drawn = Figure(figsize=(3.1 * columns + 1.2, 2.7 * rows + 0.9), layout="constrained")
    axes = drawn.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, name in zip(axes.flat, shown, strict=False):
        shade = ax.pcolormesh(found[name], vmin=0, vmax=1, cmap="cividis")
        ax.set_title(PANELS[name], fontsize=8)
        _lines(ax, plane, found["criterion"])
        ax.set_xticks(*_ticks(plane.x), fontsize=8)
        ax.set_yticks(*_ticks(plane.y), fontsize=8)
    for ax in axes.flat[len(shown) :]:
        ax.remove()
    for ax in axes.flat[max(0, len(shown) - columns) : len(shown)]:  # the last one of each column
        ax.set_xlabel(plane.x.name)
        ax.xaxis.set_tick_params(labelbottom=True)
    for ax in axes[:, 0]:
        ax.set_ylabel(plane.y.name)
    there = list(axes.flat[: len(shown)])
    drawn.colorbar(shade, ax=there, label="share of instances", shrink=0.8)
    lines = [f"dashed: {guide.text}" for guide in guides(plane)]
    lines += ["solid: half are better, by the exact criterion"] if _crosses(found["criterion"]) else []
    lines += [f"on no instance: {', '.join(nowhere).replace('_', '-')}"] if nowhere else []
    drawn.suptitle("\n".join([plane.title(), "; ".join(lines)]), fontsize=9)
    return drawn


def _ticks(axis: Axis) -> tuple[np.ndarray, list[str]]:
    """Places and values of at most a dozen ticks, in the middle of their cells."""
    every = -(-len(axis.values) // 12)
    places = np.arange(0, len(axis.values), every)
    return places + 0.5, [short_number(round(axis.values[i], 6)) for i in places]


def _place(axis: Axis, value: float) -> float:
    """Where a value lies among the cells (in logarithms on a logarithmic axis)."""
    known = np.asarray([*axis.values, value])
    known = np.log(known) if axis.log else known
    return float(np.interp(known[-1], known[:-1], np.arange(len(axis.values)) + 0.5))


def _crosses(criterion: np.ndarray) -> bool:
    """Whether some cells are mostly better and some mostly worse."""
    known = criterion[np.isfinite(criterion)]
    return bool(np.any(known > 0.5) and np.any(known < 0.5))


def _lines(ax: Any, plane: Plane, criterion: np.ndarray) -> None:
    for guide in guides(plane):
        across = guide.axis == plane.x.name
        draw = ax.axvline if across else ax.axhline
        place = _place(plane.x if across else plane.y, guide.value)
        draw(place, linestyle="--", color="white", linewidth=1.2)
    if _crosses(criterion):
        middles = [np.arange(size) + 0.5 for size in criterion.shape[::-1]]
        ax.contour(*middles, np.ma.masked_invalid(criterion), levels=[0.5], colors="#d62728", linewidths=1.4)


def crossings(plane: Plane, found: dict[str, np.ndarray], name: str = "better") -> list[float]:
    """Per value of x, the y at which the share of a question falls through one half (linear between cells); NaN where
    it does not."""
    out = []
    for column in found[name].T:
        above = np.flatnonzero((column[:-1] >= 0.5) & (column[1:] < 0.5))
        at = int(above[0]) if above.size else -1
        if at < 0:
            out.append(float("nan"))
            continue
        low, high = plane.y.values[at], plane.y.values[at + 1]
        out.append(float(low + (high - low) * (column[at] - 0.5) / (column[at] - column[at + 1])))
    return out


def write(plane: Plane, table: np.ndarray, folder: Path, command: str) -> list[Path]:
    """Write phase.csv, phase.png, phase.svg and phase.html (which holds all); returns the paths."""
    found = shares(plane, table)
    write_table(plane, found, folder / "phase.csv")
    drawn, paths = figure(plane, found), [folder / "phase.csv"]
    for ending in ("png", "svg"):
        paths.append(folder / f"phase.{ending}")
        drawn.savefig(paths[-1], dpi=150)
    paths.append(folder / "phase.html")
    paths[-1].write_text(page(plane, found, drawn, command))
    return paths


def page(plane: Plane, found: dict[str, np.ndarray], drawn: Any, command: str) -> str:
    """One self-contained page: the picture, the command that made it, the share of better lanes as a table."""
    picture = io.BytesIO()
    drawn.savefig(picture, format="png", dpi=110)
    image = base64.b64encode(picture.getvalue()).decode()
    head = "".join(f"<th>{x:.3g}</th>" for x in plane.x.values)
    rows = "".join(
        f"<tr><th>{y:.3g}</th>{''.join(f'<td>{v:.2f}</td>' for v in found['better'][j])}</tr>"
        for j, y in enumerate(plane.y.values)
    )
    title = html.escape(plane.title())
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Phase diagram: {title}</title>'
        "<style>body{font-family:sans-serif;max-width:80em;margin:2em auto}td,th{padding:.1em .4em;text-align:right}"
        f"img{{max-width:100%}}</style><h1>Phase diagram</h1><p>{title}</p><p><code>{html.escape(command)}</code></p>"
        f'<img alt="Heat maps over {plane.x.name} and {plane.y.name}" src="data:image/png;base64,{image}">'
        f"<h2>Share of instances on which the step is better than doing nothing</h2><table><tr>"
        f"<th>{html.escape(plane.y.name)} \\ {html.escape(plane.x.name)}</th>{head}</tr>{rows}</table></html>\n"
    )
