"""The layout: imports point upward in the list, and each half stays on its side."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARY = sorted((ROOT / "gaunlearn_jax").rglob("*.py"))

#: A module may import those before it, never one after it. A new module gets its place here.
ORDER = (
    "_types", "checks", "show", "numerics", "hard_margin", "models", "data", "train", "dual", "kkt", "working_set",
    "unlearn", "estimators", "certificates", "bounds", "generalization", "convergence", "sweep", "disk",
    "strict_json", "locks", "run_record", "parts", "store", "answer", "audit", "__init__",
)  # fmt: skip


def imported(node: ast.AST, package: str) -> set[str]:
    """Full names that an import statement may refer to (`from a import b` gives a and a.b)."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        base = ".".join(filter(None, [package if node.level else "", node.module or ""]))
        return {base} | {f"{base}.{alias.name}" for alias in node.names}
    return set()


def imports(path: Path) -> set[str]:
    package = ".".join(path.relative_to(ROOT).parent.parts)
    return set().union(*(imported(node, package) for node in ast.walk(ast.parse(path.read_text()))))


def uses(path: Path, module: str) -> bool:
    return any(name == module or name.startswith(module + ".") for name in imports(path))


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: p.stem)
def test_imports_point_upward(path: Path) -> None:
    assert path.stem in ORDER, f"{path.name} has no place in ORDER"
    own = {name.split(".")[1] for name in imports(path) if name.startswith("gaunlearn_jax.")}
    later = own & set(ORDER[ORDER.index(path.stem) :])
    assert not later, f"{path.name} imports {sorted(later)}, which come later in the layout"


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: p.stem)
def test_the_library_never_imports_the_verifier(path: Path) -> None:
    assert not uses(path, "verify")


OPTIONAL = {"flint", "matplotlib", "pyarrow", "sklearn"}


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: p.stem)
def test_no_imports_inside_functions(path: Path) -> None:
    """Except of optional extras, which are imported where they are used."""
    package = ".".join(path.relative_to(ROOT).parent.parts)
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            found = set().union(*(imported(node, package) for node in ast.walk(function)))
            assert {name.split(".")[0] for name in found} <= OPTIONAL, f"line {function.lineno}"


def test_the_package_only_exports() -> None:
    tree = ast.parse((ROOT / "gaunlearn_jax" / "__init__.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Expr):
            assert isinstance(node.value, ast.Constant)
        else:
            assert isinstance(node, ast.ImportFrom)
            assert all(alias.asname == alias.name for alias in node.names)


def test_the_exact_checker_is_independent() -> None:
    """Neither verify/exact.py nor anything it imports uses jax or the library it checks."""
    seen, todo = set(), [ROOT / "verify" / "exact.py"]
    while todo:
        path = todo.pop()
        if path in seen or not path.exists():
            continue
        seen.add(path)
        for forbidden in ("jax", "jaxlib", "gaunlearn_jax", "optax", "chex"):
            assert not uses(path, forbidden), f"{path.name} imports {forbidden}"
        todo += [ROOT / (name.replace(".", "/") + ".py") for name in imports(path) if name.startswith("verify")]
    assert {p.name for p in seen} >= {"exact.py", "certificate_file.py"}


@pytest.mark.parametrize("module", ["verify.exact", "verify.certificate_file", "verify.cli"])
def test_light_modules_start_without_jax(module: str) -> None:
    run(f"import sys, {module}; assert 'jax' not in sys.modules, 'jax was imported'")


def test_importing_sets_no_flag_and_starts_no_device() -> None:
    run(
        "import jax; before = dict(jax.config.values)\n"
        "import gaunlearn_jax\n"
        "assert dict(jax.config.values) == before\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge.backends_are_initialized(), 'a device was started'"
    )


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
