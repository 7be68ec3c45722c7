"""Which training schedule gives an approximate KKT point?  python -m benchmarks.schedules

For each schedule the share of lanes with epsilon_1, delta_1 <= 1/2 (the hypotheses of the worst-case theorems), the
median epsilon_1 and the cosine to the limit point: two-layer ReLU, m = 10, n = 40, 64 seeds per dimension.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import gaunlearn_jax as ga
from gaunlearn_jax import sweep
from gaunlearn_jax.training.train import default_schedule

DIMS, SEEDS, M, N = (1e4, 1e8, 1e12, 1e13), 64, 10, 40


def schedules() -> dict[str, tuple[int, float, optax.Schedule | None]]:
    """Name -> (steps, init scale, schedule in coefficient units; None: the default)."""
    peak = 0.5 * M

    def warm(steps: int) -> optax.Schedule:
        grow = optax.exponential_decay(peak * 1e-3, steps // 5, 1e3)
        return optax.join_schedules([grow, optax.constant_schedule(peak)], [steps // 5])

    return {
        "constant, 1500 steps": (1500, 1e-3, optax.constant_schedule(peak)),
        "constant / 10, 1500 steps": (1500, 1e-3, optax.constant_schedule(peak / 10)),
        "warm-up, 1500 steps": (1500, 1e-3, warm(1500)),
        "warm-up and cool-down, 500 steps (default)": (500, 1e-3, None),
        "warm-up and cool-down, 1500 steps": (1500, 1e-3, default_schedule(1500, peak, peak * 1e-3)),
        "warm-up and cool-down, 5000 steps": (5000, 1e-3, default_schedule(5000, peak, peak * 1e-3)),
        "default, init_scale 1e-1": (500, 1e-1, None),
        "default, init_scale 1": (500, 1.0, None),
    }


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    net = ga.models.TwoLayerReLU(N)
    table = Table("schedule", *(f"d = {d:g}" for d in DIMS), title="share with eps1, delta1 <= 1/2; median eps1; cos")
    for name, (steps, init, schedule) in schedules().items():
        optimizer = None if schedule is None else optax.sgd(schedule)

        def lane(key, dim, steps=steps, init=init, optimizer=optimizer):  # type: ignore[no-untyped-def]
            data = ga.data.gaussian(key, M, dim)
            run = ga.train.train(key, net, data, num_steps=steps, init_scale=init, optimizer=optimizer)
            fit = ga.kkt.fit_multipliers(net, data, run.params, run.preactivations, orthogonal_norm=run.orthogonal_norm)
            best = ga.kkt.limit_point(net, data, run)
            size = jnp.sqrt(jnp.sum(fit.params**2) + fit.orthogonal_norm**2)
            return fit.epsilon, fit.delta, jnp.sum(fit.params * best.params) / size / jnp.linalg.norm(best.params)

        cells = []
        for d in DIMS:
            keys = jax.random.split(jax.random.key(0), SEEDS)
            eps, delta, cos = sweep.batched(lane, keys, np.full(SEEDS, d))
            share = np.mean((eps <= 0.5) & (delta <= 0.5))
            cells.append(f"{share:.0%}  {np.median(eps):.1e}  {np.median(cos):.6f}")
        table.add_row(name, *cells)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
