"""A linear model with several classes once more: loops, dense constraint matrices, Lawson and Hanson's programme.

Points X [m, d], labels y [m] in 0 .. C-1, weights W [C, d], multipliers lam [m, C].
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from scipy.optimize import nnls

from reference.limit import least_distance


def constraints(y, C):
    """All (i, c) with c != y_i, in order."""
    return [(i, c) for i in range(len(y)) for c in range(C) if c != y[i]]


def row(X, y, C, i, c):
    """G_(i,c) = (e_y - e_c) x_i^T as a matrix."""
    out = np.zeros((C, X.shape[1]))
    out[y[i]] += X[i]
    out[c] -= X[i]
    return out


def rows(X, y, C):
    """Every G_a flattened, [m (C-1), C d]."""
    return np.array([row(X, y, C, i, c).ravel() for i, c in constraints(y, C)])


def margins(X, y, W):
    """q_ic by sums of products; infinity at the own class."""
    q = np.full((len(y), len(W)), np.inf)
    for i, c in constraints(y, len(W)):
        q[i, c] = math.fsum(W[y[i]] * X[i]) - math.fsum(W[c] * X[i])
    return q


def combination(X, y, lam):
    """sum_a lambda_a G_a."""
    out = np.zeros((lam.shape[1], X.shape[1]))
    for i, c in constraints(y, lam.shape[1]):
        out += lam[i, c] * row(X, y, lam.shape[1], i, c)
    return out


def hard_margin(X, y, C, keep=None):
    """(W, lam) of min ||W||, margins >= 1, by one nonnegative least-squares problem on all constraints."""
    index = np.arange(len(y)) if keep is None else np.flatnonzero(keep)
    w, found = least_distance(rows(X[index], y[index], C))
    lam = np.zeros((len(y), C))
    for (i, c), value in zip(constraints(y[index], C), found, strict=True):
        lam[index[i], c] = value
    return w.reshape(C, -1), lam


def fit(X, y, W):
    """Least ||W - sum lambda_a G_a|| over lambda >= 0."""
    return nnls(rows(X, y, len(W)).T, W.ravel(), maxiter=100 * len(y) * len(W))[1]


def projector(X):
    """Onto the span of the rows, by singular values."""
    _, s, vt = np.linalg.svd(X)
    v = vt[: len(s)][s > 1e-10 * s[0]]
    return v.T @ v


def lemma(psi, phi, epsilon, delta, m, C):
    """(lower, upper) of Lemma M', the square root of nu^2 taken of an exact fraction."""
    nu = math.sqrt(Fraction(C - 1, C))
    mu = phi / (1 - psi)
    a = 1 - (m - 1) * mu
    b = nu / math.sqrt(1 - psi) + epsilon
    # the larger root of a g^2 - b g - (C-1) delta = 0
    upper = float(max(np.roots([a, -b, -(C - 1) * delta]).real))
    return nu / math.sqrt(1 + psi) - epsilon - (m - 1) * mu * upper, upper


def theorem(psi, phi, epsilon, delta, m, k, C):
    """(epsilon, tau) of Theorem R'."""
    M, mu = m - k, phi / (1 - psi)
    rho = k * lemma(psi, phi, epsilon, delta, m, C)[1] * mu * math.sqrt(M / (1 - (M - 1) * mu))
    floor = math.sqrt(Fraction(C - 1, C) * M / (1 + psi + (M - 1) * phi))
    return epsilon + rho, 1 - math.cos(math.asin(rho / floor))


def cross_entropy_gradient(X, y, W, i):
    """Gradient of -log softmax_y(W x_i), and the probabilities, with plain exponentials."""
    s = [math.fsum(w * X[i]) for w in W]
    total = math.fsum(math.exp(v - max(s)) for v in s)
    p = [math.exp(v - max(s)) / total for v in s]
    g = np.zeros(W.shape)
    for c in range(len(W)):
        g[c] = (p[c] - (c == y[i])) * X[i]
    return g, np.array(p)
