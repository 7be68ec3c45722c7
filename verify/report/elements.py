"""Elements of a page, built as a tree, so that every text is escaped by the serialiser."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree

Element = ElementTree.Element


def el(tag: str, *children: Any, **attributes: str) -> Element:
    """An element; children are texts, elements and iterables of these; `class_`, `aria_label` are class, aria-label."""
    out = Element(tag, {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()})
    for child in _flat(children):
        if isinstance(child, Element):
            out.append(child)
        elif len(out):
            out[-1].tail = (out[-1].tail or "") + str(child)
        else:
            out.text = (out.text or "") + str(child)
    return out


def _flat(children: Iterable[Any]) -> Iterable[Any]:
    for child in children:
        if isinstance(child, str | Element) or not isinstance(child, Iterable):
            yield from () if child is None else (child,)
        else:
            yield from _flat(child)


def small(text: str, colour: str = "soft") -> Element:
    """A line in small print."""
    return el("small", text, class_=colour)


def table(names: Iterable[str], lines: Iterable[list[Any]], caption: str, kind: str, heads: int = 1) -> Element:
    """A table that scrolls within its own box; the first `heads` columns are headers of their row."""
    head = el("thead", el("tr", [el("th", name, scope="col") for name in names]))
    body = el("tbody")
    for line in lines:
        first = [el("th", value, scope="row") for value in line[:heads]]
        body.append(el("tr", first, [el("td", value) for value in line[heads:]]))
    shown = el("table", el("caption", caption), head, body, class_=kind)
    return box(caption, shown)


def box(label: str, child: Element) -> Element:
    """What may be wider than the page, in a box of its own that scrolls, also by keyboard."""
    return el("div", child, class_="scroll", tabindex="0", role="region", aria_label=label)
