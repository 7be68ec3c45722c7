"""`gaunlearn audit DATA --network FILE.py:MAKE`: the answer, and every bad protocol in one sentence."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from verify.cli import main

FILE = """
import jax.numpy as jnp
import numpy as np

def one(points, labels):
    w = np.linalg.pinv(points) @ labels
    return {"apply": lambda w, x: jnp.tanh(x @ w), "weights": w, "lipschitz": 1.0}

def deep(points, labels):
    w = np.linalg.pinv(points) @ labels
    return {"apply": lambda p, x: x @ p["in"] @ p["out"], "params": {"in": w[:, None], "out": np.ones(1)}}

def broken(points, labels):
    return missing

def no_scores(points, labels):
    return one(points, labels) | {"apply": lambda w, x: missing}

def nothing(points, labels):
    return None

def both(points, labels):
    return one(points, labels) | {"params": 1}

def unknown(points, labels):
    return one(points, labels) | {"path": 1, "forget": [1]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("network")
    (path / "net.py").write_text(FILE)
    x = np.random.default_rng(0).standard_normal((6, 40))
    np.savez(path / "d.npz", X=x, y=np.array([1, -1, 1, 1, -1, -1]))
    return path


def audit(folder, make, *arguments):
    try:
        return main.main(["audit", str(folder / "d.npz"), "--forget", "2", "--network", f"{folder}/{make}", *arguments])
    except SystemExit as error:
        return int(error.code or 0)


@pytest.mark.parametrize("make", ["one", "deep"])
def test_the_answer_is_printed_and_kept(make, folder, capsys):
    assert audit(folder, f"net.py:{make}", "--normalize", "--json", str(folder / "out.json")) == 0
    out = capsys.readouterr().out
    assert {"one": "Theorem P'", "deep": "Theorem S"}[make] in out
    kept = json.loads((folder / "out.json").read_text())
    assert out.startswith(kept["headline"])
    assert kept["forget"] == [2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        ("net.py", "expected FILE.py:MAKE"),
        ("none.py:one", "expected FILE.py:MAKE"),
        ("net.py:absent", "has no function 'absent'"),
        ("net.py:broken", "net.py, line 14: NameError: name 'missing' is not defined"),
        ("net.py:no_scores", "net.py, line 17: NameError"),
        ("net.py:nothing", "it returned NoneType, expected a dict of arguments with apply"),
        ("net.py:both", "either params .* or weights"),
        ("net.py:unknown", "it returned forget, path as well, expected some of apply, weights, x, y, patches"),
    ],
)
def test_a_bad_protocol_is_one_sentence(make, message, folder, capsys):
    assert audit(folder, make) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(message, said), said


@pytest.mark.parametrize("option", ["--model=relu", "--every-point", "--step=mean", "--seed=3", "--neurons=4"])
def test_options_of_other_models_do_not_go_with_it(option, folder, capsys):
    assert audit(folder, "net.py:one", option) == 2
    assert f"{option.partition('=')[0]} does not go with --network" in capsys.readouterr().err
