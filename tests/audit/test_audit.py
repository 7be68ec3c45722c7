"""The audit of a user's own data against the NumPy reference, and its answer in words."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.preprocessing import StandardScaler

import gaunlearn_jax as ga
from gaunlearn_jax.audit.answer import headline
from gaunlearn_jax.kkt import hard_margin

ONE = np.ones(1)


def digits():
    points, labels = load_digits(return_X_y=True)
    chosen = np.isin(labels, [3, 8])
    return points[chosen], labels[chosen]


def breast_cancer():
    """Standardised: not separable through the origin, separable with a bias."""
    points, labels = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(points), labels


def correlated():
    rng = np.random.default_rng(3)
    points = rng.normal(size=(40, 6)) + 2.0
    return points, np.where(points @ np.array([1.0, -2, 1, 0.5, -1, 0.3]) > 0, "yes", "no")


DATA = {"digits": (digits, False), "breast_cancer": (breast_cancer, True), "correlated": (correlated, False)}


def signed(points, labels, bias):
    x = np.column_stack([points, np.ones(len(points))]) if bias else points
    return x, np.where(labels == np.unique(labels)[1], 1.0, -1.0)


def least_distance(x, y, keep=None):
    """w and lambda of the hard-margin problem by Lawson and Hanson's least-distance programme."""
    index = np.arange(len(y)) if keep is None else np.flatnonzero(keep)
    w, lam = reference.least_distance(y[index, None] * x[index])
    full = np.zeros(len(y))
    full[index] = lam
    return w, full


def gap(a, b):
    return reference.one_minus_cos(a.reshape(1, -1), b.reshape(1, -1))


@pytest.fixture(scope="module", params=DATA)
def linear(request):
    """An audit with a point that matters, and the reference's w, lambda, Z of the same data."""
    make, bias = DATA[request.param]
    points, labels = make()
    x, y = signed(points, labels, bias)
    w, lam = least_distance(x, y)
    forget = [int(i) for i in np.argsort(-lam)[:2]]
    answer = ga.audit(points, labels, forget, bias=bias, every_point=True)
    return answer, x, y, w[None], lam, forget


def close(got, expected, **options):
    np.testing.assert_allclose(got, expected, **({"rtol": 1e-8, "atol": 1e-9} | options))


def test_linear_model_is_the_least_distance_solution(linear):
    answer, _, _, w, lam, _ = linear
    close(answer.norm, np.linalg.norm(w))
    close(answer.multipliers, lam, atol=1e-8 * lam.max())
    assert answer.margins.min() > 1 - 1e-9
    assert answer.epsilon < 1e-9 * answer.norm
    assert answer.exact


def test_linear_certificates_agree_with_the_reference(linear):
    answer, x, y, w, lam, forget = linear
    z, s = w @ x.T, np.ones((1, len(y)))
    for name, make in (("projection", reference.projection_certificate), ("span", reference.span_certificate)):
        for scale, got in zip((1.0, 0.0), answer.certificates[name], strict=True):
            expected = make(w, z, x, y, ONE, lam, s, forget, scale, 1.0)
            close(got.epsilon, expected.epsilon, atol=1e-8 * answer.norm)
            close(got.tau, expected.tau)
            close(got.delta, expected.delta, atol=1e-8 * lam.max())
    done = answer.certificates["scaling"].step
    if answer.broken:
        assert np.isnan(done.epsilon)
    else:
        expected = reference.scaling_certificate_linear(w, x, y, lam, forget)
        close(done.epsilon, expected.epsilon, atol=1e-8 * expected.epsilon + 1e-8)
    h = (lam * y)[forget] @ x[forget]
    keep = np.setdiff1d(np.arange(len(y)), forget)
    assert answer.broken == np.sum(y[keep] * (x[keep] @ (w[0] - h)) <= 0)
    close(answer.step.rho, np.linalg.norm(reference.projector(x, keep) @ h), atol=1e-8 * answer.norm)


def test_linear_gap_to_the_retrained_model(linear):
    answer, x, y, w, lam, forget = linear
    keep = ~np.isin(np.arange(len(y)), forget)
    best, _ = least_distance(x, y, keep)
    h = (lam * y)[forget] @ x[forget]
    done, before = answer.certificates["retrain"]
    close(done.tau, gap(w - h, best))
    close(before.tau, gap(w, best))
    assert done.epsilon < 1e-9 * done.norm


def test_every_point_of_a_linear_model(linear):
    answer, x, y, w, lam, _ = linear
    every = answer.every_point
    support = np.flatnonzero(answer.multipliers > 0)
    unused = np.setdiff1d(np.arange(len(y)), support)
    assert np.all(every.gap[unused] == 0)
    assert np.all(every.rho[unused] == 0)
    for i in support[:: max(1, len(support) // 6)]:
        keep = np.arange(len(y)) != i
        best, _ = least_distance(x, y, keep)
        close(every.gap_nothing[i], gap(w, best))
        close(every.gap[i], gap(w - lam[i] * y[i] * x[i], best))
        inside = reference.projector(x, np.flatnonzero(keep)) @ x[i]
        close(every.rho[i], lam[i] * np.linalg.norm(inside) / np.linalg.norm(w))
    ranked = every.rho[every.ranking()]
    assert np.all(np.diff(ranked) >= 0)


def test_an_unused_point_can_be_left_out_for_nothing(linear):
    answer, x, y, w, *_ = linear
    unused = np.flatnonzero(answer.multipliers == 0)[:3]
    best, _ = least_distance(x, y, ~np.isin(np.arange(len(y)), unused))
    assert gap(w, best) < 1e-15


def test_leave_one_out_in_closed_form_and_from_the_points_that_stay():
    """Many points on the margin: some leave-one-out solutions keep all others, some do not."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(30, 40)) / 6 + 0.05
    y = np.sign(rng.normal(size=30))
    full = hard_margin.solve(x, y, start=range(30))
    cold = hard_margin.solve(x, y)
    close(full.weights, cold.weights, atol=1e-12)
    assert 0 < np.sum(full.multipliers == 0) < 25
    for i, w in zip(full.active, hard_margin.leave_one_out(x, y, full), strict=True):
        close(w, least_distance(x, y, np.arange(30) != i)[0], atol=1e-11)


def overlapping(case):
    """Points of which many enter when one leaves: nearly as many as dimensions, copies, a flat class, huge scales."""
    rng = np.random.default_rng(11)
    x = rng.normal(size=(60, 40))
    y = np.where(x @ rng.normal(size=40) > 0, 1.0, -1.0)
    if case == "copies":
        x[30:] = x[:30]
        y[30:] = y[:30]
    if case == "flat":
        x[:, 25:] = 0.0
        y = np.where(x @ rng.normal(size=40) > 0, 1.0, -1.0)
    return (x * np.geomspace(1e-6, 1e6, 60)[:, None] if case == "scales" else x), y


@pytest.mark.parametrize("case", ["many", "copies", "flat", "scales"])
def test_leave_one_out_where_much_changes(case):
    """Against solving each from nothing, and against the conditions that make it the solution."""
    x, y = overlapping(case)
    full = hard_margin.solve(x, y)
    changed = 0
    for i, w in zip(full.active, hard_margin.leave_one_out(x, y, full), strict=True):
        keep = np.arange(60) != i
        cold = hard_margin.solve(x, y, keep)
        close(w, cold.weights, atol=1e-9 * np.linalg.norm(w))
        terms = np.abs(x) @ np.abs(w)
        assert np.all((y * (x @ w) > 1 - 1e-13 * (terms + 1))[keep])
        changed += len(np.setdiff1d(cold.active, full.active)) > 0
    assert changed > 3


@pytest.mark.parametrize(
    "points",
    [
        [[1, 1], [-1, -1], [1, -1], [-1, 1]],  # exclusive or
        [[1.0, 0], [-1, 0], [0, 1], [0.5, 0.5]],
        [[3.0], [2.0], [-1.0], [1.0]],
    ],
)
def test_no_separation_comes_with_a_witness(points):
    x, y = np.asarray(points, float), np.array([1.0, 1, -1, -1])
    with pytest.raises(hard_margin.NotSeparable, match="nonnegative weights") as caught:
        hard_margin.solve(x, y)
    witness = caught.value.witness
    assert np.all(witness >= 0)
    assert np.sum(witness) == pytest.approx(1.0)
    np.testing.assert_allclose((witness * y) @ x, 0, atol=1e-14)


def test_nearly_orthogonal_points_are_forgotten():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 4000)) / np.sqrt(4000)
    y = np.array([1, 0] * 4)
    answer = ga.audit(x, y, [2])
    assert answer.verdict == "forgotten"
    assert headline(answer).startswith("Forgotten")
    done, before = answer.certificates["projection"]
    assert done.epsilon < 0.1 * before.epsilon
    # the cost of a wrong step: sqrt(rho^2 + error^2 rho_perp^2)
    across = np.sqrt(answer.step.size**2 - answer.step.rho**2)
    for error, epsilon in answer.step.errors.items():
        close(epsilon, np.hypot(answer.step.rho, error * across))
    assert str(answer).count("\n") > 20
    assert "<table>" in answer._repr_html_()
    assert json.loads(json.dumps(answer.to_dict()))["verdict"] == "forgotten"


def test_own_linear_weights_are_measured_as_they_are():
    """In R^30 with a part orthogonal to all points: it counts in epsilon, in the norm and in tau."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(6, 30)), np.array([1.0, -1, 1, -1, 1, -1])
    w = 3 * y @ x + 4 * rng.normal(size=30)
    scale = np.min(y * (x @ w))
    assert scale > 0
    basis = np.linalg.qr(x.T)[0]
    outside = np.linalg.norm(w - basis @ (basis.T @ w))
    a = y[:, None] * x
    lam = reference.nonnegative_fit(a.T, w / scale)
    got = ga.audit(x, y, [1, 4], weights=w)
    close(got.scale, scale)
    close(got.orthogonal, outside / scale)
    close(got.norm, np.linalg.norm(w) / scale)
    close(got.multipliers, lam)
    close(got.epsilon, np.linalg.norm(w / scale - lam @ a))
    close(got.delta, np.max(lam * (a @ w / scale - 1)))
    expected = reference.projection_certificate(
        (w / scale)[None], (w / scale)[None] @ x.T, x, y, ONE, lam, np.ones((1, 6)), [1, 4], 1.0, 1.0
    )
    close(got.certificates["projection"].step[:3], (expected.epsilon, expected.delta, expected.tau))
    # beta for the weights as given: lambda scale / -l'(scale q)
    q = scale * (a @ w / scale)[[1, 4]]
    close(got.step.log_beta, np.log(lam[[1, 4]] * scale) + q)


@pytest.fixture(scope="module")
def network():
    """Nine correlated points in R^4 (m > d), and the audit of a network of 4 neurons trained on them."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(9, 4)) + 0.5
    y = np.where(x @ np.array([1.0, -1, 0.5, 2]) > 0, 1.0, -1.0)
    answer = ga.audit(x, y, [0], model="relu", neurons=4, every_point=True)
    return x, y, answer


def test_a_networks_exact_point_and_its_retrained_gaps(network):
    x, y, answer = network
    data, net = ga.data.from_points(x, y), ga.models.TwoLayerReLU(4)
    run = ga.train.train(jax.random.key(0), net, data, num_steps=5000, checkpoints=1)
    pattern = np.asarray(run.preactivations) > 0
    full = reference.limit_point(np.asarray(data.points), y, np.asarray(net.output_weights), pattern)
    close(answer.norm, np.linalg.norm(full.W))
    support = np.flatnonzero(answer.multipliers > 0)
    assert len(support) > 0
    pattern = full.Z > 0
    for i in support[:3]:
        keep = [k for k in range(9) if k != i]
        best = reference.limit_point(np.asarray(data.points), y, np.asarray(net.output_weights), pattern, keep)
        close(answer.every_point.gap_nothing[i], gap(full.W.ravel(), best.W.ravel()), atol=1e-8)


def test_own_network_weights_agree_with_the_reference():
    rng = np.random.default_rng(5)
    u = np.array([0.6, -0.5, 0.4, -0.4])
    x = rng.normal(size=(9, 4)) + 0.3
    w = rng.normal(size=(4, 4))
    y = np.sign(reference.margins(w, x, np.ones(9), u))
    scale = np.min(reference.margins(w, x, y, u))
    expected = reference.measure_multipliers(w @ x.T / scale, w / scale, x, y, u)
    got = ga.audit(x, y, [2], model="relu", weights=w, output_weights=u)
    close(got.epsilon, expected.epsilon)
    close(got.multipliers, expected.multipliers, atol=1e-8 * np.max(expected.multipliers))
    near = reference.projection_certificate(
        w / scale, w @ x.T / scale, x, y, u, expected.multipliers, (w @ x.T > 0).astype(float), [2]
    )
    close(got.certificates["projection"].step[:3], (near.epsilon, near.delta, near.tau))
    assert [h.holds for h in got.hypotheses if h.name == "second layer"] == [False]


def test_labels_of_any_kind_are_mapped_in_order():
    points, labels = correlated()
    answer = ga.audit(points, labels, [0])
    assert answer.classes == ("no", "yes")
    same = ga.audit(points, np.where(labels == "yes", 1, -1), [0])
    close(answer.multipliers, same.multipliers)
    assert "label 'no' is -1" in str(answer)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0, 1, 2, 0], "model": "relu"}, "3 different values; the relu model has two"),
        ({"labels": [0, 0, 0, 0]}, "1 different values"),
        ({"labels": [0, 1]}, "one label per point"),
        ({"labels": [0, 1, np.nan, 0]}, "labels\\[2\\] is nan"),
        ({"forget": []}, "at least one"),
        ({"forget": [4]}, "out of range"),
        ({"model": "cnn"}, "expected one of linear"),
        ({"loss": "hinge"}, "exponential"),
        ({"weights": [1.0]}, "weights has shape"),
        ({"weights": [[1.0, 0], [0, 1]]}, "weights has shape"),
        ({"weights": [-1.0, 0]}, "misclassify"),
        ({"weights": [np.nan, 0]}, "finite"),
        ({"weights": [[1.0, 0]], "model": "relu"}, "second layer"),
        ({"weights": [1.0, 0], "output_weights": [1.0]}, "use model relu"),
        ({"points": [[0.0, 0], [1, 1], [2, 1], [1, 2]], "normalize": True}, "zero vector"),
    ],
)
def test_bad_arguments_are_named(unchecked, change, message):
    given = {"points": [[1.0, 0], [-1, 0.2], [2, 1], [-1, 1]], "labels": [1, 0, 1, 0], "forget": [0]}
    with pytest.raises(ValueError, match=message):
        ga.audit(**(given | change))


def test_far_from_kkt_weights_are_not_called_forgotten():
    points, labels = digits()
    w = least_distance(*signed(points, labels, False))[0]
    rng = np.random.default_rng(0)
    wide = np.column_stack([points, np.zeros((len(points), 1))])
    answer = ga.audit(wide, labels, [3], weights=np.append(w, 10 * np.linalg.norm(w)) + 0 * rng.normal(size=65))
    assert answer.verdict == "no KKT point"
    assert headline(answer).startswith("No statement")
    assert answer.epsilon / answer.norm > 0.9
    assert jnp.isfinite(answer.step.rho)
