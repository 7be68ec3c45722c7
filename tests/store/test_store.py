"""Results on disk: the ordinary course, arguments, which folder, and notes."""

import errno
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gaunlearn_jax.store import StoreError, folder, parts, strict_json
from gaunlearn_jax.store.folder import load, split_lanes
from store.runs import (
    COLUMNS,
    ENVIRONMENT,
    GRID,
    PARTS,
    begin,
    contents,
    finish,
    finished,
    line,
    process,
    rows,
    sentence,
)

# --- the ordinary course --------------------------------------------------------------------------------


def test_write_load_resume(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with begin(path) as run:
        assert run.missing() == [0, 1, 2]
        run.write(2, rows(2))
        run.write(0, rows(0))
        assert run.missing() == [1]
    half = load(path)
    assert (half.missing, half.damaged, half.lanes.tolist()) == ([1], [], [0, 1, 2, 3, 8, 9])
    with begin(path) as run:
        assert run.missing() == [1]
        run.write(1, rows(1))
    whole = load(path)
    assert (whole.missing, whole.grid, whole.environment) == ([], GRID, ENVIRONMENT)
    assert (whole.record.lanes, whole.record.batch, whole.record.bitwise) == (10, 4, True)
    expected = np.concatenate([rows(number) for number in range(3)])
    for index, name in enumerate(COLUMNS):
        np.testing.assert_array_equal(whole.columns[name], expected[:, index])
        assert whole.columns[name].flags.c_contiguous
        assert whole.columns[name].flags.writeable
    names = {name.split("@")[0] for name in os.listdir(path)}
    assert names == {"run.json", "run-copy.json", *contents(path)}
    assert (path / "run.json").read_bytes() == (path / "run-copy.json").read_bytes()


def test_an_empty_run_loads(tmp_path: Path) -> None:
    begin(tmp_path).close()
    run = load(tmp_path)
    assert run.missing == [0, 1, 2]
    assert [run.columns[name].shape for name in COLUMNS] == [(0,)] * 3
    assert run.lanes.dtype == np.int64


@pytest.mark.parametrize("shape", [(1, 1), (4, 3), (256, 40), (10**6, 2)])
def test_a_part_is_the_file_that_numpy_writes(shape: tuple[int, int]) -> None:
    array, buffer = np.zeros(shape), io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    assert parts.npy_header(*shape) + array.tobytes() == buffer.getvalue()


def test_every_bit_of_a_double_is_kept(tmp_path: Path) -> None:
    special = np.array([[np.nan, -0.0, np.inf], [-np.inf, 5e-324, -np.nan]] * 2)
    special.view(np.uint64)[3, 0] = 0x7FF0DEADBEEF0001  # a NaN with a payload
    with begin(tmp_path) as run:
        run.write(0, special)
        run.write(0, special)  # a no-op, although NaN != NaN
    assert np.stack(list(load(tmp_path).columns.values()), axis=1).tobytes() == special.tobytes()
    (file,) = tmp_path.glob("part-*")
    assert np.load(file, allow_pickle=False).tobytes() == special.tobytes()


def test_layout_of_the_array_does_not_matter(tmp_path: Path) -> None:
    wide = np.zeros((4, 6))
    wide[:, ::2] = rows(0)
    frozen = rows(0)
    frozen.flags.writeable = False
    with begin(tmp_path) as run:
        for array in (rows(0), np.asfortranarray(rows(0)), wide[:, ::2], frozen):
            run.write(0, array)
    assert len(contents(tmp_path)) == 1


def test_canonical_hash_ignores_order_and_nothing_else() -> None:
    assert strict_json.content_hash({"a": 1, "b": [2]}) == strict_json.content_hash({"b": [2], "a": 1})
    values: list[Any] = [{"a": 1}, {"a": 1.0}, {"a": True}, {"a": "1"}, {"a": None}, {}, {"a": [1]}, {"A": 1}]
    assert len({strict_json.content_hash(value) for value in values}) == len(values)


# --- arguments ------------------------------------------------------------------------------------------


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"grid": [1]}, "grid is"),
        ({"grid": {"d": float("nan")}}, "grid.d is nan"),
        ({"grid": {"d": [1, float("inf")]}}, r"grid.d\[1\]"),
        ({"grid": {"d": 10**400}}, "grid.d"),
        ({"grid": {"d": {1: 2}}}, "key 1"),
        ({"grid": {"d": np.int64(3)}}, "int64"),
        ({"grid": {"d": nested(100)}}, "nested deeper"),
        ({"grid": {"d": nested(5000)}}, "nested deeper"),
        ({"environment": None}, "environment is None"),
        ({"columns": []}, "columns"),
        ({"columns": ["a", "a"]}, "columns"),
        ({"columns": "abc"}, "columns"),
        ({"columns": ["a", 3]}, "columns"),
        ({"columns": [""]}, "columns"),
        ({"parts": []}, "parts"),
        ({"parts": [(0, 4), (5, 8)]}, r"parts\[1\]"),
        ({"parts": [(0, 4), (4, 4)]}, r"parts\[1\]"),
        ({"parts": [(0, 4), (3, 8)]}, r"parts\[1\]"),
        ({"parts": [(False, 4)]}, r"parts\[0\]"),
        ({"parts": [(0, 4.0)]}, r"parts\[0\]"),
        ({"parts": [(0, 2**60)]}, r"parts\[0\]"),
        ({"parts": [(0, 1, 2)]}, r"parts\[0\]"),
        ({"batch": 0}, "batch is 0"),
        ({"batch": True}, "batch is True"),
        ({"batch": 4.0}, "batch is 4.0"),
        ({"shard": (2, 2)}, "shard"),
        ({"shard": (-1, 2)}, "shard"),
        ({"shard": (0.0, 2)}, "shard"),
        ({"shard": "0/2"}, "shard"),
        ({"code_version": 3}, "code_version"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_arguments_leave_no_folder(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(StoreError, match=says) as caught:
        begin(tmp_path / "run", **changes)
    sentence(caught)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("lanes", "size"), [(0, 4), (10, 0), (10.0, 4), (True, 4), (-1, 4)])
@pytest.mark.usefixtures("unchecked")
def test_split_lanes_refuses(lanes: int, size: int) -> None:
    with pytest.raises(StoreError, match="integer of at least 1"):
        split_lanes(lanes, size)


def test_split_lanes_tiles() -> None:
    assert split_lanes(9, 4) == [(0, 4), (4, 8), (8, 9)]
    assert split_lanes(3, 100) == [(0, 3)]


@pytest.mark.parametrize(
    "array",
    [
        rows(0).astype(np.float32),
        rows(0).astype(">f8"),
        rows(0).astype(np.longdouble),
        rows(0).astype(complex),
        rows(0).astype(object),
        rows(0).astype(int),
        np.ma.masked_array(rows(0), mask=False),
        rows(0).tolist(),
        rows(0)[:3],
        rows(0).T,
        rows(0).ravel(),
        rows(0)[None],
        None,
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_write_refuses_other_arrays(tmp_path: Path, array: Any) -> None:
    with begin(tmp_path) as run, pytest.raises(StoreError, match="expected ndarray float64") as caught:
        run.write(0, array)
    sentence(caught)
    assert not contents(tmp_path)


@pytest.mark.parametrize("number", [-1, 3, True, 0.0, "0", None, 1])
@pytest.mark.usefixtures("unchecked")
def test_write_refuses_other_numbers(tmp_path: Path, number: Any) -> None:
    with begin(tmp_path, shard=(0, 2)) as run, pytest.raises(StoreError, match="part number"):
        run.write(number, rows(0))


# --- which folder ---------------------------------------------------------------------------------------


def test_another_run_is_refused_field_by_field(tmp_path: Path) -> None:
    finished(tmp_path)
    before = contents(tmp_path, "*")
    grid = {"dims": [1e4, 1e9], "seeds": [0, 8, 16], "losses": ["exponential"], "extra": 1}
    with pytest.raises(StoreError) as caught:
        begin(tmp_path, grid=grid, columns=["seed", "LHS", "rhs"], parts=split_lanes(12, 4), code_version="9")
    message = sentence(caught)
    for difference in (
        "grid.dims[1]: the folder has 100000000.0, this run has 1000000000.0",
        "grid.seeds: the folder has [0,8], this run has [0,8,16]",
        "grid.signal: the folder has null, this run has nothing",
        "grid.extra: the folder has nothing, this run has 1",
        'columns[1]: the folder has "lhs", this run has "LHS"',
        "lanes: the folder has 10, this run has 12",
        'this run has "9"',
    ):
        assert difference in message
    assert "losses" not in message
    assert contents(tmp_path, "*") == before


def test_many_differences_are_cut_short(tmp_path: Path) -> None:
    begin(tmp_path, grid={"seeds": list(range(1000))}).close()
    with pytest.raises(StoreError, match="and 992 more") as caught:
        begin(tmp_path, grid={"seeds": list(range(1, 1001))})
    assert len(sentence(caught)) < 1000


def test_the_parts_and_the_batch_of_the_folder_hold(tmp_path: Path) -> None:
    begin(tmp_path).close()
    with begin(tmp_path, parts=split_lanes(10, 5), batch=64) as run:
        assert [tuple(part) for part in run.record.parts] == PARTS
        assert run.batch == 4


@pytest.mark.usefixtures("unchecked")
def test_paths_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("x")
    cases: list[tuple[Any, str]] = [
        (tmp_path / "no" / "parent", "is absent"),
        (tmp_path / "file", "is a file or below one"),
        (tmp_path / "file" / "below", "is a file or below one"),
        (tmp_path / "link", "is a symbolic link"),
        (tmp_path / "dangling", "is a symbolic link"),
        (tmp_path / "foreign", "thesis.tex"),
        ("a\0b", "null"),
        (tmp_path / ("x" * 300), "File name too long"),
        (7, "expected a path"),
    ]
    for path, says in cases:
        with pytest.raises(StoreError, match=says) as caught:
            begin(path)
        sentence(caught)
    assert sorted(os.listdir(tmp_path)) == ["dangling", "file", "foreign", "link", "real"]
    assert not os.listdir(tmp_path / "real")
    for path, says in [*cases[:3], *cases[5:6]]:
        with pytest.raises(StoreError, match=r"run\.json|" + says):
            load(path)
    finished(tmp_path / "real")
    assert load(tmp_path / "link").missing == []  # reading through a link is harmless


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    finished(tmp_path / "run")
    genuine = os.open

    def refuse(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(code, os.strerror(code))
        return genuine(path, flags, *rest, **options)

    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(os, "open", refuse)  # chmod does not stop root
    for name in ("run", "empty"):
        with pytest.raises(StoreError, match="expected a folder you may write") as caught:
            begin(tmp_path / name)
        sentence(caught)
    assert load(tmp_path / "run").missing == []
    monkeypatch.undo()
    assert not os.listdir(tmp_path / "empty")
    begin(tmp_path / "run").close()


def test_a_read_only_folder() -> None:
    """Permissions do not stop root: the child gives its rights up first."""
    body = """
importlib.metadata.version("numpy")  # loads what can only be imported with rights
if os.geteuid() == 0:
    os.setuid(65534)
try:
    begin(sys.argv[1], 10, 4)
except store.StoreError as error:
    print(error)
print(store.load(sys.argv[1]).missing)
"""
    with tempfile.TemporaryDirectory() as parent:
        os.chmod(parent, 0o755)
        path = finished(Path(parent) / "run")
        os.chmod(path, 0o555)
        with process(body, path) as child:
            message, missing = finish(child).splitlines()
        os.chmod(path, 0o755)
    assert "(Permission denied), expected a folder you may write" in message
    assert missing == "[]"


def test_not_posix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder.os, "name", "nt")
    with pytest.raises(StoreError, match="expected Linux or macOS"):
        begin(str(tmp_path))  # type: ignore[arg-type]


# --- notes ----------------------------------------------------------------------------------------------


def test_halving_is_recorded_and_lowers_the_promise(tmp_path: Path) -> None:
    with begin(tmp_path, batch=12) as run:
        run.write(0, rows(0))
        assert run.halve_batch() == run.batch == 6
        assert run.halve_batch("the device said no") == 3
        with pytest.raises(StoreError, match="expected 2 or more") as caught:
            run.halve_batch(least=2)
        sentence(caught)
        assert run.halve_batch() == 1
        with pytest.raises(StoreError, match="too large"):
            run.halve_batch()
    record = load(tmp_path).record
    assert (record.batch, record.bitwise, [note["batch"] for note in record.notes]) == (12, False, [6, 3, 1])
    assert record.notes[1]["reason"] == "the device said no"
    with begin(tmp_path, batch=12) as run:
        assert (run.batch, run.record.bitwise) == (1, False)


def test_another_environment_is_noted_once(tmp_path: Path) -> None:
    finished(tmp_path)
    for _ in range(2):
        begin(tmp_path, environment={**ENVIRONMENT, "command_line": "verify run --resume"}).close()
    record = load(tmp_path).record
    assert record.bitwise
    (note,) = record.notes
    assert note["differences"] == {
        "command_line": [
            'command_line: the folder has "verify run", this run has "verify run --resume"',
        ]
    }
    begin(tmp_path, environment={"backend": "gpu"}).close()
    assert not load(tmp_path).record.bitwise
    assert load(tmp_path).environment == ENVIRONMENT
    assert len(load(tmp_path).record.notes) == 2


def test_shards_add_notes_at_the_same_time(tmp_path: Path) -> None:
    body = """
with begin(sys.argv[1], 10, 4, (int(sys.argv[2]), 2)) as run:
    print("open", flush=True)
    sys.stdin.readline()
    for number in range(12):
        run.note("test", True, number=number)
"""
    with process(body, tmp_path, 0) as one, process(body, tmp_path, 1) as two:
        assert (line(one), line(two)) == ("open", "open")
        for child in (one, two):
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        finish(one)
        finish(two)
    notes = load(tmp_path).record.notes
    assert {(note["shard"][0], note["number"]) for note in notes} == {(i, k) for i in (0, 1) for k in range(12)}
    assert len(notes) == 24
