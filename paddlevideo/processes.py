"""Run one function over many items in several processes, and survive a process that dies.

Decoders are C code: a damaged file can end its whole process. The items that were running then are
tried again one at a time. The item that ends its process again gets a `Crash` as its result, and
the work continues.
"""

import contextlib
import itertools
import multiprocessing
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Protocol

from paddlevideo import log
from paddlevideo.cores import num_cores

QUEUED_PER_WORKER = 3  # items submitted per process, so that none waits for its next one


class Crash:
    """The result of an item that ended its process."""


class RunEach(Protocol):
    """`run_each`, or the same on other machines."""

    def __call__(
        self,
        function: Callable[[Any], Any],
        items: Sequence,
        num_workers: int | None = None,
        label: str = "",
        show: bool = True,
    ) -> Iterator[tuple[int, Any]]: ...


def processor() -> str:
    """The name of the processor, with family and model, since virtual machines shorten names."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    facts: dict[str, str] = {}
    for key, _, value in (line.partition(":") for line in lines):
        facts.setdefault(key.strip(), value.strip())
    if "model name" not in facts:
        return platform.processor() or platform.machine()
    numbers = [f"{key} {facts[key]}" for key in ("cpu family", "model") if key in facts]
    return f"{facts['model name']} ({', '.join(numbers)})" if numbers else facts["model name"]


def run_each(
    function: Callable[[Any], Any],
    items: Sequence,
    num_workers: int | None = None,
    label: str = "",
    show: bool = True,
) -> Iterator[tuple[int, Any]]:
    """Yield (index of the item, `function(item)` or a `Crash`) in the order of completion.

    Args:
        function: a picklable function, such as one at the top level of a module. Its exceptions are
            raised here.
        num_workers: number of processes; None for one per core, 0 to work in this process, where a
            crash ends everything.
        label: text of the progress bar.
        show: show the progress bar.

    Raises:
        OSError: a process died, and no other process can be started.
    """
    if num_workers is None:
        num_workers = num_cores()
    with log.progress(total=len(items), label=label, show=show) as bar:
        if num_workers and items:
            results = _in_processes(function, items, num_workers)
        else:
            results = _in_this_process(function, items)
        for index, result in results:
            bar.update()
            yield index, result


def _in_this_process(function, items) -> Iterator[tuple[int, Any]]:
    for index, item in enumerate(items):
        yield index, function(item)


def _in_processes(function, items, num_workers: int) -> Iterator[tuple[int, Any]]:
    waiting = iter(range(len(items)))
    running: dict[Future, int] = {}
    suspects: list[int] = []  # items that may have ended the process
    pool = _pool(min(num_workers, len(items)))
    try:
        while True:
            free = num_workers * QUEUED_PER_WORKER - len(running)
            try:
                for index in itertools.islice(waiting, free):
                    # The pool may break before it accepts the item; then the item stays a suspect.
                    suspects.append(index)
                    running[pool.submit(function, items[index])] = index
                    suspects.pop()
            except BrokenProcessPool:
                pass
            if not running and not suspects:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                index = running.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    suspects.append(index)
                else:
                    yield index, future.result()
            if suspects:
                suspects += running.values()
                running.clear()
                pool.shutdown()
                for index in suspects:
                    yield index, _run_alone(function, items[index])
                suspects.clear()
                pool = _pool(num_workers)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _run_alone(function, item) -> Any:
    """The result of one item in a process of its own, or a `Crash`."""
    with _pool(1) as pool:
        try:
            pool.submit(os.getpid).result()
        except BrokenProcessPool as error:
            raise OSError(
                "cannot start another process; use 0 workers to work in this process"
            ) from error
        try:
            return pool.submit(function, item).result()
        except BrokenProcessPool:
            return Crash()


@contextlib.contextmanager
def signals_held(names: Sequence[str]) -> Iterator[None]:
    """Hold back these signals in this thread, and in the processes that it starts meanwhile.

    A process that shall ignore a signal could be ended by it before `ignore_signals` ran there.
    Does nothing on Windows.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _numbers(names))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_signals(names: Sequence[str]) -> None:
    """Ignore these signals in this process, and end what `signals_held` began for it."""
    for number in _numbers(names):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _numbers(names))


def _numbers(names: Sequence[str]) -> list[signal.Signals]:
    """The numbers of the signals that this system has."""
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


def _pool(num_workers: int) -> ProcessPoolExecutor:
    # Spawn, because a fork of a process whose libraries run threads may hang.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(num_workers, context, _start_worker, (os.getpid(),))


def _start_worker(parent: int) -> None:
    """Prepare a worker: leave Ctrl-C to the parent process, and exit when the parent is gone."""
    ignore_signals(["SIGINT"])
    log.quiet_paddle_warnings()
    end_with_parent(parent)


def end_with_parent(parent: int) -> None:
    """Exit this process when its parent is gone, also while it works.

    Args:
        parent: process number of the parent.
    """

    def exit_with_parent():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()
