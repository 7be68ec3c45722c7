"""The HTML report: well formed, self-contained, escaped, accessible; and as a browser shows it, where there is one."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from gaunlearn_jax.base.codes import Reason
from verify.cli import main, reproduce
from verify.instances.grid import Grid
from verify.instances.records import Shape
from verify.report import html, summary, top
from verify.report.slim import slim
from verify.report.summary import write_json
from verify.run.columns import Block
from verify.run.naming import command_for
from verify.run.rows import rows
from verify.suites import linear
from verify.suites.check import Check

CSS = Path(html.__file__).with_name("report.css").read_text()
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """All elements with their attributes and the text within them; open and close tags must match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        element = (tag, dict(attrs), [])
        assert len(dict(attrs)) == len(attrs)
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for element in self.open:
            element[2].append(data)

    def of(self, *tags):
        return [e for e in self.elements if e[0] in tags]

    def text(self, tag):
        return ["".join(e[2]) for e in self.of(tag)]


GRID = Grid(dims=(1e6, 1e10), points=(4,), forget=(1,), seeds=4)


def block() -> Block:
    """Lanes of the claim `linear` with made-up numbers: bounds hold, with room that differs from lane to lane."""
    rng = np.random.default_rng(0)
    checks = {}
    for certificate, strength in (("scaling", "coarse"), ("scaling", "instance"), ("projection", "instance")):
        for quantity in ("epsilon", "delta"):
            left, one = rng.uniform(0.1, 0.9, (8, 2, 1)), np.ones((8, 2, 1))
            checks[f"{certificate}/{strength}/{quantity}"] = Check(
                left, one, 0 * one, np.zeros_like(one, int), one > 0, one
            )
    shape = Shape("linear", 4, 1)
    return Block(shape, np.tile(range(4), 2), np.repeat(GRID.dims, 4), np.zeros(8), {"linear": checks})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What a run of one claim leaves, its lanes made up."""
    out = tmp_path_factory.mktemp("run")
    about = [{"name": s.name, "statement": s.statement, "source": s.source} for s in (linear.SUITE,)]
    found = {"verdict": "pass", "suites": about, "claims": rows([block()], (linear.SUITE,), GRID)}
    write_json(out / "summary.json", found | {"grid": GRID.as_json(), "environment": {"command_line": "gaunlearn run"}})
    return out


@pytest.fixture(scope="module")
def page(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary, "load_blocks", lambda _: [block()])
        assert main.main(["report", str(folder)]) == 0
    return Page((folder / "report.html").read_text())


def test_the_page_is_sound_and_loads_nothing(page):
    ids = [a["id"] for _, a, _ in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert [a["href"][1:] in ids for _, a, _ in page.of("a")] == [True] * len(page.of("a"))
    assert not page.of("script", "link", "iframe", "object")
    for _, attributes, _ in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in ("src", "href") or value.startswith(("data:image/svg+xml", "#"))
    assert "url(" not in CSS
    assert "@import" not in CSS


def test_headings_language_skip_link_and_pictures_for_those_who_do_not_see_them(page):
    assert page.of("html")[0][1]["lang"] == "en"
    levels = [int(tag[1]) for tag, _, _ in page.of("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert all(later <= now + 1 for now, later in itertools.pairwise(levels))
    assert page.of("a")[0][1]["href"] == "#claims"
    (picture,) = page.of("img")
    assert "measured: " in picture[1]["alt"]
    assert "at 1e+06" in picture[1]["alt"]
    assert all("scope" in a for _, a, _ in page.of("th"))
    assert all(a.get("tabindex") == "0" for _, a, _ in page.elements if a.get("class") == "scroll")


def test_verdict_first_then_what_the_summary_says(page, folder):
    found = json.loads((folder / "summary.json").read_text())["claims"]
    assert page.text("p")[0].startswith(f"Pass: all {sum(row['holds'] for row in found):,} comparisons")
    (code,) = page.text("code")
    assert code == command_for(max(found, key=lambda r: r["worst_ratio"]), {})
    assert page.of("table")[-1][1]["class"] == "every"
    lines = page.text("tr")
    assert len(lines) > len(found)
    assert all(any(html.ratio_text(row["worst_ratio"]) in line for line in lines) for row in found)


def test_the_command_of_the_page_is_understood(page, monkeypatch):
    (code,) = page.text("code")
    asked = []
    monkeypatch.setattr(reproduce, "run_blocks", lambda suites, grid: asked.append((suites, grid)) or [])
    assert main.main(code.split()[1:]) == 3  # without a lane there is no evidence
    ((suites, grid),) = asked
    assert suites == (linear.SUITE,)
    assert (grid.points, grid.seeds) == ((4,), 1)
    assert grid.dims[0] in GRID.dims


def summary_of(folder, **changes):
    """The folder's summary with changes, in a folder without lanes."""
    return json.loads((folder / "summary.json").read_text()) | changes


def test_hostile_texts_stay_texts(folder, tmp_path):
    evil = "<script>alert(1)</script><img src=x onerror=y>\"'&\ud800"
    summary = summary_of(folder, environment={"command_line": evil, evil: evil}, verdict=evil, proofs={evil: 1})
    for row in summary["claims"]:
        row |= {"claim": evil, "certificate": evil, "reasons": {evil: 2}, "not_applicable": 2}
        row["grid"]["k"] = evil
    summary["suites"] = [{"name": evil, "statement": evil, "source": evil}]
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert main.main(["report", str(tmp_path), "--out", str(tmp_path / "x.html")]) == 0
    page = Page((tmp_path / "x.html").read_text())
    assert not page.of("script", "img")
    assert not [name for _, a, _ in page.elements for name in a if name.startswith("on")]
    assert page.text("h2")[1] == evil.replace("\ud800", page.text("h2")[1][-1])


def test_violations_and_empty_claims_are_said_first(folder, tmp_path):
    summary = summary_of(folder, verdict="fail", lanes={"present": 3, "wanted": 8})
    bad = summary["claims"][5]
    bad |= {"violated": 3, "holds": 1, "worst_ratio": None, "worst_seed": 2}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    page = Page((html.write(tmp_path, ())).read_text())
    texts = page.text("p")
    assert texts[0].startswith("Fail: 3 of ")
    assert "Unfinished: 3 of 8 instances" in texts[1]
    assert texts[2].startswith("Without pictures")
    assert page.text("code") == [command_for(bad, {})]
    assert any("∞ times its bound" in text for text in texts)
    for row in summary["claims"]:
        row |= {"violated": 0, "holds": 0, "not_applicable": 4, "reasons": {"too warm": 4}, "worst_ratio": None}
    (tmp_path / "summary.json").write_text(json.dumps(summary | {"verdict": "empty"}))
    page = Page((html.write(tmp_path, ())).read_text())
    assert page.text("p")[0] == "No evidence: no bound is violated, but never applied: linear."
    assert any("applied to none" in text and "too warm" in text for text in page.text("p"))


def test_a_folder_whose_lanes_are_gone_is_told_from_its_summary(folder, tmp_path, monkeypatch):
    whole = block()
    checks = {name: Check(*(np.asarray(v)[:0] for v in one)) for name, one in whole.results["linear"].items()}
    nothing = np.zeros(0)
    monkeypatch.setattr(
        summary, "load_blocks", lambda _: [Block(whole.shape, nothing, nothing, nothing, {"linear": checks})]
    )
    shutil.copy(folder / "summary.json", tmp_path)
    assert main.main(["report", str(tmp_path)]) == 0  # warnings are errors here


def test_phase_diagrams_of_the_folder_are_shown(folder, tmp_path):
    (tmp_path / "summary.json").write_text((folder / "summary.json").read_text())
    (tmp_path / "diagram").mkdir()
    (tmp_path / "diagram" / "phase.png").write_bytes(b"png")
    page = Page(html.write(tmp_path, ()).read_text())
    (picture,) = page.of("img")
    assert picture[1]["src"] == "data:image/png;base64,cG5n"
    assert "phase diagram diagram" in picture[1]["alt"]
    assert page.text("h2")[-2:] == ["Phase diagram: diagram", "Environment"]


def test_the_map_says_what_became_of_each_claim_in_each_dimension(page, folder, tmp_path):
    found = summary_of(folder)
    for row in found["claims"]:
        if row["strength"] == "coarse" and row["grid"]["d"] == 1e6:
            row |= {"holds": 0, "not_applicable": 4, "reasons": {Reason.EMPTY.text: 4}, "worst_ratio": None}
        if row["strength"] == "coarse" and row["grid"]["d"] == 1e10:
            row |= {"holds": 3, "violated": 1}
    (tmp_path / "summary.json").write_text(json.dumps(found))
    page = Page(html.write(tmp_path, ()).read_text())
    (shown,) = [e for e in page.of("table") if e[1]["class"] == "map"]
    cells = [a["class"] for tag, a, _ in page.of("td") if a.get("class", "").startswith("state")]
    assert cells == [
        "state violated" if i == 1 else "state empty" if i == 0 else "state discriminating" for i in (2, 2, 0, 1)
    ]
    assert "violated" in "".join(shown[2])


@pytest.mark.parametrize(
    ("row", "state"),
    [({}, "holds"), ({"discriminating": 0.6}, "discriminating"), ({"discriminating": 0.4}, "holds"),
     ({"discriminating": 1.0, "holds": 1, "not_applicable": 3}, "holds"), ({"violated": 1}, "violated"),
     ({"holds": 0, "not_applicable": 4, "reasons": {"too warm": 4}}, "not-applicable"), ({"holds": 0}, "")],
)  # fmt: skip
def test_states_of_the_map(row, state):
    base = {"holds": 4, "violated": 0, "inconclusive": 0, "not_applicable": 0, "unconverged": 0, "reasons": {}}
    assert top.state([base | {"discriminating": None} | row]) == state


LADDER = {"claim": "relu", "model": "relu", "m": 5, "n": 6, "dims": [1e4, 1e12],
          "rungs": {"nothing": [0.04, 0.05], "coarse": [None, 3e-3], "measured": [1e-5, 1.8e-14]}}  # fmt: skip


def test_the_ladder_is_drawn_and_told(folder, tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps(summary_of(folder, ladder=LADDER, findings=[FINDING])))
    page = Page(html.write(tmp_path, ()).read_text())
    (drawing,) = page.of("svg")
    assert "relu" in drawing[1]["aria-label"]
    heights = [float(a["cy"]) for _, a, _ in page.of("circle")]
    assert len(heights) == 5  # one is missing
    assert heights[-1] == max(heights)  # the smallest gap lies lowest
    assert any("measured after the step 1.8e-14" in text for text in page.text("figcaption"))
    assert "linear: it holds. But not always." in page.text("li")


FINDING = {"claim": "linear", "verdict": "holds", "text": "it holds", "caveat": "not always", "numbers": {}}


def test_without_matplotlib_the_rest_is_there(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(summary, "load_blocks", lambda _: [block()])
    page = Page(html.write(folder, (linear.SUITE,), tmp_path / "page.html").read_text())
    assert page.text("p")[1].startswith("Without pictures: drawing needs matplotlib")
    assert page.of("table")
    assert not page.of("img")


def test_the_same_folder_gives_the_same_page(page, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(summary, "load_blocks", lambda _: [block()])
    again = html.write(folder, (linear.SUITE,), tmp_path / "page.html")
    assert again.read_bytes() == (folder / "report.html").read_bytes()


def test_figures_for_a_paper_are_vectors_with_their_fonts(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(summary, "load_blocks", lambda _: [block()])
    (tmp_path / "summary.json").write_text((folder / "summary.json").read_text())
    assert main.main(["figures", str(tmp_path), "--style", "paper"]) == 0
    pdf, svg = ((tmp_path / "figures" / f"linear.{ending}") for ending in ("pdf", "svg"))
    assert b"/FontFile2" in pdf.read_bytes()  # TrueType, embedded
    text = svg.read_text()
    assert "<text" not in text  # outlines
    (width,) = re.findall(r'<svg[^>]* width="([\d.]+)pt"', text)
    assert float(width) == pytest.approx(72 * 5.5)


def test_drawings_within_the_page_are_short(page):
    (picture,) = page.of("img")
    svg = base64.b64decode(picture[1]["src"].split(",")[1]).decode()
    assert not re.search(r' (?:d|x|y)="[^"]*\.\d{3}', svg)
    assert len(picture[1]["src"]) < 90_000  # of the fifteen pictures of a full report


def test_a_slim_drawing_has_the_same_parts_at_the_same_places():
    figure = Figure(figsize=(4, 3))
    ax = figure.subplots()
    ax.loglog([1e4, 1e8, 1e13], [3e-2, 4e-7, 5e-14], "o-", label=r"measured $\hat\theta$")
    ax.fill_between([1e4, 1e13], [1e-2, 1e-14], [1e-1, 1e-12], alpha=0.2)
    ax.legend()
    stream = io.StringIO()
    figure.savefig(stream, format="svg")
    long = stream.getvalue()
    short = slim(long)
    assert len(short) < 0.7 * len(long)
    before, after = (drawn_parts(ElementTree.fromstring(text)) for text in (long, short))
    assert [part for part, _ in before] == [part for part, _ in after]
    for (_, old), (_, new) in zip(before, after, strict=True):
        np.testing.assert_allclose(new, old, atol=0.0051)


def drawn_parts(root):
    """(tag, what it is filled and stroked with) and numbers of every path and copy, each copy as what it copies."""
    href = "{http://www.w3.org/1999/xlink}href"
    named = {e.get("id"): e for e in root.iter() if e.get("id")}
    out = []
    for element in root.iter():
        tag = element.tag.split("}")[1]
        if tag not in ("path", "use"):
            continue
        target = element.get("href") or element.get(href)
        shape = named[target[1:]] if target else element
        moved = [float(element.get(name) or 0) for name in "xy"]
        factors, turned = [], element.get("transform", "")
        if only := re.fullmatch(r"translate\((\S+) (\S+)\)", turned):
            moved = [float(number) for number in only.groups()]
        else:
            factors = [float(number) for number in re.findall(r"-?[\d.]+", turned)]
        clip = named.get((element.get("clip-path") or "url(#)")[5:-1])
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", shape.get("d") or "")]
        out.append(((tag, element.get("style"), clip is None), [*numbers, *moved, *factors]))
    return out


def test_an_unwritable_page_is_named(folder, tmp_path, capsys):
    assert main.main(["report", str(folder), "--out", str(tmp_path / "none" / "page.html")]) == 2
    assert "page.html; choose another --out" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "{", "[]", '{"grid": {}, "claims": [{}]}', '{"grid": {}}'])
def test_no_results_folder_is_one_sentence(content, tmp_path, capsys):
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    assert main.main(["report", str(tmp_path)]) == 2
    assert re.fullmatch(r"gaunlearn: .*`gaunlearn run --out.*\n", capsys.readouterr().err)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5"), (1.0, "1"), (1 - 2e-11, "1 − 2e-11"), (1 + 3e-9, "1 + 3e-9"), (None, "∞"), (1.5e6, "1.5e+06")],
)
def test_ratios_next_to_one_show_their_distance(value, text):
    assert html.ratio_text(value) == text


def test_percentages_are_never_rounded_to_all_or_nothing():
    shown = [html.percent(v) for v in (0, 1e-4, 0.5, 0.9999, 1)]
    assert shown == ["0%", "under 1%", "50%", "over 99%", "100%"]


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("theme", [0, 1])
def test_every_text_colour_has_contrast_in_light_and_dark(theme):
    block = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)[theme]
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
    for ink in ("ink", "soft", "link", "good", "bad", "unsure"):
        for paper in ("paper", "shade"):
            low, high = sorted((luminance(colours[ink]), luminance(colours[paper])))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, paper)


PROBE = """<!DOCTYPE html><body style="margin:0"><iframe src="{file}" style="width:{width}px;height:900px;border:0">
</iframe><script>onload = () => {{ const page = document.querySelector('iframe').contentDocument;
document.title = [page.documentElement.scrollWidth, [...page.images].map(i => i.naturalWidth > 0).join(),
getComputedStyle(page.body).fontFamily].join(' '); }}</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_without_sideways_scrolling(page, folder, tmp_path, width):
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.format(file=(folder / "report.html").as_uri(), width=width))
    options = ("headless", "no-sandbox", "disable-gpu", "hide-scrollbars", "allow-file-access-from-files", "dump-dom")
    options += ("host-resolver-rules=MAP * ~NOTFOUND", f"user-data-dir={tmp_path}/profile", "window-size=1400,1000")
    command = [CHROMIUM, *(f"--{option}" for option in options), probe.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    (title,) = re.findall(r"<title>(.*?)</title>", done.stdout)
    assert title == f"{width} true system-ui, sans-serif"
