"""Conformance of losses: whoever has a row in LOSSES passes this, and a broken row does not."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import gaunlearn_jax as ga
from gaunlearn_jax.data import from_classes
from gaunlearn_jax.models import LinearClasses
from gaunlearn_jax.training.losses import LOSSES, Loss
from gaunlearn_jax.training.train import log_weights

MARGINS = np.concatenate([np.linspace(-30, 30, 61), [-700.0, 36.0, 300.0, 1e4]])
#: the losses once more, at 50 digits
BY_HAND = {"exponential": lambda q: mpmath.exp(-q), "logistic": lambda q: mpmath.log1p(mpmath.exp(-q))}


def conforms(loss: Loss) -> None:
    """log l and log(-l') against 50 digits and against automatic differentiation; l falls; training separates."""
    l = BY_HAND[loss.name]
    with mpmath.workdps(50 + 4400):
        values = [float(mpmath.log(l(mpmath.mpf(q)))) for q in MARGINS]
    with mpmath.workdps(60):
        slopes = [float(mpmath.log(-mpmath.diff(l, mpmath.mpf(q)))) for q in MARGINS if abs(q) <= 30]
    np.testing.assert_allclose(loss.log_value(jnp.asarray(MARGINS)), values, rtol=1e-13, atol=1e-13)
    near = MARGINS[np.abs(MARGINS) <= 30]
    np.testing.assert_allclose(loss.log_slope(jnp.asarray(near)), slopes, rtol=1e-12, atol=1e-12)
    # l' = l (log l)', so log(-l') = log l + log(-(log l)')
    fall = -jax.vmap(jax.grad(loss.log_value))(jnp.asarray(near))
    np.testing.assert_allclose(loss.log_slope(jnp.asarray(near)), loss.log_value(near) + jnp.log(fall), atol=1e-9)
    assert np.all(np.diff(np.asarray(loss.log_value(jnp.asarray(np.sort(MARGINS))))) < 0)
    assert np.all(np.isfinite(loss.log_slope(jnp.asarray(MARGINS))))
    data = ga.data.gaussian(jax.random.key(0), 5, 1e4)
    run = ga.train.train(jax.random.key(1), ga.models.TwoLayerReLU(4), data, loss=loss.name, num_steps=120)
    assert float(run.margin[-1]) > 0


@pytest.mark.parametrize("name", LOSSES.names)
def test_a_loss_conforms(name: str) -> None:
    conforms(LOSSES[name])


@pytest.mark.parametrize("field", ["log_value", "log_slope"])
@pytest.mark.parametrize("name", LOSSES.names)
def test_a_broken_loss_does_not(name: str, field: str) -> None:
    right = getattr(LOSSES[name], field)
    with pytest.raises(AssertionError):
        conforms(dataclasses.replace(LOSSES[name], **{field: lambda q: 1.001 * right(q) + 1e-3}))


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
def test_several_margins_a_point_share_one_loss(loss):
    """exp of log_weights is -dL/dq of the sum over points of l(-log sum exp(-q_a)), by automatic differentiation."""
    problem = LinearClasses(3).problem(from_classes(np.eye(4), [0, 1, 2, 1]))
    q = jnp.asarray(np.random.default_rng(0).normal(size=8) * 3)

    def total(margins):
        soft = jnp.stack([-jnp.log(jnp.exp(-margins[2 * i]) + jnp.exp(-margins[2 * i + 1])) for i in range(4)])
        return jnp.sum(jnp.exp(LOSSES[loss].log_value(soft)))

    np.testing.assert_allclose(jnp.exp(log_weights(problem, q, loss)), -jax.grad(total)(q), rtol=1e-10)
