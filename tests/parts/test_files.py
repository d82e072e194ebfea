"""Complete files: written atomically, and checked before long work."""

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from paddlevideo import files
from paddlevideo.files import (
    atomic_write,
    boot_id,
    check_writable,
    json_text,
    machine,
    remove_leftovers,
    temporary_name,
    try_lock,
)
from paddlevideo.urls import MissingError

superuser = not hasattr(os, "geteuid") or os.geteuid() == 0


def test_writes_a_complete_file_into_a_new_folder(tmp_path):
    path = tmp_path / "new" / "deep" / "file.txt"
    with atomic_write(path) as temporary:
        assert temporary.parent == path.parent and not path.exists()
        temporary.write_text("complete")
    assert path.read_text() == "complete" and os.listdir(path.parent) == ["file.txt"]


@pytest.mark.parametrize(
    "error",
    [RuntimeError("broke"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")],
)
def test_keeps_the_old_file_when_the_block_fails(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(type(error)), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.txt"]


def test_keeps_the_old_file_when_the_disk_is_full(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def full(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    message = "file.txt: No space left on device; an earlier file of this name is kept"
    with pytest.raises(OSError, match=message) as caught, atomic_write(path) as temporary:
        temporary.write_text("new")
    assert caught.value.errno == errno.ENOSPC
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.txt"]


def test_an_error_of_a_remote_file_that_is_read_in_the_block_stays(tmp_path):
    with (
        pytest.raises(MissingError, match="^s3://b/a: no such file$"),
        atomic_write(tmp_path / "f"),
    ):
        raise MissingError("s3://b/a: no such file")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_keeps_the_old_file_when_the_disk_fills_up(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with (
        pytest.raises(OSError, match="cannot write .*file.txt: No space left on device"),
        atomic_write(path),
        Path("/dev/full").open("w") as file,
    ):
        file.write("new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.txt"]


@pytest.mark.skipif(superuser, reason="the superuser may write anywhere")
def test_names_a_folder_without_write_permission(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    tmp_path.chmod(0o500)
    try:
        message = "cannot write .*file.txt: Permission denied"
        with pytest.raises(OSError, match=message), atomic_write(path) as temporary:
            temporary.write_text("new")
        assert path.read_text() == "old"
    finally:
        tmp_path.chmod(0o700)


def test_names_a_path_whose_folder_is_a_file(tmp_path):
    (tmp_path / "output").write_text("a file")
    path = tmp_path / "output" / "file.txt"
    with pytest.raises(OSError, match=r"cannot write .*output/file.txt: "), atomic_write(path):
        pass
    with pytest.raises(OSError, match=r"cannot write .*file.txt: .*; choose another path"):
        check_writable(path)


def test_check_writable_creates_the_folder_and_leaves_no_file(tmp_path):
    path = tmp_path / "new" / "file.txt"
    check_writable(path)
    assert os.listdir(path.parent) == []
    path.write_text("old")
    check_writable(path)
    assert path.read_text() == "old"


def test_json_has_no_nan():
    content = {
        "a": [1.5, float("nan"), (float("-inf"), "NaN")],
        "b": {"c": float("inf")},
        "d": None,
    }
    found = json.loads(json_text(content), parse_constant=pytest.fail)
    assert found == {"a": [1.5, None, [None, "NaN"]], "b": {"c": None}, "d": None}
    assert json_text({"ö": [1, 2]}) == '{"ö": [1, 2]}'
    assert json_text([1], indent=1) == "[\n 1\n]"


# --- what killed writers left ---------------------------------------------------------------------

WRITER = """
import os, signal, sys
from paddlevideo.files import atomic_write
with atomic_write(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    "name", ["run.yaml", "valid_best.json", "report.html", "a.b-1.c", "红" * 80]
)
def test_removes_what_a_killed_writer_left_and_says_so(tmp_path, root, caplog, name):
    caplog.set_level(logging.INFO)
    env = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", WRITER, str(tmp_path / name)], env=env)
    assert done.returncode == -signal.SIGKILL
    (left,) = os.listdir(tmp_path)
    assert remove_leftovers(tmp_path, {"other"}) == [] and not caplog.text
    check_writable(tmp_path / name)
    assert os.listdir(tmp_path) == []
    assert f"{tmp_path}: removed temporary files of killed runs: {left}" in caplog.text


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_keeps_what_may_be_in_use(tmp_path):
    dead, day = dead_process(), time.time() - files.FOREIGN_SECONDS - 60
    keep = [
        temporary_name(tmp_path / "own"),
        tmp_path / f".parent.{machine()}-{os.getppid()}-0.tmp",
        tmp_path / f".older.{os.getppid()}.tmp",
        tmp_path / f".new.0123abcd-{dead}-0.tmp",
        tmp_path / "visible.1.tmp",
        tmp_path / ".no-number.tmp",
        tmp_path / ".gitignore",
    ]
    gone = [
        tmp_path / f".dead.{machine()}-{dead}-3.tmp",
        tmp_path / f".older.{dead}.tmp",
        tmp_path / f".same number.{os.getpid()}.tmp",
        tmp_path / f".other host.0123abcd-{os.getpid()}-0.tmp",
        tmp_path / f".huge.{10**30}.tmp",
    ]
    for path in [*keep, *gone]:
        path.touch()
    folder = tmp_path / f".folder.{machine()}-{dead}-0.tmp"
    (folder / "inside").mkdir(parents=True)
    os.utime(gone[3], (day, day))
    assert remove_leftovers(tmp_path) == sorted(path.name for path in [*gone, folder])
    assert sorted(tmp_path.iterdir()) == sorted(keep)
    assert remove_leftovers(tmp_path, own=("ne", "par")) == sorted(
        p.name for p in (keep[3], keep[1])
    )
    assert remove_leftovers(tmp_path / "missing") == []


def test_threads_write_the_same_file_at_once(tmp_path):
    path, errors = tmp_path / "file.txt", []
    ready = threading.Barrier(4)

    def write(number):
        try:
            with atomic_write(path) as temporary:
                temporary.write_text(f"{number}" * 1000)
                ready.wait()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and os.listdir(tmp_path) == ["file.txt"]
    assert path.read_text() in [f"{number}" * 1000 for number in range(4)]


def test_a_long_name_can_be_written(tmp_path):
    for name in ("x" * 250, "红" * 82):
        with atomic_write(tmp_path / name) as temporary:
            temporary.write_text("a")
        assert (tmp_path / name).read_text() == "a"


def test_a_file_is_locked_once_until_it_is_closed(tmp_path, monkeypatch):
    first, second = (os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT) for _ in range(2))
    try:
        assert try_lock(first) is True and try_lock(second) is False
        os.close(first)
        assert try_lock(second) is True
    finally:
        os.close(second)

    def no_locks(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", no_locks)
    assert try_lock(0) is None
    monkeypatch.setattr(files, "fcntl", None)
    assert try_lock(0) is None


def test_a_system_without_a_boot_id_is_its_host(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "BOOT_ID", tmp_path / "missing")
    assert boot_id() == files.platform.node()
