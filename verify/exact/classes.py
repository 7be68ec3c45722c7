"""Linear models with several classes as balls: Lemma M' and Theorem R', for files whose amplitudes are e_y - e_c.

Source: docs/theory, Several classes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from verify.exact.balls import Check, Quantities, arb, root, total

#: epsilon_1 and (C - 1) delta_1 up to this count as exact in the coarse line
NEARLY_EXACT = arb(1) / 1000


class Lemma(NamedTuple):
    """nu^2 = (C-1)/C, mu = phi/(1 - psi), the two bounds of gamma_i, and that they are defined."""

    nu_squared: Any
    mu: Any
    lower: Any
    upper: Any
    defined: list[Check]


def is_linear_classes(q: Quantities) -> bool:
    """Whether the problem is that of a linear model with C >= 2 classes: at each point one row and the constraints
    <w_y - w_c, x> >= 1 for all c other than one y."""
    p = q.problem
    layout, points = p.layout, len(p.gram)
    one_row = layout.point_of_row == list(range(points)) and layout.row == layout.point_of_constraint
    if p.kinked or q.n < 2 or not one_row or layout.constraint != list(range(p.num_constraints)):
        return False
    return all(_of_one_class(q, [a for a, i in enumerate(layout.row) if i == point]) for point in range(points))


def _of_one_class(q: Quantities, constraints: list[int]) -> bool:
    """Whether the amplitudes of these constraints are e_y - e_c, each c other than y once."""
    columns = [[row[a] for row in q.problem.amplitudes] for a in constraints]
    if any(sorted(column) != [-1.0, *[0.0] * (q.n - 2), 1.0] for column in columns):
        return False
    own = {column.index(1.0) for column in columns}
    return len(own) == 1 and sorted(column.index(-1.0) for column in columns) == sorted(set(range(q.n)) - own)


def about_classes(q: Quantities) -> list[Check]:
    """That the problem is of this kind, as a hypothesis."""
    return [Check(int(not is_linear_classes(q)), 0, "the model is not linear with several classes")]


def lemma(q: Quantities) -> Lemma:
    """(B + sqrt(B^2 + 4 A (C-1) delta_1)) / (2 A) and nu/sqrt(1 + psi) - (m-1) mu gamma_max - epsilon_1, with
    A = 1 - (m-1) mu > 0 and B = nu/sqrt(1 - psi) + epsilon_1."""
    claim, others = q.claim, len(q.rows) - 1
    nu_squared, room = arb(q.n - 1) / q.n, 1 - claim["psi"]
    mu = claim["phi"] / room
    a, b = 1 - others * mu, root(nu_squared / room) + claim["epsilon_1"]
    upper = (b + root(b**2 + 4 * a * (q.n - 1) * claim["delta_1"])) / (2 * a)
    lower = root(nu_squared / (1 + claim["psi"])) - others * mu * upper - claim["epsilon_1"]
    defined = [Check(0, room, "psi is not below 1", True), Check(0, a, "1 - (m - 1) mu is not positive", True)]
    return Lemma(nu_squared, mu, lower, upper, defined)


def gammas(q: Quantities) -> list[Any]:
    """gamma_i = ||sum_c lambda_ic (e_{y_i} - e_c)|| ||x_i||."""
    out = []
    for i in q.rows:
        mine = [a for a, point in enumerate(q.problem.layout.row) if point == i]
        made = [total(q.v[j][a] * q.mu[j][a] for a in mine) for j in range(q.n)]
        out.append(root(total(v**2 for v in made) * q.gram[i, i]))
    return out


class Promise(NamedTuple):
    """Hypotheses, and the right-hand sides of epsilon and tau with what tau assumes besides."""

    hypotheses: list[Check]
    epsilon: Any
    tau: Any
    angle: list[Check]


def sharp(q: Quantities, margin: float) -> Promise:
    """epsilon_1 + rho and 1 - sqrt(1 - (rho/B + margin)^2), rho = k gamma_max mu sqrt(M) / sqrt(1 - (M-1) mu), B^2 =
    nu^2 M / (1 + psi + (M-1) phi)."""
    found, kept = lemma(q), len(q.problem.retained_rows)
    inner = 1 - (kept - 1) * found.mu
    rho = q.k * found.upper * found.mu * root(kept / inner)
    sine = rho / root(found.nu_squared * kept / (1 + q.claim["psi"] + (kept - 1) * q.claim["phi"])) + margin
    return Promise(
        [*found.defined, Check(0, inner, "1 - (M - 1) mu is not positive", True)],
        q.claim["epsilon_1"] + rho,
        sine**2 / (1 + root(1 - sine**2)),
        [Check(sine, 1, "the sine in tau is not below 1", True)],
    )


def coarse(q: Quantities, margin: float) -> Promise:
    """epsilon_1 + 0.48 nu k e / sqrt(m) and 0.31 k^2 e^2 / (m M), e = 4 m phi, at a nearly exact point."""
    m, kept, claim = len(q.rows), len(q.problem.retained_rows), q.claim
    e, nu = 4 * m * claim["phi"], root(arb(q.n - 1) / q.n)
    hypotheses = [
        Check(1, min(q.k, m - 1), "no point is forgotten, or there is one alone"),
        Check(claim["psi"], arb(1) / 10, "psi exceeds 0.1"),
        Check(e, 1, "eps_d exceeds 1"),
        Check(claim["epsilon_1"], NEARLY_EXACT, "epsilon_1 exceeds 1/1000"),
        Check((q.n - 1) * claim["delta_1"], NEARLY_EXACT, "(C - 1) delta_1 exceeds 1/1000"),
    ]
    tau = arb("0.31") * q.k**2 * e**2 / (m * kept)
    return Promise(
        hypotheses,
        claim["epsilon_1"] + arb("0.48") * nu * q.k * e / root(m),
        tau + arb(margin) ** 2,
        [Check(tau, 1, "the bound of tau is not below 1", True)],
    )
