"""Results on disk: full disks, and kills at any moment."""

import errno
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gaunlearn_jax.store import StoreError
from gaunlearn_jax.store.folder import load, split_lanes
from store.runs import LOADER, begin, contents, finish, finished, line, process, rows, sentence

# --- a full disk ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("call", ["write", "fsync", "replace", "open"])
def test_disk_full_at_any_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int) -> None:
    finished(tmp_path / "reference")
    with begin(tmp_path / "run") as run:
        run.write(0, rows(0))
        genuine = getattr(os, call)

        def full(*arguments: Any, **options: Any) -> Any:
            if call == "write":  # half of it fits
                genuine(arguments[0], bytes(arguments[1])[:100])
            if call != "open" or arguments[1] & os.O_CREAT:
                raise OSError(code, os.strerror(code))
            return genuine(*arguments, **options)

        monkeypatch.setattr(os, call, full)
        for attempt in (lambda: run.write(1, rows(1)), run.halve_batch):
            with pytest.raises(StoreError, match="the disk is full") as caught:
                attempt()
            sentence(caught)
        monkeypatch.undo()
        assert not list((tmp_path / "run").glob("tmp-*"))
        assert (run.missing(), run.batch) == ([1, 2], 4)
    finished(tmp_path / "run")
    assert contents(tmp_path / "run") == contents(tmp_path / "reference")


def test_disk_full_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match=r"the disk is full: run\.json") as caught:
        begin(tmp_path)
    sentence(caught)
    assert os.listdir(tmp_path) == []
    monkeypatch.undo()
    finished(tmp_path)


def test_file_is_synced_before_its_rename_and_the_folder_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power cut could undo; a kill cannot show it."""
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        calls.append("fsync " + ("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"))
        fsync(descriptor)

    def replaced(source: Any, target: Any) -> None:
        assert Path(source).name == f"tmp-{Path(target).name}"
        calls.append("rename")
        replace(source, target)

    with begin(tmp_path) as run:
        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(os, "replace", replaced)
        run.write(0, rows(0))
    assert calls == ["fsync file", "rename", "fsync folder"]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = os.write
    monkeypatch.setattr(os, "write", lambda file, data: genuine(file, bytes(data)[:100]))
    assert load(finished(tmp_path)).damaged == []


def test_a_limit_on_file_sizes(tmp_path: Path) -> None:
    path = tmp_path / "run"
    body = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with begin(sys.argv[1], 210, 100) as run:  # parts of 2528, 2528 and 368 bytes
    run.write(2, rows(2, run.record.parts))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    try:
        run.write(0, rows(0, run.record.parts))
    except store.StoreError as error:
        print(error)
"""
    with process(body, path) as child:
        message = finish(child)
    assert "the disk is full: part-000000" in message
    assert "run the same command again; what was sealed before is complete." in message
    assert not list(path.glob("tmp-*"))
    parts = split_lanes(210, 100)
    assert load(path).missing == [0, 1]
    with begin(path, parts=parts) as run:
        for number in run.missing():
            run.write(number, rows(number, parts))
    assert load(path).missing == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 2000


@pytest.mark.slow
def test_a_small_file_system(tmp_path: Path) -> None:
    """A tmpfs of 64 KiB, mounted in a namespace of its own."""
    body = """
path = sys.argv[1] + "/run"
try:
    for attempt in range(3):
        work(path, 40_000, 100)
except store.StoreError as error:
    print(error)
run = store.load(path)
print(len(run.lanes), run.damaged, [name for name in os.listdir(path) if name.startswith("tmp-")])
os.system(f"mount -o remount,size=4m {sys.argv[1]}")
work(path, 40_000, 100)
print(len(store.load(path).lanes))
"""
    script = 'mount -t tmpfs -o size=64k none "$1" || exit 77; exec "$2" -c "$3" "$1"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(tmp_path), sys.executable, LOADER + body]
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("mounting is not allowed here")
    assert done.returncode == 0, done.stderr
    message, state, whole = done.stdout.splitlines()
    assert message.startswith("the disk is full")
    assert 0 < int(state.split()[0]) < 40_000
    assert state.endswith("[] []")
    assert whole == "40000"


# --- kill -9 --------------------------------------------------------------------------------------------


def kill_at_random(path: Path, kills: int, seed: int) -> None:
    """Every other kill falls while the folder is being opened, the others while parts are being written."""
    body = """
print("ready", flush=True)
with begin(sys.argv[1], int(sys.argv[2]), 32) as run:
    print("open", flush=True)
    for number in run.missing():
        run.write(number, rows(number, run.record.parts))
        time.sleep(float(sys.argv[3]))
"""
    generator, parts, pause = random.Random(seed), 20 * kills, 0.001
    lanes = 32 * parts
    with process(body, path / "whole", lanes, 0) as child:
        times = []
        for word in ("ready", "open"):
            assert line(child) == word
            times.append(time.monotonic())
        child.wait(timeout=60)
        opening, writing = times[1] - times[0], (time.monotonic() - times[1]) / parts
    progress = []
    for kill in range(kills):
        with process(body, path / "killed", lanes, pause) as child:
            assert line(child) == "ready"
            if kill % 2:
                assert line(child) == "open"
            time.sleep(generator.uniform(0, 12 * (writing + pause) if kill % 2 else opening))
            child.send_signal(signal.SIGKILL)
            assert child.wait() == -signal.SIGKILL
        if (path / "killed" / "run.json").exists():
            run = load(path / "killed")  # never damaged, not even between a kill and a resume
            assert run.damaged == []
            progress.append(len(run.lanes))
    assert progress == sorted(progress)
    assert len(set(progress)) > kills // 4  # many kills fell between two parts or inside one
    assert progress[-1] < lanes
    with process(body, path / "killed", lanes, 0) as child:
        finish(child)
    assert contents(path / "killed") == contents(path / "whole")
    assert contents(path / "killed", "run*.json") == contents(path / "whole", "run*.json")
    assert not contents(path / "killed", "damaged-*")
    assert not [*(path / "killed").glob("tmp-*"), *(path / "killed").glob("lock-*")]


def test_15_kills_at_random_moments(tmp_path: Path) -> None:
    kill_at_random(tmp_path, 15, seed=4)


@pytest.mark.slow
def test_50_kills_at_random_moments(tmp_path: Path) -> None:
    kill_at_random(tmp_path, 50, seed=5)


def test_a_kill_before_every_system_call(tmp_path: Path) -> None:
    """A run with a halving is killed before its n-th call that changes the disk, for every n, and resumed."""
    body = """
CALLS = ["open", "write", "fsync", "close", "replace", "unlink", "mkdir", "rename"]

def scenario(path):
    with begin(path, 6, 4) as run:
        run.write(0, rows(0, run.record.parts))
        if run.batch == 4:
            run.halve_batch()
        run.write(1, rows(1, run.record.parts))

def dies(path, limit):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    calls = 0
    def counted(genuine):
        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == limit:
                os.kill(os.getpid(), signal.SIGKILL)
            return genuine(*arguments, **options)
        return call
    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    try:
        scenario(path)
    except BaseException as error:
        print(repr(error), flush=True)
        os._exit(1)
    os._exit(0)

root, deaths = sys.argv[1], 0
scenario(root + "/whole")
files = lambda path: {name: open(f"{path}/{name}", "rb").read() for name in os.listdir(path)}
whole = files(root + "/whole")
while True:
    path = f"{root}/{deaths}"
    code = dies(path, deaths + 1)
    if code == 0:
        break
    assert code == -signal.SIGKILL, code
    deaths += 1
    scenario(path)
    assert files(path) == whole, (deaths, files(path).keys() ^ whole.keys())
print(deaths)
"""
    with process(body, tmp_path) as child:
        deaths = int(finish(child))
    assert deaths > 50


def test_debris_of_other_shards_is_left_alone(tmp_path: Path) -> None:
    begin(tmp_path).close()
    debris = [f"tmp-part-00000{number}-0123456789abcdef.npy" for number in range(3)]
    for name in debris:
        (tmp_path / name).write_text("half a par")
    begin(tmp_path, shard=(1, 2)).close()
    assert sorted(path.name for path in tmp_path.glob("tmp-*")) == [debris[0], debris[2]]
    begin(tmp_path).close()
    assert not list(tmp_path.glob("tmp-*"))
