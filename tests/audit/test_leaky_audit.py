"""The audit of leaky networks: `slope`, Theorem LK in words, their bounds, refusals, the command."""

from __future__ import annotations

import math

import numpy as np
import pytest

import gaunlearn_jax as ga
from verify.cli import main

U = np.array([0.5, -0.5, 0.5, -0.5])
SLOPE = 0.4


def on_pattern(correlation: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points of equal inner products, labels, and the weights of the KKT point on pattern, by one linear system."""
    k = np.eye(5) + correlation * (1 - np.eye(5))
    x, y = np.linalg.cholesky(k), np.array([1.0, -1.0, 1.0, -1.0, 1.0])
    s = np.where(U[:, None] * y > 0, 1.0, SLOPE)
    q = y[:, None] * y * k * np.einsum("j,ji,jk->ik", U**2, s, s)
    lam = np.linalg.solve(q, np.ones(5))
    return x, y, (U[:, None] * y * lam * s) @ x


def test_given_weights_of_a_leaky_network():
    phi, m, k = 0.01, 5, 1
    x, y, w = on_pattern(phi)
    answer = ga.audit(x, y, [2], model="relu", weights=3 * w, output_weights=U, slope=SLOPE)
    assert answer.epsilon < 1e-14
    half, away = 0.5, (m - 1) * phi
    c, b = half * (1 + SLOPE**2), half * (1 + SLOPE)
    chi = away / (c - away * b) * (c - SLOPE**2 * b) / SLOPE
    assert answer.leaky.slope == SLOPE
    assert answer.leaky.chi == pytest.approx(chi, rel=1e-9)
    assert answer.leaky.chi_of_model == pytest.approx(chi, rel=1e-9)
    kept = m - k
    rho = phi * math.sqrt(kept / (1 - (kept - 1) * phi)) / (math.sqrt(c) * (1 - away))
    sharp, coarse = answer.bounds.values()
    assert sharp.reason == coarse.reason == ga.Reason.APPLIES
    assert sharp.epsilon == pytest.approx(rho, rel=1e-9)
    assert coarse.epsilon == pytest.approx(0.48 * 4 * math.sqrt(m) * phi, rel=1e-9)
    assert answer.certificates["projection"].step.epsilon <= sharp.epsilon <= coarse.epsilon
    assert answer.eps_d == pytest.approx(4 * m * phi / SLOPE, rel=1e-9)
    assert all(h.holds for h in answer.hypotheses)
    text = str(answer)
    assert "two-layer leaky ReLU network (slope 0.4) with 4 neurons" in text
    assert f"chi = {chi:.3g} < 1: the retrained network is unique" in text
    assert "active exactly where that raises a margin" in text
    assert answer.to_dict()["leaky"]["slope"] == SLOPE


def test_correlated_points_may_have_several_kkt_points():
    x, y, w = on_pattern(0.2)
    answer = ga.audit(x, y, [2], model="relu", weights=w, output_weights=U, slope=SLOPE)
    assert "Theorem LK: does not apply" in str(answer)
    assert "retraining several outcomes" in str(answer)


def test_relu_and_linear_answers_have_no_such_line():
    x, y, _ = on_pattern(0.01)
    answer = ga.audit(x, y, [2])
    assert answer.leaky is None
    assert "Theorem LK" not in str(answer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "relu", "slope": 1.0}, "slope is 1.0, expected a number from 0 .ReLU. to below 1"),
        ({"model": "relu", "slope": -0.1}, "slope is -0.1, expected"),
        ({"model": "relu", "slope": float("nan")}, "slope is nan, expected"),
        ({"slope": 0.3}, "slope is 0.3 and the model linear, which has no activation; use model relu"),
    ],
)
def test_other_slopes_are_refused(options, message):
    x, y, _ = on_pattern(0.01)
    with pytest.raises(ValueError, match=message):
        ga.audit(x, y, [2], **options)


def test_the_command(tmp_path, capsys):
    x, y, w = on_pattern(0.01)
    np.savez(tmp_path / "d.npz", X=x, y=y)
    np.savez(tmp_path / "w.npz", W=w, u=U)
    data = ["audit", str(tmp_path / "d.npz"), "--forget", "2", "--model", "relu", "--weights", str(tmp_path / "w.npz")]
    assert main.main([*data, "--slope", "0.4"]) == 0
    assert "Theorem R for leaky networks: epsilon <= " in " ".join(capsys.readouterr().out.split())
    assert main.main([*data, "--slope", "1.4"]) == 2
    assert "slope is 1.4, expected a number from 0 (ReLU) to below 1 (leaky ReLU)" in capsys.readouterr().err
