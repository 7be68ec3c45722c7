"""Tables of many kinds: the right data, or one sentence that says what to do."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from gaunlearn_jax.audit import datasets
from verify.cli import main

POINTS = [[1.5, 0.25], [-1, 0.5], [2, 1], [-1, 1]]
LABELS = [1, 0, 1, 0]
WORDS = ["sick", "well", "sick", "well"]
ROWS = [f"{a},{label},{b}" for (a, b), label in zip(POINTS, LABELS, strict=True)]
TOLD = [f"{a},{label},{b}" for (a, b), label in zip(POINTS, WORDS, strict=True)]
NAMES = "a,class,b"


def lines(*rows: str, ending: str = "\n") -> bytes:
    return (ending.join(rows) + ending).encode()


def swapped(mark: str, *rows: str) -> bytes:
    return lines(*(row.replace(",", mark) for row in rows))


def european(mark: str, *rows: str) -> bytes:
    return lines(*(row.replace(",", mark).replace(".", ",") for row in rows))


def numbered(names: str, start: int, rows: list[str]) -> bytes:
    return lines(names, *(f"{i},{row}" for i, row in enumerate(rows, start)))


PLAIN = lines(NAMES, *ROWS)
BOTH = "class"
NO = {"header": False}
#: name: (bytes, column of the classes, further options, name of the file)
GOOD = {
    "plain": (PLAIN, BOTH),
    "words": (lines(NAMES, *TOLD), BOTH),
    "no last ending": (PLAIN[:-1], BOTH),
    "windows": (lines(NAMES, *ROWS, ending="\r\n"), BOTH),
    "old mac": (lines(NAMES, *ROWS, ending="\r"), BOTH),
    "blank lines": (lines(NAMES, "", *ROWS, "", " "), BOTH),
    "lines of separators": (lines(NAMES, *ROWS, ",,", ",,"), BOTH),
    "capital ending": (PLAIN, BOTH, {}, "D.CSV"),
    "a comma in the path": (PLAIN, BOTH, {}, "a,b.csv"),
    "semicolons": (swapped(";", NAMES, *ROWS), BOTH),
    "tabs": (swapped("\t", NAMES, *ROWS), BOTH),
    "tabs in tsv": (swapped("\t", NAMES, *ROWS), BOTH, {}, "d.tsv"),
    "bars": (swapped("|", NAMES, *ROWS), BOTH),
    "blanks": (swapped(" ", NAMES, *ROWS), BOTH, {}, "d.txt"),
    "many blanks": (swapped("   ", NAMES, *ROWS), BOTH, {}, "d.data"),
    "blanks after commas": (swapped(", ", NAMES, *ROWS), BOTH),
    "quoted after blanks": (lines('"a", "class", "b"', *ROWS), BOTH),
    "sep= of spreadsheets": (b"sep=;\n" + swapped(";", NAMES, *ROWS), BOTH),
    "quoted sep=": (b'"sep=|"\r\n' + swapped("|", NAMES, *ROWS), BOTH),
    "commas in names": (b"x, y;class;b\n" + swapped(";", *ROWS), BOTH),
    "blanks in names": (lines("sepal length (cm),class,sepal width (cm)", *ROWS), BOTH),
    "decimal commas": (european(";", NAMES, *ROWS), BOTH),
    "decimal commas, tabs": (european("\t", NAMES, *ROWS), BOTH),
    "decimal commas, no names": (european(";", *ROWS), "1"),
    "quoted names": (lines('"a, first",class,"b"', *ROWS), BOTH),
    "quoted numbers": (lines(NAMES, '"1.5","1","0.25"', *ROWS[1:]), BOTH),
    "exponents": (lines(NAMES, "15e-1,1,+2.5E-1", *ROWS[1:]), BOTH),
    "byte order mark": (b"\xef\xbb\xbf" + PLAIN, BOTH),
    "utf-16": (PLAIN.decode().encode("utf-16"), BOTH),
    "utf-16, other order": (b"\xfe\xff" + PLAIN.decode().encode("utf-16-be"), BOTH),
    "letters beyond ASCII": (lines("größe,klasse,höhe", *ROWS), "klasse"),
    "compressed": (gzip.compress(PLAIN), BOTH, {}, "d.csv.gz"),
    "compressed tabs": (gzip.compress(swapped("\t", NAMES, *ROWS)), BOTH, {}, "d.TSV.GZ"),
    "no names": (lines(*ROWS), "1"),
    "no names, said": (lines(*ROWS), "1", NO),
    "no names, words": (lines(*TOLD), "1"),
    "no names, 0 1 2 first": (lines("1.5,1,0.25", *ROWS[1:]), "1", NO),
    "numbers as names": (lines("0,1,2", *ROWS), "1", {"header": True}),
    "wavelengths as names": (lines("400.5,class,410", *ROWS), BOTH, {"header": True}),
    "unnamed index": (numbered("," + NAMES, 0, ROWS), BOTH),
    "index read back": (numbered("Unnamed: 0," + NAMES, 0, ROWS), BOTH),
    "index of R": (numbered('"",' + NAMES, 1, ROWS), BOTH),
    "index of words": (lines("," + NAMES, *(f"r{i},{row}" for i, row in enumerate(ROWS))), BOTH),
    "index dropped": (numbered("id," + NAMES, 1, ROWS), BOTH, {"drop": ("id",)}),
    "coordinates named": (numbered("id," + NAMES, 1, ROWS), BOTH, {"columns": ("a", "b")}),
    "text dropped": (lines("who," + NAMES, *(f"Ann,{row}" for row in ROWS)), BOTH, {"drop": ("who",)}),
    "index without names": (lines(*(f"{i},{row}" for i, row in enumerate(ROWS))), "2", NO | {"drop": ("0",)}),
    "labels 1.0": (lines(NAMES, *(r.replace(",1,", ",1.0,").replace(",0,", ",0.0,") for r in ROWS)), BOTH),
    "labels 01": (lines(NAMES, *(r.replace(",1,", ",01,") for r in ROWS)), BOTH),
    "truth values": (lines("a,class,b", "1.5,1,0.25", "-1,0,0.5", "2,1,TRUE", "-1,0,true"), BOTH),
}  # fmt: skip


@pytest.mark.parametrize("kind", GOOD)
def test_the_right_data_are_read(tmp_path: Path, kind: str) -> None:
    text, label, *rest = GOOD[kind]
    options, name = (*rest, *({}, "d.csv")[len(rest) :])
    (tmp_path / name).write_bytes(text)
    points, labels = datasets.load(f"{tmp_path}/{name}", label, **options)
    np.testing.assert_array_equal(points, POINTS)
    assert labels.tolist() in (LABELS, WORDS)


MANY = [f"{i},{a},{b},{label}" for i, (a, label, b) in enumerate((np.sin(i), i % 2, np.cos(i)) for i in range(12))]
BAD = {
    "first row lost": (lines("1.5,good,2", "2,bad,3", "3,good,1"), "good", "looks like data"),
    "no names, the issue": (lines("1,2,R", "2,1,M", "3,9,R", "7,2,M"), "R", "looks like data.*--no-header"),
    "a class of one row": (lines("1,2,R", "2,1,M", "3,9,K", "7,2,M"), "R", "looks like data"),
    "numbers that may be names": (lines("1,2,3", "4,2,0", "5,1,2"), "1", "looks like data"),
    "wavelengths as names": (lines("400.5,class,410", *ROWS), BOTH, "looks like data.*--header"),
    "decimal first row": (lines("1,5;R;2,5", "2,5;M;1,5"), "R", "looks like data"),
    "words that may be data": (lines("x,good", "2,bad", "3,good"), "good", "is data, not names.*--no-header"),
    "counted names that are a class": (lines("0,1,2", *ROWS), "1", "is data, not names"),
    "number of a class": (lines("1.5,1,2", "2,0,3", "3,1,1"), "7", "looks like data"),
    "index": (lines("id,a,b,class", *MANY), BOTH, "column 'id' counts the rows.*--drop 'id'"),
    "short index": (numbered("id," + NAMES, 1, ROWS), BOTH, "column 'id' counts the rows"),
    "index without names": (lines(*MANY), "3", "column '0' counts the rows"),
    "empty label": (lines("a,class", "1,yes", "2,", "3,no"), BOTH, "row 3 has an empty 'class'"),
    "label NA": (lines("a,class", "1,yes", "2,NA", "3,no"), BOTH, "row 3 has 'NA' for a 'class'"),
    "label ?": (lines("a,class", "1,yes", "2,?", "3,no"), BOTH, "row 3 has '\\?' for a"),
    "empty number": (lines("a,class", "1,yes", ",no"), BOTH, "row 3, column 'a' is ''"),
    "number NA": (lines("a,class", "1,yes", "NA,no"), BOTH, "row 3, column 'a' is 'NA'.*--drop"),
    "nan": (lines("a,class", "1,yes", "nan,no"), BOTH, "is 'nan', expected a finite number"),
    "infinity": (lines("a,class", "1,yes", "inf,no"), BOTH, "is 'inf'"),
    "underscores": (lines("a,class", "1,yes", "1_000,no"), BOTH, "is '1_000'"),
    "thousands": (lines("a,class", "1,yes", '"1,000",no'), BOTH, "is '1,000'"),
    "thousands or decimals": (b"a;class\n1,234;yes\n5,678;no\n", BOTH, "could be a decimal mark"),
    "points and commas": (b"a;class\n1,5;yes\n2.5;no\n", BOTH, "could be a decimal mark"),
    "dates": (lines("t,a,class", "2020-01-01,1,yes", "2020-01-02,2,no"), BOTH, "'t' is '2020-01-01'.*--drop 't'"),
    "two columns of a name": (lines("a,a,class", "1,2,yes"), "a", "several columns 'a'"),
    "misspelt": (lines("a,klass", "1,x"), BOTH, "no column 'class'.*did you mean klass"),
    "ragged": (lines("a,b,class", "1,2,x", "1,y"), BOTH, "row 3 has 2 fields, expected 3"),
    "R's row names": (lines("a,class", "r1,1,x", "r2,2,y"), BOTH, "has 3 fields, expected 2"),
    "names alone": (lines("a,class"), BOTH, "no rows"),
    "empty": (b"", BOTH, "is empty"),
    "blank": (b"\n\n \n", BOTH, "is empty"),
    "one column": (lines("class", "x", "y"), BOTH, "no column left"),
    "latin-1": ("größe,class\n1,x\n".encode("latin-1"), BOTH, "no readable csv.*UTF-8"),
    "nul": (b"a,class\n1\0,x\n", BOTH, "row 2, column 'a'"),
    "open quote": (b'a,class\n1,"x\n', BOTH, "no readable csv"),
    "no label": (PLAIN, None, "needs --label COLUMN"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_told_is_refused(tmp_path: Path, kind: str) -> None:
    text, label, message = BAD[kind]
    (tmp_path / "d.csv").write_bytes(text)
    with pytest.raises(ValueError, match=message) as error:
        datasets.load(f"{tmp_path}/d.csv", label)
    assert "\n" not in str(error.value)


CHOICES = {
    "classes dropped": ({"drop": ("class",)}, "--drop names 'class', the column of the classes"),
    "classes as a coordinate": ({"columns": ("a", "class")}, "--columns names a column twice, or one"),
    "twice": ({"columns": ("a", "a")}, "--columns names a column twice"),
    "all dropped": ({"drop": ("a", "b")}, "no column left"),
    "no such": ({"drop": ("aa",)}, "no column 'aa'.*did you mean a"),
}


@pytest.mark.parametrize("kind", CHOICES)
def test_choices_of_columns(tmp_path: Path, kind: str) -> None:
    options, message = CHOICES[kind]
    (tmp_path / "d.csv").write_bytes(PLAIN)
    with pytest.raises(ValueError, match=message):
        datasets.load(f"{tmp_path}/d.csv", "class", **options)


def test_labels_keep_their_order_and_kind(tmp_path: Path) -> None:
    """9.0 and 10.0 are numbers: as text "10.0" would come first and become -1."""
    kinds = {("9.0", "10.0"): [9, 10], ("9", "10"): [9, 10], ("-0.5", "0.25"): [-0.5, 0.25], ("9", "x10"): ["9", "x10"],
             ("True", "False"): ["True", "False"]}  # fmt: skip
    for texts, expected in kinds.items():
        (tmp_path / "d.csv").write_bytes(lines("a,class", *(f"{i * i + 3},{text}" for i, text in enumerate(texts))))
        assert datasets.load(f"{tmp_path}/d.csv", "class")[1].tolist() == expected


def test_damaged_compression_is_one_sentence(tmp_path: Path) -> None:
    packed = gzip.compress(lines(NAMES, *ROWS * 2000))
    for name, data in {
        "plain": PLAIN,
        "cut": packed[: len(packed) // 2],
        "flipped": packed[:60] + b"x" + packed[61:],
    }.items():
        (tmp_path / "d.csv.gz").write_bytes(data)
        with pytest.raises(ValueError, match=r"no \.gz|no readable csv|expected a finite number|fields"):
            datasets.load(f"{tmp_path}/d.csv.gz", "class")
        assert name


def test_parquet_is_read_like_csv(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    a, b = zip(*POINTS, strict=True)
    path = f"{tmp_path}/D.Parquet"

    def load(label="class", **options):
        return datasets.load(path, label, **options)

    parquet.write_table(pyarrow.table({"a": a, "class": WORDS, "b": b, "__index_level_0__": range(4)}), path)
    with pytest.raises(ValueError, match="counts the rows"):
        load()
    for labels in (LABELS, WORDS, pyarrow.array(WORDS).dictionary_encode(), [bool(v) for v in LABELS]):
        parquet.write_table(pyarrow.table({"a": a, "class": labels, "b": b, "who": ["Ann"] * 4}), path)
        for options in ({"drop": ("who",)}, {"columns": ("a", "b")}):
            points, got = load(**options)
            np.testing.assert_array_equal(points, POINTS)
            assert len(set(got.tolist())) == 2
    for table, message in (
        ({"a": [1.0, None], "class": [0, 1]}, "row 2, column 'a' is nan or missing"),
        ({"a": [1.0, 2.0], "class": ["x", None]}, "row 2 has an empty 'class'"),
        ({"a": ["1", "2"], "class": ["x", "y"]}, "column 'a' holds string"),
        ({"b": [1.0, 2.0]}, "no column 'class'"),
    ):
        parquet.write_table(pyarrow.table(table), path)
        with pytest.raises(ValueError, match=message):
            load()
    Path(path).write_bytes(b"PAR1 nothing")
    with pytest.raises(ValueError, match="damaged or no parquet"):
        load()


def test_svmlight_is_read_and_bad_files_are_named(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    text = b"+1 1:1.5 2:0.25 # first\n-1 1:-1 2:0.5\n+1 1:2 2:1\n-1 2:1 1:-1\n".replace(b"2:1 1:-1", b"1:-1 2:1")
    for name, data in {"d.svm": text, "D.LIBSVM": text, "d.svmlight.gz": gzip.compress(text)}.items():
        (tmp_path / name).write_bytes(data)
        points, labels = datasets.load(f"{tmp_path}/{name}")
        np.testing.assert_array_equal(points, POINTS)
        assert labels.tolist() == [1, -1, 1, -1]
    for data in (b"a 1:2\n", b"1 x:2\n", b"1 1:2 1:\n"):
        (tmp_path / "d.svm").write_bytes(data)
        with pytest.raises(ValueError, match="is no svmlight file"):
            datasets.load(f"{tmp_path}/d.svm")
    with pytest.raises(ValueError, match="cannot be read"):
        datasets.load(f"{tmp_path}/none.svm")


def test_pairs_of_arrays_may_lie_below_names_with_commas(tmp_path: Path) -> None:
    folder = tmp_path / "a,b"
    folder.mkdir()
    np.save(folder / "X,1.npy", POINTS)
    np.save(folder / "y.npy", LABELS)
    points, labels = datasets.load(f"{folder}/X,1.npy,{folder}/y.npy")
    np.testing.assert_array_equal(points, POINTS)
    np.testing.assert_array_equal(labels, LABELS)


def test_the_command_chooses_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "d.csv").write_bytes(numbered("id," + NAMES, 1, ROWS))
    for options in (["--drop", "id"], ["--columns", "a,b"], ["--header", "--drop", "id"]):
        assert main.main(["audit", f"{tmp_path}/d.csv", "--label", "class", "--forget", "0", *options]) == 0
        assert "4 points in 2 dimensions" in capsys.readouterr().out
    assert main.main(["audit", f"{tmp_path}/d.csv", "--label", "class", "--forget", "0", "--no-header"]) == 2
    assert "no column 'class'" in capsys.readouterr().err
