"""What README and documentation say was found is what the commands gave: docs/found holds their output."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.dom import minidom

import pytest
from loading import module_of

from verify.report import findings
from verify.suites.registry import CLAIMS

ROOT = Path(__file__).parent.parent
FOUND = ROOT / "docs" / "found"


@pytest.fixture(scope="module")
def maker():
    """docs/found.py as a module."""
    return module_of(ROOT / "docs" / "found.py")


def test_every_table_is_what_the_commands_gave(maker):
    seen = []
    for page in maker.pages():
        text = page.read_text(encoding="utf-8")
        assert maker.put_tables(page) == text, page
        seen += re.findall(r"<!-- found: (\w+) -->", text)
        assert text.count("<!-- end -->") == len(re.findall(r"<!-- found: (\w+) -->", text)), page
    assert set(seen) == set(maker.TABLES)


def test_a_changed_number_is_noticed(maker, tmp_path):
    page = tmp_path / "page.md"
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    page.write_text(text.replace("2·10⁷", "3·10⁷"), encoding="utf-8")
    assert maker.put_tables(page) == text


def test_one_table_of_dimensions_everywhere():
    """README, design record and theory give the same dimensions, and nobody gives others."""
    table = re.search(r"<!-- found: dimensions -->.*?<!-- end -->", (ROOT / "README.md").read_text(), re.DOTALL)
    assert table
    for page in ("docs/design.md", "docs/claims.md", "docs/theory/bounds.md"):
        assert table[0] in (ROOT / page).read_text(), page


def test_the_page_of_the_default_run_fits():
    found = json.loads((FOUND / "default.json").read_text())
    head = findings.textwrap.wrap(findings.setting(found["grid"]), findings.WIDTH)
    lines = head + findings.lines(found["findings"])
    assert len(found["findings"]) == sum(suite.default for suite in CLAIMS)
    assert len(lines) + 4 <= 42  # verdict, totals, the file, what more there is
    assert max(map(len, lines)) <= 80


def test_every_file_says_its_command(maker):
    asked = {"default": "run", "dimensions": "run linear relu identity", "sources": "run steps --models linear"}
    for name, words in asked.items():
        assert json.loads((FOUND / f"{name}.json").read_text())["command"].startswith(f"gaunlearn {words}")
        assert f"gaunlearn {words}" in maker.__doc__


def test_the_tables_of_steps_say_what_the_commands_gave(maker):
    text = (ROOT / "docs" / "howto" / "steps.md").read_text()
    for one in maker.found_steps.read():
        assert one["command"].startswith("gaunlearn run steps ")
        assert one["command"] in text
        assert one["verdict"] != "fail"
    assert maker.found_steps.cell("1.2e-30 [1e-30, 2e-30] 100%, 31% valid") == "0, 31 % valid"
    assert maker.found_steps.cell("11 [9.9, 12] 0%") == "**11** (9.9 – 12)"


def test_pictures_are_small_sound_and_described():
    used = set()
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for words, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            assert len(words) > 20, page
            used.add((page.parent / target).resolve())
    pictures = set((ROOT / "docs" / "pictures").glob("*"))
    assert pictures <= used
    for path in (path for path in pictures if path.suffix != ".png"):  # those are of test_gallery
        assert path.stat().st_size < 60_000
        assert minidom.parse(str(path)).documentElement.tagName == "svg"
