"""Two-layer ReLU networks: one ascent step gives an (epsilon, delta)-KKT point up to a cosine gap tau."""

from __future__ import annotations

from gaunlearn_jax.base.codes import Status
from verify.suites.drawing import bounds_figure
from verify.suites.finding import Explanation, of_success
from verify.suites.suite import Evaluation, Results, Suite, bound_of, successes


def evaluate(e: Evaluation) -> Results:
    projection, span, scaling = (e.certificates[name] for name in ("projection", "span", "scaling"))
    out: Results = {}
    for certificate in (projection, span):
        out |= e.success(certificate, e.instance_bound(certificate), "instance")
    for strength in ("sharp", "coarse", "scale_free"):
        out |= e.success(projection, bound_of(e, projection, strength), strength)
    out["scaling_epsilon_relative"] = scaling.epsilon / scaling.norm
    out["scaling_solved"] = scaling.status == int(Status.OK)
    return out


SUITE = Suite(
    name="relu",
    statement="one ascent step on a trained two-layer network is (epsilon, delta, tau)-successful unlearning",
    source="docs/theory, Theorem P and Theorem R (in the shape of the paper's Theorem 4.1, proved here)",
    evaluate=evaluate,
    draw=bounds_figure("relu", ("projection", "epsilon"), ("projection", "tau")),
    models=("relu",),
    theorem="R",
    attacks={
        **successes("sharp", "projection", "sharp", "Theorem R", "epsilon", "tau"),
        **successes("coarse", "projection", "coarse", "Coarse forms", "epsilon", "delta", "tau"),
        **successes("instance", "projection", "instance", "Theorem P", "epsilon", "tau"),
        **successes("scale_free", "projection", "scale_free", "Theorem F", "epsilon", "tau"),
        **successes("span_instance", "span", "instance", "The four certificates", "epsilon", "tau"),
    },
    certified=True,
    find=of_success("relu", sharp="projection/sharp", scale_free="projection/scale_free", coarse="projection/coarse"),
    explain=Explanation(
        hypotheses="a KKT point up to (epsilon_1, delta_1) with its Clarke selection. Worst-case bounds: squared norms "
        "within psi of 1, inner products at most phi; the sharp one 1 - psi - (m - 1) phi > 0 and no more, the coarse "
        "one psi <= 0.1, eps_d = 4 m n phi <= 1, epsilon_1, delta_1 <= 1/2. The instance bounds (Theorem P) assume "
        "nothing of the data",
        meaning="within the angle of cosine gap tau of the stepped network lies another one that is nearly a KKT point "
        "of the retained points; the stepped network itself is none, since the step moves kinks off zero",
        false_if="a step of another size or sign; a bound whose constant is too small",
    ),
)
