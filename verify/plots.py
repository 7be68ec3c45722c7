"""The picture of every claim, drawn from a results folder (extra `plots`: matplotlib)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from verify.grid import Grid
from verify.lanes import load_blocks
from verify.suite import Suite

#: greyscale-legible: every series differs in dash and marker as well as in colour
STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#1b3a6b", "linestyle": "-", "marker": "o"},
    {"color": "#c2571a", "linestyle": "--", "marker": "s"},
    {"color": "#3f8f5b", "linestyle": "-.", "marker": "^"},
    {"color": "#7a4fa3", "linestyle": ":", "marker": "D"},
    {"color": "#555555", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
)


def band(ax: Any, x: np.ndarray, samples: np.ndarray, label: str, style: int) -> None:
    """Median over the lanes (axis 0 of samples [lanes, len(x)]) as a line, the 10 to 90 % range as a band."""
    options = STYLES[style % len(STYLES)]
    low, middle, high = np.nanquantile(samples, [0.1, 0.5, 0.9], axis=0)
    ax.plot(x, middle, label=label, markersize=4, linewidth=1.5, **options)
    ax.fill_between(x, low, high, color=options["color"], alpha=0.18, linewidth=0)


def per_dim(grid: Grid, block: Any, values: np.ndarray) -> np.ndarray:
    """Values of a block's lanes [lanes, ...] regrouped by dimension: [lanes per dimension, dims, ...]."""
    return np.stack([np.asarray(values)[block.d == d] for d in grid.dims or ()], axis=1)


def figures(folder: Path, suites: tuple[Suite, ...]) -> list[Path]:
    """Write DIR/figures/<claim>.png and .svg for every claim of the run that has a picture; returns the paths."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("drawing needs matplotlib: pip install 'gaunlearn-jax[plots]'") from None
    grid, blocks = load_run(folder)
    out = folder / "figures"
    out.mkdir(exist_ok=True)
    written = []
    for suite in suites:
        mine = [block for block in blocks if suite.name in block.results]
        if suite.draw is None or not mine:
            continue
        figure = Figure(figsize=(8, 4.8), layout="constrained")
        suite.draw(figure, mine, grid.of(suite.data_source))
        for ending in ("png", "svg"):
            path = out / f"{suite.name}.{ending}"
            figure.savefig(path, dpi=150)
            written.append(path)
    return written


def load_run(folder: Path) -> tuple[Grid, list[Any]]:
    """The grid and blocks of a results folder; ValueError if it is not one."""
    try:
        summary = json.loads((folder / "summary.json").read_text())
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in summary["grid"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder} is no results folder ({error}); make one with `gaunlearn run --out DIR`") from None
    return Grid(**fields), load_blocks(folder)
