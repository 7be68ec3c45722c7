"""The exact checker: true certificates are proved, falsified ones never, hostile files get a sentence."""

from __future__ import annotations

import copy
import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

flint = pytest.importorskip("flint")

from exact_fractions import answers, stated  # noqa: E402

from verify import certificate_file, exact, fields  # noqa: E402
from verify.certificate_file import CertificateError  # noqa: E402

OUT = 1 + 2.0**-46
MEANING = {exact.PROVED: True, exact.REFUTED: False, exact.NOT_APPLICABLE: None}
Array = np.ndarray[Any, np.dtype[np.float64]]


# ---------------------------------------------------------------------------- instances in plain NumPy


def gram(rng: np.random.Generator, m: int, size: float) -> Array:
    """Nearly orthogonal points: unit diagonal, off-diagonals of the given size."""
    noise = rng.normal(size=(m, m)) * size
    return np.eye(m) + (noise + noise.T) / 2


def labels(m: int) -> Array:
    return np.where(np.arange(m) % 2 == 0, 1.0, -1.0)


def weights(n: int) -> Array:
    return np.where(np.arange(n) % 2 == 0, 1.0, -1.0) / np.sqrt(n)


def linear_point(rng: np.random.Generator, k: Array, y: Array) -> tuple[Array, Array, Array]:
    """Hard-margin solution with every constraint active: (Z, lambda, mu)."""
    lam = np.linalg.solve(y[:, None] * k * y, np.ones(y.size))
    assert lam.min() >= 0
    return (y * OUT)[None, :], lam * OUT, (lam * OUT)[None, :]


def relu_point(rng: np.random.Generator, k: Array, y: Array, u: Array) -> tuple[Array, Array, Array]:
    """KKT point for a random pattern A of same-sign pairs: solve q_i = 1 and z_ji = 0 on the kinks, and move
    opposite-sign pairs between kink and inactive until the signs are right."""
    n, m = u.size, y.size
    same = np.sign(u)[:, None] * y > 0
    active = same & (rng.random((n, m)) < 0.8)
    active[:2] |= same[:2]
    kink = ~same
    for _ in range(60):
        pairs = np.argwhere(kink)
        size = m + len(pairs)
        w = np.zeros((n, m, size))  # Q as a linear map of (lambda, mu on kinks)
        for i in range(m):
            w[active[:, i], i, i] = u[active[:, i]] * y[i]
        for p, (j, i) in enumerate(pairs):
            w[j, i, m + p] = u[j] * y[i]
        z = np.einsum("jis,ik->jks", w, k)
        rows = [y[i] * np.einsum("j,js->s", u * active[:, i], z[:, i]) for i in range(m)]
        rows += [z[j, i] for j, i in pairs]
        solution = np.linalg.solve(np.array(rows), np.r_[np.ones(m), np.zeros(len(pairs))])
        mu_kink, values = np.zeros((n, m)), z @ solution
        mu_kink[tuple(pairs.T)] = solution[m:]
        wrong = (kink & (mu_kink < 0)) | (~same & ~kink & (values > 0))
        if not wrong.any():
            break
        kink ^= wrong
    lam, values = solution[:m], np.where(kink, 0.0, values)
    values = np.where(same & ~active, np.minimum(values, 0.0), values)
    mu = np.where(active, lam, np.where(kink, np.minimum(mu_kink, lam), 0.0))
    return values * OUT, lam * OUT, mu * OUT


def norm(k: Array, a: Array) -> float:
    return float(np.sqrt(max(0.0, np.trace(a @ np.linalg.solve(k, a.T)))))


def measure(
    k: Array, y: Array, u: Array, z: Array, lam: Array, mu: Array, linear: bool, points: Array
) -> tuple[float, float]:
    """(epsilon, delta) in float64."""
    e = z - (u[:, None] * y * mu) @ k
    q = y * (u @ (z if linear else np.maximum(z, 0)))
    return norm(k, e), float(np.max((lam * (q - 1))[points]))


def one_minus_cos(k: Array, b: Array, difference: Array) -> float:
    """1 - cos between b and b + difference, from the difference."""
    a = b + difference
    inner = np.trace(b @ np.linalg.solve(k, difference.T)) / norm(k, b) ** 2
    perpendicular = norm(k, difference - inner * b)
    cos = np.trace(a @ np.linalg.solve(k, b.T)) / (norm(k, a) * norm(k, b))
    return (perpendicular / norm(k, a)) ** 2 / (1 + cos)


def document(
    seed: int,
    kind: str = "projection",
    strength: str | None = "instance",
    *,
    linear: bool = False,
    trained: bool = False,
    m: int = 4,
    n: int = 4,
    k: int = 1,
    size: float = 1e-3,
    omega: float = 0.0,
    step: float = 1.0,
    name: str | None = None,
) -> dict[str, Any]:
    """A true certificate document of a random instance."""
    rng = np.random.default_rng(seed)
    gm, y = gram(rng, m, size), labels(m)
    u = np.ones(1) if linear else weights(n)
    z, lam, mu = linear_point(rng, gm, y) if linear else relu_point(rng, gm, y, u)
    if trained:
        z = z * (1 + 0.05 * rng.random(z.shape))
        q = y * (u @ (z if linear else np.maximum(z, 0)))
        scale = OUT / q.min()
        z = z * scale
    gone = np.sort(rng.choice(m, k, replace=False))
    kept = np.setdiff1d(np.arange(m), gone)
    block, cross = gm[np.ix_(kept, kept)], gm[np.ix_(gone, kept)]
    q_forget = np.zeros_like(mu)
    q_forget[:, gone] = (u[:, None] * y * mu)[:, gone]
    h = q_forget @ gm
    inside = h.copy()
    inside[:, gone] = h[:, kept] @ np.linalg.solve(block, cross.T)
    lam2, mu2, factor, z2 = lam.copy(), mu.copy(), None, z.copy()
    lam2[gone], mu2[:, gone] = 0, 0
    if kind == "projection":
        z2[:, gone] -= step * (h - inside)[:, gone]
        difference = -step * inside
    elif kind == "span":
        z2[:, gone] = z[:, kept] @ np.linalg.solve(block, cross.T)
        difference = z - step * h - z2
    elif kind == "retrain":
        lam2[kept] = np.linalg.solve(y[kept, None] * block * y[kept], np.ones(kept.size)) * OUT
        mu2 = lam2[None, :]
        z2[:, kept] = y[kept] * OUT
        z2[:, gone] = z2[:, kept] @ np.linalg.solve(block, cross.T)
        difference = z - step * h - z2
    else:
        factor = OUT / min(1.0, float((y * (z - step * h)[0])[kept].min()))
        lam2, mu2, z2 = lam2 * factor, mu2 * factor, (z - step * h) * factor
        difference = np.zeros_like(z)
    eps1, delta1 = measure(gm, y, u, z, lam, mu, linear, np.arange(m))
    eps, delta = measure(gm, y, u, z2, lam2, mu2, linear, kept)
    share = {"projection": 1.0, "scaling": factor or 0.0}.get(kind, 0.0)
    tau = one_minus_cos(gm, z2, difference)
    if omega:  # the orthogonal part in the angle, from the three inner products
        a, b = norm(gm, z2 + difference) ** 2 + omega, norm(gm, z2) ** 2 + share**2 * omega
        ab = float(np.trace((z2 + difference) @ np.linalg.solve(gm, z2.T))) + share * omega
        tau = max(0.0, 1 - ab / np.sqrt(a * b)) + 1e-12
    common: dict[str, Any] = {
        "model": "linear" if linear else "relu", "gram": gm, "labels": y, "output_weights": u,
        "preactivations": z, "multipliers": lam, "mu": mu,
        "epsilon_1": float(np.hypot(eps1, np.sqrt(omega))), "delta_1": delta1, "kind": kind,
        "certificate_preactivations": None if kind == "scaling" else z2,
        "certificate_multipliers": lam2, "certificate_mu": mu2,
        "epsilon": float(np.hypot(eps, share * np.sqrt(omega))), "delta": delta, "tau": tau,
        "forget": gone, "factor": factor, "step_scale": step, "orthogonal_norm_squared": omega,
    }  # fmt: skip
    if strength is None:
        return certificate_file.build(**common)
    name = name or ("scaling" if kind == "scaling" else "span" if kind == "span" else "projection")
    bound = {"name": name, "strength": strength, "epsilon": 0.0, "delta": 0.0, "tau": 0.0}
    result = certificate_file.build(**common, bound=bound)
    result["bound"].update(stated(result))
    return result


def pool() -> list[dict[str, Any]]:
    """One small true document of every sort."""
    sorts: list[dict[str, Any]] = [
        {"kind": "projection", "strength": s, "linear": lin, "trained": t, "size": 1e-4}
        for lin in (False, True)
        for s in ("instance", "sharp")
        for t in (False, True)
    ]
    sorts += [{"kind": "projection", "strength": "coarse", "trained": t, "size": 1e-5} for t in (False, True)]
    sorts += [
        {"kind": "scaling", "strength": s, "linear": True, "trained": t, "size": 1e-3}
        for s in ("instance", "sharp", "coarse")
        for t in (False, True)
    ]
    sorts += [{"kind": "span", "strength": s, "trained": t} for s in (None, "instance") for t in (False, True)]
    sorts += [{"kind": "retrain", "strength": None, "linear": True, "trained": True}]
    sorts += [{"kind": "projection", "k": 2, "m": 5, "trained": True, "omega": 0.01}]
    sorts += [{"kind": "projection", "k": 0, "trained": True}, {"kind": "projection", "step": 0.75}]
    return [document(seed, **sort) for seed, sort in enumerate(sorts)]


@pytest.fixture(scope="module")
def true_documents() -> list[dict[str, Any]]:
    return pool()


def compare(doc: dict[str, Any]) -> exact.Report:
    """The checker's answers agree with those of the fractions, and nothing is undecided that has a meaning."""
    report, expected = exact.check_document(doc), answers(doc)
    for s in report.statements:
        if s.name == "bound.stated":
            continue
        assert s.answer in MEANING, s
        assert MEANING[s.answer] is expected[s.name], (s, expected[s.name])
    return report


# ------------------------------------------------------------------------------------ true and falsified


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
    assert exact.check_document(doc).exit_code == 0


def test_ill_conditioned_points_are_decided() -> None:
    lengths = np.array([1, 1, 1, 1, 1e-4])
    k = gram(np.random.default_rng(0), 5, 1e-5) * lengths[:, None] * lengths  # condition number 1e8
    y = labels(5)
    lam = np.linalg.solve(y[:, None] * k * y, np.ones(5))
    assert lam.min() > 0
    z, lam = (y * OUT)[None, :], lam * OUT
    e = norm(k, z - (y * lam)[None, :] @ k)
    doc = certificate_file.build(
        model="linear", gram=k, labels=y, output_weights=[1.0], forget=[], preactivations=z, multipliers=lam,
        mu=lam[None], epsilon_1=e, delta_1=0.0, kind="projection", certificate_preactivations=z,
        certificate_multipliers=lam, certificate_mu=lam[None], epsilon=e, delta=0.0, tau=0.0,
    )  # fmt: skip
    assert compare(doc).exit_code == 0


MUTATIONS = ("gram", "asymmetric", "label", "multiplier", "mu", "z", "claim", "forget", "factor", "weight")


def mutate(rng: np.random.Generator, doc: dict[str, Any]) -> str:
    """Change one number of the document in place, beyond its rounding room; returns what was changed."""
    what = str(rng.choice(MUTATIONS))
    shift = float(rng.choice([-1, 1]) * 10 ** rng.uniform(-9, 0))
    m, n = len(doc["labels"]), len(doc["output_weights"])
    i, j, l = int(rng.integers(m)), int(rng.integers(n)), int(rng.integers(m))
    owner = doc["certificate"] if rng.random() < 0.5 else doc
    if what in ("gram", "asymmetric"):
        doc["gram"][i][l] += shift
        if what == "gram":
            doc["gram"][l][i] = doc["gram"][i][l]
    elif what == "label":
        doc["labels"][i] *= -1
    elif what == "multiplier":
        owner["multipliers"][i] += shift
    elif what == "mu":
        owner["mu"][j][i] += shift
    elif what == "z":
        owner = owner if owner["preactivations"] is not None else doc
        owner["preactivations"][j][i] += shift
    elif what == "claim":
        name = str(rng.choice(certificate_file.CLAIMS))
        value = doc["claimed"][name] * float(10 ** rng.uniform(-3, 0.3))
        doc["claimed"][name] = min(value, 2.0)
        return f"{what} {name}"
    elif what == "forget":
        doc["forget"] = [i]
    elif what == "factor":
        doc["certificate"]["factor"] = abs(doc["certificate"]["factor"] + shift)
    elif n > 1:
        doc["output_weights"][j] += shift
    return what


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
    at = {s.name: s.answer for s in exact.check_document(doc).statements}
    assert at["assumption"] == "proved"
    largest = max(abs(v) for i, row in enumerate(doc["gram"]) for v in row[:i])
    doc["claimed"]["phi"] = largest  # an equality
    assert {s.name: s.answer for s in exact.check_document(doc).statements}["assumption"] == "proved"
    doc["claimed"]["phi"] = float(np.nextafter(largest, 0))
    assert {s.name: s.answer for s in exact.check_document(doc).statements}["assumption"] == "refuted"


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
    assert exact.check_document(base).statements[-4].answer == "proved"  # applicable without the change
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
    assert exact.check_document(doc).exit_code == 1  # the right-hand sides in the file are now others


def test_bounds_of_other_models_and_kinds_are_not_applicable() -> None:
    for linear, name, strength in (
        (False, "scaling", "instance"), (False, "scaling", "coarse"), (False, "span", "sharp"),
        (True, "projection", "coarse"), (True, "span", "coarse"),
    ):  # fmt: skip
        doc = document(4, linear=linear, size=1e-4)
        doc["bound"].update(name=name, strength=strength)
        assert {s.answer for s in compare(doc).statements if "bound" in s.name} == {"not applicable"}


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
        refuted = [s.name for s in exact.check_document(doc).statements if s.answer == "refuted"]
        assert refuted == ["bound.stated"]


def test_undecided_is_not_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    doc = document(1)
    monkeypatch.setattr(exact, "PRECISIONS", (24,))
    report = exact.check_document(doc)
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
    monkeypatch.setattr(exact, "PRECISIONS", (24,))
    answer = {s.name: s.answer for s in exact.check_document(doc).statements}["certificate.selection"]
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
        certificate_file.write(paths[-1], doc)
    exact.check_file(paths[0])
    start = time.process_time()
    code, reports = exact.check_files(paths)
    assert (time.process_time() - start) / len(paths) < 0.2
    assert code == 0
    assert all(len(r["sha256"]) == 64 and r["versions"]["python-flint"] == flint.__version__ for r in reports)


# ------------------------------------------------------------------------------------------------- files


def test_floats_read_back_exactly(tmp_path: Path) -> None:
    doc = document(7, trained=True)
    path = tmp_path / "c.json"
    certificate_file.write(path, doc)
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
        code, reports = exact.check_files([path])
        assert code == 2, name
        assert "expected" in reports[0]["error"], name
        assert len(reports[0]["error"]) < 600, name
        assert "\n" not in reports[0]["error"], name
    assert time.process_time() - start < 20
    for path in (tmp_path, tmp_path / "missing.json", tmp_path / "nul\0.json", Path("/dev/null")):
        assert exact.check_files([path])[0] == 2


def test_hostile_files_are_refused_in_little_memory_and_time(tmp_path: Path) -> None:
    """By the command, all at once: a sentence for each within 400 MiB and 20 s of processor time, and exit 2."""
    files = hostile(document(8))
    for name, data in files.items():
        (tmp_path / f"{name}.json").write_bytes(data)
    limits = "import resource as r; r.setrlimit(r.RLIMIT_AS, (400 * 2**20,) * 2); r.setrlimit(r.RLIMIT_CPU, (20, 20)); "
    code = limits + "import sys; from verify.cli import main; sys.exit(main(['check', *sys.argv[1:]]))"
    paths = sorted(map(str, tmp_path.iterdir()))
    found = subprocess.run(
        [sys.executable, "-c", code, *paths], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False
    )
    assert found.returncode == 2, found.stderr[-500:]
    assert found.stderr == ""
    lines = found.stdout.splitlines()
    assert len(lines) == len(files)
    assert all("expected" in line and len(line) < 800 for line in lines)


def test_the_largest_files_take_seconds() -> None:
    """An exactly singular Gram matrix of the largest size, which no precision decides, and wild exponents."""
    rng = np.random.default_rng(0)
    m = certificate_file.MAX_POINTS // 2
    x = rng.integers(-8, 8, (m, m - 1)).astype(float)
    scale = 2.0 ** rng.integers(-400, 400, m)
    doc = document(0, strength=None, linear=True, m=m, size=1e-4)
    start = time.process_time()
    report = exact.check_document({**doc, "gram": (scale[:, None] * (x @ x.T) * scale).tolist()})
    assert time.process_time() - start < 20
    assert report.exit_code == 1
    assert report.statements[0].answer == exact.REFUTED


def test_missing_keys_and_wrong_types_are_named(tmp_path: Path) -> None:
    doc = document(8)
    for key in certificate_file.KEYS:
        broken = {k: v for k, v in doc.items() if k != key}
        with pytest.raises(CertificateError, match=key):
            exact.check_document(broken)
        with pytest.raises(CertificateError):
            exact.check_document({**doc, key: float("nan")})
    with pytest.raises(CertificateError, match=r"'lables'.*expected labels"):
        exact.check_document({**doc, "lables": 1})
    with pytest.raises(CertificateError, match=r"gram\[1\]\[2\]: found nan"):
        exact.check_document({**doc, "gram": [*doc["gram"][:1], [0, 1, float("nan"), 0], *doc["gram"][2:]]})


def test_a_fifo_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert exact.check_files([tmp_path / "pipe"])[0] == 2


def test_exit_codes_in_order(tmp_path: Path) -> None:
    good, bad = document(9), document(9)
    bad["claimed"]["epsilon"] /= 2
    missing, paths = tmp_path / "none.json", [tmp_path / "good.json", tmp_path / "bad.json"]
    certificate_file.write(paths[0], good)
    certificate_file.write(paths[1], bad)
    assert exact.check_files(paths[:1])[0] == 0
    assert exact.check_files(paths)[0] == 1
    assert exact.check_files([*paths, missing])[0] == 2
    text = exact.check_file(paths[1]).statements[7].text
    assert text.startswith("refuted: the residual of theta~ is at most epsilon; |e|^2 exceeds epsilon^2 (")


def test_the_writer_refuses_what_has_no_certificate() -> None:
    doc = document(1, linear=True, strength=None)
    own = doc["certificate"]
    arguments: dict[str, Any] = dict(
        model="linear", gram=doc["gram"], labels=doc["labels"], output_weights=[1.0], forget=[0], kind="projection",
        preactivations=doc["preactivations"], multipliers=doc["multipliers"], mu=doc["mu"], epsilon_1=0.0, delta_1=0.0,
        certificate_preactivations=own["preactivations"], certificate_multipliers=own["multipliers"],
        certificate_mu=own["mu"], epsilon=0.1, delta=0.1, tau=0.1,
    )  # fmt: skip
    mask = np.array([True, False, False, False])
    assert certificate_file.build(**{**arguments, "forget": mask})["forget"] == [0]
    for change in (
        {"gram": np.ones((4, 4))}, {"gram": np.eye(3)}, {"gram": np.eye(4) * np.nan},
        {"gram": np.triu(np.ones((4, 4)))},
        {"forget": [4]}, {"forget": [0.5]}, {"forget": mask[:3]}, {"tau": np.nan}, {"epsilon": np.inf},
        {"labels": [0, 1, 1, 1]},
        {"multipliers": np.full(4, np.nan)}, {"kind": "other"}, {"step_scale": -1.0}, {"labels": [np.nan, 1, 1, 1]},
        {"kind": "scaling", "certificate_preactivations": None, "preactivations": np.zeros((1, 4))},
    ):  # fmt: skip
        with pytest.raises(CertificateError, match="expected"):
            certificate_file.build(**{**arguments, **change})


def test_the_checker_imports_neither_jax_nor_the_library() -> None:
    code = "import sys, verify.exact; print([m for m in sys.modules if m.split('.')[0] in ('jax', 'gaunlearn_jax')])"
    root = Path(__file__).parents[1]
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
