"""What the worst-case theorems assume and promise of the model under audit. Their formulas stay in NumPy, since NumPy
numbers enter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gaunlearn_jax.audit.findings import Bounded, Hypothesis, Leaky
from gaunlearn_jax.audit.subject import Subject
from gaunlearn_jax.base.codes import Reason
from gaunlearn_jax.kkt.host import Marks
from gaunlearn_jax.theory import bounds
from gaunlearn_jax.theory.bound import Bound
from gaunlearn_jax.theory.leaky import uniqueness
from gaunlearn_jax.theory.worst_case import EVEN_ROOM, NEARLY_EXACT


def eps_d_of(under: Subject, phi: float) -> float:
    """4 m n phi; linear 4 m phi, leaky 4 m phi / a."""
    m, slope = under.problem.num_points, under.problem.slope
    return 4.0 * m * phi * (under.problem.num_neurons if slope in (0, 1) else 1 / slope)


def leaky_of(under: Subject, psi: float, phi: float) -> Leaky | None:
    """Theorem LK for exact points of these data, and for the model as it is; None for other models."""
    problem, point = under.problem, under.point
    if problem.slope in (0, 1):
        return None
    given = problem.amplitudes, problem.slope, np.float64(psi), np.float64(phi)
    chi, own = uniqueness(*given).chi, uniqueness(*given, point.epsilon, point.delta).chi
    return Leaky(problem.slope, float(chi), float(own))


def hypotheses(under: Subject, psi: float, eps_d: float, leaky: Leaky | None) -> tuple[Hypothesis, ...]:
    """Those of the coarse lines, with their values and limits."""
    first, point, u = bounds.APPROXIMATION_MAX, under.point, under.problem.output_weights
    words = "eps_d = 4 m n phi"
    if leaky is not None:
        first, words = NEARLY_EXACT, "eps_d = 4 m phi / slope"
    found = [
        Hypothesis("psi", "requires squared norms within psi of 1; --normalize makes them 1", psi, bounds.PSI_MAX),
        Hypothesis("eps_d", f"requires nearly orthogonal points; {words}", eps_d, bounds.EPS_D_MAX),
        Hypothesis("epsilon_1", "requires a nearly stationary model", point.epsilon, first),
        Hypothesis("delta_1", "requires nearly complementary multipliers", point.delta, first),
    ]
    if leaky is not None:
        uneven = max(abs(float(np.sum(u[u * sign > 0] ** 2)) - 0.5) for sign in (1, -1))
        found.append(Hypothesis("second layer", "U_+ = U_- = 1/2, up to this much", uneven, EVEN_ROOM))
    elif not under.linear:
        uneven = float(np.max(np.abs(np.abs(u) * len(u) ** 0.5 - 1)))
        found.append(Hypothesis("second layer", "every |u_j| is 1/sqrt(n), up to this much", uneven, 1e-12))
    return tuple(found)


def promises(under: Subject, forget: Marks, psi: float, phi: float) -> dict[str, Bounded]:
    """The theorems that speak of this model, with what they promise here or why they do not."""
    problem, m, k = under.problem, under.problem.num_points, int(np.sum(forget))
    first = tuple(np.float64(v) for v in (psi, phi, under.point.epsilon, under.point.delta))
    standard = problem.slope != 0 or bool(bounds.is_standard(problem))
    if under.linear:
        found = {
            "Theorem L": bounds.sharp_linear(*first, m=m, k=k),
            "Theorem L, coarse": bounds.coarse_linear(*first, m=m, k=k),
            "Theorem P's worst case (from psi and phi alone)": bounds.sharp_linear_projection(*first, m=m, k=k),
        }
    elif problem.slope == 0:
        n, floor = problem.num_neurons, np.float64(np.min(problem.output_weights**2))
        found = {
            "Theorem R": bounds.sharp_relu(*first, m=m, n=n, k=k, weight_floor=floor),
            "Theorem R, coarse": bounds.coarse_relu(*first, m=m, n=n, k=k),
        }
    else:
        makes: dict[str, Callable[..., Bound]] = {"": bounds.sharp_leaky, ", coarse": bounds.coarse_leaky}
        name = "Theorem R for leaky networks"
        found = {name + end: make(problem.amplitudes, problem.slope, *first, k=k) for end, make in makes.items()}
    result = {}
    for name, bound in found.items():
        reason = Reason(int(bound.reason))
        if "coarse" in name and not standard and reason == Reason.APPLIES:
            reason = Reason.SECOND_LAYER
        result[name] = Bounded(float(bound.epsilon), float(bound.delta), float(bound.tau), reason)
    return result
