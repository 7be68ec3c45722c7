"""Full-precision products, norms that do not overflow, 1 - cos without cancellation, projections, sweeps.

Everything the verdicts rest on passes through here, in float64 (docs/theory, Numerics).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Num

from gaunlearn_jax.base.rounding import arithmetic
from gaunlearn_jax.base.staging import staged

EPS = float(jnp.finfo(jnp.float64).eps)
#: theta and lambda of the host are scaled up by this factor so that computed margins are >= 1 within rounding
OUTWARD = 1.0 + 64 * EPS
#: share of its norm below which the remainder of a point outside the others' span is rounding
DEPENDENT = 1e-11
#: the same for the pivots of `sweep`, which are squares
DEPENDENT_PIVOT = 2e-14


def unit() -> float:
    """The unit of rounding of the device that computes: EPS on a processor (`base.rounding`)."""
    return arithmetic().unit


def outward() -> float:
    """OUTWARD for what the device computes."""
    return 1.0 + 64 * unit()


def require_x64() -> None:
    """Raise unless 64-bit arrays are enabled, since verdicts in float32 would be rounding noise, and arrays of other
    dtypes and ranks may meet, as the kernels are written."""
    if not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise RuntimeError(
            "gaunlearn_jax computes in float64 but 64-bit arrays are disabled; call "
            'jax.config.update("jax_enable_x64", True) before creating arrays (or set JAX_ENABLE_X64=1).'
        )
    for name, allowed in (("dtype", "standard"), ("rank", "allow")):
        said = getattr(jax.config, f"jax_numpy_{name}_promotion")
        said = getattr(said, "value", said)
        if said in ("strict", "raise"):
            raise RuntimeError(
                f"jax_numpy_{name}_promotion is {said!r}, under which the kernels cannot run; call gaunlearn_jax "
                f"inside `with jax.numpy_{name}_promotion({allowed!r}):`"
            )


def array_namespace(*values: Any) -> Any:
    """NumPy where NumPy arrays or scalars are given and nothing of JAX, `jax.numpy` otherwise.

    Formulas of a few numbers written in it cost a host computation no compilation.
    """
    on_host = any(isinstance(v, np.ndarray | np.generic) for v in values)
    return np if on_host and not any(isinstance(v, jax.Array) for v in values) else jnp


def matmul(a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, "..."]:
    """a @ b at the highest precision (accelerators default to TF32 or bfloat16 otherwise)."""
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def norm(x: Float[Array, "..."], *more: Float[Array, "..."] | float) -> Float[Array, ""]:
    """Euclidean norm of all entries of all arguments together, scaled so that nothing overflows."""
    parts = [jnp.ravel(jnp.asarray(v, jnp.float64)) for v in (x, *more)]
    flat = jnp.concatenate(parts) if more else parts[0]
    top = jnp.max(jnp.abs(flat), initial=arithmetic().least)  # not 0, by which nothing could be divided
    return top * jnp.sqrt(jnp.sum((flat / top) ** 2))


def one_minus_cos(a: Float[Array, "..."], delta: Float[Array, "..."]) -> Float[Array, ""]:
    """1 - cos of the angle between a and b = a - delta, accurate even at 1e-20.

    With delta_perp the part of delta orthogonal to a: 1 - cos = |delta_perp|^2 / (|b|^2 (1 + cos))
    (docs/theory, Numerics). Zero vectors give NaN.
    """
    b = a - delta
    aa, bb = norm(a), norm(b)
    perp = norm(delta - (jnp.sum(a * delta) / aa**2) * a)
    return _gap(perp / bb, jnp.sum(a * b) / (aa * bb))


def cosine_gap(a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, ""]:
    """1 - cos of the angle between two arrays of any norms."""
    one, two = a.ravel() / norm(a), b.ravel() / norm(b)
    delta = one - two
    return _gap(norm(delta - jnp.sum(one * delta) * one), jnp.sum(one * two))


def _gap(sine: Array, cos: Array) -> Array:
    """1 - cos of an angle from its sine and cosine, by the one that does not cancel."""
    return jnp.where(cos >= 0, sine**2 / (1 + jnp.maximum(cos, 0.0)), 1 - cos)


def angle_of_gap(gap: Any) -> Any:
    """The angle whose 1 - cos is `gap`, accurate where it is small."""
    return 2 * jnp.arcsin(jnp.sqrt(jnp.clip(gap / 2, 0.0, 1.0)))


def gap_of_angle(angle: Any) -> Any:
    """1 - cos of an angle, of pi where it is larger."""
    return 2 * jnp.sin(jnp.minimum(angle, jnp.pi) / 2) ** 2


def one_minus_cos_of_sine(sine: Any) -> Any:
    """1 - sqrt(1 - sine^2) without cancellation; 2 (nothing is said) where sine >= 1. Elementwise."""
    xp = array_namespace(sine)
    inside = xp.clip(sine, 0.0, 1.0)
    return xp.where(sine < 1, inside**2 / (1 + xp.sqrt(1 - inside**2)), 2.0)


def rounding(n_terms: int, *magnitudes: Float[Array, "..."]) -> Float[Array, ""]:
    """Forward error bound of a norm of sums: gamma_k times the norm of the sums of absolute values.

    Each magnitude is an entrywise upper bound of one part of the computed quantity; k = n_terms + 8
    counts the roundings of one entry (Higham, Accuracy and Stability, section 3.1).
    """
    k = n_terms + 8
    return (k * unit() / (1 - k * unit())) * norm(sum(jnp.abs(v) for v in magnitudes))  # type: ignore[arg-type]


def gram(points: Float[Array, "m p"]) -> Float[Array, "m m"]:
    """K = X X^T, exactly symmetric; small off-diagonal entries keep their own relative accuracy."""
    k = matmul(points, points.T)
    return 0.5 * (k + k.T)


@staged
def orthonormal_basis(points: Float[Array, "m p"], mask: Bool[Array, "m"]) -> Float[Array, "m p"]:
    """Orthonormal rows spanning the masked points; zero rows for the others and for dependent points.

    Gram-Schmidt, done twice for each point; a point whose remainder is below DEPENDENT of its norm is
    dependent. The projection onto the span is W -> (W B^T) B.
    """
    scale = jnp.sqrt(jnp.sum(points**2, axis=1))

    def add(i: Array, basis: Array) -> Array:
        v = points[i] / jnp.where(scale[i] > 0, scale[i], 1.0)
        v = v - matmul(matmul(v, basis.T), basis)
        v = v - matmul(matmul(v, basis.T), basis)
        size = jnp.sqrt(jnp.sum(v**2))
        keep = mask[i] & (size > DEPENDENT)
        return basis.at[i].set(jnp.where(keep, v / jnp.where(size > 0, size, 1.0), 0.0))

    return lax.fori_loop(0, points.shape[0], add, jnp.zeros_like(points))


@staged
def top_eigenvalue(matrix: Float[Array, "m m"], *, squarings: int = 30) -> Float[Array, ""]:
    """An upper bound on the largest eigenvalue of a positive semidefinite matrix, tight to m^(2^-squarings).

    lambda_max <= ||A^q||_F^(1/q) with q = 2^squarings by repeated squaring, normalised at each step. Products only: a
    batched LAPACK call inside a large compiled program can deadlock the CPU thread pool.
    """

    def square(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        a, log_bound = carry
        a = matmul(a, a)
        size = jnp.sqrt(jnp.sum(a**2))
        return a / jnp.where(size > 0, size, 1.0), log_bound + jnp.log(size) * 0.5 ** (i + 1)

    size = jnp.sqrt(jnp.sum(matrix**2))
    unit = matrix / jnp.where(size > 0, size, 1.0)
    _, log_bound = lax.fori_loop(0, squarings, square, (unit, jnp.log(size)))
    return jnp.where(size > 0, jnp.exp(log_bound), 0.0)


def project(params: Float[Array, "n p"], basis: Float[Array, "m p"]) -> Float[Array, "n p"]:
    """Orthogonal projection of every row onto the span of the basis rows."""
    return matmul(matmul(params, basis.T), basis)


def project_rows(params: Float[Array, "n p"], bases: Float[Array, "n m p"]) -> Float[Array, "n p"]:
    """The projection of every row onto the span of its own basis."""
    return jax.vmap(lambda row, basis: matmul(matmul(row, basis.T), basis))(params, bases)


@staged
def sweep(matrix: Float[Array, "m m ..."], pivots: Bool[Array, "m ..."]) -> Array:
    """Sweep a symmetric positive semidefinite matrix on the index set B = pivots, F the rest.

    Returns the symmetric matrix with blocks BB: -inv(K_BB), BF: inv(K_BB) K_BF, FF: K_FF - K_FB inv(K_BB) K_BF.
    Trailing axes are a batch: one elementwise rank-one update per pivot, at vector speed, where one factorisation call
    per matrix would not be. A pivot that has shrunk below DEPENDENT_PIVOT of its own diagonal depends on those before
    it: it is left out and its row and column are zero (Beaton 1964; Goodnight 1979).
    """
    m = matrix.shape[0]
    index = jnp.arange(m).reshape((m,) + (1,) * (matrix.ndim - 2))
    floor = DEPENDENT_PIVOT * jnp.moveaxis(jnp.diagonal(matrix), -1, 0)

    def prepared(k: Array, a: Array) -> tuple[Array, Array, Array]:
        """u, v and keep [m, ...] of  a <- keep_i keep_j a_ij - v_i u_j,  the sweep on pivot k."""
        column, wanted = a[:, k], pivots[k]
        usable = wanted & (column[k] > floor[k])
        inverse = jnp.where(usable, 1.0 / jnp.where(usable, column[k], 1.0), 0.0)
        at_k = (index == k) & wanted
        u = jnp.where(at_k, -1.0, column)
        return u, u * inverse, jnp.where(at_k, 0.0, 1.0)

    def pivot(k: Array, carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        a, u, v, keep = carry
        a = keep[:, None] * keep * a - v[:, None] * u
        # carried rather than made where it is used: the compiler would repeat the division for every entry
        return a, *prepared(jnp.minimum(k + 1, m - 1), a)

    return lax.fori_loop(0, m, pivot, (matrix, *prepared(jnp.asarray(0), matrix)))[0]


def ranks(values: Num[Array, "m"]) -> Int[Array, "m"]:
    """How many values come before each one in increasing order, equal ones by their index.

    Counted, not sorted: a programme with XLA's own sort of numbers is one that no cache keeps."""
    earlier = jnp.tri(values.shape[0], k=-1, dtype=bool)
    return jnp.sum((values[None] < values[:, None]) | (earlier & (values[None] == values[:, None])), axis=1)
