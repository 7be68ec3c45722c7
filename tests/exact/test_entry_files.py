"""Files of several rows, entries and constraints a point: Theorem R' and Lemma M' in balls and in fractions."""

from __future__ import annotations

import copy
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flint")

from exact_documents import MEANING, compare, turned_round
from margin_documents import CLASSES, POOLED, TWO_BY_TWO, margin_document
from reference import exact_entries as reference
from reference.exact_fractions import Instance, stated
from reference.exact_inequalities import inequality, inequality_sides

from gaunlearn_jax.models.problem import Layout
from verify.exact import balls, certificate_file, entries, inequalities, statements
from verify.exact.balls import arb_mat, ctx

NOTHING: dict[str, Any] = {"lhs": 0.0, "rhs": 0.0, "solution": None}
NAMES = ("entries/upper", "entries/lower", "entries/leakage")
Doc = dict[str, Any]


def made(seed: int, slope: float, layout: Layout, **sort: Any) -> Doc:
    return margin_document(seed, slope, layout, **({"strength": "spaces", "n": 6, "kinks": 0.1} | sort))


@pytest.fixture(scope="module")
def cases() -> list[Doc]:
    return [
        made(0, 0.0, POOLED), made(2, 0.2, POOLED, size=0.003),
        made(6, 0.0, CLASSES, loose=0.02), made(2, 0.1, CLASSES, loose=0.02),
        made(1, 0.2, TWO_BY_TWO), made(5, 1.0, TWO_BY_TWO, kinks=0.0), made(0, -1.0, TWO_BY_TWO),
    ]  # fmt: skip


def named(doc: Doc, name: str) -> Doc:
    doc = copy.deepcopy(doc) | {"bound": None}
    doc["inequality"] = NOTHING | {"name": name}
    if sides := inequality_sides(doc):
        lhs, rhs = max(sides, key=lambda pair: pair[0] - pair[1])
        doc["inequality"] |= {"lhs": float(lhs), "rhs": float(rhs)}
    return doc


def answers(doc: Doc) -> dict[str, str]:
    return {s.name: s.answer for s in statements.check_document(doc).statements}


def test_theorem_and_lemma_are_proved_by_both(cases: list[Doc]) -> None:
    for doc in cases:
        assert compare(doc).exit_code == 0
        for one in (named(doc, name) for name in NAMES):
            found = answers(one)
            assert inequality(one) is True
            assert found["inequality"] == found["inequality.stated"] == "proved"


def test_the_numbers_are_those_of_the_fractions(cases: list[Doc]) -> None:
    silent = [copy.deepcopy(doc) for doc in cases[:2]]
    for doc in silent:  # one constraint, whose gradient has the slopes that its pre-activations say
        doc["multipliers"][1] = 0.0
    for doc in (*cases, *silent):
        x = Instance(doc)
        x.solve_all()
        with ctx.workprec(192):
            got = entries.lemma(balls.Quantities(certificate_file.parse(doc)))
        want = reference.lemma(x)
        for ours, theirs in ([got.mu], [want.mu]), (got.gamma, want.gamma), (got.lower, want.lower):
            np.testing.assert_allclose([float(v) for v in ours], [float(v) for v in theirs], rtol=1e-13)
        # the mean of gradients that the checker certifies is at most the shortest one
        assert 1 <= float(got.upper) / float(want.upper) * (1 + 1e-15) < 1 + 1e-12


@pytest.mark.parametrize("seed", range(4))
def test_the_shortest_mean_of_gradients(seed: int) -> None:
    """Against all subsets; the certified number is never above the true one."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(seed + 1, 3)) + 1
    gram = (rows @ rows.T).tolist()
    want = reference.shortest_mean([[Fraction(v) for v in row] for row in gram])
    got = entries._least_mean(arb_mat(gram).tolist())
    assert float(got) == pytest.approx(float(want), rel=1e-9, abs=1e-15)
    assert not got > float(want) * (1 + 1e-15)


def test_two_spaces_meet_at_the_smallest_principal_angle() -> None:
    gram = np.eye(4)
    gram[:2, 2:] = gram[2:, :2] = np.diag([0.6, 0.1])
    q = SimpleNamespace(gram=arb_mat(gram.tolist()))
    with ctx.workprec(192):
        assert float(entries._cosine(q, [[0, 1], [2, 3]])) == pytest.approx(0.6, rel=1e-12)
        assert float(entries._cosine(q, [[0, 3], [1, 2]])) == pytest.approx(0.6, rel=1e-12)
    assert entries._cosine(SimpleNamespace(gram=arb_mat(np.eye(4).tolist())), [[0, 1], [2, 3]]) == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_statement_turned_round_is_refuted(name: str, cases: list[Doc], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(inequalities.NAMED, name, turned_round(name))
    assert answers(named(cases[0], name))["inequality"] == "refuted"


def test_other_right_hand_sides_are_refuted(cases: list[Doc]) -> None:
    for quantity in ("epsilon", "delta", "tau"):
        doc = copy.deepcopy(cases[2])
        doc["bound"][quantity] *= 0.99
        assert [name for name, answer in answers(doc).items() if answer == "refuted"] == ["bound.stated"]
    for name in NAMES:
        doc = named(cases[2], name)
        doc["inequality"]["rhs"] *= 1.01
        assert [name for name, answer in answers(doc).items() if answer == "refuted"] == ["inequality.stated"]


def test_several_forgotten_points_leak_the_more(cases: list[Doc]) -> None:
    """The certificate is no longer one, but the bound is derived from theta alone."""
    doc = copy.deepcopy(cases[1]) | {"forget": [0, 1]}
    one, two = cases[1]["bound"]["epsilon"], stated(doc)["epsilon"]
    doc["bound"] |= stated(doc)
    assert two > one
    found = {s.name: s.answer for s in compare(doc).statements}
    assert found["bound.stated"] == "proved"
    assert found["certificate.selection"] == "refuted"


def test_it_speaks_of_the_whole_step_and_of_the_projection_certificate(cases: list[Doc]) -> None:
    for change in ({"name": "span"}, {"name": "scaling"}):
        doc = copy.deepcopy(cases[5])
        doc["bound"] |= change
        assert {s.answer for s in compare(doc).statements if s.name.startswith("bound.")} == {"not applicable"}
    half = made(0, 0.0, POOLED, strength="instance", step=0.5)
    half["bound"]["strength"] = "spaces"
    assert {s.answer for s in compare(half).statements if s.name.startswith("bound.")} == {"not applicable"}


def test_spaces_that_are_too_close() -> None:
    """1 - (m - 1) mu negative: no lemma; 1 - (M - 1) mu still positive: the leakage is bounded."""
    doc = made(0, 0.2, POOLED, size=0.25, strength="instance")
    mu = float(entries.lemma(balls.Quantities(certificate_file.parse(doc))).mu)
    assert 0.5 < mu < 1
    doc["bound"]["strength"] = "spaces"
    assert {s.answer for s in compare(doc).statements if s.name.startswith("bound.")} == {"not applicable"}
    assert [answers(named(doc, name))["inequality"] for name in NAMES] == [*["not applicable"] * 2, "proved"]


def test_a_sine_above_1_leaves_epsilon_and_delta(cases: list[Doc]) -> None:
    doc = copy.deepcopy(cases[0])
    doc["claimed"]["delta_1"] = 1e6
    doc["bound"] |= stated(doc)
    found = {s.name: s.answer for s in compare(doc).statements}
    assert found["bound.epsilon"] == found["bound.stated"] == "proved"
    assert found["bound.tau"] == "not applicable"
    doc["bound"]["tau"] = 1.0
    assert answers(doc)["bound.stated"] == "refuted"


def test_a_constraint_without_a_multiplier_counts_by_its_preactivations(cases: list[Doc]) -> None:
    doc = copy.deepcopy(cases[4])
    for point in (doc, doc["certificate"]):
        point["multipliers"][2] = 0.0
    for which, value in (("epsilon_1", 9.0), ("delta_1", 9.0), ("epsilon", 9.0), ("delta", 9.0)):
        doc["claimed"][which] = value
    for row in doc["selection"]:
        row[4] = 77.0  # nothing is said of it
    doc["bound"] |= stated(doc)
    assert compare(doc).exit_code == 0
    nothing = copy.deepcopy(doc)
    for point in (nothing, nothing["certificate"]):
        point["multipliers"] = [0.0] * 6
    nothing["bound"] |= stated(nothing)
    compare(nothing)
    lower = named(nothing, "entries/lower")
    assert MEANING[answers(lower)["inequality"]] is inequality(lower)


def test_mutated_files_agree_with_the_fractions(cases: list[Doc]) -> None:
    """One number changed: claims, amplitudes, slopes, selections, multipliers, K."""
    rng, seen = np.random.default_rng(5), {"proved": 0, "refuted": 0, "not applicable": 0}
    for trial in range(42):
        doc = copy.deepcopy(cases[trial % len(cases)])
        what, shift = trial // len(cases) % 6, float(rng.normal() * 10 ** rng.uniform(-3, 0))
        i, j = int(rng.integers(3)), int(rng.integers(6))
        if what == 0:
            key = rng.choice(certificate_file.CLAIMS)
            doc["claimed"][key] = min(2.0, doc["claimed"][key] * float(10 ** rng.uniform(-2, 2)))
        elif what == 1:
            doc["amplitudes"][j][i] += shift
        elif what == 2:
            doc["gram"][i][2] = doc["gram"][2][i] = shift
        elif what == 3:
            doc["multipliers"][i] *= 1 + shift
        elif what == 4:
            doc["forget"] = [i]
        else:
            doc["claimed"] |= {"epsilon_1": 9.0, "delta_1": 9.0, "epsilon": 9.0, "delta": 9.0}
        try:
            for one in compare(doc).statements:
                seen[one.answer] += one.name in ("bound.epsilon", "bound.tau")
        except certificate_file.CertificateError:  # a neuron of a ReLU network that now helps two groups
            continue
        if trial % 2:
            doc = doc | {"bound": None, "inequality": NOTHING | {"name": NAMES[trial % 3]}}
            answer = answers(doc)["inequality"]
            assert MEANING[answer] is inequality(doc)
            seen[answer] += 1
    assert min(seen["proved"], seen["not applicable"]) > 15, seen
