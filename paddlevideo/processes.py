"""One function over many items in several processes, of which any may die.

A decoder is foreign code: a file can end its whole process. Then the items that were under way are tried one by one, the one
that does it is named, and the others go on.
"""

import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from paddlevideo import log

AHEAD = 3  # items per process that are handed out before their turn


class Crash:
    """Stands for the result of an item that ended its process."""


def run_each(
    function: Callable[[Any], Any],
    items: Sequence,
    num_workers: int | None = None,
    label: str = "",
    show: bool = True,
) -> Iterator[tuple[int, Any]]:
    """Yield (place of the item, `function(item)` or a `Crash`), in the order in which they are done.

    Args:
        function: known by its module's name, so that another process can import it; what it raises is raised here.
        num_workers: processes, None for one per core; 0 works in this process, where a crash ends all.
        label: of the progress bar.
        show: draw the bar.
    """
    if num_workers is None:
        num_workers = (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
    with log.progress(total=len(items), label=label, show=show) as bar:
        results = (
            _in_processes(function, items, num_workers)
            if num_workers and items
            else _here(function, items)
        )
        for place, result in results:
            bar.update()
            yield place, result


def _here(function, items) -> Iterator[tuple[int, Any]]:
    for place, item in enumerate(items):
        yield place, function(item)


def _in_processes(function, items, num_workers: int) -> Iterator[tuple[int, Any]]:
    waiting = iter(range(len(items)))
    running: dict[Future, int] = {}
    suspects: list[int] = []
    pool = _pool(min(num_workers, len(items)))
    try:
        while True:
            try:
                for place in itertools.islice(waiting, num_workers * AHEAD - len(running)):
                    suspects.append(place)  # until it is handed over
                    running[pool.submit(function, items[place])] = place
                    suspects.pop()
            except BrokenProcessPool:
                pass
            if not running and not suspects:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                place = running.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    suspects.append(place)
                else:
                    yield place, future.result()
            if suspects:
                suspects += running.values()
                running.clear()
                pool.shutdown()
                for place in suspects:
                    yield place, _alone(function, items[place])
                suspects.clear()
                pool = _pool(num_workers)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _alone(function, item) -> Any:
    with _pool(1) as pool:
        try:
            pool.submit(os.getpid).result()
        except BrokenProcessPool as error:
            raise OSError(
                "no other process can be started here; work in this one with 0 workers"
            ) from error
        try:
            return pool.submit(function, item).result()
        except BrokenProcessPool:
            return Crash()


def _pool(num_workers: int) -> ProcessPoolExecutor:
    # Spawned, not forked: a copy of a process whose libraries run threads may hang.
    return ProcessPoolExecutor(
        num_workers, multiprocessing.get_context("spawn"), _start, (os.getpid(),)
    )


def _start(parent: int) -> None:
    """In each process: Ctrl-C is the parent's affair, and there is no life after it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
