"""Results on disk: kills, flipped bits, full disks, second processes, hostile files."""

import errno
import gc
import io
import json
import os
import random
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gaunlearn_jax import locks, parts, store, strict_json
from gaunlearn_jax.store import Store, StoreError, create_or_resume, load, split_lanes

GRID: dict[str, Any] = {"dims": [1e4, 1e8], "seeds": [0, 8], "losses": ["exponential"], "signal": None}
COLUMNS = ["seed", "lhs", "rhs"]
PARTS = split_lanes(10, 4)  # [0, 4), [4, 8), [8, 10)
ENVIRONMENT: dict[str, Any] = {"backend": "cpu", "command_line": "verify run"}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "SHARD_PATIENCE", 0.05)


def rows(number: int, parts: list[tuple[int, int]] = PARTS) -> np.ndarray:
    start, stop = parts[number]
    return np.random.default_rng(number).normal(size=(stop - start, len(COLUMNS)))


def begin(path: Path, **changes: Any) -> Store:
    arguments = {"grid": GRID, "columns": COLUMNS, "parts": PARTS, "environment": ENVIRONMENT, "batch": 4}
    return create_or_resume(path, **{**arguments, **changes})


def finished(path: Path, **changes: Any) -> Path:
    with begin(path, **changes) as run:
        for number in run.missing():
            run.write(number, rows(number))
    return path


def contents(path: Path, pattern: str = "part-*") -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.glob(pattern)}


def flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Edit run.json and give it the right checksum, as somebody with bad intentions would."""
    entries = json.loads((path / "run.json").read_text())
    entries.pop("checksum")
    change(entries)
    entries["checksum"] = strict_json.content_hash(entries)
    (path / "run.json").write_text(json.dumps(entries))


def sentence(caught: pytest.ExceptionInfo[BaseException]) -> str:
    """The message, which must be one line that ends in what to do."""
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert ":" in message or ";" in message
    return message


# --- writers in their own processes: only NumPy and the store, without JAX -----------------------------

LOADER = f"""
import importlib.metadata, os, resource, signal, sys, time, types
import numpy as np
import numpy.ma, numpy.random  # loaded lazily, which takes longer than writing ten parts
package = sys.modules["gaunlearn_jax"] = types.ModuleType("gaunlearn_jax")  # its __init__ would import jax
package.__path__ = [{str(Path(store.__file__).parent)!r}]
from gaunlearn_jax import store
assert "jax" not in sys.modules

def rows(number, parts):
    start, stop = parts[number]
    return np.random.default_rng(number).normal(size=(stop - start, 3))

def begin(path, lanes, size, shard=(0, 1), environment={ENVIRONMENT!r}):
    parts = store.split_lanes(lanes, size)
    return store.create_or_resume(path, {GRID!r}, {COLUMNS!r}, parts, environment, 4, shard=shard)

def work(path, lanes, size, pause=0.0, **options):
    with begin(path, lanes, size, **options) as run:
        for number in run.missing():
            run.write(number, rows(number, run.record.parts))
            time.sleep(pause)
"""


@contextmanager
def process(body: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-c", LOADER + body, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def finish(child: subprocess.Popen[str]) -> str:
    output, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    return output


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


HOLD = """
shard = (int(sys.argv[2]), int(sys.argv[3]))
with begin(sys.argv[1], 10, 4, shard) as run:
    print("held", flush=True)
    sys.stdin.readline()
"""


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
    monkeypatch.setattr(store.os, "name", "nt")
    with pytest.raises(StoreError, match="expected Linux or macOS"):
        begin(str(tmp_path))  # type: ignore[arg-type]


# --- non-determinism and damage -------------------------------------------------------------------------


def test_other_bytes_for_a_sealed_part_are_an_error(tmp_path: Path) -> None:
    finished(tmp_path)
    before = contents(tmp_path)
    with begin(tmp_path) as run:
        other = rows(1)
        other[0, 0] = np.nextafter(other[0, 0], np.inf)
        with pytest.raises(StoreError, match="non-determinism or a wrong grid") as caught:
            run.write(1, other)
    sentence(caught)
    assert contents(tmp_path) == before


def test_two_valid_files_for_one_part(tmp_path: Path) -> None:
    finished(tmp_path / "run")
    with begin(tmp_path / "other") as run:
        run.write(1, rows(1) + 1)
    for name, data in contents(tmp_path / "other").items():
        (tmp_path / "run" / name).write_bytes(data)
    for refuses in (load, begin):
        with pytest.raises(StoreError, match="expected one for part 1") as caught:
            refuses(tmp_path / "run")
        sentence(caught)
    assert len(contents(tmp_path / "run")) == 4
    assert not list((tmp_path / "run").glob("lock-*"))


def test_200_flipped_bits_of_a_part_are_noticed(tmp_path: Path) -> None:
    finished(tmp_path)
    (file,) = tmp_path.glob("part-000001-*")
    data = file.read_bytes()
    for bit in random.Random(1).sample(range(8 * len(data)), 200):
        file.write_bytes(flip(data, bit))
        run = load(tmp_path)
        assert run.missing == [1]
        assert len(run.damaged) == 1
        assert file.name in run.damaged[0]
    file.write_bytes(data)
    assert load(tmp_path).damaged == []


def test_a_damaged_part_is_set_aside_and_made_again(tmp_path: Path) -> None:
    finished(tmp_path)
    intact = contents(tmp_path)
    (file,) = tmp_path.glob("part-000001-*")
    for attempt in range(3):
        broken = flip(intact[file.name], 1500 + attempt)
        file.write_bytes(broken)
        with begin(tmp_path) as run:
            assert run.missing() == [1]
            assert len(run.damaged) == 1
            assert file.name in run.damaged[0]
            assert run.verify() == []
            run.write(1, rows(1))
        assert contents(tmp_path) == intact
        assert broken in contents(tmp_path, "damaged-*").values()
    assert len(contents(tmp_path, "damaged-*")) == 3


def test_damage_after_opening_is_noticed_by_write_and_verify(tmp_path: Path) -> None:
    finished(tmp_path)
    intact = contents(tmp_path)
    (file,) = tmp_path.glob("part-000000-*")
    with begin(tmp_path) as run:
        file.write_bytes(b"")
        run.write(0, rows(0))
        assert contents(tmp_path) == intact
        file.write_bytes(b"")
        assert file.name in run.verify()[0]
        assert run.missing() == [0]
        assert len(run.damaged) == 2


def test_parts_truncated_at_random_bytes(tmp_path: Path) -> None:
    finished(tmp_path)
    intact = contents(tmp_path)
    (file,) = tmp_path.glob("part-000000-*")
    size, generator = len(intact[file.name]), random.Random(2)
    lengths = [0, 1, 127, 128, size - 1, *(generator.randrange(size) for _ in range(20))]
    for length in lengths:
        file.write_bytes(intact[file.name][:length])
        assert load(tmp_path).missing == [0]
    file.write_bytes(intact[file.name] + b"\0")
    assert load(tmp_path).missing == [0]
    with begin(tmp_path) as run:
        run.write(0, rows(0))
    assert contents(tmp_path) == intact


def fake(number: int, data: bytes) -> str:
    return parts.part_name(number, data)


def saved(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def test_hostile_parts_with_the_right_hash(tmp_path: Path) -> None:
    begin(tmp_path).close()
    huge = parts.npy_header(10**15, 3) + bytes(96)  # asks for petabytes
    pickled = saved(np.array([[print] * 3] * 4, dtype=object), allow_pickle=True)
    for data in (
        huge,
        pickled,
        pickled.ljust(224, b"\0")[:224],
        saved(rows(0).astype(">f8")),
        saved(np.asfortranarray(rows(0))),
        saved(rows(0).reshape(3, 4)),
        saved(rows(0).astype(np.float32)),
        b"\x93NUMPY\x01\x00\xff\xff" + bytes(214),
        bytes(224),
        parts.npy_header(4, 3) + bytes(88),  # one number short
    ):
        file = tmp_path / fake(0, data)
        file.write_bytes(data)
        run = load(tmp_path)
        assert run.missing == [0, 1, 2]
        assert len(run.damaged) == 1
        file.unlink()


def test_parts_that_are_no_plain_files_of_this_run(tmp_path: Path) -> None:
    finished(tmp_path / "run")
    names = sorted(contents(tmp_path / "run"))
    for name in names:
        shutil.move(tmp_path / "run" / name, tmp_path / name)
    (tmp_path / "run" / names[0]).symlink_to(tmp_path / names[0])
    os.mkfifo(tmp_path / "run" / names[1])  # reading it would wait for ever
    (tmp_path / "run" / names[2]).mkdir()
    (tmp_path / "run" / names[0].replace("000000", "000007")).write_bytes(b"no such part")
    ignored = ["part-0000000-0123456789abcdef.npy", "part-1-0123456789abcdef.npy", "summary.json", "part-x"]
    for name in ignored:
        (tmp_path / "run" / name).write_text("ignored")
    assert len(load(tmp_path / "run").damaged) == 4
    with begin(tmp_path / "run") as run:
        assert len(run.damaged) == 4
        assert run.missing() == [0, 1, 2]
    assert load(tmp_path / "run").damaged == []
    assert set(ignored) <= set(os.listdir(tmp_path / "run"))


def test_a_part_that_may_not_be_read_is_not_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(tmp_path)
    genuine = os.open

    def refuse(path: Any, *rest: Any, **options: Any) -> int:
        if "part-000001" in str(path):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return genuine(path, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)
    for refuses in (load, begin):
        with pytest.raises(StoreError, match="Too many open files") as caught:
            refuses(tmp_path)
        sentence(caught)
    assert len(contents(tmp_path)) == 3


# --- run.json -------------------------------------------------------------------------------------------


def record_or_refusal(path: Path) -> store.RunRecord | str:
    try:
        return load(path).record
    except StoreError as error:
        return str(error)


def flipped_run_json(path: Path, bits: list[int]) -> None:
    data, record = (path / "run.json").read_bytes(), load(path).record
    refused = 0
    for bit in bits:
        (path / "run.json").write_bytes(flip(data, bit))
        found = record_or_refusal(path)
        if found != record:
            refused += 1
            assert isinstance(found, str)
            assert "\n" not in found
            assert "parts are untouched: copy run-copy.json over run.json." in found
    assert refused > 0.95 * len(bits)
    assert len(contents(path)) == 3


def test_one_flipped_bit_in_run_json(tmp_path: Path) -> None:
    finished(tmp_path)
    size = 8 * (tmp_path / "run.json").stat().st_size
    flipped_run_json(tmp_path, random.Random(3).sample(range(size), 400))
    (tmp_path / "run.json").write_bytes(flip((tmp_path / "run-copy.json").read_bytes(), 100))
    with pytest.raises(StoreError, match=r"copy run-copy\.json over run\.json"):
        begin(tmp_path)
    shutil.copy(tmp_path / "run-copy.json", tmp_path / "run.json")  # what the sentence says
    assert load(tmp_path).missing == []
    begin(tmp_path).close()


@pytest.mark.slow
def test_every_flipped_bit_in_run_json(tmp_path: Path) -> None:
    finished(tmp_path)
    flipped_run_json(tmp_path, list(range(8 * (tmp_path / "run.json").stat().st_size)))


def test_the_copy_is_kept_up_to_date(tmp_path: Path) -> None:
    finished(tmp_path)
    for data in (b"", b"{}", None):
        (tmp_path / "run-copy.json").unlink()
        if data is not None:
            (tmp_path / "run-copy.json").write_bytes(data)
        begin(tmp_path).close()
        assert (tmp_path / "run-copy.json").read_bytes() == (tmp_path / "run.json").read_bytes()
    (tmp_path / "run.json").unlink()
    for refuses in (begin, load):
        with pytest.raises(StoreError, match=r"copy run-copy\.json to"):
            refuses(tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "Expecting value"),
        (b'{"format": "gaunlearn-run"', "Expecting"),
        (b'{"a": 1, "a": 2}', "'a' occurs twice"),
        (b'{"a": {"b": 1, "b": 1}}', "'b' occurs twice"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"a": 1e400}', "what.a is nan, inf or above"),
        (b'{"a": [0, -1e400]}', r"what.a\[1\]"),
        (b'{"a": 1' + b"0" * 400 + b"}", "what.a"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "not valid JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b"[" * 100 + b"]" * 100, "nested deeper than 64"),
        (b'"\xff"', "utf-8"),
        (b'\xef\xbb\xbf{"a": 1}', "BOM|Expecting"),
        (b"{} {}", "Extra data"),
        (b"{'a': 1}", "property name"),
        (b'"a\0b"', "control character"),
    ],
)
def test_strict_json(text: bytes, says: str) -> None:
    with pytest.raises(StoreError, match=says) as caught:
        strict_json.parse_json(text, "what")
    sentence(caught)


def test_strict_json_accepts_json() -> None:
    text = b'{"a": [1, 2.5, -0.0, 1e308, true, null, "\\u00e9\\ud800"], "b": {}}'
    assert strict_json.parse_json(text, "what") == json.loads(text)


def test_run_json_cut_at_any_byte(tmp_path: Path) -> None:
    finished(tmp_path)
    data = (tmp_path / "run.json").read_bytes()
    for length in range(0, len(data) - 2, 7):
        (tmp_path / "run.json").write_bytes(data[:length])
        with pytest.raises(StoreError, match=r"copy run-copy\.json"):
            load(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda run: run.update(format="other"), "does not say format"),
        (lambda run: run.pop("format"), "does not say format"),
        (lambda run: run.update(version=2), "format version 2, expected 1"),
        (lambda run: run.update(version=True), "format version True"),
        (lambda run: run.pop("version"), "format version None"),
        (lambda run: run.pop("grid"), "other fields"),
        (lambda run: run.update(extra=1), "other fields"),
        (lambda run: run["grid"].update(seeds=[0, 9]), "grid_sha256"),
        (lambda run: run.update(grid=[]), "grid is"),
        (lambda run: run.update(batch="4"), "batch is"),
        (lambda run: run.update(columns=[["a"]]), "columns is"),
        (lambda run: run.update(parts=[[0, 4], [3, 8]]), r"parts\[1\]"),
        (lambda run: run.update(parts=None), "parts is"),
        (lambda run: run.update(notes=[1]), "notes is"),
        (lambda run: run.update(notes=[{"event": "halved", "batch": "x"}]), "halved batch"),
    ],
)
def test_run_json_with_wrong_fields(tmp_path: Path, change: Any, says: str) -> None:
    finished(tmp_path)
    rewrite(tmp_path, change)
    for refuses in (load, begin):
        with pytest.raises(StoreError, match=says) as caught:
            refuses(tmp_path)
        sentence(caught)


def test_run_json_that_promises_petabytes(tmp_path: Path) -> None:
    finished(tmp_path)
    rewrite(tmp_path, lambda run: run.update(parts=[[0, 2**53]]))
    run = load(tmp_path)
    assert run.missing == [0]
    assert len(run.damaged) == 3


def test_run_json_that_is_no_plain_file(tmp_path: Path) -> None:
    for name, make in (
        ("folder", os.mkdir),
        ("pipe", os.mkfifo),
        ("link", lambda p: os.symlink("nowhere", p)),
    ):
        (tmp_path / name).mkdir()
        make(tmp_path / name / "run.json")
        for refuses in (load, begin):
            with pytest.raises(StoreError, match="cannot be read") as caught:
                refuses(tmp_path / name)
            sentence(caught)


def test_enormous_run_json_is_not_read(tmp_path: Path) -> None:
    finished(tmp_path)
    os.truncate(tmp_path / "run.json", 1 << 40)  # sparse
    with pytest.raises(StoreError, match="expected a plain file of at most"):
        load(tmp_path)


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


# --- a full disk ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("call", ["write", "fsync", "replace", "open"])
def test_disk_full_at_any_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int) -> None:
    finished(tmp_path / "reference")
    with begin(tmp_path / "run") as run:
        run.write(0, rows(0))
        genuine = getattr(os, call)

        def full(*arguments: Any, **options: Any) -> Any:
            if call == "write":  # half of it fits
                genuine(arguments[0], bytes(arguments[1])[:100])
            if call != "open" or arguments[1] & os.O_CREAT:
                raise OSError(code, os.strerror(code))
            return genuine(*arguments, **options)

        monkeypatch.setattr(os, call, full)
        for attempt in (lambda: run.write(1, rows(1)), run.halve_batch):
            with pytest.raises(StoreError, match="the disk is full") as caught:
                attempt()
            sentence(caught)
        monkeypatch.undo()
        assert not list((tmp_path / "run").glob("tmp-*"))
        assert (run.missing(), run.batch) == ([1, 2], 4)
    finished(tmp_path / "run")
    assert contents(tmp_path / "run") == contents(tmp_path / "reference")


def test_disk_full_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match=r"the disk is full: run\.json") as caught:
        begin(tmp_path)
    sentence(caught)
    assert os.listdir(tmp_path) == []
    monkeypatch.undo()
    finished(tmp_path)


def test_file_is_synced_before_its_rename_and_the_folder_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power cut could undo; a kill cannot show it."""
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        calls.append("fsync " + ("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"))
        fsync(descriptor)

    def replaced(source: Any, target: Any) -> None:
        assert Path(source).name == f"tmp-{Path(target).name}"
        calls.append("rename")
        replace(source, target)

    with begin(tmp_path) as run:
        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(os, "replace", replaced)
        run.write(0, rows(0))
    assert calls == ["fsync file", "rename", "fsync folder"]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = os.write
    monkeypatch.setattr(os, "write", lambda file, data: genuine(file, bytes(data)[:100]))
    assert load(finished(tmp_path)).damaged == []


def test_a_limit_on_file_sizes(tmp_path: Path) -> None:
    path = tmp_path / "run"
    body = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with begin(sys.argv[1], 210, 100) as run:  # parts of 2528, 2528 and 368 bytes
    run.write(2, rows(2, run.record.parts))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    try:
        run.write(0, rows(0, run.record.parts))
    except store.StoreError as error:
        print(error)
"""
    with process(body, path) as child:
        message = finish(child)
    assert "the disk is full: part-000000" in message
    assert "run the same command again; what was sealed before is complete." in message
    assert not list(path.glob("tmp-*"))
    parts = split_lanes(210, 100)
    assert load(path).missing == [0, 1]
    with begin(path, parts=parts) as run:
        for number in run.missing():
            run.write(number, rows(number, parts))
    assert load(path).missing == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 2000


@pytest.mark.slow
def test_a_small_file_system(tmp_path: Path) -> None:
    """A tmpfs of 64 KiB, mounted in a namespace of its own."""
    body = """
path = sys.argv[1] + "/run"
try:
    for attempt in range(3):
        work(path, 40_000, 100)
except store.StoreError as error:
    print(error)
run = store.load(path)
print(len(run.lanes), run.damaged, [name for name in os.listdir(path) if name.startswith("tmp-")])
os.system(f"mount -o remount,size=4m {sys.argv[1]}")
work(path, 40_000, 100)
print(len(store.load(path).lanes))
"""
    script = 'mount -t tmpfs -o size=64k none "$1" || exit 77; exec "$2" -c "$3" "$1"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(tmp_path), sys.executable, LOADER + body]
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("mounting is not allowed here")
    assert done.returncode == 0, done.stderr
    message, state, whole = done.stdout.splitlines()
    assert message.startswith("the disk is full")
    assert 0 < int(state.split()[0]) < 40_000
    assert state.endswith("[] []")
    assert whole == "40000"


# --- kill -9 --------------------------------------------------------------------------------------------


def kill_at_random(path: Path, kills: int, seed: int) -> None:
    """Every other kill falls while the folder is being opened, the others while parts are being written."""
    body = """
print("ready", flush=True)
with begin(sys.argv[1], int(sys.argv[2]), 32) as run:
    print("open", flush=True)
    for number in run.missing():
        run.write(number, rows(number, run.record.parts))
        time.sleep(float(sys.argv[3]))
"""
    generator, parts, pause = random.Random(seed), 20 * kills, 0.001
    lanes = 32 * parts
    with process(body, path / "whole", lanes, 0) as child:
        times = []
        for word in ("ready", "open"):
            assert line(child) == word
            times.append(time.monotonic())
        child.wait(timeout=60)
        opening, writing = times[1] - times[0], (time.monotonic() - times[1]) / parts
    progress = []
    for kill in range(kills):
        with process(body, path / "killed", lanes, pause) as child:
            assert line(child) == "ready"
            if kill % 2:
                assert line(child) == "open"
            time.sleep(generator.uniform(0, 12 * (writing + pause) if kill % 2 else opening))
            child.send_signal(signal.SIGKILL)
            assert child.wait() == -signal.SIGKILL
        if (path / "killed" / "run.json").exists():
            run = load(path / "killed")  # never damaged, not even between a kill and a resume
            assert run.damaged == []
            progress.append(len(run.lanes))
    assert progress == sorted(progress)
    assert len(set(progress)) > kills // 4  # many kills fell between two parts or inside one
    assert progress[-1] < lanes
    with process(body, path / "killed", lanes, 0) as child:
        finish(child)
    assert contents(path / "killed") == contents(path / "whole")
    assert contents(path / "killed", "run*.json") == contents(path / "whole", "run*.json")
    assert not contents(path / "killed", "damaged-*")
    assert not [*(path / "killed").glob("tmp-*"), *(path / "killed").glob("lock-*")]


def test_15_kills_at_random_moments(tmp_path: Path) -> None:
    kill_at_random(tmp_path, 15, seed=4)


@pytest.mark.slow
def test_50_kills_at_random_moments(tmp_path: Path) -> None:
    kill_at_random(tmp_path, 50, seed=5)


def test_a_kill_before_every_system_call(tmp_path: Path) -> None:
    """A run with a halving is killed before its n-th call that changes the disk, for every n, and resumed."""
    body = """
CALLS = ["open", "write", "fsync", "close", "replace", "unlink", "mkdir", "rename"]

def scenario(path):
    with begin(path, 6, 4) as run:
        run.write(0, rows(0, run.record.parts))
        if run.batch == 4:
            run.halve_batch()
        run.write(1, rows(1, run.record.parts))

def dies(path, limit):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    calls = 0
    def counted(genuine):
        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == limit:
                os.kill(os.getpid(), signal.SIGKILL)
            return genuine(*arguments, **options)
        return call
    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    try:
        scenario(path)
    except BaseException as error:
        print(repr(error), flush=True)
        os._exit(1)
    os._exit(0)

root, deaths = sys.argv[1], 0
scenario(root + "/whole")
files = lambda path: {name: open(f"{path}/{name}", "rb").read() for name in os.listdir(path)}
whole = files(root + "/whole")
while True:
    path = f"{root}/{deaths}"
    code = dies(path, deaths + 1)
    if code == 0:
        break
    assert code == -signal.SIGKILL, code
    deaths += 1
    scenario(path)
    assert files(path) == whole, (deaths, files(path).keys() ^ whole.keys())
print(deaths)
"""
    with process(body, tmp_path) as child:
        deaths = int(finish(child))
    assert deaths > 50


def test_debris_of_other_shards_is_left_alone(tmp_path: Path) -> None:
    begin(tmp_path).close()
    debris = [f"tmp-part-00000{number}-0123456789abcdef.npy" for number in range(3)]
    for name in debris:
        (tmp_path / name).write_text("half a par")
    begin(tmp_path, shard=(1, 2)).close()
    assert sorted(path.name for path in tmp_path.glob("tmp-*")) == [debris[0], debris[2]]
    begin(tmp_path).close()
    assert not list(tmp_path.glob("tmp-*"))


# --- locks ----------------------------------------------------------------------------------------------


def test_same_shard_twice_is_refused_and_a_killed_holder_is_replaced(tmp_path: Path) -> None:
    with process(HOLD, tmp_path, 0, 2) as holder:
        assert line(holder) == "held"
        for shard in ((0, 2), (0, 1), (0, 3), (1, 3), (2, 4)):  # each shares a number with 0 modulo 2
            with pytest.raises(StoreError, match=f"by process {holder.pid} on host") as caught:
                begin(tmp_path, shard=shard)
            assert socket.gethostname() in sentence(caught)
        for shard in ((1, 2), (1, 4), (3, 4)):
            begin(tmp_path, shard=shard).close()
        holder.kill()  # and nobody waits for it: a zombie is dead, too
        deadline = time.monotonic() + 10
        while locks.start_time(holder.pid) is not None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert len(list(tmp_path.glob("lock-*"))) == 1
        begin(tmp_path, shard=(0, 2)).close()
    assert not list(tmp_path.glob("lock-*"))


def test_a_difference_is_named_even_while_another_process_writes(tmp_path: Path) -> None:
    with process(HOLD, tmp_path, 0, 1) as holder:
        assert line(holder) == "held"
        with pytest.raises(StoreError, match=r"columns\[2\]"):
            begin(tmp_path, columns=["seed", "lhs", "ratio"])
        assert load(tmp_path).missing == [0, 1, 2]  # reading needs no lock


def test_of_many_processes_that_start_at_once_one_wins(tmp_path: Path) -> None:
    body = """
start = time.time() + 0.2
for _ in range(8):
    if os.fork() == 0:
        time.sleep(max(0.0, start - time.time()))
        try:
            run = begin(sys.argv[1], 10, 4)
            os.write(1, b"won\\n")
            time.sleep(2.0)
            run.close()
        except store.StoreError as error:
            os.write(1, b"lost\\n" if "is written by process" in str(error) else str(error).encode())
        os._exit(0)
for _ in range(8):
    os.wait()
"""
    with process(body, tmp_path) as child:
        assert sorted(finish(child).split()) == ["lost"] * 7 + ["won"]
    assert not list(tmp_path.glob("lock-*"))


def test_two_shards_write_at_once_and_one_is_killed_and_restarted(tmp_path: Path) -> None:
    body = """
print("ready", flush=True)
work(sys.argv[1], 3200, 32, 0.002, shard=(int(sys.argv[2]), 2))
"""
    with process("work(sys.argv[1], 3200, 32)", tmp_path / "whole") as child:
        finish(child)
    with process(body, tmp_path / "run", 0) as one, process(body, tmp_path / "run", 1) as two:
        assert (line(one), line(two)) == ("ready", "ready")
        time.sleep(0.04)
        one.kill()
        assert one.wait() == -signal.SIGKILL
        with process(body, tmp_path / "run", 0) as again:
            finish(again)
        finish(two)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    assert contents(tmp_path / "run", "run.json") == contents(tmp_path / "whole", "run.json")


def lock_name(**changes: str) -> str:
    host, boot, space = locks.this_machine()
    facts = {"what": "0-of-1", "host": host, "boot": boot, "space": space, "pid": str(os.getppid())}
    facts["start"] = locks.start_time(os.getppid()) or ""
    return "lock-" + "@".join({**facts, **changes}.values())


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("changes", "alive"),
    [
        ({}, True),
        ({"pid": "4194999"}, False),
        ({"pid": "9" * 30}, False),
        ({"start": "1"}, False),
        ({"boot": "0000"}, False),
        ({"boot": "0000", "space": "pid1"}, False),
        ({"host": "elsewhere"}, True),
        ({"host": "elsewhere", "boot": "0000", "pid": "4194999"}, True),
        ({"space": "pid1"}, True),
        ({"what": "run"}, None),
    ],
)
def test_which_locks_are_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], alive: bool | None
) -> None:
    lock = tmp_path / lock_name(**changes)
    lock.touch()
    if alive:
        with pytest.raises(StoreError, match=f"if it is dead, delete '{lock.name}'") as caught:
            begin(tmp_path)
        sentence(caught)
        assert lock.exists()
        lock.unlink()
    elif alive is None:  # the lock of run.json, held by a live process
        monkeypatch.setattr(locks, "RUN_PATIENCE", 0.1)
        with pytest.raises(StoreError, match="expected nobody on run"):
            begin(tmp_path)
        assert os.listdir(tmp_path) == [lock.name]
        lock.unlink()
    begin(tmp_path).close()
    assert not list(tmp_path.glob("lock-*"))


def test_systems_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda self: (_ for _ in ()).throw(FileNotFoundError()))
    assert locks.start_time(os.getpid()) == ""
    assert locks.start_time(4194999) is None
    assert locks.start_time(10**30) is None

    def forbidden(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", forbidden)
    assert locks.start_time(1) == ""


def test_the_same_process_twice(tmp_path: Path) -> None:
    first = begin(tmp_path)
    with pytest.raises(StoreError, match=f"by process {os.getpid()} "):
        begin(tmp_path)
    first.write(0, rows(0))
    first.close()
    first.close()
    for call in (lambda: first.write(1, rows(1)), first.verify, first.halve_batch):
        with pytest.raises(StoreError, match="closed or lost its lock") as caught:
            call()
        sentence(caught)
    second = begin(tmp_path)
    del first
    gc.collect()  # the old store does not release the lock of the new one
    second.write(1, rows(1))
    del second
    gc.collect()  # a forgotten store releases its lock
    begin(tmp_path).close()


def test_a_failed_start_releases_its_own_lock_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Store) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "verify", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        begin(tmp_path)
    monkeypatch.undo()
    run = begin(tmp_path)
    del caught
    gc.collect()
    run.write(0, rows(0))
    run.close()


def test_a_removed_lock_stops_the_writer(tmp_path: Path) -> None:
    with begin(tmp_path) as run:
        run.write(0, rows(0))
        for lock in tmp_path.glob("lock-*"):
            lock.unlink()
        with pytest.raises(StoreError, match="lost its lock"):
            run.write(1, rows(1))


def test_a_forked_child_does_not_release_the_lock(tmp_path: Path) -> None:
    body = """
run = begin(sys.argv[1], 10, 4)
child = os.fork()
if child == 0:
    sys.exit(0)  # runs the exit handlers of the parent
os.waitpid(child, 0)
run.write(0, rows(0, run.record.parts))
print("still held")
"""
    with process(body, tmp_path) as child:
        assert finish(child).strip() == "still held"
    assert not list(tmp_path.glob("lock-*"))  # released at exit
