"""Views that share frames equal views that are cropped one by one."""

import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddlevideo.data.clip_pipeline import ClipPipeline
from paddlevideo.data.clip_transforms import JitterScale, PackOutput
from paddlevideo.data.crops import CenterCrop, MultiCrop, TenCrop
from paddlevideo.data.loader import ClipDataset, Loader, load_batch
from paddlevideo.data.orders import EvalOrder
from paddlevideo.data.pipeline import StageError
from paddlevideo.data.sampling import DecodeSampler
from paddlevideo.data.transforms import Image2Array, Normalization
from paddlevideo.data.views import Views, stack
from paddlevideo.engine.evaluate import mean_scores
from paddlevideo.media.clip import VideoClip
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.sample import Draw, Record
from tests.clips import write_clip

ON_BATCH = [
    Image2Array(transpose=False),
    Normalization([0.45] * 3, [0.225] * 3, (1, 1, 1, 3)),
    PackOutput(4),
]


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def example(seed=0, height=9, width=14):
    """Views of 5 frames: 3 clips of 4 frames, 2 crops of 6 x 7."""
    frames, rng = pixels(5, height, width, 3, seed=seed), np.random.default_rng(seed + 1)
    numbers = rng.integers(0, 5, (3, 4))
    corners = [(int(rng.integers(height - 5)), int(rng.integers(width - 6))) for _ in range(2)]
    plain = [frames[clip, y : y + 6, x : x + 7] for clip in numbers for y, x in corners]
    return Views.of(frames, numbers).crop(corners, 6, 7), np.stack(plain)


# --- views as an array ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", [lambda v: v, Views.compact, lambda v: pickle.loads(pickle.dumps(v))]
)
def test_views_equal_an_array(change):
    views, plain = example()
    views = change(views)
    assert (views.shape, views.ndim, len(views), views.dtype) == (plain.shape, 5, 6, np.uint8)
    assert np.array_equal(np.asarray(views), plain)
    for rows in (slice(0, 1), slice(1, 4), slice(4, 99), slice(None), slice(3, 3)):
        assert np.array_equal(views[rows], plain[rows])
    assert np.asarray(views, np.float32).dtype == np.float32


def test_stacks_videos_of_different_sizes():
    examples = [example(0), example(1, 12, 8), example(2)]
    batch = stack([views for views, _ in examples])
    plain = stack([array for _, array in examples])
    assert batch.shape == plain.shape == (3, 6, 4, 6, 7, 3)
    assert np.array_equal(np.asarray(batch), plain)
    flat = batch.reshape(18, 4, 6, 7, 3)
    assert np.array_equal(flat[4:14], plain.reshape(18, 4, 6, 7, 3)[4:14])
    with pytest.raises(
        ValueError,
        match=r"views \[3, 6, 4, 6, 7, 3\] can be reshaped to \[18, 4, 6, 7, 3\] only, not",
    ):
        batch.reshape(3, 24, 6, 7, 3)
    with pytest.raises(IndexError, match="reshape a batch"):
        batch[0:1]


def test_crops_crops():
    views, plain = example()
    nested = views.crop([(0, 0), (2, 3)], 3, 4)
    expected = np.stack(
        [view[:, y : y + 3, x : x + 4] for view in plain for y, x in ((0, 0), (2, 3))]
    )
    assert np.array_equal(np.asarray(nested), expected)


@given(st.integers(20, 400), st.integers(20, 400), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_bounds_memory_for_any_shape(height, width, count):
    views = Views.of(np.broadcast_to(np.uint8(7), (2, height, width, 3)), np.array([[0, 1]]))
    corners = MultiCrop(20, True, count).corners(width, height)
    compact = views.crop(corners, 20, 20).compact()
    assert compact.nbytes <= 2 * count * 20 * 20 * 3
    assert compact.nbytes <= 2 * height * width * 3
    assert compact.shape == (count, 2, 20, 20, 3)


def test_does_not_copy_frames_that_crops_cover():
    frames = pixels(3, 8, 20, 3)
    views = Views.of(frames, np.array([[0, 1, 2]])).crop([(0, 0), (0, 6), (0, 12)], 8, 8)
    assert views.compact().frames[0] is frames
    thin = Views.of(frames, np.array([[0, 1, 2]])).crop([(0, 0), (0, 12)], 8, 8).compact()
    assert thin.frames[0].shape == (3, 8, 16, 3)
    assert np.array_equal(np.asarray(thin)[1], frames[:, :, 12:])


# --- views of a video ----------------------------------------------------------------------------


class Counting(VideoDecoder):
    """A decoder that counts how often a video is opened."""

    opened = 0

    def open(self, record):
        Counting.opened += 1
        return super().open(record)


@pytest.fixture
def video(tmp_path):
    return Record(str(write_clip(tmp_path / "a.mp4", 60, height=48, width=80, fps=30)), 3)


def pipeline(views=5, crops=3, num_frames=8, rate=2, decode=None, transforms=None, **more):
    sampler = DecodeSampler(num_frames, rate, test_mode=True, num_ensemble_views=views, **more)
    steps = (
        [JitterScale(32, 32), MultiCrop(32, test_mode=True, num_spatial_crops=crops)]
        if transforms is None
        else transforms
    )
    return ClipPipeline(decode or VideoDecoder(), sampler, [*steps, *ON_BATCH])


def one_by_one(record, views, crops, num_frames=8, rate=2):
    """Decode and crop each view by itself, as the reference does; (slow, fast), float32."""
    slow, fast = [], []
    for k in range(views):
        with VideoDecoder().open(record) as clip:
            sampler = DecodeSampler(num_frames, rate, test_mode=True, num_ensemble_views=views)
            numbers = sampler(clip.num_frames, clip.fps, None).reshape(views, -1)[k]
            whole = clip.read(numbers)
        for crop in range(crops):
            steps = [JitterScale(32, 32), MultiCrop(32, test_mode=True, num_spatial_crops=crops)]
            alone = ClipPipeline(
                None, DecodeSampler(num_frames, rate, test_mode=True), [*steps, *ON_BATCH]
            )
            done = alone.finish(alone.apply(whole, None))
            slow.append(done["slow"].reshape(crops, *done["slow"].shape[-4:])[crop])
            fast.append(done["fast"].reshape(crops, *done["fast"].shape[-4:])[crop])
    return np.stack(slow), np.stack(fast)


@pytest.mark.parametrize(("views", "crops"), [(5, 3), (10, 3), (4, 1), (1, 3)])
def test_shared_views_equal_those_decoded_one_by_one(video, views, crops):
    path = pipeline(views, crops)
    assert (path.num_views, path.view_axis, path.random) == (views * crops, True, False)
    sample = path(video, None)
    assert sample["frames"].shape == (views * crops, 8, 32, 32, 3) and sample["label"] == 3
    done = path.finish(sample)
    slow, fast = one_by_one(video, views, crops)
    assert set(done) == {"label", "slow", "fast"}
    assert done["slow"].shape == (views * crops, 3, 2, 32, 32)
    assert np.array_equal(done["slow"], slow) and np.array_equal(done["fast"], fast)


def test_decodes_a_video_once_and_only_needed_frames(video, monkeypatch):
    reads, plain = [], VideoClip.read

    def read(self, indices, each=None):
        reads.append(np.asarray(indices).tolist())
        return plain(self, indices, each)

    monkeypatch.setattr(VideoClip, "read", read)
    path = pipeline(3, 3, decode=Counting())
    sample = path(video, None)
    assert Counting.opened == 1 and len(reads) == 1
    asked = path.sample(60, 30.0, None)
    assert reads[0] == sorted(set(asked.tolist())) and len(reads[0]) < len(asked)
    assert sample["frames"].frames[0].shape == (len(reads[0]), 32, 53, 3), (
        "each frame once, at the small size"
    )


def test_one_view_adds_no_axis(video):
    path = pipeline(1, 1)
    assert (path.num_views, path.view_axis) == (1, False)
    assert path.finish(path(video, None))["fast"].shape == (3, 8, 32, 32)


def test_gives_arrays_to_transforms_without_views(video):
    for crop, each in ((CenterCrop(32), 1), (TenCrop(24), 10)):
        path = pipeline(3, transforms=[JitterScale(32, 32), crop])
        sample = path(video, None)
        size = crop.target_size
        assert isinstance(sample["frames"], np.ndarray) and path.num_views == 3 * each
        assert sample["frames"].shape == (3 * each, 8, size, size, 3)
        with VideoDecoder().open(video) as clip:
            numbers = path.sample(clip.num_frames, clip.fps, None)[8:16]
            second = crop(JitterScale(32, 32)({"frames": clip.read(numbers)}, None), None)[
                "frames"
            ].reshape(-1, 8, size, size, 3)
        assert np.array_equal(sample["frames"][each : 2 * each], second)


def test_batches_videos_of_any_length_and_size(tmp_path):
    shapes = [(3, 40, 64), (60, 64, 36), (25, 36, 36), (1, 64, 200)]
    records = [
        Record(str(write_clip(tmp_path / f"{n}.mp4", n, height=h, width=w)), 0)
        for n, h, w in shapes
    ]
    dataset = ClipDataset(records, pipeline(3))
    batch = load_batch(dataset, 0, [Draw(i) for i in range(4)]).batch
    assert batch["frames"].shape == (4, 9, 8, 32, 32, 3)
    for position in range(4):
        (alone,) = np.asarray(load_batch(dataset, 0, [Draw(position)]).batch["frames"])
        assert np.array_equal(np.asarray(batch["frames"])[position], alone)


def test_workers_send_the_shared_frames(video, tmp_path):
    records = [
        video,
        Record(str(write_clip(tmp_path / "b.mp4", 20, height=60, width=36)), 1),
        video,
    ]
    dataset = ClipDataset(records, pipeline(4))
    inline, pool = Loader(dataset, EvalOrder(3, 2)), Loader(dataset, EvalOrder(3, 2), 2)
    try:
        for here, there in zip(inline.epoch(0), pool.epoch(0), strict=True):
            assert isinstance(there.batch["frames"], Views)
            assert np.array_equal(
                np.asarray(here.batch["frames"]), np.asarray(there.batch["frames"])
            )
            assert there.batch["label"].tolist() == here.batch["label"].tolist()
        unread = pool.epoch(0)
        next(unread)
        unread.close()  # what was loaded ahead gives its shared memory back
    finally:
        pool.close()


@pytest.mark.parametrize("at_once", [1, 4, 100])
def test_averages_scores_over_the_views_of_a_video(video, tmp_path, at_once):
    records = [video, Record(str(write_clip(tmp_path / "b.mp4", 20, height=60, width=36)), 1)]
    path = pipeline(2)
    batch = load_batch(ClipDataset(records, path), 0, [Draw(0), Draw(1)]).batch
    seen = []

    def run(arrays):
        assert set(arrays) == {"frames"}
        seen.append(len(arrays["frames"]))
        done = path.finish(arrays)
        return np.stack([done["slow"].mean((1, 2, 3, 4)), done["fast"].std((1, 2, 3, 4))], 1)

    scores = mean_scores(run, path.batch_specs, batch, at_once)
    assert sum(seen) == 12 and max(seen) == min(at_once, 12)
    for row, record in zip(scores, records, strict=True):
        slow, fast = one_by_one(record, 2, 3)
        np.testing.assert_allclose(
            row, [slow.mean((1, 2, 3, 4)).mean(), fast.std((1, 2, 3, 4)).mean()], rtol=1e-5
        )


def test_keeps_a_long_video_small_in_memory(tmp_path):
    record = Record(str(write_clip(tmp_path / "long.mp4", 150, height=240, width=426, fps=30)), 0)
    path = pipeline(10, 3, num_frames=16)
    tracemalloc.start()
    sample = path(record, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    wanted = len(np.unique(path.sample(150, 30.0, None)))
    assert wanted > 100
    small = wanted * 32 * 56 * 3
    assert sample["frames"].nbytes <= small
    assert peak < 2 * small + 40 * 240 * 426 * 3, (
        f"{peak} bytes for {small} of small frames, {wanted * 240 * 426 * 3} of large"
    )


def test_uses_the_mean_of_a_variable_frame_rate(tmp_path):
    steps = np.concatenate(
        [np.full(30, 1000), np.full(30, 3000)]
    )  # 25 frames a second, then a third of it
    path = write_clip(
        tmp_path / "a.mp4", 61, fps=25, pts=np.concatenate([[0], np.cumsum(steps)]).tolist()
    )
    with VideoDecoder().open(Record(str(path))) as clip:
        assert clip.fps == pytest.approx(12.5, rel=0.05)
        sampler = DecodeSampler(8, 4, test_mode=True, target_fps=25)
        assert np.array_equal(sampler(clip.num_frames, clip.fps, None), sampler(61, clip.fps, None))
        assert sampler(clip.num_frames, clip.fps, None)[-1] == pytest.approx(15, abs=1), (
            "32 frames of 25 a second are 16 here"
        )


# --- failures ------------------------------------------------------------------------------------


def test_names_a_failing_frame_transform(video):
    class Shrink(JitterScale):
        def frame_transform(self, rng):
            def fail(frame):
                raise MemoryError(f"{frame.shape[1]} wide")

            return fail

    with pytest.raises(StageError) as caught:
        ClipPipeline(VideoDecoder(), DecodeSampler(4, 2, test_mode=True), [Shrink(32, 32)])(
            video, None
        )
    assert (caught.value.stage, caught.value.reason) == ("Shrink", "MemoryError: 80 wide")


def test_rejects_frames_smaller_than_the_crops(video):
    with pytest.raises(
        StageError, match=r"MultiCrop needs frames of at least 64x64, these are 53x32"
    ):
        pipeline(3, transforms=[JitterScale(32, 32), MultiCrop(64, True, 3)])(video, None)


def test_rejects_frames_that_alpha_does_not_divide(video):
    path = pipeline(3, num_frames=6)
    with pytest.raises(
        StageError, match=r"PackOutput: alpha 4 does not divide 6 frames; set num_frames to 8"
    ):
        path.finish(path(video, None))


def test_averages_probabilities_if_the_model_asks():
    logits = np.array([[[9.0, 0.0, 0.0], [0.0, 2.0, 0.0]], [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]])
    batch = {"frames": np.zeros((2, 2, 1, 1, 1, 3), np.uint8)}
    rows = iter(logits.reshape(4, 3))
    scores = mean_scores(
        lambda a: np.stack([next(rows) for _ in a["frames"]]),
        ClipPipeline(None, 1, ()).batch_specs,
        batch,
        3,
        "probabilities",
    )
    powers = np.exp(logits)
    expected = (powers / powers.sum(-1, keepdims=True)).mean(1)
    np.testing.assert_allclose(np.exp(scores), expected, rtol=1e-12)
