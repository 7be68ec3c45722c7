"""Array aliases with shapes, and the integer codes that travel through jit and vmap.

Letters in shapes: m points, p reduced coordinates, n neurons. Failure is data: every solver returns a
`Status` per lane, every comparison a `Verdict`, every bound a `Reason` when it does not apply.
"""

from __future__ import annotations

import enum

from jaxtyping import Array, Bool, Float, Int

Points = Float[Array, "m p"]
Labels = Float[Array, "m"]
Mask = Bool[Array, "m"]
PerPoint = Float[Array, "m"]
Params = Float[Array, "n p"]
PerPair = Float[Array, "n m"]
PairMask = Bool[Array, "n m"]
Scalar = Float[Array, ""] | float
Code = Int[Array, ""]


class _Described(enum.IntEnum):
    """An integer code with a sentence; members are declared as `NAME = code, text[, remedy]`."""

    text: str
    remedy: str

    def __new__(cls, code: int, text: str, remedy: str = "") -> _Described:
        member = int.__new__(cls, code)
        member._value_ = code
        member.text = text
        member.remedy = remedy
        return member


class Status(_Described):
    """What became of one lane. The largest code wins when several things went wrong."""

    OK = 0, "solved", ""
    NOT_SEPARATED = (
        1,
        "training ended before every training point was classified correctly",
        "train longer, use a smaller init_scale, or check that the data can be separated",
    )
    UNCONVERGED = (
        2,
        "the solver stopped before its tolerance",
        "raise max_steps, or check for nearly dependent points",
    )
    INFEASIBLE = (
        3,
        "no feasible point: some margin is not positive, so nothing can be rescaled to margin 1",
        "the data are not separable with this network (each class needs an active neuron of its sign)",
    )
    BAD_INPUT = (
        4,
        "an input is NaN, infinite, zero where it must not be, or out of range",
        "check the points, labels, dim, forget mask and scale of this lane",
    )


class Verdict(_Described):
    """The answer to one claim on one instance."""

    HOLDS = 0, "holds"
    VIOLATED = 1, "violated"
    INCONCLUSIVE = 2, "inconclusive"
    NOT_APPLICABLE = 3, "not applicable"
    UNCONVERGED = 4, "unconverged"


class Reason(_Described):
    """Which hypothesis of a bound fails on an instance (`APPLIES` when none does)."""

    APPLIES = 0, "every hypothesis holds"
    NORMS = 1, "psi is too large: some squared norm is outside [0.9, 1.1]"
    CORRELATION = 2, "phi is too large for the theorem: eps_d exceeds 1"
    STATIONARITY = 3, "epsilon_1 of the original exceeds 1/2"
    SLACKNESS = 4, "delta_1 of the original exceeds 1/2"
    UNDEFINED = 5, "the formula is undefined here (a denominator is not positive)"
    EMPTY = 6, "the bound is empty: it also allows what a point without multipliers attains"
    SECOND_LAYER = 7, "the second layer is not +-1/sqrt(n)"
    FORGET_SIZE = 8, "the bound is stated for one forgotten point"
    LEAKAGE = 9, "the leakage of the forgotten points is 1 or more"
    MODEL = 10, "the claim does not speak of this model"
    NOT_KKT = 11, "the retrained point of the first solve leaves the activation pattern"
    DATA = 12, "the data do not satisfy the hypothesis of the claim"
