"""A second, dumber checker of certificate documents: fractions.Fraction, coordinates instead of traces.

Weights are coefficient rows: w_j = sum_i C_ji x_i with C = Z K^-1, so <A, B> = sum_j a_j K b_j, the residual has the
coefficients C - Q, and P maps a row a to the row p on T with K_TT p = K_T a. Only square roots are approximated, to
`rational.BITS` bits. It shares no code with `verify.exact` and works in reasonable time for a handful of points.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from reference import exact_entries
from reference.rational import Row, fractions, positive_definite, root, solve


class Instance:
    """All quantities of a document, of either version, as fractions. Entry e lies in row[e] and constraint owner[e]."""

    def __init__(self, document: dict[str, Any]) -> None:
        d = self.document = document
        self.k, self.m = fractions(d["gram"]), len(d["gram"])
        if d["format"]["version"] == 1:
            labels = fractions(d["labels"])
            self.v = [[Fraction(u) * y for y in labels] for u in d["output_weights"]]
            self.slope, self.groups, layout = Fraction(d["model"]["kind"] == "linear"), [y > 0 for y in labels], None
        else:
            self.v, self.slope, layout = fractions(d["amplitudes"]), Fraction(d["slope"]), d.get("layout")
        one = list(range(self.m))
        self.row, self.owner, self.point_of_row, self.point = [
            one if layout is None else layout[key]
            for key in ("row", "constraint", "point_of_row", "point_of_constraint")
        ]
        if d["format"]["version"] == 2:
            self.groups = d.get("groups") or [0] * len(self.point)
        self.n, self.forget, self.linear = len(self.v), d["forget"], self.slope == 1
        self.rows_left = [r for r in one if self.point_of_row[r] not in self.forget]
        self.retained = [a for a, i in enumerate(self.point) if i not in self.forget]
        self.claim = {name: Fraction(v) for name, v in d["claimed"].items()}
        self.omega, other = Fraction(d["orthogonal_norm_squared"]), d["certificate"]
        self.step, self.factor = Fraction(other["step_scale"]), Fraction(other["factor"])
        self.z = fractions(d["preactivations"])
        self.lam, self.mu = self.read(d)
        self.lam2, self.mu2 = self.read(other)
        self.single = self.row == self.owner == self.point_of_row == self.point == one
        self.one_output = self.single and all(abs(v) == abs(row[0]) for row in self.v for v in row)
        self.u = [abs(row[0]) for row in self.v]

    def read(self, point: dict[str, Any]) -> tuple[Row, list[Row]]:
        """lambda and mu."""
        lam = fractions(point["multipliers"])
        if "mu" in point:
            return lam, fractions(point["mu"])
        return lam, [[lam[a] * Fraction(s) for s, a in zip(row, self.owner, strict=True)] for row in point["selection"]]

    def sigma(self, z: Fraction) -> Fraction:
        return z if z >= self.slope * z else self.slope * z

    def margins_of(self, z: list[Row]) -> Row:
        out = [Fraction(0)] * len(self.point)
        for e, (r, a) in enumerate(zip(self.row, self.owner, strict=True)):
            for j in range(self.n):
                out[a] += self.v[j][e] * self.sigma(z[j][r])
        return out

    def solve_all(self) -> None:
        """Coefficients of theta, h, theta^ and theta~; needs an invertible K."""
        self.c = [solve(self.k, row) for row in self.z]
        gone = [a not in self.retained for a in self.owner]
        self.h = self.q([[v * left for v, left in zip(row, gone, strict=True)] for row in self.mu])
        self.after = [
            [a - self.step * b for a, b in zip(*rows, strict=True)] for rows in zip(self.c, self.h, strict=True)
        ]
        if self.document["certificate"]["preactivations"] is None:
            self.c2 = [[self.factor * v for v in row] for row in self.after]
        else:
            self.c2 = [solve(self.k, fractions(row)) for row in self.document["certificate"]["preactivations"]]

    def q(self, mu: list[Row]) -> list[Row]:
        out = [[Fraction(0)] * self.m for _ in mu]
        for j, row in enumerate(mu):
            for e, value in enumerate(row):
                out[j][self.row[e]] += self.v[j][e] * value
        return out

    def inner(self, a: list[Row], b: list[Row]) -> Fraction:
        images = [self.preactivations_of(row) for row in b]
        return sum((v * w for r, s in zip(a, images, strict=True) for v, w in zip(r, s, strict=True)), Fraction(0))

    def preactivations_of(self, row: Row) -> Row:
        return [sum((k * v for k, v in zip(line, row, strict=True)), Fraction(0)) for line in self.k]

    def project(self, row: Row) -> Row:
        block = [[self.k[i][j] for j in self.rows_left] for i in self.rows_left]
        image = self.preactivations_of(row)
        found = dict(zip(self.rows_left, solve(block, [image[i] for i in self.rows_left]), strict=True))
        return [found.get(i, Fraction(0)) for i in range(self.m)]

    def kkt(self, c: list[Row], lam: Row, mu: list[Row], omega: Fraction, left: list[int]) -> dict[str, Any]:
        z = [self.preactivations_of(row) for row in c]
        good = all(v >= 0 for v in lam)
        good &= all(lam[a] == 0 for a in range(len(lam)) if a not in left)
        for j in range(self.n):
            for e, (r, a) in enumerate(zip(self.row, self.owner, strict=True)):
                good &= self.slope * lam[a] <= mu[j][e] <= lam[a]
                if z[j][r] != 0:
                    good &= mu[j][e] == lam[a] * (1 if z[j][r] > 0 else self.slope)
        e = [[a - b for a, b in zip(*rows, strict=True)] for rows in zip(c, self.q(mu), strict=True)]
        margins = self.margins_of(z)
        return {
            "selection": good,
            "residual": self.inner(e, e) + omega,
            "slackness": max(lam[a] * (margins[a] - 1) for a in left),
            "feasibility": min(margins[a] for a in left) >= 1,
        }


def sides(x: Instance) -> tuple[bool, Any, Any, Any, Any]:
    """(hypotheses hold, epsilon, delta, tau, tau part holds) of the named bound."""
    bound, c, m, n, k, count = x.document["bound"], x.claim, x.m, x.n, len(x.forget), len(x.retained)
    name, strength, margin = bound["name"], bound["strength"], Fraction(bound["margin"])
    eps, delta, psi, phi = c["epsilon_1"], c["delta_1"], c["psi"], c["phi"]
    whole, u2 = x.step == 1, sum(v * v for v in x.u)
    if strength == "scale_free":
        return scale_free_sides(x) if whole and name == "projection" else (False, None, None, None, None)
    if strength == "spaces":
        return exact_entries.spaces(x) if whole and name == "projection" else (False, None, None, None, None)
    if strength != "instance" and 0 < x.slope < 1:
        return leaky_sides(x, strength) if whole and name == "projection" else (False, None, None, None, None)
    if strength != "instance" and not (x.one_output and x.slope in (0, 1) and (name != "scaling" or x.u == [1])):
        return False, None, None, None, None
    if strength == "coarse":
        e = 4 * m * n * phi
        good = whole and psi <= Fraction(1, 10) and e <= 1 and max(eps, delta) <= Fraction(1, 2)
        good = good and all(abs(n * v * v - 1) <= Fraction(1, 2**40) for v in x.u) and 1 - psi - (m - 1) * phi > 0
        if name == "scaling":
            good = good and x.linear and (k * e < m if k < 2 else 3 * k * e <= m)
            grow = k * e / (m - k * e)
            return good, eps * (1 + grow), delta * (1 + grow) + Fraction(72, 10) * k * e / m, Fraction(0), True
        good = good and name == "projection" and not x.linear and 9 * e < m
        if not good:
            return False, None, None, None, None
        grow = 9 * e / (m - 9 * e)
        slack = Fraction(226, 10) * k * e / m
        return True, eps * (1 + grow) + 23 * k * e / root(Fraction(m)), delta * (1 + grow) + slack, (
            82 * k * k * e / m + margin**2
        ), True  # fmt: skip
    if strength == "sharp":
        a, inner = 1 - psi - (m - 1) * phi, 1 - psi - (count - 1) * phi
        if a <= 0 or not whole or name == "span":
            return False, None, None, None, None
        b = 1 + eps * root((1 - psi) * u2)
        beta = (b + root(b * b + 4 * a * u2 * delta)) / (2 * a)
        leak, top = k * beta * phi, beta
        floor = min(v * v for v in x.u if v != 0)
        rho = extra = k * beta * root(phi * phi * count / inner / floor)
        norm = root(Fraction(count) / (u2 * (1 + psi + (count - 1) * phi)))
    else:
        inside = [x.project(row) for row in x.h]
        outside = [[s - t for s, t in zip(*rows, strict=True)] for rows in zip(x.h, inside, strict=True)]
        rho = root(x.inner(inside, inside))
        moved = [[s - x.step * t for s, t in zip(*rows, strict=True)] for rows in zip(x.c, outside, strict=True)]
        norm = root(x.inner(moved, moved) + x.omega)
        extra = rho + abs(1 - x.step) * root(x.inner(outside, outside))
        rho = x.step * rho
        lost = x.margins_of([x.preactivations_of(row) for row in x.h])
        leak, top = max(abs(lost[a]) for a in x.retained), max(x.lam[a] for a in x.retained)
        if name == "span":
            inside_theta = [x.project(row) for row in x.c]
            rho, norm = root(rho * rho + eps * eps), root(x.inner(inside_theta, inside_theta))
        if name != "projection" and not whole:
            return False, None, None, None, None
    if name == "scaling":
        if not x.linear or leak >= 1:
            return False, None, None, None, None
        return True, eps / (1 - leak), (delta + 2 * leak * top) / (1 - leak) ** 2, Fraction(0), True
    sine = rho / norm + margin
    if sine >= 1:
        return True, eps + extra, delta, None, False
    return True, eps + extra, delta, 1 - root(1 - sine * sine), True


def scale_free_sides(x: Instance) -> tuple[bool, Any, Any, Any, Any]:
    """`sides` from the cosines and lengths of the points."""
    if not x.one_output or x.slope not in (0, 1):
        return False, None, None, None, None
    eps, delta, margin = x.claim["epsilon_1"], x.claim["delta_1"], Fraction(x.document["bound"]["margin"])
    short = [1 / root(x.k[i][i]) for i in range(x.m)]
    c = max(abs(x.k[i][j]) * short[i] * short[j] for i in range(x.m) for j in range(x.m) if i != j)
    if (x.m - 1) * c >= 1:
        return False, None, None, None, None
    scale = root(max(Fraction(1), sum(v * v for v in x.u)))
    noise = eps * scale + root((1 + c) * delta) * scale
    total = (sum(short) + x.m * noise) / (1 - (x.m - 1) * c)
    pulls = [(short[r] + c * total + noise) / (1 + c) for r in x.forget]
    count = len(x.retained)
    rho = c * root(count / (1 - (count - 1) * c)) * sum(pulls, Fraction(0)) / min(v for v in x.u if v > 0)
    sine = rho * scale * root((1 + (count - 1) * c) / sum(short[i] ** 2 for i in x.retained)) + margin
    return True, eps + rho, delta, 1 - root(1 - sine * sine) if sine < 1 else None, sine < 1


def unique(x: Instance, psi: Fraction, phi: Fraction, eps: Fraction, delta: Fraction) -> dict[str, Any] | None:
    """The numbers of Theorem LK from the masses U_+ and U_-, None where a denominator is not positive."""
    s, away, mass = x.slope, (x.m - 1) * phi, {}
    for i in range(x.m):
        with_i = sum((row[i] * row[i] for row in x.v if row[i] > 0), Fraction(0))
        mass[i] = with_i, sum(row[i] * row[i] for row in x.v) - with_i
    c = [u + s * s * w for u, w in mass.values()]
    b = [u + s * w for u, w in mass.values()]
    room = s * (1 - psi) - away
    if room <= 0 or min(ci * (1 - psi) - away * bi for ci, bi in zip(c, b, strict=True)) <= 0:
        return None
    blur = eps * root(1 + psi) / min(abs(v) for row in x.v for v in row)
    tops = [blur / room]
    for ci, bi in zip(c, b, strict=True):
        below, first = ci * (1 - psi) - away * bi, 1 + eps * root(ci * (1 - psi))
        tops.append((first + root(first * first + 4 * below * delta)) / (2 * below))
    most = max(tops)
    chi = [(away * most * (ci - s * s * bi) + blur * (ci + s * bi)) / s for ci, bi in zip(c, b, strict=True)]
    least = [
        (1 - away * most * bi - eps * root((1 + psi) * ci)) / ((1 + psi) * ci) for ci, bi in zip(c, b, strict=True)
    ]
    return {"most": most, "chi": chi, "least": least, "c": c, "half": [u for u, _ in mass.values()]}


def leaky_sides(x: Instance, strength: str) -> tuple[bool, Any, Any, Any, Any]:
    """`sides` of a leaky network, sharp or coarse."""
    claim, m, k, count = x.claim, x.m, len(x.forget), len(x.retained)
    psi, phi, eps, delta = (claim[name] for name in ("psi", "phi", "epsilon_1", "delta_1"))
    margin, a = Fraction(x.document["bound"]["margin"]), 1 - psi - (m - 1) * phi
    if not x.one_output or a <= 0 or any(v == 0 for row in x.v for v in row):
        return False, None, None, None, None
    found = unique(x, psi, phi, eps, delta)
    one = found is not None and max(found["chi"]) < 1
    if strength == "coarse":
        e, tau = 4 * m * phi / x.slope, Fraction(31, 100) * (4 * k * phi) ** 2 * m / count
        good = one and psi <= Fraction(1, 10) and e <= 1 and max(eps, delta) <= Fraction(1, 1000)
        whole = sum(u * u for u in x.u)
        even = found is not None and all(
            abs(v - Fraction(1, 2)) <= Fraction(1, 2**40) for h in found["half"] for v in (h, whole - h)
        )
        far = Fraction(48, 100) * 4 * k * phi * root(Fraction(m))
        return good and even, eps + far, delta, tau + margin**2, tau < 1
    squares = [sum(((row[i] if row[i] > 0 else x.slope * row[i]) ** 2 for row in x.v), Fraction(0)) for i in range(m)]
    floor = min(squares) if one else x.slope**2 * sum(u * u for u in x.u)
    b = 1 / root(floor) + eps * root(1 - psi)
    gamma = (b + root(b * b + 4 * a * delta)) / (2 * a)
    extra = k * gamma * phi * root(Fraction(count) / (1 - psi - (count - 1) * phi))
    sine = extra / root(count / (max(squares) * (1 + psi + (count - 1) * phi))) + margin
    if sine >= 1:
        return True, eps + extra, delta, None, False
    return True, eps + extra, delta, 1 - root(1 - sine * sine), True


def answers(document: dict[str, Any]) -> dict[str, bool | None]:
    """True, False or None (has no meaning, or not applicable) for every statement of the document."""
    x = Instance(document)
    result: dict[str, bool | None] = {"gram": positive_definite(x.k)}
    names = ["assumption", "angle"]
    names += [
        f"{w}.{p}"
        for w in ("original", "certificate")
        for p in ("selection", "stationarity", "slackness", "feasibility")
    ]
    names += [f"bound.{p}" for p in ("epsilon", "delta", "tau")] if document["bound"] else []
    if not result["gram"]:
        return result | dict.fromkeys(names, None)
    x.solve_all()
    c = x.claim
    result["assumption"] = all(
        abs(v - 1) <= c["psi"] if i == j else abs(v) <= c["phi"] for i, row in enumerate(x.k) for j, v in enumerate(row)
    )
    everyone = list(range(len(x.point)))
    for which, suffix, parts in (
        ("original", "_1", x.kkt(x.c, x.lam, x.mu, x.omega, everyone)),
        ("certificate", "", x.kkt(x.c2, x.lam2, x.mu2, x.factor**2 * x.omega, x.retained)),
    ):
        result[f"{which}.selection"] = parts["selection"]
        result[f"{which}.stationarity"] = parts["residual"] <= c["epsilon" + suffix] ** 2
        result[f"{which}.slackness"] = parts["slackness"] <= c["delta" + suffix]
        result[f"{which}.feasibility"] = parts["feasibility"]
    aa = x.inner(x.after, x.after) + x.omega
    bb = x.inner(x.c2, x.c2) + x.factor**2 * x.omega
    ab = x.inner(x.after, x.c2) + x.factor * x.omega
    low = 1 - c["tau"]
    if aa == 0 or bb == 0:
        result["angle"] = False
    elif low >= 0:
        result["angle"] = ab >= 0 and ab * ab >= low * low * aa * bb
    else:
        result["angle"] = ab >= 0 or ab * ab <= low * low * aa * bb
    if document["bound"] is not None:
        good, epsilon, delta, tau, angle = sides(x)
        needs = [result[n] for n in result if n.startswith("original")]
        needs += [result["assumption"]] if document["bound"]["strength"] in ("sharp", "coarse") else []
        good = good and all(needs)
        result["bound.epsilon"] = c["epsilon"] <= epsilon if good else None
        result["bound.delta"] = c["delta"] <= delta if good else None
        result["bound.tau"] = c["tau"] <= tau if good and angle else None
    return result


def stated(document: dict[str, Any]) -> dict[str, float]:
    """The right-hand sides of the document's bound as floats, to be written into it (tau = 2 where undefined)."""
    x = Instance(document)
    x.solve_all()
    good, epsilon, delta, tau, angle = sides(x)
    assert good
    return {"epsilon": float(epsilon), "delta": float(delta), "tau": float(tau) if angle else 2.0}
