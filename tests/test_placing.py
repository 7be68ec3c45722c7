"""Verdicts on the host: what leaves it, where it goes, and what a coarse device's answers are worth there."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaunlearn_jax import sweep
from gaunlearn_jax.base import placing, rounding, staging
from gaunlearn_jax.base.codes import Verdict
from gaunlearn_jax.base.staging import staged, staged_on_host
from gaunlearn_jax.stages import cut, programmes
from tests.base.test_rounding import rounded
from verify.instances.grid import Grid
from verify.run.compute import run_blocks
from verify.run.environment import environment
from verify.suites.registry import CLAIMS
from verify.suites.suite import lane

#: what a solve by pairs of float32 may leave, all roundings together
BITS = 30
COARSE = rounding.Arithmetic(2.0**-BITS, 2.0**-126, 2.0**127)


def unit_here(x: jax.Array) -> jax.Array:
    return x * 0 + rounding.arithmetic().unit


def unit_within(x: jax.Array) -> jax.Array:
    return plain(x)


plain = staged(unit_here)
#: what it returns is left as it is, so that it shows where it was made
searched = functools.partial(staged, settled=lambda found, x: found)(unit_here)
searched_within = functools.partial(staged, settled=lambda found, x: found)(unit_within)
settled = functools.partial(staged, settled=lambda found, x: found + 1)(unit_here)
drawn = staged_on_host(lambda x: x + 0.5)


def lane_of(x: jax.Array) -> dict[str, jax.Array]:
    x = drawn(x)
    found = {"plain": plain(x), "searched": searched(x), "within": searched_within(x), "settled": settled(x)}
    return found | {"here": unit_here(x), "later": plain(x + found["searched"] + 1), "x": x}


def forget_what_is_traced() -> None:
    staging.traced.cache_clear()
    sweep.compiled.cache_clear()
    programmes.forget()
    lane.cache_clear()
    jax.clear_caches()


@pytest.fixture
def on_host(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(placing, "_CHOSEN", ["cpu"])
    forget_what_is_traced()
    yield
    forget_what_is_traced()


def test_another_place_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "_CHOSEN", ["device"])
    with pytest.raises(ValueError, match="'gpu', expected one of device, cpu"):
        placing.certify_on("gpu")
    placing.certify_on(None)
    assert not placing.certifies_on_host()  # these are no TPUs
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert placing.certifies_on_host()


def test_each_place_has_its_arithmetic(on_host: None, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.arange(3.0)
    got = sweep.batched(lambda v: lane_of(v), x)
    assert {unit for name, values in got.items() if name != "x" for unit in values} == {rounding.IEEE.unit}
    monkeypatch.setattr(rounding, "_ASSUMED", [COARSE])
    forget_what_is_traced()
    got = sweep.batched(lambda v: lane_of(v), x)
    fine, coarse = {rounding.IEEE.unit}, {COARSE.unit}
    wanted = {"plain": fine, "searched": coarse, "within": coarse, "settled": {1 + COARSE.unit}}
    assert {k: set(v) for k, v in got.items() if k != "x"} == wanted | {"here": fine, "later": fine}
    np.testing.assert_array_equal(got["x"], x + 0.5)
    stages = sweep.compiled(lane_of).stages((jax.ShapeDtypeStruct((4,), float),))
    assert len(stages.device_functions()) == 2  # of those that are measured again


def test_a_run_says_where_its_verdicts_were_made(on_host: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounding, "_ASSUMED", [COARSE])
    found = environment([], None)
    assert found["certify_on"] == "cpu"
    assert found["rounding"]["unit"] == rounding.IEEE.unit
    assert found["device_rounding"]["unit"] == COARSE.unit
    placing.certify_on("device")
    found = environment([], None)
    assert found["rounding"]["unit"] == COARSE.unit
    assert not found.keys() & {"certify_on", "device_rounding"}


def two_devices() -> None:
    """One CPU device in the place of an accelerator, the other one the host's: what is begun where, and its results."""
    device, host = jax.devices()
    begun: dict[str, list[str]] = {}
    real = programmes.begin_compiling

    def begin(fn, avals, sharding, *rest):
        name = "stage" if sharding.mesh.devices.tolist() == [device] else "rest"
        begun.setdefault(name, []).append(str(sharding.mesh.devices.tolist()))
        return real(fn, avals, sharding, *rest)

    cut.begin_compiling = programmes.begin_compiling = begin
    placing.devices, placing.host = lambda: [device], lambda: [host]
    placing.certify_on("cpu")
    x = np.linspace(0, 1, 150)
    found = sweep.batched(lambda v: lane_of(v), x, chunk=128)
    placing.certify_on("device")
    placing.devices = jax.local_devices
    plain_run = sweep.batched(lambda v: lane_of(v), x, chunk=128)
    equal = {name: bool(np.all(found[name] == plain_run[name])) for name in found}
    print(json.dumps({"stages": len(begun["stage"]), "rest": len(begun["rest"]), "equal": equal}))


def test_training_and_solving_leave_the_host() -> None:
    root = Path(__file__).parents[1]
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_ENABLE_X64": "1"}
    code = "from tests.test_placing import two_devices; two_devices()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=os.environ | flags, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert all(said["equal"].values())
    # two functions whose results are measured again; the parts of three levels, the draws and `plain` at home
    assert said["stages"] == 2
    assert said["rest"] >= 5


def coarse_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """What training and solving return has BITS bits."""
    real = programmes.stage_programme

    def programme(stage, avals, lanes, sharding, *pool):
        made = real(stage, avals, lanes, sharding, *pool)
        if not stage.measured:
            return made

        def call(*args):
            return [jnp.asarray(rounded(np.asarray(a), BITS)) if a.dtype == float else a for a in made.result()(*args)]

        return programmes.submitted(lambda: programmes.Programme(call))

    programme.cache_clear = real.cache_clear  # type: ignore[attr-defined]
    for module in (cut, programmes):
        monkeypatch.setattr(module, "stage_programme", programme)
    monkeypatch.setattr(rounding, "_ASSUMED", [COARSE])


@pytest.mark.slow
@pytest.mark.parametrize("settles", [True, False])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_coarse_device_refutes_nothing_and_leaves_little_open(
    settles: bool, on_host: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its solutions are settled by the host's arithmetic; taken as they are, they would refute theorems."""
    grid = Grid(models=("relu",), dims=(1e4, 1e10), points=(6,), neurons=(24,), forget=(2,), seeds=8)
    claims = tuple(CLAIMS[name] for name in ("relu", "identity", "retrain"))
    coarse_results(monkeypatch)
    if not settles:
        monkeypatch.setattr(rounding, "settles", lambda: False)
    (block,) = run_blocks(claims, grid)
    checks = [v for c in claims for v in block.results[c.name].values() if hasattr(v, "verdict")]
    verdicts = np.concatenate([np.ravel(check.verdict()) for check in checks])
    counts = {v.name: int(np.sum(verdicts == v)) for v in Verdict}
    print(counts)
    assert (counts["VIOLATED"] == 0) == settles
    if settles:
        assert counts["INCONCLUSIVE"] + counts["UNCONVERGED"] <= 0.01 * counts["HOLDS"]
