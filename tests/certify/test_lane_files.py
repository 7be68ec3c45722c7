"""Files of lanes of a run whose model has a slope: every statement is derived and proved."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("flint")

from verify.certify import lane_files
from verify.certify.lane_files import Target
from verify.exact import certificate_file, statements
from verify.instances.grid import Grid
from verify.instances.records import THETAS, Shape


def test_leaky_lanes_are_proved_and_a_wrong_side_is_not(tmp_path: Path) -> None:
    shape = Shape("leaky:slope=0.3", 5, 6)
    (cell,) = Grid(dims=(1e4,), points=(5,), neurons=(6,), seeds=1).cells(shape.source)
    names = {"projection": "retrain/distance", "span": "identity/separation", "retrain": "identity/norm"}
    wanted = [
        Target(shape, 0, cell, theta, 1, kind, None, (name, 0.0, 1.0), True)
        for theta in THETAS
        for kind, name in names.items()
    ]
    paths, refused = lane_files.write(tmp_path, wanted)
    assert not refused
    for path in paths:
        document = certificate_file.read(path)[0]
        assert document["slope"] == 0.3
        answers = {s.name: s.answer for s in statements.check_file(path).statements}
        assert answers.pop("inequality.stated") == "refuted"  # the sides 0 and 1 are made up
        assert set(answers.values()) == {"proved"}, path.name
