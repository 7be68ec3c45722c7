"""What no network that is nearly a KKT point for the retained points can be near to: span, balance, norm floor.

Every (eps', delta')-KKT point theta' of the retained points, whatever its patterns, is at least this far from a given
network. Source: docs/theory, Functions, Lower bounds.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from gaunlearn_jax.functions.margins import Layers, MarginFunction
from gaunlearn_jax.functions.patches import Patches
from gaunlearn_jax.functions.points import INWARD, layer_norms
from gaunlearn_jax.kkt import host
from gaunlearn_jax.kkt.host import Marks, Matrix

#: draws of the layers at which a declared constant is tried
PROBES = 8
#: a patch that is this share of its length outside the span depends on the others, up to rounding
DEPENDENT = 1e-13


def span_angle(patches: Patches, layers: Layers, span: Matrix, kept: Marks) -> float:
    """alpha = arcsin(||(I - P) W_1|| / ||theta||), the angle to all networks whose first layer lies in the span.

    0 (nothing is said) where a retained patch lies outside the span by more than rounding (nearly dependent ones).
    """
    if patches.outside(kept, span) > DEPENDENT:
        return 0.0
    rest = patches.matrix(layers) - patches.matrix(patches.projected(layers, span))
    share = float(np.linalg.norm(rest)) / host.norm(*layers)
    return math.asin(min(max(share * INWARD - DEPENDENT, 0.0), 1.0))


def imbalance(layers: Layers) -> float:
    """b = max | ||W_l||^2 - ||W_k||^2 | / ||theta||^2 over pairs of layers; 0 at every exact KKT point."""
    squares = layer_norms(layers) ** 2
    return float((np.max(squares) - np.min(squares)) / np.sum(squares))


def least_angle(alpha: float, balance: float, slack: float) -> float:
    """The larger of alpha - arcsin(s) and arcsin((b - s) / 2), for s = eps'/B_T (0 for exact KKT points)."""
    s = min(max(slack, 0.0), 1.0)
    return max(0.0, alpha - math.asin(s), math.asin(min(max(0.5 * (balance * INWARD - s), 0.0), 1.0)))


def norm_floor(patches: Patches, depth: int, labels: NDArray[np.int64], gone: Marks, lipschitz: float) -> float:
    """B_T for L = `depth` layers: ||theta'||^2 >= L (M' / (lipschitz^2 lambda_max))^(1/L) where margins are >= 1 on T,
    the largest over M' = all of T, each of its classes, each of its points; lambda_max is that of sum phi_i phi_i^T."""
    kept = np.flatnonzero(~gone)
    parts = [kept, *(kept[labels[kept] == c] for c in np.unique(labels[kept])), *kept[:, None]]
    best = 0.0
    for part in parts:
        top = patches.top(np.isin(np.arange(len(gone)), part))
        if top > 0:
            best = max(best, len(part) / (lipschitz**2 * top))
    return math.sqrt(depth * best ** (1 / depth)) * INWARD


def check_declared(function: MarginFunction, patches: Patches, layers: Layers, lipschitz: float) -> None:
    """ValueError where q_a exceeds its value at W_1 = 0 by more than lipschitz ||W_1 phi_i|| prod_{l >= 2} ||W_l||, at
    the layers themselves and at some random ones: then the network is not of the kind that was declared. A declaration
    that passes is still one."""
    rng = np.random.default_rng(0)
    rank_one = [tuple(np.abs(w) for w in layers), tuple(np.ones_like(w) for w in layers)]
    drawn = [tuple(rng.standard_normal(w.shape) for w in layers) for _ in range(PROBES)]
    for tried in itertools.chain([layers], rank_one, drawn):
        sizes = layer_norms(tried)
        rest = np.prod(np.delete(sizes, patches.first))
        enters = np.linalg.norm(patches.rows @ patches.matrix(tried).T, axis=(1, 2))[function.owner]
        most = lipschitz * rest * enters
        idle = tuple(w * (l != patches.first) for l, w in enumerate(tried))
        q = function.margins(tried) - function.margins(idle)
        over = q - most * (1 + 1e4 * function.unit) - 1e4 * function.unit * np.max(np.abs(q))
        if np.max(over) > 0:
            a = int(np.argmax(over))
            raise ValueError(
                f"lipschitz = {lipschitz:g} was declared, but W_1 raises the margin of point {function.owner[a]} by "
                f"{q[a]:.4g}, more than {most[a]:.4g} = lipschitz ||W_1 phi|| prod ||W_l||: sums over patches and "
                "layers with shared weights need a larger constant (docs/theory, Functions); leave it out for no floor"
            )
