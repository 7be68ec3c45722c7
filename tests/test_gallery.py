"""The gallery: its page is what the tables say, its pictures are of these tables, and they are small."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from loading import module_of

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def maker():
    """docs/gallery.py as a module."""
    return module_of(ROOT / "docs" / "gallery.py")


@pytest.fixture(scope="module")
def runs(maker):
    return json.loads(maker.FOUND.read_text())


def test_the_page_is_what_the_tables_say(maker, runs):
    text = maker.PAGE.read_text(encoding="utf-8")
    assert maker.page(runs) == text
    assert not re.search(r"\[\w+ \S+ \S+\](?!\()", text)
    for name in maker.RUNS:
        assert runs[name]["command"] == maker.command(name)
        assert maker.command(name) in text


def test_a_changed_number_is_noticed(maker, runs):
    table = runs["near_duplicates"]
    at = table["columns"].index("better")
    rows = [[*row[:at], 0.25, *row[at + 1 :]] if row[:2] == [1e12, 0.7] else row for row in table["rows"]]
    changed = runs | {"near_duplicates": table | {"rows": rows}}
    assert "better on 25% at c = 0.7" in maker.page(changed)
    assert maker.digest(changed["near_duplicates"]) != maker.digest(table)


def test_every_table_covers_its_plane(maker, runs):
    for name, run in runs.items():
        plane = maker.plane_of(maker.RUNS[name])
        assert [row[:2] for row in run["rows"]] == [[x, y] for y in plane.y.values for x in plane.x.values]


def test_pictures_are_of_these_tables_and_small(maker, runs):
    sizes = []
    for name in maker.PICTURED:
        data = (maker.PICTURES / f"phase_{name}.png").read_bytes()
        assert data.startswith(b"\x89PNG")
        assert f"{maker.command(name)} {maker.digest(runs[name])}".encode("latin-1") in data
        sizes.append(len(data))
    assert max(sizes) < 150_000
    assert sum(sizes) < 600_000
