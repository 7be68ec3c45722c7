"""Lower bounds on the norm of everything that is feasible for the retained points, as balls.

Source: docs/theory, Norm lemma; Leaky networks.
"""

from __future__ import annotations

from typing import Any

from verify.exact import leaky
from verify.exact.balls import EIGENVALUE_BITS, Quantities, arb, ctx, top_eigenvalue, total
from verify.exact.certificate_file import Point


def floor_squared(q: Quantities, solution: Point | None) -> Any:
    """B_T^2: with kinks the norm lemma; without them, and where Theorem LK knows all activations of the solution, twice
    the dual value of the multipliers of `solution`, none of them negative. 0, which is always true, where neither is to
    be had."""
    kept = q.problem.retained
    lam = None if solution is None or min(solution.multipliers[a] for a in kept) < 0 else solution.multipliers
    if not q.problem.kinked:
        return arb(0) if lam is None else _dual_value(q, lam, [[1.0] * len(row) for row in q.problem.amplitudes])
    lemma = norm_lemma(q)
    if lam is None or any(check.low > check.high for check in leaky.about(q)):
        return lemma
    selection = [[1.0 if v > 0 else q.problem.slope for v in row] for row in q.problem.amplitudes]
    exact = arb.max(lemma, _dual_value(q, lam, selection))
    return {True: exact, False: lemma, None: arb.nan()}[leaky.of_gram(q).applies]


def norm_lemma(q: Quantities) -> Any:
    """The sum of `_norm_lemma` over groups; 0 where no neuron helps some constraint."""
    kept = q.problem.retained
    groups = q.problem.groups if q.problem.slope == 0 else [0] * len(q.constraints)
    parts = [_norm_lemma(q, [a for a in kept if groups[a] == g]) for g in sorted({groups[a] for a in kept})]
    return arb(0) if None in parts else total(parts)


def _dual_value(q: Quantities, multipliers: list[float], selection: list[list[float]]) -> Any:
    """2 sum lambda - |sum lambda_a g_a|^2 over the retained constraints, for the g_a of a selection."""
    kept, owner = q.problem.retained, q.problem.layout.constraint
    made = q.coefficients(
        [[arb(s) * multipliers[a] for s, a in zip(row, owner, strict=True)] for row in selection], kept
    )
    square = (made * q.gram * made.transpose()).trace()
    return 2 * total(arb(multipliers[a]) for a in kept) - square


def _norm_lemma(q: Quantities, constraints: list[int]) -> Any:
    """(sum over points of max_a 1/c_a) / lambda_max(K of their rows), c_a = sum_e sum_j of max(v, 0)^2 + slope^2
    max(-v, 0)^2; None where no neuron helps a constraint, whose margin then is never positive."""
    layout, most = q.problem.layout, dict[int, Any]()
    for a in constraints:
        helping = total(v**2 if v > 0 else (q.slope * v) ** 2
                        for e in q.problem.entries[a] for v in (row[e] for row in q.v))  # fmt: skip
        if helping == 0:
            return None
        i = layout.point_of_constraint[a]
        most[i] = arb.max(most[i], 1 / helping) if i in most else 1 / helping
    rows = sorted({layout.row[e] for a in constraints for e in q.problem.entries[a]})
    gram = tuple(tuple(q.problem.gram[r][s] for s in rows) for r in rows)
    return total(most.values()) / top_eigenvalue(gram, min(ctx.prec, EIGENVALUE_BITS))
