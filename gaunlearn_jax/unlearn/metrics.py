"""Popular metrics of unlearning, on the host: distance of margin distributions, membership, relearning.

They are shown beside the certificates, since doing nothing can pass some of them (docs/howto, Which step when).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

#: the share of held-out points that a membership test may call members
FALSE_ALARMS = 0.05
#: level of the exact intervals
CONFIDENCE = 0.95
#: size of a relearning step on weights of norm 1, and how many are counted at most
RATE, MOST_STEPS = 1e-3, 1000
#: bins of the two margin distributions
BINS = 10


def detected(held_out: Any, margins: Any) -> int:
    """How many of the margins lie above the (1 - FALSE_ALARMS)-quantile of the held-out ones: a loss-threshold
    membership test, since every loss falls with the margin."""
    return int(np.sum(np.asarray(margins) > np.quantile(np.asarray(held_out), 1 - FALSE_ALARMS, method="higher")))


def exact_interval(count: int, trials: int) -> tuple[float, float]:
    """The exact (Clopper-Pearson) interval of a chance after `count` of `trials`, at level CONFIDENCE."""
    found = stats.binomtest(count, trials).proportion_ci(CONFIDENCE, "exact")
    return float(found.low), float(found.high)


def relearning_steps(margins: Any, goal: Any, steepness: Any) -> np.ndarray:
    """Normalised ascent steps of size RATE on the margin of a point until it is at its `goal` again: ceil((goal - q) /
    (RATE ||g||)) with `steepness` = ||g||, 0 where it is there, MOST_STEPS at most."""
    room = np.maximum(np.asarray(goal) - np.asarray(margins), 0.0)
    each = RATE * np.asarray(steepness)
    steps = np.ceil(room / np.where(each > 0, each, 1.0) - 1e-9)
    return np.clip(np.where((each > 0) | (room == 0), steps, MOST_STEPS), 0, MOST_STEPS)


def margin_divergence(margins: Any, retrained: Any) -> float:
    """KL divergence of the distribution of margins over an ensemble from that of retrained models, in BINS bins of
    equal count of the latter, half a count added to each (a KLoM score)."""
    edges = np.quantile(np.asarray(retrained, float), np.linspace(0, 1, BINS + 1)[1:-1])
    counts = [np.bincount(np.searchsorted(edges, np.asarray(v, float)), minlength=BINS) + 0.5
              for v in (margins, retrained)]  # fmt: skip
    p, q = (c / np.sum(c) for c in counts)
    return float(np.sum(p * np.log(p / q)))
