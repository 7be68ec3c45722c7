"""The picture of every claim, drawn from a results folder (extra `plots`: matplotlib)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from verify.report.summary import load_run
from verify.suites.suite import Suite

#: of a style: the endings of its files, and the width in inches that figures are brought to (None: their own)
STYLES: dict[str, tuple[tuple[str, ...], float | None]] = {
    "screen": (("png", "svg"), None),
    "paper": (("pdf", "svg"), 5.5),
}
#: fonts are embedded as outlines (TrueType in PDF, paths in SVG)
FONTS: Any = {"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "gaunlearn"}


def figures(folder: Path, suites: tuple[Suite, ...], style: str = "screen") -> list[Path]:
    """Write DIR/figures/<claim>.png and .svg (paper: .pdf and .svg) for every claim of the run that has a picture;
    returns the paths."""
    written = []
    endings, width = STYLES[style]
    for suite, figure in drawn(folder, suites):
        import matplotlib  # where it is missing, drawn has said so

        out = folder / "figures"
        out.mkdir(exist_ok=True)
        if width is not None:
            _bring_to(figure, width)
        for ending in endings:
            path = out / f"{suite.name}.{ending}"
            with matplotlib.rc_context(FONTS):
                figure.savefig(path, dpi=150)
            written.append(path)
    return written


def _bring_to(figure: Any, width: float) -> None:
    """The figure in this width, its texts, lines and marks smaller in proportion."""
    wide, high = figure.get_size_inches()
    scale = width / wide
    figure.set_size_inches(width, high * scale)
    for item in figure.findobj(lambda item: hasattr(item, "set_fontsize")):
        item.set_fontsize(max(item.get_fontsize() * scale, 5.0))
    for item in figure.findobj(lambda item: hasattr(item, "set_markersize")):
        item.set_markersize(item.get_markersize() * scale)
        item.set_linewidth(item.get_linewidth() * scale)


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
