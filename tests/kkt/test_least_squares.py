"""What counts as a minimum of nonnegative least squares."""

from __future__ import annotations

import numpy as np
import pytest

from gaunlearn_jax.kkt import least_squares


@pytest.mark.parametrize(
    ("found", "right"),
    [((1.0, 2.0), True), ((0.0, 0.0), False), ((1.0, 0.0), False), ((1.0, 2.1), False), ((1.0, -2.0), False)],
)
def test_a_minimum_is_told_from_an_answer_that_stopped(found: tuple[float, float], right: bool) -> None:
    """Of |v - (1, 2)|: a column that would help is missing, one is used too much, one is negative."""
    assert least_squares.optimal(np.eye(2), np.array([1.0, 2.0]), np.array(found)) == right
