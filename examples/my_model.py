"""An architecture of one's own: two-layer networks with sigma(z) = |z|.

gaunlearn run retrain identity --with examples/my_model.py --models absolute --dims 1e4,1e8 --seeds 8
"""

from __future__ import annotations

import jax.numpy as jnp

import gaunlearn_jax as ga


def absolute(num_neurons: int, gain: float) -> ga.models.Network:
    """N(x) = sum_j u_j |<w_j, x>| with u_j = +-gain/sqrt(n): |z| = max(z, -z), a slope of -1 below zero."""
    signs = jnp.where(jnp.arange(num_neurons) % 2 == 0, 1.0, -1.0)
    return ga.models.Network(gain * signs / num_neurons**0.5, negative_slope=-1.0)


ABSOLUTE = ga.models.Architecture(
    name="absolute",
    statement="two-layer network with sigma(z) = |z|, first layer trained",
    make=absolute,
    parameters=(ga.Parameter("gain", 1.0, 0.0, 1.0, "norm of the second layer", open_low=True),),
)
