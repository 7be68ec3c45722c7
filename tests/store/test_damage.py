"""Results on disk: flipped bits, truncated and hostile files."""

import errno
import io
import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gaunlearn_jax import store
from gaunlearn_jax.store import StoreError, parts, strict_json
from gaunlearn_jax.store.folder import load
from store.runs import begin, contents, finished, flip, rewrite, rows, sentence

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
