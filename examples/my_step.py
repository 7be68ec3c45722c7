"""An unlearning step of one's own: ascent, with the mean of the retained points taken out of the step.

gaunlearn run --step examples/my_step.py --source equicorrelated:c=0.9
"""

from __future__ import annotations

import jax.numpy as jnp

import gaunlearn_jax as ga


def step(net, data, point, forget):
    """Ascent along what of the forgotten gradients is orthogonal to the retained mean."""
    h, _ = ga.unlearn.ascent_direction(net.problem(data), point, forget)
    mean = jnp.mean(data.points, axis=0, where=~forget[:, None])
    unit = mean / jnp.linalg.norm(mean)
    return point.params - (h - (h @ unit)[:, None] * unit)
