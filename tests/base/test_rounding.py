"""The arithmetic that error bounds rest on: measured, assumed, and what a coarse one leaves open."""

from __future__ import annotations

import numpy as np
import pytest

from gaunlearn_jax.base import numerics, rounding
from gaunlearn_jax.base.codes import Verdict
from verify.instances.grid import Grid
from verify.run.compute import run_blocks
from verify.suites.registry import CLAIMS
from verify.suites.suite import lane


def rounded(x: np.ndarray, bits: int) -> np.ndarray:
    """x with so many bits after the first, in float32's range."""
    part, power = np.frexp(x)
    out = np.ldexp(np.round(np.ldexp(part, bits + 1)), power - bits - 1)
    return np.where(np.abs(out) < 2.0**-126, 0.0, np.where(np.abs(out) >= 2.0**128, np.inf, out))


def coarse(bits: int):
    """Operations whose arguments and results are rounded."""

    def compute(name: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return rounded(rounding.OPERATIONS[name](np, rounded(a, bits), rounded(b, bits)), bits)

    return compute


def test_a_processor_is_ieee() -> None:
    assert rounding._probed() == rounding.IEEE == rounding.arithmetic()
    assert rounding.IEEE.floor == 0.0
    assert numerics.unit() == np.finfo(float).eps


@pytest.mark.parametrize("bits", [44, 46, 49])
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning", "ignore:overflow:RuntimeWarning")
def test_a_coarse_arithmetic_is_found_out(bits: int) -> None:
    """Never finer than it is (arguments are rounded, too: three roundings of half a unit), nor eight times coarser."""
    found = rounding.probe(coarse(bits))
    assert 1.5 * 2.0 ** -(bits + 1) <= found.unit <= 8 * 2.0**-bits
    assert found.least == 2.0**-126
    assert found.most == 2.0**127
    assert found.floor == 2.0**-63


def test_a_unit_out_of_range_is_refused() -> None:
    for unit in (2.0**-53, 1e-3, 0.0, float("nan")):
        with pytest.raises(ValueError, match="unit of rounding"):
            rounding.assume(unit)


@pytest.mark.slow
def test_a_coarse_unit_leaves_claims_open_and_refutes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    grid, claims = (
        Grid(models=("linear",), dims=(1e4, 1e10), points=(6,), forget=(2,), seeds=8),
        (CLAIMS["linear"], CLAIMS["identity"]),
    )

    def verdicts() -> np.ndarray:
        (block,) = run_blocks(claims, grid)
        checks = [v for c in claims for v in block.results[c.name].values() if hasattr(v, "verdict")]
        return np.concatenate([np.ravel(check.verdict()) for check in checks])

    fine = verdicts()
    monkeypatch.setattr(rounding, "_ASSUMED", [rounding.Arithmetic(2.0**-46, 2.0**-126, 2.0**127)])
    lane.cache_clear()  # functions that are traced already keep the unit that they were traced with
    rough = verdicts()
    lane.cache_clear()
    assert not np.any(fine == Verdict.VIOLATED)
    assert not np.any(rough == Verdict.VIOLATED)
    assert np.sum(rough == Verdict.INCONCLUSIVE) > np.sum(fine == Verdict.INCONCLUSIVE)
    assert np.sum(rough == Verdict.HOLDS) > 0.5 * np.sum(fine == Verdict.HOLDS)
