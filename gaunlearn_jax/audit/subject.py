"""The model under audit as a measured point, and the exact points that it is compared with.

The linear model is solved by active sets on the host alone. A network is trained, and solved for, by two compiled
programmes; they are made at the same time.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaunlearn_jax import models
from gaunlearn_jax.audit import precision, prepare
from gaunlearn_jax.base import checks, numerics, progress
from gaunlearn_jax.base.codes import Status
from gaunlearn_jax.base.compiling import cpu_options
from gaunlearn_jax.data import Dataset
from gaunlearn_jax.kkt import hard_margin, host, working_set
from gaunlearn_jax.kkt.host import HostPoint, HostProblem, Marks, Matrix, Vector
from gaunlearn_jax.training import train

TRAINING_STEPS = 5000


@dataclasses.dataclass(frozen=True)
class Subject:
    """The model under audit, measured, and the exact point (None where it is out of reach); `solution` is how a linear
    one was solved, `many` whether more than two exact points will be asked for."""

    problem: HostProblem
    point: HostPoint
    exact: HostPoint | None
    solution: hard_margin.Solution | None
    many: bool

    @property
    def linear(self) -> bool:
        """Whether sigma has no kink."""
        return self.problem.slope == 1

    def retrained(self, forget: Marks) -> HostPoint | None:
        """The exact point without the marked points, from the exact one; None where it is out of reach."""
        problem = self.problem
        if self.solution is not None:
            found = hard_margin.solve(problem.points, problem.labels, ~forget, self.solution.active)
            return host.from_weights(problem, found.weights, found.multipliers)
        if self.exact is None:
            return None
        margins = problem.margins(self.exact.preactivations)
        best = working_set.limit_point(problem, self.exact.selection, ~forget, margins, many=self.many)
        return best if best.solved else None


def reduced(x: Matrix) -> tuple[Matrix, Matrix | None]:
    """The points in min(m, d) coordinates, and the orthonormal rows that these refer to (None: the given ones)."""
    if len(x) >= x.shape[1]:
        return x, None
    q, r = np.linalg.qr(x.T)
    return np.ascontiguousarray(r.T), q.T


def second_layer(model: str, neurons: Any, output_weights: Any, slope: float = 0.0) -> tuple[Vector, float]:
    """u [n] and the slope of sigma below zero."""
    below_one = float(np.nextafter(1.0, 0.0))
    checks.number("slope", slope, "a number from 0 (ReLU) to below 1 (leaky ReLU)", 0.0, below_one)
    if model == "linear":
        if output_weights is not None:
            raise ValueError("output_weights were given for the linear model, which has none; use model relu")
        if slope != 0:
            raise ValueError(f"slope is {slope} and the model linear, which has no activation; use model relu")
        return np.ones(1), 1.0
    if output_weights is None:
        n = checks.whole("neurons", neurons, 2, "an integer of at least 2 (one neuron of each sign)")
        return np.where(np.arange(n) % 2 == 0, 1.0, -1.0) / np.sqrt(float(n)), float(slope)
    u = prepare.numbers("output_weights", output_weights, 1)
    return np.asarray(models.TwoLayerLeakyReLU(None, u, negative_slope=slope).output_weights), float(slope)


def trained(problem: HostProblem, dim: int, seed: int, many: bool) -> Subject:
    """The exact KKT point that training ends in; on networks with too many points near the margin, training's end."""
    if problem.slope == 1:
        solution, point = _exact_linear(problem)
        return Subject(problem, point, point, solution, many)
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        prepared = beside.submit(working_set.prepare, problem, many=many)
        params, z, orthogonal = _train(problem, dim, seed)
        prepared.result()
    everyone = np.ones(problem.num_points, bool)
    point = working_set.limit_point(problem, problem.slopes(z), everyone, problem.margins(z), many=many)
    if point.solved:
        return Subject(problem, point, point, None, many)
    return Subject(problem, measured(problem, params, orthogonal), None, None, many)


def given(problem: HostProblem, basis: Matrix | None, weights: Any, *, dim: int, many: bool) -> Subject:
    """The user's weights, measured; the exact point has their activations."""
    w = prepare.numbers("weights", weights)
    w = w[None] if w.ndim == 1 and problem.slope == 1 else w
    expected = (problem.num_neurons, dim)
    if w.shape != expected:
        raise ValueError(f"weights has shape {np.shape(weights)}, expected {expected}: neurons, coordinates")
    power = precision.exponent(w)
    w = np.ldexp(w, -power)  # exact, and no product of weights of any size overflows
    params = w if basis is None else w @ basis.T
    orthogonal = 0.0 if basis is None else host.norm(w - params @ basis)
    point = measured(problem, params, orthogonal)
    point = point._replace(scale=float(np.ldexp(point.scale, power)))
    if not np.isfinite(point.scale) or point.scale < np.finfo(np.float64).tiny:
        raise ValueError(f"weights have entries of size {np.max(np.abs(weights)):.1e}: margins leave float64; rescale")
    if problem.slope == 1:
        solution, exact = _exact_linear(problem)
        return Subject(problem, point, exact, solution, many)
    everyone = np.ones(problem.num_points, bool)
    margins = problem.margins(point.preactivations)
    limit = working_set.limit_point(problem, point.selection, everyone, margins, many=many)
    return Subject(problem, point, limit if limit.solved else None, None, many)


def measured(problem: HostProblem, params: Matrix, orthogonal: float) -> HostPoint:
    """theta over its smallest margin, with the multipliers of least epsilon."""
    z = problem.preactivations(params)
    margins = problem.margins(z)
    if np.min(margins) <= 0:
        worst = int(np.argmin(margins))
        raise ValueError(
            f"the weights misclassify {int(np.sum(margins <= 0))} of {len(margins)} points (point {worst} has margin "
            f"{margins[worst]:.3g}): every margin must be positive to rescale to margin 1; train on, swap the classes "
            "if the sign is reversed, or drop those points"
        )
    scale = float(np.min(margins)) / numerics.OUTWARD
    everyone = np.ones(problem.num_points, bool)
    point = host.fit_multipliers(
        problem, params / scale, z / scale, orthogonal_norm=orthogonal / scale, scale=scale, retained=everyone
    )
    if not point.solved:
        raise ValueError(
            f"the multipliers of the weights are {Status.UNCONVERGED.text}: no least-squares answer met its KKT "
            "conditions, as where points depend on each other at rounding level; drop near-duplicates"
        )
    return point


def _exact_linear(problem: HostProblem) -> tuple[hard_margin.Solution, HostPoint]:
    """From all points where they can be independent, which is the answer on nearly orthogonal data."""
    x, y = problem.points, problem.labels
    solution = hard_margin.solve(x, y, start=range(len(x)) if len(x) <= x.shape[1] else ())
    point = host.from_weights(problem, solution.weights, solution.multipliers)
    smallest = float(np.min(problem.margins(point.preactivations)))
    precision.require_exact(x, point.epsilon / host.norm(point.params), 1.0 - smallest)
    return solution, point


def _train(problem: HostProblem, dim: int, seed: int) -> tuple[Matrix, Matrix, float]:
    """Params, pre-activations and the norm outside the span of the points after training."""
    dataset = Dataset(
        points=jnp.asarray(problem.points),
        labels=jnp.asarray(problem.labels),
        dim=jnp.asarray(np.float64(dim)),
        mean_norm=jnp.asarray(np.float64(0.0)),
        status=jnp.asarray(np.int64(Status.OK)),
    )
    net = models.TwoLayerLeakyReLU(None, problem.output_weights, negative_slope=problem.slope)
    progress.say(f"training {problem.num_neurons} neurons on {problem.num_points} points, {TRAINING_STEPS} steps")
    run = _compiled_training()(jax.random.key(seed), net, dataset)
    if int(run.status) != Status.OK:
        status, wrong = Status(int(run.status)), int(np.sum(np.asarray(run.margins) <= 0))
        raise ValueError(
            f"{status.text} ({wrong} of {problem.num_points} are not): try more neurons, features in which the "
            "classes can be separated, or give weights that you trained yourself"
        )
    return np.asarray(run.params), np.asarray(run.preactivations), float(run.orthogonal_norm)


@functools.lru_cache
def _compiled_training() -> Any:
    """Without fusion emitters the compiler needs 2.3 CPU seconds instead of 3.8, and training takes as long."""
    long = functools.partial(train.train, num_steps=TRAINING_STEPS, checkpoints=1)
    return jax.jit(long, compiler_options=cpu_options(xla_cpu_use_fusion_emitters=False))
