"""Lane records: an instance is drawn, trained and solved once, and shared by every claim.

An instance is (seed, model, m, n, d, signal, loss). Its key folds a stable hash of the rest into the seed's key, so the
same instance comes out whatever the grid around it, the chunk or the device.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import gaunlearn_jax as ga
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models import Network
from gaunlearn_jax.train import Trained

THETAS = ("trained", "limit")
MODELS = ("linear", "relu")


@dataclasses.dataclass(frozen=True)
class Shape:
    """What is static in a compilation. n = 1 for the linear model; source is "gaussian" or "mixture"."""

    model: str
    m: int
    n: int
    loss: str = "exponential"
    source: str = "gaussian"

    @property
    def entries(self) -> int:
        """Numbers in the largest array of a lane, a matrix [m, m] per neuron."""
        return self.n * self.m**2

    def network(self) -> Network:
        return ga.models.Linear() if self.model == "linear" else ga.models.TwoLayerReLU(self.n)

    def draw(self, key: Array, dim: Array, signal: Array) -> Dataset:
        if self.source == "gaussian":
            return ga.data.gaussian(key, self.m, dim)
        return ga.data.mixture(key, self.m, dim, signal)


class Record(NamedTuple):
    """One instance, solved: the data, the training run, both kinds of theta, the measured assumptions, an order of the
    points whose first k are the forget set of size k, a key for further draws, and the key the training began from
    (raw key data; the same initial weights again)."""

    data: Dataset
    run: Trained
    trained: KKTPoint
    limit: KKTPoint
    psi: Array
    phi: Array
    eps_d: Array
    order: Array
    key: Array
    train_key: Array

    def theta(self, kind: str) -> KKTPoint:
        return self.limit if kind == "limit" else self.trained


def instance_key(seed: Any, shape: Shape, dim: float, signal: float) -> Array:
    """The instance's own PRNG key as raw data [2] (threefry), a function of the instance alone."""
    text = f"{shape.model}|{shape.m}|{shape.n}|{float(dim)!r}|{float(signal)!r}|{shape.loss}|{shape.source}"
    code = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    return jax.random.key_data(jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), code))


@functools.lru_cache(maxsize=64)
def recorder(shape: Shape) -> Callable[[Array, Array, Array], Record]:
    """The function (key, dim, signal) -> Record of one lane; one object per shape, so that it compiles once."""

    def record(key: Array, dim: Array, signal: Array) -> Record:
        net = shape.network()
        typed = jax.random.wrap_key_data(key, impl="threefry2x32")
        key_data, key_train, key_order, key_rest = jax.random.split(typed, 4)
        data = shape.draw(key_data, dim, signal)
        run = ga.train.train(key_train, net, data, loss=shape.loss)
        trained = ga.kkt.fit_multipliers(net, data, run.params, run.preactivations, orthogonal_norm=run.orthogonal_norm)
        trained = dataclasses.replace(trained, status=jnp.maximum(trained.status, run.status))
        limit = ga.kkt.limit_point(net, data, run)
        psi, phi, eps_d = ga.data.assumptions(data, net)
        order = jax.random.permutation(key_order, shape.m)
        keys = (jax.random.key_data(k) for k in (key_rest, key_train))
        return Record(data, run, trained, limit, psi, phi, eps_d, order, *keys)

    return record


def both_thetas(record: Record) -> KKTPoint:
    """The record's thetas stacked on a leading axis, in the order of THETAS."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(record.theta(theta) for theta in THETAS))


def forget_set(record: Record, k: Any) -> Array:
    """Mask [m] of the first k points of the record's order; k may be traced."""
    return jnp.zeros(record.order.shape[0], bool).at[record.order].set(jnp.arange(record.order.shape[0]) < k)


def lane_arguments(shape: Shape, cells: list[tuple[float, float]], seeds: range) -> dict[str, np.ndarray]:
    """Seeds, dims, signals and keys of all lanes of a shape: of each cell (d, signal), every seed."""
    return {
        "seed": np.tile(np.asarray(seeds, np.int64), len(cells)),
        "d": np.repeat([d for d, _ in cells], len(seeds)),
        "signal": np.repeat([s for _, s in cells], len(seeds)),
        "key": np.concatenate([_keys(shape, d, s, seeds) for d, s in cells]),
    }


def _keys(shape: Shape, dim: float, signal: float, seeds: range) -> np.ndarray:
    make = jax.vmap(lambda seed: instance_key(seed, shape, dim, signal))
    return np.asarray(make(jnp.asarray(np.asarray(seeds, np.uint32))))
