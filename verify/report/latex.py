"""What was found as LaTeX tables (booktabs), to be pasted or read by `\\input`."""

from __future__ import annotations

from typing import Any

from verify.report.findings import setting
from verify.report.ladder import RUNGS
from verify.report.top import RUNG_WORDS

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$",
}  # fmt: skip


def escape(text: str) -> str:
    """A text in which nothing is a command."""
    return "".join(SPECIAL.get(letter, letter) for letter in text)


def number(value: float | None) -> str:
    """Two digits: 0.046, $1.8\\cdot10^{-14}$; a dash where there is none."""
    if value is None:
        return "--"
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"
    digits, power = f"{value:.1e}".split("e")
    head = "" if digits == "1.0" else rf"{digits.removesuffix('.0')}\cdot"
    return f"${head}10^{{{int(power)}}}$"


def table(columns: str, head: list[str], rows: list[list[str]], caption: str, label: str) -> str:
    """A floating table of cells that are LaTeX already."""
    lines = [r"\begin{table}[t]", r"\centering", rf"\caption{{{caption}}}", rf"\label{{tab:{label}}}"]
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", " & ".join(head) + r" \\", r"\midrule"]
    lines += [" & ".join(row) + r" \\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def document(summary: dict[str, Any]) -> str:
    """Both tables, with what they need and the command that made the run."""
    command = str((summary.get("environment") or {}).get("command_line", ""))
    about = [f"% {line}" for line in ("needs \\usepackage{booktabs}", *command.splitlines())]
    parts = [found_table(summary), ladder_table(summary.get("ladder"))]
    return "\n".join(about) + "\n\n" + "\n\n".join(filter(None, parts)) + "\n"


def found_table(summary: dict[str, Any]) -> str:
    """A claim, its verdict and its sentence a row."""
    rows = []
    for one in summary["findings"]:
        said = ". But ".join(filter(None, (one["text"], one["caveat"])))
        rows.append([escape(one["claim"]), escape(one["verdict"]), escape(said)])
    caption = "What was found, claim by claim. " + escape(setting(summary["grid"]))
    return table(r"llp{0.62\textwidth}", ["claim", "verdict", "finding"], rows, caption, "findings")


def ladder_table(found: dict[str, Any] | None) -> str:
    """The cosine gap of every rung (dimensionless), a dimension a row; "" without a ladder."""
    if not found:
        return ""
    names = [name for name in RUNGS if name in found["rungs"]]
    rows = [[number(d), *(number(found["rungs"][name][i]) for name in names)] for i, d in enumerate(found["dims"])]
    caption = (
        rf"Cosine gap $\tau$ (dimensionless) by dimension $d$: medians over exact KKT points, "
        rf"{escape(found['model'])}, $m = {found['m']}$ points, $n = {found['n']}$ neurons, one forgotten point. "
        r"A dash: the bound does not apply to half of the instances."
    )
    return table("r" * (1 + len(names)), ["$d$", *(RUNG_WORDS[name] for name in names)], rows, caption, "ladder")
