"""Settings of every test: 64-bit arrays, annotations checked while the tests run, compilations kept between runs."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

# most of a test's time is compilation, and these flags (of a version that is known to have them: an unknown one is
# fatal) save three quarters of it; set XLA_FLAGS yourself to test what users run
if metadata.version("jaxlib").startswith("0.10."):
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false")
# workers of pytest-xdist are told a width, and their output is not a terminal's
os.environ.pop("COLUMNS", None)

import jax
import jaxtyping
import numpy as np
import pytest
from beartype import BeartypeConf, beartype

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "standard")

_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int passes for a float, as in mypy


def typechecker(fn: Any) -> Any:
    """beartype on every function; constructors are left out, since the same classes also hold whole batches,
    whose leaves have a lane axis in front."""
    return fn if fn.__name__ == "__init__" else _checked(fn)


jaxtyping.install_import_hook("gaunlearn_jax", "conftest.typechecker")

import gaunlearn_jax as ga  # noqa: E402
from gaunlearn_jax import sweep  # noqa: E402
from gaunlearn_jax.stages import programmes  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    """Compiled programs are kept in .pytest_cache: most of the time of a second run is saved."""
    cache = getattr(config, "cache", None)
    if cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(cache.mkdir("jax")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        # a half-written entry of a test run beside this one: jax warns and compiles
        config.addinivalue_line("filterwarnings", "ignore:Error (reading|writing) persistent compilation:UserWarning")


@pytest.fixture(scope="module", autouse=True)
def room_for_programs() -> Iterator[None]:
    """Every compiled program holds some memory maps, of which Linux gives a process 65530: beyond, it is killed."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 40_000:
        sweep.compiled.cache_clear()
        programmes.forget()
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def unchecked() -> Iterator[None]:
    """The library as users have it, without the annotation checks: bad input must meet the library's own."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def key() -> jax.Array:
    return jax.random.key(0, impl="threefry2x32")


@pytest.fixture(scope="session")
def relu() -> ga.models.Network:
    return ga.models.TwoLayerReLU(8)


@pytest.fixture(scope="session")
def drawn(key: jax.Array) -> ga.data.Dataset:
    """Six points in a dimension of a million."""
    return ga.data.gaussian(key, 6, 1e6)


@pytest.fixture(scope="session")
def given_points() -> tuple[np.ndarray, np.ndarray]:
    """Five correlated points in R^9 of norms near 1, and their labels."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((5, 9)) + 0.4 * rng.standard_normal(9)
    return x / 3.0, np.array([1.0, -1.0, 1.0, 1.0, -1.0])
