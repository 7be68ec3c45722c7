"""The distributions that runs know by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from gaunlearn_jax.base.registry import Parameter, Registry
from gaunlearn_jax.data import alphabets, families, materialised
from gaunlearn_jax.data.dataset import Dataset
from gaunlearn_jax.data.distributions import gaussian, mixture


@dataclasses.dataclass(frozen=True)
class Distribution:
    """draw(key, num_points, dim, **parameters) returns a `Dataset`; dim and parameters may be traced.

    `dims` is the default grid of a run. `materialise` (rng, num_points, dim, **parameters) draws points [m, d] and
    labels of the same law on the host, for two-sample tests. `patches`: whether `draw` takes that keyword, a number of
    equal patches that every point is cut into.
    """

    name: str
    statement: str
    draw: Callable[..., Dataset]
    parameters: tuple[Parameter, ...] = ()
    dims: tuple[float, ...] = (1e4, 1e8, 1e12, 1e13)
    materialise: Callable[..., Any] | None = None
    patches: bool = False


DISTRIBUTIONS: Registry[Distribution] = Registry("distribution")
#: the signals of the default grid show the decay of test errors
_SIGNAL = Parameter("signal", 0.05, text="a in ||mu|| = d^(-1/4 + a)", grid=(0.02, 0.05, 0.1, 0.2))
_C = Parameter("c", 0.3, 0.0, 1.0, "share of the squared norm that is common", grid=(0.01, 0.3))
_FLIP = Parameter("flip", 0.0, 0.0, 1.0, "chance that a label is flipped")
_SHARE = Parameter("share", 0.3, 0.0, 1e6, "||mu||^2 of the class means, beside noise of squared norm 1")


def _row(name: str, statement: str, draw: Callable[..., Dataset], *parameters: Parameter, **more: Any) -> None:
    drawn = getattr(materialised, name)
    DISTRIBUTIONS.register(Distribution(name, statement, draw, parameters, materialise=drawn, **more))


_row("gaussian", "x ~ N(0, I/d), labels alternating", gaussian, patches=True)
_row(
    "mixture", "x = y mu + xi, xi ~ N(0, I/d), ||mu|| = d^(-1/4 + signal)", mixture, _SIGNAL,
    dims=(1e3, 1e4, 1e6, 1e8, 1e10, 1e12),
)  # fmt: skip
_row(
    "student", "N(0, I/d) times sqrt(nu / chi^2_nu) per point: heavy tails", families.student,
    Parameter("nu", 3.0, 0.1, 1e9, "degrees of freedom", grid=(1.0, 3.0, 30.0)),
)  # fmt: skip
_row(
    "lognormal", "N(0, I/d) times exp(spread z), z ~ N(0, 1) per point", families.lognormal,
    Parameter("spread", 0.5, 0.0, 5.0, "standard deviation of the logarithm of the length"),
)  # fmt: skip
_row("sphere", "uniform on the unit sphere", families.sphere)
_row("equicorrelated", "a common mean: all pairs at cosine c", families.equicorrelated, _C)
_row(
    "clusters", "points around random centres, labels by cluster", families.clusters,
    Parameter("number", 4.0, 2.0, 1e6, "number of clusters (rounded down)"), _C, _FLIP,
)  # fmt: skip
_row(
    "near_duplicates", "groups of points of one label at mutual cosine c", families.near_duplicates,
    Parameter("copies", 1.0, 0.0, 1e6, "duplicates of each point (rounded down)"),
    dataclasses.replace(_C, default=0.5, grid=(0.5, 0.9)),
)  # fmt: skip
_row(
    "ar1", "serial correlation: cosines rho^|i-j|", families.ar1,
    Parameter("rho", 0.5, -1.0, 1.0, "correlation of neighbours"),
)  # fmt: skip
_row(
    "spiked", "N(0, S) with one large eigenvalue", families.spiked,
    Parameter("share", 0.1, 0.0, 1.0, "the large eigenvalue, of trace 1", grid=(0.01, 0.3)),
)  # fmt: skip
_row(
    "power_law", "N(0, S), eigenvalues as rank^(-exponent) in eight steps", families.power_law,
    Parameter("exponent", 0.5, 0.0, 4.0, "how fast the spectrum falls", grid=(0.5, 1.0)),
)  # fmt: skip
_row(
    "unbalanced", "x = y mu + N(0, I/d), a fraction of labels +1", families.unbalanced,
    Parameter("positive", 0.2, 0.0, 1.0, "fraction of labels +1, at least one of each class"), _SHARE,
)  # fmt: skip
_row(
    "shifted", "classes y mu + N(0, I/d) around a common mean", families.shifted,
    Parameter("common", 0.3, 0.0, 1.0, "share of the squared norm that the common mean has"), _SHARE,
)  # fmt: skip
_row(
    "label_noise", "x = y mu + N(0, I/d), then labels are flipped", families.label_noise,
    dataclasses.replace(_FLIP, default=0.1), _SHARE,
)  # fmt: skip
_row("teacher", "N(0, I/d), labels by the side of a fixed hyperplane", families.teacher, _FLIP)
_row("rademacher", "entries +-1/sqrt(d)", alphabets.rademacher)
_row(
    "ternary", "entries 0 or +-1/sqrt(density d): sparse; up to 10 points", alphabets.ternary,
    Parameter("density", 0.1, 0.0, 1.0, "chance that an entry is not 0", open_low=True),
)  # fmt: skip
