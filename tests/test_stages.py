"""Cutting a traced function at its stages: the same numbers, one programme per stage and shape."""

from __future__ import annotations

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaunlearn_jax as ga
from gaunlearn_jax import sweep
from gaunlearn_jax.base.staging import staged
from gaunlearn_jax.kkt.pattern import pattern_loop
from gaunlearn_jax.stages.cut import Stages
from verify.instances.grid import Grid
from verify.instances.records import Shape, recorder
from verify.run.compute import run_blocks
from verify.run.plan import Place
from verify.suites.registry import CLAIMS
from verify.suites.suite import lane


@staged
def halve(x: jax.Array, times: jax.Array, *, by: float) -> dict[str, jax.Array]:
    """x divided until it is below 1, at most `times` times; how often that was."""
    out, count = jax.lax.while_loop(
        lambda s: (jnp.max(s[0]) >= 1) & (s[1] < times), lambda s: (s[0] / by, s[1] + 1), (x, jnp.asarray(0))
    )
    return {"x": out, "count": count}


def by_hand(x: np.ndarray, times: int, by: float) -> tuple[np.ndarray, int]:
    count = 0
    while np.max(x) >= 1 and count < times:
        x, count = x / by, count + 1
    return x, count


def lane_of(x: jax.Array) -> dict[str, jax.Array]:
    """Stages after one another, of several batch axes, with constant inputs, inside calls, and nested in a loop."""
    first = jax.jit(lambda v: halve(v, 50, by=2.0))(x)
    grid = jax.vmap(lambda t: jax.vmap(lambda s: halve(s * first["x"], t, by=3.0)["count"])(jnp.asarray([5.0, 70.0])))(
        jnp.arange(3)
    )
    again = halve(first["x"] * 64, first["count"], by=2.0)
    constant = halve(jnp.full(2, 9.0), 9, by=3.0)["count"]
    total, _ = jax.lax.scan(
        lambda s, f: (s + halve(f * x, 3, by=4.0)["count"], None), jnp.asarray(0), jnp.arange(1.0, 4)
    )
    return {"x": again["x"], "grid": grid, "constant": constant + 0 * first["count"], "loop": total, "given": x}


@pytest.mark.parametrize("lanes", [1, 3, 8])
def test_the_cut_function_is_the_function(lanes: int) -> None:
    x = np.random.default_rng(lanes).uniform(0.1, 40.0, (lanes, 2))
    got = sweep.batched(lane_of, x, chunk=4)
    for i, v in enumerate(x):
        first, count = by_hand(v, 50, 2.0)
        np.testing.assert_array_equal(got["x"][i], by_hand(first * 64, count, 2.0)[0])
        grid = [[by_hand(s * first, t, 3.0)[1] for s in (5.0, 70.0)] for t in range(3)]
        np.testing.assert_array_equal(got["grid"][i], grid)
        assert got["constant"][i] == 3
        assert got["loop"][i] == sum(by_hand(f * v, 3, 4.0)[1] for f in (1.0, 2.0, 3.0))
        np.testing.assert_array_equal(got["given"][i], v)


def halved_twice(x: jax.Array, times: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
    """Two rounds of `halve`, marked by count + 100, final where x is below 1 then."""
    tried = halve(x, jnp.minimum(times, 2), by=2.0)
    return {"x": tried["x"], "count": tried["count"] + 100}, jnp.max(tried["x"]) < 1


tried_first = functools.partial(staged, attempt=halved_twice)(lambda x, times: halve(x, times, by=2.0))


@pytest.mark.parametrize("most", [3.0, 12.0, 1e4])
def test_lanes_that_an_attempt_leaves_are_finished(most: float) -> None:
    """None, some or nearly all of them, in several pieces, each answer in its own lane."""
    x = np.random.default_rng(0).uniform(0.1, most, (150, 3, 1))
    got = sweep.batched(lambda v: jax.vmap(lambda w: tried_first(w, 50))(v), x, chunk=128)
    by_attempt = got["count"] >= 100
    assert by_attempt.any()
    assert by_attempt.all() == (most == 3.0)
    for at in np.ndindex(150, 3):
        value, count = by_hand(x[at], 50, 2.0)
        assert got["x"][at] == value
        assert by_attempt[at] == (count <= 2)
        assert got["count"][at] % 100 == count
    short = sweep.batched(lambda v: tried_first(v[0], 50), x[:8])  # nobody waits for long: not tried
    assert (short["count"] < 100).all()


def test_a_long_sweep_calls_small_stages_less_often() -> None:
    """512 lanes on each device: 256 at once of what is small, the last piece filled, 64 of what is large."""
    count, size = 700, 512
    x = np.random.default_rng(1).uniform(0.1, 40.0, (count, 300))

    def two(v: jax.Array) -> list[jax.Array]:
        return [halve(v[:2], 50, by=2.0)["x"], halve(v, 50, by=2.0)["x"]]

    long = sweep.batched(two, x, chunk=size * len(jax.local_devices()))
    short = sweep.batched(two, x, chunk=64)
    np.testing.assert_array_equal(long[0], short[0])
    np.testing.assert_array_equal(long[1], short[1])
    found = {}
    for lanes in (size, 384, 32):
        stages = sweep.compiled(two).stages((jax.ShapeDtypeStruct((lanes, 300), jnp.float64),))
        found[lanes] = [request.lanes(lanes) for request in stages.requests]
    assert found == {size: [256, 64], 384: [64, 64], 32: [32, 32]}


def test_equal_calls_are_one() -> None:
    def twice(x: jax.Array) -> jax.Array:
        return halve(x + 1, 50, by=2.0)["x"] + halve(x + 1, 50, by=2.0)["x"] + halve(x + 1.5, 50, by=2.0)["x"]

    stages = sweep.compiled(twice).stages((jax.ShapeDtypeStruct((4, 2), jnp.float64),))
    assert len(stages.requests) == 2


def test_a_stage_is_differentiated_and_called_alone() -> None:
    slope = jax.grad(lambda v: jnp.sum(halve_once(v)["x"]))(jnp.asarray([3.0, 1.0]))
    np.testing.assert_array_equal(slope, [0.5, 0.5])
    assert int(halve(jnp.asarray([5.0]), 9, by=2.0)["count"]) == 3


@staged
def halve_once(x: jax.Array) -> dict[str, jax.Array]:
    return {"x": x / 2}


def test_one_compilation_of_the_solver_per_shape() -> None:
    """Limit points, retrained points and fits of three claims, both thetas, two sources and slopes: one programme."""
    from_source = {}
    for source, model, claim in (
        ("gaussian", "relu", "retrain"),
        ("gaussian", "relu", "step_size"),
        ("mixture", "relu", "retrain"),
        ("gaussian", "leaky:slope=0.25", "unique"),
    ):
        shape = Shape(model, 5, 6, source=source)
        fn = lane(shape, (CLAIMS[claim],), (1, 2), recorder(shape))
        one = jax.ShapeDtypeStruct((8,), jnp.float64)
        parameters = {"signal": one} if source == "mixture" else {}
        stages = sweep.compiled(fn, True).stages((jax.ShapeDtypeStruct((8, 2), jnp.uint32), one, parameters))
        solves = [r for r in stages.requests if r.stage.fn is pattern_loop.__wrapped__]
        assert len(solves) >= 2
        from_source[source, claim] = {id(stages.programme_of(r)) for r in solves}
    assert len(set.union(*from_source.values())) == 1


@pytest.mark.slow
def test_nothing_is_compiled_for_a_finished_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid, claims = Grid(dims=(1e8,), points=(4,), neurons=(4,), forget=(1,), seeds=4), (CLAIMS["linear"],)
    place = Place(tmp_path)
    (first,) = run_blocks(claims, grid, place)
    begun = []
    compile_all = Stages.runner
    monkeypatch.setattr(Stages, "runner", lambda self: begun.append(self) or compile_all(self))
    (again,) = run_blocks(claims, grid, place)
    assert not begun
    for old, new in zip(jax.tree.leaves(first.results), jax.tree.leaves(again.results), strict=True):
        np.testing.assert_array_equal(old, new)
    sweep.compiled.cache_clear()
    run_blocks(claims, grid)
    assert begun


@pytest.mark.slow
def test_a_solve_is_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever asks for a programme of this shape, Python runs the solver's code once."""
    seen = []
    right = ga.kkt.pattern.dual.solve
    monkeypatch.setattr(ga.kkt.pattern.dual, "solve", lambda *args: seen.append(1) or right(*args))
    net = ga.models.TwoLayerReLU(3, jnp.asarray([0.5, -0.5, 0.5]))
    data = ga.data.gaussian(jax.random.key(0), 7, 1e6)
    for scale in (1.0, 2.0):
        run = ga.train.train(jax.random.key(1), net, data, num_steps=60, init_scale=scale * 1e-3)
        point = ga.kkt.limit_point(net, data, run)
        ga.kkt.fit_multipliers(net, data, point.params, point.preactivations)
        ga.certificates.retrain(net, data, point, jnp.arange(7) == 2)
    assert len(seen) <= 2  # a loop's body is traced once more where its carry changes type
