"""The table of docs/howto/network.md: its closed forms, and (slowly) the script that it names."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from gaunlearn_jax.functions import best_fraction, gap_left

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/howto/network.md").read_text(encoding="utf-8")


def rows(name):
    """{depth: numbers} of the rows of the first table whose network begins with a name."""
    found = re.findall(rf"^\| {name}, L = (\d) \|(.*)\|$", PAGE, re.MULTILINE)
    return {int(depth): [float(v) for v in row.split("|") if v.strip()] for depth, row in found}


def test_closed_forms_of_the_page():
    told = rows("the closed form")
    assert set(told) == {2, 3, 4}
    for depth, numbers in told.items():
        c = best_fraction(depth, 0.75, 0.5)
        nothing = gap_left(depth, 0.75, 0.5, None)
        expected = [nothing, *(gap_left(depth, 0.75, 0.5, v) / nothing for v in (1.0, 0.5, 0.0, c)), c]
        np.testing.assert_allclose(numbers, expected, atol=6e-4)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 3])
def test_trained_networks_of_the_page(depth):
    """Trained to the end in d = 1e8: what every step leaves is what the page and the closed form say."""
    spec = importlib.util.spec_from_file_location("network_steps", ROOT / "examples/network_steps.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    name, apply, x, shapes = next(n for n in example.networks(1e8) if f"L = {depth}" in n[0])
    measured = [float(v) for v in example.row(name, example.audited(apply, x, shapes, 0))[2:]]
    np.testing.assert_allclose(measured, rows("MLP")[depth], atol=2e-3)
