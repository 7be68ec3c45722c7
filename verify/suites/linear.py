"""Linear models: one ascent step gives an (epsilon, delta, 0)-KKT point of the retained problem."""

from __future__ import annotations

from gaunlearn_jax import bounds
from verify.plots import bounds_figure
from verify.suite import Evaluation, Results, Suite


def evaluate(e: Evaluation) -> Results:
    scaling, projection, span = (e.certificates[name] for name in ("scaling", "projection", "span"))
    record = e.record
    out: Results = {}
    for certificate in (scaling, projection, span):
        out |= e.success(certificate, e.instance_bound(certificate), "instance")
    measured = (record.psi, record.phi, *bounds.outward(e.point, scaling))
    out |= e.success(scaling, bounds.sharp_linear(*measured, m=e.m, k=e.k), "sharp")
    out |= e.success(scaling, bounds.coarse_linear(*measured, m=e.m, k=e.k), "coarse")
    measured = (record.psi, record.phi, *bounds.outward(e.point, projection))
    out |= e.success(projection, bounds.sharp_linear_projection(*measured, m=e.m, k=e.k), "sharp")
    return out


SUITE = Suite(
    name="linear",
    statement="one ascent step on a trained linear model is (epsilon, delta, tau)-successful unlearning",
    source="docs/theory, Theorem L and Theorem P (the paper's Theorem 3.1)",
    evaluate=evaluate,
    draw=bounds_figure("linear", ("projection", "epsilon"), ("scaling", "delta")),
    models=("linear",),
)
