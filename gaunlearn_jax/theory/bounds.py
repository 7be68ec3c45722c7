"""Right-hand sides of the theorems in three strengths, and the verdict of a comparison."""

from gaunlearn_jax.theory.bound import Bound as Bound
from gaunlearn_jax.theory.bound import bound_of as bound_of
from gaunlearn_jax.theory.bound import converged as converged
from gaunlearn_jax.theory.bound import first_failing as first_failing
from gaunlearn_jax.theory.bound import judge as judge
from gaunlearn_jax.theory.bound import mark_empty as mark_empty
from gaunlearn_jax.theory.instance_bounds import identity_gap as identity_gap
from gaunlearn_jax.theory.instance_bounds import instance as instance
from gaunlearn_jax.theory.instance_bounds import norm_floor as norm_floor
from gaunlearn_jax.theory.instance_bounds import outward as outward
from gaunlearn_jax.theory.lemma_m import multiplier_bounds as multiplier_bounds
from gaunlearn_jax.theory.scale_free import scale_free as scale_free
from gaunlearn_jax.theory.worst_case import APPROXIMATION_MAX as APPROXIMATION_MAX
from gaunlearn_jax.theory.worst_case import EPS_D_MAX as EPS_D_MAX
from gaunlearn_jax.theory.worst_case import PSI_MAX as PSI_MAX
from gaunlearn_jax.theory.worst_case import coarse_leaky as coarse_leaky
from gaunlearn_jax.theory.worst_case import coarse_linear as coarse_linear
from gaunlearn_jax.theory.worst_case import coarse_relu as coarse_relu
from gaunlearn_jax.theory.worst_case import is_standard as is_standard
from gaunlearn_jax.theory.worst_case import sharp_leaky as sharp_leaky
from gaunlearn_jax.theory.worst_case import sharp_linear as sharp_linear
from gaunlearn_jax.theory.worst_case import sharp_linear_projection as sharp_linear_projection
from gaunlearn_jax.theory.worst_case import sharp_relu as sharp_relu
from gaunlearn_jax.theory.worst_case import worst_case as worst_case
