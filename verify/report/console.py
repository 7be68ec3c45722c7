"""The console that every command prints to."""

from __future__ import annotations

import os
import sys
import textwrap

from rich.console import Console


def width() -> int | None:
    """None asks the terminal, or COLUMNS where it is set; 150 holds the tables where nothing says how wide it is."""
    said = os.environ.get("COLUMNS", "").strip()
    return None if sys.stdout.isatty() or (said.isdecimal() and int(said) > 0) else 150


console = Console(highlight=False, width=width())


def print_prose(text: str, style: str = "") -> None:
    """Print lines of text, those that are too wide for a terminal broken between words and indented by two more."""
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip())] + "  "
        fits = width() is not None or len(line) <= console.width
        shown = line if fits else textwrap.fill(line, console.width, subsequent_indent=indent, break_on_hyphens=False)
        console.print(shown, style=style, markup=False, soft_wrap=True)
