"""Is the theorem's step the right one? epsilon against the fraction c of it that is taken."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gaunlearn_jax import kkt, unlearn
from gaunlearn_jax.base.codes import Reason, Status
from gaunlearn_jax.theory import bounds
from gaunlearn_jax.theory.step_size import along
from verify.suites.check import Check, check, worst
from verify.suites.drawing import STYLES, band, limit_first, widest
from verify.suites.finding import NOTHING, Explanation, Finding, found, middle, view
from verify.suites.suite import Attack, Evaluation, Results, Suite, unless

#: fractions of the theorem's step: 0 to 3, and 1 -+ 10^-1, 10^-2, 10^-3
FRACTIONS = (0.0, 0.05, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0, 1.001, 1.01, 1.1, 1.25, 1.5, 2.0, 3.0)
#: those at which the step's own epsilon is measured, a dual programme each
OWN = (0.0, 0.05, 0.5, 1.0, 1.5, 2.0, 3.0)
#: steps at least this far from the theorem's are asked to do provably worse
FAR = 0.25


def own_epsilons(e: Evaluation) -> tuple[Array, Array, Array]:
    """(epsilon, its error, whether solved) of theta_hat_c itself for every c of OWN, rescaled to smallest margin 1 on
    the retained points, with the best multipliers and selection: success with tau = 0."""

    def at(c: Array) -> tuple[Array, Array, Array]:
        hat = unlearn.gradient_ascent(e.net, e.record.data, e.point, e.forget, c)
        fit = kkt.fit_multipliers(
            e.net, e.record.data, hat.params, hat.preactivations,
            orthogonal_norm=hat.orthogonal_norm, retained=~e.forget,
        )  # fmt: skip
        return fit.epsilon, fit.error, fit.status == int(Status.OK)

    return jax.vmap(at)(jnp.asarray(OWN))


def relative(lhs: Array, rhs: Array, error: Array, where: Array) -> tuple[Array, Array, Array]:
    """(lhs, rhs, error) over rhs of the fraction with the largest (lhs + error) / rhs."""
    unit = jnp.where(rhs > 0, rhs, 1.0)
    return worst(lhs / unit, rhs / unit, error / unit, where)


def evaluate(e: Evaluation) -> Results:
    fractions = jnp.asarray(FRACTIONS)
    p, best, rho = along(e.net, e.record.data, e.point, e.forget, fractions, e.norm_floor)
    least, p = jax.tree.map(lambda v: v[-1], p), jax.tree.map(lambda v: v[:-1], p)
    own, own_error, solved = own_epsilons(e)
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
    block = widest(blocks)
    results, shape = block.results["step_size"], block.shape
    d = grid.dims[len(grid.dims) // 2]
    here = (block.d == d) & limit_first(results["solved"]).astype(bool)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    curves = (
        ("own_epsilon", r"$\hat\theta_c$ itself ($\tau=0$), best multipliers", 3),
        ("upper", r"upper bound $\varepsilon_1+\rho+|1-c|\,\rho_\perp$", 1),
        ("epsilon", r"projection certificate $\varepsilon(c)$", 0),
        ("lower", r"lower bound, any certificate with this $\tau$", 2),
    )
    for name, label, style in curves:
        values = limit_first(results[name])[here]
        values = np.where(values > 0, values, np.nan)
        seen = ~np.all(np.isnan(values), axis=0)
        at, values = np.asarray(OWN if name == "own_epsilon" else FRACTIONS)[seen], values[:, seen]
        band(left, at, values, label, style)
        if name != "own_epsilon":
            band(right, 1 - at[at < 1], values[:, at < 1], label, style)
    for ax in (left, right):
        ax.axhline(np.median(limit_first(results["rho"])[here]), color="black", linewidth=0.9, linestyle=(0, (1, 2)))
        ax.grid(alpha=0.25)
    low = np.median(limit_first(results["rho"])[here])
    right.annotate(r"$\rho=\varepsilon(1)$", (0.02, low), xycoords=("axes fraction", "data"), va="bottom", fontsize=9)
    left.set(yscale="log", xlabel="fraction $c$ of the theorem's step", ylabel=r"stationarity error $\varepsilon$")
    right.set(xscale="log", xlabel="$1-c$ (steps that are too short)")
    if shape.n > 1:
        left.annotate(
            "at any $c\\neq0$ kinks move\noff zero: $\\varepsilon$ of $\\hat\\theta_c$\nitself jumps and stays",
            (0.98, 0.3), xycoords="axes fraction", ha="right", fontsize=8, color=STYLES[3]["color"],
        )  # fmt: skip
    figure.suptitle(
        f"{shape.model}, exact KKT points, m = {shape.m}, n = {shape.n}, k = {grid.forget[0]}, d = {d:.0e}", fontsize=10
    )
    left.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.15))


def _attack(e: Any, quantity: str) -> Check:
    """The bounds of one fraction c of the step: epsilon and tau of its projection certificate, and the floor under
    epsilon."""
    found = along(e.net, e.record.data, e.point, e.forget, e.fraction[None], e.norm_floor)[0]
    p = jax.tree.map(lambda v: v[0], found)
    own, solved = e.point.epsilon, e.certificates["projection"].status == int(Status.OK)
    if quantity == "epsilon":
        return check(p.epsilon - own, p.upper - own, p.error / 2, converged=solved)
    if quantity == "tau":
        defined = unless(p.tau_bound < 2, Reason.UNDEFINED)
        return check(p.tau, p.tau_bound, p.tau_error, reason=defined, converged=solved)
    error = p.error + p.lower_error
    reason = unless(p.lower > 0, Reason.EMPTY)
    return check(p.lower, p.epsilon + 2 * error, error, reason=reason, converged=solved & e.retrained[2])


_ASKED: dict[str, Any] = {"source": "Step size", "needs_first": True, "part_of_step": True}


def find(blocks: list[Any], grid: Any) -> Finding:
    """Where epsilon is smallest, on how many instances other steps are provably worse, and theta_hat's own epsilon."""
    seen = view(blocks, "step_size")
    if not seen.dims:
        return NOTHING
    one, own = FRACTIONS.index(1.0), OWN.index(1.0)
    return found(
        "epsilon is least within {off} of the step; a quarter off is provably worse on {far:%}",
        "the step has epsilon {own}, its neighbour {near}",
        off=middle(abs(seen.values("best", seen.top) - 1)),
        far=min(seen.telling("projection/lower/epsilon").values()),
        own=seen.median("own_epsilon", seen.top, own), near=seen.median("epsilon", seen.top, one),
    )  # fmt: skip


SUITE = Suite(
    name="step_size",
    statement="epsilon is smallest at the theorem's step: a V in c, bounded from above and, for any certificate, below",
    source="docs/theory, Step size",
    evaluate=evaluate,
    draw=draw,
    attacks={
        "epsilon": Attack(
            functools.partial(_attack, quantity="epsilon"),
            "Step size",
            True,
            ("projection", "instance"),
            part_of_step=True,
        ),
        "tau": Attack(
            functools.partial(_attack, quantity="tau"), "Step size", True, ("projection", "instance"), part_of_step=True
        ),
        "lower": Attack(functools.partial(_attack, quantity="lower"), "Step size", True, part_of_step=True),
    },
    find=find,
    explain=Explanation(
        hypotheses="any KKT point up to (epsilon_1, delta_1); the V is exact for exact ones",
        meaning="the multipliers give the right step: epsilon as a function of the fraction c of the step is a V with "
        "its tip at c = 1, and no certificate of any kind can do better for other c",
        false_if="a fraction whose epsilon leaves the two bounds",
    ),
)
