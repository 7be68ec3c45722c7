"""A claim in words: statement, hypotheses, meaning, what would make it false, where its proof is."""

from __future__ import annotations

import textwrap
from pathlib import Path

from verify.report.findings import WIDTH
from verify.suites.suite import Suite

#: where the sections that claims name as their source are
THEORY = Path(__file__).parents[2] / "docs" / "theory"


def explain(suite: Suite) -> list[str]:
    """Lines of at most WIDTH columns."""
    parts = [("claim", suite.name), ("states", suite.statement)]
    if suite.explain is not None:
        about = suite.explain
        parts += [("assumes", about.hypotheses), ("means", about.meaning), ("false if", about.false_if)]
    parts += [("models", ", ".join(suite.models)), ("data", ", ".join(suite.sources) or "any")]
    if suite.attacks:
        parts.append(("attack it", ", ".join(f"{suite.name}/{name}" for name in suite.attacks)))
    parts.append(("proof", "; ".join(proofs(suite)) or suite.source))
    out = []
    for head, text in parts:
        out += textwrap.wrap(f"{head + ':':<11}{text}", WIDTH, subsequent_indent=" " * 11, break_on_hyphens=False)
    return out


def proofs(suite: Suite) -> list[str]:
    """The pages and sections of docs/theory that the claim's source names; [] where the pages are not at hand."""
    found = []
    for page in sorted(THEORY.glob("*.md")):
        titles = [
            line.lstrip("# ").strip() for line in page.read_text(encoding="utf-8").splitlines() if line[:1] == "#"
        ]
        found += [f"docs/theory/{page.name}, {title}" for title in titles[1:] if title in suite.source]
        found += [f"docs/theory/{page.name}"] if titles[0] in suite.source and not found else []
    return found
