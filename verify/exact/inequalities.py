"""The inequalities, other than bounds of (epsilon, delta, tau), that a certificate file may name, as balls.

Each is a list of entries lhs <= rhs, all of which are claimed, with the hypotheses of its theorem. H = Q_R K; theta* is
`verify.exact.solution` and B_T^2 `verify.exact.floors`. Lemma M and the estimators speak of one output: there
beta_i = sum_j u_j^2 mu_ji, act_jr = 1[z_jr > 0] (linear: 1), a_r = sum_j u_j^2 act_jr, U = sum_j u_j^2.
Source: docs/theory, Lemma M; Leaky networks; Entries; Claims; Identity separation; Norm lemma; Closeness to the
retrained model; The ball of the retrained model; Is the step better than nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from verify.exact import entries, leaky, worthwhile
from verify.exact.balls import Check, Quantities, arb, arb_mat, block, root, total
from verify.exact.classes import about_classes, gammas, lemma
from verify.exact.floors import floor_squared
from verify.exact.solution import solution

Entry = tuple[Any, Any]
ORIGINAL = ("original.selection", "original.stationarity", "original.slackness", "original.feasibility")
TINY = 2.0**-60  #: relative room where two sides may be equal, which no ball decides
CERTIFICATE = ("certificate.selection", "certificate.stationarity", "certificate.feasibility")


class Entries(NamedTuple):
    """What is claimed, and the hypotheses that are not statements of the file."""

    entries: list[Entry]
    hypotheses: list[Check]


def _any_problem(_: Quantities) -> list[Check]:
    return []


def _one_output(q: Quantities) -> list[Check]:
    return q.one_output


def _unit_slopes(q: Quantities) -> list[Check]:
    return q.one_output + q.unit_slopes


class Inequality(NamedTuple):
    """The statements of the file that it needs, its sides, its words, which problems it is about (as hypotheses, judged
    before the sides), and how far, in units of 1 + |theta|, sides in floats may be from the derived ones.
    (`certificate_file.INEQUALITIES` says which speak of theta*.)"""

    needs: tuple[str, ...]
    sides: Callable[[Quantities], Entries]
    text: str
    about: Callable[[Quantities], list[Check]] = _any_problem
    room: float = 2.0**-40


def betas(q: Quantities) -> list[Any]:
    return [total(u**2 * row[i] for u, row in zip(q.u, q.mu, strict=True)) for i in q.rows]


def _lemma_m(q: Quantities, upper: bool) -> Entries:
    definite = [Check(0, q.gap(len(q.rows)), "1 - psi - (m - 1) phi is not positive", True)]
    if upper:
        return Entries([(b, q.beta_max) for b in betas(q)], definite)
    claim, top = q.claim, 1 + q.claim["psi"]
    least = 1 - (len(q.rows) - 1) * claim["phi"] * q.beta_max - claim["epsilon_1"] * root(top * q.weight)
    return Entries([(least / top, b) for b in betas(q)], definite)


def _of_classes(q: Quantities, upper: bool) -> Entries:
    """Lemma M'."""
    found = lemma(q)
    sides = [(g, found.upper) if upper else (found.lower, g) for g in gammas(q)]
    return Entries(sides, found.defined)


def _margin(q: Quantities) -> Entries:
    """|q_i - beta_i K_ii| <= phi sum_{k != i} beta_k + epsilon_1 sqrt(K_ii U)."""
    beta, margins, k = betas(q), q.margins(q.z), q.gram
    noise = [q.claim["epsilon_1"] * root(k[i, i] * q.weight) for i in q.rows]
    others = [total(b for j, b in enumerate(beta) if j != i) for i in q.rows]
    return Entries([(abs(margins[i] - beta[i] * k[i, i]), q.claim["phi"] * others[i] + noise[i]) for i in q.rows], [])


def _shift(q: Quantities) -> Entries:
    """|H_jr| <= phi sum of |v_je mu_je| over the forgotten entries, r a retained row."""
    gone = [e for a in q.problem.forgotten for e in q.problem.entries[a]]
    bound = [q.claim["phi"] * total(abs(v[e] * mu[e]) for e in gone) for v, mu in zip(q.v, q.mu, strict=True)]
    return Entries([(abs(q.z_step[j, r]), bound[j]) for j in range(q.n) for r in q.problem.retained_rows], [])


class _Forgotten(NamedTuple):
    """What the estimator sees of a forgotten point: its active neurons, K_rr a_r, and sum_j v_jr act_jr z_jr, which is
    q_r where the slope is 0 or 1."""

    active: list[int]
    size: Any
    seen: Any


def _forgotten(q: Quantities, r: int) -> _Forgotten:
    z = q.d.original.preactivations
    active = [j for j in range(q.n) if not q.problem.kinked or z[j][r] > 0]
    return _Forgotten(
        active, q.gram[r, r] * total(q.u[j] ** 2 for j in active), total(q.v[j][r] * q.z[j, r] for j in active)
    )


def _estimator(q: Quantities, coarse: bool) -> Entries:
    """|lambda^_r - lambda_r| <= (sum_{i != r} |K_ir| sum_j u_j^2 |mu_ji| act_jr + epsilon_1 sqrt(K_rr a_r)) / (K_rr
    a_r); coarse: <= phi sum_{i != r} lambda_i / K_rr + epsilon_1 / sqrt(K_rr a_r)."""
    lam, k = q.d.original.multipliers, q.gram
    entries, hypotheses = [], [Check(int(not q.k), 0, "no point is forgotten")]
    for r in q.problem.forget:
        near = _forgotten(q, r)
        hypotheses.append(Check(0, near.size, f"no neuron is active on the forgotten point {r}", True))
        others = [i for i in q.rows if i != r]
        if coarse:
            most = q.claim["phi"] * total(arb(lam[i]) for i in others) / k[r, r]
        else:
            shared = {i: total(q.u[j] ** 2 * abs(q.mu[j][i]) for j in near.active) for i in others}
            most = total(abs(k[i, r]) * shared[i] for i in others) / near.size
        entries.append((abs(near.seen / near.size - lam[r]), most + q.claim["epsilon_1"] / root(near.size)))
    return Entries(entries, hypotheses)


def _estimated_epsilon(q: Quantities) -> Entries:
    """|e + Ph + (I-P)(h - h')| <= epsilon_1 + |Ph| + sum_R B_r sqrt(b_r) |(I-P) x_r|: h' is made with lambda^_r, whose
    error is at most B_r, and b_r = sum_j u_j^2 |s_jr|."""
    bounds = _estimator(q, coarse=False)
    off, added, hypotheses = arb_mat(q.n, len(q.rows)), arb(0), bounds.hypotheses
    for (_, most), r in zip(bounds.entries, q.problem.forget, strict=True):
        lam, near = arb(q.d.original.multipliers[r]), _forgotten(q, r)
        hypotheses.append(Check(0, lam, f"the multiplier of the forgotten point {r} is zero", True))
        for j in range(q.n):
            off[j, r] = q.q_forget[j, r] * (1 - near.seen / near.size / lam)
        across = block(q.gram, [r], q.problem.retained_rows)
        beyond = q.gram[r, r] - (across * q.inverse_retained * across.transpose())[0, 0]
        weight = total(u**2 * abs(row[r]) for u, row in zip(q.u, q.mu, strict=True)) / lam
        added += most * root(weight) * root(beyond)
    z_off = off * q.gram
    e = q.e + q.inside(q.z_step) + z_off - q.inside(z_off)
    rho = root(q.inner_inside(q.z_step, q.z_step))
    return Entries([(root(q.inner(e, e) + q.omega), q.claim["epsilon_1"] + rho + added)], hypotheses)


def _leaky(q: Quantities, what: str) -> Entries:
    return Entries(*leaky.entries(q, what))


def _pulls(q: Quantities, what: str) -> Entries:
    return Entries(*entries.entries(q, what))


def _floor(q: Quantities) -> tuple[Any, Check]:
    """B_T, and that there is such a bound."""
    square = floor_squared(q, q.d.inequality["solution"] if q.d.inequality else None)
    return root(square), Check(0, square, "there is no lower bound on the norm of feasible points", True)


def _one_minus_cos(q: Quantities, a: Any, b: Any, share_a: Any, share_b: Any) -> tuple[Any, Check]:
    """1 - cos of the angle between A + share_a W_perp and B + share_b W_perp, and that neither is zero."""
    aa, bb = (q.inner(v, v) + s**2 * q.omega for v, s in ((a, share_a), (b, share_b)))
    cos = (q.inner(a, b) + share_a * share_b * q.omega) / root(aa * bb)
    return 1 - cos, Check(0, aa * bb, "one of the vectors is zero", True)


def _sine_off(q: Quantities, a: Any) -> Any:
    """The sine of the angle between A + W_perp and the span of the retained points, at most 1."""
    whole = q.inner(a, a) + q.omega
    return root((whole - q.inner_inside(a, a)) / whole)


def _positive_part(value: Any, positive: Any) -> Any:
    """`value` where the ball `positive` is > 0, 0 where it is <= 0, nan where that is open."""
    return value if positive > 0 else arb(0) if positive <= 0 else arb.nan()


def _least_gap(q: Quantities, epsilon: Any, floor: Any) -> Any:
    """1 - cos(max(0, alpha - arcsin(min(1, epsilon / B_T))))."""
    sine, other = _sine_off(q, q.z), arb.min(arb(1), epsilon / floor)
    cos = root(1 - sine**2) * root(1 - other**2) + sine * other
    return _positive_part(1 - cos, sine - other)


def _separation(q: Quantities) -> Entries:
    floor, there = _floor(q)
    gap, nonzero = _one_minus_cos(q, q.z, q.z_cert, arb(1), arb(q.d.factor))
    return Entries([(_least_gap(q, q.claim["epsilon"], floor), gap)], [there, nonzero])


def _retrained(q: Quantities) -> Entries:
    """At epsilon = TINY B_T, which an exact KKT point satisfies too: a linear theta* may be parallel to P theta."""
    gap, nonzero = _one_minus_cos(q, q.z, solution(q).z, arb(1), arb(0))
    return Entries([(_least_gap(q, arb(TINY), arb(1)), gap)], [nonzero])


def _norm(q: Quantities) -> Entries:
    """B_T (1 - TINY) <= |theta~|, and |theta*| where the file names it: one retained point makes the latter B_T."""
    floor, there = _floor(q)
    squares = [q.inner(q.z_cert, q.z_cert) + arb(q.d.factor) ** 2 * q.omega]
    hypotheses = [there]
    if q.d.inequality and q.d.inequality["solution"]:
        squares.append(q.inner(solution(q).z, solution(q).z))
        hypotheses += solution(q).checks
    return Entries([(floor * (1 - arb(TINY)), root(square)) for square in squares], hypotheses)


def _most_distance(q: Quantities) -> Any:
    """(e~ + sqrt(e~^2 + 4 Sigma)) / 2, e~ = |e + P h|, Sigma = sum_T lambda_i (q_i - 1)."""
    e, lam = q.e + q.inside(q.z_step), q.d.original.multipliers
    square, margins = q.inner(e, e) + q.omega, q.margins(q.z)
    slack = total(lam[a] * (margins[a] - 1) for a in q.problem.retained)
    return (root(square) + root(square + 4 * slack)) / 2


def _whole_step(q: Quantities) -> Check:
    return Check(int(q.d.step_scale != 1), 0, "the step scale is not 1")


def _distance(q: Quantities) -> Entries:
    off = q.z_tilde - solution(q).z
    return Entries([(root(q.inner(off, off) + q.omega), _most_distance(q))], [_whole_step(q)])


def _tau(q: Quantities) -> Entries:
    """1 - cos(theta^, theta*) <= 1 - cos(arcsin(rho/N) + arcsin(D/N)), N = |theta - (I-P) h|."""
    norm = root(q.inner(q.z_tilde, q.z_tilde) + q.omega)
    one, two = root(q.inner_inside(q.z_step, q.z_step)) / norm, _most_distance(q) / norm
    gap, nonzero = _one_minus_cos(q, q.z_after, solution(q).z, arb(1), arb(0))
    most = 1 - (root(1 - one**2) * root(1 - two**2) - one * two)
    hypotheses = [Check(side, 1, "a sine of the bound is not below 1", True) for side in (one, two)]
    return Entries([(gap, most)], [_whole_step(q), nonzero, *hypotheses])


def _ball(q: Quantities, angle: bool) -> Entries:
    """|theta^ - theta*| <= |e - P h| / 2 + R, R^2 = |e + P h|^2 / 4 + Sigma; or 1 - cos(theta^, theta*) <= 1 - cos of
    the angle between theta^ and c = (theta_L + theta~) / 2 plus arcsin(R / |c|). Both may be equalities."""
    inside, e, lam, half = q.inside(q.z_step), q.e, q.d.original.multipliers, arb(1) / 2
    margins = q.margins(q.z)
    slack = total(lam[a] * (margins[a] - 1) for a in q.problem.retained)
    radius = root((q.inner(e + inside, e + inside) + q.omega) / 4 + slack)
    star, after = solution(q).z, q.z_after
    if not angle:
        off, other = after - star, e - inside
        most = half * root(q.inner(other, other) + q.omega) + radius
        return Entries([(root(q.inner(off, off) + q.omega), most * (1 + arb(TINY)))], [_whole_step(q)])
    centre = q.z_tilde - (e + inside) * half
    sine = radius / root(q.inner(centre, centre) + q.omega / 4)
    turn, there = _one_minus_cos(q, after, centre, arb(1), half)
    gap, nonzero = _one_minus_cos(q, after, star, arb(1), arb(0))
    cos = (1 - turn) * root(1 - sine**2) - root(turn * (2 - turn)) * sine
    hypotheses = [Check(sine, 1, "the ball contains the origin", True)]
    # beyond a right angle or so the sum of both angles may pass pi, where the cosine rises again
    hypotheses.append(Check(turn, 1, "theta^ is a right angle away from the centre", True))
    return Entries([(gap, (1 - cos) * (1 + arb(TINY)))], [_whole_step(q), there, nonzero, *hypotheses])


def _step_lower(q: Quantities) -> Entries:
    """B_T sin(max(0, alpha_c - arccos(1 - tau))) <= epsilon."""
    floor, there = _floor(q)
    size = q.inner(q.z_after, q.z_after) + q.omega
    sine, tau = _sine_off(q, q.z_after), q.claim["tau"]
    rise = sine * (1 - tau) - root(1 - sine**2) * root(tau * (2 - tau))
    lower = _positive_part(floor * rise, rise)
    return Entries([(lower, q.claim["epsilon"])], [there, Check(0, size, "theta^ is zero", True)])


def _better(q: Quantities) -> Entries:
    return Entries(*worthwhile.better(q))


_upper, _lower = functools.partial(_lemma_m, upper=True), functools.partial(_lemma_m, upper=False)
_near, _far = functools.partial(_estimator, coarse=False), functools.partial(_estimator, coarse=True)
SELECTION = ORIGINAL[:1]
NAMED = {
    "multipliers/upper": Inequality((*ORIGINAL, "assumption"), _upper, "beta_i <= beta_max", _unit_slopes),
    "multipliers/lower": Inequality(
        (*ORIGINAL, "assumption"), _lower, "the lower bound of Lemma M <= beta_i", _unit_slopes
    ),
    "softmax/upper": Inequality(
        (*ORIGINAL, "assumption"), functools.partial(_of_classes, upper=True), "gamma_i <= gamma_max", about_classes
    ),
    "softmax/lower": Inequality(
        (*ORIGINAL, "assumption"),
        functools.partial(_of_classes, upper=False),
        "the lower bound of Lemma M' <= gamma_i",
        about_classes,
    ),
    "multipliers/margin": Inequality(
        (*ORIGINAL, "assumption"), _margin, "|q_i - beta_i |x_i|^2| <= phi sum beta_k + epsilon_1 |x_i|", _unit_slopes
    ),
    **{
        f"unique/{what}": Inequality((*ORIGINAL, "assumption"), functools.partial(_leaky, what=what), text, leaky.about)
        for what, text in (
            ("upper", "lambda_i is at most that of Theorem LK"),
            ("lower", "lambda_i is at least that of Theorem LK"),
            ("clearance", "y_i z_ji / u_j is at least a (1 - chi_i) / c_i"),
        )
    },
    **{
        f"entries/{what}": Inequality(needs, functools.partial(_pulls, what=what), text)
        for what, needs, text in (
            ("upper", ORIGINAL, "gamma_i <= gamma_max of Lemma M' of entries"),
            ("lower", ORIGINAL, "the lower bound of Lemma M' of entries <= gamma_i"),
            ("leakage", (), "|P h| <= kappa times the pulls of the forgotten points"),
        )
    },
    "activations/shift": Inequality(
        (*ORIGINAL, "assumption"), _shift, "pre-activations move at most phi sum |v_je mu_je|"
    ),
    "estimators/multiplier": Inequality(ORIGINAL, _near, "|lambda^_r - lambda_r| is within its bound", _one_output),
    "estimators/coarse": Inequality(
        (*ORIGINAL, "assumption"), _far, "|lambda^_r - lambda_r| is within its bound without selections", _one_output
    ),
    "estimators/epsilon": Inequality(
        ORIGINAL, _estimated_epsilon, "epsilon of the step with estimated multipliers is within its bound", _one_output
    ),
    "identity/separation": Inequality(
        CERTIFICATE, _separation, "theta is at least alpha - arcsin(epsilon/B_T) away from theta~"
    ),
    "identity/retrained": Inequality(SELECTION, _retrained, "theta is at least alpha - arcsin(2^-60) away from theta*"),
    "identity/norm": Inequality(
        (*SELECTION, "certificate.feasibility"), _norm, "B_T (1 - 2^-60) is below the norms of feasible points"
    ),
    # floats take the factor 1 + 2^-46 of theta out of Sigma, whose root enters
    "retrain/distance": Inequality(
        ORIGINAL, _distance, "|theta~ - theta*| <= (e~ + sqrt(e~^2 + 4 Sigma)) / 2", room=2.0**-20
    ),
    "retrain/tau": Inequality(ORIGINAL, _tau, "1 - cos(theta^, theta*) is within its bound", room=2.0**-20),
    "retrain/ball": Inequality(
        ORIGINAL,
        functools.partial(_ball, angle=False),
        "|theta^ - theta*| <= |e - P h|/2 + the ball's radius",
        room=2.0**-20,
    ),
    "retrain/ball_tau": Inequality(
        ORIGINAL,
        functools.partial(_ball, angle=True),
        "theta* is seen within the ball's angle of theta^",
        room=2.0**-20,
    ),
    "step_size/lower": Inequality(
        (*CERTIFICATE, "angle"), _step_lower, "no certificate within this angle has a smaller epsilon"
    ),
    "worthwhile/certificate": Inequality(ORIGINAL, _better, "the step is at least as near to theta* as doing nothing"),
}
