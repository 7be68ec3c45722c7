"""Where the certificate of a linear model with several classes is the retrained solution: shared by its claims."""

from __future__ import annotations

import jax.numpy as jnp

from gaunlearn_jax.base import numerics
from gaunlearn_jax.base.codes import Reason
from gaunlearn_jax.theory import bounds
from gaunlearn_jax.theory import classes as theory
from gaunlearn_jax.theory.lemma_m import EXTRA, gram_rounding
from verify.suites.check import check
from verify.suites.suite import Evaluation, Results

#: margins this near to 1 count as active
ACTIVE = 1e-9


def exact_retraining(e: Evaluation) -> Results:
    """theta_tilde = theta* where every constraint of T is active in both: their distance against what the differences
    of their margins and their residuals leave."""
    near, best, problem = e.certificates["projection"], e.certificates["retrain"], e.problem
    live = problem.constraints_of(~e.forget)
    ours, theirs = problem.margins(near.preactivations), problem.margins(best.preactivations)
    off = jnp.maximum(jnp.abs(ours - 1), jnp.abs(theirs - 1))
    unit = gram_rounding(problem)
    residual = e.point.epsilon + best.epsilon + 2 * (near.error + best.error)
    blur = 8 * (problem.rows.shape[1] + EXTRA) * numerics.unit() * problem.output_spread(near.preactivations)
    apart = numerics.norm(jnp.where(live, jnp.abs(ours - theirs) + blur, 0.0))
    most, defined = theory.same_margins_distance(
        apart, e.record.psi + 2 * unit, e.record.phi + 2 * unit, residual,
        kept=jnp.sum(~e.forget), classes=e.net.num_classes,
    )  # fmt: skip
    away = numerics.norm(e.hat - best.params)
    reason = bounds.first_failing(
        (jnp.max(jnp.where(live, off, 0.0)) <= ACTIVE, Reason.DATA), (defined, Reason.UNDEFINED)
    )
    return {
        "projection/exact/distance": check(
            numerics.norm(near.params - best.params, near.orthogonal_norm), most, near.error + best.error,
            reason=reason, converged=bounds.converged(near.status, best.status),
            discriminating=jnp.asarray(away > most, jnp.float64),
        ),
        "step_gap": best.tau,
        "nothing_gap": numerics.cosine_gap(e.point.params, best.params),
        "solved": bounds.converged(near.status, best.status),
    }  # fmt: skip
