"""A network given as a function as a measured point of the margin problem: multipliers, epsilon, delta.

Multipliers are nonnegative least squares on the gradients of the margins, through the triangle of their QR
factorisation, never through their Gram matrix, which costs half of the digits. Source: docs/theory, Functions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gaunlearn_jax.audit import prepare
from gaunlearn_jax.data import marked
from gaunlearn_jax.functions.margins import Layers, MarginFunction
from gaunlearn_jax.kkt import host
from gaunlearn_jax.kkt.host import Marks, Matrix, Vector
from gaunlearn_jax.kkt.least_squares import nonnegative

#: lower bounds are reported this much lower, norms and angles of what enters them being off by less
INWARD = 1.0 - 1e-12
#: networks at which gradients are sampled to tell kinks from unfinished training, and how far, in units of the norm
SAMPLES, NEARBY = 16, 1e-3
#: gradients of that sample at most: its least squares would take longer than all the rest
COLUMNS = 1500
#: epsilon_1 in units of the norm from which on its cause is looked for
NOTABLE = 0.01


class Measured(NamedTuple):
    """Arrays with multipliers [A]: margins, ||theta - sum lambda g||, max lambda (q - 1), the residual itself; the
    gradients are those that JAX takes at these arrays."""

    layers: Layers
    multipliers: Vector
    margins: Vector
    residual: Layers
    epsilon: float
    delta: float


def measured(function: MarginFunction, layers: Layers, multipliers: Vector, *, margin: float = 1.0) -> Measured:
    """(epsilon, delta) of the arrays as they are, for constraints q_a >= margin; constraints of multiplier 0 count for
    nothing here, and feasibility is left to the caller."""
    q = function.margins(layers) / margin
    made = function.pull(layers, multipliers / margin)
    residual = tuple(w - g for w, g in zip(layers, made, strict=True))
    delta = max(float(np.max(multipliers * (q - 1.0))), 0.0)
    return Measured(layers, multipliers, q, residual, host.norm(*residual), delta)


def multipliers(
    function: MarginFunction, layers: Layers, *, margin: float = 1.0, among: Marks | None = None
) -> tuple[Vector, bool]:
    """lambda >= 0 [A] of least ||theta - sum_a lambda_a grad (q_a / margin)||, 0 outside the constraints `among`, and
    whether its KKT conditions hold."""
    triangle = _triangle(function, layers, [layers], margin)
    used = np.ones(len(function.owner), bool) if among is None else among
    found, solved = nonnegative(triangle[:, :-1][:, used], triangle[:, -1])
    lam = np.zeros(len(used))
    lam[used] = found
    return lam, solved


def epsilon_nearby(function: MarginFunction, layers: Layers, *, margin: float = 1.0) -> float:
    """The least ||theta - sum lambda g|| over gradients at theta and at SAMPLES networks within NEARBY of its norm, NaN
    where they are more than COLUMNS: far below epsilon_1, kinks near theta are its cause. A diagnosis, no bound."""
    if (SAMPLES + 1) * len(function.owner) > COLUMNS:
        return float("nan")
    rng = np.random.default_rng(0)
    size = NEARBY * host.norm(*layers) / sum(w.size for w in layers) ** 0.5
    drawn = [tuple(w + size * rng.standard_normal(w.shape) for w in layers) for _ in range(SAMPLES)]
    triangle = _triangle(function, layers, [layers, *drawn], margin)
    found, _ = nonnegative(triangle[:, :-1], triangle[:, -1])
    return float(np.linalg.norm(triangle[:, -1] - triangle[:, :-1] @ found))


def _triangle(function: MarginFunction, layers: Layers, where: list[Layers], margin: float) -> Matrix:
    """R of the QR factorisation of all gradients at some networks, and theta as the last column."""
    triangle = np.zeros((0, len(where) * len(function.owner) + 1))
    for at in function.blocks(layers):
        goal = np.concatenate([layers[l].ravel() for l in at])
        columns = [function.gradients(network, at).T / margin for network in where]
        triangle = np.concatenate([triangle, np.column_stack([*columns, goal])])
        triangle = np.asarray(np.linalg.qr(triangle, mode="r"))
    return triangle


def flat(layers: Layers) -> Vector:
    """All numbers of all arrays."""
    return np.concatenate([v.ravel() for v in layers])


def gap(layers: Layers, others: Layers) -> float:
    """1 - cos of the angle between two lists of arrays."""
    a, b = flat(layers), flat(others)
    size = np.linalg.norm(b)
    if size == 0 or not np.any(a):
        return float("nan")
    b = b * (float(a @ b) / float(b @ b)) if float(a @ b) > 0 else b
    return host.one_minus_cos(a, a - b)


def less(layers: Layers, step: Layers, fractions: Vector | float = 1.0) -> Layers:
    """theta less a fraction of each array of the step."""
    shares = np.broadcast_to(np.asarray(fractions, np.float64), (len(layers),))
    return tuple(w - c * h for w, c, h in zip(layers, shares, step, strict=True))


def layer_norms(layers: Layers) -> Vector:
    """||W_l|| of every array."""
    return np.asarray([np.linalg.norm(v) for v in layers])


def forgotten(m: int, forget: Any) -> Marks:
    """The forgotten points as a mask [m]; ValueError unless at least one is named, and not all."""
    gone = marked(m, prepare.indices(forget))
    if not np.any(gone):
        raise ValueError("forget is empty, expected the index of at least one point")
    return gone


def misclassified(function: MarginFunction, layers: Layers, among: Marks) -> int:
    """How many points have a constraint, of those marked, without a positive margin."""
    return len(np.unique(function.owner[among & ~(function.margins(layers) > 0)]))
