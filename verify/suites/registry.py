"""The registered claims, in the order they are listed and run."""

from __future__ import annotations

from collections.abc import Iterable

from gaunlearn_jax.base.registry import Registry
from verify.suites import (
    activations,
    assumptions,
    both_layers,
    clarke,
    classes,
    entries,
    estimators,
    generalization,
    identity,
    implicit_bias,
    leaky,
    linear,
    multipliers,
    relu,
    retrain,
    sequences,
    softmax,
    sources,
    step_size,
    steps,
    unique,
    worthwhile,
)
from verify.suites.suite import Suite

CLAIMS: Registry[Suite] = Registry("claim")
for _suite in (
    linear.SUITE,
    relu.SUITE,
    retrain.SUITE,
    worthwhile.SUITE,
    sources.SUITE,
    identity.SUITE,
    steps.SUITE,
    step_size.SUITE,
    estimators.SUITE,
    activations.SUITE,
    sequences.SUITE,
    multipliers.SUITE,
    generalization.SUITE,
    assumptions.SUITE,
    implicit_bias.SUITE,
    unique.SUITE,
    leaky.SUITE,
    clarke.SUITE,
    entries.SUITE,
    both_layers.SUITE,
    classes.SUITE,
    softmax.SUITE,
):
    CLAIMS.register(_suite)


def select(names: Iterable[str], own: tuple[Suite, ...] = (), everything: bool = False) -> tuple[Suite, ...]:
    """The named claims in the registry's order; for no names a user's `own` (which are registered), else those of a
    default run, or all. ValueError with the nearest name for an unknown one."""
    rows = [CLAIMS[name] for name in names]
    if rows:
        return tuple(suite for suite in CLAIMS if suite in rows)
    return own or tuple(suite for suite in CLAIMS if suite.default or everything)
