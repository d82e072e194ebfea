"""Samplers: every number is an existing frame, and only training draws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddlevideo.data.sampling import DecodeSampler, Sampler

MODES = [
    {},
    {"select_left": True},
    {"linspace_sample": True},
    {"dense_sample": True},
    {"frame_interval": 3},
]


def draw(sampler, num_frames, seed=0):
    return sampler(num_frames, 25.0, np.random.default_rng(seed))


@given(
    mode=st.sampled_from(MODES),
    valid_mode=st.booleans(),
    num_seg=st.integers(1, 64),
    seg_len=st.integers(1, 20),
    num_frames=st.integers(1, 1000),
    seed=st.integers(0, 100),
)
def test_samples_existing_frames(mode, valid_mode, num_seg, seg_len, num_frames, seed):
    seg_len = seg_len if mode in (MODES[0], MODES[4]) else 1
    sampler = Sampler(num_seg, seg_len, valid_mode=valid_mode, **mode)
    indices = draw(sampler, num_frames, seed)
    assert indices.dtype == np.int64
    assert indices.shape == (sampler.num_views * sampler.num_frames,)
    assert indices.min() >= 0
    assert indices.max() < num_frames
    assert np.array_equal(indices, draw(sampler, num_frames, seed))


class UnusedGenerator:
    """A generator that must not be used."""

    def __getattr__(self, name):
        raise AssertionError(f"rng.{name} was used")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("num_frames", [1, 7, 200])
def test_draws_nothing_in_valid_mode(mode, num_frames):
    sampler = Sampler(8, 1, valid_mode=True, **mode)
    assert not sampler.random
    sampler(num_frames, 25.0, UnusedGenerator())


@pytest.mark.parametrize(("mode", "random"), [(m, "linspace_sample" not in m) for m in MODES])
def test_reports_whether_training_draws(mode, random):
    sampler = Sampler(8, 1, valid_mode=False, **mode)
    assert sampler.random == random
    assert (len({tuple(draw(sampler, 300, seed)) for seed in range(20)}) > 1) == random


@pytest.mark.parametrize(
    ("sampler", "offsets"),
    [
        (Sampler(3, 1, valid_mode=False), set(range(10))),  # any frame of a segment of 10
        (Sampler(3, 4, valid_mode=False), set(range(7))),  # 4 frames must fit
        (Sampler(3, 1, valid_mode=False, select_left=True), set(range(10))),
        (Sampler(3, 2, frame_interval=2, valid_mode=False), set(range(9))),  # (30 - 4 + 1) // 3
    ],
)
def test_draws_each_start_of_a_segment(sampler, offsets):
    width = {10: 10, 7: 10, 9: 9}[len(offsets)]
    starts_seen = [set(), set(), set()]
    for seed in range(300):
        for i, start in enumerate(draw(sampler, 30, seed)[:: sampler.seg_len]):
            starts_seen[i].add(int(start) - width * i)
    assert starts_seen == [offsets] * 3


def test_draws_the_start_of_a_dense_clip():
    sampler = Sampler(8, 1, dense_sample=True, valid_mode=False)
    starts = {int(draw(sampler, 68, seed)[0]) for seed in range(100)}
    assert starts == {0, 1, 2, 3}
    assert np.array_equal(np.diff(draw(sampler, 68)), [8] * 7)


def test_trains_with_fewer_frames_than_segments():
    assert draw(Sampler(5, 1, valid_mode=False), 3).tolist() == [0, 1, 2, 0, 1]
    assert draw(Sampler(5, 1, valid_mode=False, select_left=True), 3).tolist() == [0] * 5
    spread = draw(Sampler(8, 2, valid_mode=False, frame_interval=2), 6).reshape(8, 2)
    assert spread[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 2, 3]
    assert spread[:, 1].tolist() == [2, 2, 3, 3, 4, 4, 4, 5]
    assert draw(Sampler(2, 4, valid_mode=False, frame_interval=2), 5).tolist() == [0, 2, 4, 1] * 2


def test_sorts_starts_of_overlapping_segments():
    drawn = [
        draw(Sampler(8, 2, valid_mode=False, frame_interval=2), 10, seed)[::2] for seed in range(50)
    ]
    assert all(np.array_equal(starts, np.sort(starts)) for starts in drawn)
    assert set(np.concatenate(drawn)) == set(range(7))  # 10 frames hold a span of 4 at 7 starts


def test_makes_a_view_of_each_dense_clip():
    sampler = Sampler(8, 1, dense_sample=True, valid_mode=True)
    assert (sampler.num_views, sampler.num_frames) == (10, 8)
    clips = draw(sampler, 163).reshape(10, 8)
    assert clips[:, 0].tolist() == [0, 11, 22, 33, 44, 55, 66, 77, 88, 99]


@pytest.mark.parametrize("num_frames", [0, -1])
def test_rejects_a_video_without_frames(num_frames):
    with pytest.raises(ValueError, match=rf"has {num_frames} frames, expected at least 1"):
        draw(Sampler(3, 1), num_frames)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_seg": 0, "seg_len": 1}, "num_seg is 0, expected at least 1"),
        ({"num_seg": 3, "seg_len": 0}, "seg_len is 0, expected at least 1"),
        ({"num_seg": 3, "seg_len": 1, "frame_interval": 0}, "frame_interval is 0"),
        (
            {"num_seg": 3, "seg_len": 2, "select_left": True},
            "select_left samples one frame .* seg_len is 2; set seg_len: 1",
        ),
        ({"num_seg": 65, "seg_len": 1, "dense_sample": True}, "spans 64 frames, but num_seg is 65"),
    ],
)
def test_rejects_invalid_sizes(arguments, message):
    with pytest.raises(ValueError, match=message):
        Sampler(**arguments)


# --- DecodeSampler -------------------------------------------------------------------------------


def clip_of(total, fps=30.0, seed=0, **arguments):
    sampler = DecodeSampler(**{"num_frames": 8, "sampling_rate": 2, **arguments})
    return sampler(total, fps, np.random.default_rng(seed))


@given(
    mode=st.sampled_from(
        [
            {},
            {"valid_mode": True},
            {"test_mode": True},
            {"test_mode": True, "num_ensemble_views": 7},
        ]
    ),
    length=st.integers(1, 64),
    rate=st.integers(1, 16),
    target=st.floats(0.5, 200),
    fps=st.one_of(st.floats(0, 1000), st.just(float("nan")), st.just(float("inf"))),
    num_frames=st.integers(1, 100_000),
    seed=st.integers(0, 50),
)
def test_samples_clips_of_existing_frames(mode, length, rate, target, fps, num_frames, seed):
    arguments = {"num_frames": length, "sampling_rate": rate, "target_fps": target, **mode}
    numbers = clip_of(num_frames, fps, seed, **arguments)
    assert numbers.dtype == np.int64 and numbers.shape == (
        length * mode.get("num_ensemble_views", 1),
    )
    assert numbers.min() >= 0 and numbers.max() < num_frames
    assert (np.diff(numbers.reshape(-1, length)) >= 0).all(), "frames are in order"
    assert np.array_equal(numbers, clip_of(num_frames, fps, seed, **arguments))


@pytest.mark.parametrize(
    "mode", [{"valid_mode": True}, {"test_mode": True, "num_ensemble_views": 3}]
)
def test_draws_nothing_in_validation_and_test(mode):
    sampler = DecodeSampler(8, 2, **mode)
    assert not sampler.random and sampler.num_views == mode.get("num_ensemble_views", 1)
    sampler(100, 25.0, UnusedGenerator())


def test_draws_every_start_in_training():
    starts = {int(clip_of(32, seed=seed)[0]) for seed in range(300)}
    assert starts == set(range(16)), "a clip spans 16 of 32 frames"
    assert np.array_equal(np.diff(clip_of(1000)[1:]) >= 2, [True] * 6)
    assert DecodeSampler(8, 2).random


def test_samples_the_middle_clip():
    assert clip_of(116, valid_mode=True)[[0, -1]].tolist() == [50, 65]
    assert clip_of(16, valid_mode=True)[[0, -1]].tolist() == [0, 15]


def test_spreads_views_over_a_long_video():
    clips = clip_of(100_016, test_mode=True, num_ensemble_views=10).reshape(10, 8)
    assert clips[:, 0].tolist() == [10_000 * k for k in range(10)]
    assert (clips[:, -1] - clips[:, 0] == 15).all()


@pytest.mark.parametrize("mode", [{}, {"valid_mode": True}, {"test_mode": True}])
def test_repeats_the_last_frame_of_a_short_video(mode):
    assert clip_of(6, **mode).tolist() == [0, 2, 4, 5, 5, 5, 5, 5]
    assert clip_of(1, **mode).tolist() == [0] * 8
    assert clip_of(6, test_mode=True, num_ensemble_views=3).reshape(3, 8)[:, 0].tolist() == [
        0,
        0,
        0,
    ]


def test_covers_the_same_time_at_any_frame_rate():
    for fps in (15.0, 30.0, 60.0, 240.0):
        numbers = clip_of(round(20 * fps), fps, num_frames=16, valid_mode=True)
        span = 16 * 2 * fps / 30
        assert numbers[-1] - numbers[0] == pytest.approx(span - 1, abs=1)
        assert numbers[0] == pytest.approx((20 * fps - span) / 2, abs=1)
    assert clip_of(600, 30.0, target_fps=15, test_mode=True)[-1] == 31, (
        "half the rate, twice the frames"
    )


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_treats_an_unknown_frame_rate_as_the_target(fps):
    assert np.array_equal(
        clip_of(300, fps, target_fps=24, valid_mode=True),
        clip_of(300, 24.0, target_fps=24, valid_mode=True),
    )


def test_draws_a_rate_up_to_the_maximum():
    spans = {
        int(clip_of(1000, seed=seed, max_sampling_rate=4)[[0, -1]] @ [-1, 1]) for seed in range(60)
    }
    assert spans == {15, 23, 31}
    assert {int(clip_of(1000, seed=seed)[[0, -1]] @ [-1, 1]) for seed in range(20)} == {15}


@pytest.mark.parametrize("num_frames", [0, -1])
def test_rejects_a_clip_of_a_video_without_frames(num_frames):
    with pytest.raises(ValueError, match=rf"has {num_frames} frames, expected at least 1"):
        clip_of(num_frames)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_frames": 0}, "num_frames is 0, expected at least 1"),
        ({"sampling_rate": 0}, "sampling_rate is 0, expected at least 1"),
        ({"test_mode": True, "num_ensemble_views": 0}, "num_ensemble_views is 0"),
        ({"num_ensemble_views": 10}, "num_ensemble_views is 10, .*; set test_mode: True"),
        ({"target_fps": 0}, "target_fps is 0, expected frames per second above 0"),
        ({"test_mode": True, "valid_mode": True}, "test_mode and valid_mode are both set"),
        ({"max_sampling_rate": 1}, "max_sampling_rate is 1, below sampling_rate, which is 2"),
    ],
)
def test_rejects_invalid_clips(arguments, message):
    with pytest.raises(ValueError, match=message):
        clip_of(100, **arguments)
