"""The instance of a certificate file as balls: what every statement about it is made of.

With Q_ji = u_j y_i mu_ji, Q_R its forgotten columns and T the retained points, the step theta^ = theta - c h is
derived: h has coefficients Q_R and pre-activations H = Q_R K. For weights with the pre-activations A and B

    <A, B> = tr(B^T A K^-1),   |e|^2 = <Z - QK, Z - QK> + |W_perp|^2,   P A = A_T K_TT^-1 K_T.

A ball holds the true number; comparisons of balls are true only if they are true of all their numbers.
Source: docs/theory, Rigour, Lemma M, Norm lemma, Closeness to the retrained model.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from functools import cached_property
from typing import Any, NamedTuple

from verify.certificate_file import Document

try:
    from flint import arb, arb_mat, ctx
except ImportError as error:
    raise ImportError("proofs need python-flint: pip install 'gaunlearn-jax[exact]'") from error


EIGENVALUE_BITS = 384  #: more bits would tell apart sides that agree to 28 digits, at a cost that grows with m^3


class Check(NamedTuple):
    """The inequality low <= high (low < high when strict); `text` says what its failure means."""

    low: Any
    high: Any
    text: str
    strict: bool = False


class Solution(NamedTuple):
    """theta* of Q_T by its pre-activations, and the inequalities that make it the solution."""

    z: Any
    checks: list[Check]


def root(x: Any) -> Any:
    """Square root of a ball that is >= 0 in truth and may reach below 0 by rounding."""
    return arb(x).nonnegative_part().sqrt()


def total(values: Iterable[Any]) -> Any:
    return sum(values, arb(0))


def inverse(a: Any) -> Any:
    """Ball inverse; all nan at a precision that does not show `a` to be invertible."""
    try:
        return a.inv()
    except ZeroDivisionError:
        return arb_mat(a.nrows(), a.ncols(), [arb.nan()] * (a.nrows() * a.ncols()))


def block(a: Any, rows: list[int], columns: list[int]) -> Any:
    return arb_mat(len(rows), len(columns), [a[i, j] for i in rows for j in columns])


@functools.lru_cache(maxsize=64)
def top_eigenvalue(rows: tuple[tuple[float, ...], ...], bits: int) -> Any:
    """lambda_max of a positive definite matrix, between (tr a^p / m)^(1/p) and (tr a^p)^(1/p).

    p = 2^(bits/4), less where so many squarings would cost the trace half of its bits.
    """
    with ctx.workprec(bits):
        a, log, step = arb_mat([list(row) for row in rows]), arb(0), 0
        while step < bits // 4 and a.trace().rel_accuracy_bits() > bits // 2:
            size = a.trace().mid()  # an exact number, so that it adds nothing to the radii
            log += size.log() / 2**step
            a, step = (a / size) * (a / size), step + 1
        last = a.trace().log() / 2**step
        return (log + last - arb(a.nrows()).log() / 2**step).union(log + last).exp()


class Quantities:
    """The numbers of one document at the current precision."""

    def __init__(self, document: Document) -> None:
        d = self.d = document
        self.m, self.n, self.k = len(d.labels), len(d.output_weights), len(d.forget)
        self.everyone = list(range(self.m))
        self.retained = [i for i in self.everyone if i not in d.forget]
        self.u = [arb(u) for u in d.output_weights]
        self.weight = total(u**2 for u in self.u)
        self.claim = {name: arb(value) for name, value in d.claimed.items()}
        self.gram, self.z = arb_mat(d.gram), arb_mat(d.original.preactivations)
        self.inverse = inverse(self.gram)
        self.inverse_retained = inverse(block(self.gram, self.retained, self.retained))
        self.omega, self.step = arb(d.orthogonal_norm_squared), arb(d.step_scale)
        self.q_forget = self.coefficients(d.original.mu, d.forget)
        self.z_step = self.q_forget * self.gram
        self.z_after = self.z - self.step * self.z_step
        stored = d.certificate.preactivations
        self.z_cert = arb_mat(stored) if stored else arb(d.factor) * self.z_after

    def coefficients(self, mu: list[list[float]], columns: Iterable[int]) -> Any:
        """Q_ji = u_j y_i mu_ji on the given columns, zero elsewhere."""
        q = arb_mat(self.n, self.m)
        for i in columns:
            for j, u in enumerate(self.u):
                q[j, i] = u * (self.d.labels[i] * mu[j][i])
        return q

    def inner(self, a: Any, b: Any) -> Any:
        """<A, B>: the inner product of two weight matrices given by their pre-activations."""
        return ((b.transpose() * a) * self.inverse).trace()

    def inner_inside(self, a: Any, b: Any) -> Any:
        """<PA, PB> = tr(A_T^T B_T K_TT^-1)."""
        a, b = (block(v, list(range(self.n)), self.retained) for v in (a, b))
        return ((b.transpose() * a) * self.inverse_retained).trace()

    def inside(self, a: Any) -> Any:
        """The pre-activations of P A at all points."""
        mine = block(a, list(range(self.n)), self.retained)
        return mine * self.inverse_retained * block(self.gram, self.retained, self.everyone)

    def margins(self, z: Any) -> list[Any]:
        """q_i = y_i sum_j u_j max(z_ji, 0), without the maximum for a linear model."""
        active = z if self.d.linear else arb_mat([[v.nonnegative_part() for v in row] for row in z.tolist()])
        outputs = (arb_mat([self.d.output_weights]) * active).tolist()[0]
        return [y * value for y, value in zip(self.d.labels, outputs, strict=True)]

    def gap(self, count: int) -> Any:
        """1 - psi - (count - 1) phi: below the Gram matrix of `count` points (Gershgorin)."""
        return 1 - self.claim["psi"] - (count - 1) * self.claim["phi"]

    @cached_property
    def beta_max(self) -> Any:
        """Lemma M, U = sum u_j^2: (B + sqrt(B^2 + 4AU delta_1)) / (2A), B = 1 + epsilon_1 sqrt((1-psi) U)."""
        a, u = self.gap(self.m), self.weight
        b = 1 + self.claim["epsilon_1"] * root((1 - self.claim["psi"]) * u)
        return (b + root(b**2 + 4 * a * u * self.claim["delta_1"])) / (2 * a)

    @cached_property
    def z_tilde(self) -> Any:
        """Pre-activations of theta - c (I - P) h."""
        return self.z - self.step * (self.z_step - self.inside(self.z_step))

    def floor_squared(self, solution: list[float] | None) -> Any:
        """B_T^2. Networks: sum over labels of M / (U lambda_max(K)); linear models: twice the dual value of the
        multipliers of `solution`, none of them negative. 0, which is always true, where neither is to be had."""
        labels, kept = self.d.labels, self.retained
        if self.d.linear:
            if solution is None or min(solution[i] for i in kept) < 0:
                return arb(0)
            lam = {i: labels[i] * arb(solution[i]) for i in kept}
            return 2 * total(arb(solution[i]) for i in kept) - total(
                lam[i] * lam[k] * self.gram[i, k] for i in kept for k in kept
            )
        out = arb(0)
        for sign in (1, -1):
            mine = [i for i in kept if labels[i] == sign]
            weight = total(u**2 for u in self.u if u * sign > 0)
            if mine and weight == 0:
                return arb(0)
            if mine:
                rows = tuple(tuple(self.d.gram[i][k] for k in mine) for i in mine)
                out += len(mine) / (weight * top_eigenvalue(rows, min(ctx.prec, EIGENVALUE_BITS)))
        return out

    @cached_property
    def solution(self) -> Solution:
        """theta* of Q_T solved on the sets that the floats of `inequality.solution` name: F_i = 1 on the support and
        z_ji = 0 at kinks, the kinks of each neuron eliminated first."""
        given, labels = self.d.inequality["solution"], self.d.labels  # type: ignore[index]
        support = [i for i in self.retained if given.multipliers[i] > 0]
        slopes = [[self._slope(j, i, given) for i in self.everyone] for j in range(self.n)]
        maps, system = [], arb_mat(len(support), len(support))
        for j, row in enumerate(slopes):
            c = self._eliminated(j, row, support)
            maps.append(c)
            z = self.gram * c
            for a, i in enumerate(support):
                if row[i] is not None and row[i] != 0:
                    for b in range(len(support)):
                        system[a, b] += labels[i] * self.u[j] * row[i] * z[i, b]
        lam = inverse(system) * arb_mat(len(support), 1, [1] * len(support)) if support else arb_mat(0, 1)
        q = arb_mat(self.n, self.m, [v for c in maps for v in (c * lam).entries()])
        multipliers = [arb(0)] * self.m
        for a, i in enumerate(support):
            multipliers[i] = lam[a, 0]
        z = q * self.gram
        for j, row in enumerate(slopes):
            for i in support:
                if row[i] is None:
                    z[j, i] = arb(0)
        return Solution(z, self._optimality(q, z, multipliers, slopes, support))

    def _opposite(self, j: int, i: int) -> bool:
        return not self.d.linear and self.u[j] * self.d.labels[i] < 0

    def _slope(self, j: int, i: int, given: Any) -> Any:
        """The slope that Q_T fixes at a pair: the selection of theta on same-sign pairs, 0 or 1 on others, None at a
        kink of the solution."""
        if self.d.linear:
            return arb(1)
        first = self.d.original
        if not self._opposite(j, i):
            lam = first.multipliers[i]
            return arb(first.mu[j][i]) / lam if lam > 0 else arb(int(first.preactivations[j][i] > 0))
        mu, lam = given.mu[j][i], given.multipliers[i]
        if given.preactivations[j][i] == 0 and 0 < mu < lam:
            return None
        return arb(int(mu == lam and lam > 0))

    def _eliminated(self, j: int, slopes: list[Any], support: list[int]) -> Any:
        """The map from lambda on the support to row j of Q, given z_ji = 0 at this neuron's kinks."""
        c = arb_mat(self.m, len(support))
        for a, i in enumerate(support):
            if slopes[i] is not None:
                c[i, a] = self.u[j] * self.d.labels[i] * slopes[i]
        kinks = [i for i in support if slopes[i] is None]
        if kinks:
            fixed = block(self.gram, kinks, self.everyone) * c
            held = inverse(block(self.gram, kinks, kinks)) * fixed
            for r, i in enumerate(kinks):
                for a in range(len(support)):
                    c[i, a] = -held[r, a]
        return c

    def _optimality(self, q: Any, z: Any, lam: list[Any], slopes: list[Any], support: list[int]) -> list[Check]:
        """The conditions of Q_T that the equations do not contain."""
        checks = [Check(0, lam[i], f"multiplier {i} of theta* is negative") for i in support]
        for j in range(self.n):
            for i in [i for i in support if self._opposite(j, i)]:
                if slopes[j][i] is None:
                    mu = q[j, i] / (self.u[j] * self.d.labels[i])
                    checks.append(Check(0, mu, f"mu[{j}][{i}] of theta* is negative"))
                    checks.append(Check(mu, lam[i], f"mu[{j}][{i}] of theta* exceeds its multiplier"))
                else:
                    low, high = (0, z[j, i]) if slopes[j][i] == 1 else (z[j, i], 0)
                    checks.append(Check(low, high, f"the pre-activation ({j}, {i}) of theta* has the other sign"))
        for i in [i for i in self.retained if i not in support]:
            parts = [self.u[j] * (v.nonnegative_part() if self._opposite(j, i) else slopes[j][i] * v)
                     for j, v in enumerate(z[j, i] for j in range(self.n))]  # fmt: skip
            checks.append(Check(1, self.d.labels[i] * total(parts), f"F_{i} of theta* is below 1"))
        return checks
