"""The files of violations of a run: written, and judged by the checker where it is installed."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from gaunlearn_jax.store.disk import StoreError
from verify.certify import violations
from verify.instances.grid import Grid
from verify.report.console import console

Row = dict[str, Any]


def keep_violations(folder: Path | None, all_rows: list[dict[str, Any]], grid: Grid, files: list[str]) -> list[Path]:
    """A file for each violated row, in ./counterexamples without a results folder."""
    violated = [row for row in all_rows if row["violated"]]
    if not violated:
        return []
    return keep(folder / "certificates" if folder else Path("counterexamples"), violated, grid.as_json(), files)


def keep(folder: Path, violated: list[Row], grid: Row, own: list[str]) -> list[Path]:
    """Write the files and say what the checker makes of them. A folder that cannot be written is said, and the
    violations stay what they are: no error hides them."""
    try:
        paths = violations.write(folder, violated, grid, own)
    except (OSError, StoreError) as error:
        console.print(f"{folder} cannot be written ({error}): no file of the violations; give --out DIR")
        return []
    console.print(f"wrote {len(paths)} files of violations to {folder}; `gaunlearn check FILE` judges")
    with contextlib.suppress(ImportError):
        from verify.exact import statements

        for path in paths[:5]:
            console.print(f"  {path}: {statements.in_words(statements.check_file(path))}", markup=False, soft_wrap=True)
    return paths
