"""Networks given as a JAX function: any function of one trained matrix, and positively homogeneous networks."""

from gaunlearn_jax.functions.closed_forms import best_fraction as best_fraction
from gaunlearn_jax.functions.closed_forms import gap_left as gap_left
from gaunlearn_jax.functions.first_layer import first_layer as first_layer
from gaunlearn_jax.functions.homogeneous import homogeneous as homogeneous
