"""A file for every violation that a run reports, which `gaunlearn check` proves or refutes.

Where the checker knows the inequality, the file holds the instance and the checker derives both sides; elsewhere
(chances over many lanes, paths of training, claims of a user's own) it holds both sides as they were computed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from verify.certify import documents, lane_files
from verify.certify.lane_files import Target
from verify.exact.certificate_file import STRENGTHS
from verify.run.naming import cell_name, cell_of, command_for, shape_of
from verify.suites.registry import CLAIMS

Row = dict[str, Any]
NAMES = ("claim", "certificate", "strength", "quantity")


def target_of(row: Row) -> Target | None:
    """The worst lane of a row as a certificate file; None where the checker has no formula for it."""
    if row["claim"] not in CLAIMS:  # a user's own
        return None
    suite = CLAIMS[row["claim"]]
    derived = suite.derived.get("/".join(row[name] for name in NAMES[1:]))
    where = (shape_of(row), row["worst_seed"], cell_of(row), row["theta"])
    k = row["grid"]["k"]
    if derived is not None:
        sides = (derived.inequality, row["worst_lhs"], row["worst_rhs"])
        return Target(*where, k or 1, derived.certificate, None, sides, derived.solution)
    known = suite.certified and row["strength"] in STRENGTHS
    return Target(*where, k, row["certificate"], row["strength"]) if known else None


def write(folder: Path, violated: list[Row], grid: Row, own: Sequence[str] = ()) -> list[Path]:
    """Write folder/*.json, one for the worst lane of each row; returns the paths."""
    wanted = {id(row): target_of(row) for row in violated}
    paths, refused = lane_files.write(folder, list(dict.fromkeys(t for t in wanted.values() if t)))
    for row in violated:
        target = wanted[id(row)]
        if target is None or target in refused:
            command = command_for(row, grid, own)
            name = "/".join(row[part] for part in NAMES[1:] if row[part])
            document = documents.comparison(row["claim"], name, command, row["worst_lhs"], row["worst_rhs"])
            stem = re.sub(r"[^\w.=+-]", "-", f"{row['claim']}-{name}-{cell_name(row)}-seed{row['worst_seed']}")
            paths.append(folder / f"{stem[:180]}.json")
            documents.write(paths[-1], document)
    return paths
