"""The pipeline of frames: samples, batches, views, and failures that name their stage."""

import pickle
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest

from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.crops import CenterCrop, RandomCrop, TenCrop
from paddlevideo.data.pipeline import FrameSampler, StageError, Transform
from paddlevideo.data.sampling import Sampler
from paddlevideo.data.transforms import Image2Array, Normalization, RandomFlip
from paddlevideo.sample import DecodeError, Record

ON_BATCH = [Image2Array(), Normalization([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]


class FakeVideo:
    """A decoder of one synthetic video, and the clip that it opens."""

    fps = 25.0
    pipeline = None

    def __init__(self, num_frames=30, error=None, short=0):
        self.frames = np.random.default_rng(0).integers(0, 256, (num_frames, 24, 32, 3), np.uint8)
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
        frames = self.frames[indices[self.short :]]
        return frames if each is None else np.stack([each(frame) for frame in frames])


@dataclass(frozen=True)
class Broken(Transform):
    def __call__(self, sample, rng):
        return sample["no such key"]


def rng(seed=0):
    return np.random.default_rng(seed)


def test_makes_a_training_sample():
    video = FakeVideo()
    pipeline = ClipPipeline(
        video, Sampler(3, 1, valid_mode=False), [RandomCrop(16), RandomFlip(), *ON_BATCH]
    )
    sample = pipeline(Record("a.mp4", 7), rng(1))
    assert set(sample) == {"frames", "label"}
    assert sample["frames"].dtype == np.uint8
    assert sample["frames"].shape == (3, 16, 16, 3)
    assert sample["frames"].flags.c_contiguous
    assert sample["frames"].base is None or sample["frames"].base.nbytes == sample["frames"].nbytes
    assert (sample["label"].dtype, sample["label"]) == (np.int64, 7)
    assert pipeline.random
    assert video.open_now == 0


def test_draws_only_from_the_generator():
    pipeline = ClipPipeline(
        FakeVideo(), Sampler(3, 1, valid_mode=False), [RandomCrop(16), RandomFlip(), *ON_BATCH]
    )
    first, again, other = (pipeline(Record("a.mp4"), rng(seed))["frames"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_replaces_an_unknown_label_by_minus_one():
    assert (
        ClipPipeline(FakeVideo(), Sampler(3, 1, valid_mode=True), [])(Record("a.mp4"), rng())[
            "label"
        ]
        == -1
    )


def test_reads_the_sampled_frames():
    video = FakeVideo()
    sample = ClipPipeline(video, Sampler(3, 2, valid_mode=True), [CenterCrop(24)])(
        Record("a.mp4"), rng()
    )
    assert np.array_equal(sample["frames"], video.frames[[4, 5, 14, 15, 24, 25], :, 4:28])


def test_uses_an_open_clip_and_leaves_it_open():
    video = FakeVideo()
    sample = ClipPipeline(None, Sampler(3, 1, valid_mode=True), [])(
        Record("a.mp4"), rng(), source=video
    )
    assert np.array_equal(sample["frames"], video.frames[[4, 14, 24]])


def test_runs_the_last_transforms_on_a_batch():
    pipeline = ClipPipeline(FakeVideo(), Sampler(3, 1, valid_mode=True), [TenCrop(16), *ON_BATCH])
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


def test_runs_batch_transforms_before_others_in_the_worker():
    pipeline = ClipPipeline(
        FakeVideo(), Sampler(3, 1, valid_mode=True), [ON_BATCH[0], Broken(), ON_BATCH[1]]
    )
    assert pipeline.worker_transforms == (ON_BATCH[0], Broken())
    assert pipeline.batch_transforms == (ON_BATCH[1],)


def test_finishes_in_float32_without_batch_transforms():
    done = ClipPipeline(None, FrameSampler(), []).finish(
        {"frames": np.full((1, 2, 2, 3), 9, np.uint8)}
    )
    assert done["frames"].dtype == np.float32
    assert np.all(done["frames"] == 9)


def test_finishes_on_the_device():
    paddle = pytest.importorskip("paddle")
    pipeline = ClipPipeline(
        FakeVideo(), Sampler(3, 1, valid_mode=True), [CenterCrop(16), *ON_BATCH]
    )
    sample = pipeline(Record("a.mp4"), rng())
    on_device = pipeline.finish_on_device({"frames": paddle.to_tensor(sample["frames"])})
    assert np.array_equal(on_device["frames"].numpy(), pipeline.finish(sample)["frames"])


@pytest.mark.parametrize(
    ("sampler", "transforms", "views"),
    [
        (Sampler(3, 1, valid_mode=True), ON_BATCH, 1),
        (Sampler(3, 1, valid_mode=True), [TenCrop(16), *ON_BATCH], 10),
        (Sampler(4, 1, valid_mode=True, dense_sample=True), ON_BATCH, 10),
        (Sampler(4, 1, valid_mode=True, dense_sample=True), [TenCrop(16), *ON_BATCH], 100),
    ],
)
def test_counts_views(sampler, transforms, views):
    pipeline = ClipPipeline(FakeVideo(80), sampler, transforms)
    shape = pipeline(Record("a.mp4"), rng())["frames"].shape
    assert (pipeline.num_views, pipeline.view_axis) == (views, views > 1)
    assert shape[:-3] == ((views, sampler.num_frames) if views > 1 else (sampler.num_frames,))


@pytest.mark.parametrize(
    ("pipeline", "stage", "reason", "cause"),
    [
        (
            ClipPipeline(
                FakeVideo(error=DecodeError("no frames")), Sampler(3, 1, valid_mode=True), []
            ),
            "decode",
            "no frames",
            DecodeError,
        ),
        (
            ClipPipeline(FakeVideo(error=OSError(5, "disk")), Sampler(3, 1, valid_mode=True), []),
            "decode",
            "OSError: [Errno 5] disk",
            OSError,
        ),
        (
            ClipPipeline(FakeVideo(short=1), Sampler(3, 1, valid_mode=True), []),
            "decode",
            "the decoder returned 2 of 3 frames",
            ValueError,
        ),
        (
            ClipPipeline(FakeVideo(0), Sampler(3, 1, valid_mode=True), []),
            "sample",
            "the video has 0 frames",
            ValueError,
        ),
        (
            ClipPipeline(FakeVideo(), Sampler(3, 1, valid_mode=True), [CenterCrop(64)]),
            "CenterCrop",
            "at least 64x64",
            ValueError,
        ),
        (
            ClipPipeline(FakeVideo(), Sampler(3, 1, valid_mode=True), [Broken()]),
            "Broken",
            "KeyError: 'no such key'",
            KeyError,
        ),
    ],
)
def test_names_the_stage_of_a_failure(pipeline, stage, reason, cause):
    with pytest.raises(StageError) as caught:
        pipeline(Record("a.mp4", 1), rng())
    assert caught.value.stage == stage
    assert reason in caught.value.reason
    assert isinstance(caught.value.__cause__, cause)
    assert str(caught.value) == f"{stage}: {caught.value.reason}"
    assert pipeline.decode.open_now == 0


def test_passes_an_interrupt_on():
    with pytest.raises(KeyboardInterrupt):
        ClipPipeline(FakeVideo(error=KeyboardInterrupt()), Sampler(3, 1, valid_mode=True), [])(
            Record("a.mp4"), rng()
        )


def test_pickles_a_stage_error():
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
def test_rejects_frames_of_another_dtype_or_shape(bad):
    with pytest.raises(StageError, match=r"expected uint8 \[T, H, W, 3\]"):
        ClipPipeline(None, FrameSampler(), []).apply(bad, rng())
