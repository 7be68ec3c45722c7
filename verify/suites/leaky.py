"""Leaky networks: one ascent step is successful unlearning, and comes near the retrained network, where that is one."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.codes import Reason, Status
from gaunlearn_jax.theory import bounds, leaky
from gaunlearn_jax.theory.closeness import distance_bound, first_solve
from verify.suites.check import check, exactness
from verify.suites.drawing import bounds_figure
from verify.suites.finding import NOTHING, Explanation, Finding, found, from_dimension, view
from verify.suites.suite import Derived, Evaluation, Results, Suite, bound_of, successes, unless


def evaluate(e: Evaluation) -> Results:
    projection, span = (e.certificates[name] for name in ("projection", "span"))
    out: Results = {}
    for certificate in (projection, span):
        out |= e.success(certificate, e.instance_bound(certificate), "instance")
    for strength in ("sharp", "coarse"):
        out |= e.success(projection, bound_of(e, projection, strength), strength)
    return out | _retrained(e)


def on_pattern(e: Evaluation) -> Array:
    """Whether Theorem LK says of theta that it is active where activity raises a margin, and that the retrained network
    is unique."""
    epsilon, delta = e.point.epsilon + 2 * e.point.error, e.point.delta + 2 * e.point.delta_error
    return leaky.measured(e.problem, epsilon, delta).chi < 1


def _retrained(e: Evaluation) -> Results:
    """The distance from theta~ to the one retrained network; norms of feasible points above the floor, which that
    network attains; and the norm lemma, at any chi."""
    near, star = e.certificates["projection"], e.certificates["retrain"]
    solved = first_solve(e.problem, e.point, e.forget, e.hat, star)
    away = numerics.norm(near.params - star.params, near.orthogonal_norm)
    most, floor, room = distance_bound(e.problem, near, e.forget), e.norm_floor, exactness() * near.norm
    lemma = bounds.norm_floor(e.net, e.record.data, e.forget)
    one = {"reason": unless(on_pattern(e), Reason.DATA), "converged": bounds.converged(near.status, star.status)}
    return {
        "projection/exact/distance": check(
            away, most, near.error + solved.distance_error, **one,
            discriminating=jnp.asarray(numerics.norm(e.point.params - star.params) > most, jnp.float64),
        ),
        "projection/exact/norm": check(floor, near.norm + room, near.error, **one),
        "retrain/exact/norm": check(jnp.abs(floor - star.norm), room, star.error, **one),
        "retrain/lemma/norm": check(lemma, star.norm + room, star.error, converged=star.status == int(Status.OK)),
    }  # fmt: skip


def find(blocks: list[Any], grid: Any) -> Finding:
    """From where the bounds tell the step from doing nothing."""
    seen = view(blocks, "leaky")
    if not seen.dims:
        return NOTHING
    first = {s: from_dimension(seen.telling(f"projection/{s}/tau")) for s in ("sharp", "coarse")}
    where = {s: f"from d = {{{s}:d}}" if d == d else "nowhere" for s, d in first.items()}
    return found(f"excludes doing nothing {where['sharp']} (sharp), {where['coarse']} (coarse)", **first)


SUITE = Suite(
    name="leaky",
    statement="one ascent step on a leaky network is (epsilon, delta, tau)-successful, and near the one retrained",
    source="docs/theory, Leaky networks and Theorem P",
    evaluate=evaluate,
    draw=bounds_figure("leaky", ("projection", "epsilon"), ("projection", "tau")),
    models=("leaky",),
    theorem="LK",
    attacks={
        **successes("sharp", "projection", "sharp", "Leaky networks", "epsilon", "tau"),
        **successes("coarse", "projection", "coarse", "Leaky networks", "epsilon", "tau"),
        **successes("instance", "projection", "instance", "Theorem P", "epsilon", "tau"),
    },
    derived={
        "projection/exact/distance": Derived("retrain/distance", solution=True),
        "projection/exact/norm": Derived("identity/norm", solution=True),
    },
    certified=True,
    find=find,
    explain=Explanation(
        hypotheses="slope 0 < a < 1 below zero, all u_j nonzero, a KKT point up to (epsilon_1, delta_1). Sharp: "
        "squared norms within psi of 1, inner products at most phi, 1 - psi - (m - 1) phi > 0. Coarse: an exact point, "
        "U_+ = U_- = 1/2, psi <= 0.1, 4 m phi <= a. The retrained network and the exact norm: chi < 1",
        meaning="no bound contains the width n; where chi < 1 the network that is really retrained is the one that "
        "the step comes near",
        false_if="a step of another size or sign; a second solution for the retained points; a feasible point below "
        "the norm floor",
    ),
)
