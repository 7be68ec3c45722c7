"""A distribution of one's own: Gaussian points of unequal lengths.

gaunlearn run retrain --with examples/my_distribution.py --source uneven:ratio=1,10 --dims 1e4,1e8 --seeds 8
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

import gaunlearn_jax as ga


def uneven(key, num_points, dim, ratio):
    """Points N(0, I/d) times lengths that grow geometrically from 1 to `ratio`: exact at any dimension."""
    data = ga.data.gaussian(key, num_points, dim)
    lengths = jnp.asarray(ratio, float) ** (jnp.arange(num_points) / (num_points - 1))
    return dataclasses.replace(data, points=data.points * lengths[:, None])


UNEVEN = ga.data.Distribution(
    name="uneven",
    statement="N(0, I/d) times lengths from 1 to ratio",
    draw=uneven,
    parameters=(ga.Parameter("ratio", 2.0, 1.0, 1e6, "longest over shortest point", grid=(1.0, 4.0)),),
    dims=(1e4, 1e8),
)
