"""The numbers of findings, a second time: from exported lanes alone, with plain loops and no code of the project.

A table is {column: one value per lane}; columns of lanes are named "claim|name|field|theta.k.entry" as
`gaunlearn export` writes them (theta 0: trained, 1: exact KKT point; k 0: first size of the forget set).
"""

from __future__ import annotations

import csv
import lzma
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIMIT, TRAINED = "1.0", "0.0"
Table = dict[str, list]


def read(path: Path) -> Table:
    """The columns of one exported file, compressed or not."""
    with (lzma.open if path.suffix == ".xz" else open)(path, "rt", newline="") as stream:
        head, *lines = csv.reader(stream)
    texts = ("model", "loss", "source")
    return {name: [line[i] if name in texts else float(line[i]) for line in lines] for i, name in enumerate(head)}


def dims(table: Table) -> list[float]:
    return sorted(set(table["d"]))


def median(values: list[float]) -> float:
    return statistics.median(values) if values else math.nan


def of(table: Table, claim: str, name: str, d: float, index: str = LIMIT, solved: bool = True) -> list[float]:
    """Finite values of an array in a dimension, of the lanes that were solved."""
    found = []
    for lane, at in enumerate(table["d"]):
        flag = table.get(f"{claim}|solved||{'.'.join(index.split('.')[:2])}") or table.get(f"{claim}|solved||")
        value = table[f"{claim}|{name}||{index}"][lane]
        if at == d and math.isfinite(value) and (not solved or flag is None or flag[lane]):
            found.append(value)
    return found


def compared(table: Table, claim: str, name: str, d: float, index: str = LIMIT) -> list[dict[str, float]]:
    """The comparisons of a dimension, field by field."""
    fields = ("lhs", "rhs", "reason", "converged", "discriminating")
    return [
        {field: table[f"{claim}|{name}|{field}|{index}"][lane] for field in fields}
        for lane, at in enumerate(table["d"])
        if at == d
    ]


def first(table: Table, share: Callable[[float], float]) -> float:
    """The smallest d such that there and in every larger one the share is a half or more."""
    good = [d for d in dims(table) if all(share(other) >= 0.5 for other in dims(table) if other >= d)]
    return min(good, default=math.nan)


def telling(table: Table, claim: str, name: str, index: str = LIMIT) -> Callable[[float], float]:
    def share(d: float) -> float:
        lanes = compared(table, claim, name, d, index)
        return sum(c["reason"] == 0 and c["converged"] == 1 and c["discriminating"] == 1 for c in lanes) / len(lanes)

    return share


def room(table: Table, claim: str, name: str, d: float) -> float:
    lanes = compared(table, claim, name, d)
    return median([c["rhs"] / c["lhs"] for c in lanes if c["reason"] == 0 and c["converged"] == 1 and c["lhs"] > 0])


def success(claim: str, sharp: str, scale_free: str, coarse: str) -> Callable[[Table, Table], dict[str, float]]:
    def numbers(net: Table, lin: Table) -> dict[str, float]:
        table = lin if claim == "linear" else net
        top = dims(table)[-1]
        out = {"top": top, "k": 2.0}
        for strength, name in (("sharp", sharp), ("scale_free", scale_free), ("coarse", coarse)):
            out[f"from_{strength}"] = first(table, telling(table, claim, f"{name}/tau"))
        out["from_coarse_k"] = first(table, telling(table, claim, f"{coarse}/tau", "1.1"))
        return out | {
            f"room_{s}": room(table, claim, f"{n}/epsilon", top) for s, n in (("sharp", sharp), ("coarse", coarse))
        }

    return numbers


def retrain(net: Table, lin: Table) -> dict[str, float]:
    top = dims(net)[-1]
    step, nothing = (
        [median(of(net, "retrain", "to_trained_parameters", d, f"{TRAINED}.{i}")) for d in dims(net)] for i in (0, 1)
    )
    return {
        "top": top, "tau": median(of(net, "retrain", "tau", top)),
        "room": room(net, "retrain", "retrain/ball/tau", top),
        "step_low": min(step), "step_high": max(step), "nothing_low": min(nothing), "nothing_high": max(nothing),
    }  # fmt: skip


def worthwhile(net: Table, lin: Table) -> dict[str, float]:
    def least(name: str) -> float:
        return min(statistics.fmean(of(net, "worthwhile", name, d)) for d in dims(net))

    leverage = median(of(net, "worthwhile", "leverage", dims(net)[0]))
    return {"better": least("better"), "proved": least("proved"), "leverage": leverage}


def sources(tables: dict[str, Table], _: Table) -> dict[str, float]:
    """Of the sources of the small grid, each with the one parameter that a run sets: the largest dimension."""
    out: dict[str, float] = {}
    for i, (source, name) in enumerate((("student", "nu"), ("near_duplicates", "c"), ("shifted", "common"))):
        table = tables[source]
        top = dims(table)[-1]
        (value,) = set(table[name])
        out |= {f"{name}_{i}": value, f"ratio_{i}": median(of(table, "sources", "ratio", top))}
        for strength in ("sharp", "scale_free"):
            out[f"{strength}_{i}"] = telling(table, "sources", f"projection/{strength}/tau")(top)
    return out


def identity(net: Table, lin: Table) -> dict[str, float]:
    low, top = dims(net)[0], dims(net)[-1]
    return {
        "low": low, "top": top,
        "ratio_low": median(of(net, "identity", "ratio", low)), "ratio_top": median(of(net, "identity", "ratio", top)),
        "gap": median(of(net, "identity", "identity_gap", top)),
        "bound": median(of(net, "identity", "identity_bound", top)),
    }  # fmt: skip


def ratios(net: Table) -> dict[str, float]:
    low = dims(net)[0]
    names = {column.split("|")[1][4:] for column in net if column.startswith("steps|gap_")} - {"nothing", "retraining"}
    ratio = {}
    for name in names:
        pairs = zip(of(net, "steps", f"gap_{name}", low), of(net, "steps", "gap_nothing", low), strict=True)
        ratio[name] = median([a / b for a, b in pairs if b > 0])
    return ratio


def steps(net: Table, lin: Table) -> dict[str, float]:
    ran = [table for table in (net, lin) if any(column.startswith("steps|") for column in table)]
    ratio = ratios(ran[0])
    return {
        "low": dims(ran[0])[0], "ascent": ratio["ascent"], "best": min(ratio.values()), "worst": max(ratio.values()),
        "farther": float(sum(v > 1 for v in ratio.values())), "steps": float(len(ratio)),
        "elsewhere": max(ratios(table)["ascent"] for table in ran),
    }  # fmt: skip


def step_size(net: Table, lin: Table) -> dict[str, float]:
    top = dims(net)[-1]
    share = telling(net, "step_size", "projection/lower/epsilon")
    return {  # entry 8 of epsilon and 3 of own_epsilon are the whole step
        "off": median([abs(v - 1) for v in of(net, "step_size", "best", top)]),
        "far": min(share(d) for d in dims(net)),
        "own": median(of(net, "step_size", "own_epsilon", top, f"{LIMIT}.3")),
        "near": median(of(net, "step_size", "epsilon", top, f"{LIMIT}.8")),
    }


def estimators(net: Table, lin: Table) -> dict[str, float]:
    low, top = dims(net)[0], dims(net)[-1]
    out = {"low": low, "top": top, "estimate_low": median(of(net, "estimators", "error_estimate", low))}
    return out | {n: median(of(net, "estimators", f"error_{n}", top)) for n in ("estimate", "bound", "loss")}


def activations(net: Table, lin: Table) -> dict[str, float]:
    top = dims(net)[-1]
    names = {"actual": "actual", "provable": "provable", "kinks": "kinks", "kept": "kinks_kept"}
    return {"top": top} | {n: median(of(net, "activations", f"share_{m}", top)) for n, m in names.items()}


def sequences(net: Table, lin: Table) -> dict[str, float]:
    top = dims(net)[-1]
    kept, fresh = (median(of(net, "sequences", f"epsilon_{name}_limit", top, "")) for name in ("kept", "fresh"))
    same, off = (median(of(net, "sequences", f"difference_{name}_limit", top, "")) for name in ("kept", "fresh"))
    return {"top": top, "same": same, "off": off, "grown": fresh / kept}


def multipliers(net: Table, lin: Table) -> dict[str, float]:
    def defined(d: float) -> float:
        lanes = compared(net, "multipliers", "limit/sharp/upper", d, "")
        return sum(c["reason"] == 0 for c in lanes) / len(lanes)

    top = dims(net)[-1]
    names = {"width": "width_limit", "spread": "spread_limit", "trained": "width_trained"}
    out = {n: median(of(net, "multipliers", m, top, "")) for n, m in names.items()}
    return out | {"top": top, "first": first(net, defined)}


def generalization(net: Table, lin: Table) -> dict[str, float]:
    """Here the two tables are those of the mixture."""
    out = {"low": dims(net)[0]}
    for table in (net, lin):
        lanes = [
            i for i, (d, a) in enumerate(zip(table["d"], table["signal"], strict=True))
            if d == min(table["d"]) and a == min(table["signal"])
        ]  # fmt: skip
        for when in ("original", "unlearned"):
            counts = [table[f"generalization|{when}_errors||{LIMIT}"][i] for i in lanes]
            out[f"{table['model'][0]}_{when}"] = sum(counts) / len(counts) / 1024
    return out


def data(net: Table, lin: Table) -> dict[str, float]:
    out = {}
    for table in (lin, net):
        n, m = table["n"][0], table["m"][0]

        def meets(d: float, table: Table = table) -> float:
            both = zip(table["d"], table["data|eps_d||"], table["data|psi||"], strict=True)
            good = [eps <= 1 and psi <= 0.1 for at, eps, psi in both if at == d]
            return sum(good) / len(good)

        name = f"n{n:.0f}_m{m:.0f}"
        out |= {f"from_{name}": first(table, meets), f"neurons_{name}": n, f"points_{name}": m}
    return out


def implicit_bias(net: Table, lin: Table) -> dict[str, float]:
    low, top = dims(net)[0], dims(net)[-1]
    low_epsilon, top_epsilon = (median(of(net, "implicit_bias", "epsilon_exponential", d, "2")) for d in (low, top))
    off = median(of(net, "implicit_bias", "floor_off", low, ""))
    return {"low": low, "top": top, "low_epsilon": low_epsilon, "top_epsilon": top_epsilon, "off": off}


def unique(net: Table, lin: Table) -> dict[str, float]:
    """Here the first table is that of the leaky network."""

    def below(d: float) -> float:
        chi = [v for at, v in zip(net["d"], net["unique|chi_limit||"], strict=True) if at == d]
        return sum(v < 1 for v in chi) / len(chi)

    low, top = dims(net)[0], dims(net)[-1]
    return {
        "low": low, "first": first(net, below),
        "chi": median(of(net, "unique", "chi_limit", low, "")), "apart": median(of(net, "unique", "apart", top, "")),
    }  # fmt: skip


def clarke(net: Table, lin: Table) -> dict[str, float]:
    """Here the first table is that of the convolution, as for `entries`."""
    apart = [median(of(net, "clarke", "apart", d, "")) for d in dims(net)]
    return {
        "reached": statistics.fmean(statistics.fmean(of(net, "clarke", "reached", d, "")) for d in dims(net)),
        "repeats": max(max(of(net, "clarke", "repeats", d, "")) for d in dims(net)),
        "apart": max(apart),
    }


def entries(net: Table, lin: Table) -> dict[str, float]:
    low, top = dims(net)[0], dims(net)[-1]
    return {
        "first": first(net, telling(net, "entries", "projection/spaces/tau")),
        "top": top, "room": room(net, "entries", "projection/spaces/epsilon", top),
        "low": low, "mu": median(of(net, "entries", "mu", low)),
    }  # fmt: skip


def leaky(net: Table, lin: Table) -> dict[str, float]:
    """Here the first table is that of the leaky network."""
    return {s: first(net, telling(net, "leaky", f"projection/{s}/tau")) for s in ("sharp", "coarse")}


def classes(net: Table, lin: Table) -> dict[str, float]:
    """Here and in the next one the first table is that of the model with several classes."""
    top = dims(net)[-1]
    out = {"top": top, "first": first(net, telling(net, "classes", "projection/sharp/tau"))}
    return out | {"gap": median(of(net, "classes", "step_gap", top))}


def softmax(net: Table, lin: Table) -> dict[str, float]:
    low, top = dims(net)[0], dims(net)[-1]
    out = {"low": low, "top": top, "gap": median(of(net, "softmax", "class_gap", low, ""))}
    return out | {name: median(of(net, "softmax", name, top, "")) for name in ("margin", "angle")}


NUMBERS: dict[str, Callable[[Any, Table], dict[str, float]]] = {
    "linear": success("linear", "projection/sharp", "projection/scale_free", "scaling/coarse"),
    "relu": success("relu", "projection/sharp", "projection/scale_free", "projection/coarse"),
    "retrain": retrain,
    "worthwhile": worthwhile,
    "sources": sources,
    "identity": identity,
    "steps": steps,
    "step_size": step_size,
    "estimators": estimators,
    "activations": activations,
    "sequences": sequences,
    "multipliers": multipliers,
    "generalization": generalization,
    "data": data,
    "implicit_bias": implicit_bias,
    "unique": unique,
    "clarke": clarke,
    "entries": entries,
    "leaky": leaky,
    "classes": classes,
    "softmax": softmax,
}
