"""Files of format 2: any slope and layout, in ball arithmetic and in fractions, true and falsified."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flint")

from exact_documents import MEANING, compare, document
from margin_documents import TWO_BY_TWO, margin_document
from reference.exact_inequalities import inequality, inequality_sides, solution

from verify.exact import balls, certificate_file, inequalities, statements
from verify.exact.certificate_file import INEQUALITIES, CertificateError

ONE_OUTPUT = {name for name in INEQUALITIES if name.split("/")[0] in ("multipliers", "estimators")}


def sorts() -> dict[str, dict[str, Any]]:
    """A true document of every sort; those of one output also state what format 1 does."""
    found = {
        "relu": document(3, "projection", "sharp", size=1e-4, version=2),
        "linear": document(4, "scaling", "coarse", linear=True, size=1e-3, version=2),
        "leaky": margin_document(0, 0.25),
        "leaky span": margin_document(1, 0.1, kind="span"),
        "leaky step": margin_document(2, 0.1, step=0.75),
        "leaky retrain": margin_document(3, 0.3, kind="retrain", bounded=False),
        "leaky layout": margin_document(4, 0.1, TWO_BY_TWO),
        "relu layout": margin_document(5, 0.0, TWO_BY_TWO),
        "relu layout span": margin_document(6, 0.0, TWO_BY_TWO, kind="span"),
        "linear layout": margin_document(7, 1.0, TWO_BY_TWO, kinks=0.0),
        "linear layout scaling": margin_document(8, 1.0, TWO_BY_TWO, kind="scaling", kinks=0.0, size=1e-3),
        "leaky layout spaces": margin_document(16, 0.2, TWO_BY_TWO, strength="spaces"),
        "relu layout spaces": margin_document(13, 0.0, TWO_BY_TWO, strength="spaces"),
        "absolute value": margin_document(10, -1.0, TWO_BY_TWO),
    }
    return found


@pytest.fixture(scope="module")
def cases() -> dict[str, dict[str, Any]]:
    return sorts()


def test_true_documents_are_proved_by_both(cases: dict[str, dict[str, Any]]) -> None:
    for name, doc in cases.items():
        report = compare(doc)
        assert report.exit_code == 0, (name, [s for s in report.statements if s.answer != "proved"])


def mutate(rng: np.random.Generator, doc: dict[str, Any]) -> None:
    """Change one number in place."""
    what = rng.choice(["gram", "amplitude", "slope", "multiplier", "selection", "z", "claim", "forget", "groups"])
    shift = float(rng.choice([-1, 1]) * 10 ** rng.uniform(-9, 0))
    owner = doc["certificate"] if rng.random() < 0.5 else doc
    if owner["preactivations"] is None and what == "z":
        owner = doc
    key = {"amplitude": "amplitudes", "multiplier": "multipliers", "z": "preactivations"}.get(what, what)
    if what in ("multiplier", "selection", "z", "amplitude", "gram"):
        part = owner[key] if what in ("multiplier", "selection", "z") else doc[key]
        i = int(rng.integers(len(part)))
        if what == "multiplier":
            part[i] += shift
            return
        j = int(rng.integers(len(part[i])))
        part[i][j] += shift
        if what == "gram":
            part[j][i] = part[i][j]
    elif what == "slope":
        doc["slope"] = float(np.clip(doc["slope"] + shift, -1, 1))
    elif what == "claim":
        name = str(rng.choice(certificate_file.CLAIMS))
        doc["claimed"][name] = min(2.0, doc["claimed"][name] * float(10 ** rng.uniform(-3, 0.3)))
    elif what == "forget":
        doc["forget"] = [1]
    elif doc["slope"] != 0:
        doc["groups"] = [int(g) for g in rng.integers(0, 2, len(doc["multipliers"]))]  # read by no statement


def test_mutations_are_never_proved_where_false(cases: dict[str, dict[str, Any]]) -> None:
    rng, refuted = np.random.default_rng(11), 0
    for trial in range(300):
        doc = copy.deepcopy(list(cases.values())[trial % len(cases)])
        mutate(rng, doc)
        with contextlib.suppress(CertificateError):  # a neuron of a ReLU network that now helps two groups
            refuted += compare(doc).exit_code == 1
    assert refuted > 150


def test_every_number_of_theta_is_checked() -> None:
    """A change far beyond the rooms, of any one selection, multiplier, amplitude or pre-activation, is refuted."""
    doc = margin_document(58, 0.3, TWO_BY_TWO, kinks=0.0, loose=0.0)
    assert doc["claimed"]["epsilon_1"] < 1e-10
    for key in ("selection", "amplitudes", "preactivations"):
        for j, line in enumerate(doc[key]):
            for i in range(len(line)):
                changed = copy.deepcopy(doc)
                changed[key][j][i] += 0.05 if key != "selection" or line[i] < 0.5 else -0.05
                assert statements.check_document(changed).exit_code == 1, (key, j, i)
    for a in range(len(doc["multipliers"])):
        changed = copy.deepcopy(doc)
        changed["multipliers"][a] *= 1.05
        assert statements.check_document(changed).exit_code == 1


def with_inequality(doc: dict[str, Any], name: str) -> dict[str, Any]:
    doc = copy.deepcopy(doc) | {"bound": None}
    doc["inequality"] = {"name": name, "lhs": 0.0, "rhs": 0.0, "solution": solution(doc)}
    if sides := inequality_sides(doc):
        lhs, rhs = max(sides, key=lambda pair: pair[0] - pair[1])
        doc["inequality"] |= {"lhs": float(lhs), "rhs": float(rhs)}
    return doc


@pytest.mark.parametrize("name", [name for name in INEQUALITIES if not name.startswith(("unique/", "softmax/"))])
def test_inequalities_are_proved_by_both_or_refused(name: str, cases: dict[str, dict[str, Any]]) -> None:
    proved = 0
    for sort, doc in cases.items():
        doc = with_inequality(doc, name)
        found = {s.name: s for s in statements.check_document(doc).statements}
        answer, expected = found["inequality"].answer, inequality(doc)
        assert MEANING[answer] is expected, (sort, answer, expected)
        assert found["inequality.stated"].answer == answer, sort
        proved += answer == "proved"
        if name in ONE_OUTPUT and "layout" in sort:
            assert "a point has several rows, entries or constraints" in found["inequality"].text
        if name.startswith("multipliers") and sort == "leaky":
            assert answer == "not applicable"
    assert proved >= (2 if name in ONE_OUTPUT else 5), proved


@pytest.mark.parametrize("strength", ["sharp", "coarse"])
def test_worst_case_bounds_of_other_problems_are_not_applicable(
    strength: str, cases: dict[str, dict[str, Any]]
) -> None:
    for sort in ("leaky", "relu layout", "linear layout scaling"):
        doc = copy.deepcopy(cases[sort])
        doc["bound"]["strength"] = strength
        answers = {s.answer for s in compare(doc).statements if s.name.startswith("bound")}
        assert answers == {"not applicable"}, sort
    unequal = copy.deepcopy(cases["leaky"]) | {"slope": 0.0}
    unequal["bound"]["strength"] = "sharp"
    assert {s.answer for s in compare(unequal).statements if s.name.startswith("bound")} == {"not applicable"}


def test_lemma_m_is_false_with_a_slope_and_so_refused() -> None:
    """Orthogonal points, an exact KKT point: beta = (1 + a) / (1 + a^2), above beta_max = 1."""
    doc = margin_document(0, 0.5, size=0.0, kinks=0.0, loose=0.0, u=np.array([0.5, -0.5, 0.5, -0.5]))
    q = balls.Quantities(certificate_file.parse(doc))
    assert all(abs(b - 1.5 / 1.25) < 1e-10 for b in inequalities.betas(q))
    assert q.beta_max < 1 + 1e-10
    found = {s.name: s for s in statements.check_document(with_inequality(doc, "multipliers/upper")).statements}
    assert found["inequality"].answer == "not applicable"
    assert "the slope is neither 0 nor 1" in found["inequality"].text


def test_version_1_and_version_2_of_one_instance_get_the_same_answers() -> None:
    for sort in ({"linear": True}, {}, {"strength": "sharp", "size": 1e-4}, {"kind": "span", "trained": True}):
        one, two = (document(12, **sort, version=version) for version in (1, 2))
        first, second = (statements.check_document(doc).statements for doc in (one, two))
        assert [(s.name, s.answer) for s in first] == [(s.name, s.answer) for s in second]
        parsed = [certificate_file.parse(doc).problem for doc in (one, two)]
        assert parsed[0] == parsed[1]


def changes() -> dict[str, tuple[dict[str, Any], str]]:
    layout = {key: list(index) for key, index in TWO_BY_TWO._asdict().items()}
    return {
        "another point's": ({"layout": layout | {"row": [2, *layout["row"][1:]]}}, r"layout.row\[0\]: found row 2"),
        "twice": ({"layout": layout | {"row": [1, *layout["row"][1:]]}}, "two entries of one row and one constraint"),
        "no such row": ({"layout": layout | {"row": [6, *layout["row"][1:]]}}, "an index from 0 to 5"),
        "short": ({"layout": layout | {"row": [0]}}, "a list of 12 entries"),
        "a float": ({"layout": layout | {"row": [0.0, *layout["row"][1:]]}}, r"layout.row\[0\]: found 0.0"),
        "true": ({"layout": layout | {"constraint": [False, *layout["constraint"][1:]]}}, "found False"),
        "empty constraint": ({"layout": layout | {"constraint": [1, 1, 1, 1, *layout["constraint"][4:]]}}, "layout"),
        "skipped point": ({"layout": layout | {"point_of_row": [0, 0, 1, 1, 3, 3]}}, "the points 0 to 3"),
        "unknown key": ({"layout": layout | {"rows": []}}, "the unknown key 'rows'"),
        "none": ({"layout": None}, "one entry a row where there is no layout"),
        "slope": ({"slope": 1.5}, "slope: found 1.5"),
        "slope below": ({"slope": "0"}, "slope: found '0'"),
        "groups": ({"groups": [0, 1, 0, 1, 0, 1], "slope": 0.0}, "one group for all constraints"),
        "group": ({"groups": [6] * 6}, r"groups\[0\]: found 6"),
        "amplitudes": ({"amplitudes": [[0.0] * 12] * 4}, "an amplitude that is not zero"),
        "no neurons": ({"amplitudes": []}, "the sizes of gram and amplitudes"),
        "text": ({"amplitudes": "abc"}, "amplitudes: found 'abc'"),
        "many": ({"amplitudes": [[1.0] * 12] * 4000}, "at most 32768 pairs"),
        "forget a row": ({"forget": [3]}, "an index from 0 to 2"),
        "forget all": ({"forget": [0, 1, 2]}, "at least one point left"),
        "mu": ({"mu": []}, "the unknown key 'mu'"),
        "version": ({"format": certificate_file.FORMAT | {"version": 3}}, "'version': 2"),
        "old keys": ({"labels": [1.0]}, "the unknown key 'labels'"),
    }  # fmt: skip


@pytest.mark.parametrize("case", changes())
def test_malformed_problems_are_named(case: str, cases: dict[str, dict[str, Any]]) -> None:
    change, message = changes()[case]
    with pytest.raises(CertificateError, match=message) as error:
        statements.check_document(cases["leaky layout"] | change)
    assert "expected" in str(error.value)
    assert "\n" not in str(error.value)


def test_layout_and_groups_may_be_left_out() -> None:
    doc = document(3, version=2)
    del doc["layout"], doc["groups"]
    assert statements.check_document(doc).exit_code == 0
    for key in certificate_file.KEYS:
        with pytest.raises(CertificateError, match=key):
            statements.check_document({k: v for k, v in doc.items() if k != key})
