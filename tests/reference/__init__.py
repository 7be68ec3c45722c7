"""The mathematics once more, one instance at a time, in plain NumPy: the oracle of the JAX kernels.

Nothing here shares a method with the package. Margins and gradients are loops over points and neurons;
multipliers come from nonnegative least squares on *generated columns* (one column per point and per set
of kinks) instead of a projection onto a cone; exact KKT points come from *cutting planes* and the
Lawson-Hanson least-distance programme instead of a dual ascent with a Newton finish; projections come
from a singular value decomposition. Every solver recomputes its own optimality residual, which the
tests check, so a wrong answer of SciPy does not pass for a right one.

Conventions: points X [m, p], labels y [m] in {-1, +1}, weights W [n, p], second layer u [n],
pre-activations Z = W X^T [n, m], selection s [n, m], multipliers lam [m], mu[j, i] = lam[i] s[j, i].
`slope` is the negative slope of the activation max(z, slope z): 0 is the ReLU, 1 (with n = 1, u = [1]) the
linear model. `orthogonal` is the norm of the part of theta outside the span of the points' coordinates.
"""

from reference.bounds import *  # noqa: F403
from reference.draws import *  # noqa: F403
from reference.limit import *  # noqa: F403
from reference.model import *  # noqa: F403
from reference.multipliers import *  # noqa: F403
from reference.step import *  # noqa: F403
