"""Results on disk: second processes and their locks."""

import gc
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from gaunlearn_jax.store import StoreError, locks
from gaunlearn_jax.store.folder import Store, load
from store.runs import HOLD, begin, contents, finish, line, process, rows, sentence

# --- locks ----------------------------------------------------------------------------------------------


def test_same_shard_twice_is_refused_and_a_killed_holder_is_replaced(tmp_path: Path) -> None:
    with process(HOLD, tmp_path, 0, 2) as holder:
        assert line(holder) == "held"
        for shard in ((0, 2), (0, 1), (0, 3), (1, 3), (2, 4)):  # each shares a number with 0 modulo 2
            with pytest.raises(StoreError, match=f"by process {holder.pid} on host") as caught:
                begin(tmp_path, shard=shard)
            assert socket.gethostname() in sentence(caught)
        for shard in ((1, 2), (1, 4), (3, 4)):
            begin(tmp_path, shard=shard).close()
        holder.kill()  # and nobody waits for it: a zombie is dead, too
        deadline = time.monotonic() + 10
        while locks.start_time(holder.pid) is not None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert len(list(tmp_path.glob("lock-*"))) == 1
        begin(tmp_path, shard=(0, 2)).close()
    assert not list(tmp_path.glob("lock-*"))


def test_a_difference_is_named_even_while_another_process_writes(tmp_path: Path) -> None:
    with process(HOLD, tmp_path, 0, 1) as holder:
        assert line(holder) == "held"
        with pytest.raises(StoreError, match=r"columns\[2\]"):
            begin(tmp_path, columns=["seed", "lhs", "ratio"])
        assert load(tmp_path).missing == [0, 1, 2]  # reading needs no lock


def test_of_many_processes_that_start_at_once_one_wins(tmp_path: Path) -> None:
    body = """
start = time.time() + 0.2
for _ in range(8):
    if os.fork() == 0:
        time.sleep(max(0.0, start - time.time()))
        try:
            run = begin(sys.argv[1], 10, 4)
            os.write(1, b"won\\n")
            time.sleep(2.0)
            run.close()
        except store.StoreError as error:
            os.write(1, b"lost\\n" if "is written by process" in str(error) else str(error).encode())
        os._exit(0)
for _ in range(8):
    os.wait()
"""
    with process(body, tmp_path) as child:
        assert sorted(finish(child).split()) == ["lost"] * 7 + ["won"]
    assert not list(tmp_path.glob("lock-*"))


def test_two_shards_write_at_once_and_one_is_killed_and_restarted(tmp_path: Path) -> None:
    body = """
print("ready", flush=True)
work(sys.argv[1], 3200, 32, 0.002, shard=(int(sys.argv[2]), 2))
"""
    with process("work(sys.argv[1], 3200, 32)", tmp_path / "whole") as child:
        finish(child)
    with process(body, tmp_path / "run", 0) as one, process(body, tmp_path / "run", 1) as two:
        assert (line(one), line(two)) == ("ready", "ready")
        time.sleep(0.04)
        one.kill()
        assert one.wait() == -signal.SIGKILL
        with process(body, tmp_path / "run", 0) as again:
            finish(again)
        finish(two)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    assert contents(tmp_path / "run", "run.json") == contents(tmp_path / "whole", "run.json")


def lock_name(**changes: str) -> str:
    host, boot, space = locks.this_machine()
    facts = {"what": "0-of-1", "host": host, "boot": boot, "space": space, "pid": str(os.getppid())}
    facts["start"] = locks.start_time(os.getppid()) or ""
    return "lock-" + "@".join({**facts, **changes}.values())


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("changes", "alive"),
    [
        ({}, True),
        ({"pid": "4194999"}, False),
        ({"pid": "9" * 30}, False),
        ({"start": "1"}, False),
        ({"boot": "0000"}, False),
        ({"boot": "0000", "space": "pid1"}, False),
        ({"host": "elsewhere"}, True),
        ({"host": "elsewhere", "boot": "0000", "pid": "4194999"}, True),
        ({"space": "pid1"}, True),
        ({"what": "run"}, None),
    ],
)
def test_which_locks_are_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], alive: bool | None
) -> None:
    lock = tmp_path / lock_name(**changes)
    lock.touch()
    if alive:
        with pytest.raises(StoreError, match=f"if it is dead, delete '{lock.name}'") as caught:
            begin(tmp_path)
        sentence(caught)
        assert lock.exists()
        lock.unlink()
    elif alive is None:  # the lock of run.json, held by a live process
        monkeypatch.setattr(locks, "RUN_PATIENCE", 0.1)
        with pytest.raises(StoreError, match="expected nobody on run"):
            begin(tmp_path)
        assert os.listdir(tmp_path) == [lock.name]
        lock.unlink()
    begin(tmp_path).close()
    assert not list(tmp_path.glob("lock-*"))


def test_systems_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda self: (_ for _ in ()).throw(FileNotFoundError()))
    assert locks.start_time(os.getpid()) == ""
    assert locks.start_time(4194999) is None
    assert locks.start_time(10**30) is None

    def forbidden(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", forbidden)
    assert locks.start_time(1) == ""


def test_the_same_process_twice(tmp_path: Path) -> None:
    first = begin(tmp_path)
    with pytest.raises(StoreError, match=f"by process {os.getpid()} "):
        begin(tmp_path)
    first.write(0, rows(0))
    first.close()
    first.close()
    for call in (lambda: first.write(1, rows(1)), first.verify, first.halve_batch):  # noqa: F821
        with pytest.raises(StoreError, match="closed or lost its lock") as caught:
            call()
        sentence(caught)
    second = begin(tmp_path)
    del first
    gc.collect()  # the old store does not release the lock of the new one
    second.write(1, rows(1))
    del second
    gc.collect()  # a forgotten store releases its lock
    begin(tmp_path).close()


def test_a_failed_start_releases_its_own_lock_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Store) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "verify", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        begin(tmp_path)
    monkeypatch.undo()
    run = begin(tmp_path)
    del caught
    gc.collect()
    run.write(0, rows(0))
    run.close()


def test_a_removed_lock_stops_the_writer(tmp_path: Path) -> None:
    with begin(tmp_path) as run:
        run.write(0, rows(0))
        for lock in tmp_path.glob("lock-*"):
            lock.unlink()
        with pytest.raises(StoreError, match="lost its lock"):
            run.write(1, rows(1))


def test_a_forked_child_does_not_release_the_lock(tmp_path: Path) -> None:
    body = """
run = begin(sys.argv[1], 10, 4)
child = os.fork()
if child == 0:
    sys.exit(0)  # runs the exit handlers of the parent
os.waitpid(child, 0)
run.write(0, rows(0, run.record.parts))
print("still held")
"""
    with process(body, tmp_path) as child:
        assert finish(child).strip() == "still held"
    assert not list(tmp_path.glob("lock-*"))  # released at exit
