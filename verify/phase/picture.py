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
    """A heat map per question, guides dashed, and the line along which half are better by the criterion."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("drawing needs matplotlib: pip install 'gaunlearn-jax[plots]'") from None
    drawn = Figure(figsize=(13, 6.2), layout="constrained")
    axes = drawn.subplots(2, 4, sharex=True, sharey=True)
    edges = [_edges(axis) for axis in (plane.x, plane.y)]
    for ax, (name, text) in zip(axes.flat, PANELS.items(), strict=True):
        shade = ax.pcolormesh(*edges, found[name], vmin=0, vmax=1, cmap="cividis", shading="flat")
        ax.set_title(text, fontsize=8)
        _scale(ax, plane, edges)
        _lines(ax, plane, found["criterion"])
    for ax in axes[-1]:
        ax.set_xlabel(plane.x.name)
    for ax in axes[:, 0]:
        ax.set_ylabel(plane.y.name)
    drawn.colorbar(shade, ax=axes, label="share of instances", shrink=0.8)
    lines = [f"dashed: {guide.text}" for guide in guides(plane)] + ["solid: half are better, by the exact criterion"]
    drawn.suptitle("\n".join([plane.title(), "; ".join(lines)]), fontsize=9)
    return drawn


def _edges(axis: Axis) -> np.ndarray:
    """The borders of cells, halfway between values (in logarithms on a logarithmic axis)."""
    values = np.log(axis.values) if axis.log else np.asarray(axis.values)
    middle = (values[1:] + values[:-1]) / 2
    ends = 2 * values[0] - middle[0], 2 * values[-1] - middle[-1]
    borders = np.concatenate([[ends[0]], middle, [ends[1]]])
    return np.exp(borders) if axis.log else borders


def _scale(ax: Any, plane: Plane, edges: list[np.ndarray]) -> None:
    ax.set(xscale="log" if plane.x.log else "linear", yscale="log" if plane.y.log else "linear")
    ax.set(xlim=(edges[0][0], edges[0][-1]), ylim=(edges[1][0], edges[1][-1]))


def _lines(ax: Any, plane: Plane, criterion: np.ndarray) -> None:
    for guide in guides(plane):
        draw = ax.axvline if guide.axis == plane.x.name else ax.axhline
        draw(guide.value, linestyle="--", color="white", linewidth=1.2)
    known = np.isfinite(criterion)
    if np.any(criterion[known] > 0.5) and np.any(criterion[known] < 0.5):
        level = np.ma.masked_invalid(criterion)
        ax.contour(plane.x.values, plane.y.values, level, levels=[0.5], colors="#d62728", linewidths=1.4)


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
