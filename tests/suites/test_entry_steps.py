"""Suite steps on points of several patches and classes: every step that speaks of them does what is proved of it."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

import gaunlearn_jax as ga
from gaunlearn_jax.models.registry import network
from gaunlearn_jax.unlearn import STEPS
from gaunlearn_jax.unlearn.estimators import estimate_multipliers
from suites import recorded as lanes
from verify.instances.grid import Grid
from verify.suites.steps import SUITE

LEFT_OUT = {
    "linear": set(), "relu": {"newton", "influence"}, "classes": {"estimated"},
    "convolution": {"estimated", "newton", "influence"},
}  # fmt: skip


@pytest.mark.parametrize("model", LEFT_OUT)
def test_steps_say_what_they_speak_of(model: str) -> None:
    net = network(model, 6)
    points, patches = jnp.arange(16.0).reshape(4, 4) % 5 + 1, getattr(net, "patches", 1)
    data = ga.data.from_points(points, [1, -1, 1, -1], patches=patches)
    problem, mask = net.problem(data), ga.data.forget_mask(data, [0])
    assert {step.name for step in STEPS if not step.speaks_of(problem)} == LEFT_OUT[model]
    if "estimated" in LEFT_OUT[model]:
        with pytest.raises(ValueError, match="one pre-activation"):
            estimate_multipliers(net, data, jnp.ones((net.num_neurons, 4)), mask)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["convolution", "classes"])
def test_every_step_does_what_is_proved_of_it(model: str) -> None:
    grid = Grid(dims=(1e8,), points=(5,), neurons=(8,), forget=(1, 2), seeds=4, models=(model,))
    table = lanes.tallies(SUITE, lanes.blocks_of(SUITE, grid), grid)
    assert {row["certificate"] for row in table} == set(STEPS.names) - LEFT_OUT[model]
    assert not any(row["violated"] or row["inconclusive"] or row["unconverged"] for row in table)
    for row in lanes.named(table, certificate="ascent", strength="instance"):
        assert row["holds"] == grid.seeds
    multiples = lanes.named(table, certificate="influence") if model == "classes" else []
    assert not any(row["holds"] for row in multiples if row["strength"] == "multiple")
