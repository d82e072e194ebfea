"""Samples of several requests run together, up to a deadline."""

import queue
import threading
import time

import numpy as np
import pytest

from paddlevideo.sample import Record
from paddlevideo.serve.batches import Batcher, best_of


@pytest.fixture(scope="module")
def samples(tiny, exported):
    return [sample for _, sample in tiny.samples(exported.files, workers=0)] * 2


@pytest.fixture
def batcher(tiny):
    made = []

    def make(wait, size=4):
        batcher = Batcher(tiny, wait)
        batcher.size = size
        made.append(batcher)
        return batcher

    yield make
    for each in made:
        each.close()


def submit(batcher, sample, topk=3):
    return batcher.submit(Record("x"), dict(sample), topk, 10)


def test_a_lonely_sample_does_not_wait(batcher, samples):
    waiting = batcher(wait=30)
    start = time.monotonic()
    assert submit(waiting, samples[0]).result(25).batch == 1
    assert time.monotonic() - start < 25


def test_samples_that_come_are_waited_for(batcher, samples, tiny, exported):
    waiting = batcher(wait=30, size=3)
    expected = [result.scores for result in tiny.predict(exported.files, topk=3)]
    for _ in range(3):
        waiting.expect(1)
    futures = []
    for sample in samples[:3]:
        futures.append(submit(waiting, sample))
        time.sleep(0.01)
        waiting.expect(-1)
    scored = [future.result(60) for future in futures]
    assert [each.batch for each in scored] == [3, 3, 3]
    for each, scores in zip(scored, expected, strict=True):
        assert each.result.scores == pytest.approx(scores, abs=1e-5)
        assert each.inference > 0 and each.postprocess > 0


def test_never_longer_than_the_deadline(batcher, samples):
    waiting = batcher(wait=0.05)
    waiting.expect(2)  # they never come
    assert submit(waiting, samples[0]).result(60).batch == 1


@pytest.mark.parametrize("coming", [1, 3])
def test_others_that_fail_are_not_waited_for(batcher, samples, coming):
    """A file that cannot be decoded must not hold up those that were decoded next to it."""
    waiting = batcher(wait=600)
    waiting.expect(coming)
    future = submit(waiting, samples[0])
    with pytest.raises(TimeoutError):
        future.result(0.05)
    for _ in range(coming):
        waiting.expect(-1)
    assert future.result(60).batch == 1


def test_a_full_batcher_makes_decoding_wait(batcher, samples):
    waiting = batcher(wait=600, size=1)
    gate, score = threading.Event(), waiting._score

    def held(*arguments):
        gate.wait(60)
        score(*arguments)

    waiting._score = held
    waiting.expect(1)
    first = submit(waiting, samples[0])
    second = submit(waiting, samples[1])  # once the first one runs
    with pytest.raises(queue.Full):
        waiting.submit(Record("x"), dict(samples[2]), 3, 0.05)
    gate.set()
    assert first.result(60).batch == second.result(60).batch == 1


def test_each_request_has_its_own_number_of_classes(batcher, samples):
    waiting = batcher(wait=30, size=3)
    waiting.expect(3)
    futures = [submit(waiting, samples[number], topk) for number, topk in enumerate((1, 3, 2))]
    assert [len(future.result(60).result.class_ids) for future in futures] == [1, 3, 2]


def test_a_cancelled_request_is_left_out(batcher, samples, monkeypatch):
    waiting = batcher(wait=30)
    waiting.expect(2)
    kept, dropped = submit(waiting, samples[0]), submit(waiting, samples[1])
    assert dropped.cancel()
    waiting.expect(-2)
    assert kept.result(60).batch == 1


def test_an_error_fails_its_batch_alone(batcher, samples):
    waiting = batcher(wait=0.0)
    wrong = {**samples[0], "frames": np.zeros((2, 2), np.uint8)}
    with pytest.raises(Exception):  # noqa: B017, whatever the pipeline says
        submit(waiting, wrong).result(60)
    assert submit(waiting, samples[0]).result(60).result.error is None


def test_close_scores_what_waits(tiny, samples):
    batcher = Batcher(tiny, 0.0)
    futures = [submit(batcher, samples[n % 3]) for n in range(min(2, batcher.size))]
    thread = threading.Thread(target=batcher.close)
    thread.start()
    assert all(future.result(60).result.error is None for future in futures)
    thread.join(60)
    assert not thread.is_alive()


def test_best_of_keeps_the_note(tiny, exported):
    [result] = tiny.predict(exported.files[0], topk=3)
    fewer = best_of(result, 2)
    assert fewer.class_ids == result.class_ids[:2] and fewer.scores == result.scores[:2]
    assert best_of(result, 100).json == result.json
