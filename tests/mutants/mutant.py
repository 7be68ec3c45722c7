"""What a mutant is."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """`file` under the root; `tests` are arguments of pytest."""

    file: str
    text: str
    replacement: str
    tests: tuple[str, ...]


def of(file: str, tests: str, *changes: tuple[str, str]) -> list[Mutant]:
    return [Mutant(file, text, replacement, tuple(tests.split())) for text, replacement in changes]
