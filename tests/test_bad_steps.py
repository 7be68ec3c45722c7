"""Bad steps, training and fits, row by row; data without an answer; calls without 64 bits.

The annotation checks of the other tests are off here: these are the library's own errors, as a user meets them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from refusals import INF, KEY, NAN, X, Y, refuses

import gaunlearn_jax as ga

pytestmark = pytest.mark.usefixtures("unchecked")

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
    message = rf"unknown loss {loss!r}; .*known losses: exponential, logistic"
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
        rf"unknown loss {re.escape(repr(loss))}; .*known losses: exponential, logistic",
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
