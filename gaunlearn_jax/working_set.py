"""Exact KKT points of networks on many points: solve on those near the margin, check the margins of the rest.

A point beyond the margin has multiplier 0 and its activations enter nothing, so a KKT point of the problem on a working
set with q_i >= 1 everywhere is one of the whole problem (docs/theory, Exact KKT points). Violators join the set.
Runs on the host, one programme at a time.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.optimize import nnls

from gaunlearn_jax import kkt, models, numerics
from gaunlearn_jax._types import Mask, Params, PerPair, PerPoint, Status
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import KKTPoint

#: a programme holds n Gram matrices of the working set; sizes are padded to multiples of STEP, so few are compiled
LARGEST, STEP = 320, 32
#: a margin below NEAR times the smallest puts a point into the first working set; one below 1 - FLOOR is a violation
NEAR, FLOOR = 1.1, 1e-10
#: kinks make a fit a programme with n Gram matrices: it is made on this many points at most
FITTED = 2 * STEP


def limit_point(net: models.Network, data: Dataset, slopes: PerPair, retained: Any, margins: PerPoint) -> KKTPoint:
    """The exact KKT point on the retained points [m] from the activations `slopes` [n, m], measured on all of them.

    The working set starts from the smallest `margins` [m] and grows to at most LARGEST points; status UNCONVERGED where
    that is not enough. At most LARGEST points at once: memory n c^2, each pad of STEP compiles once.
    """
    keep, q = np.asarray(retained), np.asarray(margins)
    order = np.argsort(q, kind="stable")
    order = order[keep[order]]
    near = int(np.sum(q[order] < NEAR * q[order[0]])) + STEP // 4
    members = order[: min(near, LARGEST)]
    while True:
        point = _solve_on(net, data, slopes, members, keep)
        q = np.asarray(models.margins(net, data.labels, point.preactivations))
        bad = np.setdiff1d(np.flatnonzero(keep & (q < 1 - FLOOR)), members)
        if not bad.size or int(point.status) != Status.OK:
            return point
        if len(members) == LARGEST:
            return dataclasses.replace(point, status=jnp.asarray(int(Status.UNCONVERGED), jnp.int32))
        members = np.concatenate([members, bad[np.argsort(q[bad])][: min(STEP, LARGEST - len(members))]])


def _solve_on(net: models.Network, data: Dataset, slopes: PerPair, members: np.ndarray, keep: np.ndarray) -> KKTPoint:
    """The programme on the members alone, padded with points that may carry no multiplier."""
    count = len(members)
    index = np.resize(members, STEP * -(-count // STEP))
    part = dataclasses.replace(data, points=data.points[index], labels=data.labels[index], basis=None)
    p = kkt.solve_pattern(net, part, slopes[:, index], jnp.arange(len(index)) < count, kkt.MAX_REPEATS)
    z = models.preactivations(data.points, p.params).at[:, members].set(p.preactivations[:, :count])
    lam = jnp.zeros(data.num_points).at[members].set(p.multipliers[:count])
    selection = models.activation_slopes(net, z, slopes).at[:, members].set(p.selection[:, :count])
    return kkt.measured_point(net, data, p.params, z, lam, selection, jnp.asarray(keep), status=p.status)


def from_weights(net: models.Network, data: Dataset, weights: np.ndarray, multipliers: np.ndarray) -> KKTPoint:
    """The KKTPoint of a linear model from w [p] and lambda [m], scaled up by OUTWARD like every solved point."""
    w = jnp.asarray(weights)[None] * numerics.OUTWARD
    lam = jnp.asarray(multipliers) * numerics.OUTWARD
    everyone = jnp.ones(data.num_points, bool)
    z = models.preactivations(data.points, w)
    return kkt.measured_point(net, data, w, z, lam, jnp.ones_like(z), everyone)


def fit_multipliers(
    net: models.Network,
    data: Dataset,
    params: Params,
    preactivations: PerPair,
    *,
    orthogonal_norm: float | Array = 0.0,
    retained: Mask,
    rescale: bool = False,
) -> KKTPoint:
    """The multipliers of least epsilon for a given theta on many points, as `kkt.fit_multipliers` (theta as it is).

    Without kinks: nonnegative least squares on the gradients of all retained points. With kinks: the programme of
    `kkt.fit_multipliers` on the FITTED points of smallest margin, the others get multiplier 0 (an upper bound on the
    least epsilon). A neuron of weight 0 needs no selection but 0. Source: docs/theory, Measuring.
    """
    if rescale:
        raise ValueError("rescale is True, expected False: divide theta by its smallest margin first")
    keep, z = np.asarray(retained), np.asarray(preactivations)
    alive = np.any(np.asarray(params) != 0, axis=1)
    if net.kind != "linear" and np.any(z[alive][:, keep] == 0):
        return _fit_near(net, data, params, preactivations, keep, orthogonal_norm)
    selection = models.activation_slopes(net, preactivations)
    made = np.asarray(models.coefficients(net, data.labels, jnp.ones(data.num_points), selection))
    columns = np.einsum("ji,ip->jpi", made, np.asarray(data.points)).reshape(-1, data.num_points)[:, keep]
    goal = np.asarray(params).ravel()
    if columns.shape[0] > columns.shape[1]:
        q, columns = np.linalg.qr(columns)
        goal = q.T @ goal
    size = np.linalg.norm(columns, axis=0)
    size = np.where(size > 0, size, 1.0)
    lam = np.zeros(data.num_points)
    lam[keep] = nnls(columns / size, goal, maxiter=30 * data.num_points)[0] / size
    return kkt.measured_point(
        net, data, params, preactivations, jnp.asarray(lam), selection, retained, orthogonal_norm=orthogonal_norm
    )


def _fit_near(
    net: models.Network, data: Dataset, params: Params, z: PerPair, keep: np.ndarray, orthogonal: float | Array
) -> KKTPoint:
    q = np.asarray(models.margins(net, data.labels, z))
    order = np.argsort(q, kind="stable")
    members = order[keep[order]][:FITTED]
    index = np.resize(members, min(FITTED, STEP * -(-len(members) // STEP)))
    part = dataclasses.replace(data, points=data.points[index], labels=data.labels[index], basis=None)
    used = jnp.arange(len(index)) < len(members)
    p = kkt.fit_multipliers(net, part, params, z[:, index], retained=used, rescale=False)
    lam = jnp.zeros(data.num_points).at[members].set(p.multipliers[: len(members)])
    selection = models.activation_slopes(net, z).at[:, members].set(p.selection[:, : len(members)])
    mask = jnp.asarray(keep)
    return kkt.measured_point(net, data, params, z, lam, selection, mask, orthogonal_norm=orthogonal, status=p.status)
