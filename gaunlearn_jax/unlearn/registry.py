"""The unlearning steps by name."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

from gaunlearn_jax.base.arrays import Mask
from gaunlearn_jax.base.registry import Parameter, Registry
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.models.problem import MarginProblem
from gaunlearn_jax.unlearn.active_set import active_set_step, retraining
from gaunlearn_jax.unlearn.estimators import estimated_ascent
from gaunlearn_jax.unlearn.filtered import influence_step, newton_removal, repaired_ascent
from gaunlearn_jax.unlearn.gradient_steps import fine_tuning, neggrad_plus
from gaunlearn_jax.unlearn.projected import neuronwise_ascent, orthogonal_ascent, projected_ascent
from gaunlearn_jax.unlearn.step import Unlearned, gradient_ascent


@dataclasses.dataclass(frozen=True)
class Step:
    """make(net, data, point, forget, **parameters) returns an `Unlearned`: what becomes of the point without the forget
    set. Parameters may be traced.

    `needs` is what the step has to know, `cost` its price in passes over the data, `linear_only` whether it speaks of
    models without kinks alone, `one_entry` whether of one entry and one constraint a point alone, `solves` whether it
    solves the retained problem (unless `make` is handed a solved one).
    """

    name: str
    statement: str
    make: Callable[..., Unlearned]
    parameters: tuple[Parameter, ...] = ()
    needs: str = ""
    cost: str = ""
    linear_only: bool = False
    one_entry: bool = False
    solves: bool = False

    def speaks_of(self, problem: MarginProblem) -> bool:
        """Whether the step is one for this margin problem."""
        return not (self.linear_only and problem.kinked) and not (self.one_entry and problem.layout is not None)


def _nothing(net: object, data: object, point: KKTPoint, forget: Mask) -> Unlearned:
    return gradient_ascent(net, data, point, forget, 0.0)  # type: ignore[arg-type]


STEPS: Registry[Step] = Registry("step")
_SCALE = Parameter("scale", 1.0, 0.0, 1e6, "fraction of the theorem's step")
_NEAREST = Parameter("nearest", 3.0, 0.0, 1e6, "retained points beside the mean")
_PASSES = Parameter("passes", 5.0, 0.0, 16.0, "steps of conjugate gradients")
_WEIGHT = Parameter("weight", 1.0, 0.0, 1e6, "of the descent part")
_TIME = Parameter("time", 100.0, 0.0, 200.0, "of the flow, in units of 1/(G^2 L) at its start")
_START = Parameter("start", 1e-3, 0.0, 0.5, "loss that it starts from", open_low=True)
_SIZE = Parameter("size", 100.0, 0.0, 1e6, "smallest margin of the model in use", open_low=True)
for _row in (
    Step("ascent", "one gradient-ascent step, theta - scale sum_R lambda_r y_r g_r", gradient_ascent, (_SCALE,),
         needs="multipliers", cost="none"),
    Step("nothing", "the model as it is", _nothing, cost="none"),
    Step("estimated", "ascent with multipliers read off the forgotten points alone", estimated_ascent,
         needs="the forgotten points", cost="none", one_entry=True),
    Step("mean", "ascent, the retained mean projected out of the step",
         functools.partial(projected_ascent, subspace="mean"), needs="multipliers, the mean", cost="one, in advance"),
    Step("nearest", "ascent, the retained mean and the nearest retained points projected out",
         functools.partial(projected_ascent, subspace="nearest"), (_NEAREST,),
         needs="multipliers, the mean, neighbours", cost="one"),
    Step("active", "ascent, the retained points with multipliers projected out",
         functools.partial(projected_ascent, subspace="active"),
         needs="multipliers, their points", cost="one, a solve"),
    Step("projection", "ascent, all retained points projected out",
         functools.partial(projected_ascent, subspace="all"),
         needs="multipliers, retained points", cost="one, a solve"),
    Step("neuronwise", "ascent, in each neuron the retained points that it sees projected out", neuronwise_ascent,
         needs="multipliers, retained points", cost="one, a solve per neuron"),
    Step("orthogonal", "ascent, the retained gradients of automatic differentiation projected out", orthogonal_ascent,
         needs="multipliers, retained points", cost="one, a solve"),
    Step("repaired", "ascent, then conjugate gradients on the retained pre-activations", repaired_ascent, (_PASSES,),
         needs="multipliers, retained points", cost="as many as its parameter says"),
    Step("active_set", "least theta with margin 1 on the retained support, verified; else retraining",
         active_set_step, needs="multipliers, retained points", cost="one, a solve; a check", solves=True),
    Step("neggrad_plus", "ascent and one descent step on the retained mean loss", neggrad_plus, (_WEIGHT,),
         needs="multipliers, retained points", cost="one"),
    Step("fine_tuning", "gradient descent on the retained points alone", fine_tuning, (_TIME, _START),
         needs="retained points", cost="200"),
    Step("newton", "Newton's removal step with the retained Hessian", newton_removal, (_SIZE,),
         needs="multipliers, retained points", cost="one, a solve", linear_only=True),
    Step("influence", "the influence-function step, with the full Hessian", influence_step, (_SIZE,),
         needs="multipliers, all points", cost="one, a solve", linear_only=True),
    Step("retraining", "an exact solution of the retained problem", retraining,
         needs="retained points", cost="training", solves=True),
):  # fmt: skip
    STEPS.register(_row)
