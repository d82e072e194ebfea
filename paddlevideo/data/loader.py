"""Records -> batches: which record stands where in an epoch, worker processes, and what becomes of files that fail.

Every draw is keyed by (seed, epoch, record index), so neither the number of workers or ranks nor a restart changes a
sample. Workers never raise: a file that fails travels back as a `Failure`, is counted and named in the main process.
"""

import collections
import itertools
import logging
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from paddlevideo.data.pipeline import ClipPipeline, StageError
from paddlevideo.data.views import Views, stack
from paddlevideo.sample import Batch, BatchShape, ClipShape, DecodeError, Draw, Failure, Record, Sample, whole_batches

logger = logging.getLogger("paddlevideo")

# Records tried in place of one that fails before a training batch is given up.
REPLACEMENTS = 5


class ClipDataset:
    """Records behind a pipeline: `sample(epoch, draw)` decodes and transforms one of them.

    Args:
        replace: put another record, drawn from the same key, in the place of one that fails; a test must not.
        num_classes: K; needed where records may have several labels.
    """

    def __init__(
        self, records: list[Record], pipeline: ClipPipeline, seed: int = 0, replace: bool = False, num_classes: int = 0
    ):
        self.records, self.pipeline, self.seed, self.replace = records, pipeline, seed, replace
        self.num_classes = num_classes
        self._shaped: dict[ClipShape | None, ClipPipeline] = {None: pipeline}

    def __len__(self):
        return len(self.records)

    def at(self, shape: ClipShape | None) -> ClipPipeline:
        """The pipeline for clips of this shape; None is the pipeline as it is."""
        if shape not in self._shaped:
            self._shaped[shape] = self.pipeline.shaped(shape)
        return self._shaped[shape]

    def sample(self, epoch: int, draw: Draw) -> tuple[Sample | None, list[Failure]]:
        """The sample (None where nothing could be decoded) and the failures on the way to it."""
        index, pipeline = draw.index, self.at(draw.clip)
        again = (draw.turn,) if draw.turn else ()
        failures: list[Failure] = []
        for attempt in range(1 + REPLACEMENTS * self.replace):
            rng = np.random.default_rng((self.seed, epoch, index, attempt, *again))
            place = index if attempt == 0 else int(rng.integers(len(self.records)))
            record = self.records[place]
            try:
                sample = pipeline(record, rng)
                sample["index"] = np.int64(place)
                if record.labels is not None:
                    sample["label"] = many_hot(record.labels, self.num_classes)
                return sample, failures
            except StageError as error:
                failures.append(Failure(record.place, error.stage, error.reason))
        return None, failures


def many_hot(labels: Sequence[int], num_classes: int) -> np.ndarray:
    """uint8 [num_classes], 1 for each of the labels."""
    array = np.zeros(num_classes, np.uint8)
    array[list(labels)] = 1
    return array


@dataclass
class Loaded:
    """One step's worth of data: arrays stacked over the samples, the failures met, and the indices that gave nothing."""

    batch: Batch
    failures: list[Failure] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)


def load_batch(dataset: ClipDataset, epoch: int, draws: list[Draw]) -> Loaded:
    """Load and stack records; all samples of a batch must have equal shapes.

    Raises:
        ValueError: samples of different shapes, naming two files and what to add to the pipeline.
    """
    samples, loaded = [], Loaded({})
    for draw in draws:
        sample, failures = dataset.sample(epoch, draw)
        loaded.failures += failures
        if sample is None:
            loaded.lost.append(draw.index)
        else:
            samples.append(sample)
    for key in samples[0] if samples else ():
        arrays = [sample[key] if isinstance(sample[key], Views) else np.asarray(sample[key]) for sample in samples]
        for sample, array in zip(samples, arrays, strict=True):
            if array.shape != arrays[0].shape:
                first, other = (dataset.records[int(s["index"])].path for s in (samples[0], sample))
                raise ValueError(
                    f"{key} of {first} is {list(arrays[0].shape)}, of {other} {list(array.shape)}: one batch needs one shape; "
                    "end the pipeline with a crop, or use batch size 1"
                )
        loaded.batch[key] = stack(arrays)
    return loaded


# --- the order of an epoch -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainOrder:
    """Shuffled batches of one rank. Global batch `b` is the same set of records on any number of ranks; what does not
    fill a global batch is left out of that epoch.

    Args:
        num_records: in the whole data set.
        cycle: sizes per rank and clip shapes that the batches of an epoch repeat; a plain run has one, `(BatchShape(8),)`.
        max_batches: end an epoch after so many.
    """

    num_records: int
    cycle: tuple[BatchShape, ...]
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    max_batches: int | None = None

    def __post_init__(self):
        first = self.cycle[0].size
        if first < 1:
            raise ValueError(f"DATASET.batch_size is {first}, expected at least 1")
        if len(self) < 1:
            most = self.num_records // self.world_size
            if self.cycle[0].clip:  # the batch of a plan's phase
                cure = "use fewer ranks, a smaller -o DATASET.batch_size, or add records"
            else:
                cure = f"use -o DATASET.batch_size={most} or less" if most else "use fewer ranks or add records"
            raise ValueError(
                f"{self.num_records} training records do not fill one batch of {first} on {self.world_size} rank(s); {cure}"
            )

    def __len__(self):
        batches = whole_batches([shape.size * self.world_size for shape in self.cycle], self.num_records)
        return min(batches, self.max_batches) if self.max_batches else batches

    def shuffled(self, epoch: int) -> np.ndarray:
        """All records in the order of an epoch, int64 [num_records]; it depends on (seed, epoch) alone.

        An order that draws a record again adds `num_records` each time.
        """
        return np.random.default_rng((self.seed, epoch)).permutation(self.num_records)

    def batches(self, epoch: int) -> Iterator[list[Draw]]:
        order, end = self.shuffled(epoch), 0
        for shape in itertools.islice(itertools.cycle(self.cycle), len(self)):
            start, end = end, end + shape.size * self.world_size
            mine = order[start:end][self.rank :: self.world_size].tolist()
            yield [Draw(place % self.num_records, shape.clip, place // self.num_records) for place in mine]


@dataclass(frozen=True)
class EvalOrder:
    """Every record once over all ranks, in order, nothing padded or dropped; the last batch may be smaller."""

    num_records: int
    batch_size: int
    rank: int = 0
    world_size: int = 1

    def __len__(self):
        return -(-len(range(self.rank, self.num_records, self.world_size)) // self.batch_size)

    def batches(self, epoch: int) -> Iterator[list[Draw]]:
        mine = [Draw(index) for index in range(self.rank, self.num_records, self.world_size)]
        for b in range(len(self)):
            yield mine[b * self.batch_size : (b + 1) * self.batch_size]


# --- workers ---------------------------------------------------------------------------------------------------------

_dataset: ClipDataset | None = None


def _start_worker(dataset: ClipDataset, parent: int) -> None:
    """Make a fork a worker: no life after its parent, and no signals of the group, which the parent answers."""
    global _dataset
    _dataset = dataset

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)  # the parent was killed: nobody will read the results

    threading.Thread(target=watch, daemon=True).start()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _load_in_worker(epoch: int, draws: list[Draw]) -> Loaded:
    """Load a batch; its arrays go to shared memory and only their names travel through the pipe."""
    assert _dataset is not None
    loaded = load_batch(_dataset, epoch, draws)
    loaded.batch = {key: _share(array) for key, array in loaded.batch.items()}
    return loaded


def _share(array: Any) -> Any:
    """(name, shape, dtype) of shared memory that holds the array; of views, the frames lie there."""
    if isinstance(array, Views):
        return array.with_frames(_share)
    memory = shared_memory.SharedMemory(create=True, size=max(1, array.nbytes))
    np.ndarray(array.shape, array.dtype, memory.buf)[...] = array
    memory.close()
    return memory.name, array.shape, array.dtype.str


def _take(shared: Any) -> Any:
    """What `_share` gave, as an array of its own; the shared memory is given back."""
    if isinstance(shared, Views):
        return shared.with_frames(_take)
    name, shape, dtype = shared
    memory = shared_memory.SharedMemory(name)
    array = np.ndarray(shape, dtype, memory.buf).copy()
    memory.close()
    memory.unlink()
    return array


class Loader:
    """Batches of an order, loaded ahead by `num_workers` processes that live as long as the loader.

    Args:
        order: `TrainOrder` or `EvalOrder`; another may take its place between epochs.
        prefetch: batches held ready per worker.
    """

    def __init__(self, dataset: ClipDataset, order: TrainOrder | EvalOrder, num_workers: int = 0, prefetch: int = 2):
        self.dataset, self.order, self.num_workers, self.prefetch = dataset, order, num_workers, max(1, prefetch)
        self._pool: ProcessPoolExecutor | None = None
        self._processes: list[Any] = []

    def __len__(self):
        return len(self.order)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Loaded]:
        """The batches of an epoch from batch `start` on.

        Raises:
            ChildProcessError: a worker was killed.
        """
        jobs = itertools.islice(self.order.batches(epoch), start, None)
        if self.num_workers == 0:
            for draws in jobs:
                yield load_batch(self.dataset, epoch, draws)
            return
        pool = self._workers()
        ahead: collections.deque = collections.deque()
        try:
            while True:
                while len(ahead) < self.num_workers * self.prefetch and (draws := next(jobs, None)) is not None:
                    ahead.append(pool.submit(_load_in_worker, epoch, draws))
                self._processes = list((pool._processes or {}).values()) or self._processes
                if not ahead:
                    return
                loaded = ahead.popleft().result()
                loaded.batch = {key: _take(place) for key, place in loaded.batch.items()}
                yield loaded
        except BrokenProcessPool as error:
            for process in self._processes:  # one of them may wait for ever for a lock that the dead one held
                process.kill()
            self._pool = None
            raise ChildProcessError(
                "a loader process was ended from outside, usually for lack of memory; use fewer workers or a smaller batch "
                "(-o DATASET.num_workers=..., DATASET.batch_size=...)"
            ) from error
        finally:
            for future in ahead:  # what was loaded ahead and is not wanted gives its shared memory back
                if not future.cancel() and future.exception() is None:
                    for place in future.result().batch.values():
                        _take(place)

    def _workers(self) -> ProcessPoolExecutor:
        if self._pool is None:
            method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
            # A pool of OpenCV's threads does not survive a fork: ending it in the child would wait for ever.
            cv2.setNumThreads(1)
            resource_tracker.ensure_running()  # before the fork, so that one tracker knows all shared memory
            self._pool = ProcessPoolExecutor(
                self.num_workers,
                mp_context=multiprocessing.get_context(method),
                initializer=_start_worker,
                initargs=(self.dataset, os.getpid()),
            )
        return self._pool

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def fit_prefetch(
    batch_bytes: int, num_workers: int, prefetch: int, sharers: int = 1, folder: str = "/dev/shm"
) -> tuple[int, int, str]:
    """(workers, batches ahead per worker, message) so that what is loaded ahead fits 80 % of the free shared memory.

    Args:
        batch_bytes: of one batch as it travels.
        sharers: ranks on this machine, which share the memory.
        folder: where shared memory lives.
    """
    if num_workers == 0 or not Path(folder).is_dir():
        return num_workers, prefetch, ""
    room = int(shutil.disk_usage(folder).free * 0.8 / sharers / max(1, batch_bytes))
    if room >= num_workers * prefetch:
        return num_workers, prefetch, ""
    if room == 0:
        workers, ahead = 0, prefetch
    else:
        workers = min(num_workers, room)
        ahead = max(1, room // workers)
    free = shutil.disk_usage(folder).free / 2**20
    wanted = f"{num_workers} workers x {prefetch} batches of {batch_bytes / 2**20:.0f} MB"
    message = (
        f"{folder} has {free:.0f} MB free for {sharers} rank(s), too little for {wanted}: using {workers} workers x {ahead}. "
        f"A larger {folder} (docker: --shm-size) or a smaller batch avoids this"
    )
    return workers, ahead, message


# --- failures -------------------------------------------------------------------------------------------------------


class TooManyFailures(ValueError):
    """More files failed than `max_failures` allows."""


class FailureCount:
    """Files that failed in training: each named once with its reason, and no more than the limit.

    Args:
        limit: share of `num_records` if a float below 1, a number of files otherwise.
    """

    def __init__(self, limit: float | int, num_records: int):
        self.limit = limit
        self.most = int(limit * num_records) if isinstance(limit, float) and limit < 1 else int(limit)
        self.num_records = num_records
        self.files: dict[str, Failure] = {}

    def add(self, loaded: Loaded) -> None:
        """Count a batch's failures.

        Raises:
            TooManyFailures: past the limit, or where no replacement could be decoded either.
        """
        for failure in loaded.failures:
            if failure.path not in self.files:
                self.files[failure.path] = failure
                logger.warning(f"cannot use {failure}; another clip takes its place ({len(self.files)} so far)")
        if loaded.lost:
            examples = "\n  ".join(str(f) for f in loaded.failures[:5])
            raise TooManyFailures(
                f"{1 + REPLACEMENTS} records in a row failed; is the data where the list says, and readable?\n  {examples}"
            )
        self.check(len(self.files))

    def check(self, num_failed: int) -> None:
        """Hold a number of failed files, of this rank or of all, against the limit.

        Raises:
            TooManyFailures: past the limit.
        """
        if num_failed > self.most:
            examples = "\n  ".join(str(f) for f in list(self.files.values())[:5])
            raise TooManyFailures(
                f"{num_failed} of {self.num_records} files failed, max_failures allows {self.most} ({self.limit}); "
                f"mend or remove them, or raise DATASET.train.max_failures\n  {examples}"
            )


def refuse(loaded: Loaded, instead: str) -> None:
    """Stop at the first file that fails.

    Args:
        instead: what the config can say to go on, for the message.

    Raises:
        DecodeError: naming the file.
    """
    if loaded.failures:
        raise DecodeError(f"{loaded.failures[0]}; stopping at a file that fails: mend it, or set {instead}")
