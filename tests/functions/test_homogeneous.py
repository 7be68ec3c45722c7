"""Theorem S on networks given as functions, against NumPy loops and against points known in closed form."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import functions as ref

import gaunlearn_jax as ga
from gaunlearn_jax.functions import best_fraction, gap_left, margins, points


def mlp(params, x):
    for w in params[:-1]:
        x = jax.nn.relu(x @ w)
    return x @ params[-1]


def pooled(params, x):
    return mlp(params[1:], jnp.max(jax.nn.relu(x @ params[0]), axis=1))


def random_network(depth, conv=False):
    """The first random layers with scores of both signs, none small; labels are signs, point 1 weighs the most."""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        layers = [rng.standard_normal(s) for s in [(9, 7), *[(7, 7)] * (depth - 2), (7,)]]
        xs = rng.standard_normal((6, 2, 9) if conv else (6, 9))
        scores = np.array([ref.forward(layers, x, conv)[0] for x in xs])
        if len(set(np.sign(scores))) == 2 and np.min(np.abs(scores)) > 0.05 * np.max(np.abs(scores)):
            y = np.sign(scores)
            lam = ref.multipliers(ref.rescaled(layers, xs, y, np.arange(6), conv), xs, y, conv)
            order = np.roll(np.argsort(-lam), 1)
            if np.max(lam) > 0.1:
                return layers, xs[order], y[order]
    raise AssertionError("no network")


CASES = [(2, False), (3, False), (4, False), (5, False), (3, True)]


@pytest.fixture(scope="module", params=CASES, ids=lambda c: f"{'conv' if c[1] else 'mlp'}{c[0]}")
def case(request):
    depth, conv = request.param
    layers, xs, y = random_network(depth, conv)
    options = {"patches": xs} if conv else {}
    answer = ga.homogeneous(pooled if conv else mlp, layers, xs, y, [1], lipschitz=1.0, **options)
    theta = ref.rescaled(layers, xs, y, np.arange(6), conv)
    return answer, theta, xs, y, conv


def test_what_is_measured_of_the_network_is_what_loops_say(case):
    a, theta, xs, y, conv = case
    lam = ref.multipliers(theta, xs, y, conv)
    np.testing.assert_allclose(a.multipliers, lam, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(a.margins, ref.margins(theta, xs, y, conv), rtol=1e-10)
    assert a.epsilon == pytest.approx(ref.size(ref.residual(theta, xs, y, lam, conv)), rel=1e-9)
    assert a.norm == pytest.approx(ref.size(theta), rel=1e-12)
    assert a.delta == pytest.approx(max(np.max(lam * (ref.margins(theta, xs, y, conv) - 1)), 0), rel=1e-7, abs=1e-12)


def test_theorem_s_is_an_identity(case):
    a, theta, xs, y, conv = case
    kept = [0, 2, 3, 4, 5]
    for x, name in ((a.x, "scaled"), (1.0, "span")):
        tilde, lam = ref.scaled(theta, a.multipliers, xs, kept, x, conv)
        epsilon = ref.size(ref.residual(tilde, xs, y, lam, conv))
        assert a.certificates[name].epsilon == pytest.approx(epsilon, rel=1e-9)
        q = ref.margins(tilde, xs, y, conv)
        np.testing.assert_allclose(q[kept], ref.margins(theta, xs, y, conv)[kept], rtol=1e-10)
        delta = max(np.max(lam * (q - 1)), 0)
        assert a.certificates[name].delta == pytest.approx(delta, rel=1e-7, abs=1e-12)
        assert a.certificates[name].norm == pytest.approx(ref.size(tilde), rel=1e-10)
    assert a.formula == pytest.approx(a.certificates["scaled"].epsilon, rel=1e-9)


def test_the_scale_is_the_best_one(case):
    a, theta, xs, y, conv = case
    for x in a.x * np.array([0.5, 0.9, 0.999, 1.001, 1.1, 2.0]):
        tilde, lam = ref.scaled(theta, a.multipliers, xs, [0, 2, 3, 4, 5], x, conv)
        assert ref.size(ref.residual(tilde, xs, y, lam, conv)) >= a.certificates["scaled"].epsilon * (1 - 1e-12)


def test_steps_are_taken_from_the_network_at_margin_one(case):
    a, theta, xs, y, conv = case
    lam = np.where(np.arange(6) == 1, a.multipliers, 0)
    h = [w - r for w, r in zip(theta, ref.residual(theta, xs, y, lam, conv), strict=True)]
    tilde = ref.scaled(theta, a.multipliers, xs, [0, 2, 3, 4, 5], a.x, conv)[0]
    for step in a.steps.values():
        first = 0.0 if step is a.steps["nothing"] else 1.0
        hat = [w - (first if l == 0 else step.fraction) * v for l, (w, v) in enumerate(zip(theta, h, strict=True))]
        for got, expected in zip(step.params, hat, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-9)
        assert step.gap == pytest.approx(ref.gap(hat, tilde), rel=1e-6, abs=1e-13)
        # the certificate is itself a point of which the bound speaks
        assert step.least_nearby <= step.gap * (1 + 1e-9)
        q = ref.margins(hat, xs, y, conv)
        assert (step.broken, step.lost) == (np.sum(q[[0, 2, 3, 4, 5]] <= 0), int(q[1] <= 0))


@pytest.mark.parametrize(("depth", "conv"), [(2, False), (3, True), (4, False)])
def test_orthogonal_points_leave_what_the_closed_form_says(depth, conv):
    """The exact networks before and after: gaps to the retrained one, and bounds that no KKT point breaks."""
    layers, xs, y, lam = ref.aligned(4, 4, depth, conv)
    fewer = ref.aligned(3, 4, depth)[0]
    goal = [np.insert(fewer[0], 1, 0.0, axis=0), *fewer[1:]]
    options = {"patches": xs} if conv else {}
    a = ga.homogeneous(pooled if conv else mlp, layers, xs, y, [1], lipschitz=1.0, train=lambda x, y: goal, **options)
    np.testing.assert_allclose(a.multipliers, lam, rtol=1e-9)
    assert max(a.epsilon, a.delta, a.retrained.epsilon) < 1e-12
    c = best_fraction(depth, 0.75, 0.5)
    assert a.fraction == pytest.approx(c, rel=1e-9)
    given = {"nothing": None, "full": 1.0, "first layer": 0.0, "half": 0.5, "closed form": c}
    for name, fraction in given.items():
        step = a.steps[name]
        assert step.gap_retrained == pytest.approx(gap_left(depth, 0.75, 0.5, fraction), rel=1e-8)
        assert step.gap_retrained == pytest.approx(ref.gap(step.params, goal), rel=1e-8)
        assert step.least <= step.gap_retrained
    assert a.floor <= a.retrained.norm
    # doing nothing is excluded almost sharply, and the full step by its imbalance
    assert a.steps["nothing"].least > 0.9 * a.steps["nothing"].gap_retrained
    norms = np.array([np.sum(w**2) for w in a.steps["full"].params])
    sine = 0.5 * (norms.max() - norms.min()) / norms.sum()
    assert a.steps["full"].least == pytest.approx(1 - np.cos(np.arcsin(sine)), rel=1e-9)
    assert 0 < a.steps["full"].least_nearby <= a.steps["full"].least or a.certificates["scaled"].epsilon > 0.1


def test_a_convolution_of_three_layers_leaves_these_gaps():
    c = best_fraction(3, 0.75, 0.5)
    left = [gap_left(3, 0.75, 0.5, fraction) for fraction in (None, 1.0, 0.5, 0.0, c)]
    np.testing.assert_allclose(left, [0.0221, 0.0053, 0.0010, 0.0010, 0.0005], atol=6e-5)


@pytest.mark.parametrize("depth", [2, 3, 6])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("x", [0.0, 0.3, 0.75, 0.99])
def test_the_fraction_is_the_best_of_a_grid(depth, p, x):
    c = best_fraction(depth, x, p)
    if x == 0 and p == 1:
        return  # nothing is left of the network
    grid = np.linspace(0, 1 / (1 - x), 4001)
    found = [gap_left(depth, x, p, v) for v in grid]
    assert abs(grid[int(np.argmin(found))] - c) <= grid[1]
    assert gap_left(depth, x, p, c) <= min(found) * (1 + 1e-9) + 1e-16
    assert 0 <= c <= 1


def test_the_fraction_in_the_limits():
    assert best_fraction(5, 1 - 1e-7, 1.0) == pytest.approx(0.5, abs=1e-6)
    assert best_fraction(4, 1 - 1e-7, 0.5) == pytest.approx(1 / 5, abs=1e-6)
    assert best_fraction(3, 0.0, 0.5) == 1.0
    s, L, p = 1e-3, 3, 0.4
    left = gap_left(L, 1 - s, p, best_fraction(L, 1 - s, p))
    assert left == pytest.approx(p * (1 - p) * (L - 1) ** 2 * s**2 / (8 * L**2 * (L - p * (L - 1))), rel=2e-3)
    with pytest.raises(ValueError, match="depth 1"):
        best_fraction(1, 0.5, 0.5)


def test_multipliers_keep_the_digits_that_a_gram_matrix_loses():
    """An exact network with nearly parallel gradients: the residual is rounding, and was 1e-8 through the Gram."""
    rng = np.random.default_rng(0)
    x = 1 + 1e-5 * rng.standard_normal((4, 30))
    lam = np.array([1.0, 2.0, 0.5, 1.5])
    w = lam @ x
    both = np.concatenate([x, -x])
    function, layers = margins.margin_function(lambda p, x: x @ p[0], [w / np.min(x @ w)], both, [1] * 4 + [0] * 4)
    found, solved = points.multipliers(function, layers)
    assert points.measured(function, layers, found).epsilon < 1e-12
    assert solved


def test_gradients_in_several_blocks_say_the_same(monkeypatch):
    layers, xs, y = random_network(3)
    whole = ga.homogeneous(mlp, layers, xs, y, [1])
    monkeypatch.setattr(margins, "BLOCK", 8 * 6 * 60)
    parts = ga.homogeneous(mlp, layers, xs, y, [1])
    np.testing.assert_allclose(parts.multipliers, whole.multipliers, rtol=1e-8, atol=1e-12)
    monkeypatch.setattr(margins, "MOST", 100)
    with pytest.raises(ValueError, match="more than 9"):
        ga.homogeneous(mlp, layers, xs, y, [1])


def test_several_classes_flax_like_trees_and_the_answer_in_words():
    """A tree of dictionaries in float32, three classes, a kernel [3, 3, 1, n] on image patches."""
    rng = np.random.default_rng(5)
    params = {"params": {"Conv_0": {"kernel": rng.standard_normal((2, 2, 1, 6)).astype(np.float32)},
                         "Dense_0": {"kernel": rng.standard_normal((6, 3)).astype(np.float32)}}}  # fmt: skip
    images = rng.standard_normal((9, 4, 4, 1))

    def apply(tree, x):
        tree = tree["params"]
        cut = x.reshape(len(x), 2, 2, 2, 2).transpose(0, 1, 3, 2, 4).reshape(len(x), 4, 4)
        hidden = jax.nn.relu(cut @ tree["Conv_0"]["kernel"].reshape(4, 6))
        return jnp.max(hidden, axis=1) @ tree["Dense_0"]["kernel"]

    cut = images.reshape(9, 2, 2, 2, 2).transpose(0, 1, 3, 2, 4).reshape(9, 4, 4)
    labels = np.argmax(apply(params, images), axis=1)
    a = ga.homogeneous(apply, params, images, labels, [2, 4], patches=cut, lipschitz=2**0.5)
    assert a.names == ("params/Conv_0/kernel", "params/Dense_0/kernel")
    assert a.formula == pytest.approx(a.certificates["scaled"].epsilon, rel=1e-9)
    assert a.rank == a.size == 4
    assert a.fraction_reason == ga.Reason.MODEL
    assert "closed form" not in a.steps
    assert a.steps["half"].params["params"]["Dense_0"]["kernel"].shape == (6, 3)
    text = str(a)
    assert "span all 4 directions" in text
    assert "No fraction in closed form" in text
    assert a._repr_html_().startswith("<table><caption>HomogeneousAudit")
    kept = json.loads(json.dumps(a.to_dict(), allow_nan=False))
    assert kept["verdict"] == a.verdict
    assert "params" not in kept["steps"]["half"]
