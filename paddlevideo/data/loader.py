"""Loads batches, in the process itself or ahead of time in worker processes.

Every random draw depends only on (seed, epoch, record index, attempt). So neither the number of
workers or ranks nor a restart changes a sample. Workers do not raise: a record that fails comes
back as a `Failure`, which the main process counts and logs.
"""

import collections
import contextlib
import copy
import functools
import gc
import itertools
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from paddlevideo.data.orders import EvalOrder, TrainOrder
from paddlevideo.data.pipeline import Pipeline, StageError
from paddlevideo.data.shared_blocks import SharedBlocks, free, put, remove_dead_blocks, take
from paddlevideo.data.views import Views, stack
from paddlevideo.processes import ignore_signals, signals_held
from paddlevideo.remote import CacheSettings, use_cache
from paddlevideo.sample import Batch, ClipShape, Draw, Failure, Record, Sample
from paddlevideo.urls import shown

# Records tried in place of a failed one before the index counts as lost.
REPLACEMENTS = 5
STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # the main process handles them


class ClipDataset:
    """Records and the pipeline that turns them into samples.

    Args:
        records: a list, or another sequence of records.
        seed: the seed of the run.
        replace: whether a record that fails is replaced by another one, drawn with the same seed;
            False in a test.
        num_classes: K; needed for multi-label records.
        cache: of the parts of remote files that are read, None for none.
    """

    def __init__(
        self,
        records: Sequence[Record],
        pipeline: Pipeline,
        seed: int = 0,
        replace: bool = False,
        num_classes: int = 0,
        cache: CacheSettings | None = None,
    ):
        self.cache = cache
        self.records, self.pipeline, self.seed, self.replace = records, pipeline, seed, replace
        self.num_classes = num_classes
        self._shaped: dict[ClipShape | None, Pipeline] = {None: pipeline}

    def __len__(self):
        return len(self.records)

    def at(self, shape: ClipShape | None) -> Pipeline:
        """The pipeline for clips of this shape; None keeps the shape of the pipeline."""
        if shape is not None and shape not in self._shaped:
            self._shaped[shape] = self.pipeline.shaped(shape)
        return self._shaped[shape]

    def sample(self, epoch: int, draw: Draw) -> tuple[Sample | None, list[Failure]]:
        """Decode and transform one record.

        Returns:
            the sample, or None if no record could be decoded, and the failures on the way.

        Raises:
            AccessError: no remote file can be had: a package or credentials are missing or wrong.
        """
        with use_cache(self.cache):
            return self._sample(epoch, draw)

    def _sample(self, epoch: int, draw: Draw) -> tuple[Sample | None, list[Failure]]:
        pipeline = self.at(draw.clip)
        repeat = (draw.repeat,) if draw.repeat else ()
        failures: list[Failure] = []
        for attempt in range(1 + REPLACEMENTS * self.replace):
            rng = np.random.default_rng((self.seed, epoch, draw.index, attempt, *repeat))
            index = draw.index if attempt == 0 else int(rng.integers(len(self.records)))
            record = self.records[index]
            try:
                sample = pipeline(record, rng)
                sample["index"] = np.int64(index)
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
    """The data of one step.

    Args:
        batch: arrays stacked over the samples.
        failures: one for each record that failed.
        lost: indices for which no record could be decoded.
    """

    batch: Batch
    failures: list[Failure] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)


def load_batch(dataset: ClipDataset, epoch: int, draws: list[Draw]) -> Loaded:
    """Load and stack records.

    Raises:
        ValueError: samples have different shapes; the message names two files and what to change.
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
                indices = (int(s["index"]) for s in (samples[0], sample))
                first, other = (shown(dataset.records[index].location) for index in indices)
                raise ValueError(
                    f"{key} of {first} is {list(arrays[0].shape)}, of {other} {list(array.shape)}: "
                    "one batch needs one shape; "
                    "end the pipeline with a crop, or use batch size 1"
                )
        loaded.batch[key] = stack(arrays)
    return loaded


# --- workers -------------------------------------------------------------------------------------

# Of this worker process: the data, and the folder of its shared memory.
_dataset: ClipDataset | None = None
_folder: Path | None = None


@contextlib.contextmanager
def _safe_to_fork() -> Iterator[None]:
    """Keep forked processes from ending objects whose threads run in this process only.

    A child that ends OpenCV's pool of threads, or a decoder that waits in a reference cycle for the
    garbage collector, would wait forever for threads that it does not have.
    """
    num_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # ends the pool
    gc.freeze()  # the child's collector leaves the objects of this process alone
    try:
        yield
    finally:
        gc.unfreeze()
        cv2.setNumThreads(num_threads)


def _start_worker(dataset: ClipDataset, folder: Path, parent: int) -> None:
    """Prepare a worker process: it ends with its parent, and leaves signals to the parent."""
    global _dataset, _folder
    _dataset, _folder = dataset, folder

    def end_with_parent():
        while os.getppid() == parent:
            time.sleep(1)
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)  # the parent was killed: nobody will read the results

    threading.Thread(target=end_with_parent, daemon=True).start()
    ignore_signals(STOP_SIGNALS)


def _worker_process(*args, **kwargs):
    """A forked process that a pool can end: pools send SIGTERM, which workers ignore.

    A pool ends its workers if one of them was killed. Until they are gone, Python 3.13 holds the
    lock that `submit` waits for.
    """
    process: Any = multiprocessing.get_context("fork").Process(*args, **kwargs)
    process.terminate = process.kill
    return process


def _load_in_worker(epoch: int, draws: list[Draw]) -> Loaded:
    """Load a batch into shared memory; only the names of its blocks go through the pipe."""
    assert _dataset is not None and _folder is not None
    loaded = load_batch(_dataset, epoch, draws)
    write = functools.partial(put, _folder)
    loaded.batch = {key: _each_array(write, array) for key, array in loaded.batch.items()}
    return loaded


def _each_array(function: Callable[[Any], Any], array: Any) -> Any:
    """`function` of an array or of its block; for `Views`, of the frames of each video."""
    return array.with_frames(function) if isinstance(array, Views) else function(array)


class Loader:
    """Loads the batches of an order; worker processes load ahead and live as long as the loader.

    Args:
        order: `TrainOrder` or `EvalOrder`; it may be replaced between epochs.
        num_workers: worker processes; 0 loads in this process.
        prefetch: batches held ready per worker.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        order: TrainOrder | EvalOrder,
        num_workers: int = 0,
        prefetch: int = 2,
    ):
        self.dataset, self.order, self.num_workers = dataset, order, num_workers
        self.prefetch = max(1, prefetch)
        self._pool: ProcessPoolExecutor | None = None
        self._blocks: SharedBlocks | None = None

    def __len__(self):
        return len(self.order)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Loaded]:
        """The batches of an epoch from batch `start` on.

        Raises:
            ChildProcessError: a worker was killed.
            OSError: the shared memory is full.
        """
        jobs = itertools.islice(self.order.batches(epoch), start, None)
        if self.num_workers == 0:
            for draws in jobs:
                yield load_batch(self.dataset, epoch, draws)
            return
        pool, folder = self._start_pool()
        read = functools.partial(take, folder)
        ahead: collections.deque[Future[Loaded]] = collections.deque()
        try:
            while True:
                num_free = self.num_workers * self.prefetch - len(ahead)
                for draws in itertools.islice(jobs, num_free):
                    ahead.append(pool.submit(_load_in_worker, epoch, draws))
                if not ahead:
                    return
                loaded = ahead.popleft().result()
                loaded.batch = {key: _each_array(read, a) for key, a in loaded.batch.items()}
                yield loaded
        except BrokenProcessPool as error:
            # The pool has killed the other workers: one may wait for a lock that this one held.
            self.close()
            raise ChildProcessError(
                "a loader process was killed from outside, usually for lack of memory; use fewer "
                "workers or a smaller batch (-o DATASET.num_workers=..., DATASET.batch_size=...)"
            ) from error
        finally:
            # Free the shared memory of batches that were loaded ahead and are not used.
            for future in ahead:
                if not future.cancel() and future.exception() is None:
                    for array in future.result().batch.values():
                        _each_array(functools.partial(free, folder), array)

    def _start_pool(self) -> tuple[ProcessPoolExecutor, Path]:
        """(the worker processes, started unless they are running; their shared memory)."""
        if self._pool is None or self._blocks is None:
            self._blocks = SharedBlocks()
            method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
            context: Any = copy.copy(multiprocessing.get_context(method))
            if method == "fork":
                context.Process = _worker_process
            self._pool = ProcessPoolExecutor(
                self.num_workers,
                mp_context=context,
                initializer=_start_worker,
                initargs=(self.dataset, self._blocks.folder, os.getpid()),
            )
            with _safe_to_fork(), signals_held(STOP_SIGNALS):
                self._pool.submit(os.getpid)  # the first job starts all workers
        return self._pool, self._blocks.folder

    def close(self) -> None:
        """End the worker processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        if self._blocks is not None:
            self._blocks.close()
            self._blocks = None


def fit_prefetch(
    batch_bytes: int, num_workers: int, prefetch: int, num_ranks: int = 1, folder: str = "/dev/shm"
) -> tuple[int, int, str]:
    """Reduce prefetching so that batches loaded ahead fit in 80 % of the free shared memory.

    Args:
        batch_bytes: size of a batch between worker and main process.
        num_workers, prefetch: as the config sets them.
        num_ranks: ranks on this machine, which share the memory.
        folder: where shared memory is mounted.

    Returns:
        workers, batches ahead per worker, and a message; the message is "" if nothing changes.
    """
    if num_workers == 0 or not Path(folder).is_dir():
        return num_workers, prefetch, ""
    remove_dead_blocks(Path(folder))
    free_bytes = shutil.disk_usage(folder).free
    num_batches = int(free_bytes * 0.8 / num_ranks / max(1, batch_bytes))
    if num_batches >= num_workers * prefetch:
        return num_workers, prefetch, ""
    if num_batches == 0:
        workers, ahead = 0, prefetch
    else:
        workers = min(num_workers, num_batches)
        ahead = max(1, num_batches // workers)
    wanted = f"{num_workers} workers x {prefetch} batches of {batch_bytes / 2**20:.0f} MB"
    message = (
        f"{folder} has {free_bytes / 2**20:.0f} MB free for {num_ranks} rank(s), too little for "
        f"{wanted}: using {workers} workers x {ahead}. "
        f"A larger {folder} (docker: --shm-size) or a smaller batch avoids this"
    )
    return workers, ahead, message
