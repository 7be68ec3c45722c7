"""What the pictures of claims share: styles, bands over lanes, and the picture of a bound against the dimension."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from verify.instances.grid import Grid
from verify.instances.records import LIMIT

#: legible in greyscale: every series differs in dash and marker, filled or open, as well as in colour
STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#1b3a6b", "linestyle": "-", "marker": "o"},
    {"color": "#c2571a", "linestyle": "--", "marker": "s", "markerfacecolor": "white"},
    {"color": "#3f8f5b", "linestyle": "-.", "marker": "^"},
    {"color": "#7a4fa3", "linestyle": ":", "marker": "D", "markerfacecolor": "white"},
    {"color": "#555555", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
    {"color": "#b03060", "linestyle": (0, (8, 2)), "marker": "P", "markerfacecolor": "white"},
)


def band(ax: Any, x: np.ndarray, samples: np.ndarray, label: str, style: int) -> None:
    """Median over the lanes (axis 0 of samples [lanes, len(x)]) as a line, the 10 to 90 % range as a band."""
    options = STYLES[style % len(STYLES)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice|Mean of empty slice")  # no lane there: a gap
        low, middle, high = np.nanquantile(samples, [0.1, 0.5, 0.9], axis=0)
    ax.plot(x, middle, label=label, markersize=4, linewidth=1.5, **options)
    ax.fill_between(x, low, high, color=options["color"], alpha=0.18, linewidth=0)


def per_dim(grid: Grid, block: Any, values: np.ndarray) -> np.ndarray:
    """Values of a block's lanes [lanes, ...] regrouped by dimension: [lanes per dimension, dims, ...]."""
    return np.stack([np.asarray(values)[block.d == d] for d in grid.dims or ()], axis=1)


def widest(blocks: list[Any]) -> Any:
    """The block of the network with the most neurons, which has most to show."""
    return max(blocks, key=lambda block: block.shape.n)


def limit_first(values: Any) -> np.ndarray:
    """Values [lanes, theta, k, ...] of the exact KKT point and the first size of the forget set."""
    return np.asarray(values)[:, LIMIT, 0]


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
                    band(ax, dims, per_dim(grid, block, limit_first(values)), label, style)
            ax.set(xscale="log", yscale="log", xlabel="dimension $d$")
            ax.set_ylabel(rf"$\{quantity}$ of the {certificate} certificate".replace("epsilon", "varepsilon"))
            ax.grid(alpha=0.25)
            ax.legend(fontsize=8)
        shape = block.shape
        figure.suptitle(f"{shape.model}, m = {shape.m}, n = {shape.n}, k = {grid.forget[0]}", fontsize=10)

    return draw
