"""What an accelerator is given to compile, and what stays on the host's processor."""

from __future__ import annotations

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaunlearn_jax import sweep
from gaunlearn_jax.base import draws, placing
from gaunlearn_jax.data.registry import DISTRIBUTIONS
from gaunlearn_jax.stages import programmes
from gaunlearn_jax.stages.cut import Stages
from verify.instances.records import Cell, Shape, instance_key, recorder
from verify.suites.registry import CLAIMS
from verify.suites.suite import lane

BITS = re.compile(r"bitcast_convert.*f64")


def lowered(fn, avals, *platforms):
    return jax.jit(fn).trace(*avals).lower(lowering_platforms=platforms).as_text()


def whole(model: str, source: str) -> Stages:
    """Every claim about a model and a source, over eight lanes."""
    shape = Shape(model, 5, 1 if model == "linear" else 6, source=source)
    claims = tuple(c for c in CLAIMS if c.speaks_of(model) and (not c.sources or source in c.sources))
    one = jax.ShapeDtypeStruct((8,), jnp.float64)
    parameters = {"signal": one} if source == "mixture" else {}
    fn = lane(shape, claims, (1, 2), recorder(shape))
    return sweep.compiled(fn, True).stages((jax.ShapeDtypeStruct((8, 2), jnp.uint32), one, parameters))


@pytest.mark.parametrize(
    ("model", "source"), [pytest.param("linear", "gaussian", marks=pytest.mark.slow), ("relu", "mixture")]
)
def test_devices_see_neither_bits_of_float64_nor_custom_calls(model: str, source: str) -> None:
    """XLA's TPU backend refuses the first; the second may be missing, or not the same, on another device."""
    found = whole(model, source)
    assert any(request.stage.on_host for request in found.requests)
    functions = found.device_functions()
    assert len(functions) > 8
    for fn, avals in functions:
        text = lowered(fn, avals, "cuda", "tpu")
        assert "stablehlo." in text
        assert not BITS.search(text)
        assert "custom_call" not in text


def test_the_search_finds_what_it_looks_for() -> None:
    key = jax.ShapeDtypeStruct((2,), jnp.uint32)

    def draw(raw: jax.Array) -> jax.Array:
        return draws.normal(jax.random.wrap_key_data(raw, impl="threefry2x32"), shape=(3,))

    assert BITS.search(lowered(draw, [key], "tpu"))
    square = jax.ShapeDtypeStruct((3, 3), jnp.float64)
    assert "custom_call" in lowered(jnp.linalg.cholesky, [square], "cuda")


@pytest.mark.parametrize(
    "name",
    [
        "gaussian",
        pytest.param("student", marks=pytest.mark.slow),
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("mixture", "clusters", "near_duplicates")),
    ],
)
def test_draws_on_the_host_are_those_of_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bitwise, for two shapes each: spread over the devices, on one of them, and by way of the host."""
    for model, m in (("linear", 6), ("relu", 4)):
        shape = Shape(model, m, 3 if model == "relu" else 1, source=name)
        defaults = {p.name: p.default for p in DISTRIBUTIONS[name].parameters}
        cell = Cell(1e5, tuple(defaults.items()))
        keys = jnp.stack([instance_key(seed, shape, cell) for seed in range(16)])
        given = {k: jnp.full(16, float(v)) for k, v in defaults.items()}

        def drawn(key, d, parameters, shape=shape):
            typed = jax.random.wrap_key_data(key, impl="threefry2x32")
            return shape.draw(typed, d, parameters).points

        args = (keys, jnp.full(16, 1e5), given)
        spread = sweep.batched(functools.partial(drawn), *args)
        with monkeypatch.context() as patched:
            patched.setattr(sweep, "lane_sharding", lambda: None)
            alone = sweep.batched(functools.partial(drawn), *args)
        with monkeypatch.context() as patched:
            patched.setattr(programmes, "elsewhere", lambda stage: placing.host() if stage.on_host else None)
            programmes.forget()
            by_host = sweep.batched(functools.partial(drawn), *args)
        programmes.forget()
        np.testing.assert_array_equal(spread, alone)
        np.testing.assert_array_equal(spread, by_host)
        assert np.isfinite(spread).all()
