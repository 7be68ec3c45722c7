"""Prove or refute every statement of a certificate file, in ball arithmetic, from the file alone.

A file (`verify.certificate_file` describes its keys) holds one instance (K, y, u, R), an original theta =
Z K^-1 X + W_perp and a certificate theta~, both by their pre-activations, and claims about them. With
Q_ji = u_j y_i mu_ji, Q_R its forgotten columns and T the retained points, the step theta^ = theta - c h is
derived: h has coefficients Q_R and pre-activations H = Q_R K. For weights with the pre-activations A and B

    <A, B> = tr(B^T A K^-1),   |e|^2 = <Z - QK, Z - QK> + |W_perp|^2,   |Ph|^2 = tr(H_T^T H_T K_TT^-1).

Floats are exact dyadic numbers. A statement is a list of inequalities: *proved* when every ball comparison
succeeds, *refuted* when a reversed one does (a ball may answer False to both), else tried again at the next of
`PRECISIONS` bits and *undecided* after the last. A bound with a hypothesis that fails is *not applicable*.
Source: docs/theory, Theorems P, R and L, Lemma M, Norm lemma, Coarse forms, Rigour.
"""

from __future__ import annotations

import functools
import math
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

from verify.certificate_file import FORMAT, CertificateError, Document, Point, parse, read

try:
    import flint
    from flint import arb, arb_mat, ctx, fmpq, fmpq_mat
except ImportError as error:
    raise ImportError("verify.exact needs python-flint: pip install 'gaunlearn-jax[exact]'") from error

PRECISIONS = (192, 384, 768, 1536, 3072, 6144)  #: bits; the last one is the stated limit
WEIGHT_ROOM = 2.0**-40  #: |n u_j^2 - 1| up to this counts as |u_j| = 1/sqrt(n): the constants have slack
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
    "bound.stated": "the right-hand sides in the file are those of the bound",
}


class Check(NamedTuple):
    """The inequality low <= high (low < high when strict); `text` says what its failure means."""

    low: Any
    high: Any
    text: str
    strict: bool = False


class Sides(NamedTuple):
    """Right-hand sides of a bound, its hypotheses, and what its tau part assumes besides."""

    hypotheses: list[Check]
    epsilon: Any
    delta: Any
    tau: Any
    angle: list[Check]


def _root(x: Any) -> Any:
    """Square root of a ball that is >= 0 in truth and may reach below 0 by rounding."""
    return arb(x).nonnegative_part().sqrt()


def _inverse(a: Any) -> Any:
    """Ball inverse; all nan at a precision that does not show `a` to be invertible."""
    try:
        return a.inv()
    except ZeroDivisionError:
        return arb_mat(a.nrows(), a.ncols(), [arb.nan()] * (a.nrows() * a.ncols()))


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


class Quantities:
    """Everything the statements compare, as balls at the current precision."""

    def __init__(self, document: Document) -> None:
        d = self.d = document
        self.m, self.n, self.k = len(d.labels), len(d.output_weights), len(d.forget)
        self.everyone = list(range(self.m))
        self.pairs = [(i, j) for i in self.everyone for j in range(i)]
        self.retained = [i for i in self.everyone if i not in d.forget]
        self.weight = sum((arb(u) ** 2 for u in d.output_weights), arb(0))
        self.claim = {name: arb(value) for name, value in d.claimed.items()}
        self.gram, self.z = arb_mat(d.gram), arb_mat(d.original.preactivations)
        self.inverse = _inverse(self.gram)
        self.omega, self.step = arb(d.orthogonal_norm_squared), arb(d.step_scale)
        self.q_forget = self.coefficients(d.original.mu, d.forget)
        self.z_step = self.q_forget * self.gram
        self.z_after = self.z - self.step * self.z_step
        self.bound = d.bound or {}
        stored = d.certificate.preactivations
        self.z_cert = arb_mat(stored) if stored else arb(d.factor) * self.z_after

    def coefficients(self, mu: list[list[float]], columns: Iterable[int]) -> Any:
        """Q_ji = u_j y_i mu_ji on the given columns, zero elsewhere."""
        q = arb_mat(self.n, self.m)
        for i in columns:
            for j, u in enumerate(self.d.output_weights):
                q[j, i] = arb(u) * (self.d.labels[i] * mu[j][i])
        return q

    def inner(self, a: Any, b: Any) -> Any:
        """<A, B>: the inner product of two weight matrices given by their pre-activations."""
        return ((b.transpose() * a) * self.inverse).trace()

    def margins(self, z: Any) -> list[Any]:
        """q_i = y_i sum_j u_j max(z_ji, 0), without the maximum for a linear model."""
        active = z if self.d.linear else arb_mat([[v.nonnegative_part() for v in row] for row in z.tolist()])
        outputs = (arb_mat([self.d.output_weights]) * active).tolist()[0]
        return [y * value for y, value in zip(self.d.labels, outputs, strict=True)]

    def definite(self) -> list[Check]:
        """K = K^T with positive pivots; at the last precision the first open one is decided exactly."""
        gram, values = self.d.gram, _pivots(self.gram.tolist())
        if ctx.prec == PRECISIONS[-1] and not values[-1] > 0:
            size = len(values)
            block = fmpq_mat([[fmpq(*x.as_integer_ratio()) for x in row[:size]] for row in gram[:size]])
            values[-1] = arb(block.det())
            values += [arb.nan()] * (size < self.m)
        checks = [Check(0, v, f"pivot {i} of K is not positive", True) for i, v in enumerate(values)]
        for i, j in self.pairs:
            checks.append(Check(abs(gram[i][j] - gram[j][i]), 0.0, f"K_ij and K_ji differ at ({i}, {j})"))
        return checks

    def assumption(self) -> list[Check]:
        """A(psi, phi): |K_ii - 1| <= psi, and |K_ij| <= phi for i != j."""
        k, psi, phi = self.gram, self.claim["psi"], self.claim["phi"]
        checks = [Check(abs(k[i, i] - 1), psi, f"|K_ii - 1| exceeds psi at {i}") for i in self.everyone]
        return checks + [Check(abs(k[i, j]), phi, f"|K_ij| exceeds phi at ({i}, {j})") for i, j in self.pairs]

    def selection(self, z: Any, point: Point, gone: list[int]) -> list[Check]:
        """0 <= mu <= lambda, mu = lambda where z > 0 (linear: everywhere), mu = 0 where z < 0; lambda_gone = 0."""
        linear, tops = self.d.linear, point.multipliers
        checks = [Check(0.0, top, f"multiplier {i} is negative") for i, top in enumerate(tops)]
        checks += [Check(tops[r], 0.0, f"the forgotten point {r} has a multiplier") for r in gone]
        for j, row in enumerate(point.mu):
            for i, (mu, top) in enumerate(zip(row, tops, strict=True)):
                low, high, value = 0.0, top, z[j, i]
                if linear or value > 0:
                    low = top
                elif value < 0:
                    high = 0.0
                elif not value.is_zero():  # a derived pre-activation whose sign is open
                    low = math.nan
                checks.append(Check(low, mu, f"mu[{j}][{i}] is below what its pre-activation allows"))
                checks.append(Check(mu, high, f"mu[{j}][{i}] is above what its pre-activation allows"))
        return checks

    def kkt(self, which: str, what: str) -> list[Check]:
        """One part of the definition of an (epsilon, delta)-KKT point, for theta on S or theta~ on T."""
        points, z, point, suffix, share = self.everyone, self.z, self.d.original, "_1", arb(1)
        if which == "certificate":
            points, z, point, suffix = self.retained, self.z_cert, self.d.certificate, ""
            share = arb(self.d.factor) ** 2
        if what == "selection":
            return self.selection(z, point, [] if which == "original" else self.d.forget)
        if what == "stationarity":
            e, top = z - self.coefficients(point.mu, self.everyone) * self.gram, "epsilon" + suffix
            squared = self.inner(e, e) + share * self.omega
            return [Check(squared, self.claim[top] ** 2, f"|e|^2 exceeds {top}^2")]
        q, lam, top = self.margins(z), point.multipliers, "delta" + suffix
        if what == "slackness":
            return [Check(lam[i] * (q[i] - 1), self.claim[top], f"{top} is exceeded at {i}") for i in points]
        return [Check(1, q[i], f"the margin of point {i} is below 1") for i in points]

    def angle(self) -> list[Check]:
        """<a, b> >= 0 and <a, b>^2 >= (1 - tau)^2 |a|^2 |b|^2; for tau > 1, <a, b> >= 0 or <=."""
        checks = [Check(0, self.inner(self.z_after, self.z_after) + self.omega, "theta^ is zero", True)]
        if not self.d.certificate.preactivations:  # theta~ = factor theta^: the angle is exactly 0
            return [*checks, Check(0, self.d.factor, "the factor is not positive", True)]
        bb = self.inner(self.z_cert, self.z_cert) + arb(self.d.factor) ** 2 * self.omega
        ab = self.inner(self.z_after, self.z_cert) + self.d.factor * self.omega
        checks.append(Check(0, bb, "theta~ is zero", True))
        square = (1 - self.claim["tau"]) ** 2 * checks[0].high * bb
        if self.d.claimed["tau"] <= 1:
            checks.append(Check(0, ab, "the inner product <a, b> is negative"))
            checks.append(Check(square, ab**2, "<a, b>^2 is below (1 - tau)^2 |a|^2 |b|^2"))
        elif not ab >= 0:
            low = ab**2 if ab < 0 else math.nan
            checks.append(Check(low, square, "<a, b> is negative and <a, b>^2 above (1 - tau)^2 |a|^2 |b|^2"))
        return checks

    def gap(self, count: int) -> Any:
        """1 - psi - (count - 1) phi: below the Gram matrix of `count` points (Gershgorin)."""
        return 1 - self.claim["psi"] - (count - 1) * self.claim["phi"]

    @cached_property
    def beta_max(self) -> Any:
        """Lemma M, U = sum u_j^2: (B + sqrt(B^2 + 4AU delta_1)) / (2A), B = 1 + epsilon_1 sqrt((1-psi) U)."""
        a, u = self.gap(self.m), self.weight
        b = 1 + self.claim["epsilon_1"] * _root((1 - self.claim["psi"]) * u)
        return (b + _root(b**2 + 4 * a * u * self.claim["delta_1"])) / (2 * a)

    def projected(self) -> tuple[Any, Any, Any, Any]:
        """|P h|^2, |(I - P) h|^2, |P theta|^2 and |theta - c (I - P) h|^2; <theta, h> = tr(Z^T Q_R)."""
        block = arb_mat([[self.gram[i, j] for j in self.retained] for i in self.retained])
        inverse = _inverse(block)
        z, h = (arb_mat([[r[i] for i in self.retained] for r in a.tolist()]) for a in (self.z, self.z_step))
        inside, along, square = ((a.transpose() * b * inverse).trace() for a, b in ((h, h), (h, z), (z, z)))
        rest = (self.z_step.transpose() * self.q_forget).trace() - inside
        cross = (self.z.transpose() * self.q_forget).trace() - along
        moved = self.inner(self.z, self.z) + self.omega - 2 * self.step * cross + self.step**2 * rest
        return inside, rest, square, moved

    @cached_property
    def sides(self) -> Sides:
        """The named bound (docs/theory, Theorem P; Theorems R and L and their coarse forms)."""
        d, name = self.d, self.bound["name"]
        instance, coarse = (self.bound["strength"] == s for s in ("instance", "coarse"))
        plain = [
            (d.step_scale == 1 or (instance and name == "projection"), "the step scale is not 1"),
            (instance or name != "span", "the span certificate has no worst-case bound"),
            (d.linear if name == "scaling" else not (coarse and d.linear), "the model is of the other kind"),
        ]
        hypotheses = [Check(int(not holds), 0, text) for holds, text in plain]
        if not instance:
            hypotheses.append(Check(0, self.gap(self.m), "1 - psi - (m - 1) phi is not positive", True))
        if coarse:
            return self.coarse(hypotheses)
        return self.scaling(instance, hypotheses) if name == "scaling" else self.projection(instance, hypotheses)

    def projection(self, instance: bool, hypotheses: list[Check]) -> Sides:
        """epsilon_1 + rho, delta_1, 1 - sqrt(1 - (rho/N + margin)^2).

        Instance: rho = |Ph|, N = |theta - (I-P) h|; at step c, epsilon_1 + rho + |1-c| |(I-P) h| and c rho; for
        the span certificate, in tau, sqrt(rho^2 + epsilon_1^2) and N = |P theta|. Worst case:
        rho = k beta_max kappa / min |u_j| and N^2 = M / (U (1 + psi + (M-1) phi)).
        """
        claim, count = self.claim, len(self.retained)
        if instance:
            inside, rest, square, moved = self.projected()
            side, norm = self.step * _root(inside), _root(moved)
            extra = _root(inside) + abs(1 - self.step) * _root(rest)
            if self.bound["name"] == "span":
                side, norm = _root(inside + claim["epsilon_1"] ** 2), _root(square)
        else:
            kappa = claim["phi"] * _root(count) / _root(self.gap(count))
            side = extra = self.k * self.beta_max * kappa / min(abs(u) for u in self.d.output_weights if u)
            norm = _root(count / (self.weight * (1 + claim["psi"] + (count - 1) * claim["phi"])))
        sine = side / norm + self.bound["margin"]
        tau, angle = sine**2 / (1 + _root(1 - sine**2)), [Check(sine, 1, "the sine in tau is not below 1", True)]
        return Sides(hypotheses, claim["epsilon_1"] + extra, claim["delta_1"], tau, angle)

    def scaling(self, instance: bool, hypotheses: list[Check]) -> Sides:
        """epsilon_1/(1-l), (delta_1 + 2 l lambda_max)/(1-l)^2, 0, with l = max_T |H_i| or k beta_max phi."""
        leak, largest = self.k * self.beta_max * self.claim["phi"], self.beta_max
        if instance:
            leak = functools.reduce(arb.max, [abs(self.z_step[0, i]) for i in self.retained])
            largest = max(self.d.original.multipliers[i] for i in self.retained)
        hypotheses.append(Check(leak, 1, "the leakage is not below 1", True))
        delta = (self.claim["delta_1"] + 2 * leak * largest) / (1 - leak) ** 2
        return Sides(hypotheses, self.claim["epsilon_1"] / (1 - leak), delta, arb(0), [])

    def coarse(self, hypotheses: list[Check]) -> Sides:
        """The closed forms in e = 4 m n phi, where x = k e/m (linear, Theorem L) or 9 e/m (Theorem R)."""
        m, k, e, linear = self.m, self.k, 4 * self.m * self.n * self.claim["phi"], self.d.linear
        eps, delta, x = self.claim["epsilon_1"], self.claim["delta_1"], (k if linear else 9) * e / m
        off = [abs(self.n * arb(u) ** 2 - 1) for u in self.d.output_weights]
        hypotheses += [
            Check(self.claim["psi"], arb(1) / 10, "psi exceeds 0.1"),
            Check(e, 1, "eps_d exceeds 1"),
            Check(eps, 0.5, "epsilon_1 exceeds 0.5"),
            Check(delta, 0.5, "delta_1 exceeds 0.5"),
            Check(functools.reduce(arb.max, off), WEIGHT_ROOM, "some output weight is not +-1/sqrt(n)"),
            Check(3 * x if linear and k > 1 else x, 1, "eps_d is too large for m", not linear or k <= 1),
        ]
        if linear:
            return Sides(hypotheses, eps / (1 - x), delta / (1 - x) + arb("7.2") * x, arb(0), [])
        slack, tau = arb("22.6") * k * e / m, 82 * k**2 * e / m + arb(self.bound["margin"]) ** 2
        return Sides(hypotheses, eps / (1 - x) + 23 * k * e / _root(m), delta / (1 - x) + slack, tau, [])

    def stated(self, angle: bool) -> list[Check]:
        """The file's right-hand sides are those of the bound: within 2^-10 relative or a rounding room."""
        room, checks = 2.0**-32 * (1 + _root(self.inner(self.z, self.z) + self.omega)), []
        for name, least in [("epsilon", room), ("delta", room), ("tau", arb(2.0**-70))][: 2 + angle]:
            off, side = abs(self.bound[name] - getattr(self.sides, name)), getattr(self.sides, name)
            checks.append(Check(off, side * 2.0**-10 + least, f"bound.{name} is another number"))
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


def _answer(q: Quantities, name: str, known: dict[str, tuple[str, str]]) -> tuple[str, str]:
    """Answer to one statement, given the answers to those before it."""
    which, _, what = name.partition(".")
    if which in ("original", "certificate"):
        return judge(q.kkt(which, what))
    if which != "bound":
        return judge({"gram": q.definite, "assumption": q.assumption, "angle": q.angle}[name]())
    needs = ("original",) if q.bound["strength"] == "instance" else ("original", "assumption")
    assumed = [(known[n][0], f"that {STATEMENTS[n]}") for n in known if n.startswith(needs)]
    assumed += [judge(q.sides.hypotheses), judge(q.sides.angle if what == "tau" else [])]
    for answer, verdict, why in ((REFUTED, NOT_APPLICABLE, "fails"), (UNDECIDED, UNDECIDED, "is open")):
        if texts := [text for found, text in assumed if found == answer]:
            return verdict, f"a hypothesis {why}: {texts[0]}"
    if what == "stated":
        return judge(q.stated(judge(q.sides.angle)[0] == PROVED))
    return judge([Check(q.claim[what], getattr(q.sides, what), f"{what} exceeds its right-hand side")])


def check_document(document: Any, path: str = "", sha256: str = "") -> Report:
    """Answer every statement of a decoded document; CertificateError if it is not a certificate."""
    d = parse(document)
    names = [n for n in STATEMENTS if d.bound is not None or not n.startswith("bound")]
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
    lines = [Statement(n, a, bits[n], f"{a}: {STATEMENTS[n]}" + (t and f"; {t}")) for n, (a, t) in known.items()]
    answers = {answer for answer, _ in known.values()}
    code = 1 if REFUTED in answers else 0 if answers == {PROVED} else 3
    versions = {"python-flint": flint.__version__, "flint": flint.__FLINT_VERSION__}
    versions |= {"format": str(FORMAT["version"]), "python": platform.python_version()}
    return Report(path, sha256, versions, code, lines)


def check_file(path: str | os.PathLike[str]) -> Report:
    """Read one file and answer its statements; CertificateError (exit code 2) if it is not a certificate."""
    document, digest = read(path)
    return check_document(document, os.fspath(path), digest)


def check_files(paths: Iterable[str | os.PathLike[str]]) -> tuple[int, list[dict[str, Any]]]:
    """Exit code of all files together (2 before 1 before 3 before 0), and a report or an error for each."""
    reports: list[dict[str, Any]] = []
    for path in paths:
        try:
            reports.append(asdict(check_file(path)))
        except CertificateError as error:
            reports.append({"path": os.fspath(path), "exit_code": 2, "error": str(error)})
    return next((c for c in (2, 1, 3) if any(r["exit_code"] == c for r in reports)), 0), reports
