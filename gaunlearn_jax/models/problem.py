"""The margin problem that every kernel speaks to, whatever the architecture.

    minimise  1/2 ||W||^2   subject to   q_a(W) = sum_{e of a} sum_j v_je sigma(<w_j, x_{row(e)}>) >= 1

sigma(z) = max(z, slope z). An architecture turns data into rows (points, or patches of them), entries e with a row, a
constraint and amplitudes v_je, and constraints of points. With one row, one entry and one constraint a point (`layout`
None) this is the binary case: v_ji = u_j y_i. Source: docs/theory, Margin problem.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gaunlearn_jax.base import checks, numerics
from gaunlearn_jax.base.arrays import (
    EntryMask,
    Mask,
    Params,
    PerConstraint,
    PerEntry,
    PerPoint,
    PerRow,
    Rows,
)


class Layout(NamedTuple):
    """Where things belong, as tuples of indices: the row and the constraint of each entry, the point of each row and
    of each constraint. Every row and every constraint has an entry."""

    row: tuple[int, ...]
    constraint: tuple[int, ...]
    point_of_row: tuple[int, ...]
    point_of_constraint: tuple[int, ...]

    @property
    def one_entry(self) -> bool:
        """Whether entry e is all of constraint e."""
        return self.constraint == tuple(range(len(self.constraint)))

    @property
    def one_row(self) -> bool:
        """Whether entry e is all of row e."""
        return self.row == tuple(range(len(self.row)))

    @property
    def one_constraint(self) -> bool:
        """Whether constraint i is all of point i."""
        return self.point_of_constraint == tuple(range(len(self.point_of_constraint)))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MarginProblem:
    """Rows X [R, p], amplitudes v [n, E], the slope of sigma below zero and the layout (both static).

    `groups` [A] numbers sets of constraints, num_groups of them: neurons that can raise a margin of one group (v > 0)
    can raise none of another. It sharpens the norm lemma where slope = 0; one group is always right.
    """

    rows: Rows
    amplitudes: PerEntry
    groups: Int[Array, "a"]
    num_groups: int = dataclasses.field(default=1, metadata={"static": True})
    slope: float = dataclasses.field(default=0.0, metadata={"static": True})
    layout: Layout | None = dataclasses.field(default=None, metadata={"static": True})

    def __post_init__(self) -> None:
        object.__setattr__(self, "slope", checks.constant("slope", self.slope))

    @property
    def num_neurons(self) -> int:
        """n."""
        return int(self.amplitudes.shape[0])

    @property
    def num_rows(self) -> int:
        """R."""
        return int(self.rows.shape[0])

    @property
    def num_constraints(self) -> int:
        """A."""
        return self.num_rows if self.layout is None else len(self.layout.point_of_constraint)

    @property
    def num_terms(self) -> int:
        """The largest number of terms in one margin."""
        most = 1 if self.layout is None else int(np.max(np.bincount(self.layout.constraint)))
        return self.num_neurons * most

    @property
    def kinked(self) -> bool:
        """Whether sigma has a kink; a model without one is linear in W."""
        return self.slope != 1

    @property
    def free(self) -> EntryMask:
        """Pairs (neuron, entry) on which v sigma is concave: their selection is a variable of the programme."""
        return (self.amplitudes < 0) & (self.slope < 1)

    # --- from points to constraints and rows, from entries to either ----------------------------------

    def constraints_of(self, points: Any) -> Any:
        """Values of points, such as marks, at their constraints."""
        return points if self.layout is None else points[np.asarray(self.layout.point_of_constraint)]

    def rows_of(self, points: Mask) -> Bool[Array, "r"]:
        """The rows of the marked points."""
        return points if self.layout is None else points[np.asarray(self.layout.point_of_row)]

    def at_entries(self, z: Any) -> Any:
        """Values of rows at the entries."""
        return z if self.layout is None else z[:, np.asarray(self.layout.row)]

    def at_rows(self, z: Any) -> Any:
        """Values of rows from those of their entries, which are alike."""
        if self.layout is None:
            return z
        return jnp.zeros((z.shape[0], self.num_rows), z.dtype).at[:, np.asarray(self.layout.row)].set(z)

    def of_entries(self, per_constraint: Any) -> Any:
        """Values of constraints (last axis) at their entries."""
        if self.layout is None or self.layout.one_entry:
            return per_constraint
        return per_constraint[..., np.asarray(self.layout.constraint)]

    def by_constraint(self, per_entry: Any) -> Any:
        """Sums over the entries of each constraint (last axis)."""
        index = None if self.layout is None or self.layout.one_entry else self.layout.constraint
        return self._summed(per_entry, index, self.num_constraints)

    def by_row(self, per_entry: Any) -> Any:
        """Sums over the entries of each row (last axis)."""
        return self._summed(per_entry, None if self.layout is None else self.layout.row, self.num_rows)

    def most_of_points(self, per_constraint: PerConstraint) -> Any:
        """The largest of nonnegative values of the constraints of each point that has any."""
        if self.layout is None:
            return per_constraint
        index = np.asarray(self.layout.point_of_constraint)
        return jnp.zeros(int(index.max()) + 1, per_constraint.dtype).at[index].max(per_constraint)

    @staticmethod
    def _summed(values: Any, index: tuple[int, ...] | None, size: int) -> Any:
        if index is None:
            return values
        return jnp.zeros((*values.shape[:-1], size), values.dtype).at[..., np.asarray(index)].add(values)

    # --- the functions of W ---------------------------------------------------------------------------

    def preactivations(self, params: Params) -> PerRow:
        """z_jr = <w_j, x_r>."""
        return numerics.matmul(params, self.rows.T)

    def margins(self, z: PerRow) -> PerConstraint:
        """q_a, decided by the pre-activations alone."""
        at = self.at_entries(z)
        raised = self.amplitudes * jnp.maximum(at, self.slope * at if self.slope else 0.0)
        # a product with ones: the compiler makes vector code of it, and of a sum over neurons it does not
        return self.by_constraint(numerics.matmul(raised.T, jnp.ones(self.num_neurons)))

    def slopes(self, z: PerRow, at_kink: PerEntry | float = 0.0) -> PerEntry:
        """Clarke selection s_je: 1 where z > 0, the slope where z < 0, `at_kink` where z = 0."""
        at = self.at_entries(z)
        return jnp.where(at > 0, 1.0, jnp.where(at == 0, jnp.maximum(at_kink, self.slope), self.slope))

    def coefficients(self, multipliers: PerConstraint, selection: PerEntry) -> PerRow:
        """Q_jr = sum_{e of r} v_je lambda_{a(e)} s_je, so that sum_a lambda_a g_a = Q X."""
        return self.by_row(self.amplitudes * self.of_entries(multipliers) * selection)

    def gradients(self, selection: PerEntry) -> Float[Array, "a n p"]:
        """g_a, the gradient of every margin in W for a selection."""
        each = jax.vmap(lambda unit: self.coefficients(unit, selection))(jnp.eye(self.num_constraints))
        return numerics.matmul(each, self.rows)

    def soft_margins(self, q: PerConstraint) -> PerPoint:
        """u_i = -log sum_a exp(-q_a) over the constraints of each point, q_i where it has one."""
        if self.layout is None or self.layout.one_constraint:
            return q
        index = np.asarray(self.layout.point_of_constraint)
        low = jnp.full(index.max() + 1, jnp.inf).at[index].min(q)
        return low - jnp.log(jnp.zeros_like(low).at[index].add(jnp.exp(low[index] - q)))

    def output_spread(self, z: PerRow) -> PerConstraint:
        """sum_e sum_j |v_je z_je|: the size of the terms of a margin, which its rounding is relative to."""
        return self.by_constraint(
            numerics.matmul(jnp.ones(self.num_neurons), jnp.abs(self.amplitudes * self.at_entries(z)))
        )

    def steepness(self) -> PerConstraint:
        """sum_e ||v_e|| ||x_e||, which no gradient g_a is longer than."""
        lever = jnp.sqrt(jnp.sum(self.amplitudes**2, axis=0))
        return self.by_constraint(lever * self.at_entries(jnp.sqrt(jnp.sum(self.rows**2, axis=1))[None])[0])

    def gram(self) -> Float[Array, "r r"]:
        """K of the rows."""
        return numerics.gram(self.rows)


def check_shapes(problem: MarginProblem, num_points: int, **arrays: Any) -> None:
    """Raise ValueError unless each named array has the shape its name promises for this problem."""
    n, p, m = problem.num_neurons, problem.rows.shape[1], num_points
    expected = {
        "params": (n, p),
        "preactivations": (n, problem.num_rows),
        "selection": tuple(problem.amplitudes.shape),
        "multipliers": (problem.num_constraints,),
        "retained": (m,),
        "forget": (m,),
    }
    for name, value in arrays.items():
        if value is not None and tuple(jnp.shape(value)) != expected[name]:
            raise ValueError(f"{name} has shape {tuple(jnp.shape(value))}, expected {expected[name]}")
