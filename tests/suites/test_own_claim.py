"""Claims from a user's file: the example finds its conjecture false; mistakes in the file are one sentence."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from verify.cli import main
from verify.suites import own, registry

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_claim.py"
SMALL = ["--points", "6", "--forget", "1", "--seeds", "4", "--dims", "1e8"]

HEAD = """
from verify.suites.check import check
from verify.suites.suite import Suite
def suite(name="mine", **functions):
    return Suite(name=name, statement="a statement", source="here", models=("linear",), **functions)
"""


def run(*arguments: str) -> int:
    return main.main(["run", *arguments])


@pytest.fixture
def write(tmp_path):
    def make(code: str) -> str:
        path = tmp_path / "claims.py"
        path.write_text(HEAD + textwrap.dedent(code))
        return str(path)

    return make


def test_the_example_is_found_false_and_its_repair_true(tmp_path, capsys):
    out = tmp_path / "results"
    assert run("--with", str(EXAMPLE), *SMALL, "--out", str(out)) == 1
    printed = capsys.readouterr().out
    assert f"gaunlearn run --with {EXAMPLE} --reproduce conjecture:linear/" in printed
    assert "leakage holds: the bound is " in printed
    rows = json.loads((out / "summary.json").read_text())["claims"]
    violated = {claim: sum(r["violated"] for r in rows if r["claim"] == claim) for claim in ("conjecture", "leakage")}
    assert violated["conjecture"] > 0
    assert violated["leakage"] == 0
    assert sum(r["holds"] for r in rows if r["claim"] == "leakage") == 8  # trained and limit, every seed
    assert main.main(["report", str(out)]) == 0  # without the file: statement and tables from the summary
    page = (out / "report.html").read_text()
    assert "largest inner product" in page
    assert f"--with {EXAMPLE}" in page


@pytest.mark.slow
def test_the_printed_command_finds_the_violation_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("conjecture", "--with", str(EXAMPLE), *SMALL) == 1
    command = next(line for line in capsys.readouterr().out.splitlines() if "--reproduce" in line)
    assert main.main(command.split()[1:]) == 1


def test_own_pictures_and_a_changed_file(write, tmp_path, capsys):
    path = write("""
        def draw(figure, blocks, grid):
            \"\"\"An empty picture.\"\"\"
            figure.subplots().plot([1, 2], [3, 4], label="line")
        MINE = suite(evaluate=lambda e: {"a/b/c": check(0.0, 1.0)}, draw=draw)
    """)
    out = tmp_path / "results"
    assert run("mine", "--with", path, *SMALL, "--out", str(out)) == 0
    assert main.main(["figures", str(out), "--with", path]) == 0
    assert (out / "figures" / "mine.svg").exists()
    assert main.main(["report", str(out), "--with", path]) == 0
    assert "An empty picture." in (out / "report.html").read_text()
    Path(path).write_text(Path(path).read_text() + "\n# changed\n")
    assert run("mine", "--with", path, *SMALL, "--out", str(out)) == 2  # lanes of two versions
    assert "own" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("", "nothing of its own"),
        ("from verify.suites.relu import SUITE", "nothing of its own"),
        ("MINE = suite('relu', evaluate=len)", "the claim name 'relu' is taken"),
        ("A = suite(evaluate=len)\nB = suite(evaluate=abs)", "the claim name 'mine' is taken"),
        ("MINE = suite('a b', evaluate=len)", "letters, digits"),
        ("MINE = suite()", "neither evaluate"),
        ("x = 1\ny = x / 0", "line 7: ZeroDivisionError"),
        ("import nowhere_to_be_found", "line 6: ModuleNotFoundError"),
        ("def f(:", "line 6: SyntaxError"),
        ("raise SystemExit(0)", "line 6: SystemExit"),
        ("def f(e):\n    return e.nothing\nMINE = suite(evaluate=f)", "line 7: AttributeError"),
        ("MINE = suite(evaluate=lambda e: 3)", "returned int, expected a dict"),
        ("MINE = suite(evaluate=lambda e: {'epsilon': check(0, 1)})", "certificate/strength/quantity"),
        ("MINE = suite(evaluate=lambda e: {'a/b/c': True})", "'a/b/c' is bool"),
        ("MINE = suite(evaluate=lambda e: {'a/b/c': check(e.k, [1, 2])})", "shape"),
    ],
)
def test_mistakes_are_one_sentence(code, message, write, capsys):
    path = write(code)
    assert run("--with", path, *SMALL) == 2
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert err.startswith("gaunlearn: ")
    assert message in err


def test_a_missing_file_is_named(capsys):
    assert run("--with", "nowhere.py") == 2
    assert "nowhere.py: there is no such file" in capsys.readouterr().err


def test_names_of_both_kinds_are_known():
    with own.loaded([EXAMPLE]) as mine:
        assert registry.select([], mine) == mine
        assert [s.name for s in registry.select(["leakage", "relu"], mine)] == ["relu", "leakage"]
        with pytest.raises(ValueError, match="did you mean leakage"):
            registry.select(["leakages"], mine)
    assert "leakage" not in registry.CLAIMS
