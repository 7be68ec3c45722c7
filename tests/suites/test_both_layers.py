"""Suite both_layers: it passes, it can fail, its numbers are the reference's, table, picture and sentence tell."""

from __future__ import annotations

import dataclasses
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import both_layers as reference

from gaunlearn_jax import both_layers as bl
from gaunlearn_jax import sweep
from gaunlearn_jax.both_layers import certificates
from suites import recorded as lanes
from verify.instances import records
from verify.instances.grid import Grid
from verify.instances.records import Record, Shape
from verify.run.columns import Block
from verify.suites import both_layers, registry
from verify.suites.both_layers import NAMES, SUITE
from verify.suites.check import Check
from verify.suites.suite import lane

pytestmark = pytest.mark.slow

GRID = Grid(dims=(1e4, 1e13), points=(6,), neurons=(8,), forget=(1,), seeds=8)
right_outcomes, right_bounds, right_floor = both_layers.outcomes, bl.bounds.lower_bounds, bl.orthogonal.floor


def swapped(data, point, forget):
    """Each step on the wrong layer."""
    h_w, h_z, h_a = bl.ascent(data, point, forget)
    theta = point.weights
    rows = [
        bl.Weights(theta.params - c * h_w, theta.output_weights - b * h_a, theta.preactivations - c * h_z)
        for b, c in ((0, 0), (1, 1), (1, 0), (1, 0.5), (1, 0.3))
    ]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)


def turned(data, point, forget):
    """Descent for ascent."""
    after = right_outcomes(data, point, forget)
    return jax.tree.map(lambda whole, moved: 2 * whole - moved, point.weights, after)


def unbalanced(data, point, forget):
    """A retrained network that keeps the second layer of theta and says that it is exact."""
    made = certificates.retrained(data, point, forget)
    theta = bl.unlearned("first", data, point, forget)
    return dataclasses.replace(made, weights=theta)


def once_too_often(data, theta, valid, epsilon):
    """Balance without its factor 1/2."""
    found = right_bounds(data, theta, valid, epsilon)
    return found._replace(balance=4.5 * found.balance)


def off(function, factor):
    return lambda *given: factor * function(*given)


#: mutants of what is said of one network, and of what is said at orthogonal points
OF_POINTS = {
    "balance": (bl.certificates, "ALL", certificates.ALL | {"retrained": unbalanced}),
    "selection": (certificates, "_selection", lambda data, point, x: point.selection),
    "half": (bl.bounds, "lower_bounds", once_too_often),
}
ORTHOGONAL = {
    "layers": (both_layers, "outcomes", swapped),
    "sign": (both_layers, "outcomes", turned),
    "floor": (bl.orthogonal, "floor", off(right_floor, 1.001)),
}


def mutated(net, record, shape):
    """The claim, and every mutant of the part that it concerns, on one network."""
    out = SUITE.per_instance(net, record, shape)
    data, forget = record.data, records.forget_set(record, 1)
    signs = jnp.where(jnp.arange(8) % 2 == 0, 1.0, -1.0)
    point = both_layers.uniform(data, signs, jnp.ones(6, bool))
    for name, change in (OF_POINTS | ORTHOGONAL).items():
        with mock.patch.object(*change):
            if name in OF_POINTS:
                made = both_layers.of_points(data, forget, both_layers.scene_of(data, point, forget))
            else:
                made = both_layers.orthogonal(data, signs, forget, jax.random.wrap_key_data(record.key))
        out |= {f"{name}:{key}": v for key, v in made.items() if isinstance(v, Check)}
    return out


@pytest.fixture(scope="module")
def blocks():
    """The lanes without the first-layer networks of their records, which the claim does not read."""
    shape = Shape("relu", 6, 8)
    given = records.lane_arguments(shape, GRID.cells("gaussian"), GRID.seed_range())

    def record(key, dim, parameters):
        one, two, three = jax.random.split(jax.random.wrap_key_data(key, impl="threefry2x32"), 3)
        data, order = shape.draw(one, dim, parameters), jax.random.permutation(two, 6)
        return Record(data, None, None, None, None, None, None, order, jax.random.key_data(three), None)

    suite = dataclasses.replace(SUITE, per_instance=mutated)
    results = sweep.batched(lane(shape, (suite,), (1,), record), *given.arguments())
    return [Block(shape, given.seed, given.d, given.parameters, results)]


@pytest.fixture(scope="module")
def table(blocks):
    return lanes.tallies(SUITE, blocks, GRID)


def test_holds_everywhere(table):
    honest = lanes.of_mutant(table, "")
    assert len(honest) == 2 * (2 * (9 + 2) + 3)
    assert not any(row["violated"] or row["inconclusive"] for row in honest)
    assert sum(row["holds"] for row in honest) > 0.8 * GRID.seeds * len(honest)


@pytest.mark.parametrize(
    ("mutant", "where", "least"),
    [
        ("layers", {"strength": "exact", "quantity": "gap"}, 12),
        ("sign", {"strength": "exact", "quantity": "gap"}, 12),
        ("balance", {"certificate": "balance:retrained", "quantity": "balance"}, 12),
        ("selection", {"certificate": "selection:class_wise", "strength": "exact"}, 1),
        ("half", {"certificate": "half:retrained", "quantity": "balance"}, 6),
        ("floor", {"strength": "lower", "quantity": "gap"}, 6),
    ],
)
def test_it_can_fail(table, mutant, where, least):
    assert lanes.count(lanes.of_mutant(table, mutant), "violated", **where) >= least


def test_gaps_of_high_dimensions_are_those_of_orthogonal_points(blocks):
    """At d = 10^13 the uniform network on random points: the closed form to 1e-5 of itself, and in its order."""
    block = blocks[0]
    results, here = block.results[SUITE.name], block.d == 1e13
    gaps = np.asarray(results["gaps_uniform"])[here]
    for gap in gaps:
        for at, name in enumerate(NAMES):
            step = bl.STEPS[name]
            sizes = bl.orthogonal.Sizes(jnp.asarray([3.0, 3.0]), jnp.asarray([2.0, 3.0]))
            second = step.second(sizes.classes)
            loops = reference.uniform(
                {1.0: 3, -1.0: 3}, {1.0: 1, -1.0: 0}, step.first, {1.0: float(second[0]), -1.0: 0}
            )
            assert gap[at] == pytest.approx(loops, rel=1e-5)
        assert np.all(np.diff(gap[[NAMES.index(name) for name in both_layers.ORDER]]) > 0)


def test_sentence_and_table_say_the_same_numbers(blocks):
    results = blocks[0].results[SUITE.name]
    good = np.asarray(results["solved_trained"]).astype(bool)
    gaps, dead = (np.asarray(results[f"{name}_trained"])[good] for name in ("gaps", "dead"))
    top = (blocks[0].d == 1e13)[good]
    left = np.array([[gap[at] / gap[0] for at in range(5)] for gap in gaps])
    numbers = SUITE.find(blocks, GRID).numbers
    assert [numbers[name] for name in NAMES[1:]] == pytest.approx(list(np.median(left[top], axis=0)[1:]))
    assert numbers["died"] == pytest.approx(np.mean(dead > 1e-9))
    if np.any(dead > 1e-9):
        assert numbers["half_dead"] == pytest.approx(np.median(left[dead > 1e-9, NAMES.index("half")]))
    rows = [row for row in SUITE.tables(blocks, GRID)[0].rows if row[0].endswith("1e+13")]
    for row in rows:
        here = top & ((dead > 1e-9) == (row[1] == "some die"))
        assert int(row[2]) == np.sum(here)
        assert [float(v) for v in row[4:]] == pytest.approx(list(np.median(left[here], axis=0)[1:]), rel=0.06)
    assert sum(int(row[2]) for row in rows) == np.sum(top)


def test_picture(blocks):
    lanes.assert_picture(SUITE, blocks, GRID, ("gap to the retrained", "die"))


def test_a_run_that_names_no_claim_leaves_it_out():
    assert SUITE not in registry.select([])
    assert SUITE in registry.select([], everything=True)
    assert registry.select(["both_layers"]) == (SUITE,)
