"""Makes examples/certificates/: pairs of files that differ in one number, by one unit in its last place, of which one
is proved and the other is not.

    PYTHONPATH=.:tests python tests/exact/make_examples.py [WORD ...]

A true document is made, and the number that decides a statement is moved by bisection over the floats to the last one
that is proved (good/) and the next (bad/). With words, only the pairs whose names contain one of them are made.
"""

from __future__ import annotations

import copy
import functools
import json
import math
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from exact_documents import document
from margin_documents import CLASSES, HEAD, POOLED, TWO_BY_TWO, margin_document
from reference.exact_fractions import stated
from reference.exact_inequalities import inequality_sides, solution

from verify.certify import documents
from verify.exact import certificate_file, statements

FOLDER = Path(__file__).parents[2] / "examples" / "certificates"
Document = dict[str, Any]
Keys = tuple[str | int, ...]
UP, DOWN = math.inf, -math.inf


class Pair(NamedTuple):
    """Where the number is, which way it leaves the truth, the statement that fails then, and a document that is true.
    Several places get the same number (both entries of a symmetric matrix)."""

    places: tuple[Keys, ...]
    way: float
    statement: str
    start: Callable[[], Document]


def at(doc: Document, keys: Keys) -> Any:
    for key in keys:
        doc = doc[key]  # type: ignore[index]
    return doc


def changed(doc: Document, places: tuple[Keys, ...], value: float) -> Document:
    out = copy.deepcopy(doc)
    for keys in places:
        at(out, keys[:-1])[keys[-1]] = value
    return out


def order(value: float) -> int:
    """The place of a float among all floats."""
    (bits,) = struct.unpack("<q", struct.pack("<d", value))
    return bits if bits >= 0 else -(bits & (2**63 - 1))


def float_at(place: int) -> float:
    bits = place if place >= 0 else -place | (-(2**63))
    return float(struct.unpack("<d", struct.pack("<q", bits))[0])


def proved(doc: Document) -> bool:
    return statements.check_document(doc).exit_code == 0


def edge(pair: Pair) -> tuple[Document, Document]:
    """The last proved document on the way, and the next."""
    doc = pair.start()
    value = float(at(doc, pair.places[0]))
    assert proved(doc), [s for s in statements.check_document(doc).statements if s.answer != "proved"]
    size = 2.0**-60 * (1 + abs(value))
    good, bad = value, math.nextafter(value, pair.way)
    while proved(changed(doc, pair.places, bad)):
        good, bad, size = bad, value + math.copysign(size, pair.way), 4 * size
    low, high = order(good), order(bad)
    while abs(high - low) > 1:
        middle = (low + high) // 2
        if proved(changed(doc, pair.places, float_at(middle))):
            low = middle
        else:
            high = middle
    return changed(doc, pair.places, float_at(low)), changed(doc, pair.places, float_at(high))


# --- documents ------------------------------------------------------------------------------------------------


def nearly_dependent() -> Document:
    """Two points of one class, theta between them, no multipliers, nothing forgotten."""
    one = [[1.0, 1.0]]
    point = {"preactivations": one, "multipliers": [0.0, 0.0], "selection": one}
    claimed = dict.fromkeys(certificate_file.CLAIMS, 0.0) | {"epsilon_1": 1.5, "epsilon": 1.5, "tau": 1e-9, "phi": 1.0}
    return {
        "format": dict(certificate_file.FORMAT), "gram": [[1.0, 0.5], [0.5, 1.0]], "amplitudes": one, "slope": 1.0,
        "layout": None, "groups": None, "forget": [], "orthogonal_norm_squared": 0.0, **copy.deepcopy(point),
        "certificate": {"kind": "projection", "step_scale": 1.0, "factor": 1.0, **copy.deepcopy(point)},
        "claimed": claimed, "bound": None, "inequality": None,
    }  # fmt: skip


def with_a_spare_point() -> Document:
    """A point whose multiplier is 0, since its margin is 2."""
    doc = nearly_dependent()
    doc["gram"] = [[1.0, 0.0], [0.0, 1.0]]
    doc["preactivations"], doc["multipliers"] = [[1.0, 2.0]], [1.0, 0.0]
    doc["certificate"] |= {"preactivations": [[1.0, 2.0]], "multipliers": [1.0, 0.0]}
    doc["claimed"] |= {"epsilon_1": 2.5, "epsilon": 2.5}
    return doc


def at_a_kink() -> Document:
    """Two ReLUs, each with a kink at the other's point and a selection of 1/4 there."""
    point = {
        "preactivations": [[1.0, 0.0], [0.0, 1.0]], "multipliers": [1.0, 1.0], "selection": [[1.0, 0.25], [0.25, 1.0]],
    }  # fmt: skip
    doc = nearly_dependent()
    doc |= {"gram": [[1.0, 0.0], [0.0, 1.0]], "amplitudes": [[1.0, -1.0], [-1.0, 1.0]], "slope": 0.0, "groups": [0, 1]}
    doc |= copy.deepcopy(point)
    doc["certificate"] |= copy.deepcopy(point)
    doc["claimed"] |= {"epsilon_1": 0.5, "epsilon": 0.5}
    return doc


def named(name: str, tau: float | None = None, **sort: Any) -> Callable[[], Document]:
    """A document with an inequality and the sides of its tightest entry; tau in place of what the file would claim."""

    def make() -> Document:
        doc = document(**({"strength": None, "version": 2} | sort))
        doc["claimed"]["tau"] = doc["claimed"]["tau"] if tau is None else tau
        return with_sides(doc, name, solution(doc))

    return make


def with_sides(doc: Document, name: str, theta: Document | None = None) -> Document:
    """The document with an inequality and the sides of its tightest entry."""
    doc["inequality"] = {"name": name, "lhs": 0.0, "rhs": 0.0, "solution": theta}
    lhs, rhs = max(inequality_sides(doc), key=lambda pair: pair[0] - pair[1])
    doc["inequality"] |= {"lhs": float(lhs), "rhs": float(rhs)}
    return doc


def comparison() -> Document:
    return documents.comparison("data", "norms/exact/probability", "gaunlearn run data --dims 1e4", 0.25, 0.25)


def plain(
    seed: int, kind: str = "projection", strength: str | None = "instance", **sort: Any
) -> Callable[[], Document]:
    return lambda: document(seed, kind, strength, **({"version": 2} | sort))


def margin(seed: int, slope: float, **sort: Any) -> Callable[[], Document]:
    return lambda: margin_document(seed, slope, **sort)


def first(doc: Callable[[], Document], keys: Keys, test: Callable[[float], bool]) -> Keys:
    """The place of the first number of a table that passes."""
    table = np.array(at(doc(), keys))
    return (*keys, *(int(i) for i in np.argwhere(np.vectorize(test)(table))[0]))


def with_the_largest_delta() -> Document:
    """delta_1 = 1/2, the most that the coarse bounds speak of."""
    doc = document(23, strength="coarse", size=1e-5, version=2)
    doc["claimed"]["delta_1"] = 0.5
    doc["bound"] |= stated(doc)
    return doc


def claim(name: str) -> tuple[Keys, ...]:
    return (("claimed", name),)


def side(name: str) -> tuple[Keys, ...]:
    return (("bound", name),)


RELU = {"size": 0.05, "n": 4, "trained": True}
STATED = (("inequality", "lhs"),), (("inequality", "rhs"),)


EVEN = np.array([0.5, -0.5, 0.5, -0.5])
#: inequalities of a leaky network, a linear model of several classes, and a filter bank: slope, layout and the rest
BEYOND: dict[str, tuple[float, Document]] = {
    "unique": (0.3, {"u": EVEN, "size": 0.01, "kinks": 0.0, "loose": 0.0}),
    "softmax": (1.0, {"layout": CLASSES, "amplitudes": HEAD, "kinks": 0.0, "loose": 0.0}),
    "entries": (0.0, {"layout": POOLED, "n": 6, "kinks": 0.1}),
}


def pairs() -> Iterator[tuple[str, Pair]]:
    yield "gram_singular", Pair((("gram", 0, 1), ("gram", 1, 0)), UP, "gram", nearly_dependent)
    yield "gram_not_symmetric", Pair((("gram", 0, 2),), UP, "gram", plain(3))
    yield "assumption_psi", Pair(claim("psi"), DOWN, "assumption", margin(1, 0.1, kind="span"))
    yield "assumption_phi", Pair(claim("phi"), DOWN, "assumption", plain(4))
    relu, leaky = plain(5, **RELU), margin(2, 0.25, step=0.75)
    for which, suffix in (("original", "_1"), ("certificate", "")):
        base: Keys = () if which == "original" else ("certificate",)
        active = first(relu, (*base, "selection"), lambda s: s == 1)
        yield f"{which}_selection_active", Pair((active,), DOWN, f"{which}.selection", relu)
        below = first(leaky, (*base, "selection"), lambda s: s == 0.25)
        yield f"{which}_selection_leaky", Pair((below,), DOWN, f"{which}.selection", leaky)
        kink: Keys = (*base, "preactivations", 0, 1)
        yield f"{which}_selection_kink", Pair((kink,), DOWN, f"{which}.selection", at_a_kink)
        spare: Keys = (*base, "multipliers", 1)
        yield f"{which}_multiplier", Pair((spare,), DOWN, f"{which}.selection", with_a_spare_point)
        yield f"{which}_stationarity", Pair(claim("epsilon" + suffix), DOWN, f"{which}.stationarity", relu)
        yield f"{which}_slackness", Pair(claim("delta" + suffix), DOWN, f"{which}.slackness", relu)
    yield (
        "original_stationarity_outside",
        Pair((("orthogonal_norm_squared",),), UP, "original.stationarity", plain(6, "span", omega=0.01, trained=True)),
    )
    exact = margin(7, 1.0, layout=TWO_BY_TWO, kinks=0.0, bounded=False)
    yield "original_feasibility", Pair((("preactivations", 0, 0),), DOWN, "original.feasibility", exact)
    yield (
        "certificate_feasibility",
        Pair(
            (("certificate", "factor"),), DOWN, "certificate.feasibility", plain(8, "scaling", linear=True, size=1e-3)
        ),
    )
    forgotten = plain(9, "retrain", None, linear=True, trained=True)
    gone: Keys = first(forgotten, ("certificate", "multipliers"), lambda v: v == 0)
    yield "certificate_multiplier_forgotten", Pair((gone,), UP, "certificate.selection", forgotten)
    yield "version_1_mu", Pair((("mu", 0, 0),), UP, "original.selection", plain(10, linear=True, version=1))
    yield "angle_projection", Pair(claim("tau"), DOWN, "angle", plain(11, **RELU))
    yield "angle_span", Pair(claim("tau"), DOWN, "angle", margin(6, 0.0, layout=TWO_BY_TWO, kind="span"))
    yield "angle_retrain", Pair(claim("tau"), DOWN, "angle", margin(3, 0.3, kind="retrain", bounded=False))
    two = {"k": 2, "m": 5, "trained": True}
    yield "bound_instance_epsilon", Pair(claim("epsilon"), UP, "bound.epsilon", plain(12, **two, size=0.01))
    yield "bound_instance_tau", Pair(claim("tau"), UP, "bound.tau", plain(13, **two, size=0.01, omega=0.01))
    yield "bound_span_tau", Pair(claim("tau"), UP, "bound.tau", plain(14, "span", trained=True))
    yield "bound_leaky_epsilon", Pair(claim("epsilon"), UP, "bound.epsilon", margin(4, 0.1, layout=TWO_BY_TWO))
    pooled, head = BEYOND["entries"][1] | {"strength": "spaces"}, {"layout": CLASSES, "n": 6, "strength": "spaces"}
    yield "bound_spaces_epsilon", Pair(claim("epsilon"), UP, "bound.epsilon", margin(8, 0.0, **pooled))
    yield "bound_spaces_delta", Pair(claim("delta"), UP, "bound.delta", margin(9, 0.2, **pooled))
    yield "bound_spaces_tau", Pair(claim("tau"), UP, "bound.tau", margin(6, 0.0, **head, loose=0.02))
    yield "bound_fraction_of_the_step", Pair(claim("epsilon"), UP, "bound.epsilon", plain(15, step=0.75, size=0.01))
    scaling = {"kind": "scaling", "linear": True, "size": 1e-3}
    yield "bound_scaling_instance", Pair(claim("epsilon"), UP, "bound.epsilon", plain(16, **scaling, trained=True))
    yield (
        "bound_scaling_sharp",
        Pair(claim("delta"), UP, "bound.delta", plain(17, strength="sharp", **scaling, k=2, m=6)),
    )
    yield "bound_scaling_coarse", Pair(claim("delta"), UP, "bound.delta", plain(18, strength="coarse", **scaling))
    for strength in ("sharp", "coarse"):
        doc = plain(19, strength=strength, size=1e-5, trained=True, m=5, k=2)
        for name in ("epsilon", "delta", "tau"):
            yield f"bound_{strength}_{name}", Pair(claim(name), UP, f"bound.{name}", doc)
    free = plain(24, strength="scale_free", size=0.01, trained=True, m=5, k=2)
    for name in ("epsilon", "tau"):
        yield f"bound_scale_free_{name}", Pair(claim(name), UP, f"bound.{name}", free)
    yield "stated_bound_epsilon", Pair(side("epsilon"), UP, "bound.stated", plain(20, **RELU))
    yield "stated_bound_tau", Pair(side("tau"), DOWN, "bound.stated", plain(21, strength="sharp", size=1e-3))
    yield "hypothesis_psi", Pair(claim("psi"), UP, "bound.epsilon", plain(22, strength="coarse", size=1e-5))
    yield "hypothesis_delta", Pair(claim("delta_1"), UP, "bound.delta", with_the_largest_delta)
    yield from inequalities()
    yield "comparison", Pair((("lhs",),), UP, "comparison", comparison)


def inequalities() -> Iterator[tuple[str, Pair]]:
    """Theorems cannot be made false: what fails is that the file's sides are theirs."""
    plain, beyond = [], []
    for name in certificate_file.INEQUALITIES:
        (beyond if name.split("/")[0] in BEYOND else plain).append(name)
    for number, name in enumerate(plain):
        sort = {"seed": 30 + number, "size": 0.05, "n": 3, "trained": name.split("/")[0] != "retrain"}
        if name == "step_size/lower":  # half the step, of which an angle of 11 degrees is not the whole
            sort |= {"step": 0.5, "tau": 0.02}
        yield (
            f"inequality_{name.replace('/', '_')}",
            Pair(STATED[number % 2], UP if number % 3 else DOWN, "inequality.stated", named(name, **sort)),
        )
    for number, name in enumerate(beyond):
        slope, rest = BEYOND[name.split("/")[0]]
        make = margin(60 + number, slope, bounded=False, **rest)
        yield (
            f"inequality_{name.replace('/', '_')}",
            Pair(STATED[number % 2], UP if number % 3 else DOWN, "inequality.stated",
                 functools.partial(lambda make, name: with_sides(make(), name), make, name)),
        )  # fmt: skip


def table(rows: list[tuple[str, Pair, Document, Document]]) -> str:
    lines = ["| file | the number that decides | good | bad | what then fails |", "|---|---|---|---|---|"]
    for name, pair, good, bad in rows:
        keys = pair.places[0]
        where = str(keys[0]) + "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in keys[1:])
        answers = {s.name: s.answer for s in statements.check_document(bad).statements}
        assert answers[pair.statement] != "proved", (name, answers)
        refuted = [f"`{s}`" for s, answer in answers.items() if answer == "refuted"]
        void = list(answers.values()).count("not applicable")
        fails = ", ".join(refuted) + (f"{' and ' if refuted else ''}{void} not applicable" if void else "")
        lines.append(f"| `{name}` | `{where}` | {at(good, keys)!r} | {at(bad, keys)!r} | {fails} |")
    return "\n".join(lines)


def main(words: list[str]) -> None:
    rows, known = [], dict(pairs())
    paths = {part: {name: FOLDER / part / f"{name}.json" for name in known} for part in ("good", "bad")}
    for part, wanted in paths.items():
        (FOLDER / part).mkdir(parents=True, exist_ok=True)
        for path in set((FOLDER / part).glob("*.json")) - set(wanted.values()):
            path.unlink()
    for name, pair in known.items():
        if not words or any(word in name for word in words):
            for part, doc in zip(paths, edge(pair), strict=True):
                documents.write(paths[part][name], doc)
        good, bad = (json.loads(paths[part][name].read_text()) for part in paths)
        rows.append((name, pair, good, bad))
    readme = FOLDER / "README.md"
    head = readme.read_text().split("| file |")[0]
    readme.write_text(head + table(rows) + "\n")
    print(json.dumps({"pairs": len(rows)}))


if __name__ == "__main__":
    main(sys.argv[1:])
