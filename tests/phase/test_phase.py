"""Phase diagrams: the axes, the boundary where theory puts it, the store, the picture, the command."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest

from verify.cli.main import main
from verify.phase import guides, lanes, picture
from verify.phase.plane import Axis, Plane


def plane(**changes) -> Plane:
    known = {"source": "equicorrelated", "model": "linear", "x": "d=1e4,1e8", "y": "c=0.1,0.5,0.6,0.9", "seeds": 12}
    known |= changes
    return Plane(**(known | {"x": Axis.read(known["x"]), "y": Axis.read(known["y"])}))


@pytest.mark.parametrize(
    ("text", "values", "log"),
    [
        ("d=1e2..1e4:3", (100.0, 1000.0, 10000.0), True),
        ("c=0..0.9:4", (0.0, 0.3, 0.6, 0.9), False),
        ("k=1..3:9", (1.0, 2.0, 3.0), False),
        ("nu=3,1", (1.0, 3.0), False),
    ],
)
def test_axes_are_read(text, values, log) -> None:
    axis = Axis.read(text)
    assert axis.values == pytest.approx(values)
    assert axis.log is log


@pytest.mark.parametrize("text", ["d", "d=5", "=1,2", "d=2..1", "d=1..2:1", "d=a..b", "c=0,nan"])
def test_bad_axes_are_refused(text) -> None:
    with pytest.raises(ValueError, match=r"axis '.*'( has one value,|: expected) "):
        Axis.read(text)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"y": "nu=1,2"}, "unknown axis for equicorrelated"),
        ({"y": "d=1e3,1e4"}, "both axes are d"),
        ({"y": "c=0,1.5"}, "c is 1.5"),
        ({"x": "d=5,1e4"}, "d = 5 with m = 10"),
        ({"x": "k=1,10"}, "k = 10"),
        ({"seeds": 0}, "--seeds 0"),
        ({"source": "equal"}, "unknown distribution 'equal'"),
    ],
)
def test_impossible_planes_are_refused(changes, says) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        plane(**changes)


@pytest.fixture(scope="module")
def table():
    return lanes.compute(plane(), None, {})


def test_the_boundary_of_a_common_mean_is_where_leverage_passes_one_half(table) -> None:
    """M = 9, balanced labels: better at c = 0.5, worse at 0.6, and the criterion says so on every instance."""
    found = picture.shares(plane(), table)
    assert np.all(found["solved"] == 1)
    assert np.all(found["better"][:2] == 1)
    assert np.all(found["better"][2:] == 0)
    better, criterion = (table[..., lanes.COLUMNS.index(name)] for name in ("better", "criterion"))
    known = np.isfinite(criterion)
    assert np.mean(known) > 0.9
    assert np.array_equal(better[known], criterion[known])
    assert all(0.5 < y < 0.6 for y in picture.crossings(plane(), found))
    (guide,) = guides.guides(plane())
    assert guide.value == pytest.approx(0.5462, abs=1e-4)


def test_what_is_proved_is_true_and_bounds_are_ordered(table) -> None:
    """Proved implies better; a bound of the worst case discriminates only where the instance's own does."""
    column = {name: table[..., i] for i, name in enumerate(lanes.COLUMNS)}
    assert np.all(column["better"][column["proved"] == 1] == 1)
    assert np.any(column["proved"] == 1)
    for name in ("sharp", "scale_free"):
        assert np.all(column["instance"][column[name] == 1] == 1)
    assert np.all((column["hundredth"] != 1) | (column["ratio"] <= 0.01))


@pytest.mark.slow
def test_an_instance_that_the_step_leaves_alone_has_no_answer() -> None:
    """Of ten points in 12 dimensions some carry nothing: forgetting one of them is right as it stands, not worse."""
    spec = plane(source="gaussian", x="d=12,14", y="k=1,2", seeds=12)
    found = lanes.compute(spec, None, {})
    column = {name: found[..., i] for i, name in enumerate(lanes.COLUMNS)}
    moved = column["moved"] == 1
    assert 0 < np.mean(moved) < 1
    for name in ("better", "proved", "hundredth", "leverage", "ratio"):
        np.testing.assert_array_equal(np.isnan(column[name]), ~moved)
    share = picture.shares(spec, found)["better"][0, 0]
    assert share == np.mean(column["better"][0, 0][moved[0, 0]])


@pytest.mark.slow
def test_a_network_and_a_model_parameter_as_axis() -> None:
    spec = plane(model="leaky", y="slope=0.1,0.5", x="c=0.1,0.9", dim=1e6, neurons=8, points=6, seeds=4)
    found = picture.shares(spec, lanes.compute(spec, None, {}))
    assert found["better"].shape == (2, 2)
    assert np.all(found["better"][:, 0] >= found["better"][:, 1])
    assert np.all(found["scale_free"] == 0)  # it does not speak of leaky networks


def test_a_second_run_goes_on_from_what_is_there(tmp_path, monkeypatch, table) -> None:
    kept = lanes.compute(plane(), tmp_path, {})
    np.testing.assert_array_equal(kept, table)
    monkeypatch.setattr(lanes.sweep, "batched", lambda *_, **__: pytest.fail("computed again"))
    np.testing.assert_array_equal(lanes.compute(plane(), tmp_path, {}), table)
    with pytest.raises(ValueError, match="seeds"):
        lanes.compute(plane(seeds=13), tmp_path, {})
    with pytest.raises(ValueError, match="resume with the code that began it"):
        lanes.compute(plane(), tmp_path, {"code": "other"})


@pytest.mark.slow
def test_a_value_of_a_cell_does_not_depend_on_the_plane(table) -> None:
    other = lanes.compute(plane(x="d=1e8,1e9", y="c=0.5,0.7", seeds=3), None, {})
    ratio = lanes.COLUMNS.index("ratio")
    np.testing.assert_allclose(other[0, 0, :, ratio], table[1, 1, :3, ratio], rtol=1e-6)


def test_the_command_writes_pictures_a_table_and_a_page(tmp_path, capsys) -> None:
    pytest.importorskip("matplotlib")
    options = ["--source", "equicorrelated", "--model", "linear", "--x", "d=1e4,1e8", "--y", "c=0.1,0.5,0.6,0.9"]
    assert main(["phase", *options, "--seeds", "12", "--out", str(tmp_path / "out")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"d = 1e\+04: the step is better on most instances up to c = 0\.5\d", said)
    for name in ("phase.png", "phase.svg", "phase.csv", "phase.html"):
        assert (tmp_path / "out" / name).stat().st_size > 100
    with (tmp_path / "out" / "phase.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert {"d", "c", *lanes.COLUMNS} == rows[0].keys()
    page = (tmp_path / "out" / "phase.html").read_text()
    assert "data:image/png;base64" in page
    assert "http" not in page
    assert main(["phase", *options[:2], "--x", "d=1e4,1e8", "--y", "e=0,1"]) == 2


def test_every_panel_has_a_map_and_the_lines_that_speak_of_it(table) -> None:
    """Panels on which no instance answers yes are named, not drawn; cells have one size, ticks name their values."""
    pytest.importorskip("matplotlib")
    found = picture.shares(plane(), table)
    drawn = picture.figure(plane(), found)
    panels = {ax.get_title(): ax for ax in drawn.axes if ax.get_title()}
    there = [name for name in picture.PANELS if np.any(found[name] > 0)]
    assert list(panels) == [picture.PANELS[name] for name in there]
    assert "sharp" not in there
    assert "on no instance: hypotheses, sharp" in drawn.get_suptitle()
    line = 1.5 + (guides.equicorrelated(9) - 0.5) / (0.6 - 0.5)  # between the second and the third value of c
    for ax in panels.values():
        assert any(one.get_linestyle() == "--" and one.get_ydata()[0] == pytest.approx(line) for one in ax.lines)
        assert len(ax.collections) == 2  # the map, and the line of the criterion
    first = next(iter(panels.values()))
    assert [text.get_text() for text in first.get_yticklabels()] == ["0.1", "0.5", "0.6", "0.9"]
