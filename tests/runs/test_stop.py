"""A training that is stopped from outside: closed terminals, signals to all processes, kills."""

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

LIMIT = 240  # seconds; a run that takes longer hangs


def processes_of(session: int) -> list[int]:
    """The processes of a session that are running."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            state, _, _, number = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(number) == session and state != "Z":
                found.append(int(folder.name))
    return found


@pytest.fixture
def start(root, tmp_path, small):
    """`start(file, terminal=)`: a training of many epochs in a session of its own."""
    config = small("epochs=1").origin.path
    started = []

    def run(console, terminal=None, epochs=1000):
        options = ["-o", f"epochs={epochs}", "-o", "DATASET.num_workers=2"]
        command = [sys.executable, "-B", "main.py", "-c", config, *options, "--resume"]

        def take_terminal():
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

        process = subprocess.Popen(
            command,
            cwd=root,
            stdin=terminal,
            stdout=console,
            stderr=console,
            start_new_session=True,
            preexec_fn=take_terminal if terminal is not None else None,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        for number in processes_of(process.pid):
            os.kill(number, signal.SIGKILL)
        process.wait()


def wait_for_steps(process, folder: Path, epoch: str = "epoch:[") -> None:
    """Wait until the training is in its first epoch, with its workers running."""
    log, deadline = folder / "log.txt", time.time() + LIMIT
    while time.time() < deadline and process.poll() is None:
        if log.exists() and f"{epoch}" in log.read_text():
            return
        time.sleep(0.02)
    pytest.fail(f"no training step: {log.read_text() if log.exists() else 'no log'}")


def assert_saved_and_gone(process, folder: Path) -> None:
    assert process.wait(LIMIT) == 0
    assert "asked to stop: saved after epoch" in (folder / "log.txt").read_text()
    assert (folder / "ppTSN_latest.pdstate").exists()
    assert not (folder / "run.lock").exists()
    assert_gone(process)


def assert_gone(process) -> None:
    """No process of its session is left; workers look for their parent once a second."""
    deadline = time.time() + 20
    while processes_of(process.pid) and time.time() < deadline:
        time.sleep(0.05)
    assert processes_of(process.pid) == []


def test_a_hangup_of_all_processes_saves_the_state(start, tmp_path):
    with (tmp_path / "console.txt").open("wb") as console:
        process = start(console)
        wait_for_steps(process, tmp_path / "out")
        os.killpg(process.pid, signal.SIGHUP)
        assert_saved_and_gone(process, tmp_path / "out")
    assert "Traceback" not in (tmp_path / "console.txt").read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_closed_terminal_saves_the_state(start, tmp_path):
    main, terminal = pty.openpty()
    process = start(terminal, terminal)
    os.close(terminal)
    os.set_blocking(main, False)
    while not (tmp_path / "out" / "log.txt").exists() and process.poll() is None:
        with contextlib.suppress(BlockingIOError):
            os.read(main, 10_000)  # otherwise the terminal is full, and the run waits
        time.sleep(0.02)
    wait_for_steps(process, tmp_path / "out")
    os.close(main)
    assert_saved_and_gone(process, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_interrupt_saves_the_state_when_tee_is_gone(start, tmp_path):
    read, write = os.pipe()
    process = start(write)
    os.close(write)
    wait_for_steps(process, tmp_path / "out")
    os.close(read)  # Ctrl-C ends `| tee log` first
    os.killpg(process.pid, signal.SIGINT)
    assert_saved_and_gone(process, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_worker_outlives_a_killed_training_whose_folder_is_free(start, tmp_path):
    with (tmp_path / "console.txt").open("wb") as console:
        process = start(console)
        wait_for_steps(process, tmp_path / "out", "epoch:[  2")
        process.kill()
        process.wait()
        again = start(console, epochs=3)  # while workers of the first may still be running
        assert again.wait(LIMIT) == 0
    assert "was killed; this run takes its place" in (tmp_path / "console.txt").read_text()
    assert_gone(process)
