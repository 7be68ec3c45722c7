"""Files that anyone may have written get a sentence, and files are written whole."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flint")

from exact_documents import document, network_problem

from gaunlearn_jax.store.disk import StoreError
from verify.certify import documents
from verify.exact import certificate_file, fields, problem, statements
from verify.exact.certificate_file import CertificateError


def test_floats_read_back_exactly(tmp_path: Path) -> None:
    doc = document(7, trained=True)
    path = tmp_path / "c.json"
    documents.write(path, doc)
    back, _ = certificate_file.read(path)
    assert back == doc
    assert os.listdir(tmp_path) == ["c.json"]


def hostile(doc: dict[str, Any]) -> dict[str, bytes]:
    text = json.dumps(doc)
    entry = repr(doc["gram"][0][0])
    swap = {
        "nan": "NaN", "infinity": "-Infinity", "overflow": "1e400", "underflow": "1e-400", "boolean": "true",
        "string": '"1.0"', "null": "null", "huge integer": "1" * 5000, "large integer": str(2**54), "list": "[1.0]",
        "long decimal": "0." + "1" * 100_000,
    }  # fmt: skip
    files = {name: text.replace(entry, value, 1).encode() for name, value in swap.items()}
    files |= {
        "empty": b"", "truncated": text[: len(text) // 2].encode(), "not json": b"\x7fELF" + bytes(100),
        "nul": text.encode() + b"\0", "utf-16": text.encode("utf-16"), "bom": b"\xef\xbb\xbf" + text.encode(),
        "deep lists": b"[" * 10_000, "deep balanced": b"[" * 10_000 + b"]" * 10_000, "deep objects": b'{"a":' * 10_000,
        "long list": b'{"gram": [' + b"0," * 3_000_000 + b"0]}", "huge": b" " * (fields.MAX_BYTES + 1),
        "quotes": b'"' + b'\\"' * 2_000_000, "many strings": b'"",' * 100_000, "scalar": b"1.0", "top list": b"[]",
        "duplicate key": text.replace('"labels"', '"labels": [1, -1], "labels"', 1).encode(),
        "duplicate inner key": text.replace('"tau"', '"tau": 0.5, "tau"', 1).encode(),
        "unknown key": text.replace('"labels"', '"lables"', 1).encode(),
        "size for a list": text.replace(json.dumps(doc["labels"]), "1000000000", 1).encode(),
        "shape for a matrix": text.replace(json.dumps(doc["gram"]), '{"shape": [1000000000, 1000000000]}', 1).encode(),
        "npy header": b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'shape': (1000000000, 1000000000), }",
        "gzip": gzip.compress(bytes(10**7)), "wide": b"[" + b"[[]]," * 150_000 + b"[]]",
        "wide objects": b"[" + b'{"a":{}},' * 150_000 + b"{}]",
        "huge exponent": text.replace(entry, "1e999999999", 1).encode(),
        "lone surrogate": text.replace('"labels"', '"\\ud800"', 1).encode(),
        "nul key": text.replace('"labels"', '"\\u0000"', 1).encode(),
        "long key": text.replace('"labels"', '"' + "l" * 10**6 + '"', 1).encode(), "deep in a value":
        text.replace(json.dumps(doc["labels"]), "[" * 10_000 + "]" * 10_000, 1).encode(),
        "numpy nan": text.replace(entry, "nan", 1).encode(), "minus nan": text.replace(entry, "-NaN", 1).encode(),
    }  # fmt: skip
    return files


def edits(doc: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Well-formed JSON with one wrong field."""
    changes: dict[str, tuple[str, Any]] = {
        "label 2": ("labels", [2, *doc["labels"][1:]]), "ragged": ("mu", [doc["mu"][0][:-1], *doc["mu"][1:]]),
        "no labels": ("labels", []), "one point": ("labels", [1]), "forget all": ("forget", [0, 1, 2, 3]),
        "forget twice": ("forget", [1, 1]), "forget float": ("forget", [1.0]), "forget -1": ("forget", [-1]),
        "forget 4": ("forget", [4]), "forget true": ("forget", [True]),
        "version": ("format", {"name": "x", "version": 1}),
        "version true": ("format", {**doc["format"], "version": True}), "zero u": ("output_weights", [0.0] * 4),
        "no neurons": ("output_weights", []), "model": ("model", {"kind": "tanh"}), "bound": ("bound", "sharp"),
        "weights": ("output_weights", "abc"), "many": ("labels", [1] * 200), "omega": ("orthogonal_norm_squared", -1.0),
        "claimed": ("claimed", {**doc["claimed"], "tau": 2.5}),
        "negative": ("claimed", {**doc["claimed"], "epsilon": -1e-9}),
        "step": ("certificate", {**doc["certificate"], "step_scale": -1.0}),
        "kind": ("certificate", {**doc["certificate"], "kind": "magic"}),
        "scaling with Z": ("certificate", {**doc["certificate"], "kind": "scaling"}),
        "margin": ("bound", {**doc["bound"], "margin": 0.1}), "name": ("bound", {**doc["bound"], "name": "best"}),
    }  # fmt: skip
    return {name: {**doc, key: value} for name, (key, value) in changes.items()}


def test_hostile_files_get_a_sentence_and_exit_2(tmp_path: Path) -> None:
    doc = document(8)
    files = hostile(doc) | {name: json.dumps(d).encode() for name, d in edits(doc).items()}
    start = time.process_time()
    for name, data in files.items():
        path = tmp_path / "file.json"
        path.write_bytes(data)
        code, reports = statements.check_files([path])
        assert code == 2, name
        assert "expected" in reports[0]["error"], name
        assert len(reports[0]["error"]) < 600, name
        assert "\n" not in reports[0]["error"], name
    assert time.process_time() - start < 20
    for path in (tmp_path, tmp_path / "missing.json", tmp_path / "nul\0.json", Path("/dev/null")):
        assert statements.check_files([path])[0] == 2


def test_hostile_files_are_refused_in_little_memory_and_time(tmp_path: Path) -> None:
    """By the command, all at once: a sentence for each within 400 MiB and 20 s of processor time, and exit 2."""
    files = hostile(document(8))
    for name, data in files.items():
        (tmp_path / f"{name}.json").write_bytes(data)
    limits = "import resource as r; r.setrlimit(r.RLIMIT_AS, (400 * 2**20,) * 2); r.setrlimit(r.RLIMIT_CPU, (20, 20)); "
    code = limits + "import sys; from verify.cli.main import main; sys.exit(main(['check', *sys.argv[1:]]))"
    paths = sorted(map(str, tmp_path.iterdir()))
    found = subprocess.run(
        [sys.executable, "-c", code, *paths], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert found.returncode == 2, found.stderr[-500:]
    assert found.stderr == ""
    lines = found.stdout.splitlines()
    assert len(lines) == len(files)
    assert all("expected" in line and len(line) < 800 for line in lines)


@pytest.mark.slow
def test_the_largest_files_take_seconds() -> None:
    """An exactly singular Gram matrix of the largest size, which no precision decides, and wild exponents."""
    rng = np.random.default_rng(0)
    m = problem.MAX_ROWS // 2
    x = rng.integers(-8, 8, (m, m - 1)).astype(float)
    scale = 2.0 ** rng.integers(-400, 400, m)
    doc = document(0, strength=None, linear=True, m=m, size=1e-4)
    start = time.process_time()
    report = statements.check_document({**doc, "gram": (scale[:, None] * (x @ x.T) * scale).tolist()})
    assert time.process_time() - start < 20
    assert report.exit_code == 1
    assert report.statements[0].answer == statements.REFUTED


def test_missing_keys_and_wrong_types_are_named(tmp_path: Path) -> None:
    doc = document(8)
    for key in certificate_file.OLD_KEYS:
        broken = {k: v for k, v in doc.items() if k != key}
        with pytest.raises(CertificateError, match=key):
            statements.check_document(broken)
        with pytest.raises(CertificateError):
            statements.check_document({**doc, key: float("nan")})
    with pytest.raises(CertificateError, match=r"'lables'.*expected labels"):
        statements.check_document({**doc, "lables": 1})
    with pytest.raises(CertificateError, match=r"gram\[1\]\[2\]: found nan"):
        statements.check_document({**doc, "gram": [*doc["gram"][:1], [0, 1, float("nan"), 0], *doc["gram"][2:]]})


def test_a_fifo_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert statements.check_files([tmp_path / "pipe"])[0] == 2


def test_exit_codes_in_order(tmp_path: Path) -> None:
    good, bad = document(9), document(9)
    bad["claimed"]["epsilon"] /= 2
    missing, paths = tmp_path / "none.json", [tmp_path / "good.json", tmp_path / "bad.json"]
    documents.write(paths[0], good)
    documents.write(paths[1], bad)
    assert statements.check_files(paths[:1])[0] == 0
    assert statements.check_files(paths)[0] == 1
    assert statements.check_files([*paths, missing])[0] == 2
    text = statements.check_file(paths[1]).statements[7].text
    assert text.startswith("refuted: the residual of theta~ is at most epsilon; |e|^2 exceeds epsilon^2 (")


def test_the_writer_refuses_what_has_no_certificate() -> None:
    doc = document(1, linear=True, strength=None, version=2)
    point = {key: np.array(doc[key]) for key in ("preactivations", "multipliers", "selection")}
    point |= {"epsilon": 0.0, "delta": 0.0, "orthogonal_norm": 0.0}
    own = point | {key: np.array(doc["certificate"][key]) for key in ("preactivations", "multipliers", "selection")}
    own |= {"epsilon": 0.1, "delta": 0.1, "tau": 0.1, "kind": "projection"}
    one, mask = np.ones(4), np.array([True, False, False, False])

    def make(problem: Any = one, gram: Any = doc["gram"], forget: Any = (0,), step: float = 1.0, **change: Any) -> Any:
        mine = {k: v for k, v in change.items() if k in ("multipliers", "preactivations", "selection")}
        theta, tilde = SimpleNamespace(**(point | mine)), SimpleNamespace(**(own | change))
        made = network_problem(np.eye(4), np.ones(1), np.asarray(problem), 1.0)
        return documents.build(gram, made, forget, theta, tilde, step_scale=step)

    assert make(forget=mask)["forget"] == [0]
    for change in (
        {"gram": np.ones((4, 4))}, {"gram": np.eye(3)}, {"gram": np.eye(4) * np.nan}, {"gram": np.zeros((0, 0))},
        {"gram": np.triu(np.ones((4, 4)))}, {"forget": [4]}, {"forget": [0.5]}, {"forget": mask[:3]},
        {"forget": [0, 1, 2, 3]}, {"tau": np.nan}, {"epsilon": np.inf}, {"problem": 0 * one},
        {"problem": np.nan * one}, {"multipliers": np.full(4, np.nan)}, {"kind": "other"}, {"step": -1.0},
        {"selection": np.ones((2, 4))}, {"kind": "scaling", "preactivations": np.zeros((1, 4))},
    ):  # fmt: skip
        with pytest.raises(CertificateError, match="expected"):
            make(**change)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "c.json").mkdir()
    with pytest.raises(StoreError, match="could not be written"):
        documents.write(tmp_path / "c.json", {"a": 1})
    assert os.listdir(tmp_path) == ["c.json"]


def test_the_checker_imports_neither_jax_nor_the_library() -> None:
    names = "[m for m in sys.modules if m.split('.')[0] in ('jax', 'gaunlearn_jax')]"
    code = f"import sys, verify.exact.statements; print({names})"
    root = Path(__file__).parents[2]
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
