"""The arithmetic under every verdict, against 50-digit mpmath, exact fractions, and NumPy's factorisations."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import reference as ref

import gaunlearn_jax as ga
from gaunlearn_jax.base import checks, numerics

norm = jax.jit(numerics.norm)
one_minus_cos = jax.jit(numerics.one_minus_cos)
basis_of = jax.jit(numerics.orthonormal_basis)
top_eigenvalue = jax.jit(numerics.top_eigenvalue)
sweep = jax.jit(numerics.sweep)


def exact_one_minus_cos(a: np.ndarray, delta: np.ndarray) -> mpmath.mpf:
    """1 - cos of the angle between the rational vectors a and a - delta, to 50 digits even when it is tiny."""
    with mpmath.workdps(120):
        aa = [mpmath.mpf(float(v)) for v in a.ravel()]
        bb = [v - mpmath.mpf(float(t)) for v, t in zip(aa, delta.ravel(), strict=True)]
        inner = mpmath.fsum(v * w for v, w in zip(aa, bb, strict=True))
        return 1 - inner / mpmath.sqrt(mpmath.fsum(v * v for v in aa) * mpmath.fsum(v * v for v in bb))


# --- 1 - cos ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1.0, 1e-2, 1e-4, 1e-6, 1e-9, 1e-11, 4e-13])
def test_one_minus_cos_of_nearly_parallel_vectors(size: float) -> None:
    rng = np.random.default_rng(1)
    for shape in ((3, 5), (40, 10), (1, 1200)):
        a = rng.standard_normal(shape)
        delta = size * rng.standard_normal(shape)
        exact = exact_one_minus_cos(a, delta)
        assert abs(float(one_minus_cos(a, delta)) / float(exact) - 1) < 1e-13


def test_one_minus_cos_reaches_below_1e_25() -> None:
    rng = np.random.default_rng(1)
    a, delta = rng.standard_normal(30), 4e-13 * rng.standard_normal(30)
    assert 1e-27 < exact_one_minus_cos(a, delta) < 1e-24
    assert float(one_minus_cos(a, delta)) == pytest.approx(float(exact_one_minus_cos(a, delta)), rel=1e-13)


@pytest.mark.parametrize("parallel", [1e-3, 0.5, 0.99, -30.0, 1.5, 3.0])
def test_one_minus_cos_when_the_difference_is_mostly_parallel(parallel: float) -> None:
    rng = np.random.default_rng(2)
    a, sideways = rng.standard_normal(12), 1e-7 * rng.standard_normal(12)
    delta = parallel * a + sideways
    lost = np.linalg.norm(delta) / np.linalg.norm(sideways)  # how much longer delta is than what matters
    assert float(one_minus_cos(a, delta)) == pytest.approx(float(exact_one_minus_cos(a, delta)), rel=4e-15 * lost)


def test_one_minus_cos_at_right_and_obtuse_angles() -> None:
    a = np.array([3.0, 0.0, 0.0])
    for b, expected in (
        ([0.0, 2.0, 0.0], 1.0),
        ([-1.0, 1.0, 0.0], 1 + math.sqrt(0.5)),
        ([-7.0, 0.0, 0.0], 2.0),
    ):
        assert float(one_minus_cos(a, a - np.array(b))) == pytest.approx(expected, rel=1e-15)
    assert float(one_minus_cos(a, 0 * a)) == 0.0


@pytest.mark.parametrize("scale", [1e150, 1e-150])
def test_one_minus_cos_is_free_of_units(scale: float) -> None:
    rng = np.random.default_rng(3)
    a, delta = rng.standard_normal(20), 1e-5 * rng.standard_normal(20)
    plain = float(one_minus_cos(a, delta))
    assert float(one_minus_cos(a * scale, delta * scale)) == pytest.approx(plain, rel=1e-13)


def test_one_minus_cos_of_a_zero_vector_is_nan() -> None:
    a = np.array([1.0, 2.0])
    assert np.isnan(one_minus_cos(0 * a, a))
    assert np.isnan(one_minus_cos(a, a))


@pytest.mark.parametrize("sine", [1e-150, 1e-13, 1e-6, 0.3, 0.999999, 1 - 2**-53])
def test_one_minus_cos_of_sine(sine: float) -> None:
    with mpmath.workdps(400):
        exact = float(1 - mpmath.sqrt(1 - mpmath.mpf(sine) ** 2))
    assert float(numerics.one_minus_cos_of_sine(jnp.asarray(sine))) == pytest.approx(exact, rel=1e-13)


def test_a_sine_of_one_or_more_says_nothing() -> None:
    for sine in (1.0, 1.5, np.inf):
        assert float(numerics.one_minus_cos_of_sine(jnp.asarray(sine))) == 2.0


# --- norms and error bounds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 1e200, 1e-200, 1e306])
def test_norm_neither_overflows_nor_underflows(scale: float) -> None:
    x = np.array([[3.0, -4.0], [12.0, 0.0]])
    assert float(norm(x * scale)) == pytest.approx(13.0 * scale, rel=1e-15)
    assert float(norm(x * scale, np.array([84.0 * scale]), 0.0)) == pytest.approx(85.0 * scale, rel=1e-15)


def test_norm_of_nothing_of_zero_and_of_nan() -> None:
    assert float(norm(jnp.zeros((2, 3)))) == 0.0
    assert float(norm(jnp.zeros((0,)), jnp.zeros((3, 0)))) == 0.0
    assert np.isnan(norm(np.array([1.0, np.nan])))
    assert not np.isfinite(norm(np.array([1.0, np.inf])))


def test_rounding_bounds_the_error_of_a_cancelling_residual() -> None:
    """|| W - Q X || where W is Q X rounded: all that is computed is noise, and the bound must cover it."""
    rng = np.random.default_rng(4)
    for m in (2, 10, 40):
        q, x = rng.standard_normal((3, m)), rng.standard_normal((m, m)) * 10.0 ** rng.uniform(-3, 3, m)
        w = q @ x
        exact = [
            Fraction(float(w[j, a])) - sum(Fraction(float(q[j, i])) * Fraction(float(x[i, a])) for i in range(m))
            for j in range(3)
            for a in range(m)
        ]
        true_norm = math.sqrt(sum(e * e for e in exact))
        computed = float(norm(w - numerics.matmul(jnp.asarray(q), jnp.asarray(x))))
        bound = float(numerics.rounding(m, jnp.asarray(w), numerics.matmul(jnp.abs(q), jnp.abs(x))))
        assert abs(computed - true_norm) <= bound
        assert bound < 1e-13 * np.linalg.norm(np.abs(q) @ np.abs(x)) * (m + 10)


def test_gram_is_exactly_symmetric_and_keeps_small_entries() -> None:
    rng = np.random.default_rng(5)
    x = np.tril(rng.standard_normal((8, 8)) * 1e-6, -1) + np.eye(8)
    k = np.asarray(numerics.gram(jnp.asarray(x)))
    assert np.array_equal(k, k.T)
    for i in range(8):
        for j in range(8):
            exact = math.fsum(x[i] * x[j])
            assert abs(k[i, j] - exact) <= 2e-15 * math.fsum(np.abs(x[i] * x[j]))


# --- bases and projections ----------------------------------------------------------------------------------

DEPENDENT = {
    "independent": lambda rng: rng.standard_normal((5, 7)),
    "duplicates": lambda rng: np.repeat(rng.standard_normal((3, 7)), 2, axis=0),
    "combinations": lambda rng: rng.standard_normal((6, 3)) @ rng.standard_normal((3, 7)),
    "more points than coordinates": lambda rng: rng.standard_normal((9, 4)),
    "a zero row": lambda rng: np.vstack([rng.standard_normal((2, 4)), np.zeros((1, 4)), rng.standard_normal((1, 4))]),
    "scales": lambda rng: rng.standard_normal((5, 7)) * np.array([[1e-90], [1e90], [1.0], [1e-3], [1e3]]),
}


@pytest.mark.parametrize("case", DEPENDENT)
@pytest.mark.parametrize("masked", [False, True])
def test_orthonormal_basis_spans_the_masked_points(case: str, masked: bool) -> None:
    rng = np.random.default_rng(6)
    points = DEPENDENT[case](rng)
    mask = np.arange(points.shape[0]) % 2 == 0 if masked else np.ones(points.shape[0], bool)
    basis = np.asarray(basis_of(points, mask))
    size = np.linalg.norm(points, axis=1, keepdims=True)
    unit = points / np.where(size > 0, size, 1.0)
    rank = np.linalg.matrix_rank(unit[mask])
    inner = basis @ basis.T
    assert np.array_equal(np.diag(inner) > 0.5, np.any(basis != 0, axis=1))
    assert round(np.trace(inner)) == rank
    np.testing.assert_allclose(inner, np.diag(np.round(np.diag(inner))), atol=1e-14)
    assert not np.any(basis[~mask])
    np.testing.assert_allclose(basis.T @ basis, ref.projector(unit, np.flatnonzero(mask)), atol=1e-13)


def test_nearly_dependent_points_are_kept_and_stay_orthogonal() -> None:
    rng = np.random.default_rng(7)
    points = rng.standard_normal((1, 6)) + 1e-9 * rng.standard_normal((4, 6))
    basis = np.asarray(basis_of(points, np.ones(4, bool)))
    np.testing.assert_allclose(basis @ basis.T, np.eye(4), atol=1e-14)
    residual = points - points @ basis.T @ basis
    assert np.max(np.abs(residual)) < 1e-15


def test_projection_inside_on_and_outside_the_span() -> None:
    rng = np.random.default_rng(8)
    points, weights = rng.standard_normal((3, 6)), rng.standard_normal((4, 6))
    basis = basis_of(points, np.ones(3, bool))
    once = numerics.project(jnp.asarray(weights), basis)
    np.testing.assert_allclose(once, weights @ ref.projector(points, range(3)), atol=1e-14)
    np.testing.assert_allclose(numerics.project(once, basis), once, atol=1e-15)
    np.testing.assert_allclose(numerics.project(weights - once, basis), 0.0, atol=1e-15)


# --- eigenvalues and sweeps ---------------------------------------------------------------------------------


def psd(seed: int, m: int, rank: int, decay: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((m, rank)) * decay ** np.arange(rank)
    return factor @ factor.T


MATRICES = {
    "one by one": np.array([[3.5]]),
    "identity": np.eye(12),
    "two equal": np.diag([2.0, 2.0, 1.0]),
    "nearly equal": np.diag([1.0, 1.0 - 1e-9, 0.5]),
    "rank one": psd(0, 8, 1),
    "full": psd(1, 12, 12),
    "condition 1e12": psd(2, 7, 7, 0.01),
    "huge": psd(3, 5, 5) * 1e120,
    "tiny": psd(3, 5, 5) * 1e-120,
}


@pytest.mark.parametrize("case", MATRICES)
def test_top_eigenvalue_is_a_tight_upper_bound(case: str) -> None:
    matrix = MATRICES[case]
    truth = float(np.linalg.eigvalsh(matrix)[-1])
    bound = float(top_eigenvalue(matrix))  # an upper bound up to rounding: the logarithm of a huge size costs digits
    assert truth * (1 - 1e-13) <= bound <= truth * (1 + 1e-8)


def test_top_eigenvalue_of_zero() -> None:
    assert float(top_eigenvalue(np.zeros((4, 4)))) == 0.0


def swept_by_numpy(matrix: np.ndarray, pivots: np.ndarray) -> np.ndarray:
    """BB: -inv(K_BB), BF: inv(K_BB) K_BF, FF: Schur complement, from an explicit inverse."""
    b, f = np.flatnonzero(pivots), np.flatnonzero(~pivots)
    inverse = np.linalg.inv(matrix[np.ix_(b, b)])
    out = np.zeros_like(matrix)
    out[np.ix_(b, b)] = -inverse
    out[np.ix_(b, f)] = inverse @ matrix[np.ix_(b, f)]
    out[np.ix_(f, b)] = out[np.ix_(b, f)].T
    out[np.ix_(f, f)] = matrix[np.ix_(f, f)] - matrix[np.ix_(f, b)] @ inverse @ matrix[np.ix_(b, f)]
    return out


@pytest.mark.parametrize("pivots", ["000000", "111111", "100000", "010110", "011111"])
def test_sweep_is_inverse_and_schur_complement(pivots: str) -> None:
    matrix, chosen = psd(4, 6, 6), np.array([c == "1" for c in pivots])
    out = np.asarray(sweep(matrix, chosen))
    np.testing.assert_allclose(out, swept_by_numpy(matrix, chosen), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(out, out.T, atol=1e-12)


def test_sweep_leaves_dependent_pivots_out() -> None:
    """Points 0 and 1 are equal, 4 = 2 + 3, 5 = 0: the first of each family is used, the rest are zero."""
    x = np.random.default_rng(9).standard_normal((6, 8))
    x[1], x[4], x[5] = x[0], x[2] + x[3], 0.0
    matrix = x @ x.T
    out = np.asarray(sweep(matrix, np.ones(6, bool)))
    used = np.array([True, False, True, True, False, False])
    expected = np.zeros((6, 6))
    expected[np.ix_(used, used)] = -np.linalg.inv(matrix[np.ix_(used, used)])
    np.testing.assert_allclose(out, expected, atol=1e-12)
    np.testing.assert_allclose(matrix @ -out @ matrix, matrix, atol=1e-12)


def test_sweep_of_a_singular_block_keeps_the_rest() -> None:
    """A free index beside two equal pivots still gets its Schur complement."""
    x = np.random.default_rng(10).standard_normal((4, 5))
    x[2] = x[0]
    matrix, pivots = x @ x.T, np.array([True, True, True, False])
    out = np.asarray(sweep(matrix, pivots))
    smaller = swept_by_numpy(matrix[np.ix_([0, 1, 3], [0, 1, 3])], np.array([True, True, False]))
    np.testing.assert_allclose(out[np.ix_([0, 1, 3], [0, 1, 3])], smaller, atol=1e-12)
    np.testing.assert_allclose(out[2], 0.0, atol=1e-12)


def test_sweep_solves_badly_scaled_systems() -> None:
    scales = 10.0 ** np.array([-40.0, 0.0, 40.0, 3.0])
    matrix = psd(11, 4, 6) * scales[:, None] * scales
    out = -np.asarray(sweep(matrix, np.ones(4, bool))) * scales[:, None] * scales
    np.testing.assert_allclose(out, np.linalg.inv(psd(11, 4, 6)), rtol=1e-11)


# --- precision of the whole path ----------------------------------------------------------------------------


def products(jaxpr: Any) -> list[object]:
    """The precision of every dot_general of a program, loops and calls included."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            found.append(equation.params["precision"])
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                found += products(inner)
    return found


def test_every_product_of_the_main_path_states_the_highest_precision(relu: ga.models.Network) -> None:
    def path(key: jax.Array, dim: jax.Array, forget: jax.Array) -> object:
        data = ga.data.gaussian(key, 4, dim)
        run = ga.train.train(key, relu, data, num_steps=10, checkpoints=2)
        point = ga.kkt.limit_point(relu, data, run)
        fitted = ga.kkt.fit_multipliers(relu, data, run.params)
        after = ga.unlearn.gradient_ascent(relu, data, point, forget)
        certificates = {name: make(relu, data, fitted, forget) for name, make in ga.certificates.ALL.items()}
        bound = ga.bounds.instance(relu, data, point, forget, certificates["projection"])
        return after, certificates, bound, ga.data.assumptions(data, relu)

    traced = jax.make_jaxpr(path)(jax.random.key(0), 1e6, jnp.arange(4) == 1)
    precisions = products(traced.jaxpr)
    assert len(precisions) > 30
    highest = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)
    assert [p for p in precisions if p != highest] == []


def test_is_traced() -> None:
    seen = []
    jax.jit(lambda x: seen.append(checks.is_traced(1.0, {"a": x})) or x)(1.0)
    assert seen == [True]
    assert not checks.is_traced(1.0, np.ones(2), jnp.ones(2), None)
