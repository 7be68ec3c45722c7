"""summary.json of a results folder: the one place that writes and reads it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from gaunlearn_jax.store import strict_json
from gaunlearn_jax.store.disk import seal
from verify.instances.grid import Grid
from verify.run.columns import load_blocks
from verify.run.rows import COUNTS


def read_summary(folder: Path) -> dict[str, Any]:
    """summary.json of a results folder; ValueError if there is none or it is no summary of a run."""
    try:
        summary = strict_json.parse_json((folder / "summary.json").read_bytes(), "summary.json")
        if not isinstance(summary, dict) or not isinstance(summary.get("grid"), dict):
            raise ValueError("summary.json is no summary of a run")
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} is no results folder ({error}); make one with `gaunlearn run --out DIR`") from None
    return summary


#: what a row of summary.json says
ROW = {"claim", "model", "theta", "certificate", "strength", "quantity", "grid", *COUNTS, "reasons", "discriminating"}
ROW |= {"worst_ratio", "worst_seed"}


def read_claims(folder: Path) -> dict[str, Any]:
    """summary.json with everything that tables and reports need in it; ValueError otherwise."""
    summary = read_summary(folder)
    rows = summary.get("claims")
    if not isinstance(rows, list) or not all(isinstance(r, dict) and r.keys() >= ROW for r in rows):
        raise ValueError(f"{folder}/summary.json was written by another version; give `gaunlearn run --out` again")
    return summary


def load_grid(folder: Path) -> Grid:
    """The grid of a results folder; ValueError if it is not one."""
    given: dict[str, Any] = read_summary(folder)["grid"]
    try:
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
        return Grid(**fields)
    except TypeError as error:
        raise ValueError(f"{folder} is no results folder ({error}); make one with `gaunlearn run --out DIR`") from None


def load_run(folder: Path) -> tuple[Grid, list[Any]]:
    """The grid and blocks of a results folder; ValueError if it is not one."""
    return load_grid(folder), load_blocks(folder)


def write_json(path: Path, value: Any) -> None:
    """Strict JSON (infinities become null); several shards may finish at once."""
    text = json.dumps(_finite(value), indent=1, allow_nan=False)
    seal(path.parent, path.name, text.encode(), writer=f"{os.getpid()}-")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
