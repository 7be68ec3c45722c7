"""Batches of lanes: chunks and padding change nothing, one compilation serves all, many devices agree with one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaunlearn_jax as ga
from gaunlearn_jax import sweep
from gaunlearn_jax.sweep import batched

LANES = 23


def draw(key: jax.Array, dim: jax.Array) -> jax.Array:
    return ga.data.gaussian(key, 3, dim).points


def lanes(count: int = LANES) -> tuple[jax.Array, np.ndarray]:
    keys = jax.vmap(lambda s: jax.random.key(s, impl="threefry2x32"))(jnp.arange(count))
    return keys, 10.0 ** (3 + np.arange(count) % 9)


@pytest.fixture(scope="module")
def whole() -> np.ndarray:
    """All draws in one chunk, the yardstick of the tests below."""
    return batched(draw, *lanes())


@pytest.mark.parametrize("chunk", [1, 2, 7, 22, 23, 24, 1000])
def test_every_chunk_returns_every_lane_once(chunk: int) -> None:
    assert batched(lambda x: x + 1, np.arange(LANES), chunk=chunk).tolist() == list(range(1, LANES + 1))


@pytest.mark.parametrize("chunk", [1, 10])
def test_draws_are_the_same_bits_for_every_chunk(chunk: int, whole: np.ndarray) -> None:
    out = batched(draw, *lanes(), chunk=chunk)
    assert isinstance(out, np.ndarray)
    assert out.shape == (LANES, 3, 3)
    assert np.array_equal(out, whole)


def test_draws_do_not_depend_on_their_place(whole: np.ndarray) -> None:
    keys, dims = lanes()
    order = np.random.default_rng(0).permutation(LANES)
    assert np.array_equal(batched(draw, keys[order], dims[order], chunk=10), whole[order])
    for i in (0, 11, 22):
        assert np.array_equal(batched(draw, keys[i : i + 1], dims[i : i + 1])[0], whole[i])


def test_draws_are_those_of_a_single_call(whole: np.ndarray) -> None:
    keys, dims = lanes()
    for i in (0, 13):
        np.testing.assert_allclose(draw(keys[i], jnp.asarray(dims[i])), whole[i], rtol=1e-15)


def test_padding_repeats_the_last_lane_and_is_cut_off() -> None:
    seen: list[np.ndarray] = []

    def record(x: jax.Array) -> jax.Array:
        jax.debug.callback(lambda v: seen.append(np.asarray(v)), x)
        return 2 * x

    out = batched(record, np.arange(7.0), chunk=4)
    jax.effects_barrier()
    assert out.tolist() == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0]
    width = 4 * len(jax.local_devices())
    assert sorted(float(v) for v in np.ravel(seen)) == sorted([*range(7), *[6.0] * (-7 % width)])


def test_one_compilation_serves_every_chunk_and_every_dimension() -> None:
    once = chex.assert_max_traces(lambda key, dim: draw(key, dim), n=1)
    keys, dims = lanes()
    first = batched(once, keys, dims, chunk=4)
    again = batched(once, keys[:9], np.full(9, 1e15), chunk=4)
    assert first.shape == (23, 3, 3)
    assert again.shape == (9, 3, 3)


def test_the_trace_count_is_one_that_can_fail() -> None:
    once = chex.assert_max_traces(lambda x: 2 * x, n=1)
    batched(once, np.arange(8.0), chunk=4)
    with pytest.raises(AssertionError, match="traced > 1 times"):
        batched(once, np.arange(8.0), chunk=3)


def test_arguments_and_results_are_pytrees(drawn: ga.data.Dataset) -> None:
    def lane(pair: dict[str, jax.Array], data: ga.data.Dataset) -> dict[str, Any]:
        return {"sum": pair["a"] + pair["b"], "data": data, "code": jnp.asarray(ga.Status.OK)}

    data = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf, 3 * leaf, 4 * leaf, 5 * leaf]), drawn)
    out = batched(lane, {"a": np.arange(5), "b": np.ones(5, int)}, data, chunk=2)
    assert out["sum"].tolist() == [1, 2, 3, 4, 5]
    assert np.issubdtype(out["sum"].dtype, np.integer)
    assert isinstance(out["data"], ga.data.Dataset)
    assert np.array_equal(out["data"].points, data.points)
    assert out["code"].tolist() == [0] * 5


def test_keys_may_be_results() -> None:
    keys, _ = lanes(5)
    out = batched(lambda k: jax.random.fold_in(k, 1), keys, chunk=2)
    expected = jax.vmap(lambda k: jax.random.fold_in(k, 1))(keys)
    assert np.array_equal(jax.random.key_data(out), jax.random.key_data(expected))


def test_one_bad_lane_leaves_the_others_alone(whole: np.ndarray) -> None:
    keys, dims = lanes()
    rest = np.arange(LANES) != 2
    mixed = batched(draw, keys, np.where(rest, dims, np.nan), chunk=10)
    assert np.any(np.isnan(mixed[2]))
    assert np.array_equal(mixed[rest], whole[rest])


# --- progress and memory ------------------------------------------------------------------------------------


def test_progress_after_every_chunk() -> None:
    calls: list[tuple[int, int]] = []
    batched(lambda x: x, np.arange(10.0), chunk=4, progress=lambda done, total: calls.append((done, total)))
    width = 4 * len(jax.local_devices())
    assert calls == [(min(done, 10), 10) for done in range(width, 10 + width, width)]


def test_the_chunk_is_halved_when_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real, halved, calls = sweep.compiled, [], []

    def small_device(fn: Any, hurried: bool) -> Any:
        def run(x: jax.Array) -> jax.Array:
            if x.shape[0] > 4 * len(jax.local_devices()):
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
            return real(fn, hurried)(x)

        return run

    monkeypatch.setattr(sweep, "compiled", small_device)
    out = batched(
        lambda x: -x,
        np.arange(40.0),
        chunk=16,
        progress=lambda done, total: calls.append(done),
        on_halved=halved.append,
    )
    assert out.tolist() == [-float(i) for i in range(40)]
    devices = len(jax.local_devices())
    assert halved == [8 * devices, 4 * devices]
    assert calls[-1] == 40
    assert calls == sorted(set(calls))


@pytest.mark.parametrize("message", ["RESOURCE_EXHAUSTED: always", "INTERNAL: something else"])
def test_errors_that_halving_does_not_cure_are_raised(message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fn: Any, hurried: bool) -> Any:
        def run(x: jax.Array) -> jax.Array:
            raise jax.errors.JaxRuntimeError(message)

        return run

    monkeypatch.setattr(sweep, "compiled", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match=message.split(":")[0]):
        batched(lambda x: x, np.arange(8.0), chunk=4)


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((np.zeros(3), np.zeros(4)), r"same leading lane axis, got sizes \[3, 4\]"),
        ((np.zeros(3), 1.0), r"same leading lane axis, got sizes \[-1, 3\] \(-1: no axis\)"),
        (({"a": np.zeros((2, 5)), "b": np.zeros((5, 2))},), r"sizes \[2, 5\]"),
        ((), "same leading lane axis"),
        ((None,), "same leading lane axis"),
        ((np.zeros(0), np.zeros((0, 3))), "no lanes: give at least one seed, dimension and forget set"),
    ],
)
def test_lanes_must_agree_and_exist(args: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batched(lambda *a: a, *args)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("chunk", [0, -4, 2.5, True, float("nan"), "8"])
def test_a_chunk_is_a_positive_whole_number(chunk: Any) -> None:
    with pytest.raises(ValueError, match=f"chunk is {chunk}, expected a positive whole number of lanes"):
        batched(lambda x: x, np.arange(4.0), chunk=chunk)


# --- many devices -------------------------------------------------------------------------------------------

EIGHT_DEVICES = """
import sys
import jax
import jax.numpy as jnp
import numpy as np
import gaunlearn_jax as ga
from gaunlearn_jax import sweep

assert len(jax.local_devices()) == 8
assert sweep.lane_sharding().num_devices == 8
assert [sweep.chunk_size(n, c) for n, c in ((1, None), (23, 5), (1000, None), (300, 299))] == [16, 16, 512, 304]

places = []
def draw(key, dim):
    jax.debug.callback(places.append, jax.lax.axis_index("lanes"))
    return ga.data.gaussian(key, 3, dim).points

keys = jax.vmap(lambda s: jax.random.key(s, impl="threefry2x32"))(jnp.arange(23))
done = []
out = sweep.batched(draw, keys, 10.0 ** (3 + np.arange(23) % 9), chunk=5, progress=lambda a, b: done.append((a, b)))
assert done == [(16, 23), (23, 23)], done
jax.effects_barrier()
assert {int(p) for p in places} == set(range(8)), places
np.save(sys.argv[1], out)
"""


def test_eight_devices_draw_the_same_bits(tmp_path: Path, whole: np.ndarray) -> None:
    where = tmp_path / "draws.npy"
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}
    done = subprocess.run(
        [sys.executable, "-c", EIGHT_DEVICES, str(where)],
        cwd=Path(__file__).parent.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    if jax.default_backend() == "cpu":
        assert np.array_equal(np.load(where), whole)
    else:
        np.testing.assert_allclose(np.load(where), whole, rtol=1e-12)
