"""Weights as other libraries save and hold them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import gaunlearn_jax as ga
from gaunlearn_jax.audit import datasets

RNG = np.random.default_rng(2)
W, U = RNG.normal(size=(4, 3)).astype(np.float32), np.array([0.5, -0.5, 0.5, -0.5], np.float32)


def write(path: Path, **arrays: np.ndarray) -> Path:
    """The format from its description: the length of a JSON header, the header, the bytes."""
    header, data = {}, b""
    for name, values in arrays.items():
        raw = values.tobytes()
        kind = {"f4": "F32", "f8": "F64"}[values.dtype.str[1:]]
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_safetensors(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    path = tmp_path / "w.safetensors"
    named = {"W": W, "u": U}
    layers = {"0.weight": W, "0.bias": np.zeros(4, np.float32), "2.weight": U[None]}
    for arrays in (named, layers, dict(reversed(layers.items()))):
        w, u = datasets.load_weights(write(path, **arrays), "relu")
        np.testing.assert_array_equal(w, W)
        np.testing.assert_array_equal(u, U)
    one_neuron = {"2.weight": U[:1, None], "0.weight": W[:1]}  # both have one row
    w, u = datasets.load_weights(write(path, **one_neuron), "relu")
    np.testing.assert_array_equal(w, W[:1])
    np.testing.assert_array_equal(u, U[:1])
    for name in ("w", "W", "fc.weight"):
        values = W[0] if name == "w" else W
        np.testing.assert_array_equal(datasets.load_weights(write(path, **{name: values}), "linear")[0], values)
    for arrays, model, message in (
        ({"fc.weight": W, "fc.bias": np.ones(4, np.float32)}, "linear", "fc.bias is not 0.*--bias"),
        ({"a.weight": W, "b.weight": W}, "relu", "expected W"),
        ({"a.weight": W, "b.weight": W}, "linear", "holds a.weight, b.weight"),
        ({"other": W}, "linear", "holds other"),
    ):
        with pytest.raises(ValueError, match=message):
            datasets.load_weights(write(path, **arrays), model)
    for data in (b"", b"\0" * 7, path.read_bytes()[:-9], b"\xff" * 40):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="damaged or no safetensors"):
            datasets.load_weights(path, "linear")


@pytest.mark.parametrize("ending", [".pt", ".PTH", ".bin", ".ckpt", ".pkl", ".joblib"])
def test_pickles_are_never_opened(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"w{ending}"  # it need not even exist
    with pytest.raises(ValueError, match=r"is a pickle, and nothing is unpickled; .*(save_file|savez)\("):
        datasets.load_weights(path, "linear")


class Fitted:
    def __init__(self, coef, intercept=0.0):
        self.coef_, self.intercept_ = np.asarray(coef), intercept


def test_fitted_estimators_are_their_coefficients(unchecked) -> None:
    x = RNG.normal(size=(12, 5))
    w = RNG.normal(size=5)
    y = x @ w > 0
    plain = ga.audit(x, y, [1], weights=w)
    assert ga.audit(x, y, [1], weights=Fitted(w[None])).epsilon == plain.epsilon
    assert ga.audit(x, y, [1], weights=Fitted(w, np.zeros(1))).epsilon == plain.epsilon
    shifted = x @ w + 0.3 > 0
    with_bias = ga.audit(x, shifted, [1], weights=np.append(w, 0.3), bias=True)
    assert ga.audit(x, shifted, [1], weights=Fitted(w[None], [0.3]), bias=True).epsilon == with_bias.epsilon
    with pytest.raises(ValueError, match="Fitted has an intercept; say bias=True"):
        ga.audit(x, shifted, [1], weights=Fitted(w, 0.3))
    classes, many = np.argmax(x @ np.eye(5, 3), axis=1), np.eye(3, 5)
    assert ga.audit(x, classes, [1], weights=Fitted(many, np.zeros(3))).norm > 0
