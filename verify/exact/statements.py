"""Prove or refute every statement of a certificate file, in ball arithmetic, from the file alone.

A file (`verify.exact.certificate_file` describes its keys) holds one margin problem with its forgotten points
(`problem`), an original theta = Z K^-1 X + W_perp and a certificate theta~, both by their pre-activations, and claims
about them; theta^ = theta - c h is derived (`balls`). It may name a bound of its claims (`bounds`) and a further
inequality (`inequalities`).

Floats are exact dyadic numbers. A statement is a list of inequalities: *proved* when every ball comparison
succeeds, *refuted* when a reversed one does (a ball may answer False to both), else tried again at the next of
`PRECISIONS` bits and *undecided* after the last. A bound or inequality with a hypothesis that fails is *not
applicable*. Source: docs/theory, Rigour.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import flint
from flint import fmpq, fmpq_mat

from verify.exact.balls import Check, Quantities, arb, ctx, exact, root
from verify.exact.bounds import sides
from verify.exact.certificate_file import (
    FORMAT,
    INEQUALITIES,
    CertificateError,
    Comparison,
    Point,
    is_comparison,
    parse,
    parse_comparison,
    read,
)
from verify.exact.inequalities import NAMED
from verify.exact.solution import solution

PRECISIONS = (192, 384, 768, 1536, 3072, 6144)  #: bits; the last one is the stated limit
PROVED, REFUTED, UNDECIDED, NOT_APPLICABLE = "proved", "refuted", "undecided", "not applicable"
STATEMENTS = {
    "gram": "K is symmetric positive definite",
    "assumption": "the points satisfy A(psi, phi)",
    "original.selection": "lambda >= 0 and mu are a Clarke selection at theta",
    "original.stationarity": "the residual of theta is at most epsilon_1",
    "original.slackness": "the complementary slackness of theta is at most delta_1",
    "original.feasibility": "every margin of theta is at least 1",
    "certificate.selection": "lambda~ and mu~ are a Clarke selection at theta~, zero on the forgotten points",
    "certificate.stationarity": "the residual of theta~ is at most epsilon",
    "certificate.slackness": "the complementary slackness of theta~ is at most delta",
    "certificate.feasibility": "every retained margin of theta~ is at least 1",
    "angle": "cos of the angle between theta^ and theta~ is at least 1 - tau",
    "bound.epsilon": "epsilon is within the bound",
    "bound.delta": "delta is within the bound",
    "bound.tau": "tau is within the bound",
    "bound.stated": "the right-hand sides in the file are those of the bound, within 2^-10 and rounding",
    "inequality": "the named inequality holds",
    "inequality.stated": "the sides in the file are those of the inequality, within 2^-10 and rounding",
}


def _pivots(a: list[list[Any]]) -> list[Any]:
    """Pivots of symmetric elimination as balls, up to the first that is not surely positive."""
    for k, row in enumerate(a):
        if not row[k] > 0:
            return [a[i][i] for i in range(k + 1)]
        for below in a[k + 1 :]:
            ratio = below[k] / row[k]
            for j in range(k + 1, len(a)):
                below[j] -= ratio * row[j]
    return [a[i][i] for i in range(len(a))]


def _pairs(q: Quantities) -> list[tuple[int, int]]:
    return [(i, j) for i in q.rows for j in range(i)]


def _definite(q: Quantities) -> list[Check]:
    """K = K^T with positive pivots; at the last precision the first open one is decided exactly."""
    gram, values = q.problem.gram, _pivots(q.gram.tolist())
    if ctx.prec == PRECISIONS[-1] and not values[-1] > 0:
        size = len(values)
        block = fmpq_mat([[fmpq(*x.as_integer_ratio()) for x in row[:size]] for row in gram[:size]])
        values[-1] = arb(block.det())
        values += [arb.nan()] * (size < len(gram))
    checks = [Check(0, v, f"pivot {i} of K is not positive", True) for i, v in enumerate(values)]
    for i, j in _pairs(q):
        checks.append(Check(abs(gram[i][j] - gram[j][i]), 0.0, f"K_ij and K_ji differ at ({i}, {j})"))
    return checks


def _assumption(q: Quantities) -> list[Check]:
    """A(psi, phi): |K_ii - 1| <= psi, and |K_ij| <= phi for i != j."""
    k, psi, phi = q.gram, q.claim["psi"], q.claim["phi"]
    checks = [Check(abs(k[i, i] - 1), psi, f"|K_ii - 1| exceeds psi at {i}") for i in q.rows]
    return checks + [Check(abs(k[i, j]), phi, f"|K_ij| exceeds phi at ({i}, {j})") for i, j in _pairs(q)]


def _selection(q: Quantities, z: Any, point: Point, gone: list[int]) -> list[Check]:
    """slope lambda <= mu <= lambda, mu = lambda where z > 0 or sigma has no kink, mu = slope lambda where z < 0;
    lambda_gone = 0."""
    p, tops = q.problem, point.multipliers
    checks = [Check(0.0, top, f"multiplier {a} is negative") for a, top in enumerate(tops)]
    checks += [Check(tops[a], 0.0, f"the forgotten constraint {a} has a multiplier") for a in gone]
    highest, slope = [Fraction(top) for top in tops], Fraction(p.slope)
    for j, line in enumerate(point.mu):
        for mu, r, a in zip(line, p.layout.row, p.layout.constraint, strict=True):
            low, high, value = slope * highest[a], highest[a], z[j, r]
            if not p.kinked or value > 0:
                low = high
            elif value < 0:
                high = low
            elif not value.is_zero():  # a derived pre-activation whose sign is open
                checks.append(Check(math.nan, 0.0, f"the pre-activation ({j}, {r}) allows this selection"))
            where = f"mu[{j}] of row {r}, constraint {a}"
            checks.append(Check(low, mu, f"{where} is below what its pre-activation allows"))
            checks.append(Check(mu, high, f"{where} is above what its pre-activation allows"))
    return checks


def _kkt(q: Quantities, which: str, what: str) -> list[Check]:
    """One part of the definition of an (epsilon, delta)-KKT point, for theta on S or theta~ on T."""
    mine, z, point, suffix, share = q.constraints, q.z, q.d.original, "_1", arb(1)
    if which == "certificate":
        mine, z, point, suffix, share = q.problem.retained, q.z_cert, q.d.certificate, "", arb(q.d.factor) ** 2
    if what == "selection":
        return _selection(q, z, point, [] if which == "original" else q.problem.forgotten)
    if what == "stationarity":
        e = q.e if which == "original" else z - q.coefficients(exact(point.mu), q.constraints) * q.gram
        squared, top = q.inner(e, e) + share * q.omega, "epsilon" + suffix
        return [Check(squared, q.claim[top] ** 2, f"|e|^2 exceeds {top}^2")]
    margins, lam, top = q.margins(z), point.multipliers, "delta" + suffix
    if what == "slackness":
        return [Check(lam[a] * (margins[a] - 1), q.claim[top], f"{top} is exceeded at constraint {a}") for a in mine]
    return [Check(1, margins[a], f"the margin of constraint {a} is below 1") for a in mine]


def _angle(q: Quantities) -> list[Check]:
    """<a, b> >= 0 and <a, b>^2 >= (1 - tau)^2 |a|^2 |b|^2; for tau > 1, <a, b> >= 0 or <=."""
    checks = [Check(0, q.inner(q.z_after, q.z_after) + q.omega, "theta^ is zero", True)]
    if not q.d.certificate.preactivations:  # theta~ = factor theta^: the angle is exactly 0
        return [*checks, Check(0, q.d.factor, "the factor is not positive", True)]
    bb = q.inner(q.z_cert, q.z_cert) + arb(q.d.factor) ** 2 * q.omega
    ab = q.inner(q.z_after, q.z_cert) + q.d.factor * q.omega
    checks.append(Check(0, bb, "theta~ is zero", True))
    square = (1 - q.claim["tau"]) ** 2 * checks[0].high * bb
    if q.d.claimed["tau"] <= 1:
        checks.append(Check(0, ab, "the inner product <a, b> is negative"))
        checks.append(Check(square, ab**2, "<a, b>^2 is below (1 - tau)^2 |a|^2 |b|^2"))
    elif not ab >= 0:
        low = ab**2 if ab < 0 else math.nan
        checks.append(Check(low, square, "<a, b> is negative and <a, b>^2 above (1 - tau)^2 |a|^2 |b|^2"))
    return checks


@dataclass(frozen=True)
class Statement:
    """One statement, its answer, the bits it took, and a sentence that says why."""

    name: str
    answer: str
    bits: int
    text: str


@dataclass(frozen=True)
class Report:
    """All answers about one document (path and sha256 of the file's bytes are empty without a file).

    exit_code 0: everything proved; 1: something refuted; 3: something undecided or not applicable."""

    path: str
    sha256: str
    versions: dict[str, str]
    exit_code: int
    statements: list[Statement]


def judge(checks: Iterable[Check]) -> tuple[str, str]:
    """Answer to a conjunction of inequalities, with what is wrong or open. Not proved never means refuted."""
    unclear = ""
    for low, high, text, strict in checks:
        if (low >= high) if strict else (low > high):
            sign = "<" if strict else "<="
            return REFUTED, f"{text} ({float(low):.17g} {sign} {float(high):.17g} is false)"
        if not ((low < high) if strict else (low <= high)):
            unclear = unclear or f"{PRECISIONS[-1]} bits cannot tell whether {text}"
    return (UNDECIDED, unclear) if unclear else (PROVED, "")


def _stated_bound(q: Quantities) -> tuple[str, str]:
    """The file's right-hand sides are those of the bound: within 2^-10 relative or a rounding room, tau at least 2
    where its part of the bound is void."""
    bound, derived = q.d.bound or {}, sides(q)
    there, why = judge(derived.angle)
    if there == UNDECIDED:
        return there, why
    room, checks = 2.0**-40 * (1 + root(q.inner(q.z, q.z) + q.omega)), []
    parts = [("epsilon", room), ("delta", room), ("tau", arb(2.0**-70))]
    for name, least in parts if there == PROVED else parts[:2]:
        side = getattr(derived, name)
        checks.append(Check(abs(bound[name] - side), side * 2.0**-10 + least, f"bound.{name} is another number"))
    if there == REFUTED:
        checks.append(Check(2.0, bound["tau"], "bound.tau is below 2, and its part of the bound is void"))
    return judge(checks)


def _applies(known: dict[str, tuple[str, str]], needs: Iterable[str], checks: list[Check]) -> tuple[str, str] | None:
    """None if every hypothesis is proved, else the answer that its failure or openness means."""
    assumed = [(known[n][0], f"that {STATEMENTS[n]}") for n in needs] + [judge(checks)]
    for answer, verdict, why in ((REFUTED, NOT_APPLICABLE, "fails"), (UNDECIDED, UNDECIDED, "is open")):
        if texts := [text for found, text in assumed if found == answer]:
            return verdict, f"a hypothesis {why}: {texts[0]}"
    return None


def _of_bound(q: Quantities, what: str, known: dict[str, tuple[str, str]]) -> tuple[str, str]:
    assert q.d.bound is not None
    derived, worst_case = sides(q), q.d.bound["strength"] in ("sharp", "coarse")
    needs = [n for n in known if n.startswith("original") or (worst_case and n == "assumption")]
    if refusal := _applies(known, needs, derived.hypotheses + (derived.angle if what == "tau" else [])):
        return refusal
    if what == "stated":
        return _stated_bound(q)
    return judge([Check(q.claim[what], getattr(derived, what), f"{what} exceeds its right-hand side")])


def _of_inequality(q: Quantities, what: str, known: dict[str, tuple[str, str]]) -> tuple[str, str]:
    """All entries hold; or (`stated`) the sides in the file are, within rounding, those of one of the entries."""
    assert q.d.inequality is not None
    name = q.d.inequality["name"]
    named = NAMED[name]
    if refusal := _applies(known, named.needs, named.about(q) + (solution(q).checks if INEQUALITIES[name] else [])):
        return refusal
    entries, hypotheses = named.sides(q)
    if refusal := _applies(known, (), hypotheses):
        return refusal
    if what != "stated":
        return judge([Check(low, high, f"{named.text} fails") for low, high in entries])
    room = named.room * (1 + root(q.inner(q.z, q.z) + q.omega))
    pair = [q.d.inequality[side] for side in ("lhs", "rhs")]
    found = [
        judge([Check(abs(v - given), abs(v) * 2.0**-10 + room, "a side in the file is another number")
               for v, given in zip(entry, pair, strict=True)])
        for entry in entries
    ]  # fmt: skip
    return next((f for answer in (PROVED, UNDECIDED) for f in found if f[0] == answer), found[0])


PLAIN: dict[str, Callable[[Quantities], list[Check]]] = {
    "gram": _definite, "assumption": _assumption, "angle": _angle,
}  # fmt: skip


def _answer(q: Quantities, name: str, known: dict[str, tuple[str, str]]) -> tuple[str, str]:
    """Answer to one statement, given the answers to those before it."""
    which, _, what = name.partition(".")
    if which in ("original", "certificate"):
        return judge(_kkt(q, which, what))
    if which == "bound":
        return _of_bound(q, what, known)
    return _of_inequality(q, what, known) if which == "inequality" else judge(PLAIN[name](q))


def check_document(document: Any, path: str = "", sha256: str = "") -> Report:
    """Answer every statement of a decoded document; CertificateError if it is no certificate and no comparison."""
    if isinstance(document, dict) and is_comparison(document.get("format")):
        return _report(path, sha256, [_compare(parse_comparison(document))])
    d = parse(document)
    left_out = {kind for kind in ("bound", "inequality") if getattr(d, kind) is None}
    names = [n for n in STATEMENTS if n.split(".")[0] not in left_out]
    known, bits = dict.fromkeys(names, (UNDECIDED, "K may not be definite")), dict.fromkeys(names, 0)
    for precision in PRECISIONS:
        with ctx.workprec(precision):
            quantities = Quantities(d)
            for name in [n for n in names if known[n][0] == UNDECIDED]:
                if known["gram"][0] == PROVED or name == "gram":
                    known[name], bits[name] = _answer(quantities, name, known), precision
        if known["gram"][0] == REFUTED:
            known.update(dict.fromkeys(names[1:], (NOT_APPLICABLE, "there are no points with this K")))
        if all(answer != UNDECIDED for answer, _ in known.values()):
            break
    words = dict(STATEMENTS)
    if d.inequality is not None:
        name = d.inequality["name"]
        words["inequality"] = f"{name}: {NAMED[name].text}"
    lines = [Statement(n, a, bits[n], f"{a}: {words[n]}" + (t and f"; {t}")) for n, (a, t) in known.items()]
    return _report(path, sha256, lines)


def _compare(c: Comparison) -> Statement:
    """lhs <= rhs as the file states them."""
    answer = PROVED if c.lhs <= c.rhs else REFUTED
    sign = "<=" if answer == PROVED else ">"
    text = f"{answer}: {c.lhs!r} {sign} {c.rhs!r} in {c.claim}, {c.comparison}; both sides as stated, none derived"
    return Statement("comparison", answer, 53, f"{text}: recompute them with `{c.reproduce}`")


def _report(path: str, sha256: str, lines: list[Statement]) -> Report:
    answers = {line.answer for line in lines}
    code = 1 if REFUTED in answers else 0 if answers == {PROVED} else 3
    versions = {"python-flint": flint.__version__, "flint": flint.__FLINT_VERSION__}
    versions |= {"format": str(FORMAT["version"]), "python": platform.python_version()}
    return Report(path, sha256, versions, code, lines)


def in_words(report: Report) -> str:
    """How many statements got which answer, and which were not proved."""
    names: dict[str, list[str]] = {}
    for statement in report.statements:
        names.setdefault(statement.answer, []).append(statement.name)
    return "; ".join(f"{len(v)} {k}" + (f" ({', '.join(v)})" if k != PROVED else "") for k, v in names.items())


def check_file(path: str | os.PathLike[str]) -> Report:
    """Read one file and answer its statements; CertificateError (exit code 2) if it is not a certificate."""
    document, digest = read(path)
    return check_document(document, os.fspath(path), digest)


def _files(path: str | os.PathLike[str]) -> list[Path]:
    """The path itself, or the certificate files of a folder and its folders, if it has any."""
    found = sorted(Path(path).rglob("*.json")) if os.path.isdir(path) else []
    return found or [Path(path)]


def check_files(paths: Iterable[str | os.PathLike[str]]) -> tuple[int, list[dict[str, Any]]]:
    """Exit code of all files together (2 before 1 before 3 before 0), and a report or an error for each; a folder
    stands for the `.json` files in it."""
    reports: list[dict[str, Any]] = []
    for path in (file for given in paths for file in _files(given)):
        try:
            reports.append(asdict(check_file(path)))
        except CertificateError as error:
            reports.append({"path": os.fspath(path), "exit_code": 2, "error": str(error)})
    return next((c for c in (2, 1, 3) if any(r["exit_code"] == c for r in reports)), 0), reports
