"""run.json of a results folder: its fields, checked, with a checksum, and compared on resume."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from gaunlearn_jax.store.disk import StoreError, read_file
from gaunlearn_jax.store.strict_json import canonical, check_json, content_hash, differences, parse_json

FORMAT, VERSION = "gaunlearn-run", 1
MAX_JSON, MAX_LANES = 1 << 26, 1 << 53


@dataclass(frozen=True)
class RunRecord:
    """The fields of run.json. Notes: dicts with event, shard, bitwise (False lowers the promise)."""

    grid: dict[str, Any]
    columns: list[str]
    code_version: str
    environment: dict[str, Any]
    parts: list[list[int]]
    batch: int
    notes: list[dict[str, Any]]

    @property
    def bitwise(self) -> bool:
        """Whether a rerun on the same devices and versions is still promised to be bitwise equal."""
        return all(note.get("bitwise") is not False for note in self.notes)

    @property
    def lanes(self) -> int:
        """The number of lanes of the whole run."""
        return self.parts[-1][1]


def split_lanes(lanes: int, size: int) -> list[tuple[int, int]]:
    """Part ranges [start, stop) of `size` lanes (the last may have fewer) that tile [0, lanes)."""
    for name, value in (("lanes", lanes), ("size", size)):
        if type(value) is not int or value < 1:
            raise StoreError(f"{name} is {value!r}, expected an integer of at least 1: the grid is empty?")
    return [(start, min(start + size, lanes)) for start in range(0, lanes, size)]


def checked(record: RunRecord, what: str) -> RunRecord:
    """Check every field; return the record as JSON would (tuples become lists)."""

    def expect(good: bool, field: str, value: Any, expected: str) -> None:
        if not good:
            raise StoreError(f"{what}: {field} is {value!r:.80}, expected {expected}: correct it.")

    columns, parts, notes = record.columns, record.parts, record.notes
    for field in ("grid", "environment"):
        value = getattr(record, field)
        expect(isinstance(value, dict), field, value, "a dict")
        check_json(value, field)
    names = isinstance(columns, list | tuple) and all(isinstance(name, str) and name for name in columns)
    expect(names and 0 < len(set(columns)) == len(columns), "columns", columns, "different names, 1 or more")
    expect(isinstance(record.code_version, str), "code_version", record.code_version, "a string")
    expect(type(record.batch) is int and record.batch > 0, "batch", record.batch, "an integer of at least 1")
    good = isinstance(notes, list) and all(isinstance(note, dict) for note in notes)
    expect(good, "notes", notes, "a list of dicts")
    sizes = [note.get("batch") for note in notes if note.get("event") == "halved"]
    expect(all(type(size) is int and size > 0 for size in sizes), "halved batch", sizes, "positive integers")
    check_json(notes, "notes")
    expect(isinstance(parts, list | tuple) and len(parts) > 0, "parts", parts, "one range or more")
    end = 0
    for number, part in enumerate(parts):
        pair = isinstance(part, list | tuple) and len(part) == 2 and all(type(edge) is int for edge in part)
        good = pair and part[0] == end < part[1] <= MAX_LANES
        expect(good, f"parts[{number}]", part, f"[{end}, stop) with stop from {end + 1} to 2**53")
        end = part[1]
    plain: dict[str, Any] = json.loads(canonical(asdict(record)))
    return RunRecord(**plain)


def encode(record: RunRecord) -> bytes:
    """The bytes of run.json, checksum included."""
    head = {"format": FORMAT, "version": VERSION, "grid_sha256": content_hash(record.grid)}
    entries = {**head, **asdict(record)}
    entries["checksum"] = content_hash(entries)
    return ("{\n" + ",\n".join(f'"{key}": {canonical(entries[key])}' for key in entries) + "\n}\n").encode()


def read_record(folder: Path) -> RunRecord:
    """run.json of a folder; StoreError if it is absent, damaged, of another format or version."""
    path, remedy = str(folder / "run.json"), "the parts are untouched: copy run-copy.json over run.json."
    try:
        entries = parse_json(read_file(folder / "run.json", MAX_JSON), "run.json")
    except (FileNotFoundError, NotADirectoryError):
        todo = "copy run-copy.json to it" if os.path.lexists(folder / "run-copy.json") else "give one"
        raise StoreError(f"{path!r} does not exist, expected a results folder: {todo}.") from None
    except OSError as error:
        given = f"{path!r} cannot be read ({error.strerror})"
        raise StoreError(f"{given}, expected a plain file you may read: correct that.") from error
    except ValueError as error:
        raise StoreError(f"{path!r} cannot be read ({error}); {remedy}") from error
    if not isinstance(entries, dict) or entries.get("format") != FORMAT:
        raise StoreError(f"{path!r} does not say format {FORMAT!r}: give a results folder; if it is, {remedy}")
    if entries.pop("checksum", None) != content_hash(entries):
        raise StoreError(f"{path!r} does not match its checksum (a flipped bit, or it was edited); {remedy}")
    if type(entries.get("version")) is not int or entries["version"] != VERSION:
        given = f"{path!r} has format version {entries.get('version')!r}"
        raise StoreError(f"{given}, expected {VERSION}: use the program that wrote it.")
    names = {field.name for field in fields(RunRecord)}
    if set(entries) != names | {"format", "version", "grid_sha256"}:
        raise StoreError(f"{path!r} has other fields than format version {VERSION}; {remedy}")
    record = checked(RunRecord(**{name: entries[name] for name in names}), path)
    if entries["grid_sha256"] != content_hash(record.grid):
        raise StoreError(f"{path!r} has a grid_sha256 that is not that of its grid; {remedy}")
    return record


def compatible(folder: Path, asked: RunRecord) -> RunRecord:
    """The record of the folder; StoreError naming the fields that differ from those asked for."""
    found = read_record(folder)
    code = list(differences(found.code_version, asked.code_version, "code_version"))
    lines = list(code)  # first, since it may be why others differ
    for name in ("grid", "columns", "lanes"):
        lines += differences(getattr(found, name), getattr(asked, name), name)
    if lines:
        todo = "give another folder" + " or resume with the code that began it" * bool(code)
        more = f"; and {len(lines) - 8} more" if len(lines) > 8 else ""
        raise StoreError(
            f"{str(folder)!r} holds another run ({'; '.join(lines[:8])}{more}), expected the same run to "
            f"resume: {todo}."
        )
    return found
