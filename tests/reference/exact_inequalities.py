"""The named inequality of a certificate document in the arithmetic of `exact_fractions`: dumb and independent.

Every inequality is a list of entries lhs <= rhs, and rows are coefficients as over there. Only square roots and largest
eigenvalues are approximated, the second by a bracket whose ends must give the same answer.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from reference import exact_entries
from reference.exact_fractions import Instance, answers, unique
from reference.exact_programme import ONE, ZERO, Missing, Programme, need, programme_floats
from reference.rational import Row, fractions, root

TIE = Fraction(1, 2**400)  # sides this close count as equal: far above the error of root(), far below any float
ORIGINAL = ["original.selection", "original.stationarity", "original.slackness", "original.feasibility"]
CERTIFICATE = ["certificate.selection", "certificate.stationarity", "certificate.feasibility"]
ASSUMED = [*ORIGINAL, "assumption"]
HYPOTHESES = {
    "multipliers/upper": ASSUMED, "multipliers/lower": ASSUMED, "multipliers/margin": ASSUMED,
    "unique/upper": ASSUMED, "unique/lower": ASSUMED, "unique/clearance": ASSUMED,
    "activations/shift": ASSUMED, "estimators/multiplier": ORIGINAL, "estimators/coarse": ASSUMED,
    "estimators/epsilon": ORIGINAL, "identity/separation": CERTIFICATE,
    "identity/retrained": ORIGINAL[:1], "identity/norm": CERTIFICATE[2:] + ORIGINAL[:1],
    "retrain/distance": ORIGINAL, "retrain/tau": ORIGINAL,
    "softmax/upper": ASSUMED, "softmax/lower": ASSUMED,
    "entries/upper": ORIGINAL, "entries/lower": ORIGINAL, "entries/leakage": [],
    "retrain/ball": ORIGINAL, "retrain/ball_tau": ORIGINAL, "step_size/lower": [*CERTIFICATE, "angle"],
    "worthwhile/certificate": ORIGINAL,
}  # fmt: skip
Sides = list[tuple[Fraction, Fraction]]


def inequality(document: dict[str, Any]) -> bool | None:
    """Whether the named inequality holds in all entries; None without a meaning or where a hypothesis fails."""
    found = [all(low <= high + TIE for low, high in sides) for sides in all_sides(document)]
    assert len(set(found)) < 2, "the bracket of lambda_max does not decide"
    return found[0] if found else None


def inequality_sides(document: dict[str, Any]) -> Sides:
    """(lhs, rhs) of every entry, lambda_max at the middle of its bracket; empty where `inequality` is None."""
    found = all_sides(document)
    return found[len(found) // 2] if found else []


def all_sides(document: dict[str, Any]) -> list[Sides]:
    """The entries, once for each value of B_T (lower end, middle, upper end) if the inequality contains it."""
    if document.get("inequality") is None:
        return []
    known, name = answers(document), document["inequality"]["name"]
    try:
        need(all(known[needed] is True for needed in ["gram", *HYPOTHESES[name]]))
        x, (group, part) = Case(document), name.split("/")
        floors = x.floors() if name in ("identity/separation", "identity/norm", "step_size/lower") else [ZERO]
        return [getattr(x, group)(part, floor) for floor in floors]
    except Missing:
        return []


def minus(a: list[Row], b: list[Row]) -> list[Row]:
    return [[v - w for v, w in zip(*rows, strict=True)] for rows in zip(a, b, strict=True)]


class Case(Instance):
    """An instance with its margins q, beta and U; every group of inequalities is a method."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(document)
        self.solve_all()
        self.margins = self.margins_of(self.z)
        self.beta = [sum(u * u * self.mu[j][e] for j, u in enumerate(self.u)) for e in range(len(self.row))]
        self.u2, self.given = sum(u * u for u in self.u), (document.get("inequality") or {}).get("solution") or {}

    def norm(self, rows: list[Row], share: Fraction = ZERO) -> Fraction:
        """Of rows + share W_perp."""
        return root(self.inner(rows, rows) + share**2 * self.omega)

    def distance(self, a: list[Row], b: list[Row], share: Fraction = ZERO) -> Fraction:
        """1 - cos between a + W_perp and b + share W_perp."""
        aa, bb = self.inner(a, a) + self.omega, self.inner(b, b) + share**2 * self.omega
        need(aa > 0 and bb > 0)
        return 1 - (self.inner(a, b) + share * self.omega) / root(aa * bb)

    def angle_to_span(self, rows: list[Row]) -> tuple[Fraction, Fraction]:
        """Sine and cosine of the angle between rows + W_perp and the span of the retained points."""
        whole, inside = self.inner(rows, rows) + self.omega, [self.project(row) for row in rows]
        need(whole > 0)
        share = self.inner(inside, inside) / whole
        return root(1 - share), root(share)

    def floors(self) -> list[Fraction]:
        """B_T: one value if linear, else the lower end, the middle and the upper end of its bracket."""
        if self.linear:
            need(bool(self.given))
            lam = [v * (a in self.retained) for a, v in enumerate(fractions(self.given["multipliers"]))]
            made = self.q([[lam[a] for a in self.owner]] * self.n)
            square = 2 * sum(lam) - self.inner(made, made)
            need(min(lam) >= 0 and square > 0)
            return [root(square)]
        squares = exact_entries.norm_squares(self)
        need(min(squares) > 0)
        return [root(max(v, self.exact_square())) for v in squares]

    def exact_square(self) -> Fraction:
        """|theta*|^2 by the dual value of the file's multipliers, where Theorem LK speaks of the points; else 0."""
        lam = fractions(self.given["multipliers"]) if self.given else []
        known = self.one_output and 0 < self.slope < 1 and all(all(row) for row in self.v)
        if not lam or not known or min(lam[a] for a in self.retained) < 0:
            return ZERO
        psi = max(abs(self.k[i][i] - 1) for i in range(self.m))
        phi = max(abs(self.k[i][j]) for i in range(self.m) for j in range(i))
        found = unique(self, psi, phi, ZERO, ZERO)
        if found is None or max(found["chi"]) >= 1:
            return ZERO
        kept = [v * (a in self.retained) for a, v in enumerate(lam)]
        made = self.q([[kept[i] * (1 if v > 0 else self.slope) for i, v in enumerate(row)] for row in self.v])
        return 2 * sum(kept, ZERO) - self.inner(made, made)

    def star(self) -> list[Row]:
        """Coefficients of theta*, which must satisfy every condition exactly."""
        need(bool(self.given))
        lam, mu = self.read(self.given)
        programme = Programme(self, fractions(self.given["preactivations"]), lam, mu)
        programme.solve()
        need(not programme.wrong())
        return programme.q

    def multipliers(self, part: str, _: Fraction) -> Sides:
        need(self.one_output and self.slope in (0, 1))
        eps, delta, psi, phi = (self.claim[key] for key in ("epsilon_1", "delta_1", "psi", "phi"))
        if part == "margin":
            triples = [(q, b, self.k[i][i]) for i, (q, b) in enumerate(zip(self.margins, self.beta, strict=True))]
            return [(abs(q - b * a), phi * (sum(self.beta) - b) + eps * root(a * self.u2)) for q, b, a in triples]
        a = 1 - psi - (self.m - 1) * phi
        need(a > 0)
        b = 1 + eps * root((1 - psi) * self.u2)
        top = (b + root(b * b + 4 * a * self.u2 * delta)) / (2 * a)
        low = (1 - (self.m - 1) * phi * top - eps * root((1 + psi) * self.u2)) / (1 + psi)
        return [(v, top) if part == "upper" else (low, v) for v in self.beta]

    def unique(self, part: str, _: Fraction) -> Sides:
        need(self.one_output and 0 < self.slope < 1 and all(all(row) for row in self.v))
        found = unique(self, *(self.claim[key] for key in ("psi", "phi", "epsilon_1", "delta_1")))
        need(found is not None and max(found["chi"]) < 1)
        assert found is not None
        if part == "upper":
            return [(lam, found["most"]) for lam in self.lam]
        if part == "lower":
            return list(zip(found["least"], self.lam, strict=True))
        apart = [self.slope * (1 - chi) / c for chi, c in zip(found["chi"], found["c"], strict=True)]
        return [(apart[i], self.z[j][i] / row[i]) for j, row in enumerate(self.v) for i in range(self.m)]

    def softmax(self, part: str, _: Fraction) -> Sides:
        """Lemma M' of several classes: the margins of class y_i are those of e_(y_i) - e_c."""
        count, (psi, phi, eps, delta) = self.n, (self.claim[key] for key in ("psi", "phi", "epsilon_1", "delta_1"))
        need(self.linear and self.m > 1 and psi < 1 and self.row == self.point)
        squared, mu, gamma = Fraction(count - 1, count), phi / (1 - psi), []
        for i in range(self.m):
            columns = [[row[a] for row in self.v] for a in range(len(self.point)) if self.point[a] == i]
            need(sorted(map(sorted, columns)) == [[-1, *[0] * (count - 2), 1]] * (count - 1))
            need(all(sum(column) == 0 for column in columns) and len({column.index(1) for column in columns}) == 1)
            need(len({column.index(-1) for column in columns}) == count - 1)
            pull = [sum(row[a] * self.lam[a] for a in range(len(self.point)) if self.point[a] == i) for row in self.v]
            gamma.append(root(sum(v * v for v in pull) * self.k[i][i]))
        a = 1 - (self.m - 1) * mu
        need(a > 0)
        b = root(squared / (1 - psi)) + eps
        top = (b + root(b * b + 4 * a * (count - 1) * delta)) / (2 * a)
        low = root(squared / (1 + psi)) - (self.m - 1) * mu * top - eps
        return [(g, top) if part == "upper" else (low, g) for g in gamma]

    def entries(self, part: str, _: Fraction) -> Sides:
        found = exact_entries.lemma(self)
        if part == "leakage":
            kappa = exact_entries.factor(self, found.mu)
            need(kappa is not None)
            rho = self.norm([self.project(row) for row in self.h])
            return [(rho, (kappa or ZERO) * sum(found.gamma[i] for i in self.forget))]
        need(found.defined)
        if part == "upper":
            return [(gamma, found.upper) for gamma in found.gamma]
        return list(zip(found.lower, found.gamma, strict=True))

    def activations(self, part: str, _: Fraction) -> Sides:
        shifts = [self.preactivations_of(row) for row in self.h]
        gone = [e for e, a in enumerate(self.owner) if a not in self.retained]
        bounds = [self.claim["phi"] * sum(abs(v[e] * self.mu[j][e]) for e in gone) for j, v in enumerate(self.v)]
        return [(abs(shifts[j][r]), bounds[j]) for j in range(self.n) for r in self.rows_left]

    def estimators(self, part: str, _: Fraction) -> Sides:
        need(len(self.forget) > 0 and self.one_output)
        result, eps, estimates = [], self.claim["epsilon_1"], {}
        for r in self.forget:
            acting, others = [j for j in range(self.n) if self.linear or self.z[j][r] > 0], {*range(self.m)} - {r}
            scale = self.k[r][r] * sum(self.u[j] ** 2 for j in acting)
            need(scale > 0)
            cross = sum(abs(self.k[i][r]) * self.u[j] ** 2 * abs(self.mu[j][i]) for i in others for j in acting) / scale
            coarse = self.claim["phi"] * sum(self.lam[i] for i in others) / self.k[r][r]
            high = coarse + eps / root(scale) if part == "coarse" else cross + eps * root(scale) / scale
            estimates[r] = sum(self.v[j][r] * self.z[j][r] for j in acting) / scale
            result.append((abs(estimates[r] - self.lam[r]), high))
        return self.estimated_step(estimates, [high for _, high in result]) if part == "epsilon" else result

    def estimated_step(self, estimates: dict[int, Fraction], errors: Row) -> Sides:
        """The residual of theta - (I-P) h', where h' has the estimates in place of the multipliers."""
        need(all(self.lam[r] > 0 for r in estimates))
        change = [estimates[i] / self.lam[i] if i in estimates else ZERO for i in range(self.m)]
        removed = [[v * c for v, c in zip(row, change, strict=True)] for row in self.h]
        point = minus(self.c, minus(removed, [self.project(row) for row in removed]))
        high = self.claim["epsilon_1"] + self.norm([self.project(row) for row in self.h])
        for r, error in zip(estimates, errors, strict=True):
            x_r = [Fraction(i == r) for i in range(self.m)]
            outside = root(self.inner([x_r], minus([x_r], [self.project(x_r)])))
            high += (
                error
                * root(sum(u * u * abs(row[r]) for u, row in zip(self.u, self.mu, strict=True)) / self.lam[r])
                * outside
            )
        return [(self.norm(minus(point, minus(self.q(self.mu), self.h)), ONE), high)]

    def identity(self, part: str, floor: Fraction) -> Sides:
        if part == "norm":
            star = [self.norm(self.star())] if self.given else []
            return [(floor * (1 - Fraction(1, 2**60)), value) for value in [self.norm(self.c2, self.factor), *star]]
        separation, (sine, cosine) = part == "separation", self.angle_to_span(self.c)
        epsilon = self.claim["epsilon"] / floor if separation else Fraction(1, 2**60)
        other, share = min(ONE, epsilon), self.factor if separation else ZERO
        low = ZERO if sine <= other else 1 - (cosine * root(1 - other**2) + sine * other)
        return [(low, self.distance(self.c, self.c2 if separation else self.star(), share))]

    def retrain(self, part: str, _: Fraction) -> Sides:
        need(self.step == 1)
        star, inside = self.star(), [self.project(row) for row in self.h]
        point = minus(self.c, minus(self.h, inside))
        e = self.norm(minus(point, minus(self.q(self.mu), self.h)), ONE)  # e + P h = point - sum over T
        bound = (e + root(e * e + 4 * sum(self.lam[i] * (self.margins[i] - 1) for i in self.retained))) / 2
        if part.startswith("ball"):
            return self.ball(part, star, inside, point)
        if part == "distance":
            return [(self.norm(minus(point, star), ONE), bound)]
        size, rho = self.norm(point, ONE), self.norm(inside)
        need(size > max(rho, bound))
        s1, s2 = rho / size, bound / size
        return [(self.distance(self.after, star), 1 - (root(1 - s1**2) * root(1 - s2**2) - s1 * s2))]

    def ball(self, part: str, star: list[Row], inside: list[Row], point: list[Row]) -> Sides:
        """Within R of the centre of [theta_L, theta~], theta_L = sum over T."""
        low = minus(self.q(self.mu), self.h)
        centre = [[(a + b) / 2 for a, b in zip(*rows, strict=True)] for rows in zip(low, point, strict=True)]
        half = Fraction(1, 2)
        apart = self.norm(minus(point, low), ONE)
        slack = sum(self.lam[i] * (self.margins[i] - 1) for i in self.retained)
        radius, room = root(apart**2 / 4 + slack), 1 + Fraction(1, 2**60)
        if part == "ball":
            return [
                (self.norm(minus(self.after, star), ONE), (self.norm(minus(self.after, centre), half) + radius) * room)
            ]
        size = self.norm(centre, half)
        need(size > radius)
        turn, sine = self.distance(self.after, centre, half), radius / size
        need(turn < 1)
        cosine = (1 - turn) * root(1 - sine**2) - root(turn * (2 - turn)) * sine
        return [(self.distance(self.after, star), (1 - cosine) * room)]

    def worthwhile(self, part: str, _: Fraction) -> Sides:
        """The angle of theta^ is below that of theta where the ball of theta* seen from theta^ is narrow enough."""
        need(self.step == 1)
        star, inside = self.star(), [self.project(row) for row in self.h]
        low, high = minus(self.q(self.mu), self.h), minus(self.c, minus(self.h, inside))
        apart = self.norm(minus(high, low), ONE) / 2
        slack = sum(self.lam[i] * (self.margins[i] - 1) for i in self.retained)
        off = self.norm([[a - (b + c) / 2 for a, b, c in zip(*rows, strict=True)]
                         for rows in zip(self.after, low, high, strict=True)], Fraction(1, 2))  # fmt: skip
        need((off + root(apart**2 + slack)) / self.norm(self.after, ONE) < self.angle_to_span(self.c)[0])
        return [(self.distance(self.after, star), self.distance(self.c, star))]

    def step_size(self, part: str, floor: Fraction) -> Sides:
        (sine, cosine), tau = self.angle_to_span(self.after), self.claim["tau"]
        return [(floor * max(ZERO, sine * (1 - tau) - cosine * root(tau * (2 - tau))), self.claim["epsilon"])]


def solution(document: dict[str, Any]) -> dict[str, Any]:
    """Floats of theta* for the document: all free pairs start as kinks, wrong ones move until none is."""
    x = Case(document)
    inside = [[(1 + x.slope) / 2] * len(x.owner)] * x.n
    programme = Programme(x, [[ZERO] * x.m] * x.n, [ONE] * len(x.point), inside)
    for trial in range(200):
        programme.solve()
        changes = programme.wrong()
        if not changes:
            return programme_floats(programme, document["format"]["version"])
        for where, what in changes if trial < 100 else changes[:1]:
            if isinstance(where, tuple):
                programme.move(*where, what)
            else:
                programme.sets[where] = what
    raise AssertionError("no solution found")
