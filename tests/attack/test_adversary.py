"""The adversary: derivatives against finite differences, a weakened bound is violated, files, resuming, the command."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaunlearn_jax as ga
from gaunlearn_jax import kkt
from gaunlearn_jax.base import numerics
from gaunlearn_jax.theory import worst_case
from verify.attack import candidates, search, targets
from verify.attack.candidates import Candidate, Space
from verify.cli import main
from verify.exact import certificate_file
from verify.suites.check import Check

SMALL = Space("relu", 4, 4, 1)
LINE = Space("linear", 5)
LANES = 16


def candidate(space: Space, seed: int = 0, loose: float = 0.0) -> Candidate:
    """One random candidate, without a lane axis."""
    drawn = search.fresh(np.random.default_rng(seed), space, 1)
    one = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), drawn)
    return one._replace(off=jnp.clip(one.off, -1, 1), loose=jnp.asarray(loose))


@jax.jit
def solved(c: Candidate) -> candidates.Start:
    return candidates.solve(SMALL, True, candidates.data_of(SMALL, c), c.pattern, c.forget)


@pytest.mark.slow
@pytest.mark.parametrize("loose", [0.0, 1.0])
def test_derivatives_on_the_active_sets_are_those_of_the_solution(loose):
    """Against central differences of the whole solver, for the bounds that use the certificate and theta*."""

    @jax.jit
    def value(c: Candidate, start: candidates.Start) -> jax.Array:
        e = candidates.instance(SMALL, c, start)
        return jnp.stack([targets.target(name).sides(e).lhs for name in ("relu/sharp/epsilon", "identity/norm")])

    slopes = jax.jit(jax.jacrev(lambda off, c, start: value(c._replace(off=off), start)))
    checked = 0
    for seed in range(6):
        c = candidate(SMALL, seed, loose)
        got = slopes(c.off, c, solved(c))
        along = np.random.default_rng(seed).normal(size=c.off.shape)
        step = 1e-5
        ahead, behind = (c._replace(off=c.off + s * step * along) for s in (1, -1))
        if not np.array_equal(solved(ahead).whole.preactivations == 0, solved(behind).whole.preactivations == 0):
            continue  # the active sets change in between
        expected = (value(ahead, solved(ahead)) - value(behind, solved(behind))) / (2 * step)
        np.testing.assert_allclose(np.sum(got * along, axis=(1, 2)), expected, rtol=1e-5, atol=1e-8)
        checked += 1
    assert checked >= 4


@pytest.mark.slow
@pytest.mark.parametrize("loose", [0.0, 1.0])
def test_the_sharp_bound_holds_beyond_the_hypotheses_of_the_coarse_one(loose):
    """A thousand exact, and a thousand approximate, points with 4 m n phi > 1."""
    space = Space("relu", 6, 8, 2, eps_d=30.0)
    drawn = search.fresh(np.random.default_rng(0), space, 1024)._replace(loose=np.full(1024, loose))

    def lane(c: Candidate) -> tuple[jax.Array, list[Check]]:
        start = candidates.solve(space, False, candidates.data_of(space, c), c.pattern, c.forget)
        e = candidates.instance(space, c, start)
        return e.record.eps_d, [targets.target(f"relu/sharp/{q}").sides(e) for q in ("epsilon", "tau")]

    eps_d, sides = jax.jit(jax.vmap(lane))(drawn)
    assert np.sum(eps_d > 1) > 1000
    for one in sides:
        assert np.all((one.verdict() == ga.Verdict.HOLDS) | ~one.converged)
        assert np.mean(one.converged) > 0.99
        assert np.max(search.ratios(one)) > 0.05


def test_the_point_of_an_instance_is_the_one_that_the_solver_found():
    c = candidate(SMALL, 3)
    start = solved(c)
    e = candidates.instance(SMALL, c, start)
    np.testing.assert_allclose(e.point.params, start.whole.params, atol=1e-12)
    assert int(e.point.status) == 0
    assert float(e.point.epsilon) < 1e-13
    first = kkt.solve_pattern(e.problem, start.whole.selection, ~c.forget, 0)
    np.testing.assert_allclose(e.retrained[0], first.params, atol=1e-12)


PATCHES = Space("convolution", 4, 6, eps_d=9.0)


@pytest.mark.parametrize("space", [SMALL, LINE, Space("linear", 5, eps_d=3.9, psi=0.15), PATCHES])
def test_hypotheses_hold_by_construction(space):
    rng = np.random.default_rng(0)
    for size in (0.1, 1e3):
        c = candidate(space)._replace(
            off=jnp.asarray(size * rng.normal(size=(space.rows, space.rows))),
            diagonal=jnp.asarray(size * rng.normal(size=space.rows)),
        )
        x = candidates.points(space, c)
        each = candidates.dataset(x, jnp.where(jnp.arange(space.rows) % 2 == 0, 1.0, -1.0))
        psi, phi, eps_d = ga.data.assumptions(each, ga.models.TwoLayerReLU(space.n) if space.n > 1 else space.network())
        assert psi <= space.psi
        assert phi <= space.phi
        assert eps_d <= space.eps_d * space.patches
        assert np.linalg.eigvalsh(numerics.gram(x))[0] >= 1 - space.psi - (space.rows - 1) * space.phi - 1e-12


def test_approximate_points_stay_feasible_and_keep_their_selection():
    c = candidate(SMALL, 5, loose=1.0)
    point = candidates.instance(SMALL, c, solved(c)).point
    assert float(point.epsilon) > 1e-4
    assert float(point.margin) >= 1
    z, s = np.asarray(point.preactivations), np.asarray(point.selection)
    assert np.all(s[z > 0] == 1)
    assert np.all(s[z < 0] == 0)


@jax.jit
@jax.vmap
def point_at_a_vertex(c: Candidate) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Pre-activations and selection of the point of a candidate, and the selection that the solver found."""
    space = Space("relu", 4, 6, 1)
    start = candidates.solve(space, False, candidates.data_of(space, c), c.pattern, c.forget)
    point = candidates.instance(space, c, start).point
    return point.preactivations, point.selection, start.whole.selection


@pytest.fixture(scope="module")
def at_vertices():
    """The same of many candidates at vertices of the box of Gram matrices."""
    lanes = 256
    some = search.fresh(np.random.default_rng(0), Space("relu", 4, 6, 1), lanes)
    some = some._replace(off=9 * np.sign(some.off), diagonal=9 * np.sign(some.diagonal), loose=np.zeros(lanes))
    return tuple(map(np.asarray, point_at_a_vertex(jax.tree.map(jnp.asarray, some))))


def test_no_sign_contradicts_its_selection(at_vertices):
    """At vertices pre-activations cancel to 1e-18, of either sign; one that crosses zero on the second solve would be
    active without a multiplier, and no KKT point."""
    z, s, _ = at_vertices
    assert np.sum(((z > 0) & (s < 1)) | ((z < 0) & (s > 0))) == 0
    smallest = np.min(np.where(z == 0, 1.0, np.abs(z)), axis=(1, 2))
    assert np.sum(smallest < 1e-16) > 5


def test_no_selection_leaves_its_interval(at_vertices):
    """At vertices fractions of kinks cancel to 1e-18 too; one that the second solve carries below 0 is no Clarke
    selection, and the checker refutes its file."""
    _, s, first = at_vertices
    assert np.all((s >= 0) & (s <= 1))
    nearly_none = (first > 0) & (first < 1e-15)
    assert np.sum(nearly_none & (s == 0)) > 5  # how often is a matter of rounding


def test_a_bound_weakened_below_its_supremum_is_violated(tmp_path):
    """Lemma M's upper bound is attained; 5 % below it the search must find a counterexample, and prove it."""
    pytest.importorskip("flint")
    from verify.exact import balls, inequalities, statements

    state = search.search("multipliers/upper", LINE, seconds=100, lanes=LANES, folder=tmp_path, factor=0.95)
    assert state.violated(0.95)
    assert not state.violated()
    path = tmp_path / f"best-{search.stem(state.target, LINE)}.json"
    assert statements.check_files([path])[0] == 0  # the instance is what it claims to be
    q = balls.Quantities(certificate_file.parse(certificate_file.read(path)[0]))
    entries, _ = inequalities.NAMED["multipliers/upper"].sides(q)
    assert any(lhs > 0.95 * rhs for lhs, rhs in entries)
    assert all(lhs <= rhs for lhs, rhs in entries)
    assert max(float(lhs / rhs) for lhs, rhs in entries) == pytest.approx(state.ratio, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["convolution", "classes_relu"])
def test_points_of_several_rows_or_constraints_are_attacked(model, tmp_path):
    pytest.importorskip("flint")
    from verify.exact import statements

    space = Space(model, 4, 6, eps_d=6.0)
    state = search.search("entries/upper", space, seconds=1e-3, lanes=LANES, folder=tmp_path)
    assert not state.violated()
    assert state.ratio > 0.5
    assert statements.check_files(tmp_path.glob("best-*.json"))[0] == 0


@pytest.mark.parametrize(("model", "rows", "kinds"), [("convolution:patches=3", 12, 2), ("classes_relu", 4, 3)])
def test_every_row_has_an_active_neuron_of_each_kind(model, rows, kinds):
    space = Space(model, 4, 6)
    active = search.fresh(np.random.default_rng(0), space, LANES).pattern
    assert active.shape == (LANES, 6, rows)
    assert all(active[:, kind::kinds].any(axis=1).all() for kind in range(kinds))


def test_a_search_goes_on_where_it_was_stopped(tmp_path):
    options = {"lanes": LANES, "folder": tmp_path}
    first = search.search("multipliers/upper", LINE, seconds=1e-3, **options)
    assert first.generation == 1
    again = search.load(tmp_path, "multipliers/upper", LINE, 0, LANES)
    assert again.generation == 1
    assert again.ratio == first.ratio
    second = search.search("multipliers/upper", LINE, seconds=again.seconds + 0.2, **options)
    assert second.generation > 1
    assert second.ratio >= first.ratio
    assert not list(tmp_path.glob(".*.part"))
    state = next(tmp_path.glob("state-*.npz"))
    with pytest.raises(ValueError, match="belongs to another search"):
        search.search("multipliers/upper", LINE, seed=1, **options)
    with pytest.raises(ValueError, match="was made by other code"):
        search.search("multipliers/upper", LINE, **options, code="0.9+1")
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(ValueError, match="is not the state of a search"):
        search.search("multipliers/upper", LINE, **options)


def test_populations_stay_well_formed():
    rng = np.random.default_rng(1)
    space = Space("relu", 5, 6, 2)
    lanes = 40
    some = search.fresh(rng, space, lanes)
    sides = Check(*(np.ones(lanes) * v for v in (0.5, 1.0, 0.0, 0.0, 1.0, 0.0)))._replace(
        converged=np.ones(lanes, bool)
    )
    for _ in range(5):
        some = search.breed(rng, space, (some, sides), lanes)
        assert np.all(np.sum(some.forget, axis=1) == 2)
        assert np.all(np.abs(np.sum(some.labels, axis=1)) < 5)
        assert np.all(np.abs(some.labels) == 1)
        assert some.pattern[:, ::2].any(axis=1).all()
        assert some.pattern[:, 1::2].any(axis=1).all()
        assert set(np.unique(some.loose)) <= {0.0, 1.0}


COMMAND = ["--points", "5", "--lanes", str(LANES), "--minutes", "0.001"]


def test_the_command_searches_proves_and_passes(tmp_path, capsys):
    pytest.importorskip("flint")
    assert main.main(["falsify", "linear/projection/epsilon", *COMMAND, "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "no violation found" in shown
    assert "15 proved" in " ".join(shown.split())
    (path,) = tmp_path.glob("best-*.json")
    assert main.main(["check", str(path)]) == 0


def test_a_false_bound_is_reported_with_a_counterexample(tmp_path, capsys, monkeypatch):
    pytest.importorskip("flint")
    true = worst_case.sharp_linear_projection

    def false(*given, **sizes):
        bound = true(*given, **sizes)
        return dataclasses.replace(bound, epsilon=0.1 * bound.epsilon)

    monkeypatch.setattr(worst_case, "sharp_linear_projection", false)
    for made in (search._step, search._exported):
        made.cache_clear()
    for _ in range(2):  # the same command again finds the same file
        assert main.main(["falsify", "linear/projection/epsilon", *COMMAND, "--out", str(tmp_path)]) == 1
    for made in (search._step, search._exported):
        made.cache_clear()
    assert "violated: linear/projection/epsilon" in capsys.readouterr().out
    (path,) = tmp_path.glob("counterexample-*.json")
    capsys.readouterr()
    assert main.main(["check", str(path)]) == 1
    refuted = [line.split()[0] for line in capsys.readouterr().out.splitlines() if " refuted: " in line]
    assert refuted == ["bound.stated"]  # the file's right-hand side is not that of the theorem
    certificate_file.parse(certificate_file.read(path)[0])


def test_a_file_that_is_not_proved_is_no_evidence(tmp_path, capsys, monkeypatch):
    """A multiplier that is none is no violation of the bound: exit code 3, and the words say so."""
    pytest.importorskip("flint")
    true = search.document

    def unproved(state):
        document = true(state)
        document["selection"][0][0] -= 2.0**-53
        return document

    monkeypatch.setattr(search, "document", unproved)
    assert main.main(["falsify", "linear/projection/epsilon", *COMMAND, "--out", str(tmp_path)]) == 3
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 refuted (original.selection)" in shown
    assert "not proved: linear/projection/epsilon (linear)" in shown
    assert "no violation found" in shown
    assert not list(tmp_path.glob("counterexample-*.json"))


def test_what_the_checker_alone_finds_violated_is_a_violation(tmp_path, capsys, monkeypatch):
    """The file has the name of a counterexample from then on, and the same command finds it again."""
    pytest.importorskip("flint")
    true = search.document

    def violated(state):
        document = true(state)
        document["claimed"]["epsilon"] *= 2
        return document

    monkeypatch.setattr(search, "document", violated)
    for _ in range(2):
        assert main.main(["falsify", "linear/projection/epsilon", *COMMAND, "--out", str(tmp_path)]) == 1
        assert "violated: linear/projection/epsilon" in capsys.readouterr().out
        assert len(list(tmp_path.glob("counterexample-*.json"))) == 1
        assert not list(tmp_path.glob("best-*.json"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["relux"], "did you mean relu?"),
        (["relu/sharp/epsilom"], "did you mean relu/sharp/epsilon?"),
        (["relu", "--points", "1"], "at least 2 points"),
        (["relu", "--neurons", "1"], "one of each sign"),
        (["relu", "--forget", "10"], "1 <= k < m"),
        (["linear", "--eps-d", "5"], "singular Gram matrices"),
        (["entries", "--eps-d", "15.2"], "(20 - 1) eps_d"),
        (["linear", "--eps-d", "nan"], "singular Gram matrices"),
        (["linear", "--psi", "1"], "0 <= psi < 1"),
        (["linear", "--minutes", "0"], "expected a positive number"),
        (["linear", "--lanes", "2"], "at least 4 candidates"),
        (["linear", "--seed", "-1"], "a number >= 0"),
    ],
)
def test_bad_options_are_named(arguments, message, tmp_path, capsys):
    assert main.main(["falsify", *arguments, "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_every_listed_claim_of_a_target_exists():
    from verify.suites import registry

    known = set(registry.CLAIMS.names)
    assert {name.split("/")[0] for name in targets.targets()} <= known
    assert targets.select("all") == list(targets.targets())
    assert targets.select("identity") == ["identity/retrained", "identity/separation", "identity/norm"]


def test_every_target_has_a_bound_or_an_inequality_that_the_checker_derives():
    assert {name for name, attack in targets.targets().items() if attack.bound is None} == set(
        certificate_file.INEQUALITIES
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linear/sharp/delta", "retrain/distance"])
def test_no_bound_is_violated(name):
    state = search.search(name, LINE, seconds=10, lanes=LANES)
    assert not state.violated()
    assert state.ratio > 0.3
