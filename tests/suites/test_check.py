"""Tallies: what counts as evidence, which seed is the worst, what the exit code says."""

from __future__ import annotations

import numpy as np

from gaunlearn_jax import Reason
from verify.run.rows import exit_code, tally
from verify.suites import linear, relu
from verify.suites.check import check, worst

SEEDS = np.arange(10, 14)


def row(claim="relu", **counts):
    base = dict.fromkeys(("holds", "violated", "inconclusive", "not_applicable", "unconverged"), 0)
    return {"claim": claim} | base | counts


def test_tally_counts_verdicts_and_finds_the_worst_seed():
    values = check(
        lhs=np.array([0.5, 0.9, 3.0, 0.1]),
        rhs=np.ones(4),
        reason=np.array([0, 0, int(Reason.EMPTY), 0]),
        converged=np.array([True, True, True, False]),
        discriminating=np.array([1.0, 0.0, 1.0, 1.0]),
    )
    got = tally(values, SEEDS)
    assert (got["holds"], got["not_applicable"], got["unconverged"], got["violated"]) == (2, 1, 1, 0)
    assert got["worst_ratio"] == 0.9
    assert got["worst_seed"] == 11
    assert got["discriminating"] == 0.5  # of the two applicable lanes alone
    assert got["reasons"] == {Reason.EMPTY.text: 1}


def test_a_violation_is_the_worst_seed_and_ties_are_inconclusive():
    got = tally(check(np.array([1.0, 1.2, 1.0, 2.0]), np.ones(4), np.array([1e-9, 0.0, 1e-9, 0.0])), SEEDS)
    assert (got["violated"], got["inconclusive"]) == (2, 2)
    assert got["worst_seed"] == 13


def test_lanes_without_evidence_have_no_ratio():
    got = tally(check(np.full(4, np.nan), np.ones(4)), SEEDS)
    assert got["unconverged"] == 4
    assert got["worst_ratio"] is None
    assert got["discriminating"] is None


def test_worst_of_many_comparisons():
    lhs, rhs = np.array([[1.0, 2.0], [5.0, 0.0]]), np.array([[2.0, 2.5], [4.0, 1.0]])
    inside = np.array([[True, True], [False, True]])
    np.testing.assert_allclose(worst(lhs, rhs, np.zeros((2, 2)), inside), (2.0, 2.5, 0.0))
    np.testing.assert_allclose(worst(lhs, rhs, np.zeros((2, 2)), np.zeros((2, 2), bool)), (0.0, 1.0, 0.0))


def test_exit_codes_in_their_precedence():
    suites = (linear.SUITE, relu.SUITE)
    good = [row("linear", holds=100), row(holds=100)]
    assert exit_code(good, suites) == 0
    assert exit_code([*good, row(not_applicable=100)], suites) == 0
    assert exit_code([*good, row(violated=1)], suites) == 1
    assert exit_code([row("linear", holds=100), row(not_applicable=100)], suites) == 3
    assert exit_code([row("linear", holds=100)], suites) == 3
    assert exit_code([*good, row(unconverged=3)], suites) == 3
    assert exit_code([row("linear", violated=1), row(not_applicable=9)], suites) == 1
