"""`gaunlearn audit DATA --network FILE.py:MAKE`: a network of the user's own, given as a function."""

from __future__ import annotations

import argparse
import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: options of `audit` that speak of its own models and answers alone, with their defaults
OTHERS: dict[str, Any] = {
    **dict.fromkeys(("neurons", "weights", "unlearned", "figure")),
    **{"model": "linear", "step": "ascent", "loss": "exponential", "seed": 0, "every_point": False},
}
_HINT = "expected FILE.py:MAKE, a Python file and a function make(points, labels) in it; see docs/howto/network.md"


def answered(options: argparse.Namespace, points: Any, labels: Any) -> Any:
    """The answer about the network that make(points, labels) describes; ValueError for what cannot be read."""
    from gaunlearn_jax.audit import datasets, prepare
    from verify.run import devices
    from verify.suites import own

    for name, default in OTHERS.items():
        if getattr(options, name) != default:
            raise ValueError(f"--{name.replace('_', '-')} does not go with --network, which brings its own model")
    center = None if options.center is None else datasets.load_mean(options.center)
    moved, _ = prepare.moved(points, center, options.standardize)
    x = prepare.points(moved, options.normalize, options.bias)
    given = prepare.labels_of(labels, len(x))
    devices.set_up_jax()
    path, make = _function(options.network)
    with own.blame([path]):
        made = make(x, given)
        return _audited(options.network, made, x, given, options.forget)


def _function(text: str) -> tuple[Path, Callable[..., Any]]:
    """The file and its function."""
    from verify.suites import own

    name, colon, function = text.rpartition(":")
    path = Path(name)
    if not colon or not path.is_file() or path.suffix != ".py":
        raise ValueError(f"--network {text}: {_HINT}")
    spec = importlib.util.spec_from_file_location(f"gaunlearn_network_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"--network {text}: {_HINT}")
    module = importlib.util.module_from_spec(spec)
    with own.blame([path]):
        spec.loader.exec_module(module)
    found = getattr(module, function, None)
    if not callable(found):
        raise ValueError(f"--network {text}: {path} has no function {function!r}; {_HINT}")
    return path, found


def _audited(text: str, made: Any, x: Any, y: Any, forget: Any) -> Any:
    import gaunlearn_jax as ga

    if not isinstance(made, dict) or "apply" not in made or ("params" in made) == ("weights" in made):
        raise ValueError(
            f"--network {text}: it returned {_kind(made)}, expected a dict of arguments with apply and either params "
            "(homogeneous in every layer) or weights (one trained array)"
        )
    audit: Callable[..., Any] = ga.homogeneous if "params" in made else ga.first_layer
    unknown = sorted(set(made) - set(inspect.signature(audit).parameters) | ({"forget"} & set(made)))
    if unknown:
        known = ", ".join(k for k in inspect.signature(audit).parameters if k != "forget")
        raise ValueError(f"--network {text}: it returned {', '.join(unknown)} as well, expected some of {known}")
    return audit(**({"x": x, "y": y} | made), forget=forget)


def _kind(made: Any) -> str:
    return f"a dict with {', '.join(map(str, made)) or 'nothing'}" if isinstance(made, dict) else type(made).__name__
