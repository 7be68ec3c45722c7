"""The table of mutants is up to date: every text is in its file once, and is changed; its tests exist."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mutants import __main__ as command
from mutants.table import MUTANTS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("number", range(len(MUTANTS)))
def test_a_mutant(number: int) -> None:
    mutant = MUTANTS[number]
    source = (ROOT / mutant.file).read_text()
    assert source.count(mutant.text) == 1, mutant
    changed = source.replace(mutant.text, mutant.replacement)
    ast.parse(changed)
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source)), mutant
    for name in mutant.tests:
        assert not name.endswith(".py") or (ROOT / name).exists(), name


def test_there_are_enough_and_none_twice() -> None:
    assert len(set(MUTANTS)) == len(MUTANTS) >= 40
    modules = {mutant.file.rsplit("/", 1)[0] for mutant in MUTANTS}
    assert modules >= {"gaunlearn_jax/theory", "gaunlearn_jax/kkt", "gaunlearn_jax/unlearn", "verify/exact"}


def test_a_word_of_no_mutant_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["kkt", "no such word", "nor this"]) == 2
    assert "contains 'no such word' or 'nor this'" in capsys.readouterr().out
