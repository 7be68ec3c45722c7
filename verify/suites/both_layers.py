"""Networks with both layers trained: every step leaves a gap, which is known for orthogonal points.

Each lane has two networks on its points, one with the pattern of a trained network and one that is active on whole
classes, and on orthogonal points with labels of their own the closed forms and Theorem N. One point is forgotten.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gaunlearn_jax import both_layers as bl
from gaunlearn_jax.base import draws, numerics
from gaunlearn_jax.base.codes import Reason, Status
from gaunlearn_jax.both_layers import Point, Weights
from gaunlearn_jax.data import Dataset
from verify.instances.records import Record, Shape, forget_set
from verify.suites.check import check, exactness, worst
from verify.suites.drawing import STYLES
from verify.suites.finding import NOTHING, Explanation, Finding, found, middle, view
from verify.suites.suite import Results, Suite, Table, unless

#: random patterns that Theorem N is tried on, beside the uniform one
STARTS = 2
PATTERNS = ("trained", "uniform")
NAMES = bl.STEPS.names
#: the steps from the nearest to the farthest, for orthogonal points and uniform patterns
ORDER = ("nearest", "half", "first", "full", "nothing")
#: limits of the groups of networks by the share of mass whose neurons die
DIED = (-1.0, 1e-9, 0.1, 0.3, 1.0)


class Scene(NamedTuple):
    """A network, its certificates, and the outcomes of all steps stacked in the order of NAMES."""

    point: Point
    certificates: dict[str, Point]
    after: Weights

    @property
    def gaps(self) -> Array:
        """1 - cos between each outcome and the retrained point."""
        return gaps_to(self.after, self.certificates["retrained"].weights)


def gaps_to(after: Weights, other: Weights) -> Array:
    """1 - cos between each of stacked networks and one other."""
    return jax.vmap(bl.gap, (0, None))(after, other)


def gap_error(gap: Array) -> Array:
    """What rounding can do to a gap: each direction is off by `exactness`."""
    return 2 * jnp.sqrt(2 * gap) * exactness() + exactness() ** 2


def each(of: Callable[[Point], Results], points: dict[str, Point], spelled: str) -> Results:
    """What `of` says of several points, traced once; a name's first part is spelled from itself and the point's key."""
    stacked = jax.vmap(of)(jax.tree.map(lambda *leaves: jnp.stack(leaves), *points.values()))
    out: Results = {}
    for at, key in enumerate(points):
        for name, value in stacked.items():
            kind, slash, rest = name.partition("/")
            out[spelled.format(name=kind, key=key) + slash + rest] = jax.tree.map(lambda v, at=at: v[at], value)
    return out


def outcomes(data: Dataset, point: Point, forget: Array) -> Weights:
    """theta_hat of every step, stacked."""
    each = [bl.unlearned(name, data, point, forget) for name in NAMES]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)


def scene_of(data: Dataset, point: Point, forget: Array) -> Scene:
    made = {name: make(data, point, forget) for name, make in bl.certificates.ALL.items()}
    return Scene(point, made, outcomes(data, point, forget))


def uniform(data: Dataset, signs: Array, valid: Array) -> Point:
    """The KKT point whose neurons are active on their whole class."""
    active = jnp.ones((signs.shape[0], data.num_points), bool)
    return bl.solve_pattern(data, signs, active, valid, jnp.ones(signs.shape[0]))


def solved(*points: Point) -> Array:
    """Whether all of them are."""
    return jnp.all(jnp.stack([p.status == int(Status.OK) for p in points]))


def between(data: Dataset, forget: Array, scene: Scene) -> Results:
    """Lower bounds on the angle to every nearly-KKT point of T against those that are exhibited."""

    def of(made: Point) -> Results:
        bounds = jax.vmap(lambda theta: bl.bounds.lower_bounds(data, theta, ~forget, made.epsilon + made.error))
        tau = gaps_to(scene.after, made.weights)
        possible = made.status != int(Status.INFEASIBLE)
        reason, good = unless(possible, Reason.UNDEFINED), solved(scene.point) & (~possible | solved(made))
        sides = {
            name: worst(bound, tau + gap_error(tau), jnp.zeros(()), jnp.ones(len(NAMES), bool))
            for name, bound in bounds(scene.after)._asdict().items()
        }
        return {f"lower/{name}": check(*side, reason=reason, converged=good) for name, side in sides.items()}

    return each(of, scene.certificates, "{key}/{name}")


def formulas(data: Dataset, forget: Array, scene: Scene) -> Results:
    """epsilon of the two certificates, from h alone."""
    point, one, two = scene.point, scene.certificates["projection"], scene.certificates["class_wise"]
    h_w, _, h_a = bl.ascent(data, point, forget)
    inside = numerics.project(h_w, numerics.orthonormal_basis(data.points, ~forget))
    by_class = bl.certificates.class_wise_formula(data, point, forget)
    # rounding, and the residual of theta itself, which the smaller class factors magnify
    slip = 2 * (point.epsilon + point.error) + exactness() * point.weights.norm
    stretch = jnp.min(jnp.where(by_class.kept > 0, by_class.kept, 1.0)) ** -0.75
    return {
        "projection/exact/epsilon": check(
            jnp.abs(one.epsilon - numerics.norm(inside, numerics.norm(h_a))), slip + one.error,
            converged=solved(point, one),
        ),
        "class_wise/exact/epsilon": check(
            jnp.abs(two.epsilon - by_class.epsilon), stretch * (slip + two.error),
            reason=unless(by_class.applies, Reason.DATA), converged=solved(point),
        ),
    }  # fmt: skip


def of_points(data: Dataset, forget: Array, scene: Scene) -> Results:
    """What is said of one network on the points of the lane."""
    retrained = scene.certificates["retrained"]
    made = {f"epsilon_{kind}": one.epsilon / scene.point.weights.norm for kind, one in scene.certificates.items()}
    return (
        between(data, forget, scene)
        | formulas(data, forget, scene)
        | made
        | {"gaps": scene.gaps, "dead": bl.dead_mass(scene.point, retrained), "solved": solved(scene.point, retrained)}
    )


def orthogonal(data: Dataset, signs: Array, forget: Array, key: Array) -> Results:
    """The closed forms and Theorem N, on orthogonal points with labels drawn from `key`."""
    m, n = data.num_points, signs.shape[0]
    one, two = jax.random.split(key)
    labels = jnp.where(draws.coins(one, shape=(m,)), 1.0, -1.0)
    data = dataclasses.replace(data, points=jnp.eye(m, data.points.shape[1]), labels=labels)
    point = uniform(data, signs, jnp.ones(m, bool))
    retrained = uniform(data, signs, ~forget)
    after = outcomes(data, point, forget)
    sizes = bl.orthogonal.sizes_of(labels, forget)
    classes = sizes.classes
    fractions = [(bl.STEPS[name].first, bl.STEPS[name].second(classes)) for name in NAMES]
    closed = jnp.stack([bl.orthogonal.gap(sizes, *step) for step in fractions])
    least = jnp.stack([bl.orthogonal.floor(sizes, *step) for step in fractions])
    gaps = gaps_to(after, retrained.weights)
    starts = draws.coins(two, shape=(STARTS, n, m))
    others = jax.vmap(lambda active: bl.solve_pattern(data, signs, active, ~forget, jnp.ones(n)))(starts)
    reached = others.status == int(Status.OK)
    to_others = jax.vmap(lambda other: gaps_to(after, other))(others.weights)
    ranked = jnp.stack([gaps[NAMES.index(name)] for name in ORDER])
    some, everywhere, none = jnp.all(sizes.kept > 0), jnp.ones(len(NAMES), bool), jnp.zeros(())
    common: dict[str, Any] = {"reason": unless(some, Reason.DATA), "converged": solved(point, retrained)}
    nearest = jnp.concatenate([gaps[None], jnp.where(reached[:, None], to_others, 2.0)])
    return {
        "orthogonal/exact/gap": check(
            *worst(jnp.abs(gaps - closed), gap_error(closed), none, everywhere), **common
        ),
        "orthogonal/exact/order": check(
            *worst(ranked[:-1], ranked[1:] + gap_error(ranked[1:]), none, everywhere[1:]), **common
        ),
        "orthogonal/lower/gap": check(
            *worst(least[None], nearest + gap_error(nearest), none, everywhere[None]), **common
        ),
        "closed": closed,
        "class_size": jnp.sum(labels == labels[jnp.argmax(forget)]) * 1.0,
    }  # fmt: skip


def per_instance(net: Any, record: Record, shape: Shape) -> Results:
    data, forget = record.data, forget_set(record, 1)
    key_train, key_other = jax.random.split(jax.random.wrap_key_data(record.key, impl="threefry2x32"))
    run = bl.train(key_train, data, net.num_neurons, loss=shape.loss)
    signs = jnp.sign(run.weights.output_weights)
    points = (bl.limit_point(data, run), uniform(data, signs, jnp.ones(data.num_points, bool)))
    seen = each(
        lambda point: of_points(data, forget, scene_of(data, point, forget)),
        dict(zip(PATTERNS, points, strict=True)), "{name}_{key}",
    )  # fmt: skip
    return seen | orthogonal(data, signs, forget, key_other)


def _gaps(block: Any, pattern: str, d: float | None = None) -> np.ndarray:
    """Gaps [lanes, steps] of solved lanes, of a dimension or all."""
    results = block.results[SUITE.name]
    good = np.asarray(results[f"solved_{pattern}"]).astype(bool)
    return np.asarray(results[f"gaps_{pattern}"])[good if d is None else good & (np.asarray(block.d) == d)]


def _left(block: Any, d: float) -> np.ndarray:
    """Gaps over that of doing nothing [lanes, steps] of solved lanes of trained patterns."""
    gaps = _gaps(block, "trained", d)
    return gaps / gaps[:, [NAMES.index("nothing")]]


def _died(block: Any, d: float) -> np.ndarray:
    """The share of mass on neurons that die in the retrained network, of the same lanes."""
    results = block.results[SUITE.name]
    here = np.asarray(results["solved_trained"]).astype(bool) & (np.asarray(block.d) == d)
    return np.asarray(results["dead_trained"])[here]


def tables(blocks: list[Any], grid: Any) -> tuple[Table, ...]:
    """What each step leaves of the gap of doing nothing, by dimension."""
    rows = []
    for block in blocks:
        for d in sorted({float(v) for v in block.d}):
            left, dead = _left(block, d), _died(block, d) > DIED[1]
            for word, here in (("none dies", ~dead), ("some die", dead)):
                if np.any(here):
                    size = f"m = {block.shape.m}, n = {block.shape.n}, d = {d:.0e}"
                    nothing = middle(_gaps(block, "trained", d)[here, NAMES.index("nothing")])
                    steps = [f"{v:.2g}" for v in np.median(left[here], axis=0)[1:]]
                    rows.append([size, word, str(np.sum(here)), f"{nothing:.2e}", *steps])
    heads = ["networks", "neurons in retraining", "how many", "gap of nothing", *NAMES[1:]]
    title = "gap to the retrained network over that of nothing, medians over trained patterns of both layers"
    return (Table(title, heads, rows),)


def draw(figure: Any, blocks: list[Any], grid: Any) -> None:
    """Median gaps of all steps: against the dimension, and by the mass of neurons that die in the retrained network."""
    left, right = figure.subplots(1, 2)
    block = max(blocks, key=lambda b: (b.shape.n, b.shape.m))
    dims = sorted({float(v) for v in block.d})
    for number, name in enumerate(NAMES):
        heights = [middle(_gaps(block, "trained", d)[:, number]) for d in dims]
        left.plot(dims, heights, label=name, markersize=4, **STYLES[number % len(STYLES)])
    results = block.results[SUITE.name]
    mass = np.asarray(results["dead_trained"])[np.asarray(results["solved_trained"]).astype(bool)]
    gaps = _gaps(block, "trained")
    for number in range(len(NAMES)):
        heights = [middle(gaps[(mass > low) & (mass <= high), number]) for low, high in itertools.pairwise(DIED)]
        right.plot(range(len(heights)), heights, markersize=4, **STYLES[number % len(STYLES)])
    left.set(xscale="log", yscale="log", xlabel="dimension $d$", ylabel="gap to the retrained network")
    right.set(yscale="log", xlabel="mass of the neurons that die in it", ylabel="gap to the retrained network")
    right.set_xticks(range(len(DIED) - 1), ["none", *(f"up to {share:.0%}" for share in DIED[2:])])
    for ax in (left, right):
        ax.grid(alpha=0.25)
    left.legend(fontsize=7, loc=(0.02, 0.6))
    figure.suptitle(f"both layers trained, m = {block.shape.m}, n = {block.shape.n}, one point forgotten", fontsize=9)


def find(blocks: list[Any], grid: Any) -> Finding:
    """What the steps leave in the highest dimension, and where neurons of the retrained network die."""
    seen = view(blocks, SUITE.name)
    if not seen.dims:
        return NOTHING
    ratios, mass = {d: _left(seen.block, d) for d in seen.dims}, {d: _died(seen.block, d) for d in seen.dims}
    left = {name: middle(ratios[seen.top][:, number]) for number, name in enumerate(NAMES)}
    dead = np.concatenate([mass[d] > DIED[1] for d in seen.dims])
    every = np.concatenate([ratios[d][:, NAMES.index("half")] for d in seen.dims])
    died = float(np.mean(dead)) if dead.size else 0.0
    return found(
        "of doing nothing's gap a full step leaves {full}, one on the first layer {first}, half of it on the second "
        "{half}, the best {nearest} (d = {top:d})",
        "in {died:%} neurons die in retraining, and the half step leaves {half_dead}" if died else "",
        top=seen.top, died=died, half_dead=middle(every[dead]), **{name: left[name] for name in NAMES[1:]},
    )  # fmt: skip


SUITE = Suite(
    name="both_layers",
    statement="with both layers trained no nearly exact solution is nearer to a step than the lower bounds allow",
    source="docs/theory, Orthogonal points; Lower bounds for both layers",
    per_instance=per_instance,
    draw=draw,
    tables=tables,
    models=("relu",),
    theorem="N",
    thetas=("limit",),
    find=find,
    default=False,
    explain=Explanation(
        hypotheses="a two-layer ReLU network with both layers trained, an exact KKT point of its margin problem. "
        "Closed forms and Theorem N: orthogonal points, every neuron active on its whole class, of which a point stays",
        meaning="the second layer's part of a step does not vanish with d. For orthogonal points a full step leaves "
        "a gap of order 1/M^2, the first layer alone less, and no exact solution for the retained points is nearer",
        false_if="a certificate nearer than a lower bound; another gap than the closed form; an exact solution nearer "
        "than Theorem N allows",
    ),
)
