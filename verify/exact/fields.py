"""Strict reading of JSON documents that anyone may have written: sizes first, every entry named in its error."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
import re
import reprlib
import stat
from collections.abc import Sequence
from typing import Any

MAX_BYTES, MAX_VALUES, MAX_DEPTH = 16 * 2**20, 200_000, 6


class CertificateError(ValueError):
    """The document is not a certificate; the message says what was found, what was expected, what to do."""


def read(path: str | os.PathLike[str]) -> tuple[Any, str]:
    """Decoded JSON of a file and the SHA-256 of its bytes; CertificateError for anything unreadable."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise fail("the path", "not a regular file", "a certificate file")
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, CertificateError):
            raise
        raise fail("the path", f"unreadable ({error})", "a readable certificate file") from error
    if len(data) > MAX_BYTES:
        raise fail("the file", f"larger than {MAX_BYTES} bytes", "at most that many")
    try:
        return decode(data.decode("utf-8")), hashlib.sha256(data).hexdigest()
    except UnicodeDecodeError as error:
        raise fail("the file", f"not UTF-8 text ({error.reason})", "a JSON document") from error


def decode(text: str) -> Any:
    """Strict JSON: length and depth are judged before parsing; no repeated key, NaN, 1e400 or 1e-400."""
    if text.count(",") >= MAX_VALUES:
        raise fail("the file", f"a list of {text.count(',') + 1} values", f"fewer than {MAX_VALUES} values")
    depth = 0
    for token in re.finditer(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', text, re.DOTALL):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > MAX_DEPTH:
            raise fail("the file", f"nested more than {MAX_DEPTH} levels deep", "a flat document")
    try:
        return json.loads(
            text, parse_float=_float, parse_int=_integer, parse_constant=_float, object_pairs_hook=_object
        )
    except json.JSONDecodeError as error:
        raise fail("the file", f"not complete JSON ({error})", "one certificate document") from error


def _float(token: str) -> float:
    value = float(token) if len(token) <= 64 else math.nan
    underflow = value == 0 and re.search("[1-9]", re.split("[eE]", token)[0])
    if not math.isfinite(value) or underflow:
        raise fail("a number", reprlib.repr(token), "a value that a 64-bit float holds")
    return value


def _integer(token: str) -> int:
    if len(token) > 17:
        raise fail("an integer", reprlib.repr(token), "at most 2^53 in size")
    return int(token)


def _object(items: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in items]
    if len(set(names)) != len(names):
        raise fail("the keys of an object", reprlib.repr(sorted(names)), "each key once")
    return dict(items)


def fail(where: str, given: str, expected: str) -> CertificateError:
    return CertificateError(f"{where}: found {given}, expected {expected}; correct it or write it again")


def fields(value: Any, where: str, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    """The object with exactly these keys; optional ones that are missing are None."""
    known = [*names, *optional]
    if not isinstance(value, dict):
        raise fail(where, reprlib.repr(value), f"an object with the keys {', '.join(names)}")
    for name in value:
        if name not in known:
            near = difflib.get_close_matches(str(name)[:80], known, 1) or [f"one of {', '.join(known)}"]
            raise fail(where, f"the unknown key {reprlib.repr(name)}", near[0])
    missing = [name for name in names if name not in value]
    if missing:
        raise fail(where, "no key " + ", ".join(missing), "all of " + ", ".join(names))
    return dict.fromkeys(optional) | value


def number(value: Any, where: str, low: float = -math.inf, high: float = math.inf) -> float:
    good = type(value) in (int, float) and abs(value) <= (2**53 if type(value) is int else high)
    if not (good and math.isfinite(value) and low <= value <= high):
        span = "" if low == -math.inf else f", at least {low}"
        span += "" if high == math.inf else f" and at most {high}"
        raise fail(where, reprlib.repr(value), f"a finite number{span}")
    return float(value)


def listed(value: Any, where: str, length: int | None = None) -> list[Any]:
    if not isinstance(value, list) or (length is not None and len(value) != length):
        given = f"{len(value)} entries" if isinstance(value, list) else reprlib.repr(value)
        raise fail(where, given, "a list" + ("" if length is None else f" of {length} entries"))
    return value


def vector(value: Any, where: str, length: int) -> list[float]:
    return [number(x, f"{where}[{i}]") for i, x in enumerate(listed(value, where, length))]


def matrix(value: Any, where: str, rows: int, columns: int) -> list[list[float]]:
    return [vector(row, f"{where}[{j}]", columns) for j, row in enumerate(listed(value, where, rows))]


def choice(value: Any, where: str, allowed: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise fail(where, reprlib.repr(value), "one of " + ", ".join(allowed))
    return value
