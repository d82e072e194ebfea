"""Processes that write programs, forked from one that has imported Paddle.

`exporting.program` starts a new Python for each program, which imports Paddle for two seconds. The
tests write many programs. Here one process for each kind of program imports Paddle once, and forks
a child for each job.
"""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from paddlevideo.exporting import program
from paddlevideo.models.layers import RESNET_DEPTHS

FLAG = "FLAGS_enable_pir_api"
ROOT = Path(__file__).resolve().parent.parent


class Writers:
    """Stands in for the module `subprocess` of `exporting.program`."""

    def __init__(self):
        self._servers: dict[str, subprocess.Popen] = {}

    @property
    def processes(self) -> set[int]:
        return {server.pid for server in self._servers.values()}

    def run(self, command: Sequence[str], env: dict, **_) -> subprocess.CompletedProcess:
        """What `subprocess.run` returns for `python -m paddlevideo.exporting.program FILE`."""
        server = self._servers.get(env[FLAG]) or self._start(env[FLAG])
        job = str(Path(command[-1]).resolve())
        request = {
            "job": job,
            "env": env,
            "folder": os.getcwd(),
            "depths": list(RESNET_DEPTHS.items()),
        }
        assert server.stdin and server.stdout
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        answer = server.stdout.readline()
        if not answer:
            raise RuntimeError(f"the writer of programs ended with code {server.wait()}")
        code = int(answer)
        printed = Path(f"{job}.printed")
        text = printed.read_text(errors="replace")
        printed.unlink()
        return subprocess.CompletedProcess(command, code, text, "")

    def _start(self, flag: str) -> subprocess.Popen:
        self._servers[flag] = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.program_writer"],
            cwd=ROOT,
            env={**os.environ, FLAG: flag},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self._servers[flag]

    def close(self) -> None:
        for server in self._servers.values():
            server.communicate()


WRITERS = Writers()


@contextmanager
def forked_writers() -> Iterator[None]:
    """Let `exporting.program` write its programs in forked processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "subprocess", WRITERS)
        yield
    WRITERS.close()


def serve() -> None:
    """Do each job of standard input in a child; print the exit codes."""
    answers = os.dup(1)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            os._exit(_child(**request))
        _, status = os.waitpid(child, 0)
        os.write(answers, f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _child(job: str, env: dict, folder: str, depths: list) -> int:
    printed = os.open(f"{job}.printed", os.O_WRONLY | os.O_CREAT)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    os.environ.update(env)
    os.chdir(folder)
    RESNET_DEPTHS.update(depths)  # those of the test: tests/shallow.py
    try:
        program.main(job)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    serve()
