"""Writing certificate files: measured values as the document that the checker reads, its claims rounded outward."""

from __future__ import annotations

import json
import math
import os
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gaunlearn_jax.base import numerics
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.store import disk
from verify.exact.certificate_file import (
    COMPARISON_FORMAT,
    FORMAT,
    MAX_MARGIN,
    POINT_KEYS,
    ROOM,
    parse,
    parse_comparison,
)
from verify.exact.fields import fail
from verify.exact.problem import LAYOUT_KEYS


class Rooms(NamedTuple):
    """What claims are rounded outward by (`certificate_file`, docstring): in epsilon, delta, and the sine in tau."""

    epsilon: float
    delta: float
    sine: float


def build(
    gram: ArrayLike,
    problem: MarginProblem,
    forget: ArrayLike,
    point: Any,
    certificate: Any,
    *,
    step_scale: float = 1.0,
    bound: Mapping[str, Any] | None = None,
    inequality: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Certificate document of a point and a certificate (a `KKTPoint` and a `Certificate`, or what has their fields).

    `gram` [R, R] is that of the problem's rows, which are not read; K is its symmetric part, and psi and phi are
    measured from it. `forget` is a mask of points or indices. `bound` holds name, strength and the right-hand sides
    epsilon, delta, tau of a bound that applies, `inequality` a name, lhs, rhs and as solution None or a point. Raises
    CertificateError for values that the format refuses, and for a singular or indefinite `gram`, which has no
    certificate.
    """
    k, spectrum = _gram(gram)
    gone = _indices(forget, problem)
    _check_shapes(k, problem, point)
    z, own = np.asarray(point.preactivations, np.float64), None
    factor = 1.0 if certificate.kind == "projection" else 0.0
    if certificate.kind == "scaling":
        after, smallest = _step(k, problem, gone, point, step_scale)
        factor = numerics.OUTWARD / smallest
        largest = factor * after
    else:
        own = largest = np.asarray(certificate.preactivations, np.float64)
    rooms = _rooms(spectrum, problem, (z, largest), (point.multipliers, certificate.multipliers))
    document = {
        "format": dict(FORMAT),
        **_problem(k, problem, gone),
        **_point(point),
        "orthogonal_norm_squared": float(point.orthogonal_norm) ** 2,
        "certificate": {
            "kind": certificate.kind,
            "step_scale": float(step_scale),
            "factor": float(factor),
            **_point(certificate),
            "preactivations": None if own is None else own.tolist(),
        },
        "claimed": _claims(k, point, certificate, rooms),
        "bound": None if bound is None else _bound(bound, rooms),
        "inequality": None if inequality is None else _inequality(inequality),
    }
    parse(document)
    return document


def _gram(gram: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The symmetric part of K and its eigenvalues, in rising order."""
    k = np.asarray(gram, np.float64)
    square = k.ndim == 2 and k.shape[0] == k.shape[1] and bool(np.all(np.isfinite(k)))
    if not square or np.abs(k - k.T).max(initial=0.0) > 1e-12 * np.abs(k).max(initial=0.0):
        raise fail("gram", f"an array of shape {k.shape}", "a finite symmetric matrix, rows @ rows.T")
    k = (k + k.T) / 2
    spectrum = np.linalg.eigvalsh(k)
    if not spectrum.size or spectrum[0] <= len(k) * 2.0**-50 * spectrum[-1]:
        given = f"eigenvalues from {spectrum.min(initial=np.inf):.3g} to {spectrum.max(initial=0.0):.3g}"
        raise fail("gram", given, "a positive definite matrix, since dependent rows have no certificate")
    return k, spectrum


def _indices(forget: ArrayLike, problem: MarginProblem) -> np.ndarray:
    """The forgotten points, in rising order."""
    gone, layout = np.asarray(forget), problem.layout
    count = np.shape(problem.amplitudes)[1] if layout is None else max(layout.point_of_row) + 1
    if gone.dtype == bool and gone.shape == (count,):
        gone = np.flatnonzero(gone)
    gone = np.sort(gone) if gone.size else np.zeros(0, int)
    if gone.ndim != 1 or gone.dtype.kind not in "iu" or not np.all((gone >= 0) & (gone < count)):
        raise fail("forget", reprlib.repr(gone.tolist()), f"a mask of {count} booleans or indices below {count}")
    return gone


def _check_shapes(k: np.ndarray, problem: MarginProblem, point: Any) -> None:
    n, entries = np.shape(problem.amplitudes)
    rows = entries if problem.layout is None else len(problem.layout.point_of_row)
    given = np.shape(point.preactivations), np.shape(point.selection), k.shape
    if given != (expected := ((n, rows), (n, entries), (rows, rows))):
        raise fail("preactivations, selection and gram", f"shapes {given}", f"{expected} for this problem")


def _step(
    k: np.ndarray, problem: MarginProblem, gone: np.ndarray, point: Any, step_scale: float
) -> tuple[np.ndarray, float]:
    """The pre-activations of theta^, and the least of 1 and its retained margins."""
    layout, v = _layout(problem), np.asarray(problem.amplitudes, np.float64)
    lam = np.where(np.isin(layout["point_of_constraint"], gone), point.multipliers, 0.0)
    q = np.zeros((len(v), len(k)))
    np.add.at(q.T, layout["row"], (v * lam[layout["constraint"]] * np.asarray(point.selection)).T)
    after = np.asarray(point.preactivations, np.float64) - step_scale * q @ k
    kept = ~np.isin(layout["point_of_constraint"], gone)
    smallest = float(_margins(problem, after, v)[kept].min(initial=1.0))
    if not smallest > 0:
        raise fail("the margins of theta^", str(smallest), "positive retained margins for the kind scaling")
    return after, smallest


def _margins(problem: MarginProblem, z: np.ndarray, v: np.ndarray) -> np.ndarray:
    """q_a; with |z| and |v| in their place and slopes up to 1, the size of its terms."""
    layout = _layout(problem)
    at = z[:, layout["row"]]
    each = np.sum(v * np.maximum(at, problem.slope * at), axis=0)
    return np.bincount(layout["constraint"], each, minlength=len(layout["point_of_constraint"]))


def _layout(problem: MarginProblem) -> dict[str, np.ndarray]:
    """The layout as arrays, also where each point is a row, an entry and a constraint."""
    if problem.layout is None:
        return dict.fromkeys(LAYOUT_KEYS, np.arange(np.shape(problem.amplitudes)[1]))
    return {key: np.asarray(getattr(problem.layout, key)) for key in LAYOUT_KEYS}


def _rooms(spectrum: np.ndarray, problem: MarginProblem, zs: tuple[Any, Any], multipliers: tuple[Any, Any]) -> Rooms:
    size = max(float(np.linalg.norm(z)) for z in zs)
    sizes = np.abs(np.asarray(problem.amplitudes, np.float64))
    margin = max(float(_margins(problem, np.abs(z), sizes).max()) for z in zs)
    top = max(float(np.max(lam)) for lam in multipliers)
    return Rooms(
        epsilon=ROOM * size / math.sqrt(spectrum[0]),
        delta=ROOM * top * max(1.0, margin),
        sine=ROOM * math.sqrt(spectrum[-1] / spectrum[0]),
    )


def _problem(k: np.ndarray, problem: MarginProblem, gone: np.ndarray) -> dict[str, Any]:
    layout = problem.layout
    return {
        "gram": k.tolist(),
        "amplitudes": np.asarray(problem.amplitudes, np.float64).tolist(),
        "slope": float(problem.slope),
        "layout": None if layout is None else {key: list(map(int, getattr(layout, key))) for key in LAYOUT_KEYS},
        "groups": np.asarray(problem.groups).tolist(),
        "forget": gone.tolist(),
    }


def _point(point: Any) -> dict[str, Any]:
    return {key: np.asarray(getattr(point, key), np.float64).tolist() for key in POINT_KEYS}


def _claims(k: np.ndarray, point: Any, certificate: Any, rooms: Rooms) -> dict[str, float]:
    psi, phi = np.abs(np.diag(k) - 1).max(), np.abs(k - np.diag(np.diag(k))).max()
    tau = (math.sqrt(2 * max(float(certificate.tau), 0.0)) + rooms.sine) ** 2 / 2
    return {
        "epsilon_1": float(point.epsilon) + 2 * rooms.epsilon,
        "delta_1": float(point.delta) + 2 * rooms.delta,
        "epsilon": float(certificate.epsilon) + rooms.epsilon,
        "delta": float(certificate.delta) + rooms.delta,
        "tau": 0.0 if certificate.kind == "scaling" else min(tau, 2.0),
        "psi": float(np.nextafter(psi, np.inf)) if psi else 0.0,
        "phi": float(phi),
    }


def _bound(bound: Mapping[str, Any], rooms: Rooms) -> dict[str, Any]:
    sides = {c: float(bound[c]) for c in ("epsilon", "delta", "tau")}
    margin = min(MAX_MARGIN, max(2.0**-42, 4 * rooms.sine))
    return {"name": bound["name"], "strength": bound["strength"], **sides, "margin": margin}


def _inequality(given: Mapping[str, Any]) -> dict[str, Any]:
    sides = {side: float(given[side]) for side in ("lhs", "rhs")}
    return {"name": given["name"], **sides, "solution": given["solution"] and _point(given["solution"])}


def write(path: str | os.PathLike[str], document: Mapping[str, Any]) -> None:
    """Write a document as JSON, one line per key; the file is whole or absent."""
    rows = (f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in document.items())
    target = Path(path)
    disk.seal(target.parent, target.name, ("{\n" + ",\n".join(rows) + "\n}\n").encode("utf-8"))


def comparison(claim: str, name: str, reproduce: str, lhs: float, rhs: float) -> dict[str, Any]:
    """The comparison document of a violation."""
    sides = {side: v if math.isfinite(v) else str(v) for side, v in (("lhs", float(lhs)), ("rhs", float(rhs)))}
    document = {"format": dict(COMPARISON_FORMAT), "claim": claim, "comparison": name, "reproduce": reproduce, **sides}
    parse_comparison(document)
    return document
