"""Steps from a file: nothing, the wrong sign and the retrained model are told apart; mistakes are one sentence."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from gaunlearn_jax.unlearn import STEPS
from verify.cli import main

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_step.py"
SMALL = ["--models", "linear", "--points", "6", "--forget", "1", "--seeds", "4", "--dims", "1e6"]

STEPS_OF_ONES_OWN = {
    "idle": ("return point.params", 3, "idle (linear gaussian d=1e+06): does nothing; the model is left as it is"),
    "backwards": (
        "return point.params + ga.unlearn.ascent_direction(net.problem(data), point, forget)[0]", 1,
        "backwards (linear gaussian d=1e+06): FARTHER from the retrained model than doing nothing (nearer on 0%",
    ),
    "retrained": (
        "return ga.unlearn.retraining(net, data, point, forget).params", 0,
        "retrained (linear gaussian d=1e+06): is the retrained model on every instance",
    ),
}  # fmt: skip


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def go(name: str, body: str, *options: str) -> tuple[int, str]:
        path = tmp_path / f"{name}.py"
        path.write_text(
            "import jax\nimport gaunlearn_jax as ga\ndef step(net, data, point, forget):\n"
            + textwrap.indent(body, "    ")
            + "\n"
        )
        code = main.main(["run", "--step", str(path), *SMALL, *options])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return go


@pytest.mark.parametrize("name", STEPS_OF_ONES_OWN)
def test_steps_are_told_apart(name, run):
    body, code, sentence = STEPS_OF_ONES_OWN[name]
    got, text = run(name, body)
    assert sentence in text
    assert got == code
    assert name not in STEPS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factor", "code", "sentence"),
    [
        ("1.0", 0, "is a retrained model on every instance, an exact KKT point of the retained points"),
        ("-1.0", 1, "FARTHER from the retrained model"),
    ],
)
def test_a_network_trained_again_is_retrained_although_another_one(factor, code, sentence, run):
    """The retained points have several exact solutions."""
    body = (
        "run = ga.train.train(jax.random.key(7), net, data, retained=~forget)\n"
        f"return {factor} * ga.kkt.limit_point(net, data, run, retained=~forget).params"
    )
    got, text = run("again", body, "--models", "relu", "--neurons", "16")
    assert sentence in text
    assert got == code


@pytest.mark.slow
def test_the_example_is_better_than_nothing_where_ascent_is_not(capsys):
    assert main.main(["run", "--step", str(EXAMPLE), *SMALL, "--source", "equicorrelated:c=0.9"]) == 0
    text = capsys.readouterr().out
    head = "my_step (linear equicorrelated c=0.9 d=1e+06)"
    assert f"{head}: nearer to the retrained model than doing nothing (nearer on 100%" in text


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return point.params[:, :2]", "the step returned params of shape (1, 2), expected (1, 6): [n, p]"),
        ("return point.prams", "mistaken.py, line 4: AttributeError"),
        ("return float(point.params[0, 0])", "mistaken.py, line 4: ConcretizationTypeError"),
        ("return point.params * float(point.params[0, 0])", "this is traced, so use jax.numpy alone"),
    ],
)
def test_mistakes(body, message, run):
    code, text = run("mistaken", body)
    assert code == 2
    assert message in text


def test_a_taken_name(run):
    code, text = run("ascent", "return point.params")
    assert code == 2
    assert "the step name 'ascent' is taken" in text
