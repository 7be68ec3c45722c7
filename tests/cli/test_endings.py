"""How commands end: one sentence and exit code 2 for what is no verdict, files before print, pipes, Ctrl-C, hints."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from verify.cli import audit, endings, main
from verify.run import devices

ROOT = Path(__file__).parents[2]


def sentence(err: str) -> str:
    """The only line on stderr."""
    told = [line for line in err.strip().split("\n") if line]
    assert len(told) == 1
    assert told[0].startswith("gaunlearn")
    assert "Traceback" not in err
    return told[0]


def command(*arguments: str, timeout: float = 120, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """A real process; None takes a variable away."""
    changed = {"PYTHONPATH": str(ROOT), **environment}
    env = {k: v for k, v in (os.environ | changed).items() if v is not None}
    env.pop("XLA_FLAGS", None)
    return subprocess.run(
        [sys.executable, "-m", "verify", *arguments], env=env, capture_output=True, text=True, timeout=timeout, cwd=ROOT
    )


@pytest.fixture
def data(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", X=rng.normal(size=(6, 20)), y=[0, 1] * 3)
    return str(tmp_path / "d.npz")


ERRORS = {
    "assertion": (AssertionError(), r"unforeseen AssertionError \(test_endings.py, line"),
    "runtime": (RuntimeError("first\nsecond"), "unforeseen RuntimeError: first (test_endings.py"),
    "key": (KeyError("x"), "unforeseen KeyError: 'x'"),
    "recursion": (RecursionError("too deep"), "unforeseen RecursionError"),
    "memory": (MemoryError(), "out of memory (no detail)"),
    "value": (ValueError("points[0] is nan"), "gaunlearn: points[0] is nan"),
    "file": (PermissionError(13, "Permission denied", "/x/y"), "Permission denied: /x/y; choose another"),
    "full": (OSError(28, "No space left on device"), "No space left on device); what goes to files is complete"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_no_error_looks_like_a_violation(monkeypatch, capsys, kind):
    """Exit code 1 is a violated bound's alone."""
    error, message = ERRORS[kind]

    def fails(options):
        raise error

    monkeypatch.setattr(audit, "main", fails)
    assert main.main(["audit", "digits:3-8", "--forget", "0"]) == 2
    assert message.replace("\\", "") in sentence(capsys.readouterr().err)


def test_the_path_of_an_error_is_shown_on_demand(monkeypatch, capsys):
    monkeypatch.setattr(audit, "main", lambda options: 1 // 0)
    monkeypatch.setenv(endings.TRACEBACK, "1")
    assert main.main(["audit", "digits:3-8", "--forget", "0"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rn"], "did you mean run?"),
        (["audti", "digits"], "did you mean audit?"),
        (["show", "x", "--ouut"], "did you mean --out?"),
        (["run", "linear", "--dims", "1e4", "1e8"], "joined by commas"),
        (["run", "--dims", "1e4", "1e8"], "joined by commas"),
        (["audit", "digits", "--forget", "0", "1"], "joined by commas"),
        (["audit", "digits", "--forget", "0", "--model", "linearr"], "did you mean linear?"),
        (["audit", "digits:3-8", "--forget", "0", "--neurons", "5"], "--neurons is for networks"),
        (["audit", "digits:3-8", "--forget", "0", "--json", "/proc/no/x.json"], "--json /proc/no/x.json cannot be"),
        (["audit", "digits:3-8", "--forget", "0", "--json", "/"], "--json / cannot be written"),
        (["audit", "digits:3-8", "--forget", "0", "--figure", "/none/x.png"], "--figure /none/x.png cannot be"),
        (["export", "x", "--csv", "--parquet"], "not allowed with"),
    ],
)
def test_hints_speak_of_what_was_wrong(capsys, arguments, message):
    try:
        code = main.main(arguments)
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert message in sentence(capsys.readouterr().err)


@pytest.mark.parametrize(
    "arguments", [["run", "--dims", "x"], ["run", "--shard", "3"], ["audit", "d", "--forget", "a"]]
)
def test_a_wrong_value_of_a_right_option_gets_no_other_option(capsys, arguments):
    with pytest.raises(SystemExit) as error:
        main.main(arguments)
    assert error.value.code == 2
    assert "did you mean" not in capsys.readouterr().err


def test_no_command_shows_the_commands_and_version_the_version(capsys):
    assert main.main([]) == 2
    assert "verify claims over a grid" in capsys.readouterr().err
    with pytest.raises(SystemExit) as error:
        main.main(["--version"])
    assert error.value.code == 0
    assert capsys.readouterr().out.startswith("gaunlearn ")


def test_help_says_what_a_command_does_and_what_it_does_by_default(capsys):
    helped = {}
    for words in ([], *([name] for name in ("run", "falsify", "phase", "list"))):
        with pytest.raises(SystemExit) as error:
            main.main([*words, "--help"])
        assert error.value.code == 0
        helped["".join(words)] = " ".join(capsys.readouterr().out.split())
    assert "3 no evidence" in helped.pop("")
    for name, text in helped.items():
        assert "SUPPRESS" not in text
        assert "(default None)" not in text
        assert "(default [])" not in text
        said = {"run": "verify claims", "falsify": "search for", "phase": "a phase diagram", "list": "list the claims"}
        assert text.index(said[name]) < text.index("show this help message")
    assert "where it is no axis (default 10000)" in helped["phase"]
    assert "within P of 1 (default 0.1)" in helped["falsify"]


def test_files_are_tried_and_left_as_they_are(tmp_path):
    old = tmp_path / "old.json"
    old.write_text("kept")
    for path in (old, tmp_path / "new.json"):
        assert devices.writable_file("--json", path) == path
    assert old.read_text() == "kept"
    assert not (tmp_path / "new.json").exists()
    for path in (tmp_path, tmp_path / "none" / "x.json", old / "x.json"):
        with pytest.raises(ValueError, match=r"--json .* cannot be written"):
            devices.writable_file("--json", path)


def test_the_answer_is_kept_before_it_is_printed(monkeypatch, data, tmp_path, capsys):
    """A terminal that fails at the first letter loses nothing."""
    from verify.report import console

    def fails(*arguments, **options):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(console.console, "print", fails)
    assert main.main(["audit", data, "--forget", "0", "--json", str(tmp_path / "a.json")]) == 2
    assert "Input/output error" in sentence(capsys.readouterr().err)
    assert json.loads((tmp_path / "a.json").read_text())["verdict"]


def test_a_closed_pipe_and_a_full_disk(data, tmp_path):
    """`| head`, and output that no disk takes: the code of the answer in the first case, 2 and a sentence in the
    second, and the file is there in both."""
    for number, out in enumerate(("pipe", "/dev/full")):
        kept = tmp_path / f"{number}.json"
        arguments = [sys.executable, "-m", "verify", "audit", data, "--forget", "0", "--json", str(kept)]
        if out == "pipe":
            read, write = os.pipe()
            os.close(read)
        elif not os.path.exists(out):
            continue
        else:
            write = os.open(out, os.O_WRONLY)
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(arguments, stdout=write, stderr=subprocess.PIPE, text=True, env=env, timeout=60)
        os.close(write)
        assert json.loads(kept.read_text())["verdict"]
        assert done.returncode == (0 if out == "pipe" else 2)
        assert done.stderr == "" if out == "pipe" else "No space left" in sentence(done.stderr)


def test_a_platform_without_a_device_is_named(data):
    """And a linear audit, which needs none, does not mind."""
    done = command("audit", data, "--forget", "0", "--model", "relu", JAX_PLATFORMS="cuda")
    assert done.returncode == 2
    assert "JAX_PLATFORMS=cuda" in sentence(done.stderr)
    assert command("audit", data, "--forget", "0", JAX_PLATFORMS="cuda").returncode == 0


@pytest.mark.parametrize(
    "broken", [RuntimeError("no home"), PermissionError(13, "denied"), FileNotFoundError(2, "gone")]
)
def test_no_home_means_no_cache(monkeypatch, broken):
    def home():
        raise broken

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(devices.Path, "home", home)
    assert devices._cache_folder("jax") is None
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    assert devices._cache_folder("jax") is None


INTERRUPT = """
import signal, sys, time
from verify.cli import endings
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
class Fragile:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)  # lands in a destructor, where Python ignores it
        time.sleep(0.01)
def command():
    kind = sys.argv[1]
    if kind == "plain":
        signal.raise_signal(signal.SIGINT)
    if kind == "lost":
        Fragile()
    if kind == "held":  # as compiled code, which no handler interrupts
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        print("ready", flush=True)
        signal.signal(signal.SIGINT, lambda *_: None)
    time.sleep(20)
    return 0
sys.exit(endings.interruptible(lambda: endings.ended(command)))
"""


def test_an_interrupt_is_never_lost():
    """In plain code, in a destructor, and while nothing answers: a word after a second, then the second one ends."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    for kind in ("plain", "lost"):
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", INTERRUPT, kind], capture_output=True, text=True, env=env, timeout=60
        )
        assert done.returncode == 130
        assert "interrupted" in sentence(done.stderr)
        assert time.monotonic() - start < 5
    held = subprocess.Popen(
        [sys.executable, "-c", INTERRUPT, "held"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )
    assert held.stdout.readline() == "ready\n"
    time.sleep(0.1)
    held.send_signal(signal.SIGINT)
    assert "press Ctrl-C again" in held.stderr.readline()
    held.send_signal(signal.SIGINT)
    assert held.wait(5) == 130
    held.stdout.close()
    held.stderr.close()


@pytest.mark.slow
@pytest.mark.parametrize("delay", [2.0, 3.5, 5.0])
def test_an_interrupt_during_tracing_and_compiling(tmp_path, delay):
    arguments = ["run", "relu", "--dims", "1e4", "--seeds", "2", "--points", "20"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path), "XLA_FLAGS": ""}
    with subprocess.Popen(
        [sys.executable, "-m", "verify", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    ) as process:
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130
        assert "Exception ignored" not in process.stderr.read()


PLACES = {
    "cuda": {"JAX_PLATFORMS": "cuda"},
    "no home": {"HOME": None, "XDG_CACHE_HOME": None, "MPLCONFIGDIR": None},
    "no cache": {"XDG_CACHE_HOME": "/proc/none", "HOME": "/proc/none"},
    "C": {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "narrow": {"COLUMNS": "60"},
}


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_every_command_in_every_place(tmp_path, data, place):
    """No traceback, and the documented exit codes."""
    out, env = str(tmp_path / "out"), PLACES[place]
    code = 2 if place == "cuda" else 0
    small = ["--dims", "1e8", "--seeds", "2", "--points", "6", "--neurons", "8"]
    assert command("run", "linear", *small, "--out", out).returncode == 0
    runs = [
        (["list"], 0),
        (["run", "linear", *small], code),
        (["run", "linear", *small, "--out", f"{tmp_path}/again"], code),
        (["run", "linear", *small, "--out", "/proc/none"], 2),
        (["run", "linear", *small, "--dry-run"], code),
        (["falsify", "linear/sharp/epsilon", "--minutes", "0.02", "--out", f"{tmp_path}/f"], code),
        (["audit", data, "--forget", "0"], 0),
        (["audit", data, "--forget", "0", "--model", "relu", "--neurons", "16"], code),
        (["audit", data, "--forget", "0", "--figure", "/proc/none/x.png"], 2),
        (["show", out], 0),
        (["show", f"{tmp_path}/none"], 2),
        (["export", out, "--csv"], 0),
        (["export", out, "--csv", "--out", "/proc/none/x.csv"], 2),
        (["figures", out], 0),
        (["report", out], 0),
        (["report", out, "--out", "/proc/none/x.html"], 2),
        (
            [
                "phase",
                "--x",
                "d=1e4,1e6",
                "--y",
                "m=4,6",
                "--model",
                "linear",
                "--seeds",
                "2",
                "--out",
                f"{tmp_path}/p",
            ],
            code,
        ),
        (["check", f"{tmp_path}/none.json"], 2),
    ]
    wrong = []
    for arguments, expected in runs:
        done = command(*arguments, **env)
        if done.returncode != expected or "Traceback" in done.stderr:
            wrong.append((arguments, done.returncode, expected, done.stderr[-300:]))
    assert not wrong
