"""Whole instances: draw, train, limit point, ascent step, four certificates, all bounds, verdicts.

One lane is one instance through its limit point with k = 1. The networks train for 100 steps, enough for a pattern; the
limit point of a linear model, of two classes or of four, needs no training.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import gaunlearn_jax as ga
from benchmarks.harness import Goal, Row, Side, at_least, measure
from gaunlearn_jax import sweep
from gaunlearn_jax.theory import bounds
from verify.instances.records import Cell, Shape, instance_key
from verify.suites import classes
from verify.suites.check import Check
from verify.suites.suite import Evaluation, Results

DIM = 1e12
STEPS = 100


class Lane:
    """The work of one lane, (key, dim) -> verdict codes."""

    def __init__(self, model: str, m: int, n: int, steps: int) -> None:
        self.shape, self.steps = Shape(model, m, n), steps

    def __call__(self, key: Any, dim: Any) -> jax.Array:
        net, m = self.shape.network(), self.shape.m
        key_data, key_train, key_forget = jax.random.split(jax.random.wrap_key_data(key, impl="threefry2x32"), 3)
        data = ga.data.gaussian(key_data, m, dim)
        start: Any = Untrained(jnp.ones((net.num_neurons, m)))
        if self.steps:
            start = ga.train.train(key_train, net, data, num_steps=self.steps, checkpoints=1)
        point = ga.kkt.limit_point(net, data, start)
        forget = jnp.arange(m) == jax.random.randint(key_forget, (), 0, m)
        psi, phi, _ = ga.data.assumptions(data, net)
        record: Any = Measured(data, psi, phi)
        e = Evaluation(self.shape, net, record, point, forget, jnp.asarray(1))
        made = classes.evaluate(e) if isinstance(net, ga.models.ClassNetwork) else verdicts(e)
        checks = [c for c in made.values() if isinstance(c, Check)]
        return jnp.stack([c.verdict() for c in checks])


class Untrained:
    """All activations on: enough for a linear model, whose limit point does not depend on the way to it."""

    def __init__(self, preactivations: jax.Array) -> None:
        self.preactivations = preactivations


class Measured(NamedTuple):
    """What evaluations look at of a record."""

    data: ga.data.Dataset
    psi: jax.Array
    phi: jax.Array


def verdicts(e: Evaluation) -> Results:
    """Every certificate against its instance bound, and the worst-case bounds of the model."""
    out: Results = {}
    for certificate in e.certificates.values():
        out |= e.success(certificate, e.instance_bound(certificate), "instance")
    name = "projection" if e.problem.kinked else "scaling"
    measured = (e.record.psi, e.record.phi, *bounds.outward(e.point, e.certificates[name]))
    for strength in ("sharp", "coarse"):
        bound = bounds.worst_case(e.problem, name, strength, *measured, m=e.m, k=e.k)
        out |= e.success(e.certificates[name], bound, strength)
    return out


def lanes(shape: Shape, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys and dims of `count` lanes."""
    keys = jax.vmap(lambda seed: instance_key(seed, shape, Cell(DIM)))(jnp.arange(count))
    return np.asarray(keys), np.full(count, DIM)


def side(model: str, m: int, n: int, count: int, steps: int = STEPS, repeats: int = 5) -> Side:
    """`count` lanes through `sweep.batched`, as the suites run them."""
    lane = Lane(model, m, n, steps)
    keys, dims = lanes(lane.shape, count)
    size = sweep.chunk_size(count, None, lane.shape.entries)
    name = f"{model}, m = {m}, n = {n}, {steps} steps, {count} lanes"
    return Side(name, lambda: sweep.batched(lane, keys, dims, chunk=size), count, violated, repeats)


def violated(codes: np.ndarray) -> float:
    """The share of violated comparisons."""
    return float(np.mean(codes == int(ga.Verdict.VIOLATED)))


def run() -> tuple[list[Row], list[Goal]]:
    small, large = side("relu", 10, 40, 4096), side("relu", 32, 128, 128, repeats=3)
    linear, trained = side("linear", 16, 1, 32768, steps=0), side("linear", 16, 1, 8192)
    several = side("classes", 12, 1, 4096, steps=0)
    rows = measure("end to end", [small, large, linear, trained, several])
    wanted = ((small, 8000), (large, 250), (linear, 100_000), (several, 20_000))
    goals = [at_least(rows, s.name, rate) for s, rate in wanted]
    return rows, goals
