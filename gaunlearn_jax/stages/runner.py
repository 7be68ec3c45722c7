"""Compiled programmes and who gives what to whom: a function of lanes that is cut at its stages, ready to be called.

Values have numbers, the arguments the first ones. A *part* computes what needs no further stage, a *call* asks a stage
for what it makes of every piece of a batch; the calls of level l run between the parts l and l + 1. Nothing here knows
what was traced, so that a runner can be kept on disk, with the names of programmes in their places (`stages.kept`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

#: lanes of a stage's programme on each device for those that its attempt leaves; shorter batches are not tried first
LEFT_LANES = 16


class Part(NamedTuple):
    """From the values `inputs` its programme makes the values `wanted`, the inputs (call, place) that are `asked` for,
    and (the last part) the results."""

    inputs: tuple[int, ...]
    wanted: tuple[int, ...]
    asked: tuple[tuple[int, int], ...]
    programme: Any


class Call(NamedTuple):
    """A stage of `width` inputs: after the part `level` it makes the values `outputs`. `attempt`, if any, runs first on
    all lanes, and the programme on `LEFT_LANES` at a time of those that it leaves."""

    level: int
    width: int
    outputs: tuple[int, ...]
    programme: Any
    attempt: Any


class Runner:
    """parts and calls, the results' shapes `out` on one device, and how lanes are spread over devices, if so."""

    def __init__(self, parts: tuple[Part, ...], calls: tuple[Call, ...], out: Any, sharding: Any) -> None:
        self.parts, self.calls, self.out, self.sharding = parts, calls, out, sharding

    @property
    def programmes(self) -> list[Any]:
        """Every programme once, in one order."""
        stages = [p for call in self.calls for p in (call.attempt, call.programme) if p is not None]
        return list(dict.fromkeys([*stages, *(part.programme for part in self.parts)]))

    def __call__(self, *args: Any) -> Any:
        """The results for arguments of these shapes, on one device or spread over several."""
        known: dict[int, Any] = dict(enumerate(jax.tree.leaves(args)))
        asked: dict[tuple[int, int], Any] = {}
        ends: list[Any] = []
        for level, part in enumerate(self.parts):
            whole, pieces, ends = part.programme.result()([known[v] for v in part.inputs])
            known |= dict(zip(part.wanted, whole, strict=True))
            asked |= dict(zip(part.asked, pieces, strict=True))
            for number, call in enumerate(self.calls):
                if call.level == level:
                    given = [asked.pop((number, place)) for place in range(call.width)]
                    made = self._answers(call, list(zip(*given, strict=True)))
                    known |= dict(zip(call.outputs, map(list, zip(*made, strict=True)), strict=True))
        return jax.tree.unflatten(jax.tree.structure(self.out), ends)

    def _answers(self, call: Call, pieces: list[tuple[Any, ...]]) -> list[Any]:
        """What a stage makes of every piece: its attempt, and the stage itself where that is not final."""
        if call.attempt is None:
            return [call.programme.result()(*piece) for piece in pieces]
        attempt = call.attempt.result()
        tried = [attempt(*piece) for piece in pieces]
        left = [(i, int(j)) for i, (*_, final) in enumerate(tried) for j in np.flatnonzero(~np.asarray(final))]
        found = [list(results) for *results, _ in tried]
        if left:
            self._finish(call, pieces, left, found)
        return found

    def _finish(self, call: Call, pieces: list[Any], left: list[tuple[int, int]], found: list[list[Any]]) -> None:
        """Run a stage for the lanes `left`, pairs (piece, place), and put what it makes into `found`."""
        programme = call.programme.result()
        size = LEFT_LANES * (1 if self.sharding is None else self.sharding.mesh.size)
        touched = sorted({i for i, _ in left})
        given = {i: [np.asarray(array) for array in pieces[i]] for i in touched}
        results = {i: [np.array(array) for array in found[i]] for i in touched}
        for start in range(0, len(left), size):
            some = left[start : start + size]
            padded = some + some[-1:] * (size - len(some))
            made = programme(*self._placed([np.stack([given[i][a][j] for i, j in padded]) for a in range(call.width)]))
            for place, result in enumerate(map(np.asarray, made)):
                for (i, j), value in zip(some, result, strict=False):
                    results[i][place][j] = value
        for i in touched:
            found[i] = self._placed(results[i])

    def _placed(self, arrays: Any) -> Any:
        """Arrays with a lane axis, spread over the devices."""
        return arrays if self.sharding is None else jax.device_put(arrays, self.sharding)
