"""Real data as sources of a run: points drawn without replacement from sets that come with scikit-learn.

gaunlearn run steps --with examples/real_sets.py --source digits --models linear --points 60 --forget 1
gaunlearn run steps --with examples/real_sets.py --source breast_cancer --models linear --points 30 --forget 1
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

import gaunlearn_jax as ga
from gaunlearn_jax.audit import datasets


@functools.cache
def loaded(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Points and labels -1, +1 of a whole set."""
    points, labels = datasets.load(name)
    return points, np.where(labels == np.max(labels), 1.0, -1.0)


def sample(key, num_points, dim, standardised, *, name):
    """`num_points` of the set; its dimension is its own, whatever `dim` says. `standardised` = 1 brings every
    coordinate of the whole set to mean 0 and variance 1."""
    points, labels = loaded(name)
    spread = np.std(points, axis=0)
    unit = (points - points.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    chosen = jax.random.choice(key, len(points), (num_points,), replace=False)
    x = jnp.where(standardised > 0, jnp.asarray(unit)[chosen], jnp.asarray(points)[chosen])
    y = jnp.asarray(labels)[chosen]
    both = jnp.any(y > 0) & jnp.any(y < 0)
    status = jnp.where(both, ga.Status.OK, ga.Status.BAD_INPUT)
    return ga.data.Dataset(x, y, jnp.asarray(float(points.shape[1])), jnp.zeros(()), status)


def row(name: str, source: str, dim: float, standardised: float) -> ga.data.Distribution:
    return ga.data.Distribution(
        name=name,
        statement=f"points of {source}, without replacement",
        draw=functools.partial(sample, name=source),
        parameters=(ga.Parameter("standardised", standardised, 0.0, 1.0, "1: each coordinate of the whole set"),),
        dims=(dim,),
    )


DIGITS = row("digits", "digits:3-8", 64.0, 0.0)
CANCER = row("breast_cancer", "breast_cancer", 30.0, 1.0)
