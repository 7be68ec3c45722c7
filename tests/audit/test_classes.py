"""The audit of a linear model with several classes against loops and a general solver, and its answer in words."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from reference import classes as reference
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from gaunlearn_jax.audit.audit import audit
from gaunlearn_jax.audit.class_answer import headline
from gaunlearn_jax.audit.classes import audit_classes
from gaunlearn_jax.base.codes import Reason
from gaunlearn_jax.kkt import class_margin


def orthogonal():
    """Twelve points in many dimensions, four classes."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((12, 3000))
    return x / np.linalg.norm(x, axis=1)[:, None], np.tile(np.array(["a", "b", "c", "d"]), 3)


def clusters():
    """More points than directions: only some carry the model, and all of them span every direction."""
    rng = np.random.default_rng(1)
    y = np.arange(60) % 3
    return 2 * rng.standard_normal((3, 5))[y] + 0.4 * rng.standard_normal((60, 5)), y * 10


DATA = {"orthogonal": orthogonal, "clusters": clusters}


def gap(a, b):
    return 0.5 * np.sum((a / np.linalg.norm(a) - b / np.linalg.norm(b)) ** 2)


def close(got, expected, **options):
    np.testing.assert_allclose(got, expected, **({"rtol": 1e-8, "atol": 1e-9} | options))


@pytest.fixture(scope="module", params=DATA)
def case(request):
    """An audit of the two points of largest multipliers, with the reference's W and lambda."""
    x, labels = DATA[request.param]()
    y = np.unique(labels, return_inverse=True)[1]
    C = int(y.max()) + 1
    w, lam = reference.hard_margin(x, y, C)
    forget = [int(i) for i in np.argsort(-lam.sum(axis=1))[:2]]
    answer = audit_classes(x, labels, forget, every_point=True)
    return answer, x, y, C, w, lam, forget


def only(lam, points):
    return np.where(np.isin(np.arange(len(lam)), points)[:, None], lam, 0.0)


def test_the_model_is_the_hard_margin_solution(case):
    answer, x, _, C, w, lam, _ = case
    close(answer.norm, np.linalg.norm(w))
    if len(x) < x.shape[1]:  # multipliers are unique
        close(answer.multipliers, lam)
    assert answer.epsilon < 1e-10 * answer.norm
    assert answer.margins.min() > 1 - 1e-10
    assert answer.floor <= answer.norm
    assert len(answer.classes) == C


def test_certificates_by_loops(case):
    answer, x, y, C, w, _, forget = case
    lam = answer.multipliers
    keep = np.setdiff1d(np.arange(len(y)), forget)
    h, rest = reference.combination(x, y, only(lam, forget)), reference.combination(x, y, only(lam, keep))
    P = reference.projector(x[keep])
    for c, at in ((1.0, 0), (0.0, 1)):
        tilde = w - c * (h - h @ P)
        expected = {"projection": (tilde, rest), "span": (w @ P, rest)}
        least = min(1.0, reference.margins(x, y, w - c * h)[keep].min())
        if least > 0:
            expected["scaling"] = (w - c * h) / least, rest / least
        else:
            assert np.isnan(answer.certificates["scaling"][at].epsilon)
        for name, (model, made) in expected.items():
            got = answer.certificates[name][at]
            close(got.epsilon, np.linalg.norm(model - made))
            close(got.tau, gap(w - c * h, model))
            q = reference.margins(x, y, model)
            size = least if name == "scaling" else 1.0
            slack = max(lam[i, b] / size * (q[i, b] - 1) for i, b in reference.constraints(y, C) if i in keep)
            close(got.delta, max(slack, 0.0), atol=1e-8)
    close(answer.step.rho, np.linalg.norm(h @ P))
    close(answer.step.size, np.linalg.norm(h))
    assert answer.broken == np.sum(reference.margins(x, y, w - h)[keep].min(axis=1) <= 0)


def test_retrained_model_and_logits(case):
    answer, x, y, C, w, _, forget = case
    keep = ~np.isin(np.arange(len(y)), forget)
    best, _ = reference.hard_margin(x, y, C, keep)
    h = reference.combination(x, y, only(answer.multipliers, forget))
    close([c.tau for c in answer.certificates["retrain"]], [gap(w - h, best), gap(w, best)])
    order = sorted(forget)
    close(answer.step.logits_before, x[order] @ w.T)
    close(answer.step.logits_after, x[order] @ (w - h).T, atol=1e-8 * np.abs(h).max())
    if answer.retrained_is_step:
        close(w - h + h @ reference.projector(x[keep]), best, atol=1e-10)


def test_every_point_by_the_general_solver(case):
    answer, x, y, C, w, _, _ = case
    every, lam = answer.every_point, answer.multipliers
    unused = np.flatnonzero(~np.any(lam > 0, axis=1))
    assert not np.any(every.gap[unused])
    assert not np.any(every.rho[unused])
    used = np.flatnonzero(np.any(lam > 0, axis=1))
    for i in used[:: max(1, len(used) // 5)]:
        keep = np.arange(len(y)) != i
        best, _ = reference.hard_margin(x, y, C, keep)
        h = reference.combination(x, y, only(lam, [i]))
        close(every.gap[i], gap(w - h, best))
        close(every.gap_nothing[i], gap(w, best))
        close(every.rho[i], np.linalg.norm(h @ reference.projector(x[keep])) / np.linalg.norm(w))


def test_on_nearly_orthogonal_points_the_step_forgets_and_the_theorem_speaks():
    noise, labels = orthogonal()
    x = np.eye(12) + 1e-4 * noise[:, :12]
    x /= np.linalg.norm(x, axis=1)[:, None]
    for forget in ([2], np.flatnonzero(labels == "b")):
        answer = audit_classes(x, labels, forget)
        assert answer.verdict == "forgotten"
        assert answer.retrained_is_step
        done, before = answer.certificates["retrain"]
        assert done.tau < 1e-4 * before.tau
        assert {b.reason for b in answer.bounds.values()} == {Reason.APPLIES}
        got = answer.certificates["projection"].step
        for bound in answer.bounds.values():
            assert got.epsilon <= bound.epsilon
            assert got.tau <= bound.tau
    assert answer.forgotten_class == "b"
    assert "all 3 points of class 'b'" in str(answer)
    assert "is* the model" in str(answer)


def test_a_softmax_head_is_measured_as_it_is():
    """scikit-learn's head with an intercept, and the same weights plus a common row, as a torch layer would have."""
    x, y = load_digits(return_X_y=True)
    x, y = x[:150] / 16, y[:150]
    head = LogisticRegression(C=100.0, max_iter=5000, tol=1e-8).fit(x, y)
    w = np.column_stack([head.coef_, head.intercept_])
    answer = audit_classes(x, y, [3, 7], weights=w, bias=True)
    ones = np.column_stack([x, np.ones(150)])
    close(answer.scale, reference.margins(ones, y, w).min(), rtol=1e-12)
    theta = (w - w.mean(axis=0)) / answer.scale
    close(answer.norm, np.linalg.norm(theta), rtol=1e-12)
    close(answer.epsilon, np.linalg.norm(theta - reference.combination(ones, y, answer.multipliers)))
    q = reference.margins(ones, y, theta)
    slack = [answer.multipliers[a] * (q[a] - 1) for a in reference.constraints(y, 10)]
    close(answer.delta, max(0.0, *slack))
    close(answer.step.logits_before, head.decision_function(x[[3, 7]]), atol=1e-10)
    # one real step of that rate
    ce = answer.step.cross_entropy
    step = w.copy()
    for i in (3, 7):
        step += math.exp(ce.log_rate) * reference.cross_entropy_gradient(ones, y, w, i)[0]
    h = reference.combination(ones, y, only(answer.multipliers, [3, 7]))
    close(ce.gap, gap(step - step.mean(axis=0), theta - h), rtol=1e-6, atol=1e-14)

    torch = w.astype(np.float32).astype(np.float64)
    other = audit_classes(x, y, [3, 7], weights=torch + np.linspace(-1, 1, 65), bias=True)
    same = audit_classes(x, y, [3, 7], weights=torch, bias=True)
    close(other.norm, same.norm, rtol=1e-12)
    close(other.common, np.linalg.norm(np.linspace(-1, 1, 65) + torch.mean(axis=0)) * 10**0.5)
    close(other.epsilon, same.epsilon, atol=1e-9 * same.norm)
    close(np.diff(other.step.logits_after), np.diff(same.step.logits_after), atol=1e-6)
    assert audit_classes(x, y, [3, 7], weights=w.astype(np.float32), bias=True).norm == pytest.approx(same.norm)


def test_moved_points_are_warned_of():
    """As in audits of two classes: --center needs a public mean, --standardize uses the forgotten points."""
    x, labels = orthogonal()
    assert audit(x, labels, [1]).warnings == ()
    centred = audit(x, labels, [1], center=np.full(x.shape[1], 1e-3))
    assert "Warning: the mean that was subtracted must be public" in str(centred)
    standard = audit(x, labels, [1], standardize=True)
    assert "Warning: the points were standardised by their own mean" in str(standard)
    assert standard.to_dict()["warnings"] == list(standard.warnings)


def test_weights_off_the_points_count():
    x, labels = orthogonal()
    y = np.unique(labels, return_inverse=True)[1]
    w = 50 * class_margin.solve(x, y, 4).weights
    away = np.random.default_rng(3).standard_normal(3000)
    away -= away @ reference.projector(x)
    w[0] += away
    answer = audit_classes(x, labels, [1], weights=w)
    extra = np.linalg.norm(away) * (3 / 4) ** 0.5 / 50  # of a row's change, the centred part
    close(answer.orthogonal, extra, rtol=1e-6)
    close(answer.epsilon, extra, rtol=1e-6)
    far = w.copy()
    far[0] += 50 * away
    assert audit_classes(x, labels, [1], weights=far).verdict == "no KKT point"


def test_the_answer_in_words_and_as_json(case):
    answer, *_ = case
    text = str(answer)
    for part in ("Data:", "Model:", "projection", "Retrained model:", "Logits", "Theorem R'", "Every point:"):
        assert part in text
    assert headline(answer) in repr(answer)
    assert "<b>" in answer._repr_html_()
    told = json.loads(json.dumps(answer.to_dict(), allow_nan=False))
    assert told["verdict"] == answer.verdict
    assert np.shape(told["multipliers"]) == answer.multipliers.shape
    assert max(map(len, text.splitlines())) < 400


def test_nothing_to_forget_and_not_forgotten():
    x, labels = clusters()
    answer = audit_classes(x, labels, [0])
    unused = np.flatnonzero(~np.any(answer.multipliers > 0, axis=1))
    nothing = audit_classes(x, labels, unused[:2])
    assert nothing.verdict == "nothing to forget"
    assert nothing.certificates["retrain"].step.tau < 1e-20
    used = int(np.argmax(answer.multipliers.sum(axis=1)))
    failed = audit_classes(x, labels, [used])
    assert failed.verdict == "not forgotten"
    assert "span all 5 directions" in headline(failed)


X, Y = clusters()
GOOD = class_margin.solve(X, Y // 10, 3).weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": X[:, 0]}, "points has shape"),
        ({"points": np.where(X[3, 2] == X, np.nan, X)}, r"points\[3, 2\] is nan"),
        ({"points": np.where(np.arange(60)[:, None] == 4, 0.0, X)}, r"points\[4\] is the zero vector"),
        ({"points": X * 1e150}, "other units"),
        ({"points": X.astype(str)}, "dtype"),
        ({"labels": Y[:-1]}, r"labels has shape \(59,\)"),
        ({"labels": Y > 5}, "2 different values"),
        ({"labels": Y + 0.5}, "no measurements"),
        ({"labels": np.where(Y > 0, Y, np.nan)}, "nan"),
        ({"labels": [*["a", 3, None] * 20]}, "classes"),
        ({"forget": []}, "forget is empty"),
        ({"forget": 3}, "list of indices"),
        ({"forget": [60]}, "index 60 is out of range"),
        ({"forget": [-1]}, "index -1 is out of range"),
        ({"forget": [1, 1]}, "twice"),
        ({"forget": list(range(60))}, "retain at least one"),
        ({"forget": Y == 0}, "flatnonzero"),
        ({"weights": GOOD.T}, "transpose"),
        ({"weights": np.column_stack([GOOD, GOOD[:, 0]])}, "bias=True"),
        ({"weights": GOOD, "bias": True}, "last column"),
        ({"weights": GOOD[[1, 0, 2]]}, "misclassify .* sorted order"),
        ({"weights": GOOD * np.nan}, "weights"),
        ({"weights": GOOD[0]}, "expected"),
    ],
)
def test_bad_inputs_are_told_what_to_do(unchecked, change, message):
    given = {"points": X, "labels": Y, "forget": [1], **change}
    with pytest.raises(ValueError, match=message):
        audit_classes(**given)


def test_classes_that_cannot_be_separated():
    rng = np.random.default_rng(0)
    with pytest.raises(class_margin.NotSeparable, match="no linear model") as caught:
        audit_classes(rng.standard_normal((60, 2)), rng.integers(0, 3, 60), [0])
    assert caught.value.witness.shape == (60, 3)
