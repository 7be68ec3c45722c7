"""`python -m tests.mutants [WORD ...]`: make each mutant in a copy of the tree, run its module's tests there, and say
which were noticed. With words, only mutants whose file or text contains one of them. Exit code 1 if one survives,
2 if nothing can be said: the tests fail without a mutant, or no mutant has one of the words."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from .mutant import Mutant
from .table import MUTANTS

ROOT = Path(__file__).parents[2]
FOLDERS = ("gaunlearn_jax", "verify", "tests", "examples", "pyproject.toml")
#: a mutant that makes a loop endless is noticed too; its tests take less than half of this unharmed
SECONDS = 300
PASSED, FAILED = 0, 1


def copy_of(root: Path, target: Path) -> None:
    for name in FOLDERS:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target / name)


def outcome(tree: Path, tests: Iterable[str]) -> int | str:
    """The exit code of pytest, or "timeout". Compiled programs are shared with the root's own runs."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-o", f"cache_dir={ROOT / '.pytest_cache'}", *tests]
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return "timeout"
    return done.returncode


def noticed(tree: Path, mutant: Mutant) -> int | str:
    """The outcome of the mutant's tests with its mistake in the tree, which is mended afterwards."""
    path = tree / mutant.file
    right = path.read_text()
    path.write_text(right.replace(mutant.text, mutant.replacement))
    try:
        return outcome(tree, mutant.tests)
    finally:
        path.write_text(right)


def inside(tree: Path) -> bool:
    """Whether Python imports the packages of the tree there, and not those of an installation."""
    code = "import gaunlearn_jax, verify; print(gaunlearn_jax.__file__); print(verify.__file__)"
    environment = os.environ | {"PYTHONPATH": str(tree)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, env=environment, capture_output=True, text=True)
    return all(Path(line).is_relative_to(tree) for line in done.stdout.split()) and done.returncode == 0


def main(words: list[str]) -> int:
    chosen = [m for m in MUTANTS if not words or any(word in m.file or word in m.text for word in words)]
    if lost := [word for word in words if not any(word in m.file or word in m.text for m in MUTANTS)]:
        print(f"no mutant's file or text contains {' or '.join(map(repr, lost))}; see tests/mutants/table.py")
        return 2
    survived = []
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder).resolve()
        copy_of(ROOT, tree)
        if not inside(tree):
            print("the installed packages hide the copy with the mutants: install with --editable, or not at all")
            return 2
        for tests in dict.fromkeys(m.tests for m in chosen):
            if outcome(tree, tests) != PASSED:
                print(f"the tests fail without a mutant: {' '.join(tests)}")
                return 2
        for m in chosen:
            start = time.monotonic()
            code = noticed(tree, m)
            word = {PASSED: "SURVIVED", FAILED: "killed", "timeout": "killed (endless)"}.get(code, f"killed ({code})")
            survived += [m] if code == PASSED else []
            change = f"{m.text.strip()}  ->  {m.replacement.strip()}"
            print(f"{word:<10} {time.monotonic() - start:5.1f} s  {m.file}: {change}", flush=True)
    print(f"{len(chosen) - len(survived)} of {len(chosen)} killed")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
