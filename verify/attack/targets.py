"""The bounds that an adversary may attack: what each registered claim says of itself.

Source: docs/theory, How tight the bounds are.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array

from gaunlearn_jax.base.codes import Reason
from gaunlearn_jax.base.registry import unknown
from gaunlearn_jax.models.registry import lookup
from verify.suites.check import Check
from verify.suites.registry import CLAIMS
from verify.suites.suite import Attack

#: a right-hand side this many times its rounding says something about how tight a bound is
ABOVE_ROUNDING = 1e4


def targets() -> dict[str, Attack]:
    """Every attack by the name `gaunlearn falsify` knows: CLAIM/BOUND/QUANTITY."""
    return {f"{suite.name}/{name}": attack for suite in CLAIMS for name, attack in suite.attacks.items()}


def target(name: str) -> Attack:
    """The attack of a name; ValueError with the nearest one for an unknown name."""
    known = targets()
    if name not in known:
        raise ValueError(unknown("bound", name, list(known)))
    return known[name]


def models_of(name: str) -> tuple[str, ...]:
    """The models on which a bound is searched where none is named."""
    return target(name).models or CLAIMS[name.split("/")[0]].models


def select(name: str) -> list[str]:
    """The bounds of a claim, or the one bound of that name, or "all"; ValueError with the nearest name otherwise."""
    known = targets()
    found = [one for one in known if name in ("all", one, one.split("/")[0])]
    if not found:
        claims = list(dict.fromkeys(one.split("/")[0] for one in known))
        raise ValueError(unknown("bound to falsify", name, [*claims, *known], "bounds to falsify"))
    return found


def names_of(model: str) -> list[str]:
    """The bounds that speak of a model, whatever its parameters."""
    return [name for name in targets() if lookup(model)[0].name in models_of(name)]


def ratio(sides: Check) -> Array:
    """lhs/rhs where the bound applies and its right-hand side is far above rounding, 0 elsewhere."""
    good = (sides.reason == int(Reason.APPLIES)) & sides.converged
    good = good & (sides.rhs > ABOVE_ROUNDING * sides.error) & (sides.rhs > 0)
    return jnp.where(good, sides.lhs / jnp.where(good, sides.rhs, 1.0), 0.0)
