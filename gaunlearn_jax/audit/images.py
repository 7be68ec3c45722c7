"""The audit of a small convolution: how well one ascent step forgets chosen images.

N(W, x) = sum_p sum_j u_j max(0, <w_j, x_p>) over square patches x_p. Everything is measured: the multipliers of the
network as it is (trained here, or the user's filters), the projection certificate, and a network trained again from the
same start. Nothing exact is solved for: images have more patches than fit into a programme. Source: docs/theory,
Entries.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaunlearn_jax.audit import prepare
from gaunlearn_jax.audit.image_answer import ImageAudit
from gaunlearn_jax.base import checks, numerics, progress
from gaunlearn_jax.base.codes import Status
from gaunlearn_jax.data import Dataset, from_points, marked, patches_of
from gaunlearn_jax.kkt import KKTPoint, measured_point
from gaunlearn_jax.kkt.least_squares import nonnegative
from gaunlearn_jax.models import Convolution, FilterBank
from gaunlearn_jax.theory import entries
from gaunlearn_jax.training.train import Trained, train
from gaunlearn_jax.unlearn import ascent_direction

TRAINING_STEPS = 5000
#: patches in all that training takes: its steps are products with their Gram matrix
MOST_ROWS = 2000


def audit_images(
    images: Any,
    labels: Any,
    forget: Any,
    *,
    patch: int,
    stride: int | None = None,
    neurons: int = 40,
    weights: Any = None,
    output_weights: Any = None,
    seed: int = 0,
) -> ImageAudit:
    """How well one ascent step forgets the images `forget` (indices), for a bank of filters; print the answer.

    images [m, h, w], or [m, s * s] for square ones; labels [m] of two values, the smaller one becomes -1. Patches are
    `patch` by `patch`, every `stride` places (default: disjoint). Without `weights` (filters [n, patch^2], with their
    head `output_weights` [n]) `neurons` filters are trained. ValueError for bad input, filters that misclassify an
    image, or more than 2000 patches to train on.
    """
    numerics.require_x64()
    x = _images(images)
    y, classes = prepare.two_classes(prepare.labels_of(labels, len(x)))
    gone = marked(len(x), prepare.indices(forget))
    if not np.any(gone):
        raise ValueError("forget is empty, expected the index of at least one image")
    if weights is not None and output_weights is None:
        raise ValueError("filters need their head: give output_weights u [n] beside weights W [n, patch^2]")
    cut = patches_of(x, patch, stride)
    count = cut.shape[1] // checks.whole("patch", patch, 1, "a whole number of at least 1") ** 2
    data = from_points(cut, y, patches=count)
    net = Convolution(neurons if output_weights is None else None, count, output_weights)
    if weights is None:
        run = _trained(net, data, seed, None)
        point = _measured(net, data, np.asarray(run.params), float(run.orthogonal_norm))
    else:
        params, outside = data.reduce(weights)
        if len(params) != net.num_neurons:
            raise ValueError(f"weights have {len(params)} filters, expected {net.num_neurons}: one an output weight")
        point = _measured(net, data, np.asarray(params), float(outside))
    again = None if weights is not None else _trained(net, data, seed, ~gone)
    return _answer(net, data, point, gone, again, classes, weights is not None)


def _images(given: Any) -> np.ndarray:
    x = checks.real_array("images", given)
    if x.ndim == 2 and math.isqrt(x.shape[1]) ** 2 == x.shape[1]:
        x = x.reshape(len(x), math.isqrt(x.shape[1]), -1)
    if x.ndim != 3:
        raise ValueError(f"images has shape {x.shape}, expected [m, h, w], or [m, s * s] for square images")
    return x


def _trained(net: FilterBank, data: Dataset, seed: int, retained: Any) -> Trained:
    rows = data.num_points * net.patches
    if rows > MOST_ROWS:
        raise ValueError(f"{rows} patches are more than {MOST_ROWS}: train elsewhere and give weights, or fewer images")
    progress.say(f"training {net.num_neurons} filters on {rows} patches, {TRAINING_STEPS} steps")
    mask = None if retained is None else jnp.asarray(retained)
    run = train(jax.random.key(seed), net, data, num_steps=TRAINING_STEPS, checkpoints=1, retained=mask)
    if int(run.status) != Status.OK:
        raise ValueError(f"{Status(int(run.status)).text}: try more filters, larger patches, or give weights")
    return run


def _measured(net: FilterBank, data: Dataset, params: np.ndarray, orthogonal: float) -> KKTPoint:
    """theta over its smallest margin, with the multipliers of least epsilon for its own activations (0 at a kink)."""
    problem = net.problem(data)
    margins = np.asarray(problem.margins(problem.preactivations(jnp.asarray(params))))
    if np.min(margins) <= 0:
        raise ValueError(
            f"the filters misclassify {int(np.sum(margins <= 0))} of {len(margins)} images: every margin must be "
            "positive to rescale to margin 1; train on, or drop those images"
        )
    scale = float(np.min(margins)) / numerics.outward()
    w = jnp.asarray(params / scale)
    z = problem.preactivations(w)
    s = problem.slopes(z)
    made = np.asarray(problem.amplitudes * s).reshape(net.num_neurons, data.num_points, net.patches)
    rows = np.asarray(problem.rows).reshape(data.num_points, net.patches, -1)
    columns = np.einsum("jip,ipq->jqi", made, rows).reshape(-1, data.num_points)
    lam, solved = nonnegative(columns, np.asarray(w).ravel())
    everyone = jnp.ones(data.num_points, bool)
    status = Status.OK if solved else Status.UNCONVERGED
    return measured_point(
        problem, w, z, jnp.asarray(lam), s, everyone,
        orthogonal_norm=orthogonal / scale, scale=scale, status=int(status),
    )  # fmt: skip


def _answer(
    net: FilterBank, data: Dataset, point: KKTPoint, gone: np.ndarray, again: Trained | None, classes: Any, given: bool
) -> ImageAudit:
    problem, forget = net.problem(data), jnp.asarray(gone)
    spaces = entries.column_spaces(problem)
    h, _ = ascent_direction(problem, point, forget)
    kept = np.asarray(problem.rows)[np.repeat(~gone, net.patches)]
    _, size, basis = np.linalg.svd(kept, full_matrices=False)
    basis = basis[size > numerics.DEPENDENT * size[0]]
    step, w, outside = np.asarray(h), np.asarray(point.params), float(point.orthogonal_norm)
    inside = step @ basis.T @ basis
    lam = jnp.where(forget, 0.0, point.multipliers)
    rest = w - np.asarray(problem.coefficients(lam, point.selection)) @ np.asarray(problem.rows)  # e + h
    margins = np.asarray(problem.margins(problem.preactivations(jnp.asarray(w - step))))
    gaps = [math.nan, math.nan]
    if again is not None:
        goal = np.append(np.asarray(again.params).ravel(), float(again.orthogonal_norm))
        ours = (np.append((w - step).ravel(), outside), np.append(w.ravel(), outside))
        gaps = [float(numerics.cosine_gap(jnp.asarray(v), jnp.asarray(goal))) for v in ours]
    mu, m = float(spaces.cosine()), data.num_points
    return ImageAudit(
        num_points=m,
        patches=net.patches,
        filters=net.num_neurons,
        pixels=int(np.shape(data.basis)[1]) if data.basis is not None else 0,
        rank=len(basis),
        classes=classes,
        forget=tuple(int(i) for i in np.flatnonzero(gone)),
        given=given,
        solved=int(point.status) == Status.OK,
        norm=float(np.hypot(np.linalg.norm(w), outside)),
        scale=float(point.scale),
        epsilon=float(point.epsilon),
        delta=float(point.delta),
        slack=float(jnp.sum(point.multipliers * jnp.maximum(problem.margins(point.preactivations) - 1, 0.0))),
        multipliers=np.asarray(point.multipliers),
        size=float(np.linalg.norm(step)),
        rho=float(np.linalg.norm(inside)),
        certificate=float(np.hypot(np.linalg.norm(rest - (step - inside)), outside)),
        certificate_nothing=float(np.hypot(np.linalg.norm(rest), outside)),
        broken=int(np.sum(margins[~gone] <= 0)),
        gap=gaps[0],
        gap_nothing=gaps[1],
        dependent=int(np.sum(~np.asarray(spaces.independent))),
        mu=mu,
    )
