"""Data in reduced coordinates: the law of the draws, exactness for given points, and what may be traced.

Statistical tests use fixed seeds and fixed sizes; LEVEL is shared by all comparisons of one test (Bonferroni), so a
correct library fails one such test in a thousand seeds, and the seed in use is known to pass.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference as ref
from scipy import stats

import gaunlearn_jax as ga
from gaunlearn_jax.base import numerics

LEVEL = 1e-3
SAMPLES = 1000


def keys(seed: int, count: int) -> jax.Array:
    return jax.random.split(jax.random.key(seed, impl="threefry2x32"), count)


def entries(k: np.ndarray) -> np.ndarray:
    """Statistics [samples, ...] of Gram matrices: every entry, log determinant, largest eigenvalue."""
    upper = k[:, *np.triu_indices(k.shape[1])]
    return np.column_stack([upper, np.linalg.slogdet(k)[1], np.linalg.eigvalsh(k)[:, -1]])


def smallest_p(a: np.ndarray, b: np.ndarray) -> float:
    """Bonferroni-corrected p-value of 'no column of a differs in law from the same column of b'."""
    return a.shape[1] * min(stats.ks_2samp(a[:, i], b[:, i], method="asymp").pvalue for i in range(a.shape[1]))


def stored(rng: np.random.Generator, m: int, d: int, samples: int = SAMPLES) -> np.ndarray:
    """Gram matrices of points drawn in full, coordinate by coordinate."""
    out = np.empty((samples, m, m))
    for i in range(samples):
        x = rng.standard_normal((m, d)) / math.sqrt(d)
        out[i] = x @ x.T
    return out


@functools.partial(jax.jit, static_argnums=1)
@functools.partial(jax.vmap, in_axes=(0, None, None))
def reduced(key: jax.Array, m: int, d: float) -> jax.Array:
    return numerics.gram(ga.data.gaussian(key, m, d).points)


# --- laws ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [6, 9, 500, 2000])
def test_gaussian_has_the_law_of_stored_points(d: int) -> None:
    full = stored(np.random.default_rng(d), 6, d)
    assert smallest_p(entries(np.asarray(reduced(keys(d, SAMPLES), 6, float(d)))), entries(full)) > LEVEL


def test_the_comparison_notices_a_wrong_dimension() -> None:
    full = entries(stored(np.random.default_rng(500), 6, 500))
    assert smallest_p(entries(np.asarray(reduced(keys(500, SAMPLES), 6, 450.0))), full) < LEVEL
    small = entries(stored(np.random.default_rng(9), 6, 9))
    assert smallest_p(entries(np.asarray(reduced(keys(9, SAMPLES), 6, 10.0))), small) < LEVEL


@pytest.mark.parametrize("d", [7, 500])
def test_mixture_has_the_law_of_stored_points(d: int) -> None:
    m, signal = 6, 0.1
    rng = np.random.default_rng(d + 1)
    y = np.array([(-1.0) ** i for i in range(m)])
    direction = rng.standard_normal(d)
    mu = direction / np.linalg.norm(direction) * d ** (-0.25 + signal)
    full, along = np.empty((SAMPLES, m, m)), np.empty((SAMPLES, m))
    for i in range(SAMPLES):
        x = y[:, None] * mu + rng.standard_normal((m, d)) / math.sqrt(d)
        full[i], along[i] = x @ x.T, x @ mu

    draw = jax.jit(jax.vmap(lambda k: ga.data.mixture(k, m, d, signal)))(keys(d + 1, SAMPLES))
    points = np.asarray(draw.points)
    assert points.shape == (SAMPLES, m, m + 1)
    np.testing.assert_allclose(draw.mean_norm, np.linalg.norm(mu), rtol=1e-14)
    mine = np.column_stack([entries(points @ points.transpose(0, 2, 1)), points[:, :, 0] * np.linalg.norm(mu)])
    assert smallest_p(mine, np.column_stack([entries(full), along])) > LEVEL


def test_mean_and_variance_at_the_largest_dimension() -> None:
    """At d = 1e15: |x_i|^2 has mean 1 and variance 2/d, <x_i, x_j> mean 0 and variance 1/d."""
    d, m, count = 1e15, 6, SAMPLES
    k = np.asarray(reduced(keys(15, count), m, d))
    i, j = np.triu_indices(m, 1)
    for sample, mean, variance in ((k[:, range(m), range(m)] - 1.0, 0.0, 2 / d), (k[:, i, j], 0.0, 1 / d)):
        scores = np.abs(np.mean(sample, axis=0) - mean) / math.sqrt(variance / count)
        assert np.max(scores) < stats.norm.isf(LEVEL / 2 / sample.shape[1])
        spread = np.var(sample, axis=0) / variance * count
        lower, upper = stats.chi2.ppf([LEVEL / 40, 1 - LEVEL / 40], count - 1)
        assert np.all((lower < spread) & (spread < upper))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["linear", "relu"])
def test_trained_and_unlearned_networks_have_the_same_law(kind: str) -> None:
    """The margin after training, and epsilon and tau of the projection certificate: drawn against stored points."""
    m, d, lanes = 4, 500, 150
    net = ga.models.Linear() if kind == "linear" else ga.models.TwoLayerReLU(16)
    forget = jnp.arange(4) == 1

    @jax.jit
    @jax.vmap
    def lane(data: ga.data.Dataset, key: jax.Array) -> jax.Array:
        run = ga.train.train(key, net, data, num_steps=100, checkpoints=1, init_scale=1.0)
        slopes = net.problem(data).slopes(run.preactivations)
        point = ga.kkt.solve_pattern(
            net.problem(data), slopes, jnp.ones(m, bool), 0
        )  # limit_point, one round of its loop
        made = ga.certificates.projection(net, data, point, forget)
        good = made.status == ga.Status.OK
        return jnp.stack([good, run.smoothed_margin[-1], jnp.max(point.multipliers), made.epsilon, made.tau])

    drawn = jax.vmap(lambda k: ga.data.gaussian(k, m, float(d)))(keys(1, lanes))
    x = np.random.default_rng(2).standard_normal((lanes, m, d)) / math.sqrt(d)
    y = np.broadcast_to([(-1.0) ** i for i in range(m)], (lanes, m))
    given = jax.vmap(lambda a, b: dataclasses.replace(ga.data.from_points(a, b), basis=None))(x, y)
    both = []
    for data, seed in ((drawn, 3), (given, 4)):
        values = np.asarray(lane(data, keys(seed, lanes)))
        good = values[values[:, 0] == 1, 1:]  # a few ReLU lanes start with a point that no neuron sees
        assert len(good) > 0.9 * lanes
        assert np.all(good > 0)
        both.append(good)
    assert smallest_p(*both) > LEVEL


# --- draws --------------------------------------------------------------------------------------------------


def test_a_draw_is_lower_triangular_with_alternating_labels(key: jax.Array) -> None:
    data = ga.data.gaussian(key, 4, 1e4)
    points = np.asarray(data.points)
    assert np.array_equal(points, np.tril(points))
    assert np.all(np.diag(points) > 0)
    assert np.asarray(data.labels).tolist() == [1.0, -1.0, 1.0, -1.0]
    assert (data.num_points, float(data.dim), int(data.status)) == (4, 1e4, ga.Status.OK)
    assert points.dtype == np.float64
    own = ga.data.gaussian(key, 4, 1e4, labels=[-1, -1, 1, 1])
    assert np.asarray(own.labels).tolist() == [-1.0, -1.0, 1.0, 1.0]
    assert np.array_equal(own.points, points)


def test_dimensions_may_be_fractional_and_as_small_as_the_points(key: jax.Array) -> None:
    for d in (4, 4.5, 1e15):
        data = ga.data.gaussian(key, 4, d)
        assert int(data.status) == ga.Status.OK
        assert np.all(np.isfinite(data.points))
        assert np.linalg.matrix_rank(np.asarray(data.points)) == 4
    assert ga.data.mixture(key, 4, 5, 0.1).points.shape == (4, 5)


def test_draws_depend_on_the_key_alone(key: jax.Array) -> None:
    one, two = ga.data.gaussian(key, 4, 1e6), ga.data.gaussian(key, 4, 1e6)
    other = ga.data.gaussian(jax.random.fold_in(key, 1), 4, 1e6)
    assert np.array_equal(one.points, two.points)
    assert not np.any(np.asarray(one.points)[np.tril_indices(4)] == np.asarray(other.points)[np.tril_indices(4)])


def test_whole_number_dimensions_may_be_traced() -> None:
    draw = jax.vmap(lambda k, d: ga.data.gaussian(k, 4, d).points)
    many, dims = keys(5, 3), np.array([100, 10_000, 10**12])
    assert np.array_equal(draw(many, dims), draw(many, dims.astype(float)))


def test_one_trace_serves_every_dimension() -> None:
    draw = jax.jit(chex.assert_max_traces(lambda k, d: ga.data.gaussian(k, 4, d).points, n=1))
    mix = jax.jit(chex.assert_max_traces(lambda k, d, a: ga.data.mixture(k, 4, d, a).points, n=1))
    for i, d in enumerate((10.0, 1e4, 1e8, 1e12, 1e15)):
        here, signal = jax.random.key(i), 0.02 * i
        np.testing.assert_allclose(draw(here, d), ga.data.gaussian(here, 4, d).points, rtol=1e-14)
        np.testing.assert_allclose(mix(here, d, signal), ga.data.mixture(here, 4, d, signal).points, rtol=1e-13)


def test_draws_batch_over_keys_and_dimensions() -> None:
    many, dims = keys(6, 3), jnp.array([1e2, 1e6, 1e12])
    grid = jax.vmap(lambda k: jax.vmap(lambda d: ga.data.gaussian(k, 4, d))(dims))(many)
    assert grid.points.shape == (3, 3, 4, 4)
    for i in range(3):
        for j in range(3):
            alone = ga.data.gaussian(many[i], 4, dims[j])
            np.testing.assert_allclose(grid.points[i, j], alone.points, rtol=1e-14)


@pytest.mark.parametrize("bad", [3.0, 2e15, math.nan, math.inf, -5.0])
def test_a_bad_traced_dimension_is_the_status_of_its_own_lane(bad: float) -> None:
    many, dims = keys(7, 3), jnp.array([1e4, bad, 1e4])
    for draw in (lambda k, d: ga.data.gaussian(k, 4, d), lambda k, d: ga.data.mixture(k, 4, d, 0.1)):
        data = jax.vmap(draw)(many, dims)
        assert np.asarray(data.status).tolist() == [ga.Status.OK, ga.Status.BAD_INPUT, ga.Status.OK]
        good = jax.vmap(draw)(many, jnp.full(3, 1e4))
        assert np.array_equal(data.points[::2], good.points[::2])


def test_a_bad_traced_signal_is_the_status_of_its_own_lane() -> None:
    data = jax.vmap(lambda k, a: ga.data.mixture(k, 4, 1e4, a))(keys(8, 3), jnp.array([0.1, jnp.nan, 0.2]))
    assert np.asarray(data.status).tolist() == [ga.Status.OK, ga.Status.BAD_INPUT, ga.Status.OK]


@pytest.mark.parametrize("labels", [[1.0, -1.0, 0.5], [1.0, 1.0, 1.0], [1.0, jnp.nan, -1.0]])
def test_bad_traced_labels_are_a_status(labels: list[float]) -> None:
    y, x = jnp.asarray(labels), jnp.eye(3)
    assert int(jax.jit(lambda v: ga.data.gaussian(jax.random.key(0), 3, 1e4, v).status)(y)) == ga.Status.BAD_INPUT
    assert int(jax.jit(lambda v: ga.data.from_points(x, v).status)(y)) == ga.Status.BAD_INPUT


@pytest.mark.parametrize("entry", [0.0, jnp.nan, jnp.inf])
def test_bad_traced_points_are_the_status_of_their_own_lane(entry: float) -> None:
    """A zero vector, NaN or infinity under the user's own vmap: that lane says so, the other is untouched."""
    x = jnp.stack([jnp.eye(3, 5), jnp.eye(3, 5).at[1].set(entry)])
    data = jax.jit(jax.vmap(lambda v: ga.data.from_points(v, jnp.array([1.0, -1.0, 1.0]))))(x)
    assert np.asarray(data.status).tolist() == [ga.Status.OK, ga.Status.BAD_INPUT]
    np.testing.assert_allclose(numerics.gram(data.points[0]), np.eye(3), atol=1e-15)


# --- given points -------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
GIVEN = {
    "m < d": RNG.standard_normal((5, 12)),
    "m > d": RNG.standard_normal((9, 4)),
    "m = d": RNG.standard_normal((6, 6)),
    "one coordinate": np.array([[2.0], [-1.0], [0.5]]),
    "duplicates": np.repeat(RNG.standard_normal((3, 8)), 2, axis=0),
    "rank two": RNG.standard_normal((6, 2)) @ RNG.standard_normal((2, 9)),
    "strongly correlated": RNG.standard_normal((1, 9)) + 1e-6 * RNG.standard_normal((5, 9)),
    "scales": RNG.standard_normal((5, 9)) * np.array([[1e-8], [1.0], [1e8], [3.0], [1e3]]),
    "wide": RNG.standard_normal((4, 3000)) / math.sqrt(3000),
}


def alternating(m: int) -> np.ndarray:
    return np.array([(-1.0) ** i for i in range(m)])


@pytest.mark.parametrize("case", GIVEN)
def test_given_points_keep_every_inner_product(case: str) -> None:
    x = GIVEN[case]
    m, d = x.shape
    data = ga.data.from_points(x, alternating(m))
    points, basis = np.asarray(data.points), np.asarray(data.basis)
    assert points.shape == (m, min(m, d))
    assert basis.shape == (min(m, d), d)
    sizes = np.linalg.norm(x, axis=1)
    np.testing.assert_allclose(basis @ basis.T, np.eye(min(m, d)), atol=1e-14)
    assert np.max(np.abs(points @ points.T - x @ x.T) / np.outer(sizes, sizes)) < 1e-12
    assert np.max(np.abs(data.lift(data.points) - x) / sizes[:, None]) < 1e-12
    assert (float(data.dim), int(data.status)) == (d, ga.Status.OK)


@pytest.mark.parametrize("case", GIVEN)
def test_weights_reduce_and_lift(case: str) -> None:
    x = GIVEN[case]
    data = ga.data.from_points(x, alternating(x.shape[0]))
    w = np.random.default_rng(1).standard_normal((3, x.shape[1]))
    params, outside = data.reduce(w)
    sizes = np.linalg.norm(x, axis=1)
    assert np.max(np.abs(np.asarray(params @ data.points.T) - w @ x.T) / sizes) < 1e-12 * np.linalg.norm(w)
    assert math.hypot(np.linalg.norm(params), outside) == pytest.approx(np.linalg.norm(w), rel=1e-14)
    inside = np.asarray(data.lift(params))
    np.testing.assert_allclose(np.linalg.norm(w - inside), outside, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose((w - inside) @ (x / sizes[:, None]).T, 0.0, atol=1e-12)
    again, nothing = data.reduce(inside)
    np.testing.assert_allclose(again, params, atol=1e-13)
    assert float(nothing) < 1e-13 * np.linalg.norm(w)


def test_a_small_part_outside_the_span_keeps_its_own_accuracy() -> None:
    """1e-9 beside 1: the norm comes from the difference, a subtraction of squares would lose it."""
    x = GIVEN["m < d"]
    data = ga.data.from_points(x, alternating(5))
    normal = np.linalg.svd(x)[2][-1]
    _, outside = data.reduce((x[:1] / np.linalg.norm(x[0])) + 1e-9 * normal)
    assert float(outside) == pytest.approx(1e-9, rel=1e-6)


@pytest.mark.parametrize("power", [500, -500, 990, -900])
def test_scaling_by_a_power_of_two_is_exact(power: int) -> None:
    """Points of size 1e150 or 1e-150 are rescaled without any rounding."""
    x, y = GIVEN["m < d"], alternating(5)
    plain, scaled = ga.data.from_points(x, y), ga.data.from_points(x * 2.0**power, y)
    assert np.array_equal(np.asarray(scaled.points), np.asarray(plain.points) * 2.0**power)
    assert np.array_equal(scaled.basis, plain.basis)


def test_subnormal_points_are_kept_or_refused() -> None:
    """The processor flushes 1e-310 to zero; what must not happen is a data set of zeros with a good status."""
    x = GIVEN["m < d"] * 1e-310
    with contextlib.suppress(ValueError):
        data = ga.data.from_points(x, alternating(5))
        kept = np.max(np.abs(np.asarray(data.lift(data.points)) - x)) < 1e-312
        assert kept or int(data.status) != ga.Status.OK


ACCEPTED = {
    "a list": lambda x: x.tolist(),
    "not contiguous": lambda x: np.asfortranarray(np.repeat(x, 2, axis=1))[:, ::2],
    "big-endian": lambda x: x.astype(">f8"),
    "a JAX array": jnp.asarray,
    "read-only": lambda x: np.frombuffer(x.tobytes()).reshape(x.shape),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_layouts_that_are_accepted(case: str) -> None:
    x, y = GIVEN["m < d"], alternating(5)
    plain = ga.data.from_points(x, y)
    same = ga.data.from_points(ACCEPTED[case](x), y)
    assert np.array_equal(same.points, plain.points)
    labels = ga.data.from_points(x, ACCEPTED[case](y[None])[0])
    assert np.array_equal(labels.labels, plain.labels)


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint16", "float16", "float32"])
def test_narrower_numbers_are_converted_exactly(dtype: str) -> None:
    x = np.array([[1, 2, 3], [4, 5, 7], [3, 1, 2]])
    wide = ga.data.from_points(x.astype(float), [1, -1, 1])
    data = ga.data.from_points(x.astype(dtype), np.array([1, -1, 1]))
    assert np.array_equal(data.points, wide.points)
    assert data.points.dtype == data.labels.dtype == np.float64


def test_given_points_under_jit_and_vmap() -> None:
    x, y = np.random.default_rng(2).standard_normal((3, 4, 7)), alternating(4)
    batch = jax.jit(jax.vmap(lambda v: ga.data.from_points(v, y)))(x)
    for i in range(3):
        np.testing.assert_allclose(
            batch.points[i] @ batch.points[i].T, x[i] @ x[i].T, atol=1e-13
        )  # coordinates may differ by a rotation, inner products may not


# --- forget sets and measured assumptions -------------------------------------------------------------------


def test_forget_mask(drawn: ga.data.Dataset) -> None:
    for indices in ([3, 1], (3, 1), np.array([3, 1], np.uint8), np.array([3, 1], ">i4"), jnp.array([3, 1])):
        mask = ga.data.forget_mask(drawn, indices)
        assert mask.dtype == bool
        assert np.asarray(mask).tolist() == [False, True, False, True, False, False]
    assert not np.any(ga.data.forget_mask(drawn, []))
    assert np.sum(ga.data.forget_mask(drawn, range(5))) == 5


@pytest.mark.parametrize("case", ["m < d", "m > d", "duplicates"])
def test_assumptions_are_measured(case: str, relu: ga.models.Network) -> None:
    x = GIVEN[case] / 3.0
    data = ga.data.from_points(x, alternating(x.shape[0]))
    psi, phi = ref.data_assumption(x)
    for net, n in ((relu, relu.num_neurons), (ga.models.Linear(), 1)):
        measured = ga.data.assumptions(data, net)
        np.testing.assert_allclose(measured, (psi, phi, 4 * x.shape[0] * n * phi), rtol=1e-12)


def test_assumptions_see_correlations_far_below_rounding_of_the_norms(relu: ga.models.Network) -> None:
    data = ga.data.gaussian(jax.random.key(3), 4, 1e15)
    points = np.asarray(data.points)
    _, phi, _ = ga.data.assumptions(data, relu)
    exact = max(abs(math.fsum(points[i] * points[j])) for i in range(4) for j in range(i))
    assert 1e-9 < exact < 1e-6
    assert float(phi) == pytest.approx(exact, rel=1e-12)
