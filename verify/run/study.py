"""A study: one TOML file with all that a run depends on. Every results folder holds the one that repeats it."""

from __future__ import annotations

import dataclasses
import json
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gaunlearn_jax.store.disk import seal
from verify.instances.grid import Grid

NAME = "study.toml"
#: what of a run's environment its numbers depend on
DEPENDS = ("backend", "devices", "dtype", "random", "matmul_precision", "xla_flags", "python", "processor", "packages",
           "code", "revision", "chunk", "certify_on")  # fmt: skip
_FIELDS = {field.name for field in dataclasses.fields(Grid)}


@dataclasses.dataclass(frozen=True)
class Study:
    """Claims by name, files of a user's own with their SHA-256, the grid, lanes at once, and what made it."""

    claims: tuple[str, ...]
    grid: Grid
    own: tuple[dict[str, str], ...] = ()
    chunk: int | None = None
    made_with: dict[str, Any] = dataclasses.field(default_factory=dict, hash=False)


def write(folder: Path, claims: Sequence[str], grid: Grid, environment: dict[str, Any]) -> None:
    """Write folder/study.toml if there is none."""
    if (folder / NAME).exists():
        return
    lines = ["# repeat it with: gaunlearn run --config study.toml --out DIR", f"claims = {_value(list(claims))}"]
    if environment.get("chunk") is not None:
        lines.append(f"chunk = {_value(environment['chunk'])}")
    tables = {"grid": {name: value for name, value in grid.as_json().items() if value is not None}}
    tables["made_with"] = {name: environment[name] for name in DEPENDS if environment.get(name) is not None}
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {_value(value)}" for key, value in table.items())]
    for row in environment.get("own", ()):
        lines += ["", "[[own]]", *(f"{key} = {_value(value)}" for key, value in row.items())]
    seal(folder, NAME, ("\n".join(lines) + "\n").encode(), writer=f"{os.getpid()}-")


def _value(value: Any) -> str:
    """TOML of a number, a text, a list or a table of these (JSON's texts and lists are TOML's)."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_value(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def read(path: Path) -> Study:
    """The study in a file; ValueError with what is wrong."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"--config {path}: there is no such file; every results folder holds a {NAME}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"--config {path}: no TOML file ({error})") from None
    unknown = sorted(set(given) - {"claims", "grid", "own", "chunk", "made_with"})
    grid, claims = given.get("grid", {}), given.get("claims", [])
    if not isinstance(grid, dict) or not isinstance(claims, list):
        raise ValueError(f"--config {path}: expected claims = [names] and a table [grid]")
    unknown += [f"grid.{name}" for name in sorted(set(grid) - _FIELDS)]
    if unknown:
        raise ValueError(
            f"--config {path}: unknown {', '.join(unknown)}; known in [grid]: {', '.join(sorted(_FIELDS))}"
        )
    own = given.get("own", [])
    if not isinstance(own, list) or not all(isinstance(row, dict) and isinstance(row.get("file"), str) for row in own):
        raise ValueError(f"--config {path}: expected [[own]] tables with file = NAME")
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in grid.items()}
    try:
        made = Grid(**fields)
    except TypeError as error:
        raise ValueError(f"--config {path}: a value of [grid] is of the wrong kind ({error})") from None
    return Study(tuple(map(str, claims)), made, tuple(own), given.get("chunk"), dict(given.get("made_with", {})))


def differences(study: Study, environment: dict[str, Any]) -> list[str]:
    """What is different here from where the study was made, in words: numbers may then differ in their last bits."""
    out = []
    for name, there in study.made_with.items():
        here = json.loads(json.dumps(environment.get(name)))
        if isinstance(there, dict) and isinstance(here, dict):
            out += [f"{key} {there[key]} there, {here.get(key)} here" for key in there if there[key] != here.get(key)]
        elif there != here:
            out.append(f"{name} {there} there, {here} here")
    found = {row["file"]: row["sha256"] for row in environment.get("own", ())}
    out += [f"{row['file']} has changed" for row in study.own if row.get("sha256") != found.get(row["file"])]
    return out
