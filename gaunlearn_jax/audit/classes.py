"""The audit of a linear model with several classes (a softmax head): how well one ascent step forgets chosen points.

Everything on the host in NumPy: the maximum-margin solution by active sets (`class_margin`), the retrained one from it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaunlearn_jax.audit import precision, prepare
from gaunlearn_jax.audit.class_answer import ClassAudit, ClassStep, CrossEntropy
from gaunlearn_jax.audit.findings import SAME, Bounded, Certified, EveryPoint, Hypothesis, Row
from gaunlearn_jax.base import checks, numerics
from gaunlearn_jax.base.codes import Reason
from gaunlearn_jax.kkt import class_margin, host
from gaunlearn_jax.theory import classes as theory
from gaunlearn_jax.theory.bounds import EPS_D_MAX, PSI_MAX

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: two errors of one model, in units of its norm, are equal up to this
EQUAL = 1e-9


@dataclasses.dataclass(frozen=True)
class _Subject:
    """Points [m, d], class numbers [m], theta [C, d] centred at margin 1 with lambda [m, C], the exact solution, the
    scale of the weights as they were given and the common row [d] taken out of them."""

    x: Matrix
    y: NDArray[np.int64]
    theta: Matrix
    multipliers: Matrix
    exact: class_margin.Solution
    scale: float
    common: Vector
    given: bool

    @property
    def num_classes(self) -> int:
        return len(self.theta)

    def part(self, chosen: Bools) -> Matrix:
        """sum_a lambda_a G_a over the constraints of the chosen points [C, d]."""
        return class_margin.combine(self.multipliers[chosen], self.y[chosen]).T @ self.x[chosen]

    def margins(self, w: Matrix) -> Matrix:
        """Margins [m, C] of W [C, d]."""
        return class_margin.margins(self.x @ w.T, self.y)


def audit_classes(
    points: Any,
    labels: Any,
    forget: Any,
    *,
    weights: Any = None,
    normalize: bool = False,
    bias: bool = False,
    every_point: bool = False,
) -> ClassAudit:
    """How well one ascent step forgets the points `forget` (indices) of data with three or more classes; print it.

    points [m, d]; labels [m], whose sorted values are the classes. Without `weights` the model is the maximum-margin
    solution min ||W||_F with <w_y - w_c, x> >= 1 that training with cross-entropy ends in. `weights` [C, d], one row
    per class in sorted order, are measured as they are: centred (a row added to every class changes no margin, so the
    norm is that of W minus its mean row) and divided by their smallest margin; their part orthogonal to all points
    counts. `normalize` brings every point to unit norm, then `bias` appends the coordinate 1 (the last column of the
    weights is then the bias). `every_point` adds what forgetting each point alone would do.

    ValueError for bad data or weights; class_margin.NotSeparable, with a witness, where no linear model fits the data.
    Source: docs/theory, Several classes.
    """
    x = prepare.points(points, normalize, bias)
    if len(x) < 3:
        raise ValueError(f"points has shape {x.shape}, expected at least 3 points, one of each class")
    y, names = _labels(labels, len(x))
    forget = prepare.indices(forget)
    chosen = _forgotten(forget, len(x))
    subject = _exact(x, y, len(names)) if weights is None else _given(x, y, len(names), weights, bias)
    retrained = class_margin.solve(x, y, subject.num_classes, ~chosen, subject.exact)
    inside = _span(x[~chosen])
    psi, phi = _assumptions(x)
    eps_d = 4.0 * len(x) * phi
    q, theta, lam = subject.margins(subject.theta), subject.theta, subject.multipliers
    epsilon, delta, slack = _error(subject), _slackness(lam, q), _slack(lam, q)
    new = subject.margins(theta - subject.part(chosen))[~chosen]
    return ClassAudit(
        model="classes",
        num_points=len(x),
        dim=x.shape[1],
        rank=len(_span(x)),
        classes=names,
        forget=tuple(int(i) for i in forget),
        own=y,
        given=subject.given,
        norm=float(np.linalg.norm(theta)),
        common=precision.length(subject.common) * subject.num_classes**0.5,
        orthogonal=float(np.linalg.norm(theta - theta @ _span(x).T @ _span(x))) if subject.given else 0.0,
        scale=subject.scale,
        epsilon=epsilon,
        delta=delta,
        slack=slack,
        spare=_spare(subject, chosen, retrained.weights, epsilon),
        multipliers=lam,
        margins=np.min(q, axis=1),
        psi=psi,
        phi=phi,
        eps_d=eps_d,
        floor=theory.norm_floor(x, ~chosen, classes=subject.num_classes),
        retrained_is_step=_retrained_is_step(subject, chosen, retrained.weights, epsilon),
        certificates=_certificates(subject, chosen, inside, retrained.weights),
        broken=int(np.sum(np.min(new, axis=1) <= 0)),
        step=_step(subject, chosen, inside, retrained.weights),
        hypotheses=_hypotheses(psi, eps_d, epsilon, delta, subject.num_classes),
        bounds=_bounds(psi, phi, epsilon, delta, m=len(x), k=int(np.sum(chosen)), classes=subject.num_classes),
        every_point=_every_point(subject) if every_point else None,
    )


def _labels(labels: Any, m: int) -> tuple[NDArray[np.int64], tuple[Any, ...]]:
    """Class numbers [m] and the values they stand for, in sorted order."""
    if isinstance(labels, np.ma.MaskedArray):
        raise ValueError("labels is a masked array, expected plain values; fill or drop the masked entries")
    try:
        given = np.asarray(labels)
        values, numbers = np.unique(given, return_inverse=True)
    except (ValueError, TypeError) as error:
        raise ValueError(f"labels cannot be sorted into classes ({error}); use whole numbers or strings") from None
    if given.shape != (m,):
        raise ValueError(f"labels has shape {given.shape}, expected ({m},): one label per point")
    if given.dtype.kind in "fc" and not (np.all(np.isfinite(given)) and np.all(given == np.round(given.real))):
        at = int(np.argmin(np.isfinite(given) & (given == np.round(given.real))))
        raise ValueError(f"labels[{at}] is {given[at]}, expected classes (whole numbers or strings), no measurements")
    if len(values) < 3:
        shown = ", ".join(str(v) for v in values)
        raise ValueError(f"labels have {len(values)} different values ({shown}), expected three or more classes")
    names = tuple(v.item() if hasattr(v, "item") else v for v in values)
    return numbers.reshape(-1).astype(np.int64), names


def _forgotten(forget: Any, m: int) -> Bools:
    """The forget set as a mask [m]."""
    try:
        given = np.asarray(forget)
    except ValueError:
        given = np.empty((1, 1), object)
    if given.size == 0:
        raise ValueError("forget is empty, expected the index of at least one point")
    if given.dtype.kind not in "iu" or given.ndim != 1:
        raise ValueError(
            f"forget has dtype {given.dtype} and shape {given.shape}, expected a flat list of indices; of a mask take "
            "numpy.flatnonzero"
        )
    if np.min(given) < 0 or np.max(given) >= m:
        at = int(given[np.argmax((given < 0) | (given >= m))])
        raise ValueError(f"forget index {at} is out of range, expected 0 <= index < {m} (no negative indices)")
    if len(np.unique(given)) != given.size:
        raise ValueError("forget names a point twice; name each point once")
    if given.size == m:
        raise ValueError(f"forgetting all {m} points leaves nothing to train on; retain at least one")
    return np.isin(np.arange(m), given)


def _exact(x: Matrix, y: NDArray[np.int64], num_classes: int) -> _Subject:
    """The maximum-margin solution itself."""
    found = _solved(x, y, num_classes)
    return _Subject(x, y, found.weights, found.multipliers, found, 1.0, np.zeros(x.shape[1]), False)


def _solved(x: Matrix, y: NDArray[np.int64], num_classes: int) -> class_margin.Solution:
    """The maximum-margin solution, held against its conditions."""
    try:
        found = class_margin.solve(x, y, num_classes)
    except class_margin.NotSeparable as error:
        precision.not_separable(x, lambda scaled: class_margin.solve(scaled, y, num_classes), error)
    missed = class_margin.conditions(x, y, found.weights, found.multipliers)
    precision.require_exact(x, missed.stationarity / float(np.linalg.norm(found.weights)), missed.shortfall)
    return found


def _given(x: Matrix, y: NDArray[np.int64], num_classes: int, weights: Any, bias: bool) -> _Subject:
    """The user's weights, centred and divided by their smallest margin, with the multipliers of least epsilon."""
    w = checks.real_array("weights", weights)
    expected = (num_classes, x.shape[1])
    if w.shape != expected:
        hint = "; transpose them" if w.T.shape == expected else ""
        if bias and w.shape == (num_classes, x.shape[1] - 1):
            hint = "; with bias=True the bias is their last column"
        elif not bias and w.shape == (num_classes, x.shape[1] + 1):
            hint = "; for a bias in their last column say bias=True"
        raise ValueError(f"weights has shape {w.shape}, expected {expected}: classes of the labels, coordinates{hint}")
    power = precision.exponent(w)
    w = np.ldexp(w, -power)  # exact, and no product of weights of any size overflows
    common = np.mean(w, axis=0)
    w = w - common
    q = np.min(class_margin.margins(x @ w.T, y), axis=1)
    if np.min(q) <= 0:
        worst = int(np.argmin(q))
        raise ValueError(
            f"the weights misclassify {int(np.sum(q <= 0))} of {len(q)} points (point {worst} has margin "
            f"{q[worst]:.3g}): every margin must be positive to rescale to margin 1; train on, check that the rows are "
            "in the sorted order of the classes, or drop those points"
        )
    scale = float(np.min(q)) / numerics.OUTWARD
    theta = w / scale
    found = _solved(x, y, num_classes)
    scale, common = float(np.ldexp(scale, power)), np.ldexp(common, power)
    return _Subject(x, y, theta, class_margin.fit_multipliers(x, y, theta), found, scale, common, True)


def _span(x: Matrix) -> Matrix:
    """Orthonormal rows [rank, d] that span the points."""
    _, s, vt = np.linalg.svd(x / np.linalg.norm(x, axis=1, keepdims=True), full_matrices=False)
    return vt[s > 1e-11 * s[0]]


def _assumptions(x: Matrix) -> tuple[float, float]:
    """psi = max | ||x_i||^2 - 1 | and phi = max |<x_i, x_k>|, outward of rounding."""
    gram = x @ x.T
    squares = np.diagonal(gram).copy()
    np.fill_diagonal(gram, 0.0)
    slack = numerics.EPS * x.shape[1] * float(np.max(squares))
    return float(np.max(np.abs(squares - 1.0))) + slack, float(np.max(np.abs(gram))) + slack


def _error(subject: _Subject) -> float:
    """epsilon_1 = ||theta - sum lambda_a G_a||."""
    return float(np.linalg.norm(subject.theta - subject.part(np.ones(len(subject.x), bool))))


def _slackness(multipliers: Matrix, margins: Matrix) -> float:
    """max_a lambda_a (q_a - 1), at least 0."""
    used = multipliers > 0
    return max(0.0, float(np.max(multipliers[used] * (margins[used] - 1.0), initial=0.0)))


def _slack(multipliers: Matrix, margins: Matrix) -> float:
    """sum_a lambda_a (q_a - 1), at least 0."""
    used = multipliers > 0
    return max(0.0, float(np.sum(multipliers[used] * (margins[used] - 1.0))))


def _spare(subject: _Subject, forget: Bools, retrained: Matrix, epsilon: float) -> bool:
    """Whether the model is explained as well without the points: it is the retrained one, or the best fit of given
    weights on the other points has no larger epsilon and slack."""
    if not subject.given:
        return host.cosine_gap(subject.theta, retrained) <= SAME
    theirs = class_margin.fit_multipliers(subject.x, subject.y, subject.theta, ~forget)
    others = dataclasses.replace(subject, multipliers=theirs)
    q, size = subject.margins(subject.theta), float(np.linalg.norm(subject.theta))
    more = _slack(theirs, q) - _slack(subject.multipliers, q)
    return _error(others) <= epsilon + EQUAL * size and more <= EQUAL * size**2


def _certificates(subject: _Subject, forget: Bools, inside: Matrix, retrained: Matrix) -> dict[str, Row]:
    """Every certificate after the step and after doing nothing (a step of length 0)."""
    theta, kept = subject.theta, ~forget
    h, rest = subject.part(forget), subject.part(kept)
    lam = subject.multipliers[kept]

    def certified(model: Matrix, after: Matrix, grown: float = 1.0) -> Certified:
        """`model` with the retained multipliers times `grown`, seen from the outcome `after`."""
        slack = _slackness(grown * lam, subject.margins(model)[kept])
        error = float(np.linalg.norm(model - grown * rest))
        return Certified(error, slack, host.cosine_gap(after, model), float(np.linalg.norm(model)))

    def scaling(after: Matrix) -> Certified:
        least = min(1.0, float(np.min(subject.margins(after)[kept])))
        nothing = Certified(*[float("nan")] * 4)
        return certified(after / least, after, 1 / least)._replace(tau=0.0) if least > 0 else nothing

    outcomes = theta - h, theta
    tilde = theta - (h - h @ inside.T @ inside), theta
    projected = theta @ inside.T @ inside
    size = float(np.linalg.norm(retrained))
    return {
        "projection": Row(*(certified(t, after) for t, after in zip(tilde, outcomes, strict=True))),
        "span": Row(*(certified(projected, after) for after in outcomes)),
        "scaling": Row(*(scaling(after) for after in outcomes)),
        "retrain": Row(*(Certified(0.0, 0.0, host.cosine_gap(after, retrained), size) for after in outcomes)),
    }


def _retrained_is_step(subject: _Subject, forget: Bools, retrained: Matrix, epsilon: float) -> bool:
    """Whether theta is exact and every retained margin is 1, in it and in the retrained solution."""
    return epsilon <= 1e-9 * float(np.linalg.norm(subject.theta)) and all(
        theory.every_constraint_active(subject.margins(w), subject.y, ~forget) for w in (subject.theta, retrained)
    )


def _step(subject: _Subject, forget: Bools, inside: Matrix, retrained: Matrix) -> ClassStep:
    h, x = subject.part(forget), subject.x[forget]
    before = x @ (subject.scale * subject.theta + subject.common).T
    return ClassStep(
        multipliers=subject.multipliers[forget],
        logits_before=before,
        logits_after=before - subject.scale * (x @ h.T),
        size=float(np.linalg.norm(h)),
        rho=float(np.linalg.norm(h @ inside.T)),
        cross_entropy=_cross_entropy(subject, forget, inside, retrained) if subject.given else None,
    )


def _cross_entropy(subject: _Subject, forget: Bools, inside: Matrix, retrained: Matrix) -> CrossEntropy:
    """Corollary CE on the weights as they were given."""
    found = theory.cross_entropy_step(subject.x, subject.y, subject.scale * subject.theta)
    theirs = dataclasses.replace(subject, multipliers=found.multipliers)
    h, after = theirs.part(forget), subject.theta - theirs.part(forget)
    tilde = subject.theta - (h - h @ inside.T @ inside)
    return CrossEntropy(
        log_rate=found.log_rate,
        epsilon=found.epsilon,
        delta=found.delta,
        certificate=float(np.linalg.norm(tilde - theirs.part(~forget))),
        gap=host.cosine_gap(after, subject.theta - subject.part(forget)),
        gap_retrained=host.cosine_gap(after, retrained),
    )


def _hypotheses(psi: float, eps_d: float, epsilon: float, delta: float, classes: int) -> tuple[Hypothesis, ...]:
    first = theory.NEARLY_EXACT
    return (
        Hypothesis("psi", "requires squared norms within psi of 1; --normalize makes them 1", psi, PSI_MAX),
        Hypothesis("eps_d", "requires nearly orthogonal points; eps_d = 4 m phi", eps_d, EPS_D_MAX),
        Hypothesis("epsilon_1", "requires a stationary model", epsilon, first),
        Hypothesis("(C-1) delta_1", "requires complementary multipliers; C classes", (classes - 1) * delta, first),
    )


def _bounds(
    psi: float, phi: float, epsilon: float, delta: float, *, m: int, k: int, classes: int
) -> dict[str, Bounded]:
    """Theorem R' sharp and coarse: what it promises here, or why it does not."""
    found = {}
    for name, formula in (("Theorem R'", theory.sharp_classes), ("Theorem R', coarse", theory.coarse_classes)):
        b = formula(np.float64(psi), np.float64(phi), np.float64(epsilon), np.float64(delta), m=m, k=k, classes=classes)
        found[name] = Bounded(float(b.epsilon), float(b.delta), float(b.tau), Reason(int(b.reason)))
    return found


def _every_point(subject: _Subject) -> EveryPoint:
    """Forgetting each point alone: ||P h||/||theta|| and the cosine gaps to the model retrained without it."""
    x, y, theta = subject.x, subject.y, subject.theta
    made = class_margin.combine(subject.multipliers, y)
    rho = np.linalg.norm(made, axis=1) * host.inside_norms(x) / np.linalg.norm(theta)
    same = host.cosine_gap(theta, subject.exact.weights) if subject.given else 0.0
    step, nothing = np.full(len(x), same), np.full(len(x), same)
    used = np.any(subject.multipliers > 0, axis=1)
    goals = class_margin.without_each(x, y, subject.num_classes, subject.exact)
    for i, goal in goals:
        step[i], nothing[i] = host.cosine_gap(theta - np.outer(made[i], x[i]), goal), host.cosine_gap(theta, goal)
        used[i] = False
    for i in np.flatnonzero(used).tolist():  # retraining without it changes nothing
        step[i] = host.cosine_gap(theta - np.outer(made[i], x[i]), subject.exact.weights)
    return EveryPoint(rho=rho, gap=step, gap_nothing=nothing, multipliers=np.sum(subject.multipliers, axis=1))
