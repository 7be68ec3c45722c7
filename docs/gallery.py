"""The gallery of phase diagrams: its runs, pictures, numbers and page.

    python docs/gallery.py DIR

runs every command below with `--out DIR/NAME` (what is there is not computed again; about ten minutes on two cores),
and writes docs/found/phase.json (the tables), docs/pictures/phase_NAME.png and docs/gallery.md. Without a folder it
writes the page alone, from the tables.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import re
import shlex
import sys
import textwrap
from pathlib import Path
from typing import Any

import jax
import numpy as np

from verify.cli import main as cli
from verify.cli import phase
from verify.phase import picture
from verify.phase.lanes import COLUMNS
from verify.phase.plane import Plane
from verify.suites.finding import Shown

DOCS = Path(__file__).parent
PAGE, FOUND, PICTURES = DOCS / "gallery.md", DOCS / "found" / "phase.json", DOCS / "pictures"
#: the runs: name, and what follows `gaunlearn phase`
PICTURED = {
    "equicorrelated": "--source equicorrelated --x d=30,1e2,1e4,1e6,1e8,1e12 "
    "--y c=0,1e-4,0.01,0.1,0.3,0.5,0.6,0.8,0.95 --seeds 32",
    "student": "--source student --x d=1e2,1e4,1e6,1e8,1e12 --y nu=1,2,5,10,100,1000,1e9 --seeds 32",
    "spiked": "--source spiked --x d=1e4,1e6,1e8,1e12 --y share=0,1e-4,0.01,0.1,0.3,0.5,0.7,0.9 --seeds 32",
    "clusters": "--source clusters:number=10 --model linear --points 60 --x d=100,200,600,6000 "
    "--y c=0.2,0.4,0.5,0.6,0.8 --seeds 64",
    "label_noise": "--source label_noise --model linear --points 60 --x d=75,120,300 --y flip=0,0.1,0.3,0.5 --seeds 64",
    "near_duplicates": "--source near_duplicates --x d=1e4,1e6,1e8,1e12 --y c=0.5..0.95:19 --seeds 32",
}
#: runs whose numbers alone are told
BOUNDARIES = {
    "equicorrelated_linear": "--source equicorrelated --model linear --x d=1e4,1e6,1e12 --y c=0.5..0.6:21 --seeds 64",
    "gaussian": "--model linear --points 120 --x d=185,200 --y k=1,2 --seeds 128",
}
RUNS = PICTURED | BOUNDARIES
SHARES = ("all", "moved", *picture.PANELS)


# --- numbers ------------------------------------------------------------------------------------------------------


def plane_of(words: str) -> Plane:
    """The plane of a command."""
    parser = argparse.ArgumentParser()
    phase.add_parser(parser.add_subparsers())
    return phase.plane_of(parser.parse_args(["phase", *shlex.split(words)]))


def command(name: str) -> str:
    return f"gaunlearn phase {RUNS[name]} --out {name}"


def digest(run: dict[str, Any]) -> str:
    """What ties a picture to its table."""
    return hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()


class Table:
    """The table of a run: a number by its name and place."""

    def __init__(self, name: str, run: dict[str, Any]) -> None:
        self.plane, self.columns = plane_of(RUNS[name]), run["columns"]
        self.rows = {(row[0], row[1]): row for row in run["rows"]}

    def value(self, name: str, x: float, y: float) -> float:
        """A number of a cell; "all" is the share of better ones among all instances."""
        if name == "all":
            return self.value("better", x, y) * self.value("moved", x, y)
        value = self.rows[x, y][self.columns.index(name)]
        return math.nan if value is None else float(value)

    def filled(self, text: str) -> str:
        """The text with its [NAME X Y] as numbers."""

        def number(match: re.Match[str]) -> str:
            value = Shown(self.value(match[1], float(match[2]), float(match[3])))
            return f"{value:%}" if match[1] in SHARES else f"{value}"

        return re.sub(r"\[(\w+) (\S+) ([^]\s]+)\](?!\()", number, " ".join(text.split()))

    def found(self) -> dict[str, np.ndarray]:
        """The numbers by name as arrays [y, x]."""
        x, y = self.plane.x.values, self.plane.y.values
        return {name: np.array([[self.value(name, a, b) for a in x] for b in y]) for name in COLUMNS}

    def crossings(self, places: dict[str, float]) -> str:
        """The y at which the share of better instances falls through one half, at these x."""
        made = dict(zip(self.plane.x.values, picture.crossings(self.plane, self.found()), strict=True))
        return ", ".join(f"{made[x]:.3f} (d = {words})" for words, x in places.items())


def read(path: Path) -> dict[str, Any]:
    """A phase.csv as columns and rows; what has no answer is None."""
    with path.open(newline="") as stream:
        columns, *lines = csv.reader(stream)
    rows = [[None if value == "nan" else float(value) for value in line] for line in lines]
    return {"columns": columns, "rows": rows}


# --- the page -----------------------------------------------------------------------------------------------------

#: in the texts, [NAME X Y] is the number of a run's table at that place: a share in per cent, else two digits
TOP = """Each picture is the output of the command above it, each number is from the same run's table; `python
docs/gallery.py DIR` makes all of them again. A panel is one question ([what the panels are](howto/phase.md)),
its shade the share of instances that answer yes; panels on which no instance does are named in the title.
Points m = 10, neurons n = 40, one forgotten point unless the command says otherwise. *Better* is of the
instances that the step moves: where the forgotten point carries nothing (its multiplier is 0), the model is the
retrained one already."""
TEXTS = {
    "equicorrelated": (
        "A common mean (ReLU)",
        """From d = 10⁴ on the step is better on [better 1e4 0.5] of the instances at c = 0.5 and on
        [better 1e12 0.6] at 0.6, at any d; at c = 0.95 it leaves [ratio 1e12 0.95] times the gap of doing
        nothing. Bounds give up long before: at d = 10¹² the hypotheses of the coarse one hold on
        [hypotheses 1e12 1e-4] at c = 10⁻⁴ and [hypotheses 1e12 0.01] at 0.01, the sharp one speaks on
        [sharp 1e12 0.01] at 0.01 and [sharp 1e12 0.1] at 0.1, the instance's own on [instance 1e12 0.1] at 0.1
        and [instance 1e12 0.3] at 0.3. The ball of Theorem T excludes doing nothing up to the boundary
        ([ball 1e12 0.5] at 0.5).""",
    ),
    "student": (
        "Heavy tails (ReLU)",
        """The tails do the step no harm: with one degree of freedom it is better on [better 1e4 1] of the
        instances at d = 10⁴, within a hundredth of the gap on [hundredth 1e4 1]. They silence every bound that
        wants squared norms near 1: at d = 10¹² the sharp one speaks on [sharp 1e12 2] for ν = 2 and
        [sharp 1e12 10] for ν = 10, and the hypotheses of the coarse one hold on [hypotheses 1e12 1000] even for
        ν = 1000. For ν = 2 the scale-free one speaks on [scale_free 1e6 2] from d = 10⁶ on.""",
    ),
    "spiked": (
        "One large direction (ReLU)",
        """A direction with a share of the variance is a slope, not a cliff: at d = 10¹² the step is better on
        [better 1e12 0.3], [better 1e12 0.5], [better 1e12 0.7] and [better 1e12 0.9] at shares of 0.3, 0.5, 0.7
        and 0.9, since leverage depends on how far the forgotten point happens to lie along that direction
        (medians [leverage 1e12 0.3] and [leverage 1e12 0.9] at 0.3 and 0.9). The sharp bound speaks on
        [sharp 1e12 1e-4] at a share of 10⁻⁴ and [sharp 1e12 0.01] at 0.01.""",
    ),
    "clusters": (
        "Clusters (linear)",
        """Six points a cluster, labels by cluster. At c = 0.5 the step is better on [better 100 0.5],
        [better 200 0.5], [better 600 0.5] and [better 6000 0.5] at d = 100, 200, 600 and 6000; at c = 0.6 on
        [better 6000 0.6] even at d = 6000. Few dimensions and correlation add up.""",
    ),
    "label_noise": (
        "Flipped labels (linear)",
        """Class means of ‖μ‖² = 0.3 beside noise of squared norm 1. At m/d = 0.5 the step is better on
        [better 120 0] of the instances it moves without flips, [better 120 0.1] with a tenth of the labels
        flipped and [better 120 0.5] with half of them; at m/d = 0.8 on [better 75 0], [better 75 0.1] and
        [better 75 0.5]; at 0.2 on [better 300 0.5] even with half. Clean classes lean on few points: without
        flips the step moves only [moved 120 0] at m/d = 0.5.""",
    ),
    "near_duplicates": (
        "Near-duplicates (ReLU)",
        """Every point has a twin of its label at cosine c. The step is better on [better 1e12 0.7] at c = 0.7 and
        on [better 1e12 0.725] at 0.725, at every d. Part (a) of Theorem H proves it on [proved 1e12 0.65] at
        0.65, [proved 1e12 0.675] at 0.675 and [proved 1e12 0.7] at 0.7. No worst-case bound speaks anywhere.""",
    ),
}
GAUSSIAN = """The Gaussian row is of one forgotten point and 128 instances a cell (standard error: 5 points), on those
that the step moves: [moved 200 1] and [moved 185 1]. Of all instances, where those it leaves alone count as not
better, the shares would be [all 200 1] and [all 185 1], one half at a smaller m/d than the conjecture's 0.625,
which is about points that carry something."""


def page(runs: dict[str, Any]) -> str:
    """The text of docs/gallery.md."""
    tables = {name: Table(name, run) for name, run in runs.items()}
    parts = ["# A gallery of phase diagrams", wrapped(TOP)]
    for name, (head, text) in TEXTS.items():
        axes = tables[name].plane.x.name, tables[name].plane.y.name
        picture_of = f"![Heat maps over {axes[0]} and {axes[1]}, a panel a question](pictures/phase_{name}.png)"
        parts += [f"## {head}", f"```bash\n{command(name)}\n```", picture_of, wrapped(tables[name].filled(text))]
    return "\n\n".join([*parts, *boundaries(tables)]) + "\n"


def wrapped(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 120, break_on_hyphens=False, break_long_words=False)


def boundaries(tables: dict[str, Table]) -> list[str]:
    """Where the step begins to lose, measured and in closed form."""
    twins, mean, plain = (tables[name] for name in ("near_duplicates", "equicorrelated_linear", "gaussian"))
    two, three = {"10⁴": 1e4, "10¹²": 1e12}, {"10⁴": 1e4, "10⁶": 1e6, "10¹²": 1e12}
    rows = [
        ("near-duplicates, ReLU", f"half are better at c = {twins.crossings(two)}", "0.707"),
        ("common mean, linear, 9 retained points", f"half are better at c = {mean.crossings(three)}", "0.546"),
        ("Gaussian, linear, m = 120", plain.filled("[better 200 1] are better at m/d = 0.60, [better 185 1] at 0.65"),
         "m/d = 0.625 (a conjecture)"),
    ]  # fmt: skip
    lines = ["| data | measured | leverage one half |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    commands = "\n".join(command(name) for name in BOUNDARIES)
    return ["## Where the step begins to lose", f"```bash\n{commands}\n```", "\n".join(lines),
            wrapped(plain.filled(GAUSSIAN))]  # fmt: skip


# --- making it ----------------------------------------------------------------------------------------------------


def draw(name: str, run: dict[str, Any]) -> None:
    table = Table(name, run)
    figure = picture.figure(table.plane, table.found())
    about = {"Description": f"{command(name)} {digest(run)}"}
    figure.savefig(PICTURES / f"phase_{name}.png", dpi=80, metadata=about)


def main(folders: list[str]) -> None:
    if folders:
        runs = {}
        for name, words in RUNS.items():
            out = Path(folders[0]) / name
            if cli.main(["phase", *shlex.split(words), "--out", str(out)]):
                raise SystemExit(2)
            runs[name] = {"command": command(name)} | read(out / "phase.csv")
        FOUND.write_text(json.dumps(runs) + "\n")
        for name in PICTURED:
            draw(name, runs[name])
    PAGE.write_text(page(json.loads(FOUND.read_text())), encoding="utf-8")


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main(sys.argv[1:])
