"""Points of several rows: the guard and its counterexample, Lemma M' and Theorem R' against loops and other solvers."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import problem as ref
from scipy.linalg import orth, subspace_angles

import gaunlearn_jax as ga
from gaunlearn_jax.base.codes import Reason
from gaunlearn_jax.models import Convolution, FilterBank, ReLUClasses
from gaunlearn_jax.theory import classes, entries
from gaunlearn_jax.theory.worthwhile import parts


def instance(seed: int, m: int = 4, patches: int = 2, q: int = 40, slope: float = 0.0) -> tuple[Any, ga.data.Dataset]:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(m, patches * q)) / np.sqrt(patches * q)
    data = ga.data.from_points(points, np.where(np.arange(m) % 2 == 0, 1.0, -1.0), patches=patches)
    return Convolution(6, patches, negative_slope=slope), data


def measured(net: Any, data: ga.data.Dataset, seed: int) -> tuple[Any, ga.kkt.KKTPoint]:
    """Any theta of positive margins near a sum of gradients, with these multipliers: an approximate KKT point."""
    problem, rng = net.problem(data), np.random.default_rng(seed)
    lam = jnp.asarray(rng.uniform(0.5, 2.0, problem.num_constraints))
    s = jnp.where(problem.free, problem.slope, 1.0)
    w = problem.coefficients(lam, s) @ problem.rows
    for _ in range(20):
        s = problem.slopes(problem.preactivations(w))
        w = problem.coefficients(lam, s) @ problem.rows
    w = w / jnp.min(problem.margins(problem.preactivations(w)))
    z = problem.preactivations(w)
    fitted = ga.kkt.fit_multipliers(net, data, w, z)
    return problem, fitted


# --- the guard ---------------------------------------------------------------------------------------------


def test_dependent_patches_stop_the_loop_where_the_margin_has_a_gradient() -> None:
    """Patches x, -x, u_1 = (1, -1), u_2 = (1, 1): the loop accepts w = (0, x), where q = <w_1, x> + |<w_2, x>| still
    grows along w_1, and (x/2, x/2) is feasible with half the squared norm. The guard says so."""
    x = np.array([1.0, 0.0])
    data = ga.data.Dataset(
        jnp.asarray([[*x, *-x]]), jnp.ones(1), jnp.asarray(4.0), jnp.zeros(()), jnp.asarray(0), patches=2
    )
    problem = FilterBank(jnp.asarray([[1.0, -1.0], [1.0, 1.0]]), 2).problem(data)
    point = ga.kkt.solve_pattern(problem, jnp.asarray([[0.0, 0.0], [1.0, 0.0]]), jnp.ones(1, bool), 20)
    assert int(point.status) == 0
    np.testing.assert_allclose(point.params, [0 * x, x], atol=1e-12)
    assert float(point.epsilon) < 1e-12  # stationary with slopes that each entry allows by itself
    shorter = np.array([x / 2, x / 2])
    np.testing.assert_allclose(ref.margins(problem, shorter), 1.0)
    assert np.sum(shorter**2) == pytest.approx(0.5 * float(jnp.sum(point.params**2)))
    for w in (np.array([t * x, (1 - t) * x]) for t in (0.1, -0.1)):  # q = w_1 x + |w_2 x|: no kink in w_1
        assert ref.margins(problem, w)[0] == pytest.approx(w[0] @ x + abs(w[1] @ x))
    assert not bool(entries.column_spaces(problem).independent[0])


@pytest.mark.parametrize(("second", "independent"), [([0.0, 1.0], True), ([1.0, 1e-9], False), ([1.0, 1e-3], True)])
def test_independence_of_two_patches(second: list[float], independent: bool) -> None:
    data = ga.data.from_points([[1.0, 0.0, *second], [0.0, 3.0, 5.0, 0.0]], [1, -1], patches=2)
    found = entries.column_spaces(Convolution(2, 2).problem(data)).independent
    assert [bool(v) for v in found] == [independent, True]


def test_a_zero_patch_is_dependent() -> None:
    data = ga.data.from_points([[1.0, 0.0, 0.0, 0.0], [0.0, 3.0, 5.0, 0.0]], [1, -1], patches=2)
    assert not bool(entries.column_spaces(Convolution(2, 2).problem(data)).independent[0])


# --- mu, gamma, gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("patches", [2])
def test_the_cosine_is_that_of_the_smallest_principal_angle(patches: int) -> None:
    net, data = instance(1, patches=patches)
    problem = net.problem(data)
    rows = np.asarray(problem.rows).reshape(4, patches, -1)
    want = max(np.cos(np.min(subspace_angles(rows[i].T, rows[k].T))) for i in range(4) for k in range(4) if i != k)
    got = float(entries.column_spaces(problem).cosine())
    assert want - 1e-15 <= got <= want + 1e-9


def test_without_a_layout_it_is_the_largest_cosine_of_two_points(relu: Any, drawn: ga.data.Dataset) -> None:
    x = np.asarray(drawn.points)
    unit = x / np.linalg.norm(x, axis=1)[:, None]
    want = np.max(np.abs(unit @ unit.T - np.eye(len(x))) * (1 - np.eye(len(x))))
    assert float(entries.column_spaces(relu.problem(drawn)).cosine()) == pytest.approx(want, rel=1e-9)


def test_pulls_and_gradient_norms_against_loops() -> None:
    net, data = instance(2)
    problem, point = measured(net, data, 2)
    s, lam = np.asarray(point.selection), np.asarray(point.multipliers)
    gradients = [ref.gradient(problem, s, a) for a in range(4)]
    np.testing.assert_allclose(entries.gradient_norms(problem, point), [np.linalg.norm(g) for g in gradients])
    want = [lam[a] * np.linalg.norm(gradients[a]) for a in range(4)]
    np.testing.assert_allclose(entries.pulls(problem, point), want, rtol=1e-12)


def several_classes(seed: int) -> tuple[Any, ga.data.Dataset]:
    """Four classes, three constraints a point."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(6, 200)) / np.sqrt(200)
    return ReLUClasses(12, 4), ga.data.from_classes(points, np.arange(6) % 4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_shortest_mean_of_the_gradients_of_a_point(seed: int) -> None:
    """Against the nearest point of every subset; gradients whose multiplier is zero do not count."""
    net, data = several_classes(seed)
    problem, point = measured(net, data, seed)
    lam = np.asarray(point.multipliers).copy()
    lam[:3] = 0.0
    lam[4] = 0.0
    s = np.asarray(point.selection)
    gradients = np.array([ref.gradient(problem, s, a).ravel() for a in range(18)])
    want = []
    for i in range(6):
        live = [a for a in range(3 * i, 3 * i + 3) if lam[a] > 0]
        subsets = (list(some) for size in range(1, 4) for some in itertools.combinations(live, size))
        means = ((g, np.linalg.lstsq(g @ g.T, np.ones(len(g)), rcond=None)[0]) for g in (gradients[s] for s in subsets))
        want.append(min((np.linalg.norm(y @ g) / sum(y) for g, y in means if min(y) > 0), default=np.inf))
    got = entries.least_means(problem, dataclasses.replace(point, multipliers=jnp.asarray(lam)))
    np.testing.assert_allclose(got, want, rtol=1e-9)
    assert np.all(got <= np.array(want) * (1 + 1e-15))
    assert np.isinf(got[0])


@pytest.mark.parametrize("seed", range(3))
def test_the_lemma_of_an_instance_is_the_formula_at_its_own_numbers(seed: int) -> None:
    net, data = several_classes(seed)
    problem, point = measured(net, data, seed)
    found = entries.lemma(problem, point)
    unit = np.asarray(problem.rows) / np.linalg.norm(problem.rows, axis=1)[:, None]
    mu = np.max(np.abs(unit @ unit.T - np.eye(6)))
    norms = np.asarray(entries.gradient_norms(problem, point)).reshape(6, 3)
    smallest, eps, delta = np.min(entries.least_means(problem, point)), float(point.epsilon), float(point.delta)
    want = entries.pull_bounds(mu, smallest, norms.min(axis=1), eps, delta, m=6, constraints=3)
    assert float(found.between.upper) == pytest.approx(float(want.upper), rel=1e-9)
    np.testing.assert_allclose(found.between.lower, want.lower, rtol=1e-9, atol=1e-12)
    assert float(found.mu) == pytest.approx(mu, rel=1e-9)
    assert np.all(found.gamma <= found.between.upper)
    assert np.all(found.gamma >= found.between.lower)
    assert bool(found.between.defined)
    # four points are left: kappa = mu sqrt(4) / sqrt(1 - 3 mu)
    rho = float(2 * 2 * mu / np.sqrt(1 - 3 * mu) * want.upper)
    bound = entries.spaces(found, jnp.asarray(10 * rho), eps, delta, k=2)
    assert float(bound.epsilon) == pytest.approx(eps + rho, rel=1e-9)
    assert float(bound.delta) == delta
    assert float(bound.tau) == pytest.approx(1 - np.sqrt(0.99), rel=1e-9)


def test_a_gradient_without_a_multiplier_has_the_selection_of_its_preactivations() -> None:
    net, data = instance(3)
    problem, point = measured(net, data, 3)
    odd = dataclasses.replace(point, multipliers=point.multipliers.at[1].set(0.0), selection=7.0 * point.selection)
    z = problem.at_entries(point.preactivations)
    got, mine = entries.decided(problem, odd), np.asarray(problem.layout.constraint) == 1
    np.testing.assert_array_equal(got[:, mine], (z > 0)[:, mine])
    np.testing.assert_array_equal(got[:, ~mine], odd.selection[:, ~mine])


# --- Lemma M' and Theorem R' ---------------------------------------------------------------------------------


def test_the_bounds_contain_those_of_several_classes() -> None:
    """mu = phi/(1 - psi), c_hat = (1 - psi) C/(C - 1), n_c = C - 1: the upper bound and rho of the softmax head."""
    psi, phi, eps, delta, m, count = 0.05, 1e-3, 0.02, 0.03, 12, 4
    mu, smallest = phi / (1 - psi), np.sqrt((1 - psi) * count / (count - 1))
    _, upper, _ = classes.multiplier_bounds(psi, phi, eps, delta, m=m, classes=count)
    got = entries.pull_bounds(mu, smallest, np.sqrt(2.0), eps, delta, m=m, constraints=count - 1)
    assert float(got.upper) == pytest.approx(float(upper), rel=1e-14)
    want = classes.sharp_classes(psi, phi, eps, delta, m=m, k=2, classes=count)
    floor = np.sqrt((count - 1) / count * (m - 2) / (1 + psi + (m - 3) * phi))
    bound = entries.sharp_entries(mu, float(upper), floor, eps, delta, m=m, k=2)
    for name in ("epsilon", "delta", "tau"):
        assert float(getattr(bound, name)) == pytest.approx(float(getattr(want, name)), rel=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_lemma_and_theorem_hold_at_approximate_points(seed: int) -> None:
    """With A, the retained set and the norms from NumPy; rho by a pseudoinverse."""
    net, data = instance(seed)
    problem, point = measured(net, data, seed)
    lam, s = np.asarray(point.multipliers), np.asarray(point.selection)
    gradients = [ref.gradient(problem, s, a) for a in range(4)]
    norms, gamma = [np.linalg.norm(g) for g in gradients], np.asarray(entries.pulls(problem, point))
    rows = np.asarray(problem.rows).reshape(4, 2, -1)
    bases = [orth(r.T) for r in rows]
    mu = max(np.linalg.norm(bases[i].T @ bases[k], 2) for i in range(4) for k in range(4) if i != k)
    a, b = 1 - 3 * mu, 1 / min(norms) + float(point.epsilon)
    upper = (b + np.sqrt(b**2 + 4 * a * float(point.delta))) / (2 * a) if a > 0 else np.inf
    found = entries.pull_bounds(mu, min(norms), np.asarray(norms), float(point.epsilon), float(point.delta), m=4)
    assert bool(found.defined) == (a > 0)
    if a > 0:
        assert float(found.upper) == pytest.approx(upper, rel=1e-12)
        assert np.max(gamma) <= upper * (1 + 1e-12)
        least = 1 / np.asarray(norms) - 3 * mu * upper - float(point.epsilon)
        np.testing.assert_allclose(found.lower, least, rtol=1e-9)
        assert np.all(gamma >= least - 1e-12)
    kept = rows[1:].reshape(6, -1)
    h = lam[0] * gradients[0]
    rho = np.linalg.norm(h @ np.linalg.pinv(kept) @ kept)
    assert float(parts(problem, point, ga.data.forget_mask(data, [0])).rho) == pytest.approx(rho, rel=1e-9)
    kappa, defined = entries.projection_factor(mu, 3)
    if 2 * mu < 1:
        assert bool(defined)
        assert float(kappa) == pytest.approx(mu * np.sqrt(3) / np.sqrt(1 - 2 * mu))
        assert rho <= float(kappa) * gamma[0] * (1 + 1e-12)


def test_the_factor_is_attained() -> None:
    """Points at one mutual cosine -mu, rows of dimension one: ||P x_r|| = mu sqrt(M) / sqrt(1 - (M-1) mu)."""
    m, mu = 4, 0.2
    gram = (1 + mu) * np.eye(m) - mu * np.ones((m, m))
    x = np.linalg.cholesky(gram)
    kept, r = x[1:], x[0]
    inside = np.linalg.norm(r @ np.linalg.pinv(kept) @ kept)
    assert float(entries.projection_factor(mu, m - 1)[0]) == pytest.approx(inside, rel=1e-12)


def test_where_they_say_nothing() -> None:
    assert not bool(entries.pull_bounds(0.4, 1.0, 1.0, 0.0, 0.0, m=4).defined)
    assert not bool(entries.projection_factor(0.5, 3)[1])
    assert int(entries.sharp_entries(0.5, 1.0, 1.0, 0.0, 0.0, m=4, k=1).reason) == Reason.UNDEFINED
    assert int(entries.sharp_entries(0.1, np.inf, 1.0, 0.0, 0.0, m=4, k=1).reason) == Reason.UNDEFINED
    assert int(entries.sharp_entries(0.1, 1.0, 1.0, 0.0, 0.0, m=4, k=4).reason) == Reason.FORGET_SIZE
    assert float(entries.sharp_entries(0.3, 9.0, 0.1, 0.0, 0.0, m=4, k=1).tau) == 2.0


def test_drawn_patches_have_the_law_of_cut_gaussian_points() -> None:
    """Second moments of inner products of patches: 1/P on the diagonal, variance 1/(P d) off it."""
    d, patches, m = 400.0, 2, 3
    draw = jax.vmap(lambda key: ga.data.gaussian(key, m, d, patches=patches).points.reshape(m * patches, -1))
    rows = np.asarray(draw(jax.random.split(jax.random.key(5), 4000)))
    gram = np.einsum("bip,bkp->bik", rows, rows)
    count = np.sqrt(len(rows))
    np.testing.assert_allclose(
        np.mean(np.diagonal(gram, axis1=1, axis2=2), axis=0), 0.5, atol=5 * np.sqrt(2 * 200) / 400 / count
    )
    off = gram[:, ~np.eye(m * patches, dtype=bool)]
    np.testing.assert_allclose(np.mean(off**2), 200 / 400**2, rtol=0.03)
