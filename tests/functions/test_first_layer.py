"""Theorem P' on networks of which one matrix is trained: the identity, the layouts, what is refused."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refuses

import gaunlearn_jax as ga

RNG = np.random.default_rng(2)
D, N, M = 40, 5, 6
X = RNG.standard_normal((M, D))
TOKENS = RNG.standard_normal((M, 2, D))
A, B, U = RNG.standard_normal((N, N)), RNG.standard_normal((N, N)), RNG.standard_normal((N, 3))
W = RNG.standard_normal((N, D)) / 2


def deep(w, x):
    """Three layers, the last two frozen, of leaky ReLU and a softmax of three classes."""
    return jax.nn.leaky_relu(jax.nn.leaky_relu(x @ w.T) @ A) @ U


def attention(w, x):
    """Tokens embedded by W, one attention block with a skip connection and frozen weights, tanh, a mean."""
    z = x @ w.T
    mixed = z + jax.nn.softmax(z @ A @ jnp.swapaxes(z, -1, -2), axis=-1) @ z @ B
    return jnp.mean(jnp.tanh(mixed), axis=1) @ U[:, 0]


def skipping(w, x):
    """A head of tanh that also sees the point itself."""
    return jnp.tanh(x @ w.T) @ U[:, 1] + 0.1 * jnp.sin(x[:, 0])


def both_signs(scores):
    return np.sign(scores) if scores.ndim == 1 else np.argmax(scores, axis=1)


CASES = {"deep": (deep, X), "attention": (attention, TOKENS), "tanh": (skipping, X)}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    apply, x = CASES[request.param]
    y = both_signs(np.asarray(apply(W, x)))
    patches = x if x.ndim == 3 else None
    first = ga.first_layer(apply, W, x, y, [0], patches=patches)
    gone = int(np.argmax(np.bincount(np.repeat(np.arange(M), len(first.multipliers) // M), first.multipliers)))
    return ga.first_layer(apply, W, x, y, [gone], patches=patches), apply, x, y, gone


def margins(apply, w, x, y):
    """Margins in the library's order, from scores alone."""
    scores = np.asarray(apply(w, x))
    if scores.ndim == 1:
        return y * scores
    return np.array([scores[i, y[i]] - s for i in range(M) for c, s in enumerate(scores[i]) if c != y[i]])


def test_theorem_p_is_an_identity(case):
    a, apply, x, y, gone = case
    owner = np.repeat(np.arange(M), len(a.multipliers) // M)
    jacobian = np.asarray(jax.jacfwd(lambda w: traced_margins(apply, w, x, y))(jnp.asarray(W)))
    g = jacobian / a.margin
    lam = a.multipliers
    e = W - np.einsum("a,anp->np", lam, g)
    h = np.einsum("a,anp->np", np.where(owner == gone, lam, 0), g)
    rows = np.concatenate([np.atleast_2d(x[i]) for i in range(M) if i != gone])
    inside = h @ np.linalg.pinv(rows) @ rows
    tilde = W - (h - inside)
    np.testing.assert_allclose(
        margins(apply, tilde, x, y)[owner != gone], margins(apply, W, x, y)[owner != gone], rtol=1e-10
    )
    assert a.epsilon == pytest.approx(np.linalg.norm(e), rel=1e-9)
    assert a.rho == pytest.approx(np.linalg.norm(inside), rel=1e-9)
    assert a.formula == pytest.approx(np.linalg.norm(e + inside), rel=1e-10)
    assert abs(a.certificate.epsilon - a.formula) <= 1e-10 * (1 + a.norm)
    assert a.nothing.epsilon == pytest.approx(np.linalg.norm(e + h), rel=1e-9)
    hat = W - h
    np.testing.assert_allclose(a.weights_after, hat, rtol=1e-8, atol=1e-10)
    tau = 1 - np.sum(hat * tilde) / np.linalg.norm(hat) / np.linalg.norm(tilde)
    assert a.certificate.tau == pytest.approx(tau, rel=1e-6, abs=1e-13)
    assert a.certificate.tau <= a.tau_bound
    assert a.step > 0
    assert a.rank < a.size


def traced_margins(apply, w, x, y):
    scores = apply(w, x)
    if scores.ndim == 1:
        return jnp.asarray(y) * scores
    return jnp.stack([scores[i, y[i]] - scores[i, c] for i in range(M) for c in range(3) if c != y[i]])


def test_the_best_multipliers_are_stationary(case):
    a = case[0]
    q = margins(case[1], W, case[2], case[3]) / a.margin
    np.testing.assert_allclose(a.margins, q, rtol=1e-10)
    assert a.delta == pytest.approx(max(np.max(a.multipliers * (q - 1)), 0), abs=1e-10)
    assert np.min(a.margins) == pytest.approx(1, rel=1e-12)


def test_weight_decay_makes_it_stationary():
    """W = sum_i p_i grad q_i / decay at a minimum of the regularised loss: epsilon_1 is what training left."""
    y = both_signs(np.asarray(attention(W, TOKENS)))
    slope = jax.jit(jax.grad(lambda w: jnp.sum(jax.nn.softplus(-y * attention(w, TOKENS))) + 0.01 * jnp.sum(w * w)))
    w = jax.lax.fori_loop(0, 8000, lambda _, w: w - 0.2 * slope(w), 0.3 * jnp.asarray(W))
    a = ga.first_layer(attention, w, TOKENS, y, [1], patches=TOKENS)
    left = float(jnp.linalg.norm(slope(w))) / 0.02
    assert left < 1e-6
    assert a.epsilon <= left + 1e-9
    assert a.verdict in ("forgotten", "partly forgotten")
    assert a.certificate.epsilon < a.nothing.epsilon
    assert "Theorem P'" in str(a)
    assert json.loads(json.dumps(a.to_dict(), allow_nan=False))["verdict"] == a.verdict


def test_all_layouts_of_a_first_layer_say_the_same():
    y = both_signs(np.asarray(attention(W, TOKENS)))
    wanted = ga.first_layer(attention, W, TOKENS, y, [1], patches=TOKENS)
    turned = ga.first_layer(lambda w, x: attention(w.T, x), W.T, TOKENS, y, [1], patches=TOKENS)
    kernel = W.T.reshape(5, 8, 1, N)
    flat = ga.first_layer(
        lambda w, x: attention(w["kernel"].reshape(D, N).T, x), {"kernel": kernel}, TOKENS, y, [1], patches=TOKENS
    )
    for a in (turned, flat):
        assert a.certificate == pytest.approx(wanted.certificate, rel=1e-8, abs=1e-12)
        np.testing.assert_allclose(a.multipliers, wanted.multipliers, rtol=1e-7, atol=1e-10)
    assert flat.weights_after["kernel"].shape == kernel.shape


def test_the_floor_is_below_what_fits_and_is_attained():
    """One linear score and orthonormal points: the least norm with margin 1 on M points is sqrt(M)."""
    x, y = np.eye(4), np.array([1, -1, 1, 1])
    a = ga.first_layer(lambda w, x: x @ w, 1.0 * y, x, y, [2], lipschitz=1.0)
    assert a.floor == pytest.approx(3**0.5, rel=1e-9)
    assert a.floor <= a.certificate.norm
    assert (a.epsilon, a.rho, a.certificate.epsilon) == pytest.approx((0, 0, 0), abs=1e-12)
    assert a.verdict == "forgotten"
    refuses(
        lambda: ga.first_layer(lambda w, x: x @ w, 1.0 * y, x, y, [2], lipschitz=0.9), "lipschitz = 0.9 was declared"
    )
    # where a network without weights has these margins already there is no floor
    shifted = ga.first_layer(lambda w, x: x @ w + 2.0 * x @ y, 1.0 * y, x, y, [2], lipschitz=1.0)
    assert shifted.floor == pytest.approx(3**0.5 * (3 - 2), rel=1e-9)


def test_retained_points_that_span_everything_are_said_so():
    y = both_signs(np.asarray(skipping(W[:, :4], X[:, :4])))
    a = ga.first_layer(skipping, W[:, :4], X[:, :4], y, [0])
    assert a.rank == a.size == 4
    assert "where P = I has no content" in str(a)
    assert a.verdict != "forgotten"


def test_kinks_are_told_from_unfinished_training():
    """w = (1, -1) is the shortest with <w, e_1> >= 1 and <w, (1, 1)> <= 0: w = 2 e_1 - (1, 1), a KKT point on the kink
    of the second constraint, whose derivative JAX takes to be 0; (1, -1.5) is none."""
    x = np.array([[1.0, 0.0, 1.0], [1.0, 1.0, -1.0]])

    def apply(w, x):
        z = x[:, :2] @ w
        return jnp.where(x[:, 2] > 0, z, jax.nn.relu(z) - 1)

    at_kink, off = (
        ga.first_layer(apply, np.array(w), x, [1, -1], [1], patches=x[:, :2]) for w in ([1.0, -1.0], [1.0, -1.5])
    )
    assert at_kink.epsilon == pytest.approx(1.0)
    assert at_kink.nearby < 1e-9
    assert "kinks are the cause" in str(at_kink)
    assert off.nearby == pytest.approx(off.epsilon, rel=1e-6)
    assert "train longer" in str(off)
