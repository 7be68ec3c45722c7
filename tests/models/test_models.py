"""Networks against plain loops, Euler's identity, and automatic differentiation."""

from __future__ import annotations

import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference as ref

import gaunlearn_jax as ga
from gaunlearn_jax import models

UNEVEN = [0.5, -0.3, 0.1, -0.6]


def network(kind: str) -> models.Network:
    if kind == "linear":
        return models.Linear()
    if kind == "relu":
        return models.TwoLayerReLU(6)
    return models.TwoLayerLeakyReLU(output_weights=UNEVEN, negative_slope=0.25)


def problem_of(net: models.Network, x: np.ndarray, y: np.ndarray) -> models.MarginProblem:
    return net.problem(SimpleNamespace(points=jnp.asarray(x), labels=jnp.asarray(y)))


KINDS = ("linear", "relu", "leaky")


def setting(kind: str, seed: int = 0) -> tuple[models.Network, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    net = network(kind)
    x, y = rng.standard_normal((5, 7)), np.array([1.0, -1.0, 1.0, -1.0, -1.0])
    w = rng.standard_normal((net.num_neurons, 7))
    return net, x, y, w, np.asarray(net.output_weights)


@pytest.mark.parametrize("kind", KINDS)
def test_preactivations_and_margins_match_plain_loops(kind: str) -> None:
    net, x, y, w, u = setting(kind)
    problem = problem_of(net, x, y)
    z = problem.preactivations(jnp.asarray(w))
    np.testing.assert_allclose(z, ref.preactivations(w, x), rtol=1e-13)
    q = problem.margins(z)
    np.testing.assert_allclose(net.outputs(z) * y, q, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(q, ref.margins(w, x, y, u, net.negative_slope), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_margins_are_homogeneous_of_degree_one(kind: str) -> None:
    net, x, y, w, _ = setting(kind)
    problem = problem_of(net, x, y)
    q = problem.margins(problem.preactivations(jnp.asarray(w)))
    for factor in (0.25, 1024.0, 2.0**-300):
        z = problem.preactivations(jnp.asarray(factor * w))
        assert np.array_equal(problem.margins(z), factor * np.asarray(q))


@pytest.mark.parametrize("kind", KINDS)
def test_coefficients_make_the_combination_of_example_gradients(kind: str) -> None:
    """Q X = sum_i lambda_i y_i g_i, and it is the gradient of sum_i lambda_i q_i where there are no kinks."""
    net, x, y, w, u = setting(kind, 1)
    points, lam = jnp.asarray(x), jnp.array([0.3, 0.0, 2.0, 1.0, 0.7])
    problem = problem_of(net, x, y)
    s = problem.slopes(problem.preactivations(jnp.asarray(w)))
    made = problem.coefficients(lam, s) @ points
    np.testing.assert_allclose(made, ref.combination(x, y, u, np.asarray(lam), np.asarray(s), range(5)), rtol=1e-12)

    def weighted(params: jax.Array) -> jax.Array:
        return jnp.sum(lam * problem.margins(problem.preactivations(params)))

    np.testing.assert_allclose(made, jax.grad(weighted)(jnp.asarray(w)), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_euler_identity_for_every_selection(kind: str) -> None:
    """<theta, y_i g_i> = q_i, also with kinks and whatever fraction they carry."""
    net, x, y, w, _ = setting(kind, 2)
    w[0] -= (w[0] @ x[3]) / (x[3] @ x[3]) * x[3]
    problem = problem_of(net, x, y)
    z = np.asarray(problem.preactivations(jnp.asarray(w))).copy()
    assert abs(z[0, 3]) < 1e-14
    z[0, 3] = 0.0
    for fraction in (0.0, 0.4, 1.0):
        s = problem.slopes(jnp.asarray(z), jnp.full(z.shape, fraction))
        assert float(s[0, 3]) == max(fraction, net.negative_slope)
        for i in range(5):
            one = jnp.zeros(5).at[i].set(1.0)
            gradient = problem.coefficients(one, s) @ x
            assert float(jnp.sum(gradient * w)) == pytest.approx(float(problem.margins(jnp.asarray(z))[i]), abs=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_selection_is_decided_by_the_sign_of_exact_zeros(kind: str) -> None:
    net = network(kind)
    z = jnp.broadcast_to(jnp.array([1e-300, -1e-300, 0.0, -0.0]), (net.num_neurons, 4))
    problem = problem_of(net, np.ones((4, 2)), np.ones(4))
    s = np.asarray(problem.slopes(z, 0.5))
    low = net.negative_slope
    assert np.array_equal(s, np.broadcast_to([1.0, low, max(0.5, low), max(0.5, low)], s.shape))
    assert np.all(np.asarray(problem.slopes(z))[:, 2:] == low)


def test_a_kink_contributes_nothing_to_a_margin() -> None:
    net = models.TwoLayerReLU(2)
    q = problem_of(net, np.ones((2, 2)), np.array([1.0, -1.0])).margins(jnp.array([[0.0, 3.0], [-1.0, 0.0]]))
    assert np.asarray(q).tolist() == [0.0, -3.0 * float(net.output_weights[0])]


@pytest.mark.parametrize("n", [2, 3, 7, 40])
def test_default_second_layer(n: int) -> None:
    u = np.asarray(models.TwoLayerReLU(n).output_weights)
    assert u.shape == (n,)
    assert u.dtype == np.float64
    assert np.array_equal(np.sign(u), [(-1.0) ** j for j in range(n)])
    np.testing.assert_allclose(np.abs(u), 1 / math.sqrt(n), rtol=1e-15)


def test_own_second_layer_and_kinds() -> None:
    net = models.TwoLayerReLU(output_weights=UNEVEN)
    assert (net.num_neurons, net.negative_slope) == (4, 0.0)
    assert np.asarray(net.output_weights).tolist() == UNEVEN
    assert (models.Linear().negative_slope, models.Linear().num_neurons) == (1.0, 1)
    assert network("leaky").negative_slope == 0.25
    assert models.TwoLayerLeakyReLU(output_weights=[0.5, 0.5], negative_slope=0.1).num_neurons == 2
    unit = np.array([1.0, -1.0]) / math.sqrt(2)  # its squares may sum to a hair above 1
    assert models.TwoLayerReLU(output_weights=unit).num_neurons == 2


def test_pairs_that_lower_a_margin_are_free() -> None:
    """v sigma is concave where v < 0; a model without kinks has no choice."""
    x, y = np.ones((2, 2)), np.array([1.0, -1.0])
    free = np.asarray(problem_of(models.TwoLayerReLU(3), x, y).free)
    assert free.tolist() == [[False, True], [True, False], [False, True]]
    assert not np.any(np.asarray(problem_of(models.Linear(), x, y).free))


def test_the_slope_is_static_and_the_second_layer_is_not() -> None:
    traces = []

    @jax.jit
    def total(net: models.Network) -> jax.Array:
        traces.append(net.negative_slope)
        return jnp.sum(net.output_weights)

    assert float(total(models.TwoLayerReLU(output_weights=[0.5, -0.25]))) == 0.25
    assert float(total(models.TwoLayerReLU(output_weights=[0.5, -0.125]))) == 0.375
    assert float(total(models.TwoLayerLeakyReLU(output_weights=[0.5, 0.125]))) == 0.625
    assert traces == [0.0, 0.1]


def test_networks_batch_over_their_second_layer() -> None:
    u = jnp.array([[0.5, -0.5], [0.1, -0.7]])
    z = jnp.array([[1.0, 2.0, -1.0], [3.0, -1.0, 0.5]])
    y = jnp.array([1.0, -1.0, 1.0])
    q = jax.vmap(lambda v: y * models.TwoLayerReLU(output_weights=v).outputs(z))(u)
    np.testing.assert_allclose(q, [[-1.0, -1.0, -0.25], [-2.0, -0.2, -0.35]], rtol=1e-14)


def test_check_shapes_names_the_array(relu: ga.models.Network) -> None:
    problem = problem_of(relu, np.ones((5, 7)), np.ones(5))
    good = {
        "params": (8, 7),
        "preactivations": (8, 5),
        "selection": (8, 5),
        "multipliers": (5,),
        "retained": (5,),
        "forget": (5,),
    }
    models.check_shapes(problem, 5, **{name: jnp.ones(shape) for name, shape in good.items()})
    for name, shape in good.items():
        with pytest.raises(ValueError, match=rf"{name} has shape \(2, 2\), expected \({shape[0]},"):
            models.check_shapes(problem, 5, **{name: jnp.ones((2, 2))})
