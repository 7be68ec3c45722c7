"""Right-hand sides of the theorems, in three strengths, and the verdict of a comparison.

instance: from this instance's rho, multipliers and Gram matrix. Worst case sharp and coarse: from psi, phi, epsilon_1,
delta_1, m, n, k alone. A worst-case function is elementwise in its array arguments (docs/theory, Bounds).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gaunlearn_jax import checks, models, numerics, unlearn
from gaunlearn_jax._types import Mask, Numbers, Reason, Scalar, Status, Verdict, Whole
from gaunlearn_jax.certificates import Certificate
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.show import Shown

PSI_MAX, EPS_D_MAX, APPROXIMATION_MAX = 0.1, 1.0, 0.5


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class Bound(Shown):
    """(epsilon, delta, tau) that a theorem promises; `reason` is a `Reason` code, APPLIES where it promises them."""

    epsilon: Float[Array, "..."]
    delta: Float[Array, "..."]
    tau: Float[Array, "..."]
    reason: Int[Array, "..."]

    @property
    def applicable(self) -> Bool[Array, "..."] | Bool[np.ndarray, "..."]:
        """Whether every hypothesis of the bound holds."""
        return self.reason == Reason.APPLIES


def first_failing(*conditions: tuple[Array | np.ndarray | bool, Reason]) -> Int[Array, "..."]:
    """The reason of the first condition that is false, APPLIES if none is."""
    reason = jnp.asarray(int(Reason.APPLIES))
    for holds, code in reversed(conditions):
        reason = jnp.where(holds, reason, int(code))
    return reason


def _bound(epsilon: Any, delta: Any, tau: Any, reason: Array) -> Bound:
    """A Bound whose parts have one common shape."""
    return Bound(*jnp.broadcast_arrays(*map(jnp.asarray, (epsilon, delta, tau, reason))))


def multiplier_bounds(
    psi: Numbers, phi: Numbers, epsilon: Numbers, delta: Numbers, *, m: int
) -> tuple[Array, Array, Array]:
    """Lemma M: (lower, upper, defined) for beta_i = lambda_i sum_j u_j^2 s_ji (linear: lambda_i).

    upper = (B + sqrt(B^2 + 4 A delta_1)) / (2 A), A = 1 - psi - (m-1) phi > 0, B = 1 + epsilon_1 sqrt(1 - psi);
    lower = (1 - (m-1) phi upper - epsilon_1 sqrt(1 + psi)) / (1 + psi). Source: docs/theory, Lemma M.

    >>> lower, upper, defined = multiplier_bounds(0.0, 0.01, 0.0, 0.0, m=10)
    >>> print(f"{lower:.4f} {upper:.4f} {defined}")
    0.9011 1.0989 True
    """
    psi, phi, epsilon = jnp.asarray(psi), jnp.asarray(phi), jnp.asarray(epsilon)
    a = 1.0 - psi - (m - 1) * phi
    defined = a > 0
    safe = jnp.where(defined, a, 1.0)
    b = 1.0 + epsilon * jnp.sqrt(jnp.maximum(1.0 - psi, 0.0))
    upper = (b + jnp.sqrt(b**2 + 4 * safe * delta)) / (2 * safe)
    lower = (1.0 - (m - 1) * phi * upper - epsilon * jnp.sqrt(1.0 + psi)) / (1.0 + psi)
    return lower, upper, defined


def sharp_relu(
    psi: Numbers, phi: Numbers, epsilon: Numbers, delta: Numbers, *, m: int, n: int, k: Whole,
    weight_floor: Numbers | None = None,
) -> Bound:  # fmt: skip
    """Theorem R: epsilon_1 + rho, delta_1, 1 - sqrt(1 - (rho / B)^2) with rho = k beta_max kappa / sqrt(u_min^2),
    kappa = phi sqrt(M) / sqrt(1 - psi - (M-1) phi), B^2 = M / (1 + psi + (M-1) phi), M = m - k.

    `weight_floor` is u_min^2 (default 1/n). Hypotheses: psi <= 0.1, 4 m n phi <= 1, epsilon_1, delta_1 <= 1/2.
    Source: docs/theory, Theorem R.

    >>> sharp_relu(0.0, 1e-4, 0.0, 0.0, m=10, n=40, k=1)
    Bound(epsilon=0.0019, delta=0, tau=2.007e-07, reason=every hypothesis holds)
    """
    floor = 1.0 / n if weight_floor is None else weight_floor
    return _sharp(psi, phi, epsilon, delta, 4.0 * m * n * jnp.asarray(phi), 1.0 / jnp.sqrt(floor), m, k)


def sharp_linear_projection(psi: Numbers, phi: Numbers, epsilon: Numbers, delta: Numbers, *, m: int, k: Whole) -> Bound:
    """Theorem P for linear models in worst-case form: as `sharp_relu` with n = 1, hypothesis 4 m phi <= 1."""
    return _sharp(psi, phi, epsilon, delta, 4.0 * m * jnp.asarray(phi), 1.0, m, k)


def _sharp(
    psi: Numbers, phi: Numbers, epsilon: Numbers, delta: Numbers, eps_d: Array, gain: Any, m: int, k: Whole
) -> Bound:
    retained = m - jnp.asarray(k)
    _, beta, defined = multiplier_bounds(psi, phi, epsilon, delta, m=m)
    inner = 1.0 - psi - (retained - 1) * phi
    kappa = phi * jnp.sqrt(retained) / jnp.sqrt(jnp.where(inner > 0, inner, 1.0))
    rho = k * beta * gain * kappa
    smallest = jnp.sqrt(retained / (1.0 + psi + (retained - 1) * phi))
    tau = numerics.one_minus_cos_of_sine(rho / smallest)
    reason = first_failing(*_hypotheses(psi, eps_d, epsilon, delta), (defined & (inner > 0), Reason.UNDEFINED))
    return _bound(epsilon + rho, delta, tau, reason)


def coarse_relu(psi: Numbers, phi: Numbers, epsilon: Numbers, delta: Numbers, *, m: int, n: int, k: Whole) -> Bound:
    """The coarse form for networks, a corollary of Theorem R with the shape of the paper's Theorem 4.1 (k = 1).

    With e = 4 m n phi: epsilon_1 + 9 e epsilon_1/(m - 9 e) + 23 k e/sqrt(m),
    delta_1 + 9 e delta_1/(m - 9 e) + 22.6 k e/m, tau = 82 k^2 e/m. Undefined where 9 e >= m.
    Source: docs/theory, Theorem R.
    """
    e = 4.0 * m * n * jnp.asarray(phi)
    room = m - 9 * e
    grow = 9 * e / jnp.where(room > 0, room, 1.0)
    reason = first_failing(*_hypotheses(psi, e, epsilon, delta), (room > 0, Reason.UNDEFINED))
    return _bound(
        epsilon * (1 + grow) + 23 * k * e / jnp.sqrt(float(m)),
        delta * (1 + grow) + 22.6 * k * e / m,
        82 * jnp.asarray(k) ** 2 * e / m,
        reason,
    )


def sharp_linear(psi: Numbers, phi: Numbers, epsilon: Numbers, delta: Numbers, *, m: int, k: Whole) -> Bound:
    """Theorem L (scaling certificate, tau = 0) from Lemma M: leakage l = k beta_max phi < 1,
    epsilon_1/(1 - l), (delta_1 + 2 l beta_max)/(1 - l)^2. Source: docs/theory, Theorem L."""
    _, beta, defined = multiplier_bounds(psi, phi, epsilon, delta, m=m)
    bound = _leakage_bound(k * beta * phi, beta, epsilon, delta)
    reason = first_failing(
        *_hypotheses(psi, 4.0 * m * jnp.asarray(phi), epsilon, delta),
        (defined, Reason.UNDEFINED),
        (bound.applicable, Reason.LEAKAGE),
    )
    return dataclasses.replace(bound, reason=reason)


def coarse_linear(psi: Numbers, phi: Numbers, epsilon: Numbers, delta: Numbers, *, m: int, k: Whole) -> Bound:
    """The coarse form for linear models, a corollary of Theorem L with the shape of the paper's Theorem 3.1 (k = 1).

    With e = 4 m phi: epsilon_1 + epsilon_1 k e/(m - k e), delta_1 + delta_1 k e/(m - k e) + 7.2 k e/m, tau = 0.
    Proved for k = 1 and wherever 3 k e <= m. Source: docs/theory, Theorem L.
    """
    e = 4.0 * m * jnp.asarray(phi)
    leak = jnp.asarray(k) * e
    grow = leak / jnp.where(m > leak, m - leak, 1.0)
    proved = (jnp.asarray(k) == 1) | (3 * leak <= m)
    reason = first_failing(*_hypotheses(psi, e, epsilon, delta), (proved & (m > leak), Reason.UNDEFINED))
    zero = jnp.zeros_like(grow)
    return _bound(epsilon * (1 + grow), delta * (1 + grow) + 7.2 * leak / m, zero, reason)


def instance(
    net: models.Network,
    data: Dataset,
    point: KKTPoint,
    forget: Mask,
    certificate: Certificate,
    scale: Scalar = 1.0,
) -> Bound:
    """The bound of the certificate's own theorem from this instance's quantities.

    projection (Theorem P): ||e|| + rho + |1-c| rho_perp, delta_1, angle from c rho / ||theta_tilde||.
    span: ||e|| + rho, delta_1, angle from sqrt(rho^2 + ||(I-P)e||^2) (c = 1).
    scaling (linear, Theorem L): leakage max_T |sum_R lambda_r y_r K_ri|. Networks, and `certificates.retrain`: nothing
    is promised here (reason MODEL). epsilon_1, delta_1 enter as `outward` values.
    Source: docs/theory, Theorem P and Theorem L.
    """
    epsilon, delta = outward(point, certificate)
    if certificate.kind == "scaling" and net.kind == "linear":
        _, h_z = unlearn.ascent_direction(net, data, point, forget)
        leakage = scale * jnp.max(jnp.where(forget, 0.0, jnp.abs(h_z[0])))
        top = jnp.max(jnp.where(forget, 0.0, point.multipliers))
        return _leakage_bound(leakage, top, epsilon, delta)
    if certificate.kind not in ("projection", "span"):
        nothing = jnp.asarray(jnp.inf)
        return _bound(nothing, nothing, nothing, jnp.asarray(int(Reason.MODEL)))
    h, _ = unlearn.ascent_direction(net, data, point, forget)
    basis = numerics.orthonormal_basis(data.points, ~forget)
    inside = numerics.project(h, basis)
    rho, rho_perp = numerics.norm(inside), numerics.norm(h - inside)
    off = abs(1 - jnp.asarray(scale)) * rho_perp
    sine = scale * rho
    if certificate.kind == "span":
        sine = jnp.sqrt(rho**2 + jnp.asarray(epsilon) ** 2) + off
        off = jnp.zeros(())
    # both sides are equal in exact arithmetic: the sine, too, enters with room for the rounding of tau
    tau = numerics.one_minus_cos_of_sine((sine + 4 * certificate.error) / certificate.norm)
    return _bound(epsilon + rho + off, delta, tau, first_failing((tau < 2, Reason.UNDEFINED)))


def outward(point: KKTPoint, certificate: Certificate) -> tuple[Array, Array]:
    """(epsilon_1, delta_1) with a margin of twice the rounding of both sides. Being an approximate KKT point is
    monotone in both, so a bound may use them; several bounds are equalities in exact arithmetic."""
    return (
        point.epsilon + 2 * (point.error + certificate.error),
        point.delta + 2 * (point.delta_error + certificate.delta_error),
    )


def mark_empty(bound: Bound, trivial_epsilon: Array) -> Bound:
    """EMPTY where the bound allows what a feasible point without multipliers attains (||theta_tilde||), or tau >= 2."""
    says = (bound.epsilon < trivial_epsilon) & (bound.tau < 2)
    return dataclasses.replace(bound, reason=jnp.where(bound.applicable & ~says, int(Reason.EMPTY), bound.reason))


@jax.jit
def norm_floor(net: models.Network, data: Dataset, forget: Mask, retrained: Certificate | None = None) -> Array:
    """A lower bound on ||theta'|| over all theta' that are feasible for the retained points.

    Norm lemma: ||theta'||^2 >= sum_+- M_+- / (U_+- lambda_max(K_T+-)) for networks, M / lambda_max(K_T) in general; for
    linear models the hard-margin dual value of the retrained multipliers, which is exact.
    Source: docs/theory, Norm lemma.
    """
    if net.kind == "linear" and retrained is not None:
        lam = jnp.where(forget, 0.0, retrained.multipliers)
        w = numerics.matmul((data.labels * lam)[None, :], data.points)
        return jnp.sqrt(jnp.maximum(2 * jnp.sum(lam) - jnp.sum(w**2), 0.0))
    k = numerics.gram(data.points)

    def share(members: Array, weight: Array | float) -> Array:
        count = jnp.sum(members)
        top = numerics.top_eigenvalue(jnp.where(members[:, None] & members, k, 0.0))
        return jnp.where(count > 0, count / (weight * jnp.where(top > 0, top, 1.0)), 0.0)

    if net.kind != "relu":
        return jnp.sqrt(share(~forget, jnp.sum(net.output_weights**2)))
    squares = net.output_weights**2
    plus = jnp.sum(jnp.where(net.output_weights > 0, squares, 0.0))
    minus = jnp.sum(jnp.where(net.output_weights < 0, squares, 0.0))
    return jnp.sqrt(share(~forget & (data.labels > 0), plus) + share(~forget & (data.labels < 0), minus))


@jax.jit
def identity_gap(
    net: models.Network, data: Dataset, point: KKTPoint, forget: Mask, epsilon: Scalar, floor: Array
) -> Array:
    """Lower bound on 1 - cos(theta, theta') over every (epsilon, .)-KKT point theta' of the retained problem.

    angle >= alpha - arcsin(min(1, epsilon / floor)), alpha the angle between theta and the retained points' span. A
    bound (epsilon, delta, tau) with tau below it discriminates: doing nothing provably fails it.
    Source: docs/theory, Identity separation.
    """
    inside = numerics.project(point.params, numerics.orthonormal_basis(data.points, ~forget))
    off = numerics.norm(point.params - inside, point.orthogonal_norm)
    alpha = jnp.arcsin(jnp.clip(off / numerics.norm(point.params, point.orthogonal_norm), 0.0, 1.0))
    angle = jnp.maximum(0.0, alpha - jnp.arcsin(jnp.clip(epsilon / floor, 0.0, 1.0)))
    return 2 * jnp.sin(angle / 2) ** 2


def judge(lhs: Numbers, rhs: Numbers, error: Numbers, applicable: Any, converged: Any) -> Int[Array, "..."]:
    """Verdict code of lhs <= rhs given the error of the difference; NaN counts as unconverged."""
    lhs, rhs = jnp.asarray(lhs), jnp.asarray(rhs)
    verdict = jnp.where(
        lhs <= rhs - error,
        int(Verdict.HOLDS),
        jnp.where(lhs > rhs + error, int(Verdict.VIOLATED), int(Verdict.INCONCLUSIVE)),
    )
    solved = jnp.asarray(converged) & ~(jnp.isnan(lhs) | jnp.isnan(rhs))
    verdict = jnp.where(solved, verdict, int(Verdict.UNCONVERGED))
    return jnp.where(applicable, verdict, jnp.where(converged, int(Verdict.NOT_APPLICABLE), int(Verdict.UNCONVERGED)))


def is_standard(net: models.Network) -> bool | Array:
    """Whether every |u_j| = 1/sqrt(n), as lines with numeric constants assume."""
    u = net.output_weights
    return (
        bool(np.allclose(np.abs(np.asarray(u)), u.shape[0] ** -0.5, rtol=1e-12, atol=0))
        if not checks.is_traced(u)
        else jnp.all(jnp.abs(jnp.abs(u) * u.shape[0] ** 0.5 - 1) < 1e-12)
    )


def converged(*statuses: Array) -> Bool[Array, "..."]:
    """Whether every status is OK (a trained network's own NOT_SEPARATED is reported by its suite)."""
    good = jnp.asarray(True)
    for status in statuses:
        good = good & (status == int(Status.OK))
    return good


def _hypotheses(psi: Numbers, eps_d: Numbers, epsilon: Numbers, delta: Numbers) -> tuple[tuple[Array, Reason], ...]:
    return (
        (jnp.asarray(psi) <= PSI_MAX, Reason.NORMS),
        (jnp.asarray(eps_d) <= EPS_D_MAX, Reason.CORRELATION),
        (jnp.asarray(epsilon) <= APPROXIMATION_MAX, Reason.STATIONARITY),
        (jnp.asarray(delta) <= APPROXIMATION_MAX, Reason.SLACKNESS),
    )


def _leakage_bound(leakage: Numbers, top: Numbers, epsilon: Numbers, delta: Numbers) -> Bound:
    """Theorem L for a given leakage l and largest multiplier: epsilon/(1-l), (delta + 2 l top)/(1-l)^2, tau = 0."""
    leakage = jnp.asarray(leakage)
    room = jnp.where(leakage < 1, 1 - leakage, 1.0)
    zero = jnp.zeros_like(leakage)
    return _bound(
        epsilon / room, (delta + 2 * leakage * top) / room**2, zero, first_failing((leakage < 1, Reason.LEAKAGE))
    )
