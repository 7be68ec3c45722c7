"""Statements about chances, judged from counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from verify.suites.check import Check, check

#: level of each statistical comparison: over up to 1000 of them the chance of a false alarm is below 1e-3 (Bonferroni)
LEVEL = 1e-6


def interval(count: Any, trials: int, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Clopper-Pearson: exact two-sided limits of the chance after `count` successes in independent trials."""
    c = np.ravel(count).astype(float)
    low = special.betaincinv(np.maximum(c, 1.0), trials - c + 1, level / 2)
    high = special.betaincinv(c + 1, np.maximum(trials - c, 1.0), 1 - level / 2)
    return np.where(c > 0, low, 0.0), np.where(c < trials, high, 1.0)


def agreement(name: str, count: Any, trials: int, chance: np.ndarray) -> dict[str, Check]:
    """Two comparisons: the chance lies above the lower and below the upper Clopper-Pearson limit."""
    low, high = interval(count, trials)
    return {f"{name}_low": check(low, chance), f"{name}_high": check(chance, high)}
