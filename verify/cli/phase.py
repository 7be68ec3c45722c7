"""`gaunlearn phase`: heat maps of where hypotheses hold, bounds speak and the step is worth taking."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from verify.phase.plane import Plane


def add_parser(commands: Any) -> None:
    """The options of `gaunlearn phase`."""
    phase = commands.add_parser("phase", help="a phase diagram over two parameters: where the step is worth taking")
    axis = "NAME=LOW..HIGH[:COUNT] or NAME=V,V,..; d, m, n, k, step or a parameter of the source or model"
    phase.add_argument("--source", default="gaussian", metavar="NAME[:PARAMETER=V]", help="data; see `gaunlearn list`")
    phase.add_argument("--x", required=True, metavar="AXIS", help=axis)
    phase.add_argument("--y", required=True, metavar="AXIS", help="the other axis")
    phase.add_argument("--model", default="relu", metavar="M", help="architecture, such as linear or leaky:slope=0.2")
    phase.add_argument(
        "--dims", dest="dim", type=float, default=1e4, metavar="D", help="dimension d where it is no axis"
    )
    phase.add_argument("--points", type=int, default=10, metavar="M", help="number of training points m")
    phase.add_argument("--neurons", type=int, default=40, metavar="N", help="number of neurons n (networks)")
    phase.add_argument("--forget", type=int, default=1, metavar="K", help="size k of the forget set")
    phase.add_argument("--step", type=float, default=1.0, metavar="C", help="multiple of the theorem's step")
    phase.add_argument("--seeds", type=int, default=64, metavar="S", help="instances per cell")
    phase.add_argument(
        "--out", type=Path, default=Path("phase"), metavar="DIR", help="lanes, PNG, SVG, table, page; resumes"
    )


def plane_of(options: argparse.Namespace) -> Plane:
    """The plane that the options describe."""
    from verify.phase.plane import Axis, Plane

    sizes = {name: getattr(options, name) for name in ("dim", "points", "neurons", "forget", "step", "seeds")}
    return Plane(options.source, options.model, Axis.read(options.x), Axis.read(options.y), **sizes)


def main(options: argparse.Namespace) -> int:
    """Compute what is missing, then draw; the exit code."""
    from verify.phase import run

    run.run(plane_of(options), options.out)
    return 0
