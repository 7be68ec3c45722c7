"""Random data satisfy the assumptions: exact chi-square probabilities against the stated bounds and against sampling.

Everything but the events of a lane is computed on the host, with logarithms where probabilities underflow.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

import gaunlearn_jax as ga
from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.codes import Reason
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.data.chances import (
    PSI,
    TAIL,
    attained,
    log_pair_probability,
    log_point_probability,
    log_threshold_bounds,
    noncentral_quantile,
    noncentral_sf,
    pair_threshold,
    smallest_dimension,
)
from verify.instances.records import Cell, Record, Shape
from verify.suites.check import Check, check
from verify.suites.drawing import STYLES, band, per_dim
from verify.suites.finding import NOTHING, Explanation, Finding, View, found, from_dimension
from verify.suites.statistics import agreement, interval
from verify.suites.suite import Results, Suite

#: signals a of the mixtures, ||mu|| = d^(-1/4 + a)
SIGNALS = (0.02, 0.05, 0.1, 0.2)


def dimension_table(sizes: list[tuple[int, int]], eps_d: tuple[float, ...] = (1.0, 0.1, 0.01)) -> list[str]:
    """One sentence per (m, n) and eps_d."""
    return [
        f"for m = {m}, n = {n}, ε_d = {eps:g} you need d ≥ {smallest_dimension(m, n, eps):.3g}"
        for m, n in sizes
        for eps in eps_d
    ]


def per_instance(net: Any, record: Record, shape: Shape) -> Results:
    """Norms and inner products of the lane's data and, beside linear models, of mixtures in the same dimension.

    The mixtures share their noise and differ in the signal; no model is involved, so one of the two draws them.
    """
    out = _events(record.data) | {"psi": record.psi, "phi": record.phi, "eps_d": record.eps_d}
    if shape.n > 1:
        return out
    key = jax.random.wrap_key_data(record.key, impl="threefry2x32")
    draw_events = jax.vmap(lambda a: _events(ga.data.mixture(key, shape.m, record.data.dim, a)))
    return out | {f"mixture_{name}": value for name, value in draw_events(jnp.asarray(SIGNALS)).items()}


def _events(data: Dataset) -> Results:
    """deviation [m] = ||x_i||^2 - 1; of the disjoint (so independent) pairs (0, 1), (2, 3), .. inner [m/2] =
    <x_i, x_k> - y_i y_k ||mu||^2, and score [m/2], the same centred and scaled given x_k: exactly N(0, 1)."""
    gram = numerics.gram(data.points)
    i, k = np.arange(0, data.num_points - 1, 2), np.arange(1, data.num_points, 2)
    along = data.labels[i] * data.mean_norm * data.points[k, 0] * (data.mean_norm > 0)
    inner = gram[i, k]
    score = (inner - along) * jnp.sqrt(data.dim / gram[k, k])
    return {
        "deviation": jnp.diagonal(gram) - 1.0,
        "inner": inner - data.labels[i] * data.labels[k] * data.mean_norm**2,
        "score": score,
    }


def per_cell(shape: Shape, cell: Cell, values: dict[str, np.ndarray]) -> dict[str, Check]:
    """Stated bounds against exact probabilities (as -log), exact probabilities against frequencies.

    Frequencies are those of independent trials: points, disjoint pairs, lanes; intervals are Clopper-Pearson at LEVEL.
    """
    d, m, lanes = cell.d, shape.m, len(values["psi"])
    stated_point, stated_pair = log_threshold_bounds(d)
    threshold = pair_threshold(d)
    point, pair = log_point_probability(d), log_pair_probability(d, threshold)
    out = {
        "point/exact/exponent": _exponent(stated_point, point),
        "pair/exact/exponent": _exponent(stated_pair, pair),
    }
    deviation, inner, score = (values[name] for name in ("deviation", "inner", "score"))
    out |= _agree("point/sampled/frequency", np.abs(deviation) > PSI, math.exp(point))
    out |= _agree("pair/sampled/frequency", np.abs(inner) >= threshold, math.exp(pair))
    # the union bound over m points and m(m-1)/2 pairs, from the stated bounds
    union = m * math.exp(stated_point) + m * (m - 1) / 2 * math.exp(stated_pair)
    failed = int(np.sum((values["psi"] > PSI) | (values["phi"] >= threshold)))
    empty = int(Reason.APPLIES if union < 1 else Reason.EMPTY)
    out["set/sampled/union_bound"] = check(interval(failed, lanes)[0], union, reason=empty)
    # what `attainability` promises, where it promises most of the events and where it promises half of them
    for quantity, promised in (("half", 0.5), ("most", 0.9)):
        eps_d = attained(d, m, shape.n, promised)
        met = int(np.sum((values["psi"] <= PSI) & (values["eps_d"] <= eps_d)))
        reason = int(Reason.APPLIES if math.isfinite(eps_d) else Reason.EMPTY)
        out[f"set/attained/{quantity}"] = check(promised, interval(met, lanes)[1], reason=reason)
    out |= _agree("point/law/tail", special.chdtrc(d, d * (1 + deviation)) < TAIL, TAIL)
    out |= _agree("pair/law/tail", np.abs(score) > special.ndtri(1 - TAIL / 2), TAIL)
    return out | _mixture(d, values) if "mixture_deviation" in values else out


def _mixture(d: float, values: dict[str, np.ndarray]) -> dict[str, Check]:
    """The mixtures: noncentral chi-square norms, inner products around +-||mu||^2; one comparison per signal."""
    checks: list[dict[str, Check]] = []
    for index, a in enumerate(SIGNALS):
        square = d ** (-0.5 + 2 * a)
        here = {name: values[f"mixture_{name}"][:, index] for name in ("deviation", "inner", "score")}
        outside = noncentral_sf(np.array([1 + PSI, 1 - PSI]) * d, d, d * square)
        chance = float(outside[0] + 1 - outside[1])
        beyond = here["deviation"] > noncentral_quantile(d, d * square) - 1
        # |<x_i, x_k> - y_i y_k ||mu||^2| <= |<xi_i, mu>| + |<xi_k, mu>| + |<xi_i, xi_k>|, each beyond its own threshold
        stated = float(np.logaddexp(log_threshold_bounds(d)[1], math.log(4) - math.log(d) ** 2 / 2))
        room = pair_threshold(d) + 2 * math.sqrt(square) * math.log(d) / math.sqrt(d)
        far = interval(np.sum(np.abs(here["inner"]) >= room), here["inner"].size)[0]
        reason = int(Reason.APPLIES if stated < 0 else Reason.EMPTY)
        checks.append(
            _agree("mixture_point/sampled/frequency", np.abs(here["deviation"]) > PSI, chance)
            | _agree("mixture_point/law/tail", beyond, TAIL)
            | _agree("mixture_pair/law/tail", np.abs(here["score"]) > special.ndtri(1 - TAIL / 2), TAIL)
            | {"mixture_pair/sampled/concentration": check(far, np.atleast_1d(math.exp(stated)), reason=reason)}
        )
    return jax.tree.map(lambda *leaves: np.concatenate([np.broadcast_to(v, 1) for v in leaves]), *checks)


def _agree(name: str, events: np.ndarray, chance: float) -> dict[str, Check]:
    return agreement(name, np.sum(events), events.size, np.atleast_1d(chance))


def _exponent(stated: float, exact: float) -> Check:
    """-log(stated) <= -log(exact); EMPTY where the stated bound is 1 or more."""
    return check(-stated, -exact, 1e-9 * abs(exact), reason=int(Reason.APPLIES if stated < 0 else Reason.EMPTY))


def draw(figure: Any, blocks: list[Any], grid: Any) -> None:
    """Left: -ln of the probability of a bad point or pair, stated, exact and sampled. Right: eps_d against d."""
    left, right = figure.subplots(1, 2)
    d = np.geomspace(max(347.0, min(grid.dims)), max(max(grid.dims), 1e3), 200)
    stated = np.array([log_threshold_bounds(v) for v in d])
    exact = np.array([(log_point_probability(v), log_pair_probability(v, pair_threshold(v))) for v in d])
    names = ("‖x‖² ∉ [0.9, 1.1]", "|⟨x, x′⟩| ≥ 1.1 ln d/√d")
    for index, event in enumerate(names):
        look = {name: STYLES[index][name] for name in ("color", "marker")} | {"markevery": (15, 40), "markersize": 4}
        left.plot(d, -exact[:, index], "-", label=f"exact, {event}", **look)
        left.plot(d, -stated[:, index], "--", label="stated bound", **look)
    for name, limit in (("deviation", lambda v: PSI), ("inner", pair_threshold)):
        seen = [(v, np.mean(np.abs(_cell(blocks, name, v)) >= limit(v))) for v in grid.dims]
        points = np.array([(v, -math.log(share)) for v, share in seen if 0 < share < 1]).reshape(-1, 2)
        left.plot(*points.T, "*", color="k", markersize=11, zorder=3,
                  label="sampled" if len(points) else None)  # fmt: skip
    left.set(xscale="log", yscale="log", xlabel="dimension d", ylabel="−ln(probability)")
    sizes = []
    for style, block in enumerate(blocks[: len(STYLES)]):
        m, n = block.shape.m, block.shape.n
        sizes.append((m, n))
        samples = per_dim(grid, block, block.results[SUITE.name]["eps_d"])
        band(right, np.asarray(grid.dims), samples, f"{block.shape.model}, m = {m}, n = {n}", style)
        for eps in (1.0, 0.1):
            right.plot(smallest_dimension(m, n, eps), eps, "*", color=STYLES[style]["color"], markersize=13)
    right.axhline(1.0, color="0.6", linewidth=1)
    right.axhline(0.1, color="0.6", linewidth=1)
    right.set(xscale="log", yscale="log", xlabel="dimension d", ylabel="near-orthogonality ε_d = 4mnφ")
    right.set_title("★ " + "\n".join(dimension_table(sizes[-1:], (1.0, 0.1))), fontsize=8)
    for ax in (left, right):
        ax.legend(fontsize=7, handlelength=3)


def _cell(blocks: list[Any], name: str, d: float) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(b.results[SUITE.name][name])[b.d == d]) for b in blocks])


def notes(grid: Any) -> list[str]:
    """From which dimension on half of all draws satisfy the hypothesis of the worst-case bounds."""
    table = dimension_table([(m, n) for m in grid.points for n in (1, *grid.neurons)])
    return [f"{line} (half of all draws; n = 1: linear)" for line in table]


def find(blocks: list[Any], grid: Any) -> Finding:
    """From which dimension on half of the draws meet the hypotheses of the worst-case bounds."""
    parts: list[str] = []
    numbers: dict[str, float] = {}
    for block in (block for block in blocks if len(block.d)):
        seen, name = View(block, SUITE.name), f"n{block.shape.n}_m{block.shape.m}"
        results = block.results[SUITE.name]
        meets = (results["eps_d"] <= 1) & (results["psi"] <= PSI)
        first = from_dimension({d: float(np.mean(meets[seen.at(d)])) for d in seen.dims})
        numbers |= {f"from_{name}": first, f"neurons_{name}": block.shape.n, f"points_{name}": block.shape.m}
        where = f"from d = {{from_{name}:d}}" if first == first else "nowhere"
        parts.append(f"{where} (m = {{points_{name}:d}}, n = {{neurons_{name}:d}})")
    if not parts:
        return NOTHING
    caveat = "d of the grid; exact: --tables"
    return found("half the draws meet eps_d <= 1 and psi <= 0.1 " + ", ".join(parts), caveat, **numbers)


SUITE = Suite(
    name="data",
    statement="random data satisfy the assumptions: norms near 1, inner products below 1.1 log(d)/sqrt(d), any eps_d",
    source="docs/theory, Data",
    per_instance=per_instance,
    per_cell=per_cell,
    draw=draw,
    notes=notes,
    sources=("gaussian",),
    find=find,
    explain=Explanation(
        hypotheses="points x ~ N(0, I_d / d), independent",
        meaning="the assumptions of the worst-case bounds are what random data satisfy once d is large enough",
        false_if="frequencies outside their exact intervals, or a stated probability below the exact one",
    ),
)
