"""Decoded videos of several requests run through the network together."""

import queue
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from paddlevideo.log import logger
from paddlevideo.predict.predictor import Predictor
from paddlevideo.predict.results import Result
from paddlevideo.runtimes.base import Backend
from paddlevideo.sample import Arrays, Record, Sample

MANY = 1 << 20  # videos; as many as fill runs of the network


@dataclass(frozen=True)
class Scored:
    """The result of a video, and how long its batch took.

    Args:
        inference: of the network (s).
        postprocess: of everything else after decoding: inputs, averages, best classes (s).
        batch: videos that ran together.
    """

    result: Result
    inference: float
    postprocess: float
    batch: int


@dataclass
class _Waiting:
    record: Record
    sample: Sample
    topk: int
    future: "Future[Scored]" = field(default_factory=Future)


class TimedBackend:
    """Runs a network, and adds up how long its runs take.

    Attributes:
        seconds: of the runs since it was last set.
    """

    def __init__(self, backend: Backend):
        self._backend, self.seconds = backend, 0.0

    def run(self, arrays: Arrays) -> Any:
        """See `Backend.run`."""
        start = time.perf_counter()
        try:
            return self._backend.run(arrays)
        finally:
            self.seconds += time.perf_counter() - start


class Batcher:
    """Scores samples in a thread, several at once where several are there.

    A sample waits for others only while others are on their way, and never longer than `wait`.

    Args:
        predictor: scores the samples.
        wait: the longest time that a sample waits for others (s).

    Attributes:
        size: the most samples in a batch, and the most that wait for theirs.
    """

    def __init__(self, predictor: Predictor, wait: float):
        self._predictor, self._wait = predictor, wait
        self.size = predictor.limit_batch(None, MANY)
        self._waiting: deque[_Waiting] = deque()
        self._coming, self._closed = 0, False
        self._changed = threading.Condition()  # of the three above
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._thread.start()

    def expect(self, change: int) -> None:
        """Count a sample that will come (1), or that has come or failed (-1)."""
        with self._changed:
            self._coming += change
            self._changed.notify_all()

    def submit(self, record: Record, sample: Sample, topk: int, timeout: float) -> "Future[Scored]":
        """Score a sample; the future has the result.

        Args:
            timeout: how long to wait for room (s), so that samples do not fill the memory.

        Raises:
            queue.Full: there was none.
        """
        waiting = _Waiting(record, self._predictor.feed.fitted(sample), topk)
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._waiting) < self.size, timeout):
                raise queue.Full
            self._waiting.append(waiting)
            self._changed.notify_all()
        return waiting.future

    def close(self) -> None:
        """Score what waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        with self._predictor.scorer() as scorer:
            backend = TimedBackend(scorer.backend)
            scorer.backend = backend  # type: ignore[assignment]
            while batch := self._next():
                batch = [each for each in batch if each.future.set_running_or_notify_cancel()]
                if batch:
                    self._score(scorer, backend, batch)

    def _next(self) -> list[_Waiting]:
        """The next batch; an empty one at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            self._changed.wait_for(self._complete, self._wait)
            batch = [self._waiting.popleft() for _ in range(min(self.size, len(self._waiting)))]
            self._changed.notify_all()
        return batch

    def _complete(self) -> bool:
        """Whether nothing is left to wait for."""
        return len(self._waiting) >= self.size or self._coming <= 0 or self._closed

    def _score(self, scorer: Any, backend: TimedBackend, batch: Sequence[_Waiting]) -> None:
        backend.seconds, start = 0.0, time.perf_counter()
        topk = max(each.topk for each in batch)
        try:
            results = list(scorer.score([(each.record, each.sample) for each in batch], topk))
        except Exception as error:  # of this batch; the next one may be fine
            logger.error(f"a batch of {len(batch)} failed: {type(error).__name__}: {error}")
            for each in batch:
                each.future.set_exception(error)
            return
        others = time.perf_counter() - start - backend.seconds
        for each, result in zip(batch, results, strict=True):
            best = best_of(result, each.topk)
            each.future.set_result(Scored(best, backend.seconds, others, len(batch)))


def best_of(result: Result, topk: int) -> Result:
    """The result with fewer classes."""
    return Result(
        result.input_path,
        result.class_ids[:topk],
        result.scores[:topk],
        result.label_names[:topk],
        error=result.error,
        note=result.note,
    )
