"""Training: separation, the smoothed margin, and equality with gradient descent written out in full coordinates."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import optax
import pytest
import reference as ref

import gaunlearn_jax as ga
from gaunlearn_jax.base import numerics
from gaunlearn_jax.training.losses import LOSSES
from gaunlearn_jax.training.train import default_schedule, train

Given = tuple[np.ndarray, np.ndarray]
MAKE = {
    "linear": ga.models.Linear,
    "relu": lambda: ga.models.TwoLayerReLU(6),
    "leaky": lambda: ga.models.TwoLayerLeakyReLU(4, negative_slope=0.3),
}
STILL = optax.sgd(0.0)


# --- losses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES.names)
def test_losses_and_slopes_in_logarithms(loss: str) -> None:
    q = np.array([-700.0, -30.0, -1.0, 0.0, 1e-9, 2.0, 34.9, 35.1, 300.0, 1000.0, 1e6])
    with mpmath.workdps(50):
        decay = [mpmath.exp(-mpmath.mpf(v)) for v in q]
        value = decay if loss == "exponential" else [mpmath.log1p(e) for e in decay]
        slope = decay if loss == "exponential" else [e / (1 + e) for e in decay]
        values, slopes = [float(mpmath.log(v)) for v in value], [float(mpmath.log(v)) for v in slope]
    np.testing.assert_allclose(LOSSES[loss].log_value(jnp.asarray(q)), values, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(LOSSES[loss].log_slope(jnp.asarray(q)), slopes, rtol=1e-14, atol=1e-14)


def test_default_schedule_warms_up_stays_and_cools_down() -> None:
    schedule = default_schedule(100, 2.0, 0.002)
    sizes = np.array([float(schedule(t)) for t in range(100)])
    np.testing.assert_allclose(sizes[:20], 0.002 * 1000.0 ** (np.arange(20) / 20), rtol=1e-5)
    np.testing.assert_allclose(sizes[20:80], 2.0)
    np.testing.assert_allclose(sizes[80:], 2.0 * 0.01 ** (np.arange(20) / 20), rtol=1e-5)


# --- the same steps in full coordinates ---------------------------------------------------------------------


def initial_weights(key: jax.Array, net: ga.models.Network, data: ga.data.Dataset, scale: float) -> np.ndarray:
    """The weights [n, d] that `train` starts from inside the span of the points."""
    drawn = jax.random.normal(jax.random.split(key)[0], (net.num_neurons, data.points.shape[1]))
    return np.asarray(data.lift(drawn)) * scale / math.sqrt(float(data.dim))


def descend(
    w: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    u: np.ndarray,
    slope: float,
    loss: str,
    rate: Callable[[int], float],
    steps: int,
    momentum: float = 0.0,
) -> np.ndarray:
    """Full-batch gradient descent on W [n, d]; the step is the loss gradient over (sum of -l') times mean |x_i|^2."""
    velocity, size = np.zeros_like(w), float(np.mean(np.sum(x * x, axis=1)))
    for t in range(steps):
        z = w @ x.T
        q = y * (u @ np.maximum(z, slope * z))
        weight = np.exp(-q) if loss == "exponential" else 1.0 / (1.0 + np.exp(q))
        gradient = np.zeros_like(w)
        for i in range(len(y)):
            for j in range(len(u)):
                gradient[j] -= weight[i] * y[i] * u[j] * (1.0 if z[j, i] > 0 else slope) * x[i]
        velocity = momentum * velocity - gradient / (np.sum(weight) * size)
        w = w + rate(t) * velocity
    return w


@pytest.mark.parametrize(
    ("kind", "loss", "momentum"),
    [
        ("linear", "logistic", 0.0),
        ("relu", "exponential", 0.0),
        ("relu", "logistic", 0.5),
        ("leaky", "exponential", 0.9),
    ],
)
def test_representer_form_is_gradient_descent_in_full_coordinates(
    kind: str, loss: str, momentum: float, key: jax.Array, given_points: Given
) -> None:
    x, y = given_points
    net, data = MAKE[kind](), ga.data.from_points(x, y)
    optimizer = optax.sgd(lambda t: 0.05 * 1.05 ** jnp.asarray(t, jnp.float64), momentum=momentum or None)
    run = train(key, net, data, loss=loss, init_scale=0.3, num_steps=60, optimizer=optimizer, checkpoints=4)

    outside = np.linalg.svd(x)[2][len(y) :]  # rows orthogonal to every point
    aside = np.random.default_rng(1).standard_normal((net.num_neurons, len(outside))) @ outside
    aside *= float(run.orthogonal_norm) / np.linalg.norm(aside)
    start, u, slope = initial_weights(key, net, data, 0.3), np.asarray(net.output_weights), net.negative_slope
    full = descend(start + aside, x, y, u, slope, loss, lambda t: 0.05 * 1.05**t, 60, momentum)

    np.testing.assert_allclose(data.lift(run.params), full - aside, atol=1e-11)
    np.testing.assert_allclose(run.preactivations, full @ x.T, atol=1e-11)
    params, norm = data.reduce(full)
    np.testing.assert_allclose(params, run.params, atol=1e-11)
    assert float(norm) == pytest.approx(float(run.orthogonal_norm), rel=1e-11)
    q = ref.margins(full, x, y, u, slope)
    np.testing.assert_allclose(run.margins, q, atol=1e-11)
    assert np.min(q) > 0.25
    smoothed = -math.log(sum(math.exp(-v) for v in q)) / np.linalg.norm(full)
    assert float(run.smoothed_margin[-1]) == pytest.approx(smoothed, rel=1e-10)
    values = np.exp(-q) if loss == "exponential" else np.log1p(np.exp(-q))
    assert float(run.log_loss[-1]) == pytest.approx(math.log(np.mean(values)), rel=1e-10)


def test_the_default_steps_are_those_of_the_schedule(key: jax.Array, given_points: Given) -> None:
    """m times the default schedule, to the single precision in which optax computes schedules."""
    x, y = given_points
    net, data = MAKE["relu"](), ga.data.from_points(x, y)
    run = train(key, net, data, init_scale=0.3, num_steps=60, step_size=0.4, checkpoints=4)
    schedule = default_schedule(60, 0.4 * 5, 0.4 * 5 * 1e-3)
    start = initial_weights(key, net, data, 0.3)
    u = np.asarray(net.output_weights)
    full = descend(start, x, y, u, 0.0, "exponential", lambda t: float(schedule(t)), 60)
    np.testing.assert_allclose(data.lift(run.params), full, atol=1e-6)


def test_rotating_the_points_rotates_the_path(key: jax.Array, given_points: Given) -> None:
    """Only inner products enter: rotated points, in coordinates with the same orientation, give the same path."""
    x, y = given_points
    rotation = np.linalg.qr(np.random.default_rng(2).standard_normal((9, 9)))[0]
    net = MAKE["relu"]()
    plain, turned = ga.data.from_points(x, y), ga.data.from_points(x @ rotation, y)
    flip = np.sign(np.diag(plain.points)) * np.sign(np.diag(turned.points))  # QR may mirror a coordinate
    turned = dataclasses.replace(turned, points=turned.points * flip, basis=turned.basis * flip[:, None])
    one, two = (train(key, net, data, num_steps=200, checkpoints=2, init_scale=0.1) for data in (plain, turned))
    np.testing.assert_allclose(two.preactivations, one.preactivations, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(turned.lift(two.params), plain.lift(one.params) @ rotation, rtol=1e-9, atol=1e-9)
    assert float(one.margin[-1]) > 1.0


def test_a_retained_mask_is_training_on_the_subset(key: jax.Array, given_points: Given) -> None:
    x, y = given_points
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    keep = np.array([True, False, True, True, True])
    net, data = MAKE["relu"](), ga.data.from_points(x, y)
    subset = dataclasses.replace(data, points=data.points[keep], labels=data.labels[keep])
    masked = train(key, net, data, retained=jnp.asarray(keep), num_steps=200, checkpoints=5)
    alone = train(key, net, subset, num_steps=200, checkpoints=5)
    # 200 steps across kinks amplify the rounding of two summation orders
    np.testing.assert_allclose(masked.params, alone.params, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(masked.preactivations[:, keep], alone.preactivations, rtol=1e-6, atol=1e-6)
    for name in ("margin", "log_loss", "smoothed_margin"):
        np.testing.assert_allclose(getattr(masked, name), getattr(alone, name), rtol=1e-6)
    assert int(masked.status) == int(alone.status) == ga.Status.OK


def test_forgotten_points_have_no_influence(key: jax.Array, given_points: Given) -> None:
    """Leave-one-out under vmap: what was left out may be anything, even a contradiction of the rest."""
    x, y = given_points
    net, data = MAKE["relu"](), ga.data.from_points(x, y)
    masks = ~jnp.eye(5, dtype=bool)
    leave_out = jax.jit(jax.vmap(lambda d, mask: train(key, net, d, retained=mask, num_steps=50, checkpoints=1)))
    flipped = jnp.where(masks, data.labels, -data.labels)
    many = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (5, *leaf.shape)), data)
    runs, others = leave_out(many, masks), leave_out(dataclasses.replace(many, labels=flipped), masks)
    assert runs.params.shape == (5, 6, 5)
    assert np.array_equal(runs.params, others.params)
    assert np.array_equal(runs.margin, others.margin)
    assert not np.array_equal(runs.params[0], runs.params[1])


# --- what training reaches ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "loss"), [("linear", "logistic"), ("relu", "exponential"), ("leaky", "exponential")])
def test_points_are_separated_with_almost_the_largest_margin(kind: str, loss: str, drawn: ga.data.Dataset) -> None:
    net = MAKE[kind]()
    run = train(jax.random.key(1), net, drawn, loss=loss)
    assert int(run.status) == ga.Status.OK
    assert float(run.margin[-1]) == float(jnp.min(run.margins)) > 10.0
    assert np.all(np.diff(run.log_loss) < 0)
    largest = margin_of_pattern(net, drawn, np.asarray(run.preactivations))
    size = float(numerics.norm(run.params, run.orthogonal_norm))
    reached = float(run.margin[-1]) / size
    assert 0.99 * largest < reached < 1.001 * largest
    assert reached - math.log(6) / size <= float(run.smoothed_margin[-1]) <= reached
    for name in ("steps", "log_loss", "margin", "smoothed_margin"):
        assert getattr(run, name).shape == (30,)
    assert float(run.steps[-1]) == 500.0
    np.testing.assert_allclose(run.preactivations, run.params @ drawn.points.T, rtol=1e-10, atol=1e-12)


def margin_of_pattern(net: ga.models.Network, data: ga.data.Dataset, z: np.ndarray) -> float:
    """1/|theta| of the KKT point with these activations on orthonormal points:
    |theta|^2 = sum_i 1 / sum_j u_j^2 s_ji^2, an opposite-sign pair being inactive or on its kink."""
    u, y, slope = np.asarray(net.output_weights)[:, None], np.asarray(data.labels), net.negative_slope
    s = np.where((u * y > 0) & (z > 0), 1.0, slope)
    return float(1 / np.sqrt(np.sum(1 / np.sum(u**2 * s**2, axis=0))))


@pytest.mark.parametrize("kind", ["linear", "relu"])
def test_small_steps_never_lower_the_smoothed_margin(kind: str, given_points: Given) -> None:
    """Gradient flow on the exponential loss: not decreasing from the moment sum_i exp(-q_i) < 1."""
    x, y = given_points
    net, data = MAKE[kind](), ga.data.from_points(x, y)
    small = optax.sgd(0.03)
    run = train(jax.random.key(2), net, data, num_steps=4000, checkpoints=80, optimizer=small, init_scale=0.5)
    total = np.asarray(run.log_loss) + math.log(5)
    started = int(np.argmax(total < 0))
    assert total[started] < 0
    assert started < 60
    after = np.asarray(run.smoothed_margin)[started:]
    assert np.all(np.diff(after) >= -1e-12)
    assert after[-1] > 1.2 * after[0]


@pytest.mark.parametrize(("kind", "loss"), [("linear", "logistic"), ("relu", "exponential")])
def test_nothing_underflows_at_a_margin_of_a_thousand(kind: str, loss: str, drawn: ga.data.Dataset) -> None:
    """exp(-1000) is 0 in float64; the steps and the histories must not notice."""
    run = train(jax.random.key(3), MAKE[kind](), drawn, loss=loss, step_size=20.0, num_steps=400, checkpoints=20)
    margin = np.asarray(run.margin)
    assert margin[-1] > 1000.0
    assert math.exp(-margin[-1]) == 0.0
    late = margin > 800.0
    assert np.sum(late) > 3
    assert np.all(np.diff(margin[late]) > 0)
    assert np.all(np.isfinite(run.smoothed_margin))
    q = np.asarray(run.margins)
    shift = np.min(q)
    expected = -shift + math.log(np.mean(np.exp(shift - q)))
    assert float(run.log_loss[-1]) == pytest.approx(expected, rel=1e-12)
    assert int(run.status) == ga.Status.OK


def test_contradictory_points_are_not_separated() -> None:
    x = np.array([[1.0, 0.2, 0.0], [1.0, 0.2, 0.0], [0.0, 0.3, 1.0]])
    data = ga.data.from_points(x, [1, -1, 1])
    run = train(jax.random.key(0), ga.models.Linear(), data, num_steps=100)
    assert int(run.status) == ga.Status.NOT_SEPARATED
    assert float(run.margin[-1]) <= 0.0
    assert "separated" in ga.Status(int(run.status)).remedy


def test_only_the_retained_points_must_be_separated() -> None:
    x = np.array([[1.0, 0.2, 0.0], [1.0, 0.2, 0.0], [0.0, 0.3, 1.0]])
    data = ga.data.from_points(x, [1, -1, 1])
    keep = jnp.array([False, True, True])
    run = train(jax.random.key(0), ga.models.Linear(), data, num_steps=100, retained=keep)
    assert int(run.status) == ga.Status.OK
    assert float(run.margins[0]) < 0.0


def test_status_of_one_lane_leaves_the_others_alone() -> None:
    net, many = ga.models.TwoLayerReLU(6), jax.random.split(jax.random.key(4), 3)

    def lane(key: jax.Array, dim: jax.Array) -> ga.train.Trained:
        return train(key, net, ga.data.gaussian(key, 4, dim), num_steps=50, checkpoints=1)

    batch = jax.jit(jax.vmap(lane))
    good, mixed = batch(many, jnp.array([1e4, 1e4, 1e4])), batch(many, jnp.array([1e4, jnp.nan, 1e4]))
    assert np.asarray(mixed.status)[1] == ga.Status.BAD_INPUT
    assert np.array_equal(mixed.params[::2], good.params[::2])
    assert np.array_equal(mixed.status[::2], good.status[::2])


def test_squares_that_overflow_are_unconverged(given_points: Given) -> None:
    """Coordinates near 1e200 are representable, their inner products are not."""
    x, y = given_points
    run = train(jax.random.key(0), MAKE["linear"](), ga.data.from_points(1e200 * x, y), num_steps=20, checkpoints=1)
    assert int(run.status) == ga.Status.UNCONVERGED


# --- options and initial weights ----------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "checkpoints", "expected"), [(3, 30, [1, 2, 3]), (10, 4, [2, 5, 7, 10])])
def test_checkpoints_are_at_whole_steps(
    steps: int, checkpoints: int, expected: list[int], drawn: ga.data.Dataset
) -> None:
    run = train(jax.random.key(0), MAKE["linear"](), drawn, num_steps=steps, checkpoints=checkpoints)
    assert np.asarray(run.steps).tolist() == expected


def test_initial_weights_have_the_law_of_full_ones() -> None:
    """w_j ~ N(0, s^2 I_d / d): variance s^2/d per kept coordinate, E norm^2 = s^2 n (d - p)/d outside."""
    net, s, m = ga.models.TwoLayerReLU(4), 0.7, 4

    def lane(key: jax.Array, dim: jax.Array) -> tuple[jax.Array, jax.Array]:
        data = ga.data.gaussian(key, m, dim)
        start = train(key, net, data, init_scale=s, num_steps=1, checkpoints=1, optimizer=STILL)
        return start.params, start.orthogonal_norm

    count = 400
    batch = jax.jit(jax.vmap(lane, in_axes=(0, None)))
    for d in (4.0, 6.0, 1e8):
        params, outside = batch(jax.random.split(jax.random.key(8), count), d)
        inside = np.asarray(params).ravel() * math.sqrt(d) / s
        chi = np.asarray(outside) ** 2 * d / s**2
        free = 4 * (d - m)
        assert abs(np.mean(inside)) * math.sqrt(inside.size) < 4
        assert abs(np.mean(inside**2) - 1) * math.sqrt(inside.size / 2) < 4
        assert abs(np.mean(chi) - free) <= 4 * math.sqrt(2 * free / count)


def test_init_scale_scales_the_start(key: jax.Array, drawn: ga.data.Dataset) -> None:
    still = {"num_steps": 1, "checkpoints": 1, "optimizer": STILL}
    small, large = (train(key, MAKE["relu"](), drawn, init_scale=s, **still) for s in (0.25, 2.0))
    assert np.array_equal(np.asarray(small.params) * 8, large.params)
    assert float(small.orthogonal_norm) * 8 == float(large.orthogonal_norm)


def test_one_trace_serves_every_dimension_and_scale() -> None:
    net = ga.models.Linear()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def lane(key: jax.Array, dim: jax.Array, scale: jax.Array) -> jax.Array:
        return train(key, net, ga.data.gaussian(key, 4, dim), init_scale=scale, num_steps=30, checkpoints=1).margin[-1]

    margins = [float(lane(jax.random.key(5), d, s)) for d, s in ((1e3, 1e-3), (1e8, 0.1), (1e15, 1.0))]
    assert np.all(np.isfinite(margins))
    assert len(set(margins)) == 3


def test_training_is_in_units_of_margin(drawn: ga.data.Dataset) -> None:
    """Points twice as long change nothing but the length of theta."""
    net = ga.models.Linear()
    longer = dataclasses.replace(drawn, points=2 * drawn.points)
    one, two = (train(jax.random.key(6), net, data, init_scale=1e-9) for data in (drawn, longer))
    np.testing.assert_allclose(two.margins, one.margins, rtol=1e-6)
    np.testing.assert_allclose(2 * float(numerics.norm(two.params)), float(numerics.norm(one.params)), rtol=1e-6)
