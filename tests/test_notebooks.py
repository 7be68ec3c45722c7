"""The notebooks of examples/ run from top to bottom, draw, show their results, and are kept without outputs."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


#: those that take a minute
LONG = ("any_network", "batch_check", "gallery")


def marked(path: Path) -> Any:
    return pytest.param(path, marks=pytest.mark.slow) if path.stem in LONG else path


def cells(path: Path, kind: str) -> list[str]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Execute a cell and return the value of its last line, as a notebook would show it."""
    tree = ast.parse(source)
    shown = None
    if isinstance(tree.body[-1], ast.Expr) and not source.rstrip().endswith(";"):
        shown = ast.Expression(tree.body.pop().value)
    exec(compile(tree, "cell", "exec"), names)
    return None if shown is None else eval(compile(shown, "cell", "eval"), names)


@pytest.mark.parametrize("path", [marked(path) for path in NOTEBOOKS], ids=lambda p: p.stem)
def test_the_notebook_runs(path, monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    pyplot.switch_backend("Agg")
    pyplot.close("all")
    names: dict[str, Any] = {}
    shown = [value for value in (run_cell(source, names) for source in cells(path, "code")) if value is not None]
    for value in shown:
        for part in value if isinstance(value, tuple) else (value,):
            assert part._repr_html_().startswith(f"<table><caption>{type(part).__name__}")
    figures = [pyplot.figure(number) for number in pyplot.get_fignums()]
    assert len(figures) >= 2
    for figure in figures:
        figure.canvas.draw()
        assert all(ax.get_xlabel() or ax.get_ylabel() or ax.images for ax in figure.axes)
    pyplot.close("all")


def test_there_are_five_and_they_are_stripped():
    assert [path.stem for path in NOTEBOOKS] == ["any_network", "batch_check", "five_minutes", "gallery", "own_data"]
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            assert cell["metadata"] == {}
            if cell["cell_type"] == "code":
                assert (cell["execution_count"], cell["outputs"]) == (None, [])
        assert cells(path, "markdown")[0].startswith("# ")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_first_cell_enables_64_bits_and_says_how_to_install(path, monkeypatch):
    first = cells(path, "code")[0]
    assert 'jax.config.update("jax_enable_x64", True)' in first
    monkeypatch.setitem(sys.modules, "gaunlearn_jax", None)
    with pytest.raises(SystemExit, match="pip install"):
        exec(compile(first, "cell", "exec"), {})
