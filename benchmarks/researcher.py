"""What one writes today: gradient descent in d = 10 000 dimensions and NNLS on flattened gradients, against ours."""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

import gaunlearn_jax as ga
from benchmarks.harness import Goal, Row, Side, measure
from gaunlearn_jax import sweep

M, N, DIM, STEPS, LANES = 10, 40, 10_000, 20_000, 256


def full_dimension() -> tuple[float, float]:
    """(seconds, epsilon_1 / ||theta||) of plain full-batch descent on the exponential loss, jitted, lr 1."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(M, DIM)) / np.sqrt(DIM))
    y = jnp.asarray(np.where(np.arange(M) % 2, -1.0, 1.0))
    u = jnp.asarray(np.where(np.arange(N) % 2, -1.0, 1.0) / np.sqrt(N))
    start = jnp.asarray(1e-3 * rng.normal(size=(N, DIM)) / np.sqrt(DIM))

    def outputs(w: jax.Array) -> jax.Array:
        return u @ jax.nn.relu(w @ x.T)

    def loss(w: jax.Array) -> jax.Array:
        return jnp.mean(jnp.exp(-y * outputs(w)))

    @jax.jit
    def train(w: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, STEPS, lambda _, v: v - jax.grad(loss)(v), w)

    jax.block_until_ready(train.lower(start).compile())
    begun = time.perf_counter()
    w = np.asarray(jax.block_until_ready(train(start)))
    rows = np.asarray(jax.jit(jax.jacobian(outputs))(jnp.asarray(w))).reshape(M, -1) * np.asarray(y)[:, None]
    w = w.ravel() / float(np.min(np.asarray(y * outputs(jnp.asarray(w)))))
    residual = scipy.optimize.nnls(rows.T, w)[1]
    return time.perf_counter() - begun, residual / float(np.linalg.norm(w))


def lane(key: jax.Array) -> jax.Array:
    """epsilon_1 / ||theta|| of the exact point with the activations of a trained network."""
    net = ga.models.TwoLayerReLU(N)
    data = ga.data.gaussian(key, M, float(DIM))
    point = ga.kkt.limit_point(net, data, ga.train.train(key, net, data, num_steps=100, checkpoints=1))
    return point.epsilon / jnp.linalg.norm(point.params)


def run() -> tuple[list[Row], list[Goal]]:
    keys = jax.random.split(jax.random.key(0), LANES)
    ours: Any = Side("ours", lambda: sweep.batched(lane, keys), LANES, lambda eps: float(np.max(eps)))
    rows = measure("a KKT point at d = 10 000", [ours])
    seconds, reached = full_dimension()
    peer = f"plain JAX, {STEPS} steps, scipy nnls"
    rows.append(Row(rows[0].workload, peer, seconds, seconds, seconds, reached, "one network, one run"))
    ratio = seconds / rows[0].seconds
    good = ratio >= 10_000 and (rows[0].accuracy or 0.0) <= reached
    return rows, [Goal(">= 10,000 x, to an epsilon_1 no worse", f"{ratio:,.0f} x", good)]
