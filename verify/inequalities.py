"""The inequalities, other than bounds of (epsilon, delta, tau), that a certificate file may name, as balls.

Each is a list of entries lhs <= rhs, all of which are claimed, with the hypotheses of its theorem. beta_i =
sum_j u_j^2 mu_ji, H = Q_R K, act_jr = 1[z_jr > 0] (linear: 1), a_r = sum_j u_j^2 act_jr, U = sum_j u_j^2; theta* is
`Quantities.solution` and B_T^2 `Quantities.floor_squared`. Source: docs/theory, Lemma M; Claims; Identity separation;
Norm lemma; Closeness to the retrained model.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from verify.balls import Check, Quantities, arb, arb_mat, block, root, total

Entry = tuple[Any, Any]
ORIGINAL = ("original.selection", "original.stationarity", "original.slackness", "original.feasibility")
TINY = 2.0**-60  #: relative room where two sides may be equal, which no ball decides
CERTIFICATE = ("certificate.selection", "certificate.stationarity", "certificate.feasibility")


class Entries(NamedTuple):
    """What is claimed, and the hypotheses that are not statements of the file."""

    entries: list[Entry]
    hypotheses: list[Check]


class Inequality(NamedTuple):
    """The statements of the file that it needs, its sides, its words, and how far, in units of 1 + |theta|, sides in
    floats may be from the derived ones. (`certificate_file.INEQUALITIES` says which speak of theta*.)"""

    needs: tuple[str, ...]
    sides: Callable[[Quantities], Entries]
    text: str
    room: float = 2.0**-40


def betas(q: Quantities) -> list[Any]:
    mu = q.d.original.mu
    return [total(u**2 * row[i] for u, row in zip(q.u, mu, strict=True)) for i in q.everyone]


def _lemma_m(q: Quantities, upper: bool) -> Entries:
    definite = [Check(0, q.gap(q.m), "1 - psi - (m - 1) phi is not positive", True)]
    if upper:
        return Entries([(b, q.beta_max) for b in betas(q)], definite)
    claim, top = q.claim, 1 + q.claim["psi"]
    least = 1 - (q.m - 1) * claim["phi"] * q.beta_max - claim["epsilon_1"] * root(top * q.weight)
    return Entries([(least / top, b) for b in betas(q)], definite)


def _margin(q: Quantities) -> Entries:
    """|q_i - beta_i K_ii| <= phi sum_{k != i} beta_k + epsilon_1 sqrt(K_ii U)."""
    beta, margins, k = betas(q), q.margins(q.z), q.gram
    noise = [q.claim["epsilon_1"] * root(k[i, i] * q.weight) for i in q.everyone]
    others = [total(b for j, b in enumerate(beta) if j != i) for i in q.everyone]
    return Entries(
        [(abs(margins[i] - beta[i] * k[i, i]), q.claim["phi"] * others[i] + noise[i]) for i in q.everyone], []
    )


def _shift(q: Quantities) -> Entries:
    """|H_ji| <= |u_j| phi sum_R mu_jr."""
    removed = [total(arb(row[r]) for r in q.d.forget) for row in q.d.original.mu]
    bound = [abs(u) * q.claim["phi"] * s for u, s in zip(q.u, removed, strict=True)]
    return Entries([(abs(q.z_step[j, i]), bound[j]) for j in range(q.n) for i in q.retained], [])


def _active(q: Quantities, r: int) -> list[int]:
    """The neurons with act_jr = 1."""
    return [j for j in range(q.n) if q.d.linear or q.d.original.preactivations[j][r] > 0]


def _estimator(q: Quantities, coarse: bool) -> Entries:
    """|q_r/(K_rr a_r) - lambda_r| <= (sum_{i != r} |K_ir| sum_j u_j^2 mu_ji act_jr + epsilon_1 sqrt(K_rr a_r)) / (K_rr
    a_r); coarse: <= phi sum_{i != r} lambda_i / K_rr + epsilon_1 / sqrt(K_rr a_r)."""
    first, k, margins = q.d.original, q.gram, q.margins(q.z)
    entries, hypotheses = [], [Check(int(not q.d.forget), 0, "no point is forgotten")]
    for r in q.d.forget:
        active = _active(q, r)
        size = k[r, r] * total(q.u[j] ** 2 for j in active)
        hypotheses.append(Check(0, size, f"no neuron is active on the forgotten point {r}", True))
        others = [i for i in q.everyone if i != r]
        if coarse:
            most = q.claim["phi"] * total(arb(first.multipliers[i]) for i in others) / k[r, r]
        else:
            shared = {i: total(q.u[j] ** 2 * first.mu[j][i] for j in active) for i in others}
            most = total(abs(k[i, r]) * shared[i] for i in others) / size
        off = abs(margins[r] / size - first.multipliers[r])
        entries.append((off, most + q.claim["epsilon_1"] / root(size)))
    return Entries(entries, hypotheses)


def _estimated_epsilon(q: Quantities) -> Entries:
    """|e + Ph + (I-P)(h - h')| <= epsilon_1 + |Ph| + sum_R B_r sqrt(b_r) |(I-P) x_r|: h' is made with lambda^_r, whose
    error is at most B_r, and b_r = sum_j u_j^2 s_jr."""
    first, near = q.d.original, _estimator(q, coarse=False)
    margins, beta, k, kept = q.margins(q.z), betas(q), q.gram, q.retained
    off, added, hypotheses = arb_mat(q.n, q.m), arb(0), near.hypotheses
    for (_, most), r in zip(near.entries, q.d.forget, strict=True):
        lam = arb(first.multipliers[r])
        hypotheses.append(Check(0, lam, f"the multiplier of the forgotten point {r} is zero", True))
        size = k[r, r] * total(q.u[j] ** 2 for j in _active(q, r))
        for j in range(q.n):
            off[j, r] = q.q_forget[j, r] * (1 - margins[r] / size / lam)
        across = block(k, [r], kept)
        beyond = k[r, r] - (across * q.inverse_retained * across.transpose())[0, 0]
        added += most * root(beta[r] / lam) * root(beyond)
    z_off = off * k
    e = q.z - q.coefficients(first.mu, q.everyone) * k + q.inside(q.z_step) + z_off - q.inside(z_off)
    rho = root(q.inner_inside(q.z_step, q.z_step))
    return Entries([(root(q.inner(e, e) + q.omega), q.claim["epsilon_1"] + rho + added)], hypotheses)


def _floor(q: Quantities) -> tuple[Any, Check]:
    """B_T, and that there is such a bound."""
    solution = q.d.inequality["solution"] if q.d.inequality else None
    square = q.floor_squared(solution.multipliers if solution else None)
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
    gap, nonzero = _one_minus_cos(q, q.z, q.solution.z, arb(1), arb(0))
    return Entries([(_least_gap(q, arb(TINY), arb(1)), gap)], [nonzero])


def _norm(q: Quantities) -> Entries:
    """B_T (1 - TINY) <= |theta~|, and |theta*| where the file names it: one retained point makes the latter B_T."""
    floor, there = _floor(q)
    squares = [q.inner(q.z_cert, q.z_cert) + arb(q.d.factor) ** 2 * q.omega]
    hypotheses = [there]
    if q.d.inequality and q.d.inequality["solution"]:
        squares.append(q.inner(q.solution.z, q.solution.z))
        hypotheses += q.solution.checks
    return Entries([(floor * (1 - arb(TINY)), root(square)) for square in squares], hypotheses)


def _most_distance(q: Quantities) -> Any:
    """(e~ + sqrt(e~^2 + 4 Sigma)) / 2, e~ = |e + P h|, Sigma = sum_T lambda_i (q_i - 1)."""
    first = q.d.original
    e = q.z - q.coefficients(first.mu, q.everyone) * q.gram + q.inside(q.z_step)
    square, margins = q.inner(e, e) + q.omega, q.margins(q.z)
    slack = total(first.multipliers[i] * (margins[i] - 1) for i in q.retained)
    return (root(square) + root(square + 4 * slack)) / 2


def _whole_step(q: Quantities) -> Check:
    return Check(int(q.d.step_scale != 1), 0, "the step scale is not 1")


def _distance(q: Quantities) -> Entries:
    off = q.z_tilde - q.solution.z
    return Entries([(root(q.inner(off, off) + q.omega), _most_distance(q))], [_whole_step(q)])


def _tau(q: Quantities) -> Entries:
    """1 - cos(theta^, theta*) <= 1 - cos(arcsin(rho/N) + arcsin(D/N)), N = |theta - (I-P) h|."""
    norm = root(q.inner(q.z_tilde, q.z_tilde) + q.omega)
    one, two = root(q.inner_inside(q.z_step, q.z_step)) / norm, _most_distance(q) / norm
    gap, nonzero = _one_minus_cos(q, q.z_after, q.solution.z, arb(1), arb(0))
    most = 1 - (root(1 - one**2) * root(1 - two**2) - one * two)
    hypotheses = [Check(side, 1, "a sine of the bound is not below 1", True) for side in (one, two)]
    return Entries([(gap, most)], [_whole_step(q), nonzero, *hypotheses])


def _step_lower(q: Quantities) -> Entries:
    """B_T sin(max(0, alpha_c - arccos(1 - tau))) <= epsilon."""
    floor, there = _floor(q)
    size = q.inner(q.z_after, q.z_after) + q.omega
    sine, tau = _sine_off(q, q.z_after), q.claim["tau"]
    rise = sine * (1 - tau) - root(1 - sine**2) * root(tau * (2 - tau))
    lower = _positive_part(floor * rise, rise)
    return Entries([(lower, q.claim["epsilon"])], [there, Check(0, size, "theta^ is zero", True)])


_upper, _lower = functools.partial(_lemma_m, upper=True), functools.partial(_lemma_m, upper=False)
_near, _far = functools.partial(_estimator, coarse=False), functools.partial(_estimator, coarse=True)
SELECTION = ORIGINAL[:1]
NAMED = {
    "multipliers/upper": Inequality((*ORIGINAL, "assumption"), _upper, "beta_i <= beta_max"),
    "multipliers/lower": Inequality((*ORIGINAL, "assumption"), _lower, "the lower bound of Lemma M <= beta_i"),
    "multipliers/margin": Inequality(
        (*ORIGINAL, "assumption"), _margin, "|q_i - beta_i |x_i|^2| <= phi sum beta_k + epsilon_1 |x_i|"
    ),
    "activations/shift": Inequality(
        (*ORIGINAL, "assumption"), _shift, "pre-activations move at most |u_j| phi sum lambda_r s_jr"
    ),
    "estimators/multiplier": Inequality(ORIGINAL, _near, "|lambda^_r - lambda_r| is within its bound"),
    "estimators/coarse": Inequality(
        (*ORIGINAL, "assumption"), _far, "|lambda^_r - lambda_r| is within its bound without selections"
    ),
    "estimators/epsilon": Inequality(
        ORIGINAL, _estimated_epsilon, "epsilon of the step with estimated multipliers is within its bound"
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
        ORIGINAL, _distance, "|theta~ - theta*| <= (e~ + sqrt(e~^2 + 4 Sigma)) / 2", 2.0**-20
    ),
    "retrain/tau": Inequality(ORIGINAL, _tau, "1 - cos(theta^, theta*) is within its bound", 2.0**-20),
    "step_size/lower": Inequality(
        (*CERTIFICATE, "angle"), _step_lower, "no certificate within this angle has a smaller epsilon"
    ),
}
