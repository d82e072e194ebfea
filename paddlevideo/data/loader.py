"""Records -> batches: which record stands where in an epoch, worker processes, and what becomes of files that fail.

Every draw is keyed by (seed, epoch, record index), so neither the number of workers or ranks nor a restart changes a
sample. Workers never raise: a file that fails batch_specs back as a `Failure`, is counted and named in the main process.
"""

import collections
import itertools
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

from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.orders import EvalOrder, TrainOrder
from paddlevideo.data.pipeline import StageError
from paddlevideo.data.views import Views, stack
from paddlevideo.sample import Batch, ClipShape, Draw, Failure, Record, Sample

# Records tried in place of one that fails before a training batch is given up.
REPLACEMENTS = 5


class ClipDataset:
    """Records behind a pipeline: `sample(epoch, draw)` decodes and transforms one of them.

    Args:
        replace: put another record, drawn from the same key, in the place of one that fails; a test must not.
        num_classes: K; needed where records may have several labels.
    """

    def __init__(
        self,
        records: list[Record],
        pipeline: ClipPipeline,
        seed: int = 0,
        replace: bool = False,
        num_classes: int = 0,
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
        again = (draw.repeat,) if draw.repeat else ()
        failures: list[Failure] = []
        for attempt in range(1 + REPLACEMENTS * self.replace):
            rng = np.random.default_rng((self.seed, epoch, index, attempt, *again))
            place = index if attempt == 0 else int(rng.integers(len(self.records)))
            record = self.records[place]
            try:
                sample = pipeline(record, rng)
                sample["index"] = np.int64(place)
                if record.labels is not None:
                    sample["label"] = multi_hot(record.labels, self.num_classes)
                return sample, failures
            except StageError as error:
                failures.append(Failure(record.location, error.stage, error.reason))
        return None, failures


def multi_hot(labels: Sequence[int], num_classes: int) -> np.ndarray:
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
        arrays = [
            sample[key] if isinstance(sample[key], Views) else np.asarray(sample[key])
            for sample in samples
        ]
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

    def __init__(
        self,
        dataset: ClipDataset,
        order: TrainOrder | EvalOrder,
        num_workers: int = 0,
        prefetch: int = 2,
    ):
        self.dataset, self.order, self.num_workers, self.prefetch = (
            dataset,
            order,
            num_workers,
            max(1, prefetch),
        )
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
                while (
                    len(ahead) < self.num_workers * self.prefetch
                    and (draws := next(jobs, None)) is not None
                ):
                    ahead.append(pool.submit(_load_in_worker, epoch, draws))
                self._processes = list((pool._processes or {}).values()) or self._processes
                if not ahead:
                    return
                loaded = ahead.popleft().result()
                loaded.batch = {key: _take(place) for key, place in loaded.batch.items()}
                yield loaded
        except BrokenProcessPool as error:
            for (
                process
            ) in self._processes:  # one of them may wait for ever for a lock that the dead one held
                process.kill()
            self._pool = None
            raise ChildProcessError(
                "a loader process was ended from outside, usually for lack of memory; use fewer workers or a smaller batch "
                "(-o DATASET.num_workers=..., DATASET.batch_size=...)"
            ) from error
        finally:
            for (
                future
            ) in ahead:  # what was loaded ahead and is not wanted gives its shared memory back
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
        batch_bytes: of one batch as it batch_specs.
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
