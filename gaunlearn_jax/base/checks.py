"""Eager checks of arguments: what was given, what was expected. Values are looked at only where they are concrete."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np


def is_traced(*arrays: Any) -> bool:
    """Whether any argument is a tracer, so that its value cannot be looked at."""
    return any(isinstance(a, jax.core.Tracer) for a in jax.tree.leaves(arrays))


def real(value: Any) -> float | None:
    """The value as a float if it is one finite real number, None otherwise (booleans and strings are none)."""
    array = np.asarray(value) if not isinstance(value, list | tuple | set | dict | str) else np.asarray(None)
    if array.dtype.kind not in "fiu" or array.ndim or not np.isfinite(array):
        return None
    return float(array)


def number(
    name: str, value: Any, expected: str, low: float = -math.inf, high: float = math.inf, *, open_low: bool = False
) -> None:
    """ValueError unless the value is traced or one finite real number in [low, high] (above low if open_low)."""
    if is_traced(value):
        return
    got = real(value)
    if got is None or not low <= got <= high or (open_low and got == low):
        raise ValueError(f"{name} is {value}, expected {expected}")


def constant(name: str, value: Any) -> float:
    """The value as a float that programs are compiled for; ValueError unless it is a finite real number, not traced."""
    if is_traced(value):
        raise ValueError(
            f"{name} is traced, but programs are compiled for its value; make one model for each, outside jit and vmap"
        )
    got = real(value)
    if got is None:
        raise ValueError(f"{name} is {value}, expected one finite real number")
    return got


def whole(name: str, value: Any, least: int, expected: str) -> int:
    """The value as an int; ValueError unless it is a whole number of at least `least`."""
    got = real(value)
    if got is None or got != int(got) or got < least:
        raise ValueError(f"{name} is {value}, expected {expected}")
    return int(got)


def real_array(name: str, value: Any, ndim: int | None = None) -> np.ndarray:
    """A finite float64 array (of the given rank), or a ValueError that says what was given."""
    if isinstance(value, np.ma.MaskedArray):
        raise ValueError(f"{name} is a masked array, expected plain numbers; fill or drop the masked entries")
    try:
        raw = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} is ragged, expected a rectangular array of numbers ({error})") from None
    if raw.dtype.kind not in "fiu" or raw.dtype.itemsize > 8:
        raise ValueError(f"{name} has dtype {raw.dtype}, expected real numbers of at most 64 bits (float64)")
    if ndim is not None and raw.ndim != ndim:
        raise ValueError(f"{name} has shape {raw.shape}, expected {ndim} dimension{'s' * (ndim > 1)}")
    out = raw.astype(np.float64)
    if not np.all(np.isfinite(out)):
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(out))[0])
        raise ValueError(f"{name}{list(where)} is {out[where]}, expected finite numbers; clean the data first")
    return out


def bool_mask(name: str, value: Any, m: int, remedy: str) -> None:
    """ValueError unless the value is a bool mask [m]."""
    shape, dtype = np.shape(value), getattr(value, "dtype", type(value).__name__)
    if shape != (m,):
        raise ValueError(f"{name} has shape {shape}, expected ({m},); {remedy}")
    if dtype not in (bool, "bool"):
        raise ValueError(f"{name} has shape {shape} and dtype {dtype}, expected a bool mask; {remedy}")
