"""The name under which a shape's runner is kept: a digest of all that its programmes depend on."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from gaunlearn_jax.stages import programmes
from verify.instances.records import Shape
from verify.run.environment import source_digest
from verify.suites.suite import Suite

#: what a run records of its surroundings that no programme depends on
_ELSEWHERE = ("command_line", "chunk", "process", "revision", "system")


def name(environment: dict[str, Any], shape: Shape, suites: tuple[Suite, ...], *static: Any) -> str:
    """The name of the runner of these claims at a shape, `static` being what else is compiled in."""
    recorded = {key: value for key, value in environment.items() if key not in _ELSEWHERE}
    claims = [suite.name for suite in suites]
    parts = (source_digest(), recorded, programmes.surroundings(), repr(shape), claims, static)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
