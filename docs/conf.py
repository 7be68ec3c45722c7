"""Settings of the documentation: `python -m sphinx -W -b html docs docs/_build` needs no network and no LaTeX."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert

ROOT = Path(__file__).parent.parent
NOTEBOOKS = Path(__file__).parent / "notebooks"  # copies: Sphinx reads nothing outside its own folder

project = "gaunlearn_jax"
author = "gaunlearn_jax developers"
extensions = ["sphinx.ext.autodoc", "myst_nb"]
exclude_patterns = ["_build", "jupyter_execute"]
html_theme = "furo"
html_title = "gaunlearn_jax"
html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath", "deflist"]
myst_dmath_double_inline = True
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_cache_path = str(Path(__file__).parent / "_build" / ".jupyter_cache")
nb_execution_raise_on_error = True
nb_execution_timeout = 300

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "none"


def mathml(node: nodes.Element, display: str) -> str:
    """TeX as MathML, which browsers draw without a script."""
    tex = re.sub(r"\\tag\{(.*?)\}", r"\\qquad(\1)", node.astext())
    tex = re.sub(r"(\\[bB]igg?)\\(\||Vert)", r"\1‖", tex)  # not known to the converter as commands
    return convert(tex, display=display)


def inline_math(translator: Any, node: nodes.math) -> None:
    translator.body.append(mathml(node, "inline"))
    raise nodes.SkipNode


def block_math(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{mathml(node, "block")}</div>')
    raise nodes.SkipNode


def plain_docstring(_app: Any, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with `code`: norms and stars in formulas must not be read as markup."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = re.split(r"`+([^`]+)`+", line)
            plain = [re.sub(r"([\\*|_])", r"\\\1", part) for part in parts[::2]]
            code = [f"``{part}``" for part in parts[1::2]]
            lines[i] = "".join(a + b for a, b in zip(plain, [*code, ""], strict=True))


def setup(app: Any) -> None:
    NOTEBOOKS.mkdir(exist_ok=True)
    for path in sorted((ROOT / "examples").glob("*.ipynb")):
        shutil.copy(path, NOTEBOOKS / path.name)
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
    app.connect("autodoc-process-docstring", plain_docstring)
