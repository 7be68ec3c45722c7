"""Bad input, row by row: an error before any computing, which names the field and the value and says what to do.

The annotation checks of the other tests are off here: these are the library's own errors, as a user meets them.
Bad folders, claims, options of the command line and damaged files have their own tests.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gaunlearn_jax as ga

pytestmark = pytest.mark.usefixtures("unchecked")

KEY = jax.random.key(0, impl="threefry2x32")
NAN, INF = float("nan"), float("inf")
X = np.array([[1.0, 0.2, 0.0, 0.1], [0.1, 1.0, 0.3, 0.0], [0.0, -0.2, 1.0, 0.4]])
Y = [1, -1, 1]


def with_entry(value: float) -> np.ndarray:
    x = X.copy()
    x[1, 2] = value
    return x


def refuses(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


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


# --- steps --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def solved() -> tuple[Any, Any, Any]:
    """A linear network, its data, and an exact KKT point."""
    net, data = ga.models.Linear(), ga.data.from_points(X, Y)
    return (
        net,
        data,
        ga.kkt.limit_point(net, data, ga.train.train(KEY, net, data, num_steps=50, checkpoints=1)),
    )


STEPS = {"ascent": ga.unlearn.gradient_ascent, **ga.certificates.ALL}


@pytest.mark.parametrize("scale", [-1.0, -1e-300, NAN, INF, [1.0, 1.0], "1", None, 1j])
def test_step_scale(scale: Any, solved: tuple[Any, Any, Any]) -> None:
    net, data, point = solved
    forget = ga.data.forget_mask(data, [1])
    for step in STEPS.values():
        message = rf"scale is {re.escape(str(scale))}, expected one finite number >= 0"
        refuses(lambda step=step: step(net, data, point, forget, scale), message)


MASKS = {
    "indices": (
        np.array([1]),
        r"forget has shape \(1,\) and dtype int64, .* data\.forget_mask\(data, indices\)",
    ),
    "integers": (
        np.array([0, 1, 0]),
        r"forget has shape \(3,\) and dtype int64, expected a bool mask of shape \(3,\)",
    ),
    "floats": (
        np.array([0.0, 1.0, 0.0]),
        r"forget has .* dtype float64, expected a bool mask of shape \(3,\)",
    ),
    "too long": (np.zeros(4, bool), r"forget has shape \(4,\) .* expected a bool mask of shape \(3,\)"),
    "a batch": (np.eye(3, dtype=bool), r"forget has shape \(3, 3\) .* expected a bool mask of shape \(3,\)"),
    "all points": (np.ones(3, bool), r"forget marks all 3 points; retain at least one"),
}


@pytest.mark.parametrize("case", MASKS)
def test_forget_masks_of_steps(case: str, solved: tuple[Any, Any, Any]) -> None:
    mask, message = MASKS[case]
    for step in STEPS.values():
        refuses(lambda step=step: step(*solved, mask), message)


@pytest.mark.parametrize("loss", ["hinge", "Exponential", "", None, 1])
def test_loss_of_a_step(loss: Any, solved: tuple[Any, Any, Any]) -> None:
    net, data, point = solved
    message = rf"loss is {loss!r}, expected one of exponential, logistic"
    refuses(lambda: ga.unlearn.gradient_ascent(net, data, point, jnp.arange(3) == 1, loss=loss), message)


def test_a_bad_traced_scale_or_mask_is_a_status(solved: tuple[Any, Any, Any]) -> None:
    one = jnp.arange(3) == 1
    for name in ("ascent", "projection", "span"):
        step = STEPS[name]
        statuses = jax.vmap(lambda c, mask, step=step: step(*solved, mask, c).status)(
            jnp.array([1.0, -1.0, NAN, INF, 1.0]), jnp.stack([one, one, one, one, jnp.ones(3, bool)])
        )
        assert np.asarray(statuses).tolist() == [ga.Status.OK] + 4 * [ga.Status.BAD_INPUT], name


def test_forgetting_nothing_is_the_identity(solved: tuple[Any, Any, Any]) -> None:
    net, data, point = solved
    after = ga.unlearn.gradient_ascent(net, data, point, ga.data.forget_mask(data, []))
    assert np.array_equal(after.params, point.params)
    assert np.array_equal(after.preactivations, point.preactivations)
    assert np.all(np.asarray(after.log_step_size) == -INF)
    assert int(after.status) == ga.Status.OK


# --- training -----------------------------------------------------------------------------------------------


def training(**options: Any) -> Any:
    given = {"num_steps": 5, "checkpoints": 1} | options
    return ga.train.train(KEY, ga.models.Linear(), ga.data.from_points(X, Y), **given)


@pytest.mark.parametrize("loss", ["hinge", "Exponential", "", None, 1, ["exponential"]])
def test_loss(loss: Any) -> None:
    refuses(
        lambda: training(loss=loss),
        rf"loss is {re.escape(repr(loss))}, expected one of exponential, logistic",
    )


@pytest.mark.parametrize("value", [0.0, -1.0, NAN, INF, "1", None, 1j, [1.0, 2.0]])
@pytest.mark.parametrize("name", ["init_scale", "step_size"])
def test_sizes_of_training(name: str, value: Any) -> None:
    refuses(lambda: training(**{name: value}), rf"{name} is {re.escape(str(value))}, expected a positive number")


@pytest.mark.parametrize("value", [0, -1, 2.5, NAN, INF, "5", None, True, [5]])
@pytest.mark.parametrize("name", ["num_steps", "checkpoints"])
def test_counts_of_training(name: str, value: Any) -> None:
    message = rf"{name} is {re.escape(str(value))}, expected a positive (whole )?number"
    refuses(lambda: training(**{name: value}), message)


RETAINED = {
    "too short": (np.ones(2, bool), r"retained has shape \(2,\), expected \(3,\)"),
    "a batch": (np.ones((2, 3), bool), r"retained has shape \(2, 3\), expected \(3,\)"),
    "floats": (np.array([1.0, 0.5, 0.0]), r"retained has .*dtype float64, expected a bool mask"),
    "integers": (np.array([0, 1, 2]), r"retained has .*dtype int64, expected a bool mask"),
    "nothing": (np.zeros(3, bool), r"retained .*(no point|nothing|none)"),
}


@pytest.mark.parametrize("case", RETAINED)
def test_retained_masks_of_training(case: str) -> None:
    mask, message = RETAINED[case]
    refuses(lambda: training(retained=mask), message)


@pytest.mark.parametrize("optimizer", ["sgd", 0.1, optax.sgd])
def test_optimizer(optimizer: Any) -> None:
    refuses(lambda: training(optimizer=optimizer), r"optimizer is .*, expected an optax GradientTransformation")


# --- fits ---------------------------------------------------------------------------------------------------


def fit(solved: tuple[Any, Any, Any], **changes: Any) -> Any:
    net, data, point = solved
    given = {"params": point.params, "preactivations": point.preactivations} | changes
    return ga.kkt.fit_multipliers(net, data, **given)


FITS = {
    "params NaN": (
        {"params": np.array([[1.0, NAN, 0.0]])},
        r"params .*NaN or infinite entries, expected finite",
    ),
    "params complex": ({"params": np.ones((1, 3)) * 1j}, r"params has dtype complex128"),
    "params wide": ({"params": np.ones((1, 4))}, r"params has shape \(1, 4\), expected \(1, 3\)"),
    "params of another net": ({"params": np.ones((2, 3))}, r"params has shape \(2, 3\), expected \(1, 3\)"),
    "preactivations": (
        {"preactivations": np.ones((3, 1))},
        r"preactivations has shape \(3, 1\), expected \(1, 3\)",
    ),
    "preactivations NaN": (
        {"preactivations": np.array([[1.0, NAN, 1.0]])},
        r"preactivations .*expected finite",
    ),
    "retained": ({"retained": np.ones(4, bool)}, r"retained has shape \(4,\), expected \(3,\)"),
    "kink_tol negative": ({"kink_tol": -1e-9}, r"kink_tol is -1e-09, expected a number >= 0"),
    "kink_tol NaN": ({"kink_tol": NAN}, r"kink_tol .*NaN or infinite entries, expected finite"),
    "slackness_cap negative": ({"slackness_cap": -0.1}, r"slackness_cap is -0\.1, expected a number >= 0"),
    "slackness_cap NaN": (
        {"slackness_cap": NAN},
        r"slackness_cap .*NaN or infinite entries, expected finite",
    ),
    "orthogonal_norm negative": (
        {"orthogonal_norm": -1.0},
        r"orthogonal_norm is -1\.0, expected a number >= 0",
    ),
    "orthogonal_norm NaN": (
        {"orthogonal_norm": NAN},
        r"orthogonal_norm .*NaN or infinite entries, expected finite",
    ),
}


@pytest.mark.parametrize("case", FITS)
def test_fits(case: str, solved: tuple[Any, Any, Any]) -> None:
    changes, message = FITS[case]
    refuses(lambda: fit(solved, **changes), message)


# --- data that are legal and have no answer -----------------------------------------------------------------


def test_contradictory_points_end_in_a_status_not_in_numbers() -> None:
    data = ga.data.from_points(X[[0, 0, 2]], Y)
    net = ga.models.Linear()
    run = ga.train.train(KEY, net, data, num_steps=50, checkpoints=1)
    point = ga.kkt.limit_point(net, data, run)
    assert int(run.status) == ga.Status.NOT_SEPARATED
    assert int(point.status) in (ga.Status.INFEASIBLE, ga.Status.UNCONVERGED)
    fitted = ga.kkt.fit_multipliers(net, data, run.params)
    assert int(fitted.status) == ga.Status.INFEASIBLE
    assert "separable" in ga.Status.INFEASIBLE.remedy


def test_every_status_but_ok_has_a_remedy() -> None:
    assert ga.Status.OK.remedy == ""
    for status in ga.Status:
        assert status.text
        assert status == ga.Status.OK or status.remedy


# --- 32 bits ------------------------------------------------------------------------------------------------

WITHOUT_X64 = """
import jax, jax.numpy as jnp, numpy as np
import gaunlearn_jax as ga

key, x, y = jax.random.key(0), np.eye(3, 4), [1, -1, 1]
with jax.enable_x64(True):
    net, data = ga.models.Linear(), ga.data.from_points(x, y)
    run = ga.train.train(key, net, data, num_steps=5, checkpoints=1)
    point = ga.kkt.limit_point(net, data, run)
    forget = ga.data.forget_mask(data, [1])

calls = {
    "gaussian": lambda: ga.data.gaussian(key, 3, 1e4),
    "mixture": lambda: ga.data.mixture(key, 3, 1e4, 0.1),
    "from_points": lambda: ga.data.from_points(x, y),
    "from_points with float32": lambda: ga.data.from_points(x.astype(np.float32), y),
    "reduce": lambda: data.reduce(np.ones((1, 4))),
    "lift": lambda: data.lift(np.ones((1, 3))),
    "assumptions": lambda: ga.data.assumptions(data, net),
    "Linear": lambda: ga.models.Linear(),
    "TwoLayerReLU": lambda: ga.models.TwoLayerReLU(4),
    "TwoLayerReLU with weights": lambda: ga.models.TwoLayerReLU(output_weights=[0.5, -0.5]),
    "train": lambda: ga.train.train(key, net, data),
    "fit_multipliers": lambda: ga.kkt.fit_multipliers(net, data, np.ones((1, 3))),
    "limit_point": lambda: ga.kkt.limit_point(net, data, run),
    "gradient_ascent": lambda: ga.unlearn.gradient_ascent(net, data, point, forget),
    **{name: lambda make=make: make(net, data, point, forget) for name, make in ga.certificates.ALL.items()},
    "batched": lambda: ga.sweep.batched(lambda v: v, np.array([1e300, 1e-300])),
}
for name, call in calls.items():
    try:
        result = call()
    except (RuntimeError, ValueError) as error:
        if "jax_enable_x64" not in str(error):
            print(f"{name}: {type(error).__name__}: {error}")
    else:
        print(f"{name}: silently returned {result}")
"""


def test_without_64_bits_every_entry_says_how_to_enable_them() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_X64],
        cwd=Path(__file__).parent.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
