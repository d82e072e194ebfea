"""The loader: equal samples for any number of workers and ranks, counted failures, no leaks."""

import functools
import os
import signal
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest

from paddlevideo.data import loader as loader_module
from paddlevideo.data import shared_blocks
from paddlevideo.data.failures import FailureCount, TooManyFailures, refuse
from paddlevideo.data.loader import (
    REPLACEMENTS,
    ClipDataset,
    Loaded,
    Loader,
    fit_prefetch,
    load_batch,
)
from paddlevideo.data.orders import EvalOrder, TrainOrder
from paddlevideo.sample import (
    BatchShape,
    ClipShape,
    DecodeError,
    Draw,
    Failure,
    Record,
    num_full_batches,
)
from tests.clips import write_clip
from tests.parts.data.random_clips import FakePipeline, dataset
from tests.process_state import is_alive


def draws(*indices):
    return [Draw(index) for index in indices]


def everything(loader, epoch=0, start=0):
    return [
        (b.batch["index"].tolist(), b.batch["frames"].tobytes()) for b in loader.epoch(epoch, start)
    ]


def test_workers_load_the_same_samples():
    data = dataset([f"v{i}" for i in range(13)])
    order = TrainOrder(13, (BatchShape(3),), seed=5)
    inline = Loader(data, order, 0)
    pool = Loader(data, order, 2)
    try:
        for epoch in (0, 1):
            assert everything(pool, epoch) == everything(inline, epoch)
        assert everything(pool, 1, start=2) == everything(inline, 1)[2:]
        assert everything(inline, 0) != everything(inline, 1)
    finally:
        pool.close()


def test_splits_global_batches_between_ranks():
    one = list(TrainOrder(22, (BatchShape(4),), seed=1).batches(2))
    ranks = [
        list(TrainOrder(22, (BatchShape(2),), seed=1, rank=r, world_size=2).batches(2))
        for r in (0, 1)
    ]
    assert len(one) == len(ranks[0]) == len(ranks[1]) == 5
    for whole, first, second in zip(one, *ranks, strict=True):
        assert sorted(first + second) == sorted(whole)


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_evaluation_loads_every_record_once(world):
    orders = [EvalOrder(7, 2, r, world) for r in range(world)]
    batches = [list(order.batches(0)) for order in orders]
    assert [len(order) for order in orders] == [len(b) for b in batches]
    assert sorted(i for rank in batches for batch in rank for i, *_ in batch) == list(range(7))


def test_leaves_ranks_idle_without_records():
    assert len(EvalOrder(1, 2, rank=1, world_size=2)) == 0


def test_rejects_a_data_set_smaller_than_a_batch():
    with pytest.raises(
        ValueError,
        match=r"7 training records do not fill one batch of 8 on 1 rank.*batch_size=7 or less",
    ):
        TrainOrder(7, (BatchShape(8),))
    with pytest.raises(ValueError, match="use fewer ranks"):
        TrainOrder(1, (BatchShape(1),), world_size=2)


CYCLE = (
    BatchShape(4, ClipShape(4, 16, (2, 8), (20, 24))),
    BatchShape(2, ClipShape(4, 24, (2, 8), (28, 30))),
)


def test_repeats_a_cycle_of_shapes_and_no_record():
    order = TrainOrder(15, CYCLE, seed=1)
    batches = list(order.batches(3))
    assert [len(batch) for batch in batches] == [4, 2, 4, 2] and len(order) == 4
    assert [{draw.clip for draw in batch} for batch in batches] == [
        {CYCLE[i % 2].clip} for i in range(4)
    ]
    used = [draw.index for batch in batches for draw in batch]
    assert len(set(used)) == len(used) == 12
    plain = [
        draw.index
        for batch in TrainOrder(15, (BatchShape(6),), seed=1).batches(3)
        for draw in batch
    ]
    assert used == plain, "the shuffle does not depend on the cycle"


def test_ranks_agree_on_the_shape_of_a_step():
    one = list(TrainOrder(40, tuple(BatchShape(2 * s, c) for s, c in CYCLE), seed=1).batches(0))
    ranks = [list(TrainOrder(40, CYCLE, seed=1, rank=r, world_size=2).batches(0)) for r in (0, 1)]
    assert len(one) == len(ranks[0]) == len(ranks[1]) == 6
    for whole, first, second in zip(one, *ranks, strict=True):
        assert sorted(first + second, key=lambda d: d.index) == sorted(whole, key=lambda d: d.index)


@pytest.mark.parametrize(
    ("sizes", "records", "steps"), [((3,), 13, 4), ((4, 2), 15, 4), ((4, 2), 16, 5), ((4, 2), 3, 0)]
)
def test_num_full_batches(sizes, records, steps):
    assert num_full_batches(sizes, records) == steps


def test_rejects_a_phase_with_too_few_records():
    with pytest.raises(
        ValueError,
        match=r"3 training records do not fill one batch of 4 .*smaller -o DATASET.batch_size",
    ):
        TrainOrder(3, CYCLE)


def test_max_batches_shortens_an_epoch():
    assert len(list(TrainOrder(20, (BatchShape(2),), max_batches=3).batches(0))) == 3


def test_training_replaces_and_logs_failures(caplog):
    data = dataset(["bad1", *[f"v{i}" for i in range(9)]], replace=True)
    loaded = load_batch(data, 0, draws(0, 1, 2))
    assert len(loaded.batch["label"]) == 3 and not loaded.lost
    assert [f.path for f in loaded.failures] == ["bad1"]
    count = FailureCount(0.2, 10)
    count.add(loaded)
    count.add(loaded)  # the same file again is no new failure
    assert list(count.files) == ["bad1"]
    assert caplog.text.count("bad1: decode: not a video") == 1
    again = load_batch(data, 0, draws(0, 1, 2))
    assert again.batch["index"].tolist() == loaded.batch["index"].tolist()


def test_stops_after_too_many_failures():
    count = FailureCount(0.1, 20)
    failures = [Failure(f"bad{i}", "decode", "cut short") for i in range(3)]
    count.add(Loaded({}, failures[:2]))
    with pytest.raises(
        TooManyFailures,
        match=r"3 of 20 files failed, max_failures allows 2 \(0.1\).*\n.*bad0: decode: cut short",
    ):
        count.add(Loaded({}, failures))
    FailureCount(3, 20).add(Loaded({}, failures))  # an integer counts files


def test_stops_at_once_if_every_record_fails():
    data = dataset([f"bad{i}" for i in range(8)], replace=True)
    loaded = load_batch(data, 0, draws(0, 1))
    assert loaded.lost == [0, 1] and not loaded.batch
    with pytest.raises(TooManyFailures, match=f"{1 + REPLACEMENTS} records in a row failed"):
        FailureCount(1000, 8).add(loaded)


def test_a_test_replaces_no_record():
    loaded = load_batch(dataset(["v0", "bad", "v2"]), 0, draws(0, 1, 2))
    assert loaded.batch["label"].tolist() == [0, 2] and loaded.lost == [1]
    with pytest.raises(DecodeError, match="bad: decode: not a video.*on_error: skip"):
        refuse(loaded, "on_error: skip")


def test_names_two_files_of_different_shapes():
    with pytest.raises(
        ValueError, match=r"frames of v0 is \[2, 4, 4, 3\], of wide \[2, 4, 6, 3\].*crop"
    ):
        load_batch(dataset(["v0", "wide"]), 0, draws(0, 1))


def test_keeps_the_message_of_a_worker_error():
    loader = Loader(dataset(["v0", "wide"]), EvalOrder(2, 2), 1)
    with pytest.raises(ValueError, match="one batch needs one shape"):
        everything(loader)
    loader.close()


def test_reports_a_killed_worker():
    loader = Loader(dataset(["v0", "kill", "v2"]), EvalOrder(3, 1), 1)
    with pytest.raises(ChildProcessError, match=r"killed from outside.*num_workers"):
        everything(loader)
    loader.close()


class Resizing(FakePipeline):
    """Uses OpenCV on images that are large enough for its threads."""

    def __call__(self, record, rng, source=None):
        cv2.resize(np.zeros((1080, 1920, 3), np.uint8), (960, 540))
        return super().__call__(record, rng, source)


def test_starts_workers_after_opencv_used_its_threads(request):
    request.addfinalizer(functools.partial(cv2.setNumThreads, cv2.getNumThreads()))
    cv2.setNumThreads(2)
    cv2.resize(np.zeros((1080, 1920, 3), np.uint8), (960, 540))
    data = ClipDataset([Record("v0", 0), Record("v1", 1)], Resizing(), 0)
    loader = Loader(data, EvalOrder(2, 1), 2)
    ended = threading.Timer(
        60, lambda: [p.kill() for p in loader._pool._processes.values()]
    )  # a hang becomes a failure
    ended.start()
    try:
        assert len(everything(loader)) == 2
        assert cv2.getNumThreads() == 2, "a loader changes the threads of no other code"
    finally:
        ended.cancel()
        loader.close()


UNCOLLECTED_DECODER = """
import gc, sys
import av
from paddlevideo.data.loader import ClipDataset, Loader
from paddlevideo.data.orders import EvalOrder
from paddlevideo.sample import Record
from tests.parts.data.random_clips import FakePipeline

class Collecting(FakePipeline):
    def __call__(self, record, rng, source=None):
        gc.collect()
        return super().__call__(record, rng, source)

gc.disable()
container = av.open(sys.argv[1])
container.streams.video[0].thread_type = "FRAME"
cycle = [next(container.decode(video=0)), container]
cycle.append(cycle)
del container, cycle
loader = Loader(ClipDataset([Record("v0", 0)], Collecting(), 0), EvalOrder(1, 1), 1)
print(len(list(loader.epoch(0))), "batch")
loader.close()
"""


def test_starts_workers_while_a_decoder_waits_for_the_garbage_collector(root, tmp_path):
    write_clip(tmp_path / "a.mp4", 30)
    command = [sys.executable, "-c", UNCOLLECTED_DECODER, str(tmp_path / "a.mp4")]
    done = subprocess.run(command, cwd=root, timeout=120, capture_output=True, text=True)
    assert done.stdout == "1 batch\n", done.stderr


def test_frees_shared_memory_of_an_unfinished_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_blocks, "SHARED_MEMORY", tmp_path)
    loader = Loader(dataset([f"v{i}" for i in range(20)]), EvalOrder(20, 1), 2)
    batches = loader.epoch(0)
    next(batches)
    (folder,) = tmp_path.iterdir()
    batches.close()
    assert os.listdir(folder) == [shared_blocks.OWNER], "every block is freed, not only the folder"
    loader.close()
    assert os.listdir(tmp_path) == []


def test_reduces_prefetch_to_the_shared_memory(tmp_path, monkeypatch):
    def free(megabytes):
        usage = type("usage", (), {"free": megabytes * 2**20})
        monkeypatch.setattr("paddlevideo.data.loader.shutil.disk_usage", lambda folder: usage)

    free(1000)
    assert fit_prefetch(10 * 2**20, 4, 2, folder=str(tmp_path)) == (4, 2, "")
    free(64)
    workers, ahead, message = fit_prefetch(10 * 2**20, 4, 2, folder=str(tmp_path))
    assert (
        (workers, ahead) == (4, 1)
        and "64 MB free for 1 rank(s)" in message
        and "--shm-size" in message
    )
    free(30)
    assert fit_prefetch(10 * 2**20, 4, 2, folder=str(tmp_path))[:2] == (2, 1)
    assert fit_prefetch(10 * 2**20, 2, 1, num_ranks=2, folder=str(tmp_path))[:2] == (1, 1)
    free(5)
    assert fit_prefetch(10 * 2**20, 4, 2, folder=str(tmp_path))[0] == 0
    assert fit_prefetch(10 * 2**20, 4, 2, folder=str(tmp_path / "missing")) == (4, 2, "")


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_ends_all_workers_if_one_is_killed(victim):
    loader = Loader(dataset([f"v{i}" for i in range(400)]), EvalOrder(400, 1), 3)
    batches = loader.epoch(0)
    next(batches)
    workers = list(loader._pool._processes.values())
    hang = threading.Timer(60, lambda: [worker.kill() for worker in workers])
    hang.start()
    workers[victim].kill()
    with pytest.raises(ChildProcessError, match="killed from outside"):
        list(batches)
    assert hang.is_alive(), "the pool did not end its other workers"
    hang.cancel()
    deadline = time.time() + 20  # the pool's own thread reaps them
    while any(is_alive(worker.pid) for worker in workers) and time.time() < deadline:
        time.sleep(0.02)
    assert not [worker.pid for worker in workers if is_alive(worker.pid)]


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        *(("SIGINT", 0), ("SIGTERM", 0), ("SIGHUP", 0), ("SIGINT", 0.5)),
        *(pytest.param(name, 0.5, marks=pytest.mark.slow) for name in ("SIGTERM", "SIGHUP")),
    ],
)
def test_workers_leave_stop_signals_to_the_main_process(name, seconds, monkeypatch):
    """Workers that have started, and workers that take `seconds` to start."""

    def start_worker(*args, start=loader_module._start_worker):
        time.sleep(seconds)
        start(*args)

    monkeypatch.setattr(loader_module, "_start_worker", start_worker)
    loader = Loader(dataset([f"v{i}" for i in range(20)]), EvalOrder(20, 1), 2, prefetch=1)
    batches = loader.epoch(0)
    try:
        loader._start_pool()
        count = 0 if seconds else len([next(batches)])
        for worker in loader._pool._processes.values():
            os.kill(worker.pid, getattr(signal, name))
        assert count + len(list(batches)) == 20
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        loader.close()


ORPHANS = """
import os, signal, sys
from paddlevideo.data.loader import Loader
from paddlevideo.data.orders import EvalOrder
from tests.parts.data.random_clips import dataset

loader = Loader(dataset([f"v{i}" for i in range(40)]), EvalOrder(40, 1), 2)
batches = loader.epoch(0)
next(batches)
print(*(worker.pid for worker in loader._pool._processes.values()), flush=True)
os.kill(os.getpid(), getattr(signal, sys.argv[1]))
"""


@pytest.mark.slow  # test_shared_blocks.py kills one in the fast suite
@pytest.mark.parametrize("name", ["SIGKILL", "SIGHUP", "SIGTERM"])
def test_workers_end_with_a_killed_main_process(root, name):
    command = [sys.executable, "-c", ORPHANS, name]
    done = subprocess.run(command, cwd=root, timeout=120, capture_output=True, text=True)
    assert done.returncode == -getattr(signal, name)
    workers = [int(word) for word in done.stdout.splitlines()[0].split()]  # then what Paddle prints
    deadline = time.time() + 20  # they look once a second
    while any(map(is_alive, workers)) and time.time() < deadline:
        time.sleep(0.02)
    assert len(workers) == 2 and not any(map(is_alive, workers))
