"""Theorem S: the network of the retained points' span, its deeper layers scaled, as a nearly KKT point of theirs.

Source: docs/theory, Functions, Theorem S.
"""

from __future__ import annotations

import numpy as np

from gaunlearn_jax.base import numerics
from gaunlearn_jax.functions.margins import Layers, MarginFunction
from gaunlearn_jax.functions.patches import Patches
from gaunlearn_jax.functions.points import Measured, measured
from gaunlearn_jax.kkt import host
from gaunlearn_jax.kkt.host import Marks, Matrix, Vector


def formula(e: Layers, h: Layers, layers: Layers, patches: Patches, span: Matrix, x: float) -> float:
    """epsilon = kappa sqrt(||P(e_1 + h_1)||^2 + sum_l ||e_l + h_l - (1 - x) W_l||^2 / x) over deeper layers l, with
    kappa = x^(-(L-1)/2L)."""
    inside, rest, cross, size = _parts(e, h, layers, patches, span)
    depth = len(layers)
    return float(
        np.sqrt(x ** (-(depth - 1) / depth) * (inside + (rest - 2 * (1 - x) * cross + (1 - x) ** 2 * size) / x))
    )


def best_scale(e: Layers, h: Layers, layers: Layers, patches: Patches, span: Matrix) -> float:
    """The x > 0 of least epsilon in Theorem S: the positive root of a quadratic."""
    inside, rest, cross, size = _parts(e, h, layers, patches, span)
    depth = len(layers)
    if depth == 1 or rest - 2 * cross + size <= 0:
        return 1.0
    a = (depth - 1) / depth
    two, one, zero = (1 - a) * size, -a * (inside + 2 * cross - 2 * size), -(1 + a) * (rest - 2 * cross + size)
    root = np.sqrt(one**2 - 4 * two * zero)
    return float((root - one) / (2 * two) if one <= 0 else -2 * zero / (one + root))


def _parts(e: Layers, h: Layers, layers: Layers, patches: Patches, span: Matrix) -> tuple[float, float, float, float]:
    """||P(e_1 + h_1)||^2, and over layers >= 2 the sums of ||e + h||^2, <W, e + h>, ||W||^2."""
    both = tuple(a + b for a, b in zip(e, h, strict=True))
    inside = host.norm(patches.matrix(both) @ span.T) ** 2
    deeper = [(v, w) for l, (v, w) in enumerate(zip(both, layers, strict=True)) if l != patches.first]
    sums = [(np.sum(v * v), np.sum(v * w), np.sum(w * w)) for v, w in deeper]
    rest, cross, size = (float(sum(s)) for s in zip(*sums, strict=True)) if sums else (0.0, 0.0, 0.0)
    return inside, rest, cross, size


def certified(
    function: MarginFunction, patches: Patches, span: Matrix, layers: Layers, lam: Vector, retained: Marks, x: float
) -> Measured:
    """The point of Theorem S, kappa (P W_1, sqrt(x) W_2, ..), kappa^2 lambda_T, measured as it is. Where rounding took
    a retained margin below 1, all layers are scaled up by what is missing."""
    depth = len(layers)
    kappa = x ** (-(depth - 1) / (2 * depth))
    inside = patches.projected(layers, span)
    made = tuple(kappa * (w if l == patches.first else np.sqrt(x) * w) for l, w in enumerate(inside))
    if np.min(function.margins(made)[retained]) < 1:
        made = rescaled(function, made, retained)
    return measured(function, made, kappa**2 * lam)


def rescaled(function: MarginFunction, layers: Layers, marks: Marks) -> Layers:
    """All layers by one factor, so that the least margin of the marked constraints is 1 (a little more)."""
    for _ in range(2):  # the second takes back what rounding did
        least = float(np.min(function.margins(layers)[marks])) / numerics.OUTWARD
        if not least > 0:
            raise ValueError("a retained margin is not positive once the first layer is projected; check the patches")
        layers = tuple(w / least ** (1 / len(layers)) for w in layers)
    return layers
