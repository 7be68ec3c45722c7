"""The bounds of (epsilon, delta, tau) that a certificate file may name, as balls.

Source: docs/theory, Theorem P; Theorems R and L; Coarse forms; Leaky networks; Several classes; Entries; Theorem F.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from verify.exact import classes, entries, leaky, worthwhile
from verify.exact.balls import Check, Quantities, arb, root, total

WEIGHT_ROOM = 2.0**-40  #: |n u_j^2 - 1| up to this counts as |u_j| = 1/sqrt(n): the constants have slack


class Sides(NamedTuple):
    """Right-hand sides of a bound, its hypotheses, and what its tau part assumes besides."""

    hypotheses: list[Check]
    epsilon: Any
    delta: Any
    tau: Any
    angle: list[Check]


@functools.lru_cache(maxsize=1)
def sides(q: Quantities) -> Sides:
    """The bound of q's document. It may be called for a document with a bound only."""
    bound = q.d.bound
    assert bound is not None
    if bound["strength"] == "scale_free":
        return _scale_free(q, bound["name"], bound["margin"])
    name, instance, coarse = bound["name"], bound["strength"] == "instance", bound["strength"] == "coarse"
    if name == "projection" and bound["strength"] == "spaces":
        return _plain_step(q, entries.spaces(q, bound["margin"]))
    if name == "projection" and not instance and classes.is_linear_classes(q):
        return _plain_step(q, (classes.coarse if coarse else classes.sharp)(q, bound["margin"]))
    hypotheses = _plain(q, name, instance, coarse)
    if any(check.low > check.high for check in hypotheses):
        nothing = arb.nan()
        return Sides(hypotheses, nothing, nothing, nothing, [])
    if not instance:
        hypotheses.append(Check(0, q.gap(len(q.rows)), "1 - psi - (m - 1) phi is not positive", True))
    if coarse:
        make = _coarse_leaky if _is_leaky(q) else _coarse
        return make(q, hypotheses, bound["margin"])
    if name == "scaling":
        return _scaling(q, instance, hypotheses)
    return _projection(q, instance, hypotheses, name == "span", bound["margin"])


def _scale_free(q: Quantities, name: str, margin: float) -> Sides:
    """Theorem F."""
    plain = [
        Check(int(q.d.step_scale != 1), 0, "the step scale is not 1"),
        Check(int(name != "projection"), 0, "only the projection certificate has a scale-free bound"),
        *q.one_output,
        *q.unit_slopes,
    ]
    if any(check.low > check.high for check in plain):
        nothing = arb.nan()
        return Sides(plain, nothing, nothing, nothing, [])
    made = worthwhile.scale_free(q)
    tau, angle = _of_sine(made.rho / made.smallest + margin)
    return Sides([*plain, *made.defined], q.claim["epsilon_1"] + made.rho, q.claim["delta_1"], tau, angle)


def _of_sine(sine: Any) -> tuple[Any, list[Check]]:
    """1 - sqrt(1 - sine^2), and that it means something."""
    return sine**2 / (1 + root(1 - sine**2)), [Check(sine, 1, "the sine in tau is not below 1", True)]


def _plain_step(q: Quantities, made: classes.Promise) -> Sides:
    """Theorem R', of several classes or of entries, which speaks of the whole step."""
    plain = Check(int(q.d.step_scale != 1), 0, "the step scale is not 1")
    return Sides([plain, *made.hypotheses], made.epsilon, q.claim["delta_1"], made.tau, made.angle)


def _plain(q: Quantities, name: str, instance: bool, coarse: bool) -> list[Check]:
    """The hypotheses that take no arithmetic: the step, the kind, and what sort of problem it is."""
    linear, scaling = not q.problem.kinked, name == "scaling"
    one_neuron = q.n == 1 and all(abs(v) == 1 for v in q.problem.amplitudes[0])
    plain = [
        (q.d.step_scale == 1 or (instance and name == "projection"), "the step scale is not 1"),
        (instance or name != "span", "the span certificate has no worst-case bound"),
        (q.d.bound is None or q.d.bound["strength"] != "spaces", "the bound is one of the projection certificate"),
        (linear if scaling else not (coarse and linear), "the model is of the other kind"),
        (instance or not scaling or one_neuron, "the model is not one neuron with amplitudes +-1"),
    ]
    hypotheses = [Check(int(not holds), 0, text) for holds, text in plain]
    if instance:
        return hypotheses
    return hypotheses + (leaky.about(q) if _is_leaky(q) else q.one_output + q.unit_slopes)


def _is_leaky(q: Quantities) -> bool:
    """Whether the worst-case bounds are those of leaky networks."""
    return 0 < q.problem.slope < 1


def _projection(q: Quantities, instance: bool, hypotheses: list[Check], span: bool, margin: float) -> Sides:
    """epsilon_1 + rho, delta_1, 1 - sqrt(1 - (rho/N + margin)^2).

    Instance: rho = |Ph|, N = |theta - (I-P) h|; at step c, epsilon_1 + rho + |1-c| |(I-P) h| and c rho; for
    the span certificate, in tau, sqrt(rho^2 + epsilon_1^2) and N = |P theta|. Worst case:
    rho = k pull kappa and N^2 = M / (weight (1 + psi + (M-1) phi)) with pull = beta_max / min |u_j| and weight = U;
    leaky: pull of Lemma G and weight = max_i c_i.
    """
    claim = q.claim
    if instance:
        inside = q.inner_inside(q.z_step, q.z_step)
        rest = q.inner(q.z_step, q.z_step) - inside
        side, norm = q.step * root(inside), root(q.inner(q.z_tilde, q.z_tilde) + q.omega)
        extra = root(inside) + abs(1 - q.step) * root(rest)
        if span:
            side, norm = root(inside + claim["epsilon_1"] ** 2), root(q.inner_inside(q.z, q.z))
    else:
        count = len(q.problem.retained)
        kappa = claim["phi"] * root(count) / root(q.gap(count))
        pull, weight = q.beta_max / min(u for u in q.u if u > 0), q.weight
        if _is_leaky(q):
            pull, weight = leaky.pull(q), leaky.largest_square(q)
        side = extra = q.k * pull * kappa
        norm = root(count / (weight * (1 + claim["psi"] + (count - 1) * claim["phi"])))
    tau, angle = _of_sine(side / norm + margin)
    return Sides(hypotheses, claim["epsilon_1"] + extra, claim["delta_1"], tau, angle)


def _scaling(q: Quantities, instance: bool, hypotheses: list[Check]) -> Sides:
    """epsilon_1/(1-l), (delta_1 + 2 l lambda_max)/(1-l)^2, 0, with l the largest change of a retained margin under the
    step, or k beta_max phi."""
    leak, largest = q.k * q.beta_max * q.claim["phi"], q.beta_max
    if instance:
        changes = q.margins(q.z_step)  # linear in the pre-activations
        leak = functools.reduce(arb.max, [abs(changes[a]) for a in q.problem.retained])
        largest = max(q.d.original.multipliers[a] for a in q.problem.retained)
    hypotheses.append(Check(leak, 1, "the leakage is not below 1", True))
    delta = (q.claim["delta_1"] + 2 * leak * largest) / (1 - leak) ** 2
    return Sides(hypotheses, q.claim["epsilon_1"] / (1 - leak), delta, arb(0), [])


def _coarse(q: Quantities, hypotheses: list[Check], margin: float) -> Sides:
    """The closed forms in e = 4 m n phi, where x = k e/m (linear, Theorem L) or 9 e/m (Theorem R)."""
    m, k, linear = len(q.rows), q.k, not q.problem.kinked
    e, eps, delta = 4 * m * q.n * q.claim["phi"], q.claim["epsilon_1"], q.claim["delta_1"]
    x, off = (k if linear else 9) * e / m, [abs(q.n * u**2 - 1) for u in q.u]
    hypotheses += [
        Check(q.claim["psi"], arb(1) / 10, "psi exceeds 0.1"),
        Check(e, 1, "eps_d exceeds 1"),
        Check(eps, 0.5, "epsilon_1 exceeds 0.5"),
        Check(delta, 0.5, "delta_1 exceeds 0.5"),
        Check(functools.reduce(arb.max, off), WEIGHT_ROOM, "some output weight is not +-1/sqrt(n)"),
        Check(3 * x if linear and k > 1 else x, 1, "eps_d is too large for m", not linear or k <= 1),
    ]
    if linear:
        return Sides(hypotheses, eps / (1 - x), delta / (1 - x) + arb("7.2") * x, arb(0), [])
    slack, tau = arb("22.6") * k * e / m, 82 * k**2 * e / m + arb(margin) ** 2
    return Sides(hypotheses, eps / (1 - x) + 23 * k * e / root(m), delta / (1 - x) + slack, tau, [])


def _coarse_leaky(q: Quantities, hypotheses: list[Check], margin: float) -> Sides:
    """epsilon_1 + 0.48 k a e / sqrt(m), delta_1, 0.31 k^2 a^2 e^2 / (m M) + margin^2 with e = 4 m phi / a."""
    m, k, a, claim = len(q.rows), q.k, q.slope, q.claim
    e, kept = 4 * m * claim["phi"] / a, len(q.problem.retained)
    half = [total(v**2 for v in (row[i] for row in q.v) if v > 0) for i in q.rows]
    off = [abs(part - 0.5) for h in half for part in (h, q.weight - h)]
    tau = arb("0.31") * (k * a * e) ** 2 / (m * kept)
    hypotheses += [
        Check(claim["psi"], arb(1) / 10, "psi exceeds 0.1"),
        Check(e, 1, "eps_d exceeds 1"),
        Check(claim["epsilon_1"], arb(1) / 1000, "epsilon_1 exceeds 0.001"),
        Check(claim["delta_1"], arb(1) / 1000, "delta_1 exceeds 0.001"),
        Check(leaky.most_of(off), WEIGHT_ROOM, "the squares of the output weights of one sign do not sum to 1/2"),
        *leaky.claimed(q).hypotheses,
    ]
    angle = [Check(tau, 1, "tau of the bound is not below 1", True)]
    return Sides(
        hypotheses,
        claim["epsilon_1"] + arb("0.48") * k * a * e / root(m),
        claim["delta_1"],
        tau + arb(margin) ** 2,
        angle,
    )
