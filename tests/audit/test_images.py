"""The audit of a small convolution: numbers against loops, verdicts where they are known, bad input in one sentence."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest
from reference import problem as ref

import gaunlearn_jax as ga
from gaunlearn_jax.audit.images import audit_images
from gaunlearn_jax.models import Convolution
from verify.cli import main

RNG = np.random.default_rng(8)
IMAGES = RNG.normal(size=(6, 12, 24)) / 12
LABELS = np.array([3, 8, 3, 8, 3, 8])
HEAD = np.array([1.0, -1.0, 1.0, -1.0]) / 2


def patches(i: int) -> list[np.ndarray]:
    """The two square patches of an image."""
    return [IMAGES[i, :, 12 * p : 12 * (p + 1)].ravel() for p in range(2)]


def filters() -> np.ndarray:
    """Filters that see the patches of their own class alone, and so an exact KKT point on orthogonal patches."""
    sums = {label: sum(x for i in range(6) if LABELS[i] == label for x in patches(i)) for label in (3, 8)}
    return np.array([sums[8], sums[3], sums[8], sums[3]])


@pytest.fixture(scope="module")
def answer() -> ga.audit.image_answer.ImageAudit:
    return audit_images(IMAGES, LABELS, [1], patch=12, weights=filters(), output_weights=HEAD)


def test_numbers_against_loops(answer) -> None:
    data = ga.data.from_points(
        np.array([np.concatenate(patches(i)) for i in range(6)]), np.where(LABELS == 8, 1.0, -1.0), patches=2
    )
    problem = Convolution(None, 2, HEAD).problem(data)
    w = np.asarray(data.reduce(filters())[0]) / answer.scale
    s = np.asarray(problem.slopes(problem.preactivations(jnp.asarray(w))))
    lam = answer.multipliers
    assert np.min(ref.margins(problem, w)) == pytest.approx(1.0, rel=1e-9)
    assert answer.norm == pytest.approx(np.linalg.norm(w), rel=1e-9)
    rest = ref.residual(problem, w, lam, s)
    assert answer.epsilon == pytest.approx(np.linalg.norm(rest), rel=1e-9)
    for a in range(6):  # the least: no multiplier can shrink it
        pull = float(np.sum(rest * ref.gradient(problem, s, a)))
        assert pull < 1e-9
        assert lam[a] * abs(pull) < 1e-9
    h = lam[1] * ref.gradient(problem, s, 1)
    kept = np.asarray(problem.rows)[[r for r in range(12) if r // 2 != 1]]
    inside = h @ np.linalg.pinv(kept) @ kept
    assert answer.rho == pytest.approx(np.linalg.norm(inside), rel=1e-8)
    assert answer.certificate == pytest.approx(np.linalg.norm(rest + inside), rel=1e-9)
    assert answer.certificate_nothing == pytest.approx(np.linalg.norm(rest + h), rel=1e-9)
    assert (answer.patches, answer.pixels, answer.rank, answer.dependent) == (2, 144, 10, 0)


def test_words_and_json(answer) -> None:
    text = str(answer)
    assert answer.verdict in ("forgotten", "partly forgotten")
    assert "ascent step on point 1" in text
    assert "2 patches of 144 pixels" in text
    assert "trained again" not in text  # given filters have no start
    kept = json.loads(json.dumps(answer.to_dict()))
    assert kept["verdict"] == answer.verdict
    assert kept["gap"] is None


@pytest.mark.slow
def test_retained_patches_that_span_everything_leave_nothing_to_remove() -> None:
    """Twelve images of two patches of four pixels; labels are those that the filters give, so that margins are > 0."""
    images, w, head = RNG.normal(size=(12, 2, 4)), RNG.normal(size=(4, 4)), np.array([1.0, -1.0, 1.0, -1.0]) / 2
    seen = np.stack([images[:, :, 2 * p : 2 * p + 2].reshape(12, 4) for p in range(2)])
    labels = (np.maximum(seen @ w.T, 0.0).sum(axis=0) @ head > 0).astype(int)
    found = [audit_images(images, labels, [i], patch=2, weights=w, output_weights=head) for i in range(12)]
    assert all(one.rank == one.pixels == 4 for one in found)
    for one in found:
        assert one.rho == pytest.approx(one.size, abs=1e-12)
        assert one.verdict in ("not forgotten", "nothing to forget", "no KKT point")


def test_blank_patches_are_counted() -> None:
    images = IMAGES.copy()
    images[0, :, :12] = 0
    found = audit_images(images, LABELS, [1], patch=12, weights=filters(), output_weights=HEAD)
    assert found.dependent == 1
    assert "need not be Clarke's" in str(found)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"forget": []}, "forget is empty"),
        ({"patch": 7}, "not covered by patches of 7"),
        ({"images": np.ones((3, 5))}, r"images has shape \(3, 5\)"),
        ({"output_weights": None}, "need their head"),
        ({"weights": filters()[:2]}, "2 filters, expected 4"),
        ({"weights": -filters()}, "misclassify 6 of 6 images"),
        ({"labels": [1, 2, 3, 1, 2, 3]}, "3 different values"),
    ],
)
def test_bad_input_is_one_sentence(changes, says) -> None:
    given = {
        "images": IMAGES,
        "labels": LABELS,
        "forget": [1],
        "patch": 12,
        "weights": filters(),
        "output_weights": HEAD,
    }
    told = given | changes
    with pytest.raises(ValueError, match=says):
        audit_images(told.pop("images"), told.pop("labels"), told.pop("forget"), **told)


def test_other_models_have_no_patches() -> None:
    with pytest.raises(ValueError, match="patch and stride are for model convolution"):
        ga.audit(IMAGES.reshape(6, -1), LABELS, [0], patch=2)
    with pytest.raises(ValueError, match="model convolution needs patch"):
        ga.audit(IMAGES, LABELS, [0], model="convolution")


@pytest.mark.slow
def test_trained_filters_from_the_command(tmp_path, capsys) -> None:
    """Four patches of 144 pixels leave the forgotten image directions of its own."""
    square = np.zeros((6, 24, 24))
    square[:, :12] = IMAGES
    square[:, 12:] = RNG.normal(size=(6, 12, 24)) / 12
    np.savez(tmp_path / "images.npz", X=square.reshape(6, -1), y=LABELS)
    code = main.main(
        ["audit", str(tmp_path / "images.npz"), "--model", "convolution", "--patch", "12", "--neurons", "8",
         "--forget", "1", "--json", str(tmp_path / "answer.json")]
    )  # fmt: skip
    assert code == 0
    kept = json.loads((tmp_path / "answer.json").read_text())
    assert kept["verdict"] in ("forgotten", "partly forgotten")
    assert kept["gap"] < kept["gap_nothing"]
    assert "trained again from the same start" in capsys.readouterr().out
