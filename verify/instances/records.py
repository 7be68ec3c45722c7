"""Lane records: an instance is drawn, trained and solved once, and shared by every claim.

An instance is (seed, model, m, n, d, loss, source and its parameters). Its key folds a stable hash of the rest into the
seed's key, so the same instance comes out whatever the grid around it, the chunk or the device.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import gaunlearn_jax as ga
from gaunlearn_jax.base import draws
from gaunlearn_jax.base.staging import staged_on_host
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.data.registry import DISTRIBUTIONS, Distribution
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models.registry import canonical, network, patches
from gaunlearn_jax.training.losses import LOSSES
from gaunlearn_jax.training.train import Trained

THETAS = ("trained", "limit")
LIMIT = THETAS.index("limit")


class Cell(NamedTuple):
    """One place of a grid: the dimension, and the source's parameters as (name, value) pairs in its order."""

    d: float
    parameters: tuple[tuple[str, float], ...] = ()

    def value(self, name: str, default: float = 0.0) -> float:
        """A parameter, or the default where the source has none of that name."""
        return dict(self.parameters).get(name, default)


@staged_on_host
def _drawn(
    key: Array, dim: Array, parameters: dict[str, Array], *, source: Distribution, num_points: int, patches: int
) -> Dataset:
    """A stage of its own: its bits depend neither on what is computed around it, nor on how hastily that is compiled,
    nor on the device that computes the rest."""
    cut: dict[str, Any] = {"patches": patches} if source.patches else {}
    return source.draw(key, num_points, dim, **parameters, **cut)


@dataclasses.dataclass(frozen=True)
class Shape:
    """What is static in a compilation: the model as `models.registry` spells it, m, n (1 where it has no choice), the
    loss and the source. ValueError, with the known names, for an unknown one."""

    model: str
    m: int
    n: int
    loss: str = "exponential"
    source: str = "gaussian"

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", canonical(self.model))
        LOSSES[self.loss], DISTRIBUTIONS[self.source]
        if self.patches > 1 and not DISTRIBUTIONS[self.source].patches:
            known = ", ".join(row.name for row in DISTRIBUTIONS if row.patches)
            raise ValueError(
                f"source {self.source} is not drawn in patches, which model {self.model} needs; use {known}"
            )

    @property
    def entries(self) -> int:
        """Numbers in the largest array of a lane, a matrix [e, e] per neuron, one entry e a patch."""
        return self.n * (self.m * self.patches) ** 2

    @property
    def patches(self) -> int:
        """Patches a point."""
        return patches(self.model)

    def network(self) -> Any:
        return network(self.model, self.n)

    def draw(self, key: Array, dim: Array, parameters: dict[str, Array]) -> Dataset:
        return _drawn(key, dim, parameters, source=DISTRIBUTIONS[self.source], num_points=self.m, patches=self.patches)


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


def instance_key(seed: Any, shape: Shape, cell: Cell) -> Array:
    """The instance's own PRNG key as raw data [2] (threefry), a function of the instance alone."""
    values = ",".join(repr(float(v)) for _, v in cell.parameters) or "0.0"
    text = f"{shape.model}|{shape.m}|{shape.n}|{float(cell.d)!r}|{values}|{shape.loss}|{shape.source}"
    code = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    return jax.random.key_data(jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), code))


@functools.lru_cache(maxsize=64)
def recorder(shape: Shape) -> Callable[[Array, Array, dict[str, Array]], Record]:
    """The function (key, dim, parameters) -> Record of one lane; one object per shape, so that it compiles once."""

    def record(key: Array, dim: Array, parameters: dict[str, Array]) -> Record:
        net = shape.network()
        typed = jax.random.wrap_key_data(key, impl="threefry2x32")
        key_data, key_train, key_order, key_rest = jax.random.split(typed, 4)
        data = shape.draw(key_data, dim, parameters)
        run = ga.train.train(key_train, net, data, loss=shape.loss)
        trained = ga.kkt.fit_multipliers(net, data, run.params, run.preactivations, orthogonal_norm=run.orthogonal_norm)
        trained = dataclasses.replace(trained, status=jnp.maximum(trained.status, run.status))
        limit = ga.kkt.limit_point(net, data, run)
        psi, phi, eps_d = ga.data.assumptions(data, net)
        order = draws.order(key_order, shape.m)
        keys = (jax.random.key_data(k) for k in (key_rest, key_train))
        return Record(data, run, trained, limit, psi, phi, eps_d, order, *keys)

    return record


def both_thetas(record: Record) -> KKTPoint:
    """The record's thetas stacked on a leading axis, in the order of THETAS."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(record.theta(theta) for theta in THETAS))


def forget_set(record: Record, k: Any) -> Array:
    """Mask [m] of the first k points of the record's order; k may be traced."""
    return jnp.zeros(record.order.shape[0], bool).at[record.order].set(jnp.arange(record.order.shape[0]) < k)


class Lanes(NamedTuple):
    """The arguments of lanes, each with a leading lane axis: seeds, keys (raw), dimensions, the source's parameters."""

    seed: np.ndarray
    key: np.ndarray
    d: np.ndarray
    parameters: dict[str, np.ndarray]

    def arguments(
        self, start: int = 0, stop: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """What the function of a lane takes, of the lanes start .. stop."""
        part = slice(start, stop)
        return self.key[part], self.d[part], {name: values[part] for name, values in self.parameters.items()}


def lanes_of(shape: Shape, members: Sequence[tuple[Cell, int]]) -> Lanes:
    """The lanes of a shape, given as (cell, seed) pairs."""
    keys: dict[int, np.ndarray] = {}
    for cell in dict.fromkeys(cell for cell, _ in members):
        at = [i for i, (other, _) in enumerate(members) if other == cell]
        made = _keys(shape, cell, [members[i][1] for i in at])
        keys |= dict(zip(at, made, strict=True))
    names = [name for name, _ in members[0][0].parameters]
    return Lanes(
        seed=np.asarray([seed for _, seed in members], np.int64),
        key=np.stack([keys[i] for i in range(len(members))]),
        d=np.asarray([cell.d for cell, _ in members], float),
        parameters={name: np.asarray([cell.value(name) for cell, _ in members], float) for name in names},
    )


def lane_arguments(shape: Shape, cells: Sequence[Cell], seeds: range) -> Lanes:
    """All lanes of a shape: of each cell, every seed."""
    count = len(seeds)
    names = [name for name, _ in cells[0].parameters]
    return Lanes(
        seed=np.tile(np.asarray(seeds, np.int64), len(cells)),
        key=np.concatenate([_keys(shape, cell, seeds) for cell in cells]),
        d=np.repeat([float(cell.d) for cell in cells], count),
        parameters={name: np.repeat([cell.value(name) for cell in cells], count) for name in names},
    )


def _keys(shape: Shape, cell: Cell, seeds: Sequence[int]) -> np.ndarray:
    make = jax.vmap(lambda seed: instance_key(seed, shape, cell))
    return np.asarray(make(jnp.asarray(np.asarray(seeds, np.uint32))))
