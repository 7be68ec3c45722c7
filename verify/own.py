"""A user's own claims: every `Suite` that a Python file holds at its top level."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from verify import registry
from verify.suite import Suite


def load(path: Path) -> tuple[Suite, ...]:
    """The claims of a file, in the order they are written; ValueError if it has none, fails, or reuses a name."""
    path = path.resolve()
    if not path.is_file():
        raise ValueError(f"--claims-from {path}: there is no such file; give a Python file with a verify.suite.Suite")
    name = f"gaunlearn_own_{re.sub(r'[^0-9a-zA-Z]', '_', path.stem)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"--claims-from {path}: expected a Python file (.py) with a verify.suite.Suite")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with blame(path):
        spec.loader.exec_module(module)
    found = tuple(dict.fromkeys(v for v in vars(module).values() if isinstance(v, Suite) and v not in registry.SUITES))
    if not found:
        raise ValueError(f"--claims-from {path}: no verify.suite.Suite at the top level; see docs/howto/own_claim.md")
    names = [suite.name for suite in (*registry.SUITES, *found)]
    for suite in found:
        if names.count(suite.name) > 1:
            raise ValueError(f"--claims-from {path}: the name {suite.name!r} is taken; every claim needs its own")
        if not re.fullmatch(r"\w+", suite.name):
            raise ValueError(f"--claims-from {path}: the name {suite.name!r} must be letters, digits and underscores")
        if suite.evaluate is suite.per_instance is suite.per_cell is None:
            raise ValueError(f"--claims-from {path}: {suite.name} has neither evaluate, per_instance nor per_cell")
    return found


@contextmanager
def blame(path: Path | None) -> Iterator[None]:
    """Turn an exception that passed through a user's file into one sentence with the line."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if path is None:
            raise
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path.resolve()]
        if isinstance(error, SyntaxError) and error.filename == str(path.resolve()):
            lines.append(error.lineno)
        if not lines:
            raise
        why = str(error).strip().split("\n")[0]
        raise ValueError(f"{path}, line {lines[-1]}: {type(error).__name__}: {why}") from error


def digest(path: Path) -> str:
    """What a results folder remembers of the file, so that lanes of two versions of a claim never mix."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
