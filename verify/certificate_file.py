"""The certificate file: one instance, one certificate and its claims as JSON that anyone can check.

Keys (n neurons, m points; every key is required, no other is allowed):

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

import difflib
import hashlib
import json
import math
import os
import re
import reprlib
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

FORMAT = {"name": "gaunlearn-certificate", "version": 1}
KINDS = ("projection", "span", "retrain", "scaling")
BOUNDS, STRENGTHS = ("projection", "span", "scaling"), ("instance", "sharp", "coarse")
CLAIMS = ("epsilon_1", "delta_1", "epsilon", "delta", "tau", "psi", "phi")
INSTANCE_KEYS = ("format", "model", "gram", "labels", "output_weights", "forget", "orthogonal_norm_squared")
KEYS = (*INSTANCE_KEYS, "preactivations", "multipliers", "mu", "certificate", "claimed", "bound")
CERTIFICATE_KEYS = ("kind", "step_scale", "factor", "preactivations", "multipliers", "mu")
BOUND_KEYS = ("name", "strength", "epsilon", "delta", "tau", "margin")
MAX_BYTES, MAX_VALUES, MAX_DEPTH = 16 * 2**20, 200_000, 6
MAX_POINTS, MAX_PAIRS = 128, 32_768  #: m and n m
MAX_MARGIN = 2.0**-40  #: the largest outward margin a bound may carry
ROOM = 2.0**-44


class CertificateError(ValueError):
    """The document is not a certificate; the message says what was found, what was expected, what to do."""


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
) -> dict[str, Any]:
    """Certificate document from measured values; the claims in it are rounded outward (module docstring).

    `forget` is a boolean mask [m] or indices. `factor` defaults to 1 (projection), 0 (span, retrain) or, for
    the kind scaling, (1 + 2^-46) / min(1, min_T q_i(theta^)). `bound` holds name, strength and the right-hand
    sides epsilon, delta, tau of a bound that applies. K is the symmetric part of `gram`; psi and phi are
    measured from it. Raises CertificateError for values that the format refuses, and for a singular or
    indefinite `gram`, which has no certificate.
    """
    k, y, u = (np.asarray(a, np.float64) for a in (gram, labels, output_weights))
    z, q_mu = np.asarray(preactivations, np.float64), np.asarray(mu, np.float64)
    square = k.ndim == 2 and k.shape[0] == k.shape[1] and bool(np.all(np.isfinite(k)))
    if not square or np.abs(k - k.T).max(initial=0.0) > 1e-12 * np.abs(k).max(initial=0.0):
        raise _fail("gram", f"an array of shape {k.shape}", "a finite symmetric matrix, points @ points.T")
    k = (k + k.T) / 2
    if z.shape != (u.size, y.size) or q_mu.shape != z.shape or k.shape[0] != y.size:
        given = f"shapes {z.shape}, {q_mu.shape} and {k.shape}"
        expected = f"[n, m], [n, m] and [m, m] for {u.size} output weights and {y.size} labels"
        raise _fail("preactivations, mu and gram", given, expected)
    spectrum = np.linalg.eigvalsh(k)
    if spectrum[0] <= y.size * 2.0**-50 * spectrum[-1]:
        given = f"eigenvalues from {spectrum[0]:.3g} to {spectrum[-1]:.3g}"
        raise _fail("gram", given, "a positive definite matrix, since dependent points have no certificate")
    gone = np.asarray(forget)
    if gone.dtype == bool and gone.shape == y.shape:
        gone = np.flatnonzero(gone)
    gone = np.sort(gone) if gone.size else np.zeros(0, int)
    if gone.ndim != 1 or gone.dtype.kind not in "iu" or not np.all((gone >= 0) & (gone < y.size)):
        expected = f"a mask of {y.size} booleans or indices below {y.size}"
        raise _fail("forget", reprlib.repr(gone.tolist()), expected)
    kept = np.setdiff1d(np.arange(y.size), gone)
    if kind == "scaling":
        after = z - step_scale * ((u[:, None] * y * q_mu)[:, gone] @ k[gone])
        active = after if model == "linear" else np.maximum(after, 0)
        z_cert, margins = None, (y * (u @ active))[kept]
        smallest = float(margins.min(initial=1.0))
        if factor is None and not smallest > 0:
            raise _fail("the margins of theta^", str(smallest), "positive retained margins for the kind scaling")
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
    }
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


# ------------------------------------------------------------------------------------------------- reading


def read(path: str | os.PathLike[str]) -> tuple[Any, str]:
    """Decoded JSON of a file and the SHA-256 of its bytes; CertificateError for anything unreadable."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise _fail("the path", "not a regular file", "a certificate file")
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, CertificateError):
            raise
        raise _fail("the path", f"unreadable ({error})", "a readable certificate file") from error
    if len(data) > MAX_BYTES:
        raise _fail("the file", f"larger than {MAX_BYTES} bytes", "at most that many")
    try:
        return decode(data.decode("utf-8")), hashlib.sha256(data).hexdigest()
    except UnicodeDecodeError as error:
        raise _fail("the file", f"not UTF-8 text ({error.reason})", "a JSON document") from error


def decode(text: str) -> Any:
    """Strict JSON: length and depth are judged before parsing; no repeated key, NaN, 1e400 or 1e-400."""
    if text.count(",") >= MAX_VALUES:
        raise _fail("the file", f"a list of {text.count(',') + 1} values", f"fewer than {MAX_VALUES} values")
    depth = 0
    for token in re.finditer(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', text, re.DOTALL):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > MAX_DEPTH:
            raise _fail("the file", f"nested more than {MAX_DEPTH} levels deep", "a flat document")
    try:
        return json.loads(
            text, parse_float=_float, parse_int=_integer, parse_constant=_float, object_pairs_hook=_object
        )
    except json.JSONDecodeError as error:
        raise _fail("the file", f"not complete JSON ({error})", "one certificate document") from error


def _float(token: str) -> float:
    value = float(token) if len(token) <= 64 else math.nan
    underflow = value == 0 and re.search("[1-9]", re.split("[eE]", token)[0])
    if not math.isfinite(value) or underflow:
        raise _fail("a number", reprlib.repr(token), "a value that a 64-bit float holds")
    return value


def _integer(token: str) -> int:
    if len(token) > 17:
        raise _fail("an integer", reprlib.repr(token), "at most 2^53 in size")
    return int(token)


def _object(items: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in items]
    if len(set(names)) != len(names):
        raise _fail("the keys of an object", reprlib.repr(sorted(names)), "each key once")
    return dict(items)


def _fail(where: str, given: str, expected: str) -> CertificateError:
    return CertificateError(f"{where}: found {given}, expected {expected}; correct it or write it again")


def _fields(value: Any, where: str, names: Sequence[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _fail(where, reprlib.repr(value), f"an object with the keys {', '.join(names)}")
    for name in value:
        if name not in names:
            near = difflib.get_close_matches(str(name)[:80], names, 1) or [f"one of {', '.join(names)}"]
            raise _fail(where, f"the unknown key {reprlib.repr(name)}", near[0])
    missing = [name for name in names if name not in value]
    if missing:
        raise _fail(where, "no key " + ", ".join(missing), "all of " + ", ".join(names))
    return value


def _number(value: Any, where: str, low: float = -math.inf, high: float = math.inf) -> float:
    good = type(value) in (int, float) and abs(value) <= (2**53 if type(value) is int else high)
    if not (good and math.isfinite(value) and low <= value <= high):
        span = "" if low == -math.inf else f", at least {low}"
        span += "" if high == math.inf else f" and at most {high}"
        raise _fail(where, reprlib.repr(value), f"a finite number{span}")
    return float(value)


def _list(value: Any, where: str, length: int | None = None) -> list[Any]:
    if not isinstance(value, list) or (length is not None and len(value) != length):
        given = f"{len(value)} entries" if isinstance(value, list) else reprlib.repr(value)
        raise _fail(where, given, "a list" + ("" if length is None else f" of {length} entries"))
    return value


def _vector(value: Any, where: str, length: int) -> list[float]:
    return [_number(x, f"{where}[{i}]") for i, x in enumerate(_list(value, where, length))]


def _matrix(value: Any, where: str, rows: int, columns: int) -> list[list[float]]:
    return [_vector(row, f"{where}[{j}]", columns) for j, row in enumerate(_list(value, where, rows))]


def _choice(value: Any, where: str, allowed: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise _fail(where, reprlib.repr(value), "one of " + ", ".join(allowed))
    return value


def _bound(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    entry = _fields(value, "bound", BOUND_KEYS)
    return {
        "name": _choice(entry["name"], "bound.name", BOUNDS),
        "strength": _choice(entry["strength"], "bound.strength", STRENGTHS),
        **{c: _number(entry[c], f"bound.{c}", 0.0) for c in ("epsilon", "delta", "tau")},
        "margin": _number(entry["margin"], "bound.margin", 0.0, MAX_MARGIN),
    }


def parse(document: Any) -> Document:
    """Check every type, size and range of a decoded document; CertificateError names the first bad entry."""
    top = _fields(document, "the document", KEYS)
    form = _fields(top["format"], "format", tuple(FORMAT))
    if form != FORMAT or type(form["version"]) is not int:
        raise _fail("format", reprlib.repr(form), str(FORMAT))
    model = _choice(_fields(top["model"], "model", ("kind",))["kind"], "model.kind", ("linear", "relu"))
    m, n = len(_list(top["labels"], "labels")), len(_list(top["output_weights"], "output_weights"))
    if not (2 <= m <= MAX_POINTS and n >= 1 and n * m <= MAX_PAIRS):
        limits = f"2 to {MAX_POINTS} points, at least one neuron, at most {MAX_PAIRS} pairs of both"
        raise _fail("the sizes of labels and output_weights", f"{m} points and {n} neurons", limits)
    labels = _vector(top["labels"], "labels", m)
    for i, y in enumerate(labels):
        if abs(y) != 1:
            raise _fail(f"labels[{i}]", str(y), "1 or -1")
    weights = _vector(top["output_weights"], "output_weights", n)
    if not any(weights) or (model == "linear" and weights != [1.0]):
        expected = "[1.0] for a linear model" if model == "linear" else "a weight that is not zero"
        raise _fail("output_weights", reprlib.repr(weights), expected)
    forget = _list(top["forget"], "forget")
    for i, r in enumerate(forget):
        if type(r) is not int or not 0 <= r < m or r in forget[:i]:
            raise _fail(f"forget[{i}]", reprlib.repr(r), f"an index from 0 to {m - 1}, each at most once")
    if len(forget) == m:
        raise _fail("forget", "every point", "at least one point left to retain")
    other = _fields(top["certificate"], "certificate", CERTIFICATE_KEYS)
    derived = _choice(other["kind"], "certificate.kind", KINDS) == "scaling"
    if derived and other["preactivations"] is not None:
        raise _fail("certificate.preactivations", "a list", "null for the kind scaling")

    def point(entry: dict[str, Any], prefix: str, without: bool) -> Point:
        z = [] if without else _matrix(entry["preactivations"], f"{prefix}preactivations", n, m)
        multipliers = _vector(entry["multipliers"], f"{prefix}multipliers", m)
        return Point(z, multipliers, _matrix(entry["mu"], f"{prefix}mu", n, m))

    claimed = _fields(top["claimed"], "claimed", CLAIMS)
    return Document(
        linear=model == "linear",
        gram=_matrix(top["gram"], "gram", m, m),
        labels=labels,
        output_weights=weights,
        forget=sorted(forget),
        original=point(top, "", False),
        orthogonal_norm_squared=_number(top["orthogonal_norm_squared"], "orthogonal_norm_squared", 0.0),
        certificate=point(other, "certificate.", derived),
        step_scale=_number(other["step_scale"], "certificate.step_scale", 0.0),
        factor=_number(other["factor"], "certificate.factor", 0.0),
        claimed={
            name: _number(claimed[name], f"claimed.{name}", 0.0, 2.0 if name == "tau" else math.inf) for name in CLAIMS
        },
        bound=_bound(top["bound"]),
    )
