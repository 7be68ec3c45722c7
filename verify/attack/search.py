"""Search for the instance on which a bound is tightest, or violated.

Many candidates at once: each climbs lhs/rhs by gradient ascent in its free numbers, then the best are bred with changes
of labels, activation pattern and forget set. The best one so far is kept on disk with its certificate file, and the
same call goes on from there. Source: docs/theory, How tight the bounds are.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gaunlearn_jax as ga
from gaunlearn_jax.store.disk import seal
from verify.attack import candidates, targets
from verify.attack.candidates import FREE, Candidate, Space, Start
from verify.certify import lane_files
from verify.certify.documents import write as write_document
from verify.suites.check import Check
from verify.suites.suite import bound_of

#: steps of ascent between two generations, their size in the arguments of tanh, generations without progress until
#: the population is drawn afresh
STEPS, RATE, PATIENCE = 20, 0.2, 12
#: tanh(SATURATED) is 1 up to 1e-8
SATURATED = 9.0

Population = tuple[Candidate, Check]


@dataclasses.dataclass
class Search:
    """The state of one search: elite [lanes/4], its comparisons, the best, how far it has come, what code runs."""

    target: str
    space: Space
    seed: int
    lanes: int = 64
    elite: Population | None = None
    best: Population | None = None
    generation: int = 0
    stale: int = 0
    seconds: float = 0.0
    evaluations: int = 0
    code: str = ""

    @property
    def ratio(self) -> float:
        return 0.0 if self.best is None else float(ratios(self.best[1])[0])

    def violated(self, factor: float = 1.0) -> bool:
        """Whether lhs exceeds factor * rhs by more than the error of the best instance."""
        if self.best is None:
            return False
        sides = self.best[1]._replace(rhs=self.best[1].rhs * factor)
        return bool(np.asarray(sides.verdict())[0] == ga.Verdict.VIOLATED)


def ratios(sides: Check) -> np.ndarray:
    return np.nan_to_num(np.asarray(targets.ratio(sides)), nan=0.0)


def _program(space: Space) -> Space:
    """The space that stands for all forget sizes: a compiled function reads k off the forget set."""
    return dataclasses.replace(space, k=1)


@functools.lru_cache(maxsize=16)
def _solver(space: Space, needs_first: bool) -> Callable[[Candidate], Start]:
    def solve(c: Candidate) -> Start:
        return candidates.solve(space, needs_first, candidates.data_of(space, c), c.pattern, c.forget)

    return jax.jit(jax.vmap(solve))


class _Climb(NamedTuple):
    """A candidate on its way up, the moments of Adam, and the best that it met."""

    now: Candidate
    moments: Any
    best: Population


_ADAM = optax.adam(RATE, b1=0.7, b2=0.9)


@functools.lru_cache(maxsize=64)
def _step(target: str, space: Space) -> Callable[[_Climb, Start], _Climb]:
    """One step of gradient ascent on the active sets of `start`."""

    def step(c: _Climb, start: Start) -> _Climb:
        def value(free: dict[str, Any]) -> tuple[Any, Check]:
            sides = targets.target(target).sides(candidates.instance(space, c.now._replace(**free), start))
            return targets.ratio(sides), sides

        free = _free(c.now)
        (now, sides), slope = jax.value_and_grad(value, has_aux=True)(free)
        # a kink of the bound itself (a norm of 0) has no derivative: the lane then waits for the next generation
        slope = jax.tree.map(lambda g: jnp.where(jnp.isfinite(g), -g, 0.0), slope)
        better = now > targets.ratio(c.best[1])
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), (c.now, sides), c.best)
        moves, moments = _ADAM.update(slope, c.moments)
        return _Climb(c.now._replace(**optax.apply_updates(free, moves)), moments, best)

    return jax.jit(jax.vmap(step))


def _free(c: Candidate) -> dict[str, Any]:
    return {name: getattr(c, name) for name in FREE}


def climb(target: str, space: Space, start: Candidate) -> Population:
    """The best that each lane meets in STEPS steps of gradient ascent, and its two sides."""
    lanes = start.labels.shape[0]
    nothing = Check(*(jnp.zeros(lanes, t) for t in (float, float, float, jnp.int32, bool, float)))
    start = jax.tree.map(jnp.asarray, start)
    way = _Climb(start, jax.vmap(_ADAM.init)(_free(start)), (start, nothing))
    solve, step = _solver(_program(space), targets.target(target).needs_first), _step(target, _program(space))
    for _ in range(STEPS):
        way = step(way, solve(way.now))
    return jax.tree.map(np.asarray, way.best)


def fresh(rng: np.random.Generator, space: Space, count: int) -> Candidate:
    """Random candidates: Gram matrices from nearly equal to nearly extreme entries, patterns from one active neuron
    per point to all, half of the points approximate."""
    m, n, rows = space.m, space.n, space.rows
    choices = candidates.random_choices(rng, space, count)
    density = n ** -rng.random((count, 1, rows)) * rng.choice([0.5, 1.0], (count, 1, 1))
    choices["pattern"] = candidates.with_one_active(rng, space, rng.random((count, n, rows)) < density)
    spread = 10.0 ** rng.uniform(-1, 1, (count, 1, 1))
    small = 10.0 ** rng.uniform(-2, 0, (count, 1, 1))
    return Candidate(
        off=spread * rng.normal(size=(count, rows, rows)),
        diagonal=spread[:, 0] * rng.normal(size=(count, rows)),
        stretch=small * rng.normal(size=(count, n, rows)),
        tilt=small[:, 0] * rng.normal(size=(count, m)),
        fraction=spread[:, 0, 0] * rng.normal(size=count),
        **choices,
        loose=np.where(rng.random(count) < 0.5, 1.0, 0.0),
    )


def breed(rng: np.random.Generator, space: Space, elite: Population, count: int) -> Candidate:
    """Three quarters are changed copies of the elite (the better, the more often), one quarter is fresh."""
    weight = ratios(elite[1]) ** 4 + 1e-9
    parents = rng.choice(weight.size, 3 * count // 4, p=weight / weight.sum())
    children = jax.tree.map(lambda leaf: np.array(leaf[parents]), elite[0])
    for lane in range(parents.size):
        for _ in range(rng.geometric(0.5)):
            _mutate(rng, space, children, lane)
    children = children._replace(pattern=candidates.with_one_active(rng, space, children.pattern))
    new = fresh(rng, space, count - parents.size)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), children, new)


def _mutate(rng: np.random.Generator, space: Space, c: Candidate, lane: int) -> None:
    """One change of one lane, in place."""
    i, j = rng.choice(space.m, 2, replace=False)
    r, s = rng.choice(space.rows, 2, replace=False) if space.patches > 1 else (i, j)
    neuron, kind = rng.integers(space.n), rng.integers(9)
    if kind == 0:
        c.labels[lane, i] *= -1
        if np.all(c.labels[lane] == c.labels[lane, 0]):
            c.labels[lane, j] *= -1
    elif kind == 1:  # one pair of neuron and row
        c.pattern[lane, neuron, r] ^= True
    elif kind == 2:  # a row down to one active neuron of each kind
        c.pattern[lane, :, r] = False
    elif kind == 3:
        c.forget[lane, [i, j]] = c.forget[lane, [j, i]]
    elif kind == 4:  # to a vertex of the box of Gram matrices
        c.off[lane] = SATURATED * np.sign(c.off[lane])
        c.diagonal[lane] = SATURATED * np.sign(c.diagonal[lane])
    elif kind == 5:
        c.off[lane, [r, s], [s, r]] *= -1
    elif kind == 6:
        c.diagonal[lane, r] *= -1
    elif kind == 7:
        c.loose[lane] = 1 - c.loose[lane]
    else:
        for name in FREE:
            part = getattr(c, name)
            part[lane] += 0.3 * rng.normal(size=part.shape[1:])


def search(
    target: str,
    space: Space,
    *,
    seconds: float = 180.0,
    lanes: int = 64,
    seed: int = 0,
    folder: Path | None = None,
    factor: float = 1.0,
    progress: Callable[[Search], None] | None = None,
    code: str = "",
) -> Search:
    """Maximise lhs/rhs of a target for so many seconds in all (those of earlier calls with the same folder included),
    or until it is violated.

    `folder` keeps the state and the certificate file of the best instance from the moment it is found. `factor` < 1
    weakens the bound on purpose, to see that the search would notice. `code` names the code that is run. ValueError for
    a state of another search or of other code.
    """
    state = load(folder, target, space, seed, lanes, code)
    while state.seconds < seconds and not state.violated(factor):
        began = time.perf_counter()
        rng = np.random.default_rng([seed, state.generation])
        start = fresh(rng, space, lanes) if state.elite is None else breed(rng, space, state.elite, lanes)
        found = climb(target, space, start)
        state.generation += 1
        state.evaluations += lanes * STEPS
        improved = _select(state, found, max(2, lanes // 4))
        state.seconds += time.perf_counter() - began
        if folder is not None:
            save(folder, state, improved)
        if progress is not None:
            progress(state)
    return state


def _select(state: Search, found: Population, keep: int) -> bool:
    """Keep the best of the old elite and the new candidates; whether the best of all has improved."""
    pool = found if state.elite is None else jax.tree.map(lambda a, b: np.concatenate([a, b]), state.elite, found)
    order = np.argsort(-ratios(pool[1]), kind="stable")[:keep]
    elite = jax.tree.map(lambda leaf: leaf[order], pool)
    top, before = float(ratios(elite[1])[0]), state.ratio
    state.elite = elite
    state.stale = 0 if top > before * (1 + 1e-4) else state.stale + 1
    if top > before or state.best is None:
        state.best = jax.tree.map(lambda leaf: leaf[:1], elite)
    if state.stale >= PATIENCE:
        state.elite, state.stale = None, 0
    return top > before


# --- files --------------------------------------------------------------------------------------------


def stem(target: str, space: Space) -> str:
    size = f"m{space.m}-n{space.n}-k{space.k}-epsd{space.eps_d:g}-psi{space.psi:g}"
    return f"{target.replace('/', '-')}-{space.model}-{size}"


def save(folder: Path, state: Search, improved: bool = True) -> None:
    """Write the state (no pickle) and, if the best has improved, its certificate; through a temporary file each."""
    folder.mkdir(parents=True, exist_ok=True)
    name = stem(state.target, state.space)
    if improved:
        write_document(folder / f"best-{name}.json", document(state))
    counts = {f.name: getattr(state, f.name) for f in dataclasses.fields(state) if f.name not in ("elite", "best")}
    counts["space"] = dataclasses.asdict(state.space)
    arrays: dict[str, Any] = {"header": np.frombuffer(json.dumps(counts).encode(), np.uint8)}
    for label, population in (("elite", state.elite), ("best", state.best)):
        if population is not None:
            arrays |= {f"{label}.candidate.{k}": v for k, v in population[0]._asdict().items()}
            arrays |= {f"{label}.sides.{k}": v for k, v in population[1]._asdict().items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    seal(folder, f"state-{name}.npz", buffer.getvalue())


def load(folder: Path | None, target: str, space: Space, seed: int, lanes: int, code: str = "") -> Search:
    """The saved state of this search, or a new one; ValueError for a file that is no such state."""
    path = None if folder is None else folder / f"state-{stem(target, space)}.npz"
    if path is None or not path.exists():
        return Search(target, space, seed, lanes, code=code)
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        counts = json.loads(arrays["header"].tobytes())
        counts["space"] = Space(**counts["space"])
        state = Search(**counts)
        for label in ("elite", "best"):
            if f"{label}.sides.lhs" in arrays:
                candidate = Candidate(*(arrays[f"{label}.candidate.{k}"] for k in Candidate._fields))
                sides = Check(*(arrays[f"{label}.sides.{k}"] for k in Check._fields))
                setattr(state, label, (candidate, sides))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not the state of a search ({error}); delete it or choose another --out") from None
    if (state.target, state.space, state.seed, state.lanes) != (target, space, seed, lanes):
        raise ValueError(
            f"{path} belongs to another search (--seed {state.seed} --lanes {state.lanes}); give these or another --out"
        )
    if state.code != code:
        raise ValueError(
            f"{path} was made by other code, {state.code or 'unknown'}, not {code}; delete it or give another --out"
        )
    return state


def best_instance(state: Search) -> dict[str, Any]:
    """The parts of `lane_files.document_of` and the bound of the best candidate."""
    assert state.best is not None
    # as many copies as there are lanes: no further compilation of the solver
    copies = jax.tree.map(lambda leaf: jnp.repeat(jnp.asarray(leaf), state.lanes, axis=0), state.best[0])
    space = _program(state.space)
    solved = _solver(space, targets.target(state.target).needs_first)(copies)
    return jax.tree.map(lambda leaf: leaf[0], _exported(state.target, space)(copies, solved))


@functools.lru_cache(maxsize=16)
def _exported(target: str, space: Space) -> Callable[[Candidate, Start], dict[str, Any]]:
    goal = targets.target(target)

    def parts(candidate: Candidate, start: Start) -> dict[str, Any]:
        e = candidates.instance(space, candidate, start)
        found, c = e.certificates, e.fraction if goal.part_of_step else jnp.ones(())
        if goal.part_of_step:
            found = {"projection": ga.certificates.projection(e.net, e.record.data, e.point, e.forget, c)}
        sides = bound_of(e, found[goal.bound[0]], goal.bound[1], c) if goal.bound else None
        return {
            "gram": e.problem.gram(), "problem": e.problem, "forget": e.forget, "point": e.point,
            "certificates": found, "first": start.first, "step_scale": c,
            "bound": sides,
        }  # fmt: skip

    return jax.jit(jax.vmap(parts))


def document(state: Search) -> dict[str, Any]:
    """The certificate document of the best instance, with the bound or inequality of its target."""
    assert state.best is not None
    e, goal, sides = best_instance(state), targets.target(state.target), state.best[1]
    if goal.bound is None:
        inequality = {"name": state.target, "lhs": sides.lhs[0], "rhs": sides.rhs[0], "solution": goal.needs_first}
        return lane_files.document_of(e, "projection", inequality=inequality)
    kind, strength = goal.bound
    bound = {"name": kind, "strength": strength} | {q: getattr(e["bound"], q) for q in ("epsilon", "delta", "tau")}
    return lane_files.document_of(e, kind, bound)
