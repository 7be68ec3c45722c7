"""Networks that are not homogeneous, floors that do not hold, and other bad input: one sentence each."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refuses

import gaunlearn_jax as ga

RNG = np.random.default_rng(7)
X = RNG.standard_normal((4, 8))
LAYERS = {"w": RNG.standard_normal((8, 6)), "v": RNG.standard_normal((6, 5)), "z": RNG.standard_normal((5, 3))}
BIAS = RNG.standard_normal(6)


def inner_bias(p, x):
    return jax.nn.relu(jax.nn.relu(x @ p["w"] + p["bias"]) @ p["v"]) @ p["z"]


def frozen_bias(p, x):
    return jax.nn.relu(jax.nn.relu(x @ p["w"]) @ p["v"] + 0.3) @ p["z"]


def gelu(p, x):
    return jax.nn.relu(jax.nn.gelu(x @ p["w"]) @ p["v"]) @ p["z"]


def normalised(p, x):
    h = x @ p["w"]
    return jax.nn.relu(jax.nn.relu(h / jnp.linalg.norm(h, axis=-1, keepdims=True)) @ p["v"]) @ p["z"]


def batch_norm(p, x):
    h = x @ p["w"]
    return jax.nn.relu(jax.nn.relu(h - jnp.mean(h, axis=0)) @ p["v"]) @ p["z"]


def twice(p, x):
    return jax.nn.relu(jax.nn.relu(x @ p["w"]) @ p["v"] @ p["v"].T @ p["v"]) @ p["z"]


CASES = {
    "an inner bias": (inner_bias, LAYERS | {"bias": BIAS}, "layer bias: .* it looks like a bias"),
    "a frozen bias": (frozen_bias, LAYERS, "layer w: .* a bias or an activation that is not homogeneous"),
    "gelu": (gelu, LAYERS, r"layer w: .* \(GELU, tanh, softmax\) comes after it"),
    "a normalisation": (normalised, LAYERS, "layer w: .* its scale has no effect"),
    "a batch norm": (batch_norm, LAYERS, "changes with the other points .* a batch norm in training mode"),
    "a layer used twice": (twice, LAYERS, "layer v: .* it enters more than once"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_not_homogeneous_is_named(name, unchecked):
    apply, params, message = CASES[name]
    y = np.argmax(apply(params, X), axis=1)
    refuses(lambda: ga.homogeneous(apply, params, X, y, [0]), message)


def test_four_equal_patches_have_no_floor():
    """w = a = 1/2, a sum over four equal unit patches: q = 1 with ||theta||^2 = 1/2, below the floor 2."""
    patches = np.zeros((2, 4, 2))
    patches[0, :, 0] = patches[1, :, 1] = 1.0
    params = [np.eye(2) / 2, np.array([0.5, -0.5])]

    def summed(p, x):
        return jnp.sum(jax.nn.relu(x @ p[0]), axis=1) @ p[1]

    def answer(lipschitz):
        return ga.homogeneous(summed, params, patches, [1, -1], [0], patches=patches, lipschitz=lipschitz)

    refuses(lambda: answer(1.0), "sums over patches and layers with shared weights need a larger constant")
    patches *= 1e-3  # in any units
    refuses(lambda: answer(1.0), "sums over patches and layers with shared weights need a larger constant")
    patches *= 1e3
    assert answer(None).floor is None
    a = answer(2.0)  # the square root of four patches
    assert a.floor**2 == pytest.approx(2 * (1 / (4 * 4)) ** 0.5, rel=1e-9)
    assert a.floor <= a.certificates["scaled"].norm


def linear(p, x):
    return x @ p[0]


GOOD = np.sign(X @ BIAS[[0, 1, 2, 3, 4, 5, 0, 1]])
WEIGHTS = [BIAS[[0, 1, 2, 3, 4, 5, 0, 1]]]
BAD = {
    "no arrays": (lambda: ga.homogeneous(linear, [], X, GOOD, [0]), "params holds no arrays"),
    "a wrong label": (lambda: ga.homogeneous(linear, WEIGHTS, X, -GOOD, [0]), "does not fit the data"),
    "one label": (lambda: ga.homogeneous(linear, WEIGHTS, X, np.ones(4), [0]), "y has 1 different values, expected 2"),
    "labels": (lambda: ga.homogeneous(linear, WEIGHTS, X, GOOD[:3], [0]), "expected one label for each of 4 points"),
    "zero layer": (lambda: ga.homogeneous(linear, [np.zeros(8)], X, GOOD, [0]), "zero everywhere"),
    "integers": (lambda: ga.homogeneous(linear, [np.ones(8, int)], X, GOOD, [0]), "expected finite floats"),
    "scores": (lambda: ga.homogeneous(lambda p, x: x[None] @ p[0], WEIGHTS, X, GOOD, [0]), "expected scores"),
    "nothing forgotten": (lambda: ga.homogeneous(linear, WEIGHTS, X, GOOD, []), "forget is empty"),
    "all forgotten": (lambda: ga.first_layer(lambda w, x: x @ w, WEIGHTS[0], X, GOOD, range(4)), "leaves nothing"),
    "patches": (lambda: ga.homogeneous(linear, WEIGHTS, X, GOOD, [0], patches=X[:, :5]), "no axis for patches of 5"),
    "wrong patches": (lambda: ga.homogeneous(linear, WEIGHTS, X, GOOD, [0], patches=X[::-1]), "outside the span"),
    "first": (lambda: ga.homogeneous(linear, WEIGHTS, X, GOOD, [0], first="conv"), "a part of exactly one name"),
    "first layer": (lambda: ga.homogeneous(linear, WEIGHTS, X, GOOD, [0], first=3), "the number of a layer"),
    "two arrays": (lambda: ga.first_layer(linear, WEIGHTS * 2, X, GOOD, [0]), "holds 2 arrays, expected one"),
    "lipschitz": (lambda: ga.homogeneous(linear, WEIGHTS, X, GOOD, [0], lipschitz=-1), "lipschitz is -1, expected"),
    "x": (lambda: ga.homogeneous(linear, WEIGHTS, X[0], GOOD, [0]), "with at least 2 points"),
    "nan": (lambda: ga.homogeneous(linear, [WEIGHTS[0] * np.nan], X, GOOD, [0]), "is not finite"),
    "train": (
        lambda: ga.homogeneous(linear, WEIGHTS, X, GOOD, [0], train=lambda x, y: {"w": WEIGHTS[0]}),
        "returned another pytree",
    ),
    "bad train": (
        lambda: ga.homogeneous(linear, WEIGHTS, X, GOOD, [0], train=lambda x, y: [-WEIGHTS[0]]),
        "misclassifies a retained point",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence(name, unchecked):
    refuses(*BAD[name])
