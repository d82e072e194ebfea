"""Decoding ahead of the network: order, room, errors, and threads that end."""

import contextvars
import gc
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from paddlevideo.predict import predictor as predictor_module
from paddlevideo.predict.ahead import LoadAhead, one_ahead
from paddlevideo.predict.feed import Feed
from paddlevideo.predict.predictor import Predictor
from paddlevideo.predict.results import Result
from paddlevideo.sample import Record
from tests.clips import random_frames

setting = contextvars.ContextVar("setting", default="")


def records(count):
    return [(Record(str(number)), None) for number in range(count)]


def read(loading, held=0):
    with loading:
        pairs = iter(lambda: loading.next(held), None)
        return [(record.path, sample) for record, sample in pairs]


def own_threads():
    return [t.name for t in threading.enumerate() if t.name.startswith(("load_", "inputs_"))]


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_samples_keep_the_order_of_the_records(workers):
    released = [threading.Event() for _ in range(6)]

    def load(record, source):
        """A sample waits until the one behind it is done, where two threads can run."""
        number = int(record.path)
        if workers > 1 and number % 2 == 0:
            assert released[number + 1].wait(20)
        released[number].set()
        return {"n": number}

    loaded = read(LoadAhead(load, records(6), workers, 8))
    assert loaded == [(str(number), {"n": number}) for number in range(6)]


@pytest.mark.parametrize(("room", "held"), [(1, 0), (3, 0), (3, 2), (2, 5)])
def test_no_more_samples_are_loaded_than_there_is_room_for(room, held):
    started = []
    loading = LoadAhead(lambda record, _: started.append(record.path), records(20), 2, room)
    with loading:
        for number in range(1, 6):
            assert loading.next(held) is not None
            most = number - 1 + max(1, room - held)
            assert number <= len(loading._running) + number <= most
        loading.fill(held)
    assert len(started) <= 5 + max(0, room - held)


def test_an_error_of_the_records_comes_after_the_samples_before_it():
    def broken():
        yield from records(3)
        raise OSError("the shard is gone")

    for workers in (0, 2):
        loading, read_paths = LoadAhead(lambda r, _: {}, broken(), workers, 9), []
        with loading, pytest.raises(OSError, match="the shard is gone"):
            while pair := loading.next(0):
                read_paths.append(pair[0].path)
        assert read_paths == ["0", "1", "2"]


def test_an_error_of_a_load_is_raised_at_its_place():
    def load(record, source):
        if record.path == "2":
            raise ZeroDivisionError
        return {}

    for workers in (0, 3):
        loading = LoadAhead(load, records(9), workers, 9)
        with pytest.raises(ZeroDivisionError), loading:
            for number in range(9):
                assert number < 3
                loading.next(0)
    assert not own_threads()


def test_loads_see_the_settings_of_the_caller():
    token = setting.set("mine")
    try:
        assert read(LoadAhead(lambda *_: setting.get(), records(2), 2, 4)) == [
            ("0", "mine"),
            ("1", "mine"),
        ]
    finally:
        setting.reset(token)


def test_the_time_that_the_network_waited_is_counted():
    go = threading.Event()
    loading = LoadAhead(lambda *_: go.wait(20), records(1), 1, 4)
    timer = threading.Timer(0.05, go.set)
    timer.start()
    read(loading)
    timer.join()
    assert loading.waited >= 0.03


def test_one_item_is_computed_ahead():
    made = []

    def items():
        for number in range(4):
            made.append(number)
            yield number

    with predictor_module.Scorer(*[None] * 8) as scorer:  # its pool has one thread
        for number in one_ahead(items(), scorer._pool):
            assert len(made) <= number + 2
    assert made == [0, 1, 2, 3]


def test_a_thread_goes_on_when_the_main_thread_has_ended(predictor, monkeypatch):
    """Pools take no more work then."""

    def refuse(*arguments):
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    inputs = [*arrays(2), "none.mp4"]
    expected = list(predictor.predict(inputs))
    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)
    assert list(predictor.predict(inputs, workers=2)) == expected
    monkeypatch.setattr(predictor.backend, "run", lambda arrays: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(predictor.predict(inputs, workers=2))


# --- predictions ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def predictor(exported):
    return Predictor(exported.folder, device="cpu", threads=1)


def arrays(count):
    return [random_frames(6, seed=number) for number in range(count)]


def test_scores_are_the_same_to_the_bit_with_any_number_of_threads(predictor, exported, tmp_path):
    (tmp_path / "empty.mp4").touch()
    inputs = [exported.files[0], tmp_path / "empty.mp4", *exported.files, "none.mp4"]
    for batch_size in (None, 1, 2):
        one, two, many = (
            list(predictor.predict(inputs, batch_size, workers=workers)) for workers in (0, 2, 8)
        )
        assert one == two == many
        assert [r.error is None for r in one] == [True, False, True, True, True, False]


def test_threads_end_with_the_results(predictor):
    results = predictor.predict(arrays(3), workers=2)
    assert not own_threads(), "nothing is decoded before a result is asked for"
    assert len(list(results)) == 3 == results.total
    assert not own_threads()
    assert 0 <= results.waited <= 1


@pytest.mark.parametrize("end", ["close", "forget", "error"])
def test_threads_end_with_a_prediction_that_is_left(predictor, monkeypatch, end):
    results = predictor.predict(arrays(9), batch_size=1, workers=2)
    next(results)
    assert own_threads()
    if end == "close":
        results.close()
        assert next(results, None) is None
    elif end == "error":
        monkeypatch.setattr(predictor.backend, "run", lambda arrays: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            list(results)
    else:
        del results
        gc.collect()
    assert not own_threads()


def test_ctrl_c_ends_the_threads(predictor, monkeypatch):
    def interrupted(arrays):
        raise KeyboardInterrupt

    monkeypatch.setattr(predictor.backend, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(predictor.predict(arrays(9), workers=2))
    assert not own_threads()


def test_the_next_videos_are_decoded_while_the_network_runs(predictor, monkeypatch):
    """The run of the first video waits until the second one is decoded."""
    decoded, real_sample, real_run = threading.Semaphore(0), Feed.sample, predictor.backend.run

    def sample(self, record, source=None):
        done = real_sample(self, record, source)
        decoded.release()
        return done

    def run(inputs):
        if not runs:
            assert decoded.acquire(timeout=20) and decoded.acquire(timeout=20)
        runs.append(1)
        return real_run(inputs)

    runs = []
    monkeypatch.setattr(Feed, "sample", sample)
    monkeypatch.setattr(predictor.backend, "run", run)
    assert [r.error for r in predictor.predict(arrays(3), batch_size=1, workers=1)] == [None] * 3


@pytest.mark.parametrize(
    ("views_per_step", "sizes"),
    [
        (20, [20] * 16 + [10]),
        (5, [5] * 66),
        (4, [4] * 82 + [2]),
        (30, [30] * 11),
        (7, [7, 3] * 33),
        (250, [30] * 11),
    ],
)
def test_videos_fill_the_runs_of_the_network(exported, monkeypatch, views_per_step, sizes):
    predictor = Predictor(exported.folder, device="cpu", threads=1, views_per_step=views_per_step)
    seen = []

    def run(inputs):
        seen.append(len(inputs["frames"]))
        return np.zeros((seen[-1], 3), np.float32)

    monkeypatch.setattr(predictor.backend, "run", run)
    inputs = [random_frames(3, 20, 20)] * 33  # at least 16 batches, which are at most 3 videos
    assert len(list(predictor.predict(inputs))) == 33
    assert seen == sizes
    monkeypatch.setattr(predictor_module, "WAIT_BYTES", 1)
    seen.clear()
    list(predictor.predict(inputs[:20]))
    assert max(seen) <= 10, "no room for the views of two videos"


def test_videos_of_one_view_share_runs_up_to_what_suits_the_device(families, monkeypatch):
    """A program for TensorRT is built for so many clips and no more."""
    family = families("tags")
    predictor = Predictor(family.folder, device="cpu", threads=1, views_per_step=2)
    seen, real = [], predictor.backend.run

    def run(inputs):
        seen.append(len(inputs["rgb"]))
        return real(inputs)

    monkeypatch.setattr(predictor.backend, "run", run)
    together = [list(predictor.predict(family.list, batch)) for batch in (4, 250, None, 1)]
    assert seen == [2, 2, 1, 2, 2, 1] + [1] * 10
    seen.clear()
    list(predictor.predict([family.list] * 4))  # 20 records: 2 in a batch
    assert seen == [2] * 10
    for results in together:
        for result, other in zip(results, together[-1], strict=True):
            np.testing.assert_allclose(result.scores, other.scores, rtol=0, atol=1e-5)


def test_failures_take_no_room(predictor, monkeypatch):
    """While a batch waits for its last sample, threads go on past any number of failures."""
    most, running, lock, real = 0, 0, threading.Lock(), Feed.sample
    both, bad = threading.Barrier(2), [f"bad {number}.mp4" for number in range(80)]

    def sample(self, record, source=None):
        nonlocal most, running
        with lock:
            running += 1
            most = max(most, running)
        if record.path in bad[70:80]:
            both.wait(20)  # two of them run at once
        with lock:
            running -= 1
        return real(self, record, source)

    monkeypatch.setattr(Feed, "sample", sample)
    inputs = [*arrays(1), *bad, *arrays(1)]
    results = list(predictor.predict(inputs, batch_size=2, workers=2))
    assert [r.error is None for r in results] == [True, *[False] * 80, True] and most == 2


def test_rejects_a_negative_number_of_threads(predictor):
    with pytest.raises(ValueError, match="workers is -1; it must be at least 0"):
        predictor.predict([], workers=-1)


def test_samples_and_scores_are_the_two_halves_of_a_prediction(predictor, exported):
    inputs = [*exported.files, "none.mp4"]
    samples = list(predictor.samples(inputs, workers=2))
    assert samples[-1][1] == "decode: no such file"
    assert list(predictor.score(samples)) == list(predictor.predict(inputs, batch_size=3))
    assert isinstance(next(predictor.score(samples[:1], topk=1)), Result)


@pytest.mark.slow
def test_a_thousand_predictions_hold_the_memory_flat(predictor, exported):
    """Each prediction has threads of its own, which leave nothing behind."""

    def predict(count):
        for _ in range(count):
            assert all(r.error is None for r in predictor.predict(exported.files, workers=2))
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not report its memory as Linux does")
    before = predict(200)
    after = predict(1000)
    assert after - before < 16 << 20, f"{(after - before) / 2**20:.1f} MB more"


@pytest.mark.parametrize("workers", [0, 2])
def test_threads_share_a_predictor_that_decodes_ahead(predictor, exported, workers):
    inputs = [*exported.files, "none.mp4"]
    expected = list(predictor.predict(inputs, 1, workers=workers))
    with ThreadPoolExecutor(4) as threads:
        jobs = [threads.submit(lambda: list(predictor.predict(inputs, 1))) for _ in range(8)]
        assert all(job.result() == expected for job in jobs)
    assert not own_threads()
