"""Whoever has a row in the registry of architectures passes these tests."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import problem as ref

import gaunlearn_jax as ga
from gaunlearn_jax.models.registry import ARCHITECTURES, Architecture, canonical, lookup, network, patches
from gaunlearn_jax.unlearn import certificates

NAMES = ARCHITECTURES.names


@functools.lru_cache
def setting(name: str) -> tuple[Any, ga.data.Dataset, Any]:
    """A network of eight neurons, five correlated points (of as many patches as it wants), and its margin problem."""
    net = network(name, 8)
    count = patches(name)
    rng, d = np.random.default_rng(3), 7 if count == 1 else 12 * count
    points = rng.normal(size=(5, d)) / np.sqrt(d) + 0.1
    data = ga.data.from_points(points, [1.0, -1.0, 1.0, -1.0, -1.0], patches=count)
    return net, data, net.problem(data)


@functools.lru_cache
def limit(name: str) -> tuple[Any, ga.kkt.KKTPoint]:
    net, data, _ = setting(name)
    run = ga.train.train(jax.random.key(0), net, data)
    return run, ga.kkt.limit_point(net, data, run)


@functools.lru_cache
def weights(name: str) -> np.ndarray:
    problem = setting(name)[2]
    return np.random.default_rng(4).normal(size=(problem.num_neurons, problem.rows.shape[1]))


@pytest.mark.parametrize("name", NAMES)
def test_margins_against_loops(name: str) -> None:
    problem, w = setting(name)[2], weights(name)
    got = problem.margins(problem.preactivations(jnp.asarray(w)))
    np.testing.assert_allclose(got, ref.margins(problem, w), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_euler_and_gradients_against_loops_and_autodiff(name: str) -> None:
    """<theta, g_a> = q_a; sum_a lambda_a g_a is the gradient of sum_a lambda_a q_a where no pre-activation is 0."""
    problem, w = setting(name)[2], jnp.asarray(weights(name))
    z = problem.preactivations(w)
    s, q = problem.slopes(z), problem.margins(z)
    assert ref.in_clarke(problem, np.asarray(z), np.asarray(s))
    for a in range(problem.num_constraints):
        one = jnp.zeros(problem.num_constraints).at[a].set(1.0)
        made = problem.coefficients(one, s) @ problem.rows
        np.testing.assert_allclose(made, ref.gradient(problem, np.asarray(s), a), atol=1e-13)
        assert float(jnp.sum(made * w)) == pytest.approx(float(q[a]), rel=1e-12)
    lam = jnp.arange(1.0, problem.num_constraints + 1)
    slope = jax.grad(lambda v: jnp.sum(lam * problem.margins(problem.preactivations(v))))(w)
    np.testing.assert_allclose(problem.coefficients(lam, s) @ problem.rows, slope, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_free_pairs_are_those_on_which_v_sigma_is_concave(name: str) -> None:
    problem = setting(name)[2]
    v, free = np.asarray(problem.amplitudes), np.asarray(problem.free)
    for amplitude, is_free in zip(v.ravel(), free.ravel(), strict=True):
        middle = amplitude * ref.sigma(0.0, problem.slope)
        chord = 0.5 * amplitude * (ref.sigma(1.0, problem.slope) + ref.sigma(-1.0, problem.slope))
        assert is_free == (middle > chord + 1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_training_separates_and_its_limit_is_an_exact_kkt_point(name: str) -> None:
    problem = setting(name)[2]
    run, point = limit(name)
    assert int(run.status) == int(point.status) == 0
    lam, s = np.asarray(point.multipliers), np.asarray(point.selection)
    assert np.linalg.norm(ref.residual(problem, np.asarray(point.params), lam, s)) < 1e-12
    assert ref.in_clarke(problem, np.asarray(point.preactivations), s)
    q = ref.margins(problem, np.asarray(point.params))
    assert np.min(q) > 1 - 1e-12
    assert np.max(lam * (q - 1)) < 1e-12
    assert np.min(lam) >= 0


@pytest.mark.parametrize("name", NAMES)
def test_the_limit_point_against_a_general_solver(name: str) -> None:
    """The programme with the point's own slopes on fixed pairs has the point as its solution."""
    problem = setting(name)[2]
    point = limit(name)[1]
    best = ref.solve_pattern(problem, np.asarray(point.selection), list(range(problem.num_constraints)))
    np.testing.assert_allclose(point.params, best, atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_multipliers_of_the_trained_network_are_the_least(name: str) -> None:
    net, data, problem = setting(name)
    run, _ = limit(name)
    fit = ga.kkt.fit_multipliers(net, data, run.params, run.preactivations, orthogonal_norm=run.orthogonal_norm)
    lam, s = np.asarray(fit.multipliers), np.asarray(fit.selection)
    rest = ref.residual(problem, np.asarray(fit.params), lam, s)
    whole = np.hypot(np.linalg.norm(rest), float(fit.orthogonal_norm))
    assert float(fit.epsilon) == pytest.approx(whole, rel=1e-9, abs=1e-12)
    for a in range(len(lam)):  # optimality: no multiplier can shrink the residual further
        pull = float(np.sum(rest * ref.gradient(problem, s, a)))
        assert pull < 1e-9
        assert lam[a] * abs(pull) < 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_theorem_p_holds_as_an_identity(name: str) -> None:
    """theta - (I - P) h keeps every retained pre-activation, and its residual is e + P h."""
    net, data, problem = setting(name)
    point = limit(name)[1]
    forget = ga.data.forget_mask(data, [1])
    c = certificates.projection(net, data, point, forget)
    x, lam, s = np.asarray(problem.rows), np.asarray(point.multipliers), np.asarray(point.selection)
    gone = np.flatnonzero(np.asarray(problem.constraints_of(forget)))
    h = sum(lam[a] * ref.gradient(problem, s, a) for a in gone)
    kept = x[~np.asarray(problem.rows_of(forget))]
    inside = h @ np.linalg.pinv(kept) @ kept
    e = ref.residual(problem, np.asarray(point.params), lam, s)
    assert float(c.epsilon) == pytest.approx(np.linalg.norm(e + inside), rel=1e-9, abs=1e-12)
    np.testing.assert_allclose(np.asarray(c.params) @ kept.T, np.asarray(point.params) @ kept.T, atol=1e-12)
    bound = ga.bounds.instance(net, data, point, forget, c)
    assert float(c.epsilon) <= float(bound.epsilon)
    assert float(c.tau) <= float(bound.tau)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=6, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 10**6), gone=st.integers(0, 4))
def test_theorem_p_needs_no_exact_point(name: str, seed: int, gone: int) -> None:
    """At any theta with any multipliers: the residual is e + P h, retained margins stay, and so do the slopes."""
    net, data, problem = setting(name)
    rng = np.random.default_rng(seed)
    w = jnp.asarray(rng.normal(size=(problem.num_neurons, problem.rows.shape[1])))
    lam, z = jnp.asarray(rng.uniform(0, 2, problem.num_constraints)), problem.preactivations(w)
    s = problem.slopes(z)
    everyone = jnp.ones(problem.num_constraints, bool)
    point = ga.kkt.measured_point(problem, w, z, lam, s, everyone)
    forget = ga.data.forget_mask(data, [gone])
    c = certificates.projection(net, data, point, forget)
    h = sum(float(lam[a]) * ref.gradient(problem, np.asarray(s), a)
            for a in np.flatnonzero(np.asarray(problem.constraints_of(forget))))  # fmt: skip
    kept = np.asarray(problem.rows)[~np.asarray(problem.rows_of(forget))]
    left = ref.residual(problem, np.asarray(w), np.asarray(lam), np.asarray(s)) + h @ np.linalg.pinv(kept) @ kept
    assert float(c.epsilon) == pytest.approx(np.linalg.norm(left), rel=1e-10)
    live = ~np.asarray(problem.constraints_of(forget))
    before, after = ref.margins(problem, np.asarray(w)), ref.margins(problem, np.asarray(c.params))
    np.testing.assert_allclose(after[live], before[live], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", [name for name in NAMES if setting(name)[2].layout is not None])
def test_no_farther_from_the_first_solution_than_the_bound(name: str) -> None:
    """D <= (eps + sqrt(eps^2 + 4 Sigma))/2 at approximate points: slack summed over all constraints of T."""
    net, data, problem = setting(name)
    exact = limit(name)[1]
    forget = ga.data.forget_mask(data, [2])
    for size in (0.0, 1e-3, 3e-2):
        w = exact.params + size * jnp.asarray(weights(name))
        w = w / jnp.minimum(jnp.min(problem.margins(problem.preactivations(w))), 1.0)
        z = problem.preactivations(w)
        point = ga.kkt.measured_point(
            problem, w, z, exact.multipliers, problem.slopes(z, 0.5), jnp.ones(problem.num_constraints, bool)
        )
        near = certificates.projection(net, data, point, forget)
        first = ga.closeness.programme_point(problem, point, forget)
        assert int(first.status) == 0
        most = float(ga.closeness.distance_bound(problem, near, forget))
        assert float(jnp.linalg.norm(near.params - first.params)) <= most * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_the_norm_floor_is_below_every_feasible_point(name: str) -> None:
    net, data, problem = setting(name)
    forget = ga.data.forget_mask(data, [0])
    floor = float(ga.bounds.norm_floor(net, data, forget))
    assert floor > 0
    rng, kept = np.random.default_rng(6), np.flatnonzero(np.asarray(problem.constraints_of(~forget)))
    found = [np.asarray(limit(name)[1].params)]
    found += [rng.normal(size=found[0].shape) + found[0] * rng.uniform(0, 2) for _ in range(200)]
    for w in found:
        smallest = np.min(ref.margins(problem, w)[kept])
        assert smallest <= 0 or np.linalg.norm(w) / smallest >= floor * (1 - 1e-12)


def test_names_and_parameters_are_looked_up_in_one_sentence() -> None:
    assert canonical("leaky:slope=0.1") == "leaky"
    assert canonical("leaky:slope=0.25") == "leaky:slope=0.25"
    with pytest.raises(
        ValueError, match=r"unknown architecture 'rely'; did you mean relu\? known architectures: linear"
    ):
        network("rely", 4)
    with pytest.raises(ValueError, match=r"unknown parameter of leaky 'slop'; did you mean slope\?"):
        lookup("leaky:slop=0.1")
    with pytest.raises(ValueError, match=r"slope is 2.0, expected one finite number with 1e-06 <= slope <= 0.999"):
        lookup("leaky:slope=2")
    with pytest.raises(ValueError, match="expected NAME or NAME:PARAMETER=VALUE"):
        lookup("leaky:slope")
    with pytest.raises(ValueError, match="slope has several values"):
        lookup("leaky:slope=0.1,0.2")


def test_a_row_is_there_inside_its_with_alone() -> None:
    row = Architecture("other", "a test", lambda n: ga.models.TwoLayerReLU(n))
    with ARCHITECTURES.added(row):
        assert network("other", 4).num_neurons == 4
        with pytest.raises(ValueError, match="'other' is taken"), ARCHITECTURES.added(row):
            pass
    assert "other" not in ARCHITECTURES
    with pytest.raises(ValueError, match="letters, digits and underscores"):
        ARCHITECTURES.register(Architecture("no name", "a test", network))
