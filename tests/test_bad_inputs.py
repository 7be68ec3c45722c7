"""Bad data and networks, row by row: an error before any computing, which names the field and the value and says what
to do.

The annotation checks of the other tests are off here: these are the library's own errors, as a user meets them.
Bad folders, claims, options of the command line and damaged files have their own tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from refusals import INF, KEY, NAN, X, Y, refuses

import gaunlearn_jax as ga

pytestmark = pytest.mark.usefixtures("unchecked")


def with_entry(value: float) -> np.ndarray:
    x = X.copy()
    x[1, 2] = value
    return x


# --- points and labels --------------------------------------------------------------------------------------

POINTS = {
    "NaN": (with_entry(NAN), r"points\[1, 2\] is nan, expected finite numbers; clean the data"),
    "infinity": (with_entry(-INF), r"points\[1, 2\] is -inf, expected finite numbers; clean the data"),
    "complex": (X * 1j, r"points has dtype complex128, expected real numbers"),
    "object": (X.astype(object), r"points has dtype object, expected real numbers"),
    "strings": (X.astype(str), r"points has dtype <U32, expected real numbers"),
    "dates": (X.astype("datetime64[s]"), r"points has dtype datetime64\[s\], expected real numbers"),
    "booleans": (X > 0, r"points has dtype bool, expected real numbers"),
    "ragged": ([[1.0, 2.0], [3.0]], r"points is ragged, expected a rectangular array of numbers"),
    "longdouble": (
        X.astype(np.longdouble),
        r"points has dtype .*128, expected real numbers of at most 64 bits",
    ),
    "masked": (np.ma.masked_less(X, 0.0), r"points is a masked array, expected plain numbers; fill or drop"),
    "None": (None, r"points has dtype object, expected real numbers"),
    "one-dimensional": (X[0], r"points has shape \(4,\), expected 2 dimensions"),
    "three-dimensional": (X[None], r"points has shape \(1, 3, 4\), expected 2 dimensions"),
    "no points": (np.zeros((0, 4)), r"points has shape \(0, 4\), expected at least 2 points"),
    "one point": (X[:1], r"points has shape \(1, 4\), expected at least 2 points"),
    "no coordinates": (np.zeros((3, 0)), r"points has shape \(3, 0\), .* at least 1 coordinate"),
    "a zero vector": (X * [[1.0], [0.0], [1.0]], r"points\[1\] is the zero vector, .* drop it"),
}


@pytest.mark.parametrize("case", POINTS)
def test_points(case: str) -> None:
    points, message = POINTS[case]
    refuses(lambda: ga.data.from_points(points, Y), message)


LABELS = {
    "zero": ([1, 0, -1], r"labels\[1\] is 0, expected \+1 or -1; map the classes"),
    "0 and 1": ([1, 0, 1], r"labels\[1\] is 0, expected \+1 or -1; map the classes"),
    "one half": ([1, -1, 0.5], r"labels\[2\] is 0\.5, expected \+1 or -1; map the classes"),
    "NaN": ([1, NAN, -1], r"labels\[1\] is nan, expected finite numbers"),
    "infinity": ([INF, 1, -1], r"labels\[0\] is inf, expected finite numbers"),
    "strings": (["a", "b", "a"], r"labels has dtype <U1, expected real numbers"),
    "object": (np.array([1, -1, 1], object), r"labels has dtype object, expected real numbers"),
    "complex": ([1, -1, 1j], r"labels has dtype complex128, expected real numbers"),
    "booleans": ([True, False, True], r"labels has dtype bool, expected real numbers"),
    "ragged": ([[1], [1, -1], [1]], r"labels is ragged"),
    "masked": (np.ma.masked_equal([1, -1, 1], -1), r"labels is a masked array, .* fill or drop"),
    "too few": ([1, -1], r"labels has shape \(2,\), expected \(3,\): one label per point"),
    "too many": ([1, -1, 1, -1], r"labels has shape \(4,\), expected \(3,\): one label per point"),
    "none": ([], r"labels has shape \(0,\), expected \(3,\): one label per point"),
    "a column": ([[1], [-1], [1]], r"labels has shape \(3, 1\), expected 1 dimension"),
    "one class": ([1, 1, 1], r"all 3 labels are \+1, expected both classes"),
    "the other class": ([-1, -1, -1], r"all 3 labels are -1, expected both classes"),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels(case: str) -> None:
    labels, message = LABELS[case]
    refuses(lambda: ga.data.from_points(X, labels), message)
    refuses(lambda: ga.data.gaussian(KEY, 3, 1e4, labels), message)
    refuses(lambda: ga.data.mixture(KEY, 3, 1e4, 0.1, labels), message)


# --- draws --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, -3, 2.5, NAN, INF, "4", None, True, [4], 1j])
def test_number_of_points(count: Any) -> None:
    message = rf"num_points is {re.escape(str(count))}, expected an integer of at least 2"
    refuses(lambda: ga.data.gaussian(KEY, count, 1e4), message)
    refuses(lambda: ga.data.mixture(KEY, count, 1e4, 0.1), message)


@pytest.mark.parametrize("dim", [3, 3.999, 0, -1e4, 1.1e15, NAN, INF, "1e4", None, 1e4j, [1e4, 1e5]])
def test_dimension(dim: Any) -> None:
    message = rf"dim is {re.escape(str(dim))}, expected one number with 4 <= dim <= 1e\+15"
    refuses(lambda: ga.data.gaussian(KEY, 4, dim), message)


def test_a_mixture_needs_one_dimension_more() -> None:
    refuses(lambda: ga.data.mixture(KEY, 4, 4, 0.1), r"dim is 4, expected one number with 5 <= dim <= 1e\+15")


@pytest.mark.parametrize("signal", [NAN, INF, -INF, "0.1", None, 0.1j, [0.1, 0.2]])
def test_signal(signal: Any) -> None:
    message = rf"signal is {re.escape(str(signal))}, expected .*finite number"
    refuses(lambda: ga.data.mixture(KEY, 4, 1e4, signal), message)


# --- weights in R^d -----------------------------------------------------------------------------------------

WEIGHTS = {
    "too narrow": (np.ones((2, 3)), r"weights has shape \(2, 3\), expected \[n, 4\] to match the points"),
    "too wide": (np.ones((2, 5)), r"weights has shape \(2, 5\), expected \[n, 4\] to match the points"),
    "one-dimensional": (np.ones(4), r"weights has shape \(4,\), expected 2 dimensions"),
    "NaN": (np.array([[1.0, 2.0, NAN, 0.0]]), r"weights\[0, 2\] is nan, expected finite numbers"),
    "complex": (np.ones((2, 4)) * 1j, r"weights has dtype complex128, expected real numbers"),
    "object": (np.ones((2, 4), object), r"weights has dtype object, expected real numbers"),
    "ragged": ([[1.0], [1.0, 2.0]], r"weights is ragged"),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights(case: str) -> None:
    weights, message = WEIGHTS[case]
    refuses(lambda: ga.data.from_points(X, Y).reduce(weights), message)


def test_drawn_data_neither_reduce_nor_lift() -> None:
    drawn = ga.data.gaussian(KEY, 3, 1e4)
    refuses(lambda: drawn.reduce(np.ones((2, 3))), r"cannot reduce: drawn data .* use from_points")
    refuses(lambda: drawn.lift(jnp.ones((2, 3))), r"cannot lift: drawn data .* use from_points")


def test_lift_names_params_of_the_wrong_width() -> None:
    refuses(
        lambda: ga.data.from_points(X, Y).lift(jnp.ones((2, 4))),
        r"params has shape \(2, 4\), expected \[n, 3\]",
    )


# --- networks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [ga.models.TwoLayerReLU, ga.models.TwoLayerLeakyReLU])
@pytest.mark.parametrize("n", [0, 1, -2, 2.5, NAN, INF, "4", True])
def test_number_of_neurons(n: Any, make: Callable[..., Any]) -> None:
    refuses(lambda: make(n), rf"num_neurons is {n}, expected an integer of at least 2 \(one neuron of each sign\)")


SECOND_LAYERS = {
    "no neuron": ([], r"output_weights has shape \(0,\).* expected real numbers of shape \[n\], n >= 1"),
    "a zero": ([0.5, 0.0, -0.5], r"output_weights\[1\] is 0.*; every u_j must be .*nonzero, drop"),
    "NaN": ([0.5, NAN], r"output_weights\[1\] is nan.* finite"),
    "infinity": ([-INF, 0.5], r"output_weights\[0\] is -inf.* finite"),
    "too large": ([0.9, -0.9], r"sum of output_weights\^2 is 1\.62, expected at most 1; divide"),
    "all positive": ([0.5, 0.5], r"all output_weights have one sign: .* mix the signs"),
    "all negative": ([-0.5, -0.5], r"all output_weights have one sign: .* mix the signs"),
    "two-dimensional": ([[0.5, -0.5]], r"output_weights has shape \(1, 2\).* expected"),
    "complex": ([0.5, -0.5j], r"output_weights .* dtype complex128, expected real numbers"),
    "object": (np.array([0.5, -0.5], object), r"output_weights .* dtype object, expected real numbers"),
    "strings": (["a", "b"], r"output_weights .* dtype <U1, expected real numbers"),
    "ragged": ([[0.5], [0.1, -0.5]], r"output_weights is ragged"),
    "masked": (np.ma.masked_less([0.5, -0.5], 0.0), r"output_weights is a masked array"),
}


@pytest.mark.parametrize("case", SECOND_LAYERS)
def test_second_layer(case: str) -> None:
    weights, message = SECOND_LAYERS[case]
    refuses(lambda: ga.models.TwoLayerReLU(output_weights=weights), message)


def test_the_number_of_neurons_must_match_the_second_layer() -> None:
    message = r"num_neurons is 10.* output_weights .*2"
    refuses(lambda: ga.models.TwoLayerReLU(10, output_weights=[0.5, -0.5]), message)


@pytest.mark.parametrize("slope", [1.0, 1.5, -0.1, NAN, INF, "0.1", None])
def test_negative_slope(slope: Any) -> None:
    message = rf"negative_slope is {slope}, expected 0 <= slope < 1; use Linear\(\) for slope 1"
    refuses(lambda: ga.models.TwoLayerLeakyReLU(4, negative_slope=slope), message)


# --- forget sets --------------------------------------------------------------------------------------------

FORGET = {
    "too large": ([3], r"forget index 3 is out of range, expected 0 <= index < 3"),
    "negative": ([0, -1], r"forget index -1 is out of range, .*no negative indices"),
    "beyond 32 bits": ([2**40], r"forget index 1099511627776 is out of range"),
    "beyond 64 bits": (np.array([2**63], np.uint64), r"forget index 9223372036854775808 is out of range"),
    "repeated": ([1, 1], r"forget indices \[1, 1\] repeat an index; name each point once"),
    "float": ([1.0], r"forget indices have dtype float64 .* expected a flat list of integers"),
    "NaN": ([NAN], r"forget indices have dtype float64 .* expected a flat list of integers"),
    "a mask": ([True, False, True], r"forget indices have dtype bool .* expected a flat list of integers"),
    "strings": (["1"], r"forget indices have dtype <U1 .* expected a flat list of integers"),
    "object": ([None], r"forget indices have dtype object .* expected a flat list of integers"),
    "a set": ({1}, r"forget indices have dtype object .* expected a flat list of integers"),
    "one number": (1, r"forget indices .* shape \(\), expected a flat list of integers"),
    "nested": ([[0, 1]], r"forget indices .* shape \(1, 2\), expected a flat list of integers"),
    "ragged": ([[0], [1, 2]], r"forget indices .* expected a flat list of integers"),
    "masked": (np.ma.masked_equal([0, 1], 1), r"forget indices .* masked"),
    "all points": ([0, 1, 2], r"forgetting all 3 points leaves nothing to train on; retain at least one"),
}


@pytest.mark.parametrize("case", FORGET)
def test_forget_indices(case: str) -> None:
    indices, message = FORGET[case]
    refuses(lambda: ga.data.forget_mask(ga.data.from_points(X, Y), indices), message)
