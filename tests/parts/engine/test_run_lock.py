"""The lock of an output folder: who may take it, and how a dead owner is recognized."""

import contextlib
import json
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from paddlevideo.engine import run_lock
from paddlevideo.engine.run_lock import FILE, FolderInUse, acquire, output_folder

HOLDER = """
import os, sys, time
from pathlib import Path
from paddlevideo.engine.run_lock import acquire
lock = acquire(Path(sys.argv[1]))
child = os.fork() if "fork" in sys.argv else 0
if child or "fork" not in sys.argv:
    print(child, flush=True)
time.sleep(600)
"""


@pytest.fixture
def quick(monkeypatch):
    """Signs of life come in milliseconds."""
    monkeypatch.setattr(run_lock, "BEAT", 0.02)
    monkeypatch.setattr(run_lock, "WATCH", 1.0)


@pytest.fixture
def holder(tmp_path, root):
    """`holder("fork")`: (a process that holds the folder, the id of its forked child)."""
    processes = []

    def start(*arguments):
        env = {**os.environ, "PYTHONPATH": str(root)}
        command = [sys.executable, "-c", HOLDER, str(tmp_path), *arguments]
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return process, int(process.stdout.readline())

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def held(folder):
    lock = acquire(folder)
    try:
        yield lock
    finally:
        lock.release()


def leave(folder, **changes):
    """Write a lock that its owner did not release."""
    with held(folder) as lock:
        content = {**json.loads(lock.text), "pid": 77, "host": "node9", **changes}
    (folder / FILE).write_text(json.dumps(content))


def test_a_living_process_keeps_the_folder_and_a_killed_one_loses_it(tmp_path, holder, capsys):
    process, _ = holder()
    who = f"process {process.pid} on {platform.node()} "
    message = rf"{who}.*-o output_dir=.*delete {re.escape(str(tmp_path / FILE))}"
    for _ in range(2):
        with pytest.raises(FolderInUse, match=message), output_folder(tmp_path):
            pass
    process.kill()
    process.wait()
    with output_folder(tmp_path) as lock:
        assert lock.is_kept()
        assert f"{who}" in capsys.readouterr().out, "says whose place it takes"
    assert os.listdir(tmp_path) == []


def test_a_forked_child_does_not_keep_the_lock_of_a_killed_owner(tmp_path, holder):
    process, child = holder("fork")
    try:
        process.kill()
        process.wait()
        os.kill(child, 0)  # it lives
        with held(tmp_path) as lock:
            assert lock.is_kept()
    finally:
        os.kill(child, signal.SIGKILL)


def test_one_process_holds_a_folder_once_by_any_name(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with held(tmp_path / "out"):
        for name in ("out", "link", "out/../link"):
            with pytest.raises(FolderInUse):
                acquire(tmp_path / name)
        with held(tmp_path / "another"):
            pass
    with held(tmp_path / "link"):
        pass


def test_only_the_first_rank_takes_the_lock(tmp_path, monkeypatch):
    with output_folder(tmp_path):
        monkeypatch.setenv("PADDLE_TRAINER_ID", "1")
        monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
        with output_folder(tmp_path) as lock:
            assert lock is None
        monkeypatch.setenv("PADDLE_TRAINER_ID", "0")


@pytest.mark.parametrize("locks", [None, True], ids=["no locks", "locks of each machine alone"])
def test_without_locks_a_sign_of_life_decides(tmp_path, monkeypatch, quick, locks):
    monkeypatch.setattr(run_lock, "try_lock", lambda descriptor: locks)
    monkeypatch.setattr(time, "sleep", lambda seconds: threading.Event().wait(seconds / 20))
    leave(tmp_path, boot="another machine")
    path, ended = tmp_path / FILE, threading.Event()

    def live():
        while not ended.wait(0.01):
            os.utime(path)

    owner = threading.Thread(target=live)
    owner.start()
    try:
        with pytest.raises(FolderInUse, match="process 77 on node9"):
            acquire(tmp_path)
    finally:
        ended.set()
        owner.join()
    monkeypatch.setattr(run_lock, "WATCH", 0.1)
    with held(tmp_path) as lock:
        assert lock.is_kept()


def test_an_owner_gives_signs_of_life(tmp_path, quick):
    with held(tmp_path):
        before = run_lock._time_of(tmp_path / FILE)
        for _ in range(500):
            threading.Event().wait(0.02)
            if run_lock._time_of(tmp_path / FILE) != before:
                return
    pytest.fail("the time of the file did not change")


def test_of_two_runs_that_start_at_once_without_locks_one_has_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "try_lock", lambda descriptor: None)
    other = json.dumps({"pid": 5, "host": "b"})
    monkeypatch.setattr(time, "sleep", lambda seconds: (tmp_path / FILE).write_text(other))
    with pytest.raises(FolderInUse, match="process 5 on b"):
        acquire(tmp_path)


@pytest.mark.parametrize("content", ["{", "[1]", "\x00\xff", '{"pid": {"a": 1}}', "null"])
def test_takes_the_place_of_a_damaged_lock(tmp_path, quick, monkeypatch, content):
    monkeypatch.setattr(run_lock, "WATCH", 0.05)
    (tmp_path / FILE).write_text(content)
    with held(tmp_path) as lock:
        assert lock.is_kept()


def test_notices_that_another_run_has_the_folder(tmp_path):
    with held(tmp_path) as lock:
        lock.path.unlink()  # as the message of the error proposes, but the run was alive
        with held(tmp_path) as other:
            for check in (lock.check, lock.is_kept):
                with pytest.raises(FolderInUse, match=r"has taken this output folder"):
                    check()
            lock.release()
            assert other.is_kept(), "the release of the old lock leaves the new one"


def test_notices_a_folder_that_is_gone(tmp_path):
    folder = tmp_path / "out"
    with held(folder) as lock:
        lock.check()
        folder.rename(tmp_path / "renamed")
        with pytest.raises(OSError, match=r"out was removed or emptied.*--resume"):
            lock.check()
    assert not folder.exists(), "the release does not create it again"


def test_waits_for_no_run_that_removes_its_file_in_the_same_moment(tmp_path, monkeypatch):
    real, removed = run_lock.try_lock, []

    def remove_once(descriptor):
        if not removed:
            removed.append((tmp_path / FILE).unlink())
        return real(descriptor)

    monkeypatch.setattr(run_lock, "try_lock", remove_once)
    with held(tmp_path) as lock:
        assert lock.is_kept() and removed


@pytest.mark.parametrize("polls", [0, 1])
def test_takes_a_folder_whose_owner_ends_while_it_is_watched(tmp_path, monkeypatch, quick, polls):
    monkeypatch.setattr(run_lock, "try_lock", lambda descriptor: True)
    leave(tmp_path, boot="another machine")
    real, seen = run_lock._time_of, []

    def owner_ends(path):
        if len(seen) == polls:
            path.unlink()
        seen.append(path)
        return real(path)

    monkeypatch.setattr(run_lock, "_time_of", owner_ends)
    with held(tmp_path) as lock:
        assert lock.is_kept() and len(seen) == polls + 1


def test_names_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    message = r"cannot write to the output folder .*file: .*; choose another with -o output_dir="
    with pytest.raises(OSError, match=message):
        acquire(tmp_path / "file")
