"""The tables of the page "Which step when", from the results folders of its commands.

    python docs/found_steps.py FOLDER...

writes docs/found/steps.json: what each folder's `summary.json` says of the claim steps, in the order of the folders,
linear models first. `docs/found.py` puts the tables into the page.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

FOUND = Path(__file__).parent / "found" / "steps.json"
#: heads of the columns, by what the tool calls them
HEADS = {
    "linear gaussian d=10000": "Gaussian, d = 10⁴",
    "linear gaussian d=1e+12": "Gaussian, d = 10¹²",
    "linear equicorrelated c=0.6": "common mean .6",
    "linear equicorrelated c=0.95": "common mean .95",
    "linear clusters": "clusters .9",
    "linear label_noise": "class mean .35",
    "linear near_duplicates": "duplicates .9",
    "linear digits": "digits 3-8, m = 60",
    "linear breast_cancer": "breast cancer, m = 30",
    "relu gaussian d=1e+12": "Gaussian, d = 10¹²",
    "relu equicorrelated": "common mean .6",
    "relu label_noise": "class mean .35",
    "relu near_duplicates": "duplicates .9",
    "relu digits": "digits 3-8, m = 30",
    "relu breast_cancer": "breast cancer, m = 30",
}
#: rows that say nothing of their own for a model: for linear models the projections are one and the same
LEFT_OUT = {"linear": ("nothing", "neuronwise", "orthogonal", "retraining"), "relu": ("nothing",)}
#: a gap of this share of doing nothing's is rounding
ROUNDING = 1e-26


def read() -> list[dict[str, Any]]:
    """One entry a command: the command, the table of gaps, and the sentences on metrics."""
    found: list[dict[str, Any]] = json.loads(FOUND.read_text())
    return found


def entry(folder: Path) -> dict[str, Any]:
    """What is kept of a results folder."""
    summary = json.loads((folder / "summary.json").read_text())
    gaps, metrics = summary["tables"]["steps"]
    command = re.sub(r" (--out|--chunk) \S+", "", summary["environment"]["command_line"])
    return {"command": command, "verdict": summary["verdict"], **gaps, "metrics": metrics["sentences"]}


def cell(text: str) -> str:
    """`median [lower, upper] share, valid` as it stands in the page: bold above 1, 0 for rounding."""
    numbers = re.match(r"(\S+) \[(\S+), (\S+)\] \S+?(, \d+% valid)?$", text)
    if numbers is None:
        return text or "–"
    middle, low, high = ("0" if float(v) < ROUNDING else v for v in numbers.groups()[:3])
    shown = f"**{middle}**" if float(middle) > 1 else middle
    more = "" if low == middle == high else f" ({low} – {high})"
    return shown + more + (numbers[4].replace("%", " %") if numbers[4] else "")


def table(model: str) -> list[str]:
    """The gaps of all columns of a model."""
    mine = [one for one in read() if one["columns"][1].startswith(model)]
    heads = [_short(head) for one in mine for head in one["columns"][1:]]
    lines = ["| step | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for name in (row[0] for row in mine[0]["rows"] if row[0] not in LEFT_OUT[model]):
        cells = [cell(text) for one in mine for row in one["rows"] if row[0] == name for text in row[1:]]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def commands() -> list[str]:
    """The commands, as a block."""
    return ["```bash", *(one["command"] for one in read()), "```"]


def instances() -> list[str]:
    """How many instances stand behind each column that is not made of all."""
    told = [sentence for one in read() for sentence in one["sentences"] if " instances; " in sentence]
    counts = [re.match(r"(.*): (\d+) of (\d+) instances", sentence) for sentence in told]
    said = [f"{_model(c[1])} {_short(c[1])}: {c[2]} of {c[3]}" for c in counts if c]
    return [f"Instances with something to forget that were solved. {'; '.join(said).capitalize()}; elsewhere all 64."]


def metrics() -> list[str]:
    """Which popular metrics doing nothing passes, and which the steps that end farther than nothing."""
    lines = ["| model | data | doing nothing passes | farther than nothing, yet passing |", "|---|---|---|---|"]
    for one in read():
        for sentence in one["metrics"]:
            head, said = sentence.split(": doing nothing passes ")
            nothing, _, farther = said.partition("; farther than nothing, ")
            shown = farther.replace(" passes ", ": ") or "no step"
            lines.append(f"| {_model(head)} | {_short(head)} | {nothing} | {shown} |")
    return lines


def _model(head: str) -> str:
    return "network" if head.startswith("relu") else "linear"


def _short(head: str) -> str:
    return next(HEADS[name] for name in HEADS if head.startswith(name))


TABLES = {
    "steps_commands": commands,
    "steps_linear": lambda: table("linear"),
    "steps_network": lambda: table("relu"),
    "steps_instances": instances,
    "steps_metrics": metrics,
}


if __name__ == "__main__":
    found = [entry(Path(folder)) for folder in sys.argv[1:]]
    FOUND.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
