"""A user's own rows: every claim, architecture, distribution, loss and step that a Python file holds at its top level.

A step may also be a function `step(net, data, point, forget)` that returns params [n, p]; it is named after the file.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax

from gaunlearn_jax.base.registry import Registry
from gaunlearn_jax.data.registry import DISTRIBUTIONS, Distribution
from gaunlearn_jax.models.registry import ARCHITECTURES, Architecture
from gaunlearn_jax.training.losses import LOSSES, Loss
from gaunlearn_jax.unlearn import STEPS, Step, from_params
from verify.suites.registry import CLAIMS
from verify.suites.suite import Suite, lane

#: what a file may hold, and where it goes
KINDS: tuple[tuple[type, Registry[Any]], ...] = (
    (Suite, CLAIMS),
    (Architecture, ARCHITECTURES),
    (Distribution, DISTRIBUTIONS),
    (Loss, LOSSES),
    (Step, STEPS),
)
_TRACED = "; this is traced, so use jax.numpy alone (a finished model is judged by gaunlearn audit --unlearned)"
_HINT = "a Python file with a Suite, Architecture, Distribution, Loss or Step at its top level; see docs/howto"


@contextmanager
def loaded(paths: Sequence[Path]) -> Iterator[tuple[Suite, ...]]:
    """The claims of some files, in the order they are written; all their rows are registered inside the `with` alone.

    ValueError if a file has no row, fails, or reuses a name; also for what goes wrong inside the `with` in their code.
    """
    claims: list[Suite] = []
    with ExitStack() as stack:
        # compiled lanes know the steps of their time
        lane.cache_clear()
        stack.callback(lane.cache_clear)
        for path in paths:
            found = _rows(path)
            claims += [row for row in found if isinstance(row, Suite)]
            try:
                for kind, registry in KINDS:
                    stack.enter_context(registry.added(*(row for row in found if isinstance(row, kind))))
            except ValueError as error:
                raise ValueError(f"--with {path}: {error}") from None
        with blame(paths):
            yield tuple(claims)


def _rows(path: Path) -> list[Any]:
    """The rows of a file that are new."""
    path = path.resolve()
    if not path.is_file():
        raise ValueError(f"--with {path}: there is no such file; give {_HINT}")
    name = f"gaunlearn_own_{re.sub(r'[^0-9a-zA-Z]', '_', path.stem)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"--with {path}: expected {_HINT}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with blame([path]):
        spec.loader.exec_module(module)
    known = [row for _, registry in KINDS for row in registry]
    values = {id(v): v for v in vars(module).values() if isinstance(v, tuple(kind for kind, _ in KINDS))}
    found = [v for v in values.values() if all(v is not row for row in known)]
    if callable(function := vars(module).get("step")):
        found.append(step_of(step_name(path), function))
    if not found:
        raise ValueError(f"--with {path}: nothing of its own; expected {_HINT}")
    for row in found:
        if isinstance(row, Suite) and row.evaluate is row.per_instance is row.per_cell is None:
            raise ValueError(f"--with {path}: {row.name} has neither evaluate, per_instance nor per_cell")
    return found


def step_name(path: Path) -> str:
    """What the function `step` of a file is called."""
    return re.sub(r"\W", "_", path.stem)


def step_of(name: str, function: Callable[..., Any]) -> Step:
    """The row of a function that returns params."""

    def make(net: Any, data: Any, point: Any, forget: Any) -> Any:
        return from_params(net, data, point, forget, function(net, data, point, forget))

    words = (function.__doc__ or "a step of one's own").strip().split("\n")[0]
    return Step(name, words, make, needs="see the file")


@contextmanager
def blame(paths: Sequence[Path]) -> Iterator[None]:
    """Turn an exception that passed through a user's file into one sentence with the line."""
    try:
        yield
    except (Exception, SystemExit) as error:
        named = {str(path.resolve()): path for path in paths}
        places = [(named[f], f_lineno) for f, f_lineno in _places(error) if f in named]
        if not places:
            raise
        why = str(error).strip().split("\n")[0]
        hint = _TRACED if isinstance(error, jax.errors.JAXTypeError) else ""
        raise ValueError(f"{places[-1][0]}, line {places[-1][1]}: {type(error).__name__}: {why}{hint}") from error


def _places(error: BaseException) -> list[tuple[str, int | None]]:
    """(file, line) of every frame, and of a syntax error itself."""
    found = [(str(Path(f.filename)), f.lineno) for f in traceback.extract_tb(error.__traceback__)]
    return [*found, (str(error.filename), error.lineno)] if isinstance(error, SyntaxError) else found


def sources(paths: Sequence[Path]) -> list[dict[str, str]]:
    """What a results folder remembers of the files, so that lanes of two versions of a row never mix."""
    return [{"file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in paths]
