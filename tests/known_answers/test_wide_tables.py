"""Hard margins at the shapes of public gene expression tables (d much larger than m), against least distance."""

from __future__ import annotations

import numpy as np
import pytest
import reference as ref

from gaunlearn_jax.kkt import hard_margin

#: rows and columns: colon (Alon and others 1999), leukaemia (Golub and others 1999), prostate (Singh and others 2002)
SHAPES = {"colon": (62, 2000, 22), "leukaemia": (72, 7129, 25), "prostate": (102, 6033, 50)}


def table(shape: tuple[int, int, int], levels: bool) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and log-normal expression with twenty genes that tell the classes apart; `levels`: as measured, where all
    samples share the mean of each gene, else each gene centred and scaled."""
    m, d, positive = shape
    rng = np.random.default_rng(m)
    labels = np.where(np.arange(m) < positive, 1.0, -1.0)
    base, noise = rng.normal(6, 2, d), rng.standard_normal((m, d))
    noise[:, :20] += 0.8 * labels[:, None]
    points = np.exp((base + 0.5 * noise) / 3)
    return (points if levels else (points - points.mean(0)) / points.std(0)), labels


@pytest.mark.parametrize("levels", [True, False])
@pytest.mark.parametrize("name", SHAPES)
def test_the_solution_is_that_of_least_distance(name: str, levels: bool) -> None:
    points, labels = table(SHAPES[name], levels)
    if not levels:
        points = points[:-1]  # centred rows sum to zero: all of them are dependent
        labels = labels[:-1]
    found = hard_margin.solve(points, labels)
    theta, multipliers = ref.least_distance(labels[:, None] * points)
    top = np.max(multipliers)
    np.testing.assert_allclose(found.weights, theta, atol=1e-11 * np.linalg.norm(theta))
    np.testing.assert_allclose(found.multipliers, multipliers, atol=1e-10 * top)
    margins = labels * (points @ found.weights)
    assert np.min(margins) >= 1 - 1e-12
    assert np.max(found.multipliers * np.abs(margins - 1)) <= 1e-11 * top
    # strong duality: |w|^2 = sum lambda
    assert np.sum(found.weights**2) == pytest.approx(np.sum(found.multipliers), rel=1e-11)


def test_equicorrelated_samples_in_closed_form() -> None:
    """K = (1 - r) I + r 11^T and labels +-1: lambda_i = (1 - y_i r s / (1 + (m - 1) r)) / (1 - r), s = sum of y."""
    m, d, r = 40, 5000, 0.9
    labels = np.where(np.arange(m) < 15, 1.0, -1.0)
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((d, m)))[0].T
    gram = (1 - r) * np.eye(m) + r
    points = np.linalg.cholesky(gram) @ basis
    expected = (1 - labels * r * np.sum(labels) / (1 + (m - 1) * r)) / (1 - r)
    np.testing.assert_allclose(hard_margin.solve(points, labels).multipliers, expected, rtol=1e-11)


@pytest.mark.parametrize(("m", "d", "seed"), [(60, 2, 0), (200, 3, 1), (500, 5, 2), (300, 8, 3)])
def test_tall_tables(m: int, d: int, seed: int) -> None:
    """More points than directions, so that most depend on those on the margin."""
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(m) < 0.3, 1.0, -1.0)
    points = rng.standard_normal((m, d))
    points[:, 0] = labels * (0.05 + np.abs(points[:, 0]))
    found = hard_margin.solve(points, labels)
    theta, _ = ref.least_distance(labels[:, None] * points)
    np.testing.assert_allclose(found.weights, theta, rtol=1e-9, atol=1e-9 * np.linalg.norm(theta))
    assert len(found.active) <= d
    assert np.sum(found.weights**2) == pytest.approx(np.sum(found.multipliers), rel=1e-10)
