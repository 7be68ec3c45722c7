"""Files of leaky networks: Theorem LK, Lemma G and the exact norm floor, in ball arithmetic and in fractions."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flint")

from exact_documents import MEANING, compare, turned_round
from margin_documents import margin_document
from reference.exact_fractions import stated
from reference.exact_inequalities import Case, inequality, inequality_sides, solution

from verify.exact import certificate_file, inequalities, statements

UNIQUE = ("unique/upper", "unique/lower", "unique/clearance")
EVEN = np.array([0.5, -0.5, 0.5, -0.5])
UNEVEN = np.array([0.7, -0.3, 0.4, -0.2])
Doc = dict[str, Any]


def leaky(seed: int, slope: float, size: float, u: np.ndarray = EVEN, loose: float = 0.0) -> Doc:
    """A document of a leaky network of four points; its psi and phi are claimed with room, so that phi may grow."""
    return margin_document(seed, slope, size=size, kinks=0.0, loose=loose, u=u, m=4)


@pytest.fixture(scope="module")
def cases() -> list[Doc]:
    return [leaky(0, 0.3, 1e-2), leaky(1, 0.5, 1e-3, UNEVEN), leaky(2, 0.9, 1e-2, UNEVEN, 0.01), leaky(3, 0.2, 1e-5)]


def named(doc: Doc, name: str, theta: Any = None) -> Doc:
    doc = copy.deepcopy(doc) | {"bound": None}
    doc["inequality"] = {"name": name, "lhs": 0.0, "rhs": 0.0, "solution": theta}
    if sides := inequality_sides(doc):
        lhs, rhs = max(sides, key=lambda pair: pair[0] - pair[1])
        doc["inequality"] |= {"lhs": float(lhs), "rhs": float(rhs)}
    return doc


def answers(doc: Doc) -> dict[str, str]:
    return {s.name: s.answer for s in statements.check_document(doc).statements}


@pytest.mark.parametrize("name", UNIQUE)
def test_theorem_lk_is_proved_by_both(name: str, cases: list[Doc]) -> None:
    for doc in cases:
        found = answers(named(doc, name))
        assert inequality(named(doc, name)) is True
        assert found["inequality"] == found["inequality.stated"] == "proved"


@pytest.mark.parametrize("name", UNIQUE)
def test_a_statement_turned_round_is_refuted(name: str, cases: list[Doc], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(inequalities.NAMED, name, turned_round(name))
    assert answers(named(cases[2], name))["inequality"] == "refuted"


@pytest.mark.parametrize(
    ("claims", "text"),
    [
        ({"phi": 0.09}, "chi of point 0 is not below 1"),
        ({"epsilon_1": 0.5}, "chi of point 0 is not below 1"),
        ({"phi": 0.2}, "a (1 - psi) - x is not positive"),
    ],
)
def test_theorem_lk_speaks_where_chi_is_below_1(claims: dict[str, float], text: str, cases: list[Doc]) -> None:
    doc = named(cases[0], "unique/upper")
    doc["claimed"] |= claims
    (found,) = (s for s in statements.check_document(doc).statements if s.name == "inequality")
    assert found.answer == "not applicable"
    assert text in found.text


def with_bound(doc: Doc, strength: str) -> Doc:
    doc = copy.deepcopy(doc)
    doc["bound"] |= {"strength": strength}
    return doc


def test_bounds_are_proved_by_both(cases: list[Doc]) -> None:
    for doc, strengths in zip(cases, (("sharp",), ("sharp",), ("sharp",), ("sharp", "coarse")), strict=True):
        for strength in strengths:
            whole = with_bound(doc, strength)
            whole["bound"] |= stated(whole)
            assert compare(whole).exit_code == 0, strength
    uneven = with_bound(cases[1], "coarse")
    assert {s.answer for s in compare(uneven).statements if s.name.startswith("bound.")} == {"not applicable"}


def test_lemma_g_where_theorem_lk_does_not_speak(cases: list[Doc]) -> None:
    """With chi above 1 no activation is known, and the pulls are bounded with a^2 U alone."""
    near, far = with_bound(cases[0], "sharp"), with_bound(cases[0], "sharp")
    far["claimed"]["phi"] = 0.09
    far["bound"] |= stated(far)
    found = {s.name: s.answer for s in compare(far).statements}
    assert found["bound.epsilon"] == found["bound.stated"] == "proved"
    assert stated(near)["epsilon"] < far["bound"]["epsilon"]


def test_mutated_files_agree_with_the_fractions(cases: list[Doc]) -> None:
    """One number changed: claims that end a hypothesis or a bound, amplitudes, slopes, selections, points."""
    rng, seen = np.random.default_rng(5), {"proved": 0, "refuted": 0, "not applicable": 0}
    for trial in range(120):
        doc = with_bound(cases[trial % 4], ("sharp", "coarse")[trial % 8 == 3])
        what = trial // 4 % 6
        i, j = int(rng.integers(4)), int(rng.integers(4))
        if what < 2:
            key = rng.choice(certificate_file.CLAIMS)
            doc["claimed"][key] = min(2.0, doc["claimed"][key] * float(10 ** rng.uniform(-2, 3)))
        elif what == 2:
            doc["slope"] = float(rng.uniform(0.1, 1))
        elif what == 3:
            doc["amplitudes"][j][i] *= -1
        elif what == 4:
            doc["multipliers"][i] *= 1 + float(rng.normal())
        else:
            doc["claimed"] |= {"epsilon_1": 9.0, "delta_1": 9.0, "epsilon": 9.0, "delta": 9.0}
        for one in compare(doc).statements:
            if one.name in ("bound.epsilon", "bound.tau"):
                seen[one.answer] += 1
        doc = named(doc, UNIQUE[trial % 3])
        answer = answers(doc)["inequality"]
        assert MEANING[answer] is inequality(doc)
        seen[answer] += 1
    assert min(seen["proved"], seen["not applicable"]) > 50, seen


def test_the_norm_of_the_retrained_network_is_the_floor(cases: list[Doc]) -> None:
    """Its own multipliers make the two sides equal up to the room of the statement; a larger norm lemma is not needed,
    and without the solution the norm lemma stands alone."""
    for doc in cases[:3]:
        theta = solution(doc)
        both = named(doc, "identity/norm", theta)
        found = answers(both)
        assert found["inequality"] == found["inequality.stated"] == "proved"
        (_, certificate), (floor, star) = inequality_sides(both)
        assert abs(floor / star - 1) < 2.0**-50
        assert star < certificate
        lemma = inequality_sides(named(doc, "identity/norm"))[0][0]
        assert lemma < floor
    far = copy.deepcopy(cases[0])
    far["gram"][0][1] = far["gram"][1][0] = 0.2  # chi above 1: the norm lemma again
    assert Case(named(far, "identity/norm", theta)).exact_square() == 0
