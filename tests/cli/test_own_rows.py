"""A model, a distribution and a claim of one's own, one file each, through run, list, export, report and check; and the
how-to pages that tell of them, executed."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from gaunlearn_jax.data.registry import DISTRIBUTIONS
from gaunlearn_jax.models.registry import ARCHITECTURES
from verify.cli import main
from verify.instances.grid import Grid
from verify.suites import own

ROOT = Path(__file__).parents[2]
PAGES = {"add_model": "my_model", "add_distribution": "my_distribution", "own_claim": "my_claim"}
#: where a page leaves the default grid, the test takes a small one
SMALL = {"--dims": "1e8", "--points": "5", "--neurons": "16", "--forget": "1", "--seeds": "2"}

CLAIM = '''
from verify.suites.check import check
from verify.suites.suite import Evaluation, Suite


def residual(e: Evaluation):
    """The step leaves less than the norm of the model, and nothing at all (false)."""
    c = e.certificates["projection"]
    own, none = check(c.epsilon, c.norm), check(c.epsilon, 0.0, c.error)
    return {"projection/own/epsilon": own, "projection/none/epsilon": none}


MINE = Suite(name="residual", statement="the step leaves something", source="a test", evaluate=residual)
'''


def blocks_of(page: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", (ROOT / "docs" / "howto" / f"{page}.md").read_text(), re.DOTALL)


@pytest.mark.parametrize(("page", "example"), PAGES.items())
def test_the_code_of_a_page_is_that_of_its_example(page, example):
    text = (ROOT / "examples" / f"{example}.py").read_text()
    for code in blocks_of(page, "python"):
        for part in re.split(r"\n\n\n", code.strip()):
            if not part.startswith(("import", "from")):
                assert part in text


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run(page, tmp_path, monkeypatch, capsys):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    commands = [
        line for block in blocks_of(page, "bash") for line in block.splitlines() if line.startswith("gaunlearn")
    ]
    assert len(commands) == 2
    for command in commands:
        words = command.split("#")[0].split()[1:]
        if words[0] == "run":
            words += [word for option, value in SMALL.items() if option not in words for word in (option, value)]
        code = main.main(words)
        assert code == (1 if page == "own_claim" and "leakage" not in words else 0), command
    if page == "own_claim":
        printed = " ".join(capsys.readouterr().out.split())
        assert re.search(r"conjecture FAILS: \d+ of \d+ comparisons violate their bound, the worst at", printed)


def test_three_files_through_every_command(tmp_path, monkeypatch, capsys):
    (tmp_path / "claim.py").write_text(CLAIM)
    monkeypatch.chdir(tmp_path)
    own = [str(ROOT / "examples" / "my_model.py"), str(ROOT / "examples" / "my_distribution.py"), "claim.py"]
    files = [word for path in own for word in ("--with", path)]
    grid = ["--dims", "1e6", "--points", "4", "--neurons", "4", "--forget", "1", "--seeds", "3"]
    asked = ["run", "residual", *files, "--models", "absolute", "--source", "uneven:ratio=1,3", *grid]
    assert main.main([*asked, "--out", "results"]) == 1
    printed = capsys.readouterr().out
    assert "absolute" in printed
    assert "source=uneven/ratio=" in printed
    rows = json.loads(Path("results/summary.json").read_text())["claims"]
    assert {row["model"] for row in rows} == {"absolute"}
    assert {(row["grid"]["source"], row["grid"]["ratio"]) for row in rows} == {("uneven", 1.0), ("uneven", 3.0)}
    assert all(row["holds"] == 3 for row in rows if row["strength"] == "own")
    assert all(row["violated"] == 3 for row in rows if row["strength"] == "none")

    reproduce = next(line for line in printed.splitlines() if "--reproduce" in line)
    assert main.main(reproduce.split()[1:]) == 1
    assert main.main(["export", "results", "--csv"]) == 0
    with open("results/lanes.csv") as file:
        table = list(csv.DictReader(file))
    assert sorted(float(row["ratio"]) for row in table) == [1.0] * 3 + [3.0] * 3
    assert main.main(["report", "results", *files]) == 0
    page = Path("results/report.html").read_text()
    assert all(word in page for word in ("residual", "absolute", "uneven", "ratio"))
    kept = sorted(map(str, Path("results/certificates").glob("*.json")))
    assert kept
    assert main.main(["check", *kept]) == 1
    assert main.main(["list", *files]) == 0
    assert "gain = 1 in" in capsys.readouterr().out
    assert "absolute" not in ARCHITECTURES
    assert "uneven" not in DISTRIBUTIONS

    # without the files the folder's names are unknown, and the sentence says which are known
    assert main.main(["figures", "results"]) == 2
    assert "unknown architecture 'absolute'; known architectures: linear, relu, leaky" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--models", "reluu"], "unknown architecture 'reluu'; did you mean relu? known architectures: linear, relu"),
        (["--models", "leaky:slope=3"], "slope is 3.0, expected one finite number with 1e-06 <= slope <= 0.999"),
        (["--models", "relu:slope=0.1"], "unknown parameter of relu 'slope'; known parameters of relu: none"),
        (
            ["--source", "gausian"],
            "unknown distribution 'gausian'; did you mean gaussian? known distributions:",
        ),
        (["--source", "mixture:signal"], "expected NAME or NAME:PARAMETER=VALUE"),
        (["--source", "mixture:noise=1"], "unknown parameter of mixture 'noise'"),
        (["--source", "mixture", "--source", "mixture:signal=0.1"], "repeats a value"),
        (["--loss", "hinge"], "unknown loss 'hinge'; known losses: exponential, logistic"),
        (["linear", "--models", "relu"], "claim linear does not speak of relu (it needs Theorem L)"),
        (["generalization", "--source", "gaussian"], "claim generalization does not speak of data from gaussian"),
        (["retrian"], "unknown claim 'retrian'; did you mean retrain? known claims: linear"),
    ],
)
def test_unknown_names_are_one_sentence(words, message, capsys):
    assert main.main(["run", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_real_points_may_be_as_many_as_their_coordinates():
    """A row answers for its own dims; those that are asked for must hold the points."""
    pytest.importorskip("sklearn")
    with own.loaded([ROOT / "examples" / "real_sets.py"]):
        grid = Grid(points=(30,), sources=("breast_cancer",)).of("breast_cancer")
        assert grid.dims == (30.0,)
        assert grid.points == (30,)
        with pytest.raises(ValueError, match="expected 31 <= d"):
            Grid(points=(30,), dims=(30.0,), sources=("breast_cancer",))
