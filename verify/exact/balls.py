"""The instance of a certificate file as balls: what every statement about it is made of.

With Q_jr = sum_{e of r} v_je mu_je, Q_R the same of the forgotten points' entries and T the rows of the retained
points, the step theta^ = theta - c h is derived: h has coefficients Q_R and pre-activations H = Q_R K. For weights with
the pre-activations A and B

    <A, B> = tr(B^T A K^-1),   |e|^2 = <Z - QK, Z - QK> + |W_perp|^2,   P A = A_T K_TT^-1 K_T.

A ball holds the true number; comparisons of balls are true only if they are true of all their numbers.
Source: docs/theory, Rigour, Lemma M.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple

from verify.exact.certificate_file import Document

try:
    from flint import arb, arb_mat, ctx, fmpq
except ImportError as error:
    raise ImportError("proofs need python-flint: pip install 'gaunlearn-jax[exact]'") from error


EIGENVALUE_BITS = 384  #: more bits would tell apart sides that agree to 28 digits, at a cost that grows with m^3


class Check(NamedTuple):
    """The inequality low <= high (low < high when strict); `text` says what its failure means."""

    low: Any
    high: Any
    text: str
    strict: bool = False


def exact(values: list[list[Fraction]]) -> list[list[Any]]:
    """Rationals as balls; those of a file are dyadic with few bits, so that the radii are 0."""
    return [[arb(fmpq(v.numerator, v.denominator)) for v in row] for row in values]


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


def largest(a: Any, bits: int) -> Any:
    """The largest eigenvalue of a matrix whose eigenvalues are real, none negative and not all zero: between
    (tr a^p / m)^(1/p) and (tr a^p)^(1/p).

    p = 2^(bits/4), less where so many squarings would cost the trace half of its bits.
    """
    log, step = arb(0), 0
    while a.nrows() > 1 and step < bits // 4 and a.trace().rel_accuracy_bits() > bits // 2:
        size = a.trace().mid()  # an exact number, so that it adds nothing to the radii
        log += size.log() / 2**step
        a, step = (a / size) * (a / size), step + 1
    last = a.trace().log() / 2**step
    return (log + last - arb(a.nrows()).log() / 2**step).union(log + last).exp()


@functools.lru_cache(maxsize=64)
def top_eigenvalue(rows: tuple[tuple[float, ...], ...], bits: int) -> Any:
    """lambda_max of a positive definite matrix."""
    with ctx.workprec(bits):
        return largest(arb_mat([list(row) for row in rows]), bits)


class Quantities:
    """The numbers of one document at the current precision; everything is a list of rows or of constraints."""

    def __init__(self, document: Document) -> None:
        d = self.d = document
        p = self.problem = d.problem
        self.n, self.k = len(p.amplitudes), len(p.forget)
        self.rows, self.constraints = list(range(len(p.gram))), list(range(p.num_constraints))
        self.v, self.slope = [[arb(v) for v in row] for row in p.amplitudes], arb(p.slope)
        self.claim = {name: arb(value) for name, value in d.claimed.items()}
        self.gram, self.z = arb_mat(p.gram), arb_mat(d.original.preactivations)
        self.inverse = inverse(self.gram)
        self.inverse_retained = inverse(block(self.gram, p.retained_rows, p.retained_rows))
        self.omega, self.step = arb(d.orthogonal_norm_squared), arb(d.step_scale)
        self.mu = exact(d.original.mu)
        self.q_forget = self.coefficients(self.mu, p.forgotten)
        self.z_step = self.q_forget * self.gram
        self.z_after = self.z - self.step * self.z_step
        stored = d.certificate.preactivations
        self.z_cert = arb_mat(stored) if stored else arb(d.factor) * self.z_after

    def coefficients(self, mu: list[list[Any]], constraints: Iterable[int]) -> Any:
        """Q_jr = sum of v_je mu_je over the entries of row r and these constraints."""
        q, row = arb_mat(self.n, len(self.rows)), self.problem.layout.row
        for e in (e for a in constraints for e in self.problem.entries[a]):
            for j in range(self.n):
                q[j, row[e]] += self.v[j][e] * mu[j][e]
        return q

    @cached_property
    def e(self) -> Any:
        """The pre-activations of the residual of theta, without W_perp."""
        return self.z - self.coefficients(self.mu, self.constraints) * self.gram

    def inner(self, a: Any, b: Any) -> Any:
        """<A, B>: the inner product of two weight matrices given by their pre-activations."""
        return ((b.transpose() * a) * self.inverse).trace()

    def inner_inside(self, a: Any, b: Any) -> Any:
        """<PA, PB> = tr(A_T^T B_T K_TT^-1)."""
        a, b = (block(v, list(range(self.n)), self.problem.retained_rows) for v in (a, b))
        return ((b.transpose() * a) * self.inverse_retained).trace()

    def inside(self, a: Any) -> Any:
        """The pre-activations of P A at all rows."""
        kept = self.problem.retained_rows
        return block(a, list(range(self.n)), kept) * self.inverse_retained * block(self.gram, kept, self.rows)

    def sigma(self, z: Any) -> Any:
        """max(z, slope z)."""
        return z.nonnegative_part() - self.slope * (-z).nonnegative_part() if self.problem.kinked else z

    def margins(self, z: Any) -> list[Any]:
        """q_a = sum over its entries and all neurons of v_je sigma(z_j,row)."""
        row, active = self.problem.layout.row, [[self.sigma(v) for v in line] for line in z.tolist()]
        return [total(self.v[j][e] * active[j][row[e]] for e in mine for j in range(self.n))
                for mine in self.problem.entries]  # fmt: skip

    def gap(self, count: int) -> Any:
        """1 - psi - (count - 1) phi: below the Gram matrix of `count` rows (Gershgorin)."""
        return 1 - self.claim["psi"] - (count - 1) * self.claim["phi"]

    # --- one output: |v_ji| = |u_j| at every point, one row and one constraint a point ----------------

    @cached_property
    def one_output(self) -> list[Check]:
        """That the problem is one of y_i sum_j u_j sigma(z_ji), of which some theorems speak alone."""
        sizes = ({abs(v) for v in row} for row in self.problem.amplitudes)
        return [
            Check(int(not self.problem.layout.single), 0, "a point has several rows, entries or constraints"),
            Check(int(any(len(found) > 1 for found in sizes)), 0, "the amplitudes of a neuron differ in size"),
        ]

    @cached_property
    def unit_slopes(self) -> list[Check]:
        """That s^2 = s away from kinks, which beta in the place of |g|^2 needs."""
        return [Check(int(self.problem.slope not in (0, 1)), 0, "the slope is neither 0 nor 1")]

    @cached_property
    def u(self) -> list[Any]:
        """|u_j| of a problem with one output."""
        return [abs(row[0]) for row in self.v]

    @cached_property
    def weight(self) -> Any:
        """U = sum u_j^2 of a problem with one output."""
        return total(u**2 for u in self.u)

    @cached_property
    def beta_max(self) -> Any:
        """Lemma M, U = sum u_j^2: (B + sqrt(B^2 + 4AU delta_1)) / (2A), B = 1 + epsilon_1 sqrt((1-psi) U)."""
        a, u = self.gap(len(self.rows)), self.weight
        b = 1 + self.claim["epsilon_1"] * root((1 - self.claim["psi"]) * u)
        return (b + root(b**2 + 4 * a * u * self.claim["delta_1"])) / (2 * a)

    @cached_property
    def z_tilde(self) -> Any:
        """Pre-activations of theta - c (I - P) h."""
        return self.z - self.step * (self.z_step - self.inside(self.z_step))
