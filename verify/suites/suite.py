"""What a suite is: a claim, where it comes from, and a function of one shared lane record.

A suite returns named results: `Check` values (judged and tallied) under "certificate/strength/quantity", and plain
arrays (kept for figures, never judged) under any name.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import gaunlearn_jax as ga
from gaunlearn_jax.base.codes import Reason, Status
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.models.registry import ARCHITECTURES, lookup
from gaunlearn_jax.theory import classes, closeness, entries
from gaunlearn_jax.theory.bound import Bound
from gaunlearn_jax.theory.closeness import FirstSolve
from gaunlearn_jax.unlearn.certificates import Certificate
from verify.instances.grid import Grid
from verify.instances.records import THETAS, Cell, Record, Shape, both_thetas, forget_set
from verify.suites.check import Check, check
from verify.suites.finding import Explanation, Finding

Results = dict[str, Check | Array]
#: the architectures of a run that names none
DEFAULT_MODELS = ("linear", "relu")
#: those of several patches or classes, of which Theorem P and what rests on it speak
FURTHER_MODELS = ("convolution", "classes_relu")


class Attack(NamedTuple):
    """What an adversary may attack: `sides` maps an instance of it (an `Evaluation` with `retrained`, `fraction`) to a
    Check; `source` is where it is proved; `needs_first` whether it speaks of the first solve of Q_T; `bound` the
    certificate and strength of a bound of (epsilon, delta, tau), whose file states that; `models` those it speaks of
    (None: those of the claim); `part_of_step` whether it speaks of a fraction of the step."""

    sides: Callable[[Any], Check]
    source: str
    needs_first: bool = False
    bound: tuple[str, str] | None = None
    models: tuple[str, ...] | None = None
    part_of_step: bool = False


class Table(NamedTuple):
    """A table of a run: a title, the heads of its columns, rows of text, and sentences that belong under it."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    sentences: tuple[str, ...] = ()


class Derived(NamedTuple):
    """The inequality of the exact checker that a row is, the certificate in its file, and whether the file needs the
    solution of Q_T."""

    inequality: str
    certificate: str = "projection"
    solution: bool = False


@dataclasses.dataclass(frozen=True)
class Suite:
    """A claim and the functions that test it; at least one of the first three.

    `evaluate` maps an `Evaluation` (one theta, one forget set) to results; `per_instance` maps (net, record, shape) to
    results. Both are traced, one lane at a time. `per_cell` runs afterwards on the host, in NumPy: it maps (shape,
    cell, values of all lanes of that cell) to Checks with a leading axis, for statistical statements. `draw` puts the
    claim's picture on an empty matplotlib figure, given the blocks of a run and its grid. `notes` makes sentences that
    belong under the claim's table from the grid, `tables` tables of its own from the blocks and the grid, `find` the
    one sentence that a run prints of it (without: a sentence made of its tallies). `explain` is for readers.

    `models` and `data_source` are those of a run that names none, `further` the models that a large one adds; `others`
    says that such a run puts the claim to the small grid of other sources instead (`instances.grid.OTHERS`). The claim
    speaks of every model that has its `theorem` ("": of every model), and of data from `sources` (none: from any).
    `attacks` is what an adversary may try, `derived` what the checker can derive of its rows by
    "certificate/strength/quantity"; `certified` says that its Checks are the epsilon, delta and tau of a certificate
    against a bound that the checker knows. `default` says whether a run that names no claim includes it; the large grid
    (--full) does in any case.
    """

    name: str
    statement: str
    source: str
    evaluate: Callable[[Evaluation], Results] | None = None
    per_instance: Callable[[Any, Record, Shape], Results] | None = None
    per_cell: Callable[[Shape, Cell, dict[str, np.ndarray]], Mapping[str, Check]] | None = None
    draw: Callable[[Any, list[Any], Any], None] | None = None
    notes: Callable[[Any], list[str]] | None = None
    tables: Callable[[list[Any], Any], tuple[Table, ...]] | None = None
    find: Callable[[list[Any], Any], Finding] | None = None
    explain: Explanation | None = None
    models: tuple[str, ...] = DEFAULT_MODELS
    further: tuple[str, ...] = ()
    theorem: str = ""
    thetas: tuple[str, ...] = THETAS
    data_source: str = "gaussian"
    others: bool = False
    sources: tuple[str, ...] = ()
    attacks: Mapping[str, Attack] = dataclasses.field(default_factory=dict, hash=False)
    derived: Mapping[str, Derived] = dataclasses.field(default_factory=dict, hash=False)
    certified: bool = False
    default: bool = True

    def speaks_of(self, model: str) -> bool:
        """Whether the claim is about this model."""
        row = lookup(model)[0]
        return model in self.models or row.name in self.models or not self.theorem or self.theorem in row.theorems

    def models_in(self, grid: Grid) -> tuple[str, ...]:
        """The models of a run; ValueError where the grid names some and the claim speaks of none of them."""
        if grid.models is None:
            return self.models + (self.further if grid.wide else ())
        found = tuple(model for model in grid.models if self.speaks_of(model))
        if not found:
            raise ValueError(
                f"claim {self.name} does not speak of {', '.join(grid.models)} (it needs Theorem {self.theorem}); "
                f"it speaks of {', '.join(row.name for row in ARCHITECTURES if self.speaks_of(row.name))}"
            )
        return found

    def sources_in(self, grid: Grid) -> tuple[str, ...]:
        """The sources of a run; ValueError where the grid names some and the claim speaks of none of them."""
        names = grid.source_names()
        if names is None:
            return grid.others if self.others else (self.data_source,)
        found = tuple(name for name in names if not self.sources or name in self.sources)
        if not found:
            known = ", ".join(self.sources)
            raise ValueError(f"claim {self.name} does not speak of data from {', '.join(names)}; it speaks of {known}")
        return found


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One record seen through one theta and one forget set; certificates are made once and shared by all claims."""

    shape: Shape
    net: Any
    record: Record
    point: KKTPoint
    forget: Array
    k: Array

    @functools.cached_property
    def problem(self) -> MarginProblem:
        """The margin problem of all points."""
        return self.net.problem(self.record.data)

    @functools.cached_property
    def hat(self) -> Array:
        """theta_hat = theta - h: params of the theorem's step."""
        return self.point.params - ga.unlearn.ascent_direction(self.problem, self.point, self.forget)[0]

    @functools.cached_property
    def first(self) -> FirstSolve:
        """The first solve of Q_T, made once and shared by all claims. Without kinks it is the hard-margin problem,
        which the retrain certificate has solved."""
        solved = None if self.problem.kinked else self.certificates["retrain"]
        return closeness.first_solve(self.problem, self.point, self.forget, self.hat, solved)

    @functools.cached_property
    def certificates(self) -> dict[str, Certificate]:
        args = (self.net, self.record.data, self.point, self.forget)
        return {name: make(*args) for name, make in ga.certificates.ALL.items()}

    @functools.cached_property
    def norm_floor(self) -> Array:
        return ga.bounds.norm_floor(self.net, self.record.data, self.forget, self.certificates["retrain"])

    @property
    def m(self) -> int:
        return self.record.data.num_points

    def instance_bound(self, certificate: Certificate) -> Bound:
        return ga.bounds.instance(self.net, self.record.data, self.point, self.forget, certificate)

    def success(self, certificate: Certificate, bound: Bound, strength: str) -> Results:
        """Checks of epsilon, delta and tau of a certificate against one bound."""
        bound = ga.bounds.mark_empty(bound, certificate.norm)
        gap = ga.bounds.identity_gap(
            self.net, self.record.data, self.point, self.forget, bound.epsilon, self.norm_floor
        )
        common = {
            "reason": bound.reason,
            "converged": certificate.status == int(Status.OK),
            "discriminating": jnp.asarray(gap > bound.tau, jnp.float64),
        }
        sides = {
            "epsilon": (certificate.epsilon, bound.epsilon, certificate.error),
            "delta": (certificate.delta, bound.delta, certificate.delta_error),
            "tau": (certificate.tau, bound.tau, certificate.tau_error),
        }
        return {f"{certificate.kind}/{strength}/{name}": check(*side, **common) for name, side in sides.items()}


@functools.lru_cache(maxsize=64)
def lane(
    shape: Shape, suites: tuple[Suite, ...], sizes: tuple[int, ...], record_of: Callable[..., Record]
) -> Callable[..., dict[str, Results]]:
    """The function (key, dim, parameters) -> {claim: results} of one lane; results of evaluations have leading axes
    [theta, forget size]. One object per argument set, so that it compiles once."""
    per_evaluation = tuple(s for s in suites if s.evaluate is not None)

    def run(key: Array, dim: Array, parameters: dict[str, Array]) -> dict[str, Results]:
        net = shape.network()
        record = record_of(key, dim, parameters)
        out: dict[str, Results] = {
            s.name: named(s, s.per_instance(net, record, shape)) for s in suites if s.per_instance is not None
        }
        if per_evaluation:
            ks = jnp.asarray(sizes)

            def evaluate(point: KKTPoint, k: Array) -> dict[str, Results]:
                e = Evaluation(shape, net, record, point, forget_set(record, k), k)
                return {s.name: named(s, s.evaluate(e)) for s in per_evaluation if s.evaluate is not None}

            out |= jax.vmap(jax.vmap(evaluate, (None, 0)), (0, None))(both_thetas(record), ks)
        return out

    return run


def named(suite: Suite, results: Results) -> Results:
    """The results, if they are what a suite returns; ValueError otherwise."""
    if not isinstance(results, dict):
        raise ValueError(f"claim {suite.name} returned {type(results).__name__}, expected a dict of named results")
    for name, value in results.items():
        if not isinstance(name, str) or "|" in name or (isinstance(value, Check) and name.count("/") != 2):
            raise ValueError(f"claim {suite.name}: result {name!r}, expected a name 'certificate/strength/quantity'")
        if not isinstance(value, Check | jax.Array | np.ndarray):
            raise ValueError(f"claim {suite.name}: result {name!r} is {type(value).__name__}, expected check(...)")
    return results


def unless(condition: Any, reason: Reason) -> Array:
    """APPLIES where the condition holds, the reason elsewhere."""
    return ga.bounds.first_failing((condition, reason))


def of_both_thetas(record: Record, make: Callable[[KKTPoint], Results]) -> Results:
    """The results of `make` for each theta of a record: Checks under "theta/name", arrays under "name_theta"."""
    stacked = jax.vmap(make)(both_thetas(record))
    out: Results = {}
    for t, theta in enumerate(THETAS):
        for name, value in stacked.items():
            one = jax.tree.map(lambda v, t=t: v[t], value)
            out[f"{theta}/{name}" if isinstance(one, Check) else f"{name}_{theta}"] = one
    return out


def successes(name: str, kind: str, strength: str, source: str, *quantities: str) -> dict[str, Attack]:
    """Attacks on a bound: epsilon - epsilon_1, delta - delta_1 or tau of a certificate against the same of the bound.

    With the common part left in, any theta of large epsilon_1 would look tight.
    """
    return {
        f"{name}/{q}": Attack(functools.partial(_success, kind, strength, q), source, bound=(kind, strength))
        for q in quantities
    }


def bound_of(e: Any, certificate: Certificate, strength: str, fraction: Any = 1.0) -> Bound:
    """The bound of a certificate of this fraction of the step."""
    if strength == "scale_free":
        return ga.bounds.scale_free(e.problem, e.forget, *ga.bounds.outward(e.point, certificate))
    if strength == "spaces":
        floor, near = ga.bounds.norm_floor(e.net, e.record.data, e.forget), ga.bounds.outward(e.point, certificate)
        return entries.spaces(entries.lemma(e.problem, e.point), floor, *near, k=e.k)
    if strength == "instance":
        return ga.bounds.instance(e.net, e.record.data, e.point, e.forget, certificate, fraction)
    measured = (e.record.psi, e.record.phi, *ga.bounds.outward(e.point, certificate))
    if isinstance(e.net, ga.models.ClassNetwork):
        formula = {"sharp": classes.sharp_classes, "coarse": classes.coarse_classes}[strength]
        return formula(*measured, m=e.m, k=e.k, classes=e.net.num_classes)
    return ga.bounds.worst_case(e.problem, certificate.kind, strength, *measured, m=e.m, k=e.k)


def _success(kind: str, strength: str, quantity: str, e: Any) -> Check:
    certificate = e.certificates[kind]
    bound = bound_of(e, certificate, strength)
    own = getattr(e.point, quantity, 0.0)
    errors = {"epsilon": "error", "delta": "delta_error", "tau": "tau_error"}
    error = getattr(certificate, errors[quantity]) + getattr(e.point, errors[quantity], 0.0)
    lhs, rhs = getattr(certificate, quantity) - own, getattr(bound, quantity) - own
    return check(lhs, rhs, error, reason=bound.reason, converged=certificate.status == int(Status.OK))
