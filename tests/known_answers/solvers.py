"""The project's solvers of minimise 1/2 |w|^2 subject to N w >= beta, each as a function of (N, beta)."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaunlearn_jax.kkt import active_set, dual, host
from gaunlearn_jax.kkt.programme import Programme

Array = np.ndarray[Any, np.dtype[np.float64]]

#: constraints are padded to one of these numbers, so that the solver is compiled twice in all
SIZES = (64, 128)


@functools.cache
def compiled() -> Any:
    return jax.jit(dual.solve)


def attempted(rows: Any, least: Any) -> Any:
    """What the solver says of the dual programme, 1/2 lambda^T N N^T lambda - beta^T lambda over lambda >= 0."""
    rows, least = np.asarray(rows, float), np.asarray(least, float)
    m = len(rows)
    size = next(s for s in SIZES if s >= m)
    gram, target, there = np.eye(size), np.zeros(size), np.arange(size) < m
    gram[:m, :m], target[:m] = rows @ rows.T, least
    programme = Programme(
        gram=jnp.asarray(gram),
        amplitudes=jnp.ones((1, size)),
        fixed=jnp.asarray(there[None] * 1.0),
        free=jnp.zeros((1, size), bool),
        target=jnp.asarray(target),
        valid=jnp.asarray(there),
        cap=jnp.full(size, jnp.inf),
        slope=1.0,
        kinked=False,
    )
    return compiled()(programme, jnp.zeros((1, size), jnp.int32))


def solved(rows: Any, least: Any) -> Any:
    """Its solution."""
    found = attempted(rows, least)
    assert bool(found.converged)
    return found


def by_dual(rows: Any, least: Any) -> tuple[Array, Array]:
    """(w, lambda) by the dual programme."""
    multipliers = np.asarray(solved(rows, least).multipliers)[: len(rows)]
    return np.asarray(rows, float).T @ multipliers, multipliers


def nonnegative(columns: Any, goal: Any) -> tuple[Array, float]:
    """(x, |A x - b|) of least |A x - b| over x >= 0, by the fit of multipliers on the host: gradients are columns."""
    columns, goal = np.asarray(columns, float), np.asarray(goal, float)
    count = columns.shape[1]
    problem = host.HostProblem(columns.T, np.ones(count), np.ones(1), 1.0)
    point = host.fit_multipliers(problem, goal[None], problem.preactivations(goal[None]), retained=np.ones(count, bool))
    return point.multipliers, point.epsilon


def by_host(rows: Any, least: Any) -> tuple[Array, Array]:
    """(w, lambda) by Lawson and Hanson's least-distance form: with u the fit of (0, ..., 0, 1) by the columns
    (N_i, beta_i), lambda = u / (1 - beta^T u). beta is divided by its largest entry first, which scales w."""
    rows, least = np.asarray(rows, float), np.asarray(least, float)
    unit = float(np.max(np.abs(least)))
    goal = np.zeros(rows.shape[1] + 1)
    goal[-1] = 1.0
    u, _ = nonnegative(np.column_stack([rows, least / unit]).T, goal)
    multipliers = unit * u / (1.0 - least / unit @ u)
    return rows.T @ multipliers, multipliers


class Dense:
    """Unit rows, all of them formed, for `active_set`."""

    def __init__(self, rows: Array) -> None:
        self.rows, self.dim = rows, rows.shape[1]

    def columns(self, index: list[int]) -> Array:
        return self.rows[index].T

    def products(self, w: Array) -> Array:
        return self.rows @ w

    def sizes(self, w: Array) -> Array:
        return np.abs(self.rows) @ w


def by_active_set(rows: Any, least: Any, start: list[int] | None = None) -> tuple[Array, Array]:
    """(w, lambda) by the active-set method of several classes, from a guess of the active constraints."""
    rows, least = np.asarray(rows, float), np.asarray(least, float)
    size = np.linalg.norm(rows, axis=1)
    everything = np.ones(len(rows), bool)
    problem = active_set.Problem(Dense(rows / size[:, None]), least / size, np.zeros(rows.shape[1]), everything)
    face = active_set.solve(problem, start or [])
    multipliers = np.zeros(len(rows))
    multipliers[face.active] = face.multipliers / size[face.active]
    return face.weights, multipliers
