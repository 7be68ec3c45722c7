"""A file for every violation that a run reports, which `gaunlearn check` proves or refutes.

Where the checker knows the inequality, the file holds the instance and the checker derives both sides; elsewhere
(chances over many lanes, paths of training, claims of a user's own) it holds both sides as they were computed.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

from verify import certificate_file, certify
from verify.certify import CERTIFIED, Target
from verify.records import Shape
from verify.report import cell_name, command_for, console

Row = dict[str, Any]
#: (claim, certificate, strength, quantity) of a row: the inequality that it is, and the certificate in its file
DERIVED = {
    ("multipliers", "", "sharp", "upper"): ("multipliers/upper", "projection"),
    ("multipliers", "", "sharp", "lower"): ("multipliers/lower", "projection"),
    ("multipliers", "", "instance", "margin"): ("multipliers/margin", "projection"),
    ("activations", "step", "instance", "shift"): ("activations/shift", "projection"),
    ("estimators", "estimate", "instance", "multiplier"): ("estimators/multiplier", "projection"),
    ("estimators", "estimate", "coarse", "multiplier"): ("estimators/coarse", "projection"),
    ("identity", "projection", "instance", "separation"): ("identity/separation", "projection"),
    ("identity", "span", "instance", "separation"): ("identity/separation", "span"),
    ("identity", "retrain", "instance", "separation"): ("identity/separation", "retrain"),
    ("identity", "first", "instance", "separation"): ("identity/retrained", "projection"),
    ("identity", "retrain", "instance", "norm"): ("identity/norm", "retrain"),
    ("retrain", "projection", "instance", "distance"): ("retrain/distance", "projection"),
    ("retrain", "retrain", "instance", "tau"): ("retrain/tau", "projection"),
}
NAMES = ("claim", "certificate", "strength", "quantity")


def target_of(row: Row) -> Target | None:
    """The worst lane of a row as a certificate file; None where the checker has no formula for it."""
    known = DERIVED.get(tuple(row[name] for name in NAMES))
    if row["claim"] not in CERTIFIED and known is None:
        return None
    g = row["grid"]
    where = (Shape(row["model"], g["m"], g["n"], g["loss"]), row["worst_seed"], g["d"], g["signal"], row["theta"])
    if known is None:
        return Target(*where, g["k"], row["certificate"], row["strength"])
    return Target(*where, g["k"] or 1, known[1], None, (known[0], row["worst_lhs"], row["worst_rhs"]))


def write(folder: Path, violated: list[Row], grid: Row, claims_from: str | None = None) -> list[Path]:
    """Write folder/*.json, one for the worst lane of each row; returns the paths."""
    wanted = {id(row): target_of(row) for row in violated}
    paths, refused = certify.write(folder, list(dict.fromkeys(t for t in wanted.values() if t)))
    for row in violated:
        target = wanted[id(row)]
        if target is None or target in refused:
            command = command_for(row, grid, claims_from)
            name = "/".join(row[part] for part in NAMES[1:] if row[part])
            document = certificate_file.comparison(row["claim"], name, command, row["worst_lhs"], row["worst_rhs"])
            stem = re.sub(r"[^\w.=+-]", "-", f"{row['claim']}-{name}-{cell_name(row)}-seed{row['worst_seed']}")
            paths.append(folder / f"{stem[:180]}.json")
            certificate_file.write(paths[-1], document)
    return paths


def keep(folder: Path, violated: list[Row], grid: Row, claims_from: str | None) -> list[Path]:
    """Write the files and say what the checker makes of them. A folder that cannot be written is said, and the
    violations stay what they are: no error hides them."""
    try:
        paths = write(folder, violated, grid, claims_from)
    except OSError as error:
        console.print(f"{folder} cannot be written ({error.strerror}): no file of the violations; give --out DIR")
        return []
    console.print(f"wrote {len(paths)} files of violations to {folder}; `gaunlearn check FILE` judges")
    with contextlib.suppress(ImportError):
        from verify import exact

        for path in paths[:5]:
            console.print(f"  {path}: {exact.in_words(exact.check_file(path))}", markup=False, soft_wrap=True)
    return paths
