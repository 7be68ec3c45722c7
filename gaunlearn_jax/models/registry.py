"""The architectures that runs and audits know by name, and what the theory says of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from gaunlearn_jax.base import checks
from gaunlearn_jax.base.registry import Parameter, Registry, given, parse, spelled
from gaunlearn_jax.models.classes import LinearClasses, ReLUClasses
from gaunlearn_jax.models.convolution import Convolution
from gaunlearn_jax.models.network import Linear, TwoLayerLeakyReLU, TwoLayerReLU


@dataclasses.dataclass(frozen=True)
class Architecture:
    """make(num_neurons, **parameters) returns a network: anything with `problem(data)`, a `models.MarginProblem`.

    `neurons` is whether the number of neurons is free (else it is 1). `theorems` are those, beyond what is proved of
    every margin problem, that speak of it: see `THEOREMS`.
    """

    name: str
    statement: str
    make: Callable[..., Any]
    neurons: bool = True
    parameters: tuple[Parameter, ...] = ()
    theorems: frozenset[str] = frozenset()


#: theorems that do not speak of every margin problem (docs/theory): Theorem L and R, Lemma M, the multiplier estimator,
#: the test error on mixtures, Theorem LK, Lemma M' with Theorem R' of linear models with several classes and for
#: points of several rows or constraints, and (of two-layer networks with both layers trained) Theorem N
THEOREMS = ("L", "R", "M", "estimator", "mixture", "LK", "classes", "entries", "N")
ARCHITECTURES: Registry[Architecture] = Registry("architecture")


def lookup(text: str) -> tuple[Architecture, dict[str, float]]:
    """The architecture that NAME[:PARAMETER=VALUE]... names, and all its parameters; ValueError says what is wrong."""
    name, values = parse(text, "model")
    row = ARCHITECTURES[name]
    several = [key for key, found in values.items() if len(found) > 1]
    if several:
        raise ValueError(f"model {text!r}: {several[0]} has several values, expected one; name the model once for each")
    return row, given(name, row.parameters, {key: found[0] for key, found in values.items()})


def canonical(text: str) -> str:
    """The one spelling of a model: parameters in order, those at their defaults left out."""
    row, values = lookup(text)
    return spelled(row.name, row.parameters, values)


def network(text: str, num_neurons: int) -> Any:
    """The network that a text such as "relu" or "leaky:slope=0.3" names, with this many neurons.

    >>> network("leaky:slope=0.25", 4).negative_slope
    0.25
    """
    row, values = lookup(text)
    return row.make(num_neurons, **values)


def patches(text: str) -> int:
    """The patches that the architecture cuts every point into: its parameter of that name, 1 without one.

    >>> patches("convolution:patches=4"), patches("relu")
    (4, 1)
    """
    return int(lookup(text)[1].get("patches", 1))


def _linear(_: int) -> Any:
    return Linear()


def _relu(num_neurons: int) -> Any:
    return TwoLayerReLU(num_neurons)


def _leaky(num_neurons: int, slope: float) -> Any:
    return TwoLayerLeakyReLU(num_neurons, negative_slope=slope)


def _convolution(num_neurons: int, patches: float, slope: float) -> Any:
    return Convolution(num_neurons, checks.whole("patches", patches, 1, "a whole number"), negative_slope=slope)


def _classes(_: int, C: float) -> Any:
    return LinearClasses(int(C))


def _classes_relu(num_neurons: int, C: float) -> Any:
    return ReLUClasses(num_neurons, int(C))


#: below about 1e-6 a slope is lost beside the kinks' own rounding, from 1 on there is no kink
_SLOPE = Parameter("slope", 0.1, 1e-6, 0.999, "the slope of sigma below zero")
_CLASSES = Parameter("C", 4.0, 2.0, 1e3, "number of classes (rounded down)")

ARCHITECTURES.register(
    Architecture(
        "linear", "linear model <w, x>", _linear, neurons=False, theorems=frozenset({"L", "M", "estimator", "mixture"})
    )
)
ARCHITECTURES.register(
    Architecture(
        "relu",
        "two-layer ReLU network, first layer trained",
        _relu,
        theorems=frozenset({"R", "M", "estimator", "mixture", "N"}),
    )
)
ARCHITECTURES.register(
    Architecture(
        "leaky", "two-layer leaky ReLU network, first layer trained", _leaky, parameters=(_SLOPE,),
        theorems=frozenset({"estimator", "LK"}),
    )
)  # fmt: skip
ARCHITECTURES.register(
    Architecture(
        "convolution", "filters trained over disjoint patches, summed by a fixed head", _convolution,
        parameters=(
            Parameter("patches", 2.0, 1.0, 64.0, "patches a point"),
            Parameter("slope", 0.0, 0.0, 0.999, "the slope of sigma below zero"),
        ),
        theorems=frozenset({"entries"}),
    )
)  # fmt: skip
ARCHITECTURES.register(
    Architecture(
        "classes", "linear model with C classes: scores <w_c, x>", _classes, neurons=False, parameters=(_CLASSES,),
        theorems=frozenset({"classes"}),
    )
)  # fmt: skip
ARCHITECTURES.register(
    Architecture(
        "classes_relu", "two-layer ReLU network with C classes, first layer trained", _classes_relu,
        parameters=(dataclasses.replace(_CLASSES, default=3.0),), theorems=frozenset({"entries"}),
    )
)  # fmt: skip
