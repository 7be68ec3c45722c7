"""LaTeX tables: balanced, every row as wide as its head, nothing special left; figures of a paper have their fonts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from verify.cli import main
from verify.report import latex

LADDER = {"claim": "relu", "model": "relu", "m": 5, "n": 6, "dims": [1e4, 1e12],
          "rungs": {"nothing": [0.04, 0.05], "coarse": [None, 3.2e-3], "measured": [1e-5, 1.8e-14]}}  # fmt: skip
GRID = {"points": [5], "neurons": [6], "forget": [1], "seeds": 3}
EVIL = r"50% of a_b & #c {d} \input{x} ~^ <$>"
ONE = {"claim": "own_claim", "verdict": "holds", "text": EVIL, "caveat": "", "numbers": {}}
SUMMARY = {"grid": GRID, "findings": [ONE], "ladder": LADDER, "environment": {"command_line": "gaunlearn run\nx"}}


def parsed(text: str) -> list[tuple[str, list[list[str]]]]:
    """(column specification, rows of cells) of every tabular; environments and braces must match."""
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    stack: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", body):
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert not stack
    bare = re.sub(r"\\[\\{}&%$#_]", "", body)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not re.search(r"[#~^%]", re.sub(r"\$[^$]*\$", "", bare))
    tables = re.findall(r"\\begin\{tabular\}\{([^\n]*)\}\n(.*?)\\end\{tabular\}", body, re.DOTALL)
    out = []
    for columns, inside in tables:
        lines = [line.removesuffix(r" \\") for line in inside.splitlines() if line.endswith(r"\\")]
        out.append((columns, [re.split(r"(?<!\\)&", line) for line in lines]))
    return out


def test_tables_are_well_formed_and_hostile_texts_stay_texts():
    (spec, rows), (_, ladder) = parsed(latex.document(SUMMARY))
    assert spec.startswith("llp{")
    assert [len(row) for row in rows] == [3, 3]
    assert r"\input" not in latex.document(SUMMARY)
    assert [[cell.strip() for cell in row] for row in ladder] == [
        ["$d$", "doing nothing", "coarse bound", "measured after the step"],
        ["$10^{4}$", "0.04", "--", "$10^{-5}$"],
        ["$10^{12}$", "0.05", "0.0032", r"$1.8\cdot10^{-14}$"],
    ]
    text = latex.document(SUMMARY)
    for word in (r"\toprule", r"\midrule", r"\bottomrule", r"\caption{", "dimensionless", r"\label{tab:ladder}"):
        assert word in text


def test_a_wrong_table_is_noticed():
    with pytest.raises(AssertionError):
        parsed(r"\begin{table} 50% \end{table}")
    with pytest.raises(AssertionError):
        parsed(r"\begin{table} \end{tabular}")


@pytest.mark.skipif(not any(map(shutil.which, ("tectonic", "pdflatex"))), reason="no LaTeX on the path")
def test_the_tables_compile(tmp_path):
    head = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    (tmp_path / "x.tex").write_text(head + latex.document(SUMMARY) + r"\end{document}")
    command = [shutil.which("tectonic") or shutil.which("pdflatex"), "x.tex"]
    assert subprocess.run(command, cwd=tmp_path, timeout=300, input=b"").returncode == 0


def test_export_writes_findings_and_tables_once(tmp_path, capsys):
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY | {"verdict": "pass", "claims": [], "tables": {}}))
    assert main.main(["export", str(tmp_path), "--latex"]) == 0
    assert parsed((tmp_path / "tables.tex").read_text())
    assert main.main(["export", str(tmp_path), "--findings"]) == 0
    found = json.loads((tmp_path / "findings.json").read_text())
    assert found["findings"] == SUMMARY["findings"]
    assert found["command"] == "gaunlearn run\nx"
    assert main.main(["export", str(tmp_path), "--latex"]) == 2
    assert "exists, expected a new file" in capsys.readouterr().err
    (tmp_path / "summary.json").write_text(json.dumps({"grid": GRID, "claims": []}))
    assert main.main(["export", str(tmp_path), "--findings", "--out", str(tmp_path / "x")]) == 2
    assert "has no findings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1e-3, "0.001"), (2.5e-14, r"$2.5\cdot10^{-14}$"), (None, "--"), (1e13, "$10^{13}$"), (2197.4, "2197"),
     (12.34, "12")],
)  # fmt: skip
def test_numbers(value, text):
    assert latex.number(value) == text


def test_the_citation_is_printed(capsys):
    assert main.main(["cite"]) == 0
    said = capsys.readouterr().out
    assert "2510.14844" in said
    about = (Path(__file__).parents[2] / "CITATION.cff").read_text()
    titles = re.findall(r'title: "?(.+?)"?$', about, re.MULTILINE)
    plain = said.replace("{ReLU}", "ReLU").replace(r"\_", "_")
    assert len(titles) == 2
    assert all(title in plain for title in titles)
    assert f"version = {{{re.findall(r'^version: (.*)$', about, re.MULTILINE)[0]}}}" in said
    assert said.count("@") == 2
    assert said.count("{") == said.count("}")
