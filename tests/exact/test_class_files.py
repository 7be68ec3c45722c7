"""Files of linear models with several classes: Theorem R' and Lemma M' are derived, and for no other problem."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from exact_documents import turned_round

pytest.importorskip("flint")

from reference import classes as reference
from reference.exact_inequalities import inequality

from gaunlearn_jax.data import from_classes
from gaunlearn_jax.kkt import class_margin
from gaunlearn_jax.models import LinearClasses
from verify.certify import documents
from verify.exact import classes, inequalities, statements
from verify.exact.balls import Quantities
from verify.exact.certificate_file import parse

M, C, K = 6, 4, 2
OUT = 1 + 2.0**-44


def class_document(strength: str | None = "sharp", inequality: str | None = None) -> dict[str, Any]:
    """The exact solution and its projection certificate, with both sides by the reference's formulas."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((M, 10**4)) / 100, np.append(np.arange(C), [1, 2])
    x = np.linalg.qr(x.T)[1].T
    full, keep = class_margin.solve(x, y, C), np.arange(M) >= K
    lam = full.multipliers
    w = OUT * full.weights
    h = reference.combination(x, y, np.where(keep[:, None], 0.0, lam))
    tilde = w - h + h @ reference.projector(x[keep])
    flat = np.array([lam[i, c] for i, c in reference.constraints(y, C)])
    owner = np.repeat(np.arange(M), C - 1)
    epsilon = np.linalg.norm(tilde - reference.combination(x, y, np.where(keep[:, None], lam, 0.0)))
    cos = np.sum((w - h) * tilde) / np.linalg.norm(w - h) / np.linalg.norm(tilde)
    one = np.ones((C, M * (C - 1)))
    point = SimpleNamespace(
        preactivations=w @ x.T, multipliers=flat, selection=one, orthogonal_norm=0.0, epsilon=1e-12, delta=1e-12
    )
    certificate = SimpleNamespace(
        kind="projection", preactivations=tilde @ x.T, multipliers=np.where(keep[owner], flat, 0.0), selection=one,
        epsilon=epsilon, delta=1e-12, tau=1 - cos + 1e-12,
    )  # fmt: skip
    k = x @ x.T
    psi, phi = np.abs(np.diag(k) - 1).max(), np.abs(k - np.diag(np.diag(k))).max()
    bound = None
    if strength == "sharp":
        rho, tau = reference.theorem(psi, phi, 1e-11, 1e-11, M, K, C)
        bound = {"name": "projection", "strength": "sharp", "epsilon": rho, "delta": 1e-11, "tau": tau}
    if strength == "coarse":
        e = 4 * M * phi
        rho, tau = 0.48 * np.sqrt((C - 1) / C) * K * e / np.sqrt(M), 0.31 * K**2 * e**2 / (M * (M - K))
        bound = {"name": "projection", "strength": "coarse", "epsilon": rho, "delta": 1e-11, "tau": tau}
    named = None
    if inequality is not None:
        lower, upper = reference.lemma(psi, phi, 1e-11, 1e-11, M, C)
        gamma = [np.linalg.norm(reference.combination(x, y, np.where(np.arange(M)[:, None] == i, lam, 0.0)))
                 for i in range(M)]  # fmt: skip
        lhs, rhs = (max(gamma), upper) if inequality == "upper" else (lower, min(gamma))
        named = {"name": f"softmax/{inequality}", "lhs": lhs, "rhs": rhs, "solution": None}
    problem = LinearClasses(C).problem(from_classes(x, y))
    forget = np.arange(M) < K
    doc = documents.build(k, problem, forget, point, certificate, bound=bound, inequality=named)
    if bound is not None:
        doc["bound"]["delta"] = doc["claimed"]["delta_1"]
    return doc


def answers(doc: dict[str, Any]) -> dict[str, str]:
    return {s.name: s.answer for s in statements.check_document(doc).statements}


def test_both_lines_of_the_theorem_and_both_bounds_of_the_lemma_are_proved() -> None:
    for strength in ("instance", "sharp"):
        doc = class_document("sharp")
        doc["bound"]["strength"] = strength
        if strength == "instance":
            doc["bound"] |= {"epsilon": 9.0, "tau": 2.0}
        assert {v for k, v in answers(doc).items() if not k.endswith("stated")} == {"proved"}
    assert answers(class_document("sharp"))["bound.stated"] == "proved"
    for side in ("upper", "lower"):
        doc = class_document(None, side)
        assert set(answers(doc).values()) == {"proved"}
        assert inequality(doc) is True  # in fractions


def test_the_coarse_line() -> None:
    doc = class_document("coarse")
    if 4 * M * doc["claimed"]["phi"] > 1:
        assert answers(doc)["bound.epsilon"] == "not applicable"
        # the same claims with the phi of a higher dimension are refused as an assumption, not proved
        doc["claimed"]["phi"] = 0.9 / (4 * M)
        assert answers(doc)["assumption"] == "refuted"
        assert answers(doc)["bound.epsilon"] == "not applicable"
    else:
        assert {answers(doc)[f"bound.{q}"] for q in ("epsilon", "delta", "tau", "stated")} == {"proved"}


@pytest.mark.parametrize("side", ["upper", "lower"])
def test_a_bound_turned_round_is_refuted(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"softmax/{side}"
    monkeypatch.setitem(inequalities.NAMED, name, turned_round(name))
    assert answers(class_document(None, side))["inequality"] == "refuted"


@pytest.mark.parametrize(
    ("line", "changes"),
    [("bound.stated", {"epsilon": 0.9}), ("bound.stated", {"tau": 0.8})],
)
def test_other_right_hand_sides_are_refuted(line: str, changes: dict[str, float]) -> None:
    doc = class_document("sharp")
    for name, factor in changes.items():
        doc["bound"][name] *= factor
    assert answers(doc)[line] == "refuted"


def test_an_amplitude_that_is_no_class_is_no_linear_model_of_classes() -> None:
    doc = class_document(None, "upper")
    assert classes.is_linear_classes(Quantities(parse(doc)))
    for j, e, value in ((0, 0, 0.5), (0, 0, -1.0), (2, 0, 1.0)):
        wrong = copy.deepcopy(doc)
        wrong["amplitudes"][j][e] = value
        assert not classes.is_linear_classes(Quantities(parse(wrong)))
    kinked = copy.deepcopy(doc)
    kinked["slope"] = 0.5
    assert not classes.is_linear_classes(Quantities(parse(kinked)))


def test_constraints_of_one_point_have_one_class() -> None:
    """e_0 - e_2 and e_1 - e_3 name every class once, but two of them as the point's own."""
    for columns, one in ((((1, 0, -1, 0), (0, 1, 0, -1)), False), (((1, -1, 0), (1, 0, -1)), True)):
        amplitudes = [[float(v) for v in row] for row in zip(*columns, strict=True)]
        q: Any = SimpleNamespace(problem=SimpleNamespace(amplitudes=amplitudes), n=len(amplitudes))
        assert classes._of_one_class(q, [0, 1]) is one


def test_the_lemma_by_balls_is_the_formula() -> None:
    doc = class_document("sharp")
    doc["claimed"] |= {"psi": 0.07, "phi": 0.03, "epsilon_1": 0.02, "delta_1": 0.01}
    q = Quantities(parse(doc))
    found = classes.lemma(q)
    lower, upper = reference.lemma(0.07, 0.03, 0.02, 0.01, M, C)
    assert (float(found.lower), float(found.upper)) == pytest.approx((lower, upper), rel=1e-12)
    made = classes.sharp(q, 0.0)
    epsilon, tau = reference.theorem(0.07, 0.03, 0.02, 0.01, M, K, C)
    assert (float(made.epsilon), float(made.tau)) == pytest.approx((epsilon, tau), rel=1e-12)
