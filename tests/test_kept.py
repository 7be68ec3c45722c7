"""Programmes and runners on disk: a later process computes the same bits, and nothing half-written counts."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from gaunlearn_jax import sweep
from gaunlearn_jax.base.staging import staged
from gaunlearn_jax.stages import cut, files, kept, programmes
from verify.instances.grid import Grid
from verify.run import known
from verify.run.compute import run_blocks
from verify.run.plan import Place, shapes_of
from verify.suites.registry import CLAIMS

GRID = Grid(dims=(1e8,), points=(4,), neurons=(4,), forget=(1,), seeds=4)
SUITES = (CLAIMS["linear"],)


def forgotten() -> None:
    """As a new process begins: nothing is compiled or traced."""
    sweep.compiled.cache_clear()
    programmes.forget()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Programmes are kept here alone."""

    def use_cache_of_jax(used: bool) -> None:
        jax.config.update("jax_enable_compilation_cache", used)
        compilation_cache.reset_cache()  # JAX decides once whether it uses its cache
        forgotten()

    use_cache_of_jax(False)
    programmes.keep_in(tmp_path / "kept")
    yield tmp_path / "kept"
    programmes.keep_in(None)
    use_cache_of_jax(True)


def within(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.sqrt(jnp.abs(x)), jnp.all(x < 4)


@staged
def rooted(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.abs(x)) + (x >= 4)


def lane(x: jax.Array) -> dict[str, jax.Array]:
    return {"far": rooted(rooted(x + 1) * 3), "x": x}


def refused(number: int) -> Any:
    raise AssertionError(f"call {number} is traced")


def test_what_is_kept_computes_the_same_bits(folder: Path) -> None:
    points = np.random.default_rng(0).normal(size=(70, 3))
    first = sweep.batched(lane, points, chunk=64)
    shape = jax.ShapeDtypeStruct((64, 3), jnp.float64)
    kept.keep("mine", sweep.compiled(lane).runner((shape,)), {"more": 1})
    forgotten()
    found = kept.kept("mine", sweep.lane_sharding(), refused)
    assert found is not None
    assert found[1] == {"more": 1}
    again = found[0]()(jnp.asarray(points[:64]))
    for name, values in first.items():
        np.testing.assert_array_equal(values[:64], again[name])


@pytest.mark.parametrize("damage", ["runner", "programme", "gone"])
def test_what_is_not_whole_does_not_count(folder: Path, damage: str) -> None:
    kept.keep("mine", sweep.compiled(lane).runner((jax.ShapeDtypeStruct((64, 3), jnp.float64),)), None)
    victim = folder / "runners" / "mine" if damage == "runner" else next(f for f in folder.iterdir() if f.is_file())
    if damage == "gone":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:-1])
    assert kept.kept("mine", sweep.lane_sharding(), refused) is None


@functools.partial(staged, attempt=within)
def tried(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.abs(x)) + jnp.where(jnp.all(x < 4), 0.0, 1.0)


def trying(x: jax.Array) -> jax.Array:
    return tried(x)


def test_what_no_lane_needed_is_made_when_one_does(folder: Path) -> None:
    """Two processes whose lanes all end in the attempt, one that needs the whole stage, and one that finds it."""
    shape = (jax.ShapeDtypeStruct((64, 3), jnp.float64),)
    near, far = jnp.ones((64, 3)), jnp.ones((64, 3)).at[5].set(9.0)
    compiled: list[int] = []

    def made(number: int) -> Any:
        compiled.append(number)
        stages = sweep.compiled(trying).stages(shape)
        return stages.programme_of(stages.requests[number])

    for points, expected, traced in ((near, 1.0, []), (near, 1.0, []), (far, 4.0, [0]), (far, 4.0, [0])):
        found = kept.kept("mine", sweep.lane_sharding(), made)
        runner = sweep.compiled(trying).runner(shape) if found is None else found[0]()
        np.testing.assert_array_equal(np.asarray(runner(points))[5], expected)
        assert compiled == traced
        assert kept.keep("mine", runner, None)
        forgotten()


def test_equal_functions_share_a_programme() -> None:
    shape = [jax.ShapeDtypeStruct((4,), jnp.float64)]
    one, same, other = (
        programmes.begin_compiling(fn, shape, None, None) for fn in (lambda x: x + 1, lambda y: y + 1, lambda x: x + 2)
    )
    assert one is same
    assert one is not other


def test_a_second_run_traces_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(environment={"any": "thing"})
    (first,) = (block for block in run_blocks(SUITES, GRID, place) if block.shape.model == "linear")
    forgotten()

    def refused(*_: object) -> None:
        raise AssertionError("something is traced")

    monkeypatch.setattr(cut.Stages, "__init__", refused)
    (again,) = (block for block in run_blocks(SUITES, GRID, place) if block.shape.model == "linear")
    for old, new in zip(jax.tree.leaves(first.results), jax.tree.leaves(again.results), strict=True):
        np.testing.assert_array_equal(old, new)
    forgotten()
    with pytest.raises(AssertionError, match="traced"):  # surroundings of which nothing is known
        run_blocks(SUITES, GRID)


def test_names_tell_apart_what_is_compiled_differently() -> None:
    shape = next(iter(shapes_of(GRID, SUITES)))
    environment = {"rounding": {"unit": 2.0**-52}, "command_line": "gaunlearn run", "own": []}
    name = known.name(environment, shape, SUITES, (1,), 64, True)
    assert name == known.name(environment | {"command_line": "gaunlearn run linear"}, shape, SUITES, (1,), 64, True)
    others = {
        known.name(environment | {"rounding": {"unit": 2.0**-46}}, shape, SUITES, (1,), 64, True),
        known.name(environment | {"own": [{"sha256": "1"}]}, shape, SUITES, (1,), 64, True),
        known.name(environment, shape, (CLAIMS["retrain"],), (1,), 64, True),
        known.name(environment, shape, SUITES, (1, 2), 64, True),
        known.name(environment, shape, SUITES, (1,), 64, False),
    }
    assert len(others | {name}) == 6


def test_a_folder_holds_the_files_that_were_used_last(tmp_path: Path) -> None:
    for i in range(5):
        files.write(tmp_path / str(i), i, 3)
        files.read(tmp_path / "0")
    assert files.read(tmp_path / "0") == 0
    assert len(list(tmp_path.iterdir())) == 3
    assert files.read(tmp_path / "4") == 4
