"""Two-layer ReLU networks: one ascent step gives an (epsilon, delta)-KKT point up to a cosine gap tau."""

from __future__ import annotations

from gaunlearn_jax import bounds
from gaunlearn_jax._types import Status
from verify.plots import bounds_figure
from verify.suite import Evaluation, Results, Suite


def evaluate(e: Evaluation) -> Results:
    projection, span, scaling = (e.certificates[name] for name in ("projection", "span", "scaling"))
    record, n = e.record, e.net.num_neurons
    measured = (record.psi, record.phi, *bounds.outward(e.point, projection))
    out: Results = {}
    for certificate in (projection, span):
        out |= e.success(certificate, e.instance_bound(certificate), "instance")
    out |= e.success(projection, bounds.sharp_relu(*measured, m=e.m, n=n, k=e.k), "sharp")
    out |= e.success(projection, bounds.coarse_relu(*measured, m=e.m, n=n, k=e.k), "coarse")
    out["scaling_epsilon_relative"] = scaling.epsilon / scaling.norm
    out["scaling_solved"] = scaling.status == int(Status.OK)
    return out


SUITE = Suite(
    name="relu",
    statement="one ascent step on a trained two-layer network is (epsilon, delta, tau)-successful unlearning",
    source="docs/theory, Theorem P and Theorem R (the paper's Theorem 4.1)",
    evaluate=evaluate,
    draw=bounds_figure("relu", ("projection", "epsilon"), ("projection", "tau")),
    models=("relu",),
)
