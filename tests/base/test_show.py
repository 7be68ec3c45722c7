"""How results show themselves: numbers of one instance, shapes of many, and never a look at a tracer."""

from __future__ import annotations

import html.parser

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaunlearn_jax as ga
from gaunlearn_jax.base import show


@pytest.fixture(scope="module")
def bound():
    return ga.bounds.Bound(jnp.asarray(0.25), jnp.asarray(1.0), jnp.asarray(2e-7), jnp.asarray(int(ga.Reason.EMPTY)))


def test_one_instance_shows_its_numbers(bound, drawn):
    assert repr(bound) == f"Bound(epsilon=0.25, delta=1, tau=2e-07, reason={ga.Reason.EMPTY.text})"
    shown = repr(drawn)
    assert shown == "Dataset(dim=1e+06, mean_norm=0, status=solved, patches=1, points=float64[6, 6], labels=float64[6])"


def test_many_instances_show_shapes(bound, drawn):
    many = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), bound)
    assert repr(many) == "Bound(epsilon=float64[3], delta=float64[3], tau=float64[3], reason=int64[3])"
    batch = jax.vmap(lambda k: ga.data.gaussian(k, 6, 1e6))(jax.random.split(jax.random.key(0), 4))
    assert "points=float64[4, 6, 6]" in repr(batch)


def test_tracers_and_abstract_values_show_shapes(bound, drawn):
    seen = []

    def look(b, data):
        seen.extend([repr(b), b._repr_html_(), repr(data)])
        return b.epsilon

    jax.jit(look)(bound, drawn)
    jax.vmap(look, (0, None))(jax.tree.map(lambda leaf: leaf[None], bound), drawn)
    jax.grad(lambda e: look(ga.bounds.Bound(e, e, e, bound.reason), drawn))(jnp.asarray(1.0))
    jax.eval_shape(look, bound, drawn)
    assert all("float64[" in text for text in seen)
    abstract = jax.eval_shape(lambda b: b, bound)
    assert repr(abstract) == "Bound(epsilon=float64[], delta=float64[], tau=float64[], reason=int64[])"


def test_odd_leaves_do_no_harm(bound):
    leaves, tree = jax.tree.flatten(bound)
    assert repr(jax.tree.unflatten(tree, [object()] * len(leaves))).count("object") == 4
    gone = jnp.asarray(1.0) + 0
    gone.delete()
    assert show.text_of("epsilon", gone) == "float64[]"
    assert show.text_of("status", jnp.asarray(99)) == "99"
    assert show.text_of("epsilon", np.float64(0.1234567)) == "0.1235"


def test_the_notebook_table_is_sound_html_and_escapes():
    certificate_like = ga.bounds.Bound("<b>", 1.0, 2.0, 0)
    text = certificate_like._repr_html_()
    assert "&lt;b&gt;" in text
    opened: list[str] = []
    parser = html.parser.HTMLParser()
    parser.handle_starttag = lambda tag, _: opened.append(tag)
    parser.handle_endtag = lambda tag: opened.remove(tag)
    parser.feed(text)
    assert opened == []


@pytest.mark.parametrize(
    "kind", [ga.kkt.KKTPoint, ga.certificates.Certificate, ga.bounds.Bound, ga.data.Dataset, ga.train.Trained,
             ga.unlearn.Unlearned],
)  # fmt: skip
def test_every_result_shows_itself_so(kind):
    assert kind.__repr__ is show.Shown.__repr__
    assert issubclass(kind, show.Shown)


def test_arrays_come_with_small_pictures(drawn):
    shown = drawn._repr_html_()
    assert shown.count("<svg") == 2  # points and labels
    html.parser.HTMLParser().feed(shown)
    bars = show.picture(np.array([1.0, -2.0, 0.0]))
    assert bars.count("<rect") == 2
    assert "#c2571a" in bars  # negative
    assert "height='0.5'" in bars
    squares = show.picture(np.eye(3))
    assert squares.count("<rect") == 3
    assert "viewBox='0 0 3 3'" in squares


@pytest.mark.parametrize(
    "value", [1.0, np.zeros(1), np.zeros((40, 40)), np.array([np.nan, 1.0]), None, "x", np.zeros((2, 2, 2))]
)
def test_what_cannot_be_drawn_is_left_out(value):
    assert show.picture(value) == ""
