"""The exact checker: true certificates are proved, falsified ones never, and what is open is said to be."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

flint = pytest.importorskip("flint")

from exact_documents import (  # noqa: E402
    OUT,
    compare,
    document,
    gram,
    labels,
    mutate,
    namespace,
    network_problem,
    norm,
    pool,
)

from verify.certify import documents  # noqa: E402
from verify.exact import statements  # noqa: E402


@pytest.fixture(scope="module")
def true_documents() -> list[dict[str, Any]]:
    return pool()


def test_true_documents_are_proved_by_both(true_documents: list[dict[str, Any]]) -> None:
    for doc in true_documents:
        report = compare(doc)
        assert report.exit_code == 0, [s for s in report.statements if s.answer != "proved"]


def test_tiny_angles_and_ill_conditioned_points_are_proved() -> None:
    for size in (1e-2, 1e-5, 1e-7, 1e-9):
        for linear in (False, True):
            doc = document(5, linear=linear, size=size)
            assert compare(doc).exit_code == 0
            assert doc["claimed"]["tau"] < size**2
    doc = document(3, "projection", "instance", linear=True, size=0.0)  # K = I: rho is exactly 0
    assert statements.check_document(doc).exit_code == 0


def test_ill_conditioned_points_are_decided() -> None:
    lengths = np.array([1, 1, 1, 1, 1e-4])
    k = gram(np.random.default_rng(0), 5, 1e-5) * lengths[:, None] * lengths  # condition number 1e8
    y = labels(5)
    lam = np.linalg.solve(y[:, None] * k * y, np.ones(5))
    assert lam.min() > 0
    z, lam = (y * OUT)[None, :], lam * OUT
    e = norm(k, z - (y * lam)[None, :] @ k)
    point = namespace(z, lam, lam[None]) | {"epsilon": e, "delta": 0.0, "orthogonal_norm": 0.0}
    theta = SimpleNamespace(**point, tau=0.0, kind="projection")
    doc = documents.build(k, network_problem(k, np.ones(1), y, 1.0), [], theta, theta)
    assert compare(doc).exit_code == 0


def test_a_thousand_mutations_are_never_proved_where_false(true_documents: list[dict[str, Any]]) -> None:
    rng = np.random.default_rng(20240517)
    refuted = 0
    for trial in range(1000):
        doc = copy.deepcopy(true_documents[trial % len(true_documents)])
        mutate(rng, doc)
        refuted += compare(doc).exit_code == 1
    assert refuted > 600


def test_random_instances_agree_with_fractions() -> None:
    for seed in range(60):
        kind = ("projection", "span", "scaling")[seed % 3]
        doc = document(
            seed + 500, kind, ("instance", "sharp", None)[seed % 7 % 3] if kind == "projection" else None,
            linear=kind == "scaling" or seed % 2 == 0, trained=seed % 5 == 0, size=10.0 ** -(1 + seed % 6),
            m=3 + seed % 3,
        )  # fmt: skip
        compare(doc)


def test_a_statement_at_its_edge_is_decided() -> None:
    doc = document(1, linear=True, strength=None, trained=True)
    at = {s.name: s.answer for s in statements.check_document(doc).statements}
    assert at["assumption"] == "proved"
    largest = max(abs(v) for i, row in enumerate(doc["gram"]) for v in row[:i])
    doc["claimed"]["phi"] = largest  # an equality
    assert {s.name: s.answer for s in statements.check_document(doc).statements}["assumption"] == "proved"
    doc["claimed"]["phi"] = float(np.nextafter(largest, 0))
    assert {s.name: s.answer for s in statements.check_document(doc).statements}["assumption"] == "refuted"


@pytest.mark.parametrize("matrix", ["duplicate", "late duplicate", "zero minor", "indefinite"])
def test_a_gram_matrix_that_is_not_positive_definite_is_refuted(matrix: str) -> None:
    doc = document(1, linear=True, strength=None)
    k = doc["gram"]
    if matrix == "duplicate":
        for i in range(4):
            k[1][i] = k[i][1] = k[0][i]
        k[1][1] = k[0][0]
    elif matrix == "late duplicate":  # its pivot is 0 only in exact arithmetic
        for i in range(4):
            k[3][i] = k[i][3] = k[2][i]
        k[3][3] = k[2][2]
    elif matrix == "zero minor":
        k[0][1] = k[1][0] = k[0][0] = k[1][1] = 1.0
    else:
        k[3][3] = -1.0
    report = compare(doc)
    assert report.statements[0].answer == "refuted"
    assert report.exit_code == 1


def test_undecided_is_not_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    doc = document(1)
    monkeypatch.setattr(statements, "PRECISIONS", (24,))
    report = statements.check_document(doc)
    assert report.exit_code == 3
    assert "undecided" in {s.answer for s in report.statements}
    assert "refuted" not in {s.answer for s in report.statements}


def test_the_sign_of_a_derived_preactivation_may_take_many_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    doc = document(1, strength=None)
    r = doc["forget"][0]
    i = (r + 1) % 4
    j = next(j for j in range(4) if doc["mu"][j][r] > 0)
    push = doc["output_weights"][j] * doc["labels"][r] * doc["mu"][j][r] * doc["gram"][r][i]
    tops = [0.0 if p == r else 1.0 for p in range(4)]
    doc["certificate"].update(kind="scaling", preactivations=None, multipliers=tops)
    for p in range(4):
        doc["mu"][p] = [v if p == j else 0.0 for v in doc["mu"][j]]
        doc["preactivations"][p] = [0.5] * 4
        doc["certificate"]["mu"][p] = list(tops)
    doc["preactivations"][j][i] = push  # theta^ has the rounding error of `push` there, of either sign
    doc["certificate"]["mu"][j][i] = 0.5
    answer = {s.name: s.answer for s in compare(doc).statements}["certificate.selection"]
    assert answer == "refuted"
    monkeypatch.setattr(statements, "PRECISIONS", (24,))
    answer = {s.name: s.answer for s in statements.check_document(doc).statements}["certificate.selection"]
    assert answer == "undecided"


def test_a_negative_multiplier_without_mu_is_refuted() -> None:
    doc = document(1, strength=None)
    doc["multipliers"][2] = -1e-18
    for j in range(4):
        doc["mu"][j][2], doc["preactivations"][j][2] = 0.0, -1.0
    found = {s.name: s for s in compare(doc).statements}["original.selection"]
    assert found.answer == "refuted"
    assert "multiplier 2 is negative" in found.text


def test_linear_angles_beyond_a_right_angle() -> None:
    doc = document(1, linear=True, strength=None)
    doc["certificate"]["preactivations"] = [[-v for v in doc["certificate"]["preactivations"][0]]]
    for tau, answer in ((0.5, "refuted"), (1.5, "refuted"), (2.0, "proved")):
        doc["claimed"]["tau"] = tau
        report = compare(doc)
        assert next(s for s in report.statements if s.name == "angle").answer == answer


def test_default_size_agrees_with_the_fractions_and_is_fast(tmp_path: Path) -> None:
    docs = [
        document(s, strength=b, m=10, n=40, size=1e-6, trained=s % 2 == 1)
        for s, b in enumerate(("instance", "sharp", "coarse"))
    ]
    assert compare(docs[0]).exit_code == 0
    paths = []
    for i, doc in enumerate(docs):
        paths.append(tmp_path / f"{i}.json")
        documents.write(paths[-1], doc)
    statements.check_file(paths[0])
    start = time.process_time()
    code, reports = statements.check_files(paths)
    assert (time.process_time() - start) / len(paths) < 0.2
    assert code == 0
    assert all(len(r["sha256"]) == 64 and r["versions"]["python-flint"] == flint.__version__ for r in reports)
