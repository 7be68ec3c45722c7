"""The lanes of a phase diagram: an instance without training, and yes or no to every question."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import gaunlearn_jax as ga
from gaunlearn_jax import kkt, store, sweep
from gaunlearn_jax.base import draws, numerics
from gaunlearn_jax.base.codes import Status
from gaunlearn_jax.kkt import KKTPoint
from gaunlearn_jax.theory import bounds
from gaunlearn_jax.theory.closeness import certified_ball, programme_point
from gaunlearn_jax.theory.worthwhile import CLOSE, TIE, angle, certified, criterion, gap_ratio, parts
from verify.instances.records import Shape, lane_arguments
from verify.phase.plane import Place, Plane
from verify.run.compute import fill

#: columns of a lane: is it solved, does the step move it at all (the point carries the model), the questions (1, 0, NaN
#: where they have no answer: nothing is compared with a step that moves nothing), measured numbers
QUESTIONS = ("hypotheses", "sharp", "scale_free", "instance", "ball", "proved", "better", "hundredth", "criterion")
COLUMNS = ("solved", "moved", *QUESTIONS, "leverage", "ratio")
#: a hundredth of the gap of doing nothing
HUNDREDTH = 0.01
#: lanes per sealed part of the store
PART = 4096

Progress = Callable[[int, int], None]


@functools.lru_cache(maxsize=64)
def lane(shape: Shape) -> Callable[..., Array]:
    """The function (key, dim, parameters, k, step) -> [columns] of one lane.

    The network is the exact KKT point of the activation pattern of random initial weights: nothing is trained.
    """

    def run(key: Array, dim: Array, parameters: dict[str, Array], k: Array, step: Array) -> Array:
        net = shape.network()
        key_data, key_pattern, key_order = jax.random.split(jax.random.wrap_key_data(key, impl="threefry2x32"), 3)
        data = shape.draw(key_data, dim, parameters)
        problem = net.problem(data)
        initial = draws.normal(key_pattern, shape=(problem.num_neurons, data.points.shape[1]))
        slopes = kkt.starting_slopes(problem, problem.preactivations(initial))
        point = kkt.solve_pattern(problem, slopes, problem.constraints_of(jnp.ones(shape.m, bool)), kkt.MAX_REPEATS)
        order = draws.order(key_order, shape.m)
        forget = jnp.zeros(shape.m, bool).at[order].set(jnp.arange(shape.m) < k)
        star = programme_point(problem, point, forget)
        answers = _answers(net, data, problem, point, forget, star, step)
        good = (data.status == Status.OK) & (point.status == Status.OK) & (star.status == Status.OK)
        values = jnp.stack([jnp.asarray(answers[name], jnp.float64) for name in COLUMNS[1:]])
        return jnp.concatenate([jnp.asarray(good, jnp.float64)[None], jnp.where(good, values, jnp.nan)])

    return run


def _answers(
    net: Any, data: Any, problem: Any, point: KKTPoint, forget: Array, star: KKTPoint, step: Array
) -> dict[str, Any]:
    """Every question of one instance."""
    psi, phi, eps_d = ga.data.assumptions(data, net)
    near = ga.certificates.projection(net, data, point, forget, step)
    p = parts(problem, point, forget)
    h, _ = ga.unlearn.ascent_direction(problem, point, forget)
    hat = point.params - step * h
    ball = certified_ball(problem, near, forget)
    gaps = [angle(w, star.params) for w in (hat, point.params)]
    ratio = gap_ratio(*gaps)
    floor = bounds.norm_floor(net, data, forget, star)

    def discriminates(bound: Any, speaks: Any) -> Array:
        gap = bounds.identity_gap(net, data, point, forget, bound.epsilon, floor)
        return speaks & (gap > bound.tau) & (bound.epsilon < near.norm) & (bound.tau < 2)

    def if_moved(answer: Any) -> Array:
        return jnp.where(moved, answer, jnp.nan)

    measured = bounds.outward(point, near)
    whole = step == 1
    untouched = bounds.identity_gap(net, data, point, forget, jnp.zeros(()), floor)
    moved = numerics.norm(h) > 0
    out = {
        "hypotheses": (psi <= bounds.PSI_MAX) & (eps_d <= bounds.EPS_D_MAX),
        "sharp": jnp.asarray(False),
        "scale_free": jnp.asarray(False),
        "instance": discriminates(bounds.instance(net, data, point, forget, near, step), True),
        "ball": untouched > ball.gap(hat),
        "moved": moved,
        "proved": if_moved(certified(p._replace(hat=numerics.norm(hat)), ball, hat)),
        "better": if_moved(gaps[0] < gaps[1] - TIE),
        "hundredth": if_moved(ratio <= HUNDREDTH),
        "criterion": jnp.asarray(jnp.nan),
        "leverage": p.leverage,
        "ratio": if_moved(ratio),
    }
    if problem.layout is None:
        free = bounds.scale_free(problem, forget, *measured)
        out["scale_free"] = discriminates(free, whole & free.applicable)
        found = criterion(problem, point, forget, star.params)
        same = whole & moved & (found.miss <= CLOSE * p.theta)
        out["criterion"] = jnp.where(same, found.step < found.nothing, jnp.nan)
        if problem.slope in (0.0, 1.0):
            sizes = {"m": data.num_points, "k": jnp.sum(forget)}
            sharp = bounds.worst_case(problem, "projection", "sharp", psi, phi, *measured, **sizes)
            out["sharp"] = discriminates(sharp, whole & sharp.applicable)
    return out


def compute(
    plane: Plane, folder: Path | None, environment: dict[str, Any], progress: Progress | None = None
) -> np.ndarray:
    """The columns of all lanes, [y, x, seeds, columns]; with a folder, parts that are there are not computed again."""
    places = plane.places()
    out = np.full((len(places), plane.seeds, len(COLUMNS)), np.nan)
    groups: dict[Shape, list[int]] = {}
    for number, place in enumerate(places):
        groups.setdefault(place.shape, []).append(number)
    done, total = 0, len(places) * plane.seeds
    for shape, numbers in groups.items():
        before = done

        def report(count: int, before: int = before) -> None:
            if progress is not None:
                progress(before + count, total)

        report(0)
        table = _of_shape(plane, shape, [places[i] for i in numbers], folder, environment, report)
        out[numbers] = table.reshape(len(numbers), plane.seeds, len(COLUMNS))
        done += len(numbers) * plane.seeds
    return out.reshape(len(plane.y.values), len(plane.x.values), plane.seeds, len(COLUMNS))


def _of_shape(
    plane: Plane, shape: Shape, places: list[Place], folder: Path | None, environment: dict[str, Any],
    report: Callable[[int], None],
) -> np.ndarray:  # fmt: skip
    arguments = _arguments(plane, shape, places)
    lanes = len(places) * plane.seeds

    def rows(start: int, stop: int, before: int) -> np.ndarray:
        part = jax.tree.map(lambda v: v[start:stop], arguments)
        size = sweep.chunk_size(lanes, None, shape.entries)
        found = sweep.batched(lane(shape), *part, chunk=size, progress=lambda n, _: report(before + n))
        return np.asarray(found, np.float64)

    if folder is None:
        return rows(0, lanes, 0)
    name = f"{shape.model}-m{shape.m}-n{shape.n}".replace(":", "-").replace("=", "")
    record = {"phase": 2, "plane": plane.as_json(), "shape": [shape.model, shape.m, shape.n]}
    split = [list(part) for part in store.split_lanes(lanes, PART)]
    batch = sweep.chunk_size(lanes, None, shape.entries)
    code = environment.get("code")
    with store.create_or_resume(folder / name, record, COLUMNS, split, environment, batch, code_version=code) as opened:
        fill(opened, rows, report)
    loaded = store.load(folder / name)
    return np.asarray(loaded.table).T


def _arguments(plane: Plane, shape: Shape, places: list[Place]) -> tuple[Any, ...]:
    drawn = lane_arguments(shape, [place.cell for place in places], range(plane.seeds)).arguments()
    each = (np.repeat(np.asarray(v, float), plane.seeds) for v in zip(*((p.k, p.step) for p in places), strict=True))
    return *drawn, *each
