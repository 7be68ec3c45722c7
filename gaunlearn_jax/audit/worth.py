"""Whether the step is better than doing nothing, why it is not, and what would help. Source: docs/theory, Leverage; Is
the step better than nothing."""

from __future__ import annotations

import numpy as np

from gaunlearn_jax.audit.effects import Ascent
from gaunlearn_jax.audit.findings import SAME, Row, Worth
from gaunlearn_jax.base import numerics
from gaunlearn_jax.kkt import host
from gaunlearn_jax.kkt.host import HostPoint, HostProblem, Marks, Matrix

#: mean cosine, and cosine to the nearest retained point, from which they are named
COMMON, NEAR = 0.3, 0.7
#: ||sum_i x_i|| in units of sum_i ||x_i|| below which points are centred by their own mean
CENTRED = 1e-9
#: part of a forgotten point outside the others' span below which it has none of its own
OWN = 1e-9
#: eps of a sum of the slack's terms
TERMS = 16 * numerics.EPS


def worth(
    problem: HostProblem, point: HostPoint, forget: Marks, step: Ascent, certificates: dict[str, Row], given: Matrix
) -> Worth:
    """Measured on the host; `given` are the points before they were reduced."""
    chosen = np.flatnonzero(forget)
    x = problem.points[chosen]
    inside = (x @ step.basis.T) @ step.basis
    leverage = np.sum(inside**2, axis=1) / np.sum(x**2, axis=1)
    rho, size = host.norm(step.inside), host.norm(step.h)
    share = (rho / size) ** 2 if size > 0 else float("nan")
    beyond = host.norm(step.h - step.inside)
    predicted = (rho / beyond) ** 2 if beyond > OWN * size else float("inf")
    ratio, answer = float("nan"), "unknown"
    if "retrain" in certificates:
        done, before = (max(c.tau, 0.0) for c in certificates["retrain"])
        if max(done, before) > SAME:
            ratio = done / before if before > 0 else float("inf")
            answer = "as far" if done == before else "yes" if done < before else "no"
    if size > 0 and _proved(problem, point, forget, step):
        answer = "yes (proved)"
    reasons, helps = _reasons(given, forget, share) if answer == "no" else ((), "")
    return Worth(leverage, share, predicted if size > 0 else float("nan"), ratio, answer, reasons, helps)


def _proved(problem: HostProblem, point: HostPoint, forget: Marks, step: Ascent) -> bool:
    """(a) of Theorem H: r_hat / ||theta_hat|| < ||(I - P) theta|| / ||theta||."""
    made = problem.coefficients(point.multipliers, point.selection)
    e = point.params - made @ problem.points
    kept, omega = ~forget, point.orthogonal_norm
    excess = np.maximum(problem.margins(point.preactivations)[kept] - 1.0, 0.0) + TERMS
    slack = float(np.sum(point.multipliers[kept] * excess))
    radius = np.sqrt(host.norm(e + step.inside, omega) ** 2 / 4 + slack)
    distance = host.norm(e - step.inside, omega) / 2 + radius
    outside = host.norm(point.params - (point.params @ step.basis.T) @ step.basis, omega)
    hat, theta = host.norm(point.params - step.h, omega), host.norm(point.params, omega)
    return bool(distance * theta < (1 - 1e-9) * outside * hat)


def _reasons(x: Matrix, forget: Marks, share: float) -> tuple[tuple[str, ...], str]:
    """What makes the leverage of the forgotten points large, and what would help."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    m, total = len(x), np.sum(unit, axis=0)
    common = float((total @ total - m) / (m * (m - 1)))
    found, helps = [], []
    if _has_bias(x):
        found.append("the coordinate 1 that was appended is half of the squared norm of every point")
        helps.append("append a smaller constant, or none")
    elif common > COMMON:
        found.append(f"the points have a common mean: cosines are {common:.2f} on average")
        helps.append("subtract a public mean, known without these points (--center); not their own")
    if np.linalg.norm(np.sum(x, axis=0)) <= CENTRED * np.sum(np.linalg.norm(x, axis=1)):
        found.append("the points are centred by their own mean, so that each lies in the span of the others")
        helps.append("subtract a public mean, known without these points (--center); not their own")
    for r in np.flatnonzero(forget):
        cosines = np.where(forget, -1.0, np.abs(unit @ unit[r]))
        near = int(np.argmax(cosines))
        if cosines[near] > max(NEAR, common + (1 - common) / 2):
            found.append(f"point {r} has a near-duplicate, point {near}, at cosine {cosines[near]:.3f}")
            helps.append("forget near-duplicates together")
    if not found:
        found.append(f"{share:.0%} of what the step removes lies in the span of the retained points")
    return tuple(found), "; ".join(dict.fromkeys(helps))


def _has_bias(x: Matrix) -> bool:
    """Whether the last coordinate is 1 beside points of unit norm."""
    rest = np.linalg.norm(x[:, :-1], axis=1)
    return bool(x.shape[1] > 1 and np.all(x[:, -1] == 1) and np.all(np.abs(rest - 1) < 1e-9))


def sentence(found: Worth, forget: tuple[int, ...]) -> str:
    """The lines of the answer."""
    each = ", ".join(f"point {i} {v:.2f}" for i, v in zip(sorted(forget), found.leverage, strict=True))
    lines = [f"Leverage on the retained points (below about one half the step pays): {each}."]
    if np.isnan(found.share):
        return lines[0]
    guess = "infinite" if np.isinf(found.predicted) else f"{found.predicted:.2g}"
    measured = "" if np.isnan(found.ratio) else f"; measured {found.ratio:.2g}"
    lines.append(f"  Gap after the step over gap of doing nothing, predicted from leverage: {guess}{measured}.")
    lines.append(f"  Ascent better than nothing: {found.answer}.")
    lines += [f"  Because {reason}." for reason in found.reasons]
    return "\n".join([*lines, f"  What would help: {found.help}."] if found.help else lines)
