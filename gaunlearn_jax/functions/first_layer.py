"""Any function of one trained matrix: Theorem P' on the user's own network. Source: docs/theory, Functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gaunlearn_jax.audit.findings import Certified
from gaunlearn_jax.base import checks, numerics
from gaunlearn_jax.functions.answers import FirstLayerAudit
from gaunlearn_jax.functions.lower_bounds import check_declared
from gaunlearn_jax.functions.margins import Layers, MarginFunction, margin_function
from gaunlearn_jax.functions.patches import Patches, patches_of
from gaunlearn_jax.functions.points import (
    INWARD,
    NOTABLE,
    epsilon_nearby,
    forgotten,
    gap,
    less,
    measured,
    misclassified,
    multipliers,
)
from gaunlearn_jax.kkt import host
from gaunlearn_jax.kkt.host import Marks


def first_layer(
    apply: Callable[..., Any],
    weights: Any,
    x: Any,
    y: Any,
    forget: Any,
    *,
    patches: Any = None,
    lipschitz: float | None = None,
) -> FirstLayerAudit:
    """How well one ascent step on a single trained matrix forgets some points, whatever is frozen around it.

    apply(W, x) returns the scores [m], [m, 1] (y of two values) or [m, C] of a batch x [m, ...]; W is the only trained
    array, a pytree with one leaf. Scores of point i are any locally Lipschitz function of W phi_i: `patches` [m, P, p]
    or [m, p] are the rows of phi_i (None: x itself), checked on gradients. The margin problem is that of the least
    ||W|| that reaches the smallest margin that the network has. `lipschitz` declares that every margin, as a function
    of W phi_i, has this Lipschitz constant; without it nothing is said of the norms of other solutions.

    ValueError for what cannot be read, and where a point is misclassified. Source: docs/theory, Theorem P'.
    """
    function, layers = margin_function(apply, weights, x, y)
    if len(layers) != 1:
        raise ValueError(f"weights holds {len(layers)} arrays, expected one; freeze the others inside apply")
    gone = forgotten(len(function.labels), forget)
    phi = patches_of(function, layers, patches, 0)
    out = gone[function.owner]
    margin = float(np.min(function.margins(layers))) / numerics.OUTWARD
    lam, solved = multipliers(function, layers, margin=margin)
    h = function.pull(layers, np.where(out, lam / margin, 0.0))
    span = phi.span(~gone)
    inside = phi.projected(h, span)
    beside = less(h, inside)
    beside = less(beside, phi.projected(beside, span))  # twice is enough
    tilde = less(layers, beside)
    # retained margins moved by rounding: the margin asked for moves with them, and multipliers with it
    asked = min(margin, float(np.min(function.margins(tilde)[~out])) / numerics.OUTWARD)
    defect = 1.0 - asked / margin
    if defect > 1e-6 * np.sqrt(function.unit / numerics.EPS):
        raise ValueError(
            f"retained margins fell by {100 * defect:.3g} % where W changed orthogonally to all retained patches: the "
            "scores are no function of W times the patches; give the patches that enter this layer"
        )
    start = measured(function, layers, lam, margin=margin)
    kept = np.where(out, 0.0, lam)
    point = measured(function, tilde, kept * (asked / margin), margin=asked)
    idle = measured(function, layers, kept, margin=margin)
    rho, norm = host.norm(*inside), host.norm(*tilde)
    hat = less(layers, h)
    return FirstLayerAudit(
        num_points=len(gone),
        classes=function.classes,
        forget=tuple(np.flatnonzero(gone).tolist()),
        rank=len(span),
        size=phi.size,
        margin=margin,
        norm=host.norm(*layers),
        epsilon=start.epsilon,
        delta=start.delta,
        nearby=epsilon_nearby(function, layers, margin=margin) if start.epsilon > NOTABLE * norm else float("nan"),
        solved=solved,
        multipliers=lam,
        margins=start.margins,
        step=host.norm(*h),
        rho=rho,
        certificate=Certified(point.epsilon, point.delta, gap(hat, tilde), norm),
        nothing=Certified(idle.epsilon, idle.delta, 0.0, host.norm(*layers)),
        formula=host.norm(*(e + v for e, v in zip(start.residual, inside, strict=True))),
        tau_bound=float(numerics.one_minus_cos_of_sine(np.float64(rho / norm))),
        floor=_floor(function, layers, phi, gone, asked, lipschitz),
        broken=misclassified(function, hat, ~out),
        lost=misclassified(function, hat, out),
        weights_after=function.params(hat),
    )


def _floor(
    function: MarginFunction, layers: Layers, phi: Patches, gone: Marks, margin: float, lipschitz: float | None
) -> float | None:
    """B_T, below which no ||W'|| with retained margins of `margin` is; None where no constant was declared."""
    if lipschitz is None:
        return None
    checks.number("lipschitz", lipschitz, "a positive number, or None", 0.0, open_low=True)
    check_declared(function, phi, layers, float(lipschitz))
    at_zero = function.margins(tuple(np.zeros_like(v) for v in layers))
    needed = np.zeros(len(gone))
    np.maximum.at(needed, function.owner, np.maximum(margin - at_zero, 0.0) / lipschitz)
    return float(np.linalg.norm(needed[~gone]) / np.sqrt(phi.top(~gone))) * INWARD
