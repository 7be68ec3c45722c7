"""Inequalities that a certificate file names: ball arithmetic against fractions, true ones and falsified ones."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from verify.certify import documents

flint = pytest.importorskip("flint")

from exact_documents import MEANING, document, mutate, turned_round  # noqa: E402
from reference.exact_inequalities import inequality, inequality_sides, solution  # noqa: E402

from verify.exact import balls, certificate_file, inequalities, statements  # noqa: E402
from verify.exact.certificate_file import INEQUALITIES, CertificateError  # noqa: E402

#: those that these documents, of slope 0 and 1, are about; several classes have files of their own (test_class_files)
NAMES = [name for name in INEQUALITIES if not name.startswith(("unique/", "softmax/"))]
SORTS: list[dict[str, Any]] = [
    {"trained": True, "m": 4, "n": 3}, {"size": 0.05, "k": 2, "m": 5, "n": 4},
    {"linear": True, "trained": True, "size": 0.05}, {"omega": 0.01, "trained": True, "n": 3},
    {"linear": True, "k": 2, "m": 5, "omega": 0.01, "size": 1e-5}, {"kind": "span", "trained": True, "n": 3},
    {"kind": "scaling", "linear": True, "trained": True, "size": 0.02}, {"kind": "retrain", "linear": True},
    {"step": 0.75, "n": 3}, {"step": 0.5, "linear": True}, {"size": 1e-7, "n": 3},
]  # fmt: skip


def with_inequality(doc: dict[str, Any], name: str, theta: dict[str, Any]) -> dict[str, Any]:
    """The document with an inequality, whose stated sides are those of its tightest entry where it has one."""
    doc = copy.deepcopy(doc)
    doc["inequality"] = {"name": name, "lhs": 0.0, "rhs": 0.0, "solution": copy.deepcopy(theta)}
    if sides := inequality_sides(doc):
        lhs, rhs = max(sides, key=lambda pair: pair[0] - pair[1])
        doc["inequality"] |= {"lhs": float(lhs), "rhs": float(rhs)}
    return doc


def answer(doc: dict[str, Any]) -> dict[str, str]:
    found = {s.name: s.answer for s in statements.check_document(doc).statements}
    expected = inequality(doc)
    assert found["inequality"] in MEANING, doc["inequality"]["name"]
    assert MEANING[found["inequality"]] is expected, (doc["inequality"]["name"], found["inequality"], expected)
    return found


@pytest.fixture(scope="module")
def cases() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    docs = [document(seed, **({"strength": None} | sort)) for seed, sort in enumerate(SORTS)]
    return [(doc, solution(doc)) for doc in docs]


@pytest.mark.parametrize("name", NAMES)
def test_true_documents_are_proved_by_both(name: str, cases: Any) -> None:
    proved = 0
    for doc, theta in cases:
        found = answer(with_inequality(doc, name, theta))
        assert found["inequality"] == found["inequality.stated"]
        proved += found["inequality"] == "proved"
    assert proved >= 5  # of eleven: the others have another step, kind or no forgotten set for it


def test_mutated_documents_agree_with_the_fractions(cases: Any) -> None:
    rng = np.random.default_rng(7)
    seen = {"proved": 0, "refuted": 0, "not applicable": 0}
    for trial in range(240):
        doc, theta = cases[trial % len(cases)]
        doc = with_inequality(doc, NAMES[trial % len(NAMES)], theta)
        for _ in range(1 + trial % 3):
            mutate(rng, doc)
        if trial % 4 == 0:
            given = doc["inequality"]["solution"]
            given["multipliers"] = [0.0 if rng.random() < 0.2 else v for v in given["multipliers"]]
        if trial % 4 == 1:  # so that hypotheses hold with room, and sides move freely
            doc["claimed"] |= {"epsilon_1": 9.0, "delta_1": 99.0}
        seen[answer(doc)["inequality"]] += 1
    assert min(seen["proved"], seen["not applicable"]) > 50, seen
    assert seen["refuted"] == 0, "these are theorems"


@pytest.mark.parametrize("name", NAMES)
def test_a_statement_turned_round_is_refuted(name: str, cases: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Theorems cannot be made false: with lhs and rhs exchanged, the checker must refute what it proved before."""
    doc, theta = cases[2] if name in ("identity/norm",) else cases[0]
    monkeypatch.setitem(inequalities.NAMED, name, turned_round(name))
    found = {s.name: s.answer for s in statements.check_document(with_inequality(doc, name, theta)).statements}
    assert found["inequality"] == "refuted"


def test_stated_sides_are_compared_with_the_derived_ones(cases: Any) -> None:
    doc, theta = cases[0]
    for side in ("lhs", "rhs"):
        for name in ("multipliers/upper", "retrain/distance", "identity/separation"):
            changed = with_inequality(doc, name, theta)
            changed["inequality"][side] *= 1.02
            refuted = [s.name for s in statements.check_document(changed).statements if s.answer == "refuted"]
            assert refuted == ["inequality.stated"]


def test_wrong_sets_of_the_solution_are_not_applicable(cases: Any) -> None:
    doc, theta = cases[0]
    kept = [i for i in range(4) if i not in doc["forget"]]
    theta = copy.deepcopy(theta)
    theta["multipliers"][kept[0]] = 0.0  # its margin then stays below 1
    for name in NAMES:
        found = answer(with_inequality(doc, name, theta))
        if INEQUALITIES[name]:
            assert found["inequality"] == "not applicable"


def bare(gram: Any, labels: Any, z: Any, lam: Any, mu: Any, **changes: Any) -> dict[str, Any]:
    """A document of one neuron, with generous claims and theta~ = theta, before the changes."""
    z, lam, mu = np.atleast_2d(z).tolist(), list(map(float, lam)), np.atleast_2d(mu).tolist()
    claims = dict.fromkeys(certificate_file.CLAIMS, 1e3) | {"tau": 2.0}
    point = {"preactivations": z, "multipliers": lam, "mu": mu}
    certificate = {"kind": "projection", "step_scale": 1.0, "factor": 1.0, **copy.deepcopy(point)}
    doc = {
        "format": dict(certificate_file.OLD_FORMAT), "model": {"kind": "relu"}, "gram": np.asarray(gram).tolist(),
        "labels": list(map(float, labels)), "output_weights": [1.0], "forget": [], "orthogonal_norm_squared": 0.0,
        **point, "certificate": certificate, "claimed": claims, "bound": None, "inequality": None,
    }  # fmt: skip
    return doc | changes


def test_an_open_hypothesis_of_tau_does_not_leave_tau_out() -> None:
    """The sine is 1 / sqrt(1 + 1e-300): whether it is below 1 takes 1536 bits, and until then nothing is said."""
    doc = bare([[1, 0.5], [0.5, 1]], [1, 1], [1, 2], [0, 2], [0, 2], forget=[1], model={"kind": "linear"})
    doc |= {"orthogonal_norm_squared": 1e-300}
    doc["certificate"] |= {
        "factor": 1e151,
        "preactivations": [[1.0, 0.5]],
        "multipliers": [0.0, 0.0],
        "mu": [[0.0] * 2],
    }
    doc["claimed"] |= {"epsilon_1": 10.0, "delta_1": 2.0, "epsilon": 10.5, "delta": 2.0, "tau": 0.01}
    doc["bound"] = {"name": "projection", "strength": "instance", "epsilon": 11.0, "delta": 2.0, "margin": 0.0}
    for tau, stated in ((123456.0, "refuted"), (0.0, "refuted"), (1.0, "proved")):
        doc["bound"]["tau"] = tau
        found = {s.name: s for s in statements.check_document(doc).statements}
        assert found["bound.tau"].answer == "proved"
        assert found["bound.tau"].bits > 1000
        assert found["bound.stated"].answer == stated
    doc["claimed"] |= {"tau": 2.0}
    doc["bound"] |= {"tau": 1.5, "margin": 2.0**-40}  # the sine is above 1: that part of the bound is void
    found = {s.name: s.answer for s in statements.check_document(doc).statements}
    assert (found["bound.tau"], found["bound.stated"]) == ("not applicable", "refuted")


def test_stated_sides_of_nearly_orthogonal_points_are_still_compared() -> None:
    doc = document(0, linear=True, size=1e-8)
    doc["bound"] |= {"epsilon": 2 * doc["bound"]["epsilon"]}
    assert [s.name for s in statements.check_document(doc).statements if s.answer == "refuted"] == ["bound.stated"]


def norm_document(gram: np.ndarray, size: float) -> dict[str, Any]:
    """All pre-activations equal to `size`, every point retained, and the norm lemma."""
    one = np.ones(len(gram))
    lemma = {"name": "identity/norm", "lhs": 1.0, "rhs": 1.0, "solution": None}
    return bare(gram, one, size * one, one, one, inequality=lemma)


@pytest.mark.parametrize("q", [5, 13, 17])
def test_a_largest_eigenvalue_of_many_signed_vectors(q: int) -> None:
    """I + S/64 with a conference matrix S: entrywise radii grow faster than the entries of the powers."""
    squares = {a * a % q for a in range(1, q)}
    s = np.zeros((q + 1, q + 1))
    s[0, 1:] = s[1:, 0] = 1
    for a, b in np.argwhere(~np.eye(q, dtype=bool)):
        s[a + 1, b + 1] = 1 if (a - b) % q in squares else -1
    gram = np.eye(q + 1) + s / 64
    found = balls.top_eigenvalue(tuple(map(tuple, gram.tolist())), 384)
    assert abs(found - (1 + flint.arb(q).sqrt() / 64)) < 2.0**-40
    answers = {s.name: s.answer for s in statements.check_document(norm_document(gram, 3.0)).statements}
    assert answers["inequality"] == "proved"


def test_a_tie_of_the_norm_lemma_is_decided_in_bounded_time() -> None:
    start = time.process_time()
    report = statements.check_document(norm_document(np.eye(40) + 2.0**-10, 1.0))
    assert {s.name: s.answer for s in report.statements}["inequality"] == "proved"
    assert time.process_time() - start < 20


def test_the_names_are_those_of_the_checker() -> None:
    assert set(inequalities.NAMED) == set(INEQUALITIES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "multipliers/uper"}, "one of multipliers/upper"),
        ({"lhs": "inf"}, "inequality.lhs: found 'inf'"),
        ({"rhs": True}, "inequality.rhs: found True"),
        ({"solution": []}, "an object with the keys preactivations"),
        ({"name": "retrain/tau", "solution": None}, "a point, which retrain/tau speaks of"),
        ({"extra": 1}, "the unknown key 'extra'"),
        ({"solution": {"preactivations": [], "multipliers": [], "mu": []}}, "inequality.solution.preactivations"),
    ],
)
def test_malformed_inequalities_are_named(change: dict[str, Any], message: str, cases: Any) -> None:
    doc = with_inequality(*[cases[0][0], "multipliers/upper", cases[0][1]])
    doc["inequality"] |= change
    with pytest.raises(CertificateError, match=message.replace("(", r"\(")):
        statements.check_document(doc)


def test_comparison_files(tmp_path: Path) -> None:
    make = documents.comparison
    inf = float("inf")
    for lhs, rhs, code in ((1.0, 2.0, 0), (2.0, 2.0, 0), (2.0, 1.0, 1), (inf, 1.0, 1), (0.0, -inf, 1)):
        path = tmp_path / "c.json"
        documents.write(path, make("data", "norms/exact/probability", "gaunlearn run data", lhs, rhs))
        report = statements.check_file(path)
        assert report.exit_code == code
        assert "none derived" in report.statements[0].text
        assert "`gaunlearn run data`" in report.statements[0].text
    good = make("data", "a/b/c", "gaunlearn run data", 1.0, 2.0)
    changes: tuple[dict[str, Any], ...] = (
        {"lhs": "nan"}, {"rhs": None}, {"claim": "x\n"}, {"reproduce": 3}, {"more": 1}, {"claim": "x" * 3000},
        {"format": certificate_file.COMPARISON_FORMAT | {"version": True}},
    )  # fmt: skip
    for change in changes:
        with pytest.raises(CertificateError):
            statements.check_document(good | change)
    with pytest.raises(CertificateError):
        make("data", "a/b/c", "gaunlearn run data", float("nan"), 1.0)
