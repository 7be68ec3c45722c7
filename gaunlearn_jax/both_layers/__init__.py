"""Two-layer ReLU networks whose two layers are both trained: exact KKT points, steps, certificates, lower bounds."""

from gaunlearn_jax.both_layers import bounds as bounds
from gaunlearn_jax.both_layers import certificates as certificates
from gaunlearn_jax.both_layers import orthogonal as orthogonal
from gaunlearn_jax.both_layers.certificates import dead_mass as dead_mass
from gaunlearn_jax.both_layers.certificates import gap as gap
from gaunlearn_jax.both_layers.point import Point as Point
from gaunlearn_jax.both_layers.point import Weights as Weights
from gaunlearn_jax.both_layers.solver import limit_point as limit_point
from gaunlearn_jax.both_layers.solver import solve_pattern as solve_pattern
from gaunlearn_jax.both_layers.steps import STEPS as STEPS
from gaunlearn_jax.both_layers.steps import Step as Step
from gaunlearn_jax.both_layers.steps import ascent as ascent
from gaunlearn_jax.both_layers.steps import unlearned as unlearned
from gaunlearn_jax.both_layers.training import train as train
