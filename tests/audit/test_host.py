"""The audit's measurements in NumPy against the same formulas in JAX, and that linear models need no JAX at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import reference

import gaunlearn_jax as ga
from gaunlearn_jax.audit import effects
from gaunlearn_jax.base import numerics
from gaunlearn_jax.kkt import host

ROOT = Path(__file__).parents[2]
FORGET = np.array([False, True, False, True, False, False, False])


def close(got, expected, **options):
    np.testing.assert_allclose(got, expected, **({"rtol": 1e-11, "atol": 1e-12} | options))


def jax_point(data, net, point):
    """The same numbers as a KKTPoint."""
    everyone = jnp.ones(data.num_points, bool)
    return ga.kkt.measured_point(
        net.problem(data), jnp.asarray(point.params), jnp.asarray(point.preactivations), jnp.asarray(point.multipliers),
        jnp.asarray(point.selection), everyone, orthogonal_norm=point.orthogonal_norm,
    )  # fmt: skip


@pytest.fixture(scope="module", params=["linear", "relu"])
def both(request):
    """A measured point of random weights with a part outside the span, on the host and in JAX."""
    rng = np.random.default_rng(4)
    u, slope = (np.ones(1), 1.0) if request.param == "linear" else (np.array([0.5, -0.4, 0.3, -0.3, 0.4, -0.4]), 0.0)
    net = ga.models.Linear() if request.param == "linear" else ga.models.TwoLayerReLU(output_weights=u)
    x, w = rng.normal(size=(7, 9)) / 3, rng.normal(size=(len(u), 9))
    y = np.sign(u @ np.maximum(w @ x.T, slope * (w @ x.T)))
    data = ga.data.from_points(x, y)
    problem = host.HostProblem(np.asarray(data.points), y, u, slope)
    params, rest = data.reduce(w)
    scale = float(np.min(problem.margins(problem.preactivations(np.asarray(params)))))
    params = np.asarray(params) / scale
    z = problem.preactivations(params)
    point = host.fit_multipliers(
        problem, params, z, orthogonal_norm=float(rest) / scale, retained=np.ones(7, bool)
    )  # fmt: skip
    return net, data, problem, point, jax_point(data, net, point)


def test_a_point_is_measured_alike(both):
    net, data, problem, point, other = both
    close((point.epsilon, point.delta), (other.epsilon, other.delta))
    x, z = problem.points, point.preactivations
    fit = reference.measure_multipliers(z, point.params, x, problem.labels, problem.output_weights, slope=problem.slope)
    close(np.hypot(fit.epsilon, point.orthogonal_norm), point.epsilon, rtol=1e-9)
    close(point.multipliers, fit.multipliers, atol=1e-9)
    close(problem.margins(point.preactivations), net.problem(data).margins(other.preactivations))


@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_certificates_are_those_of_jax(both, scale):
    net, data, problem, point, other = both
    step = effects.ascent(problem, point, FORGET)
    rows = effects.certificates(problem, point, FORGET, step, None)
    for name, row in rows.items():
        expected = ga.certificates.ALL[name](net, data, other, jnp.asarray(FORGET), scale)
        got = row.step if scale else row.nothing
        if int(expected.status) == ga.Status.INFEASIBLE:
            assert np.isnan(got.epsilon)
            continue
        close(got, (expected.epsilon, expected.delta, expected.tau, expected.norm), rtol=1e-9)


def test_the_estimate_and_the_bounds_are_those_of_jax(both):
    net, data, problem, point, other = both
    close(
        effects.estimated_multipliers(problem, point, np.flatnonzero(FORGET)),
        ga.estimators.estimate_multipliers(net, data, other, jnp.asarray(FORGET))[FORGET],
    )
    numbers = (0.05, 1e-4, 1e-3, 1e-4)
    for make, sizes in (
        (ga.bounds.sharp_linear, {}), (ga.bounds.coarse_linear, {}), (ga.bounds.sharp_linear_projection, {}),
        (ga.bounds.sharp_relu, {"n": 4}), (ga.bounds.coarse_relu, {"n": 4}),
    ):  # fmt: skip
        here, there = make(*map(np.float64, numbers), m=10, k=2, **sizes), make(*numbers, m=10, k=2, **sizes)
        assert isinstance(here.epsilon, np.ndarray | np.generic)
        assert int(here.reason) == int(there.reason)
        close((here.epsilon, here.delta, here.tau), (there.epsilon, there.delta, there.tau), rtol=1e-14)


def test_a_fit_with_kinks_attains_the_least_epsilon():
    """Pre-activations that are exactly 0: the columns of both ends of each kink, against the programme in JAX."""
    rng = np.random.default_rng(8)
    u = np.array([0.5, -0.5, 0.5, -0.5])
    x, w = rng.integers(-2, 3, (8, 5)).astype(float), rng.integers(-2, 3, (4, 5)).astype(float)
    x[np.all(x == 0, axis=1), 0] = 1.0
    z = w @ x.T
    assert np.sum(z == 0) > 3
    y = np.where(u @ np.maximum(z, 0) >= 0, 1.0, -1.0)
    y[0] = -y[1]
    problem = host.HostProblem(x, y, u, 0.0)
    got = host.fit_multipliers(problem, w, z, retained=np.ones(8, bool))
    expected = reference.measure_multipliers(z, w, x, y, u)
    close(got.epsilon, expected.epsilon, rtol=1e-8)
    allowed = np.where(z > 0, 1.0, 0.0)
    assert np.all((got.selection == allowed) | (z == 0))
    assert np.all((got.selection >= 0) & (got.selection <= 1))


def test_the_row_space_and_the_gap():
    rng = np.random.default_rng(0)
    for rows in (rng.normal(size=(5, 9)), rng.normal(size=(9, 3)) @ rng.normal(size=(3, 6))):
        basis = host.row_space(np.concatenate([rows, 1e-30 * rows[:2] + 1e-30 * rows[2]]))
        masked = np.asarray(numerics.orthonormal_basis(jnp.asarray(rows), jnp.ones(len(rows), bool)))
        close(basis.T @ basis, masked.T @ masked)
    a = rng.normal(size=6)
    for size in (1e-12, 1e-3, 3.0):
        delta = size * rng.normal(size=6)
        close(host.one_minus_cos(a, delta), numerics.one_minus_cos(jnp.asarray(a), jnp.asarray(delta)), atol=0)


def test_a_linear_audit_starts_no_device():
    """Everything that a linear audit can be asked for, without one compilation."""
    code = (
        "import numpy as np, jax, gaunlearn_jax as ga\n"
        "jax.config.update('jax_enable_x64', True)\n"
        "rng = np.random.default_rng(0); x = rng.normal(size=(30, 8)); w = rng.normal(size=8); y = x @ w > 0\n"
        "for weights in (None, w):\n"
        "    for data in (x, rng.normal(size=(6, 40))):\n"
        "        labels, own = (y, weights) if data is x else ([0, 1] * 3, None)\n"
        "        str(ga.audit(data, labels, [1, 2], weights=own, loss='logistic', every_point=True))\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge.backends_are_initialized()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
