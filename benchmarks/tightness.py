"""How tight are the bounds?  python -m benchmarks.tightness [--seconds S] [--samples N] [--out DIR]

For each bound and several (m, n, k): the worst ratio left/right over random instances (Gaussian points in the dimension
whose phi is typically the class's; Gram matrices uniform in the class) and the worst that the adversary finds, as the
Markdown table of docs/theory/tightness.md. Both kinds of samples take KKT points with random activation patterns, every
second one perturbed as the adversary may do it.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import gaunlearn_jax as ga
from gaunlearn_jax import sweep
from verify.attack import candidates, search, targets
from verify.attack.candidates import Space
from verify.run import devices

SPACES = (
    Space("linear", 10, k=1), Space("relu", 10, 40, 1), Space("linear", 10, k=3), Space("relu", 6, 8, 1),
    Space("relu", 6, 8, 2), Space("classes", 8, k=2),
)  # fmt: skip


def dimension(space: Space) -> float:
    """d at which the median of max |<x_i, x_j>| of Gaussian points is phi; that median times sqrt(d) is constant."""
    large = 1e12
    keys = jax.random.split(jax.random.key(1), 400)
    phi = jax.vmap(lambda key: ga.data.assumptions(ga.data.gaussian(key, space.m, large), space.network())[1])(keys)
    return float(large * (np.median(np.asarray(phi)) / space.phi) ** 2)


@functools.lru_cache(maxsize=8)
def sampler(space: Space, source: str, names: tuple[str, ...]) -> Any:
    """One lane of a sample: (key, dimension, choices) -> the ratio of every bound named."""

    def lane(key: Any, dim: Any, choices: dict[str, Any]) -> dict[str, Any]:
        labels, pattern, forget = choices["labels"], choices["pattern"], choices["forget"]
        if source == "gaussian":
            data = ga.data.gaussian(key, space.m, dim, labels)
        else:
            off, diagonal = (jnp.arctanh(jax.random.uniform(k, (space.m,) * r, minval=-1.0, maxval=1.0))
                             for r, k in zip((2, 1), jax.random.split(key), strict=True))  # fmt: skip
            candidate = candidates.Candidate(off, diagonal, None, None, None, labels, pattern, forget, 0.0)
            data = candidates.data_of(space, candidate)
        start = candidates.solve(space, any(targets.target(name).needs_first for name in names), data, pattern, forget)
        loose = candidates.LOOSE * choices["loose"]
        noise = (
            jax.random.normal(jax.random.fold_in(key, i), s) for i, s in enumerate(((space.n, space.m), (space.m,)))
        )
        fraction = 1 + jnp.tanh(jax.random.normal(jax.random.fold_in(key, 2)))
        e = candidates.evaluation(space, data, forget, start, *(loose * jnp.tanh(v) for v in noise), fraction)
        return {name: targets.ratio(targets.target(name).sides(e)) for name in names}

    return lane


def sampled(space: Space, source: str, names: tuple[str, ...], samples: int) -> dict[str, float]:
    """The worst ratio of each bound over random instances."""
    choices = candidates.random_choices(np.random.default_rng(2), space, samples)
    rng = np.random.default_rng(4)
    choices["loose"] = np.where(rng.random(samples) < 0.5, 0.0, 10 ** rng.uniform(-2, 0, samples))
    keys = jax.random.split(jax.random.key(3), samples)
    dims = np.full(samples, dimension(space))
    found = sweep.batched(sampler(space, source, names), keys, dims, choices)
    return {name: float(np.nanmax(values)) for name, values in found.items()}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=60.0, help="of search per bound, compilation included")
    options.add_argument("--samples", type=int, default=10_000)
    options.add_argument("--bound", default=None, help="one claim or bound, as in `gaunlearn falsify` (default: all)")
    options.add_argument("--size", default=None, metavar="M,N,K", help="one size (default: those of the page)")
    options.add_argument("--model", default=None, metavar="M", help="with --size (default: relu, of one neuron linear)")
    options.add_argument("--eps-d", type=float, default=1.0, metavar="E", help="with --size: 4 m n phi up to this")
    options.add_argument("--out", type=Path, default=None, help="keep the states of the searches; resumes")
    given = options.parse_args()
    devices.set_up_jax()
    print("| bound | m, n, k | Gaussian samples | Gram samples | adversary | against the better sample |")
    print("|---|---|---|---|---|---|")
    spaces = SPACES
    if given.size is not None:
        m, n, k = map(int, given.size.split(","))
        spaces = (Space(given.model or ("relu" if n > 1 else "linear"), m, n, k, given.eps_d),)
    wanted = tuple(targets.targets()) if given.bound is None else tuple(targets.select(given.bound))
    for space in spaces:
        names = tuple(name for name in targets.names_of(space.model) if name in wanted)
        random = [sampled(space, source, names, given.samples) for source in ("gaussian", "gram")]
        for name in names:
            state = search.search(name, space, seconds=given.seconds, folder=given.out)
            best = max(r[name] for r in random)
            times = f"{state.ratio / best:.2f}x" if best > 1e-6 else ""
            cells = [f"`{name}`", f"{space.m}, {space.n}, {space.k}", *(f"{r[name]:.3g}" for r in random)]
            note = " **violated**" if state.violated() else ""
            print("| " + " | ".join([*cells, f"{state.ratio:.6g}{note}", times]) + " |", flush=True)


if __name__ == "__main__":
    main()
