"""`gaunlearn audit`: the audit of a user's own data, printed, drawn and kept."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def add_parser(commands: Any, whole: Callable[[str], tuple[int, ...]], names: Callable[[str], tuple[str, ...]]) -> None:
    audit = commands.add_parser("audit", help="how well chosen points of your own data are forgotten")
    audit.add_argument(
        "data",
        metavar="DATA",
        help=".npz with X and y, X.npy,y.npy, a table (.csv, .tsv, .csv.gz, .parquet, .svm), digits, digits:A-B or "
        "breast_cancer (extra `data`)",
    )
    audit.add_argument("--forget", type=whole, metavar="I,..", required=True, help="points to forget, counted from 0")
    audit.add_argument("--label", metavar="COLUMN", help="a table's column with the classes: name, or number from 0")
    audit.add_argument(
        "--columns", type=names, metavar="A,..", default=(), help="the coordinates (default: all others)"
    )
    audit.add_argument("--drop", type=names, metavar="A,..", default=(), help="columns of a table to leave out")
    audit.add_argument(
        "--header", action=argparse.BooleanOptionalAction, help="the first row of a table holds names, or data"
    )
    audit.add_argument("--model", choices=("linear", "relu", "convolution"), default="linear", help="default linear")
    audit.add_argument(
        "--patch", type=int, metavar="PIXELS", help="convolution: side of the square patches of an image"
    )
    audit.add_argument("--stride", type=int, metavar="PIXELS", help="their distance (default: disjoint)")
    audit.add_argument("--neurons", type=int, metavar="N", help="neurons of the relu network, filters (default 40)")
    audit.add_argument(
        "--slope", type=float, metavar="A", default=0.0, help="of the activation below zero (default 0, relu)"
    )
    audit.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="measure these, .npz or .safetensors: W [n, d], u [n]; linear w [d], several classes W [C, d]",
    )
    audit.add_argument("--center", type=Path, metavar="FILE.npy", help="subtract this public mean [d] from every point")
    audit.add_argument("--standardize", action="store_true", help="by their own mean and deviations; the answer warns")
    audit.add_argument(
        "--step", metavar="NAME", default="ascent", help="judge another step of `gaunlearn list`, or FILE.py"
    )
    audit.add_argument(
        "--unlearned",
        type=Path,
        metavar="FILE.npz",
        help="judge a model that was unlearned elsewhere; arrays as for --weights",
    )
    text = "make(points, labels) returns the arguments of homogeneous or first_layer: docs/howto/network.md"
    audit.add_argument("--network", metavar="FILE.py:MAKE", help=text)
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
    from gaunlearn_jax.audit import datasets
    from verify.cli import patience
    from verify.run import devices

    table = {"columns": options.columns, "drop": options.drop, "header": options.header}
    points, labels = datasets.load(options.data, options.label, **table)
    if options.network is not None:
        from verify.cli import network

        return _told(options, network.answered(options, points, labels))
    weights, output_weights = None, None
    if options.weights is not None:
        if options.neurons is not None:
            raise ValueError("--neurons does not go with --weights: the file says how many there are")
        weights, output_weights = datasets.load_weights(options.weights, options.model)
    elif options.neurons is not None and options.model == "linear":
        raise ValueError("--neurons is for networks, and the linear model has none; add --model relu or leave it out")
    unlearned = None if options.unlearned is None else datasets.load_weights(options.unlearned, options.model)[0]
    devices.set_up_jax()
    import gaunlearn_jax as ga

    def answered(step: str) -> Any:
        return ga.audit(
            points, labels, options.forget, step=step, unlearned=unlearned,
            model=options.model, neurons=40 if options.neurons is None else options.neurons,
            weights=weights, output_weights=output_weights, slope=options.slope,
            center=None if options.center is None else datasets.load_mean(options.center),
            standardize=options.standardize, normalize=options.normalize, bias=options.bias,
            patch=options.patch, stride=options.stride, loss=options.loss, seed=options.seed,
            every_point=options.every_point or options.figure is not None,
        )  # fmt: skip

    with patience.told() if options.model != "linear" else contextlib.nullcontext():
        if options.step.endswith(".py"):
            from verify.suites import own

            with own.loaded([Path(options.step)]):
                answer = answered(own.step_name(Path(options.step)))
        else:
            answer = answered(options.step)
    return _told(options, answer)


def _told(options: argparse.Namespace, answer: Any) -> int:
    """Keep and print the answer."""
    from verify.report.console import print_prose

    _keep(options, answer)  # before anything is printed: no terminal or pipe may cost the results
    first, _, rest = str(answer).partition("\n\n")
    print_prose(first, "bold")
    print_prose("\n" + rest)
    return 0


def _keep(options: argparse.Namespace, answer: Any) -> None:
    """The files that were asked for."""
    if options.json is not None:
        options.json.write_text(json.dumps(answer.to_dict(), indent=1) + "\n")
    if options.figure is not None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 4.8), layout="constrained")
        draw(figure, answer)
        figure.savefig(options.figure, dpi=150)


def _check_outputs(options: argparse.Namespace) -> None:
    """Before any computing: the files can be written, and the picture can be drawn."""
    from verify.run import devices

    for name, path in (("--json", options.json), ("--figure", options.figure)):
        if path is not None:
            devices.writable_file(name, path)
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
    from verify.suites.drawing import STYLES

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
