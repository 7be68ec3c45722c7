"""JSON without its traps: no duplicate keys, no NaN, finite numbers, bounded depth; canonical text and hashes."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

from gaunlearn_jax.store.disk import StoreError

MAX_DEPTH = 64
ABSENT = object()


def check_json(value: Any, where: str, depth: int = 0) -> None:
    """StoreError for what JSON cannot say: keys other than strings, nan, inf, other types, 65 levels."""
    if depth > MAX_DEPTH:
        raise StoreError(f"{where[:60]}... is nested deeper than {MAX_DEPTH} levels: flatten it.")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise StoreError(f"{where} has the key {key!r}, expected strings: use str(key).")
            check_json(item, f"{where}.{key}", depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            check_json(item, f"{where}[{index}]", depth + 1)
    elif isinstance(value, int | float):
        if not abs(value) <= sys.float_info.max:
            raise StoreError(f"{where} is nan, inf or above 1.8e308, expected a finite number: use null.")
    elif value is not None and not isinstance(value, str):
        kind = type(value).__name__
        raise StoreError(f"{where} is a {kind}, expected JSON: use dict, list, int, float, str.")


def parse_json(text: bytes, what: str) -> Any:
    """Strict JSON: duplicate keys, NaN, 1e400, deep nesting and truncation are a StoreError naming `what`."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in items:
            if key in result:
                raise ValueError(f"the key {key!r} occurs twice")
            result[key] = value
        return result

    def constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is not a JSON number")

    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "nested too deeply"
        raise StoreError(f"{what} is not valid JSON ({reason}): correct it, or restore it.") from error
    check_json(value, what)  # 1e400 was parsed as inf
    return value


def canonical(value: Any) -> str:
    """The JSON text of a value with sorted keys, no spaces, ASCII only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_hash(value: Any) -> str:
    """SHA-256, as 64 hex digits, of the canonical JSON (sorted keys, no spaces, ASCII) of `value`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def differences(old: Any, new: Any, where: str) -> Iterator[str]:
    """One line for each leaf in which two JSON values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key, ABSENT), new.get(key, ABSENT), f"{where}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from differences(left, right, f"{where}[{index}]")
    else:
        left, right = ("nothing" if value is ABSENT else canonical(value) for value in (old, new))
        if left != right:
            yield f"{where}: the folder has {left:.80}, this run has {right:.80}"
