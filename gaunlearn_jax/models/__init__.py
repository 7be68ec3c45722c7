"""Networks: what is fixed about a model, and the margin problem that every kernel speaks to."""

from gaunlearn_jax.models.classes import ClassNetwork as ClassNetwork
from gaunlearn_jax.models.classes import LinearClasses as LinearClasses
from gaunlearn_jax.models.classes import ReLUClasses as ReLUClasses
from gaunlearn_jax.models.classes import spread_labels as spread_labels
from gaunlearn_jax.models.convolution import Convolution as Convolution
from gaunlearn_jax.models.convolution import FilterBank as FilterBank
from gaunlearn_jax.models.network import Linear as Linear
from gaunlearn_jax.models.network import Network as Network
from gaunlearn_jax.models.network import TwoLayerLeakyReLU as TwoLayerLeakyReLU
from gaunlearn_jax.models.network import TwoLayerReLU as TwoLayerReLU
from gaunlearn_jax.models.network import activation_slopes as activation_slopes
from gaunlearn_jax.models.network import coefficients as coefficients
from gaunlearn_jax.models.network import margins as margins
from gaunlearn_jax.models.network import preactivations as preactivations
from gaunlearn_jax.models.network import same_sign as same_sign
from gaunlearn_jax.models.problem import Layout as Layout
from gaunlearn_jax.models.problem import MarginProblem as MarginProblem
from gaunlearn_jax.models.problem import check_shapes as check_shapes
from gaunlearn_jax.models.registry import ARCHITECTURES as ARCHITECTURES
from gaunlearn_jax.models.registry import Architecture as Architecture
