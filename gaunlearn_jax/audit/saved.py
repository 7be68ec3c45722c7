"""Weights as other libraries save or hold them: safetensors, fitted estimators; pickles are refused by name."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from gaunlearn_jax.audit.files import LARGEST, WEIGHTS, opened

_TORCH = "safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'weights.safetensors')"
_PYTHON = "numpy.savez('weights.npz', W=joblib.load(FILE).coef_)"
#: endings of pickles, with the line that converts them
PICKLES = dict.fromkeys((".pt", ".pth", ".bin", ".ckpt"), _TORCH) | dict.fromkeys(
    (".pkl", ".pickle", ".joblib"), _PYTHON
)


def safetensors_weights(path: Path, model: str) -> tuple[np.ndarray, np.ndarray | None]:
    """(W [n, d], u [n]) of a network and (W, None) of a linear model: arrays of these names, or the matrices of a
    state dict, that of shape [1, n] as u."""
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load
    except ImportError:
        raise ValueError(
            f"{path} needs safetensors: pip install 'gaunlearn-jax[safetensors]', or save the arrays as .npz"
        ) from None
    with opened(path, WEIGHTS) as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"{path} has over {LARGEST / 2**30:.0f} GiB, expected the weights of one or two layers")
    try:
        arrays = dict(sorted(load(data).items()))  # the reader's own order changes from call to call
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({str(error)[:80]}); save it again") from None
    return _layers(arrays, path, model)


def _layers(arrays: dict[str, np.ndarray], path: Path, model: str) -> tuple[np.ndarray, np.ndarray | None]:
    names = ", ".join(arrays) or "nothing"
    for name, values in arrays.items():
        if name.endswith("bias") and np.any(values):
            raise ValueError(
                f"{path}: {name} is not 0, and the models here have no biases; give them as a last column of the "
                "weights, in a .npz, together with --bias"
            )
    matrices = [values for name, values in arrays.items() if name.endswith("weight") and values.ndim == 2]
    if model == "relu":
        if {"W", "u"} <= set(arrays):
            return arrays["W"], arrays["u"]
        for first, second in permutations(matrices) if len(matrices) == 2 else ():
            if second.shape == (1, first.shape[0]):
                return first, second[0]
        raise ValueError(f"{path} holds {names}; expected W [n, d] and u [n], or two weights [n, d] and [1, n]")
    known = [arrays[name] for name in ("w", "W") if name in arrays] or matrices
    if len(known) != 1:
        raise ValueError(f"{path} holds {names}; expected w [d] or W [C, d], or one weight of a linear layer")
    return known[0], None


def of_estimator(given: Any, bias: bool) -> Any:
    """Weights as they are, or `coef_` of a fitted linear estimator with its intercept as the last column."""
    if not hasattr(given, "coef_"):
        return given
    weights, intercept = np.atleast_2d(np.asarray(given.coef_)), np.atleast_1d(getattr(given, "intercept_", 0.0))
    if bias:
        return np.column_stack([weights, np.broadcast_to(intercept, len(weights))])
    if np.any(intercept != 0):
        raise ValueError(
            f"{type(given).__name__} has an intercept; say bias=True, which appends the coordinate 1 to every point, "
            "or fit it without (fit_intercept=False)"
        )
    return weights
