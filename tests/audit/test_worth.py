"""What an audit says of leverage: data with a common mean as expression data have it, duplicates, own centring."""

from __future__ import annotations

import math

import numpy as np
import pytest

import gaunlearn_jax as ga
from verify.cli.main import main


def common_mean(share: float, m: int = 40, d: int = 4000, seed: int = 0):
    """Points, labels at random, and the public mean."""
    rng = np.random.default_rng(seed)
    mean = rng.standard_normal(d)
    mean *= math.sqrt(share) / np.linalg.norm(mean)
    x = mean + math.sqrt((1 - share) / d) * rng.standard_normal((m, d))
    return x, np.where(np.arange(m) % 2 == 0, 1, -1), mean


def test_a_common_mean_of_097_makes_ascent_about_thirty_times_worse_than_nothing() -> None:
    x, y, mean = common_mean(0.97)
    found = ga.audit(x, y, [3])
    assert found.worth.answer == "no"
    assert 20 < found.worth.ratio < 45
    assert 20 < found.worth.predicted < 45
    assert found.worth.leverage[0] > 0.95
    text = str(found)
    assert "Ascent better than nothing: no." in text
    assert "common mean: cosines are 0.97" in text
    assert "public mean" in text
    helped = ga.audit(x, y, [3], center=mean)
    assert helped.worth.answer == "yes (proved)"
    assert helped.worth.ratio < 0.1
    assert not helped.worth.reasons
    assert "Warning: the mean that was subtracted must be public" in str(helped)


def test_leverage_is_the_squared_cosine_to_the_span_of_the_others() -> None:
    x, y, _ = common_mean(0.4, m=12, d=200)
    found = ga.audit(x, y, [5, 2])
    for at, r in enumerate((2, 5)):
        rest = np.delete(x, [2, 5], axis=0)
        inside = rest.T @ np.linalg.lstsq(rest.T, x[r], rcond=None)[0]
        assert found.worth.leverage[at] == pytest.approx(inside @ inside / (x[r] @ x[r]), rel=1e-9)


def test_a_duplicate_is_named() -> None:
    x, y, _ = common_mean(0.0, m=20, d=2000)
    x[8] = 0.95 * x[4] + math.sqrt(1 - 0.95**2) * x[8]
    found = ga.audit(x, y, [4])
    assert found.worth.answer == "no"
    assert any("near-duplicate, point 8, at cosine 0.9" in reason for reason in found.worth.reasons)


def test_points_centred_by_their_own_mean_are_named() -> None:
    x, _, _ = common_mean(0.0, m=6, d=3)
    x = x - np.mean(x, axis=0)
    answers = [ga.audit(x, np.sign(x[:, 0]), [r]).worth for r in range(6)]
    assert any("centred by their own mean" in " ".join(w.reasons) for w in answers if w.answer == "no")


def test_a_bias_of_one_after_unit_norm_is_named() -> None:
    x, y, _ = common_mean(0.4, m=20, d=2000)
    found = ga.audit(x, y, [0], normalize=True, bias=True)
    assert found.worth.answer == "no"
    assert "coordinate 1" in " ".join(found.worth.reasons)


def test_proof_agrees_with_the_retrained_model_and_with_the_kernels() -> None:
    """Networks and linear models: proved only where the measured ratio is below 1."""
    proved = 0
    for seed in range(4):
        for share in (0.0, 0.3, 0.6):
            x, y, _ = common_mean(share, m=10, d=300, seed=seed)
            w = ga.audit(x, y, [seed]).worth
            if w.answer == "yes (proved)":
                proved += 1
                assert w.ratio < 1
            assert (w.ratio < 1) == w.answer.startswith("yes")
    assert proved >= 6


def test_standardising_warns() -> None:
    x, y, _ = common_mean(0.5, m=12, d=50)
    assert "Warning: the points were standardised by their own mean" in str(ga.audit(x, y, [0], standardize=True))


def test_a_center_of_the_wrong_size_is_refused() -> None:
    x, y, _ = common_mean(0.5, m=6, d=20)
    with pytest.raises(ValueError, match=r"center has shape \(3,\), expected \(20,\)"):
        ga.audit(x, y, [0], center=np.zeros(3))


def test_the_command_takes_a_public_mean(tmp_path, capsys) -> None:
    x, y, mean = common_mean(0.97, m=12, d=500)
    np.savez(tmp_path / "data.npz", X=x, y=y)
    np.save(tmp_path / "mean.npy", mean)
    options = [str(tmp_path / "data.npz"), "--forget", "1", "--center", str(tmp_path / "mean.npy")]
    assert main(["audit", *options]) == 0
    assert "Ascent better than nothing: yes (proved)." in capsys.readouterr().out
