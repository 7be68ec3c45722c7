"""Instances that an adversary may choose.

A `Candidate` holds free numbers and discrete choices; `instance` turns it into an exact or approximate KKT point of
data that satisfy A(psi, phi) by construction. The point is solved for by the pattern loop and then solved again on its
own active sets with differentiable operations, so derivatives are those of the implicit function theorem.
Source: docs/theory, How tight the bounds are.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

import gaunlearn_jax as ga
from gaunlearn_jax import dual, kkt, models, numerics
from gaunlearn_jax._types import Status
from gaunlearn_jax.certificates import Certificate
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models import Network
from verify.records import Record, Shape
from verify.suite import Evaluation

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
    multipliers, used where `loose` is 1 (0: an exact KKT point), the fraction of the step (where a bound speaks of it;
    1 + tanh, so from 0 to 2). Choices: labels, pattern of active same-sign pairs,
    forget set. A population has a lane axis in front; its arrays may be NumPy's."""

    off: Any
    diagonal: Any
    stretch: Any
    tilt: Any
    fraction: Any
    labels: Any
    pattern: Any
    forget: Any
    loose: Any


FREE = ("off", "diagonal", "stretch", "tilt", "fraction")


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
    # rounding may carry a pre-activation that is zero but for rounding across zero, where its selection is none
    return lam, c, jnp.where(start.preactivations * z > 0, z, 0.0)


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


@dataclasses.dataclass(frozen=True)
class Instance(Evaluation):
    """The Evaluation of one candidate, with what is differentiable of it: the certificates that the bounds speak of,
    and theta* on the sets of the first solve of Q_T."""

    start: Start
    fraction: Array

    @functools.cached_property
    def certificates(self) -> dict[str, Certificate]:
        kinds = ("projection", "span", "scaling") if self.net.kind == "linear" else ("projection", "span")
        return {kind: ga.certificates.ALL[kind](self.net, self.record.data, self.point, self.forget) for kind in kinds}

    @functools.cached_property
    def retrained(self) -> tuple[Array, Array, Array]:
        """(theta*, lambda*, whether it was solved)."""
        retained, data, first = ~self.forget, self.record.data, self.start.first
        assert first is not None, "this bound needs the first solve of Q_T"
        selection = jnp.where(models.same_sign(self.net, data.labels), self.start.whole.selection, first.selection)
        lam, c, _ = on_sets(self.net, data, first, selection, retained)
        made = self.net.output_weights[:, None] * data.labels * c
        return numerics.matmul(made, data.points), lam, first.status == int(Status.OK)

    @functools.cached_property
    def norm_floor(self) -> Array:
        near = dataclasses.replace(self.certificates["projection"], multipliers=self.retrained[1])
        return ga.bounds.norm_floor(self.net, self.record.data, self.forget, near)


def evaluation(
    space: Space, data: Dataset, forget: Array, start: Start, stretch: Array, tilt: Array, fraction: Any = 1.0
) -> Instance:
    """The Instance with these data, forget set and solutions; `fraction` of the step where a bound speaks of it."""
    net = space.network()
    point = kkt_point(net, data, start.whole, stretch, tilt)
    psi, phi, eps_d = ga.data.assumptions(data, net)
    run: Any = None  # nothing is trained
    nothing = jnp.zeros(2, jnp.uint32)
    record = Record(data, run, point, point, psi, phi, eps_d, jnp.arange(space.m), nothing, nothing)
    shape = Shape(space.model, space.m, space.n)
    return Instance(shape, net, record, point, forget, jnp.sum(forget), start, jnp.asarray(fraction))


def data_of(space: Space, candidate: Candidate) -> Dataset:
    return dataset(points(space, candidate), candidate.labels)


def instance(space: Space, candidate: Candidate, start: Start) -> Instance:
    """The instance of a candidate, solved on the sets of `start`; differentiable in the free numbers."""
    stretch, tilt = (LOOSE * candidate.loose * jnp.tanh(v) for v in (candidate.stretch, candidate.tilt))
    fraction = 1 + jnp.tanh(candidate.fraction)
    return evaluation(space, data_of(space, candidate), candidate.forget, start, stretch, tilt, fraction)


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
