"""The unlearning steps."""

from gaunlearn_jax.unlearn.active_set import active_set_step as active_set_step
from gaunlearn_jax.unlearn.active_set import retraining as retraining
from gaunlearn_jax.unlearn.estimators import estimated_ascent as estimated_ascent
from gaunlearn_jax.unlearn.filtered import influence_step as influence_step
from gaunlearn_jax.unlearn.filtered import newton_removal as newton_removal
from gaunlearn_jax.unlearn.filtered import repaired_ascent as repaired_ascent
from gaunlearn_jax.unlearn.gradient_steps import fine_tuning as fine_tuning
from gaunlearn_jax.unlearn.gradient_steps import neggrad_plus as neggrad_plus
from gaunlearn_jax.unlearn.projected import neuronwise_ascent as neuronwise_ascent
from gaunlearn_jax.unlearn.projected import orthogonal_ascent as orthogonal_ascent
from gaunlearn_jax.unlearn.projected import projected_ascent as projected_ascent
from gaunlearn_jax.unlearn.registry import STEPS as STEPS
from gaunlearn_jax.unlearn.registry import Step as Step
from gaunlearn_jax.unlearn.step import Unlearned as Unlearned
from gaunlearn_jax.unlearn.step import ascent_direction as ascent_direction
from gaunlearn_jax.unlearn.step import check_forget as check_forget
from gaunlearn_jax.unlearn.step import from_params as from_params
from gaunlearn_jax.unlearn.step import gradient_ascent as gradient_ascent
from gaunlearn_jax.unlearn.step import step_status as step_status
