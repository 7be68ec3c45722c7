"""Random data satisfy the assumptions: exact chi-square probabilities against the stated bounds and against sampling.

Everything but the events of a lane is computed on the host, with logarithms where probabilities underflow.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

import gaunlearn_jax as ga
from gaunlearn_jax import numerics
from gaunlearn_jax._types import Reason
from gaunlearn_jax.data import MAX_DIM, Dataset
from gaunlearn_jax.models import Network
from verify.check import Check, check
from verify.plots import STYLES, band, per_dim
from verify.records import Record, Shape
from verify.suite import Results, Suite

#: level of each statistical comparison: over up to 1000 of them the chance of a false alarm is below 1e-3 (Bonferroni)
LEVEL = 1e-6
#: signals a of the mixtures, ||mu|| = d^(-1/4 + a)
SIGNALS = (0.02, 0.05, 0.1, 0.2)
PSI = 0.1
#: chance of the events by which the law itself is tested, at any d
TAIL = 0.1


def interval(count: Any, trials: int, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Clopper-Pearson: exact two-sided limits of the chance after `count` successes in independent trials."""
    from scipy.stats import binomtest

    pairs = [binomtest(int(c), trials).proportion_ci(1 - level, "exact") for c in np.ravel(count)]
    return np.array([p.low for p in pairs]), np.array([p.high for p in pairs])


def agreement(name: str, count: Any, trials: int, chance: np.ndarray) -> dict[str, Check]:
    """Two comparisons: the chance lies above the lower and below the upper Clopper-Pearson limit."""
    low, high = interval(count, trials)
    return {f"{name}_low": check(low, chance), f"{name}_high": check(chance, high)}


def log_threshold_bounds(d: float) -> tuple[float, float]:
    """log of the stated bounds: 2 e^(-d/500) per point, e^(-d/500) + 2 d^(-log(d)/2) per pair."""
    return math.log(2) - d / 500, float(np.logaddexp(-d / 500, math.log(2) - math.log(d) ** 2 / 2))


def pair_threshold(d: float) -> float:
    """1.1 log(d) / sqrt(d)."""
    return 1.1 * math.log(d) / math.sqrt(d)


def log_point_probability(d: float, psi: float = PSI) -> float:
    """log P(| ||x||^2 - 1 | > psi), d ||x||^2 ~ chi^2_d, exactly; also where the probability underflows."""
    return float(np.logaddexp(_log_upper(d / 2, 1 + psi), _log_lower(d / 2, 1 - psi)))


def _log_upper(a: float, r: float) -> float:
    """log Q(a, r a) for r > 1: SciPy, or Legendre's continued fraction (evaluated backwards) where it underflows."""
    value = special.gammaincc(a, r * a)
    if value > 1e-250:
        return math.log(value)
    z, fraction = r * a, 0.0
    for k in range(200, 0, -1):
        fraction = k * (a - k) / (z - a + 2 * k + 1 + fraction)
    return _log_front(a, r) - math.log(z - a + 1 + fraction)


def _log_lower(a: float, r: float) -> float:
    """log P(a, r a) for r < 1: SciPy, or the power series where it underflows."""
    value = special.gammainc(a, r * a)
    if value > 1e-250:
        return math.log(value)
    terms = np.cumprod(r * a / (a + np.arange(1, 1000)))
    return _log_front(a, r) - math.log(a) + math.log1p(np.sum(terms))


def _log_front(a: float, r: float) -> float:
    """log(z^a e^-z / Gamma(a)), z = r a, for large a (Stirling)."""
    return -a * (r - 1 - math.log(r)) + 0.5 * math.log(a / (2 * math.pi)) - 1 / (12 * a)


def log_pair_probability(d: float, threshold: float) -> float:
    """log P(|<x, x'>| >= t), exactly: 2 Phi(-t sqrt(d) / R) given ||x'|| = R, integrated over d R^2 ~ chi^2_d."""
    node, weight = _nodes("legendre", 400)
    step = np.maximum(14 / math.sqrt(2 * d) * node, -1 + 1e-12)  # R = 1 + step
    density = (d - 1) * np.log1p(step) - d * (step + step**2 / 2) + np.log(weight)
    tail = math.log(2) + special.log_ndtr(-threshold * math.sqrt(d) / (1 + step))
    return float(special.logsumexp(density + tail) - special.logsumexp(density))


@functools.lru_cache
def _nodes(kind: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    make = np.polynomial.legendre.leggauss if kind == "legendre" else np.polynomial.hermite_e.hermegauss
    node, weight = make(count)
    return node, weight


def noncentral_sf(x: Any, d: float, noncentrality: float) -> np.ndarray:
    """P(chi^2_d(nc) > x): chi^2_{d-1} plus (sqrt(nc) + g)^2, integrated over the normal g. (SciPy's ncx2 is wrong from
    d = 1e13 on.)"""
    node, weight = _nodes("hermite", 64)
    rest = np.asarray(x, float)[..., None] - (math.sqrt(noncentrality) + node) ** 2
    return special.chdtrc(d - 1, np.maximum(rest, 0.0)) @ (weight / weight.sum())


@functools.lru_cache(maxsize=256)
def noncentral_quantile(d: float, noncentrality: float, tail: float = TAIL) -> float:
    """The x / d with P(chi^2_d(nc) > x) = tail."""
    centre, spread = 1 + noncentrality / d, math.sqrt(2 * (1 + 2 * noncentrality / d) / d)
    low, high = centre - 6 * spread, centre + 40 * spread
    while high - low > 1e-9 * spread:
        middle = (low + high) / 2
        low, high = (middle, high) if noncentral_sf(middle * d, d, noncentrality) > tail else (low, middle)
    return (low + high) / 2


def attainability(d: float, m: int, n: int, eps_d: float) -> float:
    """A lower bound on P(psi <= 0.1 and 4 m n phi <= eps_d): (1 - p)^(m(m-1)/2) - m p', p and p' the exact
    probabilities of a pair and of a point.

    Given x_1..x_i the events |<x_{i+1}, x_j>| <= t are at least as likely together as if independent (Sidak), each
    depends on x_j through its norm alone, and all grow likelier as norms shrink (Chebyshev's association inequality).
    """
    pair = min(0.0, log_pair_probability(d, eps_d / (4 * m * n)))
    none = math.exp(m * (m - 1) / 2 * math.log(-math.expm1(pair))) if pair < 0 else 0.0
    return none - m * math.exp(log_point_probability(d))


def smallest_dimension(m: int, n: int, eps_d: float, probability: float = 0.5) -> float:
    """The least whole d >= m from which m Gaussian points satisfy psi <= 0.1 and phi <= eps_d / (4 m n) (linear: n = 1)
    with at least this probability, by `attainability`, which grows with d. Infinity if that is beyond 1e15.

    ValueError unless m >= 2, n >= 1, eps_d > 0 and 0 < probability < 1.
    """
    if m < 2 or n < 1 or not eps_d > 0 or not 0 < probability < 1:
        raise ValueError(f"m, n, eps_d, probability are {m}, {n}, {eps_d}, {probability}, expected m >= 2, n >= 1, "
                         "eps_d > 0, 0 < probability < 1")  # fmt: skip
    low, high = m - 1, int(MAX_DIM)
    if attainability(high, m, n, eps_d) < probability:
        return math.inf
    while high - low > 1:
        # halve the ratio while it is large, the difference when it is small
        middle = min(max(math.isqrt(low * high), low + 1), high - 1) if high > 2 * low else (low + high) // 2
        low, high = (low, middle) if attainability(middle, m, n, eps_d) >= probability else (middle, high)
    return float(high)


def dimension_table(sizes: list[tuple[int, int]], eps_d: tuple[float, ...] = (1.0, 0.1, 0.01)) -> list[str]:
    """One sentence per (m, n) and eps_d."""
    return [
        f"for m = {m}, n = {n}, ε_d = {eps:g} you need d ≥ {smallest_dimension(m, n, eps):.3g}"
        for m, n in sizes
        for eps in eps_d
    ]


def per_instance(net: Network, record: Record, shape: Shape) -> Results:
    """Norms and inner products of the lane's data and, beside linear models, of mixtures in the same dimension.

    The mixtures share their noise and differ in the signal; no model is involved, so one of the two draws them.
    """
    out = _events(record.data) | {"psi": record.psi, "phi": record.phi, "eps_d": record.eps_d}
    if shape.model != "linear":
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


def per_cell(shape: Shape, d: float, signal: float, values: dict[str, np.ndarray]) -> dict[str, Check]:
    """Stated bounds against exact probabilities (as -log), exact probabilities against frequencies.

    Frequencies are those of independent trials: points, disjoint pairs, lanes; intervals are Clopper-Pearson at LEVEL.
    """
    m, lanes = shape.m, len(values["psi"])
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


@functools.lru_cache(maxsize=256)
def attained(d: float, m: int, n: int, probability: float) -> float:
    """The least eps_d that `attainability` promises with this probability in dimension d; infinity if none."""
    if attainability(d, m, n, 1e9) < probability:
        return math.inf
    low, high = 1e-12, 1e9
    while high > low * (1 + 1e-9):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if attainability(d, m, n, middle) >= probability else (middle, high)
    return high


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


SUITE = Suite(
    name="data",
    statement="random data satisfy the assumptions: norms near 1, inner products below 1.1 log(d)/sqrt(d), any eps_d",
    source="docs/theory, Data",
    per_instance=per_instance,
    per_cell=per_cell,
    draw=draw,
    notes=notes,
)
