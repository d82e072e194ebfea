"""Decoded videos of several requests run through the network together."""

import queue
import threading
import time
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
        size: the most samples in a batch.
        coming: samples that are decoded now; those who decode count them.
    """

    def __init__(self, predictor: Predictor, wait: float):
        self._predictor, self._wait = predictor, wait
        self.size = predictor.limit_batch(None, MANY)
        # A full queue makes decoding wait, so that samples do not fill the memory.
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(self.size)
        self._lock, self._coming = threading.Lock(), 0
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._thread.start()

    def expect(self, change: int) -> None:
        """Count a sample that will come (1), or that has come or failed (-1)."""
        with self._lock:
            self._coming += change

    def submit(self, record: Record, sample: Sample, topk: int, timeout: float) -> "Future[Scored]":
        """Score a sample; the future has the result.

        Args:
            timeout: how long to wait for room (s).

        Raises:
            queue.Full: there was none.
        """
        waiting = _Waiting(record, self._predictor.feed.fitted(sample), topk)
        self._queue.put(waiting, timeout=max(0.0, timeout))
        return waiting.future

    def close(self) -> None:
        """Score what waits, and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        with self._predictor.scorer() as scorer:
            backend = TimedBackend(scorer.backend)
            scorer.backend = backend  # type: ignore[assignment]
            while (batch := self._next()) is not None:
                batch = [each for each in batch if each.future.set_running_or_notify_cancel()]
                if batch:
                    self._score(scorer, backend, batch)

    def _next(self) -> list[_Waiting] | None:
        """The next batch; None at the end."""
        first = self._queue.get()
        if first is None:
            return None
        batch, deadline = [first], time.perf_counter() + self._wait
        while len(batch) < self.size:
            left = deadline - time.perf_counter()
            waits = self._coming > 0 and left > 0
            try:
                item = self._queue.get(waits, left if waits else None)
            except queue.Empty:
                break
            if item is None:
                self._queue.put(None)
                break
            batch.append(item)
        return batch

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
