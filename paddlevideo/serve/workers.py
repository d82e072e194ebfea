"""Decoding processes: one job each at a time, replaced when one dies, hangs or is too slow.

A pool of Python's own ends all of its jobs when one process dies. Here a dead process is known to
have run one file, and only the request of this file fails.
"""

import multiprocessing
import os
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddlevideo import log
from paddlevideo.processes import end_with_parent, ignore_signals, signals_held
from paddlevideo.serve.decoder import refusal

try:
    import resource
except ImportError:  # not a Unix system
    resource = None

SIGNALS = ("SIGINT", "SIGTERM")  # for the service, which ends its processes itself
START_SECONDS = 120.0
PING, PING_SECONDS = "ping", 10.0
STATM = Path("/proc/self/statm")


class WorkerError(Exception):
    """A job that has no result; the message gives the reason to clients."""


class FileRefused(WorkerError):
    """The file is at fault."""


class WorkerDied(WorkerError):
    """The file ended its process."""


class WorkerTimeout(WorkerError):
    """The file took too long, and its process was ended."""


class WorkerFailed(WorkerError):
    """An error that is not the file's."""


@dataclass(frozen=True)
class Setup:
    """What a process runs.

    Args:
        work: a picklable function; job -> iterator of replies.
        memory: that a job may take (MB), where the system has such a limit.
    """

    work: Callable[[Any], Iterator[Any]]
    memory: int


class Worker:
    """A process that does one job at a time.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, setup: Setup):
        context = multiprocessing.get_context("spawn")
        self._pipe, child_end = context.Pipe()
        self._ending = threading.Lock()
        self._process = context.Process(
            target=_serve, args=(child_end, os.getpid(), setup), name="decode", daemon=True
        )
        with signals_held(SIGNALS):
            self._process.start()
        child_end.close()

    @property
    def pid(self) -> int | None:
        """The number of the process."""
        return self._process.pid

    def replies(self, job: Any, timeout: float) -> Generator[Any]:
        """Yield what the work yields for a job; a caller that stops early ends the process.

        Args:
            timeout: seconds for each reply.

        Raises:
            FileRefused, WorkerDied, WorkerTimeout, WorkerFailed: there is no result.
        """
        complete = False
        try:
            self._pipe.send(job)
            while True:
                kind, value = self._receive(timeout)
                if kind == "item":
                    yield value
                    continue
                complete = True
                if kind == "refused":
                    raise FileRefused(value)
                if kind == "failed":
                    raise WorkerFailed(value)
                return
        except (EOFError, OSError) as error:
            self._process.join(5)
            code = self._process.exitcode
            text = f"decode: the file ended its decoding process ({exit_text(code)})"
            raise WorkerDied(text) from error
        finally:
            if not complete:
                self.kill()

    def _receive(self, timeout: float) -> tuple[str, Any]:
        if not self._pipe.poll(timeout):
            raise WorkerTimeout(f"decode: not done after {timeout:.1f} s")
        return self._pipe.recv()

    def wait_until_ready(self) -> None:
        """Wait until the process has loaded its modules.

        Raises:
            WorkerError: it ended, or takes too long.
        """
        try:
            if self._pipe.poll(START_SECONDS) and self._pipe.recv() == ("ready", None):
                return
        except (EOFError, OSError):
            pass
        self.kill()
        raise WorkerFailed("a decoding process cannot be started; see the log of the service")

    def answers(self) -> bool:
        """Whether the process is there; one that the system ended is no fault of the next file."""
        try:
            self._pipe.send(PING)
            return self._pipe.poll(PING_SECONDS) and self._pipe.recv() == ("ready", None)
        except (EOFError, OSError):
            return False

    @property
    def alive(self) -> bool:
        return self._process.is_alive() and not self._pipe.closed

    def kill(self) -> None:
        """End the process now. Several threads may call it: that of a job, and that of `close`."""
        with self._ending:
            if not self._pipe.closed:
                self._process.kill()
                self._process.join(10)
                self._pipe.close()


def exit_text(code: int | None) -> str:
    """How a process ended."""
    if code is not None and code < 0:
        return f"signal {-code}"
    return f"exit code {code}"


class Workers:
    """A number of processes for jobs, shared by threads.

    Args:
        count: of processes.

    Attributes:
        num_replaced: processes that were started in place of others.
    """

    def __init__(self, setup: Setup, count: int):
        self._setup, self.count = setup, count
        self._free: queue.LifoQueue[Worker | None] = queue.LifoQueue()
        self._all: set[Worker] = set()
        self._lock, self._closed = threading.Lock(), False
        self.num_replaced = 0
        for _ in range(count):
            self._free.put(None)

    def start(self) -> None:
        """Start all processes, and wait until they are ready.

        Raises:
            WorkerError: one cannot be started.
        """
        started = [self._new() for _ in range(self.count)]
        for worker in started:
            worker.wait_until_ready()
            self._free.get()
        for worker in started:
            self._free.put(worker)

    def _new(self) -> Worker:
        with self._lock:
            if self._closed:
                raise WorkerFailed("the service ends")
            worker = Worker(self._setup)
            self._all.add(worker)
            return worker

    @contextmanager
    def lend(self, timeout: float) -> Iterator[Worker]:
        """Yield a process that is free, once there is one.

        Raises:
            WorkerTimeout: none is free in time.
            WorkerError: none can be started.
        """
        try:
            worker = self._free.get(timeout=max(0.0, timeout))
        except queue.Empty:
            raise WorkerTimeout(f"no decoding process was free for {timeout:.1f} s") from None
        try:
            if worker is None or not worker.answers():
                worker = self._replace(worker)
            yield worker
        finally:
            self._free.put(worker)

    def _replace(self, dead: Worker | None) -> Worker:
        if dead is not None:
            self.num_replaced += 1
            dead.kill()
            with self._lock:
                self._all.discard(dead)
        worker = self._new()
        worker.wait_until_ready()
        return worker

    @property
    def pids(self) -> list[int]:
        """The numbers of the processes that run."""
        with self._lock:
            return [worker.pid for worker in self._all if worker.pid and worker.alive]

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            self._closed = True
            workers, self._all = list(self._all), set()
        for worker in workers:
            worker.kill()


# --- in the process -------------------------------------------------------------------------------


def _serve(pipe: Any, parent: int, setup: Setup) -> None:
    ignore_signals(SIGNALS)
    end_with_parent(parent)
    log.quiet_paddle_warnings()
    _limit_memory(setup.memory)
    pipe.send(("ready", None))
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        pipe.send(("ready", None) if job == PING else _reply(setup.work, job, pipe))


def _reply(work: Callable[[Any], Iterator[Any]], job: Any, pipe: Any) -> tuple[str, Any]:
    """Send the items of a job; returns the reply that ends it."""
    try:
        for item in work(job):
            pipe.send(("item", item))
    except Exception as error:
        reason = refusal(error)
        if reason is not None:
            return "refused", reason
        return "failed", f"{type(error).__name__}: {error}"
    return "end", None


def _limit_memory(megabytes: int) -> None:
    """Let the process take this much more memory; and write no core file when it crashes."""
    if resource is None:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if STATM.exists():
        now = int(STATM.read_text().split()[0]) * resource.getpagesize()
        limit = now + (megabytes << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
