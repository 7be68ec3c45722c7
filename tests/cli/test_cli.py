"""The command: exit codes, mutations that must fail, files, bad options."""

from __future__ import annotations

import dataclasses
import json
from importlib import metadata

import jax.numpy as jnp
import numpy as np
import pytest

import gaunlearn_jax as ga
from gaunlearn_jax import sweep
from verify.cli import main, violations
from verify.instances.grid import Grid
from verify.report.console import console
from verify.run import environment
from verify.run.plan import Place
from verify.suites import suite

SMALL = ["--points", "6", "--neurons", "8", "--forget", "1", "--seeds", "8"]


@pytest.fixture
def fresh_traces():
    """Forget traced lanes before and after, so that a monkeypatched function is really traced."""

    def clear():
        suite.lane.cache_clear()
        sweep.compiled.cache_clear()

    clear()
    yield
    clear()


def run(*arguments: str) -> int:
    return main.main(["run", *arguments])


def test_both_regimes_pass_and_the_summary_follows_the_contract(tmp_path):
    out = tmp_path / "results"
    assert run("linear", "relu", "--dims", "1e8,1e13", *SMALL, "--out", str(out)) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["verdict"] == "pass"
    assert summary["environment"]["dtype"] == "float64"
    rows = summary["claims"]
    keys = {"claim", "model", "theta", "certificate", "strength", "quantity", "grid", "worst_ratio", "worst_seed"}
    for row in rows:
        assert keys <= set(row)
        counts = [row[v.name.lower()] for v in ga.Verdict]
        assert sum(counts) == 8
        assert row["violated"] == 0
    coarse = [r for r in rows if r["strength"] == "coarse" and r["claim"] == "relu" and r["theta"] == "limit"]
    at = {r["grid"]["d"]: r for r in coarse if r["quantity"] == "epsilon"}
    assert at[1e8]["discriminating"] == 0.0  # doing nothing passes it there
    assert at[1e13]["holds"] == 8
    assert at[1e13]["discriminating"] > 0.9
    assert all(r["discriminating"] > 0.9 for r in rows if r["strength"] == "sharp" and r["claim"] == "relu")


def test_a_second_run_resumes_and_another_grid_is_refused(tmp_path, capsys):
    out = str(tmp_path / "results")
    first = ["linear", "--dims", "1e8", *SMALL, "--out", out]
    assert run(*first) == 0
    parts = {p: p.stat().st_mtime_ns for p in (tmp_path / "results").glob("*/part-*.npy")}
    assert parts
    pytest.importorskip("flint")
    assert run(*first, "--exact", "worst") == 0
    proofs = json.loads((tmp_path / "results" / "summary.json").read_text())["proofs"]
    assert proofs["files"] == proofs["proved"] > 10
    assert len(list((tmp_path / "results" / "certificates").glob("*.json"))) == proofs["files"]
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "results").glob("*/part-*.npy")} == parts
    assert run("linear", "--dims", "1e9", *SMALL, "--out", out) == 2
    assert "grid.cells" in capsys.readouterr().err


def test_lanes_of_other_code_are_read_but_not_added_to(tmp_path, capsys, monkeypatch):
    out = str(tmp_path / "results")
    first = ["linear", "--dims", "1e8", *SMALL, "--out", out]
    with monkeypatch.context() as earlier:
        earlier.setattr(environment, "source_digest", lambda: "0" * 64)
        assert run(*first) == 0
    before = {p: p.read_bytes() for p in (tmp_path / "results").glob("*/*")}
    capsys.readouterr()
    assert run(*first) == 2
    said = capsys.readouterr().err
    assert f'the folder has "{metadata.version("gaunlearn-jax")}+{"0" * 16}"' in said
    assert "give another folder or resume with the code that began it" in said
    assert {p: p.read_bytes() for p in (tmp_path / "results").glob("*/*")} == before
    assert main.main(["report", out]) == 0
    assert run("--config", f"{out}/study.toml", "--out", f"{out}-again") == 0
    assert f"code {metadata.version('gaunlearn-jax')}+{'0' * 16} there" in capsys.readouterr().out


def broken(kind: str):
    """gradient_ascent with the wrong sign, no step at all, or the step of the next point."""
    make = ga.unlearn.gradient_ascent

    def step(net, data, point, forget, scale=1.0, **options):
        other = jnp.roll(forget, 1) if kind == "point" else forget
        after = make(net, data, point, other, scale, **options)
        if kind == "point":
            return after
        factor = {"sign": -1.0, "none": 0.0}[kind]
        move = after.params - point.params
        moved_z = after.preactivations - point.preactivations
        return dataclasses.replace(
            after, params=point.params + factor * move, preactivations=point.preactivations + factor * moved_z
        )

    return step


@pytest.mark.parametrize("claim", ["linear", "relu"])
@pytest.mark.parametrize("kind", ["sign", pytest.param("none", marks=pytest.mark.slow), "point"])
def test_a_broken_step_fails_the_suite(monkeypatch, fresh_traces, kind, claim):
    reported = []  # their files have tests of their own
    monkeypatch.setattr(violations, "keep", lambda folder, rows, *_: reported.extend(rows) or [])
    monkeypatch.setattr(ga.unlearn, "gradient_ascent", broken(kind))
    assert run(claim, "--dims", "1e12", *SMALL) == 1
    assert reported
    assert all(row["violated"] for row in reported)


@pytest.fixture
def worst_case_only(monkeypatch):
    """The claim relu with its worst-case bounds alone."""
    from verify.suites import registry, relu

    def evaluate(e):
        return {name: c for name, c in relu.evaluate(e).items() if "/sharp/" in name or "/coarse/" in name}

    only = dataclasses.replace(relu.SUITE, evaluate=evaluate)
    monkeypatch.setattr(registry.CLAIMS, "_rows", {"relu": only})


def test_a_grid_where_nothing_applies_is_no_evidence(worst_case_only, capsys):
    """m = 6, n = 8 at d = 30: every worst-case hypothesis fails; with only those registered the run is empty."""
    assert run("relu", "--dims", "30", *SMALL) == 3
    assert "no evidence" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rely"], "did you mean relu"),
        (["--dimz", "1e4"], "did you mean --dims"),
        (["--dims", "x"], "comma-separated list of numbers"),
        (["--dims", ""], "--dims is empty"),
        (["--dims", "1e16"], "1e+15"),
        (["--dims", "nan"], "expected"),
        (["--dims", "5", "--points", "8"], "expected 9 <= d"),
        (["--dims", "1e4,1e4"], "repeats a value"),
        (["--points", "1"], "at least 2 points"),
        (["--forget", "10"], "1 <= k < m"),
        (["--forget", "0"], "1 <= k < m"),
        (["--neurons", "1"], "at least 2"),
        (["--seeds", "0"], "at least one"),
        (["--seed-start", "4294967296"], "2^32"),
        (["--seed-start", "-1"], "at least one"),
        (["--chunk", "0", "--dims", "1e8", "--seeds", "2"], "chunk is 0"),
        (["--loss", "hinge"], "exponential"),
        (["--shard", "2/2", "--out", "x"], "I/N"),
        (["--shard", "0/2"], "needs --out"),
        (["--reproduce", "relu:1"], "CLAIM:CELL:SEED"),
        (["--quick", "--full"], "not allowed with"),
    ],
)
def test_bad_options_are_named(arguments, message, capsys):
    try:
        code = run(*arguments)
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_an_unwritable_folder_is_refused_before_computing(tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert run("linear", "--out", str(blocked / "results")) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_dry_run_and_list_compute_nothing(capsys):
    assert run("--dims", "1e4,1e8", "--dry-run") == 0
    assert "nothing was computed" in capsys.readouterr().out
    assert main.main(["list"]) == 0
    listed = capsys.readouterr().out
    assert "relu" in listed
    assert "Theorem R" in listed


def test_reproduce_prints_the_lane_of_a_row(capsys, monkeypatch):
    monkeypatch.setattr(console, "width", 150)
    assert run("--reproduce", "linear:linear/limit/m=6/n=1/k=1/d=1e8:3") == 0
    shown = capsys.readouterr().out
    assert "projection" in shown
    assert "holds" in shown
    assert "pass: no bound is violated" in shown


def test_reproduce_of_a_violated_lane_ends_as_its_run(monkeypatch, fresh_traces, capsys):
    monkeypatch.setattr(violations, "keep", lambda *_: [])
    monkeypatch.setattr(ga.unlearn, "gradient_ascent", broken("sign"))
    assert run("--reproduce", "linear:linear/limit/m=6/n=1/k=1/d=1e12:3") == 1
    assert "fail: at least one bound is violated" in capsys.readouterr().out


@pytest.mark.slow
def test_reproduce_of_a_lane_where_nothing_applies_is_no_evidence(worst_case_only, capsys):
    assert run("--reproduce", "relu:relu/limit/m=6/n=8/k=1/d=30:1") == 3
    assert "no evidence" in capsys.readouterr().out


def test_reproduce_of_an_unsolved_lane_is_no_evidence(monkeypatch, fresh_traces, capsys):
    judge = ga.bounds.judge
    monkeypatch.setattr(ga.bounds, "judge", lambda *given: judge(*given[:-1], given[-1] & False))
    assert run("--reproduce", "linear:linear/limit/m=6/n=1/k=1/d=1e8:3") == 3
    assert "undecided" in capsys.readouterr().out


def test_reproduce_shows_and_judges_only_what_the_claim_speaks_of(capsys, monkeypatch):
    """A conjecture about exact KKT points that is false of trained ones."""
    from verify.suites import linear, registry
    from verify.suites.check import check

    def evaluate(e):
        return {"projection/own/delta": check(e.point.delta, 1e-9)}

    only = dataclasses.replace(linear.SUITE, evaluate=evaluate, thetas=("limit",))
    monkeypatch.setattr(registry.CLAIMS, "_rows", {"linear": only})
    assert run("--reproduce", "linear:linear/m=6/n=1/k=1/d=1e8:3") == 0
    assert "violated " not in capsys.readouterr().out


@pytest.mark.slow
def test_the_same_instance_comes_out_of_any_grid():
    from verify.suites import linear

    def lane_of(grid, d, seed):
        (block,) = lanes_of(grid)
        at = np.flatnonzero((block.d == d) & (block.seed == seed))[0]
        return np.asarray(block.results["linear"]["projection/instance/epsilon"].lhs)[at]

    def lanes_of(grid):
        from verify.run.compute import run_blocks

        return run_blocks((linear.SUITE,), grid, Place(chunk=4))

    wide = Grid(dims=(1e4, 1e8), points=(6,), seeds=6, forget=(1,))
    narrow = Grid(dims=(1e8,), points=(6,), seeds=3, seed_start=3, forget=(1,))
    np.testing.assert_allclose(lane_of(wide, 1e8, 4), lane_of(narrow, 1e8, 4), rtol=1e-9)
