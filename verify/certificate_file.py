"""The certificate file: one instance, one certificate and its claims as JSON that anyone can check.

Keys (n neurons, m points; every key but the last is required, no other is allowed):

    format                   {"name": "gaunlearn-certificate", "version": 1}
    model                    {"kind": "linear" | "relu"}; linear is n = 1, u = [1.0], slope 1 on both sides
    gram                     K, m x m; its entries *define* the points
    labels, forget           y_i = +-1; indices of the forgotten points
    output_weights           u, exactly as the run used them
    preactivations           Z, n x m, exact zeros at kinks: theta = Z K^-1 X + W_perp
    orthogonal_norm_squared  |W_perp|^2, the part of theta outside the span of the points
    multipliers, mu          lambda [m] and mu_ji = lambda_i s_ji [n x m]
    certificate              kind (projection | span | retrain | scaling), step_scale c, factor f,
                             preactivations Z~ [n x m], multipliers, mu: theta~ = Z~ K^-1 X + f W_perp
                             for theta^ = theta - c h. For the kind scaling preactivations is null
                             and theta~ = f theta^, whose angle is exactly 0
    claimed                  epsilon_1, delta_1 of theta; epsilon, delta, tau of theta~; psi, phi of K
    bound                    null, or name (projection | span | scaling), strength (instance | sharp |
                             coarse), the right-hand sides epsilon, delta, tau, and margin (room added to
                             the sine of the angle in tau)
    inequality               may be missing; null, or name (`INEQUALITIES`), lhs and rhs as they were found, and
                             solution: null, or preactivations, multipliers and mu of the solution of Q_T. Only its
                             sets are read (support, kinks, signs): the checker solves on them itself

A comparison file (COMPARISON_FORMAT) holds a violation that cannot be stated so: claim, comparison, lhs, rhs, and
reproduce, the command that recomputes them.

Floats are written as the shortest decimal that reads back exactly (Python's repr; every correctly rounding
parser restores the same 64 bits). theta^ is never stored. Claims are rounded outward: with
room = 2^-44 max(|Z|, |Z~|) / sqrt(lambda_min(K)), that is 2^-44 times the largest norm such pre-activations
allow, room_d = 2^-44 max lambda max q and room_t = 2^-44 sqrt(cond K), the file claims

    epsilon + room,  epsilon_1 + 2 room,  delta + room_d,  delta_1 + 2 room_d,  (sqrt(2 tau) + room_t)^2 / 2.

The original gets twice the room, and the margin of a bound exceeds room_t, so that the equalities of exact
arithmetic (epsilon = epsilon_1 + rho, delta = delta_1) are provable. Margins get no room: q_i >= 1 must hold
exactly, so theta and lambda arrive scaled by 1 + 2^-46.
Source: docs/theory, Rigour.
"""

from __future__ import annotations

import json
import math
import os
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from verify.fields import CertificateError as CertificateError
from verify.fields import choice, fail, fields, listed, matrix, number, vector
from verify.fields import read as read

FORMAT = {"name": "gaunlearn-certificate", "version": 1}
COMPARISON_FORMAT = {"name": "gaunlearn-comparison", "version": 1}
KINDS = ("projection", "span", "retrain", "scaling")
BOUNDS, STRENGTHS = ("projection", "span", "scaling"), ("instance", "sharp", "coarse")
CLAIMS = ("epsilon_1", "delta_1", "epsilon", "delta", "tau", "psi", "phi")
INSTANCE_KEYS = ("format", "model", "gram", "labels", "output_weights", "forget", "orthogonal_norm_squared")
KEYS = (*INSTANCE_KEYS, "preactivations", "multipliers", "mu", "certificate", "claimed", "bound")
CERTIFICATE_KEYS = ("kind", "step_scale", "factor", "preactivations", "multipliers", "mu")
BOUND_KEYS = ("name", "strength", "epsilon", "delta", "tau", "margin")
#: inequalities that a file may name (`verify.inequalities`), and whether they speak of theta*
INEQUALITIES = {
    "multipliers/upper": False, "multipliers/lower": False, "multipliers/margin": False, "activations/shift": False,
    "estimators/multiplier": False, "estimators/coarse": False, "estimators/epsilon": False,
    "identity/separation": False,
    "identity/retrained": True, "identity/norm": False, "retrain/distance": True, "retrain/tau": True,
    "step_size/lower": False,
}  # fmt: skip
POINT_KEYS = ("preactivations", "multipliers", "mu")
COMPARISON_KEYS = ("format", "claim", "comparison", "reproduce", "lhs", "rhs")
MAX_POINTS, MAX_PAIRS = 128, 32_768  #: m and n m
MAX_SOLVED = 8_192  #: n m of a file whose inequality has a solution
MAX_TEXT = 2_000  #: characters of a text in a comparison
MAX_MARGIN = 2.0**-40  #: the largest outward margin a bound may carry
ROOM = 2.0**-44


@dataclass(frozen=True)
class Point:
    """theta by its pre-activations (empty: derived from theta^), with lambda and mu = lambda s."""

    preactivations: list[list[float]]
    multipliers: list[float]
    mu: list[list[float]]


@dataclass(frozen=True)
class Document:
    """A certificate document after all checks of types, sizes and ranges."""

    linear: bool
    gram: list[list[float]]
    labels: list[float]
    output_weights: list[float]
    forget: list[int]
    original: Point
    orthogonal_norm_squared: float
    certificate: Point
    step_scale: float
    factor: float
    claimed: dict[str, float]
    bound: dict[str, Any] | None
    inequality: dict[str, Any] | None


@dataclass(frozen=True)
class Comparison:
    """lhs <= rhs of a claim, as numbers, and the command that computes both."""

    claim: str
    comparison: str
    reproduce: str
    lhs: float
    rhs: float


# ------------------------------------------------------------------------------------------------- writing


def build(
    *,
    model: str,
    gram: ArrayLike,
    labels: ArrayLike,
    output_weights: ArrayLike,
    forget: ArrayLike,
    preactivations: ArrayLike,
    multipliers: ArrayLike,
    mu: ArrayLike,
    epsilon_1: float,
    delta_1: float,
    kind: str,
    certificate_preactivations: ArrayLike | None,
    certificate_multipliers: ArrayLike,
    certificate_mu: ArrayLike,
    epsilon: float,
    delta: float,
    tau: float,
    step_scale: float = 1.0,
    factor: float | None = None,
    orthogonal_norm_squared: float = 0.0,
    bound: Mapping[str, Any] | None = None,
    inequality: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Certificate document from measured values; the claims in it are rounded outward (module docstring).

    `forget` is a boolean mask [m] or indices. `factor` defaults to 1 (projection), 0 (span, retrain) or, for
    the kind scaling, (1 + 2^-46) / min(1, min_T q_i(theta^)). `bound` holds name, strength and the right-hand
    sides epsilon, delta, tau of a bound that applies, `inequality` what its key says (arrays or lists). K is the
    symmetric part of `gram`; psi and phi are measured from it. Raises CertificateError for values that the format
    refuses, and for a singular or indefinite `gram`, which has no certificate.
    """
    k, y, u = (np.asarray(a, np.float64) for a in (gram, labels, output_weights))
    z, q_mu = np.asarray(preactivations, np.float64), np.asarray(mu, np.float64)
    square = k.ndim == 2 and k.shape[0] == k.shape[1] and bool(np.all(np.isfinite(k)))
    if not square or np.abs(k - k.T).max(initial=0.0) > 1e-12 * np.abs(k).max(initial=0.0):
        raise fail("gram", f"an array of shape {k.shape}", "a finite symmetric matrix, points @ points.T")
    k = (k + k.T) / 2
    if z.shape != (u.size, y.size) or q_mu.shape != z.shape or k.shape[0] != y.size:
        given = f"shapes {z.shape}, {q_mu.shape} and {k.shape}"
        expected = f"[n, m], [n, m] and [m, m] for {u.size} output weights and {y.size} labels"
        raise fail("preactivations, mu and gram", given, expected)
    spectrum = np.linalg.eigvalsh(k)
    if spectrum[0] <= y.size * 2.0**-50 * spectrum[-1]:
        given = f"eigenvalues from {spectrum[0]:.3g} to {spectrum[-1]:.3g}"
        raise fail("gram", given, "a positive definite matrix, since dependent points have no certificate")
    gone = np.asarray(forget)
    if gone.dtype == bool and gone.shape == y.shape:
        gone = np.flatnonzero(gone)
    gone = np.sort(gone) if gone.size else np.zeros(0, int)
    if gone.ndim != 1 or gone.dtype.kind not in "iu" or not np.all((gone >= 0) & (gone < y.size)):
        expected = f"a mask of {y.size} booleans or indices below {y.size}"
        raise fail("forget", reprlib.repr(gone.tolist()), expected)
    kept = np.setdiff1d(np.arange(y.size), gone)
    if kind == "scaling":
        after = z - step_scale * ((u[:, None] * y * q_mu)[:, gone] @ k[gone])
        active = after if model == "linear" else np.maximum(after, 0)
        z_cert, margins = None, (y * (u @ active))[kept]
        smallest = float(margins.min(initial=1.0))
        if factor is None and not smallest > 0:
            raise fail("the margins of theta^", str(smallest), "positive retained margins for the kind scaling")
        factor = (1 + 2.0**-46) / smallest if factor is None else factor
        largest = max(np.linalg.norm(z), factor * np.linalg.norm(after))
    else:
        z_cert = np.asarray(certificate_preactivations, np.float64)
        factor = (1.0 if kind == "projection" else 0.0) if factor is None else factor
        largest = max(np.linalg.norm(z), np.linalg.norm(z_cert))
    room = ROOM * float(largest) / math.sqrt(spectrum[0])
    room_tau = ROOM * math.sqrt(spectrum[-1] / spectrum[0])
    top = max(np.max(multipliers), np.max(certificate_multipliers))
    room_delta = ROOM * float(top) * max(1.0, float(np.abs(u) @ np.abs(z).max(axis=1)))
    psi, phi = np.abs(np.diag(k) - 1).max(), np.abs(k - np.diag(np.diag(k))).max()
    document = {
        "format": dict(FORMAT),
        "model": {"kind": model},
        "gram": k.tolist(),
        "labels": y.tolist(),
        "output_weights": u.tolist(),
        "forget": gone.tolist(),
        "preactivations": z.tolist(),
        "orthogonal_norm_squared": float(orthogonal_norm_squared),
        "multipliers": np.asarray(multipliers, np.float64).tolist(),
        "mu": q_mu.tolist(),
        "certificate": {
            "kind": kind,
            "step_scale": float(step_scale),
            "factor": float(factor),
            "preactivations": None if z_cert is None else z_cert.tolist(),
            "multipliers": np.asarray(certificate_multipliers, np.float64).tolist(),
            "mu": np.asarray(certificate_mu, np.float64).tolist(),
        },
        "claimed": {
            "epsilon_1": float(epsilon_1) + 2 * room,
            "delta_1": float(delta_1) + 2 * room_delta,
            "epsilon": float(epsilon) + room,
            "delta": float(delta) + room_delta,
            "tau": 0.0 if kind == "scaling" else min((math.sqrt(2 * max(tau, 0.0)) + room_tau) ** 2 / 2, 2.0),
            "psi": float(np.nextafter(psi, np.inf)) if psi else 0.0,
            "phi": float(phi),
        },
        "bound": None,
        "inequality": None,
    }
    if inequality is not None:
        given = inequality["solution"]
        solution = given and {key: np.asarray(given[key], np.float64).tolist() for key in POINT_KEYS}
        sides = {side: float(inequality[side]) for side in ("lhs", "rhs")}
        document["inequality"] = {"name": inequality["name"], **sides, "solution": solution}
    if bound is not None:
        margin = min(MAX_MARGIN, max(2.0**-42, 4 * room_tau))
        sides = {c: float(bound[c]) for c in ("epsilon", "delta", "tau")}
        document["bound"] = {"name": bound["name"], "strength": bound["strength"], **sides, "margin": margin}
    parse(document)
    return document


def write(path: str | os.PathLike[str], document: Mapping[str, Any]) -> None:
    """Write a document as JSON, one line per key, through a temporary file so that no half is ever seen."""
    rows = (f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in document.items())
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    temporary.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
    temporary.replace(target)


# ------------------------------------------------------------------------------------------------- parsing


def _bound(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    entry = fields(value, "bound", BOUND_KEYS)
    return {
        "name": choice(entry["name"], "bound.name", BOUNDS),
        "strength": choice(entry["strength"], "bound.strength", STRENGTHS),
        **{c: number(entry[c], f"bound.{c}", 0.0) for c in ("epsilon", "delta", "tau")},
        "margin": number(entry["margin"], "bound.margin", 0.0, MAX_MARGIN),
    }


def _point(entry: dict[str, Any], prefix: str, n: int, m: int, derived: bool = False) -> Point:
    z = [] if derived else matrix(entry["preactivations"], f"{prefix}preactivations", n, m)
    multipliers = vector(entry["multipliers"], f"{prefix}multipliers", m)
    return Point(z, multipliers, matrix(entry["mu"], f"{prefix}mu", n, m))


def _inequality(value: Any, n: int, m: int) -> dict[str, Any] | None:
    if value is None:
        return None
    entry = fields(value, "inequality", ("name", "lhs", "rhs", "solution"))
    name, given = choice(entry["name"], "inequality.name", tuple(INEQUALITIES)), entry["solution"]
    if given is None and INEQUALITIES[name]:
        raise fail("inequality.solution", "null", f"a point, which {name} speaks of")
    if given is not None and n * m > MAX_SOLVED:
        raise fail("inequality.solution", f"a point of {n} x {m} pairs", f"at most {MAX_SOLVED} pairs, or null")
    where = "inequality.solution"
    solution = given if given is None else _point(fields(given, where, POINT_KEYS), f"{where}.", n, m)
    sides = {side: number(entry[side], f"inequality.{side}") for side in ("lhs", "rhs")}
    return {"name": name, **sides, "solution": solution}


def comparison(claim: str, name: str, reproduce: str, lhs: float, rhs: float) -> dict[str, Any]:
    """The comparison document of a violation."""
    sides = {side: v if math.isfinite(v) else str(v) for side, v in (("lhs", float(lhs)), ("rhs", float(rhs)))}
    document = {"format": dict(COMPARISON_FORMAT), "claim": claim, "comparison": name, "reproduce": reproduce, **sides}
    parse_comparison(document)
    return document


def is_comparison(form: Any) -> bool:
    return form == COMPARISON_FORMAT and type(form["version"]) is int


def parse_comparison(document: Any) -> Comparison:
    """Check a decoded comparison; its sides are numbers, "inf" or "-inf"."""
    entry = fields(document, "the document", COMPARISON_KEYS)
    texts = {}
    for key in ("claim", "comparison", "reproduce"):
        if not isinstance(entry[key], str) or not entry[key].isprintable() or len(entry[key]) > MAX_TEXT:
            raise fail(key, reprlib.repr(entry[key]), f"a line of at most {MAX_TEXT} characters")
        texts[key] = entry[key]
    sides = {
        side: float(entry[side]) if entry[side] in ("inf", "-inf") else number(entry[side], side)
        for side in ("lhs", "rhs")
    }
    return Comparison(texts["claim"], texts["comparison"], texts["reproduce"], **sides)


def parse(document: Any) -> Document:
    """Check every type, size and range of a decoded document; CertificateError names the first bad entry."""
    top = fields(document, "the document", KEYS, ("inequality",))
    form = fields(top["format"], "format", tuple(FORMAT))
    if form != FORMAT or type(form["version"]) is not int:
        raise fail("format", reprlib.repr(form), str(FORMAT))
    model = choice(fields(top["model"], "model", ("kind",))["kind"], "model.kind", ("linear", "relu"))
    m, n = len(listed(top["labels"], "labels")), len(listed(top["output_weights"], "output_weights"))
    if not (2 <= m <= MAX_POINTS and n >= 1 and n * m <= MAX_PAIRS):
        limits = f"2 to {MAX_POINTS} points, at least one neuron, at most {MAX_PAIRS} pairs of both"
        raise fail("the sizes of labels and output_weights", f"{m} points and {n} neurons", limits)
    labels = vector(top["labels"], "labels", m)
    for i, y in enumerate(labels):
        if abs(y) != 1:
            raise fail(f"labels[{i}]", str(y), "1 or -1")
    weights = vector(top["output_weights"], "output_weights", n)
    if not any(weights) or (model == "linear" and weights != [1.0]):
        expected = "[1.0] for a linear model" if model == "linear" else "a weight that is not zero"
        raise fail("output_weights", reprlib.repr(weights), expected)
    forget = listed(top["forget"], "forget")
    for i, r in enumerate(forget):
        if type(r) is not int or not 0 <= r < m or r in forget[:i]:
            raise fail(f"forget[{i}]", reprlib.repr(r), f"an index from 0 to {m - 1}, each at most once")
    if len(forget) == m:
        raise fail("forget", "every point", "at least one point left to retain")
    other = fields(top["certificate"], "certificate", CERTIFICATE_KEYS)
    derived = choice(other["kind"], "certificate.kind", KINDS) == "scaling"
    if derived and other["preactivations"] is not None:
        raise fail("certificate.preactivations", "a list", "null for the kind scaling")

    claimed = fields(top["claimed"], "claimed", CLAIMS)
    return Document(
        linear=model == "linear",
        gram=matrix(top["gram"], "gram", m, m),
        labels=labels,
        output_weights=weights,
        forget=sorted(forget),
        original=_point(top, "", n, m),
        orthogonal_norm_squared=number(top["orthogonal_norm_squared"], "orthogonal_norm_squared", 0.0),
        certificate=_point(other, "certificate.", n, m, derived),
        step_scale=number(other["step_scale"], "certificate.step_scale", 0.0),
        factor=number(other["factor"], "certificate.factor", 0.0),
        claimed={
            name: number(claimed[name], f"claimed.{name}", 0.0, 2.0 if name == "tau" else math.inf) for name in CLAIMS
        },
        bound=_bound(top["bound"]),
        inequality=_inequality(top["inequality"], n, m),
    )
