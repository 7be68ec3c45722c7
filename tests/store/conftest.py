"""No test waits for a lock as long as a user would."""

import pytest

from gaunlearn_jax.store import locks


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "SHARD_PATIENCE", 0.05)
