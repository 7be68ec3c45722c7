"""The integer codes that travel through jit and vmap.

Failure is data: every solver returns a `Status` per lane, every comparison a `Verdict`, every bound a `Reason` when it
does not apply.
"""

from __future__ import annotations

import enum


class Status(enum.IntEnum):
    """What became of one lane. The largest code wins when several things went wrong."""

    OK = 0
    NOT_SEPARATED = 1
    UNCONVERGED = 2
    INFEASIBLE = 3
    BAD_INPUT = 4

    @property
    def text(self) -> str:
        """What happened, in words."""
        return _STATUS[self][0]

    @property
    def remedy(self) -> str:
        """What to do about it ("" for OK)."""
        return _STATUS[self][1]


_STATUS = {
    Status.OK: ("solved", ""),
    Status.NOT_SEPARATED: (
        "training ended before every training point was classified correctly",
        "train longer, use a smaller init_scale, or check that the data can be separated",
    ),
    Status.UNCONVERGED: (
        "the solver stopped before its tolerance",
        "check for nearly dependent points; train longer if the activation pattern was still moving",
    ),
    Status.INFEASIBLE: (
        "no feasible point: some margin is not positive, so nothing can be rescaled to margin 1",
        "the data are not separable with this network (each class needs an active neuron of its sign)",
    ),
    Status.BAD_INPUT: (
        "an input is NaN, infinite, zero where it must not be, or out of range",
        "check the points, labels, dim, forget mask and scale of this lane",
    ),
}


class Verdict(enum.IntEnum):
    """The answer to one claim on one instance."""

    HOLDS = 0
    VIOLATED = 1
    INCONCLUSIVE = 2
    NOT_APPLICABLE = 3
    UNCONVERGED = 4

    @property
    def text(self) -> str:
        """The verdict in words."""
        return self.name.lower().replace("_", " ")


class Reason(enum.IntEnum):
    """Which hypothesis of a bound fails on an instance (`APPLIES` when none does)."""

    APPLIES = 0
    NORMS = 1
    CORRELATION = 2
    STATIONARITY = 3
    SLACKNESS = 4
    UNDEFINED = 5
    EMPTY = 6
    SECOND_LAYER = 7
    FORGET_SIZE = 8
    LEAKAGE = 9
    MODEL = 10
    NOT_KKT = 11
    DATA = 12
    PATCHES = 13

    @property
    def text(self) -> str:
        """The failing hypothesis in words."""
        return _REASON[self]


_REASON = {
    Reason.APPLIES: "every hypothesis holds",
    Reason.NORMS: "psi is too large: some squared norm is outside [0.9, 1.1]",
    Reason.CORRELATION: "phi is too large for the theorem: eps_d exceeds 1",
    Reason.STATIONARITY: "epsilon_1 of the original is above what the bound allows (1/2, several classes 1/1000)",
    Reason.SLACKNESS: "delta_1 of the original is above what the bound allows (1/2, several classes 1/1000 a class)",
    Reason.UNDEFINED: "the formula is undefined here (a denominator is not positive)",
    Reason.EMPTY: "the bound is empty: it also allows what a point without multipliers attains",
    Reason.SECOND_LAYER: "the second layer is not +-1/sqrt(n)",
    Reason.FORGET_SIZE: "the claim needs another number of forgotten points",
    Reason.LEAKAGE: "the leakage of the forgotten points is 1 or more",
    Reason.MODEL: "the claim does not speak of this model",
    Reason.NOT_KKT: "no KKT point with these activations: the solution leaves the activation pattern",
    Reason.DATA: "the data do not satisfy the hypothesis of the claim",
    Reason.PATCHES: "the rows (patches) of some point are linearly dependent: a selection need not be Clarke's",
}
