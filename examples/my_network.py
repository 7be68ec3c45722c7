"""A network of one's own for `gaunlearn audit DATA --network examples/my_network.py:make`: here a small ReLU network
without biases, trained on the spot; a trained one would be read from its file."""

import jax
import jax.numpy as jnp


def apply(params, x):
    """Scores [m] of points x [m, d]: three layers, homogeneous in each."""
    hidden = jax.nn.relu(jax.nn.relu(x @ params["in"]) @ params["middle"])
    return hidden @ params["out"]


def make(points, labels):
    """What `ga.homogeneous` takes beside the data and the points to forget."""
    d, n = points.shape[1], 16
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = {"in": (d, n), "middle": (n, n), "out": (n,)}
    params = {name: jax.random.normal(k, s) / s[0] ** 0.5 for k, (name, s) in zip(keys, shapes.items(), strict=True)}
    y = jnp.where(labels == labels.max(), 1.0, -1.0)

    @jax.jit
    def trained(params):
        def loss(params, t):
            size = sum(jnp.sum(w**2) for w in jax.tree.leaves(params)) ** 0.5
            unit = jax.tree.map(lambda w: w * 3**0.5 / size, params)
            return jax.nn.logsumexp(-t * y * apply(unit, points)) / t

        def step(params, t):
            slope = jax.grad(loss)(params, t)
            length = sum(jnp.sum(g**2) for g in jax.tree.leaves(slope))
            return jax.tree.map(lambda w, g: w - g / (1 + t * length), params, slope), None

        return jax.lax.scan(step, params, jnp.logspace(1, 5, 4000))[0]

    return {"apply": apply, "params": trained(params), "first": "in", "lipschitz": 1.0}
