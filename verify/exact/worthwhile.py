"""Theorem F and part (a) of Theorem H as balls: the bound that asks nothing of norms, and when the step beats nothing.

Source: docs/theory, Theorem F; Is the step better than nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from verify.exact.balls import Check, Quantities, arb, root, total
from verify.exact.solution import solution


class ScaleFree(NamedTuple):
    """A bound on rho, a lower bound on |theta~|, and what makes them defined."""

    rho: Any
    smallest: Any
    defined: list[Check]


def scale_free(q: Quantities) -> ScaleFree:
    """Theorem F, W = max(1, U) in the place of its assumption U <= 1, phi_c from K itself:

    rho = phi_c sqrt(M / (1 - (M-1) phi_c)) / min u_j  sum_R (1/r_r + phi_c S + E) / (1 + phi_c), S = (sum 1/r_i + m E)
    / (1 - (m-1) phi_c), E = epsilon_1 sqrt(W) + sqrt((1 + phi_c) delta_1 W), |theta~|^2 >= sum_T r_i^-2 / (W (1 + (M-1)
    phi_c)).
    """
    k, m, kept = q.gram, len(q.rows), len(q.problem.retained)
    inverse = [1 / root(k[i, i]) for i in q.rows]
    phi = arb(0)
    for i in q.rows:
        for j in range(i):
            phi = arb.max(phi, abs(k[i, j]) * inverse[i] * inverse[j])
    weight, room = arb.max(arb(1), q.weight), 1 - (m - 1) * phi
    noise = q.claim["epsilon_1"] * root(weight) + root((1 + phi) * q.claim["delta_1"] * weight)
    everything = (total(inverse) + m * noise) / room
    forgotten = total(inverse[r] + phi * everything + noise for r in q.problem.forget) / (1 + phi)
    gain = 1 / min(u for u in q.u if u > 0)
    rho = phi * root(kept / (1 - (kept - 1) * phi)) * gain * forgotten
    squares = total(inverse[i] ** 2 for i in q.problem.retained)
    smallest = root(squares / (weight * (1 + (kept - 1) * phi)))
    return ScaleFree(rho, smallest, [Check(0, room, "1 - (m - 1) phi_c is not positive", True)])


def better(q: Quantities) -> tuple[list[tuple[Any, Any]], list[Check]]:
    """1 - cos(theta^, theta*) <= 1 - cos(theta, theta*), if r^ |theta| < |(I-P) theta| |theta^| with r^ = |e - P h|/2
    + R, R^2 = |e + P h|^2 / 4 + Sigma."""
    inside, e, lam, margins = q.inside(q.z_step), q.e, q.d.original.multipliers, q.margins(q.z)
    slack = total(lam[a] * (margins[a] - 1) for a in q.problem.retained)
    near, far = (root(q.inner(v, v) + q.omega) / 2 for v in (e - inside, e + inside))
    theta, hat = (root(q.inner(v, v) + q.omega) for v in (q.z, q.z_after))
    outside = root(q.inner(q.z, q.z) - q.inner_inside(q.z, q.z) + q.omega)
    hypotheses = [
        Check(int(q.d.step_scale != 1), 0, "the step scale is not 1"),
        Check((near + root(far**2 + slack)) * theta, outside * hat, "the certificate does not say better", True),
    ]
    star = solution(q).z
    gaps = [1 - q.inner(v, star) / (size * root(q.inner(star, star))) for v, size in ((q.z_after, hat), (q.z, theta))]
    return [(gaps[0], gaps[1])], hypotheses
