"""Networks with several classes: amplitudes by loops, classes of draws, two classes are one output, bad input."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from gaunlearn_jax.data import from_classes, from_points
from gaunlearn_jax.models import ClassNetwork, LinearClasses, ReLUClasses, TwoLayerReLU, spread_labels


def test_amplitudes_are_the_differences_of_second_layers() -> None:
    rng = np.random.default_rng(0)
    u, y = rng.normal(size=(4, 3)), np.array([3, 0, 2, 1, 0])
    net = ClassNetwork(jnp.asarray(u), 0.25)
    problem = net.problem(SimpleNamespace(points=jnp.asarray(rng.normal(size=(5, 6))), classes=jnp.asarray(y)))
    expected = [u[y[i]] - u[c] for i in range(5) for c in range(4) if c != y[i]]
    np.testing.assert_array_equal(problem.amplitudes, np.array(expected).T)
    layout = problem.layout
    assert layout is not None
    assert layout.row == layout.point_of_constraint == tuple(i for i in range(5) for _ in range(3))


@pytest.mark.parametrize("classes", [2, 3, 4, 7])
def test_a_draw_has_every_class_and_keeps_its_labels_apart(classes: int) -> None:
    labels = np.where(np.random.default_rng(classes).permutation(20) < 10, 1.0, -1.0)
    found = np.asarray(spread_labels(jnp.asarray(labels), classes))
    assert set(found) == set(range(classes))
    assert np.array_equal(found % 2 == 0, labels > 0)
    for sign, own in ((1.0, range(0, classes, 2)), (-1.0, range(1, classes, 2))):
        taken = [list(own)[t % len(own)] for t in range(10)]
        assert list(found[labels == sign]) == taken


def test_two_classes_are_the_network_of_one_output() -> None:
    points = np.random.default_rng(1).normal(size=(4, 5))
    data = from_points(points, [1.0, -1.0, -1.0, 1.0])
    several, one = ReLUClasses(6, 2).problem(data), TwoLayerReLU(6).problem(data)
    np.testing.assert_allclose(several.amplitudes, one.amplitudes, rtol=1e-15)
    assert ReLUClasses(7, 4).num_classes == 4


def test_soft_margins_are_cross_entropy() -> None:
    data = from_classes(np.eye(3), [0, 1, 1])
    problem = LinearClasses(3).problem(data)
    w = np.random.default_rng(2).normal(size=(3, 3))
    scores = w @ np.asarray(data.points).T
    soft = problem.soft_margins(problem.margins(problem.preactivations(jnp.asarray(w))))
    for i, y in enumerate((0, 1, 1)):
        loss = np.log(np.sum(np.exp(scores[:, i]))) - scores[y, i]
        assert np.log1p(np.exp(-soft[i])) == pytest.approx(loss, rel=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearClasses(1), "num_classes is 1, expected an integer of at least 2"),
        (lambda: ReLUClasses(3, 4), "num_neurons is 3 for 4 classes, expected at least one neuron for each class"),
        (lambda: ReLUClasses(output_weights=[[1.0, 2.0], [1.0, 2.0]]), r"output_weights\[1\] equals output_weights"),
        (lambda: ReLUClasses(3, output_weights=np.eye(2)), "num_neurons is 3 but output_weights has shape"),
        (lambda: from_classes(np.eye(3), [0, 1, 1.5]), r"classes\[2\] is 1.5, expected an integer from 0"),
        (lambda: from_classes(np.eye(3), [0, -1, 1]), r"classes\[1\] is -1, expected an integer from 0"),
        (lambda: from_classes(np.eye(3), [1, 1, 1]), "all 3 classes are 1, expected at least two"),
        (lambda: from_classes(np.eye(3), [0, 1]), r"classes has shape \(2,\)"),
        (lambda: LinearClasses(2).problem(from_classes(np.eye(3), [0, 1, 2])), "the data have class 2, the network"),
        (lambda: TwoLayerReLU(4).problem(from_classes(np.eye(3), [0, 1, 2])), "the data have classes, this network"),
    ],
)
def test_bad_input_is_one_sentence(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
