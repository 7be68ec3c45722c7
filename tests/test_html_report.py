"""The HTML report: well formed, self-contained, escaped, accessible; and as a browser shows it, where there is one."""

from __future__ import annotations

import html.parser
import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from verify import cli, html_report, plots, report
from verify.check import Check
from verify.grid import Grid
from verify.lanes import Block
from verify.records import Shape
from verify.run import rows
from verify.suites import linear

CSS = Path(html_report.__file__).with_name("report.css").read_text()
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(html.parser.HTMLParser):
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
    report.write_json(
        out / "summary.json", found | {"grid": GRID.as_json(), "environment": {"command_line": "gaunlearn run"}}
    )
    return out


@pytest.fixture(scope="module")
def page(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "load_blocks", lambda _: [block()])
        assert cli.main(["report", str(folder)]) == 0
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
    assert code == report.command_for(max(found, key=lambda r: r["worst_ratio"]), {})
    assert page.of("table")[-1][1]["class"] == "every"
    lines = page.text("tr")
    assert len(lines) > len(found)
    assert all(any(html_report.ratio_text(row["worst_ratio"]) in line for line in lines) for row in found)


def test_the_command_of_the_page_is_understood(page, monkeypatch):
    (code,) = page.text("code")
    asked = []
    monkeypatch.setattr(report, "run_blocks", lambda suites, grid: asked.append((suites, grid)) or [])
    assert cli.main(code.split()[1:]) == 0
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
    assert cli.main(["report", str(tmp_path), "--out", str(tmp_path / "x.html")]) == 0
    page = Page((tmp_path / "x.html").read_text())
    assert not page.of("script", "img")
    assert not [name for _, a, _ in page.elements for name in a if name.startswith("on")]
    assert page.text("h2")[1] == evil.replace("\ud800", page.text("h2")[1][-1])


def test_violations_and_empty_claims_are_said_first(folder, tmp_path):
    summary = summary_of(folder, verdict="fail", lanes={"present": 3, "wanted": 8})
    bad = summary["claims"][5]
    bad |= {"violated": 3, "holds": 1, "worst_ratio": None, "worst_seed": 2}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    page = Page((html_report.write(tmp_path, ())).read_text())
    texts = page.text("p")
    assert texts[0].startswith("Fail: 3 of ")
    assert "Unfinished: 3 of 8 instances" in texts[1]
    assert texts[2].startswith("Without pictures")
    assert page.text("code") == [report.command_for(bad, {})]
    assert any("∞ times its bound" in text for text in texts)
    for row in summary["claims"]:
        row |= {"violated": 0, "holds": 0, "not_applicable": 4, "reasons": {"too warm": 4}, "worst_ratio": None}
    (tmp_path / "summary.json").write_text(json.dumps(summary | {"verdict": "empty"}))
    page = Page((html_report.write(tmp_path, ())).read_text())
    assert page.text("p")[0] == "No evidence: no bound is violated, but never applied: linear."
    assert any("applied to none" in text and "too warm" in text for text in page.text("p"))


def test_without_matplotlib_the_rest_is_there(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(plots, "load_blocks", lambda _: [block()])
    page = Page(html_report.write(folder, (linear.SUITE,), tmp_path / "page.html").read_text())
    assert page.text("p")[1].startswith("Without pictures: drawing needs matplotlib")
    assert page.of("table")
    assert not page.of("img")


def test_the_same_folder_gives_the_same_page(page, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "load_blocks", lambda _: [block()])
    again = html_report.write(folder, (linear.SUITE,), tmp_path / "page.html")
    assert again.read_bytes() == (folder / "report.html").read_bytes()


def test_an_unwritable_page_is_named(folder, tmp_path, capsys):
    assert cli.main(["report", str(folder), "--out", str(tmp_path / "none" / "page.html")]) == 2
    assert "page.html; choose another --out" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "{", "[]", '{"grid": {}, "claims": [{}]}', '{"grid": {}}'])
def test_no_results_folder_is_one_sentence(content, tmp_path, capsys):
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    assert cli.main(["report", str(tmp_path)]) == 2
    assert re.fullmatch(r"gaunlearn: .*`gaunlearn run --out.*\n", capsys.readouterr().err)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5"), (1.0, "1"), (1 - 2e-11, "1 − 2e-11"), (1 + 3e-9, "1 + 3e-9"), (None, "∞"), (1.5e6, "1.5e+06")],
)
def test_ratios_next_to_one_show_their_distance(value, text):
    assert html_report.ratio_text(value) == text


def test_percentages_are_never_rounded_to_all_or_nothing():
    shown = [html_report.percent(v) for v in (0, 1e-4, 0.5, 0.9999, 1)]
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
