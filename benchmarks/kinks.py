"""Exact KKT points of networks: the programme in (lambda, c) with its kinks, against general QP solvers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import gaunlearn_jax as ga
from benchmarks.harness import Goal, Row, Side, ahead, measure
from gaunlearn_jax import sweep
from gaunlearn_jax.kkt import dual
from gaunlearn_jax.kkt.programme import Programme, Solution, places, programme_of

COUNT, M, N, DIM = 128, 10, 40, 1e8


def problems() -> tuple[ga.data.Dataset, jax.Array]:
    """Drawn data and the slopes of networks trained on them."""
    net = ga.models.TwoLayerReLU(N)

    def one(key: jax.Array) -> tuple[ga.data.Dataset, jax.Array]:
        data = ga.data.gaussian(key, M, DIM)
        run = ga.train.train(key, net, data, num_steps=100, checkpoints=1)
        return data, net.problem(data).slopes(run.preactivations)

    return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), COUNT))


def programme(data: ga.data.Dataset, slopes: jax.Array) -> Programme:
    problem, ones = ga.models.TwoLayerReLU(N).problem(data), jnp.ones(M)
    return programme_of(problem, slopes, problem.free, ones, ones > 0, ones * jnp.inf)


def solve(data: ga.data.Dataset, slopes: jax.Array) -> jax.Array:
    return solved(data, slopes).multipliers


def solved(data: ga.data.Dataset, slopes: jax.Array) -> Solution:
    made = programme(data, slopes)
    return dual.solve(made, places(made, slopes))


def as_qp(p: Programme) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """min 1/2 v^T Q v - 1^T lambda,  G v <= 0,  over v = (lambda, the free entries of c): Q, the linear term, G."""
    gram, v, fixed, free = (np.asarray(x) for x in (p.gram, p.amplitudes, p.fixed, p.free))
    pairs = np.argwhere(free)
    size = M + len(pairs)
    place = {tuple(pair): M + at for at, pair in enumerate(pairs)}
    q = np.zeros((size, size))
    for j in range(N):
        a = np.zeros((M, size))
        for i in range(M):
            at = place.get((j, i))
            a[i, i if at is None else at] = v[j, i] * (fixed[j, i] if at is None else 1.0)
        q += a.T @ gram @ a
    linear = np.concatenate([-np.ones(M), np.zeros(len(pairs))])
    upper = np.eye(size)[M:] - np.eye(size)[pairs[:, 1]]
    return q, linear, np.concatenate([-np.eye(size), upper])


def error(exact: np.ndarray) -> Callable[[Any], float]:
    """Largest distance of the multipliers to ours, relative to the largest (all programmes are strictly convex in
    lambda, and ours has been re-measured by its optimality conditions)."""
    return lambda lam: float(np.max(np.abs(np.asarray(lam) - exact[: len(np.asarray(lam))])) / np.max(exact))


def run() -> tuple[list[Row], list[Goal]]:
    data, slopes = problems()
    exact = sweep.batched(solve, data, slopes)
    violation = jax.jit(jax.vmap(lambda d, s: solved(d, s).violation))(data, slopes)
    each = [jax.tree.map(lambda v, i=i: v[i], (data, slopes)) for i in range(COUNT)]
    qps = [as_qp(programme(*pair)) for pair in each]
    sides = [
        Side("ours", lambda: sweep.batched(solve, data, slopes), COUNT, lambda _: float(jnp.max(violation))),
        *clarabel_sides(qps, exact),
        *qpax_sides(qps, exact),
    ]
    rows = measure(f"kink programme, m = {M}, n = {N}", sides)
    return rows, [ahead(rows, "ours", 10.0, 1e-6)]


def clarabel_sides(qps: list[Any], exact: np.ndarray) -> list[Side]:
    try:
        import clarabel
    except ImportError:
        return []
    from scipy import sparse

    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-12
    given = [
        (sparse.triu(sparse.csc_matrix(q)).tocsc(), linear, sparse.csc_matrix(g), np.zeros(len(g)))
        for q, linear, g in qps
    ]

    def loop() -> np.ndarray:
        return np.stack(
            [
                clarabel.DefaultSolver(q, linear, g, right, [clarabel.NonnegativeConeT(len(right))], settings)
                .solve()
                .x[:M]
                for q, linear, g, right in given
            ]
        )

    return [Side("Clarabel, loop", loop, COUNT, error(exact), repeats=2)]


def qpax_sides(qps: list[Any], exact: np.ndarray) -> list[Side]:
    """A few programmes only: each has 210 unknowns and 410 inequalities."""
    try:
        import qpax
    except ImportError:
        return []
    few = 8
    q, linear, g = (jnp.asarray(np.stack(part[:few])) for part in zip(*qps, strict=True))
    nothing, zero, right = jnp.zeros((0, q.shape[1])), jnp.zeros(0), jnp.zeros(g.shape[1])
    lanes = jax.jit(jax.vmap(lambda a, b, c: qpax.solve_qp(a, b, nothing, zero, c, right, solver_tol=1e-9)[0][:M]))
    return [Side("qpax, vmap", lambda: lanes(q, linear, g), few, error(exact), repeats=2)]
