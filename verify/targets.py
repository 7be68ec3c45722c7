"""Instances that an adversary may choose, and both sides of every bound as differentiable functions of them.

A `Candidate` holds free numbers and discrete choices; `instance` turns it into an exact or approximate KKT point of
data that satisfy A(psi, phi) by construction. The point is solved for by the pattern loop and then solved again on its
own active sets with differentiable operations, so derivatives are those of the implicit function theorem.
`TARGETS` holds the bounds. Source: docs/theory, How tight the bounds are.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

import gaunlearn_jax as ga
from gaunlearn_jax import bounds, dual, kkt, models, numerics
from gaunlearn_jax._types import Reason, Status
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models import Network
from verify.check import Check, check, worst
from verify.records import Record, Shape
from verify.suite import Evaluation, unless
from verify.suites import activations, multipliers, retrain

#: pre-activations and multipliers of approximate KKT points differ from exact ones by factors up to exp(+-LOOSE)
LOOSE = 0.2
#: keeps measured psi and phi below their limits in spite of rounding
INSIDE = 1 - 2.0**-30


@dataclasses.dataclass(frozen=True)
class Space:
    """The instances to search: model, m points, n neurons (1 for linear), k forgotten points, phi up to
    eps_d / (4 m n), norms within psi. ValueError unless A(psi, phi) makes every Gram matrix positive definite."""

    model: str = "relu"
    m: int = 6
    n: int = 8
    k: int = 1
    eps_d: float = 1.0
    psi: float = 0.1

    def __post_init__(self) -> None:
        if self.model == "linear":
            object.__setattr__(self, "n", 1)
        elif self.n < 2:
            raise ValueError(f"--neurons {self.n}: at least 2 are needed, one of each sign")
        if self.m < 2:
            raise ValueError(f"--points {self.m}: at least 2 points are needed, one to forget and one to retain")
        if not 1 <= self.k < self.m:
            raise ValueError(f"--forget {self.k} with --points {self.m}: expected 1 <= k < m")
        if not (0 <= self.psi < 1 and self.eps_d > 0 and (self.m - 1) * self.phi < 1 - self.psi):
            raise ValueError(
                f"eps_d = {self.eps_d:g} with psi = {self.psi:g} allows singular Gram matrices: expected 0 <= psi < 1 "
                "and 0 < (m - 1) eps_d / (4 m n) < 1 - psi; eps_d <= 1 always is"
            )

    @property
    def phi(self) -> float:
        return self.eps_d / (4 * self.m * self.n)

    def network(self) -> Network:
        return Shape(self.model, self.m, self.n).network()


class Candidate(NamedTuple):
    """Free numbers: off [m, m] and diagonal [m] of the Gram matrix, stretch [n, m] of pre-activations and tilt [m] of
    multipliers, used where `loose` is 1 (0: an exact KKT point). Choices: labels, pattern of active same-sign pairs,
    forget set. A population has a lane axis in front; its arrays may be NumPy's."""

    off: Any
    diagonal: Any
    stretch: Any
    tilt: Any
    labels: Any
    pattern: Any
    forget: Any
    loose: Any


FREE = ("off", "diagonal", "stretch", "tilt")


def points(space: Space, candidate: Candidate) -> Array:
    """X [m, m] with K_ij = phi tanh(off), K_ii = 1 + psi tanh(diagonal), by a Cholesky factorisation."""
    low = jnp.tril(jnp.tanh(candidate.off), -1)
    k = INSIDE * (space.phi * (low + low.T) + space.psi * jnp.diag(jnp.tanh(candidate.diagonal)))
    return cholesky(k + jnp.eye(space.m))


def cholesky(k: Array) -> Array:
    """Lower triangular L with L L^T = k, by outer products: no LAPACK call inside a batch, differentiable."""
    index = jnp.arange(k.shape[0])

    def column(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        rest, factor = carry
        c = jnp.where(index >= j, rest[:, j], 0.0) / jnp.sqrt(rest[j, j])
        return rest - c[:, None] * c, factor.at[:, j].set(c)

    return lax.fori_loop(0, k.shape[0], column, (k, jnp.zeros_like(k)))[1]


def dataset(x: Array, labels: Array) -> Dataset:
    return Dataset(x, labels, jnp.asarray(float(x.shape[1])), jnp.zeros(()), jnp.asarray(int(Status.OK)))


def on_sets(net: Network, data: Dataset, start: KKTPoint, selection: Array, retained: Array) -> tuple[Array, ...]:
    """(lambda, c, Z) of the programme that `start` solves, on its support, kinks and slopes, differentiable in data."""
    same = models.same_sign(net, data.labels)
    support = retained & (start.multipliers > 0)
    fractional = (selection > net.negative_slope) & (selection < 1)
    kink = ~same & (start.preactivations == 0) & fractional & support & (net.negative_slope < 1)
    slopes = jnp.where(kink | ~retained, 0.0, selection)
    signs = data.labels[:, None] * data.labels
    programme = dual.Programme(
        gram=signs * numerics.gram(data.points), weights=net.output_weights**2, fixed=slopes, free=kink,
        target=jnp.ones(data.num_points), valid=retained, cap=jnp.full(data.num_points, jnp.inf),
        slope=net.negative_slope,
    )  # fmt: skip
    lam = jnp.where(support, start.multipliers, 0.0)
    c = jnp.where(kink, selection, slopes) * lam
    lam, c = dual.solve_on_sets(programme, lam, c, slopes, kink, support)
    lam, c = lam * numerics.OUTWARD, c * numerics.OUTWARD
    q = net.output_weights[:, None] * data.labels * c
    z = numerics.matmul(q, numerics.gram(data.points))
    return lam, c, jnp.where(start.preactivations == 0, 0.0, z)


class Start(NamedTuple):
    """Solutions on whose active sets an instance is solved again: the KKT point that the pattern loop reaches, and the
    first solve of Q_T (where a bound speaks of it)."""

    whole: KKTPoint
    first: KKTPoint | None


def solve(space: Space, needs_first: bool, data: Dataset, pattern: Array, forget: Array) -> Start:
    """Both solutions; not differentiable."""
    net, everyone = space.network(), jnp.ones(space.m, bool)
    slopes = jnp.where(pattern, 1.0, net.negative_slope)
    whole = kkt.solve_pattern(net, data, slopes, everyone, kkt.MAX_REPEATS)
    return Start(whole, kkt.solve_pattern(net, data, whole.selection, ~forget, 0) if needs_first else None)


def kkt_point(net: Network, data: Dataset, start: KKTPoint, stretch: Array, tilt: Array) -> KKTPoint:
    """The KKT point on the sets of `start`, pre-activations and multipliers times exp(stretch) and exp(tilt), rescaled
    to margin 1. Kinks and signs, and so the Clarke selection, stay as they are."""
    everyone = jnp.ones(data.num_points, bool)
    lam, c, z = on_sets(net, data, start, start.selection, everyone)
    held = jnp.where(start.multipliers > 0, c / jnp.where(lam > 0, lam, 1.0), start.selection)
    selection = jnp.where((start.selection > net.negative_slope) & (start.selection < 1), held, start.selection)
    z, lam = z * jnp.exp(stretch), lam * jnp.exp(tilt)
    exact = jnp.all(stretch == 0) & jnp.all(tilt == 0)
    scale = jnp.where(exact, 1.0, jnp.min(models.margins(net, data.labels, z)) / numerics.OUTWARD)
    z, lam = z / scale, lam / scale
    made = models.coefficients(net, data.labels, lam, selection)
    params = kkt.snap(data.points, numerics.matmul(made, data.points), z)
    got = kkt.measure(net, data, params, z, lam, selection, everyone)
    return dataclasses.replace(
        start, params=params, preactivations=z, multipliers=lam, selection=selection, epsilon=got.epsilon,
        delta=got.delta, margin=got.margin, error=got.error, delta_error=got.delta_error, scale=scale,
    )  # fmt: skip


def evaluation(space: Space, data: Dataset, forget: Array, start: Start, stretch: Array, tilt: Array) -> Evaluation:
    """The Evaluation of one instance, with the certificates that the bounds speak of."""
    net = space.network()
    point = kkt_point(net, data, start.whole, stretch, tilt)
    psi, phi, eps_d = ga.data.assumptions(data, net)
    run: Any = None  # nothing is trained
    nothing = jnp.zeros(2, jnp.uint32)
    record = Record(data, run, point, point, psi, phi, eps_d, jnp.arange(space.m), nothing, nothing)
    e = Evaluation(Shape(space.model, space.m, space.n), net, record, point, forget, jnp.sum(forget))
    kinds = ("projection", "scaling") if space.model == "linear" else ("projection",)
    e.__dict__["certificates"] = {kind: ga.certificates.ALL[kind](net, data, point, forget) for kind in kinds}
    e.__dict__["start"] = start
    return e


def data_of(space: Space, candidate: Candidate) -> Dataset:
    return dataset(points(space, candidate), candidate.labels)


def instance(space: Space, candidate: Candidate, start: Start) -> Evaluation:
    """The instance of a candidate, solved on the sets of `start`; differentiable in the free numbers."""
    stretch, tilt = (LOOSE * candidate.loose * jnp.tanh(v) for v in (candidate.stretch, candidate.tilt))
    return evaluation(space, data_of(space, candidate), candidate.forget, start, stretch, tilt)


# --- the bounds ---------------------------------------------------------------------------------------


def _success(kind: str, bound_of: Callable[..., Any], quantity: str) -> Callable[[Evaluation], Check]:
    """epsilon - epsilon_1, delta - delta_1 or tau of a certificate against the same of its bound: with the common
    part left in, any theta of large epsilon_1 would look tight."""

    def sides(e: Evaluation) -> Check:
        certificate = e.certificates[kind]
        first = dict(zip(("epsilon", "delta"), bounds.outward(e.point, certificate), strict=True))
        n = {"n": e.net.num_neurons} if e.net.kind != "linear" else {}
        bound = bound_of(e.record.psi, e.record.phi, first["epsilon"], first["delta"], m=e.m, k=e.k, **n)
        own = getattr(e.point, quantity, 0.0)
        errors = {"epsilon": "error", "delta": "delta_error", "tau": "tau_error"}
        error = getattr(certificate, errors[quantity]) + getattr(e.point, errors[quantity], 0.0)
        lhs, rhs = getattr(certificate, quantity) - own, getattr(bound, quantity) - own
        return check(lhs, rhs, error, reason=bound.reason, converged=certificate.status == int(Status.OK))

    return sides


def _multipliers(name: str) -> Callable[[Evaluation], Check]:
    return lambda e: multipliers.lemma_m(e.net, e.record, e.point)[name]  # type: ignore[return-value]


def _retrained(e: Evaluation) -> tuple[Array, Array, Array]:
    """(theta*, lambda*, whether it was solved) of the first solve of Q_T, differentiable."""
    retained, data, start = ~e.forget, e.record.data, e.__dict__["start"]
    first = start.first
    selection = jnp.where(models.same_sign(e.net, data.labels), start.whole.selection, first.selection)
    lam, c, _ = on_sets(e.net, data, first, selection, retained)
    made = e.net.output_weights[:, None] * data.labels * c
    return numerics.matmul(made, data.points), lam, first.status == int(Status.OK)


def _distance(e: Evaluation) -> Check:
    near = e.certificates["projection"]
    best, _, solved = _retrained(e)
    most = retrain.distance_bound(e)
    error = near.error + e.m * dual.TOL * near.norm
    return check(numerics.norm(near.params - best), most, error, converged=solved & (near.status == int(Status.OK)))


def _identity(e: Evaluation, witness: str) -> Check:
    """1 - cos(omega) <= 1 - cos(theta, theta'), theta' the exact solution for T or the projection certificate; or the
    norm lemma B_T <= ||theta*||."""
    near = e.certificates["projection"]
    best, lam, solved = _retrained(e)
    solved = solved & (near.status == int(Status.OK))
    floor = bounds.norm_floor(e.net, e.record.data, e.forget, dataclasses.replace(near, multipliers=lam))
    if witness == "norm":
        size = numerics.norm(best)
        return check(floor, size + 4 * near.error, near.error, converged=solved)
    other, epsilon = (best, 0.0) if witness == "retrained" else (near.params, near.epsilon)
    # the claim is monotone in epsilon', which enters with room for rounding
    outward = epsilon + 8 * (near.error + e.m * dual.TOL * near.norm)
    least = bounds.identity_gap(e.net, e.record.data, e.point, e.forget, outward, floor)
    gap = numerics.one_minus_cos(other, other - e.point.params)
    slip = (near.error + e.m * dual.TOL * near.norm) / near.norm
    empty = unless(least > 0, Reason.EMPTY)
    return check(least, gap, 2 * slip * jnp.sqrt(2 * gap) + slip**2, reason=empty, converged=solved)


def _shift(e: Evaluation) -> Check:
    shift = jnp.abs(ga.unlearn.ascent_direction(e.net, e.record.data, e.point, e.forget)[1])
    slack = 4 * (e.m + 8) * numerics.EPS
    bound = jnp.broadcast_to(activations.shift_bound(e, e.record.phi + slack), shift.shape)
    error = activations.shift_bound(e, jnp.asarray(slack / 2))
    return check(*worst(shift, bound, jnp.broadcast_to(error, shift.shape), ~e.forget & (bound > 0)))


def _estimator(which: int) -> Callable[[Evaluation], Check]:
    def sides(e: Evaluation) -> Check:
        near = e.certificates["projection"]
        estimate = ga.estimators.estimate_multipliers(e.net, e.record.data, e.point, e.forget)
        epsilon, _ = bounds.outward(e.point, near)
        side = ga.estimators.estimation_error(e.net, e.record.data, e.point, e.forget, epsilon)[which]
        lam = e.point.multipliers
        slip = 4 * (e.net.num_neurons + e.m + 8) * numerics.EPS * (lam + estimate)
        some = e.forget & jnp.isfinite(side)
        return check(*worst(jnp.abs(estimate - lam), side + 2 * slip, slip, some))

    return sides


class Target(NamedTuple):
    """Both sides of one bound on an instance, the models it speaks of, where it is proved, whether it needs the first
    solve of Q_T."""

    sides: Callable[[Evaluation], Check]
    models: tuple[str, ...]
    source: str
    needs_first: bool = False


LINEAR, RELU, BOTH = ("linear",), ("relu",), ("linear", "relu")
TARGETS: dict[str, Target] = {
    "linear/sharp/epsilon": Target(_success("scaling", bounds.sharp_linear, "epsilon"), LINEAR, "Theorem L"),
    "linear/sharp/delta": Target(_success("scaling", bounds.sharp_linear, "delta"), LINEAR, "Theorem L"),
    "linear/coarse/epsilon": Target(_success("scaling", bounds.coarse_linear, "epsilon"), LINEAR, "Coarse forms"),
    "linear/coarse/delta": Target(_success("scaling", bounds.coarse_linear, "delta"), LINEAR, "Coarse forms"),
    "linear/projection/epsilon": Target(
        _success("projection", bounds.sharp_linear_projection, "epsilon"), LINEAR, "Theorem L"
    ),
    "linear/projection/tau": Target(_success("projection", bounds.sharp_linear_projection, "tau"), LINEAR, "Theorem L"),
    "relu/sharp/epsilon": Target(_success("projection", bounds.sharp_relu, "epsilon"), RELU, "Theorem R"),
    "relu/sharp/tau": Target(_success("projection", bounds.sharp_relu, "tau"), RELU, "Theorem R"),
    "relu/coarse/epsilon": Target(_success("projection", bounds.coarse_relu, "epsilon"), RELU, "Coarse forms"),
    "relu/coarse/delta": Target(_success("projection", bounds.coarse_relu, "delta"), RELU, "Coarse forms"),
    "relu/coarse/tau": Target(_success("projection", bounds.coarse_relu, "tau"), RELU, "Coarse forms"),
    "retrain/distance": Target(_distance, BOTH, "Closeness to the retrained model", True),
    "identity/retrained": Target(functools.partial(_identity, witness="retrained"), BOTH, "Identity separation", True),
    "identity/projection": Target(
        functools.partial(_identity, witness="projection"), BOTH, "Identity separation", True
    ),
    "identity/norm": Target(functools.partial(_identity, witness="norm"), BOTH, "Norm lemma", True),
    "estimators/multiplier": Target(_estimator(0), BOTH, "Multiplier estimator"),
    "estimators/coarse": Target(_estimator(1), BOTH, "Multiplier estimator"),
    "activations/shift": Target(_shift, RELU, "Activation consistency"),
    "multipliers/upper": Target(_multipliers("sharp/upper"), BOTH, "Lemma M"),
    "multipliers/lower": Target(_multipliers("sharp/lower"), BOTH, "Lemma M"),
}


def select(name: str) -> list[str]:
    """The targets of a claim, or the one target of that name; ValueError with the nearest name otherwise."""
    found = [target for target in TARGETS if name in (target, target.split("/")[0])]
    if not found:
        known = list(dict.fromkeys(target.split("/")[0] for target in TARGETS))
        near = difflib.get_close_matches(name, [*known, *TARGETS], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"no bound to falsify under {name!r}{hint} Known: {', '.join(known)}, or {', '.join(TARGETS)}")
    return found


def names_of(model: str) -> list[str]:
    """The targets that speak of a model."""
    return [name for name, target in TARGETS.items() if model in target.models]


def ratio(sides: Check) -> Array:
    """lhs/rhs where the bound applies and its right-hand side is far above rounding, 0 elsewhere."""
    good = (sides.reason == int(Reason.APPLIES)) & sides.converged & (sides.rhs > 1e4 * sides.error) & (sides.rhs > 0)
    return jnp.where(good, sides.lhs / jnp.where(good, sides.rhs, 1.0), 0.0)


def random_choices(rng: np.random.Generator, space: Space, count: int) -> dict[str, np.ndarray]:
    """Labels with both classes, activation patterns and forget sets of `count` lanes, uniform."""
    labels = np.where(rng.random((count, space.m)) < 0.5, 1.0, -1.0)
    labels[:, 0] = -labels[:, 1]
    order = np.argsort(rng.random((count, space.m)), axis=1)
    labels, forget = np.take_along_axis(labels, order, axis=1), np.argsort(rng.random((count, space.m)), 1) < space.k
    pattern = rng.random((count, space.n, space.m)) < 0.5
    return {"labels": labels, "pattern": with_one_active(rng, pattern), "forget": forget}


def with_one_active(rng: np.random.Generator, pattern: np.ndarray) -> np.ndarray:
    """The pattern with one random neuron of each sign made active at every point without one."""
    for sign in (0, 1) if pattern.shape[1] > 1 else (0,):
        mine = pattern[:, sign::2]
        lucky = np.argmax(rng.random(mine.shape), axis=1)[:, None, :]
        first = np.arange(mine.shape[1])[None, :, None] == lucky
        mine |= first & ~mine.any(axis=1, keepdims=True)
    return pattern
