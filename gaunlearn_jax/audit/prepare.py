"""What people pass to an audit, as plain arrays: points, labels and indices of many kinds, or one ValueError."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from gaunlearn_jax.audit import precision
from gaunlearn_jax.base import checks

#: squares and products of four of these stay far from the ends of float64
LEAST, MOST = 1e-70, 1e70


def numbers(name: str, given: Any, ndim: int | None = None) -> np.ndarray:
    """A finite float64 array of anything that holds real numbers: lists, arrays, data frames; booleans become 0 and 1,
    narrow floats (float16, bfloat16) keep their values."""
    given = _array(name, given)
    if given.dtype.kind == "b" or (given.dtype.kind == "V" and "float" in given.dtype.name):
        given = given.astype(np.float64)
    if given.dtype.kind == "O":
        given = _of_objects(name, given)
    return checks.real_array(name, given, ndim)


def moved(given: Any, center: Any, standardize: bool) -> tuple[Any, tuple[str, ...]]:
    """Points less a mean `center` [d], then standardised by their own mean and deviations; what to be warned of."""
    said: list[str] = []
    if center is not None:
        mean, x = numbers("center", center), numbers("points", given, 2)
        if mean.shape != x.shape[1:]:
            raise ValueError(f"center has shape {mean.shape}, expected {x.shape[1:]}: one number per coordinate")
        given = x - mean
        said.append(
            "the mean that was subtracted must be public, made without these points; their own mean would remember them"
        )
    if standardize:
        x = numbers("points", given, 2)
        x = np.ldexp(x, -precision.exponent(x))  # exact: their squares stay in range
        spread = np.std(x, axis=0)
        given = (x - np.mean(x, axis=0)) / np.where(spread > 0, spread, 1.0)
        said.append(
            "the points were standardised by their own mean and deviations: every feature then depends on the "
            "forgotten points, which forgetting does not undo, and points centred by their own mean lie in the span of "
            "each other"
        )
    return given, tuple(said)


def points(given: Any, normalize: bool, bias: bool) -> np.ndarray:
    """Points [m, d], none of them 0, brought to unit norm and with a coordinate 1 if asked for."""
    x = numbers("points", given, 2)
    if x.shape[0] < 2 or x.shape[1] < 1:
        raise ValueError(f"points has shape {x.shape}, expected at least 2 points with at least 1 coordinate")
    top = np.max(np.abs(x), axis=1)
    if np.any(top == 0) and (normalize or not bias):
        raise ValueError(f"points[{int(np.argmin(top))}] is the zero vector, which has no direction; drop it")
    if normalize:
        x = np.ldexp(x, -np.frexp(top)[1][:, None])  # exact, and points of any size have a direction
        top = np.max(np.abs(x), axis=1)
    far = (top > MOST) | ((top < LEAST) & (top > 0))
    if np.any(far):
        at = int(np.argmax(far))
        raise ValueError(
            f"points[{at}] has entries of size {top[at]:.3g}, expected {LEAST:g} to {MOST:g}: their squares leave the "
            "range of float64; measure the points in other units (the verdict is the same)"
        )
    if normalize:
        x = x / np.linalg.norm(x, axis=1)[:, None]
    return np.column_stack([x, np.ones(len(x))]) if bias else x


def labels_of(given: Any, m: int) -> np.ndarray:
    """Labels [m] of whatever kind, as plain numbers, booleans or strings without gaps."""
    labels = _array("labels", given)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (m,):
        raise ValueError(f"labels has shape {labels.shape}, expected ({m},): one label per point")
    if labels.dtype.kind == "O":
        labels = _of_objects("labels", labels)
    if labels.dtype.kind == "V" and "float" in labels.dtype.name:
        labels = labels.astype(np.float64)
    if labels.dtype.kind not in "biufUS":
        raise ValueError(f"labels has dtype {labels.dtype}, expected numbers, booleans or strings; convert them first")
    if labels.dtype.kind == "f" and not np.all(np.isfinite(labels)):
        at = int(np.argmax(~np.isfinite(labels)))
        raise ValueError(f"labels[{at}] is {labels[at]}, expected one of two classes; clean the data first")
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "backslashreplace")
    if labels.dtype.kind == "U" and np.any(np.char.strip(labels) == ""):
        at = int(np.argmax(np.char.strip(labels) == ""))
        raise ValueError(f"labels[{at}] is empty, expected one of two classes; label the point or drop it")
    return labels


def two_classes(labels: np.ndarray) -> tuple[np.ndarray, tuple[Any, Any]]:
    """Labels as -1 and +1, and the two values that they stand for."""
    values = np.unique(labels)
    if len(values) != 2:
        shown = ", ".join(str(v) for v in values[:5]) + (", ..." if len(values) > 5 else "")
        raise ValueError(f"labels have {len(values)} different values ({shown}), expected exactly two classes")
    return np.where(labels == values[1], 1.0, -1.0), (values[0].item(), values[1].item())


def indices(given: Any) -> Any:
    """Indices that can be read more than once: an iterator is read here, and only here."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise ValueError(f"forget is {given!r}, expected a list of indices, such as [3, 7]")
    return given if isinstance(given, np.ndarray) else list(given)


def _array(name: str, given: Any) -> np.ndarray:
    """As a NumPy array; data frames and series by their own to_numpy, so that no index becomes a coordinate."""
    if isinstance(given, np.ma.MaskedArray):
        raise ValueError(f"{name} is a masked array, expected plain values; fill or drop the masked entries")
    if isinstance(given, Iterable) and not hasattr(given, "__array__") and not hasattr(given, "__len__"):
        given = list(given)
    made = given.to_numpy() if hasattr(given, "to_numpy") else given
    try:
        return np.asarray(made)
    except ValueError as error:
        raise ValueError(f"{name} is ragged, expected a rectangular array ({error})") from None


def _of_objects(name: str, given: np.ndarray) -> np.ndarray:
    """The array that a list of the same values makes; missing values and mixed kinds are named."""
    kinds: dict[str, str] = {}
    for at, value in np.ndenumerate(given):
        where = ", ".join(map(str, at))
        if _missing(value):
            raise ValueError(f"{name}[{where}] is missing ({value!r}); fill it in or drop the point")
        kind = "a string" if isinstance(value, str | bytes) else "a number"
        if not isinstance(value, str | bytes | bool | int | float | np.generic):
            raise ValueError(f"{name}[{where}] is a {type(value).__name__}, expected a plain number or string")
        kinds.setdefault(kind, where)
    if len(kinds) > 1:
        told = " and ".join(f"{name}[{where}] is {kind}" for kind, where in kinds.items())
        raise ValueError(f"{told}, expected one kind; convert them to one")
    return np.asarray(given.tolist())


def _missing(value: Any) -> bool:
    """None, NaN, NaT, or what answers no question about itself, as pandas' NA."""
    try:
        return value is None or bool(value != value)
    except (TypeError, ValueError):
        return True
