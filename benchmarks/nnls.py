"""Multipliers of one programme  min 1/2 l^T G l - 1^T l,  l >= 0:  many at once, against NNLS and QP solvers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize

import gaunlearn_jax as ga
from benchmarks.harness import Goal, Row, Side, ahead, measure
from gaunlearn_jax import sweep
from gaunlearn_jax.kkt.pattern import pattern_loop
from gaunlearn_jax.kkt.programme import Programme

COUNT = {16: 2048, 64: 256}
#: steps of optax.nnls: few, and as many as its best accuracy takes
STEPS = {16: (100, 500), 64: (100, 700)}


def programmes(m: int, condition: float) -> np.ndarray:
    """Gram matrices [count, m, m]: y y^T o X X^T of Gaussian points, d = 1e4, or spectra spread over `condition`."""
    rng, count = np.random.default_rng(m), COUNT[m]
    if condition == 1:
        keys = jax.random.split(jax.random.key(m), count)
        data = jax.vmap(lambda key: ga.data.gaussian(key, m, 1e4))(keys)
        x = np.asarray(data.labels)[..., None] * np.asarray(data.points)
        return x @ x.transpose(0, 2, 1)
    basis = np.linalg.qr(rng.normal(size=(count, m, m)))[0]
    g = (basis * np.geomspace(1, 1 / condition, m)) @ basis.transpose(0, 2, 1)
    return 0.5 * (g + g.transpose(0, 2, 1))


def solve(gram: jax.Array) -> jax.Array:
    m = gram.shape[0]
    yes = jnp.ones(m, bool)
    one = jnp.ones((1, m))
    programme = Programme(gram, one, one, one < 0, jnp.ones(m), yes, jnp.full(m, jnp.inf), 1.0, False)
    return pattern_loop(programme, one, jnp.asarray(0, jnp.int32)).solution.multipliers


def residual(grams: np.ndarray) -> Callable[[Any], float]:
    """Largest violation of l >= 0, G l >= 1, l (G l - 1) = 0, the last relative to max l; median over problems."""

    def of(multipliers: Any) -> float:
        lam = np.asarray(multipliers, float)
        gap = np.einsum("bij,bj->bi", grams, lam) - 1
        top = np.max(np.abs(lam), axis=1)
        worst = np.maximum(np.max(-gap, axis=1), np.max(np.abs(lam * gap), axis=1) / top)
        return float(np.median(np.maximum(worst, np.max(-lam, axis=1) / top)))

    return of


def sides(m: int, condition: float) -> list[Side]:
    grams, count = programmes(m, condition), COUNT[m]
    factor = np.linalg.cholesky(grams).transpose(0, 2, 1)
    right = np.linalg.solve(factor.transpose(0, 2, 1), np.ones((count, m, 1)))[..., 0]
    accuracy, size = residual(grams), sweep.chunk_size(count, None, m * m)
    out = [
        Side("ours", lambda: sweep.batched(solve, grams, chunk=size), count, accuracy),
        Side(
            "scipy.optimize.nnls, loop",
            lambda: np.stack([scipy.optimize.nnls(a, b)[0] for a, b in zip(factor, right, strict=True)]),
            count,
            accuracy,
            repeats=3,
        ),
    ]
    a, b = jnp.asarray(factor), jnp.asarray(right)
    for steps in STEPS[m]:
        lanes = jax.jit(jax.vmap(lambda a, b, steps=steps: optax.nnls(a, b, steps)))
        out.append(Side(f"optax.nnls, vmap, {steps} steps", lambda f=lanes: f(a, b), count, accuracy, repeats=3))
    return out + qpax_sides(grams, accuracy)


def qpax_sides(grams: np.ndarray, accuracy: Callable[[Any], float]) -> list[Side]:
    try:
        import qpax
    except ImportError:
        return []
    m = grams.shape[1]
    nothing, zero, minus, ones = jnp.zeros((0, m)), jnp.zeros(0), -jnp.eye(m), jnp.ones(m)

    def one(gram: jax.Array) -> jax.Array:
        return qpax.solve_qp(gram, -ones, nothing, zero, minus, jnp.zeros(m), solver_tol=1e-12)[0]

    lanes, given = jax.jit(jax.vmap(one)), jnp.asarray(grams)
    return [Side("qpax, vmap", lambda: lanes(given), len(grams), accuracy, repeats=3)]


def run() -> tuple[list[Row], list[Goal]]:
    rows: list[Row] = []
    goals: list[Goal] = []
    for condition in (1.0, 1e6):
        for m in (16, 64):
            kind = "nearly orthogonal" if condition == 1 else "condition number 1e6"
            mine = measure(f"multipliers, m = {m}, {kind}", sides(m, condition))
            rows += mine
            goals.append(ahead(mine, "ours", 3.0 if condition == 1 else 1.0, 1e-12 if condition == 1 else 1e-11))
    return rows, goals
