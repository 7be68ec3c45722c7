"""Documents of format 2 for any slope and layout: feasible points in plain NumPy, with kinks where one is asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from exact_documents import OUT, Array, gram, norm, one_minus_cos
from reference.exact_fractions import stated

from gaunlearn_jax.models.problem import Layout, MarginProblem
from verify.certify import documents

#: two patches a point and one constraint, the sum of both: a filter bank with sum or average pooling
POOLED = Layout(tuple(range(6)), (0, 0, 1, 1, 2, 2), (0, 0, 1, 1, 2, 2), (0, 1, 2))
#: one row a point and three constraints of one entry each, as for four classes
OWNER = (0, 0, 0, 1, 1, 1, 2, 2, 2)
CLASSES = Layout(OWNER, tuple(range(9)), (0, 1, 2), OWNER)
#: three points of two rows, two constraints and four entries each: every pair of a row and a constraint of a point
TWO_BY_TWO = Layout(
    row=(0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5),
    constraint=(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5),
    point_of_row=(0, 0, 1, 1, 2, 2),
    point_of_constraint=(0, 0, 1, 1, 2, 2),
)


#: e_y - e_c for the points of CLASSES, of the classes 0, 1 and 2, and all other classes c: a linear model
HEAD = np.array([np.eye(4)[y] - np.eye(4)[c] for y in range(3) for c in range(4) if c != y]).T


class Numbers:
    """A problem as arrays: row and owner (constraint) of each entry, the point of each row and of each constraint."""

    def __init__(self, k: Array, v: Array, slope: float, layout: Layout | None) -> None:
        self.k, self.v, self.slope, self.layout = k, v, slope, layout
        one = tuple(range(len(k)))
        self.row, self.owner, self.point_of_row, self.point = map(np.array, layout or Layout(one, one, one, one))

    def sigma(self, z: Array) -> Array:
        return np.maximum(z, self.slope * z)

    def margins(self, z: Array) -> Array:
        return np.bincount(self.owner, (self.v * self.sigma(z[:, self.row])).sum(0))

    def q(self, lam: Array, s: Array) -> Array:
        out = np.zeros((len(self.v), len(self.k)))
        for e, r in enumerate(self.row):
            out[:, r] += self.v[:, e] * lam[self.owner[e]] * s[:, e]
        return out

    def slopes(self, z: Array) -> Array:
        return np.where(z[:, self.row] > 0, 1.0, self.slope)

    def kkt(self, kept: Array) -> tuple[Array, Array]:
        """(Z, lambda) with q = 1 on the kept constraints, by repeating the pattern of signs; not always a KKT point."""
        lam = kept.astype(float)
        for _ in range(30):
            s = self.slopes(self.q(lam, np.where(self.v > 0, 1.0, self.slope)) @ self.k)
            columns = [self.q(one, s) @ self.k for one in np.eye(kept.size)[kept]]
            each = [np.bincount(self.owner, (self.v * s * z[:, self.row]).sum(0))[kept] for z in columns]
            lam = np.zeros(kept.size)
            lam[kept] = np.maximum(np.linalg.solve(np.array(each).T, np.ones(kept.sum())), 1e-3)
        return self.q(lam, s) @ self.k, lam

    def measure(self, z: Array, lam: Array, s: Array, kept: Array) -> tuple[float, float]:
        """(epsilon, delta)."""
        slack = lam * (self.margins(z) - 1)
        return norm(self.k, z - self.q(lam, s) @ self.k), max(0.0, float(slack[kept].max()))


def margin_document(
    seed: int,
    slope: float,
    layout: Layout | None = None,
    *,
    kind: str = "projection",
    bounded: bool = True,
    strength: str = "instance",
    n: int = 4,
    m: int = 4,
    size: float = 0.02,
    kinks: float = 0.15,
    step: float = 1.0,
    loose: float = 0.05,
    u: Array | None = None,
    amplitudes: Array | None = None,
) -> dict[str, Any]:
    """A true certificate document of a feasible point; `kinks` is the share of pre-activations that are zero, `loose`
    how far the others are from those of an (almost) exact KKT point. `u` are the weights of a single output,
    `amplitudes` all v."""
    rng = np.random.default_rng(seed)
    rows = m if layout is None else len(layout.point_of_row)
    entries = m if layout is None else len(layout.row)
    # a fixed sign for each neuron and point in the first half, so that every point has neurons that help it
    v = rng.normal(size=(n, entries)) / np.sqrt(n)
    v[: n // 2] = np.abs(v[: n // 2])
    v = v if u is None else u[:, None] * np.where(np.arange(m) % 2 == 0, 1.0, -1.0)
    v = v if amplitudes is None else amplitudes
    x = Numbers(gram(rng, rows, size), v, slope, layout)
    everyone = np.ones(x.point.size, bool)
    z, lam = x.kkt(everyone)
    z = z * (1 + loose * rng.random(z.shape))
    zero = rng.random(z.shape) < kinks
    zero[0] = False
    z[zero] = 0.0
    assert x.margins(z).min() > 0, "another seed"
    z = z * (OUT / x.margins(z).min())
    s = np.where(z[:, x.row] == 0, rng.uniform(slope, 1, v.shape), x.slopes(z))
    gone, left = x.point == 0, x.point != 0
    point = _point(x, z, lam, s, everyone)
    certificate = _certificate(x, kind, step, z, lam, s, gone, left)
    bound = {"name": kind, "strength": strength, "epsilon": 0.0, "delta": 0.0, "tau": 0.0} if bounded else None
    problem: Any = MarginProblem(x.k, v, np.zeros(x.point.size, int), 1, slope, layout)  # type: ignore[arg-type]
    out = documents.build(x.k, problem, [0], point, certificate, step_scale=step, bound=bound)
    if bounded:
        out["bound"].update(stated(out))
    return out


def _point(x: Numbers, z: Array, lam: Array, s: Array, kept: Array) -> SimpleNamespace:
    epsilon, delta = x.measure(z, lam, s, kept)
    return SimpleNamespace(
        preactivations=z, multipliers=lam, selection=s, epsilon=epsilon, delta=delta, orthogonal_norm=0.0
    )


def _certificate(
    x: Numbers, kind: str, step: float, z: Array, lam: Array, s: Array, gone: Array, left: Array
) -> SimpleNamespace:
    """theta~ with its multipliers: projection, span, retrain (a feasible point made anew) or scaling."""
    rows = x.point_of_row != 0
    h = x.q(np.where(gone, lam, 0.0), s) @ x.k
    map_of = np.linalg.solve(x.k[np.ix_(rows, rows)], x.k[rows])
    own, mine, chosen = z - step * (h - h[:, rows] @ map_of), np.where(gone, 0.0, lam), s
    own[:, rows] = z[:, rows]
    after = z - step * h
    if kind == "span":
        own = z[:, rows] @ map_of
        own[:, rows] = z[:, rows]
    elif kind == "retrain":
        own, mine = x.kkt(left)
        own = own * (OUT / x.margins(own)[left].min())
        chosen = x.slopes(own)
    elif kind == "scaling":
        factor = OUT / min(1.0, x.margins(after)[left].min())
        own, mine = after * factor, mine * factor
    out = _point(x, own, mine, chosen, left)
    out.kind, out.tau = kind, one_minus_cos(x.k, own, after - own)
    return out
