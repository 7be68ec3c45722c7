"""Two claims of one's own about the linear model: a conjecture that is false, and the bound that replaces it.

gaunlearn run --claims-from examples/my_claim.py             # finds the conjecture violated: exit code 1
gaunlearn run --claims-from examples/my_claim.py leakage     # the repaired bound alone: exit code 0
"""

from __future__ import annotations

import jax.numpy as jnp

import gaunlearn_jax as ga
from verify.suites.check import check
from verify.suites.finding import found, view
from verify.suites.suite import Evaluation, Results, Suite


def conjecture(e: Evaluation) -> Results:
    """epsilon <= phi: what the step leaves behind is at most the largest inner product of two points."""
    certificate = e.certificates["projection"]
    return {"projection/conjectured/epsilon": check(certificate.epsilon, e.record.phi, certificate.error)}


def leakage(e: Evaluation) -> Results:
    """epsilon <= epsilon_1 + lambda_r phi sqrt((m - 1) / (1 - psi - (m - 2) phi)) for one forgotten point r.

    The part of x_r in the span of the m - 1 retained points has squared norm b^T G^-1 b with |b_i| <= phi, and the
    smallest eigenvalue of their Gram matrix G is at least 1 - psi - (m - 2) phi.
    """
    certificate, phi, m = e.certificates["projection"], e.record.phi, e.m
    smallest = 1 - e.record.psi - (m - 2) * phi
    lam = jnp.sum(jnp.where(e.forget, e.point.multipliers, 0.0))
    bound = e.point.epsilon + lam * phi * jnp.sqrt((m - 1) / jnp.where(smallest > 0, smallest, 1.0))
    reason = ga.bounds.first_failing((e.k == 1, ga.Reason.FORGET_SIZE), (smallest > 0, ga.Reason.UNDEFINED))
    error = certificate.error + e.point.error
    return {"projection/worst_case/epsilon": check(certificate.epsilon, bound, error, reason=reason)}


def find(blocks, grid):
    """How loose the repaired bound is, in the lowest and in the highest dimension."""
    seen = view(blocks, "leakage")  # exact KKT points, first size of the forget set
    name = "projection/worst_case/epsilon"
    low, top = seen.room(name, seen.low), seen.room(name, seen.top)
    text = "the bound is {low} times the measured at d = {first:d}, {top} times at {last:d}"
    return found(text, "one forgotten point", low=low, first=seen.low, top=top, last=seen.top)


CONJECTURE = Suite(
    name="conjecture",
    statement="the step leaves a stationarity error of at most phi, the largest inner product",
    source="a guess: for two points it is nearly true",
    evaluate=conjecture,
    models=("linear",),
)

LEAKAGE = Suite(
    name="leakage",
    statement="the step on one point leaves at most epsilon_1 + lambda_r phi sqrt((m - 1) / (1 - psi - (m - 2) phi))",
    source="the docstring of `leakage`",
    evaluate=leakage,
    models=("linear",),
    find=find,
)
