"""Conformance of claims: whoever has a row in CLAIMS says what it claims and where that is proved, names targets and
inequalities that exist, and has a test that makes it false."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

import pytest

from gaunlearn_jax.data.registry import DISTRIBUTIONS
from gaunlearn_jax.models.registry import ARCHITECTURES, lookup
from verify.attack import targets
from verify.exact import inequalities
from verify.instances.grid import Grid
from verify.run.plan import shapes_of
from verify.suites.registry import CLAIMS, select
from verify.suites.suite import Suite

TESTS = Path(__file__).parents[1]
THEORY = sorted((TESTS.parent / "docs" / "theory").glob("*.md"))
#: where each claim is made false: file and test
FALSIFIED = {
    "linear": ("attack/test_adversary.py", "test_a_false_bound_is_reported_with_a_counterexample"),
    "relu": ("cli/test_cli.py", "test_a_broken_step_fails_the_suite"),
    "retrain": ("suites/test_retrain.py", "test_it_can_fail"),
    "identity": ("suites/test_identity.py", "test_it_can_fail"),
    "step_size": ("suites/test_step_size.py", "test_it_can_fail"),
    "estimators": ("suites/test_estimators.py", "test_it_can_fail"),
    "activations": ("suites/test_activations.py", "test_a_step_of_the_wrong_sign_is_found"),
    "sequences": ("suites/test_sequences.py", "test_gradients_that_are_not_kept_are_found"),
    "multipliers": ("suites/test_multipliers.py", "test_a_wrong_multiplier_is_found"),
    "generalization": ("suites/test_generalization_claim.py", "test_mutants_of_the_linear_claim_are_violated"),
    "data": ("suites/test_assumptions.py", "test_points_that_are_too_long_or_too_alike_are_refuted"),
    "worthwhile": ("suites/test_worthwhile.py", "test_it_can_fail"),
    "sources": ("suites/test_sources.py", "test_it_can_fail"),
    "steps": ("suites/test_steps.py", "test_it_can_fail"),
    "unique": ("suites/test_unique.py", "test_wrong_statements_are_found"),
    "leaky": ("suites/test_leaky.py", "test_it_can_fail"),
    "clarke": ("suites/test_entries.py", "test_wrong_points_are_found"),
    "entries": ("suites/test_entries.py", "test_it_can_fail"),
    "both_layers": ("suites/test_both_layers.py", "test_it_can_fail"),
    "classes": ("suites/test_classes.py", "test_wrong_statements_are_found"),
    "softmax": ("suites/test_classes.py", "test_wrong_steps_and_bounds_of_softmax_are_found"),
    "implicit_bias": ("suites/test_implicit_bias.py", "test_wrong_multipliers_are_found"),
}


def conforms(suite: Suite) -> None:
    """What the claim says of itself is there."""
    assert re.fullmatch(r"[a-z][a-z0-9_]*", suite.name)
    assert suite.statement
    assert not suite.statement.endswith(".")
    titles = {title for page in THEORY for title in re.findall(r"^#+ (.+)$", page.read_text(), re.M)}
    assert any(title in suite.source for title in titles), f"no section of docs/theory is named in {suite.source!r}"
    assert suite.evaluate or suite.per_instance or suite.per_cell
    assert suite.draw is not None
    assert suite.models
    for model in suite.models:
        assert lookup(model)[0] in list(ARCHITECTURES)
        assert suite.speaks_of(model)
    assert not set(suite.further) & set(suite.models)
    assert all(suite.speaks_of(model) for model in suite.further)
    for source in (suite.data_source, *suite.sources, *(Grid().others if suite.others else ())):
        assert DISTRIBUTIONS[source].name == source
    for name in suite.attacks:
        assert set(targets.models_of(f"{suite.name}/{name}")) <= {row.name for row in ARCHITECTURES}
    for row, derived in suite.derived.items():
        assert row.count("/") == 2
        assert derived.inequality in inequalities.NAMED


def falsified(name: str) -> bool:
    """Whether the test that makes the claim false is there."""
    path, test = FALSIFIED[name]
    tree = ast.parse((TESTS / path).read_text())
    made = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    named = {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    return test in made | named


def test_a_large_run_has_networks_of_several_patches_and_classes() -> None:
    suites = select((), everything=True)
    assert suites == tuple(CLAIMS)
    small, large = (
        {shape.model: members for shape, members in shapes_of(grid, suites).items()}
        for grid in (Grid(points=(4,)), Grid(points=(4,), wide=True))
    )
    for model in ("convolution", "classes_relu"):
        gained = {suite.name for suite in large[model]} - {suite.name for suite in small.get(model, ())}
        assert gained == {"identity", "retrain", "worthwhile"}
        assert CLAIMS["entries"] in large[model]
    assert large["relu"] == small["relu"]
    named = Grid(points=(4,), wide=True, models=("relu",))
    assert CLAIMS["identity"].models_in(named) == ("relu",)


@pytest.mark.parametrize("name", CLAIMS.names)
def test_a_claim_conforms(name: str) -> None:
    conforms(CLAIMS[name])
    assert falsified(name)


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "docs/theory, Nowhere"},
        {"statement": ""},
        {"evaluate": None},
        {"draw": None},
        {"data_source": "gausian"},
        {"models": ("rellu",)},
    ],
    ids=str,
)
def test_a_broken_claim_does_not(changes: dict[str, object]) -> None:
    with pytest.raises((AssertionError, ValueError)):
        conforms(dataclasses.replace(CLAIMS["retrain"], **changes))
