"""The audit of a user's own data and weights: how well chosen points are forgotten by one step of gradient ascent.

From points and labels to certificates, the retrained model, step sizes and hypotheses in one call. The linear model is
solved by active sets (`hard_margin`), networks on working sets (`working_set`), so thousands of points are fine.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaunlearn_jax import (
    bounds,
    certificates,
    checks,
    data,
    estimators,
    hard_margin,
    kkt,
    models,
    numerics,
    train,
    unlearn,
    working_set,
)
from gaunlearn_jax._types import Reason, Status
from gaunlearn_jax.answer import Audit, Bounded, Certified, EveryPoint, Hypothesis, Row, Step

MODELS = ("linear", "relu")
TRAINING_STEPS = 5000
STEP_ERRORS = (0.01, 0.1, 0.5)


@dataclasses.dataclass(frozen=True)
class _Subject:
    """The data, the model under audit as a measured point, and the exact point (None where it is out of reach)."""

    net: models.Network
    data: data.Dataset
    point: kkt.KKTPoint
    exact: kkt.KKTPoint | None
    solution: hard_margin.Solution | None


def audit(
    points: Any,
    labels: Any,
    forget: Any,
    *,
    model: str = "linear",
    neurons: int = 40,
    weights: Any = None,
    output_weights: Any = None,
    normalize: bool = False,
    bias: bool = False,
    loss: str = "exponential",
    every_point: bool = False,
    seed: int = 0,
) -> Audit:
    """How well one ascent step forgets the points `forget` (indices) of the user's data; print the answer.

    points [m, d]; labels [m] with exactly two values, the smaller (in sorted order) becomes -1. Without `weights` the
    model is the exact KKT point that training ends in: the maximum-margin solution (linear), or that of the trained
    network's activations (relu). `weights` [n, d] (linear: [d] or [1, d]) with `output_weights` [n] (relu) are measured
    as they are, after division by their smallest margin; their part orthogonal to all points counts. `normalize` brings
    every point to unit norm, then `bias` appends the coordinate 1 (given weights refer to the result). `every_point`
    adds what forgetting each point alone would do. `loss` only enters the step size beta.

    ValueError for bad data or weights; hard_margin.NotSeparable, with a witness, where no linear model fits the data.
    Source: docs/theory, Certificates.
    """
    numerics.require_x64()
    x, y, classes = _prepared(points, labels, normalize, bias)
    if model not in MODELS:
        raise ValueError(f"model is {model!r}, expected one of {', '.join(MODELS)}")
    if loss not in train.LOSSES:
        raise ValueError(f"loss is {loss!r}, expected one of {', '.join(train.LOSSES)}")
    dataset = data.from_points(x, y)
    mask = data.forget_mask(dataset, list(forget))
    if not bool(jnp.any(mask)):
        raise ValueError("forget is empty, expected the index of at least one point")
    if weights is None:
        subject = _trained(model, dataset, neurons, output_weights, seed)
    else:
        subject = _given(model, dataset, weights, output_weights)
    retrained = _retrained(subject, np.asarray(mask))
    psi, phi, eps_d = (float(v) for v in data.assumptions(dataset, subject.net))
    point = subject.point
    return Audit(
        model=model,
        neurons=subject.net.num_neurons,
        num_points=dataset.num_points,
        dim=x.shape[1],
        rank=int(np.linalg.matrix_rank(np.asarray(dataset.points))),
        classes=classes,
        forget=tuple(int(i) for i in forget),
        given=weights is not None,
        exact=point is subject.exact,
        norm=float(numerics.norm(point.params, point.orthogonal_norm)),
        orthogonal=float(point.orthogonal_norm),
        scale=float(point.scale),
        epsilon=float(point.epsilon),
        delta=float(point.delta),
        multipliers=np.asarray(point.multipliers),
        margins=np.asarray(models.margins(subject.net, dataset.labels, point.preactivations)),
        psi=psi,
        phi=phi,
        eps_d=eps_d,
        certificates=_certificates(subject, mask, retrained),
        broken=_broken(subject, mask),
        step=_step(subject, mask, loss),
        hypotheses=_hypotheses(subject, psi, eps_d),
        bounds=_bounds(subject, mask, psi, phi),
        every_point=_every_point(subject) if every_point else None,
    )


def _prepared(points: Any, labels: Any, normalize: bool, bias: bool) -> tuple[np.ndarray, np.ndarray, tuple[Any, Any]]:
    """Points [m, d], labels +-1, and the two values that became -1 and +1."""
    x = checks.real_array("points", points, 2)
    given = np.asarray(labels)
    if given.shape != (len(x),):
        raise ValueError(f"labels has shape {given.shape}, expected ({len(x)},): one label per point")
    if given.dtype.kind == "f" and not np.all(np.isfinite(given)):
        at = int(np.argmax(~np.isfinite(given)))
        raise ValueError(f"labels[{at}] is {given[at]}, expected one of two classes; clean the data first")
    values = np.unique(given)
    if len(values) != 2:
        shown = ", ".join(str(v) for v in values[:5]) + (", ..." if len(values) > 5 else "")
        raise ValueError(f"labels have {len(values)} different values ({shown}), expected exactly two classes")
    if normalize:
        size = np.linalg.norm(x, axis=1)
        if np.any(size == 0):
            raise ValueError(f"points[{int(np.argmin(size))}] is the zero vector, which has no direction; drop it")
        x = x / size[:, None]
    if bias:
        x = np.column_stack([x, np.ones(len(x))])
    return x, np.where(given == values[1], 1.0, -1.0), (values[0].item(), values[1].item())


def _network(model: str, neurons: int, output_weights: Any) -> models.Network:
    if model == "linear":
        if output_weights is not None:
            raise ValueError("output_weights were given for the linear model, which has none; use model relu")
        return models.Linear()
    return models.TwoLayerReLU(neurons if output_weights is None else None, output_weights)


def _trained(model: str, dataset: data.Dataset, neurons: int, output_weights: Any, seed: int) -> _Subject:
    """The exact KKT point that training ends in; on networks with too many points near the margin, training's end."""
    net = _network(model, neurons, output_weights)
    if model == "linear":
        solution = _solved(dataset)
        point = working_set.from_weights(net, dataset, solution.weights, solution.multipliers)
        return _Subject(net, dataset, point, point, solution)
    run = train.train(jax.random.key(seed), net, dataset, num_steps=TRAINING_STEPS, checkpoints=1)
    if int(run.status) != Status.OK:
        status = Status(int(run.status))
        wrong = int(np.sum(np.asarray(run.margins) <= 0))
        raise ValueError(
            f"{status.text} ({wrong} of {dataset.num_points} are not): try more neurons, features in which the "
            "classes can be separated, or give weights that you trained yourself"
        )
    slopes = models.activation_slopes(net, run.preactivations)
    everyone = np.ones(dataset.num_points, bool)
    point = working_set.limit_point(net, dataset, slopes, everyone, run.margins)
    if int(point.status) == Status.OK:
        return _Subject(net, dataset, point, point, None)
    return _Subject(net, dataset, _measured(net, dataset, run.params, float(run.orthogonal_norm)), None, None)


def _given(model: str, dataset: data.Dataset, weights: Any, output_weights: Any) -> _Subject:
    """The user's weights, measured; the exact point has their activations."""
    if model == "relu" and output_weights is None:
        raise ValueError("a relu network needs its second layer: give output_weights u [n] beside weights W [n, d]")
    net = _network(model, 0, output_weights)
    w = checks.real_array("weights", weights)
    w = w[None] if w.ndim == 1 and model == "linear" else w
    expected = (net.num_neurons, int(dataset.dim))
    if w.shape != expected:
        raise ValueError(f"weights has shape {np.shape(weights)}, expected {expected}: neurons, coordinates")
    params, rest = dataset.reduce(w)
    point = _measured(net, dataset, params, float(rest))
    if model == "linear":
        solution = _solved(dataset)
        exact = working_set.from_weights(net, dataset, solution.weights, solution.multipliers)
        return _Subject(net, dataset, point, exact, solution)
    margins = models.margins(net, dataset.labels, point.preactivations)
    everyone = np.ones(dataset.num_points, bool)
    limit = working_set.limit_point(net, dataset, point.selection, everyone, margins)
    return _Subject(net, dataset, point, limit if int(limit.status) == Status.OK else None, None)


def _solved(dataset: data.Dataset) -> hard_margin.Solution:
    """From all points where they can be independent, which is the answer on nearly orthogonal data."""
    m, p = dataset.points.shape
    return hard_margin.solve(dataset.points, dataset.labels, start=range(m) if m <= p else ())


def _measured(net: models.Network, dataset: data.Dataset, params: Any, orthogonal: float) -> kkt.KKTPoint:
    """theta over its smallest margin, with the multipliers of least epsilon."""
    z = models.preactivations(dataset.points, params)
    margins = np.asarray(models.margins(net, dataset.labels, z))
    if np.min(margins) <= 0:
        worst = int(np.argmin(margins))
        raise ValueError(
            f"the weights misclassify {int(np.sum(margins <= 0))} of {len(margins)} points (point {worst} has margin "
            f"{margins[worst]:.3g}): every margin must be positive to rescale to margin 1; train on, swap the classes "
            "if the sign is reversed, or drop those points"
        )
    scale = float(np.min(margins)) / numerics.OUTWARD
    everyone = jnp.ones(dataset.num_points, bool)
    fit = working_set.fit_multipliers(
        net, dataset, params / scale, z / scale, orthogonal_norm=orthogonal / scale, retained=everyone
    )
    return dataclasses.replace(fit, scale=jnp.asarray(scale))


def _retrained(subject: _Subject, forget: np.ndarray) -> kkt.KKTPoint | None:
    """The exact point without the forgotten points, from the model under audit; None where it is out of reach."""
    net, dataset = subject.net, subject.data
    if subject.solution is not None:
        found = hard_margin.solve(dataset.points, dataset.labels, ~forget, subject.solution.active)
        return working_set.from_weights(net, dataset, found.weights, found.multipliers)
    if subject.exact is None:
        return None
    margins = models.margins(net, dataset.labels, subject.exact.preactivations)
    best = working_set.limit_point(net, dataset, subject.exact.selection, ~forget, margins)
    return best if int(best.status) == Status.OK else None


def _certificates(subject: _Subject, forget: Any, retrained: kkt.KKTPoint | None) -> dict[str, Row]:
    """Every certificate after the step and after doing nothing (a step of length 0)."""
    args, rows = (subject.net, subject.data, subject.point, forget), {}
    for name, make in certificates.ALL.items():
        options: dict[str, Any] = {}
        if name == "retrain":
            if retrained is None:
                continue
            options["retrained"] = retrained
        if name == "scaling":
            options["fit_multipliers"] = working_set.fit_multipliers
        rows[name] = Row(*(_certified(make(*args, scale, **options)) for scale in (1.0, 0.0)))
    return rows


def _certified(c: certificates.Certificate) -> Certified:
    feasible = int(c.status) != Status.INFEASIBLE
    values = (c.epsilon, c.delta, c.tau, c.norm)
    return Certified(*(float(v) if feasible else float("nan") for v in values))


def _broken(subject: _Subject, forget: Any) -> int:
    """How many retained points the model misclassifies after the step."""
    after = unlearn.gradient_ascent(subject.net, subject.data, subject.point, forget)
    q = models.margins(subject.net, subject.data.labels, after.preactivations)
    return int(jnp.sum((q <= 0) & ~forget))


def _step(subject: _Subject, forget: Any, loss: str) -> Step:
    """Multipliers and step sizes, their estimates, and epsilon of the projection certificate of a wrong step."""
    net, dataset, point = subject.net, subject.data, subject.point
    chosen = np.flatnonzero(forget)
    h, _ = unlearn.ascent_direction(net, dataset, point, forget)
    basis = numerics.orthonormal_basis(dataset.points, ~forget)
    inside = numerics.project(h, basis)
    made = models.coefficients(net, dataset.labels, point.multipliers, point.selection)
    base = point.params - numerics.matmul(made, dataset.points) + inside
    estimate = estimators.estimate_multipliers(net, dataset, point, forget)

    def epsilon(off: Any) -> float:
        """||e + P h + (I - P)(h - h')|| with `off` = h - h'."""
        beyond = off - numerics.project(off, basis)
        return float(numerics.norm(base + beyond, point.orthogonal_norm))

    wrong = jnp.where(forget, point.multipliers - estimate, 0.0)
    off = numerics.matmul(models.coefficients(net, dataset.labels, wrong, point.selection), dataset.points)
    q = models.margins(net, dataset.labels, point.preactivations)
    lam = np.asarray(point.multipliers)[chosen]
    # the network in use is theta times `scale`: its multipliers and margins are larger by that factor
    slope = np.asarray(train.log_loss_slope(q * point.scale, loss))[chosen]
    with np.errstate(divide="ignore"):
        log_beta = np.log(lam * float(point.scale)) - slope
    return Step(
        loss=loss,
        multipliers=lam,
        log_beta=log_beta,
        estimates=np.asarray(estimate)[chosen],
        size=float(numerics.norm(h)),
        rho=float(numerics.norm(inside)),
        errors={error: epsilon(error * h) for error in STEP_ERRORS},
        estimate_epsilon=epsilon(off),
    )


def _hypotheses(subject: _Subject, psi: float, eps_d: float) -> tuple[Hypothesis, ...]:
    first, point = bounds.APPROXIMATION_MAX, subject.point
    found = [
        Hypothesis("psi", "requires squared norms within psi of 1; --normalize makes them 1", psi, bounds.PSI_MAX),
        Hypothesis("eps_d", "requires nearly orthogonal points; eps_d = 4 m n phi", eps_d, bounds.EPS_D_MAX),
        Hypothesis("epsilon_1", "requires a nearly stationary model", float(point.epsilon), first),
        Hypothesis("delta_1", "requires nearly complementary multipliers", float(point.delta), first),
    ]
    if subject.net.kind == "relu":
        u = np.asarray(subject.net.output_weights)
        uneven = float(np.max(np.abs(np.abs(u) * len(u) ** 0.5 - 1)))
        found.append(Hypothesis("second layer", "every |u_j| is 1/sqrt(n), up to this much", uneven, 1e-12))
    return tuple(found)


def _bounds(subject: _Subject, forget: Any, psi: float, phi: float) -> dict[str, Bounded]:
    """The theorems that speak of this model, with what they promise here or why they do not."""
    net, m, k = subject.net, subject.data.num_points, int(np.sum(forget))
    first = psi, phi, float(subject.point.epsilon), float(subject.point.delta)
    if net.kind == "linear":
        found = {
            "Theorem L": bounds.sharp_linear(*first, m=m, k=k),
            "Theorem L, coarse": bounds.coarse_linear(*first, m=m, k=k),
            "Theorem P's worst case (from psi and phi alone)": bounds.sharp_linear_projection(*first, m=m, k=k),
        }
    else:
        floor = float(jnp.min(net.output_weights**2))
        found = {
            "Theorem R": bounds.sharp_relu(*first, m=m, n=net.num_neurons, k=k, weight_floor=floor),
            "Theorem R, coarse": bounds.coarse_relu(*first, m=m, n=net.num_neurons, k=k),
        }
    standard = net.kind == "linear" or bool(bounds.is_standard(net))
    result = {}
    for name, bound in found.items():
        reason = Reason(int(bound.reason))
        if "coarse" in name and not standard and reason == Reason.APPLIES:
            reason = Reason.SECOND_LAYER
        result[name] = Bounded(float(bound.epsilon), float(bound.delta), float(bound.tau), reason)
    return result


def _every_point(subject: _Subject) -> EveryPoint:
    """Forgetting each point alone: ||P h|| / ||theta|| and the cosine gaps to the model retrained without it."""
    net, dataset, point = subject.net, subject.data, subject.point
    x, lam = np.asarray(dataset.points), np.asarray(point.multipliers)
    theta = np.append(np.asarray(point.params).ravel(), float(point.orthogonal_norm))
    lever = np.sqrt(np.asarray(jnp.sum((net.output_weights[:, None] * point.selection) ** 2, axis=0)))
    rho = lam * lever * _inside_norms(x)
    goals = _retrained_without_each(subject)
    made = np.asarray(models.coefficients(net, dataset.labels, point.multipliers, point.selection))
    step, nothing = np.full(len(x), np.nan), np.full(len(x), np.nan)
    for i in range(len(x)):
        goal = goals(i)
        if goal is not None:
            whole = np.append(goal, 0.0)
            h = np.append((made[:, i, None] * x[i]).ravel(), 0.0)
            step[i], nothing[i] = _gap(theta - h, whole), _gap(theta, whole)
    if point is subject.exact:
        step[lam == 0], nothing[lam == 0] = 0.0, 0.0  # the model is the retrained one
    return EveryPoint(rho=rho / np.linalg.norm(theta), gap=step, gap_nothing=nothing, multipliers=lam)


def _inside_norms(x: np.ndarray) -> np.ndarray:
    """||P x_r|| with P onto the span of all other points: x_r less v_r / ||v_r||^2 of the dual basis vector v_r,
    or all of x_r where the others span it (leverage below 1)."""
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    rank = int(np.sum(s > 1e-11 * s[0]))
    u, s, vt = u[:, :rank], s[:rank], vt[:rank]
    dual = (u / s) @ vt
    alone = np.sum(u**2, axis=1) > 1 - 1e-9
    beyond = np.where(alone[:, None], dual / np.sum(dual**2, axis=1, keepdims=True), 0.0)
    return np.asarray(np.linalg.norm(x - beyond, axis=1))


def _retrained_without_each(subject: _Subject) -> Any:
    """i -> parameters (flat) of the exact point without point i, None where unsolved. Points off the margin of the
    exact point leave it as it is, so only its support is retrained."""
    net, dataset, exact = subject.net, subject.data, subject.exact
    if exact is None:
        return lambda i: None
    same = np.asarray(exact.params).ravel()
    found: dict[int, Any] = {}
    if subject.solution is not None:
        left_out = hard_margin.leave_one_out(dataset.points, dataset.labels, subject.solution)
        found = dict(zip(subject.solution.active.tolist(), left_out, strict=True))
    else:
        margins = models.margins(net, dataset.labels, exact.preactivations)
        for i in np.flatnonzero(np.asarray(exact.multipliers) > 0):
            keep = np.arange(dataset.num_points) != i
            best = working_set.limit_point(net, dataset, exact.selection, keep, margins)
            found[int(i)] = np.asarray(best.params).ravel() if int(best.status) == Status.OK else None
    return lambda i: found.get(i, same)


def _gap(a: np.ndarray, b: np.ndarray) -> float:
    """1 - cos of the angle, from the difference of the unit vectors."""
    return 0.5 * float(np.sum((a / np.linalg.norm(a) - b / np.linalg.norm(b)) ** 2))
