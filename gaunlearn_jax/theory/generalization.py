"""Test error on the Gaussian mixture x = y mu + xi, xi ~ N(0, I_d/d), y = +-1 with equal chances.

A network sees of a fresh point only <w_j, mu> and (<w_j, xi>)_j ~ N(0, W W^T / d), so its error is computed, bounded
or sampled in reduced coordinates at any d (docs/theory, Generalisation and Fresh test points). The first coordinate
lies along mu; `params` [n, c] may have more columns than the data, all of them orthogonal to mu. A trained network has
weights outside the span of the points, of which only the norm is stored: `orthogonal_coordinates` makes them explicit.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr, ndtr
from jaxtyping import Array, Bool, Float, Int

from gaunlearn_jax import models
from gaunlearn_jax.base import draws, numerics
from gaunlearn_jax.base.arrays import Mask, Params, PerPoint, Scalar
from gaunlearn_jax.data import Dataset, bartlett

#: fresh points at once: all of them together, for every lane, do not fit into a processor's cache
BLOCK = 64
#: terms of the asymptotic series of log Phi: full float64 accuracy in the tail (three terms lose 1e-11)
_SERIES = 10


def log_tail(t: Float[Array, "..."] | float) -> Float[Array, "..."]:
    """log Phi(-t), the log-probability that a standard normal exceeds t; accurate at any t."""
    return log_ndtr(-jnp.asarray(t, jnp.float64), series_order=_SERIES)


def linear_signal(params: Params, data: Dataset, orthogonal_norm: Scalar = 0.0) -> Array:
    """t = sqrt(d) <w, mu> / ||w|| of a linear model; orthogonal_norm is part of ||w|| (0 for w = 0)."""
    size = numerics.norm(params, orthogonal_norm)
    return jnp.sqrt(data.dim) * data.mean_norm * params[0, 0] / jnp.where(size > 0, size, 1.0)


def linear_error(params: Params, data: Dataset, orthogonal_norm: Scalar = 0.0) -> Array:
    """The test error of a linear model, exactly Phi(-sqrt(d) <w, mu> / ||w||). Source: docs/theory, Generalisation."""
    return jnp.exp(log_tail(linear_signal(params, data, orthogonal_norm)))


def signal_floor(
    data: Dataset, multipliers: PerPoint, epsilon: Scalar, retained: Mask
) -> tuple[Array, Bool[Array, ""]]:
    """(floor, hypothesis): <w_hat, mu> >= floor = ||mu||^2/2 sum_T lambda_i - epsilon_1 ||mu|| for the linear model,
    under y_i <xi_i, mu> >= -||mu||^2/2 for all i in T. Source: docs/theory, Generalisation."""
    total = jnp.sum(jnp.where(retained, multipliers, 0.0))
    floor = 0.5 * data.mean_norm**2 * total - epsilon * data.mean_norm
    return floor, ~jnp.any(weak_points(data) & retained)


def weak_points(data: Dataset) -> Bool[Array, "m"]:
    """Points with y_i <xi_i, mu> < -||mu||^2/2, that is y_i <x_i, mu> < ||mu||^2/2."""
    return data.labels * data.points[:, 0] < 0.5 * data.mean_norm


def expected_margin(net: models.Network, params: Params, data: Dataset) -> Float[Array, "2"]:
    """E_y = y sum_j u_j E sigma(Z_j), Z_j ~ N(y <w_j, mu>, ||w_j||^2 / d), for y = +1 and -1.

    E max(Z, 0) = nu Phi(nu/s) + s phi(nu/s), max(nu, 0) where s = 0; sigma = slope z + (1 - slope) max(z, 0).
    Source: docs/theory, Generalisation.
    """
    y = jnp.array([[1.0], [-1.0]])
    nu = y * (data.mean_norm * params[:, 0])
    s = jnp.sqrt(jnp.sum(params**2, axis=1) / data.dim)
    ratio = nu / jnp.where(s > 0, s, 1.0)
    density = jnp.exp(-0.5 * ratio**2) / jnp.sqrt(2 * jnp.pi)
    positive = jnp.where(s > 0, nu * ndtr(ratio) + s * density, jnp.maximum(nu, 0.0))
    mean = net.negative_slope * nu + (1 - net.negative_slope) * positive
    return y[:, 0] * numerics.matmul(mean, net.output_weights)


def operator_norm(params: Params) -> Array:
    """An upper bound on ||W||_op, tight to 0.1 %: the top eigenvalue of W W^T or W^T W, whichever is smaller."""
    small = params if params.shape[0] <= params.shape[1] else params.T
    return jnp.sqrt(numerics.top_eigenvalue(numerics.gram(small), squarings=12))


def log_error_bound(net: models.Network, params: Params, data: Dataset) -> Array:
    """log of `error_bound`, finite where the bound itself underflows."""
    lipschitz = operator_norm(params) * numerics.norm(net.output_weights)
    mean = jnp.maximum(expected_margin(net, params, data), 0.0)
    exponent = data.dim * (mean / jnp.where(lipschitz > 0, lipschitz, 1.0)) ** 2 / 2
    return jax.nn.logsumexp(-exponent) - jnp.log(2.0)


def error_bound(net: models.Network, params: Params, data: Dataset) -> Array:
    """test error <= 1/2 sum_y exp(-d max(0, E_y)^2 / (2 ||W||_op^2 ||u||^2)), by Gaussian concentration.

    `params` must contain every component of the weights. Source: docs/theory, Generalisation.
    """
    return jnp.exp(log_error_bound(net, params, data))


def fresh_noise(key: Array, num_samples: int, width: int, data: Dataset) -> Float[Array, "s c"]:
    """xi of fresh points in `width` reduced coordinates: num_samples rows N(0, I/d)."""
    return draws.normal(key, shape=(num_samples, width)) / jnp.sqrt(data.dim)


def error_count(net: models.Network, params: Params, data: Dataset, noise: Float[Array, "s c"]) -> Int[Array, ""]:
    """How many fresh points y mu + xi (xi the rows of noise; y = +1 for the first half, -1 for the rest) have a margin
    <= 0. Given the network, a sum of independent indicators whose mean is the test error (for an even number)."""
    total, width = noise.shape
    y = jnp.where(jnp.arange(total) < total // 2, 1.0, -1.0)

    def errors(block: tuple[Array, Array]) -> Array:
        signs, fresh = block
        z = signs * (data.mean_norm * params[:, :1]) + numerics.matmul(params, fresh.T)
        return jnp.sum(signs * net.outputs(z) <= 0)

    size = math.gcd(total, BLOCK)
    return jnp.sum(jax.lax.map(errors, (y.reshape(-1, size), noise.reshape(-1, size, width))))


def sampled_error(key: Array, net: models.Network, params: Params, data: Dataset, num_samples: int) -> Array:
    """The share of misclassified points among num_samples fresh ones, both classes equally often.

    ValueError unless num_samples is even and positive. Source: docs/theory, Fresh test points.
    """
    if num_samples < 2 or num_samples % 2:
        raise ValueError(f"num_samples is {num_samples}, expected an even number >= 2 (half of each class)")
    return error_count(net, params, data, fresh_noise(key, num_samples, params.shape[1], data)) / num_samples


def orthogonal_coordinates(
    key: Array, net: models.Network, data: Dataset, orthogonal_norm: Scalar
) -> Float[Array, "n n"]:
    """n further coordinates of the weights: the part outside the span of the points, of which only the norm is stored.

    For weights drawn N(0, sigma^2 I_d), independently of the data, and trained from there, the part outside the span
    keeps the direction of the draw, and the direction of a Gaussian is independent of its norm. So Bartlett's triangle
    (chi^2_{d-p-i}), rescaled to the stored norm, has exactly the law of that part up to an isometry. Zeros for norm 0,
    as at a limit point; NaN where d - p < n. Source: docs/theory, Weights in R^d.
    """
    n, room = net.num_neurons, data.dim - data.points.shape[1]
    if n == 1:
        return jnp.full((1, 1), orthogonal_norm, jnp.float64)
    triangle = bartlett(key, n, jnp.asarray(room, jnp.float64))
    drawn = jnp.asarray(orthogonal_norm) * triangle / numerics.norm(triangle)
    return jnp.where((room >= n) | (jnp.asarray(orthogonal_norm) == 0), drawn, jnp.nan)
