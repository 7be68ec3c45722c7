"""What every row of DISTRIBUTIONS must do: draw the law of its materialised points, in few coordinates, repeatably.

One parametrised module for all rows. Statistical tests have fixed seeds and sizes; LEVEL is shared by the comparisons
of one row and dimension (Bonferroni): a correct row fails one in a thousand seeds, and the seed in use is known to
pass.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import gaunlearn_jax as ga
from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.compiling import hurry
from gaunlearn_jax.data import DISTRIBUTIONS, Distribution, families
from gaunlearn_jax.data.ellipses import coordinates

LEVEL, SAMPLES, M = 1e-3, 600, 6
#: a value of each parameter that shows what the row is about
SHOWN = {"flip": 0.3, "c": 0.4, "number": 3.0, "nu": 4.0, "density": 0.5}


def values(row: Distribution) -> dict[str, float]:
    return {p.name: SHOWN.get(p.name, p.default) for p in row.parameters}


@functools.lru_cache(maxsize=64)
def drawer(row: Distribution, m: int = M):
    draw = jax.vmap(lambda k, d, p: row.draw(k, m, d, **p), (0, None, None))
    return jax.jit(draw, compiler_options=hurry())


def keys(count: int) -> jax.Array:
    return jax.random.split(jax.random.key(14, impl="threefry2x32"), count)


def statistics(k: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Twelve numbers of each instance, from its Gram matrix [samples, m, m] and labels: entries, a triple product,
    extreme eigenvalues, the largest cosine, sums. Rounded, lest exact zeros differ by rounding noise."""
    size = np.sqrt(np.einsum("sii->si", k))
    cosines = k / size[:, :, None] / size[:, None, :] - np.eye(k.shape[1])
    eigenvalues = np.linalg.eigvalsh(k)
    columns = [
        k[:, 0, 0], k[:, -1, -1], k[:, 0, 1], k[:, 0, 2], k[:, 0, -1], k[:, 2, 3],
        k[:, 0, 1] * k[:, 1, 2] * k[:, 0, 2], eigenvalues[:, 0], eigenvalues[:, -1],
        np.max(np.abs(cosines), axis=(1, 2)), np.sum(k, axis=(1, 2)), np.einsum("si,sij,sj->s", y, k, y),
    ]  # fmt: skip
    return np.round(np.column_stack(columns), 13)


def drawn(row: Distribution, d: float) -> np.ndarray:
    data = drawer(row)(keys(SAMPLES), float(d), values(row))
    assert not np.any(data.status)
    return statistics(np.asarray(data.points @ jnp.swapaxes(data.points, 1, 2)), np.asarray(data.labels))


@functools.lru_cache(maxsize=64)
def materialised(name: str, d: int) -> np.ndarray:
    row, rng = DISTRIBUTIONS[name], np.random.default_rng(d)
    grams, labels = np.empty((SAMPLES, M, M)), np.empty((SAMPLES, M))
    assert row.materialise is not None, "every row says how its points are drawn in full"
    for i in range(SAMPLES):
        x, labels[i] = row.materialise(rng, M, d, **values(row))
        grams[i] = x @ x.T
    return statistics(grams, labels)


def p_values(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.array([stats.ks_2samp(a[:, i], b[:, i], method="asymp").pvalue for i in range(a.shape[1])])


def smallest_p(a: np.ndarray, b: np.ndarray) -> float:
    """Bonferroni-corrected over the columns."""
    return float(a.shape[1] * np.min(p_values(a, b)))


every_row = pytest.mark.parametrize("name", DISTRIBUTIONS.names)


@every_row
@pytest.mark.parametrize("d", [30, 500, 2000])
def test_the_law_of_the_materialised_points(name: str, d: int) -> None:
    assert smallest_p(drawn(DISTRIBUTIONS[name], d), materialised(name, d)) > LEVEL


@every_row
def test_draws_are_repeatable_and_do_not_depend_on_their_neighbours(name: str) -> None:
    """Bitwise under a reordering of the batch, and to rounding when drawn alone."""
    row, p, order = DISTRIBUTIONS[name], values(DISTRIBUTIONS[name]), np.roll(np.arange(SAMPLES), 7)
    many, again = (drawer(row)(keys(SAMPLES)[at], 1e6, p) for at in (np.arange(SAMPLES), order))
    assert np.array_equal(np.asarray(many.points)[order], again.points)
    assert np.array_equal(np.asarray(many.labels)[order], again.labels)
    assert len({np.asarray(x).tobytes() for x in many.points}) == SAMPLES
    alone = jax.jit(lambda k: row.draw(k, M, 1e6, **p), compiler_options=hurry())(keys(SAMPLES)[3])
    np.testing.assert_allclose(many.points[3], alone.points, rtol=1e-12, atol=1e-14)
    assert np.array_equal(many.labels[3], alone.labels)


@every_row
@pytest.mark.parametrize("d", [2.0 * M, 1e4, 1e15])
def test_few_coordinates_and_good_points_at_any_dimension(name: str, d: float) -> None:
    data = drawer(DISTRIBUTIONS[name])(keys(SAMPLES), d, values(DISTRIBUTIONS[name]))
    assert data.points.shape[2] <= M + 1
    # a sparse point may be zero in few dimensions, which its status says
    assert not np.any(data.status) or (name == "ternary" and d < 100)
    assert np.all(np.asarray(data.dim) == d)
    assert np.all(np.abs(data.labels) == 1)
    assert np.all(np.abs(np.sum(data.labels, axis=1)) < M)


@every_row
def test_small_inner_products_are_exact_at_the_largest_dimension(name: str) -> None:
    """The Gram matrix that everything is computed from, against 50 digits: off-diagonals to 1e-12 of themselves."""
    mpmath = pytest.importorskip("mpmath")
    data = drawer(DISTRIBUTIONS[name])(keys(SAMPLES), 1e15, values(DISTRIBUTIONS[name]))
    points = np.asarray(data.points)[0]
    k = np.asarray(numerics.gram(jnp.asarray(points)))
    with mpmath.workdps(50):
        for i in range(M):
            for j in range(i):
                exact = mpmath.fdot(map(mpmath.mpf, points[i].tolist()), map(mpmath.mpf, points[j].tolist()))
                assert abs(k[i, j] - exact) <= 1e-12 * abs(exact)


def test_rotating_eight_eigenspaces_into_the_span_keeps_small_inner_products() -> None:
    """At d = 1e15, where off-diagonals are 1e-8: relative to themselves."""
    mpmath = pytest.importorskip("mpmath")
    spectrum = families.power_spectrum(1e15, 0.5)
    full, _, good = coordinates(keys(1)[0], M, spectrum)
    assert bool(good)
    assert full.shape == (M, 8 * M)
    data = ga.data.elliptical(keys(1)[0], M, spectrum)
    assert data.points.shape == (M, M)
    k, x = np.asarray(numerics.gram(data.points)), np.asarray(full).tolist()
    with mpmath.workdps(50):
        for i in range(M):
            for j in range(i):
                exact = mpmath.fdot(map(mpmath.mpf, x[i]), map(mpmath.mpf, x[j]))
                assert 1e-11 < abs(exact) < 1e-6
                assert abs(k[i, j] - exact) <= 1e-12 * abs(exact)


@pytest.mark.parametrize("shape", [0.2, 0.9, 1.0, 7.5, 1e8])
def test_gamma_variates_of_any_shape(shape: float) -> None:
    draw = jax.jit(jax.vmap(lambda k: families.gamma(k, jnp.asarray(shape), 5)))
    values = np.asarray(draw(keys(1000))).ravel()
    assert stats.kstest(values, stats.gamma(shape).cdf).pvalue > LEVEL


# --- rows that are wrong are found --------------------------------------------------------------------------


def unmixed(key, num_points, dim, rho):
    """AR(1) that forgets the variance of its first point."""
    i = jnp.arange(num_points)
    lag = i[:, None] - i
    mixing = jnp.where(lag >= 0, rho ** jnp.maximum(lag, 0), 0.0) * jnp.sqrt(1 - rho**2)
    return ga.data.elliptical(key, num_points, families.isotropic(dim), mixing=mixing)


BROKEN = {
    "student": lambda key, m, dim, nu: families.student(key, m, dim, nu + 1),
    "ar1": unmixed,
    "spiked": lambda key, m, dim, share: families.spiked(key, m, dim, 0.9 * share),
    "sphere": lambda key, m, dim: ga.data.gaussian(key, m, dim),
    "clusters": lambda key, m, dim, number, c, flip: families.clusters(key, m, dim, number + 1, c, flip),
    "gaussian": lambda key, m, dim: ga.data.gaussian(key, m, 0.9 * dim),
    "rademacher": lambda key, m, dim: ga.data.gaussian(key, m, dim),
    "label_noise": lambda key, m, dim, flip, share: families.label_noise(key, m, dim, 0.0, share),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_row_fails(name: str) -> None:
    row = dataclasses.replace(DISTRIBUTIONS[name], draw=BROKEN[name])
    assert min(smallest_p(drawn(row, d), materialised(name, d)) for d in (500, 2000)) < LEVEL


# --- what the constructor refuses, and what it may be given ---------------------------------------------------


@pytest.mark.parametrize(
    ("spectrum", "more", "says"),
    [
        ([(1.0, 4.5)], {"means": [np.ones((4, 2))]}, "4.5, with 2 directions of means and 4 mixed samples"),
        ([(-1.0, 10)], {}, "eigenvalue of the spectrum is -1"),
        ([(1.0, 2e15)], {}, "multiplicity of the spectrum is"),
        ([], {}, "0 eigenspaces"),
        ([(1.0, 10)], {"mixing": np.ones((3, 3))}, "mixing has shape"),
        ([(1.0, 10)], {"scales": np.ones((4, 1))}, "scales has shape"),
        ([(1.0, 10)], {"labels": [1, 1, 1, 1]}, "expected both classes"),
    ],
)
def test_impossible_requests_are_refused(spectrum, more, says) -> None:
    with pytest.raises(ValueError, match=says):
        ga.data.elliptical(jax.random.key(0), 4, spectrum, **more)


def test_an_impossible_traced_multiplicity_is_the_status_of_its_lane() -> None:
    draw = jax.vmap(lambda k, d: ga.data.elliptical(k, 4, [(1.0, d)]).status)
    assert np.asarray(draw(keys(5), jnp.array([2.0, 2.5, 4.5, -1.0, math.nan]))).tolist() == [0, 4, 0, 4, 4]


def test_fewer_dimensions_than_samples_have_their_rank() -> None:
    data = ga.data.elliptical(jax.random.key(0), 5, [(1.0, 3)])
    assert np.linalg.matrix_rank(np.asarray(data.points)) == 3


def test_gram_matrices_and_columns_give_their_points() -> None:
    rng, y = np.random.default_rng(0), [1, -1, 1, -1, 1]
    x = rng.standard_normal((5, 40))
    x[4] = x[0] + x[1]  # dependent
    for data in (ga.data.from_gram(x @ x.T, y), ga.data.from_columns(np.split(x, 4, axis=1), y)):
        np.testing.assert_allclose(numerics.gram(data.points), x @ x.T, atol=1e-12)
        assert int(data.status) == 0
    assert float(data.dim) == 40
    kernel = np.exp(-0.5 * np.sum((x[:4, None] - x[:4]) ** 2, axis=2) / 40)
    np.testing.assert_allclose(numerics.gram(ga.data.from_gram(kernel, y[:4]).points), kernel, atol=1e-15)


@pytest.mark.parametrize(
    ("gram", "says"),
    [
        ([[1.0, 0.2], [0.3, 1.0]], "not symmetric"),
        ([[1.0, 2.0], [2.0, 1.0]], "eigenvalue -1"),
        ([[0.0, 0.0], [0.0, 1.0]], r"gram\[0, 0\] is 0"),
        ([[1.0, 0.0]], "expected \\[m, m\\]"),
    ],
)
def test_what_is_no_gram_matrix_is_refused(gram, says) -> None:
    with pytest.raises(ValueError, match=says):
        ga.data.from_gram(gram, [1, -1])


def test_entries_from_two_values_are_whole_numbers_of_columns() -> None:
    d = 1e6 + 1
    k = np.asarray(numerics.gram(ga.data.discrete(jax.random.key(1), 5, d).points)) * d
    assert np.all(np.abs(k - np.round(k)) < 1e-6)
    assert all(abs(round(v) % 2 - 1) < 1e-9 for v in k[np.triu_indices(5)])  # d odd columns of +-1
    with pytest.raises(ValueError, match=r"2\^18"):
        ga.data.discrete(jax.random.key(1), 18, 1e4)


def test_binomials_of_1e15_columns_have_their_mean_and_spread() -> None:
    draw = jax.jit(jax.vmap(lambda k: numerics.gram(ga.data.discrete(k, 2, 1e15).points)[0, 1]))
    scores = np.asarray(draw(keys(4000))) * math.sqrt(1e15)
    assert stats.kstest(scores, "norm").pvalue > LEVEL
    assert all(a <= b for a, b in pairwise(np.sort(scores)))
