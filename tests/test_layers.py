"""The layout: one table of what each folder may import, and the rules that hold in every file.

Each rule is a function of the root of a tree, so that the same check runs over this checkout and over copies of it
into which a mistake is put.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("gaunlearn_jax", "verify")

#: folder: the folders that it may import beside itself, all of them above it in this table
LIBRARY = {
    "gaunlearn_jax.base": "",
    "gaunlearn_jax.store": "",
    "gaunlearn_jax.stages": "base",
    "gaunlearn_jax.sweep": "base stages",
    "gaunlearn_jax.models": "base",
    "gaunlearn_jax.data": "base models",
    "gaunlearn_jax.training": "base models data",
    "gaunlearn_jax.kkt": "base models data",
    "gaunlearn_jax.unlearn": "base models data training kkt",
    "gaunlearn_jax.theory": "base models data training kkt unlearn",
    "gaunlearn_jax.both_layers": "base models data training kkt unlearn",
    "gaunlearn_jax.audit": "base models data training kkt unlearn theory",
    "gaunlearn_jax.functions": "base data kkt audit",
    "gaunlearn_jax": "base store stages sweep models data training kkt unlearn theory both_layers audit functions",
}
VERIFIER = {
    "verify.exact": "",
    "verify.instances": "library",
    "verify.suites": "library instances",
    "verify.run": "library instances suites",
    "verify.phase": "library instances suites run",
    "verify.certify": "library instances suites run exact",
    "verify.attack": "library instances suites certify",
    "verify.report": "library instances suites run",
    "verify.cli": "library instances suites run phase certify attack report exact",
    "verify.__main__": "cli",
    "verify": "",
}
RULES = {
    **{folder: {f"gaunlearn_jax.{name}" for name in may.split()} for folder, may in LIBRARY.items()},
    **{
        folder: {f"verify.{name}" for name in may.split() if name != "library"}
        | (set(LIBRARY) if "library" in may else set())
        for folder, may in VERIFIER.items()
    },
}
#: all that these folders may use beside the project; `*` is the standard library
OUTSIDE = {"gaunlearn_jax.store": {"*", "numpy"}, "verify.exact": {"*", "flint"}}
OPTIONAL = {"flint", "matplotlib", "pyarrow", "safetensors", "sklearn"}  #: extras, imported where they are used
LAZY = "verify.cli"  #: its functions import what `--help` and `check` do without
LIGHT = ("verify.cli.main", "verify.exact.statements", "verify.exact.certificate_file")  #: start without jax
LONGEST = 400  #: lines of a file
WRITTEN = (*PACKAGES, "tests", "benchmarks", "docs", "examples")  #: folders with Python files
#: what a NamedTuple calls its public methods, and what argparse and os have no other name for
PUBLIC = {"_asdict", "_field_defaults", "_fields", "_make", "_replace", "_actions", "_SubParsersAction", "_exit"}

#: Violations that wait for their mend, exactly as the rules report them. One that is mended leaves this list.
KNOWN: set[str] = set()


# --- reading ------------------------------------------------------------------------------------------------


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def modules(root: Path) -> dict[str, Path]:
    """Every module of the two packages, a folder's __init__ under the name of the folder."""
    out = {}
    for path in (path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))):
        parts = path.relative_to(root).with_suffix("").parts
        out[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return out


def imported(module: str, path: Path, node: ast.AST) -> list[str]:
    """Full names of what a statement imports: `from a import b` is a.b, a dotted import is seen from its folder."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = [node.module] if node.module else []
    if node.level:
        package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
        base = package[: len(package) - node.level + 1] + base
    return [".".join([*base, alias.name]) for alias in node.names]


def functions(tree: ast.AST) -> Iterator[ast.AST]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    return (node for node in ast.walk(tree) if isinstance(node, kinds))


def inside_functions(module: str, path: Path) -> set[str]:
    nodes = {node for function in functions(parsed(path)) for node in ast.walk(function)}
    return {name for node in nodes for name in imported(module, path, node)}


def everywhere(module: str, path: Path) -> set[str]:
    return {name for node in ast.walk(parsed(path)) for name in imported(module, path, node)}


def on_start(module: str, path: Path) -> set[str]:
    """What is imported as soon as the module is."""
    late = {node for function in functions(parsed(path)) for node in ast.walk(function)}
    return {name for node in ast.walk(parsed(path)) if node not in late for name in imported(module, path, node)}


def owner(name: str, known: dict[str, Path]) -> str:
    """The module of the project that a full name lies in; "" for a name of somebody else."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


def folder(module: str) -> str:
    return ".".join(module.split(".")[:2])


# --- the rules ------------------------------------------------------------------------------------------------


def imports_follow_the_table(root: Path) -> Iterator[str]:
    known = modules(root)
    for module, path in known.items():
        here = folder(module)
        if here not in RULES:
            yield f"{module} has no place in the table"
            continue
        for other in sorted({owner(name, known) for name in everywhere(module, path)} - {""}):
            if folder(other) not in RULES[here] | {here}:
                yield f"{module} imports {other}"


def folders_use_nothing_else(root: Path) -> Iterator[str]:
    for module, path in modules(root).items():
        allowed = OUTSIDE.get(folder(module))
        for name in sorted({name.split(".")[0] for name in everywhere(module, path)} - {*PACKAGES}) if allowed else ():
            if name not in allowed and not ("*" in allowed and name in sys.stdlib_module_names):
                yield f"{module} imports {name}"


def no_circle(root: Path) -> Iterator[str]:
    """Of imports that run when a module is imported; the first circle that is met."""
    known = modules(root)
    graph = {m: sorted({owner(name, known) for name in on_start(m, path)} - {"", m}) for m, path in known.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        yield "circle: " + " <- ".join(error.args[1])


def no_import_inside_a_function(root: Path) -> Iterator[str]:
    """Except of optional extras and, in the command line, of the project's own."""
    for module, path in modules(root).items():
        allowed = OPTIONAL | (set(PACKAGES) if folder(module) == LAZY else set())
        for name in sorted(inside_functions(module, path)):
            if name.split(".")[0] not in allowed:
                yield f"{module} imports {name} inside a function"


def faces_only_export(root: Path) -> Iterator[str]:
    """An __init__ has a docstring and `from a import b as b`, nothing else."""
    for module, path in modules(root).items():
        for node in parsed(path).body if path.name == "__init__.py" else ():
            words = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            export = isinstance(node, ast.ImportFrom) and all(alias.asname == alias.name for alias in node.names)
            if not (words or export):
                yield f"{module} does more than export: {ast.unparse(node).splitlines()[0]}"


def defined(tree: ast.AST) -> set[str]:
    """Names that the file gives to something: functions, classes, assignments, fields, attributes."""
    out = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            out.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            out.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            out.add(node.attr)
    return out


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in PUBLIC


def no_private_name_crosses(root: Path) -> Iterator[str]:
    """A leading underscore is used in its own file: neither imported nor read from anything defined elsewhere."""
    for module, path in modules(root).items():
        tree = parsed(path)
        for name in sorted(everywhere(module, path)):
            if any(private(part) for part in name.split(".")):
                yield f"{module} imports {name}"
        read = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and private(node.attr)}
        for name in sorted(read - defined(tree)):
            yield f"{module} uses {name}, which is defined elsewhere"


def claims_are_independent(root: Path) -> Iterator[str]:
    """A file with a SUITE imports no other one."""
    known = modules(root)
    claims = {
        module
        for module, path in known.items()
        if folder(module) == "verify.suites" and "SUITE" in defined(parsed(path))
    }
    for module in sorted(claims):
        others = {owner(name, known) for name in everywhere(module, known[module])} & claims - {module}
        yield from (f"the claim {module} imports the claim {other}" for other in sorted(others))


def files_are_short(root: Path) -> Iterator[str]:
    for path in (path for name in WRITTEN for path in sorted((root / name).rglob("*.py"))):
        if len(path.read_text().splitlines()) > LONGEST:
            yield f"{path.relative_to(root).as_posix()} has more than {LONGEST} lines"


CHECKS = (
    imports_follow_the_table,
    folders_use_nothing_else,
    no_circle,
    no_import_inside_a_function,
    faces_only_export,
    no_private_name_crosses,
    claims_are_independent,
    files_are_short,
)


# --- this checkout ------------------------------------------------------------------------------------------------


def test_the_table_itself_points_upward():
    order = list(RULES)
    for here, others in RULES.items():
        assert all(order.index(other) < order.index(here) for other in others), here


def test_the_rules_hold():
    found = {sentence for check in CHECKS for sentence in check(ROOT)}
    assert not found - KNOWN, "new violations"
    assert not KNOWN - found, "mended: take it off the list KNOWN"


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_start_without_jax(module):
    run(f"import sys, {module}; assert 'jax' not in sys.modules, 'jax was imported'")


def test_importing_sets_no_flag_and_starts_no_device():
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


# --- mistakes put into a copy -------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path):
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


IN_A_FUNCTION = "\ndef late():\n    import {}\n"


@pytest.mark.parametrize(
    ("check", "path", "line", "says"),
    [
        (imports_follow_the_table, "gaunlearn_jax/base/numerics.py", "import gaunlearn_jax.kkt.dual",
         "gaunlearn_jax.base.numerics imports gaunlearn_jax.kkt.dual"),
        (imports_follow_the_table, "gaunlearn_jax/models/network.py", "from ..data.dataset import Dataset",
         "gaunlearn_jax.models.network imports gaunlearn_jax.data.dataset"),
        (imports_follow_the_table, "gaunlearn_jax/audit/audit.py", "from verify.suites import check",
         "gaunlearn_jax.audit.audit imports verify.suites.check"),
        (imports_follow_the_table, "verify/exact/balls.py", "import gaunlearn_jax as ga",
         "verify.exact.balls imports gaunlearn_jax"),
        (imports_follow_the_table, "verify/run/rows.py", IN_A_FUNCTION.format("verify.report.tables"),
         "verify.run.rows imports verify.report.tables"),
        (imports_follow_the_table, "verify/report/tables.py", "from verify.cli.main import main",
         "verify.report.tables imports verify.cli.main"),
        (imports_follow_the_table, "verify/new/__init__.py", "", "verify.new has no place in the table"),
        (folders_use_nothing_else, "gaunlearn_jax/store/parts.py", "import jax",
         "gaunlearn_jax.store.parts imports jax"),
        (folders_use_nothing_else, "verify/exact/balls.py", "import numpy", "verify.exact.balls imports numpy"),
        (no_import_inside_a_function, "gaunlearn_jax/kkt/dual.py", IN_A_FUNCTION.format("json"),
         "gaunlearn_jax.kkt.dual imports json inside a function"),
        (no_import_inside_a_function, "verify/report/tables.py", IN_A_FUNCTION.format("verify.run.rows"),
         "verify.report.tables imports verify.run.rows inside a function"),
        (faces_only_export, "gaunlearn_jax/__init__.py", "VERSION = 1", "gaunlearn_jax does more than export"),
        (faces_only_export, "gaunlearn_jax/kkt/__init__.py", "import json", "gaunlearn_jax.kkt does more than export"),
        (no_private_name_crosses, "verify/run/rows.py", "from verify.run.plan import _shapes",
         "verify.run.rows imports verify.run.plan._shapes"),
        (no_private_name_crosses, "verify/run/rows.py", "from verify.run import plan\nplan._shapes()",
         "verify.run.rows uses _shapes, which is defined elsewhere"),
        (claims_are_independent, "verify/suites/relu.py", "from verify.suites import linear",
         "the claim verify.suites.relu imports the claim verify.suites.linear"),
        (files_are_short, "verify/suites/relu.py", "\n" * 400, "verify/suites/relu.py has more than 400 lines"),
    ],
)  # fmt: skip
def test_a_mistake_is_found(copy, check, path, line, says):
    file = copy / path
    file.parent.mkdir(exist_ok=True)
    with file.open("a") as stream:
        stream.write(f"\n{line}\n")
    new = set(check(copy)) - KNOWN
    assert any(sentence.startswith(says) for sentence in new), new


def test_a_circle_is_found(copy):
    for here, there in (("checks", "numerics"), ("numerics", "codes"), ("codes", "checks")):
        with (copy / f"gaunlearn_jax/base/{here}.py").open("a") as stream:
            stream.write(f"\nfrom gaunlearn_jax.base import {there}\n")
    (sentence,) = no_circle(copy)
    assert all(f"gaunlearn_jax.base.{name}" in sentence for name in ("checks", "numerics", "codes"))
