"""Bounds that a file names: each hypothesis that fails makes them not applicable, and stated sides are compared."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flint")

from exact_documents import OUT, compare, document, gram, labels, namespace, network_problem, norm
from reference.exact_fractions import stated

from verify.certify import documents
from verify.exact import statements


def failing_hypotheses() -> dict[str, tuple[dict[str, Any], dict[str, float], str]]:
    """Documents with a bound of which exactly one hypothesis fails: (how to build, claims, what the text says)."""
    relu: dict[str, Any] = {"strength": "coarse", "size": 1e-6}
    linear: dict[str, Any] = {"kind": "scaling", "linear": True}
    return {
        "psi": (relu, {"psi": 0.11}, "psi exceeds 0.1"),
        "eps_d": (relu, {"phi": 1.01 / 64}, "eps_d exceeds 1"),
        "epsilon_1": (relu, {"epsilon_1": 0.51}, "epsilon_1 exceeds 0.5"),
        "delta_1": (relu, {"delta_1": 0.51}, "delta_1 exceeds 0.5"),
        "9 eps_d": (relu, {"phi": 0.45 / 64}, "eps_d is too large for m"),
        "3 k eps_d": (linear | {"strength": "coarse", "k": 2}, {"phi": 0.7 / 16}, "eps_d is too large for m"),
        "step": (relu | {"step": 0.75}, {}, "the step scale is not 1"),
        "span step": ({"kind": "span", "step": 0.75}, {}, "the step scale is not 1"),
        "leakage": (linear | {"strength": "sharp"}, {"phi": 0.3}, "the leakage is not below 1"),
        "gap": ({"strength": "sharp"}, {"phi": 0.4}, "1 - psi - (m - 1) phi is not positive"),
        "assumption": ({"strength": "sharp"}, {"phi": 1e-9}, "that the points satisfy A(psi, phi)"),
        "scale-free step": ({"strength": "scale_free", "step": 0.75}, {}, "the step scale is not 1"),
        "original": ({}, {"epsilon_1": 0.0}, "that the residual of theta is at most epsilon_1"),
    }


@pytest.mark.parametrize("case", failing_hypotheses())
def test_a_bound_whose_hypothesis_fails_is_not_applicable(case: str) -> None:
    build, claims, text = failing_hypotheses()[case]
    base = document(2, **{**build, "strength": None, "step": 1.0})
    doc = document(2, **{**build, "strength": None})
    name = {"scaling": "scaling", "span": "span"}.get(build.get("kind", ""), "projection")
    strength = build.get("strength", "instance")
    doc["bound"] = {"name": name, "strength": strength, "epsilon": 9.0, "delta": 9.0, "tau": 2.0, "margin": 0.0}
    base["bound"] = doc["bound"]
    assert statements.check_document(base).statements[-4].answer == "proved"  # applicable without the change
    doc["claimed"].update(claims)
    last = compare(doc).statements[-4:]
    assert {s.answer for s in last} == {"not applicable"}
    assert all(text in s.text for s in last)


def test_an_angle_that_is_too_large_leaves_epsilon_and_delta() -> None:
    doc = document(2, strength="sharp")
    doc["claimed"]["phi"] = 0.2
    found = {s.name: s for s in compare(doc).statements}
    assert found["bound.epsilon"].answer == found["bound.delta"].answer == "proved"
    assert found["bound.tau"].answer == "not applicable"
    assert "the sine in tau is not below 1" in found["bound.tau"].text
    assert statements.check_document(doc).exit_code == 1  # the right-hand sides in the file are now others


def test_bounds_of_other_models_and_kinds_are_not_applicable() -> None:
    for linear, name, strength in (
        (False, "scaling", "instance"), (False, "scaling", "coarse"), (False, "span", "sharp"),
        (True, "projection", "coarse"), (True, "span", "coarse"),
        (True, "scaling", "scale_free"), (False, "span", "scale_free"),
    ):  # fmt: skip
        doc = document(4, linear=linear, size=1e-4)
        doc["bound"].update(name=name, strength=strength)
        assert {s.answer for s in compare(doc).statements if "bound" in s.name} == {"not applicable"}


def test_the_scale_free_bound_asks_nothing_of_norms_and_all_of_cosines() -> None:
    """Points thirty times apart in length have the cosines of unit ones; cosines that add up to 1 end it."""
    k = gram(np.random.default_rng(3), 4, 1e-3)
    y, lengths = labels(4), np.array([1.0, 3.0, 1.0, 30.0])
    far = np.array([[1.0 if i == j else 0.34 for j in range(4)] for i in range(4)])
    for points, answer in ((k * lengths[:, None] * lengths, "proved"), (far, "not applicable")):
        lam = np.linalg.solve(y[:, None] * points * y, np.ones(4)) * OUT
        z = (y * OUT)[None, :]
        assert lam.min() > 0
        e = norm(points, z - (y * lam)[None, :] @ points)
        theta = SimpleNamespace(
            **namespace(z, lam, lam[None]), epsilon=e, delta=0.0, orthogonal_norm=0.0, tau=0.0, kind="projection"
        )
        doc = documents.build(points, network_problem(points, np.ones(1), y, 1.0), [], theta, theta)
        doc["forget"] = [0]
        doc["bound"] = {
            "name": "projection",
            "strength": "scale_free",
            "epsilon": 0.0,
            "delta": 0.0,
            "tau": 0.0,
            "margin": 0.0,
        }
        found = {s.name: s.answer for s in compare(doc).statements}
        assert found["bound.epsilon"] == answer
        doc["bound"]["strength"] = "sharp"  # which wants squared norms near 1
        assert {s.name: s.answer for s in compare(doc).statements}["bound.epsilon"] == "not applicable"


def test_unequal_output_weights_enter_the_sharp_bound_by_their_smallest() -> None:
    doc = document(4, strength="sharp", size=1e-3)
    scale = np.array([1.0, 1.0, 0.5, 0.5])
    doc["output_weights"] = (np.array(doc["output_weights"]) * scale).tolist()
    for owner in (doc, doc["certificate"]):
        owner["mu"] = (np.array(owner["mu"]) * 0).tolist()
        owner["multipliers"] = [0.0] * 4
    for name in ("epsilon_1", "delta_1", "epsilon", "delta"):
        doc["claimed"][name] = 99.0
    values = np.abs(np.array(doc["preactivations"])) * 4
    doc["preactivations"] = (values * (np.sign(doc["output_weights"])[:, None] * doc["labels"] > 0)).tolist()
    doc["certificate"]["preactivations"] = doc["preactivations"]
    for shift, answer in ((1 - 1e-9, "proved"), (1 + 1e-9, "refuted")):
        doc["claimed"]["epsilon"] = stated(doc)["epsilon"] * shift
        found = {s.name: s.answer for s in compare(doc).statements}
        assert found["bound.epsilon"] == answer
    doc["output_weights"][0] = 0.0  # a dead neuron counts for nothing
    compare(doc)


def test_stated_right_hand_sides_are_compared_with_the_derived_ones() -> None:
    for name in ("epsilon", "delta", "tau"):
        doc = document(6, size=1e-2, trained=True)
        doc["bound"][name] *= 1.01
        refuted = [s.name for s in statements.check_document(doc).statements if s.answer == "refuted"]
        assert refuted == ["bound.stated"]
