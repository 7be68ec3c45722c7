"""The registered claims, in the order they are listed and run."""

from __future__ import annotations

from collections.abc import Iterable

from gaunlearn_jax.base.registry import Registry
from verify.suites import (
    activations,
    assumptions,
    classes,
    estimators,
    generalization,
    identity,
    implicit_bias,
    linear,
    multipliers,
    relu,
    retrain,
    sequences,
    softmax,
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
    classes.SUITE,
    softmax.SUITE,
):
    CLAIMS.register(_suite)


def select(names: Iterable[str], own: tuple[Suite, ...] = ()) -> tuple[Suite, ...]:
    """The named claims in the registry's order; for no names a user's `own` (which are registered), else all of them.
    ValueError with the nearest name for an unknown one."""
    rows = [CLAIMS[name] for name in names]
    return tuple(suite for suite in CLAIMS if suite in rows) if rows else own or tuple(CLAIMS)
