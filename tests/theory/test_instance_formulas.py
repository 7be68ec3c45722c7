"""Bounds, floors and balls of one instance against loops in NumPy."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import reference as ref
from by_hand import GONE, KEPT, OUTSIDE, WEIGHTS, Case, close, gap_of_sine, size

import gaunlearn_jax as ga
from gaunlearn_jax import Reason, kkt
from gaunlearn_jax.models.problem import Layout, MarginProblem
from gaunlearn_jax.theory import closeness


@pytest.fixture(scope="module", params=[0.0, 0.3, 1.0])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@pytest.fixture(scope="module")
def relu() -> Case:
    return Case(0.0)


# --- instance bounds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 0.6, 1.3])
def test_the_projection_bound(case: Case, scale: float) -> None:
    """epsilon_1 + |P h| + |1 - c| |(I - P) h|, delta_1, the angle with sine c |P h| / |theta~|."""
    certificate = ga.certificates.projection(case.net, case.data, case.point, case.forget, scale)
    found = ga.bounds.instance(case.net, case.data, case.point, case.forget, certificate, scale)
    ph = case.h @ case.inside
    tilde = case.w - scale * (case.h - ph)
    close(found.epsilon, case.epsilon + size(ph) + abs(1 - scale) * size(case.h - ph))
    close(found.delta, case.delta)
    close(found.tau, gap_of_sine(scale * size(ph) / size(tilde, OUTSIDE)), rtol=1e-9)


def test_the_span_bound(case: Case) -> None:
    """epsilon_1 + |P h|, delta_1, sine sqrt(|P h|^2 + epsilon_1^2) / |P theta|: all of e is lost in the angle."""
    certificate = ga.certificates.span(case.net, case.data, case.point, case.forget)
    found = ga.bounds.instance(case.net, case.data, case.point, case.forget, certificate)
    rho, norm = size(case.h @ case.inside), size(case.w @ case.inside)
    close(found.epsilon, case.epsilon + rho)
    close(found.delta, case.delta)
    sine = math.hypot(rho, case.epsilon) / norm
    close(found.tau, gap_of_sine(sine) if sine < 1 else 2.0, rtol=1e-9)
    # e alone would tell: the angle without it is another one
    assert abs(sine - rho / norm) > 0.05


def test_the_span_bound_below_a_right_angle() -> None:
    """The same with a smaller residual, so that its angle is a number for every slope."""
    for slope in WEIGHTS:
        c = Case(slope)
        c.w = c.made(range(6)) + 0.1 * c.e
        close_to = kkt.measured_point(
            c.problem, jnp.asarray(c.w), jnp.asarray(c.z), jnp.asarray(c.lam), jnp.asarray(c.s), jnp.ones(6, bool),
            orthogonal_norm=0.1,
        )  # fmt: skip
        certificate = ga.certificates.span(c.net, c.data, close_to, c.forget)
        found = ga.bounds.instance(c.net, c.data, close_to, c.forget, certificate)
        lost = math.hypot(size(c.h @ c.inside), math.hypot(0.1 * size(c.e), 0.1))
        sine = lost / size(c.w @ c.inside)
        assert 0.1 < sine < 0.95
        close(found.tau, gap_of_sine(sine), rtol=1e-9)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_the_scaling_bound(scale: float) -> None:
    """epsilon_1 / (1 - l), (delta_1 + 2 l max_T lambda) / (1 - l)^2, l = c max_T |sum_R lambda_r y_r K_ri|."""
    c = Case(1.0)
    assert int(np.argmax(c.lam)) in GONE  # so that the largest of all is another number
    small = dataclasses.replace(c.point, multipliers=c.point.multipliers * 0.2)
    certificate = ga.certificates.scaling(c.net, c.data, small, c.forget, scale)
    found = ga.bounds.instance(c.net, c.data, small, c.forget, certificate, scale)
    leak = scale * max(abs(sum(0.2 * c.lam[r] * c.y[r] * c.k[r, i] for r in GONE)) for i in KEPT)
    assert 0 < leak < 1
    close(found.epsilon, c.epsilon / (1 - leak))
    close(found.delta, (c.delta + 2 * leak * 0.2 * max(c.lam[KEPT])) / (1 - leak) ** 2)
    assert float(found.tau) == 0


def test_nothing_is_promised_elsewhere(relu: Case) -> None:
    certificate = ga.certificates.projection(relu.net, relu.data, relu.point, relu.forget)
    for kind in ("scaling", "retrain"):
        other = dataclasses.replace(certificate, kind=kind)
        found = ga.bounds.instance(relu.net, relu.data, relu.point, relu.forget, other)
        assert int(found.reason) == Reason.MODEL


# --- floors -----------------------------------------------------------------------------------------------------


def test_the_norm_floor_of_an_unbalanced_network(relu: Case) -> None:
    """sum over classes of M_+- / (U_+- lambda_max(K_T+-)): U_+ = 0.7825 for points 0 and 3, U_- = 0.2 for 2 and 5."""
    square = 0.0
    for points, mass in (([0, 3], 0.7**2 + 0.3**2 + 0.45**2), ([2, 5], 0.4**2 + 0.2**2)):
        square += 2 / (mass * np.linalg.eigvalsh(relu.k[np.ix_(points, points)])[-1])
    assert square == pytest.approx(ref.norm_floor_sq(relu.k, relu.y, relu.u, KEPT), rel=1e-12)
    close(ga.bounds.norm_floor(relu.net, relu.data, relu.forget), math.sqrt(square), rtol=1e-8)


def test_the_norm_floor_with_a_slope() -> None:
    """One group: sum_i 1 / (U_own + slope^2 U_other) over lambda_max of all retained points."""
    c = Case(0.3)
    plus, minus = 0.7**2 + 0.3**2 + 0.45**2, 0.4**2 + 0.2**2
    each = {1.0: 1 / (plus + 0.09 * minus), -1.0: 1 / (minus + 0.09 * plus)}
    square = sum(each[c.y[i]] for i in KEPT) / np.linalg.eigvalsh(c.k[np.ix_(KEPT, KEPT)])[-1]
    close(ga.bounds.norm_floor(c.net, c.data, c.forget), math.sqrt(square), rtol=1e-8)


def test_the_norm_floor_where_theorem_lk_knows_the_solution() -> None:
    """2 sum_T lambda - |sum_T lambda_i y_i g_i|^2, g_i active where u_j y_i > 0, whatever the multipliers, if chi < 1;
    if chi > 1 the norm lemma alone."""
    net = ga.models.TwoLayerLeakyReLU(output_weights=[0.7, -0.4, 0.3], negative_slope=0.3)
    unjitted, y, kept = ga.bounds.norm_floor.__wrapped__, np.array([1.0, -1.0, 1.0, -1.0]), [1, 2, 3]
    for off, one in ((0.02, True), (0.05, False)):
        k = np.eye(4) + off * (1 - np.eye(4))
        x = np.linalg.cholesky(k)
        data = ga.data.from_points(x, y)
        forget = ga.data.forget_mask(data, [0])
        for factor in (1.0, 0.6):
            lam = factor * np.array([0.0, 4.7, 1.6, 4.6])
            w = np.zeros((3, 4))
            for i in kept:
                for j, u in enumerate((0.7, -0.4, 0.3)):
                    w[j] += lam[i] * y[i] * u * (1.0 if u * y[i] > 0 else 0.3) * np.asarray(data.points)[i]
            exact = 2 * sum(lam[kept]) - np.sum(w**2)
            lemma = (1 / (0.58 + 0.09 * 0.16) + 2 / (0.16 + 0.09 * 0.58)) / np.linalg.eigvalsh(k[1:, 1:])[-1]
            found = unjitted(net, data, forget, SimpleNamespace(multipliers=jnp.asarray(lam)))
            close(found, math.sqrt(max(exact, lemma) if one else lemma), rtol=1e-8)
            assert (exact > lemma) == (factor == 1)


def test_the_norm_floor_of_a_linear_model_is_the_dual_value() -> None:
    """2 sum_T lambda - |sum_T lambda_i y_i x_i|^2, whatever the multipliers; without them the norm lemma."""
    c = Case(1.0)
    lam = 0.2 * c.lam
    w = sum(lam[i] * c.y[i] * c.x[i] for i in KEPT)
    solved = dataclasses.replace(c.point, multipliers=jnp.asarray(lam))
    floor = ga.bounds.norm_floor(c.net, c.data, c.forget, solved)
    close(floor, math.sqrt(2 * sum(lam[KEPT]) - w @ w), rtol=1e-9)
    square = 4 / np.linalg.eigvalsh(c.k[np.ix_(KEPT, KEPT)])[-1]
    close(ga.bounds.norm_floor(c.net, c.data, c.forget), math.sqrt(square), rtol=1e-8)


class Patches:
    """A model with two rows and two constraints a point; a static argument of what is compiled."""

    def __init__(self, problem: MarginProblem) -> None:
        self.made = problem

    def problem(self, _: Any) -> MarginProblem:
        return self.made


def test_the_norm_floor_of_several_constraints_a_point() -> None:
    """Each point counts by its best constraint: max_a 1/c_a, c_a = sum_e sum_j max(v, 0)^2 + slope^2 max(-v, 0)^2."""
    rng = np.random.default_rng(3)
    rows, v, slope = rng.standard_normal((4, 5)), rng.standard_normal((3, 6)), 0.4
    layout = Layout(
        row=(0, 1, 0, 2, 3, 3), constraint=(0, 0, 1, 2, 2, 3), point_of_row=(0, 0, 1, 1),
        point_of_constraint=(0, 0, 1, 1),
    )  # fmt: skip
    problem = MarginProblem(jnp.asarray(rows), jnp.asarray(v), jnp.zeros(4, int), 1, slope, layout)
    data = ga.data.from_points(rng.standard_normal((2, 5)), [1, -1])
    helping = [sum(max(a, -slope * a) ** 2 for a in v[:, e]) for e in range(6)]
    best = max(1 / (helping[3] + helping[4]), 1 / helping[5])
    square = best / np.linalg.eigvalsh(rows[2:] @ rows[2:].T)[-1]
    unjitted = ga.bounds.norm_floor.__wrapped__
    close(unjitted(Patches(problem), data, ga.data.forget_mask(data, [0])), math.sqrt(square), rtol=1e-8)


@pytest.mark.parametrize("epsilon", [0.01, 0.3])
def test_the_identity_gap(case: Case, epsilon: float) -> None:
    """1 - cos(max(0, alpha - arcsin(epsilon / B))), alpha with the part of theta outside every point's span."""
    alpha = math.atan2(size(case.w - case.w @ case.inside, OUTSIDE), size(case.w @ case.inside))
    floor = 1.7
    found = ga.bounds.identity_gap(case.net, case.data, case.point, case.forget, epsilon, jnp.asarray(floor))
    wanted = max(0.0, alpha - math.asin(epsilon / floor))
    assert wanted > 0.1
    close(found, 1 - math.cos(wanted))
    at_least = ga.bounds.identity_gap(case.net, case.data, case.point, case.forget, 9.0, jnp.asarray(floor))
    assert float(at_least) == 0


# --- closeness and the ball -------------------------------------------------------------------------------------


def test_the_distance_bound(case: Case) -> None:
    """(e~ + sqrt(e~^2 + 4 Sigma)) / 2, Sigma = sum_T lambda_i (q_i - 1)."""
    scale = 1.05 / np.min(case.q[KEPT])
    assert scale > 0
    z, w = case.z * scale, case.w * scale
    point = kkt.measured_point(
        case.problem, jnp.asarray(w), jnp.asarray(z), case.point.multipliers, case.point.selection, jnp.ones(6, bool),
        orthogonal_norm=OUTSIDE,
    )  # fmt: skip
    near = ga.certificates.projection(case.net, case.data, point, case.forget)
    excess = sum(case.lam[i] * (scale * case.q[i] - 1) for i in KEPT)
    tilde = size(w - case.made(range(6)) + case.h @ case.inside, OUTSIDE)
    found = closeness.distance_bound(case.problem, near, case.forget)
    close(found, (tilde + math.sqrt(tilde**2 + 4 * excess)) / 2, rtol=1e-9)
    hat = w - case.h
    norm = size(w - case.h + case.h @ case.inside, OUTSIDE)
    gap, sines = closeness.angle_bound(near, jnp.asarray(hat), jnp.asarray(0.3))
    close(sines, (size(case.h @ case.inside) / norm, 0.3 / norm), rtol=1e-9)
    close(gap, 1 - math.cos(math.asin(size(case.h @ case.inside) / norm) + math.asin(0.3 / norm)), rtol=1e-9)


def test_the_ball(case: Case) -> None:
    """Centre (theta_L + theta~) / 2, radius^2 = |theta~ - theta_L|^2 / 4 + sum_T lambda (<g, theta~> - 1) where the
    margins are at least 1; the distance and the angle of another model from them."""
    rng = np.random.default_rng(8)
    w = case.helpful(0.7 if case.slope == 1 else 4.0) + 0.05 * rng.standard_normal(case.w.shape)
    z = w @ case.x.T
    concave, linear = [], []
    for i in KEPT:
        v = case.u * case.y[i]
        bent = np.where((v < 0) & (case.slope < 1), np.maximum(z[:, i], case.slope * z[:, i]), case.s[:, i] * z[:, i])
        concave.append(float(v @ bent))
        linear.append(float(v @ (case.s[:, i] * z[:, i])))
    shrink = min(1.0, *concave)
    assert 0 < shrink < 1
    ball = ga.closeness.ball(
        case.net, case.data, jnp.asarray(w), case.point.multipliers, case.point.selection, case.forget,
        orthogonal_norm=OUTSIDE,
    )  # fmt: skip
    assert int(ball.reason) == Reason.APPLIES
    near, origin = w / shrink, case.made(KEPT)
    slack = sum(case.lam[i] * max(value / shrink - 1, 0.0) for i, value in zip(KEPT, linear, strict=True))
    outside = OUTSIDE / shrink / 2
    radius = math.sqrt(size((near - origin) / 2, outside) ** 2 + slack)
    close(ball.centre, (near + origin) / 2, rtol=1e-9)
    close(ball.outside, outside)
    close(ball.radius, radius, rtol=1e-8)
    close(ball.norm, size((near + origin) / 2, outside))
    other = w + 0.2 * rng.standard_normal(w.shape)
    close(ball.distance(jnp.asarray(other), 0.9), size(other - (near + origin) / 2, 0.9 - outside) + radius, rtol=1e-8)
    if radius < float(ball.norm):
        cos = (np.sum(other * (near + origin) / 2) + 0.9 * outside) / (size(other, 0.9) * float(ball.norm))
        angle = math.acos(cos) + math.asin(radius / float(ball.norm))
        close(ball.gap(jnp.asarray(other), 0.9), 1 - math.cos(min(angle, math.pi)), rtol=1e-7)
