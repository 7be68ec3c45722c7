"""Right-hand sides about the step, its estimate, what is gained by it, and training, against loops in NumPy."""

from __future__ import annotations

import dataclasses
import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import GONE, KEPT, OUTSIDE, Case, close, gap_of_sine, size

import gaunlearn_jax as ga
from gaunlearn_jax import Reason
from gaunlearn_jax.theory import activations, closeness, convergence, lemma_m, step_size, worthwhile
from gaunlearn_jax.training.train import Trained
from gaunlearn_jax.unlearn import estimators, filtered


@pytest.fixture(scope="module", params=[0.0, 0.3, 1.0])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@pytest.fixture(scope="module")
def relu() -> Case:
    return Case(0.0)


# --- the step's own formulas ------------------------------------------------------------------------------------


def test_fractions_of_the_step(relu: Case) -> None:
    fractions, floor = np.array([0.0, 0.4, 1.0, 1.5]), 0.8
    found, best, rho = step_size.along(
        relu.net, relu.data, relu.point, relu.forget, jnp.asarray(fractions), jnp.asarray(floor)
    )
    ph = relu.h @ relu.inside
    out = relu.h - ph
    close(rho, size(ph))
    wanted = 1 + np.sum(relu.e * out) / np.sum(out**2)
    close(best, wanted)
    for at, c in enumerate([*fractions, max(wanted, 0.0)]):
        hat, tilde = relu.w - c * relu.h, relu.w - c * out
        close(found.formula[at], size(relu.e + ph + (1 - c) * out, OUTSIDE))
        close(found.upper[at], relu.epsilon + size(ph) + abs(1 - c) * size(out))
        close(found.tau_bound[at], gap_of_sine(c * size(ph) / size(tilde, OUTSIDE)), rtol=1e-8)
        alpha = math.atan2(size(hat - hat @ relu.inside, OUTSIDE), size(hat @ relu.inside))
        angle = math.acos(
            np.clip((np.sum(hat * tilde) + OUTSIDE**2) / (size(hat, OUTSIDE) * size(tilde, OUTSIDE)), -1, 1)
        )
        close(found.lower[at], floor * math.sin(max(0.0, alpha - angle)), rtol=1e-7)
        close(found.lower_exact[at], floor * math.sin(alpha), rtol=1e-9)


def test_influence_is_a_fraction_of_newton_for_one_forgotten_constraint_alone() -> None:
    """H_T^-1 V_R^T (diag(1/Lambda_r) + V_R H_T^-1 V_R^T)^-1 1 in place of Newton's H_T^-1 V_R^T Lambda_R."""
    line, gamma = Case(1.0), 5.0
    v = line.y[:, None] * line.x
    for gone in (GONE[:1], GONE):
        kept = [i for i in range(6) if i not in gone]
        inverse = np.linalg.inv(np.eye(6) + gamma * sum(line.lam[i] * np.outer(v[i], v[i]) for i in kept))
        weighted = np.diag(1 / (gamma * line.lam[gone])) + v[gone] @ inverse @ v[gone].T
        weights = np.linalg.solve(weighted, np.ones(len(gone)))
        given = line.net, line.data, line.point, ga.data.forget_mask(line.data, gone), gamma
        steps = (filtered.influence_step, filtered.newton_removal)
        ours, newtons = (line.w - np.asarray(step(*given).params) for step in steps)
        close(newtons[0], inverse @ v[gone].T @ line.lam[gone], rtol=1e-8)
        close(ours[0], inverse @ v[gone].T @ weights / gamma, rtol=1e-8)
        cosine = np.sum(ours * newtons) / (size(ours) * size(newtons))
        assert (cosine > 1 - 1e-12) == (len(gone) == 1)


def test_lemma_m_on_an_instance(case: Case) -> None:
    """|q_i - beta_i |x_i|^2| <= phi sum_{k != i} beta_k + epsilon_1 |x_i|, beta_i = lambda_i sum_j u_j^2 s_ji."""
    beta = [case.lam[i] * sum(case.u**2 * case.s[:, i]) for i in range(6)]
    close(lemma_m.betas(case.problem, case.point), beta)
    lhs, rhs, _ = lemma_m.margin_gap(case.problem, case.point, jnp.asarray(0.2), jnp.asarray(0.3))
    for i in range(6):
        close(lhs[i], abs(case.q[i] - beta[i] * case.k[i, i]), rtol=1e-9)
        others = sum(beta) - beta[i]
        close(rhs[i], 0.2 * others + 0.3 * math.sqrt(case.k[i, i]), rtol=1e-9)


def test_activation_shifts(case: Case) -> None:
    """phi |u_j| sum_R lambda_r |s_jr|; the pair nearest to it."""
    phi = 0.35
    bound = [phi * abs(case.u[j]) * sum(case.lam[r] * case.s[j, r] for r in GONE) for j in range(len(case.u))]
    close(activations.shift_bound(case.problem, case.point, case.forget, phi)[:, 0], bound)
    shift = case.h @ case.x.T
    lhs, rhs, _ = activations.nearest_shift(case.problem, case.point, case.forget, jnp.asarray(shift), jnp.asarray(phi))
    pairs = [(abs(shift[j, i]), bound[j]) for j in range(len(case.u)) for i in KEPT if bound[j] > 0]
    wanted = max(pairs, key=lambda pair: pair[0] / pair[1])
    close((lhs, rhs), wanted, rtol=1e-8)


@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_multiplier_estimates(slope: float) -> None:
    c = Case(slope)
    found = estimators.estimate_multipliers(c.net, c.data, c.point, c.forget)
    near, far = estimators.estimation_error(c.net, c.data, c.point, c.forget, 0.17)
    phi = max(abs(c.k[i, j]) for i, j in itertools.combinations(range(6), 2))
    for r in GONE:
        active = [j for j in range(len(c.u)) if slope == 1 or c.z[j, r] > 0]
        mass = sum(c.u[j] ** 2 for j in active)
        area = c.k[r, r] * mass
        seen = sum(c.u[j] * c.y[r] * c.z[j, r] for j in active)
        close(found[r], seen / area)
        others = [i for i in range(6) if i != r]
        shared = sum(
            c.lam[i] * abs(c.k[i, r]) * sum(c.u[j] ** 2 * c.s[j, i] for j in active) for i in others
        )  # fmt: skip
        close(near[r], shared / area + 0.17 / math.sqrt(area))
        close(far[r], phi * sum(c.lam[i] for i in others) / c.k[r, r] + 0.17 / math.sqrt(area))
    for i in KEPT:
        assert float(found[i]) == float(near[i]) == float(far[i]) == 0


# --- Theorem H, and how near training is to its limit -------------------------------------------------------------


def test_parts_leverages_and_tangents(case: Case) -> None:
    p = worthwhile.parts(case.problem, case.point, case.forget)
    ph = case.h @ case.inside
    close(p.rho, size(ph))
    close(p.rho_perp, size(case.h - ph))
    close((p.theta, p.hat), (size(case.w, OUTSIDE), size(case.w - case.h, OUTSIDE)))
    close(p.outside, size(case.w - case.w @ case.inside, OUTSIDE))
    close(p.leverage, (size(ph) / size(case.h)) ** 2)
    close(
        worthwhile.leverages(case.data.points, ~case.forget),
        [size(x @ case.inside) ** 2 / size(x) ** 2 for x in case.x],
    )
    # three vectors in a plane and across it: theta* = sqrt(W) a, h = eta theta* + across b + out c
    whole, eta, across, out = 2.3, 0.35, 0.6, 1.1
    star, b, c = np.sqrt(whole) * np.eye(3)[0], np.eye(3)[1], np.eye(3)[2]
    h = eta * star + across * b + out * c
    theta = star + out * c
    found = worthwhile.tangents(*map(jnp.asarray, (whole, float(h @ star), across**2, out**2)))

    def tangent(v: np.ndarray) -> float:
        return float((v @ v * whole - (v @ star) ** 2) / (v @ star) ** 2)

    close(found.nothing, tangent(theta))
    close(found.step, tangent(theta - h))
    close(found.best, tangent(theta - float(found.multiple) * h))
    for other in (0.99, 1.01):
        assert tangent(theta - other * float(found.multiple) * h) > float(found.best)
    close(worthwhile.gap_ratio(jnp.asarray(0.3), jnp.asarray(0.5)), (1 - math.cos(0.3)) / (1 - math.cos(0.5)))


def test_certified_compares_sines() -> None:
    """distance / |theta_hat| < |(I - P) theta| / |theta|, to either side of equality."""
    p = worthwhile.Parts(*(jnp.asarray(v) for v in (0.1, 0.9, 2.0, 4.0, 0.5)))
    for distance, expected in ((0.999, True), (1.001, False)):
        ball = closeness.Ball(jnp.zeros((1, 1)), *(jnp.asarray(v) for v in (0.0, distance, 1.0, int(Reason.APPLIES))))
        assert bool(worthwhile.certified(p, ball, jnp.zeros((1, 1)))) is expected


def trained(c: Case, margins: np.ndarray) -> Trained:
    """theta as a training that has no history."""
    none = jnp.zeros(1)
    return Trained(
        c.point.params, c.point.preactivations, jnp.asarray(OUTSIDE), jnp.asarray(margins), none, none, none, none,
        c.point.status,
    )  # fmt: skip


def test_the_floor_of_kinks(relu: Case) -> None:
    """Every subset of the kinks of every point on, the rest off, the best common multiplier for each."""
    rng = np.random.default_rng(2)
    z = np.where(rng.random((5, 6)) < 0.4, 0.0, np.abs(relu.z))
    z[0] = 1.0
    s = np.where(z > 0, 1.0, rng.random((5, 6)))
    total = 0.0
    for i in range(6):
        kinks = [j for j in range(5) if z[j, i] == 0]
        costs = []
        for on in itertools.chain.from_iterable(itertools.combinations(kinks, c) for c in range(len(kinks) + 1)):
            ends = [(relu.u[j] ** 2, relu.lam[i] if z[j, i] > 0 else relu.lam[i] * s[j, i]) for j in range(5)]
            used = [ends[j] for j in range(5) if z[j, i] > 0 or j in on]
            t = sum(a * mu for a, mu in used) / sum(a for a, _ in used)
            off = sum(ends[j][0] * ends[j][1] ** 2 for j in kinks if j not in on)
            costs.append(off + sum(a * (mu - t) ** 2 for a, mu in used))
        total += min(costs)
    limit = dataclasses.replace(relu.point, preactivations=jnp.asarray(z), selection=jnp.asarray(s))
    found = convergence.kink_floor(relu.net, relu.data, limit)
    assert total > 0.01
    close(found, math.sqrt(total * np.linalg.eigvalsh(relu.k)[0]), rtol=1e-7)


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
def test_the_gradient_as_multipliers(relu: Case, loss: str) -> None:
    """min_c |theta - c G| / min q, by the angle: |theta| sin of the angle to G where it is acute."""
    run = trained(relu, np.abs(relu.q) + 0.5)
    q = np.abs(relu.q) + 0.5
    p = np.exp(-q) if loss == "exponential" else 1 / (1 + np.exp(q))
    s = np.where(relu.z > 0, 1.0, 0.0)
    g = sum(p[i] * relu.y[i] * np.outer(relu.u * s[:, i], relu.x[i]) for i in range(6))
    along = np.sum(g * relu.w) / size(g)
    assert along > 0
    wanted = math.sqrt(size(relu.w, OUTSIDE) ** 2 - along**2) / min(q)
    close(convergence.gradient_epsilon(relu.net, relu.data, run, loss=loss), wanted, rtol=1e-10)


@pytest.mark.parametrize("length", [0.4, -4.0])
def test_how_far_a_step_of_the_flow_may_fall(relu: Case, length: float) -> None:
    """(eta^2 range(A)^2 / 8 + overshoot + f eta^2 |G|^2 / (2 |theta|^2)) / |theta'| of one step."""
    run = trained(relu, relu.q)
    found = convergence.flow(relu.net, relu.data, run, loss="exponential", num_steps=1, step_size=length)
    eta = length * 6 / np.mean(np.diagonal(relu.k))
    p = np.exp(-relu.q) / np.sum(np.exp(-relu.q))
    s = np.where(relu.z > 0, 1.0, 0.0)
    g = sum(p[i] * relu.y[i] * np.outer(relu.u * s[:, i], relu.x[i]) for i in range(6))
    f = -math.log(np.sum(np.exp(-relu.q)))
    change, after = g @ relu.x.T, relu.z + eta * g @ relu.x.T
    a = [sum(relu.u[j] * relu.y[i] * s[j, i] * change[j, i] for j in range(5)) for i in range(6)]
    over = 0.0
    for i in range(6):
        mine = [j for j in range(5) if relu.u[j] * relu.y[i] < 0]
        over = max(over, sum(abs(relu.u[j]) * (max(after[j, i], 0) - s[j, i] * after[j, i]) for j in mine))
    lost = (eta * (max(a) - min(a))) ** 2 / 8 + over + f * (eta * size(g) / size(relu.w, OUTSIDE)) ** 2 / 2
    assert over > 0
    if length < 0:  # neurons that help their points change more, and do not count
        every = np.abs(relu.u[:, None]) * (np.maximum(after, 0) - s * after)
        assert np.max(np.sum(every, axis=0)) > 2 * over
    close(found.f[0], f)
    close(found.smoothed[0], f / size(relu.w, OUTSIDE))
    close(found.allowance[0], lost / size(relu.w + eta * g, OUTSIDE), rtol=1e-9)
