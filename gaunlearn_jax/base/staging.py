"""Functions that stay one equation of whatever is traced around them, under jit, vmap and loops.

A programme that calls a solver eight times would otherwise hold eight copies of it, each compiled. `sweep` cuts what it
traces at these equations and compiles each function once; everywhere else they behave as if inlined.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

from gaunlearn_jax.base import placing, rounding


@dataclasses.dataclass(frozen=True)
class Stage:
    """fn of arguments flattened to arrays: their tree, the keywords that are static, whether a sweep runs it on the
    host's processor, what it tries first, and whether its results, or those of what it is part of, are measured again
    (see `staged`)."""

    fn: Callable[..., Any]
    tree: Any
    static: tuple[tuple[str, Any], ...]
    on_host: bool = False
    attempt: Callable[..., Any] | None = None
    measured: bool = False

    @property
    def devices(self) -> list[jax.Device]:
        """Where a sweep runs it."""
        return placing.host() if self.on_host else placing.devices() if self.measured else placing.home()

    def __call__(self, *leaves: Any) -> Any:
        return self.fn(*jax.tree.unflatten(self.tree, leaves), **dict(self.static))


@functools.lru_cache(maxsize=512)
def traced(stage: Stage, avals: tuple[jax.ShapeDtypeStruct, ...]) -> tuple[ClosedJaxpr, Any]:
    """One call without batch axes: what it computes, and the tree of its results. Traced once per shapes."""
    with placing.away() if stage.measured else contextlib.nullcontext():
        jaxpr, made = jax.make_jaxpr(stage, return_shape=True)(*avals)
    return jaxpr, jax.tree.structure(made)


def shapes(args: Any, depth: int) -> tuple[jax.ShapeDtypeStruct, ...]:
    """The shapes of arrays without their `depth` leading axes."""
    return tuple(jax.ShapeDtypeStruct(x.shape[depth:], x.dtype) for x in args)


def staged(
    fn: Callable[..., Any],
    *,
    on_host: bool = False,
    attempt: Callable[..., Any] | None = None,
    settled: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """Make fn(*pytrees of arrays, **static) one equation; keywords must be hashable.

    `attempt`, of the same arguments, returns (results like those of fn, whether they are final): a sweep tries it on
    all lanes and runs fn for those that it leaves, so that no lane waits for another's long loop. Elsewhere fn runs.

    `settled`: only with it does fn leave the host where verdicts are made there (`base.placing`). settled(results,
    *arguments, **static) makes on the host what the host's arithmetic can vouch for of a coarser device's results.
    """

    @functools.wraps(fn)
    def call(*args: Any, **static: Any) -> Any:
        leaves, tree = jax.tree.flatten(args)
        arrays = [jnp.asarray(leaf) for leaf in leaves]
        measured = settled is not None or placing.is_away()
        stage = Stage(fn, tree, tuple(sorted(static.items())), on_host, attempt, measured)
        out = staged_p.bind(*arrays, stage=stage, depth=0)
        results = jax.tree.unflatten(traced(stage, shapes(arrays, 0))[1], out)
        return results if settled is None or not rounding.settles() else settled(results, *args, **static)

    return call


staged_on_host = functools.partial(staged, on_host=True)

#: stage: the function; depth: how many leading batch axes every argument and result has
staged_p = Primitive("staged")
staged_p.multiple_results = True


def batched(stage: Stage, depth: int, *args: Any) -> Any:
    """A stage over `depth` leading batch axes: the list of its results."""
    fn = jaxpr_as_fun(traced(stage, shapes(args, depth))[0])
    for _ in range(depth):
        fn = jax.vmap(fn)
    return fn(*args)


def _inline(*args: Any, stage: Stage, depth: int) -> Any:
    return batched(stage, depth, *args)


def _batch(args: Any, dims: Any, *, stage: Stage, depth: int) -> tuple[list[Any], list[int]]:
    pairs = list(zip(args, dims, strict=True))
    size = next(x.shape[d] for x, d in pairs if isinstance(d, int))
    moved = [
        jnp.moveaxis(x, d, 0) if isinstance(d, int) else jnp.broadcast_to(x, (size, *jnp.shape(x))) for x, d in pairs
    ]
    out = staged_p.bind(*moved, stage=stage, depth=depth + 1)
    return out, [0] * len(out)


def _jvp(primals: Any, tangents: Any, *, stage: Stage, depth: int) -> Any:
    moves = [ad.instantiate_zeros(t) for t in tangents]
    return jax.jvp(functools.partial(batched, stage, depth), tuple(primals), tuple(moves))


def _abstract(*avals: Any, stage: Stage, depth: int) -> list[Any]:
    lead = avals[0].shape[:depth]
    return [aval.update(shape=(*lead, *aval.shape)) for aval in traced(stage, shapes(avals, depth))[0].out_avals]


staged_p.def_impl(jax.jit(_inline, static_argnames=("stage", "depth")))
staged_p.def_abstract_eval(_abstract)
batching.primitive_batchers[staged_p] = _batch
ad.primitive_jvps[staged_p] = _jvp
mlir.register_lowering(staged_p, mlir.lower_fun(_inline, multiple_results=True))
