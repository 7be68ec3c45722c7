"""Patches and filter banks: cut, drawn and summed as by loops; average pooling; bad input in one sentence."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaunlearn_jax as ga
from gaunlearn_jax.models import Convolution
from gaunlearn_jax.models.registry import network, patches
from verify.instances.records import Shape
from verify.suites.registry import CLAIMS, select

RNG = np.random.default_rng(4)
LABELS = [1.0, -1.0, 1.0]


@pytest.mark.parametrize(("size", "stride"), [(2, None), (2, 1), (3, 3)])
def test_patches_of_images_against_loops(size: int, stride: int | None) -> None:
    images, step = RNG.normal(size=(3, 6, 9 if size == 3 else 6)), stride or size
    want = [
        np.concatenate(
            [
                image[i : i + size, j : j + size].ravel()
                for i in range(0, image.shape[0] - size + 1, step)
                for j in range(0, image.shape[1] - size + 1, step)
            ]
        )
        for image in images
    ]
    np.testing.assert_array_equal(ga.data.patches_of(images, size, stride), want)


def test_windows_of_signals() -> None:
    np.testing.assert_array_equal(ga.data.patches_of([[1, 2, 3, 4]], 2, 1), [[1, 2, 2, 3, 3, 4]])
    with pytest.raises(ValueError, match="not covered by patches of 3 every 3"):
        ga.data.patches_of([[1, 2, 3, 4]], 3)
    with pytest.raises(ValueError, match="stride is 0"):
        ga.data.patches_of([[1, 2, 3, 4]], 2, 0)
    with pytest.raises(ValueError, match=r"images has shape \(2,\)"):
        ga.data.patches_of([1, 2], 2)


@pytest.mark.parametrize("head", [RNG.normal(size=4) / 4, RNG.normal(size=(4, 3))])
def test_margins_outputs_and_the_reduction(head: np.ndarray) -> None:
    """In R^d and in reduced coordinates, with one head for all patches and with one for each."""
    x, w = RNG.normal(size=(3, 3 * 12)), RNG.normal(size=(4, 12))
    data = ga.data.from_points(x, LABELS, patches=3)
    net = Convolution(None, 3, head)
    params, outside = data.reduce(w)
    u = head if head.ndim == 2 else np.repeat(head[:, None], 3, axis=1)
    want = [
        y * sum(u[j, p] * max(0.0, w[j] @ point[12 * p : 12 * p + 12]) for j in range(4) for p in range(3))
        for point, y in zip(x, LABELS, strict=True)
    ]
    problem = net.problem(data)
    z = problem.preactivations(params)
    np.testing.assert_allclose(problem.margins(z), want, rtol=1e-12)
    np.testing.assert_allclose(data.labels * net.outputs(z), want, rtol=1e-12)
    assert float(jnp.sum(params**2) + outside**2) == pytest.approx(np.sum(w**2))
    np.testing.assert_allclose(data.lift(params) @ x.reshape(9, 12).T, z, rtol=1e-10)
    assert problem.num_groups == (2 if head.ndim == 1 else 1)


def test_average_pooling_is_the_same_network() -> None:
    x, w = RNG.normal(size=(3, 8)), jnp.asarray(RNG.normal(size=(2, 4)))
    data = ga.data.from_points(x, LABELS, patches=2)
    plain, mean = (Convolution(None, 2, np.array([0.6, -0.6]) / part).problem(data) for part in (1, 2))
    q = [problem.margins(problem.preactivations(v)) for problem, v in ((plain, w), (mean, 2 * w))]
    np.testing.assert_allclose(q[0], q[1], rtol=1e-14)


def test_the_registry_knows_it() -> None:
    assert network("convolution:patches=3:slope=0.2", 4).negative_slope == 0.2
    assert patches("convolution:patches=3") == network("convolution:patches=3", 4).patches == 3
    assert patches("relu") == 1
    shape = Shape("convolution:patches=3", 4, 6)
    assert shape.entries == 6 * 12**2
    data = shape.draw(jax.random.key(0), jnp.asarray(1e6), {})
    assert data.points.shape == (4, 3 * 12)
    assert data.patches == 3


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: network("convolution:patches=2.5", 4), "patches is 2.5, expected a whole number"),
        (lambda: network("convolution:patches=0", 4), "expected one finite number with 1 <= patches"),
        (
            lambda: Shape("convolution", 4, 6, source="mixture"),
            "source mixture is not drawn in patches, which model convolution needs; use gaussian",
        ),
        (lambda: Convolution(4, 3, np.ones((4, 2))), r"output_weights has shape \(4, 2\), expected \[n, 3\]"),
        (lambda: Convolution(None, 2, [[1.0, 0.0]]), "zero entry"),
        (lambda: Convolution(None, 2, [[1.0, 0.5]]), "one sign"),
        (lambda: ga.data.from_points(np.ones((2, 5)), [1, -1], patches=2), "expected a multiple of 2"),
        (lambda: ga.data.gaussian(jax.random.key(0), 3, 11.0, patches=2), "expected one number with 12 <= dim"),
        (lambda: Convolution(2, 2).problem(ga.data.from_points(np.eye(2), [1, -1])), "1 patches a point, expected 2"),
    ],
)
def test_bad_input_is_one_sentence(make, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


def test_a_plain_run_leaves_its_claims_out() -> None:
    assert {suite.name for suite in CLAIMS} - {suite.name for suite in select([])} >= {"clarke", "entries"}
    assert set(select([], everything=True)) == set(CLAIMS)
    assert [suite.name for suite in select(["entries"])] == ["entries"]
