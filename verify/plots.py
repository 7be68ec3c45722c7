"""The picture of every claim, drawn from a results folder (extra `plots`: matplotlib)."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from verify.grid import Grid
from verify.lanes import load_blocks
from verify.suite import Suite

#: legible in greyscale: every series differs in dash and marker, filled or open, as well as in colour
STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#1b3a6b", "linestyle": "-", "marker": "o"},
    {"color": "#c2571a", "linestyle": "--", "marker": "s", "markerfacecolor": "white"},
    {"color": "#3f8f5b", "linestyle": "-.", "marker": "^"},
    {"color": "#7a4fa3", "linestyle": ":", "marker": "D", "markerfacecolor": "white"},
    {"color": "#555555", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
)


def band(ax: Any, x: np.ndarray, samples: np.ndarray, label: str, style: int) -> None:
    """Median over the lanes (axis 0 of samples [lanes, len(x)]) as a line, the 10 to 90 % range as a band."""
    options = STYLES[style % len(STYLES)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice")  # no lane there: the line has a gap
        low, middle, high = np.nanquantile(samples, [0.1, 0.5, 0.9], axis=0)
    ax.plot(x, middle, label=label, markersize=4, linewidth=1.5, **options)
    ax.fill_between(x, low, high, color=options["color"], alpha=0.18, linewidth=0)


def per_dim(grid: Grid, block: Any, values: np.ndarray) -> np.ndarray:
    """Values of a block's lanes [lanes, ...] regrouped by dimension: [lanes per dimension, dims, ...]."""
    return np.stack([np.asarray(values)[block.d == d] for d in grid.dims or ()], axis=1)


def bounds_figure(claim: str, *panels: tuple[str, str]) -> Callable[[Any, list[Any], Any], None]:
    """A `draw` for claims of success: quantities, given as (certificate, quantity), beside their bounds."""

    def draw(figure: Any, blocks: list[Any], grid: Grid) -> None:
        """What the certificates measure and their bounds against d, exact KKT points, first size of the forget set; a
        bound is left out where it does not apply."""
        block, dims = blocks[0], np.asarray(grid.dims or ())
        for ax, (certificate, quantity) in zip(figure.subplots(1, len(panels)), panels, strict=True):
            for style, strength in ((1, "coarse"), (2, "sharp"), (0, "measured"), (3, "instance")):
                name = f"{certificate}/{'instance' if strength == 'measured' else strength}/{quantity}"
                if name in block.results[claim]:
                    check = block.results[claim][name]
                    bound = np.where(np.asarray(check.reason) == 0, np.asarray(check.rhs), np.nan)
                    values = np.asarray(check.lhs) if strength == "measured" else bound
                    label = strength if strength == "measured" else f"{strength} bound"
                    band(ax, dims, per_dim(grid, block, values[:, 1, 0]), label, style)
            ax.set(xscale="log", yscale="log", xlabel="dimension $d$")
            ax.set_ylabel(rf"$\{quantity}$ of the {certificate} certificate".replace("epsilon", "varepsilon"))
            ax.grid(alpha=0.25)
            ax.legend(fontsize=8)
        shape = block.shape
        figure.suptitle(f"{shape.model}, m = {shape.m}, n = {shape.n}, k = {grid.forget[0]}", fontsize=10)

    return draw


def figures(folder: Path, suites: tuple[Suite, ...]) -> list[Path]:
    """Write DIR/figures/<claim>.png and .svg for every claim of the run that has a picture; returns the paths."""
    written = []
    for suite, figure in drawn(folder, suites):
        out = folder / "figures"
        out.mkdir(exist_ok=True)
        for ending in ("png", "svg"):
            path = out / f"{suite.name}.{ending}"
            figure.savefig(path, dpi=150)
            written.append(path)
    return written


def drawn(folder: Path, suites: tuple[Suite, ...]) -> Iterator[tuple[Suite, Any]]:
    """(suite, its matplotlib figure) for every claim of the run that has a picture."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("drawing needs matplotlib: pip install 'gaunlearn-jax[plots]'") from None
    grid, blocks = load_run(folder)
    for suite in suites:
        mine = [block for block in blocks if suite.name in block.results]
        if suite.draw is not None and mine:
            figure = Figure(figsize=(8, 4.8), layout="constrained")
            suite.draw(figure, mine, grid.of(suite.data_source))
            yield suite, figure


def read_summary(folder: Path) -> dict[str, Any]:
    """summary.json of a results folder; ValueError if there is none or it is no summary of a run."""
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        if not isinstance(summary, dict) or not isinstance(summary.get("grid"), dict):
            raise ValueError("summary.json is no summary of a run")
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{folder} is no results folder ({error}); make one with `gaunlearn run --out DIR`") from None
    return summary


def load_run(folder: Path) -> tuple[Grid, list[Any]]:
    """The grid and blocks of a results folder; ValueError if it is not one."""
    given: dict[str, Any] = read_summary(folder)["grid"]
    try:
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
        grid = Grid(**fields)
    except TypeError as error:
        raise ValueError(f"{folder} is no results folder ({error}); make one with `gaunlearn run --out DIR`") from None
    return grid, load_blocks(folder)


def in_words(figure: Any) -> str:
    """What the curves of a figure show, for those who cannot see it: each one's value at its two ends."""
    return " ".join(text for ax in figure.axes if (text := _axes_in_words(ax)))


def _axes_in_words(ax: Any) -> str:
    curves = []
    for line in ax.get_lines():
        name, (x, y) = str(line.get_label()), (np.asarray(v, float) for v in line.get_data())
        seen = np.isfinite(y) if x.shape == y.shape else np.zeros(0, bool)
        if not name.startswith("_") and seen.sum() > 1:
            x, y = x[seen], y[seen]
            curves.append(f"{name}: {y[0]:.2g} at {x[0]:.3g}, {y[-1]:.2g} at {x[-1]:.3g}")
    if not curves:
        return ""
    head = [ax.get_title().replace("\n", ", "), f"{ax.get_ylabel() or 'value'} against {ax.get_xlabel()}"]
    return _plain(". ".join(filter(None, head)) + ": " + "; ".join(curves) + ".")


def _plain(text: str) -> str:
    """Mathtext as words: "$\\hat\\theta_c$" reads "hat theta_c"."""
    return re.sub(r"\s+", " ", re.sub(r"[${}]|\\[,; ]", "", text).replace("\\", " ")).strip()
