"""Both sides of every bound that an adversary may attack, as differentiable functions of an instance.

`TARGETS` holds the bounds by the names `gaunlearn falsify` knows. Source: docs/theory, How tight the bounds are.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

import gaunlearn_jax as ga
from gaunlearn_jax import bounds, dual, numerics
from gaunlearn_jax._types import Reason, Status
from gaunlearn_jax.certificates import Certificate
from verify.check import Check, check, worst
from verify.instances import Instance
from verify.suite import unless
from verify.suites import activations, estimators, multipliers, retrain, step_size

Sides = Callable[[Instance], Check]


class Target(NamedTuple):
    """Both sides of one bound on an instance, the models it speaks of, where it is proved, whether it needs the first
    solve of Q_T, and the certificate and strength of a bound of (epsilon, delta, tau)."""

    sides: Sides
    models: tuple[str, ...]
    source: str
    needs_first: bool = False
    bound: tuple[str, str] | None = None


def bound_of(e: Instance, certificate: Certificate, strength: str, fraction: Any = 1.0) -> bounds.Bound:
    """The bound of a certificate of this fraction of the step."""
    kind, net = certificate.kind, e.net
    if strength == "instance":
        return bounds.instance(net, e.record.data, e.point, e.forget, certificate, fraction)
    linear = net.kind == "linear"
    name = f"{strength}_{'linear' if linear else 'relu'}" + ("_projection" if linear and kind == "projection" else "")
    sizes = {"m": e.m, "k": e.k} | ({} if linear else {"n": net.num_neurons})
    return getattr(ga.bounds, name)(e.record.psi, e.record.phi, *bounds.outward(e.point, certificate), **sizes)


def _success(kind: str, strength: str, quantity: str) -> Sides:
    """epsilon - epsilon_1, delta - delta_1 or tau of a certificate against the same of its bound: with the common
    part left in, any theta of large epsilon_1 would look tight."""

    def sides(e: Instance) -> Check:
        certificate = e.certificates[kind]
        bound = bound_of(e, certificate, strength)
        own = getattr(e.point, quantity, 0.0)
        errors = {"epsilon": "error", "delta": "delta_error", "tau": "tau_error"}
        error = getattr(certificate, errors[quantity]) + getattr(e.point, errors[quantity], 0.0)
        lhs, rhs = getattr(certificate, quantity) - own, getattr(bound, quantity) - own
        return check(lhs, rhs, error, reason=bound.reason, converged=certificate.status == int(Status.OK))

    return sides


def _multipliers(name: str) -> Sides:
    return lambda e: multipliers.lemma_m(e.net, e.record, e.point)[name]  # type: ignore[return-value]


def _near(e: Instance) -> tuple[Certificate, Array, Array]:
    """The projection certificate, the error of distances to theta*, and whether both were solved."""
    near = e.certificates["projection"]
    return near, near.error + e.m * dual.TOL * near.norm, e.retrained[2] & (near.status == int(Status.OK))


def _distance(e: Instance) -> Check:
    near, error, solved = _near(e)
    return check(numerics.norm(near.params - e.retrained[0]), retrain.distance_bound(e), error, converged=solved)


def _retrained_tau(e: Instance) -> Check:
    near, error, solved = _near(e)
    h, _ = ga.unlearn.ascent_direction(e.net, e.record.data, e.point, e.forget)
    best, hat = e.retrained[0], e.point.params - h
    most, sines = retrain.angle_bound(near, hat, retrain.distance_bound(e))
    tau, slip = numerics.one_minus_cos(best, best - hat), error / near.norm
    defined = unless((sines[0] < 1) & (sines[1] < 1), Reason.EMPTY)
    return check(tau, most, 2 * jnp.sqrt(2 * tau) * slip + slip**2, reason=defined, converged=solved)


def _identity(e: Instance, witness: str) -> Check:
    """1 - cos(omega) <= 1 - cos(theta, theta'), theta' the exact solution for T or the projection certificate; or the
    norm lemma B_T <= ||theta*||."""
    near, error, solved = _near(e)
    best = e.retrained[0]
    if witness == "norm":
        return check(e.norm_floor, numerics.norm(best) + 4 * near.error, near.error, converged=solved)
    other, epsilon = (best, 0.0) if witness == "retrained" else (near.params, near.epsilon)
    # the claim is monotone in epsilon', which enters with room for rounding
    least = bounds.identity_gap(e.net, e.record.data, e.point, e.forget, epsilon + 8 * error, e.norm_floor)
    gap, slip = numerics.one_minus_cos(other, other - e.point.params), error / near.norm
    empty = unless(least > 0, Reason.EMPTY)
    return check(least, gap, 2 * slip * jnp.sqrt(2 * gap) + slip**2, reason=empty, converged=solved)


def _estimator(which: int) -> Sides:
    def sides(e: Instance) -> Check:
        near = e.certificates["projection"]
        estimate = ga.estimators.estimate_multipliers(e.net, e.record.data, e.point, e.forget)
        epsilon, _ = bounds.outward(e.point, near)
        side = ga.estimators.estimation_error(e.net, e.record.data, e.point, e.forget, epsilon)[which]
        lam = e.point.multipliers
        slip = 4 * (e.net.num_neurons + e.m + 8) * numerics.EPS * (lam + estimate)
        some = e.forget & jnp.isfinite(side)
        return check(*worst(jnp.abs(estimate - lam), side + 2 * slip, slip, some))

    return sides


def _estimated_epsilon(e: Instance) -> Check:
    """epsilon of the step with estimated multipliers, less epsilon_1, against its bound."""
    exact, parts = e.certificates["projection"], estimators.split(e)
    estimate = ga.estimators.estimate_multipliers(e.net, e.record.data, e.point, e.forget)
    epsilon, _ = bounds.outward(e.point, exact)
    near, _ = ga.estimators.estimation_error(e.net, e.record.data, e.point, e.forget, epsilon)
    got = estimators.with_multipliers(e, estimate)
    error = 2 * (got.error + e.point.error)
    lever = jnp.where(e.forget, near * estimators.effect(e, parts), 0.0)
    defined = unless(jnp.all(jnp.isfinite(near)), Reason.UNDEFINED)
    rhs = epsilon + parts.rho + error + jnp.sum(lever)
    own, solved = e.point.epsilon, exact.status == int(Status.OK)
    return check(got.epsilon - own, rhs - own, error, reason=defined, converged=solved)


def _step(e: Instance, quantity: str) -> Check:
    """The bounds of one fraction c of the step: epsilon and tau of its projection certificate, and the floor under
    epsilon."""
    p = jax.tree.map(lambda v: v[0], step_size.along(e, e.fraction[None])[0])
    own, solved = e.point.epsilon, e.certificates["projection"].status == int(Status.OK)
    if quantity == "epsilon":
        return check(p.epsilon - own, p.upper - own, p.error / 2, converged=solved)
    if quantity == "tau":
        return check(
            p.tau, p.tau_bound, p.tau_error, reason=unless(p.tau_bound < 2, Reason.UNDEFINED), converged=solved
        )
    error = p.error + p.lower_error
    reason = unless(p.lower > 0, Reason.EMPTY)
    return check(p.lower, p.epsilon + 2 * error, error, reason=reason, converged=solved & e.retrained[2])


LINEAR, RELU, BOTH = ("linear",), ("relu",), ("linear", "relu")


def _bounds_of(models: tuple[str, ...], name: str, kind: str, strength: str, source: str, *quantities: str) -> Any:
    return {
        f"{name}/{q}": Target(_success(kind, strength, q), models, source, bound=(kind, strength)) for q in quantities
    }


THREE = ("epsilon", "delta", "tau")
TARGETS: dict[str, Target] = {
    **_bounds_of(LINEAR, "linear/sharp", "scaling", "sharp", "Theorem L", "epsilon", "delta"),
    **_bounds_of(LINEAR, "linear/coarse", "scaling", "coarse", "Coarse forms", "epsilon", "delta"),
    **_bounds_of(LINEAR, "linear/projection", "projection", "sharp", "Theorem L", "epsilon", "tau"),
    **_bounds_of(LINEAR, "linear/instance", "scaling", "instance", "Theorem L", "epsilon", "delta"),
    **_bounds_of(LINEAR, "linear/projection_instance", "projection", "instance", "Theorem P", "epsilon", "tau"),
    **_bounds_of(LINEAR, "linear/span_instance", "span", "instance", "The four certificates", "epsilon", "tau"),
    **_bounds_of(RELU, "relu/sharp", "projection", "sharp", "Theorem R", "epsilon", "tau"),
    **_bounds_of(RELU, "relu/coarse", "projection", "coarse", "Coarse forms", *THREE),
    **_bounds_of(RELU, "relu/instance", "projection", "instance", "Theorem P", "epsilon", "tau"),
    **_bounds_of(RELU, "relu/span_instance", "span", "instance", "The four certificates", "epsilon", "tau"),
    "retrain/distance": Target(_distance, BOTH, "Closeness to the retrained model", True),
    "retrain/tau": Target(_retrained_tau, BOTH, "Closeness to the retrained model", True),
    "identity/retrained": Target(functools.partial(_identity, witness="retrained"), BOTH, "Identity separation", True),
    "identity/separation": Target(
        functools.partial(_identity, witness="projection"), BOTH, "Identity separation", True
    ),
    "identity/norm": Target(functools.partial(_identity, witness="norm"), BOTH, "Norm lemma", True),
    "step_size/epsilon": Target(
        functools.partial(_step, quantity="epsilon"), BOTH, "Step size", True, ("projection", "instance")
    ),
    "step_size/tau": Target(
        functools.partial(_step, quantity="tau"), BOTH, "Step size", True, ("projection", "instance")
    ),
    "step_size/lower": Target(functools.partial(_step, quantity="lower"), BOTH, "Step size", True),
    "estimators/multiplier": Target(_estimator(0), BOTH, "Multiplier estimator"),
    "estimators/coarse": Target(_estimator(1), BOTH, "Multiplier estimator"),
    "estimators/epsilon": Target(_estimated_epsilon, BOTH, "Multiplier estimator"),
    "activations/shift": Target(lambda e: check(*activations.nearest_shift(e)), RELU, "Activation consistency"),
    "multipliers/upper": Target(_multipliers("sharp/upper"), BOTH, "Lemma M"),
    "multipliers/lower": Target(_multipliers("sharp/lower"), BOTH, "Lemma M"),
    "multipliers/margin": Target(_multipliers("instance/margin"), BOTH, "Lemma M"),
}


def select(name: str) -> list[str]:
    """The targets of a claim, or the one target of that name, or "all"; ValueError with the nearest name otherwise."""
    found = [target for target in TARGETS if name in ("all", target, target.split("/")[0])]
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
