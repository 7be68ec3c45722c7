"""The distributions of the registry drawn in full, coordinate by coordinate, on the host: slow, and a second time.

Every function takes (rng, num_points, dim, **parameters) and returns points [m, d] and labels [m], for two-sample tests
of the draws in reduced coordinates. Source: docs/theory, Families.
"""

from __future__ import annotations

import math

import numpy as np

Drawn = tuple[np.ndarray, np.ndarray]
Rng = np.random.Generator


def gaussian(rng: Rng, m: int, d: int) -> Drawn:
    """N(0, I/d), labels alternating."""
    return _normal(rng, m, d), _signs(np.arange(m))


def mixture(rng: Rng, m: int, d: int, signal: float) -> Drawn:
    """y mu + N(0, I/d) with a random direction of mu."""
    y = _signs(np.arange(m))
    return y[:, None] * d ** (signal - 0.25) * _direction(rng, d) + _normal(rng, m, d), y


def student(rng: Rng, m: int, d: int, nu: float) -> Drawn:
    """Gaussian points times sqrt(nu / chi^2_nu)."""
    x, y = gaussian(rng, m, d)
    return x * np.sqrt(nu / rng.chisquare(nu, (m, 1))), y


def lognormal(rng: Rng, m: int, d: int, spread: float) -> Drawn:
    """Gaussian points times log-normal lengths."""
    x, y = gaussian(rng, m, d)
    return x * rng.lognormal(0.0, spread, (m, 1)), y


def sphere(rng: Rng, m: int, d: int) -> Drawn:
    """Gaussian points over their norms."""
    x, y = gaussian(rng, m, d)
    return x / np.linalg.norm(x, axis=1, keepdims=True), y


def equicorrelated(rng: Rng, m: int, d: int, c: float) -> Drawn:
    """A random unit vector times sqrt(c), plus noise."""
    x, y = gaussian(rng, m, d)
    return math.sqrt(c) * _direction(rng, d) + math.sqrt(1 - c) * x, y


def clusters(rng: Rng, m: int, d: int, number: float, c: float, flip: float) -> Drawn:
    """Points around Gaussian centres."""
    centres = _normal(rng, int(number), d)
    member = np.arange(m) % int(number)
    return math.sqrt(c) * centres[member] + math.sqrt(1 - c) * _normal(rng, m, d), _flip(rng, _signs(member), flip)


def near_duplicates(rng: Rng, m: int, d: int, copies: float, c: float) -> Drawn:
    """Groups of 1 + copies neighbours around a centre."""
    x, y = np.empty((m, d)), np.empty(m)
    for i in range(m):
        if i % (1 + int(copies)) == 0:
            centre = _normal(rng, 1, d)[0]
        x[i] = math.sqrt(c) * centre + math.sqrt(1 - c) * _normal(rng, 1, d)[0]
        y[i] = 1.0 if (i // (1 + int(copies))) % 2 == 0 else -1.0
    return x, _both(y)


def ar1(rng: Rng, m: int, d: int, rho: float) -> Drawn:
    """The recursion, one point after another."""
    x, y = gaussian(rng, m, d)
    for i in range(1, m):
        x[i] = rho * x[i - 1] + math.sqrt(1 - rho**2) * x[i]
    return x, y


def spiked(rng: Rng, m: int, d: int, share: float) -> Drawn:
    """One random coordinate has variance `share`."""
    values = np.full(d, (1 - share) / (d - 1))
    values[rng.integers(d)] = share
    return rng.standard_normal((m, d)) * np.sqrt(values), _signs(np.arange(m))


def power_law(rng: Rng, m: int, d: int, exponent: float) -> Drawn:
    """Coordinates with the variances of the eight steps."""
    values, low = np.empty(d), 0
    for block in range(1, 9):
        high = d if block == 8 else math.floor(d ** (block / 8) + 1e-9)
        values[low:high] = ((low + high + 1) / 2) ** -exponent
        low = high
    return rng.standard_normal((m, d)) * np.sqrt(values / values.sum()), _signs(np.arange(m))


def unbalanced(rng: Rng, m: int, d: int, positive: float, share: float) -> Drawn:
    """The first points have label +1."""
    count = min(max(round(positive * m), 1), m - 1)
    y = np.array([1.0] * count + [-1.0] * (m - count))
    return y[:, None] * math.sqrt(share) * _direction(rng, d) + _normal(rng, m, d), y


def shifted(rng: Rng, m: int, d: int, common: float, share: float) -> Drawn:
    """Class means around a common mean, in random orthogonal directions."""
    y, (mu, e) = _signs(np.arange(m)), _frame(rng, d)
    inner = y[:, None] * math.sqrt(share) * mu + _normal(rng, m, d)
    return math.sqrt(common) * e + math.sqrt(1 - common) * inner, y


def label_noise(rng: Rng, m: int, d: int, flip: float, share: float) -> Drawn:
    """Class means, then flipped labels."""
    y = _signs(np.arange(m))
    return y[:, None] * math.sqrt(share) * _direction(rng, d) + _normal(rng, m, d), _flip(rng, y, flip)


def teacher(rng: Rng, m: int, d: int, flip: float) -> Drawn:
    """Labels by the side of a random hyperplane."""
    x, direction = _normal(rng, m, d), _direction(rng, d)
    return x, _flip(rng, np.where(x @ direction >= 0, 1.0, -1.0), flip)


def rademacher(rng: Rng, m: int, d: int) -> Drawn:
    """Signs."""
    return rng.choice([-1.0, 1.0], (m, d)) / math.sqrt(d), _signs(np.arange(m))


def ternary(rng: Rng, m: int, d: int, density: float) -> Drawn:
    """Signs, kept with chance `density`."""
    kept = rng.random((m, d)) < density
    return rng.choice([-1.0, 1.0], (m, d)) * kept / math.sqrt(density * d), _signs(np.arange(m))


def _normal(rng: Rng, m: int, d: int) -> np.ndarray:
    return rng.standard_normal((m, d)) / math.sqrt(d)


def _direction(rng: Rng, d: int) -> np.ndarray:
    g = rng.standard_normal(d)
    return np.asarray(g / np.linalg.norm(g))


def _frame(rng: Rng, d: int) -> tuple[np.ndarray, np.ndarray]:
    one, two = _direction(rng, d), _direction(rng, d)
    two = two - (two @ one) * one
    return one, two / np.linalg.norm(two)


def _signs(member: np.ndarray) -> np.ndarray:
    return np.where(member % 2 == 0, 1.0, -1.0)


def _flip(rng: Rng, y: np.ndarray, chance: float) -> np.ndarray:
    return _both(np.where(rng.random(y.shape) < chance, -y, y))


def _both(y: np.ndarray) -> np.ndarray:
    if np.all(y == y[0]):
        y = np.append(y[:-1], -y[-1])
    return y
