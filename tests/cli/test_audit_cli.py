"""`gaunlearn audit`: reading files, every bad one in one sentence and bounded memory, printing, drawing, keeping."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gaunlearn_jax.audit import datasets
from verify.cli import main

ROOT = Path(__file__).parents[2]
POINTS = np.array([[1.0, 0.1], [-1, 0.2], [2, 1], [-1, 1]])
LABELS = np.array([1, 0, 1, 0])


def audit(*arguments: object) -> int:
    try:
        return main.main(["audit", *map(str, arguments)])
    except SystemExit as error:
        return int(error.code or 0)


def header(shape: tuple[int, ...], dtype: str = "<f8") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


def test_every_form_of_the_data_is_read_alike(tmp_path):
    np.savez(tmp_path / "d.npz", X=POINTS, y=LABELS)
    np.savez_compressed(tmp_path / "c.npz", X=np.asfortranarray(POINTS), y=LABELS)
    np.save(tmp_path / "X.npy", POINTS)
    np.save(tmp_path / "y.npy", LABELS)
    rows = [f"{a},{label},{b}" for (a, b), label in zip(POINTS, LABELS, strict=True)]
    (tmp_path / "d.csv").write_text("\ufeffa,class,b\n" + "\n".join(rows) + "\n\n", encoding="utf-8")
    forms = [(f"{tmp_path}/d.npz",), (f"{tmp_path}/c.npz",), (f"{tmp_path}/X.npy,{tmp_path}/y.npy",)]
    for form in [*forms, (f"{tmp_path}/d.csv", "class")]:
        points, labels = datasets.load(*form)
        np.testing.assert_array_equal(points, POINTS)
        np.testing.assert_array_equal(labels, LABELS)


def test_built_in_data():
    points, labels = datasets.load("digits:3-8")
    assert points.shape == (357, 64)
    assert set(labels) == {3, 8}
    assert datasets.load("breast_cancer")[0].shape == (569, 30)


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("/tmp/unpickled-by-gaunlearn",))


def bad_files(folder: Path) -> dict[str, tuple[list[str], str]]:
    """name -> (arguments, what the sentence says)."""
    good = folder / "good.npz"
    np.savez(good, X=POINTS, y=LABELS)
    evil = np.empty(1, object)
    evil[0] = Evil()
    np.savez(folder / "pickle.npz", X=evil, y=LABELS)
    (folder / "pickle.npy").write_bytes(pickle.dumps([1, 2]))
    np.savez(folder / "no_y.npz", X=POINTS)
    np.savez(folder / "nan.npz", X=np.where(POINTS == 2, np.nan, POINTS), y=LABELS)
    np.savez(folder / "text.npz", X=np.array([["a", "b"]] * 4), y=LABELS)
    np.savez(folder / "three.npz", X=POINTS, y=[0, 1, 2, 0])
    np.savez(folder / "short.npz", X=POINTS, y=[0, 1])
    (folder / "huge.npy").write_bytes(header((10**9, 10)) + b"\0" * 64)
    (folder / "negative.npy").write_bytes(header((-1, 2)) + b"\0" * 64)
    np.save(folder / "y.npy", LABELS)
    with zipfile.ZipFile(folder / "huge.npz", "w") as archive:
        archive.writestr("X.npy", header((10**9, 10)) + b"\0" * 64)
        archive.writestr("y.npy", b"nothing")
    (folder / "cut.npz").write_bytes(good.read_bytes()[:100])
    flipped = bytearray(good.read_bytes())
    flipped[200] ^= 1
    (folder / "flipped.npz").write_bytes(flipped)
    (folder / "empty.csv").write_text("")
    (folder / "names.csv").write_text("a,b,class\n")
    (folder / "word.csv").write_text("a,class\n1,x\nhello,y\n")
    (folder / "nan.csv").write_text("a,class\n1,x\nnan,y\n")
    (folder / "ragged.csv").write_text("a,class\n1,x\n1\n")
    (folder / "latin.csv").write_bytes(b"a,class\n1,\xe9\n")
    (folder / "quote.csv").write_text('a,class\n1,"x\n')
    (folder / "three.csv").write_text("a,class\n1,x\n2,y\n3,z\n")
    np.savez(folder / "wide.npz", W=np.ones((1, 3)))
    np.savez(folder / "wrong.npz", W=-np.ones((1, 2)))
    np.savez(folder / "no_u.npz", W=np.ones((4, 2)))
    np.savez(folder / "u.npz", W=np.ones((4, 2)), u=[0.5, -0.5, 0.5])
    here, fifo = str(folder), folder / "pipe.npz"
    os.mkfifo(fifo)
    csv = ["--label", "class"]
    return {
        "missing": ([f"{here}/none.npz"], "No such file"),
        "missing csv": ([f"{here}/none.csv", *csv], "No such file"),
        "unknown name": (["digit"], "does not exist"),
        "directory": ([here], "is no data this command knows"),
        "folder.npz": ([str((folder / "folder.npz").mkdir() or folder / "folder.npz")], "is a directory"),
        "pipe": ([str(fifo)], "no plain file"),
        "pickle in npz": ([f"{here}/pickle.npz"], "Python objects"),
        "pickle": ([f"{here}/pickle.npy,{here}/y.npy"], "no array in .npy format"),
        "no y": ([f"{here}/no_y.npz"], "has no array y, only X"),
        "nan": ([f"{here}/nan.npz"], "points[2, 0] is nan"),
        "text": ([f"{here}/text.npz"], "expected real numbers"),
        "three classes": ([f"{here}/three.npz", "--model", "relu"], "3 different values"),
        "short labels": ([f"{here}/short.npz"], "one label per point"),
        "10 GB header": ([f"{here}/huge.npy,{here}/y.npy"], "its header promises 80000000"),
        "10 GB header in npz": ([f"{here}/huge.npz"], "its header promises 80000000"),
        "negative shape": ([f"{here}/negative.npy,{here}/y.npy"], "damaged"),
        "cut": ([f"{here}/cut.npz"], "damaged or no .npz"),
        "flipped bit": ([f"{here}/flipped.npz"], "flipped.npz"),
        "half a pair": ([f"{here}/y.npy,"], "no pair"),
        "empty csv": ([f"{here}/empty.csv", *csv], "is empty"),
        "no rows": ([f"{here}/names.csv", *csv], "no rows"),
        "no label": ([f"{here}/word.csv"], "--label COLUMN"),
        "missing column": ([f"{here}/word.csv", "--label", "clas"], "did you mean class?"),
        "word": ([f"{here}/word.csv", *csv], "row 3, column 'a' is 'hello'"),
        "nan in csv": ([f"{here}/nan.csv", *csv], "row 3, column 'a' is 'nan'"),
        "ragged": ([f"{here}/ragged.csv", *csv], "row 3 has 1 fields"),
        "not utf-8": ([f"{here}/latin.csv", *csv], "UTF-8"),
        "open quote": ([f"{here}/quote.csv", *csv], "no readable csv"),
        "three csv": ([f"{here}/three.csv", *csv, "--model", "relu"], "3 different values"),
        "same digits": (["digits:3-3"], "two different ones"),
        "label without csv": ([str(good), *csv], "drop --label"),
        "wide weights": ([str(good), "--weights", f"{here}/wide.npz"], "weights has shape (1, 3), expected (1, 2)"),
        "wrong weights": ([str(good), "--weights", f"{here}/wrong.npz"], "misclassify"),
        "no u": ([str(good), "--model", "relu", "--weights", f"{here}/no_u.npz"], "has no array u"),
        "u of another size": ([str(good), "--model", "relu", "--weights", f"{here}/u.npz"], "has shape (4, 2)"),
        "weights and neurons": ([str(good), "--weights", f"{here}/wide.npz", "--neurons", "4"], "does not go with"),
        "picture": ([str(good), "--figure", f"{here}/a.gif"], "no .png or .svg"),
        "no folder": ([str(good), "--json", f"{here}/none/a.json"], "cannot be written"),
        "out of range": ([str(good), "--forget", "7"], "out of range"),
        "not separable": ([f"{here}/xor.npz"], "no linear model"),
    }  # fmt: skip


def test_every_bad_file_gets_one_sentence(tmp_path, capsys):
    np.savez(tmp_path / "xor.npz", X=[[1.0, 1], [-1, -1], [1, -1], [-1, 1]], y=[0, 0, 1, 1])
    for name, (arguments, message) in bad_files(tmp_path).items():
        given = arguments if "--forget" in arguments else [*arguments, "--forget", "0"]
        assert audit(*given) == 2, name
        printed = capsys.readouterr()
        assert message in printed.err, (name, printed.err)
        assert printed.err.count("\n") == 1, (name, printed.err)
        assert printed.err.startswith("gaunlearn: "), name
        assert printed.out == "", name
    assert not Path("/tmp/unpickled-by-gaunlearn").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_promises_of_a_header_cost_no_memory(tmp_path):
    """A 10 GB header, in a file and in an archive, is refused within another 256 MiB of address space."""
    bad_files(tmp_path)
    code = (
        "import resource, sys; from gaunlearn_jax.audit import datasets\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))\n"
        "for source in sys.argv[1:]:\n"
        "    try: datasets.load(source)\n"
        "    except ValueError as error: print(error)\n"
    )
    sources = [f"{tmp_path}/huge.npz", f"{tmp_path}/huge.npy,{tmp_path}/y.npy"]
    command = [sys.executable, "-c", code, *sources]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("its header promises") == 2


def test_digits_by_the_command(tmp_path, capsys):
    """The projection certificate fails on digits, and the first sentence says so."""
    kept, picture = tmp_path / "answer.json", tmp_path / "points.svg"
    code = audit("digits:3-8", "--forget", "3,7", "--figure", picture, "--json", kept)
    out = capsys.readouterr().out
    assert code == 0
    assert out.startswith("NOT forgotten")
    assert "95.3 % of the norm of the model" in out.split("\n")[0]
    assert "label 3 is -1, 8 is +1" in out
    assert picture.read_text().count("<path") > 20
    answer = json.loads(kept.read_text())
    assert answer["verdict"] == "not forgotten"
    done, before = (answer["certificates"]["retrain"][k]["tau"] for k in ("step", "nothing"))
    assert done > before  # the step moves away from the retrained model
    assert len(answer["every_point"]["rho"]) == 357


def test_own_weights_by_the_command(tmp_path, capsys):
    np.savez(tmp_path / "d.npz", X=POINTS, y=LABELS)
    np.savez(tmp_path / "w.npz", w=[2.0, 0.5])
    assert audit(tmp_path / "d.npz", "--forget", "0", "--weights", tmp_path / "w.npz", "--loss", "logistic") == 0
    out = capsys.readouterr().out
    assert "the given weights" in out
    assert "logistic" in out


def test_the_commands_and_the_code_of_the_page_run(tmp_path, capsys, monkeypatch):
    page = (ROOT / "docs" / "howto" / "audit.md").read_text()
    rng = np.random.default_rng(0)
    classes = rng.permutation([1, 1, 1, 1, 1, -1, -1, -1, -1])
    points = rng.normal(size=(9, 4)) + np.outer(classes, [2, 0, 0, 2])
    rows = [",".join(map(str, x)) + (",good" if y > 0 else ",bad") for x, y in zip(points, classes, strict=True)]
    (tmp_path / "mine.csv").write_text("a,b,c,d,outcome\n" + "\n".join(rows))
    monkeypatch.chdir(tmp_path)
    (commands,) = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    for command in commands.strip().splitlines():
        assert main.main(command.removeprefix("gaunlearn ").split()) == 0, command
    out = capsys.readouterr().out
    assert "NOT forgotten" in out
    assert "'good' is +1" in out
    assert (tmp_path / "points.png").stat().st_size > 1000
    names: dict = {}
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(code, "audit.md", "exec"), names)
    assert names["answer"].verdict == "partly forgotten"
    assert "Audit of a linear model" in capsys.readouterr().out
