"""Theorem LK on many instances, by the solver from random patterns: none off pattern, all starts end in one point; and
where the hypothesis narrowly fails, kinks appear."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaunlearn_jax as ga
from gaunlearn_jax import kkt
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.theory import leaky

M, N, SLOPE, STARTS = 4, 4, 0.1, 4
LANES = 128


@functools.partial(jax.jit, static_argnames="slope")
@functools.partial(jax.vmap, in_axes=(0, 0, 0, None))
def solved(gram: jax.Array, amplitudes: jax.Array, starts: jax.Array, slope: float) -> tuple:
    """chi, the bounds of the theorem and the points reached from every start."""
    problem = MarginProblem(jnp.linalg.cholesky(gram), amplitudes, jnp.zeros(M, int), 1, slope)
    found = leaky.measured(problem)
    everyone = jnp.ones(M, bool)
    points = jax.vmap(lambda s: kkt.solve_pattern(problem, s, everyone, kkt.MAX_REPEATS))(starts)
    return found, points


def instances(seed: int, count: int, size: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gram matrices with inner products up to `size` (many of them at it), weights of any sizes, starting patterns."""
    rng = np.random.default_rng(seed)
    off = size * rng.uniform(0, 1, (count, 1, 1)) * np.clip(2 * rng.normal(size=(count, M, M)), -1, 1)
    low = np.tril(off, -1)
    gram = low + np.swapaxes(low, 1, 2)
    gram[:, np.arange(M), np.arange(M)] = 1 + 0.1 * rng.uniform(-1, 1, (count, M))
    u = rng.normal(size=(count, N)) * 10 ** rng.uniform(-1, 0, (count, N))
    u[:, 0], u[:, 1] = np.abs(u[:, 0]), -np.abs(u[:, 1])
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    v = u[:, :, None] * rng.choice([-1.0, 1.0], (count, 1, M))
    return gram, v, np.where(rng.random((count, STARTS, N, M)) < 0.5, 1.0, SLOPE)


def check(seed: int, count: int) -> int:
    """Every instance with chi < 1 is as the theorem says; how many these are."""
    gram, v, starts = instances(seed, count, 0.012)
    found, points = solved(gram, v, starts, SLOPE)
    good = (found.chi < 1) & jnp.all(points.status == int(ga.Status.OK), axis=1)
    assert np.mean(good[found.chi < 1]) > 0.99
    good = np.asarray(good)
    s = np.where(v > 0, 1.0, SLOPE)[:, None]
    assert np.all(np.asarray(points.selection)[good] == np.broadcast_to(s, starts.shape)[good])
    ratio = (np.asarray(points.preactivations) / v[:, None])[good]
    assert np.all(ratio >= np.asarray(found.clearance)[good][:, None, None] - 1e-10)
    lam = np.asarray(points.multipliers)[good]
    assert np.all(lam <= np.asarray(found.most)[good][:, None, None] * (1 + 1e-10))
    assert np.all(lam >= np.asarray(found.least)[good][:, None] - 1e-10)
    params = np.asarray(points.params)[good]
    size = np.linalg.norm(params[:, :1], axis=(2, 3), keepdims=True)
    assert np.max(np.abs(params - params[:, :1]) / size) < 1e-10
    return int(np.sum(good))


def test_a_few_dozen_instances():
    assert check(0, LANES) > 60


@pytest.mark.slow
def test_ten_thousand_instances():
    assert sum(check(seed, LANES) for seed in range(1, 161)) > 10_000


def worst_family(phi: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One point against three of the other label, which it has the inner products phi with and they -phi among each
    other, and neurons of which few (a tenth of U) help the three: all of N pulls the one point's flat side to zero."""
    off = np.array([[0, 1, 1, 1], [1, 0, -1, -1], [1, -1, 0, -1], [1, -1, -1, 0]])
    u = np.sqrt([0.45, 0.45, 0.05, 0.05]) * [1, 1, -1, -1]
    v = np.broadcast_to(u[:, None] * np.array([1.0, -1.0, -1.0, -1.0]), (len(phi), N, M))
    starts = np.broadcast_to(np.where(v > 0, 1.0, SLOPE)[:, None], (len(phi), STARTS, N, M))
    return np.eye(M) + phi[:, None, None] * off, v, starts


def test_the_hypothesis_is_as_weak_as_it_can_be():
    """In the worst family the one point has kinks where chi is just above 1.05, and none below 1."""
    phi = np.linspace(0.002, 0.006, LANES)
    found, points = solved(*worst_family(phi), SLOPE)
    chi, z = np.asarray(found.chi), np.asarray(points.preactivations)[:, 0]
    assert np.all(np.asarray(points.status)[:, 0] == int(ga.Status.OK))
    kinked = np.any(z == 0, axis=(1, 2))
    assert np.all(kinked[chi > 1.05])
    assert np.sum(kinked & (chi < 1.15)) > 5
    assert not np.any(kinked[chi < 1])
    assert np.sum(chi < 1) > 20
