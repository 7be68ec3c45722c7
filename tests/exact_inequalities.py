"""The named inequality of a certificate document in the arithmetic of `exact_fractions`: dumb and independent.

Every inequality is a list of entries lhs <= rhs, and rows are coefficients as over there. Only square roots and largest
eigenvalues are approximated, the second by a bracket whose ends must give the same answer.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from exact_fractions import Instance, Row, answers, fractions, positive_definite, root, solve

TIE = Fraction(1, 2**400)  # sides this close count as equal: far above the error of root(), far below any float
ZERO, ONE = Fraction(0), Fraction(1)
ORIGINAL = ["original.selection", "original.stationarity", "original.slackness", "original.feasibility"]
CERTIFICATE = ["certificate.selection", "certificate.stationarity", "certificate.feasibility"]
ASSUMED = [*ORIGINAL, "assumption"]
HYPOTHESES = {
    "multipliers/upper": ASSUMED, "multipliers/lower": ASSUMED, "multipliers/margin": ASSUMED,
    "activations/shift": ASSUMED, "estimators/multiplier": ORIGINAL, "estimators/coarse": ASSUMED,
    "estimators/epsilon": ORIGINAL, "identity/separation": CERTIFICATE,
    "identity/retrained": ORIGINAL[:1], "identity/norm": CERTIFICATE[2:] + ORIGINAL[:1],
    "retrain/distance": ORIGINAL, "retrain/tau": ORIGINAL, "step_size/lower": [*CERTIFICATE, "angle"],
}  # fmt: skip
Missing = StopIteration  # a hypothesis fails, or what `solve` raises: a system is singular
Sides = list[tuple[Fraction, Fraction]]


def need(condition: bool) -> None:
    if not condition:
        raise Missing


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
        active = self.z if self.linear else [[max(v, ZERO) for v in row] for row in self.z]
        self.margins = [y * sum(u * active[j][i] for j, u in enumerate(self.u)) for i, y in enumerate(self.y)]
        self.beta = [sum(u * u * self.mu[j][i] for j, u in enumerate(self.u)) for i in range(self.m)]
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

    def largest_eigenvalue(self, points: list[int]) -> tuple[Fraction, Fraction, Fraction]:
        """Upper end, middle, lower end of a 2^-100 bracket: t > lambda_max iff t I - K is positive definite."""
        low, high = max(self.k[i][i] for i in points), sum((self.k[i][i] for i in points), ZERO)
        while high - low > low / 2**100:
            t = (low + high) / 2
            above = positive_definite([[t * (i == j) - self.k[i][j] for j in points] for i in points])
            low, high = (low, t) if above else (t, high)
        return high, (low + high) / 2, low

    def floors(self) -> list[Fraction]:
        """B_T: one value if linear, else the lower end, the middle and the upper end of its bracket."""
        if self.linear:
            need(bool(self.given))
            lam = [v * (i in self.retained) for i, v in enumerate(fractions(self.given["multipliers"]))]
            square = 2 * sum(lam) - self.inner(self.q([lam]), self.q([lam]))
            need(min(lam) >= 0 and square > 0)
            return [root(square)]
        squares = [ZERO, ZERO, ZERO]
        for y in {self.y[i] for i in self.retained}:
            points, weight = [i for i in self.retained if self.y[i] == y], sum(u * u for u in self.u if u * y > 0)
            need(weight > 0)
            for end, t in enumerate(self.largest_eigenvalue(points)):
                squares[end] += len(points) / (weight * t)
        return [root(v) for v in squares]

    def star(self) -> list[Row]:
        """Coefficients of theta*, which must satisfy every condition exactly."""
        need(bool(self.given))
        programme = Programme(self, *(fractions(self.given[name]) for name in ("preactivations", "multipliers", "mu")))
        programme.solve()
        need(not programme.wrong())
        return programme.q

    def multipliers(self, part: str, _: Fraction) -> Sides:
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

    def activations(self, part: str, _: Fraction) -> Sides:
        shifts = [self.preactivations_of(row) for row in self.h]
        bounds = [abs(u) * self.claim["phi"] * sum(self.mu[j][r] for r in self.forget) for j, u in enumerate(self.u)]
        return [(abs(shifts[j][i]), bounds[j]) for j in range(self.n) for i in self.retained]

    def estimators(self, part: str, _: Fraction) -> Sides:
        need(len(self.forget) > 0)
        result, eps, estimates = [], self.claim["epsilon_1"], {}
        for r in self.forget:
            acting, others = [j for j in range(self.n) if self.linear or self.z[j][r] > 0], {*range(self.m)} - {r}
            scale = self.k[r][r] * sum(self.u[j] ** 2 for j in acting)
            need(scale > 0)
            cross = sum(abs(self.k[i][r]) * self.u[j] ** 2 * self.mu[j][i] for i in others for j in acting) / scale
            coarse = self.claim["phi"] * sum(self.lam[i] for i in others) / self.k[r][r]
            high = coarse + eps / root(scale) if part == "coarse" else cross + eps * root(scale) / scale
            result.append((abs(self.margins[r] / scale - self.lam[r]), high))
            estimates[r] = self.margins[r] / scale
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
            high += error * root(self.beta[r] / self.lam[r]) * outside
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
        if part == "distance":
            return [(self.norm(minus(point, star), ONE), bound)]
        size, rho = self.norm(point, ONE), self.norm(inside)
        need(size > max(rho, bound))
        s1, s2 = rho / size, bound / size
        return [(self.distance(self.after, star), 1 - (root(1 - s1**2) * root(1 - s2**2) - s1 * s2))]

    def step_size(self, part: str, floor: Fraction) -> Sides:
        (sine, cosine), tau = self.angle_to_span(self.after), self.claim["tau"]
        return [(floor * max(ZERO, sine * (1 - tau) - cosine * root(tau * (2 - tau))), self.claim["epsilon"])]


class Programme:
    """Q_T on given sets: True for points of the support, a slope for every pair (None: kink)."""

    def __init__(self, x: Case, z: list[Row], lam: Row, mu: list[Row]) -> None:
        self.x, self.pairs = x, [(j, i) for j in range(x.n) for i in x.retained]
        self.opposite = [(j, i) for j, i in self.pairs if x.u[j] * x.y[i] < 0 and not x.linear]
        self.sets: dict[Any, Any] = {i: lam[i] > 0 for i in x.retained}
        for j, i in self.pairs:
            slope = x.mu[j][i] / x.lam[i] if x.lam[i] > 0 else Fraction(x.z[j][i] > 0)
            self.sets[j, i] = ONE if x.linear else slope
        for j, i in self.opposite:
            kink = z[j][i] == 0 and 0 < mu[j][i] < lam[i]
            self.sets[j, i] = None if kink else Fraction(mu[j][i] == lam[i] > 0)

    def assign(self, values: dict[Any, Fraction]) -> None:
        """Set lambda, mu, the coefficients and the pre-activations from the unknowns that are not zero."""
        self.lam, self.mu = [values.get(i, ZERO) for i in range(self.x.m)], [[ZERO] * self.x.m for _ in self.x.u]
        for j, i in self.pairs:
            s = self.sets[j, i]
            self.mu[j][i] = values.get((j, i), ZERO) if s is None else s * self.lam[i]
        self.q = self.x.q(self.mu)
        self.z = [self.x.preactivations_of(row) for row in self.q]

    def constraint(self, i: int) -> Fraction:
        """F_i with the slopes, off the support with the positive part on opposite-sign pairs; |u_j| is +-u_j y_i."""
        parts = [(self.sets[j, i] or ZERO) * row[i] for j, row in enumerate(self.z)]
        if not self.sets[i]:
            parts = [max(row[i], ZERO) if (j, i) in self.opposite else parts[j] for j, row in enumerate(self.z)]
        return self.x.y[i] * sum(u * part for u, part in zip(self.x.u, parts, strict=True))

    def solve(self) -> None:
        """Solve the dense linear system, one column for each unknown; StopIteration if it is singular."""
        points = [i for i in self.x.retained if self.sets[i]]
        kinks = [(j, i) for j, i in self.opposite if i in points and self.sets[j, i] is None]
        need(bool(points))
        names, columns = [*points, *kinks], []
        for name in names:
            self.assign({name: ONE})
            columns.append([self.constraint(i) for i in points] + [self.z[j][i] for j, i in kinks])
        found = solve([list(row) for row in zip(*columns, strict=True)], [Fraction(v in points) for v in names])
        self.assign(dict(zip(names, found, strict=True)))

    def wrong(self) -> list[tuple[Any, Any]]:
        """Violated conditions, as changes of the sets that would mend them."""
        changes: list[tuple[Any, Any]] = [(i, False) for i in self.x.retained if self.lam[i] < 0]
        changes += [(i, True) for i in self.x.retained if not self.sets[i] and self.constraint(i) < 1]
        for j, i in [(j, i) for j, i in self.opposite if self.sets[i]]:
            s, z, mu = self.sets[j, i], self.z[j][i], self.mu[j][i]
            if s is None and not 0 <= mu <= self.lam[i]:
                changes.append(((j, i), Fraction(mu > 0)))
            elif s is not None and (z < 0 if s == 1 else z > 0):
                changes.append(((j, i), None))
        return changes


def solution(document: dict[str, Any]) -> dict[str, Any]:
    """Floats of theta* for the document: all opposite-sign pairs start as kinks, wrong ones move until none is."""
    x = Case(document)
    programme = Programme(x, [[ZERO] * x.m] * x.n, [ONE] * x.m, [[ONE / 2] * x.m] * x.n)
    for trial in range(200):
        programme.solve()
        changes = programme.wrong()
        if not changes:
            z, mu = ([[float(v) for v in row] for row in rows] for rows in (programme.z, programme.mu))
            return {"preactivations": z, "multipliers": [float(v) for v in programme.lam], "mu": mu}
        programme.sets.update(changes if trial < 100 else changes[:1])
    raise AssertionError("no solution found")
