"""Where a sweep computes: on the devices, or on the host's processor all but training and solving.

Lanes have a *home*, whose arithmetic every error bound and verdict is made with. By default these are the devices.
Where verdicts are made on the host (`certify_on`) it is the host's processor, and only stages whose results are
measured again (`base.staging`, `settled`) leave it. Source: docs/theory, Numerics.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import jax

#: where verdicts can be made
WHERE = ("device", "cpu")
_CHOSEN: list[str | None] = ["device"]
_AWAY: ContextVar[bool] = ContextVar("away", default=False)


def certify_on(where: str | None) -> None:
    """Say where sweeps make their verdicts from now on: on the "device" that trains and solves, on the host's "cpu", or
    (None) on the host if the devices are TPUs, whose float64 is emulated.

    ValueError for another word. Functions that are traced already keep what they were traced with; those that are
    called outside a sweep compute where their arrays are, and should then be given arrays of the host.
    """
    if where not in (*WHERE, None):
        raise ValueError(f"verdicts are to be made on {where!r}, expected one of {', '.join(WHERE)}")
    _CHOSEN[:] = [where]


def certifies_on_host() -> bool:
    """Whether verdicts are made on the host's processor."""
    (where,) = _CHOSEN
    return where == "cpu" or (where is None and jax.default_backend() == "tpu")


def devices() -> list[jax.Device]:
    """This process's devices of the default backend: they train and solve."""
    return jax.local_devices()


def host() -> list[jax.Device]:
    """The host's processor, as one or more devices."""
    return jax.local_devices(backend="cpu")


def home() -> list[jax.Device]:
    """Where lanes live."""
    return host() if certifies_on_host() else devices()


def platform() -> str:
    """The kind of device where lanes live, such as "cpu"."""
    return str(home()[0].platform)


def is_away() -> bool:
    """Whether what is traced now leaves the host, which makes the verdicts."""
    return _AWAY.get() and certifies_on_host()


@contextlib.contextmanager
def away() -> Iterator[None]:
    """Inside, what is traced is for the devices."""
    token = _AWAY.set(True)
    try:
        yield
    finally:
        _AWAY.reset(token)
