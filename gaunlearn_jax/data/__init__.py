"""Points in exact reduced coordinates: drawn or given, and what they satisfy."""

from gaunlearn_jax.data.alphabets import discrete as discrete
from gaunlearn_jax.data.assumptions import assumptions as assumptions
from gaunlearn_jax.data.dataset import Dataset as Dataset
from gaunlearn_jax.data.dataset import check_labels as check_labels
from gaunlearn_jax.data.dataset import forget_mask as forget_mask
from gaunlearn_jax.data.dataset import from_classes as from_classes
from gaunlearn_jax.data.dataset import from_points as from_points
from gaunlearn_jax.data.dataset import marked as marked
from gaunlearn_jax.data.dataset import patches_of as patches_of
from gaunlearn_jax.data.distributions import MAX_DIM as MAX_DIM
from gaunlearn_jax.data.distributions import bartlett as bartlett
from gaunlearn_jax.data.distributions import gaussian as gaussian
from gaunlearn_jax.data.distributions import mixture as mixture
from gaunlearn_jax.data.ellipses import elliptical as elliptical
from gaunlearn_jax.data.grams import from_columns as from_columns
from gaunlearn_jax.data.grams import from_gram as from_gram
from gaunlearn_jax.data.registry import DISTRIBUTIONS as DISTRIBUTIONS
from gaunlearn_jax.data.registry import Distribution as Distribution
