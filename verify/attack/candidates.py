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
from gaunlearn_jax import kkt
from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.codes import Status
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.kkt.newton import solve_on_sets
from gaunlearn_jax.kkt.programme import programme_of
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.models.registry import canonical, lookup, patches
from gaunlearn_jax.theory.closeness import programme_point
from gaunlearn_jax.unlearn.certificates import Certificate
from verify.instances.records import Record, Shape
from verify.suites.suite import Evaluation

#: pre-activations and multipliers of approximate KKT points differ from exact ones by factors up to exp(+-LOOSE)
LOOSE = 0.2
#: keeps measured psi and phi below their limits in spite of rounding
INSIDE = 1 - 2.0**-30


@dataclasses.dataclass(frozen=True)
class Space:
    """The instances to search: model, m points, n neurons (1 where the model has no choice), k forgotten points, phi up
    to eps_d / (4 m n), norms within psi. ValueError unless A(psi, phi) makes every Gram matrix positive definite."""

    model: str = "relu"
    m: int = 6
    n: int = 8
    k: int = 1
    eps_d: float = 1.0
    psi: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", canonical(self.model))
        if not lookup(self.model)[0].neurons:
            object.__setattr__(self, "n", 1)
        elif self.n < 2:
            raise ValueError(f"--neurons {self.n}: at least 2 are needed, one of each sign")
        if self.m < 2:
            raise ValueError(f"--points {self.m}: at least 2 points are needed, one to forget and one to retain")
        if not 1 <= self.k < self.m:
            raise ValueError(f"--forget {self.k} with --points {self.m}: expected 1 <= k < m")
        if not (0 <= self.psi < 1 and self.eps_d > 0 and (self.rows - 1) * self.phi < 1 - self.psi):
            raise ValueError(
                f"eps_d = {self.eps_d:g} with psi = {self.psi:g} allows singular Gram matrices: expected 0 <= psi < 1 "
                f"and 0 < ({self.rows} - 1) eps_d / (4 m n) < 1 - psi; eps_d <= 1 always is for one patch a point"
            )

    @property
    def phi(self) -> float:
        return self.eps_d / (4 * self.m * self.n)

    @property
    def patches(self) -> int:
        """Rows a point."""
        return patches(self.model)

    @property
    def rows(self) -> int:
        """R."""
        return self.m * self.patches

    @property
    def kinds(self) -> int:
        """Neuron j is of kind j mod this: each class, or each sign, needs an active one at its points."""
        return int(getattr(self.network(), "num_classes", 2))

    def network(self) -> Any:
        return Shape(self.model, self.m, self.n).network()


class Candidate(NamedTuple):
    """Free numbers: off [R, R] and diagonal [R] of the Gram matrix, stretch [n, R] of pre-activations and tilt [m] of
    multipliers, used where `loose` is 1 (0: an exact KKT point), the fraction of the step (where a bound speaks of it;
    1 + tanh, so from 0 to 2). Choices: labels, pattern [n, R] of active same-sign
    pairs, forget set. A population has a lane axis in front; its arrays may be NumPy's."""

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
    """X [R, R] with K_ij = phi tanh(off), K_ii = 1 + psi tanh(diagonal), by a Cholesky factorisation."""
    low = jnp.tril(jnp.tanh(candidate.off), -1)
    k = INSIDE * (space.phi * (low + low.T) + space.psi * jnp.diag(jnp.tanh(candidate.diagonal)))
    return cholesky(k + jnp.eye(space.rows))


def cholesky(k: Array) -> Array:
    """Lower triangular L with L L^T = k, by outer products: no LAPACK call inside a batch, differentiable."""
    index = jnp.arange(k.shape[0])

    def column(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        rest, factor = carry
        c = jnp.where(index >= j, rest[:, j], 0.0) / jnp.sqrt(rest[j, j])
        return rest - c[:, None] * c, factor.at[:, j].set(c)

    return lax.fori_loop(0, k.shape[0], column, (k, jnp.zeros_like(k)))[1]


def dataset(x: Array, labels: Array) -> Dataset:
    """Points whose rows (patches) are x, as many for each."""
    count = x.shape[0] // labels.shape[0]
    size, good = jnp.asarray(float(x.shape[1] * count)), jnp.asarray(int(Status.OK))
    return Dataset(x.reshape(labels.shape[0], -1), labels, size, jnp.zeros(()), good, patches=count)


def on_sets(problem: MarginProblem, start: KKTPoint, selection: Array, valid: Array) -> tuple[Array, Array, Array]:
    """(lambda, c, Z) of the programme that `start` solves, on its support, kinks and slopes, differentiable in data."""
    support = valid & (start.multipliers > 0)
    fractional = (selection > problem.slope) & (selection < 1)
    at, live = problem.at_entries(start.preactivations), problem.of_entries(support)
    kink = problem.free & (at == 0) & fractional & live
    slopes = jnp.where(kink | ~problem.of_entries(valid), 0.0, selection)
    ones = jnp.ones(problem.num_constraints)
    programme = programme_of(problem, slopes, kink, ones, valid, ones * jnp.inf)
    lam = jnp.where(support, start.multipliers, 0.0)
    c = jnp.where(kink, selection, slopes) * problem.of_entries(lam)
    lam, c, _ = solve_on_sets(programme.turned(), lam, c.T, slopes.T, kink.T, support)
    lam, c = lam * numerics.OUTWARD, c.T * numerics.OUTWARD
    z = numerics.matmul(problem.by_row(problem.amplitudes * c), problem.gram())
    # rounding may carry a pre-activation that is zero but for rounding across zero, where its selection is none
    return lam, c, jnp.where(start.preactivations * z > 0, z, 0.0)


class Start(NamedTuple):
    """Solutions on whose active sets an instance is solved again: the KKT point that the pattern loop reaches, and the
    first solve of Q_T (where a bound speaks of it)."""

    whole: KKTPoint
    first: KKTPoint | None


def solve(space: Space, needs_first: bool, data: Dataset, pattern: Array, forget: Array) -> Start:
    """Both solutions; not differentiable."""
    problem = space.network().problem(data)
    everyone = jnp.ones(problem.num_constraints, bool)
    # one neuron stands for all rows of a linear model with several classes, which has no pattern
    slopes = jnp.broadcast_to(problem.at_entries(jnp.where(pattern, 1.0, problem.slope)), problem.amplitudes.shape)
    whole = kkt.solve_pattern(problem, slopes, everyone, kkt.MAX_REPEATS)
    return Start(whole, programme_point(problem, whole, forget) if needs_first else None)


def kkt_point(problem: MarginProblem, start: KKTPoint, stretch: Array, tilt: Array) -> KKTPoint:
    """The KKT point on the sets of `start`, pre-activations and multipliers times exp(stretch) and exp(tilt), rescaled
    to margin 1. Kinks and signs, and so the Clarke selection, stay as they are."""
    everyone = jnp.ones(problem.num_constraints, bool)
    lam, c, z = on_sets(problem, start, start.selection, everyone)
    at = problem.of_entries(jnp.where(lam > 0, lam, 1.0))
    # where a kink is nearly none, rounding may carry c out of its interval, where s is no selection
    held = jnp.where(problem.of_entries(start.multipliers) > 0, jnp.clip(c / at, problem.slope, 1.0), start.selection)
    selection = jnp.where((start.selection > problem.slope) & (start.selection < 1), held, start.selection)
    z, lam = z * jnp.exp(stretch), lam * jnp.exp(problem.constraints_of(tilt))
    exact = jnp.all(stretch == 0) & jnp.all(tilt == 0)
    scale = jnp.where(exact, 1.0, jnp.min(problem.margins(z)) / numerics.OUTWARD)
    z, lam = z / scale, lam / scale
    made = problem.coefficients(lam, selection)
    params = kkt.snap(problem, numerics.matmul(made, problem.rows), z)
    got = kkt.measure(problem, params, z, lam, selection, everyone)
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
        # with kinks the scaling certificate is measured afresh, which has no derivative
        kinds = ("projection", "span") if self.problem.kinked else ("projection", "span", "scaling")
        return {kind: ga.certificates.ALL[kind](self.net, self.record.data, self.point, self.forget) for kind in kinds}

    @functools.cached_property
    def retrained(self) -> tuple[Array, Array, Array]:
        """(theta*, lambda*, whether it was solved)."""
        problem, first = self.problem, self.start.first
        assert first is not None, "this bound needs the first solve of Q_T"
        selection = jnp.where(problem.free, first.selection, self.start.whole.selection)
        lam, c, _ = on_sets(problem, first, selection, problem.constraints_of(~self.forget))
        made = problem.by_row(problem.amplitudes * c)
        return numerics.matmul(made, problem.rows), lam, first.status == int(Status.OK)

    @functools.cached_property
    def norm_floor(self) -> Array:
        near = dataclasses.replace(self.certificates["projection"], multipliers=self.retrained[1])
        return ga.bounds.norm_floor(self.net, self.record.data, self.forget, near)


def evaluation(
    space: Space, data: Dataset, forget: Array, start: Start, stretch: Array, tilt: Array, fraction: Any = 1.0
) -> Instance:
    """The Instance with these data, forget set and solutions; `fraction` of the step where a bound speaks of it."""
    net = space.network()
    point = kkt_point(net.problem(data), start.whole, stretch, tilt)
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
    pattern = rng.random((count, space.n, space.rows)) < 0.5
    return {"labels": labels, "pattern": with_one_active(rng, space, pattern), "forget": forget}


def with_one_active(rng: np.random.Generator, space: Space, pattern: np.ndarray) -> np.ndarray:
    """The pattern with one random neuron of each kind made active at every row without one."""
    for kind in range(min(space.kinds, space.n)):
        mine = pattern[:, kind :: space.kinds]
        lucky = np.argmax(rng.random(mine.shape), axis=1)[:, None, :]
        first = np.arange(mine.shape[1])[None, :, None] == lucky
        mine |= first & ~mine.any(axis=1, keepdims=True)
    return pattern
