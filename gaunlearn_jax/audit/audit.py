"""The audit of a user's own data and weights: how well chosen points are forgotten by one step of gradient ascent.

From points and labels to certificates, the retrained model, step sizes and hypotheses in one call. All of it is
measured on the host, so that a linear model needs no compiler at all; networks are trained and solved for by JAX.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from gaunlearn_jax.audit import effects, outcome, precision, prepare, subject, theorems
from gaunlearn_jax.audit.answer import Audit
from gaunlearn_jax.audit.class_answer import ClassAudit
from gaunlearn_jax.audit.classes import audit_classes
from gaunlearn_jax.audit.every_point import every_point as of_every_point
from gaunlearn_jax.audit.findings import Outcome
from gaunlearn_jax.audit.image_answer import ImageAudit
from gaunlearn_jax.audit.images import audit_images
from gaunlearn_jax.audit.saved import of_estimator
from gaunlearn_jax.audit.subject import Subject
from gaunlearn_jax.audit.worth import worth
from gaunlearn_jax.base import checks, numerics
from gaunlearn_jax.data import marked
from gaunlearn_jax.kkt import hard_margin, host
from gaunlearn_jax.kkt.host import HostPoint, HostProblem, Marks, Matrix
from gaunlearn_jax.training.losses import LOSSES
from gaunlearn_jax.unlearn.registry import STEPS

MODELS = ("linear", "relu", "convolution")
#: rows of the Gram matrix that are held at once
ROWS = 1024


def audit(
    points: Any,
    labels: Any,
    forget: Any,
    *,
    model: str = "linear",
    neurons: int = 40,
    weights: Any = None,
    output_weights: Any = None,
    slope: float = 0.0,
    center: Any = None,
    standardize: bool = False,
    normalize: bool = False,
    bias: bool = False,
    loss: str = "exponential",
    every_point: bool = False,
    seed: int = 0,
    step: str = "ascent",
    unlearned: Any = None,
    patch: int | None = None,
    stride: int | None = None,
) -> Audit | ClassAudit | ImageAudit:
    """How well one ascent step forgets the points `forget` (indices) of the user's data; print the answer.

    points [m, d]; labels [m] or [m, 1]: lists, arrays, data frames, series. Of two values the smaller (in sorted order)
    becomes -1; three and more are the classes of a softmax head, see `audit_classes`. Without `weights` the model is
    the exact KKT point that training ends in: the maximum-margin solution (linear), or that of the trained network's
    activations (relu). `weights` [n, d] (linear: [d] or [1, d]) with `output_weights` [n] (relu) are measured as they
    are, after division by their smallest margin; their part orthogonal to all points counts. `slope`, of a network's
    activation below zero, is 0 for ReLU and below 1 for leaky ReLU. A fitted estimator stands
    for its coefficients, with `bias` also its intercept. `center` [d], a mean made without these points, is subtracted;
    `standardize` divides by the points' own deviations after their own mean, which depends on the forgotten ones (the
    answer warns); `normalize` brings every point to unit norm, then `bias` appends the coordinate 1 (given weights
    refer to the result). `every_point` adds what forgetting each point alone would do. `loss` only enters the step size
    beta. `step` names another unlearning step (`unlearn.STEPS`), `unlearned` gives weights, of the shape of `weights`,
    that were unlearned elsewhere: the verdict is then on that outcome, by its angle to the retrained model beside that
    of doing nothing. Where multipliers can be moved between a forgotten point and others, the retrained model decides
    the verdict. Model "convolution" takes images and the side of a `patch`: see `audit_images`.

    ValueError for bad data or weights; hard_margin.NotSeparable, with a witness, where no linear model fits the data.
    Source: docs/theory, Certificates.
    """
    numerics.require_x64()
    if model == "convolution":
        other = center is not None or unlearned is not None or step != "ascent"
        if patch is None or other or standardize or normalize or bias or every_point:
            raise ValueError(
                "model convolution needs patch (pixels a side), and takes images as they are; its own step"
            )
        told = {"neurons": neurons, "weights": weights, "output_weights": output_weights, "seed": seed}
        return audit_images(points, labels, forget, patch=patch, stride=stride, **told)
    if patch is not None or stride is not None:
        raise ValueError(f"patch and stride are for model convolution, but model is {model!r}")
    points, warnings = prepare.moved(points, center, standardize)
    weights = of_estimator(weights, bias)
    x = prepare.points(points, normalize, bias)
    given = prepare.labels_of(labels, len(x))
    if len(np.unique(given)) > 2:
        if model != "linear" or output_weights is not None or slope != 0:
            raise ValueError(f"labels have {len(np.unique(given))} different values; the {model} model has two classes")
        if step != "ascent" or unlearned is not None:
            raise ValueError("three and more classes are audited for their own step alone; leave out step, unlearned")
        told = {"weights": weights, "normalize": normalize, "bias": bias, "every_point": every_point}
        answer = audit_classes(prepare.numbers("points", points, 2), given, prepare.indices(forget), **told)
        return dataclasses.replace(answer, warnings=warnings)
    y, classes = prepare.two_classes(given)
    if model not in MODELS:
        raise ValueError(f"model is {model!r}, expected one of {', '.join(MODELS)}")
    LOSSES[loss], STEPS[step]  # an unknown one raises
    if step != "ascent" and unlearned is not None:
        raise ValueError(f"step {step} and unlearned weights were both given; an audit judges one outcome")
    if checks.whole("seed", seed, 0, "a whole number from 0 to 4294967295") >= 2**32:
        raise ValueError(f"seed is {seed}, expected a whole number from 0 to 4294967295")
    wanted = prepare.indices(forget)
    mask = marked(len(x), wanted)
    if not np.any(mask):
        raise ValueError("forget is empty, expected the index of at least one point")
    try:
        under, basis = _subject(x, y, model, neurons, weights, output_weights, slope, seed, every_point)
    except hard_margin.NotSeparable as error:
        precision.not_separable(x, lambda scaled: hard_margin.solve(scaled, y), error)
    problem, point = under.problem, under.point
    ascent, retrained = effects.ascent(problem, point, mask), under.retrained(mask)
    norm, unique = host.norm(point.params, point.orthogonal_norm), effects.unique_multipliers(problem, point, mask)
    psi, phi = _assumptions(problem.points)
    eps_d, leaky = theorems.eps_d_of(under, phi), theorems.leaky_of(under, psi, phi)
    found = effects.certificates(problem, point, mask, ascent, retrained)
    return Audit(
        model=model,
        neurons=problem.num_neurons,
        num_points=len(x),
        dim=x.shape[1],
        rank=int(np.linalg.matrix_rank(problem.points)),
        classes=classes,
        forget=tuple(int(i) for i in wanted),
        given=weights is not None,
        exact=point is under.exact,
        unique=unique,
        spare=(weights is not None or not unique) and effects.spare(problem, point, mask, norm),
        norm=norm,
        orthogonal=point.orthogonal_norm,
        scale=point.scale,
        epsilon=point.epsilon,
        delta=point.delta,
        multipliers=point.multipliers,
        margins=problem.margins(point.preactivations),
        psi=psi,
        phi=phi,
        eps_d=eps_d,
        certificates=found,
        worth=worth(problem, point, mask, ascent, found, x),
        warnings=warnings,
        broken=effects.broken(problem, point, mask, ascent),
        step=effects.described(under, mask, ascent, loss),
        hypotheses=theorems.hypotheses(under, psi, eps_d, leaky),
        bounds=theorems.promises(under, mask, psi, phi),
        leaky=leaky,
        every_point=of_every_point(under) if every_point else None,
        outcome=_outcome(under, basis, mask, step, unlearned, x.shape[1], retrained),
    )


def _outcome(
    under: Subject, basis: Any, mask: Marks, step: str, unlearned: Any, dim: int, retrained: HostPoint | None
) -> Outcome | None:
    """What is judged in place of the ascent step, if anything is."""
    if unlearned is not None:
        return outcome.of_weights(under, basis, mask, unlearned, dim, retrained)
    return None if step == "ascent" else outcome.of_step(under, mask, STEPS[step], retrained)


def _subject(
    x: Matrix,
    y: np.ndarray,
    model: str,
    neurons: int,
    weights: Any,
    output_weights: Any,
    slope: float,
    seed: int,
    many: bool,
) -> tuple[Subject, Matrix | None]:
    """The model under audit, and the orthonormal rows that its coordinates refer to (None: the given ones)."""
    if weights is not None and model == "relu" and output_weights is None:
        raise ValueError("a relu network needs its second layer: give output_weights u [n] beside weights W [n, d]")
    u, slope = subject.second_layer(model, neurons, output_weights, slope)
    reduced, basis = subject.reduced(x)
    problem = HostProblem(reduced, y, u, slope)
    if weights is None:
        return subject.trained(problem, x.shape[1], seed, many), basis
    return subject.given(problem, basis, weights, dim=x.shape[1], many=many), basis


def _assumptions(x: Matrix) -> tuple[float, float]:
    """psi = max | ||x_i||^2 - 1 | and phi = max |<x_i, x_k>|, from some rows of the Gram matrix at a time."""
    psi = float(np.max(np.abs(np.sum(x**2, axis=1) - 1.0)))
    phi = 0.0
    for start in range(0, len(x), ROWS):
        k = np.abs(x[start : start + ROWS] @ x.T)
        at = np.arange(len(k))
        k[at, start + at] = 0.0
        phi = max(phi, float(np.max(k)))
    return psi, phi
