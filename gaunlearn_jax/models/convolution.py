"""A bank of filters with a fixed head and sum pooling: N(W, x) = sum_p sum_j u_jp sigma(<w_j, x_p>).

x_1 .. x_P are the patches of a point x, W [n, q] the trained filters. Every patch is a row of the margin problem, with
one entry of amplitudes u_jp y_i in the constraint of its point. Average pooling is the head u / P: W* becomes P W*.
Source: docs/theory, Convolution.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gaunlearn_jax.base import checks, numerics
from gaunlearn_jax.models.network import TwoLayerLeakyReLU
from gaunlearn_jax.models.problem import Layout, MarginProblem


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FilterBank:
    """The fixed part: the head u [n] (the same at every patch) or [n, P], the number P of patches and the slope of
    sigma below zero (both static). Make one with `Convolution`; the trained part is params W [n, q]."""

    output_weights: Float[Array, "n *P"]
    patches: int = dataclasses.field(metadata={"static": True})
    negative_slope: float = dataclasses.field(default=0.0, metadata={"static": True})

    @property
    def num_neurons(self) -> int:
        """n, the number of filters."""
        return int(self.output_weights.shape[0])

    def problem(self, data: Any) -> MarginProblem:
        """The margin problem of points [m, P q] that are P blocks of coordinates, one a patch, and labels [m].

        ValueError where the data are not cut into as many patches. With one head for all patches a filter with u_j y_i
        > 0 raises margins of one label alone, so without a slope below zero the labels are groups.
        """
        m, patches = data.labels.shape[0], self.patches
        if data.patches != patches:
            raise ValueError(
                f"the data have {data.patches} patches a point, expected {patches}; "
                f"make them with data.from_points(points, labels, patches={patches})"
            )
        shared = self.output_weights.ndim == 1
        head = jnp.broadcast_to(
            self.output_weights[:, None] if shared else self.output_weights, (self.num_neurons, patches)
        )
        owner = tuple(int(i) for i in np.repeat(np.arange(m), patches))
        return MarginProblem(
            rows=data.points.reshape(m * patches, -1),
            amplitudes=(data.labels[:, None] * head[:, None, :]).reshape(self.num_neurons, -1),
            groups=jnp.where(data.labels > 0, 0, 1) if shared else jnp.zeros(m, int),
            num_groups=2 if shared else 1,
            slope=self.negative_slope,
            layout=Layout(tuple(range(m * patches)), owner, owner, tuple(range(m))),
        )

    def outputs(self, z: Float[Array, "n s"]) -> Float[Array, "i"]:
        """N at points with these pre-activations of their patches, P neighbouring columns a point."""
        raised = jnp.maximum(z, self.negative_slope * z).reshape(self.num_neurons, -1, self.patches)
        if self.output_weights.ndim == 1:
            return numerics.matmul(self.output_weights, jnp.sum(raised, axis=2))
        return jnp.einsum("jp,jip->i", self.output_weights, raised)


def Convolution(
    num_neurons: int | None = None, patches: int = 2, output_weights: Any = None, negative_slope: float = 0.0
) -> FilterBank:
    """n filters over P patches, summed by a fixed head; u_j = +-1/sqrt(n) alternating unless output_weights [n] or
    [n, P] is given. 0 <= slope < 1.

    ValueError as for `TwoLayerLeakyReLU`; a head [n, P] must be finite and nonzero, of both signs without a slope.
    """
    p = checks.whole("patches", patches, 1, "a whole number of at least 1")
    if output_weights is None or np.ndim(output_weights) == 1:
        net = TwoLayerLeakyReLU(num_neurons, output_weights, negative_slope)
        return FilterBank(net.output_weights, p, net.negative_slope)
    u = checks.real_array("output_weights", output_weights, 2)
    if u.shape[1] != p or (num_neurons is not None and len(u) != num_neurons):
        raise ValueError(f"output_weights has shape {u.shape}, expected [n, {p}]: one weight per filter and patch")
    if np.any(u == 0):
        raise ValueError("output_weights has a zero entry, expected nonzero weights; drop the filter at every patch")
    slope = TwoLayerLeakyReLU(2, None, negative_slope).negative_slope
    if slope == 0.0 and (np.all(u > 0) or np.all(u < 0)):
        raise ValueError("all output_weights have one sign: such a network cannot fit both classes; mix the signs")
    return FilterBank(jnp.asarray(u), p, slope)
