"""Is the theorem's step the right one? epsilon against the fraction c of it that is taken."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from gaunlearn_jax import bounds, certificates, kkt, models, numerics, unlearn
from gaunlearn_jax._types import Reason, Status
from verify.check import check, worst
from verify.plots import STYLES, band
from verify.suite import Evaluation, Results, Suite, unless

#: fractions of the theorem's step: 0 to 3, and 1 -+ 10^-1, 10^-2, 10^-3
FRACTIONS = (0.0, 0.05, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0, 1.001, 1.01, 1.1, 1.25, 1.5, 2.0, 3.0)
#: those at which the step's own epsilon is measured, a dual programme each
OWN = (0.0, 0.05, 0.5, 1.0, 1.5, 2.0, 3.0)
#: steps at least this far from the theorem's are asked to do provably worse
FAR = 0.25


class Point(NamedTuple):
    """One fraction c: the projection certificate, its formulas, and the floor under every certificate."""

    epsilon: Array
    error: Array
    formula: Array
    upper: Array
    tau: Array
    tau_bound: Array
    tau_error: Array
    lower: Array
    lower_exact: Array
    lower_error: Array


def residual(e: Evaluation) -> Array:
    """e = theta - sum_i lambda_i y_i g_i over all points, the part inside their span."""
    p, data = e.point, e.record.data
    made = models.coefficients(e.net, data.labels, p.multipliers, p.selection)
    return p.params - numerics.matmul(made, data.points)


def epsilon_formula(inside: Array, outside: Array, rest: Array, orthogonal: Array, c: Any) -> Array:
    """|| e + P h + (1 - c) (I - P) h ||. Source: docs/theory, Step size (a)."""
    return numerics.norm(rest + inside + (1 - c) * outside, orthogonal)


def epsilon_floor(floor: Array, alpha: Array, angle: Any) -> Array:
    """B_T sin max(0, alpha_c - angle): no certificate within `angle` of theta_hat_c has a smaller epsilon.
    Source: docs/theory, Step size (b)."""
    return floor * jnp.sin(jnp.maximum(0.0, alpha - angle))


def best_fraction(rest: Array, outside: Array) -> Array:
    """1 + <e, (I - P) h> / ||(I - P) h||^2. Source: docs/theory, Step size (a)."""
    square = jnp.sum(outside**2)
    return 1 + jnp.sum(rest * outside) / jnp.where(square > 0, square, 1.0)


def along(e: Evaluation, fractions: Array) -> tuple[Point, Array, Array]:
    """(each fraction and, last, the best one; the best fraction; rho) of one evaluation."""
    args = (e.net, e.record.data, e.point, e.forget)
    basis = numerics.orthonormal_basis(e.record.data.points, ~e.forget)
    h, _ = unlearn.ascent_direction(*args)
    inside = numerics.project(h, basis)
    outside, rest, orthogonal = h - inside, residual(e), e.point.orthogonal_norm
    rho, rho_perp = numerics.norm(inside), numerics.norm(outside)
    best = best_fraction(rest, outside)

    def at(c: Array) -> Point:
        got = certificates.projection(*args, c)
        hat = e.point.params - c * h
        within = numerics.project(hat, basis)
        size = numerics.norm(hat, orthogonal)
        alpha = jnp.arctan2(numerics.norm(hat - within, orthogonal), numerics.norm(within))
        slip = 4 * (got.error + e.point.error) / size
        angle = 2 * jnp.arcsin(jnp.sqrt(jnp.clip(got.tau / 2, 0.0, 1.0)))
        first, _ = bounds.outward(e.point, got)
        return Point(
            epsilon=got.epsilon,
            error=2 * (got.error + e.point.error),
            formula=epsilon_formula(inside, outside, rest, orthogonal, c),
            upper=first + rho + jnp.abs(1 - c) * rho_perp,
            tau=got.tau,
            tau_bound=numerics.one_minus_cos_of_sine((c * rho + 4 * got.error) / got.norm),
            tau_error=got.tau_error,
            # the floor falls with the angle, which may be raised by its rounding
            lower=epsilon_floor(e.norm_floor, alpha, angle + 2 * slip),
            lower_exact=epsilon_floor(e.norm_floor, alpha, 2 * slip),
            lower_error=e.norm_floor * slip,
        )

    return jax.vmap(at)(jnp.append(fractions, jnp.maximum(best, 0.0))), best, rho


def own_epsilon(e: Evaluation, c: Array) -> tuple[Array, Array, Array]:
    """(epsilon, its error, whether solved) of theta_hat_c itself, rescaled to smallest margin 1 on the retained points,
    with the best multipliers and selection: success with tau = 0."""
    hat = unlearn.gradient_ascent(e.net, e.record.data, e.point, e.forget, c)
    fit = kkt.fit_multipliers(
        e.net, e.record.data, hat.params, hat.preactivations,
        orthogonal_norm=hat.orthogonal_norm, retained=~e.forget,
    )  # fmt: skip
    return fit.epsilon, fit.error, fit.status == int(Status.OK)


def relative(lhs: Array, rhs: Array, error: Array, where: Array) -> tuple[Array, Array, Array]:
    """(lhs, rhs, error) over rhs of the fraction with the largest (lhs + error) / rhs."""
    unit = jnp.where(rhs > 0, rhs, 1.0)
    return worst(lhs / unit, rhs / unit, error / unit, where)


def evaluate(e: Evaluation) -> Results:
    fractions = jnp.asarray(FRACTIONS)
    p, best, rho = along(e, fractions)
    least, p = jax.tree.map(lambda v: v[-1], p), jax.tree.map(lambda v: v[:-1], p)
    # one fraction after another: a chunk of lanes then needs one dual programme's memory at a time
    own, own_error, solved = lax.map(functools.partial(own_epsilon, e), jnp.asarray(OWN))
    there = jnp.asarray([FRACTIONS.index(c) for c in OWN])
    common = {"converged": bounds.converged(e.point.status)}
    everywhere = jnp.ones_like(fractions, bool)
    # being an approximate KKT point is monotone in epsilon, which may be raised by the rounding of both sides
    error, own_error = p.error + p.lower_error, own_error + p.lower_error[there]
    lower, below = p.lower_exact[there], (p.lower > 0, (p.lower_exact[there] > 0) & solved)
    at_one = p.epsilon[FRACTIONS.index(1.0)]
    provably = jnp.all((p.lower > at_one) | (jnp.abs(fractions - 1) < FAR))
    difference = jnp.abs(p.epsilon - p.formula)
    return {
        "projection/exact/epsilon": check(*relative(difference, p.error, 0 * p.error, everywhere), **common),
        "projection/instance/epsilon": check(*relative(p.epsilon, p.upper, p.error / 2, everywhere), **common),
        "projection/instance/tau": check(*relative(p.tau, p.tau_bound, p.tau_error, p.tau_bound < 2), **common),
        "projection/optimum/epsilon": check(
            least.epsilon, jnp.min(p.epsilon) + 2 * least.error, least.error, **common
        ),
        "projection/lower/epsilon": check(
            *relative(p.lower, p.epsilon + 2 * error, error, below[0]),
            reason=unless(jnp.any(below[0]), Reason.EMPTY),
            discriminating=jnp.asarray(provably, jnp.float64),
            **common,
        ),
        "scaling/lower/epsilon": check(
            *relative(lower, own + 2 * own_error, own_error, below[1]),
            reason=unless(jnp.any(below[1]), Reason.EMPTY),
            **common,
        ),
        "epsilon": p.epsilon, "upper": p.upper, "lower": p.lower, "own_epsilon": jnp.where(solved, own, jnp.nan),
        "best": best, "least_epsilon": least.epsilon, "rho": rho, "solved": common["converged"],
    }  # fmt: skip


def draw(figure: Any, blocks: list[Any], grid: Any) -> None:
    """epsilon against c: the certificate, the bounds above and below it, the step's own epsilon; and against 1 - c."""
    block = next((b for b in blocks if b.shape.model == "relu"), blocks[0])
    results, shape = block.results["step_size"], block.shape
    d = grid.dims[len(grid.dims) // 2]
    here = (block.d == d) & np.asarray(results["solved"]).astype(bool)[:, 1, 0]
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    curves = (
        ("own_epsilon", r"$\hat\theta_c$ itself ($\tau=0$), best multipliers", 3),
        ("upper", r"upper bound $\varepsilon_1+\rho+|1-c|\,\rho_\perp$", 1),
        ("epsilon", r"projection certificate $\varepsilon(c)$", 0),
        ("lower", r"lower bound, any certificate with this $\tau$", 2),
    )
    for name, label, style in curves:
        values = np.asarray(results[name])[here, 1, 0]
        values = np.where(values > 0, values, np.nan)
        seen = ~np.all(np.isnan(values), axis=0)
        at, values = np.asarray(OWN if name == "own_epsilon" else FRACTIONS)[seen], values[:, seen]
        band(left, at, values, label, style)
        if name != "own_epsilon":
            band(right, 1 - at[at < 1], values[:, at < 1], label, style)
    for ax in (left, right):
        ax.axhline(
            np.median(np.asarray(results["rho"])[here, 1, 0]), color="black", linewidth=0.9, linestyle=(0, (1, 2))
        )
        ax.grid(alpha=0.25)
    low = np.median(np.asarray(results["rho"])[here, 1, 0])
    right.annotate(r"$\rho=\varepsilon(1)$", (0.02, low), xycoords=("axes fraction", "data"), va="bottom", fontsize=9)
    left.set(yscale="log", xlabel="fraction $c$ of the theorem's step", ylabel=r"stationarity error $\varepsilon$")
    right.set(xscale="log", xlabel="$1-c$ (steps that are too short)")
    if shape.model == "relu":
        left.annotate(
            "at any $c\\neq0$ kinks move\noff zero: $\\varepsilon$ of $\\hat\\theta_c$\nitself jumps and stays",
            (0.98, 0.3), xycoords="axes fraction", ha="right", fontsize=8, color=STYLES[3]["color"],
        )  # fmt: skip
    figure.suptitle(
        f"{shape.model}, exact KKT points, m = {shape.m}, n = {shape.n}, k = {grid.forget[0]}, d = {d:.0e}", fontsize=10
    )
    left.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.15))


SUITE = Suite(
    name="step_size",
    statement="epsilon is smallest at the theorem's step: a V in c, bounded from above and, for any certificate, below",
    source="docs/theory, Step size",
    evaluate=evaluate,
    draw=draw,
)
