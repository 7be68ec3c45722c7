"""Memory: the estimate bounds what XLA takes, chunks fit, and what cannot fit is refused before it begins."""

from __future__ import annotations

import time

import jax
import numpy as np
import pytest

from gaunlearn_jax import sweep
from verify.cli import main
from verify.instances import records
from verify.instances.grid import Grid
from verify.instances.records import Shape
from verify.run import memory, plan
from verify.suites import registry
from verify.suites.suite import lane

GIB = 2**30


def traced(shape: Shape, claims: list[str], count: int = 16):
    grid = Grid(points=(shape.m,), neurons=(max(2, shape.n),), forget=(1,), seeds=2)
    fn = lane(shape, plan.shapes_of(grid, registry.select(claims))[shape], grid.forget, records.recorder(shape))
    one = jax.ShapeDtypeStruct((count,), np.float64)
    parameters = {name: one for name, _ in grid.cells(shape.source)[0].parameters}
    return grid, jax.jit(jax.vmap(fn)).trace(jax.ShapeDtypeStruct((count, 2), np.uint32), one, parameters)


@pytest.mark.parametrize(
    ("shape", "claims"),
    [
        pytest.param(Shape("linear", 6, 1), ["linear"], marks=pytest.mark.slow),
        pytest.param(Shape("relu", 4, 4), ["relu"], marks=pytest.mark.slow),
        (Shape("relu", 5, 3, source="mixture"), ["generalization"]),
        pytest.param(Shape("relu", 6, 8), ["identity", "relu", "sequences", "retrain"], marks=pytest.mark.slow),
    ],
    ids=lambda v: v.model + v.source if isinstance(v, Shape) else "",
)
def test_the_estimate_is_an_upper_bound_and_not_a_wild_one(shape: Shape, claims: list[str]) -> None:
    """Against XLA's own account of the compiled program."""
    grid, found = traced(shape, claims)
    taken = found.lower().compile().memory_analysis().temp_size_in_bytes
    estimate = memory.SLACK * memory.live_bytes(found.jaxpr.jaxpr)
    assert taken <= estimate <= 5 * taken
    assert 16 * grid.bytes_per_lane(shape) <= 1.5 * taken  # the floor that is used before tracing


def test_live_bytes_of_a_function_counted_by_hand() -> None:
    def f(x):  # 8 kB each: x is the caller's; y and z live together, then w beside z
        y = x + 1.0
        z = jax.lax.fori_loop(0, 3, lambda _, v: v * 2.0 + y, y)
        return z + 1.0

    jaxpr = jax.jit(f).trace(jax.ShapeDtypeStruct((1000,), np.float64)).jaxpr.jaxpr
    assert 3 * 8000 <= memory.live_bytes(jaxpr) <= 5 * 8000


def test_a_call_counts_what_its_inside_does() -> None:
    """However deep: results of calls are not counted again at each level."""

    def double(x: jax.Array) -> jax.Array:
        return x * 2.0

    one = jax.ShapeDtypeStruct((1000,), np.float64)
    plain, deep = (jax.make_jaxpr(f)(one).jaxpr for f in (double, jax.jit(jax.jit(jax.jit(double)))))
    assert memory.live_bytes(deep) == memory.live_bytes(plain) == 8000


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch):
    """Set what is free, on the host and for each device."""

    def give(host: float, device: float | None = None) -> None:
        monkeypatch.setattr(memory, "host_free", lambda: int(host))
        if device is not None:
            monkeypatch.setattr(memory, "device_free", lambda: int(device))

    return give


def test_chunks_shrink_to_what_is_free(free) -> None:
    devices = len(jax.local_devices())
    free(64 * GIB)
    default = sweep.chunk_size(10**6, None)
    assert memory.chunk("x", 10**6, 1e6, None) == default
    for per_lane in (1e6, 1e7, 1e8):
        free(GIB)
        size = memory.chunk("x", 10**6, per_lane, None)
        assert size % devices == 0
        assert size <= default
        assert size * per_lane <= memory.SHARE * GIB
        assert size == default or (size + devices) * per_lane > memory.SHARE * GIB * 0.9
    assert memory.chunk("x", 10**6, 1e6, 100) == sweep.chunk_size(10**6, 100)  # what was asked for, where it can be
    with pytest.raises(ValueError, match=r"--chunk 2000 needs about 1\.\d+ GiB, more than the 1 GiB .*--chunk"):
        memory.chunk("x", 10**6, 1e6, 2000)
    with pytest.raises(ValueError, match=r"x needs about .* for the smallest chunk of"):
        memory.chunk("x", 10**6, 1e9, None)


def test_an_accelerator_says_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    class Device:
        def memory_stats(self):
            return {"bytes_limit": 10 * GIB, "bytes_in_use": 4 * GIB}

    monkeypatch.setattr(memory.placing, "home", lambda: [Device(), Device()])
    assert memory.device_free() == 6 * GIB


def test_what_the_machine_says() -> None:
    assert GIB / 16 < memory.host_free() < 2**50
    assert memory.device_free() == pytest.approx(memory.host_free() / len(jax.local_devices()), rel=0.2)


def test_results_that_cannot_be_held_are_refused(free) -> None:
    free(GIB)
    memory.require_results(10**5, 300)
    with pytest.raises(ValueError, match=r"1000000 lanes need about 4\.47 GiB, more than 50% .*--seed-start"):
        memory.require_results(10**6, 300)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--points", "3000", "--neurons", "100000"],
        ["relu", "--points", "3000", "--neurons", "100000", "--chunk", "2", "--dry-run"],
        ["linear", "--dims", "1e8", "--seeds", "4294967295"],
    ],
)
def test_an_absurd_grid_is_refused_at_once_with_the_estimate(arguments: list[str], capsys) -> None:
    began = time.monotonic()
    assert main.main(["run", *arguments]) == 2
    assert time.monotonic() - began < 5
    said = capsys.readouterr().err
    assert "need" in said
    assert "iB" in said
    assert said.count("\n") == 1


def test_a_sweep_that_fits_nowhere_is_refused_before_it_computes(free, monkeypatch, tmp_path, capsys) -> None:
    """Found after tracing: the claims need more than the floor. Nothing is computed and no folder is begun."""
    free(GIB, 6e4)
    monkeypatch.setattr(sweep, "batched", lambda *_, **__: pytest.fail("computed"))
    arguments = ["linear", "--points", "6", "--forget", "1", "--dims", "1e8", "--seeds", "4", "--out", str(tmp_path)]
    assert main.main(["run", *arguments]) == 2
    assert "linear-m6-n1-exponential needs about" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["study.toml"]


def test_the_chunk_of_a_plan_fits(free) -> None:
    shape = Shape("linear", 6, 1)
    grid = Grid(dims=(1e8,), points=(6,), forget=(1,), seeds=4096)
    suites = registry.select(["linear"])
    make = lambda: plan.plan(shape, suites, grid, plan.Place(), records.recorder)  # noqa: E731
    free(64 * GIB, 64 * GIB)
    whole = make()
    free(64 * GIB, 2e6)
    assert 2 * len(jax.local_devices()) <= make().size < whole.size
    assert make().names == whole.names
