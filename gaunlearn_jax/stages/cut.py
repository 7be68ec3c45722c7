"""A function of lanes, cut at its staged equations into programmes that are compiled one by one.

What is traced is a list of equations. A value's level is the number of stages that it had to wait for; the equations of
one level make a *segment*, and the stages that wait for level l run between the segments l and l + 1, always as many
lanes at a time, so that a stage has one compiled programme however many claims and sources use it. Equations that
compute the same of the same values are one; those that depend on no argument are repeated in every segment that needs
them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal, jaxprs_in_params

from gaunlearn_jax.base import placing, staging
from gaunlearn_jax.base.compiling import careful
from gaunlearn_jax.stages.programmes import (
    Later,
    attempt_of,
    begin_compiling,
    later_programme,
    stage_function,
    stage_programme,
)
from gaunlearn_jax.stages.runner import LEFT_LANES, Call, Part, Runner

#: the level of what depends on no argument
CONSTANT = -1
#: lanes of a stage's programme on each device: the same for long and short sweeps, so that they share it
STAGE_LANES = 64
#: the same in a long sweep for a stage of at most so many bytes a lane, of which calls cost more than what they do
WIDE_LANES, WIDE_BYTES = 256, 4096
#: equations of a segment up to which the compiler's care costs little, so that hurry is not worth its slow programmes
SMALL = 30


class Value:
    """An argument or a result of an equation: its shape on one device, its level, and the request that makes it (None
    where no stage does)."""

    def __init__(self, aval: Any, level: int, request: Request | None = None) -> None:
        self.aval, self.level, self.request = aval, level, request


class Node(NamedTuple):
    """An equation without stages; inputs are Values or constant arrays."""

    equation: Any
    inputs: list[Any]
    outputs: list[Value]
    level: int


class Request:
    """A call of a stage whose batch axes `batch` are flattened and cut into pieces of as many lanes."""

    def __init__(self, equation: Any, inputs: list[Any], level: int) -> None:
        self.inputs, self.level = inputs, level
        self.stage, depth = equation.params["stage"], equation.params["depth"]
        self.batch = equation.outvars[0].aval.shape[:depth]
        self.avals = staging.shapes([v.aval for v in equation.invars], depth)
        self.outputs = [Value(v.aval, level + 1, self) for v in equation.outvars]

    def lanes(self, chunk: int) -> int:
        """How many are computed at once, of a chunk of lanes."""
        made = staging.shapes([v.aval for v in self.outputs], len(self.batch))
        size = sum(math.prod(aval.shape) * aval.dtype.itemsize for aval in (*self.avals, *made))
        return WIDE_LANES if size <= WIDE_BYTES and chunk % WIDE_LANES == 0 else min(STAGE_LANES, chunk)

    def split(self, array: Any, lanes: int) -> list[Any]:
        """An input in pieces of `lanes`, the last one filled with copies of its last entry."""
        flat = jnp.asarray(array).reshape(-1, *jnp.shape(array)[len(self.batch) :])
        filled = jnp.concatenate([flat, jnp.repeat(flat[-1:], -len(flat) % lanes, axis=0)])
        return list(filled.reshape(-1, lanes, *flat.shape[1:]))

    def join(self, pieces: list[Any]) -> Any:
        """A result, put together again."""
        return jnp.concatenate(pieces)[: math.prod(self.batch)].reshape(*self.batch, *pieces[0].shape[1:])


class Segment(NamedTuple):
    """The equations of one level: from `inputs` they make the values `wanted`, the requests' inputs and the results."""

    nodes: list[Node]
    inputs: list[Value]
    wanted: list[Value]
    asked: list[tuple[Request, int]]
    results: list[Any]


def has_stages(jaxpr: Any) -> bool:
    """Whether a stage is anywhere in it."""
    return any(e.primitive is staging.staged_p or any(map(has_stages, jaxprs_in_params(e.params))) for e in jaxpr.eqns)


class Opened:
    """The equations of a jaxpr, those of calls that hold stages in their place, none twice: `nodes` in order, and the
    `results`."""

    def __init__(self, jaxpr: Any, consts: Iterable[Any], inputs: Iterable[Any]) -> None:
        self.nodes: list[Node | Request] = []
        self._known: dict[Any, list[Any]] = {}
        self.results = self._open(jaxpr, consts, inputs)

    def _open(self, jaxpr: Any, consts: Iterable[Any], inputs: Iterable[Any]) -> list[Any]:
        values: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
        values |= dict(zip(jaxpr.invars, inputs, strict=True))

        def read(atom: Any) -> Any:
            return atom.val if isinstance(atom, Literal) else values[atom]

        for equation in jaxpr.eqns:
            given = [read(atom) for atom in equation.invars]
            inner = equation.params.get("jaxpr")
            if equation.primitive.name in ("jit", "pjit") and has_stages(inner.jaxpr):
                outputs = self._open(inner.jaxpr, inner.consts, given)
            else:
                outputs = self._outputs(equation, given)
            values |= dict(zip(equation.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _outputs(self, equation: Any, given: list[Any]) -> list[Any]:
        """The results of an equation: those of an earlier one that computes the same."""
        key = _identity(equation, given)
        if key is None or key not in self._known:
            node = _node(equation, given)
            self.nodes.append(node)
            if key is None:
                return node.outputs
            self._known[key] = node.outputs
        return self._known[key]


def _node(equation: Any, given: list[Any]) -> Node | Request:
    level = max((v.level for v in given if isinstance(v, Value)), default=CONSTANT)
    if equation.primitive is staging.staged_p:
        return Request(equation, given, max(level, 0))
    level = max(level, 0) if equation.effects else level
    return Node(equation, given, [Value(v.aval, level) for v in equation.outvars], level)


def _identity(equation: Any, given: list[Any]) -> Any:
    """What equations that compute the same have in common; None where that cannot be told."""
    inputs = [v if isinstance(v, Value) else _constant(v) for v in given]
    key = (equation.primitive, tuple(sorted(equation.params.items())), tuple(inputs))
    try:
        hash(key)
    except TypeError:
        return None
    return None if equation.effects else key


def _constant(value: Any) -> Any:
    """An array is itself; a number is its bits."""
    return id(value) if np.ndim(value) else (np.result_type(value), np.asarray(value).tobytes())


def needed(nodes: list[Any], outputs: Iterable[Any]) -> list[Any]:
    """The nodes that the outputs need, in order, and those with effects of their own."""
    wanted = {v for v in outputs if isinstance(v, Value)}
    kept = []
    for node in reversed(nodes):
        effects = isinstance(node, Node) and node.equation.effects
        if effects or not wanted.isdisjoint(node.outputs):
            kept.append(node)
            wanted |= {v for v in node.inputs if isinstance(v, Value)}
    return kept[::-1]


class Stages:
    """fn over a leading lane axis for arguments of these shapes (on one device), ready to be compiled.

    `jaxpr` is the whole, uncut; `out` the shapes of the results on one device; `requests` the calls of stages in it;
    `options` are the compiler's for all but the stages.
    """

    def __init__(self, fn: Callable[..., Any], avals: tuple[Any, ...], sharding: Any, options: Any) -> None:
        self._sharding, self._options = sharding, options
        self._chunk = jax.tree.leaves(avals)[0].shape[0]
        devices = [] if sharding is None else list(sharding.mesh.shape.items())
        self.jaxpr, self.out = jax.make_jaxpr(jax.vmap(fn), axis_env=devices, return_shape=True)(*avals)
        self._arguments = [Value(aval, 0) for aval in self.jaxpr.in_avals]
        opened = Opened(self.jaxpr.jaxpr, self.jaxpr.consts, self._arguments)
        nodes, results = needed(opened.nodes, opened.results), opened.results
        self.requests = [node for node in nodes if isinstance(node, Request)]
        last = max((r.level + 1 for r in self.requests), default=0)
        self._segments = [self._segment(nodes, level, last, results) for level in range(last + 1)]

    def _segment(self, nodes: list[Any], level: int, last: int, results: list[Any]) -> Segment:
        plain = [node for node in nodes if isinstance(node, Node)]
        here = [node for node in plain if node.level in (CONSTANT, level)]
        made = {v for node in here for v in node.outputs if v.level == level}
        later = [v for node in plain if node.level > level for v in node.inputs]
        kept = (*later, *results) if level < last else ()
        wanted = list(dict.fromkeys(v for v in kept if isinstance(v, Value) and v in made))
        asked = [(r, i) for r in self.requests for i, v in enumerate(r.inputs) if _level(v) == level]
        ends = results if level == last else []
        targets = [*wanted, *(r.inputs[i] for r, i in asked), *ends]
        here = needed(here, targets)
        made = {v for node in here for v in node.outputs}
        read = [v for node in here for v in node.inputs] + targets
        inputs = list(dict.fromkeys(v for v in read if isinstance(v, Value) and v not in made))
        return Segment(here, inputs, wanted, asked, ends)

    def runner(self) -> Runner:
        """Begin to compile everything, in other threads: the same without what was traced."""
        numbers = {value: i for i, value in enumerate(self._arguments)}

        def numbered(values: Iterable[Value]) -> tuple[int, ...]:
            return tuple(numbers.setdefault(value, len(numbers)) for value in values)

        calls = tuple(
            Call(r.level, len(r.inputs), numbered(r.outputs), self.programme_of(r), self._attempt_of(r))
            for r in self.requests
        )
        which = {request: i for i, request in enumerate(self.requests)}
        parts = tuple(
            Part(
                numbered(segment.inputs),
                numbered(segment.wanted),
                tuple((which[request], place) for request, place in segment.asked),
                self._programme(segment, fn, avals),
            )
            for segment, (fn, avals) in zip(self._segments, self._functions(), strict=True)
        )
        return Runner(parts, calls, self.out, self._sharding)

    def _programme(self, segment: Segment, fn: Callable[..., Any], avals: list[Any]) -> Any:
        options = careful() if len(segment.nodes) <= SMALL else self._options
        return begin_compiling(fn, avals, self._sharding, options)

    def _functions(self) -> list[tuple[Callable[..., Any], list[Any]]]:
        """What the segments compute, each with the shapes of its arguments."""
        return [
            (functools.partial(self._run, segment), [[self._shape(v) for v in segment.inputs]])
            for segment in self._segments
        ]

    def device_functions(self) -> list[tuple[Callable[..., Any], list[Any]]]:
        """What an accelerator computes, each with the shapes of its arguments: the segments, and the stages but those
        of the host; only stages where verdicts are made on the host."""
        stages = {(r.stage, r.avals, r.lanes(self._chunk)) for r in self.requests}
        stages |= {(attempt_of(stage), *rest) for stage, *rest in stages if stage.attempt is not None}
        made = {(stage, avals): stage_function(stage, avals, lanes) for stage, avals, lanes in stages}
        if placing.certifies_on_host():
            return [function for (stage, _), function in made.items() if stage.measured]
        return [*self._functions(), *(function for (stage, _), function in made.items() if not stage.on_host)]

    def programme_of(self, request: Request) -> Future[Any] | Later:
        """The stage's programme, shared by every request and every function with as many lanes; where an attempt comes
        first, it may never be needed."""
        if self._tries(request):
            return later_programme(request.stage, request.avals, LEFT_LANES, self._sharding)
        return stage_programme(request.stage, request.avals, request.lanes(self._chunk), self._sharding)

    def _tries(self, request: Request) -> bool:
        """Whether a stage's attempt comes first: of few lanes none waits for long."""
        return request.stage.attempt is not None and request.lanes(self._chunk) > LEFT_LANES

    def _attempt_of(self, request: Request) -> Any:
        """The programme of what the stage tries first."""
        if not self._tries(request):
            return None
        return stage_programme(attempt_of(request.stage), request.avals, request.lanes(self._chunk), self._sharding)

    def _shape(self, value: Value) -> Any:
        """What a segment is given for a value: pieces of what a stage made, an array that has an axis to be spread."""
        shape, dtype = value.aval.shape, value.aval.dtype
        if value.request is None:
            return jax.ShapeDtypeStruct(shape or (1,), dtype)
        lanes = value.request.lanes(self._chunk)
        piece = jax.ShapeDtypeStruct((lanes, *shape[len(value.request.batch) :]), dtype)
        return [piece] * -(-math.prod(value.request.batch) // lanes)

    def _run(self, segment: Segment, given: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        known: dict[Value, Any] = {}
        for value, array in zip(segment.inputs, given, strict=True):
            joined = array if value.request is None else value.request.join(array)
            known[value] = joined.reshape(value.aval.shape)

        def read(v: Any) -> Any:
            return known[v] if isinstance(v, Value) else v

        for node in segment.nodes:
            known |= dict(zip(node.outputs, _evaluated(node.equation, map(read, node.inputs)), strict=True))
        whole = [known[v].reshape(v.aval.shape or (1,)) for v in segment.wanted]
        pieces = [r.split(read(r.inputs[i]), r.lanes(self._chunk)) for r, i in segment.asked]
        return whole, pieces, [read(v) for v in segment.results]


def _level(value: Any) -> int:
    return max(value.level, 0) if isinstance(value, Value) else 0


def _evaluated(equation: Any, inputs: Iterable[Any]) -> list[Any]:
    """The results of one equation."""
    with equation.ctx.manager:
        out = equation.primitive.bind(*inputs, **equation.primitive.get_bind_params(equation.params))
    return list(out) if equation.primitive.multiple_results else [out]
