"""Certificate documents of instances made in plain NumPy, their mutations, and what both checkers say of them."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
from reference.exact_fractions import answers, stated

from gaunlearn_jax.models.problem import MarginProblem
from verify.certify import documents
from verify.exact import certificate_file, inequalities, statements

OUT = 1 + 2.0**-46
MEANING = {statements.PROVED: True, statements.REFUTED: False, statements.NOT_APPLICABLE: None}
Array = np.ndarray[Any, np.dtype[np.float64]]


def gram(rng: np.random.Generator, m: int, size: float) -> Array:
    """Nearly orthogonal points: unit diagonal, off-diagonals of the given size."""
    noise = rng.normal(size=(m, m)) * size
    return np.eye(m) + (noise + noise.T) / 2


def labels(m: int) -> Array:
    return np.where(np.arange(m) % 2 == 0, 1.0, -1.0)


def weights(n: int) -> Array:
    return np.where(np.arange(n) % 2 == 0, 1.0, -1.0) / np.sqrt(n)


def linear_point(rng: np.random.Generator, k: Array, y: Array) -> tuple[Array, Array, Array]:
    """Hard-margin solution with every constraint active: (Z, lambda, mu)."""
    lam = np.linalg.solve(y[:, None] * k * y, np.ones(y.size))
    assert lam.min() >= 0
    return (y * OUT)[None, :], lam * OUT, (lam * OUT)[None, :]


def relu_point(rng: np.random.Generator, k: Array, y: Array, u: Array) -> tuple[Array, Array, Array]:
    """KKT point for a random pattern A of same-sign pairs: solve q_i = 1 and z_ji = 0 on the kinks, and move
    opposite-sign pairs between kink and inactive until the signs are right."""
    n, m = u.size, y.size
    same = np.sign(u)[:, None] * y > 0
    active = same & (rng.random((n, m)) < 0.8)
    active[:2] |= same[:2]
    kink = ~same
    for _ in range(60):
        pairs = np.argwhere(kink)
        size = m + len(pairs)
        w = np.zeros((n, m, size))  # Q as a linear map of (lambda, mu on kinks)
        for i in range(m):
            w[active[:, i], i, i] = u[active[:, i]] * y[i]
        for p, (j, i) in enumerate(pairs):
            w[j, i, m + p] = u[j] * y[i]
        z = np.einsum("jis,ik->jks", w, k)
        rows = [y[i] * np.einsum("j,js->s", u * active[:, i], z[:, i]) for i in range(m)]
        rows += [z[j, i] for j, i in pairs]
        solution = np.linalg.solve(np.array(rows), np.r_[np.ones(m), np.zeros(len(pairs))])
        mu_kink, values = np.zeros((n, m)), z @ solution
        mu_kink[tuple(pairs.T)] = solution[m:]
        wrong = (kink & (mu_kink < 0)) | (~same & ~kink & (values > 0))
        if not wrong.any():
            break
        kink ^= wrong
    lam, values = solution[:m], np.where(kink, 0.0, values)
    values = np.where(same & ~active, np.minimum(values, 0.0), values)
    mu = np.where(active, lam, np.where(kink, np.minimum(mu_kink, lam), 0.0))
    return values * OUT, lam * OUT, mu * OUT


def norm(k: Array, a: Array) -> float:
    return float(np.sqrt(max(0.0, np.trace(a @ np.linalg.solve(k, a.T)))))


def measure(
    k: Array, y: Array, u: Array, z: Array, lam: Array, mu: Array, linear: bool, points: Array
) -> tuple[float, float]:
    """(epsilon, delta) in float64."""
    e = z - (u[:, None] * y * mu) @ k
    q = y * (u @ (z if linear else np.maximum(z, 0)))
    return norm(k, e), float(np.max((lam * (q - 1))[points]))


def one_minus_cos(k: Array, b: Array, difference: Array) -> float:
    """1 - cos between b and b + difference, from the difference."""
    a = b + difference
    inner = np.trace(b @ np.linalg.solve(k, difference.T)) / norm(k, b) ** 2
    perpendicular = norm(k, difference - inner * b)
    cos = np.trace(a @ np.linalg.solve(k, b.T)) / (norm(k, a) * norm(k, b))
    return (perpendicular / norm(k, a)) ** 2 / (1 + cos)


def namespace(z: Array, lam: Array, mu: Array) -> dict[str, Any]:
    """The parts of a point that a file holds; one constraint a column of mu."""
    selection = np.divide(mu, lam, out=np.zeros_like(mu), where=lam > 0)
    return {"preactivations": z, "multipliers": lam, "selection": selection}


def network_problem(k: Array, u: Array, y: Array, slope: float) -> MarginProblem:
    """One output; the rows are not read by what writes files."""
    groups: Any = (y < 0).astype(int)
    rows: Any = k
    return MarginProblem(rows, u[:, None] * y, groups, 2, slope)  # type: ignore[arg-type]


def old(doc: dict[str, Any], y: Array, u: Array, mu: Array, mu2: Array) -> dict[str, Any]:
    """The document of version 1 of a network or linear model."""
    out = copy.deepcopy(doc) | {"format": dict(certificate_file.OLD_FORMAT)}
    out |= {"labels": y.tolist(), "output_weights": u.tolist(), "mu": mu.tolist()}
    out["model"] = {"kind": "linear" if out["slope"] == 1 else "relu"}
    out["certificate"]["mu"] = mu2.tolist()
    for key in ("amplitudes", "slope", "layout", "groups", "selection"):
        out.pop(key)
    out["certificate"].pop("selection")
    return out


def document(
    seed: int,
    kind: str = "projection",
    strength: str | None = "instance",
    *,
    linear: bool = False,
    trained: bool = False,
    m: int = 4,
    n: int = 4,
    k: int = 1,
    size: float = 1e-3,
    omega: float = 0.0,
    step: float = 1.0,
    name: str | None = None,
    version: int = 1,
) -> dict[str, Any]:
    """A true certificate document of a random instance."""
    rng = np.random.default_rng(seed)
    gm, y = gram(rng, m, size), labels(m)
    u = np.ones(1) if linear else weights(n)
    z, lam, mu = linear_point(rng, gm, y) if linear else relu_point(rng, gm, y, u)
    if trained:
        z = z * (1 + 0.05 * rng.random(z.shape))
        q = y * (u @ (z if linear else np.maximum(z, 0)))
        scale = OUT / q.min()
        z = z * scale
    gone = np.sort(rng.choice(m, k, replace=False))
    kept = np.setdiff1d(np.arange(m), gone)
    block, cross = gm[np.ix_(kept, kept)], gm[np.ix_(gone, kept)]
    q_forget = np.zeros_like(mu)
    q_forget[:, gone] = (u[:, None] * y * mu)[:, gone]
    h = q_forget @ gm
    inside = h.copy()
    inside[:, gone] = h[:, kept] @ np.linalg.solve(block, cross.T)
    lam2, mu2, factor, z2 = lam.copy(), mu.copy(), None, z.copy()
    lam2[gone], mu2[:, gone] = 0, 0
    if kind == "projection":
        z2[:, gone] -= step * (h - inside)[:, gone]
        difference = -step * inside
    elif kind == "span":
        z2[:, gone] = z[:, kept] @ np.linalg.solve(block, cross.T)
        difference = z - step * h - z2
    elif kind == "retrain":
        lam2[kept] = np.linalg.solve(y[kept, None] * block * y[kept], np.ones(kept.size)) * OUT
        mu2 = lam2[None, :]
        z2[:, kept] = y[kept] * OUT
        z2[:, gone] = z2[:, kept] @ np.linalg.solve(block, cross.T)
        difference = z - step * h - z2
    else:
        factor = OUT / min(1.0, float((y * (z - step * h)[0])[kept].min()))
        lam2, mu2, z2 = lam2 * factor, mu2 * factor, (z - step * h) * factor
        difference = np.zeros_like(z)
    eps1, delta1 = measure(gm, y, u, z, lam, mu, linear, np.arange(m))
    eps, delta = measure(gm, y, u, z2, lam2, mu2, linear, kept)
    share = {"projection": 1.0, "scaling": factor or 0.0}.get(kind, 0.0)
    tau = one_minus_cos(gm, z2, difference)
    if omega:  # the orthogonal part in the angle, from the three inner products
        a, b = norm(gm, z2 + difference) ** 2 + omega, norm(gm, z2) ** 2 + share**2 * omega
        ab = float(np.trace((z2 + difference) @ np.linalg.solve(gm, z2.T))) + share * omega
        tau = max(0.0, 1 - ab / np.sqrt(a * b)) + 1e-12
    point = namespace(z, lam, mu) | {"epsilon": float(np.hypot(eps1, np.sqrt(omega))), "delta": delta1}
    point |= {"orthogonal_norm": np.sqrt(omega)}
    certificate = namespace(z2, lam2, mu2) | {"kind": kind, "delta": delta, "tau": tau}
    certificate |= {"epsilon": float(np.hypot(eps, share * np.sqrt(omega)))}
    problem = network_problem(gm, u, y, float(linear))
    bound = None
    if strength is not None:
        name = name or ("scaling" if kind == "scaling" else "span" if kind == "span" else "projection")
        bound = {"name": name, "strength": strength, "epsilon": 0.0, "delta": 0.0, "tau": 0.0}
    result = documents.build(
        gm, problem, gone, SimpleNamespace(**point), SimpleNamespace(**certificate), step_scale=step, bound=bound
    )
    if version == 1:
        result = old(result, y, u, mu, mu2)
        result["orthogonal_norm_squared"] = omega
    if factor is not None:
        result["certificate"]["factor"] = factor
    if bound is not None:
        result["bound"].update(stated(result))
    return result


def pool() -> list[dict[str, Any]]:
    """One small true document of every sort."""
    sorts: list[dict[str, Any]] = [
        {"kind": "projection", "strength": s, "linear": lin, "trained": t, "size": 1e-4}
        for lin in (False, True)
        for s in ("instance", "sharp")
        for t in (False, True)
    ]
    sorts += [{"kind": "projection", "strength": "coarse", "trained": t, "size": 1e-5} for t in (False, True)]
    sorts += [
        {"kind": "scaling", "strength": s, "linear": True, "trained": t, "size": 1e-3}
        for s in ("instance", "sharp", "coarse")
        for t in (False, True)
    ]
    sorts += [{"kind": "span", "strength": s, "trained": t} for s in (None, "instance") for t in (False, True)]
    sorts += [{"kind": "retrain", "strength": None, "linear": True, "trained": True}]
    sorts += [{"kind": "projection", "k": 2, "m": 5, "trained": True, "omega": 0.01}]
    sorts += [{"kind": "projection", "k": 0, "trained": True}, {"kind": "projection", "step": 0.75}]
    sorts += [{"strength": "scale_free", "size": 0.02, "linear": lin, "trained": t, "m": 5, "k": 2}
              for lin in (False, True) for t in (False, True)]  # fmt: skip
    return [document(seed, **sort) for seed, sort in enumerate(sorts)]


def compare(doc: dict[str, Any]) -> statements.Report:
    """The checker's answers agree with those of the fractions, and nothing is undecided that has a meaning."""
    report, expected = statements.check_document(doc), answers(doc)
    for s in report.statements:
        if s.name == "bound.stated":
            continue
        assert s.answer in MEANING, s
        assert MEANING[s.answer] is expected[s.name], (s, expected[s.name])
    return report


MUTATIONS = ("gram", "asymmetric", "label", "multiplier", "mu", "z", "claim", "forget", "factor", "weight")


def mutate(rng: np.random.Generator, doc: dict[str, Any]) -> str:
    """Change one number of the document in place, beyond its rounding room; returns what was changed."""
    what = str(rng.choice(MUTATIONS))
    shift = float(rng.choice([-1, 1]) * 10 ** rng.uniform(-9, 0))
    m, n = len(doc["gram"]), len(doc["mu"])
    i, j, l = int(rng.integers(m)), int(rng.integers(n)), int(rng.integers(m))
    owner = doc["certificate"] if rng.random() < 0.5 else doc
    if what in ("gram", "asymmetric"):
        doc["gram"][i][l] += shift
        if what == "gram":
            doc["gram"][l][i] = doc["gram"][i][l]
    elif what == "label":
        doc["labels"][i] *= -1
    elif what == "multiplier":
        owner["multipliers"][i] += shift
    elif what == "mu":
        owner["mu"][j][i] += shift
    elif what == "z":
        owner = owner if owner["preactivations"] is not None else doc
        owner["preactivations"][j][i] += shift
    elif what == "claim":
        name = str(rng.choice(certificate_file.CLAIMS))
        value = doc["claimed"][name] * float(10 ** rng.uniform(-3, 0.3))
        doc["claimed"][name] = min(value, 2.0)
        return f"{what} {name}"
    elif what == "forget":
        doc["forget"] = [i]
    elif what == "factor":
        doc["certificate"]["factor"] = abs(doc["certificate"]["factor"] + shift)
    elif n > 1:
        doc["output_weights"][j] += shift
    return what


def turned_round(name: str) -> inequalities.Inequality:
    """The named inequality with lhs and rhs exchanged: where it holds strictly, a checker must refute this."""
    right = inequalities.NAMED[name]

    def reverse(q: Any) -> inequalities.Entries:
        found, hypotheses = right.sides(q)
        return inequalities.Entries([(rhs, lhs) for lhs, rhs in found], hypotheses)

    return right._replace(sides=reverse)
