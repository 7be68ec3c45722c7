"""What layer-wise ascent steps leave, by architecture: `python examples/network_steps.py` (the table of
docs/howto/network.md; a minute).

Networks of bare arrays are trained on a sphere with a growing temperature, since plain descent on the loss explodes
beyond two layers, and audited for one point of eight. The reference is the same network trained on without it.
"""

import argparse
import functools

import jax
import jax.numpy as jnp

import gaunlearn_jax as ga

POINTS, WIDTH, PATCHES = 8, 32, 3
STEPS = ("nothing", "full", "half", "first layer", "closed form")


def mlp(params, x):
    """A fully connected ReLU network of one output: x [m, d], layers [d, n], [n, n], .., [n]."""
    for w in params[:-1]:
        x = jax.nn.relu(x @ w)
    return x @ params[-1]


def convolution(params, x):
    """Filters on patches x [m, P, p], a maximum over the patches, a hidden layer, one output."""
    return mlp(params[1:], jnp.max(jax.nn.relu(x @ params[0]), axis=1))


@functools.partial(jax.jit, static_argnames=("apply", "rounds"))
def trained(apply, params, x, y, rounds=6000):
    """The direction of largest margin near the initial one: descent on log sum exp(-t q) over a sphere, the temperature
    t growing to 1e6, in steps as long as its curvature allows."""
    size = len(params) ** 0.5

    def on_sphere(params):
        norm = sum(jnp.sum(w**2) for w in params) ** 0.5
        return [w * size / norm for w in params]

    def step(params, t):
        slope = jax.grad(lambda v: jax.nn.logsumexp(-t * y * apply(on_sphere(v), x)) / t)(params)
        length = sum(jnp.sum(g**2) for g in slope)
        return on_sphere([w - g / (1 + t * length) for w, g in zip(params, slope, strict=True)]), None

    return jax.lax.scan(step, on_sphere(params), jnp.logspace(1.0, 6, rounds))[0]


def initial(key, *shapes):
    """Gaussian layers of equal size."""
    keys = jax.random.split(key, len(shapes))
    made = [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]
    return [w / jnp.linalg.norm(w) for w in made]


def networks(dim):
    """(name, apply, points, shapes of the layers) of every row of the table; points in dimension `dim`."""
    x = ga.data.gaussian(jax.random.key(0), POINTS, dim).points
    patches = ga.data.gaussian(jax.random.key(1), POINTS * PATCHES, dim).points.reshape(POINTS, PATCHES, -1)
    for depth in (2, 3, 4):
        yield f"MLP, L = {depth}", mlp, x, [(x.shape[1], WIDTH), *[(WIDTH, WIDTH)] * (depth - 2), (WIDTH,)]
    yield "max-pooled conv, L = 3", convolution, patches, [(patches.shape[2], WIDTH), (WIDTH, WIDTH), (WIDTH,)]


def audited(apply, x, shapes, seed):
    """The answer about point 1 of a network trained from this seed."""
    y = jnp.where(jnp.arange(len(x)) % 2 == 0, 1.0, -1.0)
    params = trained(apply, initial(jax.random.key(seed), *shapes), x, y)
    known = {"patches": x if x.ndim == 3 else None, "lipschitz": 1.0}
    return ga.homogeneous(
        apply, params, x, y, [1], train=lambda x, y: trained(apply, params, x, jnp.asarray(y)), **known
    )


def row(name, a):
    """A network's line of the table: gaps to the network trained on, and the shares of them that are proved."""
    gaps = {step: a.steps[step].gap_retrained for step in STEPS}
    left = (f"{gaps[step] / gaps['nothing']:.3f}" for step in STEPS[1:])
    least = (f"{a.steps[step].least / gaps[step]:.2f}" for step in ("nothing", "full"))
    return [name, f"{a.epsilon / a.norm:.0e}", f"{gaps['nothing']:.4f}", *left, *least, f"{a.fraction:.3f}"]


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dim", type=float, default=1e8, help="dimension of the points (patches)")
    parser.add_argument("--seeds", type=int, default=2, help="networks of each kind")
    options = parser.parse_args()
    head = ["network", "epsilon_1/norm", *STEPS, "excluded: nothing", "excluded: full", "c*"]
    print("|", " | ".join(head), "|")
    print("|---" * len(head) + "|")
    for name, apply, x, shapes in networks(options.dim):
        for seed in range(options.seeds):
            print("|", " | ".join(row(name, audited(apply, x, shapes, seed))), "|", flush=True)


if __name__ == "__main__":
    main()
