"""Findings: every number recomputed from exported lanes by code that shares nothing with the project; the page fits.

`lanes/` holds what `gaunlearn export --csv` wrote of `gaunlearn run --points 5 --neurons 6 --dims 1e4,1e12 --seeds 3`,
instances that cannot be solved included, and of the claims that a plain run leaves out; of the claim steps only gaps.
"""

from __future__ import annotations

import dataclasses
import json
import lzma
import math
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from reference import findings as ref

from gaunlearn_jax import store
from verify.cli import main
from verify.instances.grid import Grid
from verify.instances.records import Shape
from verify.report import findings
from verify.report.explain import explain, proofs
from verify.report.summary import load_run, write_json
from verify.run import columns
from verify.run.rows import rows
from verify.suites.finding import Finding, found, from_dimension
from verify.suites.registry import CLAIMS
from verify.suites.suite import Suite

LANES = Path(__file__).parent / "lanes"
GRID = Grid(dims=(1e4, 1e12), points=(5,), neurons=(6,), seeds=3)
#: a claim whose numbers its own test recomputes
ELSEWHERE = "both_layers"
COVERED = tuple(name for name in CLAIMS.names if name != ELSEWHERE)


@pytest.fixture(scope="module")
def tables():
    return by_model(LANES.glob("*.xz"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The results folder that these lanes were exported from."""
    out = tmp_path_factory.mktemp("small")
    claims: list[str] = []
    for path in sorted(LANES.glob("*.xz")):
        with lzma.open(path, "rt") as stream:
            names = stream.readline().strip().split(",")
            texts = [line.strip().split(",") for line in stream]
        first = next(i for i, name in enumerate(names) if "|" in name)
        place = dict(zip(names[:first], texts[0], strict=False))
        shape = Shape(place["model"], int(place["m"]), int(place["n"]), place["loss"], place["source"])
        table = np.array([[float(v) for v in line[first:]] for line in texts])
        mine = sorted({name.split("|")[0] for name in names[first:]})
        claims += mine
        grid = columns.described(shape, GRID, mine)
        with store.create_or_resume(out / columns.slug(shape), grid, names[first:], [[0, len(table)]], {}, 1) as run:
            run.write(0, table)
    blocks = columns.load_blocks(out)
    suites = tuple(suite for suite in CLAIMS if suite.name in claims)
    told = rows(blocks, suites, GRID)
    made = findings.findings(suites, blocks, GRID, told)
    about = [{"name": s.name, "statement": s.statement, "source": s.source} for s in suites]
    lanes = {"present": 1, "wanted": 1}
    write_json(
        out / "summary.json",
        {"verdict": "empty", "grid": GRID.as_json(), "lanes": lanes, "suites": about, "findings": made, "claims": told},
    )
    return out


@pytest.fixture(scope="module")
def told(folder):
    """{claim: its finding}."""
    return {one["claim"]: one for one in json.loads((folder / "summary.json").read_text())["findings"]}


def test_every_claim_has_a_sentence_of_its_own(told):
    assert set(told) == set(COVERED) == set(ref.NUMBERS)
    assert all(suite.find is not None for suite in CLAIMS)


def agree(claim, told, tables):
    """The numbers of a claim's finding are those that the reference makes of the tables."""
    source = "mixture" if claim == "generalization" else "gaussian"
    own = {"unique": "leaky", "clarke": "convolution", "entries": "convolution", "softmax": "classes"}
    net = tables[own.get(claim, claim if claim in ("leaky", "classes") else "relu"), source]
    if claim == "sources":
        net = {source: table for (_, source), table in tables.items()}
    expected = ref.NUMBERS[claim](net, tables["linear", source])
    got = {name: math.nan if value is None else value for name, value in told[claim]["numbers"].items()}
    assert set(got) == set(expected)
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, rel=1e-9, abs=1e-300, nan_ok=True), name


def by_model(paths):
    """Every exported file by model and source."""
    found_ones = (ref.read(path) for path in sorted(paths))
    return {(table["model"][0].partition(":")[0], table["source"][0]): table for table in found_ones}


@pytest.mark.parametrize("claim", COVERED)
def test_every_number_is_that_of_the_exported_lanes(claim, told, tables):
    agree(claim, told, tables)


@pytest.mark.slow
def test_a_fresh_run_says_what_its_exported_lanes_say(tmp_path):
    sizes = ["--points", "5", "--neurons", "6", "--dims", "1e4,1e12", "--seeds", "3"]
    asked = ["run", *COVERED, *sizes, "--out", str(tmp_path)]
    assert main.main(asked) in (0, 3)
    assert main.main(["export", str(tmp_path), "--csv"]) == 0
    fresh = {one["claim"]: one for one in json.loads((tmp_path / "summary.json").read_text())["findings"]}
    tables = by_model(tmp_path.glob("lanes*.csv"))
    for claim in COVERED:
        agree(claim, fresh, tables)


@pytest.mark.parametrize("claim", COVERED)
def test_every_number_of_a_sentence_is_one_of_its_numbers(claim, told):
    one = told[claim]
    words = re.sub(
        r"(eps_d|chi) <=? 1|psi <= 0\.1|epsilon_1|sigma'\(0\) = 0|below 1/2", "", f"{one['text']} {one['caveat']}"
    )
    seen = re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?%?", words)
    values = [v for v in one["numbers"].values() if v is not None]
    assert seen
    for text in seen:
        value = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
        room = 0.06 * abs(value) + (0.006 if text.endswith("%") else 0)
        assert any(abs(value - v) <= room or (text.endswith("1%") and 0 < v < 0.01) for v in values), text


def test_a_number_that_is_wrong_is_noticed(told, tables):
    """The comparison above can fail: another theta has other numbers."""
    wrong = {k: v for k, v in ref.retrain({**tables["relu", "gaussian"]}, {}).items()}
    swapped = {
        k.replace("|1.", "|x.").replace("|0.", "|1.").replace("|x.", "|0."): v
        for k, v in tables["relu", "gaussian"].items()
    }
    assert wrong["tau"] != ref.retrain(swapped, {})["tau"]


def test_the_page_of_a_default_run_fits(told, folder, capsys):
    assert main.main(["show", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    left_out = sum(
        not CLAIMS[name].default for name in COVERED
    )  # of a plain run; here they take up to three lines each
    assert len(lines) <= 42 + 3 * left_out
    assert max(map(len, lines)) <= 80
    text = " ".join(lines)
    for claim, one in told.items():
        assert f"{claim} {one['verdict']}: " in text
    assert "Gap: 1 - cos" in text
    assert main.main(["show", str(folder), "--tables"]) == 0
    printed = capsys.readouterr().out
    assert "made with" in printed
    assert "of its bound" in printed
    assert "discriminates 100%" in printed


def test_lost_instances_are_named_not_hidden(told):
    """Some of these networks were never separated: the claims say that they are undecided, not that they hold."""
    assert told["relu"]["verdict"] == "undecided"
    assert told["linear"]["verdict"] == "holds"


@pytest.mark.parametrize("claim", CLAIMS.names)
def test_a_claim_explains_itself(claim, capsys):
    suite = CLAIMS[claim]
    assert suite.explain is not None
    assert main.main(["explain", claim]) == 0
    said = capsys.readouterr().out
    assert said.splitlines() == explain(suite)
    assert max(map(len, said.splitlines())) <= 80
    for head in ("claim:", "states:", "assumes:", "means:", "false if:", "proof:"):
        assert head in said
    assert proofs(suite)
    assert "docs/theory/" in said


def test_an_unknown_claim_is_one_sentence(capsys):
    assert main.main(["explain", "rely"]) == 2
    assert "did you mean relu" in capsys.readouterr().err


def row(**changes):
    """A tallied row of a claim of one's own."""
    base = {"holds": 4, "violated": 0, "inconclusive": 0, "not_applicable": 0, "unconverged": 0, "reasons": {}}
    base |= {"discriminating": None, "worst_ratio": 0.5, "grid": {"d": 1e4, "k": 1}}
    return base | changes


def test_a_claim_without_a_sentence_gets_one_from_its_tallies():
    too_low = row(holds=0, not_applicable=4, reasons={"too warm": 4}, worst_ratio=None, discriminating=None)
    low, high = row(grid={"d": 1e6, "k": 1}, discriminating=0.25), row(grid={"d": 1e8, "k": 1}, discriminating=1.0)
    made = findings.of_tallies([too_low, low, high])
    assert made.numbers == {"applied": 2 / 3, "first": 1e8, "used": 0.5}
    assert (
        made.text
        == "applies to 67% of its comparisons; rules out doing nothing from d = 1e8; comes to 0.5 of its bound"
    )
    assert made.caveat == "elsewhere: too warm"
    assert findings.of_tallies([]).text == "no instance is computed yet"
    assert "never rules out" in findings.of_tallies([low]).text


@pytest.mark.parametrize(
    ("changes", "word"),
    [({}, "holds"), ({"violated": 1}, "FAILS"), ({"holds": 0, "not_applicable": 4}, "no evidence"),
     ({"unconverged": 1}, "undecided"), ({"inconclusive": 1}, "undecided")],
)  # fmt: skip
def test_verdicts_in_a_word(changes, word):
    assert findings.verdict([row(**changes)]) == word


def test_a_violated_claim_says_by_how_much():
    told = [
        row(claim="mine", violated=1, holds=3, worst_ratio=2.5),
        row(claim="mine", violated=2, holds=2, worst_ratio=3.0),
    ]
    suite = Suite("mine", "it is so", "a guess", per_cell=lambda *_: {})
    (one,) = findings.findings((suite,), [], GRID, told)
    assert one["verdict"] == "FAILS"
    assert one["text"].startswith("3 of 8 comparisons violate their bound, the worst at 3 of it; applies to")
    told[0]["worst_ratio"] = None  # infinite, as JSON has it
    (one,) = findings.findings((suite,), [], GRID, told)
    assert one["text"].startswith("3 of 8 comparisons violate their bound; ")


def test_from_dimension_means_from_there_on():
    assert from_dimension({1e4: 1.0, 1e6: 0.4, 1e8: 0.5, 1e10: 0.9}) == 1e8
    assert math.isnan(from_dimension({1e4: 1.0, 1e6: math.nan}))
    assert from_dimension({1e4: 0.5}) == 1e4


def test_numbers_read_as_people_write_them():
    made = found("{a} {b} {c:%} {d:%} {e:d} {f} {g:%}", a=2.5e-14, b=2197.4, c=0.999, d=1.0, e=1e13, f=math.nan, g=1e-4)
    assert made.text == "2.5e-14 2197 over 99% 100% 1e13 unknown under 1%"
    assert isinstance(made, Finding)


def changed(blocks, **entries):
    """The blocks with some arrays of every claim set to a value."""
    out = []
    for block in blocks:
        results = {
            claim: {n: np.full_like(np.asarray(v), entries[n]) if n in entries else v for n, v in named.items()}
            for claim, named in block.results.items()
        }
        out.append(dataclasses.replace(block, results=results))
    return out


@pytest.mark.parametrize("kind", ["linear", "unsolved", "one dimension", "one size"])
def test_sentences_survive_odd_runs(kind, folder):
    """Warnings are errors here: no mean of nothing, no division by it."""
    grid, blocks = load_run(folder)
    if kind == "linear":
        blocks = [block for block in blocks if block.shape.model == "linear"]
    if kind == "unsolved":
        blocks = changed(blocks, solved=0.0, chi=np.inf)
    if kind == "one size":
        grid = dataclasses.replace(grid, forget=(1,))
    if kind == "one dimension":
        cut = []
        for b in blocks:
            here = b.d == 1e4
            pick = lambda v, here=here: np.asarray(v)[here]  # noqa: E731
            results = jax.tree.map(pick, b.results)
            cut.append(dataclasses.replace(b, seed=b.seed[here], d=b.d[here], results=results,
                       parameters={k: v[here] for k, v in b.parameters.items()}))  # fmt: skip
        blocks, grid = cut, dataclasses.replace(grid, dims=(1e4,))
    known = tuple(suite for suite in CLAIMS if any(suite.name in block.results for block in blocks))
    for one in findings.findings(known, blocks, grid, rows(blocks, known, grid)):
        assert one["text"]
        assert "nan" not in one["text"].lower().split()
        assert "{" not in one["text"] + one["caveat"]
        if kind == "unsolved" and one["claim"] == "identity":
            assert "unknown" in one["text"]


def test_a_folder_without_lanes_yet_says_so(folder):
    """What an interrupted run leaves: blocks without instances."""
    grid, blocks = load_run(folder)
    none = [dataclasses.replace(b, seed=b.seed[:0], d=b.d[:0], parameters={k: v[:0] for k, v in b.parameters.items()},
            results={c: {} for c in b.results}) for b in blocks]  # fmt: skip
    for one in findings.findings(tuple(CLAIMS), none, grid, []):
        assert one["text"] == "no instance is computed yet"
