"""`gaunlearn audit`: the audit of a user's own data, printed, drawn and kept."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def add_parser(commands: Any, whole: Callable[[str], tuple[int, ...]]) -> None:
    audit = commands.add_parser("audit", help="how well chosen points of your own data are forgotten")
    audit.add_argument(
        "data", metavar="DATA", help=".npz with X and y, X.npy,y.npy, .csv, digits:A-B or breast_cancer (extra `data`)"
    )
    audit.add_argument("--forget", type=whole, metavar="I,..", required=True, help="points to forget, counted from 0")
    audit.add_argument("--label", metavar="COLUMN", help="the csv column with the classes")
    audit.add_argument("--model", choices=("linear", "relu"), default="linear", help="default linear")
    audit.add_argument("--neurons", type=int, metavar="N", help="neurons of the relu network (default 40)")
    audit.add_argument("--weights", type=Path, metavar="FILE.npz", help="measure these: W [n, d], u [n]; linear w [d]")
    audit.add_argument("--normalize", action="store_true", help="bring every point to unit norm")
    audit.add_argument("--bias", action="store_true", help="append the coordinate 1 to every point")
    audit.add_argument("--loss", choices=("exponential", "logistic"), default="exponential", help="for the step size")
    audit.add_argument("--seed", type=int, metavar="S", default=0, help="of the initial weights (relu)")
    audit.add_argument("--every-point", action="store_true", help="rank all points by how cleanly each is forgotten")
    audit.add_argument("--figure", type=Path, metavar="FILE", help="draw that ranking (.png or .svg, extra `plots`)")
    audit.add_argument("--json", type=Path, metavar="FILE", help="keep every number of the answer")


def main(options: argparse.Namespace) -> int:
    """Print the answer; exit code 0 whatever it is, ValueError for bad input."""
    _check_outputs(options)
    from verify import datasets, report

    points, labels = datasets.load(options.data, options.label)
    weights, output_weights = None, None
    if options.weights is not None:
        if options.neurons is not None:
            raise ValueError("--neurons does not go with --weights: the file says how many there are")
        weights, output_weights = datasets.load_weights(options.weights, options.model)
    report.set_up_jax()
    import gaunlearn_jax as ga

    answer = ga.audit(
        points, labels, options.forget,
        model=options.model, neurons=40 if options.neurons is None else options.neurons,
        weights=weights, output_weights=output_weights, normalize=options.normalize, bias=options.bias,
        loss=options.loss, every_point=options.every_point or options.figure is not None, seed=options.seed,
    )  # fmt: skip
    first, _, rest = str(answer).partition("\n\n")
    report.console.print(first, style="bold", markup=False, soft_wrap=True)
    report.console.print("\n" + rest, markup=False, soft_wrap=True)
    if options.json is not None:
        options.json.write_text(json.dumps(answer.to_dict(), indent=1) + "\n")
    if options.figure is not None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 4.8), layout="constrained")
        draw(figure, answer)
        figure.savefig(options.figure, dpi=150)
    return 0


def _check_outputs(options: argparse.Namespace) -> None:
    """Before any computing: the folders of the files exist, and the picture can be drawn."""
    for name, path in (("--json", options.json), ("--figure", options.figure)):
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise ValueError(f"{name} {path} cannot be written; give a file in a folder that exists")
    if options.figure is None:
        return
    if options.figure.suffix not in (".png", ".svg"):
        raise ValueError(f"--figure {options.figure} is no .png or .svg; choose one of them")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ValueError("drawing needs matplotlib: pip install 'gaunlearn-jax[plots]'") from None


def draw(figure: Any, answer: Any) -> None:
    """Every point the model depends on, from the cleanest to the hardest: rho/||theta||, gaps with and without step."""
    from verify.plots import STYLES

    every = answer.every_point
    order = [i for i in every.ranking() if every.multipliers[i] > 0]
    gap, before = every.gap[order], every.gap_nothing[order]
    lines = (
        (every.rho[order], r"error of the certificate, $\rho_r/\Vert\theta\Vert$", 1),
        (np.sqrt(2 * gap), "angle to the retrained model after the step", 0),
        (np.sqrt(2 * before), "the same without a step", 2),
    )
    ax = figure.subplots()
    at = np.arange(1, len(order) + 1)
    for values, label, style in lines:
        options = STYLES[style] | {"markersize": 4 if len(order) <= 100 else 0}
        ax.plot(at, np.where(values > 0, values, np.nan), label=label, **options)
    ax.axhline(1.0, color="black", linewidth=0.8, linestyle=(0, (1, 2)))
    ax.annotate(
        "above this line the certificate says nothing", (0, 1), (4, 3), ax.get_yaxis_transform(), "offset points",
        fontsize=8, bbox={"fc": "white", "ec": "none", "pad": 1},
    )  # fmt: skip
    ax.set(yscale="log", xlabel="point, from the cleanest to the hardest", ylabel="relative error, chord of the angle")
    if len(order) <= 40:
        ax.set_xticks(at, [str(i) for i in order], rotation=90, fontsize=8)
    ax.grid(alpha=0.25)
    ax.legend(fontsize=8)
    free = len(every.multipliers) - len(order)
    title = f"forgetting each point alone, {answer.model} model: {len(order)} points; {free} more have multiplier 0"
    ax.set_title(title, fontsize=10)
