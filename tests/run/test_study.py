"""Studies: what a run depends on in one file, repeated bit for bit; bad files are one sentence."""

from __future__ import annotations

import tomllib

import pytest

from verify.cli import main
from verify.instances.grid import Grid
from verify.run import study

ENVIRONMENT = {
    "backend": "cpu", "devices": ["cpu", "cpu"], "packages": {"jax": "1.2", "numpy": "3"}, "chunk": 16,
    "revision": None, "own": [{"file": 'my "own".py', "sha256": "00"}], "xla_flags": "--a=\\b", "command_line": "x",
}  # fmt: skip
GRID = Grid(dims=(1e4, 1e15), points=(4,), sources=("student:nu=3,5",), models=("linear",), seeds=3)


def test_a_study_reads_as_it_was_written(tmp_path):
    study.write(tmp_path, ["linear", "identity"], GRID, ENVIRONMENT)
    text = (tmp_path / study.NAME).read_text()
    assert tomllib.loads(text)["grid"]["dims"] == [1e4, 1e15]
    found = study.read(tmp_path / study.NAME)
    assert (found.claims, found.grid, found.chunk) == (("linear", "identity"), GRID, 16)
    assert found.own == ({"file": 'my "own".py', "sha256": "00"},)
    assert study.differences(found, ENVIRONMENT) == []
    study.write(tmp_path, ["relu"], Grid(), {})
    assert (tmp_path / study.NAME).read_text() == text  # the first stays


def test_what_differs_elsewhere_is_said(tmp_path):
    study.write(tmp_path, ["linear"], GRID, ENVIRONMENT)
    there = study.read(tmp_path / study.NAME)
    here = ENVIRONMENT | {"packages": {"jax": "1.3", "numpy": "3"}, "devices": ["gpu"], "own": []}
    assert study.differences(there, here) == [
        "devices ['cpu', 'cpu'] there, ['gpu'] here", "jax 1.2 there, 1.3 here", 'my "own".py has changed',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no such file"),
        ("claims = [", "no TOML file"),
        ("claims = 3", "expected claims = [names]"),
        ("clams = []", "unknown clams"),
        ("[grid]\ndim = [1.0]", "unknown grid.dim; known in [grid]: dims"),
        ("[grid]\ndims = [3.0]", "--dims 3"),
        ('[grid]\nseeds = "many"', "wrong kind"),
        ('claims = ["rely"]', "did you mean relu"),
        ("own = [1]", "expected [[own]]"),
    ],
)
def test_bad_files_are_one_sentence(text, message, tmp_path, capsys):
    path = tmp_path / "study.toml"
    if text is not None:
        path.write_text(text)
    assert main.main(["run", "--config", str(path), "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_study_and_a_grid_are_not_mixed(tmp_path, capsys):
    study.write(tmp_path, ["linear"], GRID, {})
    assert main.main(["run", "relu", "--config", str(tmp_path / study.NAME), "--dims", "1e4"]) == 2
    assert "says claims, --dims itself" in capsys.readouterr().err


def test_a_study_is_repeated_bit_for_bit(tmp_path):
    first, again = tmp_path / "first", tmp_path / "again"
    asked = ["--dims", "1e8", "--points", "6", "--neurons", "8", "--forget", "1", "--seeds", "8"]
    assert main.main(["run", "linear", *asked, "--out", str(first)]) == 0
    assert main.main(["run", "--config", str(first / study.NAME), "--out", str(again)]) == 0
    one, two = (sorted(folder.glob("*/part-*.npy")) for folder in (first, again))
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in two]
    assert (first / study.NAME).read_bytes() == (again / study.NAME).read_bytes()
