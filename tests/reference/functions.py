"""Deep ReLU networks in NumPy loops, with gradients by hand, and what the theorems about functions say of them."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls


def forward(layers, x, pooled):
    """Score of one point (patches [P, p] if pooled, else [p]) and its pre-activations."""
    trace, a = [], x
    for l, w in enumerate(layers[:-1]):
        z = a @ w
        trace.append((a, z))
        a = np.maximum(z, 0)
        if pooled and l == 0:
            a = a.max(axis=0)
    return float(a @ layers[-1]), trace, a


def gradients(layers, x, pooled):
    """d score / d W_l for every layer, walked backwards one unit at a time."""
    _, trace, top = forward(layers, x, pooled)
    out = [None] * len(layers)
    out[-1] = top.copy()
    back = layers[-1].copy()
    for l in range(len(layers) - 2, -1, -1):
        a, z = trace[l]
        g = np.zeros_like(layers[l])
        below = np.zeros(layers[l].shape[0])
        for j in range(layers[l].shape[1]):
            if pooled and l == 0:
                at = int(np.argmax(z[:, j]))
                if z[at, j] > 0:
                    g[:, j] = back[j] * a[at]
            elif z[j] > 0:
                g[:, j] = back[j] * a
                below += back[j] * layers[l][:, j]
        out[l], back = g, below
    return out


def margins(layers, xs, y, pooled=False):
    return np.array([s * forward(layers, x, pooled)[0] for x, s in zip(xs, y, strict=True)])


def rescaled(layers, xs, y, kept, pooled=False):
    least = margins(layers, xs, y, pooled)[kept].min()
    return [w / least ** (1 / len(layers)) for w in layers]


def multipliers(layers, xs, y, pooled=False):
    columns = [
        np.concatenate([s * g.ravel() for g in gradients(layers, x, pooled)]) for x, s in zip(xs, y, strict=True)
    ]
    return nnls(np.array(columns).T, np.concatenate([w.ravel() for w in layers]))[0]


def residual(layers, xs, y, lam, pooled=False):
    """W_l - sum_i lambda_i y_i d score_i / d W_l, layer by layer."""
    out = [w.copy() for w in layers]
    for x, s, one in zip(xs, y, lam, strict=True):
        for l, g in enumerate(gradients(layers, x, pooled)):
            out[l] -= one * s * g
    return out


def projector(xs, kept, pooled=False):
    rows = np.concatenate([np.atleast_2d(xs[i]) for i in kept])
    return np.linalg.pinv(rows) @ rows


def scaled(layers, lam, xs, kept, x, pooled=False):
    """The network and the multipliers of Theorem S."""
    depth = len(layers)
    kappa = x ** (-(depth - 1) / (2 * depth))
    first = kappa * projector(xs, kept, pooled) @ layers[0]
    lam = np.array([kappa**2 * v if i in kept else 0.0 for i, v in enumerate(lam)])
    return [first, *(kappa * np.sqrt(x) * w for w in layers[1:])], lam


def size(layers):
    return np.sqrt(sum(np.sum(w**2) for w in layers))


def gap(layers, others):
    a, b = (np.concatenate([w.ravel() for w in v]) for v in (layers, others))
    return 0.5 * np.sum((a / np.linalg.norm(a) - b / np.linalg.norm(b)) ** 2)


def aligned(count, other, depth, pooled=False):
    """The exact KKT network of orthonormal points, one path a class: `count` points of the first class, then `other`
    ones; its points, labels and multipliers. Every layer of a class has the squared norm count^(1/L)."""
    xs, y = np.eye(count + other), np.repeat([1.0, -1.0], [count, other])
    widths = [count + other, *[2] * (depth - 1)]
    layers = [np.zeros((widths[l], 2)) for l in range(depth - 1)] + [np.zeros(2)]
    for c, (start, many) in enumerate(((0, count), (count, other))):
        a = many ** (1 / (2 * depth))
        layers[0][start : start + many, c] = a / np.sqrt(many)
        for w in layers[1:-1]:
            w[c, c] = a
        layers[-1][c] = (1, -1)[c] * a
    lam = np.repeat([v ** (-(depth - 1) / depth) for v in (count, other)], [count, other])
    if pooled:  # a second patch of zeros, which no maximum takes
        xs = np.stack([xs, np.zeros_like(xs)], axis=1)
    return layers, xs, y, lam
