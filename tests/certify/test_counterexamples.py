"""Every violation comes with a file: derived where the checker knows the inequality, else as the numbers stand."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("flint")

from verify.certify import lane_files, violations
from verify.cli import main
from verify.cli.violations import keep
from verify.exact import certificate_file, statements
from verify.exact.certificate_file import INEQUALITIES
from verify.instances.grid import Grid
from verify.run.compute import run_blocks
from verify.run.rows import rows
from verify.suites import registry
from verify.suites.check import Check, check
from verify.suites.suite import Suite

GRID = Grid(dims=(1e4, 1e9), points=(5,), neurons=(6,), seeds=3)


def judged_only(suite: Suite) -> Suite:
    """The suite without what it keeps for pictures (networks trained again, among it)."""
    if suite.evaluate is None:
        return suite
    evaluate = suite.evaluate
    return dataclasses.replace(
        suite, evaluate=lambda e: {name: c for name, c in evaluate(e).items() if isinstance(c, Check)}
    )


CLAIMS = ["linear", "relu", "retrain", "identity", "estimators", "activations", "multipliers", "worthwhile"]
SUITES = tuple(judged_only(suite) for suite in registry.select(CLAIMS))


LINEAR = dataclasses.replace(registry.select(["multipliers"])[0], models=("linear",))


@pytest.fixture(scope="module")
def table():
    """The rows of one claim that is soon computed; those of the prior bounds are unknown to the checker."""
    return rows(run_blocks((LINEAR,), GRID), (LINEAR,), GRID)


@pytest.mark.slow
def test_files_of_healthy_lanes_are_proved_whole(tmp_path):
    """Had the floats said `violated`, this is what the checker would say: that both sides are right and it holds."""
    table = rows(run_blocks(SUITES, GRID), SUITES, GRID)
    known = [row for row in table if violations.target_of(row) and row["holds"]]
    paths = violations.write(tmp_path, known, GRID.as_json())
    seen = set()
    for path in paths:
        document, _ = certificate_file.read(path)
        # how far theta is from theta* is claimed of any theta, also of one that training left infeasible
        free = document["inequality"] and document["inequality"]["name"].startswith("identity")
        open_ = [s for s in statements.check_file(path).statements if s.answer != "proved"]
        assert not [s for s in open_ if not (free and s.name == "original.feasibility")], path.name
        seen.add((document["inequality"] or document["bound"])["name"])
    # the step's fraction and the estimated step belong to the adversary alone, the rest has files of its own
    others = {"step_size/lower", "estimators/epsilon"}
    others |= {name for name in INEQUALITIES if name.startswith(("unique/", "softmax/", "entries/"))}
    assert seen == (set(INEQUALITIES) - others) | {"projection", "span", "scaling"}


def test_every_row_has_a_file_and_names_stay_inside_the_folder(table, tmp_path):
    odd = [row | {"claim": "../own", "worst_rhs": float("-inf")} for row in table[:3]]
    other = [row for row in table if not violations.target_of(row) and row["worst_seed"] is not None]
    assert other
    paths = violations.write(tmp_path, odd + other, GRID.as_json(), ["a file.py"])
    assert len(set(paths)) == len(odd + other)
    assert all(path.parent == tmp_path and path.exists() for path in paths)
    codes = [statements.check_file(path).exit_code for path in paths]
    assert codes == [1] * 3 + [0] * len(other)
    assert "--with 'a file.py' --reproduce" in certificate_file.read(paths[3])[0]["reproduce"]


ARGUMENTS = ["--points", "5", "--dims", "1e8", "--seeds", "3"]


@pytest.mark.slow
def test_a_wrong_bound_is_found_to_be_a_false_alarm(tmp_path, monkeypatch, capsys):
    """Half of Lemma M's bound is violated; the file says that the lemma holds and the stated side is not its own."""
    from gaunlearn_jax.theory import bounds

    true = bounds.multiplier_bounds

    def false(*given, **sizes):
        lower, upper, defined = true(*given, **sizes)
        return lower, upper / 2, defined

    monkeypatch.setattr(bounds, "multiplier_bounds", false)
    monkeypatch.setattr(registry.CLAIMS, "_rows", {"multipliers": LINEAR})
    assert main.main(["run", "multipliers", *ARGUMENTS, "--out", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "refuted (inequality.stated)" in shown
    kept = json.loads((tmp_path / "summary.json").read_text())["counterexamples"]
    assert main.main(["report", str(tmp_path)]) == 0
    assert kept[0] in (tmp_path / "report.html").read_text()
    files = [tmp_path / name for name in kept if "multipliers-upper" in name]
    assert len(files) == 2  # two thetas
    for path in files:
        answers = {s.name: s.answer for s in statements.check_file(path).statements}
        assert answers.pop("inequality.stated") == "refuted"
        assert set(answers.values()) == {"proved"}


def test_a_false_claim_of_ones_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    example = Path(__file__).parents[2] / "examples" / "my_claim.py"
    assert main.main(["run", "conjecture", "--with", str(example), *ARGUMENTS]) == 1
    (path, *_) = (tmp_path / "counterexamples").glob("conjecture-*.json")
    assert main.main(["check", str(path)]) == 1
    assert "both sides as stated, none derived" in capsys.readouterr().out
    command = certificate_file.read(path)[0]["reproduce"]
    assert command.startswith(f"gaunlearn run --with {example} --reproduce conjecture:linear/")


def test_a_chance_over_lanes_has_the_command_of_its_cell(tmp_path):
    suite = Suite(
        "chance", "never", "none", models=("linear",),
        per_instance=lambda net, record, shape: {"phi": record.phi},
        per_cell=lambda shape, cell, values: {"all/mean/phi": check(1.0, np.mean(values["phi"]))},
    )  # fmt: skip
    table = rows(run_blocks((suite,), GRID), (suite,), GRID)
    paths = violations.write(tmp_path, table, GRID.as_json())
    assert len(paths) == 2
    assert [statements.check_file(path).exit_code for path in paths] == [1, 1]
    assert "--dims 1e4 --points 5 --source gaussian --seeds 3" in certificate_file.read(paths[0])[0]["reproduce"]


def test_dependent_points_fall_back_to_the_numbers(table, tmp_path, monkeypatch):
    def singular(*_, **__):
        raise certificate_file.CertificateError("gram: dependent points")

    monkeypatch.setattr(lane_files, "document_of", singular)
    row = next(row for row in table if row["quantity"] == "upper")
    (path,) = violations.write(tmp_path, [row], GRID.as_json())
    assert certificate_file.read(path)[0]["format"] == certificate_file.COMPARISON_FORMAT


def test_a_folder_that_cannot_be_written_hides_nothing(table, tmp_path, capsys):
    (tmp_path / "out").write_text("a file in the way")
    assert keep(tmp_path / "out", table[:1], GRID.as_json(), None) == []
    assert "cannot be written" in capsys.readouterr().out


def test_rows_keep_the_sides_of_their_worst_lane(table):
    for row in table:
        if row["worst_ratio"] not in (None, 0.0) and jnp.isfinite(row["worst_ratio"]):
            assert row["worst_lhs"] / row["worst_rhs"] == pytest.approx(row["worst_ratio"])
