"""The registered suites, in the order they are listed and run."""

from __future__ import annotations

import difflib

from verify.suite import Suite
from verify.suites import (
    activations,
    data,
    estimators,
    generalization,
    identity,
    implicit_bias,
    linear,
    multipliers,
    relu,
    retrain,
    sequences,
    step_size,
)

SUITES: tuple[Suite, ...] = (
    linear.SUITE,
    relu.SUITE,
    retrain.SUITE,
    identity.SUITE,
    step_size.SUITE,
    estimators.SUITE,
    activations.SUITE,
    sequences.SUITE,
    multipliers.SUITE,
    generalization.SUITE,
    data.SUITE,
    implicit_bias.SUITE,
)


def select(names: list[str], own: tuple[Suite, ...] = ()) -> tuple[Suite, ...]:
    """The named suites in registry order, a user's `own` after them; for no names the own ones, else all of them.
    ValueError with the nearest name for an unknown one."""
    known = {suite.name: suite for suite in (*SUITES, *own)}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"unknown claim {name!r}{hint} Known claims: {', '.join(known)}")
    return tuple(suite for suite in known.values() if suite.name in names) if names else own or SUITES
