"""Lower bounds near exact KKT points of orthonormal points: never above the true angle, and attained by the span."""

from __future__ import annotations

import numpy as np
import pytest
from reference import functions as ref

from gaunlearn_jax.functions import lower_bounds
from gaunlearn_jax.functions.patches import Patches


def instance(rng, way):
    """An exact KKT network of some orthonormal points, and one near it: (depth, points, retained, labels, both)."""
    depth, first, second = int(rng.integers(2, 6)), int(rng.integers(1, 5)), int(rng.integers(1, 5))
    many = first + second
    goal = ref.aligned(first, second, depth)[0]
    x = np.linalg.qr(rng.standard_normal((many + 2, many + 2)))[0]
    goal = [x[:many].T @ goal[0], *goal[1:]]
    size = 10 ** rng.uniform(-3, 0)
    leak = size * x[many:].T @ rng.standard_normal((2, 2))
    near = {
        "beside": [goal[0] + leak, *goal[1:]],
        "one layer": [*goal[:-1], goal[-1] * (1 + size)],
        "all layers": [w * (1 + size * rng.standard_normal()) + (leak if w is goal[0] else 0.0) for w in goal],
        "anywhere": [w + size * rng.standard_normal(w.shape) for w in goal],
    }[way]
    labels = np.repeat([1, 0, 1], [first, second, 2])
    return depth, x, np.arange(many + 2) < many, labels, tuple(near), tuple(goal)


@pytest.mark.parametrize("way", ["beside", "one layer", "all layers", "anywhere"])
def test_no_kkt_point_is_nearer_than_the_bounds_say(way):
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(60):
        depth, x, kept, labels, near, goal = instance(rng, way)
        patches = Patches(x[:, None], 0, True)
        alpha = lower_bounds.span_angle(patches, near, patches.span(kept), kept)
        least = lower_bounds.least_angle(alpha, lower_bounds.imbalance(near), 0.0)
        ratios.append(least / (2 * np.arcsin(np.sqrt(ref.gap(near, goal) / 2))))
        assert lower_bounds.norm_floor(patches, depth, labels, ~kept, 1.0) <= ref.size(goal)
    assert max(ratios) <= 1
    if way == "beside":
        assert min(ratios) > 1 - 1e-6


def test_slack_takes_from_both_angles():
    assert lower_bounds.least_angle(0.5, 0.0, 0.1) == pytest.approx(0.5 - np.arcsin(0.1))
    assert lower_bounds.least_angle(0.0, 0.5, 0.1) == pytest.approx(np.arcsin(0.2))
    assert lower_bounds.least_angle(0.5, 0.5, 1.0) == 0.0


def test_nearly_dependent_patches_have_no_span_bound():
    x = np.eye(4)[[0, 1, 0]]
    patches = Patches(x[:, None], 0, True)
    layers, kept = (np.ones((4, 2)), np.ones(2)), np.ones(3, bool)
    assert lower_bounds.span_angle(patches, layers, patches.span(kept), kept) == pytest.approx(
        np.arcsin((4 / 10) ** 0.5)
    )
    x[2, 2] = 1e-12  # below the rank tolerance, above rounding
    assert lower_bounds.span_angle(patches, layers, patches.span(kept), kept) == 0.0
