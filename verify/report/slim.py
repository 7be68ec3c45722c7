"""A drawing of matplotlib's, as short as it can be without looking different."""

from __future__ import annotations

import re

#: parts that draw nothing: prolog, comments, metadata
_SILENT = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>", re.DOTALL)
_NUMBER = re.compile(r"-?\d*\.\d{2,}(?![\d.]*e)")
_PLACED = re.compile(r' (?:d|x|y|transform|points|width|height)="[^"]*"')


def slim(svg: str) -> str:
    """The drawing with coordinates to a hundredth of a point (factors of scale as they are), short identifiers, none
    that nothing refers to, and no prolog, comments, metadata and blanks between elements."""
    out = re.sub(r">\s+<", "><", _SILENT.sub("", svg)).strip()
    out = _PLACED.sub(lambda attribute: _rounded(attribute.group()), out)
    out = out.replace("xlink:href=", "href=").replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")
    out = re.sub(r'<use ([^>]*) transform="translate\((\S+) (\S+)\)"', _placed, out)
    return _short_ids(out)


def _rounded(attribute: str) -> str:
    """Numbers outside scale(...) to two digits after the point; the blanks that separate nothing go."""
    if attribute.startswith(" d="):
        attribute = re.sub(r"\s*([A-Za-z])\s+", r"\1", re.sub(r"\s+", " ", attribute[4:-1]))
        return f' d="{_NUMBER.sub(_two_digits, attribute.strip())}"'
    parts = re.split(r"(scale\([^)]*\))", attribute)
    return "".join(part if part.startswith("scale") else _NUMBER.sub(_two_digits, part) for part in parts)


def _two_digits(number: re.Match[str]) -> str:
    return f"{float(number.group()):.2f}".rstrip("0").rstrip(".")


def _placed(use: re.Match[str]) -> str:
    """A moved copy, said with x and y, of which 0 need not be said."""
    rest, x, y = use.groups()
    return f"<use {rest}" + (f' x="{x}"' if float(x) else "") + (f' y="{y}"' if float(y) else "")


def _short_ids(svg: str) -> str:
    """Identifiers that are referred to become a, b, c, ...; the others go."""
    used = dict.fromkeys(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    short = {name: _letters(index) for index, name in enumerate(used)}
    svg = re.sub(r' id="([^"]*)"', lambda m: f' id="{short[m.group(1)]}"' if m.group(1) in short else "", svg)
    svg = re.sub(r'((?:href="|url\()#)([^")]+)', lambda m: m.group(1) + short[m.group(2)], svg)
    return re.sub(r"<g>(<[^>]*/>)</g>", r"\1", svg)


def _letters(index: int) -> str:
    digits = ""
    while True:
        digits = "abcdefghijklmnopqrstuvwxyz"[index % 26] + digits
        index = index // 26 - 1
        if index < 0:
            return digits
