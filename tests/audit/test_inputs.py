"""What people pass to an audit: labels, features and indices of many kinds, weights that are no KKT point, twins."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import gaunlearn_jax as ga
from gaunlearn_jax.audit.classes import audit_classes

RNG = np.random.default_rng(6)
X = RNG.normal(size=(12, 5))
Y = np.where(X @ np.array([1.0, -2, 1, 0.5, -1]) > 0, 1, 0)


class Frame:
    """A data frame or series as the audit sees it: its own index, and to_numpy."""

    def __init__(self, values):
        self.values, self.index = values, range(1000, 1000 + len(values))

    def __len__(self):
        return len(self.values)

    def __iter__(self):
        return iter(self.index)

    def to_numpy(self):
        return np.asarray(self.values)


class NA:
    """As pandas.NA: equal to nothing, and no truth value."""

    def __eq__(self, other):
        return self

    def __ne__(self, other):
        return self

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = None


@pytest.fixture(scope="module")
def plain():
    return ga.audit(X, Y, [0, 3])


def same(answer, plain):
    np.testing.assert_array_equal(answer.multipliers, plain.multipliers)
    assert answer.forget == plain.forget


LABELS = {
    "list": Y.tolist(),
    "bool": Y == 1,
    "column": Y[:, None],
    "object numbers": Y.astype(object),
    "object bools": (Y == 1).astype(object),
    "object strings": np.where(Y == 1, "sick", "healthy").astype(object),
    "strings": np.where(Y == 1, "sick", "healthy"),
    "bytes": np.where(Y == 1, b"sick", b"healthy"),
    "series": Frame(Y),
    "nullable series": Frame((Y == 1).astype(object)),
    "category": Frame(np.where(Y == 1, "sick", "healthy").astype(object)),
    "frame of one column": Frame(Y[:, None]),
    "float16": Y.astype(np.float16),
    "bfloat16": Y.astype(ml_dtypes.bfloat16),
    "big-endian": Y.astype(">i4"),
    "generator": (int(v) for v in Y.tolist()),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_many_kinds(unchecked, plain, kind):
    answer = ga.audit(X, LABELS[kind], [0, 3])
    same(answer, plain)
    assert all(isinstance(value, str | bool | int | float) for value in answer.classes)


def read_only(x):
    out = x.copy()
    out.flags.writeable = False
    return out


FEATURES = {
    "frame": Frame(X),
    "object frame": Frame(X.astype(object)),
    "lists": X.tolist(),
    "columns first": np.asfortranarray(X),
    "strided": np.repeat(X, 2, axis=0)[::2],
    "reversed twice": X[::-1][::-1],
    "big-endian": X.astype(">f8"),
    "read-only": read_only(X),
    "rows one by one": (row for row in X),
}


@pytest.mark.parametrize("kind", FEATURES)
def test_features_of_many_kinds(unchecked, plain, kind):
    same(ga.audit(FEATURES[kind], Y, [0, 3]), plain)


@pytest.mark.parametrize("dtype", [bool, np.float16, ml_dtypes.bfloat16, np.int8])
def test_narrow_features_keep_their_values(unchecked, dtype):
    x = np.eye(6, 8).astype(dtype)
    same(ga.audit(x, [0, 1] * 3, [1]), ga.audit(np.eye(6, 8), [0, 1] * 3, [1]))


INDICES = {
    "generator": lambda: (i for i in (0, 3)), "map": lambda: map(int, "03"), "set": lambda: {0: None, 3: None}.keys(),
    "array": lambda: np.array([0, 3], np.int8), "series": lambda: (np.int64(0), np.int64(3)),
}  # fmt: skip


@pytest.mark.parametrize("kind", INDICES)
def test_indices_are_read_once(unchecked, plain, kind):
    same(ga.audit(X, Y, INDICES[kind]()), plain)


BAD = {
    "none": ({"labels": [*Y[:-1].tolist(), None]}, r"labels\[11\] is missing \(None\)"),
    "nan among objects": ({"labels": np.array([*Y[:-1], float("nan")], object)}, r"labels\[11\] is missing"),
    "NA": ({"labels": Frame(np.array([*Y[:-1], NA()], object))}, r"labels\[11\] is missing"),
    "mixed": ({"labels": np.array([*Y[:-1], "sick"], object)}, r"labels\[11\] is a string, expected one kind"),
    "things": ({"labels": np.array([*Y[:-1], {}], object)}, r"labels\[11\] is a dict"),
    "empty": ({"labels": np.array([*["a"] * 6, *["b"] * 5, " "])}, r"labels\[11\] is empty"),
    "complex": ({"labels": Y.astype(complex)}, "labels has dtype complex128"),
    "dates": ({"labels": Y.astype("M8[s]")}, "labels has dtype datetime64"),
    "wide": ({"labels": np.stack([Y, Y], axis=1)}, r"labels has shape \(12, 2\)"),
    "missing feature": ({"points": Frame(np.array([[*X[0, :4], None], *X[1:]], object))}, r"points\[0, 4\] is missing"),
    "words": ({"points": np.full((12, 5), "a", object)}, "points has dtype"),
    "huge": ({"points": X * 1e160}, "other units"),
    "tiny": ({"points": X * 1e-160}, "other units"),
    "one index": ({"forget": 3}, "list of indices"),
    "text": ({"forget": "03"}, "list of indices"),
    "twice": ({"forget": (i for i in (1, 1))}, "repeat an index"),
    "mask": ({"forget": Y == 1}, "dtype bool"),
    "seed": ({"seed": 2**32}, "seed is 4294967296"),
    "negative seed": ({"seed": -1}, "seed is -1"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_bad_inputs_are_named(unchecked, kind):
    change, message = BAD[kind]
    with pytest.raises(ValueError, match=message):
        ga.audit(**({"points": X, "labels": Y, "forget": [0]} | change))


def test_ridge_weights_get_no_statement():
    """w = sum_i a_i y_i x_i with all a_i > 0 is stationary for those multipliers, which sit beyond the margin."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(8, 400)) / 20, np.array([1.0, -1] * 4)
    w = (y * np.geomspace(1, 9, 8)) @ x
    answer = ga.audit(x, y, [2], weights=w)
    assert answer.epsilon < 1e-9 * answer.norm
    assert answer.verdict == "no KKT point"
    assert "delta_1 = " in str(answer).split("\n")[0]
    assert "No statement about point 2" in str(answer)
    # the maximum-margin weights of the same data are judged
    exact = ga.audit(x, y, [2])
    assert exact.slack < 1e-9 * exact.norm**2
    assert exact.verdict != "no KKT point"


def test_twins_are_judged_by_the_retrained_model():
    """Either of two equal points may carry the multiplier, and without one of them the model stays as it is."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(6, 30)) / 6
    x[3], y = x[0], np.array([1.0, -1, 1, 1, -1, -1])
    answers = [ga.audit(x, y, [i]) for i in (0, 3)]
    assert {answer.verdict for answer in answers} == {"nothing to forget"}
    assert not any(answer.unique for answer in answers)
    assert all("multipliers are not unique" in str(answer).split("\n")[0] for answer in answers)
    both = ga.audit(x, y, [0, 3])
    assert both.verdict != "nothing to forget"
    assert ga.audit(x, y, [1]).unique


def test_collinear_points_on_the_margin():
    """x_2 = (x_0 + x_1)/2 of one class lies on the margin with them and can be left out for nothing."""
    x = np.array([[1.0, 2, 0], [1, 0, 0], [1, 1, 0], [-1, 0, 2]])
    answer = ga.audit(x, [1, 1, 1, 0], [2])
    assert not answer.unique
    assert answer.verdict == "nothing to forget"


@pytest.mark.parametrize("kind", INDICES)
def test_indices_of_classes_are_read_once(unchecked, kind):
    """The function for several classes alone, with the same iterators."""
    labels = np.arange(12) % 3
    x = RNG.normal(size=(12, 40))
    plain, answer = (audit_classes(x, labels, given) for given in ([0, 3], INDICES[kind]()))
    same(answer, plain)
    with pytest.raises(ValueError, match="list of indices"):
        audit_classes(x, labels, 3)
