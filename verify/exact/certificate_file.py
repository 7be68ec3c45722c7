"""The certificate file: one instance, one certificate and its claims as JSON that anyone can check.

Keys (n neurons, R rows, E entries, A constraints; every key without "may be missing" is required, no other is allowed):

    format                   {"name": "gaunlearn-certificate", "version": 2}
    gram, amplitudes, slope, layout, groups, forget
                             the margin problem and its forgotten points (`verify.exact.problem`)
    preactivations           Z, n x R, exact zeros at kinks: theta = Z K^-1 X + W_perp
    orthogonal_norm_squared  |W_perp|^2, the part of theta outside the span of the rows
    multipliers, selection   lambda [A] and s [n x E]; what is checked is mu_je = lambda_a(e) s_je, an exact product, so
                             that s may be anything where lambda is zero
    certificate              kind (projection | span | retrain | scaling), step_scale c, factor f,
                             preactivations Z~ [n x R], multipliers, selection: theta~ = Z~ K^-1 X + f W_perp
                             for theta^ = theta - c h. For the kind scaling preactivations is null
                             and theta~ = f theta^, whose angle is exactly 0
    claimed                  epsilon_1, delta_1 of theta; epsilon, delta, tau of theta~; psi, phi of K
    bound                    null, or name (projection | span | scaling), strength (instance | sharp |
                             coarse | spaces), the right-hand sides epsilon, delta, tau, and margin (room added to
                             the sine of the angle in tau)
    inequality               may be missing; null, or name (`INEQUALITIES`), lhs and rhs as they were found, and
                             solution: null, or preactivations, multipliers and selection of the solution of Q_T.
                             Only its sets are read (support, kinks, signs): the checker solves on them itself

Files of version 1 are read too. They state the problem by other keys (`verify.exact.problem`), and mu in floats in the
place of the selection. Floats cannot hold mu = slope * lambda, which is why version 2 multiplies.

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

import math
import reprlib
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from verify.exact import problem as problems
from verify.exact.fields import CertificateError as CertificateError
from verify.exact.fields import choice, fail, fields, matrix, number, vector
from verify.exact.fields import read as read
from verify.exact.problem import OLD_PROBLEM_KEYS, OPTIONAL_KEYS, PROBLEM_KEYS, Problem

FORMAT = {"name": "gaunlearn-certificate", "version": 2}
OLD_FORMAT = FORMAT | {"version": 1}
COMPARISON_FORMAT = {"name": "gaunlearn-comparison", "version": 1}
KINDS = ("projection", "span", "retrain", "scaling")
BOUNDS, STRENGTHS = ("projection", "span", "scaling"), ("instance", "sharp", "coarse", "scale_free", "spaces")
CLAIMS = ("epsilon_1", "delta_1", "epsilon", "delta", "tau", "psi", "phi")
POINT_KEYS = ("preactivations", "multipliers", "selection")
OLD_POINT_KEYS = ("preactivations", "multipliers", "mu")
OTHER_KEYS = ("orthogonal_norm_squared", "certificate", "claimed", "bound")
KEYS = ("format", *PROBLEM_KEYS, *POINT_KEYS, *OTHER_KEYS)
OLD_KEYS = ("format", *OLD_PROBLEM_KEYS, *OLD_POINT_KEYS, *OTHER_KEYS)
CERTIFICATE_KEYS = ("kind", "step_scale", "factor")
BOUND_KEYS = ("name", "strength", "epsilon", "delta", "tau", "margin")
#: inequalities that a file may name (`verify.exact.inequalities`), and whether they speak of theta*
INEQUALITIES = {
    "multipliers/upper": False, "multipliers/lower": False, "multipliers/margin": False,
    "unique/upper": False, "unique/lower": False, "unique/clearance": False, "activations/shift": False,
    "estimators/multiplier": False, "estimators/coarse": False, "estimators/epsilon": False,
    "identity/separation": False,
    "identity/retrained": True, "identity/norm": False, "retrain/distance": True, "retrain/tau": True,
    "retrain/ball": True, "retrain/ball_tau": True,
    "step_size/lower": False, "softmax/upper": False, "softmax/lower": False,
    "worthwhile/certificate": True,
    "entries/upper": False, "entries/lower": False, "entries/leakage": False,
}  # fmt: skip
COMPARISON_KEYS = ("format", "claim", "comparison", "reproduce", "lhs", "rhs")
#: n times the larger of R and E, and A, of a file whose inequality has a solution
MAX_SOLVED, MAX_SOLVED_CONSTRAINTS = 8_192, 128
MAX_TEXT = 2_000  #: characters of a text in a comparison
MAX_MARGIN = 2.0**-40  #: the largest outward margin a bound may carry
ROOM = 2.0**-44


@dataclass(frozen=True)
class Point:
    """theta by its pre-activations (empty: derived from theta^), with lambda and mu = lambda s, both exact."""

    preactivations: list[list[float]]
    multipliers: list[float]
    mu: list[list[Fraction]]


@dataclass(frozen=True)
class Document:
    """A certificate document after all checks of types, sizes and ranges."""

    problem: Problem
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


def _point(entry: dict[str, Any], prefix: str, problem: Problem, derived: bool = False) -> Point:
    """The point of an object that has `POINT_KEYS` or, in a file of version 1, `OLD_POINT_KEYS`."""
    n, owner = len(problem.amplitudes), problem.layout.constraint
    z = [] if derived else matrix(entry["preactivations"], f"{prefix}preactivations", n, len(problem.gram))
    multipliers = vector(entry["multipliers"], f"{prefix}multipliers", problem.num_constraints)
    if "mu" in entry:
        mu = [[Fraction(v) for v in row] for row in matrix(entry["mu"], f"{prefix}mu", n, len(owner))]
        return Point(z, multipliers, mu)
    tops, selection = list(map(Fraction, multipliers)), matrix(entry["selection"], f"{prefix}selection", n, len(owner))
    mu = [[tops[a] * Fraction(s) for s, a in zip(row, owner, strict=True)] for row in selection]
    return Point(z, multipliers, mu)


def _inequality(value: Any, problem: Problem, keys: tuple[str, ...]) -> dict[str, Any] | None:
    if value is None:
        return None
    entry = fields(value, "inequality", ("name", "lhs", "rhs", "solution"))
    name, given = choice(entry["name"], "inequality.name", tuple(INEQUALITIES)), entry["solution"]
    if given is None and INEQUALITIES[name]:
        raise fail("inequality.solution", "null", f"a point, which {name} speaks of")
    n, rows, constraints = len(problem.amplitudes), len(problem.gram), problem.num_constraints
    pairs = n * max(rows, len(problem.layout.row))
    if given is not None and (pairs > MAX_SOLVED or constraints > MAX_SOLVED_CONSTRAINTS):
        limits = f"at most {MAX_SOLVED} pairs and {MAX_SOLVED_CONSTRAINTS} constraints, or null"
        raise fail("inequality.solution", f"a point of {pairs} pairs and {constraints} constraints", limits)
    where = "inequality.solution"
    solution = given if given is None else _point(fields(given, where, keys), f"{where}.", problem)
    sides = {side: number(entry[side], f"inequality.{side}") for side in ("lhs", "rhs")}
    return {"name": name, **sides, "solution": solution}


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


def _version(document: Any) -> int:
    """The version of the format; version 2 where the document has none, whose missing key is named later."""
    form = document.get("format", FORMAT) if isinstance(document, dict) else FORMAT
    form = fields(form, "format", tuple(FORMAT))
    if form not in (FORMAT, OLD_FORMAT) or type(form["version"]) is not int:
        raise fail("format", reprlib.repr(form), f"{FORMAT} or version 1 of it")
    return int(form["version"])


def parse(document: Any) -> Document:
    """Check every type, size and range of a decoded document; CertificateError names the first bad entry."""
    if _version(document) == 1:
        top, keys = fields(document, "the document", OLD_KEYS, ("inequality",)), OLD_POINT_KEYS
        problem = problems.parse_old(top)
    else:
        top, keys = fields(document, "the document", KEYS, (*OPTIONAL_KEYS, "inequality")), POINT_KEYS
        problem = problems.parse(top)
    other = fields(top["certificate"], "certificate", (*CERTIFICATE_KEYS, *keys))
    derived = choice(other["kind"], "certificate.kind", KINDS) == "scaling"
    if derived and other["preactivations"] is not None:
        raise fail("certificate.preactivations", "a list", "null for the kind scaling")
    claimed = fields(top["claimed"], "claimed", CLAIMS)
    return Document(
        problem=problem,
        original=_point(top, "", problem),
        orthogonal_norm_squared=number(top["orthogonal_norm_squared"], "orthogonal_norm_squared", 0.0),
        certificate=_point(other, "certificate.", problem, derived),
        step_scale=number(other["step_scale"], "certificate.step_scale", 0.0),
        factor=number(other["factor"], "certificate.factor", 0.0),
        claimed={
            name: number(claimed[name], f"claimed.{name}", 0.0, 2.0 if name == "tau" else math.inf) for name in CLAIMS
        },
        bound=_bound(top["bound"]),
        inequality=_inequality(top["inequality"], problem, keys),
    )
