"""The arithmetic that computes: its unit of rounding and its range, which every error bound rests on.

A processor's float64 is IEEE's. A TPU emulates it by pairs of float32: fewer bits, float32's range. There a probe
measures both, and a claim that they are too coarse for is inconclusive. Source: docs/theory, Numerics.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gaunlearn_jax.base import placing


class Arithmetic(NamedTuple):
    """One operation is off by at most `unit` of its result, where that lies between `least` and `most`."""

    unit: float
    least: float
    most: float

    @property
    def floor(self) -> float:
        """Size below which a norm, made of squares, may have vanished; 0 where nothing of interest is so small."""
        return 0.0 if self.least < 1e-200 else math.sqrt(self.least)


IEEE = Arithmetic(2.0**-52, 2.0**-1022, 2.0**1023)
#: what a probe tries; a dot product is off by a unit for each of its terms
OPERATIONS: dict[str, Callable[..., Any]] = {
    "sum": lambda x, a, b: x.add(a, b),
    "product": lambda x, a, b: x.multiply(a, b),
    "quotient": lambda x, a, b: x.divide(a, b),
    "root": lambda x, a, b: x.sqrt(a),
    "dot product": lambda x, a, b: x.sum(a * b, axis=1),
}
#: rows and columns of random numbers that a probe tries
SAMPLE = (512, 16)
_ASSUMED: list[Arithmetic] = []


def arithmetic() -> Arithmetic:
    """What computes here: the devices, or the host's processor where that makes the verdicts (`base.placing`)."""
    return IEEE if placing.certifies_on_host() and not placing.is_away() else of_devices()


def of_devices() -> Arithmetic:
    """What is assumed of the default device: what `assume` said, IEEE's on a processor, else what a probe measures."""
    if _ASSUMED:
        return _ASSUMED[-1]
    return IEEE if jax.default_backend() == "cpu" else _probed()


def settles() -> bool:
    """Whether what the devices return is settled here, by another arithmetic than theirs."""
    return arithmetic() != of_devices()


def assume(unit: float) -> None:
    """Assume a coarser unit of rounding of the devices from now on, with the range of float32 that comes with one.

    ValueError unless IEEE's unit <= unit < 2^-20. Functions that are traced already keep what they were traced with.
    """
    if not IEEE.unit <= unit < 2.0**-20:
        raise ValueError(f"the unit of rounding is {unit:g}, expected 2^-52 (2.2e-16) to 2^-20 (9.5e-7)")
    _ASSUMED[:] = [IEEE if unit == IEEE.unit else Arithmetic(unit, 2.0**-126, 2.0**127)]


@functools.cache
def _probed() -> Arithmetic:
    return probe(lambda name, a, b: np.asarray(jax.jit(lambda a, b: OPERATIONS[name](jnp, a, b))(a, b)))


def probe(compute: Callable[[str, np.ndarray, np.ndarray], np.ndarray]) -> Arithmetic:
    """The arithmetic of compute(name of an operation, a, b), against the host's.

    `unit` is twice the largest error seen, as a power of two; the range is where products by 1 come back whole."""
    rng = np.random.default_rng(0)
    a, b = (np.exp(rng.uniform(-3, 3, SAMPLE)) for _ in range(2))
    off = max(_off(compute(name, a, b), made(np, a, b)) for name, made in OPERATIONS.items())
    unit = max(IEEE.unit, 2.0 ** math.ceil(math.log2(2 * off)) if off > 0 else 0.0)
    powers = np.ldexp(1.0, np.arange(-1022, 1024))
    kept = np.abs(compute("product", powers, np.ones_like(powers)) / powers - 1) <= unit
    middle = len(powers) // 2
    below, above = np.flatnonzero(~kept[:middle]), np.flatnonzero(~kept[middle:])
    least = powers[below[-1] + 1] if len(below) else powers[0]
    return Arithmetic(unit, float(least), float(powers[middle + above[0] - 1] if len(above) else powers[-1]))


def _off(found: np.ndarray, right: np.ndarray) -> float:
    terms = SAMPLE[1] if right.ndim == 1 else 1
    return float(np.max(np.abs(found / right - 1))) / terms


def record() -> Mapping[str, float]:
    """What a run notes of the arithmetic."""
    return arithmetic()._asdict()
