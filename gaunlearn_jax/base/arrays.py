"""Array aliases with shapes.

Letters: m points, p reduced coordinates, n neurons; r rows, e entries and a constraints of a margin problem (in the
binary case one of each a point).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Array, Bool, Float, Int

Points = Float[Array, "m p"]
Labels = Float[Array, "m"]
Mask = Bool[Array, "m"]
PerPoint = Float[Array, "m"]
Params = Float[Array, "n p"]
PerPair = Float[Array, "n m"]
PairMask = Bool[Array, "n m"]
Rows = Float[Array, "r p"]
PerRow = Float[Array, "n r"]
PerEntry = Float[Array, "n e"]
EntryMask = Bool[Array, "n e"]
#: of the solver of programmes (`kkt.programme`)
Turned = Float[Array, "e n"]
TurnedMask = Bool[Array, "e n"]
TurnedPlaces = Int[Array, "e n"]
PerConstraint = Float[Array, "a"]
ConstraintMask = Bool[Array, "a"]
Scalar = Float[Array, ""] | float
Numbers = Float[Array, "..."] | Float[np.ndarray, "..."] | float
Whole = Int[Array, "..."] | Int[np.ndarray, "..."] | Float[Array, "..."] | int
Code = Int[Array, ""]
