"""Commands in processes of their own, which end with all that they started."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LIMIT = 1800.0  # seconds of one command
GRACE = 10.0  # seconds that a command has to end what it started


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    output: str


Run = Callable[[Sequence[str], Mapping[str, str]], Done]


def run_command(command: Sequence[str], variables: Mapping[str, str]) -> Done:
    """Run a command in a process of its own; its output is kept in the order of printing.

    Python does not buffer it, so that a crash loses no line.
    A command that takes too long is asked to end first, since Paddle's launcher starts trainers in
    groups of their own, which only it knows; then its own group is killed.
    """
    package = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": paths, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return Done(124, f"it was ended after {LIMIT:.0f} s")
    finally:
        _end(process)
    return Done(process.returncode, output)


def _end(process: subprocess.Popen) -> None:
    """End a process, and kill what is left of its group."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()
