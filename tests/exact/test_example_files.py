"""examples/certificates: every good file is proved, every bad one is not, and one unit in the last place decides."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flint")

import make_examples
from reference.exact_fractions import answers

from verify.cli.main import main
from verify.exact import statements
from verify.exact.certificate_file import BOUNDS, INEQUALITIES, KINDS, STRENGTHS

FOLDER = make_examples.FOLDER
NAMES = sorted(path.stem for path in (FOLDER / "good").glob("*.json"))
ROW = re.compile(r"\| `(\w+)` \| `([\w.\[\]]+)` \| (\S+) \| (\S+) \| (.*) \|")
TABLE = {
    found[1]: found.groups()[1:] for found in map(ROW.match, (FOLDER / "README.md").read_text().splitlines()) if found
}


def read(part: str, name: str) -> Any:
    return json.loads((FOLDER / part / f"{name}.json").read_text())


def numbers(value: Any, where: str = "") -> dict[str, Any]:
    """Every leaf of a document by its place."""
    if isinstance(value, dict):
        parts = [numbers(v, f"{where}.{k}".lstrip(".")) for k, v in value.items()]
    elif isinstance(value, list):
        parts = [numbers(v, f"{where}[{i}]") for i, v in enumerate(value)]
    else:
        return {where: value}
    return {place: leaf for part in parts for place, leaf in part.items()}


def test_the_command_tells_them_apart(capsys: pytest.CaptureFixture[str]) -> None:
    codes = {}
    for part, expected in (("good", 0), ("bad", 1)):
        assert main(["check", "--json", str(FOLDER / part)]) == expected
        for report in json.loads(capsys.readouterr().out):
            codes[part, Path(report["path"]).stem] = report["exit_code"]
    assert set(codes) == {(part, name) for part in ("good", "bad") for name in NAMES}
    unproved = {name for part, name in codes if part == "bad" and codes[part, name] == 3}
    assert unproved == {name for name in NAMES if name.startswith("hypothesis")}
    assert {code for (part, _), code in codes.items() if part == "good"} == {0}
    assert main(["check", str(FOLDER)]) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_pair(name: str) -> None:
    good, bad = read("good", name), read("bad", name)
    one, other = numbers(good), numbers(bad)
    assert one.keys() == other.keys()
    differ = [place for place in one if one[place] != other[place]]
    assert differ == (["gram[0][1]", "gram[1][0]"] if name == "gram_singular" else differ[:1])
    where, left, right, fails = TABLE[name]
    assert (where, float(left), float(right)) == (differ[0], one[where], other[where])
    assert abs(make_examples.order(one[where]) - make_examples.order(other[where])) == 1
    assert {s.answer for s in statements.check_document(good).statements} == {"proved"}
    found = {s.name: s.answer for s in statements.check_document(bad).statements}
    assert set(found.values()) <= {"proved", "refuted", "not applicable"}
    assert {s for s, answer in found.items() if answer == "refuted"} == set(re.findall(r"`([\w.]+)`", fails))
    if name != "comparison":  # the second checker, in fractions
        for doc, answer in ((good, dict.fromkeys(found, "proved")), (bad, found)):
            meaning = {"proved": True, "refuted": False, "not applicable": None}
            for statement, expected in answers(doc).items():
                assert meaning[answer[statement]] is expected, statement


def test_every_kind_occurs() -> None:
    assert len(NAMES) >= 30
    assert set(NAMES) == set(TABLE) == {path.stem for path in (FOLDER / "bad").glob("*.json")}
    fail = {s for *_, fails in TABLE.values() for s in re.findall(r"`([\w.]+)`", fails)}
    assert fail == {*statements.STATEMENTS, "comparison"} - {"inequality"}  # which are theorems
    docs = [read("good", name) for name in NAMES if name != "comparison"]
    assert {doc["certificate"]["kind"] for doc in docs} == set(KINDS)
    bounds = [doc["bound"] for doc in docs if doc["bound"]]
    assert {bound["name"] for bound in bounds} == set(BOUNDS)
    assert {bound["strength"] for bound in bounds} == set(STRENGTHS)
    assert {doc["inequality"]["name"] for doc in docs if doc.get("inequality")} == set(INEQUALITIES)
    assert {doc["format"]["version"] for doc in docs} == {1, 2}
    assert {doc.get("slope") for doc in docs} >= {0.0, 0.1, 1.0}
    assert any(doc.get("layout") for doc in docs)
    assert sum(path.stat().st_size for path in Path(FOLDER).rglob("*.json")) < 1_000_000


def test_the_files_are_those_of_the_script() -> None:
    """Names and places; a few are made again, up to what another linear algebra rounds."""
    made = dict(make_examples.pairs())
    assert set(made) == set(NAMES)
    for name in ("gram_singular", "original_multiplier", "hypothesis_delta", "comparison"):
        good, bad = make_examples.edge(made[name])
        for part, doc in (("good", good), ("bad", bad)):
            stored = numbers(read(part, name))
            for place, value in numbers(doc).items():
                same = value == stored[place] or math.isclose(value, stored[place], rel_tol=1e-6, abs_tol=1e-12)
                assert same, (name, place)
