"""Theorem T: the ball holds the retrained model, whatever the point and multipliers; where it is tight, where it is not
to be mistaken for a simpler one."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference as ref

import gaunlearn_jax as ga
from gaunlearn_jax import Reason
from gaunlearn_jax.theory.closeness import angle_bound, certified_ball, distance_bound


def case(seed: int, linear: bool, m: int = 5, d: float = 60.0):
    """(net, data, point, forget, theta* by the reference) of random points."""
    net = ga.models.Linear() if linear else ga.models.TwoLayerReLU(8)
    data = ga.data.gaussian(jax.random.key(seed), m, d)
    problem = net.problem(data)
    rng = np.random.default_rng(seed)
    pattern = np.ones((1, m)) if linear else rng.random((8, m)) < 0.5
    if not linear:
        pattern[0, ::2] = pattern[1, 1::2] = True
    point = ga.kkt.solve_pattern(problem, jnp.asarray(pattern, float), jnp.ones(m, bool), 50)
    forget = ga.data.forget_mask(data, [seed % m])
    retained = [i for i in range(m) if i != seed % m]
    s = np.asarray(point.selection)
    star, _, _ = ref.solve_pattern(
        np.asarray(data.points), np.asarray(data.labels), np.asarray(net.output_weights), s > 0.5, retained, linear
    )
    return net, data, point, forget, star


@pytest.mark.parametrize("linear", [pytest.param(True, marks=pytest.mark.slow), False])
def test_any_point_and_any_multipliers_make_a_ball_that_holds_the_retrained_model(linear: bool) -> None:
    """A user's own unlearned model: nothing ties theta~ or lambda to the original."""
    for seed in range(4):
        net, data, point, forget, star = case(seed, linear)
        rng = np.random.default_rng(seed)
        for size in (0.0, 0.05, 0.5):
            params = jnp.asarray(star + size * rng.standard_normal(star.shape) / 5)
            lam = jnp.asarray(np.asarray(point.multipliers) * rng.lognormal(0, 3 * size, data.num_points))
            ball = ga.closeness.ball(net, data, params, lam, point.selection, forget)
            if int(ball.reason) == Reason.UNDEFINED:
                assert size > 0.1
                continue
            assert np.linalg.norm(star - np.asarray(ball.centre)) <= float(ball.radius)
            for other in (params, point.params, jnp.zeros_like(params)):
                assert np.linalg.norm(star - np.asarray(other)) <= float(ball.distance(other))
            assert ref.one_minus_cos(star, np.asarray(point.params)) <= float(ball.gap(point.params))
            scaled = ga.closeness.ball(net, data, params / 3, lam, point.selection, forget)
            np.testing.assert_allclose(scaled.radius, ball.radius, rtol=0.5 if size else 1e-6)


@pytest.mark.parametrize("linear", [True, False])
def test_the_ball_of_the_step_has_the_step_and_the_certificate_on_its_edge(linear: bool) -> None:
    for seed in range(4):
        net, data, point, forget, star = case(seed, linear, d=300.0)
        near = ga.certificates.projection(net, data, point, forget)
        hat = ga.unlearn.gradient_ascent(net, data, point, forget).params
        ball = certified_ball(net.problem(data), near, forget)
        rho = np.linalg.norm(np.asarray(near.params - hat))
        for end in (hat, near.params):
            np.testing.assert_allclose(np.linalg.norm(np.asarray(end - ball.centre)), rho / 2, rtol=1e-6)
        np.testing.assert_allclose(ball.radius, rho / 2, rtol=1e-4)
        assert np.linalg.norm(star - np.asarray(hat)) <= float(ball.distance(hat))
        old, _ = angle_bound(near, hat, distance_bound(net.problem(data), near, forget))
        assert ref.one_minus_cos(star, np.asarray(hat)) <= float(ball.gap(hat)) <= float(old)
        # an angle twice as small, a gap four times, to leading order
        assert float(ball.gap(hat)) < 0.35 * float(old)


def test_the_bound_is_attained_where_the_certificate_is_the_retrained_model() -> None:
    net, data, point, forget, star = case(1, True, m=4, d=1e6)
    near = ga.certificates.projection(net, data, point, forget)
    hat = ga.unlearn.gradient_ascent(net, data, point, forget).params
    distance = np.linalg.norm(star - np.asarray(hat))
    assert 1 - 1e-6 < distance / float(certified_ball(net.problem(data), near, forget).distance(hat)) <= 1


def test_arcsine_of_the_distance_alone_may_exceed_the_older_bound() -> None:
    """x_1 = (1, 0) kept, x_2 = (.9, .436) forgotten, one label: 64 degrees against 56, the ball's own angle 18."""
    net = ga.models.Linear()
    points = np.array([[1.0, 0.0], [0.9, 0.436]])
    # both points of one class: a label is a sign of its point
    data = ga.data.from_points(points * np.array([[1.0], [-1.0]]), [1, -1])
    problem = net.problem(data)
    point = ga.kkt.solve_pattern(problem, jnp.ones((1, 2)), jnp.ones(2, bool), 0)
    forget = ga.data.forget_mask(data, [1])
    near = ga.certificates.projection(net, data, point, forget)
    hat = ga.unlearn.gradient_ascent(net, data, point, forget).params
    ball = certified_ball(problem, near, forget)
    old, _ = angle_bound(near, hat, distance_bound(problem, near, forget))

    def degrees(gap) -> float:
        return math.degrees(math.acos(1 - float(gap)))

    alone = math.degrees(math.asin(float(ball.distance(hat)) / np.linalg.norm(np.asarray(hat))))
    assert alone == pytest.approx(64.2, abs=0.2)
    assert degrees(old) == pytest.approx(56.5, abs=0.2)
    assert degrees(ball.gap(hat)) == pytest.approx(18.1, abs=0.1)


def test_a_point_that_no_scaling_makes_feasible_has_no_ball() -> None:
    net, data, point, forget, _ = case(0, True)
    ball = ga.closeness.ball(net, data, -point.params, point.multipliers, point.selection, forget)
    assert int(ball.reason) == Reason.UNDEFINED
    assert float(ball.gap(point.params)) == 2
    assert float(ball.distance(point.params)) == math.inf


def test_weights_outside_the_span_are_part_of_the_centre() -> None:
    net, data, point, forget, star = case(2, True)
    ball = ga.closeness.ball(net, data, point.params, point.multipliers, point.selection, forget, orthogonal_norm=3.0)
    apart = math.hypot(np.linalg.norm(star - np.asarray(ball.centre)), float(ball.outside))
    assert float(ball.outside) == pytest.approx(1.5)
    assert apart <= float(ball.radius)
    assert float(ball.distance(point.params, 3.0)) >= math.hypot(np.linalg.norm(star - np.asarray(point.params)), 3.0)


def test_shapes_are_checked() -> None:
    net, data, point, forget, _ = case(0, True)
    with pytest.raises(ValueError, match="multipliers has shape"):
        ga.closeness.ball(net, data, point.params, point.multipliers[:2], point.selection, forget)
