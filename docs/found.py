"""The numbers, tables and pictures of README and documentation, from results folders.

    gaunlearn run --out DEFAULT
    gaunlearn run linear relu identity --dims 1e2,2e2,5e2,1e3,..,1e14 --out DIMENSIONS
    gaunlearn run steps --models linear --points 20 --forget 1 --dims 1e4 --source gaussian \\
        --source equicorrelated:c=0.95 --source clusters:number=9:c=0.9 --source near_duplicates:c=0.9 --out SOURCES
    python docs/found.py DEFAULT DIMENSIONS SOURCES

writes docs/found/*.json (`gaunlearn export --findings` of each folder), docs/pictures/*.svg, and every table between
`<!-- found: NAME -->` and `<!-- end -->` in README.md and docs. Without folders only the tables are written again.
"""

from __future__ import annotations

import io
import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))  # where this file is loaded by its path
import found_steps

import gaunlearn_jax as ga
from verify.cli import main as cli
from verify.report.ladder import RUNGS
from verify.report.slim import slim
from verify.report.summary import load_run
from verify.report.top import RUNG_WORDS
from verify.suites.drawing import STYLES
from verify.suites.finding import Shown, View, from_dimension, view
from verify.suites.step_size import FRACTIONS

DOCS = Path(__file__).parent
FOUND, PICTURES = DOCS / "found", DOCS / "pictures"
#: the bounds of the table of dimensions: (model, strength, what it is made from, certificate/strength)
BOUNDS = (
    ("linear", "scale_free", "projection/scale_free"),
    ("linear", "sharp", "projection/sharp"),
    ("linear", "coarse", "scaling/coarse"),
    ("relu", "scale_free", "projection/scale_free"),
    ("relu", "sharp", "projection/sharp"),
    ("relu", "coarse", "projection/coarse"),
)
SETTING = {"num_points": 10, "num_neurons": 40, "dim": 1e8}


# --- numbers ------------------------------------------------------------------------------------------------------


def dimensions(folder: Path) -> dict[str, Any]:
    """From which d on each bound applies to, and discriminates on, half of the instances; for each k."""
    grid, blocks = load_run(folder)
    rows = []
    for model, strength, name in BOUNDS:
        mine = [block for block in blocks if model in block.results]
        for k, size in enumerate(grid.forget):
            seen = View(view(mine, model).block, model, k=k)
            one = seen.check(f"{name}/tau")
            applies = {d: float(np.mean(one.reason[seen.at(d)] == 0)) for d in seen.dims}
            row = {"model": model, "strength": strength, "k": size}
            row |= {"applies": from_dimension(applies), "tells": from_dimension(seen.telling(f"{name}/tau"))}
            rows.append({key: None if value != value else value for key, value in row.items()})
    return {"dims": list(grid.dims or ()), "seeds": grid.seeds, "bounds": rows}


def margins() -> dict[str, Any]:
    """Margins of one network before and after the step; which activations a retrained one has otherwise."""
    net = ga.models.TwoLayerReLU(num_neurons=SETTING["num_neurons"])
    forget = jnp.arange(SETTING["num_points"]) == 0

    def lane(key: Any) -> Any:
        draw, train = jax.random.split(key)
        data = ga.data.gaussian(draw, SETTING["num_points"], SETTING["dim"])
        run, again = ga.train.train(train, net, data), ga.train.train(train, net, data, retained=~forget)
        point = ga.kkt.limit_point(net, data, run)
        after = ga.unlearn.gradient_ascent(net, data, point, forget)
        problem = net.problem(data)
        helps = (net.output_weights[:, None] * data.labels[None, :] > 0) & ~forget[None, :]
        other = (run.preactivations > 0) != (again.preactivations > 0)
        changed = jnp.sum(other & helps) / jnp.sum(helps)
        return problem.margins(point.preactivations), problem.margins(after.preactivations), changed

    before, after, changed = jax.jit(jax.vmap(lane))(jax.random.split(jax.random.key(0), 64))
    return {
        **SETTING,
        "before": np.asarray(before[0]).tolist(),
        "after": np.asarray(after[0]).tolist(),
        "other_activations": float(np.median(changed)),
    }


def expression(samples: int, genes: int = 2000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of expression, synthetic: a baseline per gene, four factors shared by samples, 40 genes that differ
    between the classes, noise."""
    rng = np.random.default_rng(seed)
    baseline, loadings = rng.gamma(2.0, 2.0, genes), 0.3 * rng.normal(size=(4, genes))
    labels = np.where(np.arange(samples) % 2 == 0, 1, -1)
    drawn = np.random.default_rng(seed + 1 + samples)
    points = baseline + drawn.normal(size=(samples, 4)) @ loadings + drawn.normal(size=(samples, genes))
    points[:, :40] += labels[:, None]
    return points, labels


def audits() -> list[dict[str, Any]]:
    """What the audit says of ascent on point 3: raw, less a public mean, standardised by the points' own moments."""
    from sklearn.datasets import load_digits

    images, digit = load_digits(return_X_y=True)
    chosen = np.isin(digit, (3, 8))
    genes, labels = expression(60)
    sets = (
        ("digits 3 and 8", images[chosen], digit[chosen], images[~chosen].mean(axis=0)),
        ("expression-like", genes, labels, expression(400)[0].mean(axis=0)),
    )
    out = []
    for name, points, classes, public in sets:
        ways: dict[str, dict[str, Any]] = {
            "raw": {}, "less a public mean": {"center": public}, "standardised by themselves": {"standardize": True},
        }  # fmt: skip
        for way, options in ways.items():
            found = ga.audit(points, classes, [3], **options).to_dict()
            worth = found["worth"]
            out.append(
                {"data": name, "points": len(points), "dimensions": points.shape[1], "features": way,
                 "leverage": worth["leverage"][0], "ratio": worth["ratio"], "better": worth["answer"],
                 "reasons": worth["reasons"], "help": worth["help"], "verdict": found["verdict"]}
            )  # fmt: skip
    return out


# --- pictures -----------------------------------------------------------------------------------------------------


def overview(default: Path) -> Any:
    """Three panels: margins before and after the step; epsilon against the fraction of the step; the ladder of tau."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    first, second, third = figure.subplots(1, 3, width_ratios=(4, 4, 5))
    draw_margins(first)
    draw_v(second, default)
    draw_ladder(third)
    return figure


def draw_margins(ax: Any) -> None:
    found = json.loads((FOUND / "margins.json").read_text())
    at = np.arange(1, len(found["before"]) + 1)
    ax.axvspan(0.5, 1.5, color="#c2571a", alpha=0.12)
    ax.plot(at, found["before"], label="before the step", **STYLES[3] | {"linestyle": "none"})
    ax.plot(at, found["after"], label="after", **STYLES[0] | {"linestyle": "none"})
    ax.annotate("forgotten", (1, 0.0), (1.9, 0.12), fontsize=8, arrowprops={"arrowstyle": "-", "color": "0.5"})
    ax.set(xlabel="training point", ylabel="margin", xticks=at, ylim=(-0.15, 1.45))
    ax.set_title("the step takes one point's margin away", fontsize=9)
    ax.legend(fontsize=7, loc="upper right")


def draw_v(ax: Any, default: Path) -> None:
    _, blocks = load_run(default)
    seen = view([block for block in blocks if "step_size" in block.results], "step_size")
    d = seen.dims[1]
    for style, name, label in ((1, "upper", "upper bound"), (0, "epsilon", "measured"), (2, "lower", "lower bound")):
        values = np.array([seen.median(name, d, i) for i in range(len(FRACTIONS))])
        ax.plot(FRACTIONS, np.where(values > 0, values, np.nan), label=label, markersize=3, linewidth=1.2,
                **STYLES[style])  # fmt: skip
    ax.minorticks_off()
    ax.set(yscale="log", xlabel="fraction of the theorem's step", ylabel="stationarity error ε")
    ax.set_title(f"and is the right size (d = {d:.0e})".replace("e+0", "e"), fontsize=9)
    ax.legend(fontsize=7, loc="lower right")


def draw_ladder(ax: Any) -> None:
    ladder = json.loads((FOUND / "dimensions.json").read_text())["ladder"]
    looks = {"nothing": 3, "coarse": 1, "sharp": 2, "instance": 5, "measured": 0}
    for name in (name for name in RUNGS if name != "instance"):  # it lies on what is measured
        values = np.array([np.nan if v is None else v for v in ladder["rungs"][name]])
        look = STYLES[looks[name]] | {"marker": None}
        ax.plot(ladder["dims"], np.maximum(values, 1e-30), label=RUNG_WORDS[name], linewidth=1.5, **look)
    ax.set(xscale="log", yscale="log", xlabel="dimension d", ylabel="cosine gap τ")
    ax.set_title("the larger d, the nearer; bounds follow", fontsize=9)
    ax.legend(fontsize=7, loc="lower left")


def sketch() -> Any:
    """theta, the step theta-hat, the certificate theta-tilde and the span of the retained points."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    ax = figure.subplots()
    ax.axis("off")
    ax.set(xlim=(-0.4, 6.4), ylim=(-0.7, 3.4))
    ax.plot([-0.3, 6.2], [0, 0], color="0.35", linewidth=1.5)
    ax.text(0.3, -0.42, "span V of the retained points", fontsize=9, color="0.3")
    origin, theta, hat, tilde = (0, 0), (5.0, 2.6), (4.2, 0.0), (5.0, 0.0)
    for at, name, colour in ((theta, "θ trained", "#7a4fa3"), (hat, "θ̂ stepped", "#1b3a6b"),
                             (tilde, "θ̃ certificate", "#3f8f5b")):  # fmt: skip
        ax.annotate("", at, origin, arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 1.4})
        ax.plot(*at, "o", color=colour, markersize=5)
        where = (at[0] + 0.12, at[1] + 0.12) if at is theta else (at[0] + (0.1 if at is tilde else -1.5), at[1] + 0.16)
        ax.text(*where, name, fontsize=10, color=colour)
    ax.annotate("", hat, theta, arrowprops={"arrowstyle": "->", "color": "#c2571a", "linewidth": 1.6})
    ax.text(4.15, 1.35, "the step −h", fontsize=10, color="#c2571a", ha="right")
    ax.plot([theta[0], tilde[0]], [theta[1], tilde[1]], color="0.6", linestyle="--", linewidth=1)
    ax.text(5.1, 1.3, "part of h outside V", fontsize=8, color="0.4")
    ax.annotate("", (5.0, -0.12), (4.2, -0.12), arrowprops={"arrowstyle": "<->", "color": "0.4"})
    ax.text(4.6, -0.42, "ρ = ‖Ph‖", fontsize=8, color="0.3", ha="center")
    return figure


def save(figure: Any, name: str) -> None:
    import matplotlib

    PICTURES.mkdir(exist_ok=True)
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "gaunlearn", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None}, facecolor="white")
    (PICTURES / name).write_text(slim(stream.getvalue()) + "\n", encoding="utf-8")


# --- tables ---------------------------------------------------------------------------------------------------------


def power(d: float | None) -> str:
    """2·10⁷; 10⁴; a dash."""
    if d is None:
        return "–"
    digits, exponent = f"{d:.0e}".split("e")
    high = str(int(exponent)).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{high}" if digits == "1" else f"{digits}·10{high}"


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOUND / f"{name}.json").read_text())
    return found


def table_of_dimensions() -> list[str]:
    made_from = {
        "scale_free": "cosines and norms (Theorem F)",
        "sharp": "ψ, φ, ε₁, δ₁, m, n, k (Theorems L, P, R)",
        "coarse": "the same, in the shape of the paper's theorems",
    }
    bounds = read("dimensions")["bounds"]
    lines = ["| bound | made from | linear | ReLU, k = 1 | ReLU, k = 2 |", "|---|---|---|---|---|"]
    for strength, words in made_from.items():
        cells = []
        for model, k in (("linear", 1), ("relu", 1), ("relu", 2)):
            row = next(r for r in bounds if (r["model"], r["strength"], r["k"]) == (model, strength, k))
            cells.append(power(row["tells"]))
        lines.append(f"| {strength.replace('_', '-')} | {words} | {' | '.join(cells)} |")
    low = power(read("dimensions")["dims"][0])
    return [*lines, f"| instance | this instance's own numbers (Theorem P) | {' | '.join(instance_cells(low))} |"]


def table_of_audits() -> list[str]:
    lines = ["| data | features | leverage | gap over that of nothing | ascent better? | the tool's reason |"]
    lines.append("|---|---|---|---|---|---|")
    for row in json.loads((FOUND / "audits.json").read_text()):
        ratio = "–" if row["ratio"] is None else f"{Shown(row['ratio'])}"
        data = f"{row['data']}, {row['points']} points in {row['dimensions']} dimensions"
        why = "; ".join(row["reasons"]) or "–"
        lines.append(f"| {data} | {row['features']} | {row['leverage']:.2f} | {ratio} | {row['better']} | {why} |")
    return lines


def instance_cells(low: str) -> list[str]:
    rows = read("dimensions")["instance"]
    return [power(rows[key]) if power(rows[key]) != low else f"{low} or less" for key in ("linear1", "relu1", "relu2")]


def table_of_sources() -> list[str]:
    made = read("sources")["tables"]["steps"][0]
    words = {"gaussian": "Gaussian", "equicorrelated": "common mean, c = 0.95", "clusters": "9 clusters, c = 0.9",
             "near_duplicates": "near-duplicates, c = 0.9"}  # fmt: skip
    heads = [next(text for name, text in words.items() if f" {name}" in head) for head in made["columns"][1:]]
    lines = ["| step | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for name in ("ascent", "mean", "nearest", "active_set", "fine_tuning"):
        row = next(row for row in made["rows"] if row[0] == name)
        lines.append(f"| {name} | " + " | ".join(cell.split(" ")[0] for cell in row[1:]) + " |")
    return lines


TIGHT = (
    "**How tight?** At d = 10¹³ the sharp bound on ε is about {relu[room_sharp]} times what is measured, and "
    "the coarse one {relu[room_coarse]} times. The step has to be the theorem's: a quarter more or less is "
    "provably worse on {step_size[far]:%} of the instances. Doing nothing leaves {identity[ratio_low]} times "
    "the gap of the step at d = 10⁴, and {identity[ratio_top]} times at d = 10¹³."
)
RETRAINED = (
    "**And the network that is really retrained?** From the same initial weights it ends at a gap of "
    "{retrain[step_low]} to {retrain[step_high]} from the stepped one, whatever d ({retrain[nothing_low]} to "
    "{retrain[nothing_high]} without the step). That is a limit of the theorem, which speaks of *a* solution "
    "for the kept points: the retrained network is another one. Which neurons a point switches on is decided by "
    "the sign of a small sum in which the forgotten point takes part, and at d = 10⁸ still "
    "{margins[other_activations]:%} of the pairs of a point and a neuron that can help it come out otherwise."
)


def filled(template: str) -> list[str]:
    """A paragraph with the numbers of the findings of the default run in it."""
    numbers = {one["claim"]: one["numbers"] for one in read("default")["findings"]}
    shown = {claim: {k: Shown(v) for k, v in mine.items() if v is not None} for claim, mine in numbers.items()}
    shown["margins"] = {"other_activations": Shown(read("margins")["other_activations"])}
    return textwrap.wrap(template.format(**shown), 120, break_on_hyphens=False)


def list_of_findings() -> list[str]:
    out = ["| claim | found | but |", "|---|---|---|"]
    return out + [f"| `{one['claim']}` | {one['text']} | {one['caveat']} |" for one in read("default")["findings"]]


TABLES = {
    "dimensions": table_of_dimensions,
    "sources": table_of_sources,
    "audits": table_of_audits,
    "findings": list_of_findings,
    "tight": lambda: filled(TIGHT),
    "retrained": lambda: filled(RETRAINED),
    **found_steps.TABLES,
}


def put_tables(path: Path) -> str:
    """The text of a page with its tables as the JSON files have them."""

    def made(match: re.Match[str]) -> str:
        return f"<!-- found: {match[1]} -->\n" + "\n".join(TABLES[match[1]]()) + "\n<!-- end -->"

    return re.sub(r"<!-- found: (\w+) -->\n.*?<!-- end -->", made, path.read_text(encoding="utf-8"), flags=re.DOTALL)


def pages() -> list[Path]:
    """The pages that may hold tables."""
    return [DOCS.parent / "README.md", *(p for p in sorted(DOCS.rglob("*.md")) if "_build" not in p.parts)]


def main(folders: list[str]) -> None:
    """Write everything from the three folders; without folders the tables alone."""
    if folders:
        default, dims, sources = map(Path, folders)
        FOUND.mkdir(exist_ok=True)
        for name, folder in (("default", default), ("dimensions", dims), ("sources", sources)):
            path = FOUND / f"{name}.json"
            path.unlink(missing_ok=True)
            if cli.main(["export", str(folder), "--findings", "--out", str(path)]):
                raise SystemExit(2)
            found = json.loads(path.read_text())
            found["command"] = re.sub(r" --out \S+", " --out DIR", found["command"])
            found = {key: value for key, value in found.items() if name == "sources" or key != "tables"}
            if name == "dimensions":
                found |= dimensions(dims) | {"instance": instances(dims)}
            path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        (FOUND / "audits.json").write_text(json.dumps(audits(), indent=1) + "\n")
        (FOUND / "margins.json").write_text(json.dumps(margins(), indent=1) + "\n")
        save(overview(default), "overview.svg")
        save(sketch(), "sketch.svg")
    for path in pages():
        path.write_text(put_tables(path), encoding="utf-8")


def instances(folder: Path) -> dict[str, float | None]:
    """From which d on the instance bound discriminates, by model and k."""
    grid, blocks = load_run(folder)
    out: dict[str, float | None] = {}
    for model in ("linear", "relu"):
        mine = [block for block in blocks if model in block.results]
        for k, size in enumerate(grid.forget):
            first = from_dimension(View(view(mine, model).block, model, k=k).telling("projection/instance/tau"))
            out[f"{model}{size}"] = None if first != first else first
    return out


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main(sys.argv[1:])
