"""The console that every command prints to."""

from __future__ import annotations

import os
import sys

from rich.console import Console


def width() -> int | None:
    """None asks the terminal, or COLUMNS where it is set; 150 holds the tables where nothing says how wide it is."""
    said = os.environ.get("COLUMNS", "").strip()
    return None if sys.stdout.isatty() or (said.isdecimal() and int(said) > 0) else 150


console = Console(highlight=False, width=width())
