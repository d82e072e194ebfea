"""Loads samples ahead of the network, in threads that end with the prediction.

Decoders release Python's interpreter lock, so threads decode at once, and no sample is copied
between processes. No thread waits for another one to take its sample: a load is started only where
there is room for its sample. So an abandoned prediction ends as soon as the loads that run.
"""

import contextvars
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from paddlevideo.cores import num_cores
from paddlevideo.sample import Record, Sample

MAX_WORKERS = 8  # by default; more than one network needs

Load = Callable[[Record, Any], Sample | str]
_END: Any = object()


def default_workers() -> int:
    """How many threads load samples: one per core that this process may use, at most 8."""
    return min(MAX_WORKERS, num_cores())


class LoadAhead:
    """Samples of records in the order of the records.

    A context manager; the block's end cancels what has not begun and waits for what has.

    Args:
        load: (record, its data in memory or None) -> its sample, or why there is none. It is called
            in several threads, each time in a copy of this thread's context.
        records: (record, data), read in the thread that calls `next`.
        num_workers: threads; 0 loads a sample when it is asked for.
        room: samples in memory, with those that the caller holds.

    Attributes:
        waited: seconds that `next` waited for samples.
    """

    def __init__(
        self, load: Load, records: Iterable[tuple[Record, Any]], num_workers: int, room: int
    ):
        self._load, self._records = load, iter(records)
        self._num_workers, self._room = num_workers, room
        self._running: deque[tuple[Record, Future]] = deque()
        self._pool = ThreadPoolExecutor(num_workers, "load") if num_workers else None
        self.waited = 0.0

    def __enter__(self) -> "LoadAhead":
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def fill(self, held: int) -> None:
        """Start loads while there is room.

        Args:
            held: samples that the caller holds.
        """
        while self._pool and len(self._running) + held < self._room:
            try:
                record, source = next(self._records)
            except StopIteration:
                return
            except Exception as error:  # it is raised after the samples before it
                failed: Future = Future()
                failed.set_exception(error)
                self._running.append((Record(""), failed))
                self._records = iter(())
                return
            context = contextvars.copy_context()
            future = _submit(self._pool, context.run, self._load, record, source)
            self._running.append((record, future))

    def next(self, held: int) -> tuple[Record, Sample | str] | None:
        """The next record and its sample; None after the last one.

        Args:
            held: samples that the caller holds.
        """
        start = time.perf_counter()
        try:
            if self._pool is None:
                pairs = ((record, self._load(record, data)) for record, data in self._records)
                return next(pairs, None)
            self.fill(min(held, self._room - 1))
            if not self._running:
                return None
            record, future = self._running.popleft()
            return record, future.result()
        finally:
            self.waited += time.perf_counter() - start


def one_ahead(items: Iterator[Any], pool: ThreadPoolExecutor) -> Iterator[Any]:
    """The items of an iterator; `pool` computes the next one while the caller uses the last."""
    future = _submit(pool, next, items, _END)
    while (item := future.result()) is not _END:
        future = _submit(pool, next, items, _END)
        yield item


def _submit(pool: ThreadPoolExecutor, function: Callable[..., Any], *arguments: Any) -> Future:
    """The future of a call in a thread, or of a call made now if no thread can run it.

    When the main thread has ended, Python starts no more work in pools, and other threads go on.
    """
    try:
        return pool.submit(function, *arguments)
    except RuntimeError:
        future: Future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future
