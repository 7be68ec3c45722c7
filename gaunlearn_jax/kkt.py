"""KKT points of the margin problem  min 1/2 ||theta||^2  s.t.  q_i(theta) >= 1.

`fit_multipliers` measures how nearly a given theta is one; `limit_point` makes one exactly, with the activations of a
trained network. Both return what is recomputed from theta, not what a solver believed (docs/theory, Approximate KKT
point and Exact KKT points). Activity is decided by `preactivations` with exact zeros at kinks; params follow them.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from gaunlearn_jax import checks, dual, models, numerics
from gaunlearn_jax._types import Code, Mask, PairMask, Params, PerPair, PerPoint, Points, Scalar, Status
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.show import Shown

MAX_REPEATS = 20


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class KKTPoint(Shown):
    """theta with multipliers lambda [m] and a Clarke selection s [n, m], measured.

    epsilon = || theta - sum_i lambda_i y_i g_i ||, delta = max_i lambda_i (q_i - 1), margin = min_i q_i over the
    retained points; error, delta_error = rounding errors of the first two; scale = what the given theta was divided
    by; orthogonal_norm = norm of the weights outside the span of the points (part of epsilon and of ||theta||);
    moved = distance to the given theta that setting kinks to exact zeros cost (after rescaling); repeats = rounds of
    the pattern loop.
    """

    params: Params
    preactivations: PerPair
    multipliers: PerPoint
    selection: PerPair
    orthogonal_norm: Float[Array, ""]
    epsilon: Float[Array, ""]
    delta: Float[Array, ""]
    margin: Float[Array, ""]
    error: Float[Array, ""]
    delta_error: Float[Array, ""]
    scale: Float[Array, ""]
    moved: Float[Array, ""]
    repeats: Int[Array, ""]
    status: Code


class Measured(NamedTuple):
    """(epsilon, delta) of a theta with its multipliers and selection, its smallest margin, rounding errors."""

    epsilon: Float[Array, ""]
    delta: Float[Array, ""]
    margin: Float[Array, ""]
    error: Float[Array, ""]
    delta_error: Float[Array, ""]


def measure(
    net: models.Network,
    data: Dataset,
    params: Params,
    z: PerPair,
    multipliers: PerPoint,
    selection: PerPair,
    retained: Mask,
    orthogonal_norm: Scalar = 0.0,
) -> Measured:
    """Recompute stationarity, complementary slackness and feasibility on the retained points from theta itself."""
    lam = jnp.where(retained, multipliers, 0.0)
    q = models.coefficients(net, data.labels, lam, selection)
    residual = params - numerics.matmul(q, data.points)
    margins = models.margins(net, data.labels, z)
    slack = jnp.max(jnp.where(retained, lam * (margins - 1.0), -jnp.inf))
    error = numerics.rounding(data.num_points, params, numerics.matmul(jnp.abs(q), jnp.abs(data.points)))
    spread = lam * numerics.matmul(jnp.abs(net.output_weights), jnp.abs(z))
    return Measured(
        epsilon=numerics.norm(residual, orthogonal_norm),
        delta=jnp.maximum(slack, 0.0),
        margin=jnp.min(jnp.where(retained, margins, jnp.inf)),
        error=error,
        delta_error=2 * (net.num_neurons + 8) * numerics.EPS * jnp.max(spread),
    )


def snap(points: Points, params: Params, z: PerPair) -> Params:
    """The nearest params (moving inside the span of the points) whose pre-activations are z.

    Each round solves for what is missing, dependent points left out, so three rounds reach rounding level.
    """
    gram = numerics.gram(points)
    everything = jnp.ones(points.shape[0], bool)
    inverse = -numerics.sweep(gram, everything)
    for _ in range(3):
        missing = z - models.preactivations(points, params)
        params = params + numerics.matmul(numerics.matmul(missing, inverse), points)
    return params


def fit_multipliers(
    net: models.Network,
    data: Dataset,
    params: Params,
    preactivations: PerPair | None = None,
    *,
    kink_tol: Scalar = 0.0,
    orthogonal_norm: Scalar = 0.0,
    slackness_cap: Scalar | None = None,
    retained: Mask | None = None,
    rescale: bool = True,
) -> KKTPoint:
    """The smallest epsilon for which theta is an approximate KKT point, with the multipliers that attain it.

    minimise || theta - sum_i lambda_i y_i g_i ||^2 over lambda >= 0 and Clarke selections (free in [slope, 1] exactly
    where a pre-activation is 0): a convex quadratic programme. theta is first rescaled to smallest margin 1 over the
    retained points (INFEASIBLE and unscaled if that margin is not positive). kink_tol > 0 replaces theta by the point
    whose pre-activations of modulus <= kink_tol (after rescaling) are 0; `moved` says how far that is. slackness_cap
    restricts lambda_i (q_i - 1) <= cap, so sweeping it traces the (epsilon, delta) frontier. rescale=False measures
    theta as it is. Source: docs/theory, Measuring.
    """
    numerics.require_x64()
    models.check_shapes(net, data.points, params=params, preactivations=preactivations, retained=retained)
    _check_values(
        params=params,
        preactivations=preactivations,
        kink_tol=kink_tol,
        orthogonal_norm=orthogonal_norm,
        slackness_cap=slackness_cap,
    )
    params = jnp.asarray(params, jnp.float64)
    z = models.preactivations(data.points, params) if preactivations is None else jnp.asarray(preactivations)
    mask = jnp.ones(data.num_points, bool) if retained is None else jnp.asarray(retained)

    cap = jnp.inf if slackness_cap is None else slackness_cap
    return _fit(net, data, params, z, mask, kink_tol, orthogonal_norm, cap, rescale)


@functools.partial(jax.jit, static_argnames="rescale")
def _fit(
    net: models.Network,
    data: Dataset,
    params: Params,
    z: PerPair,
    mask: Mask,
    kink_tol: Scalar,
    orthogonal_norm: Scalar,
    slackness_cap: Scalar,
    rescale: bool,
) -> KKTPoint:
    """`fit_multipliers` after its checks."""
    smallest = jnp.min(jnp.where(mask, models.margins(net, data.labels, z), jnp.inf))
    feasible = smallest > 0
    scale = jnp.where(feasible, smallest, 1.0) / numerics.OUTWARD if rescale else jnp.asarray(1.0)
    w, z, orthogonal = params / scale, z / scale, jnp.asarray(orthogonal_norm) / scale
    snapped = jnp.where((jnp.abs(z) <= kink_tol) & (kink_tol > 0), 0.0, z)
    touched = jnp.any(snapped != z)
    moved_params = jnp.where(touched, snap(data.points, w, snapped), w)
    moved = numerics.norm(moved_params - w)
    w = moved_params
    z = jnp.where(touched & (snapped != 0), models.preactivations(data.points, w), snapped)

    q = models.margins(net, data.labels, z)
    excess = jnp.maximum(q - 1.0, 0.0)
    cap = jnp.where(excess > 1e-13, slackness_cap / jnp.where(excess > 1e-13, excess, 1.0), jnp.inf)
    kinks = (z == 0) & (net.negative_slope < 1)
    solution = dual.solve(_programme(net, data, models.activation_slopes(net, z), kinks, q, mask, cap))
    selection = _selection(net, z, solution.multipliers, solution.c)
    status = jnp.where(solution.converged, Status.OK, Status.UNCONVERGED)
    status = jnp.where(feasible | (not rescale), status, Status.INFEASIBLE)
    return measured_point(
        net, data, w, z, solution.multipliers, selection, mask,
        orthogonal_norm=orthogonal, scale=scale, moved=moved, status=status,
    )  # fmt: skip


def limit_point(net: models.Network, data: Dataset, run: Any, *, retained: Mask | None = None) -> KKTPoint:
    """The exact KKT point with the activations of a trained network (anything with `preactivations` [n, m]).

    Same-sign pairs (u_j y_i > 0) keep the activity they have in `run`, opposite-sign pairs are free; the pattern loop
    flips every same-sign pair that contradicts the solution and solves again, which ends since the norm falls. It is
    *a* KKT point near the trained direction, not provably the limit of gradient flow. epsilon, delta at rounding level.
    Source: docs/theory, Exact KKT points.
    """
    numerics.require_x64()
    models.check_shapes(net, data.points, preactivations=run.preactivations, retained=retained)
    slopes = models.activation_slopes(net, jnp.asarray(run.preactivations))
    mask = jnp.ones(data.num_points, bool) if retained is None else jnp.asarray(retained)
    point = solve_pattern(net, data, slopes, mask, MAX_REPEATS)
    return dataclasses.replace(point, status=jnp.maximum(point.status, data.status))


class _Loop(NamedTuple):
    slopes: PerPair
    solution: dual.Solution
    z: PerPair
    mismatch: PairMask
    repeats: Int[Array, ""]


@functools.partial(jax.jit, static_argnames="max_repeats")
def solve_pattern(net: models.Network, data: Dataset, slopes: PerPair, retained: Mask, max_repeats: int) -> KKTPoint:
    """Solve the programme Q of docs/theory (Closeness) with same-sign pairs at the given slopes [n, m];
    max_repeats = 0 gives the first solve, more runs the pattern loop."""
    same = models.same_sign(net, data.labels)
    free = ~same & (net.negative_slope < 1)
    ones = jnp.ones(data.num_points)

    def unfinished(loop: _Loop) -> Array:
        again = jnp.any(loop.mismatch) & (loop.repeats < max_repeats) & loop.solution.converged
        return (loop.repeats < 0) | again

    def attempt(loop: _Loop) -> _Loop:
        s = jnp.where(loop.mismatch, models.activation_slopes(net, loop.z), loop.slopes)
        solution = dual.solve(_programme(net, data, s, free, ones, retained, ones * jnp.inf))
        z = _preactivations(net, data, solution, jnp.where(same, s, 0.0), same)
        wrong = same & retained & (((z > 0) & (s < 1)) | ((z < 0) & (s > net.negative_slope)))
        return _Loop(s, solution, z, wrong, loop.repeats + 1)

    nothing = jnp.zeros_like(slopes)
    first = _Loop(slopes, _unsolved(slopes), nothing, nothing > 0, jnp.asarray(-1, jnp.int32))
    loop = lax.while_loop(unfinished, attempt, first)
    solution, z = loop.solution, loop.z
    lam, c = solution.multipliers * numerics.OUTWARD, solution.c * numerics.OUTWARD
    z = z * numerics.OUTWARD
    q = net.output_weights[:, None] * data.labels * c
    w = snap(data.points, numerics.matmul(q, data.points), z)
    chosen = jnp.where(same & (z == 0), loop.slopes, _selection(net, z, lam, c))
    stays = (max_repeats == 0) | ~jnp.any(loop.mismatch)
    status = jnp.where(solution.converged & stays, Status.OK, Status.UNCONVERGED)
    point = measured_point(net, data, w, z, lam, chosen, retained, repeats=loop.repeats, status=status)
    return dataclasses.replace(point, status=jnp.where(point.margin < 1 - 1e-6, Status.INFEASIBLE, point.status))


def _unsolved(like: PerPair) -> dual.Solution:
    """A place for the solution of a programme with pairs [n, m]: where a loop begins."""
    zero = jnp.zeros_like(like)
    return dual.Solution(
        multipliers=zero[0],
        c=zero,
        kinks=zero > 0,
        violation=jnp.asarray(jnp.inf),
        converged=jnp.asarray(False),
        steps=jnp.asarray(0, jnp.int32),
    )


def _programme(
    net: models.Network, data: Dataset, slopes: PerPair, free: PairMask, target: PerPoint, mask: Mask, cap: PerPoint
) -> dual.Programme:
    signs = data.labels[:, None] * data.labels
    return dual.Programme(
        gram=signs * numerics.gram(data.points),
        weights=net.output_weights**2,
        fixed=jnp.where(mask, slopes, 0.0),
        free=free & mask,
        target=target,
        valid=mask,
        cap=cap,
        slope=net.negative_slope,
    )


def _preactivations(
    net: models.Network, data: Dataset, solution: dual.Solution, slopes: PerPair, same: PairMask
) -> PerPair:
    """Z = W X^T with exact zeros at kinks, and wherever its sign contradicts the selection: on an opposite-sign pair
    always (what that costs shows in epsilon), on a same-sign pair while nothing but rounding is left."""
    q = net.output_weights[:, None] * data.labels * solution.c
    z = models.preactivations(data.points, numerics.matmul(q, data.points))
    lam = solution.multipliers
    selected = jnp.where(same, slopes * lam, solution.c)
    contradicts = ((z > 0) & (selected < lam)) | ((z < 0) & (selected > net.negative_slope * lam))
    noise = 1e-13 * numerics.matmul(jnp.abs(q), jnp.abs(numerics.gram(data.points)))
    zero = solution.kinks | (contradicts & (~same | (jnp.abs(z) <= noise)))
    return jnp.where(zero & (net.negative_slope < 1), 0.0, z)


def _selection(net: models.Network, z: PerPair, lam: PerPoint, c: PerPair) -> PerPair:
    fraction = jnp.where(lam > 0, c / jnp.where(lam > 0, lam, 1.0), net.negative_slope)
    return models.activation_slopes(net, z, jnp.clip(fraction, net.negative_slope, 1.0))


def measured_point(
    net: models.Network,
    data: Dataset,
    params: Params,
    z: PerPair,
    multipliers: PerPoint,
    selection: PerPair,
    retained: Mask,
    *,
    orthogonal_norm: Scalar = 0.0,
    scale: Scalar = 1.0,
    moved: Scalar = 0.0,
    repeats: Int[Array, ""] | int = 0,
    status: Code | int = Status.OK,
) -> KKTPoint:
    """A KKTPoint from its parts: epsilon, delta and margin are recomputed from theta; UNCONVERGED if not finite."""
    lam = jnp.where(retained, multipliers, 0.0)
    m = measure(net, data, params, z, lam, selection, retained, orthogonal_norm)
    bad = ~jnp.isfinite(m.epsilon)
    return KKTPoint(
        params=params,
        preactivations=z,
        multipliers=lam,
        selection=selection,
        orthogonal_norm=jnp.asarray(orthogonal_norm, jnp.float64),
        epsilon=m.epsilon,
        delta=m.delta,
        margin=m.margin,
        error=m.error,
        delta_error=m.delta_error,
        scale=jnp.asarray(scale, jnp.float64),
        moved=jnp.asarray(moved, jnp.float64),
        repeats=jnp.asarray(repeats, jnp.int32),
        status=jnp.where(bad, jnp.maximum(status, Status.UNCONVERGED), status).astype(jnp.int32),
    )


def _check_values(**values: Any) -> None:
    """ValueError for NaN or infinite params, and for options that are negative or NaN; concrete values only."""
    for name, value in values.items():
        if value is None or checks.is_traced(value):
            continue
        v = np.asarray(value)
        if v.dtype.kind not in "fiu" or not np.all(np.isfinite(v)):
            raise ValueError(f"{name} has dtype {v.dtype} or NaN or infinite entries, expected finite real numbers")
        if name not in ("params", "preactivations") and np.any(v < 0):
            raise ValueError(f"{name} is {value}, expected a number >= 0")
