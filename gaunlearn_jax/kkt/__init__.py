"""KKT points of the margin problem: measured, fitted and solved for."""

from gaunlearn_jax.kkt.fit import fit_multipliers as fit_multipliers
from gaunlearn_jax.kkt.limit import MAX_REPEATS as MAX_REPEATS
from gaunlearn_jax.kkt.limit import limit_point as limit_point
from gaunlearn_jax.kkt.limit import solve_pattern as solve_pattern
from gaunlearn_jax.kkt.limit import starting_slopes as starting_slopes
from gaunlearn_jax.kkt.points import KKTPoint as KKTPoint
from gaunlearn_jax.kkt.points import Measured as Measured
from gaunlearn_jax.kkt.points import measure as measure
from gaunlearn_jax.kkt.points import measured_point as measured_point
from gaunlearn_jax.kkt.points import residual as residual
from gaunlearn_jax.kkt.points import snap as snap
