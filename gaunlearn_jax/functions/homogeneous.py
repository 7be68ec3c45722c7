"""A positively homogeneous network given as a function: Theorem S, layer-wise ascent, lower bounds.

Source: docs/theory, Functions.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaunlearn_jax.audit.findings import Certified
from gaunlearn_jax.base import checks, numerics
from gaunlearn_jax.base.codes import Reason
from gaunlearn_jax.functions import lower_bounds, theorem_s
from gaunlearn_jax.functions.answers import HomogeneousAudit, LayerStep
from gaunlearn_jax.functions.closed_forms import best_fraction
from gaunlearn_jax.functions.euler import check_homogeneous
from gaunlearn_jax.functions.margins import Layers, MarginFunction, margin_function
from gaunlearn_jax.functions.patches import Patches, patches_of
from gaunlearn_jax.functions.points import (
    NOTABLE,
    Measured,
    epsilon_nearby,
    forgotten,
    gap,
    layer_norms,
    less,
    measured,
    misclassified,
    multipliers,
)
from gaunlearn_jax.kkt import host
from gaunlearn_jax.kkt.host import Marks, Matrix, Vector


def homogeneous(
    apply: Callable[..., Any],
    params: Any,
    x: Any,
    y: Any,
    forget: Any,
    *,
    first: int | str | None = None,
    patches: Any = None,
    lipschitz: float | None = None,
    train: Callable[..., Any] | None = None,
) -> HomogeneousAudit:
    """How well layer-wise ascent steps forget some points of a network that is homogeneous in every layer.

    apply(params, x) returns the scores [m], [m, 1] (y of two values) or [m, C] of a batch x [m, ...]; every array of
    the pytree `params` is one layer, and scaling any of them by t > 0 must scale the scores by t: no biases, no
    normalisation, activations such as ReLU, leaky ReLU, maxima (checked). `first` names the layer that the data enter
    (default: the first array of the pytree) as W phi_i with `patches` phi [m, P, p] or [m, p] (None: x itself).
    `lipschitz` declares that q_a <= lipschitz ||W_1 phi_i|| prod_{l >= 2} ||W_l|| at all params, for a floor under the
    norm of every other solution: 1 for fully connected networks of 1-Lipschitz activations with sigma(0) = 0, and with
    a maximum over disjoint windows; times sqrt 2 for several classes, times sqrt P for a sum over P patches.
    `train(x, y)` returns params trained on the retained points from the same initialisation, to compare with.

    ValueError for what cannot be read, a misclassified point, and a layer that is not homogeneous, by name.
    Source: docs/theory, Theorem S.
    """
    function, given = margin_function(apply, params, x, y)
    check_homogeneous(function, given)
    gone = forgotten(len(function.labels), forget)
    phi = patches_of(function, given, patches, _first(function, first))
    layers = theorem_s.rescaled(function, given, np.ones(len(function.owner), bool))
    lam, solved = multipliers(function, layers)
    of = Forgetting(function, phi, layers, lam, gone)
    start = measured(function, layers, lam)
    x_best = theorem_s.best_scale(start.residual, of.h, layers, phi, of.span)
    scaled, span = (theorem_s.certified(function, phi, of.span, layers, of.kept, ~of.out, v) for v in (x_best, 1.0))
    floor = _floor(of, lipschitz)
    fraction, why = _closed_form(of)
    retrained = None if train is None else _retrained(of, train, x, y)
    return HomogeneousAudit(
        num_points=len(gone),
        classes=function.classes,
        forget=tuple(np.flatnonzero(gone).tolist()),
        names=function.names,
        first=phi.first,
        rank=len(of.span),
        size=phi.size,
        scale=host.norm(*given) / host.norm(*layers),
        norm=host.norm(*layers),
        layer_norms=layer_norms(layers),
        epsilon=start.epsilon,
        delta=start.delta,
        nearby=epsilon_nearby(function, layers) if start.epsilon > NOTABLE * host.norm(*layers) else float("nan"),
        solved=solved,
        multipliers=lam,
        margins=start.margins,
        step=host.norm(*of.h),
        x=x_best,
        certificates={"scaled": of.described(scaled), "span": of.described(span)},
        formula=theorem_s.formula(start.residual, of.h, layers, phi, of.span, x_best),
        nothing=measured(function, layers, of.kept).epsilon,
        fraction=fraction,
        fraction_reason=why,
        floor=floor,
        steps={
            name: of.step(shares, scaled, floor, retrained)
            for name, shares in steps(len(layers), phi.first, fraction).items()
        },
        retrained=None if retrained is None else of.described(retrained),
    )


@dataclasses.dataclass(frozen=True)
class Forgetting:
    """A network at margin 1 with its multipliers, and the points that it is to forget."""

    function: MarginFunction
    patches: Patches
    layers: Layers
    multipliers: Vector
    gone: Marks

    @property
    def out(self) -> Marks:
        """The constraints of the forgotten points."""
        return self.gone[self.function.owner]

    @property
    def kept(self) -> Vector:
        """lambda_T, 0 for the forgotten points."""
        return np.where(self.out, 0.0, self.multipliers)

    @functools.cached_property
    def h(self) -> Layers:
        """sum_R lambda_a grad q_a."""
        return self.function.pull(self.layers, np.where(self.out, self.multipliers, 0.0))

    @functools.cached_property
    def span(self) -> Matrix:
        """Orthonormal rows that span the retained patches."""
        return self.patches.span(~self.gone)

    def described(self, point: Measured) -> Certified:
        """A nearly KKT point for the retained points, and 1 - cos of its angle to the network as it is."""
        return Certified(point.epsilon, point.delta, gap(self.layers, point.layers), host.norm(*point.layers))

    def step(self, shares: Vector, scaled: Measured, floor: float | None, retrained: Measured | None) -> LayerStep:
        """What is left after a fraction of h on every layer."""
        hat = less(self.layers, self.h, shares)
        alpha = lower_bounds.span_angle(self.patches, hat, self.span, ~self.gone)
        off = lower_bounds.imbalance(hat)
        nearby = float("nan") if floor is None else lower_bounds.least_angle(alpha, off, scaled.epsilon / floor)
        return LayerStep(
            fraction=float(shares[self.patches.first - 1]),  # a deeper layer's, where there is one
            gap=gap(hat, scaled.layers),
            least=float(numerics.gap_of_angle(lower_bounds.least_angle(alpha, off, 0.0))),
            least_nearby=float(numerics.gap_of_angle(nearby)),
            gap_retrained=float("nan") if retrained is None else gap(hat, retrained.layers),
            broken=misclassified(self.function, hat, ~self.out),
            lost=misclassified(self.function, hat, self.out),
            params=self.function.params(hat),
        )


def steps(depth: int, first: int, fraction: float) -> dict[str, Vector]:
    """Fractions of h for every layer, by the name of the step; "closed form" only where there is one."""
    deeper = {"nothing": 0.0, "full": 1.0, "first layer": 0.0, "half": 0.5, "closed form": fraction}
    if depth == 1:
        deeper = {"nothing": 0.0, "full": 1.0}
    shares = {name: np.full(depth, c) for name, c in deeper.items() if c == c}
    for name, share in shares.items():
        share[first] = 0.0 if name == "nothing" else 1.0
    return shares


def _first(function: MarginFunction, first: int | str | None) -> int:
    """The number of the first layer."""
    names = function.names
    if isinstance(first, str):
        found = [l for l, name in enumerate(names) if first == name] or [l for l, n in enumerate(names) if first in n]
        if len(found) != 1:
            raise ValueError(f"first is {first!r}, expected a part of exactly one name of a layer: {', '.join(names)}")
        return found[0]
    return 0 if first is None else checks.whole("first", first, 0, f"the number of a layer: {', '.join(names)}")


def _floor(of: Forgetting, lipschitz: float | None) -> float | None:
    """B_T by the declared constant, None without one."""
    if lipschitz is None:
        return None
    checks.number("lipschitz", lipschitz, "a positive number, or None", 0.0, open_low=True)
    lower_bounds.check_declared(of.function, of.patches, of.layers, float(lipschitz))
    return lower_bounds.norm_floor(of.patches, len(of.layers), of.function.labels, of.gone, float(lipschitz))


def _closed_form(of: Forgetting) -> tuple[float, Reason]:
    """c* by the share of the forgotten points in their class, NaN with a reason where it does not speak."""
    function, lam = of.function, of.multipliers
    if function.scores > 1 or len(function.names) < 2:
        return float("nan"), Reason.MODEL
    own = np.unique(function.labels[of.gone])
    if len(own) > 1:
        return float("nan"), Reason.DATA
    whole, removed = float(np.sum(lam[function.labels == own[0]])), float(np.sum(lam[of.gone]))
    if removed <= 0:
        return float("nan"), Reason.UNDEFINED
    return best_fraction(
        len(function.names), max(0.0, 1.0 - removed / whole), whole / float(np.sum(lam))
    ), Reason.APPLIES


def _retrained(of: Forgetting, train: Callable[..., Any], x: Any, y: Any) -> Measured:
    """Params trained on the retained points, rescaled to margin 1 and measured with multipliers of its own."""
    function, retained = of.function, ~of.out
    params = train(jnp.asarray(x)[~of.gone], np.asarray(y)[~of.gone])
    if jax.tree.structure(params) != function.tree:
        raise ValueError("train(x, y) returned another pytree than params, expected the same layers")
    layers = tuple(np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(params))
    if not np.min(function.margins(layers)[retained]) > 0:
        raise ValueError("train(x, y) returned a network that misclassifies a retained point; train longer")
    layers = theorem_s.rescaled(function, layers, retained)
    return measured(function, layers, multipliers(function, layers, among=retained)[0])
