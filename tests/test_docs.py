"""The documentation: docstrings name what exists, examples run, links lead somewhere, the site builds offline."""

from __future__ import annotations

import ast
import dataclasses
import doctest
import importlib
import importlib.util
import inspect
import keyword
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import gaunlearn_jax as ga

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [p for p in sorted(DOCS.rglob("*.md")) if not {"_build", "notebooks", "jupyter_execute"} & set(p.parts)]
MODULES = [importlib.import_module(found.name) for found in pkgutil.walk_packages(ga.__path__, "gaunlearn_jax.")]
COMMANDS = (
    "run",
    "list",
    "show",
    "export",
    "report",
    "figures",
    "check",
    "falsify",
    "audit",
    "phase",
    "explain",
    "cite",
)
HAS_SPHINX = all(importlib.util.find_spec(name) for name in ("sphinx", "furo", "myst_nb", "latex2mathml"))


def public(module: ModuleType) -> list[tuple[str, Any]]:
    """Public functions and classes of a module, and the methods and properties that the classes define."""
    found = []
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__ or not callable(thing):
            continue
        found.append((name, thing))
        if inspect.isclass(thing):
            inner = [(key, value) for key, value in vars(thing).items() if not key.startswith("_")]
            found += [(f"{name}.{k}", v) for k, v in inner if inspect.isfunction(v) or isinstance(v, property)]
    return found


def words_of_code(module: ModuleType) -> set[str]:
    """Names, arguments, attributes and short strings of a module's code; docstrings and comments are not code."""
    words: set[str] = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        values = (getattr(node, field, None) for field in ("id", "arg", "attr", "name", "value"))
        words |= {value for value in values if isinstance(value, str) and value.isidentifier()}
    return words


def leads_somewhere(token: str) -> bool:
    thing: Any = ga
    for part in token.split("."):
        if not hasattr(thing, part):
            return False
        thing = getattr(thing, part)
    return True


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__.partition(".")[2])
def test_everything_public_has_a_docstring(module):
    assert module.__doc__
    without = [name for name, thing in public(module) if not thing.__doc__]
    # a dataclass without a docstring gets its signature for one
    signatures = [n for n, t in public(module) if dataclasses.is_dataclass(t) and (t.__doc__ or "").startswith(f"{n}(")]
    assert without + signatures == []


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__.partition(".")[2])
def test_names_in_docstrings_exist(module):
    known = words_of_code(module) | set(keyword.kwlist)
    for name, thing in public(module):
        target = thing.fget if isinstance(thing, property) else thing
        try:
            parameters = set(inspect.signature(target).parameters)
        except ValueError:
            parameters = set()
        for token in re.findall(r"`([A-Za-z_][\w.]*)`", inspect.getdoc(thing) or ""):
            first = token.split(".")[0]
            ok = token in parameters | known or leads_somewhere(token) or (first in parameters | known and "." in token)
            assert ok, f"{module.__name__}.{name} speaks of `{token}`, which does not exist"


def test_a_wrong_name_is_noticed():
    assert "no_such_parameter" not in words_of_code(ga.bounds)
    assert not leads_somewhere("bounds.no_such_function")
    assert leads_somewhere("bounds.sharp_relu")


def test_the_examples_in_docstrings_run():
    results = [doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE) for module in MODULES]
    assert sum(result.failed for result in results) == 0
    assert sum(result.attempted for result in results) >= 5


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(DOCS).as_posix())
def test_links_and_code_of_a_page(page):
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```|\$[^$]*\$", "", text, flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose):
        assert target.startswith("http") or (page.parent / target).exists(), target
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        ast.parse(code)
    for line in re.findall(r"^gaunlearn .*$", text, re.MULTILINE):
        assert line.split()[1] in COMMANDS, line


def test_every_page_is_in_the_contents():
    contents = (DOCS / "index.md").read_text()
    for page in PAGES:
        name = page.relative_to(DOCS).with_suffix("").as_posix()
        assert name == "index" or re.search(rf"^(.*<)?{name}>?$", contents, re.MULTILINE), name
    for notebook in (ROOT / "examples").glob("*.ipynb"):
        assert f"notebooks/{notebook.stem}\n" in contents


def test_the_contract_of_contributing():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert "python -m sphinx -W -b html docs docs/_build" in text
    assert "python -m pytest -n 2" in text


@pytest.mark.skipif(not HAS_SPHINX, reason="the extra `docs` is not installed")
def test_the_site_builds_without_warnings_and_needs_no_network(tmp_path):
    """Without executing the notebooks, which tests/test_notebooks.py does."""
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", "-D", "nb_execution_mode=off"]
    out = tmp_path / "site"
    done = subprocess.run([*command, str(DOCS), str(out)], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(out).as_posix(): path.read_text() for path in out.rglob("*.html")}
    assert {"index.html", "api.html", "theory/bounds.html", "notebooks/five_minutes.html"} <= pages.keys()
    for name, text in pages.items():
        assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=\"https?:", text), name
        assert not re.search(r"<m[ioe]\w*[^>]*>\\", text), f"{name} holds TeX that was not understood"
    assert pages["theory/bounds.html"].count("<math") > 100
    assert "Theorem R" in pages["api.html"]
