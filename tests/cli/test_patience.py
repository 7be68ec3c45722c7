"""No minute without a word: what is said, to whom, and how long the rest may take."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest

from gaunlearn_jax.base import progress
from gaunlearn_jax.kkt import host
from verify.cli import patience


def test_without_a_listener_nothing_happens_and_with_one_every_sentence_arrives():
    progress.say("nobody hears")
    said = []
    with progress.heard(said.append):
        progress.say("one")
        with progress.heard(lambda sentence: said.append("inner " + sentence)):
            progress.say("two")
        progress.say("three")
    progress.say("four")
    assert said == ["one", "inner two", "three"]


@pytest.mark.parametrize("items", [range(3), [5, 6, 7], np.arange(4)])
def test_counts_and_the_pace(items):
    said = []
    with progress.heard(said.append):
        got = []
        for item in progress.counted("point", items):
            got.append(item)
            time.sleep(0.002)
    assert got == list(items)
    assert said[0] == f"point 1 of at most {len(items)}"
    assert all(re.fullmatch(r"point \d of at most \d, about \d s left", text) for text in said[1:])


def test_lines_come_now_and_then_where_there_is_no_terminal(capsys):
    with patience.told(first=0.02, every=0.02):
        progress.say("training")
        time.sleep(0.05)
        progress.say("solving")
        time.sleep(0.1)
    err = capsys.readouterr().err
    assert "s: training" in err
    assert "s: solving" in err
    with patience.told():
        progress.say("short")
    assert capsys.readouterr().err == ""


def test_an_error_inside_stops_the_lines(capsys):
    with pytest.raises(ValueError, match="bad"), patience.told(first=0.01, every=0.01):
        raise ValueError("bad")
    before = capsys.readouterr().err
    time.sleep(0.05)
    assert capsys.readouterr().err == "", before


def test_rounds_of_a_fit_with_kinks_are_counted(unchecked):
    rng = np.random.default_rng(8)
    u, y = np.array([0.5, -0.5, 0.5, -0.5]), np.array([1.0, -1] * 4)
    x, w = rng.integers(-2, 3, (8, 5)) + 0.0, rng.integers(-2, 3, (4, 5)) + 0.0
    x[np.all(x == 0, axis=1), 0] = 1.0
    said = []
    with progress.heard(said.append):
        host.fit_multipliers(host.HostProblem(x, y, u, 0.0), w, w @ x.T, retained=np.ones(8, bool))
    assert said[0] == f"multipliers at kinks, round 1 of at most {host.ROUNDS}"
