"""Exact KKT points with max pooling, on the host: N(W, x) = sum_j u_j max(0, <w_j, x_1>, .., <w_j, x_P>).

For u_j y_i < 0 the term is concave, a minimum of linear functions: one for each patch and one that is 0. For u_j y_i
> 0 one patch (or none) is fixed and changed by a pattern loop, as for entries. The programme of a pattern is solved by
cutting planes: the choice of patches that makes F_i smallest is a linear constraint, and `active_set` finds the nearest
point. Free terms share multipliers over a simplex, which is why the solver of entries, made of intervals, cannot be
used. For problems of a few hundred pairs (filter, point). Source: docs/theory, Max pooling.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gaunlearn_jax.base import checks
from gaunlearn_jax.base.codes import Status
from gaunlearn_jax.kkt import active_set
from gaunlearn_jax.kkt.active_set import Bools, Matrix, Vector

#: a constraint missed by this, in units of the length of its terms, is met; terms this near to the largest are as large
TIE = 1e-11
#: rounds of cuts and of the pattern loop
CUTS, REPEATS = 400, 50
#: no patch: the term is 0
NONE = -1
Choice = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class MaxPooling:
    """Patches [m, P, q], labels [m] (+-1) and a head u [n] of nonzero weights; ValueError for anything else."""

    patches: Any
    labels: Any
    output_weights: Any

    def __post_init__(self) -> None:
        for name, rank in (("patches", 3), ("labels", 1), ("output_weights", 1)):
            object.__setattr__(self, name, checks.real_array(name, getattr(self, name), rank))
        if len(self.labels) != len(self.patches) or np.any(np.abs(self.labels) != 1):
            raise ValueError(f"labels must be {len(self.patches)} numbers +1 or -1, one for each point of the patches")
        if np.any(self.output_weights == 0):
            raise ValueError("output_weights has a zero entry, expected nonzero weights; drop the filter")

    @property
    def amplitudes(self) -> Matrix:
        """v_ji = u_j y_i [n, m]."""
        return np.asarray(self.output_weights[:, None] * self.labels)

    def preactivations(self, params: Matrix) -> NDArray[np.float64]:
        """z_jip = <w_j, x_ip> [n, m, P]."""
        return np.einsum("jq,ipq->jip", params, self.patches)

    def margins(self, params: Matrix) -> Vector:
        """q_i [m]."""
        pooled = np.maximum(np.max(self.preactivations(params), axis=2), 0.0)
        return np.asarray(np.sum(self.amplitudes * pooled, axis=0))

    def gradients(self, selection: NDArray[np.float64]) -> NDArray[np.float64]:
        """g_i = (v_ji sum_p s_jip x_ip)_j [m, n, q]."""
        return np.einsum("ji,jip,ipq->ijq", self.amplitudes, selection, self.patches)


class PooledPoint(NamedTuple):
    """theta with multipliers [m] and a selection [n, m, P], measured: epsilon, delta and the smallest margin of the
    retained points, how far a patch that is used may be from the largest, rounds of the pattern loop, status."""

    params: Matrix
    multipliers: Vector
    selection: NDArray[np.float64]
    epsilon: float
    delta: float
    margin: float
    tie: float
    repeats: int
    status: Status


class _Cuts:
    """Explicit unit rows for `active_set`."""

    def __init__(self, rows: Matrix) -> None:
        self.size = np.linalg.norm(rows, axis=1)
        self.rows = rows / self.size[:, None]

    @property
    def dim(self) -> int:
        return int(self.rows.shape[1])

    def columns(self, index: list[int]) -> Matrix:
        return self.rows[index].T

    def products(self, w: Vector) -> Vector:
        return np.asarray(self.rows @ w)

    def sizes(self, w: Vector) -> Vector:
        return np.asarray(np.abs(self.rows) @ w)


def exact_point(problem: MaxPooling, start: Any, retained: Any = None, *, repeats: int = REPEATS) -> PooledPoint:
    """The exact KKT point that the pattern loop reaches from the patches that weights `start` [n, q] choose where a
    term raises a margin; repeats = 0 gives the first solve.

    INFEASIBLE where the pattern admits no feasible point, UNCONVERGED where cuts or rounds ran out. ValueError for
    another shape, or where nothing is retained.
    """
    w = checks.real_array("start", start, 2)
    n, (m, _, q) = len(problem.output_weights), problem.patches.shape
    if w.shape != (n, q):
        raise ValueError(f"start has shape {w.shape}, expected ({n}, {q}): one filter a row")
    keep = np.ones(m, bool) if retained is None else np.asarray(retained, bool)
    if keep.shape != (m,) or not np.any(keep):
        raise ValueError(f"retained has shape {keep.shape} and {int(np.sum(keep))} marks, expected [{m}] with some")
    choice, done = largest(problem, w), 0
    while True:
        try:
            w, lam, share = _first_solve(problem, choice, keep)
        except active_set.Infeasible:
            return _measured(problem, w, np.zeros(m), _one_hot(problem, choice), keep, done, Status.INFEASIBLE)
        except RuntimeError:
            return _measured(problem, w, np.zeros(m), _one_hot(problem, choice), keep, done, Status.UNCONVERGED)
        wrong = _contradicted(problem, w, choice) & keep
        if not np.any(wrong) or done >= repeats:
            status = Status.UNCONVERGED if np.any(wrong) and repeats else Status.OK
            return _measured(problem, w, lam, share, keep, done, status)
        choice, done = np.where(wrong, largest(problem, w), choice), done + 1


def largest(problem: MaxPooling, params: Matrix) -> Choice:
    """The patch of the largest pre-activation [n, m], NONE where none is positive."""
    z = problem.preactivations(params)
    return np.where(np.max(z, axis=2) > 0, np.argmax(z, axis=2), NONE)


def projection(problem: MaxPooling, point: PooledPoint, forget: Any) -> PooledPoint:
    """theta - (I - P) h with lambda_T and the same selection, measured on the retained points (Theorem P for entries):
    its epsilon is ||e + P h||, and its margins are those of theta."""
    gone = np.asarray(forget, bool)
    h = np.tensordot(np.where(gone, point.multipliers, 0.0), problem.gradients(point.selection), 1)
    kept = problem.patches[~gone].reshape(-1, h.shape[1])
    _, size, basis = np.linalg.svd(kept, full_matrices=False)
    basis = basis[size > 1e-11 * size[0]]
    params = point.params - (h - h @ basis.T @ basis)
    lam = np.where(gone, 0.0, point.multipliers)
    return _measured(problem, params, lam, point.selection, ~gone, point.repeats, point.status)


def _first_solve(problem: MaxPooling, choice: Choice, keep: Bools) -> tuple[Matrix, Vector, NDArray[np.float64]]:
    """The solution of Q for fixed patches, by cuts: (W, lambda, selection)."""
    fixed, index = problem.amplitudes > 0, np.flatnonzero(keep)
    cuts: list[tuple[int, Choice]] = [(int(i), np.where(fixed[:, i], choice[:, i], NONE)) for i in index]
    active: list[int] = []
    shape = (len(choice), problem.patches.shape[2])
    for _ in range(CUTS):
        rows = np.array([_cut(problem, i, chosen).ravel() for i, chosen in cuts])
        if np.any(np.all(rows == 0, axis=1)):
            raise active_set.Infeasible([], np.ones(1))
        made = _Cuts(rows)
        everyone = active_set.Problem(made, 1.0 / made.size, np.zeros(made.dim), np.ones(len(rows), bool))
        face = active_set.solve(everyone, active)
        w, active = face.weights.reshape(shape), face.active
        worst = np.where(fixed, choice, largest(problem, w))
        fresh = [(int(i), worst[:, i]) for i in index if _short(problem, w, int(i), worst[:, i])]
        if not fresh:
            return _shares(problem, w, cuts, active, face.multipliers / made.size[active])
        cuts += fresh
    raise RuntimeError("the cuts ran out")


def _cut(problem: MaxPooling, i: int, chosen: Choice) -> Matrix:
    """The gradient [n, q] of F_i for one choice of patches [n]."""
    rows = np.where(chosen[:, None] == NONE, 0.0, problem.patches[i][chosen])
    return np.asarray(problem.amplitudes[:, i : i + 1] * rows)


def _short(problem: MaxPooling, w: Matrix, i: int, chosen: Choice) -> bool:
    cut = _cut(problem, i, chosen)
    return bool(np.sum(cut * w) < 1 - TIE * (1 + np.sum(np.abs(cut * w))))


def _shares(
    problem: MaxPooling, w: Matrix, cuts: list[tuple[int, Choice]], active: list[int], weights: Vector
) -> tuple[Matrix, Vector, NDArray[np.float64]]:
    """lambda_i, the sum over the cuts of i, and the share of each patch in it."""
    n, (m, count, _) = len(w), problem.patches.shape
    lam, share = np.zeros(m), np.zeros((n, m, count))
    for at, weight in zip(active, weights, strict=True):
        i, chosen = cuts[at]
        lam[i] += weight
        used = np.flatnonzero(chosen != NONE)
        share[used, i, chosen[used]] += weight
    held = lam > 0
    share[:, held] /= lam[held][:, None]
    share[:, ~held] = _one_hot(problem, largest(problem, w))[:, ~held]
    return w, lam, share


def _one_hot(problem: MaxPooling, choice: Choice) -> NDArray[np.float64]:
    return np.asarray(choice[:, :, None] == np.arange(problem.patches.shape[1]), float)


def _contradicted(problem: MaxPooling, w: Matrix, choice: Choice) -> Bools:
    """Fixed pairs [n, m] whose patch is not a largest one."""
    z = problem.preactivations(w)
    there = np.sum(z * _one_hot(problem, choice), axis=2)
    size = 1 + np.einsum("jq,ipq->jip", np.abs(w), np.abs(problem.patches)).max(axis=2)
    return np.asarray((problem.amplitudes > 0) & (np.maximum(z.max(axis=2), 0.0) - there > TIE * size))


def _measured(
    problem: MaxPooling, w: Matrix, lam: Vector, share: NDArray[np.float64], keep: Bools, repeats: int, status: Status
) -> PooledPoint:
    """Everything again from theta, lambda and the selection."""
    lam = np.where(keep, lam, 0.0)
    q, z = problem.margins(w), problem.preactivations(w)
    residual = w - np.tensordot(lam, problem.gradients(share), 1)
    top = np.maximum(z.max(axis=2), 0.0)
    missed = np.where(share > 0, top[:, :, None] - z, 0.0).max(axis=2)
    missed = np.maximum(missed, np.where(share.sum(axis=2) < 1 - 1e-12, top, 0.0))
    return PooledPoint(
        params=w,
        multipliers=lam,
        selection=share,
        epsilon=float(np.linalg.norm(residual)),
        delta=max(float(np.max(lam * (q - 1))), 0.0),
        margin=float(np.min(q[keep])),
        tie=float(np.max(missed[:, lam > 0], initial=0.0)),
        repeats=repeats,
        status=status,
    )
