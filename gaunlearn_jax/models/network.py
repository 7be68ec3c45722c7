"""Networks with one trained layer: N(theta, x) = sum_j u_j sigma(<w_j, x>), u fixed.

sigma(z) = max(z, slope * z). Slope 0 is ReLU, slope 1 with one neuron is the linear model, slopes in between
are leaky ReLU: one code path serves all (docs/theory, Models). All are 1-homogeneous in theta = (w_1..w_n).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gaunlearn_jax.base import checks, numerics
from gaunlearn_jax.base.arrays import Labels, Params, PerPair, PerPoint, Points
from gaunlearn_jax.models.problem import MarginProblem


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Network:
    """The fixed part of a model: second layer u [n] and the slope of sigma below zero (static).

    Make one with `Linear`, `TwoLayerReLU` or `TwoLayerLeakyReLU`; the trained part is params W [n, p].
    """

    output_weights: Float[Array, "n"]
    negative_slope: float = dataclasses.field(default=0.0, metadata={"static": True})

    def __post_init__(self) -> None:
        object.__setattr__(self, "negative_slope", checks.constant("negative_slope", self.negative_slope))

    @property
    def num_neurons(self) -> int:
        """n."""
        return int(self.output_weights.shape[0])

    def problem(self, data: Any) -> MarginProblem:
        """The margin problem of anything with `points` [m, p] and `labels` [m]: one constraint y_i N(x_i) >= 1 a point.

        A neuron with u_j y_i > 0 raises the margin of point i, so without a slope below zero the two labels are groups
        with neurons of their own. ValueError for data with several classes.
        """
        if getattr(data, "classes", None) is not None:
            raise ValueError("the data have classes, this network one output; use models.LinearClasses or ReLUClasses")
        return MarginProblem(
            rows=data.points,
            amplitudes=self.output_weights[:, None] * data.labels,
            groups=jnp.where(data.labels > 0, 0, 1),
            num_groups=2,
            slope=self.negative_slope,
        )

    def outputs(self, z: Float[Array, "n s"]) -> Float[Array, "s"]:
        """N at points with these pre-activations."""
        return numerics.matmul(self.output_weights, jnp.maximum(z, self.negative_slope * z))


def Linear() -> Network:
    """N(w, x) = <w, x>: one neuron, u = 1, slope 1."""
    numerics.require_x64()
    return Network(jnp.ones(1), 1.0)


def TwoLayerReLU(num_neurons: int | None = None, output_weights: Any = None) -> Network:
    """Two-layer ReLU network; u_j = +-1/sqrt(n) with alternating signs unless output_weights [n] is given.

    Raises ValueError if n < 2, if some u_j is zero or not finite, if sum u_j^2 > 1, or if all u_j have one
    sign (such a network cannot fit both classes).
    """
    return TwoLayerLeakyReLU(num_neurons, output_weights, negative_slope=0.0)


def TwoLayerLeakyReLU(
    num_neurons: int | None = None, output_weights: Any = None, negative_slope: float = 0.1
) -> Network:
    """Two-layer network with sigma(z) = max(z, slope z), 0 <= slope < 1; checks as for `TwoLayerReLU`."""
    numerics.require_x64()
    if checks.is_traced(negative_slope):
        checks.constant("negative_slope", negative_slope)
    below_one = float(np.nextafter(1.0, 0.0))
    checks.number("negative_slope", negative_slope, "0 <= slope < 1; use Linear() for slope 1", 0.0, below_one)
    if output_weights is None:
        given = 40 if num_neurons is None else num_neurons
        n = checks.whole("num_neurons", given, 2, "an integer of at least 2 (one neuron of each sign)")
        u = jnp.where(jnp.arange(n) % 2 == 0, 1.0, -1.0) / jnp.sqrt(float(n))
        return Network(u, float(negative_slope))
    if not checks.is_traced(output_weights):
        _check_output_weights(output_weights, negative_slope)
    if num_neurons is not None and num_neurons != len(output_weights):
        raise ValueError(f"num_neurons is {num_neurons} but output_weights has {len(output_weights)}; give one of them")
    return Network(jnp.asarray(output_weights, jnp.float64), float(negative_slope))


def _check_output_weights(given: Any, slope: float) -> None:
    try:
        u = np.asarray(given)
    except ValueError:
        u = np.empty(0, object)
        checks.real_array("output_weights", given, 1)
    if isinstance(given, np.ma.MaskedArray):
        checks.real_array("output_weights", given, 1)
    if u.ndim != 1 or u.size < 1 or u.dtype.kind not in "fiu":
        raise ValueError(
            f"output_weights has shape {u.shape} and dtype {u.dtype}, expected real numbers of shape [n], n >= 1"
        )
    if not np.all(np.isfinite(u)) or np.any(u == 0):
        bad = int(np.argmax(~np.isfinite(u) | (u == 0)))
        raise ValueError(f"output_weights[{bad}] is {u[bad]}; every u_j must be finite and nonzero, drop the neuron")
    if np.sum(u.astype(float) ** 2) > 1 + 1e-9:
        raise ValueError(f"sum of output_weights^2 is {np.sum(u**2):.6g}, expected at most 1; divide u by its norm")
    if slope == 0.0 and (np.all(u > 0) or np.all(u < 0)):
        raise ValueError("all output_weights have one sign: such a ReLU network cannot fit both classes; mix the signs")


def preactivations(points: Points, params: Params) -> PerPair:
    """z_ji = <w_j, x_i>, shape [n, m]."""
    return numerics.matmul(params, points.T)


def margins(net: Network, labels: Labels, z: PerPair) -> PerPoint:
    """q_i = y_i sum_j u_j sigma(z_ji), shape [m]; decided by the pre-activations alone."""
    activated = jnp.maximum(z, net.negative_slope * z)
    return labels * numerics.matmul(net.output_weights, activated)


def activation_slopes(net: Network, z: PerPair, at_kink: PerPair | float = 0.0) -> PerPair:
    """Clarke selection s_ji: 1 where z > 0, the negative slope where z < 0, `at_kink` where z = 0."""
    s = jnp.where(z > 0, 1.0, jnp.where(z < 0, net.negative_slope, at_kink))
    return jnp.maximum(s, net.negative_slope)


def coefficients(net: Network, labels: Labels, multipliers: PerPoint, selection: PerPair) -> PerPair:
    """Q_ji = u_j y_i lambda_i s_ji, so that sum_i lambda_i y_i g_i = Q X, shape [n, m]."""
    return net.output_weights[:, None] * (labels * multipliers) * selection


def same_sign(net: Network, labels: Labels) -> Array:
    """Mask [n, m] of the pairs with u_j y_i > 0, where an active neuron raises the margin."""
    return net.output_weights[:, None] * labels > 0
