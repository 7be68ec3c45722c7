"""Three points, their labels, and what it means to refuse a bad input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

KEY = jax.random.key(0, impl="threefry2x32")
NAN, INF = float("nan"), float("inf")
X = np.array([[1.0, 0.2, 0.0, 0.1], [0.1, 1.0, 0.3, 0.0], [0.0, -0.2, 1.0, 0.4]])
Y = [1, -1, 1]


def refuses(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
