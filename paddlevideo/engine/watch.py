"""What a rank reports to its monitor (rank_monitor.py): steps, its end, and errors.

In a run of one process the monitor starts late, so that a short run has none. It needs signals of
Unix; on another system nothing is watched.
"""

import contextlib
import faulthandler
import json
import os
import platform
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from paddlevideo import dist, log
from paddlevideo.engine import rank_monitor
from paddlevideo.engine.evaluate import Scored
from paddlevideo.engine.rank_monitor import Facts
from paddlevideo.sample import Record

LATE = 20.0  # seconds after which a run of one process gets a monitor
WAIT = 15.0  # seconds in which a monitor starts, and joins the others
BEAT = 1.0  # seconds between two reported steps
MAX_TEXT = 2000  # characters of an error that other ranks print
# On this signal a rank writes the stacks of its threads; nobody else uses it.
STACKS = int(signal.SIGRTMAX) - 7 if hasattr(signal, "SIGRTMAX") else 0


class Watch:
    """Watches this rank for a block; with several ranks, every rank has a Watch.

    Args:
        minutes: without a step after which the run hangs; 0 for no limit.
        folder: where the stacks of a run that hangs are written.
    """

    def __init__(self, minutes: float = 0.0, folder: str | Path = "."):
        self.limit, self.folder = 60.0 * minutes, str(Path(folder).absolute())
        self._process: subprocess.Popen | None = None
        self._stacks: Any = None
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()
        self._next, self._open, self._read = 0.0, False, b""
        self._counting = False  # between the first step and `rest`

    def __enter__(self):
        self._open = True
        if dist.world_size() > 1 and STACKS:
            self._start_all()
        elif self.limit and STACKS:
            self._timer = threading.Timer(min(LATE, self.limit / 4), self._start_late)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, kind, error, traceback):
        """Say why the rank ends.

        Raises:
            LostRank: another rank has failed, with the cause.
        """
        with self._lock:
            self._open = False
        if self._timer:
            self._timer.cancel()
            self._timer.join()
        cause = ""
        try:
            if error is None:
                self._send(kind="bye")
            elif isinstance(error, dist.LostRank):
                self._send(kind="lost")
                cause = str(self._answer("cause", Facts.verdict + 2).get("text", ""))
            else:
                self._send(kind="error", text=describe(error)[:MAX_TEXT])
        finally:
            self._end()
        if cause:
            text = f"{cause}; rank {dist.rank()} of {dist.world_size()} ends with it"
            raise dist.LostRank(f"{text}; continue with --resume") from error

    def beat(self) -> None:
        """Report a step. Before the first one, and after `rest`, there is no limit."""
        self._counting, now = True, time.monotonic()
        if now >= self._next:
            self._next = now + BEAT
            self._send(kind="beat")

    def rest(self) -> None:
        """Report that no steps follow."""
        with self._lock:
            self._next, self._counting = 0.0, False
            self._send(kind="rest")

    # --- the process ----------------------------------------------------------------------------

    def _start_all(self) -> None:
        """Start the monitors of all ranks; rank 0's is the first, and the others connect to it."""
        rank, world = dist.rank(), dist.world_size()
        name, address = dist.host(), {}
        if rank == 0:
            token = secrets.token_hex(16)
            self._start(token, bind=name)
            port = self._answer("port", WAIT).get("port")
            facts = f"rank 0 of {world} on {platform.node()} (process {os.getpid()})"
            address = {"host": name, "port": port, "token": token, "name": facts} if port else {}
        address = dist.gather(address)[0]
        if rank > 0:
            self._start("")
            if address:
                self._send(kind="join", **address)
                self._answer("joined", WAIT)

    def _start_late(self) -> None:
        with self._lock:
            if self._open:
                self._start("")
                if self._counting:
                    self._send(kind="beat")

    def _start(self, token: str, bind: str = "") -> None:
        self._stacks = tempfile.TemporaryFile()  # noqa: SIM115, open as long as the watch
        number = self._stacks.fileno()
        facts = Facts(
            rank=dist.rank(),
            world=dist.world_size(),
            host=platform.node(),
            pid=os.getpid(),
            bind=bind,
            token=token,
            limit=self.limit,
            folder=self.folder,
            signal=STACKS,
            stacks=number,
        )
        script = str(Path(rank_monitor.__file__).absolute())
        faulthandler.register(STACKS, self._stacks, all_threads=True)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", script, json.dumps(asdict(facts))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # signals to the group of the rank are not meant for it
                pass_fds=[number],
                bufsize=0,
            )
        except OSError as error:
            log.logger.warning(f"no process can be started that notices a hang: {error}")

    def _send(self, **message) -> None:
        process = self._process
        if process and process.stdin:
            with contextlib.suppress(OSError, ValueError):  # the monitor was killed
                process.stdin.write(json.dumps(message).encode() + b"\n")

    def _answer(self, kind: str, seconds: float) -> dict[str, Any]:
        """The next message of this kind from the monitor; {} where none comes."""
        process, until = self._process, time.monotonic() + seconds
        while process and process.stdout and (left := until - time.monotonic()) > 0:
            line, separator, rest = self._read.partition(b"\n")
            if separator:
                self._read, message = rest, json.loads(line)
                if message["kind"] == kind:
                    return message
                continue
            ready, _, _ = select.select([process.stdout], [], [], left)
            data = os.read(process.stdout.fileno(), rank_monitor.MAX_LINE) if ready else b""
            if not data:
                break
            self._read += data
        return {}

    def _end(self) -> None:
        process, self._process = self._process, None
        if process:
            assert process.stdin and process.stdout
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
        if self._stacks:
            faulthandler.unregister(STACKS)
            self._stacks.close()
            self._stacks = None


def describe(error: BaseException) -> str:
    """An error as one line; what is no mistake of a user has the name of its class."""
    text = log.error_text(error) if isinstance(error, Exception) else ""
    return text if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {text}"


class Beats:
    """Reports every scored record of an evaluation as a step."""

    def __init__(self, watch: Watch):
        self.watch = watch

    def add(self, scored: Scored) -> None:
        self.watch.beat()

    def add_failure(self, record: Record, index: int, reason: str) -> None:
        self.watch.beat()

    def state(self) -> None:
        """Nothing is collected."""

    def merge(self, states: Sequence[None]) -> None:
        self.watch.beat()
