"""Prove or refute every statement of a certificate file, in ball arithmetic, from the file alone.

A file (`verify.certificate_file` describes its keys) holds one instance (K, y, u, R), an original theta =
Z K^-1 X + W_perp and a certificate theta~, both by their pre-activations, and claims about them. With Q_ji =
u_j y_i mu_ji, Q_R its forgotten columns and T the retained points, the step theta^ = theta - c h is derived: h has
coefficients Q_R and pre-activations H = Q_R K. For weights with the pre-activations A and B

    <A, B> = tr(B^T A K^-1),   |e|^2 = <Z - QK, Z - QK> + |W_perp|^2,   |Ph|^2 = tr(H_T^T H_T K_TT^-1).

Floats are exact dyadic numbers, and squares are compared instead of roots outside the bounds. A statement is a list
of inequalities: *proved* when every ball comparison succeeds, *refuted* when one reversed comparison succeeds, else
tried again at the next of `PRECISIONS` bits; what is open at the last one is *undecided*. A ball answers False to
both, so "not proved" never means refuted. A bound with a hypothesis that fails is *not applicable*.
Source: docs/theory, Theorems P, R and L, Lemma M, Norm lemma, Rigour.
"""

from __future__ import annotations

import functools
import math
import os
import platform
from collections.abc import Iterable, Sequence
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
WEIGHT_ROOM = 2.0**-40  #: |n u_j^2 - 1| up to this counts as |u_j| = 1/sqrt(n): the constants' slack absorbs it
PROVED, REFUTED, UNDECIDED, NOT_APPLICABLE = "proved", "refuted", "undecided", "not applicable"
STATEMENTS = {
    "gram": "K is symmetric positive definite",
    "assumption": "the points satisfy A(psi, phi)",
    "original.selection": "lambda >= 0 and mu are a Clarke selection at theta",
    "original.stationarity": "the residual of theta is at most epsilon_1",
    "original.slackness": "the complementary slackness of theta is at most delta_1",
    "original.feasibility": "every margin of theta is at least 1",
    "certificate.selection": "its multipliers are a Clarke selection at theta~ and vanish on the forgotten points",
    "certificate.stationarity": "the residual of theta~ is at most epsilon",
    "certificate.slackness": "the complementary slackness of theta~ on the retained points is at most delta",
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
        self.everyone = range(self.m)
        self.retained = [i for i in self.everyone if i not in d.forget]
        self.weights = [u for u in d.output_weights if u != 0]
        self.claim = {name: arb(value) for name, value in d.claimed.items()}
        self.gram, self.z = arb_mat(d.gram), arb_mat(d.original.preactivations)
        self.omega, self.step = arb(d.orthogonal_norm_squared), arb(d.step_scale)
        self.q_forget = self.coefficients(d.original.mu, d.forget)
        self.z_step = self.q_forget * self.gram
        self.z_after = self.z - self.step * self.z_step
        self.bound = d.bound or {}
        self.derived = d.certificate.preactivations is None
        self.z_cert = arb(d.factor) * self.z_after if self.derived else arb_mat(d.certificate.preactivations)

    def coefficients(self, mu: list[list[float]], columns: Iterable[int]) -> Any:
        """Q_ji = u_j y_i mu_ji on the given columns, zero elsewhere."""
        q = arb_mat(self.n, self.m)
        for i in columns:
            for j, u in enumerate(self.d.output_weights):
                q[j, i] = arb(u) * (self.d.labels[i] * mu[j][i])
        return q

    @cached_property
    def inverse(self) -> Any:
        return self.gram.inv()

    def inner(self, a: Any, b: Any) -> Any:
        """<A, B>: the inner product of two weight matrices given by their pre-activations."""
        return ((b.transpose() * a) * self.inverse).trace()

    def margins(self, z: Any) -> list[Any]:
        """q_i = y_i sum_j u_j max(z_ji, 0), without the maximum for a linear model."""
        active = z if self.d.linear else arb_mat([[v.nonnegative_part() for v in row] for row in z.tolist()])
        outputs = (arb_mat([self.d.output_weights]) * active).tolist()[0]
        return [y * value for y, value in zip(self.d.labels, outputs, strict=True)]

    # ------------------------------------------------------------------------------------- statements

    def definite(self) -> list[Check]:
        """K = K^T with positive pivots; at the last precision the first open one is decided exactly."""
        gram, pairs = self.d.gram, [(i, j) for i in self.everyone for j in range(i)]
        checks = [Check(abs(gram[i][j] - gram[j][i]), 0.0, f"K_ij and K_ji differ at ({i}, {j})") for i, j in pairs]
        values = _pivots(self.gram.tolist())
        if ctx.prec == PRECISIONS[-1] and not values[-1] > 0:
            size = len(values)
            block = fmpq_mat([[fmpq(*x.as_integer_ratio()) for x in row[:size]] for row in gram[:size]])
            values[-1] = arb(block.det())
            values += [arb.nan()] * (size < self.m)
        return checks + [Check(0, v, f"pivot {i} of K is not positive", True) for i, v in enumerate(values)]

    def assumption(self) -> list[Check]:
        """A(psi, phi): |K_ii - 1| <= psi, and |K_ij| <= phi for i != j."""
        psi, phi = self.claim["psi"], self.claim["phi"]
        checks = [Check(abs(self.gram[i, i] - 1), psi, f"|K_ii - 1| exceeds psi at {i}") for i in self.everyone]
        for i in self.everyone:
            checks += [Check(abs(self.gram[i, j]), phi, f"|K_ij| exceeds phi at ({i}, {j})") for j in range(i)]
        return checks

    def selection(self, z: Any, point: Point, gone: Iterable[int]) -> list[Check]:
        """0 <= mu <= lambda, mu = lambda where z > 0 (linear: everywhere), mu = 0 where z < 0, lambda = 0 on gone."""
        linear, tops = self.d.linear, point.multipliers
        checks = [Check(0.0, top, f"multiplier {i} is negative") for i, top in enumerate(tops)]
        checks += [Check(tops[r], 0.0, f"the forgotten point {r} has a multiplier") for r in gone]
        for j, row in enumerate(point.mu):
            for i, (mu, top) in enumerate(zip(row, tops, strict=True)):
                checks.append(Check(0.0, mu, f"mu[{j}][{i}] is negative"))
                checks.append(Check(mu, top, f"mu[{j}][{i}] exceeds its multiplier"))
                if mu < top and (linear or not z[j, i] <= 0):  # the sign of a derived z may be open: nan
                    low = top if linear or z[j, i] > 0 else math.nan
                    checks.append(Check(low, mu, f"mu[{j}][{i}] is below its multiplier where s = 1"))
                if mu > 0 and not (linear or z[j, i] >= 0):
                    low = mu if z[j, i] < 0 else math.nan
                    checks.append(Check(low, 0.0, f"mu[{j}][{i}] is positive where s = 0"))
        return checks

    def stationarity(self, z: Any, mu: list[list[float]], omega: Any, name: str) -> list[Check]:
        """|theta - sum_i lambda_i y_i g_i|^2 <= epsilon^2."""
        e = z - self.coefficients(mu, self.everyone) * self.gram
        return [Check(self.inner(e, e) + omega, self.claim[name] ** 2, f"the squared residual exceeds {name}^2")]

    def slackness(self, z: Any, point: Point, indices: Sequence[int], name: str) -> list[Check]:
        """lambda_i (q_i - 1) <= delta."""
        q, top = self.margins(z), self.claim[name]
        return [Check(point.multipliers[i] * (q[i] - 1), top, f"it exceeds {name} at point {i}") for i in indices]

    def feasibility(self, z: Any, indices: Sequence[int]) -> list[Check]:
        """q_i >= 1."""
        q = self.margins(z)
        return [Check(1, q[i], f"the margin of point {i} is below 1") for i in indices]

    def angle(self) -> list[Check]:
        """<a, b> >= 0 and <a, b>^2 >= (1 - tau)^2 |a|^2 |b|^2; for tau > 1, <a, b> >= 0 or <=."""
        checks = [Check(0, self.inner(self.z_after, self.z_after) + self.omega, "theta^ is zero", True)]
        if self.derived:  # theta~ = factor theta^: the angle is exactly 0
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

    # ----------------------------------------------------------------------------------------- bounds

    def gap(self, count: int) -> Any:
        """1 - psi - (count - 1) phi: below every eigenvalue of the Gram matrix of `count` points (Gershgorin)."""
        return 1 - self.claim["psi"] - (count - 1) * self.claim["phi"]

    @cached_property
    def beta_max(self) -> Any:
        """Lemma M for any U = sum u_j^2: (B + sqrt(B^2 + 4AU delta_1))/(2A), B = 1 + epsilon_1 sqrt((1-psi) U)."""
        a, u = self.gap(self.m), sum((arb(v) ** 2 for v in self.weights), arb(0))
        b = 1 + self.claim["epsilon_1"] * _root((1 - self.claim["psi"]) * u)
        return (b + _root(b**2 + 4 * a * u * self.claim["delta_1"])) / (2 * a)

    def norm_lemma(self) -> Any:
        """B_T^2 = sum_+- M_+- / (U_+- (1 + psi + (M_+- - 1) phi)); linear: M / (1 + psi + (M - 1) phi)."""
        labels, total = [self.d.labels[i] for i in self.retained], arb(0)
        for sign in (1, -1):
            count = len(labels) if self.d.linear else labels.count(sign)
            weight = sum((arb(u) ** 2 for u in self.weights if u * sign > 0), arb(0))
            if count and weight > 0:
                total += count / (weight * (1 + self.claim["psi"] + (count - 1) * self.claim["phi"]))
        return total

    def projected(self) -> tuple[Any, Any, Any]:
        """|P h|^2, |(I - P) h|^2 and |theta - c (I - P) h|^2, with <theta, h> = sum_ji Z_ji Q_ji over R."""
        block = arb_mat([[self.gram[i, j] for j in self.retained] for i in self.retained]).inv()
        z, h = (arb_mat([[a[j, i] for i in self.retained] for j in range(self.n)]) for a in (self.z, self.z_step))
        rho = ((h.transpose() * h) * block).trace()
        rest = (self.z_step.transpose() * self.q_forget).trace() - rho
        cross = (self.z.transpose() * self.q_forget).trace() - ((h.transpose() * z) * block).trace()
        whole = self.inner(self.z, self.z) + self.omega
        return rho, rest, whole - 2 * self.step * cross + self.step**2 * rest

    @cached_property
    def sides(self) -> Sides:
        """The named bound (docs/theory, Theorem P; Theorem R, sharp and coarse; Theorem L, all three)."""
        name, strength = self.bound["name"], self.bound["strength"]
        hypotheses = [Check(abs(self.d.step_scale - 1), 0.0, "the step scale is not 1")]
        if name == "scaling":
            hypotheses.append(Check(int(not self.d.linear), 0, "the model is not linear"))
        if strength != "instance":
            hypotheses.append(Check(0, self.gap(self.m), "1 - psi - (m - 1) phi is not positive", True))
        if strength == "coarse":
            return self.coarse(name == "scaling", hypotheses)
        if name == "scaling":
            return self.scaling(strength == "instance", hypotheses)
        return self.projection(strength == "instance", hypotheses)

    def projection(self, instance: bool, hypotheses: list[Check]) -> Sides:
        """epsilon_1 + rho, delta_1, 1 - sqrt(1 - (rho/N + margin)^2).

        Worst case: rho = k beta_max kappa / min |u_j| and N = B_T. Instance: rho = |Ph| and N = |theta - (I-P) h|;
        at step c, epsilon_1 + sqrt(rho^2 + (1-c)^2 |(I-P) h|^2) and c rho.
        """
        if instance:
            rho, rest, length = self.projected()
            extra, hypotheses = _root(rho + (1 - self.step) ** 2 * rest), []
            sine = self.step * _root(rho) / _root(length) + self.bound["margin"]
        else:
            count = len(self.retained)
            kappa = self.claim["phi"] * _root(count) / _root(self.gap(count))
            extra = self.k * self.beta_max * kappa / min(abs(u) for u in self.weights)
            sine = extra / _root(self.norm_lemma()) + self.bound["margin"]
        tau, angle = sine**2 / (1 + _root(1 - sine**2)), [Check(sine, 1, "rho is not below the norm", True)]
        return Sides(hypotheses, self.claim["epsilon_1"] + extra, self.claim["delta_1"], tau, angle)

    def scaling(self, instance: bool, hypotheses: list[Check]) -> Sides:
        """epsilon_1/(1-l), (delta_1 + 2 l lambda_max)/(1-l)^2, 0; leakage l = max_T |H_i| or k beta_max phi."""
        if instance:
            leak = functools.reduce(arb.max, [abs(self.z_step[0, i]) for i in self.retained])
            largest = arb(max(self.d.original.multipliers[i] for i in self.retained))
        else:
            leak, largest = self.k * self.beta_max * self.claim["phi"], self.beta_max
        hypotheses.append(Check(leak, 1, "the leakage is not below 1", True))
        delta = (self.claim["delta_1"] + 2 * leak * largest) / (1 - leak) ** 2
        return Sides(hypotheses, self.claim["epsilon_1"] / (1 - leak), delta, arb(0), [])

    def coarse(self, scaling: bool, hypotheses: list[Check]) -> Sides:
        """The closed-form lines in eps_d = 4 m n phi for one forgotten point (Theorem L, else Theorem R)."""
        m, e = self.m, 4 * self.m * self.n * self.claim["phi"]
        eps, delta = self.claim["epsilon_1"], self.claim["delta_1"]
        hypotheses += [
            Check(abs(self.k - 1), 0, "the number of forgotten points is not 1"),
            Check(self.claim["psi"], arb(1) / 10, "psi exceeds 0.1"),
            Check(e, 1, "eps_d exceeds 1"),
            Check(eps, 0.5, "epsilon_1 exceeds 0.5"),
            Check(delta, 0.5, "delta_1 exceeds 0.5"),
        ]
        if scaling:
            grow, slack = 1 + e / (m - e), arb("7.2") * e / m
            return Sides(hypotheses, eps * grow, delta * grow + slack, arb(0), [])
        off = functools.reduce(arb.max, [abs(self.n * arb(u) ** 2 - 1) for u in self.d.output_weights])
        hypotheses.append(Check(int(self.d.linear), 0, "the model is not a two-layer network"))
        hypotheses.append(Check(off, WEIGHT_ROOM, "the output weights are not +-1/sqrt(n)"))
        hypotheses.append(Check(9 * e, m, "9 eps_d is not below m", True))
        grow, tau = 1 + 9 * e / (m - 9 * e), 82 * e / m + arb(self.bound["margin"]) ** 2
        return Sides(hypotheses, eps * grow + 23 * e / _root(m), delta * grow + arb("22.6") * e / m, tau, [])

    def stated(self, angle: bool) -> list[Check]:
        """The file's right-hand sides agree with the derived ones (2^-20 relative, a rounding room absolute)."""
        length, checks = _root(self.inner(self.z, self.z) + self.omega), []
        for name in ("epsilon", "delta", "tau") if angle else ("epsilon", "delta"):
            given, true, room = arb(self.bound[name]), getattr(self.sides, name), 2.0**-36 * (1 + length)
            if name == "tau":
                given, true, room = _root(given), _root(true), arb(2.0**-38)
            checks.append(Check(abs(given - true), true * 2.0**-20 + room, f"bound.{name} is another number"))
        return checks


# ------------------------------------------------------------------------------------------- verdicts


@dataclass(frozen=True)
class Statement:
    """One statement, its answer, the bits it took, and a sentence that says why."""

    name: str
    answer: str
    bits: int
    text: str


@dataclass(frozen=True)
class Report:
    """All answers about one document; path and sha256 (of the file's bytes) are empty without a file."""

    path: str
    sha256: str
    versions: dict[str, str]
    statements: list[Statement]

    @property
    def exit_code(self) -> int:
        """0: everything proved; 1: something refuted; 3: something undecided or not applicable."""
        answers = {s.answer for s in self.statements}
        return 1 if REFUTED in answers else 0 if answers == {PROVED} else 3

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "exit_code": self.exit_code}


def judge(checks: Iterable[Check]) -> tuple[str, str]:
    """Answer to a conjunction of inequalities, with what is wrong or open."""
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
    subject, _, what = name.partition(".")
    d, ours = q.d, subject == "certificate"
    z, point = (q.z_cert, d.certificate) if ours else (q.z, d.original)
    points: Sequence[int] = q.retained if ours else q.everyone
    if subject == "bound":
        needs = [n for n in known if n.startswith("original.")]
        needs += ["assumption"] * (d.bound is not None and d.bound["strength"] != "instance")
        assumed = q.sides.hypotheses + (q.sides.angle if what == "tau" else [])
        failed = [(known[n][0], STATEMENTS[n]) for n in needs] + [judge(assumed)]
        for answer, text in sorted(failed, key=lambda f: f[0] != REFUTED):
            if answer != PROVED:
                return (NOT_APPLICABLE if answer == REFUTED else UNDECIDED), f"the bound assumes more: {text}"
        if what == "stated":
            return judge(q.stated(judge(q.sides.angle)[0] == PROVED))
        return judge([Check(q.claim[what], getattr(q.sides, what), f"{what} exceeds its right-hand side")])
    if what == "selection":
        return judge(q.selection(z, point, d.forget if ours else []))
    if what == "stationarity":
        omega = arb(d.factor) ** 2 * q.omega if ours else q.omega
        return judge(q.stationarity(z, point.mu, omega, "epsilon" if ours else "epsilon_1"))
    if what == "slackness":
        return judge(q.slackness(z, point, points, "delta" if ours else "delta_1"))
    if what == "feasibility":
        return judge(q.feasibility(z, points))
    return judge({"gram": q.definite, "assumption": q.assumption, "angle": q.angle}[name]())


def check_document(document: Any, path: str = "", sha256: str = "") -> Report:
    """Answer every statement of a decoded document; CertificateError if it is not a certificate."""
    d = parse(document)
    names = [n for n in STATEMENTS if d.bound is not None or not n.startswith("bound")]
    known: dict[str, tuple[str, str]] = {}
    bits = dict.fromkeys(names, 0)
    for precision in PRECISIONS:
        with ctx.workprec(precision):
            quantities = Quantities(d)
            for name in names:
                if known.get(name, (UNDECIDED,))[0] != UNDECIDED:
                    continue
                bits[name] = precision
                try:
                    known[name] = _answer(quantities, name, known)
                except ZeroDivisionError:
                    known[name] = UNDECIDED, "K cannot be inverted at this precision"
                if name == "gram" and known[name][0] != PROVED:
                    break
        if known["gram"][0] == REFUTED or UNDECIDED not in {known[n][0] for n in names if n in known}:
            break
    for name in names:
        known.setdefault(name, (UNDECIDED, "it has no meaning unless K is positive definite"))
    lines = {n: f"{STATEMENTS[n]}: {known[n][0]}" + f"; {known[n][1]}" * bool(known[n][1]) for n in names}
    flints = {"python-flint": flint.__version__, "flint": flint.__FLINT_VERSION__}
    versions = {"format": str(FORMAT["version"]), "python": platform.python_version(), **flints}
    return Report(path, sha256, versions, [Statement(n, known[n][0], bits[n], lines[n]) for n in names])


def check_file(path: str | os.PathLike[str]) -> Report:
    """Read one file and answer its statements; CertificateError (exit code 2) if it is not a certificate."""
    document, digest = read(path)
    return check_document(document, os.fspath(path), digest)


def check_files(paths: Iterable[str | os.PathLike[str]]) -> tuple[int, list[dict[str, Any]]]:
    """Exit code of all files together (2 before 1 before 3 before 0), and a report or an error for each."""
    codes, reports = {0}, []
    for path in paths:
        try:
            report = check_file(path).as_dict()
        except CertificateError as error:
            report = {"path": os.fspath(path), "error": str(error), "exit_code": 2}
        codes.add(report["exit_code"])
        reports.append(report)
    return next(code for code in (2, 1, 3, 0) if code in codes), reports
