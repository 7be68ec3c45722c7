"""The four certificates, and the point they start from, against loops in NumPy on an instance made by hand."""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest
import reference as ref
from by_hand import GONE, KEPT, OUTSIDE, Case, close, size

import gaunlearn_jax as ga
from gaunlearn_jax import Status, unlearn


@pytest.fixture(scope="module", params=[0.0, 0.3, 1.0])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def arrays(c: Case) -> tuple[np.ndarray, ...]:
    return c.w, c.z, c.x, c.y, c.u, c.lam, c.s


def same(found: ga.certificates.Certificate, wanted: ref.Certificate, c: Case) -> None:
    close(found.params, wanted.params, rtol=1e-9)
    close(found.preactivations, wanted.preactivations, rtol=1e-9)
    close(found.multipliers, wanted.multipliers)
    close((found.epsilon, found.delta, found.margin), (wanted.epsilon, wanted.delta, wanted.margin), rtol=1e-9)
    close(found.tau, wanted.tau, rtol=1e-8)
    assert np.all(np.asarray(found.multipliers)[GONE] == 0)


def test_a_point_is_measured(case: Case) -> None:
    close(case.point.epsilon, case.epsilon)
    close(case.point.delta, case.delta)
    close(case.point.margin, np.min(case.q))
    assert case.delta > 0.01


def test_the_step(case: Case) -> None:
    after = unlearn.gradient_ascent(case.net, case.data, case.point, case.forget, 0.7, loss="logistic")
    close(after.params, case.w - 0.7 * case.h)
    close(after.preactivations, case.z - 0.7 * case.h @ case.x.T, rtol=1e-9)
    wanted = ref.log_step_size(0.7 * case.lam, case.q, GONE, "logistic")
    # log(-1 / l'(q)) = log(1 + e^q)
    close(np.asarray(after.log_step_size)[GONE], wanted[GONE], rtol=1e-9)
    assert np.all(np.asarray(after.log_step_size)[KEPT] == -np.inf)


@pytest.mark.parametrize("scale", [1.0, 0.4])
def test_projection_and_span(case: Case, scale: float) -> None:
    options = {"scale": scale, "slope": case.slope, "orthogonal": OUTSIDE}
    for make, reference in (
        (ga.certificates.projection, ref.projection_certificate),
        (ga.certificates.span, ref.span_certificate),
    ):
        found = make(case.net, case.data, case.point, case.forget, scale)
        same(found, reference(*arrays(case), GONE, **options), case)
    assert float(found.orthogonal_norm) == 0
    close(found.norm, size(case.w @ case.inside))


@pytest.mark.parametrize("lift", [0.2, 1.0])
def test_scaling_of_a_linear_model(lift: float) -> None:
    """theta_hat over its least retained margin, or over 1 where that is more."""
    c = Case(1.0)
    c.w, c.z, c.lam = lift * c.w, lift * c.z, 0.1 * c.lam
    point = dataclasses.replace(
        c.point, params=jnp.asarray(c.w), preactivations=jnp.asarray(c.z), multipliers=jnp.asarray(c.lam),
        orthogonal_norm=jnp.asarray(0.0),
    )  # fmt: skip
    wanted = ref.scaling_certificate_linear(c.w, c.x, c.y, c.lam, GONE)
    least = min(c.y[i] * (c.w - c.made(GONE))[0] @ c.x[i] for i in KEPT)
    assert (least > 1) == (lift == 1)
    same(ga.certificates.scaling(c.net, c.data, point, c.forget), wanted, c)
    back = ga.certificates.scaling(
        c.net, c.data, dataclasses.replace(point, preactivations=-point.preactivations), c.forget
    )
    assert int(back.status) == Status.INFEASIBLE


def test_tau_counts_what_is_dropped_outside_the_span(case: Case) -> None:
    """The angle between theta_hat and P theta, the first with a part that no point sees."""
    found = ga.certificates.span(case.net, case.data, case.point, case.forget)
    hat, inside = case.w - case.h, case.w @ case.inside
    cos = np.sum(hat * inside) / (math.hypot(size(hat), OUTSIDE) * size(inside))
    close(found.tau, 1 - cos, rtol=1e-8)
