"""Decoding processes: crashes, hangs and hunger for memory cost one request, not the service."""

import sys
import threading
import time

import pytest

from paddlevideo.serve.workers import (
    FileRefused,
    Setup,
    Worker,
    WorkerDied,
    WorkerFailed,
    Workers,
    WorkerTimeout,
)
from tests.parts.serve.jobs import work

SECONDS = 60


@pytest.fixture
def workers():
    pool = Workers(Setup(work, 256), 1)
    pool.start()
    yield pool
    pool.close()


def do(workers, job, timeout=SECONDS):
    with workers.lend(SECONDS) as worker:
        return list(worker.replies(job, timeout))


def test_a_process_does_one_job_after_another(workers):
    [pid] = workers.pids
    assert do(workers, "answer") == ["answer"]
    assert [len(item) for item in do(workers, "several")] == [n << 20 for n in range(4)]
    for job, kind, reason in (
        ("refuse", FileRefused, "decode: no known video format"),
        ("refuse_later", FileRefused, "it is too long"),
        ("fail", WorkerFailed, "ZeroDivisionError: a mistake in our code"),
    ):
        with pytest.raises(kind, match=reason):
            do(workers, job)
    assert do(workers, "signals") == ["alive"]  # the service ends its processes itself
    assert workers.pids == [pid] and workers.num_replaced == 0

    [modules] = do(workers, "modules")
    assert not {"paddle", "fastapi", "starlette", "uvicorn"} & set(modules)
    assert "av" in modules  # it starts fast, and is ready
    if sys.platform.startswith("linux"):
        with pytest.raises(FileRefused, match="needs more memory than this service allows"):
            do(workers, "take_all_memory")
        assert do(workers, "answer") == ["answer"] and workers.pids == [pid]
    with workers.lend(1), pytest.raises(WorkerTimeout, match="no decoding process was free"):
        workers.lend(0.01).__enter__()


@pytest.mark.slow
def test_jobs_that_end_their_process(workers):
    for job, code in (("crash", "signal 11"), ("abort", "signal 6"), ("leave", "exit code 3")):
        with pytest.raises(WorkerDied, match=rf"the file ended its decoding process \({code}\)"):
            do(workers, job)
        assert do(workers, "answer") == ["answer"]
    assert workers.num_replaced == 3


def test_a_file_costs_one_process(workers):
    [pid] = workers.pids
    start = time.monotonic()
    with pytest.raises(WorkerTimeout, match=r"not done after 0\.2 s"):
        do(workers, "hang", 0.2)
    assert time.monotonic() - start < SECONDS and workers.pids == []
    with pytest.raises(WorkerDied, match="signal 11"):
        do(workers, "crash")
    with workers.lend(SECONDS) as worker:  # a caller that stops early
        replies = worker.replies("several", SECONDS)
        next(replies)
        replies.close()
        assert not worker.alive
    assert workers.num_replaced == 2 and pid not in workers.pids


def test_threads_that_end_a_process_close_its_pipe_once(monkeypatch):
    worker = Worker(Setup(work, 256))
    pipe, closed, both = worker._pipe, [], threading.Barrier(2)

    def close():
        closed.append(1)
        time.sleep(0.2)  # the other thread would pass its check here
        pipe_close()

    pipe_close = pipe.close
    monkeypatch.setattr(pipe, "close", close)

    def kill():
        both.wait(SECONDS)
        worker.kill()

    threads = [threading.Thread(target=kill) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert closed == [1] and not worker.alive


def test_close_ends_jobs_that_run():
    workers = Workers(Setup(work, 256), 1)
    errors = []

    def run():
        try:
            do(workers, "hang")
        except (WorkerDied, WorkerFailed) as error:
            errors.append(error)

    workers.start()
    thread = threading.Thread(target=run)
    thread.start()
    workers.close()
    thread.join(SECONDS)
    assert len(errors) == 1 and not thread.is_alive()
    with pytest.raises(WorkerFailed, match="the service ends"):
        do(workers, "answer")
