import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddlevideo.data.sampling import Sampler

MODES = [{}, {"select_left": True}, {"linspace_sample": True}, {"dense_sample": True}, {"frame_interval": 3}]


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
def test_every_number_is_a_frame(mode, valid_mode, num_seg, seg_len, num_frames, seed):
    seg_len = seg_len if mode in (MODES[0], MODES[4]) else 1
    sampler = Sampler(num_seg, seg_len, valid_mode=valid_mode, **mode)
    indices = draw(sampler, num_frames, seed)
    assert indices.dtype == np.int64
    assert indices.shape == (sampler.num_views * sampler.num_frames,)
    assert indices.min() >= 0
    assert indices.max() < num_frames
    assert np.array_equal(indices, draw(sampler, num_frames, seed))


class Untouchable:
    def __getattr__(self, name):
        raise AssertionError(f"rng.{name} was used")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("num_frames", [1, 7, 200])
def test_valid_mode_does_not_draw(mode, num_frames):
    sampler = Sampler(8, 1, valid_mode=True, **mode)
    assert not sampler.random
    sampler(num_frames, 25.0, Untouchable())


@pytest.mark.parametrize(("mode", "random"), [(m, "linspace_sample" not in m) for m in MODES])
def test_train_mode_says_whether_it_draws(mode, random):
    sampler = Sampler(8, 1, valid_mode=False, **mode)
    assert sampler.random == random
    assert (len({tuple(draw(sampler, 300, seed)) for seed in range(20)}) > 1) == random


@pytest.mark.parametrize(
    ("sampler", "offsets"),
    [
        (Sampler(3, 1, valid_mode=False), set(range(10))),  # any frame of a segment of 10
        (Sampler(3, 4, valid_mode=False), set(range(7))),  # so that 4 frames fit
        (Sampler(3, 1, valid_mode=False, select_left=True), set(range(10))),
        (Sampler(3, 2, frame_interval=2, valid_mode=False), set(range(9))),  # (30 - 4 + 1) // 3
    ],
)
def test_train_mode_draws_each_start_of_a_segment(sampler, offsets):
    width = {10: 10, 7: 10, 9: 9}[len(offsets)]
    seen = [set(), set(), set()]
    for seed in range(300):
        for i, start in enumerate(draw(sampler, 30, seed)[:: sampler.seg_len]):
            seen[i].add(int(start) - width * i)
    assert seen == [offsets] * 3


def test_train_mode_of_a_dense_clip():
    sampler = Sampler(8, 1, dense_sample=True, valid_mode=False)
    starts = {int(draw(sampler, 68, seed)[0]) for seed in range(100)}
    assert starts == {0, 1, 2, 3}
    assert np.array_equal(np.diff(draw(sampler, 68)), [8] * 7)


def test_train_mode_with_fewer_frames_than_segments():
    assert draw(Sampler(5, 1, valid_mode=False), 3).tolist() == [0, 1, 2, 0, 1]
    assert draw(Sampler(5, 1, valid_mode=False, select_left=True), 3).tolist() == [0] * 5
    spread = draw(Sampler(8, 2, valid_mode=False, frame_interval=2), 6).reshape(8, 2)
    assert spread[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 2, 3]
    assert spread[:, 1].tolist() == [2, 2, 3, 3, 4, 4, 4, 5]
    assert draw(Sampler(2, 4, valid_mode=False, frame_interval=2), 5).tolist() == [0, 2, 4, 1] * 2


def test_sorted_starts_where_segments_overlap():
    drawn = [draw(Sampler(8, 2, valid_mode=False, frame_interval=2), 10, seed)[::2] for seed in range(50)]
    assert all(np.array_equal(starts, np.sort(starts)) for starts in drawn)
    assert set(np.concatenate(drawn)) == set(range(7))  # 10 frames hold a span of 4 in 7 places


def test_dense_clips_are_views():
    sampler = Sampler(8, 1, dense_sample=True, valid_mode=True)
    assert (sampler.num_views, sampler.num_frames) == (10, 8)
    clips = draw(sampler, 163).reshape(10, 8)
    assert clips[:, 0].tolist() == [0, 11, 22, 33, 44, 55, 66, 77, 88, 99]


@pytest.mark.parametrize("num_frames", [0, -1])
def test_a_video_without_frames(num_frames):
    with pytest.raises(ValueError, match=rf"has {num_frames} frames, at least 1 is needed"):
        draw(Sampler(3, 1), num_frames)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"num_seg": 0, "seg_len": 1}, "num_seg is 0, expected at least 1"),
        ({"num_seg": 3, "seg_len": 0}, "seg_len is 0, expected at least 1"),
        ({"num_seg": 3, "seg_len": 1, "frame_interval": 0}, "frame_interval is 0"),
        ({"num_seg": 3, "seg_len": 2, "select_left": True}, "select_left takes one frame .* seg_len is 2; set seg_len: 1"),
        ({"num_seg": 65, "seg_len": 1, "dense_sample": True}, "spans 64 frames, num_seg is 65"),
    ],
)
def test_impossible_sizes(arguments, told):
    with pytest.raises(ValueError, match=told):
        Sampler(**arguments)
