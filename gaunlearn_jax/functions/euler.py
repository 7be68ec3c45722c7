"""Euler's identity <W_l, grad_l q_a> = q_a, layer by layer: what tells a homogeneous network from any other.

Source: docs/theory, Functions.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from gaunlearn_jax.functions.margins import Layers, MarginFunction
from gaunlearn_jax.kkt.host import Matrix

#: how far from Euler's identity rounding may lead, in units of rounding and of the largest margin
ROUNDING = 1e6


def degrees(function: MarginFunction, layers: Layers) -> Matrix:
    """<W_l, grad_l q_a> [A, L]."""
    scaled = jax.jit(jax.jacfwd(lambda t: function.traced([s * w for s, w in zip(t, layers, strict=True)])))
    return np.asarray(scaled(jnp.ones(len(layers))))


def check_homogeneous(function: MarginFunction, layers: Layers) -> None:
    """ValueError, with the layer and the likely cause, unless every layer meets Euler's identity at every point."""
    q, found = function.margins(layers), degrees(function, layers)
    off = np.max(np.abs(found - q[:, None]), axis=0)
    wrong = off > ROUNDING * function.unit * np.max(np.abs(q))
    if not np.any(wrong):
        return
    flat = [l for l in np.flatnonzero(wrong) if layers[l].ndim == 1]
    l = int(flat[0] if flat else np.flatnonzero(wrong)[-1])
    ratio = found[:, l] / q
    raise ValueError(
        f"the network is not homogeneous in layer {function.names[l]}: <W, grad q> is {np.min(ratio):.3g} to "
        f"{np.max(ratio):.3g} times q, expected 1; {_cause(layers, l, found, q, bool(flat))}"
    )


def _cause(layers: Layers, l: int, found: Matrix, q: np.ndarray, vector: bool) -> str:
    largest = np.max(np.abs(q))
    if np.max(np.abs(found[:, l])) <= 1e-3 * largest:
        return "its scale has no effect, as before a normalisation (batch norm, layer norm); take that out"
    if vector:
        return (
            "an array of one axis, it looks like a bias: leave it out, or give it as a coordinate 1 of the points "
            "that the first layer takes"
        )
    if np.max(np.abs(found[:, l] / q - np.round(np.median(found[:, l] / q)))) <= 1e-6:
        return "it enters more than once, as shared weights or queries and keys do; give one array for each use"
    return "a bias or an activation that is not homogeneous (GELU, tanh, softmax) comes after it; see first_layer"
