"""What a suite is: a claim, where it comes from, and a function of one shared lane record.

A suite returns named results: `Check` values (judged and tallied) under "certificate/strength/quantity", and plain
arrays (kept for figures, never judged) under any name.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import gaunlearn_jax as ga
from gaunlearn_jax._types import Reason, Status
from gaunlearn_jax.bounds import Bound
from gaunlearn_jax.certificates import Certificate
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models import Network
from verify.check import Check, check
from verify.records import MODELS, THETAS, Record, Shape, both_thetas, forget_set

Results = dict[str, Check | Array]


@dataclasses.dataclass(frozen=True)
class Suite:
    """A claim and the functions that test it; at least one of the first three.

    `evaluate` maps an `Evaluation` (one theta, one forget set) to results; `per_instance` maps (net, record, shape) to
    results. Both are traced, one lane at a time. `per_cell` runs afterwards on the host, in NumPy: it maps (shape, d,
    signal, values of all lanes of that cell) to Checks with a leading axis, for statistical statements. `draw` puts the
    claim's picture on an empty matplotlib figure, given the blocks of a run and its grid. `notes` makes sentences that
    belong under the claim's table from the grid.
    """

    name: str
    statement: str
    source: str
    evaluate: Callable[[Evaluation], Results] | None = None
    per_instance: Callable[[Network, Record, Shape], Results] | None = None
    per_cell: Callable[[Shape, float, float, dict[str, np.ndarray]], Mapping[str, Check]] | None = None
    draw: Callable[[Any, list[Any], Any], None] | None = None
    notes: Callable[[Any], list[str]] | None = None
    models: tuple[str, ...] = MODELS
    thetas: tuple[str, ...] = THETAS
    data_source: str = "gaussian"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One record seen through one theta and one forget set; certificates are made once and shared by all claims."""

    shape: Shape
    net: Network
    record: Record
    point: KKTPoint
    forget: Array
    k: Array

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
    """The function (key, dim, signal) -> {claim: results} of one lane; results of evaluations have leading axes
    [theta, forget size]. One object per argument set, so that it compiles once."""
    per_evaluation = tuple(s for s in suites if s.evaluate is not None)

    def run(key: Array, dim: Array, signal: Array) -> dict[str, Results]:
        net = shape.network()
        record = record_of(key, dim, signal)
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
