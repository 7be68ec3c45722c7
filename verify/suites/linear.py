"""Linear models: one ascent step gives an (epsilon, delta, 0)-KKT point of the retained problem."""

from __future__ import annotations

from verify.suites.drawing import bounds_figure
from verify.suites.finding import Explanation, of_success
from verify.suites.suite import Evaluation, Results, Suite, bound_of, successes


def evaluate(e: Evaluation) -> Results:
    out: Results = {}
    for kind in ("scaling", "projection", "span"):
        out |= e.success(e.certificates[kind], e.instance_bound(e.certificates[kind]), "instance")
    worst_case = (("scaling", "sharp"), ("scaling", "coarse"), ("projection", "sharp"), ("projection", "scale_free"))
    for kind, strength in worst_case:
        out |= e.success(e.certificates[kind], bound_of(e, e.certificates[kind], strength), strength)
    return out


SUITE = Suite(
    name="linear",
    statement="one ascent step on a trained linear model is (epsilon, delta, tau)-successful unlearning",
    source="docs/theory, Theorem L and Theorem P (in the shape of the paper's Theorem 3.1, proved here)",
    evaluate=evaluate,
    draw=bounds_figure("linear", ("projection", "epsilon"), ("scaling", "delta")),
    models=("linear",),
    theorem="L",
    attacks={
        **successes("sharp", "scaling", "sharp", "Theorem L", "epsilon", "delta"),
        **successes("coarse", "scaling", "coarse", "Coarse forms", "epsilon", "delta"),
        **successes("projection", "projection", "sharp", "Theorem L", "epsilon", "tau"),
        **successes("instance", "scaling", "instance", "Theorem L", "epsilon", "delta"),
        **successes("projection_instance", "projection", "instance", "Theorem P", "epsilon", "tau"),
        **successes("scale_free", "projection", "scale_free", "Theorem F", "epsilon", "tau"),
        **successes("span_instance", "span", "instance", "The four certificates", "epsilon", "tau"),
    },
    certified=True,
    find=of_success("linear", sharp="projection/sharp", scale_free="projection/scale_free", coarse="scaling/coarse"),
    explain=Explanation(
        hypotheses="a KKT point up to (epsilon_1, delta_1). Worst-case bounds: squared norms within psi of 1, inner "
        "products at most phi; the sharp ones 1 - psi - (m - 1) phi > 0 (and, at tau = 0, a leakage below 1), the "
        "coarse one psi <= 0.1, eps_d = 4 m phi <= 1, epsilon_1, delta_1 <= 1/2. The instance bounds (Theorem P) "
        "assume nothing of the data",
        meaning="after the step the model, or a multiple of it, nearly solves the margin problem of the retained "
        "points",
        false_if="a step of another size or sign; a bound whose constant is too small",
    ),
)
