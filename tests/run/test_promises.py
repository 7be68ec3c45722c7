"""What docs/running.md promises of real sweeps: kills, devices, processes, the stamp. Most of it only on request."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import gaunlearn_jax as ga
from gaunlearn_jax.store import run_record, strict_json
from verify.cli import main
from verify.run import columns, environment
from verify.suites.check import Check

ROOT = Path(__file__).parents[2]
#: the command `gaunlearn` with smaller parts, so that a short sweep has many of them
SMALL_PARTS = """
import sys
from verify.cli import main
from verify.run import compute
compute.PART_LANES = {}
sys.exit(main.main(sys.argv[1:]))
"""
#: two models' draws beside the claim relu: bits that must not depend on where they were drawn
DRAWS = """
from verify.suites.suite import Suite

def draws(net, record, shape):
    d = record.data
    return {"points": d.points, "labels": d.labels, "order": record.order, "key": record.key, "start": record.train_key}

SUITE = Suite("draws", "the same instance everywhere", "tests", per_instance=draws, models=("relu",))
"""


def start(folder: Path, *arguments: str, devices: int = 1, part: int = 32, **environment: str) -> subprocess.Popen[str]:
    """`gaunlearn run relu ...` in `folder`, on forced CPU devices."""
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    mine = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)} | environment
    mine["JAX_COMPILATION_CACHE_DIR"] = str(jax.config.jax_compilation_cache_dir)
    mine["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    small = ("--points", "4", "--neurons", "4", "--forget", "1", "--chunk", "32", "--out", "out")
    command = [sys.executable, "-c", SMALL_PARTS.format(part), "run", "relu", *arguments, *small]
    with (folder / "log").open("a") as log:
        return subprocess.Popen(command, cwd=folder, env=os.environ | mine, stdout=log, stderr=log, text=True)


def finish(child: subprocess.Popen[str], folder: Path) -> None:
    code = child.wait(timeout=500)
    assert code in (0, 3), (folder / "log").read_text()[-2000:]  # 3: so small networks are often not separated


def sweep(folder: Path, *arguments: str, **options: int) -> Path:
    """A whole run; its results folder."""
    folder.mkdir(exist_ok=True)
    finish(start(folder, *arguments, **options), folder)  # type: ignore[arg-type]
    return folder / "out"


def parts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("out/*/part-*.npy")}


def wait_for_parts(child: subprocess.Popen[str], folder: Path, more_than: int) -> None:
    while child.poll() is None and len(list(folder.glob("out/*/part-*.npy"))) <= more_than:
        time.sleep(0.01)


# --- (a) kill -9 --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kills", [50])
def test_a_sweep_killed_50_times_is_the_uninterrupted_one(tmp_path: Path, kills: int) -> None:
    """Every other kill falls while a process starts and traces, the others while it computes and seals parts."""
    grid = ("--dims", "1e8,1e12", "--seeds", str(160 * kills))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    sweep(whole, *grid)
    killed.mkdir()
    generator = random.Random(7)
    seen = []
    for kill in range(kills):
        before = len(parts(killed))
        child = start(killed, *grid)
        if kill % 2:
            wait_for_parts(child, killed, before)
            time.sleep(generator.uniform(0, 0.6))
        else:
            time.sleep(generator.uniform(0, 4))
        child.send_signal(signal.SIGKILL)
        child.wait()
        seen.append(len(parts(killed)))
        assert parts(killed).items() <= parts(whole).items()
    assert seen == sorted(seen)
    assert len(set(seen)) >= kills // 3
    assert seen[-1] < len(parts(whole))
    sweep(killed, *grid)
    assert parts(killed) == parts(whole)
    one, other = (run_record.read_record(next(folder.glob("out/*"))) for folder in (killed, whole))
    assert dataclasses.replace(one, notes=[]) == dataclasses.replace(other, notes=[])
    changed = {key for note in one.notes for key in note["differences"]}
    assert changed <= {"revision"}  # a commit while the test runs
    names = {path.name.split("-")[0] for path in (killed / "out").rglob("*") if path.is_file()}
    assert names == {"part", "run", "run.json", "study.toml", "summary.json"}
    tables = [json.loads((folder / "out/summary.json").read_text())["claims"] for folder in (killed, whole)]
    assert tables[0] == tables[1]


# --- (b) devices and processes ------------------------------------------------------------------------------


def compared(one: Path, other: Path) -> tuple[int, int]:
    """(verdicts, how many differ): only to or from inconclusive; the draws are the same bits."""
    (left,), (right,) = columns.load_blocks(one), columns.load_blocks(other)
    assert np.array_equal(left.seed, right.seed)
    for name, values in left.results["draws"].items():
        assert np.asarray(values).tobytes() == np.asarray(right.results["draws"][name]).tobytes(), name
    total = differing = 0
    for name, check in left.results["relu"].items():
        if isinstance(check, Check):
            pair = [np.asarray(c.verdict()) for c in (check, right.results["relu"][name])]
            moved = pair[0] != pair[1]
            assert np.all((pair[0] == ga.Verdict.INCONCLUSIVE) | (pair[1] == ga.Verdict.INCONCLUSIVE) | ~moved), name
            total, differing = total + moved.size, differing + int(moved.sum())
    return total, differing


@pytest.fixture(scope="module")
def one_device(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...]]:
    """A sweep of 256 lanes on one device, and its command."""
    folder = tmp_path_factory.mktemp("one")
    (folder / "draws.py").write_text(DRAWS)
    grid = ("draws", "--with", str(folder / "draws.py"), "--dims", "1e4,1e12", "--seeds", "128")
    return sweep(folder, *grid), grid


@pytest.mark.slow
def test_eight_devices_agree_with_one(tmp_path: Path, one_device) -> None:
    out = sweep(tmp_path / "eight", *one_device[1], devices=8)
    assert strict_json.parse_json((out / "summary.json").read_bytes(), "summary")["environment"]["mesh"] == {"lanes": 8}
    total, differing = compared(one_device[0], out)
    print(f"8 devices: {differing} of {total} verdicts differ")
    assert total == 256 * 2 * 15
    assert differing <= 0.01 * total


@pytest.mark.slow
def test_two_shards_of_which_one_is_killed_agree_with_one_process(tmp_path: Path, one_device) -> None:
    grid = one_device[1]
    first = start(tmp_path, *grid, "--shard", "0/2")
    second = start(tmp_path, *grid, "--shard", "1/2")
    wait_for_parts(second, tmp_path, 0)
    second.send_signal(signal.SIGKILL)
    second.wait()
    second = start(tmp_path, *grid, "--shard", "1/2")
    for child in (first, second):
        finish(child, tmp_path)
    total, differing = compared(one_device[0], sweep(tmp_path, *grid))
    print(f"2 processes: {differing} of {total} verdicts differ")
    assert parts(tmp_path) == parts(one_device[0].parent)  # the same layout: even the same bits


# --- (c) jax.distributed ------------------------------------------------------------------------------------


def address() -> str:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True], ids=["both finish", "one is killed"])
def test_two_processes_of_jax_distributed(tmp_path: Path, one_device, killed: bool) -> None:
    grid, where = one_device[1], address()
    first, second = (
        start(tmp_path, *grid, "--distributed", "--shard", f"{i}/2", JAX_COORDINATOR_ADDRESS=where) for i in (0, 1)
    )
    if killed:
        wait_for_parts(second, tmp_path, 0)
        second.send_signal(signal.SIGKILL)
        second.wait()
        first.wait(timeout=500)  # finishes its share, then JAX aborts it; what it sealed stays
        assert any("part-000000" in name for name in parts(tmp_path))
    else:
        for child in (first, second):
            finish(child, tmp_path)
        assert len(parts(tmp_path)) == 8
    sweep(tmp_path, *grid)
    assert parts(tmp_path) == parts(one_device[0].parent)


def test_distributed_without_a_cluster_says_what_to_do(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)
    assert main.main(["run", "relu", "--distributed", "--shard", "0/2", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "JAX_COORDINATOR_ADDRESS=HOST:PORT" in said
    assert main.main(["run", "relu", "--distributed"]) == 2
    assert "--distributed needs --out" in capsys.readouterr().err


# --- (e) the stamp ------------------------------------------------------------------------------------------


def test_the_stamp_says_what_the_numbers_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    found = environment.environment(["run", "relu", "--out", "a b"], 64)
    strict_json.check_json(found, "environment")
    assert found["backend"] == jax.default_backend()
    assert found["devices"] == [d.device_kind for d in jax.local_devices()]
    assert found["mesh"] == {"lanes": len(jax.local_devices())}
    assert (found["dtype"], found["matmul_precision"], found["random"]) == ("float64", "highest", "threefry2x32")
    assert found["command_line"] == "gaunlearn run relu --out 'a b'"
    assert found["chunk"] == 64
    assert {"jax", "jaxlib", "numpy", "optax", "gaunlearn-jax"} <= set(found["packages"])
    assert found["packages"]["jax"] == jax.__version__
    version, _, digest = found["code"].partition("+")
    assert (version, digest) == (found["packages"]["gaunlearn-jax"], environment.source_digest()[:16])
    assert found["processor"]
    assert found["process"] == [0, 1]
    if (ROOT / ".git").exists():
        assert len(found["revision"].removesuffix("-dirty")) == 40
    monkeypatch.setattr(environment, "GIT", ["no-such-program"])
    assert environment.environment([], None)["revision"] is None


def test_the_digest_is_that_of_the_code_that_makes_lanes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verify, library = tmp_path / "verify", tmp_path / "gaunlearn_jax"
    for folder in (verify / "run", verify / "suites", verify / "report", library / "kkt", library / "audit"):
        folder.mkdir(parents=True)
        (folder / "x.py").write_text("1")
    (library / "__init__.py").write_text("1")
    monkeypatch.setattr(environment, "__file__", str(verify / "run" / "environment.py"))
    monkeypatch.setattr(environment.gaunlearn_jax, "__file__", str(library / "__init__.py"))
    digest = environment.source_digest.__wrapped__
    seen = [digest()]
    for reads in (verify / "report", library / "audit"):
        (reads / "x.py").write_text("2")
        assert digest() == seen[0]
    for makes in (verify / "suites" / "x.py", library / "kkt" / "x.py", library / "__init__.py"):
        makes.write_text("2")
        seen.append(digest())
    (verify / "suites" / "x.py").rename(verify / "suites" / "y.py")
    assert len({*seen, digest()}) == 5


def test_what_makes_lanes_uses_nothing_that_the_digest_leaves_out() -> None:
    files = [path for folder in environment.COMPUTING for path in (ROOT / "verify" / folder).glob("*.py")]
    aside = re.compile(r"gaunlearn_jax\.(audit|functions)|ga\.(audit|homogeneous|first_layer)")
    found = [path.name for path in files if aside.search(path.read_text())]
    assert len(files) > 40
    assert found == []
