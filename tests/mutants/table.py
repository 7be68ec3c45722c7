"""The mistakes: a file, a text that occurs in it once, what replaces it, and the tests that must fail then.

Chosen rather than drawn: a constant, a factor, a sign, a set or a term of a formula, in every file that a right-hand
side, a solver, a certificate or a proof is made in. (A tool that changes every operator makes tens of thousands here,
most of them in shapes and messages, at ten seconds each.)
"""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """`file` under the root; `tests` are arguments of pytest."""

    file: str
    text: str
    replacement: str
    tests: tuple[str, ...]


def of(file: str, tests: str, *changes: tuple[str, str]) -> list[Mutant]:
    return [Mutant(file, text, replacement, tuple(tests.split())) for text, replacement in changes]


WORST = "tests/theory/test_worst_cases.py"
INSTANCE = "tests/theory/test_instance_formulas.py"
STEP = "tests/theory/test_step_formulas.py"
CERTIFICATES = "tests/unlearn/test_certificates.py"
EXACT = "tests/exact/test_example_files.py tests/exact/test_exact.py tests/exact/test_bounds_of_files.py"
NAMED = "tests/exact/test_example_files.py tests/exact/test_inequalities.py"

MUTANTS = [
    *of(
        "gaunlearn_jax/theory/bound.py",
        WORST,
        ("lhs <= rhs - error", "lhs <= rhs"),
        ("lhs > rhs + error", "lhs > rhs"),
        ("(bound.tau < 2)", "(bound.tau <= 2)"),
        ("in reversed(conditions)", "in conditions"),
        ("bound.epsilon < trivial_epsilon", "bound.epsilon <= trivial_epsilon"),
    ),
    *of(
        "gaunlearn_jax/kkt/active_set.py",
        "tests/known_answers/test_programmes.py",
        ("t = min(drop, full)", "t = full"),
        ("good = face.multipliers >= 0", "good = face.multipliers >= -1"),
        ("ROUNDING = 32 * float", "ROUNDING = 1e9 * float"),
    ),
    *of(
        "gaunlearn_jax/kkt/interior.py",
        "tests/known_answers/test_programmes.py",
        ("- p.target - price.lam + price.cap", "- p.target + price.lam + price.cap"),
        ("edge = rate.lam + rate.cap", "edge = 0 * rate.lam + rate.cap"),
    ),
    *of(
        "verify/exact/solution.py",
        NAMED,
        ("(0, value) if slope == 1 else (value, 0)", "(value, 0) if slope == 1 else (0, value)"),
        ('Check(0, top, f"multiplier', 'Check(top, 0, f"multiplier'),
        ("Check(1, total(parts)", "Check(total(parts), 1"),
    ),
    *of(
        "verify/exact/certificate_file.py",
        EXACT,
        ("tops[a] * Fraction(s) for s", "Fraction(s) for s"),
    ),
    *of(
        "gaunlearn_jax/theory/worst_case.py",
        WORST,
        ("23 * k * e / xp.sqrt", "22 * k * e / xp.sqrt"),
        ("22.6 * k * e / m", "22.6 * e / m"),
        ("82 * xp.asarray(k) ** 2", "80 * xp.asarray(k) ** 2"),
        ("xp.asarray(k) ** 2 * e / m", "xp.asarray(k) * e / m"),
        ("room = m - 9 * e", "room = m - 8 * e"),
        ("delta * (1 + grow) + 22.6", "delta + 22.6"),
        ("(1.0 + psi + (retained - 1) * phi)", "(1.0 - psi + (retained - 1) * phi)"),
        ("inner = 1.0 - psi - (retained - 1) * phi", "inner = 1.0 - psi - (m - 1) * phi"),
        ("kappa = phi * xp.sqrt(retained)", "kappa = phi * xp.sqrt(float(m))"),
        ("(delta + 2 * leakage * top)", "(delta + leakage * top)"),
        ("/ room**2", "/ room"),
        ("7.2 * leak / m", "7.2 * e / m"),
        ("(3 * leak <= m)", "(2 * leak <= m)"),
        ("1.0 / n if weight_floor is None", "1.0 if weight_floor is None"),
        ("PSI_MAX, EPS_D_MAX, APPROXIMATION_MAX = 0.1,", "PSI_MAX, EPS_D_MAX, APPROXIMATION_MAX = 0.11,"),
    ),
    *of(
        "gaunlearn_jax/theory/lemma_m.py",
        WORST,
        ("b = 1.0 + epsilon * xp.sqrt(xp.maximum(1.0 - psi, 0.0))", "b = 1.0 + epsilon * xp.sqrt(1.0 + psi)"),
        ("4 * safe * delta", "2 * safe * delta"),
        ("epsilon * xp.sqrt(1.0 + psi)) / (1.0 + psi)", "epsilon * xp.sqrt(1.0 + psi)) / (1.0 - psi)"),
        ("(1 - 1 / (p * ratio - 1)) / largest, 1", "(1 - 1 / (p * ratio)) / largest, 1"),
    ),
    *of(
        "gaunlearn_jax/theory/lemma_m.py",
        STEP,
        ("rhs = phi * (jnp.sum(beta) - beta)", "rhs = phi * jnp.sum(beta)"),
        ("problem.amplitudes**2 * point.selection", "problem.amplitudes**2 * point.selection**2"),
    ),
    *of(
        "gaunlearn_jax/theory/instance_bounds.py",
        INSTANCE,
        ("jnp.sqrt(rho**2 + jnp.asarray(epsilon) ** 2) + off", "rho + off"),
        ("off = abs(1 - jnp.asarray(scale)) * rho_perp", "off = abs(1 - jnp.asarray(scale)) * rho"),
        ("sine = scale * rho\n", "sine = rho\n"),
        ("jnp.where(v > 0, v, problem.slope * v)", "jnp.where(v < 0, v, problem.slope * v)"),
        ("live & (problem.groups == group) if", "live if"),
        ("problem.most_of_points(jnp.where(mine, share, 0.0))", "jnp.where(mine, share, 0.0)"),
        ("2 * jnp.sum(lam) - jnp.sum(w**2)", "jnp.sum(lam) + 0 * jnp.sum(w**2)"),
        ("top = jnp.max(jnp.where(forget, 0.0, point.multipliers))", "top = jnp.max(point.multipliers)"),
        ("alpha - jnp.arcsin(jnp.clip(epsilon", "alpha - 0.5 * jnp.arcsin(jnp.clip(epsilon"),
        ("numerics.norm(point.params - inside, point.orthogonal_norm)", "numerics.norm(point.params - inside)"),
    ),
    *of(
        "gaunlearn_jax/theory/closeness.py",
        INSTANCE,
        ("epsilon**2 + 4 * slack", "epsilon**2 + 2 * slack"),
        ("epsilon = near.epsilon + 2 * near.error", "epsilon = 2 * near.error"),
        ("near.norm, most / near.norm", "near.norm, most"),
    ),
    *of(
        "gaunlearn_jax/theory/ball.py",
        INSTANCE,
        ("jnp.sqrt(half**2 + slack)", "jnp.sqrt(half**2 + slack / 2)"),
        ("half = numerics.norm((near - origin) / 2, outside)", "half = numerics.norm((near - origin) / 2)"),
        ("jnp.maximum(linear / shrink - 1.0, 0.0)", "jnp.maximum(concave / shrink - 1.0, 0.0)"),
        ("orthogonal_norm - self.outside", "orthogonal_norm + self.outside"),
        ("turn + jnp.arcsin(jnp.clip(sine, 0.0, 1.0))", "jnp.arcsin(jnp.clip(sine, 0.0, 1.0))"),
    ),
    *of(
        "gaunlearn_jax/theory/step_size.py",
        STEP,
        ("rest + inside + (1 - c) * outside", "rest + inside + c * outside"),
        ("1 + jnp.sum(rest * outside)", "1 - jnp.sum(rest * outside)"),
        ("jnp.maximum(0.0, alpha - angle)", "jnp.maximum(0.0, alpha + 0 * angle)"),
    ),
    *of(
        "gaunlearn_jax/theory/activations.py",
        STEP,
        ("problem.constraints_of(forget), point.multipliers", "~problem.constraints_of(forget), point.multipliers"),
        ("moved = ~problem.rows_of(forget)", "moved = problem.rows_of(forget)"),
    ),
    *of(
        "gaunlearn_jax/theory/convergence.py",
        STEP,
        ("** 2 / 8 + overshoot", "** 2 / 4 + overshoot"),
        ("jnp.where(problem.free, bend, 0.0)", "bend"),
        ("jnp.minimum(mu**2,", "jnp.maximum(mu**2,"),
        ("numerics.norm(run.params - c * g, run.orthogonal_norm)", "numerics.norm(run.params - c * g)"),
    ),
    *of(
        "gaunlearn_jax/theory/worthwhile.py",
        STEP,
        ("mixed = (1 - eta) ** 2 * b + across", "mixed = (1 - eta) * b + across"),
        ("across / (whole * (1 - eta) ** 2)", "across / whole"),
        ("* p.theta < p.outside * p.hat", "* p.hat < p.outside * p.theta"),
        ("self.rho**2 / jnp.where(whole", "self.rho / jnp.where(whole"),
    ),
    *of(
        "gaunlearn_jax/theory/leaky.py",
        WORST,
        ("slope**2 * b) / slope", "slope * b) / slope"),
        ("(1 + psi) * c)", "(1 - psi) * c)"),
    ),
    *of(
        "gaunlearn_jax/theory/classes.py",
        WORST,
        ("COARSE_EPSILON, COARSE_TAU = 0.48, 0.31", "COARSE_EPSILON, COARSE_TAU = 0.48, 0.3"),
        ("COARSE_TAU * k**2 * e**2", "COARSE_TAU * k * e**2"),
        ("math.sqrt(len(kept)) / top", "math.sqrt(len(points)) / top"),
    ),
    *of(
        "gaunlearn_jax/theory/classes.py",
        "tests/theory/test_class_bounds.py",
        ("4 * safe * (classes - 1) * delta", "4 * safe * delta"),
        ("return nu / jnp.sqrt(1.0 + psi)", "return nu / jnp.sqrt(1.0 - psi)"),
        ("numerics.one_minus_cos_of_sine(jnp.asarray(rho / smallest))", "jnp.asarray(rho / smallest) ** 2"),
        ("jnp.sqrt(2.0 * kept * (classes - 1) * (1.0 + psi))", "jnp.sqrt(2.0 * kept * (1.0 + psi))"),
        ("least = 1.0 - psi - (kept - 1)", "least = 1.0 - psi - 0 * (kept - 1)"),
        ("jnp.sqrt(jnp.sum(retained) / jnp", "jnp.sqrt(retained.shape[0] / jnp"),
    ),
    *of(
        "gaunlearn_jax/theory/cross_entropy.py",
        "tests/theory/test_class_bounds.py",
        ("jnp.log(scale) + jnp.log(kappa) - top", "jnp.log(kappa) - top"),
        ("kappa = jnp.sum(theta * down)", "kappa = 2 * jnp.sum(theta * down)"),
        ("theta = run.params / scale", "theta = run.params"),
    ),
    *of(
        "gaunlearn_jax/training/train.py",
        "tests/training/test_losses.py",
        ("log_slope(soft) + soft)", "log_slope(soft))"),
    ),
    *of(
        "gaunlearn_jax/models/classes.py",
        "tests/models/test_class_models.py",
        ("rival = rival + (rival >= own[:, None])", "rival = rival + (rival > own[:, None])"),
        ("2 * (before % odd) + 1", "2 * (before % even) + 1"),
    ),
    *of(
        "gaunlearn_jax/kkt/programme.py",
        "tests/kkt/test_class_networks.py",
        ("(pull**2 > FAR**2 * square)", "(pull**2 > square)"),
        ("FAR, RAY_ROUNDING = 1e6, 256", "FAR, RAY_ROUNDING = 1e30, 256"),
    ),
    *of(
        "verify/exact/classes.py",
        "tests/exact/test_class_files.py",
        ("a, b = 1 - others * mu", "a, b = 1 + others * mu"),
        ("4 * a * (q.n - 1) * claim", "4 * a * claim"),
        ("root(nu_squared / (1 + claim", "root(nu_squared / (1 - claim"),
        ('arb("0.48") * nu * q.k', 'arb("0.48") * q.k'),
        ('arb("0.31") * q.k**2 * e**2', 'arb("0.31") * q.k * e**2'),
        ("rho = q.k * found.upper", "rho = found.upper"),
        ("return len(own) == 1 and sorted", "return sorted"),
    ),
    *of(
        "gaunlearn_jax/theory/scale_free.py",
        "tests/theory/test_scale_free.py -k formula",
        ("jnp.sqrt((1 + phi) * delta)", "jnp.sqrt((1 - phi) * delta)"),
        ("jnp.sum(inverse) + m * noise", "jnp.sum(inverse) + noise"),
        ("jnp.min(jnp.abs(problem.amplitudes))", "jnp.max(jnp.abs(problem.amplitudes))"),
    ),
    *of(
        "gaunlearn_jax/theory/generalization.py",
        "tests/theory/test_generalization.py tests/theory/test_worst_cases.py",
        ("0.5 * data.mean_norm**2 * total", "data.mean_norm**2 * total"),
        ("jax.nn.logsumexp(-exponent) - jnp.log(2.0)", "jax.nn.logsumexp(-exponent)"),
        ("net.negative_slope * nu + (1 - net.negative_slope)", "net.negative_slope * nu + (1 + net.negative_slope)"),
    ),
    *of(
        "gaunlearn_jax/data/chances.py",
        "tests/known_answers/test_tails.py",
        ("1 / (12 * a)", "1 / (6 * a)"),
        ("square / (1 + math.sqrt(1 + square))", "0 * square"),
    ),
    *of(
        "gaunlearn_jax/unlearn/certificates.py",
        CERTIFICATES,
        ("params=point.params - scale * outside", "params=point.params - outside"),
        ("h_z - problem.preactivations(inside)", "h_z"),
        ("jnp.minimum(smallest, 1.0)", "smallest"),
        ("point.multipliers / shrink, point.selection", "point.multipliers, point.selection"),
        ("lam = jnp.where(gone, 0.0, multipliers)", "lam = multipliers"),
        ("jnp.where(orthogonal > 0, 0.0, after.orthogonal_norm)", "jnp.zeros_like(orthogonal)"),
        ("z=jnp.where(gone, problem.preactivations(inside), point.preactivations)", "z=point.preactivations"),
    ),
    *of(
        "gaunlearn_jax/unlearn/estimators.py",
        STEP,
        ("far = phi * (jnp.sum(lam) - lam)", "far = phi * jnp.sum(lam)"),
        ("noise = first / jnp.sqrt(size)", "noise = first / size"),
    ),
    *of(
        "gaunlearn_jax/kkt/points.py",
        CERTIFICATES,
        ("lam * (margins - 1.0), -jnp.inf", "lam * margins, -jnp.inf"),
        ("epsilon=numerics.norm(residual, orthogonal_norm)", "epsilon=numerics.norm(residual)"),
    ),
    *of(
        "gaunlearn_jax/kkt/hard_margin.py",
        "tests/known_answers/test_complementarity.py tests/known_answers/test_wide_tables.py",
        ("= face.multipliers * target[face.active]", "= face.multipliers"),
        ("t = min(drop, full)", "t = full"),
        ('level = solve_triangular(r, target[active], trans="T")', "level = solve_triangular(r, target[active])"),
    ),
    *of(
        "gaunlearn_jax/kkt/host.py",
        "tests/known_answers/test_nonnegative.py tests/audit/test_host.py",
        ("np.where(pull > 0, 1.0, problem.slope)", "np.where(pull > 0, problem.slope, 1.0)"),
        ("epsilon = norm(residual, orthogonal_norm)", "epsilon = norm(residual)"),
    ),
    *of(
        "gaunlearn_jax/kkt/least_squares.py",
        "tests/kkt/test_least_squares.py tests/known_answers/test_nonnegative.py",
        ("return found / size, optimal", "return found, optimal"),
        ("np.all(pull <= floor) and np.all(np.abs", "np.all(np.abs"),
    ),
    *of(
        "gaunlearn_jax/kkt/dual.py",
        "tests/known_answers/test_programmes.py",
        ("multipliers=best.lam * unit", "multipliers=best.lam"),
    ),
    *of(
        "gaunlearn_jax/kkt/programme.py",
        "tests/known_answers/test_programmes.py",
        ("jnp.clip(lam, 0.0, p.cap)", "jnp.clip(lam, -p.cap, p.cap)"),
        (
            "short = jnp.where(lam < p.cap, jnp.maximum(-gap, 0.0), 0.0)",
            "short = jnp.where(lam < p.cap, 0.0 * gap, 0.0)",
        ),
    ),
    *of(
        "gaunlearn_jax/kkt/newton.py",
        "tests/known_answers/test_programmes.py",
        ("p.valid & ~s.capped & (gap < -floor)", "p.valid & ~s.capped & (gap > floor)"),
        ("support = jnp.where(s.support, (lam > 0) & (lam <= p.cap)", "support = jnp.where(s.support, lam <= p.cap"),
    ),
    *of(
        "gaunlearn_jax/kkt/newton.py",
        "tests/kkt/test_dual.py",
        ("support = jnp.where(patience < 0,", "support = jnp.where(patience < -PIVOT_STEPS,"),
    ),
    *of(
        "verify/exact/bounds.py",
        EXACT,
        ("82 * k**2 * e / m", "80 * k**2 * e / m"),
        ('arb("22.6") * k * e / m', 'arb("22.6") * e / m'),
        ("23 * k * e / root(m)", "23 * e / root(m)"),
        ('arb("7.2") * x', 'arb("7.1") * x'),
        ('root(inside + claim["epsilon_1"] ** 2)', "root(inside)"),
        ('(q.weight * (1 + claim["psi"]', '(q.weight * (1 - claim["psi"]'),
        ('q.claim["delta_1"] + 2 * leak * largest', 'q.claim["delta_1"] + leak * largest'),
        ("abs(1 - q.step) * root(rest)", "abs(1 - q.step) * root(inside)"),
        ("side, norm = q.step * root(inside)", "side, norm = root(inside)"),
    ),
    *of(
        "verify/exact/balls.py",
        NAMED,
        ('1 + self.claim["epsilon_1"] * root((1 - ', '1 + self.claim["epsilon_1"] * root((1 + '),
        (
            "2 * total(arb(solution.multipliers[a]) for a in kept) - square",
            "total(arb(solution.multipliers[a]) for a in kept)",
        ),
        ("v**2 if v > 0 else", "v**2 if v < 0 else"),
        ("self.step * (self.z_step - self.inside(self.z_step))", "self.step * self.z_step"),
    ),
    *of(
        "verify/exact/inequalities.py",
        NAMED,
        ('claim["epsilon_1"] * root(top * q.weight)', 'claim["epsilon_1"] * root(q.weight)'),
        ('q.claim["phi"] * others[i] + noise[i]', 'q.claim["phi"] * others[i]'),
        ("total(abs(v[e] * mu[e]) for e in gone)", "total(v[e] * mu[e] for e in gone)"),
        ("root(square + 4 * slack)", "root(square + 2 * slack)"),
        (
            "root(1 - sine**2) * root(1 - other**2) + sine * other",
            "root(1 - sine**2) * root(1 - other**2) - sine * other",
        ),
        ("q.omega) / 4 + slack)", "q.omega) / 4)"),
        ("root(1 - one**2) * root(1 - two**2) - one * two", "root(1 - one**2) * root(1 - two**2)"),
        ("sine * (1 - tau) - root(1 - sine**2)", "sine - root(1 - sine**2)"),
    ),
    *of(
        "verify/exact/statements.py",
        EXACT,
        ("(low >= high) if strict else (low > high)", "(low > high) if strict else (low >= high)"),
        ("low = high\n", "low = low\n"),
        ('tops[a], 0.0, f"the forgotten constraint', '0.0, tops[a], f"the forgotten constraint'),
        ('(1 - q.claim["tau"]) ** 2', '(1 - q.claim["tau"])'),
        ('share * q.omega, "epsilon"', 'q.omega, "epsilon"'),
        ('Check(1, margins[a], f"the margin', 'Check(0, margins[a], f"the margin'),
        ("abs(gram[i][j] - gram[j][i]), 0.0", "0.0, abs(gram[i][j] - gram[j][i])"),
    ),
]
