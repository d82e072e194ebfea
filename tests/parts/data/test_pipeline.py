import pickle
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.pipeline import StageError
from paddlevideo.data.sampling import Sampler
from paddlevideo.data.transforms import (
    CenterCrop,
    Image2Array,
    Normalization,
    RandomCrop,
    RandomFlip,
    TenCrop,
)
from paddlevideo.sample import DecodeError, Record

LATE = [Image2Array(), Normalization([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]


class Film:
    """A decoder of one film, and the clip that it opens."""

    fps = 25.0

    def __init__(self, num_frames=30, error=None, short=0):
        self.pictures = np.random.default_rng(0).integers(0, 256, (num_frames, 24, 32, 3), np.uint8)
        self.num_frames, self.error, self.short, self.open_now = num_frames, error, short, 0
        self.decoded = []

    @contextmanager
    def open(self, record):
        self.open_now += 1
        try:
            yield self
        finally:
            self.open_now -= 1

    def read(self, indices, each=None):
        if self.error:
            raise self.error
        self.decoded += indices.tolist()
        pictures = self.pictures[indices[self.short :]]
        return pictures if each is None else np.stack([each(picture) for picture in pictures])


@dataclass(frozen=True)
class Broken:
    random: ClassVar[bool] = False

    def __call__(self, sample, rng):
        return sample["no such key"]


def rng(seed=0):
    return np.random.default_rng(seed)


def test_a_training_sample():
    film = Film()
    pipeline = ClipPipeline(
        film, Sampler(3, 1, valid_mode=False), [RandomCrop(16), RandomFlip(), *LATE]
    )
    sample = pipeline(Record("a.mp4", 7), rng(1))
    assert set(sample) == {"frames", "label"}
    assert sample["frames"].dtype == np.uint8
    assert sample["frames"].shape == (3, 16, 16, 3)
    assert sample["frames"].flags.c_contiguous
    assert sample["frames"].base is None or sample["frames"].base.nbytes == sample["frames"].nbytes
    assert (sample["label"].dtype, sample["label"]) == (np.int64, 7)
    assert pipeline.random
    assert film.open_now == 0


def test_the_generator_decides_everything():
    pipeline = ClipPipeline(
        Film(), Sampler(3, 1, valid_mode=False), [RandomCrop(16), RandomFlip(), *LATE]
    )
    first, again, other = (pipeline(Record("a.mp4"), rng(seed))["frames"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_unknown_label_is_minus_one():
    assert (
        ClipPipeline(Film(), Sampler(3, 1, valid_mode=True), [])(Record("a.mp4"), rng())["label"]
        == -1
    )


def test_the_frames_are_the_sampled_ones():
    film = Film()
    sample = ClipPipeline(film, Sampler(3, 2, valid_mode=True), [CenterCrop(24)])(
        Record("a.mp4"), rng()
    )
    assert np.array_equal(sample["frames"], film.pictures[[4, 5, 14, 15, 24, 25], :, 4:28])


def test_an_open_clip_is_used_and_left_open():
    film = Film()
    sample = ClipPipeline(None, Sampler(3, 1, valid_mode=True), [])(
        Record("a.mp4"), rng(), source=film
    )
    assert np.array_equal(sample["frames"], film.pictures[[4, 14, 24]])


def test_late_steps_run_on_a_batch():
    pipeline = ClipPipeline(Film(), Sampler(3, 1, valid_mode=True), [TenCrop(16), *LATE])
    assert (len(pipeline.worker_transforms), len(pipeline.batch_transforms)) == (1, 2)
    sample = pipeline(Record("a.mp4", 1), rng())
    one = pipeline.finish(sample)
    many = pipeline.finish({"frames": np.stack([sample["frames"]] * 2), "label": np.array([1, 1])})
    assert one["frames"].shape == (10, 3, 3, 16, 16)
    assert many["frames"].shape == (2, 10, 3, 3, 16, 16)
    assert many["frames"].dtype == np.float32
    assert np.array_equal(many["frames"][1], one["frames"])
    assert sample["frames"].dtype == np.uint8
    assert not pipeline.random


def test_late_steps_before_another_run_in_the_worker():
    pipeline = ClipPipeline(Film(), Sampler(3, 1, valid_mode=True), [LATE[0], Broken(), LATE[1]])
    assert pipeline.worker_transforms == (LATE[0], Broken())
    assert pipeline.batch_transforms == (LATE[1],)


def test_nothing_late_still_ends_in_float32():
    done = ClipPipeline(None, None, []).finish({"frames": np.full((1, 2, 2, 3), 9, np.uint8)})
    assert done["frames"].dtype == np.float32
    assert np.all(done["frames"] == 9)


def test_finishing_on_the_device():
    paddle = pytest.importorskip("paddle")
    pipeline = ClipPipeline(Film(), Sampler(3, 1, valid_mode=True), [CenterCrop(16), *LATE])
    sample = pipeline(Record("a.mp4"), rng())
    on_device = pipeline.finish_on_device({"frames": paddle.to_tensor(sample["frames"])})
    assert np.array_equal(on_device["frames"].numpy(), pipeline.finish(sample)["frames"])


@pytest.mark.parametrize(
    ("sampler", "transforms", "views"),
    [
        (Sampler(3, 1, valid_mode=True), LATE, 1),
        (Sampler(3, 1, valid_mode=True), [TenCrop(16), *LATE], 10),
        (Sampler(4, 1, valid_mode=True, dense_sample=True), LATE, 10),
        (Sampler(4, 1, valid_mode=True, dense_sample=True), [TenCrop(16), *LATE], 100),
    ],
)
def test_views(sampler, transforms, views):
    pipeline = ClipPipeline(Film(80), sampler, transforms)
    shape = pipeline(Record("a.mp4"), rng())["frames"].shape
    assert (pipeline.num_views, pipeline.view_axis) == (views, views > 1)
    assert shape[:-3] == ((views, sampler.num_frames) if views > 1 else (sampler.num_frames,))


@pytest.mark.parametrize(
    ("pipeline", "stage", "reason", "cause"),
    [
        (
            ClipPipeline(Film(error=DecodeError("no frames")), Sampler(3, 1, valid_mode=True), []),
            "decode",
            "no frames",
            DecodeError,
        ),
        (
            ClipPipeline(Film(error=OSError(5, "disk")), Sampler(3, 1, valid_mode=True), []),
            "decode",
            "OSError: [Errno 5] disk",
            OSError,
        ),
        (
            ClipPipeline(Film(short=1), Sampler(3, 1, valid_mode=True), []),
            "decode",
            "3 frames were asked for, 2 came",
            ValueError,
        ),
        (
            ClipPipeline(Film(0), Sampler(3, 1, valid_mode=True), []),
            "sample",
            "the video has 0 frames",
            ValueError,
        ),
        (
            ClipPipeline(Film(), Sampler(3, 1, valid_mode=True), [CenterCrop(64)]),
            "CenterCrop",
            "at least 64x64",
            ValueError,
        ),
        (
            ClipPipeline(Film(), Sampler(3, 1, valid_mode=True), [Broken()]),
            "Broken",
            "KeyError: 'no such key'",
            KeyError,
        ),
    ],
)
def test_a_failure_names_its_stage(pipeline, stage, reason, cause):
    with pytest.raises(StageError) as caught:
        pipeline(Record("a.mp4", 1), rng())
    assert caught.value.stage == stage
    assert reason in caught.value.reason
    assert isinstance(caught.value.__cause__, cause)
    assert str(caught.value) == f"{stage}: {caught.value.reason}"
    assert pipeline.decode.open_now == 0


def test_an_interrupt_is_no_failure():
    with pytest.raises(KeyboardInterrupt):
        ClipPipeline(Film(error=KeyboardInterrupt()), Sampler(3, 1, valid_mode=True), [])(
            Record("a.mp4"), rng()
        )


def test_a_stage_error_leaves_a_worker():
    error = pickle.loads(pickle.dumps(StageError("decode", "broken")))
    assert (error.stage, error.reason) == ("decode", "broken")


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((2, 4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.uint8),
        np.zeros((0, 4, 4, 3), np.uint8),
    ],
)
def test_frames_of_the_wrong_kind(bad):
    with pytest.raises(StageError, match=r"expected uint8 \[T, H, W, 3\]"):
        ClipPipeline(None, None, []).apply(bad, rng())
