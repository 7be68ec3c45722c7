"""Lemma M' and Theorem R' of entries as balls, for any margin problem.

h_i = sum_{a of i} lambda_a g_a. Source: docs/theory, Pulls and leakage.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from verify.exact.balls import (
    EIGENVALUE_BITS,
    Check,
    Quantities,
    arb,
    arb_mat,
    block,
    ctx,
    inverse,
    largest,
    root,
    total,
)
from verify.exact.classes import Promise
from verify.exact.floors import norm_lemma

Entry = tuple[Any, Any]
EXCHANGES = 1_000  #: most exchanges of weight in the search for the shortest mean of gradients


class Lemma(NamedTuple):
    """mu, gamma_i and its two bounds for each point, and that they are defined."""

    mu: Any
    gamma: list[Any]
    lower: list[Any]
    upper: Any
    defined: list[Check]


class _Points(NamedTuple):
    """The rows and the constraints of each point."""

    rows: list[list[int]]
    constraints: list[list[int]]


def _points(q: Quantities) -> _Points:
    layout, count = q.problem.layout, range(max(q.problem.layout.point_of_row) + 1)
    return _Points(*(
        [[at for at, owner in enumerate(owners) if owner == i] for i in count]
        for owners in (layout.point_of_row, layout.point_of_constraint)
    ))  # fmt: skip


def _cosine(q: Quantities, rows: list[list[int]]) -> Any:
    """mu: mu^2 is the largest eigenvalue of K_ii^-1 K_ik K_kk^-1 K_ki over all pairs of points."""
    inverses, most = [inverse(block(q.gram, mine, mine)) for mine in rows], arb(0)
    for i, mine in enumerate(rows):
        for k in range(i):
            across = block(q.gram, mine, rows[k])
            if any(v != 0 for v in across.entries()):
                square = inverses[i] * across * inverses[k] * across.transpose()
                most = arb.max(most, largest(square, min(ctx.prec, EIGENVALUE_BITS)))
    return root(most)


def _slopes(q: Quantities) -> list[list[Any]]:
    """s_je = mu_je / lambda_a, and where lambda_a is zero what z says: 1 if positive, else the slope."""
    d, layout = q.d.original, q.problem.layout
    made = []
    for j in range(q.n):
        given = zip(q.mu[j], layout.row, layout.constraint, strict=True)
        made.append([
            mu / d.multipliers[a] if d.multipliers[a] > 0
            else arb(1) if d.preactivations[j][r] > 0 else q.slope
            for mu, r, a in given
        ])  # fmt: skip
    return made


def _products(q: Quantities, rows: list[int], constraints: list[int], slopes: list[list[Any]]) -> list[list[Any]]:
    """<g_a, g_b> of the constraints of one point."""
    neurons, kept = list(range(q.n)), block(q.gram, rows, rows)
    made = [block(q.coefficients(slopes, [a]), neurons, rows) for a in constraints]
    shape = len(constraints), q.n * len(rows)
    vectors = arb_mat(*shape, [v for one in made for v in one.entries()])
    images = arb_mat(*shape, [v for one in made for v in (one * kept).entries()])
    return (images * vectors.transpose()).tolist()


def _least_mean(products: list[list[Any]]) -> Any:
    """min over pi of |sum pi_a g_a|^2, at least min_a <v, g_a>^2 / |v|^2 for v = sum pi_a g_a, whatever pi is; here
    what exchanges of weight in floats end in."""
    share = _shares([[float(v) for v in row] for row in products])
    along = [total(v * s for v, s in zip(row, share, strict=True)) for row in products]
    least = functools.reduce(arb.min, along)
    return least.nonnegative_part() ** 2 / total(v * s for v, s in zip(along, share, strict=True))


def _shares(gram: list[list[float]]) -> list[float]:
    """Weight moves from the gradient longest along the mean to the one shortest there, until all with weight agree."""
    size = len(gram)
    share, along = [1 / size] * size, [sum(row) / size for row in gram]
    for _ in range(EXCHANGES):
        low = min(range(size), key=along.__getitem__)
        high = max((a for a in range(size) if share[a] > 0), key=along.__getitem__)
        curve = gram[low][low] - 2 * gram[low][high] + gram[high][high]
        if not (curve > 0 and along[high] > along[low]):
            break
        moved = min(share[high], (along[high] - along[low]) / curve)
        share[low], share[high] = share[low] + moved, share[high] - moved
        along = [v + moved * (row[low] - row[high]) for v, row in zip(along, gram, strict=True)]
    return share


@functools.lru_cache(maxsize=1)
def lemma(q: Quantities) -> Lemma:
    """(B + sqrt(B^2 + 4 A n_c delta_1)) / (2 A), A = 1 - (m-1) mu, B = 1/sqrt(c_hat) + epsilon_1; and
    1/min_a |g_a| - (m-1) mu gamma_max - epsilon_1."""
    points, claim, slopes = _points(q), q.claim, _slopes(q)
    others, mu = len(points.rows) - 1, _cosine(q, points.rows)
    shortest, means, gamma = [], [], []
    for rows, mine in zip(points.rows, points.constraints, strict=True):
        products = _products(q, rows, mine, slopes)
        live = [at for at, a in enumerate(mine) if q.d.original.multipliers[a] > 0]
        lam = [arb(q.d.original.multipliers[a]) for a in mine]
        shortest.append(root(functools.reduce(arb.min, [products[at][at] for at in range(len(mine))])))
        gamma.append(root(total(x * y * v for x, row in zip(lam, products, strict=True)
                                for y, v in zip(lam, row, strict=True))))  # fmt: skip
        if live:
            means.append(_least_mean([[products[a][b] for b in live] for a in live]))
    a, most = 1 - others * mu, max(map(len, points.constraints))
    b = claim["epsilon_1"] + (1 / root(functools.reduce(arb.min, means)) if means else 0)
    upper = (b + root(b**2 + 4 * a * most * claim["delta_1"])) / (2 * a)
    lower = [1 / norm - others * mu * upper - claim["epsilon_1"] for norm in shortest]
    return Lemma(mu, gamma, lower, upper, [Check(0, a, "1 - (m - 1) mu is not positive", True)])


def _factor(q: Quantities) -> tuple[Any, Check]:
    """kappa = mu sqrt(M) / sqrt(1 - (M-1) mu), and that it is defined."""
    mu, kept = lemma(q).mu, len(_points(q).rows) - q.k
    inner = 1 - (kept - 1) * mu
    return mu * root(kept / inner), Check(0, inner, "1 - (M - 1) mu is not positive", True)


def entries(q: Quantities, what: str) -> tuple[list[Entry], list[Check]]:
    """The sides of the bounds on pulls ("upper", "lower") and of the leakage, and hypotheses."""
    found = lemma(q)
    if what == "upper":
        return [(gamma, found.upper) for gamma in found.gamma], found.defined
    if what == "lower":
        return list(zip(found.lower, found.gamma, strict=True)), found.defined
    kappa, defined = _factor(q)
    rho = root(q.inner_inside(q.z_step, q.z_step))
    return [(rho, kappa * total(found.gamma[i] for i in q.problem.forget))], [defined]


def spaces(q: Quantities, margin: float) -> Promise:
    """epsilon_1 + rho and 1 - sqrt(1 - (rho/B_T + margin)^2), rho = k kappa gamma_max."""
    (kappa, defined), found, floor = _factor(q), lemma(q), root(norm_lemma(q))
    rho = q.k * kappa * found.upper
    sine = rho / floor + margin
    return Promise(
        [*found.defined, defined],
        q.claim["epsilon_1"] + rho,
        sine**2 / (1 + root(1 - sine**2)),
        [
            Check(0, floor, "there is no lower bound on the norm of feasible points", True),
            Check(sine, 1, "the sine in tau is not below 1", True),
        ],
    )
